"""Each launcher before its back end's stand-in: a meeting gets one bot, which follows it, or none."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from app.bots.launchers.base import (
    CAPABILITIES,
    Changed,
    Launcher,
    MustReplace,
    Order,
    Started,
    Withdrawn,
)
from app.errors import LaunchLater, LaunchRefused, LaunchUnknown
from sandbox.backends.book import Backend
from tests.launchers.stage import BACKENDS, EACH, IMAGES, KEY, MEETING, Stage


async def found_or_started(launcher: Launcher, order: Order, stage: Stage) -> Started:
    """What a caller does after an unknown outcome."""
    return await launcher.find(order, stage.now) or await launcher.start(order, stage.now)


@EACH
async def test_a_bot_is_started_once_with_what_was_ordered(stage: Stage) -> None:
    order = stage.order(metadata={"tenant": "1"})
    started = await stage.launcher.start(order, stage.now)
    (bot,) = stage.bots
    assert started == Started(bot.id, 1)
    assert (bot.meeting_url, bot.bot_name, bot.join_at) == (order.meeting_url, order.bot_name, order.join_at)
    kept = bot.options["extra" if stage.kind == "meeting_baas" else "metadata"]
    assert kept == {"tenant": "1", "punctual_bot_id": order.bot_id, "punctual_revision": "1"}
    stage.pass_time(1_800)
    (meeting,) = stage.box.bots.meetings()
    assert (meeting["meeting_url"], meeting["joined"]) == (order.meeting_url, 1)


@EACH
@pytest.mark.parametrize("seconds", [-600, 0, 20])
async def test_a_meeting_under_way_gets_its_bot_at_once(stage: Stage, seconds: float) -> None:
    await stage.launcher.start(stage.order(seconds=seconds), stage.now)
    assert stage.phases() == ["joined"]
    assert not stage.bots[0].is_scheduled


@EACH
@pytest.mark.parametrize("seconds", [-600, 1_800])
@pytest.mark.parametrize("fault", ["lost_answer", "failed_answer", "garbled_answer", "huge_answer", "odd_answer"])
async def test_a_start_whose_answer_is_lost_is_found_and_not_repeated(stage: Stage, fault: str, seconds: float) -> None:
    order = stage.order(seconds=seconds)
    stage.fail(fault, "create")
    with pytest.raises(LaunchUnknown):
        await stage.launcher.start(order, stage.now)
    started = await found_or_started(stage.launcher, order, stage)
    assert started == Started(stage.bots[0].id, 1)
    assert (len(stage.bots), stage.count("create")) == (1, 1)


@EACH
@pytest.mark.parametrize("seconds", [-600, 1_800])
@pytest.mark.parametrize("fault", ["drop", "unavailable", "garbage"])
async def test_a_start_that_never_arrived_is_not_found_and_repeated(stage: Stage, fault: str, seconds: float) -> None:
    order = stage.order(seconds=seconds)
    stage.fail(fault, "create")
    with pytest.raises(LaunchUnknown):
        await stage.launcher.start(order, stage.now)
    assert stage.bots == []
    started = await found_or_started(stage.launcher, order, stage)
    assert [bot.id for bot in stage.bots] == [started.external_id]


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [("attendee", 1_800), ("attendee", -600), ("recall", 1_800), ("recall", -600), ("meeting_baas", 0)],
)
async def test_a_start_that_is_repeated_blindly_makes_no_second_bot(stage: Stage, seconds: float) -> None:
    """Where the back end can tell. A scheduled bot at Meeting BaaS cannot be told from another: `find` is needed."""
    order = stage.order(seconds=seconds)
    stage.fail("lost_answer", "create")
    with pytest.raises(LaunchUnknown):
        await stage.launcher.start(order, stage.now)
    assert await stage.launcher.start(order, stage.now) == Started(stage.bots[0].id, 1)
    assert len(stage.bots) == 1


@pytest.mark.parametrize("kind", ["attendee", "recall"])
async def test_parallel_starts_make_one_bot(stage: Stage) -> None:
    order = stage.order()
    stage.box.bots.work_seconds = 0.05
    outcomes = await asyncio.gather(*(stage.launcher.start(order, stage.now) for _ in range(4)), return_exceptions=True)
    (bot,) = stage.bots
    assert {type(outcome) for outcome in outcomes} <= {Started, LaunchUnknown}
    assert Started(bot.id, 1) in outcomes
    assert await stage.launcher.find(order, stage.now) == Started(bot.id, 1)


@pytest.mark.parametrize("kind", ["meeting_baas"])
async def test_bots_that_are_started_twice_at_meeting_baas_do_not_both_come(stage: Stage) -> None:
    """Parallel starts cannot be told apart there; of two bots for one link the second stays out."""
    order = stage.order()
    await asyncio.gather(*(stage.launcher.start(order, stage.now) for _ in range(2)))
    stage.pass_time(1_800)
    assert sorted(stage.phases()) == ["failed", "joined"]


@pytest.mark.parametrize("kind", ["meeting_baas"])
async def test_another_bot_in_the_meeting_is_told(stage: Stage) -> None:
    await stage.launcher.start(stage.order(seconds=0, bot_id="bot_other"), stage.now)
    with pytest.raises(LaunchRefused) as raised:
        await stage.launcher.start(stage.order(seconds=0), stage.now)
    assert raised.value.reason == "bot_exists"
    twice = stage.order(seconds=0, config={"passthrough": {"allow_multiple_bots": True}})
    await stage.launcher.start(twice, stage.now)
    assert stage.phases() == ["joined", "joined"]


@EACH
async def test_what_is_found_is_this_bot_alive(stage: Stage) -> None:
    order = stage.order()
    assert await stage.launcher.find(order, stage.now) is None
    await stage.launcher.start(stage.order(bot_id="bot_other"), stage.now)
    assert await stage.launcher.find(order, stage.now) is None
    started = await stage.launcher.start(order, stage.now)
    assert await stage.launcher.find(order, stage.now) == started
    await stage.launcher.withdraw(started.external_id, order, stage.now)
    assert await stage.launcher.find(order, stage.now) is None


@EACH
async def test_another_bot_is_not_taken_for_this_one(stage: Stage) -> None:
    """Whatever the back end's list shows."""
    await stage.launcher.start(stage.order(bot_id="bot_other"), stage.now)
    stage.fail("unfiltered_list", "list", times=None)
    assert await stage.launcher.find(stage.order(), stage.now) is None


