"""Hazards 30, 33, 35 to 38 and 42: inbound pushes, judged by their secret, durable at once, and never the only way."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from app.notifications import PUSH_SECONDS
from tests.harness import BOTH, Actor, Connected, LiveChannel
from tests.integration.test_channels import requested, tick

OUTLOOK = pytest.mark.parametrize("platform", ["microsoft"])
"""Marks what only Graph does."""


def told(actor: Actor) -> list[tuple[str, list[str]]]:
    """What was announced: changes and their kinds, in order."""
    return [(entry["change"], entry["kinds"]) for entry in actor.entries()]


async def names(actor: Actor, calendar: Connected) -> list[str]:
    """The live events, by name."""
    return sorted(event["name"] for event in await actor.events(calendar))


# --- 30: a push that is none of ours any more ---


async def starts_nothing(actor: Actor, calendar: Connected, channel: LiveChannel) -> None:
    """A burst on this channel is acknowledged like any other, and nothing is asked for, queued or called."""
    before, asked = await requested(actor, calendar), len(actor.sandbox.requests.seen)
    answers = await asyncio.gather(*(actor.push(channel) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200 if actor.platform == "google" else 202}
    assert {answer.content for answer in answers} == {b""}
    assert await requested(actor, calendar) == before
    assert await actor.rt.queue.redis.zcard("arq:queue") == 0
    await actor.quiesce()
    assert len(actor.sandbox.requests.seen) == asked


@BOTH
@pytest.mark.parametrize(
    "forgery",
    [
        pytest.param({"channel_id": "00000000-0000-4000-8000-000000000000"}, id="unknown channel"),
        pytest.param({"token": "guessed"}, id="known channel, wrong secret"),
        pytest.param({"token": ""}, id="known channel, no secret"),
    ],
)
async def test_hazard_30_notification_for_an_unknown_channel(actor: Actor, forgery: dict[str, Any]) -> None:
    calendar = await actor.connected()
    (channel,) = actor.live()
    await actor.rt.queue.drain()
    await starts_nothing(actor, calendar, replace(channel, **forgery))
    before = await requested(actor, calendar)
    await actor.push(channel)  # the same push with the right id and secret does count
    assert await requested(actor, calendar) == before + 1


@BOTH
async def test_hazard_30_notification_for_a_stopped_channel(actor: Actor) -> None:
    calendar = await actor.connected()
    (old,) = actor.live()
    if actor.platform == "google":  # replaced, and stopped a minute later
        actor.advance(timedelta(days=3, hours=13))
        await actor.quiesce()
        actor.advance(timedelta(minutes=2))
    else:
        assert actor.sandbox.graph.notifier.lifecycle(old.id, "subscriptionRemoved")
    await actor.quiesce()
    assert old.id not in {channel.id for channel in actor.live()}
    await starts_nothing(actor, calendar, old)


@BOTH
async def test_hazard_30_notification_for_an_expired_channel(actor: Actor) -> None:
    calendar = await actor.connected()
    (old,) = actor.live()
    for operation in ("renew", "watch"):
        actor.sandbox.faults.add("unavailable", actor.operation(operation), times=None)
    actor.advance(timedelta(days=8))
    await actor.quiesce()
    assert actor.live() == []
    await starts_nothing(actor, calendar, old)


@BOTH
async def test_hazard_30_notification_for_a_deleted_calendar(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    (channel,) = actor.live()
    heard = len(actor.messages())
    await actor.call("DELETE", f"/calendars/{calendar.id}", expect=204)
    await actor.quiesce()
    asked = len(actor.sandbox.requests.seen)
    assert (await actor.push(channel)).is_success
    await actor.quiesce()
    assert len(actor.sandbox.requests.seen) == asked
    assert len(actor.messages()) == heard


# --- 33, 36: pushes and runs ---


@BOTH
async def test_hazard_33_notification_during_a_running_sync(actor: Actor) -> None:
    """The pages were read before the change: another run follows, without another push."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.add_event(calendar, "Before")
    await actor.sandbox.push.idle()
    gate = actor.sandbox.faults.gate(actor.operation("changes"))
    running = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    actor.add_event(calendar, "During")
    await actor.sandbox.push.idle()
    actor.sandbox.push.mode = "drop"
    actor.sandbox.faults.gates.clear()
    gate.release()
    assert await running == "synced"
    assert await names(actor, calendar) == ["Before"]
    await actor.quiesce()
    assert await names(actor, calendar) == ["Before", "During"]
    await actor.assert_equal(calendar)
    assert told(actor) == [("created", []), ("created", [])]


