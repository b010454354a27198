"""Hazards 29, 31 and 39 to 41: push channels are opened, renewed and lost without a gap or a doubled message."""

import asyncio
from datetime import timedelta

import pytest

from sandbox.microsoft.notifications import LifecycleEvent
from tests.harness import BOTH, Actor, Connected
from tests.integration.test_channels import requested

OUTLOOK = pytest.mark.parametrize("platform", ["microsoft"])
"""Marks what only Graph does."""

PAST_HALF_OF_A_LIFE = timedelta(days=3, hours=13)


def told(actor: Actor) -> list[tuple[str, list[str]]]:
    """What was announced: changes and their kinds, in order."""
    return [(entry["change"], entry["kinds"]) for entry in actor.entries()]


async def states(actor: Actor) -> list[str]:
    """The rows of push channels, oldest first."""
    async with actor.rt.db.reading() as tx:
        return [row.state for row in await tx.rows("SELECT state FROM push_channels ORDER BY created_at, id")]


@BOTH
async def test_hazard_29_watch_response_lost(actor: Actor) -> None:
    """The next attempt has an id of its own; in the end there is one channel, and each change is told once."""
    await actor.subscribe()
    calendar = await actor.connect()
    actor.sandbox.push.mode = "drop"
    actor.sandbox.faults.add("lost_answer", actor.operation("watch"))
    await actor.quiesce()
    (lost,) = actor.live()
    actor.advance(timedelta(minutes=5))
    await actor.quiesce()
    opened = [channel for channel in actor.live() if channel.id != lost.id]
    assert len(opened) == 1
    assert opened[0].channel_id != lost.channel_id
    actor.sandbox.push.mode = "deliver"

    # Google has both for now. The lost one names its resource with its first message, and is stopped for it.
    actor.add_event(calendar)
    await actor.quiesce()
    actor.advance(timedelta(minutes=5))
    await actor.quiesce()
    assert [channel.id for channel in actor.live()] == [opened[0].id]
    assert await states(actor) == (["closed", "active"] if actor.platform == "google" else ["retiring", "active"])
    await actor.assert_equal(calendar)
    assert told(actor) == [("created", [])]


@BOTH
async def test_hazard_31_channel_renewal_overlap(actor: Actor) -> None:
    """Google's old and new channel both tell of the change: one sync, one message. Graph's only gets a longer life."""
    await actor.subscribe()
    calendar = await actor.connected()
    (old,) = actor.live()
    actor.advance(PAST_HALF_OF_A_LIFE)
    await actor.quiesce()
    channels = 2 if actor.platform == "google" else 1
    assert old.id in {channel.id for channel in actor.live()}
    assert len(actor.live()) == channels
    heard, asked, pushed = len(actor.messages()), count(actor, "changes"), len(actor.sandbox.push.sent)
    actor.add_event(calendar)
    await actor.quiesce()
    assert len(actor.sandbox.push.sent) == pushed + channels
    assert count(actor, "changes") == asked + 1
    assert len(actor.messages()) == heard + 1
    actor.advance(timedelta(minutes=2))
    await actor.quiesce()
    (one,) = actor.live()
    assert one.expires_at > old.expires_at + timedelta(days=3)
    await actor.assert_equal(calendar)
    assert told(actor) == [("created", [])]


def count(actor: Actor, operation: str) -> int:
    """How often the provider was asked so far."""
    return actor.sandbox.requests.count(actor.operation(operation))


@OUTLOOK
async def test_hazard_39_duplicate_subscription(actor: Actor) -> None:
    """Our row is gone (a restored backup), Graph still has the subscription: 409, and it is replaced."""
    calendar = await actor.connected()
    (stale,) = actor.live()
    async with actor.rt.db.transaction() as tx:
        await tx.execute("DELETE FROM push_channels")
    await actor.quiesce()
    (fresh,) = actor.live()
    assert fresh.id != stale.id
    await still_hears(actor, calendar)


