"""Hazards 70, 71, 75, 83, 84 and 85: clocks that differ, a calendar that takes no channel, whose account it is."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import httpx
import pytest

from app import scheduling
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from sandbox import Sandbox
from sandbox.world import CALENDAR_SCOPES, GRAPH_SCOPES
from tests.harness import BOTH, Actor, Connected
from tests.integration.test_failures import pass_time

pytestmark = BOTH


def announced(actor: Actor) -> list[str]:
    """The changes."""
    return [entry["change"] for entry in actor.entries()]


def count(actor: Actor, name: str) -> int:
    """How often the provider was asked so far."""
    return actor.sandbox.requests.count(actor.operation(name))


async def healthy(actor: Actor, calendar: Connected) -> bool:
    """Connected, and without a failure."""
    shown = await actor.calendar(calendar)
    return (shown["state"], shown["health"]["status"]) == ("connected", "healthy")


async def code(actor: Actor, calendar: Connected) -> str | None:
    """Why it is disconnected; None where it is connected."""
    shown = await actor.calendar(calendar)
    assert (shown["state"] == "disconnected") is (shown["connection_failure_data"] is not None)
    return shown["connection_failure_data"] and str(shown["connection_failure_data"]["code"])


def states(actor: Actor) -> list[str]:
    """The states that were announced."""
    return [message.body["data"]["state"] for message in actor.messages("calendar.state_change")]


async def tick(actor: Actor) -> None:
    """What the worker does each second."""
    await scheduling.sweep(actor.rt)
    await actor.quiesce()


async def test_hazard_70_token_is_over_earlier_than_thought(actor: Actor) -> None:
    """The provider's clock is twenty minutes ahead: its 401 brings a new token, and nobody notices."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.world.clock.advance(timedelta(minutes=20))
    actor.advance(timedelta(minutes=45))  # of the token's hour, by our clock
    before = count(actor, "token")
    actor.add_event(calendar)
    await actor.quiesce()
    assert count(actor, "token") == before + 1
    assert announced(actor) == ["created"]
    assert states(actor) == []
    assert await healthy(actor, calendar)


async def test_hazard_70_channel_is_asked_for_below_the_longest_life(actor: Actor) -> None:
    """Our clock is ten minutes ahead: what we ask for is not too long for the provider, whose pushes arrive."""
    actor.rt.clock.advance(timedelta(minutes=10))
    await actor.subscribe()
    calendar = await actor.connected()
    assert count(actor, "watch") == 1
    assert len(actor.live()) == 1
    assert (await actor.calendar(calendar))["health"]["push"]["active"] is True
    actor.add_event(calendar)
    await actor.quiesce()
    assert announced(actor) == ["created"]


async def test_hazard_70_channel_is_over_earlier_than_thought(actor: Actor) -> None:
    """The provider's clock is six hours ahead: the channel is renewed long before either clock says that it ended."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.world.clock.advance(timedelta(hours=6))
    for _ in range(10):
        actor.advance(timedelta(days=1))
        assert actor.live() != []
        await tick(actor)
    actor.add_event(calendar)
    await actor.quiesce()
    assert announced(actor) == ["created"]


@pytest.fixture
async def second(settings: Settings, rt: Runtime, sandbox: Sandbox) -> AsyncIterator[Runtime]:
    """Another worker on the same database."""
    async with open_runtime(settings, transport=httpx.ASGITransport(sandbox.app)) as other:
        yield other


async def test_hazard_70_retry_after_is_a_date_of_their_clock(actor: Actor, second: Runtime, redis_url: str) -> None:
    """The provider's clock is an hour ahead: two minutes from its now are two minutes from ours."""
    actor.sandbox.world.clock.advance(timedelta(hours=1))
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.faults.add("too_many_requests", actor.operation("changes"), retry_at=120)
    actor.add_event(calendar)
    await actor.quiesce()
    before = count(actor, "changes")
    # The first worker remembers the provider's word in real time, which the test does not wait for.
    second.clock.advance(actor.rt.clock.offset)
    actor.rt = second
    await pass_time(actor, redis_url, seconds=110)
    assert count(actor, "changes") == before
    assert announced(actor) == []
    await pass_time(actor, redis_url, seconds=15)
    assert count(actor, "changes") > before
    assert announced(actor) == ["created"]
    assert await healthy(actor, calendar)


async def test_hazard_71_update_time_of_the_provider(actor: Actor) -> None:
    """An event whose update time is long past, or far ahead, is told like any other; `updated_after` goes by ours."""
    await actor.subscribe()
    calendar = await actor.connected()
    field = "updated" if actor.platform == "google" else "lastModifiedDateTime"
    event = actor.add_event(calendar, "Ahead", raw_extra={field: "2099-01-01T00:00:00.000Z"})
    await actor.quiesce()
    for title in ("Past", "Longer past"):
        (shown,) = await actor.events(calendar)
        watermark = datetime.fromisoformat(shown["updated_at"]) + timedelta(microseconds=1)
        stale = {field: f"{2001 if title == 'Past' else 1999}-01-01T00:00:00.000Z"}
        actor.sandbox.world.update_event(calendar.remote_id, event.id, title=title, raw_extra=stale)
        await actor.quiesce()
        (found,) = await actor.events(calendar, updated_after=watermark.isoformat())
        assert found["name"] == title
    assert announced(actor) == ["created", "updated", "updated"]
    await actor.assert_equal(calendar)