@BOTH
async def test_hazard_36_duplicate_burst_of_forty(actor: Actor) -> None:
    """Forty pushes while a run is on: that one, one more, and no third."""
    await actor.subscribe()
    calendar = await actor.connected()
    (channel,) = actor.live()
    heard = len(actor.messages())
    asked = actor.sandbox.requests.count(actor.operation("changes"))
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    gate = actor.sandbox.faults.gate(actor.operation("changes"))
    running = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    answers = await asyncio.gather(*(actor.push(channel) for _ in range(40)))
    assert all(answer.is_success for answer in answers)
    assert {await actor.run(calendar) for _ in range(5)} == {"idle"}
    assert gate.waiting == 1
    actor.sandbox.faults.gates.clear()
    gate.release()
    assert await running == "synced"
    await actor.quiesce()
    assert actor.sandbox.requests.count(actor.operation("changes")) == asked + 2
    assert len(actor.messages()) == heard + 1
    await actor.assert_equal(calendar)
    assert told(actor) == [("created", [])]


# --- 35: silence ---

LONGEST_JITTER = 1.25


@BOTH
async def test_hazard_35_notification_lost(actor: Actor) -> None:
    """A live channel that says nothing: the audit comes within its interval and a quarter."""
    await actor.subscribe()
    calendar = await actor.connected()
    await unheard(actor, calendar, within=actor.rt.settings.audit_interval_seconds)


@BOTH
async def test_hazard_35_no_channel_at_all(actor: Actor) -> None:
    """Without a channel the poll comes within its interval and a quarter."""
    await actor.subscribe()
    calendar = await actor.connect()
    actor.sandbox.faults.add("push_not_supported", actor.operation("watch"), times=None)
    await actor.quiesce()
    await unheard(actor, calendar, within=actor.rt.settings.poll_interval_seconds)


async def unheard(actor: Actor, calendar: Connected, *, within: float) -> None:
    """A change that nobody is told of is there once this many seconds, and a quarter, have passed; told once."""
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE sync_state SET anchor_due_at = app_now() + interval '1 day'")  # it would look, too
    actor.sandbox.push.mode = "drop"
    actor.add_event(calendar, "Unheard")
    await tick(actor)
    assert await actor.events(calendar) == []
    actor.advance(timedelta(seconds=within * LONGEST_JITTER + 1))
    await tick(actor)
    await actor.assert_equal(calendar)
    assert await names(actor, calendar) == ["Unheard"]
    assert told(actor) == [("created", [])]


# --- 37, 38: what Graph sends ---


@OUTLOOK
async def test_hazard_37_batch_with_a_forged_item(actor: Actor) -> None:
    """One POST for two calendars, one item of it with a clientState that nobody chose: the other one counts."""
    await actor.subscribe()
    first, second = await actor.connected(), await actor.connected()
    before = [await requested(actor, calendar) for calendar in (first, second)]
    posts = len(actor.sandbox.push.sent)
    channel = next(channel for channel in actor.live() if channel.calendar_id == first.remote_id)
    actor.sandbox.faults.add(
        "wrong_client_state",
        "graph.notification",
        calendar=first.remote_id,
        client_state=f"{channel.channel_id}.guessed",
    )
    actor.add_event(first, "Forged")
    actor.add_event(second, "Honest")
    await actor.sandbox.push.idle()
    assert [status for _, status in actor.sandbox.push.sent[posts:]] == [202]
    assert [await requested(actor, calendar) for calendar in (first, second)] == [before[0], before[1] + 1]
    await actor.quiesce()
    assert await actor.events(first) == []
    await actor.assert_equal(second)
    assert told(actor) == [("created", [])]

    # Nothing is lost by it: what really changed there comes with the audit.
    actor.advance(timedelta(hours=8))
    await tick(actor)
    await actor.assert_equal(first)
    assert len(told(actor)) == 2


