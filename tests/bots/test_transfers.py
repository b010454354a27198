"""A bot whose event goes while another's copy stays: held, never launched or doubled meanwhile, and moved or ended."""

from datetime import timedelta
from typing import Any

import pytest

from app.bots.launching import launch_due
from app.bots.transfers import PATIENCE_SECONDS, transfer_due
from sandbox.model import Attendee, Conference, Event, Person
from tests.bots.meetings import (
    UID,
    assert_no_doubles,
    change_rule,
    copies,
    disconnect,
    live,
    override,
    reconnect,
    split,
    the_bot,
)
from tests.bots.stage import EACH_BACKEND, MEET, OTHER, Bots, Json
from tests.harness import BOTH, Actor, Connected

Copies = list[tuple[Connected, Event]]


async def shared(bots: Bots, count: int = 2, **draft: Any) -> tuple[Json, tuple[Connected, Event], Copies]:
    """A wide rule and a meeting of so many: its bot, the copy that has it, and the others. No push comes any more."""
    await bots.rule()
    found = await copies(bots.actor, bots, count, **draft)
    await bots.actor.quiesce()
    bot = await the_bot(bots.actor)
    owner, others = split(found, bot)
    bots.actor.sandbox.push.mode = "drop"
    return bot, owner, others


async def sync(actor: Actor, calendar: Connected) -> None:
    """This calendar alone is synced, and nothing else that is due is done."""
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    assert await actor.run(calendar) in {"synced", "disconnected"}


async def delete(actor: Actor, copy: tuple[Connected, Event]) -> None:
    """One person's copy goes, and the service knows."""
    actor.sandbox.world.delete_event(copy[0].remote_id, copy[1].id)
    await sync(actor, copy[0])


@BOTH
async def test_a_meeting_that_is_off_everywhere_is_found_out_before_its_bot_moves(actor: Actor, bots: Bots) -> None:
    """No push tells of the others' copies; the hold reads them first."""
    bot, owner, others = await shared(bots, 3)
    for calendar, event in others:
        actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    actor.advance(timedelta(hours=24) - timedelta(seconds=61))  # it will be due while it is held
    await delete(actor, owner)
    held = await bots.get(bot)
    assert (held["state"], held["hold_reason"], held["calendar_id"]) == ("scheduled", "transfer", owner[0].id)
    actor.advance(timedelta(seconds=2))
    assert await launch_due(actor.rt) == 0
    await actor.quiesce()
    ended = await bots.get(bot)
    assert ended["state"] == "cancelled"
    assert ended["state_reason"] in {"event_deleted", "event_cancelled"}
    assert ended["hold_reason"] is None
    assert actor.messages("bot.launch") == []
    assert bots.states(bot) == ["scheduled", "cancelled"]
    assert await live(actor) == []


async def test_a_calendar_that_is_not_served_is_waited_for_half_a_minute(actor: Actor, bots: Bots) -> None:
    bot, owner, [other] = await shared(bots)
    await delete(actor, owner)
    assert await transfer_due(actor.rt) == 1  # the sync is asked for
    actor.advance(timedelta(seconds=PATIENCE_SECONDS - 1))
    assert await transfer_due(actor.rt) == 0
    assert (await bots.get(bot))["hold_reason"] == "transfer"
    actor.advance(timedelta(seconds=2))
    assert await transfer_due(actor.rt) == 1
    now = await bots.get(bot)
    assert (now["id"], now["calendar_id"], now["hold_reason"]) == (bot["id"], other[0].id, None)


@BOTH
async def test_a_provider_that_is_away_is_not_waited_for(actor: Actor, bots: Bots) -> None:
    bot, owner, [other] = await shared(bots)
    await delete(actor, owner)
    actor.sandbox.faults.add("unavailable", actor.operation("changes"), times=None)
    await actor.quiesce()
    now = await the_bot(actor)
    assert (now["id"], now["calendar_id"]) == (bot["id"], other[0].id)
    assert now["hold_reason"] != "transfer"