@EACH
async def test_a_bot_of_somebody_elses_does_not_hide_ours(stage: Stage) -> None:
    """The key may be used by others too, who say nothing of who they are."""
    for scheduled in ({}, {"join_at": stage.order().join_at.isoformat()}):
        stage.box.bots.add(
            stage.kind,
            KEY,
            {"meeting_url": MEETING, "bot_name": "Theirs", **scheduled},
            bot_id=f"theirs{len(scheduled)}",
        )
    stage.fail("unfiltered_list", "list", times=None)
    assert await stage.launcher.find(stage.order(), stage.now) is None
    started = await stage.launcher.start(stage.order(is_replacement=True), stage.now)
    assert await stage.launcher.find(stage.order(), stage.now) == started


@EACH
async def test_a_bot_that_came_and_went_is_not_found(stage: Stage) -> None:
    order = stage.order()
    started = await stage.launcher.start(order, stage.now)
    stage.pass_time(1_800)
    assert await stage.launcher.find(order, stage.now) == started
    stage.bots[0].left_at = stage.now
    assert await stage.launcher.find(order, stage.now) is None


@pytest.mark.parametrize("kind", ["attendee", "recall"])
async def test_a_bot_with_a_great_picture_is_found(stage: Stage) -> None:
    image = IMAGES[stage.kind].rstrip("=")[:12] + "A" * 500_000
    order = stage.order(config={"bot_image": image})
    stage.fail("lost_answer", "create")
    with pytest.raises(LaunchUnknown):
        await stage.launcher.start(order, stage.now)
    assert await stage.launcher.find(order, stage.now) == Started(stage.bots[0].id, 1)


