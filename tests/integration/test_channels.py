"""Push channels: opened after the first sync, shared, renewed with overlap, closed by the last one out."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.harness import BOTH, Actor, Connected


@BOTH
async def test_a_change_between_listing_and_channel_is_not_missed(actor: Actor) -> None:
    """Hazard 41: every opening asks for one more sync."""
    calendar = await actor.connect()
    gate = actor.sandbox.faults.gate(actor.operation("watch"))
    running = asyncio.create_task(actor.quiesce())
    await gate.reached()
    actor.sandbox.push.mode = "drop"
    actor.add_event(calendar, "In between")
    actor.sandbox.push.mode = "deliver"
    gate.release()
    await running
    assert [e["name"] for e in await actor.events(calendar)] == ["In between"]


@BOTH
async def test_one_calendar_connected_twice_shares_one_channel(actor: Actor) -> None:
    account = actor.new_account()
    first = await actor.connect(account)
    second = await actor.connect(account, platform_uuid=account.calendar_id)
    await actor.quiesce()
    (shared,) = actor.live()
    actor.add_event(first)
    await actor.quiesce()
    assert len(await actor.events(first)) == len(await actor.events(second)) == 1

    await actor.call("DELETE", f"/calendars/{first.id}", expect=204)
    await actor.quiesce()
    assert [channel.id for channel in actor.live()] == [shared.id]
    actor.add_event(second, "Still heard")
    await actor.quiesce()
    assert len(await actor.events(second)) == 2

    await actor.call("DELETE", f"/calendars/{second.id}", expect=204)
    await actor.quiesce()
    assert actor.live() == []


async def test_renewal_overlaps_and_doubles_nothing(actor: Actor) -> None:
    """Hazard 31: both channels deliver for a while, one message comes of it."""
    await actor.subscribe()
    calendar = await actor.connected()
    (old,) = actor.live()
    actor.advance(timedelta(days=3, hours=13))
    await actor.quiesce()
    assert {old.id} < {channel.id for channel in actor.live()}
    heard = len(actor.messages())
    actor.add_event(calendar)
    await actor.quiesce()
    assert len(actor.messages()) == heard + 1
    actor.advance(timedelta(minutes=2))
    await actor.quiesce()
    assert old.id not in {channel.id for channel in actor.live()}
    assert len(actor.live()) == 1


async def test_a_lost_watch_answer_leaves_a_channel_that_is_found_and_stopped(actor: Actor) -> None:
    """Hazard 29."""
    calendar = await actor.connect()
    actor.sandbox.faults.add("lost_answer", actor.operation("watch"))
    await actor.quiesce()
    # Its first notification told the resource id that the lost answer would have told: enough to stop it.
    assert len(actor.sandbox.push.channels) == 1
    assert actor.live() == []
    actor.advance(timedelta(minutes=5))
    await actor.quiesce()
    actor.add_event(calendar)
    await actor.quiesce()
    assert len(actor.live()) == 1
    assert len(await actor.events(calendar)) == 1
    async with actor.rt.db.reading() as tx:
        states = [row.state for row in await tx.rows("SELECT state FROM push_channels ORDER BY created_at")]
    assert states == ["closed", "active"]


async def test_the_first_notification_may_overtake_the_answer(actor: Actor) -> None:
    """Hazard 28."""
    actor.sandbox.faults.add("early_sync_message", actor.operation("watch"))
    await actor.connected()
    assert [status for _, status in actor.sandbox.push.sent] == [200]


async def test_a_calendar_that_cannot_be_watched_is_polled(actor: Actor) -> None:
    """Hazard 75: remembered, not asked again each minute."""
    calendar = await actor.connect()
    actor.sandbox.faults.add("push_not_supported", actor.operation("watch"), times=None)
    await actor.quiesce()
    actor.add_event(calendar)
    actor.advance(timedelta(minutes=30))
    await tick(actor)
    assert len(await actor.events(calendar)) == 1
    assert actor.sandbox.requests.count(actor.operation("watch")) == 1
    assert (await actor.calendar(calendar))["health"]["push"]["active"] is False


@BOTH
async def test_a_lost_push_is_caught_by_the_audit(actor: Actor) -> None:
    """Hazard 35."""
    calendar = await actor.connected()
    actor.sandbox.push.mode = "drop"
    actor.add_event(calendar)
    await actor.quiesce()
    assert await actor.events(calendar) == []
    actor.advance(timedelta(hours=8))
    await tick(actor)
    assert len(await actor.events(calendar)) == 1


async def tick(actor: Actor) -> None:
    """What the worker does each second."""
    from app import scheduling  # noqa: PLC0415 - the loop's own call

    await scheduling.sweep(actor.rt)
    await actor.quiesce()


FORGERIES = [
    pytest.param({"token": "guessed"}, id="wrong token"),
    pytest.param({"channel_id": "00000000-0000-4000-8000-000000000000"}, id="unknown channel"),
    pytest.param({"channel_id": "not a uuid"}, id="malformed channel"),
    pytest.param({"token": ""}, id="no token"),
    pytest.param({"channel_id": "x" * 5_000}, id="very long"),
]


@BOTH
@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_push_changes_nothing_and_tells_nothing(actor: Actor, forgery: dict[str, Any]) -> None:
    calendar = await actor.connected()
    (channel,) = actor.live()
    before = await requested(actor, calendar)
    answer = await actor.push(replace(channel, **forgery))
    good = await actor.push(channel, is_change=False)
    assert (answer.status_code, answer.content) == (good.status_code, good.content)
    assert (good.is_success, good.content) == (True, b"")
    assert await requested(actor, calendar) == before
    assert (await actor.push(channel)).is_success
    assert await requested(actor, calendar) == before + 1


async def requested(actor: Actor, calendar: Connected) -> int:
    """How many syncs were asked for so far."""
    async with actor.rt.db.reading() as tx:
        count: int = await tx.scalar("SELECT requested_seq FROM sync_state WHERE calendar_id = :c", {"c": calendar.key})
    return count
