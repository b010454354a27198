"""Hazards 64 to 69: runs that overlap, workers that pause or die, and readers who must not notice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.db import ReadTx
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from app.webhooks.delivery import deliver_due
from sandbox import Sandbox
from tests.harness import BOTH, Actor, Connected, Json
from tests.integration.test_races import elsewhere, lock_calendar, until_it_waits

pytestmark = BOTH

BEFORE_ALL = "2020-01-01T00:00:00.000000Z"

HOLD = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(66);
    RETURN NEW;
END $$
"""


@pytest.fixture
async def second(settings: Settings, rt: Runtime, sandbox: Sandbox) -> AsyncIterator[Runtime]:
    """Another worker on the same database."""
    async with open_runtime(settings, transport=httpx.ASGITransport(sandbox.app)) as other:
        yield other


@asynccontextmanager
async def commits_held(actor: Actor, calendar: Connected) -> AsyncIterator[ReadTx]:
    """While the block runs, a run of this calendar stops at its end, with all of it written and nothing committed."""
    async with actor.rt.db.transaction() as tx:
        await tx.execute(HOLD)
        await tx.execute(
            "CREATE TRIGGER hold BEFORE UPDATE ON sync_state FOR EACH ROW"
            f" WHEN (NEW.calendar_id = '{calendar.key}' AND NEW.cursor_version > OLD.cursor_version)"
            " EXECUTE FUNCTION hold()"
        )
    async with actor.rt.db.reading() as session:  # of no account for other readers: it writes nothing
        await session.row("SELECT pg_advisory_lock(66)")
        try:
            yield session
        finally:
            await session.row("SELECT pg_advisory_unlock(66)")


async def the_lease_ends(actor: Actor) -> None:
    """Whoever runs now has paused for too long."""
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE sync_state SET lease_until = clock_timestamp() - interval '1 second'")


def announced(actor: Actor) -> list[tuple[int, str, list[str]]]:
    """Changes with their numbers and kinds."""
    return [(entry["change_seq"], entry["change"], entry["kinds"]) for entry in actor.entries()]


async def test_hazard_64_out_of_order(actor: Actor, second: Runtime) -> None:
    """A run that read older pages ends after one that read newer ones: it changes nothing and announces nothing."""
    await actor.subscribe()
    calendar = await actor.connected()
    kept, gone = actor.add_event(calendar, "First", hours=24), actor.add_event(calendar, "Goes", hours=25)
    await actor.quiesce()
    world = actor.sandbox.world
    world.update_event(calendar.remote_id, kept.id, title="Older")
    world.update_event(calendar.remote_id, gone.id, title="Stays?")
    await actor.sandbox.push.idle()
    gate = actor.sandbox.faults.gate(actor.operation("changes"))
    slow = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    actor.sandbox.faults.gates.clear()
    world.update_event(calendar.remote_id, kept.id, title="Newer")
    world.delete_event(calendar.remote_id, gone.id)
    await the_lease_ends(actor)
    assert await actor.run(calendar, second) == "synced"
    gate.release()
    assert await slow == "superseded"
    await actor.quiesce()
    assert [event["name"] for event in await actor.events(calendar)] == ["Newer"]
    await actor.assert_equal(calendar)
    told = announced(actor)
    assert [change for _, change, _ in told[:2]] == ["created", "created"]
    assert told[2:] == [(3, "deleted", []), (4, "updated", ["renamed"])]
    assert actor.entries()[3]["fields"] == {"name": {"from": "First", "to": "Newer"}}


async def test_hazard_65_worker_pauses_beyond_its_lease(actor: Actor, second: Runtime) -> None:
    """It wakes in the middle of its commit, another has taken over: the fence decides in the same transaction."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.add_event(calendar, "Once")
    await actor.sandbox.push.idle()
    async with actor.rt.db.transaction() as tx:
        await lock_calendar(tx, calendar)
        paused = elsewhere(actor.run(calendar))
        await until_it_waits(tx)
        await asyncio.create_task(the_lease_ends(actor), context=Context())
        other = elsewhere(actor.run(calendar, second))
        await until_it_waits(tx, sessions=2)
    assert (await paused, await other) == ("superseded", "synced")
    await actor.quiesce()
    await actor.assert_equal(calendar)
    assert announced(actor) == [(1, "created", [])]


async def read(actor: Actor, watermark: str) -> tuple[set[tuple[str, bool]], str]:
    """Name, and whether it is deleted, of all calendars' rows from the watermark on; the next watermark."""
    params: Json = {"updated_after": watermark, "ordering": "updated_at", "limit": 250}
    found = (await actor.call("GET", "/calendar_events", params=params))["results"]
    seen = {(event["name"], event["is_deleted"]) for event in found}
    return seen, max([watermark, *(event["updated_at"] for event in found)])


