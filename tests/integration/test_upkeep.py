"""What runs by the clock and for nobody's request: one calendar's fault, or a provider that hangs, stops no other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import event

from app import scheduling
from app.ids import new_id
from app.settings import Settings
from tests.harness import BOTH, Actor, Connected, run_due
from tests.integration.test_races import until_it_waits
from workers import sweeps
from workers.dispatch import Dispatcher

pytestmark = BOTH


async def test_deleted_while_its_channel_is_being_opened(actor: Actor) -> None:
    """The answer tells how the channel is stopped, so the credentials stay until it is there."""
    calendar = await actor.connect()
    actor.sandbox.push.mode = "drop"  # a notification would tell as well
    gate = actor.sandbox.faults.gate(actor.operation("watch"))
    running = asyncio.create_task(actor.quiesce())
    await gate.reached()
    await actor.call("DELETE", f"/calendars/{calendar.id}", expect=204)
    await sweeps.finish_deletions(actor.rt)
    assert await _count(actor, "grants") == 1
    actor.sandbox.faults.gates.clear()
    gate.release()
    await running
    actor.advance(timedelta(minutes=10))
    await actor.quiesce()
    assert actor.live() == []
    assert await _count(actor, "grants") == 0


async def test_a_grant_that_does_not_open_stops_no_other_calendar(actor: Actor) -> None:
    broken, sound = await actor.connected(), await actor.connected()
    await _spoil(actor, broken)
    actor.advance(timedelta(days=4))

    def renewed() -> set[str]:
        return {channel.calendar_id for channel in actor.live() if channel.expires_at > actor.now() + timedelta(days=6)}

    async with looping(actor):
        while not renewed():
            await asyncio.sleep(0.01)
    assert renewed() == {sound.remote_id}


async def test_a_grant_that_does_not_open_stops_no_deletion(actor: Actor) -> None:
    broken, sound = await actor.connected(), await actor.connected()
    for calendar in (broken, sound):
        await actor.call("DELETE", f"/calendars/{calendar.id}", expect=204)
    await _spoil(actor, broken)
    await sweeps.finish_deletions(actor.rt)
    assert await _count(actor, "calendars") == 1
    actor.advance(timedelta(days=1, minutes=6))
    await sweeps.finish_deletions(actor.rt)
    assert await _count(actor, "calendars") == 0


async def test_looking_in_vain_opens_no_transaction(actor: Actor) -> None:
    """Each look is one round trip: a worker that has nothing to do looks several times a second."""
    calendar = await actor.connected()
    opened: list[object] = []
    event.listen(actor.rt.db.engine.sync_engine, "begin", opened.append)
    assert await scheduling.sweep(actor.rt) == 0
    assert await run_due(actor.rt) == 0
    assert opened == []
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    assert opened != []


async def test_a_watch_that_hangs_delays_no_poll(actor: Actor) -> None:
    calendar = await actor.connected()
    actor.sandbox.push.mode = "drop"
    actor.add_event(calendar, "Polled", hours=150)
    actor.advance(timedelta(days=3, hours=13))
    gate = actor.sandbox.faults.gate(actor.operation("renew"))
    async with looping(actor):
        await gate.reached()
        while not await actor.events(calendar):
            await asyncio.sleep(0.02)
        assert gate.waiting == 1
        gate.release()
    assert [event["name"] for event in await actor.events(calendar)] == ["Polled"]


async def test_a_lease_does_not_come_back_after_the_run_has_ended(actor: Actor, settings: Settings) -> None:
    calendar = await actor.connected()
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    hasty = replace(actor.rt, settings=settings.model_copy(update={"sync_lease_seconds": 0.6}))
    claim = await scheduling.claim(hasty, calendar.key)
    assert claim is not None
    async with scheduling.held(hasty, claim), hasty.db.transaction() as tx:
        await tx.execute("UPDATE sync_state SET lease_until = NULL, synced_seq = requested_seq")
        await until_it_waits(tx)  # the keeper of the lease, for the row that the run's last statement holds
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    assert await actor.run(calendar) == "synced"


async def test_a_patch_and_a_refresh_do_not_wait_for_each_other_in_a_circle(actor: Actor) -> None:
    calendar = await actor.connected()
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE grants SET access_token_sealed = NULL")
        await tx.execute("UPDATE oauth_app_secrets SET refused_at = app_now(), last_worked_at = NULL")
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    patch = {"client_secret": calendar.account.client_secret}
    gate = actor.sandbox.faults.gate(actor.operation("token"))
    run = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    async with actor.rt.db.transaction() as tx:
        await tx.row("SELECT calendar_id FROM grants FOR UPDATE")
        gate.release()
        await until_it_waits(tx)
        patched = asyncio.create_task(actor.call("PATCH", f"/calendars/{calendar.id}", json=patch), context=Context())
        await until_it_waits(tx, sessions=2)
    await patched
    assert await run != "crashed"


async def test_retention_goes_on_until_nothing_is_left(actor: Actor) -> None:
    async with actor.rt.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO messages (id, project_id, trigger, payload, created_at)"
            " SELECT gen_random_uuid(), :project, 'webhook.test', CAST('{}' AS bytea), app_now() - interval '400 days'"
            "   FROM generate_series(1, 2500)",
            {"project": actor.project.id},
        )
        kept = new_id()
        await tx.execute(
            "INSERT INTO messages (id, project_id, trigger, payload)"
            " VALUES (:id, :project, 'webhook.test', CAST('{}' AS bytea))",
            {"id": kept, "project": actor.project.id},
        )
    stop = asyncio.Event()
    loop = asyncio.create_task(sweeps.retention_loop(actor.rt, stop))
    while await _count(actor, "messages") > 1:
        await asyncio.sleep(0.01)
    stop.set()
    await loop
    async with actor.rt.db.reading() as tx:
        assert await tx.scalar("SELECT id FROM messages") == kept


async def _spoil(actor: Actor, calendar: Connected) -> None:
    async with actor.rt.db.transaction() as tx:
        await tx.execute(
            "UPDATE grants SET refresh_token_sealed = CAST('v1|gone|x' AS bytea), access_token_sealed = NULL"
            " WHERE calendar_id = :id",
            {"id": calendar.key},
        )


async def _count(actor: Actor, table: str) -> int:
    async with actor.rt.db.reading() as tx:
        count: int = await tx.scalar(f"SELECT count(*) FROM {table}")
        return count


@asynccontextmanager
async def looping(actor: Actor) -> AsyncIterator[None]:
    """A worker's loops, that find work by rows; none may have died."""
    stop = asyncio.Event()
    loops = [
        asyncio.create_task(loop(actor.rt, stop))
        for loop in (sweeps.clock_loop, sweeps.channels_loop, sweeps.deletions_loop, sweeps.retention_loop)
    ]
    loops.append(asyncio.create_task(Dispatcher(actor.rt).run(stop)))
    async with asyncio.timeout(120):
        yield
    assert not any(loop.done() for loop in loops)
    stop.set()
    await asyncio.gather(*loops)
