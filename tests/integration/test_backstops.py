"""Where the backstops meet each other: renewals, quotas, health, incidents, doubt, and a process of another release."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from app import scheduling
from app.providers.items import read
from app.providers.limits import Limits
from app.sync import engine, health
from tests.harness import Actor, Connected
from workers import sweeps

MS = pytest.mark.parametrize("platform", ["microsoft"])


async def state(actor: Actor, calendar: Connected) -> Any:
    async with actor.rt.db.reading() as tx:
        return await tx.row(
            "SELECT *, extract(epoch FROM poll_due_at - app_now()) AS poll_in FROM sync_state WHERE calendar_id = :id",
            {"id": calendar.key},
        )


async def fail(actor: Actor, calendar: Connected, *, times: int = 1) -> None:
    for _ in range(times):
        actor.advance(timedelta(seconds=1000))
        await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
        await actor.quiesce()


@MS
async def test_a_renewal_that_works_ends_the_doubt(actor: Actor) -> None:
    calendar = await actor.connected()
    actor.sandbox.faults.add("unavailable", "graph.subscriptions.update")
    actor.advance(timedelta(days=3, hours=13))
    await actor.quiesce()
    actor.advance(timedelta(minutes=6))
    await actor.quiesce()
    row = await state(actor, calendar)
    (live,) = actor.live()
    assert live.expires_at > actor.now() + timedelta(days=6)
    assert row.watch_failure_count == 0


@MS
async def test_a_quota_is_no_failed_renewal(actor: Actor) -> None:
    calendar = await actor.connected()
    actor.sandbox.faults.add("too_many_requests", "graph.subscriptions.update", retry_after=30, times=None)
    actor.advance(timedelta(days=3, hours=13))
    for _ in range(8):
        await actor.quiesce()
        actor.advance(timedelta(minutes=6))
    row = await state(actor, calendar)
    assert row.watch_failure_count == 0


async def test_health_is_told_once_though_a_run_is_under_way(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.faults.add("unavailable", "events.list", times=None)
    await fail(actor, calendar, times=2)  # degraded, told
    async with actor.rt.db.transaction() as tx:  # as after three more quick backoffs
        await tx.execute("UPDATE sync_state SET failure_count = 5 WHERE calendar_id = :id", {"id": calendar.key})
    actor.advance(timedelta(seconds=1000))
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    actor.sandbox.faults.clear()
    actor.sandbox.faults.add("lost_answer", "events.list", times=None)
    gate = actor.sandbox.faults.gate("events.list")
    run = asyncio.create_task(engine.sync_calendar(actor.rt, calendar.key))
    await gate.reached(seconds=5)
    await health.tell_due(actor.rt)
    gate.release()
    await run
    await actor.quiesce()
    told = [(m.body["data"]["from"], m.body["data"]["to"]) for m in actor.messages("calendar.health_change")]
    assert told == [("healthy", "degraded"), ("degraded", "failing")]


async def test_nobody_is_told_healthy_who_is_not(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.faults.add("unavailable", "events.list", times=6)
    await fail(actor, calendar, times=6)
    world = actor.sandbox.world
    world.set_client_secret(calendar.account.client_id, "another")
    world.expire_access_tokens()
    await fail(actor, calendar)
    shown = (await actor.calendar(calendar))["health"]
    told = [m.body["data"] for m in actor.messages("calendar.health_change")]
    assert shown["status"] == "failing"
    assert told[-1]["to"] == "failing"


@MS
async def test_one_tenant_is_no_incident_of_the_app(actor: Actor) -> None:
    """AADSTS500014: one tenant's admin switched the service principal off; the others refresh well."""
    await actor.subscribe()
    one, other = await actor.connected(), await actor.connected()
    for _ in range(4):
        actor.sandbox.world.expire_access_tokens()
        async with actor.rt.db.transaction() as tx:
            await tx.execute("UPDATE grants SET access_token_expires_at = app_now()")
        actor.sandbox.faults.clear()
        actor.sandbox.faults.add("oauth_error", None, status=400, error="invalid_resource", times=1)
        actor.advance(timedelta(seconds=1000))
        await actor.call("POST", f"/calendars/{one.id}/sync", expect=202)
        await engine.sync_calendar(actor.rt, one.key)
        actor.sandbox.faults.clear()
        await actor.call("POST", f"/calendars/{other.id}/sync", expect=202)
        await engine.sync_calendar(actor.rt, other.key)
    await actor.quiesce()
    assert len(actor.messages("oauth_app.failing")) <= 1