@EACH
async def test_a_bot_follows_its_meeting(stage: Stage) -> None:
    order = stage.order()
    started = await stage.launcher.start(order, stage.now)
    moved = replace(
        order, revision=2, join_at=order.join_at + timedelta(hours=1), meeting_url="https://zoom.us/j/1?pwd=x"
    )
    assert await stage.launcher.change(started.external_id, moved, order, stage.now) == Changed()
    (bot,) = stage.bots
    assert (bot.meeting_url, bot.join_at) == (moved.meeting_url, moved.join_at)
    assert await stage.launcher.find(moved, stage.now) == Started(bot.id, 2)
    renamed = replace(moved, revision=3, bot_name="Schreiber")
    assert await stage.launcher.change(bot.id, renamed, None, stage.now) == Changed()
    assert bot.bot_name == "Schreiber"
    stage.pass_time(5_400)
    assert [(m["meeting_url"], m["joined"]) for m in stage.box.bots.meetings()] == [(moved.meeting_url, 1)]


@EACH
async def test_nothing_is_said_where_nothing_changed(stage: Stage) -> None:
    order = stage.order()
    started = await stage.launcher.start(order, stage.now)
    again = replace(order, revision=2)
    assert await stage.launcher.change(started.external_id, again, order, stage.now) == Changed()
    assert stage.count("update") == 0


@pytest.mark.parametrize(
    ("kind", "outside", "inside"), [("attendee", 31, None), ("recall", 601, 599), ("meeting_baas", 241, 239)]
)
async def test_the_window_in_which_a_change_is_possible(stage: Stage, outside: float, inside: float | None) -> None:
    """Of the time as it was, and of the time as it is to be; half a minute of machine's time fits between."""
    far = stage.order(seconds=7_200)
    started = await stage.launcher.start(far, stage.now)
    near = replace(far, revision=2, join_at=stage.now + timedelta(seconds=outside + 30))
    assert await stage.launcher.change(started.external_id, near, far, stage.now) == Changed()
    if inside is not None:
        nearer = replace(far, revision=3, join_at=stage.now + timedelta(seconds=inside))
        assert await stage.launcher.change(started.external_id, nearer, near, stage.now) == MustReplace("too_late")
        stage.pass_time(60)
        away = replace(far, revision=3, join_at=stage.now + timedelta(seconds=7_200))
        assert await stage.launcher.change(started.external_id, away, near, stage.now) == MustReplace("too_late")
        assert stage.count("update") == 1


@EACH
async def test_a_bot_that_has_joined_is_replaced(stage: Stage) -> None:
    order = stage.order()
    started = await stage.launcher.start(order, stage.now)
    stage.pass_time(1_801)
    elsewhere = replace(order, revision=2, meeting_url="https://zoom.us/j/2")
    assert await stage.launcher.change(started.external_id, elsewhere, order, stage.now) == MustReplace("too_late")
    assert await stage.launcher.withdraw(started.external_id, elsewhere, stage.now) == Withdrawn("left")
    again = await stage.launcher.start(elsewhere, stage.now)
    assert again.external_id != started.external_id
    assert stage.phases() == ["left", "joined"]


@EACH
async def test_a_bot_that_is_restored_is_started_anew(stage: Stage) -> None:
    order = stage.order()
    first = await stage.launcher.start(order, stage.now)
    await stage.launcher.withdraw(first.external_id, order, stage.now)
    second = await stage.launcher.start(replace(order, revision=2), stage.now)
    assert second.external_id != first.external_id
    assert stage.phases() == ["withdrawn", "scheduled"]


@pytest.mark.parametrize("kind", ["attendee", "recall"])
async def test_what_only_a_start_can_say_needs_another_bot(stage: Stage) -> None:
    order = stage.order(config={"entry_message": "Hello", "leave": {"silence": 600}})
    started = await stage.launcher.start(order, stage.now)
    silent = replace(order, revision=2, config={"leave": {"silence": 600}})
    outcome = await stage.launcher.change(started.external_id, silent, order, stage.now)
    assert outcome == MustReplace("not_changeable")
    assert stage.count("update") == 0


