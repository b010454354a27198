"""Push channels: opened after the first sync, shared, renewed with overlap, closed by the last one out."""

import asyncio
from datetime import timedelta

import pytest

from sandbox.google.channels import Channel
from tests.harness import Actor, Connected


def live(actor: Actor) -> list[Channel]:
    """What the provider would push to now."""
    now = actor.sandbox.world.clock.now()
    return [channel for channel in actor.sandbox.push.channels.values() if channel.is_live(now)]


async def test_a_change_between_listing_and_channel_is_not_missed(actor: Actor) -> None:
    """Hazard 41: every opening asks for one more sync."""
    calendar = await actor.connect()
    gate = actor.sandbox.faults.gate("events.watch")
    running = asyncio.create_task(actor.quiesce())
    await gate.reached()
    actor.sandbox.push.mode = "drop"
    actor.add_event(calendar, "In between")
    actor.sandbox.push.mode = "deliver"
    gate.release()
    await running
    assert [e["name"] for e in await actor.events(calendar)] == ["In between"]


async def test_one_calendar_connected_twice_shares_one_channel(actor: Actor) -> None:
    account = actor.new_account()
    first = await actor.connect(account)
    second = await actor.connect(account, platform_uuid=account.email)
    await actor.quiesce()
    (shared,) = live(actor)
    actor.add_event(first)
    await actor.quiesce()
    assert len(await actor.events(first)) == len(await actor.events(second)) == 1

    await actor.call("DELETE", f"/calendars/{first.id}", expect=204)
    await actor.quiesce()
    assert [channel.id for channel in live(actor)] == [shared.id]
    actor.add_event(second, "Still heard")
    await actor.quiesce()
    assert len(await actor.events(second)) == 2

    await actor.call("DELETE", f"/calendars/{second.id}", expect=204)
    await actor.quiesce()
    assert live(actor) == []


async def test_renewal_overlaps_and_doubles_nothing(actor: Actor) -> None:
    """Hazard 31: both channels deliver for a while, one message comes of it."""
    await actor.subscribe()
    calendar = await actor.connected()
    (old,) = live(actor)
    actor.advance(timedelta(days=3, hours=13))
    await actor.quiesce()
    assert {old.id} < {channel.id for channel in live(actor)}
    heard = len(actor.messages())
    actor.add_event(calendar)
    await actor.quiesce()
    assert len(actor.messages()) == heard + 1
    actor.advance(timedelta(minutes=2))
    await actor.quiesce()
    assert old.id not in {channel.id for channel in live(actor)}
    assert len(live(actor)) == 1


async def test_a_lost_watch_answer_leaves_a_channel_that_is_found_and_stopped(actor: Actor) -> None:
    """Hazard 29."""
    calendar = await actor.connect()
    actor.sandbox.faults.add("lost_answer", "events.watch")
    await actor.quiesce()
    # Its first notification told the resource id that the lost answer would have told: enough to stop it.
    assert len(actor.sandbox.push.channels) == 1
    assert live(actor) == []
    actor.advance(timedelta(minutes=5))
    await actor.quiesce()
    actor.add_event(calendar)
    await actor.quiesce()
    assert len(live(actor)) == 1
    assert len(await actor.events(calendar)) == 1
    async with actor.rt.db.reading() as tx:
        states = [row.state for row in await tx.rows("SELECT state FROM push_channels ORDER BY created_at")]
    assert states == ["closed", "active"]


async def test_the_first_notification_may_overtake_the_answer(actor: Actor) -> None:
    """Hazard 28."""
    actor.sandbox.faults.add("early_sync_message", "events.watch")
    await actor.connected()
    assert [status for _, status in actor.sandbox.push.sent] == [200]


async def test_a_calendar_that_cannot_be_watched_is_polled(actor: Actor) -> None:
    """Hazard 75: remembered, not asked again each minute."""
    calendar = await actor.connect()
    actor.sandbox.faults.add("push_not_supported", "events.watch", times=None)
    await actor.quiesce()
    actor.add_event(calendar)
    actor.advance(timedelta(minutes=30))
    await tick(actor)
    assert len(await actor.events(calendar)) == 1
    assert actor.sandbox.requests.count("events.watch") == 1
    assert (await actor.calendar(calendar))["health"]["push"]["active"] is False


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
    pytest.param({"X-Goog-Channel-Token": "guessed"}, id="wrong token"),
    pytest.param({"X-Goog-Channel-ID": "00000000-0000-4000-8000-000000000000"}, id="unknown channel"),
    pytest.param({"X-Goog-Channel-ID": "not a uuid"}, id="malformed channel"),
    pytest.param({"X-Goog-Channel-Token": ""}, id="no token"),
    pytest.param({"X-Goog-Channel-ID": "x" * 5_000}, id="very long"),
]


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_push_changes_nothing_and_tells_nothing(actor: Actor, forgery: dict[str, str]) -> None:
    calendar = await actor.connected()
    (channel,) = live(actor)
    true = {
        "X-Goog-Channel-ID": channel.id,
        "X-Goog-Channel-Token": channel.token or "",
        "X-Goog-Resource-ID": channel.resource_id,
        "X-Goog-Resource-State": "exists",
    }
    before = await requested(actor, calendar)
    answer = await actor.api.post("/push/google", headers=true | forgery)
    good = await actor.api.post("/push/google", headers={**true, "X-Goog-Resource-State": "sync"})
    assert (answer.status_code, answer.content) == (good.status_code, good.content) == (200, b"")
    assert await requested(actor, calendar) == before
    assert (await actor.api.post("/push/google", headers=true)).status_code == 200
    assert await requested(actor, calendar) == before + 1


async def requested(actor: Actor, calendar: Connected) -> int:
    """How many syncs were asked for so far."""
    async with actor.rt.db.reading() as tx:
        count: int = await tx.scalar("SELECT requested_seq FROM sync_state WHERE calendar_id = :c", {"c": calendar.key})
    return count