async def test_new_metadata_does_not_shorten_the_minute(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    events = [actor.add_event(calendar, f"Event {n}", hours=24 + n) for n in range(30)]
    await actor.quiesce()
    actor.sandbox.push.mode = "drop"
    for event in events[:20]:
        actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    actor.sandbox.world.expire_sync_tokens(calendar.remote_id)
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()
    assert len(await actor.events(calendar)) == 30
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"metadata": {"tenant": "1"}})
    await actor.quiesce()
    assert len(await actor.events(calendar)) == 30


async def test_an_old_process_can_still_connect(actor: Actor) -> None:
    """What the release before this one does in POST /calendars, on the new schema."""
    calendar = await actor.connected()
    async with actor.rt.db.transaction() as tx:
        await tx.execute("DELETE FROM sync_state WHERE calendar_id = :id", {"id": calendar.key})
        await tx.execute(
            "INSERT INTO sync_state (calendar_id, requested_seq, full_requested_seq, due_at)"
            " VALUES (:id, 1, 1, app_now())",
            {"id": calendar.key},
        )


def test_an_odd_item_is_only_odd() -> None:
    item: Any = {"id": "a", "summary": "\ud800"}
    inner: Any = "x"
    for _ in range(700):
        inner = [inner]
    item["deep"] = inner
    read(item)


async def test_a_provider_that_hangs_keeps_no_health_from_being_told(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.faults.add("unavailable", "events.list", times=2)
    await fail(actor, calendar, times=2)
    actor.advance(timedelta(seconds=20))
    await actor.quiesce()  # healthy again, too early to tell
    actor.advance(timedelta(seconds=41))
    other = await actor.connect()
    gate = actor.sandbox.faults.gate("events.watch")
    first = asyncio.create_task(sweeps_run(actor, other))
    await gate.reached()
    stop = asyncio.Event()
    async with actor.rt.db.transaction() as tx:  # as if its first opener had died
        await tx.execute("DELETE FROM push_channels WHERE state = 'creating'")
    loops = [asyncio.create_task(loop(actor.rt, stop)) for loop in (sweeps.channels_loop, sweeps.clock_loop)]
    for _ in range(600):
        await asyncio.sleep(0.05)
        if gate.waiting > 1 and (await state(actor, calendar)).health_status == "healthy":
            break
    waiting, status = gate.waiting, (await state(actor, calendar)).health_status
    stop.set()
    gate.release()
    await asyncio.gather(first, *loops)
    assert (waiting > 1, status) == (True, "healthy")


async def sweeps_run(actor: Actor, calendar: Connected) -> None:
    await actor.run(calendar)


async def test_the_quarter_of_an_hour_is_not_begun_again_by_a_refusal(actor: Actor) -> None:
    """What the clock asked for and a quota refused keeps its age."""
    calendar, other = await actor.connected(), await actor.connected()
    async with actor.rt.db.transaction() as tx:
        await tx.execute(
            "UPDATE sync_state SET requested_seq = synced_seq + 1, due_at = app_now() - interval '10 minutes'"
            " WHERE calendar_id = :id",
            {"id": calendar.key},
        )
    limits = Limits(actor.rt.settings, actor.rt.queue.redis)
    await limits.defer(
        platform="google", client_id=calendar.account.client_id, user_key="anybody", scope="app", seconds=60
    )
    assert (await engine.sync_calendar(actor.rt, calendar.key)).result == "failed"
    actor.advance(timedelta(minutes=10))
    await actor.call("POST", f"/calendars/{other.id}/sync", expect=202)
    due = list(await scheduling.due_calendars(actor.rt, most=10))
    assert due == [calendar.key, other.key]
