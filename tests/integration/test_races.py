"""What happens in the middle of an apply: each test stops a run at a lock of the database and acts meanwhile."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from datetime import datetime, timedelta
from typing import Any

from app.db import ReadTx, Tx
from tests.harness import BOTH, Actor, Connected

pytestmark = BOTH


def elsewhere(run: Coroutine[Any, Any, str]) -> asyncio.Task[str]:
    """A run that knows nothing of the transaction that the test holds open."""
    return asyncio.create_task(run, context=Context())


async def until_it_waits(tx: ReadTx, *, sessions: int = 1) -> None:
    """Until so many other sessions wait for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(25):
        while await tx.scalar(query) < sessions:
            await tx.row("SELECT pg_stat_clear_snapshot()")
            await asyncio.sleep(0.01)


async def lock_calendar(tx: Tx, calendar: Connected) -> None:
    """What every writer of the calendar's events takes first."""
    await tx.row("SELECT id FROM calendars WHERE id = :c FOR NO KEY UPDATE", {"c": calendar.key})


async def test_a_fence_that_moves_while_the_run_waits_for_the_calendar(actor: Actor) -> None:
    """The run reads the fence of before its wait; the last statement is what refuses it."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    async with actor.rt.db.transaction() as tx:
        await lock_calendar(tx, calendar)
        running = elsewhere(actor.run(calendar))
        await until_it_waits(tx)
        await tx.execute("UPDATE sync_state SET fence = fence + 1 WHERE calendar_id = :c", {"c": calendar.key})
    assert await running == "superseded"
    assert await actor.events(calendar) == []
    assert actor.entries() == []
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE sync_state SET lease_until = NULL")
    await actor.quiesce()
    assert [entry["change_seq"] for entry in actor.entries()] == [1]


async def test_one_run_at_a_time(actor: Actor) -> None:
    """A calendar whose lease is live is left alone, whatever was requested meanwhile."""
    calendar = await actor.connected()
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    gate = actor.sandbox.faults.gate(actor.operation("changes"))
    running = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    assert await actor.run(calendar) == "idle"
    actor.sandbox.faults.gates.clear()
    gate.release()
    assert await running == "synced"


async def test_a_push_during_a_real_apply(actor: Actor) -> None:
    """The run holds all it ever holds, stopped at an event's row; the push is durable all the same, at once."""
    calendar = await actor.connected()
    event = actor.add_event(calendar)
    await actor.quiesce()
    (channel,) = actor.live()
    actor.sandbox.push.mode = "drop"
    actor.sandbox.world.update_event(calendar.remote_id, event.id, title="Renamed")
    await actor.call("POST", f"/calendars/{calendar.id}/sync", json={}, expect=202)
    async with actor.rt.db.transaction() as tx:
        await tx.row("SELECT id FROM calendar_events WHERE calendar_id = :c FOR UPDATE", {"c": calendar.key})
        running = elsewhere(actor.run(calendar))
        await until_it_waits(tx)
        answer = await actor.push(channel)
    assert answer.is_success
    assert await running == "synced"
    async with actor.rt.db.reading() as tx:
        row = await tx.row(
            "SELECT requested_seq, synced_seq FROM sync_state WHERE calendar_id = :c", {"c": calendar.key}
        )
    assert row is not None
    assert row.requested_seq == row.synced_seq + 1


async def test_updated_at_is_taken_under_the_lock(actor: Actor) -> None:
    """A reader that came while the run waited must not have passed the row's time already."""
    calendar = await actor.connected()
    event = actor.add_event(calendar)
    await actor.quiesce()
    for title in ("Once", "Twice"):
        actor.sandbox.world.update_event(calendar.remote_id, event.id, title=title)
        await actor.sandbox.push.idle()
        async with actor.rt.db.transaction() as tx:
            await lock_calendar(tx, calendar)
            running = elsewhere(actor.run(calendar))
            await until_it_waits(tx)
            moment: Any = await tx.scalar("SELECT clock_timestamp()")
        assert await running == "synced"
        (shown,) = await actor.events(calendar)
        assert datetime.fromisoformat(shown["updated_at"]) > moment


async def test_what_is_merely_old_is_frozen(actor: Actor) -> None:
    """A tombstone, or an edit, of an event that the window has left behind tells nothing and changes nothing."""
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar, hours=2)
    other = actor.add_event(calendar, "Other", hours=3)
    await actor.quiesce()
    actor.advance(timedelta(days=5))
    await actor.call("POST", f"/calendars/{calendar.id}/sync", json={"full": True}, expect=202)
    await actor.quiesce()
    heard, before = len(actor.messages()), await actor.events(calendar)
    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    actor.sandbox.world.update_event(calendar.remote_id, other.id, title="Rewritten history")
    await actor.quiesce()
    assert await actor.events(calendar) == before
    assert len(actor.messages()) == heard
    soon = actor.now() + timedelta(days=1)
    actor.sandbox.world.update_event(calendar.remote_id, other.id, start=soon, end=soon + timedelta(hours=1))
    await actor.quiesce()
    entry = actor.entries()[-1]
    assert (entry["change"], "rescheduled" in entry["kinds"]) == ("updated", True)