async def test_hazard_66_updated_after_watermark(actor: Actor) -> None:
    """Rows are stamped, then their commit is late; what another calendar commits meanwhile does not carry a reader past
    them."""
    slow, quick = await actor.connected(), await actor.connected()
    goes = actor.add_event(slow, "Goes")
    await actor.quiesce()
    seen, watermark = await read(actor, BEFORE_ALL)
    assert seen == {("Goes", False)}

    actor.sandbox.world.delete_event(slow.remote_id, goes.id)
    actor.add_event(slow, "Slow")
    actor.add_event(quick, "Quick")
    await actor.sandbox.push.idle()
    async with commits_held(actor, slow) as session:
        running = elsewhere(actor.run(slow))
        await until_it_waits(session)
        assert await elsewhere(actor.run(quick)) == "synced"
        seen, watermark = await read(actor, watermark)
        assert ("Quick", False) not in seen
    assert await running == "synced"
    seen, watermark = await read(actor, watermark)
    assert seen >= {("Slow", False), ("Goes", True), ("Quick", False)}
    assert (await read(actor, watermark))[1] == watermark


async def test_hazard_67_same_stamp_over_two_pages(actor: Actor) -> None:
    """All rows of a round have one stamp: a page that ends among them is followed by the others, each exactly once."""
    calendar = await actor.connect()
    for number in range(7):
        actor.add_event(calendar, f"Event {number}", hours=24 + number)
    await actor.quiesce()
    for ordering in ("updated_at", "-updated_at"):
        listed = await actor.events(calendar, limit=2, ordering=ordering)
        assert len({event["updated_at"] for event in listed}) == 1
        assert sorted(event["name"] for event in listed) == [f"Event {number}" for number in range(7)]
        stamp = listed[0]["updated_at"]
        again = await actor.events(calendar, limit=2, ordering=ordering, updated_after=stamp)
        assert len({event["id"] for event in again}) == len(again) == 7


async def test_hazard_68_message_and_commit_are_one(actor: Actor, second: Runtime) -> None:
    """Nothing is sent before the commit; a worker that dies before it leaves neither row nor message, one that dies
    after it leaves both, and the message keeps its id until it has arrived."""
    await actor.subscribe()
    calendar = await actor.connected()
    heard = len(actor.sink.received)
    event = actor.add_event(calendar)
    await actor.sandbox.push.idle()
    async with commits_held(actor, calendar) as session:
        dies = elsewhere(actor.run(calendar))
        await until_it_waits(session)
        assert await asyncio.create_task(deliver_due(second), context=Context()) == 0
        dies.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dies
    assert await actor.events(calendar) == []
    await deliver_due(second)
    assert len(actor.sink.received) == heard

    assert await actor.run(calendar, second) == "synced"  # and that worker dies: nobody has sent anything yet
    assert [e["platform_uuid"] for e in await actor.events(calendar)] == [event.id]
    assert len(actor.sink.received) == heard
    actor.sink.hook().statuses = [500, 204]
    await actor.quiesce()
    actor.rt.clock.advance(timedelta(minutes=10))
    await actor.quiesce()
    attempts = actor.sink.received[heard:]
    assert [one.status for one in attempts] == [500, 204]
    assert len({one.message_id for one in attempts}) == 1
    assert attempts[0].body == attempts[1].body
    assert announced(actor) == [(1, "created", [])]


async def test_hazard_69_webhooks_out_of_order(actor: Actor) -> None:
    """The first message is refused and comes after the second: the numbers tell the order, and that none is missing."""
    await actor.subscribe()
    calendar = await actor.connected()
    heard = len(actor.messages())
    actor.sink.hook().statuses = [500, 204]
    event = actor.add_event(calendar, "First")
    await actor.quiesce()
    actor.sandbox.world.update_event(calendar.remote_id, event.id, title="Second")
    await actor.quiesce()
    actor.rt.clock.advance(timedelta(minutes=10))
    await actor.quiesce()
    arrived: list[dict[str, Any]] = [message.body["data"] for message in actor.messages()[heard:]]
    assert [(data["from_seq"], data["to_seq"]) for data in arrived] == [(2, 2), (1, 1)]
    assert [[entry["change"] for entry in data["events"]] for data in arrived] == [["updated"], ["created"]]
    assert announced(actor) == [(1, "created", []), (2, "updated", ["renamed"])]
    (shown,) = await actor.events(calendar)
    assert (shown["change_seq"], shown["name"]) == (2, "Second")