async def test_the_next_copy_is_asked_where_the_first_is_gone_as_well(actor: Actor, bots: Bots) -> None:
    bot, owner, others = await shared(bots, 4)
    for calendar, event in others[:2]:
        actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    await delete(actor, owner)
    await actor.quiesce()
    now = await the_bot(actor)
    assert (now["id"], now["calendar_id"]) == (bot["id"], others[2][0].id)
    assert bots.states(bot) == ["scheduled"]
    await assert_no_doubles(actor)


async def test_many_that_wait_keep_none_from_its_turn(actor: Actor, bots: Bots) -> None:
    """More than one batch is held for calendars that are not served; a later one is settled all the same."""
    bot, owner, others = await shared(bots)
    async with actor.rt.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO bots (id, project_id, state, bot_name, meeting_url, join_at, ends_at, rule_id, dedup_scope,"
            " calendar_id, transfer_since, transfer_reason, transfer_calendar_id, transfer_seq)"
            " SELECT gen_random_uuid(), project_id, 'scheduled', 'Notes', meeting_url, join_at, ends_at, rule_id,"
            " dedup_scope, calendar_id, app_now() - interval '1 second', 'event_deleted', calendar_id, 1000000"
            " FROM bots, generate_series(1, 150)"
        )
    await delete(actor, owner)
    for _ in range(3):
        await transfer_due(actor.rt)
        for calendar, _event in others:
            await sync(actor, calendar)
    now = await bots.get(bot)
    assert (now["hold_reason"], now["calendar_id"] != owner[0].id) == (None, True)


@EACH_BACKEND
@pytest.mark.parametrize("how", ["event", "calendar"])
async def test_a_bot_at_its_back_end_is_not_started_again(actor: Actor, bots: Bots, kind: str, how: str) -> None:
    launcher = await bots.launcher(kind)
    bot, owner, [other] = await shared(bots, hours=2)
    actor.advance(timedelta(hours=2) - timedelta(seconds=launcher["hand_over_seconds"] - 1))
    await actor.quiesce()
    before = await bots.get(bot)
    assert before["state"] == "launched"
    if how == "event":
        await delete(actor, owner)
    else:
        await actor.call("DELETE", f"/calendars/{owner[0].id}", expect=204)
        assert (await bots.get(bot))["hold_reason"] == "transfer"
    await actor.quiesce()
    now = await the_bot(actor)
    assert (now["id"], now["calendar_id"], now["external_id"]) == (bot["id"], other[0].id, before["external_id"])
    actor.advance(timedelta(hours=1))
    await actor.quiesce()
    [there] = bots.there()
    assert (there.withdrawn_at, there.left_at, there.joined_at is not None) == (None, None, True)
    assert bots.states(bot) == ["scheduled", "launching", "launched"]


@BOTH
async def test_a_disconnect_passes_bots_on_and_a_reconnect_doubles_none(actor: Actor, bots: Bots) -> None:
    bot, owner, [other] = await shared(bots)
    await disconnect(actor, owner[0])
    await actor.quiesce()
    assert (await the_bot(actor))["calendar_id"] == other[0].id
    await reconnect(actor, owner[0])
    await actor.quiesce()
    now = await the_bot(actor)
    assert (now["id"], now["calendar_id"]) == (bot["id"], other[0].id)
    await disconnect(actor, other[0])
    await actor.quiesce()
    now = await the_bot(actor)
    assert (now["id"], now["calendar_id"]) == (bot["id"], owner[0].id)
    await disconnect(actor, owner[0])
    await actor.quiesce()
    ended = await bots.get(bot)
    assert (ended["state"], ended["state_reason"]) == ("cancelled", "calendar_disconnected")
    await reconnect(actor, other[0])
    await actor.quiesce()
    await reconnect(actor, owner[0])
    await actor.quiesce()
    await the_bot(actor)
    await assert_no_doubles(actor)


