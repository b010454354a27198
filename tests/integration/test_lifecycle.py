"""A calendar's life: deleted during a run, wiped, its tokens refreshed by one worker at a time, jobs and loops."""

import asyncio
from datetime import timedelta

import pytest

from app.crypto import Place, SealBroken
from app.grants import GrantTokens
from tests.harness import BOTH, Actor, Connected
from workers.dispatch import Dispatcher
from workers.main import end, make_worker

pytestmark = BOTH


async def test_deleted_in_the_middle_of_a_run(actor: Actor) -> None:
    """Hazard 85: the run's commit is refused, nothing is heard afterwards, everything is wiped."""
    await actor.subscribe()
    calendar = await actor.connected()
    heard = len(actor.messages())
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    gate = actor.sandbox.faults.gate(actor.operation("changes"))
    running = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    await actor.call("DELETE", f"/calendars/{calendar.id}", expect=204)
    actor.sandbox.faults.gates.clear()
    gate.release()
    assert await running == "superseded"
    await actor.call("GET", f"/calendars/{calendar.id}", expect=404)
    assert (await actor.call("GET", "/calendar_events", params={"calendar_id": calendar.id}))["results"] == []
    await actor.quiesce()
    assert len(actor.messages()) == heard
    async with actor.rt.db.reading() as tx:
        for table in ("calendars", "grants", "calendar_events", "sync_state"):
            assert await tx.scalar(f"SELECT count(*) FROM {table}") == 0


async def test_deleting_waits_a_day_for_a_provider_that_is_away(actor: Actor) -> None:
    calendar = await actor.connected()
    actor.sandbox.faults.add("unavailable", actor.operation("stop"), times=None)
    await actor.call("DELETE", f"/calendars/{calendar.id}", expect=204)
    await actor.quiesce()
    assert await rows(actor, "calendars") == 1
    actor.advance(timedelta(hours=25))
    await actor.quiesce()
    assert await rows(actor, "calendars") == 0


async def test_deleting_does_not_wait_for_a_grant_that_is_gone(actor: Actor) -> None:
    calendar = await actor.connected()
    actor.sandbox.world.revoke(calendar.account)
    await actor.call("DELETE", f"/calendars/{calendar.id}", expect=204)
    await actor.quiesce()
    assert await rows(actor, "calendars") == 0


async def rows(actor: Actor, table: str) -> int:
    """How many there are."""
    async with actor.rt.db.reading() as tx:
        count: int = await tx.scalar(f"SELECT count(*) FROM {table}")
    return count


async def test_one_refresh_for_many_that_need_a_token(actor: Actor) -> None:
    """Hazard 43: the lease lets one ask, the others wait for its answer."""
    calendar = await actor.connected()
    actor.advance(timedelta(hours=2))
    before = actor.sandbox.requests.count(actor.operation("token"))
    async with actor.rt.db.reading() as tx:
        sealed = await tx.scalar("SELECT access_token_sealed FROM grants WHERE calendar_id = :c", {"c": calendar.key})
    tokens = await asyncio.gather(*(GrantTokens(actor.rt, calendar.key, sealed=sealed).token() for _ in range(10)))
    assert len(set(tokens)) == 1
    assert actor.sandbox.requests.count(actor.operation("token")) == before + 1


async def test_a_rejected_token_is_refreshed_once(actor: Actor) -> None:
    """Hazard 50."""
    calendar = await actor.connected()
    before = actor.sandbox.requests.count(actor.operation("token"))
    actor.sandbox.world.expire_access_tokens()
    actor.add_event(calendar)
    await actor.quiesce()
    assert len(await actor.events(calendar)) == 1
    assert actor.sandbox.requests.count(actor.operation("token")) == before + 1


async def test_a_secret_moved_to_another_row_does_not_open(actor: Actor) -> None:
    first, second = await actor.connected(), await actor.connect()
    async with actor.rt.db.transaction() as tx:
        await tx.execute(
            "UPDATE grants SET refresh_token_sealed ="
            " (SELECT refresh_token_sealed FROM grants WHERE calendar_id = :a) WHERE calendar_id = :b",
            {"a": first.key, "b": second.key},
        )
        sealed = await tx.scalar("SELECT refresh_token_sealed FROM grants WHERE calendar_id = :b", {"b": second.key})
    with pytest.raises(SealBroken):
        actor.rt.cipher.open(sealed, Place("grants", "refresh_token", second.key))
    assert actor.rt.cipher.open(sealed, Place("grants", "refresh_token", first.key)) == first.account.refresh_token


async def test_a_real_arq_worker_runs_what_the_push_woke(actor: Actor) -> None:
    calendar = await actor.connected()
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    await actor.rt.queue.drain()
    stop, dispatcher = asyncio.Event(), Dispatcher(actor.rt)
    worker = make_worker(actor.rt, dispatcher, burst=True)
    await worker.async_run()  # the job has been taken before anybody looks
    await end(worker)
    running = asyncio.create_task(dispatcher.run(stop))
    await told(actor, calendar)
    stop.set()
    await running


async def test_the_dispatcher_alone_is_enough(actor: Actor) -> None:
    calendar = await actor.connected()
    stop = asyncio.Event()
    running = asyncio.create_task(Dispatcher(actor.rt).run(stop))
    actor.add_event(calendar)
    await told(actor, calendar)
    stop.set()
    await running


async def told(actor: Actor, calendar: Connected) -> None:
    """Until the API shows an event."""
    async with asyncio.timeout(60):
        while not await actor.events(calendar):
            await asyncio.sleep(0.05)


async def test_a_worker_that_stops_gives_its_claim_back(actor: Actor) -> None:
    calendar = await actor.connected()
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    gate = actor.sandbox.faults.gate(actor.operation("changes"))
    running = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    actor.sandbox.faults.clear()
    assert await actor.run(calendar) == "synced"
