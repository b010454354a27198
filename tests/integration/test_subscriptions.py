"""Graph subscriptions: the handshake, batches, renewal in place, lifecycle notifications, and what is left over."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.providers.base import Platform
from sandbox.microsoft.notifications import LifecycleEvent
from tests.harness import Actor
from tests.integration.test_channels import requested, tick


@pytest.fixture
def platform() -> Platform:
    """Outlook's calendars."""
    return "microsoft"


async def test_the_handshake_is_answered_in_text_and_never_more(actor: Actor) -> None:
    token = "Validation: Testing <b>client</b> & application reachability for subscription Request-Id: 1"
    answer = await actor.api.post("/push/microsoft", params={"validationToken": token})
    assert (answer.status_code, answer.text) == (200, token)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"
    endless = await actor.api.post("/push/microsoft", params={"validationToken": "x" * 5_000})
    assert (endless.status_code, endless.json()["code"]) == (400, "malformed")


async def test_the_handshake_needs_no_database(actor: Actor) -> None:
    """Hazard 38: answered in time even when everything else is busy or away."""
    async with actor.rt.db.transaction() as tx:
        await tx.execute("LOCK TABLE push_channels, sync_state, calendars IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(60):
            answer = await actor.api.post("/push/microsoft", params={"validationToken": "t"})
    assert answer.text == "t"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"value": 7}', b'{"value": [', b"\xff"])
async def test_what_cannot_be_read_is_refused(actor: Actor, body: bytes) -> None:
    answer = await actor.api.post("/push/microsoft", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


async def test_a_body_beyond_the_limit_is_refused(actor: Actor) -> None:
    answer = await actor.api.post("/push/microsoft", content=b" " * (1024 * 1024 + 1))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "item",
    [None, 7, {}, {"subscriptionId": "x"}, {"clientState": "a.b"}, {"subscriptionId": "x", "clientState": "\u2603.x"}],
)
async def test_an_item_that_is_none_of_ours_voids_no_other(actor: Actor, item: object) -> None:
    calendar = await actor.connected()
    (channel,) = actor.live()
    good = {"subscriptionId": channel.id, "clientState": f"{channel.channel_id}.{channel.token}"}
    before = await requested(actor, calendar)
    answer = await actor.api.post("/push/microsoft", json={"value": [item, good]})
    assert answer.status_code == 202
    assert await requested(actor, calendar) == before + 1


async def test_a_batch_is_judged_item_by_item(actor: Actor) -> None:
    """Hazard 37: one forged item, one of another subscription."""
    first, second = await actor.connected(), await actor.connected()
    channels = {channel.calendar_id: channel for channel in actor.live()}
    forged = replace(channels[first.remote_id], token="guessed")
    before = [await requested(actor, calendar) for calendar in (first, second)]
    items = [
        {"subscriptionId": c.id, "clientState": f"{c.channel_id}.{c.token}", "changeType": "updated"}
        for c in (forged, channels[second.remote_id])
    ]
    assert (await actor.api.post("/push/microsoft", json={"value": items})).status_code == 202
    after = [await requested(actor, calendar) for calendar in (first, second)]
    assert after == [before[0], before[1] + 1]


async def test_renewal_keeps_the_subscription(actor: Actor) -> None:
    """Half of its life is over: it is given more, so nothing overlaps and nothing is doubled."""
    await actor.subscribe()
    calendar = await actor.connected()
    (old,) = actor.live()
    actor.advance(timedelta(days=3, hours=13))
    await actor.quiesce()
    (renewed,) = actor.live()
    assert renewed.id == old.id
    assert renewed.expires_at > old.expires_at + timedelta(days=3)
    actor.add_event(calendar)
    await actor.quiesce()
    assert len(await actor.events(calendar)) == 1


async def test_a_subscription_that_is_gone_at_its_renewal_is_made_anew_and_caught_up(actor: Actor) -> None:
    """Hazard 40."""
    calendar = await actor.connected()
    (old,) = actor.live()
    actor.sandbox.push.subscriptions[old.id].removed = True
    actor.add_event(calendar, "Unheard", hours=24 * 5)
    actor.advance(timedelta(days=3, hours=13))
    await actor.quiesce()
    (new,) = actor.live()
    assert new.id != old.id
    assert [e["name"] for e in await actor.events(calendar)] == ["Unheard"]


@pytest.mark.parametrize("event", ["missed", "subscriptionRemoved"])
async def test_lifecycle_notifications_bring_a_catch_up(actor: Actor, event: LifecycleEvent) -> None:
    calendar = await actor.connected()
    (old,) = actor.live()
    actor.sandbox.push.mode = "drop"
    actor.add_event(calendar, "Unheard")
    actor.sandbox.push.mode = "deliver"
    assert actor.sandbox.graph.notifier.lifecycle(old.id, event)
    await actor.quiesce()
    assert [e["name"] for e in await actor.events(calendar)] == ["Unheard"]
    (new,) = actor.live()
    assert (new.id == old.id) is (event == "missed")


async def test_a_subscription_asks_for_its_authorisation(actor: Actor) -> None:
    await actor.connected()
    (old,) = actor.live()
    actor.advance(timedelta(hours=2))
    assert actor.sandbox.graph.notifier.lifecycle(old.id, "reauthorizationRequired")
    await actor.quiesce()
    (renewed,) = actor.live()
    assert (renewed.id, renewed.expires_at > old.expires_at) == (old.id, True)


async def test_an_answer_that_was_lost_leaves_one_subscription(actor: Actor) -> None:
    """Hazards 29 and 39: the next attempt is told that there is one; its secret is known to nobody, so it goes."""
    calendar = await actor.connect()
    actor.sandbox.faults.add("lost_answer", "graph.subscriptions.create")
    await actor.quiesce()
    assert len(actor.live()) == 1
    actor.advance(timedelta(minutes=5))
    await actor.quiesce()
    assert len(actor.live()) == 1
    actor.add_event(calendar)
    await actor.quiesce()
    assert len(await actor.events(calendar)) == 1


@pytest.mark.parametrize("kind", ["duplicate_subscription", "endpoint_unreachable", "forbidden"])
async def test_a_calendar_that_gets_no_subscription_is_polled(actor: Actor, kind: str) -> None:
    calendar = await actor.connect()
    actor.sandbox.faults.add(kind, "graph.subscriptions.create", times=None)
    await actor.quiesce()
    actor.add_event(calendar)
    actor.advance(timedelta(minutes=30))
    await tick(actor)
    assert len(await actor.events(calendar)) == 1
    assert (await actor.calendar(calendar))["state"] == "connected"
    assert (await actor.calendar(calendar))["health"]["push"]["active"] is False


async def test_a_notification_for_a_deleted_calendar_starts_nothing(actor: Actor) -> None:
    """Hazard 30."""
    calendar = await actor.connected()
    (channel,) = actor.live()
    await actor.call("DELETE", f"/calendars/{calendar.id}", expect=204)
    await actor.quiesce()
    assert actor.live() == []
    assert (await actor.push(channel)).status_code == 202
    assert await actor.rt.queue.redis.zcard("arq:queue") == 0


async def test_what_is_asked_for(actor: Actor) -> None:
    """Less than the longest life, so that clocks may differ; a secret within Graph's 128 characters."""
    await actor.connected()
    (subscription,) = actor.sandbox.push.subscriptions.values()
    life: Any = subscription.expires_at - actor.now()
    assert timedelta(days=6, hours=23) < life < timedelta(minutes=10_080)
    assert 60 < len(json.dumps(subscription.client_state)) < 128
    assert subscription.immutable
    assert subscription.lifecycle_url == subscription.notification_url