@EACH
async def test_a_bot_that_nobody_knows_any_more_is_replaced(stage: Stage) -> None:
    order = stage.order()
    moved = replace(order, revision=2, bot_name="Schreiber")
    assert await stage.launcher.change("gone", moved, order, stage.now) == MustReplace("gone")
    assert await stage.launcher.withdraw("gone", order, stage.now) == Withdrawn("was_gone")


@EACH
async def test_a_bot_is_withdrawn_before_it_joins(stage: Stage) -> None:
    order = stage.order()
    started = await stage.launcher.start(order, stage.now)
    assert await stage.launcher.withdraw(started.external_id, order, stage.now) == Withdrawn("cancelled")
    assert await stage.launcher.withdraw(started.external_id, order, stage.now) == Withdrawn("was_gone")
    stage.pass_time(3_600)
    assert (stage.phases(), stage.bots[0].joined_at) == (["withdrawn"], None)


@EACH
@pytest.mark.parametrize("seconds", [0, 1_800])
async def test_a_bot_leaves_when_it_is_withdrawn_later(stage: Stage, seconds: float) -> None:
    order = stage.order(seconds=seconds)
    started = await stage.launcher.start(order, stage.now)
    stage.pass_time(seconds + 60)
    assert await stage.launcher.withdraw(started.external_id, order, stage.now) == Withdrawn("left")
    assert await stage.launcher.withdraw(started.external_id, order, stage.now) == Withdrawn("was_gone")
    assert stage.phases() == ["left"]


@EACH
async def test_a_bot_that_is_just_joining_is_withdrawn_a_little_later(stage: Stage) -> None:
    stage.box.bots.settling_seconds = 60
    order = stage.order()
    started = await stage.launcher.start(order, stage.now)
    stage.pass_time(1_770)
    with pytest.raises(LaunchLater) as raised:
        await stage.launcher.withdraw(started.external_id, order, stage.now)
    assert raised.value.reason == "not_yet"
    stage.pass_time(60)
    assert await stage.launcher.withdraw(started.external_id, order, stage.now) == Withdrawn("left")


@pytest.mark.parametrize("kind", ["meeting_baas"])
async def test_a_bot_that_is_queued_is_withdrawn_a_little_later(stage: Stage) -> None:
    order = stage.order(seconds=0)
    started = await stage.launcher.start(order, stage.now)
    stage.fail("conflict", "leave")
    with pytest.raises(LaunchLater) as raised:
        await stage.launcher.withdraw(started.external_id, order, stage.now)
    assert raised.value.reason == "not_yet"


@EACH
@pytest.mark.parametrize("fault", ["lost_answer", "failed_answer"])
async def test_changes_and_withdrawals_may_be_repeated(stage: Stage, fault: str) -> None:
    order = stage.order()
    started = await stage.launcher.start(order, stage.now)
    moved = replace(order, revision=2, join_at=order.join_at + timedelta(hours=1))
    stage.fail("failed_answer", "update")
    with pytest.raises(LaunchLater):
        await stage.launcher.change(started.external_id, moved, order, stage.now)
    assert await stage.launcher.change(started.external_id, moved, order, stage.now) == Changed()
    stage.fail(fault, "delete")
    outcome: Withdrawn | None = None
    if fault == "failed_answer":
        with pytest.raises(LaunchLater):
            await stage.launcher.withdraw(started.external_id, moved, stage.now)
        outcome = await stage.launcher.withdraw(started.external_id, moved, stage.now)
    else:
        outcome = await stage.launcher.withdraw(started.external_id, moved, stage.now)  # the status arrived
    assert outcome.how in {"cancelled", "was_gone"}
    assert stage.phases() == ["withdrawn"]


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_bot_is_handed_over_while_it_can_still_be_changed(kind: Backend) -> None:
    able = CAPABILITIES[kind]
    assert able.change_until_seconds < able.hand_over_seconds <= 3_600