async def test_hazard_75_unwatchable_calendar(actor: Actor) -> None:
    """It is polled. Google's refusal is final and remembered; Graph's is about now, and asked again ever later."""
    await actor.subscribe()
    calendar = await actor.connect()
    actor.sandbox.faults.add("push_not_supported", actor.operation("watch"), times=None)
    await actor.quiesce()
    assert count(actor, "watch") == 1
    actor.add_event(calendar)
    actor.advance(timedelta(minutes=10))
    await tick(actor)
    assert announced(actor) == ["created"]

    asked = []
    for _ in range(2):
        before = count(actor, "watch")
        for _ in range(24):
            actor.advance(timedelta(hours=1))
            await tick(actor)
        asked.append(count(actor, "watch") - before)
    assert asked[1] <= {"google": 0, "microsoft": 8}[actor.platform]  # every three to six hours
    assert actor.platform == "microsoft" or asked[0] == 0
    assert (await actor.calendar(calendar))["health"]["push"]["active"] is False
    assert await healthy(actor, calendar)
    await actor.assert_equal(calendar)
    assert announced(actor) == ["created"]


async def test_hazard_83_wrong_account_reconnects(actor: Actor) -> None:
    """Valid credentials of somebody else disconnect the calendar; rows of two people never mix. The right ones heal it,
    and announce what changed meanwhile alone."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.add_event(calendar, "Mine")
    await actor.quiesce()
    before = await actor.events(calendar)
    stranger = actor.new_account()
    actor.add_event(Connected("", stranger, stranger.calendar_id), "Of a stranger")
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": stranger.refresh_token})
    await actor.quiesce()
    assert await code(actor, calendar) == "wrong_account"
    assert (await actor.calendar(calendar))["email"] == calendar.account.email
    assert await actor.events(calendar) == before
    actor.add_event(calendar, "Meanwhile")
    await actor.quiesce()
    assert announced(actor) == ["created"]
    assert states(actor) == ["disconnected"]

    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": calendar.account.refresh_token})
    await actor.quiesce()
    assert await code(actor, calendar) is None
    await actor.assert_equal(calendar)
    assert announced(actor) == ["created", "created"]
    assert states(actor) == ["disconnected", "connected"]
    assert before[0] in await actor.events(calendar)


async def test_hazard_84_scope_unticked(actor: Actor) -> None:
    """The grant says that it may not read calendars: disconnected at once, not one calendar request, nothing later."""
    await actor.subscribe()
    scopes = ("openid", "email") if actor.platform == "google" else ("User.Read", "offline_access")
    account = actor.sandbox.world.add_account("unticked@example.com", provider=actor.platform, scopes=scopes)
    calendar = await actor.connect(account)
    actor.add_event(calendar)
    await actor.quiesce()
    assert await code(actor, calendar) == "scope_missing"
    asked = actor.sandbox.requests.seen.copy()
    assert {seen.operation for seen in asked} == {actor.operation("token")}
    for _ in range(3):
        actor.advance(timedelta(days=1))
        await tick(actor)
    assert actor.sandbox.requests.seen == asked
    assert states(actor) == ["disconnected"]

    ticked = CALENDAR_SCOPES if actor.platform == "google" else GRAPH_SCOPES
    token = actor.sandbox.world.issue_refresh_token(account, scopes=ticked)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": token})
    await actor.quiesce()
    assert await code(actor, calendar) is None
    assert states(actor) == ["disconnected", "connected"]
    await actor.assert_equal(calendar)


@pytest.mark.parametrize("ends", ["before its commit", "after its commit"])
async def test_hazard_85_deleted_while_a_sync_runs(actor: Actor, ends: str) -> None:
    """The run's commit is refused or wiped, nothing is sent from then on, channel and credentials are gone."""
    await actor.subscribe()
    calendar, other = await actor.connected(), await actor.connected()
    heard = len(actor.sink.received)
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    gate = actor.sandbox.faults.gate(actor.operation("changes"))
    running = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    actor.sandbox.faults.gates.clear()
    if ends == "after its commit":
        gate.release()
        assert await running == "synced"  # and its message is not sent yet
    await actor.call("DELETE", f"/calendars/{calendar.id}", expect=204)
    gate.release()
    assert await running == ("superseded" if ends == "before its commit" else "synced")
    await actor.call("GET", f"/calendars/{calendar.id}", expect=404)
    await actor.quiesce()
    actor.advance(timedelta(days=1))
    await actor.quiesce()
    assert actor.sink.received[heard:] == []
    assert {channel.calendar_id for channel in actor.live()} == {other.remote_id}
    async with actor.rt.db.reading() as tx:
        for table in ("grants", "calendar_events", "sync_state", "parked_items"):
            query = f"SELECT count(*) FROM {table} WHERE calendar_id = :id"
            assert await tx.scalar(query, {"id": calendar.key}) == 0, table
        assert await tx.scalar("SELECT count(*) FROM grants") == 1
    assert (await actor.calendar(other))["state"] == "connected"
