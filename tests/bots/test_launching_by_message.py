"""Where a message is the launch, its answer decides about the bot: at once, and until its meeting ends."""

import asyncio
from datetime import timedelta

import pytest

from app.bots.launching import launch_due
from app.runtime import Runtime
from app.webhooks.delivery import deliver_due
from sandbox.sink import Received
from tests.bots.stage import OTHER, Bots
from tests.bots.test_launching import Json, own, pass_time
from tests.integration.delivering import rows

MEETING_SECONDS = 3 * 3_600
"""What a bot of its own takes its meeting to last."""


@pytest.fixture
def refused(bots: Bots) -> Bots:
    """With an endpoint that answers 500."""
    bots.actor.sink.hook().statuses[:] = [500]
    return bots


def launches(bots: Bots) -> list[Received]:
    """Every request that was a launch."""
    return [one for one in bots.actor.sink.received if one.body["trigger"] == "bot.launch"]


async def state(bots: Bots, bot: Json) -> tuple[str, str | None]:
    shown = await bots.get(bot)
    return shown["state"], shown["state_reason"]


async def hold(rt: Runtime, held: asyncio.Event, let_go: asyncio.Event) -> None:
    """Lock every bot, for as long as it takes."""
    async with rt.db.transaction() as tx:
        await tx.execute("SELECT FROM bots FOR UPDATE")
        held.set()
        await let_go.wait()


async def test_the_answer_makes_the_bot_launched_at_once(bots: Bots) -> None:
    """No look is waited for: the record of the answer makes the bot due, and wakes its loop."""
    bot = await own(bots, seconds=50)
    rt = bots.actor.rt
    assert await launch_due(rt) == 1
    async with rt.db.transaction() as tx:  # its own look is far away
        await tx.execute("UPDATE bots SET due_at = app_now() + interval '1 hour'")
    assert await launch_due(rt) == 0
    rt.queue.launching_due.clear()
    await deliver_due(rt)
    assert rt.queue.launching_due.is_set()
    assert await launch_due(rt) == 1
    assert await state(bots, bot) == ("launched", None)


async def test_a_failure_is_known_at_once(bots: Bots) -> None:
    bots.actor.sink.hook().statuses[:] = [410]
    bot = await own(bots, seconds=50)
    await launch_due(bots.actor.rt)
    await deliver_due(bots.actor.rt)
    await launch_due(bots.actor.rt)
    assert await state(bots, bot) == ("failed", "not_delivered")


async def test_one_endpoint_that_takes_it_is_enough(refused: Bots) -> None:
    await refused.actor.subscribe(hook="second")
    bot = await own(refused, seconds=50)
    await launch_due(refused.actor.rt)
    await deliver_due(refused.actor.rt)
    await launch_due(refused.actor.rt)
    assert await state(refused, bot) == ("launched", None)


async def test_a_bot_that_somebody_holds_is_waited_for_by_nobody(bots: Bots) -> None:
    """The record does not wait for a bot's row: who holds it may be waiting for the delivery."""
    bot = await own(bots, seconds=50)
    rt = bots.actor.rt
    await launch_due(rt)
    holding = asyncio.create_task(hold(rt, held := asyncio.Event(), let_go := asyncio.Event()))
    await held.wait()
    await deliver_due(rt)
    let_go.set()
    await holding
    assert [d["state"] for d in await rows(rt, "SELECT state FROM deliveries WHERE trigger = 'bot.launch'")] == [
        "succeeded"
    ]
    assert await state(bots, bot) == ("launching", None)
    await pass_time(bots, 2)
    assert await state(bots, bot) == ("launched", None)


async def test_it_is_tried_until_the_meeting_is_over(refused: Bots) -> None:
    bot = await own(refused, seconds=45)
    await refused.actor.quiesce()
    await pass_time(refused, MEETING_SECONDS - 200)  # ten seconds before a step
    tried = len(launches(refused))
    for _ in range(3):
        await pass_time(refused, 30)
        assert await state(refused, bot) == ("launching", None)
    assert len(launches(refused)) == tried + 3
    for _ in range(6):
        await pass_time(refused, 30)
    assert await state(refused, bot) in {("failed", "not_delivered"), ("missed", "meeting_over")}  # whichever is seen
    tried = len(launches(refused))
    await pass_time(refused, 3_600)
    assert len(launches(refused)) == tried


async def test_a_bot_whose_meeting_ends_while_nobody_works_is_missed_and_not_launched(bots: Bots) -> None:
    bot = await own(bots, seconds=50)
    await launch_due(bots.actor.rt)
    await pass_time(bots, MEETING_SECONDS + 60)
    assert await state(bots, bot) == ("missed", "meeting_over")
    assert launches(bots) == []


async def test_a_newer_revision_takes_the_place_of_the_older_and_begins_anew(refused: Bots) -> None:
    bot = await own(refused, seconds=50)
    await refused.actor.quiesce()
    await pass_time(refused, 21)
    await refused.actor.call("PATCH", f"/bots/{bot['id']}", json={"meeting_url": OTHER})
    await refused.actor.quiesce()
    for _ in range(2):
        await pass_time(refused, 3.5)
    revisions = [one.body["data"]["revision"] for one in launches(refused)]
    assert revisions == sorted(revisions)
    assert revisions.count(1) >= 2  # 0 and 21 s after the first
    assert revisions.count(2) >= 3  # 0, 3.5 and 7 s after the second, and not 50 after the first
    found = await rows(
        refused.actor.rt, "SELECT state FROM deliveries WHERE trigger = 'bot.launch' ORDER BY created_at, id"
    )
    assert [row["state"] for row in found] == ["failed", "pending"]


async def test_a_launch_of_a_launched_bot_changes_nothing_where_it_fails(bots: Bots) -> None:
    bot = await own(bots, seconds=50)
    await bots.actor.quiesce()
    bots.actor.sink.hook().statuses[:] = [410]
    await bots.actor.call("PATCH", f"/bots/{bot['id']}", json={"meeting_url": OTHER})
    await bots.actor.quiesce()
    assert [one.status for one in launches(bots)] == [204, 410]
    bots.actor.advance(timedelta(seconds=30))
    await bots.actor.quiesce()
    assert await state(bots, bot) == ("launched", None)