@OUTLOOK
async def test_hazard_39_forty_stale_subscriptions(actor: Actor) -> None:
    """Restored forty times: nothing piles up."""
    calendar = await actor.connected()
    for _ in range(40):
        async with actor.rt.db.transaction() as tx:
            await tx.execute("DELETE FROM push_channels")
        await actor.quiesce()
        assert len(actor.live()) == 1
    await still_hears(actor, calendar)


async def still_hears(actor: Actor, calendar: Connected) -> None:
    """One push for one change, and it counts."""
    await actor.subscribe()
    before = await requested(actor, calendar)
    actor.add_event(calendar, "Heard")
    await actor.quiesce()
    assert await requested(actor, calendar) == before + 1
    await actor.assert_equal(calendar)
    assert told(actor) == [("created", [])]


@OUTLOOK
async def test_hazard_40_subscription_gone_at_its_renewal(actor: Actor) -> None:
    """PATCH answers 404: a new subscription first, then a sync, so what happened until then is seen without a push."""
    await actor.subscribe()
    calendar = await actor.connected()
    (old,) = actor.live()
    actor.sandbox.push.subscriptions[old.id].removed = True
    actor.advance(PAST_HALF_OF_A_LIFE)
    gate = actor.sandbox.faults.gate(actor.operation("watch"))
    running = asyncio.create_task(actor.quiesce())
    await gate.reached()
    await in_silence(actor, calendar)
    asked = len(actor.sandbox.requests.seen)
    gate.release()
    await running
    await made_anew_then_caught_up(actor, calendar, asked=asked)
    assert "graph.calendarView" in [seen.operation for seen in actor.sandbox.requests.seen[asked:]]  # the whole window
    assert old.id not in {channel.id for channel in actor.live()}


@OUTLOOK
@pytest.mark.parametrize("event", ["missed", "subscriptionRemoved"])
async def test_hazard_40_lifecycle_notification(actor: Actor, event: LifecycleEvent) -> None:
    """`missed`: everything is looked at. `subscriptionRemoved`: that, and a new subscription."""
    await actor.subscribe()
    calendar = await actor.connected()
    (old,) = actor.live()
    await in_silence(actor, calendar)
    assert actor.sandbox.graph.notifier.lifecycle(old.id, event)
    asked = len(actor.sandbox.requests.seen)
    await actor.quiesce()
    (live,) = actor.live()
    assert (live.id == old.id) is (event == "missed")
    await (caught_up if event == "missed" else made_anew_then_caught_up)(actor, calendar, asked=asked)


async def in_silence(actor: Actor, calendar: Connected) -> None:
    """A change that nobody is told of."""
    actor.sandbox.push.mode = "drop"
    actor.add_event(calendar, "Unheard")
    actor.sandbox.push.mode = "deliver"


async def caught_up(actor: Actor, calendar: Connected, *, asked: int) -> None:
    """The silent change has arrived, from a look at the whole window."""
    assert "graph.calendarView" in [seen.operation for seen in actor.sandbox.requests.seen[asked:]]
    await actor.assert_equal(calendar)
    assert told(actor) == [("created", [])]


async def made_anew_then_caught_up(actor: Actor, calendar: Connected, *, asked: int) -> None:
    """The silent change has arrived, and the last look came after the new subscription."""
    operations = [seen.operation for seen in actor.sandbox.requests.seen[asked:]]
    made = operations.index("graph.subscriptions.create")
    assert "graph.delta" in operations[made:]
    assert len(actor.live()) == 1
    await actor.assert_equal(calendar)
    assert told(actor) == [("created", [])]


@BOTH
async def test_hazard_41_subscription_after_the_initial_sync(actor: Actor) -> None:
    """Full sync, then the channel, then one more look: what happened in between is told once, without any push."""
    await actor.subscribe()
    calendar = await actor.connect()
    gate = actor.sandbox.faults.gate(actor.operation("watch"))
    running = asyncio.create_task(actor.quiesce())
    await gate.reached()
    actor.sandbox.push.mode = "drop"
    actor.add_event(calendar, "In between")
    assert await actor.events(calendar) == []
    gate.release()
    await running
    await actor.assert_equal(calendar)
    assert [event["name"] for event in await actor.events(calendar)] == ["In between"]
    assert told(actor) == [("created", [])]