async def test_an_event_that_is_back_during_the_hold_keeps_its_bot(actor: Actor, bots: Bots) -> None:
    bot, owner, _ = await shared(bots)
    calendar, event = owner
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=None)
    await sync(actor, calendar)
    assert (await bots.get(bot))["hold_reason"] == "transfer"
    assert await transfer_due(actor.rt) == 1
    actor.sandbox.world.update_event(calendar.remote_id, event.id, title="Still off")
    await sync(actor, calendar)
    assert (await bots.get(bot))["hold_reason"] == "transfer"
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=Conference("meet", MEET))
    await sync(actor, calendar)
    back = await bots.get(bot)
    assert (back["state"], back["hold_reason"], back["calendar_id"]) == ("scheduled", None, calendar.id)
    await actor.quiesce()
    now = await the_bot(actor)
    assert (now["id"], now["calendar_id"]) == (bot["id"], calendar.id)
    assert [entry["type"] for entry in now["events"]] == ["created", "held", "released"]
    await assert_no_doubles(actor)


async def test_an_event_that_comes_back_elsewhere_releases_and_moves_its_bot(actor: Actor, bots: Bots) -> None:
    bot, (calendar, event), _ = await shared(bots)
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=None)
    await sync(actor, calendar)
    start = actor.now() + timedelta(hours=30)
    changes: dict[str, Any] = {
        "start": start,
        "end": start + timedelta(hours=1),
        "conference": Conference("zoom", OTHER),
    }
    actor.sandbox.world.update_event(calendar.remote_id, event.id, **changes)
    await sync(actor, calendar)
    back = await bots.get(bot)
    assert (back["hold_reason"], back["meeting_url"], back["calendar_id"]) == (None, OTHER, calendar.id)
    await actor.quiesce()
    assert (await the_bot(actor))["id"] == bot["id"]
    await assert_no_doubles(actor)


async def test_the_owners_no_passes_the_bot_on_to_who_comes(actor: Actor, bots: Bots) -> None:
    await bots.rule()
    boss = Person("boss@example.com")
    calendars = [await actor.connect() for _ in range(2)]
    invited = tuple(Attendee(calendar.account.email, response="accepted") for calendar in calendars)
    found = await copies(actor, bots, calendars=calendars, organizer=boss, attendees=invited)
    await actor.quiesce()
    bot = await the_bot(actor)
    owner, [other] = split(found, bot)
    email = owner[0].account.email
    answers = tuple(Attendee(one.email, response="declined" if one.email == email else "accepted") for one in invited)
    for calendar, event in found:
        actor.sandbox.world.update_event(calendar.remote_id, event.id, attendees=answers)
    await actor.quiesce()
    now = await the_bot(actor)
    assert (now["id"], now["calendar_id"]) == (bot["id"], other[0].id)
    nobody = tuple(Attendee(one.email, response="declined") for one in invited)
    for calendar, event in found:
        actor.sandbox.world.update_event(calendar.remote_id, event.id, attendees=nobody)
    await actor.quiesce()
    ended = await bots.get(bot)
    assert (ended["state"], ended["state_reason"]) == ("cancelled", "no_rule")


async def test_a_bot_is_adopted_where_another_rule_wants_it(actor: Actor, bots: Bots) -> None:
    """One rule for each person: the bot that moves is from then on as its new owner's rule makes it."""
    await bots.launcher("attendee")
    first, second = await actor.connect(metadata={"team": "a"}), await actor.connect(metadata={"team": "b"})
    rules = [await bots.rule(match={"calendar_metadata": {"team": team}}, name=team) for team in "ab"]
    await change_rule(actor, rules[1], "bot_name = 'Scribe'")
    found = await copies(actor, bots, calendars=[first, second], hours=2)
    await actor.quiesce()
    bot = await the_bot(actor)
    assert bot["calendar_id"] == first.id
    actor.advance(timedelta(hours=2) - timedelta(seconds=100))
    await actor.quiesce()
    await delete(actor, found[0])
    await actor.quiesce()
    now = await the_bot(actor)
    assert (now["id"], now["rule_id"], now["bot_name"]) == (bot["id"], rules[1]["id"], "Scribe")
    there = [one for one in bots.there() if one.withdrawn_at is None]
    assert [(one.bot_name, one.id) for one in there] == [("Scribe", now["external_id"])]