@OUTLOOK
async def test_hazard_38_validation_handshake_while_everything_is_busy(actor: Actor, redis_url: str) -> None:
    """A run hangs at the provider, the database is locked, Redis is empty: the token goes back, decoded, as text."""
    calendar = await actor.connected()
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    gate = actor.sandbox.faults.gate(actor.operation("changes"))
    running = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    token = "Validation: Testing client application <reachability> & more"
    async with Redis.from_url(redis_url) as redis:
        await redis.flushdb()
    async with actor.rt.db.transaction() as tx:
        await tx.execute("LOCK TABLE push_channels, sync_state, calendars IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(20):
            answer = await actor.api.post("/push/microsoft", params={"validationToken": token})
    assert (answer.status_code, answer.text) == (200, token)
    assert answer.headers["content-type"].startswith("text/plain")
    gate.release()
    assert await running == "synced"


@OUTLOOK
async def test_hazard_38_validation_handshake_inside_our_own_request(actor: Actor) -> None:
    """Graph asks while our POST waits for its answer; ours is given before that one comes."""
    await actor.connect()
    actor.sandbox.faults.add("slow_validation", "graph.subscriptions.create", seconds=0.2)
    await actor.quiesce()
    assert len(actor.live()) == 1
    assert "graph.subscriptions.create" in [s.operation for s in actor.sandbox.requests.seen if s.status == 201]


# --- 42: how fast ---


@BOTH
async def test_hazard_42_answers_while_every_run_hangs(actor: Actor) -> None:
    """The handler only notes: its answers do not wait for the provider, nor for the runs that they ask for."""
    await actor.subscribe()
    calendar = await actor.connected()
    (channel,) = actor.live()
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    gate = actor.sandbox.faults.gate(actor.operation("changes"))
    running = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    answers = await asyncio.gather(*(actor.push(channel) for _ in range(200)))
    assert all(answer.is_success for answer in answers)
    assert gate.waiting == 1  # all are answered, and it hangs as before
    gate.release()
    assert await running == "synced"
    await actor.quiesce()
    await actor.assert_equal(calendar)
    assert told(actor) == [("created", [])]


@OUTLOOK
async def test_hazard_42_slow_receiver(actor: Actor) -> None:
    """A database that cannot take a push in time costs a 503 of our own, well before Graph calls the receiver slow."""
    await actor.subscribe()
    calendar = await actor.connected()
    (channel,) = actor.live()
    receivers = actor.sandbox.graph.notifier.receivers
    assert receivers.slow_seconds > 2 * PUSH_SECONDS
    host = urlsplit(actor.rt.settings.public_url or "").netloc
    async with actor.rt.db.transaction() as tx:
        await tx.row("SELECT 1 FROM sync_state WHERE calendar_id = :c FOR UPDATE", {"c": calendar.key})
        assert (await actor.push(channel, is_patient=False)).status_code == 503  # while it is locked
        actor.add_event(calendar)
        async with asyncio.timeout(20):
            while not receivers.seen.get(host):
                await asyncio.sleep(0.01)
    await actor.sandbox.push.idle()
    assert [status for _, status in actor.sandbox.push.sent][-1] == 202
    assert len(receivers.seen[host]) >= 2
    await actor.quiesce()
    await actor.assert_equal(calendar)
    assert told(actor) == [("created", [])]
