"""Many calendars due at once: nobody starves, nobody storms, and what is asked for goes first."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from uuid import UUID

import pytest

from app import scheduling
from tests.harness import BOTH, Actor, Connected
from workers.dispatch import Dispatcher


@asynccontextmanager
async def dispatching(actor: Actor) -> AsyncIterator[None]:
    """A worker that starts what is due."""
    stop = asyncio.Event()
    running = asyncio.create_task(Dispatcher(actor.rt).run(stop))
    try:
        async with asyncio.timeout(120):
            yield
    finally:
        stop.set()
        await running


async def is_synced(actor: Actor, calendar: Connected) -> bool:
    return (await actor.calendar(calendar))["last_successful_sync_at"] is not None


async def until_synced(actor: Actor, *calendars: Connected) -> None:
    for calendar in calendars:
        while not await is_synced(actor, calendar):
            await asyncio.sleep(0.02)


async def connect_many(actor: Actor, count: int, *, client: str) -> list[Connected]:
    """Calendars of as many users, all of one OAuth app."""
    made = []
    for number in range(count):
        email = f"{client}{number}@example.com"
        account = actor.sandbox.world.add_account(email, provider=actor.platform, client_id=client)
        made.append(await actor.connect(account))
    return made


def keys(calendars: list[Connected]) -> set[UUID]:
    return {calendar.key for calendar in calendars}


@BOTH
async def test_hazard_72_apps_take_turns(actor: Actor) -> None:
    many = await connect_many(actor, 20, client="many")
    few = await connect_many(actor, 2, client="few")
    turn = list(await scheduling.due_calendars(actor.rt, most=4))
    assert Counter(key in keys(many) for key in turn) == {True: 2, False: 2}
    assert keys(few) <= set(turn)
    assert len(await scheduling.due_calendars(actor.rt, most=100)) == 22


@BOTH
async def test_hazard_72_what_is_asked_for_goes_before_the_backstop(actor: Actor) -> None:
    calendars = await connect_many(actor, 12, client="one")
    await actor.quiesce()
    actor.advance(timedelta(hours=9))  # every audit is due
    assert await scheduling.sweep(actor.rt) == 12
    actor.advance(timedelta(seconds=5))
    actor.add_event(calendars[7])
    await actor.sandbox.push.idle()
    assert next(iter(await scheduling.due_calendars(actor.rt, most=5))) == calendars[7].key
    actor.advance(timedelta(minutes=16))  # what has waited for so long waits no longer
    first = next(iter(await scheduling.due_calendars(actor.rt, most=5)))
    assert first != calendars[7].key


@pytest.mark.parametrize("overrides", [{"sync_concurrency": 4}])
async def test_hazard_72_an_app_that_gets_no_answers_leaves_places_to_others(actor: Actor) -> None:
    hanging = await connect_many(actor, 8, client="hanging")
    actor.sandbox.faults.gate("events.list")
    async with dispatching(actor):
        while len(await leased(actor)) < 3:
            await asyncio.sleep(0.02)
        account = actor.sandbox.world.add_account("at@contoso.example", provider="microsoft")
        other = await actor.connect(account)
        await until_synced(actor, other)
        assert len(await leased(actor)) == 3  # three quarters of the places
        assert await leased(actor) < keys(hanging)
        actor.sandbox.faults.clear()
        await until_synced(actor, *hanging)


async def leased(actor: Actor) -> set[UUID]:
    """Calendars that are being synced."""
    async with actor.rt.db.reading() as tx:
        rows = await tx.rows("SELECT calendar_id FROM sync_state WHERE lease_until > clock_timestamp()")
        return {row.calendar_id for row in rows}


@BOTH
@pytest.mark.parametrize(
    "overrides", [{"google_user_quota_per_minute": 30, "microsoft_mailbox_quota_per_minute": 30, "sync_concurrency": 4}]
)
async def test_hazard_73_one_user_with_many_calendars_keeps_nobody_waiting(actor: Actor) -> None:
    account = actor.new_account()
    names = [actor.sandbox.world.add_calendar(account, f"Calendar {n}", "Europe/Berlin").id for n in range(20)]
    first = await actor.connected(account)  # from here on the account is known
    greedy = [await actor.connect(account, platform_uuid=name) for name in names]
    other = await actor.connect()
    async with dispatching(actor):
        await until_synced(actor, other)
    assert await is_synced(actor, first)
    waiting = [calendar for calendar in greedy if not await is_synced(actor, calendar)]
    assert waiting
    for calendar in waiting:
        health = (await actor.calendar(calendar))["health"]
        assert health["status"] == "healthy"  # our own patience is no failure of theirs


@BOTH
async def test_hazard_74_nobody_comes_back_together(actor: Actor) -> None:
    calendars = await connect_many(actor, 16, client="one")
    await actor.quiesce()
    actor.sandbox.faults.add("unavailable", actor.operation("changes"), times=None)
    for number in range(4):
        waits = []
        for calendar in calendars:
            await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
            began = actor.rt.clock.now()
            await actor.run(calendar)
            async with actor.rt.db.reading() as tx:
                at = await tx.scalar("SELECT not_before FROM sync_state WHERE calendar_id = :id", {"id": calendar.key})
            waits.append((at - began).total_seconds())
        waits.sort()
        most = 5 * 2**number
        assert waits[0] > 0
        assert waits[-1] <= most + 5  # and what the run itself took
        assert waits[-1] - waits[0] > most / 8
        assert all(later > sooner for sooner, later in pairwise(waits))
        actor.advance(timedelta(seconds=60))


@BOTH
async def test_hazard_74_a_users_retry_after_holds_for_all_their_calendars(actor: Actor) -> None:
    account = actor.new_account()
    other = actor.sandbox.world.add_calendar(account, "Other", "Europe/Berlin")
    calendars = [await actor.connected(account), await actor.connected(account, platform_uuid=other.id)]
    operation = actor.operation("changes")
    actor.sandbox.faults.add("too_many_requests", operation, retry_after=120)
    before = actor.sandbox.requests.count(operation)
    for calendar in calendars:
        await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
        await actor.run(calendar)
    assert actor.sandbox.requests.count(operation) == before + 1