async def test_a_bot_changed_by_hand_moves_as_it_is(actor: Actor, bots: Bots) -> None:
    bot, owner, [other] = await shared(bots)
    await actor.call("PATCH", f"/bots/{bot['id']}", json={"bot_name": "Mine"})
    await delete(actor, owner)
    await actor.quiesce()
    now = await the_bot(actor)
    assert (now["id"], now["bot_name"], now["calendar_id"]) == (bot["id"], "Mine", other[0].id)


async def test_a_bot_that_is_deleted_while_held_stays_away(actor: Actor, bots: Bots) -> None:
    bot, owner, [other] = await shared(bots)
    await delete(actor, owner)
    assert await transfer_due(actor.rt) == 1
    await actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    ended = await bots.get(bot)
    assert (ended["state"], ended["hold_reason"]) == ("cancelled", None)
    actor.sandbox.world.update_event(other[0].remote_id, other[1].id, title="Still on")
    await sync(actor, other[0])
    await actor.quiesce()
    assert await live(actor) == []


async def test_what_a_bot_leaves_behind_is_another_events(actor: Actor, bots: Bots) -> None:
    """A meeting in the same room, and a copy with another link: the bot goes on with one, the other gets its own."""
    await bots.rule()
    first = await actor.connected()
    event = bots.meeting(first, ical_uid=UID)
    await actor.quiesce()
    bot = await the_bot(actor)
    room, elsewhere = await actor.connect(), await actor.connect()
    bots.meeting(room, ical_uid="room@example.com", start=event.start, end=event.end)
    bots.meeting(elsewhere, ical_uid=UID, start=event.start, end=event.end, url=OTHER)
    await actor.quiesce()
    assert (await the_bot(actor))["id"] == bot["id"]
    await delete(actor, (first, event))
    await actor.quiesce()
    found = await live(actor)
    assert {one["calendar_id"] for one in found} == {room.id, elsewhere.id}
    assert bot["id"] in {one["id"] for one in found}
    await assert_no_doubles(actor)


async def test_an_event_whose_other_key_another_bot_has_is_passed_over(actor: Actor, bots: Bots) -> None:
    """It is no reason to ask for its calendar's sync again and again."""
    await bots.rule()
    first, third, second = [await actor.connected() for _ in range(3)]
    event = bots.meeting(first, ical_uid=UID)
    await actor.quiesce()
    bot = await the_bot(actor)
    start = actor.now() + timedelta(hours=20)
    times: dict[str, Any] = {"start": start, "end": start + timedelta(hours=1)}
    bots.meeting(third, ical_uid="other@example.com", url=OTHER, **times)
    await actor.quiesce()
    bots.meeting(second, ical_uid=UID, url=OTHER, **times)  # the same meeting as either of them
    fourth = await actor.connect()
    bots.meeting(fourth, ical_uid=UID, start=event.start, end=event.end)
    await actor.quiesce()
    assert len(await live(actor)) == 2
    await delete(actor, (first, event))
    await actor.quiesce()
    now = await bots.get(bot)
    assert (now["state"], now["calendar_id"], now["hold_reason"]) == ("scheduled", fourth.id, None)
    assert len(await live(actor)) == 2


async def test_never_on_one_copy_leaves_the_others(actor: Actor, bots: Bots) -> None:
    bot, (calendar, _), [other] = await shared(bots)
    [shown] = await actor.events(calendar)
    await override(actor, shown, "never")
    await actor.quiesce()
    now = await the_bot(actor)
    assert (now["id"], now["calendar_id"]) == (bot["id"], other[0].id)
