"""What Microsoft refuses, and what it means: the user's word disconnects, nothing else does (promise 9)."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from app.providers.base import Platform
from tests.harness import Actor
from tests.integration.test_failures import parked, pass_time


@pytest.fixture
def platform() -> Platform:
    """Outlook's calendars."""
    return "microsoft"


DELTA = "graph.delta"
QUIET = [
    pytest.param("too_many_requests", DELTA, {"retry_after": 1}, id="429 with Retry-After"),
    pytest.param("too_many_requests", DELTA, {}, id="429 without"),
    pytest.param("unavailable", DELTA, {"times": 3}, id="a burst of 503"),
    pytest.param("unavailable", DELTA, {"retry_after": 1}, id="503 with Retry-After"),
    pytest.param("html", DELTA, {"status": 502}, id="502 in HTML"),
    pytest.param("garbage", DELTA, {}, id="not JSON"),
    pytest.param("drop", DELTA, {}, id="half-open connection"),
    pytest.param("not_found", DELTA, {}, id="one 404"),
    pytest.param("forbidden", DELTA, {}, id="one 403"),
    pytest.param("unauthorized", DELTA, {}, id="401 once"),
    pytest.param("cursor_expired", DELTA, {}, id="410 SyncStateNotFound"),
    pytest.param("cursor_expired", DELTA, {"times": 2}, id="410 and 410 again"),
    pytest.param("mailbox_not_enabled", DELTA, {"seconds": 5}, id="a mailbox that is being made"),
    pytest.param("endless_pages", DELTA, {"times": 8}, id="a delta that goes round in circles"),
    pytest.param("empty_page", DELTA, {}, id="an empty page with a next link"),
]


@pytest.mark.parametrize(("kind", "operation", "params"), QUIET)
async def test_promise_9_never_disconnects(
    actor: Actor, redis_url: str, kind: str, operation: str, params: dict[str, Any]
) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.faults.add(kind, operation, **params)
    actor.add_event(calendar)
    await actor.quiesce()
    assert (await actor.calendar(calendar))["state"] == "connected"
    shown = await actor.calendar(calendar)
    async with asyncio.timeout(120):
        while shown["health"]["status"] != "healthy":
            await asyncio.sleep(0.1)  # a Retry-After runs in real time
            await pass_time(actor, redis_url, minutes=20)
            shown = await actor.calendar(calendar)
    assert shown["state"] == "connected"
    assert len(await actor.events(calendar)) == 1
    assert actor.messages("calendar.state_change") == []
    assert [entry["change"] for entry in actor.entries()] == ["created"]


WORDS = [
    pytest.param(50173, "user_revoked"),
    pytest.param(70000, "user_revoked"),
    pytest.param(700082, "reauth_required"),
    pytest.param(50076, "reauth_required"),
    pytest.param(65001, "consent_withdrawn"),
    pytest.param(53003, "admin_blocked"),
    pytest.param(50057, "account_gone"),
]


@pytest.mark.parametrize(("number", "code"), WORDS)
async def test_the_users_grant_is_over(actor: Actor, number: int, code: str) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.faults.add("oauth_error", "graph.token", times=None, code=number)
    actor.sandbox.world.expire_access_tokens()
    actor.add_event(calendar)
    await actor.quiesce()
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["connection_failure_data"]["code"]) == ("disconnected", code)
    actor.sandbox.faults.clear()
    token = actor.sandbox.world.issue_refresh_token(calendar.account)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": token})
    await actor.quiesce()
    assert (await actor.calendar(calendar))["state"] == "connected"
    assert [e["change"] for e in actor.entries()] == ["created"]


@pytest.mark.parametrize("number", [7000215, 7000222, 700016, 7000112, 90002, 90033, 50196])
async def test_an_app_that_is_refused_disconnects_nobody(actor: Actor, redis_url: str, number: int) -> None:
    """A wrong or expired secret, an app that was removed or disabled, a wrong tenant, a service that is busy."""
    calendar = await actor.connected()
    actor.sandbox.faults.add("oauth_error", "graph.token", times=None, code=number)
    actor.sandbox.world.expire_access_tokens()
    actor.add_event(calendar)
    await actor.quiesce()
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["health"]["status"]) == ("connected", "degraded")
    actor.sandbox.faults.clear()
    await pass_time(actor, redis_url, minutes=20)
    assert (await actor.calendar(calendar))["health"]["status"] == "healthy"
    assert len(await actor.events(calendar)) == 1


async def test_each_refresh_brings_a_new_token_and_the_newest_is_kept(actor: Actor) -> None:
    """Also with a provider that takes the old one back at once."""
    actor.sandbox.faults.add("strict_rotation", "graph.token", times=None)
    calendar = await actor.connected()
    for _ in range(3):
        actor.sandbox.world.expire_access_tokens()
        actor.add_event(calendar)
        await actor.quiesce()
    assert (await actor.calendar(calendar))["state"] == "connected"
    assert len(await actor.events(calendar)) == 3


async def test_a_refresh_whose_answer_is_lost_is_made_again(actor: Actor) -> None:
    """Hazard 44: the old token still works."""
    calendar = await actor.connected()
    actor.sandbox.world.expire_access_tokens()
    actor.sandbox.faults.add("lost_answer", "graph.token")
    actor.add_event(calendar)
    await actor.quiesce()
    actor.advance(timedelta(minutes=1))
    await actor.quiesce()
    assert len(await actor.events(calendar)) == 1


async def test_an_answer_without_a_refresh_token_keeps_the_old_one(actor: Actor) -> None:
    """Hazard 45."""
    actor.sandbox.faults.add("no_refresh_token", "graph.token", times=None)
    calendar = await actor.connected()
    for _ in range(2):
        actor.sandbox.world.expire_access_tokens()
        actor.add_event(calendar)
        await actor.quiesce()
    assert len(await actor.events(calendar)) == 2


async def test_a_calendar_that_was_deleted_and_one_that_is_no_longer_shared(actor: Actor, redis_url: str) -> None:
    world = actor.sandbox.world
    owner, guest = actor.new_account(), actor.new_account()
    deleted = world.add_calendar(guest, "Team")
    shared = world.add_calendar(owner, "Shared")
    world.share(shared.id, guest.email, "reader")
    gone = await actor.connected(account=guest, platform_uuid=deleted.id)
    lost = await actor.connected(account=guest, platform_uuid=shared.id)
    world.delete_calendar(deleted.id)
    world.share(shared.id, guest.email, None)
    for calendar in (gone, lost):
        await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()
    assert {(await actor.calendar(c))["state"] for c in (gone, lost)} == {"connected"}
    await pass_time(actor, redis_url, seconds=61)
    codes = [(await actor.calendar(c))["connection_failure_data"]["code"] for c in (gone, lost)]
    assert codes[0] == "calendar_gone"
    assert codes[1] in {"calendar_gone", "access_lost"}


async def test_an_account_without_a_mailbox_is_told_once_that_has_lasted(actor: Actor, redis_url: str) -> None:
    """Not licensed, or on a server of their own; but one that is being made gets a quarter of an hour."""
    calendar = await actor.connect()
    actor.sandbox.faults.add("mailbox_not_enabled", None, times=None, seconds=86_400)
    await actor.quiesce()
    await pass_time(actor, redis_url, minutes=10)
    assert (await actor.calendar(calendar))["state"] == "connected"
    await pass_time(actor, redis_url, minutes=10)
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["connection_failure_data"]["code"]) == ("disconnected", "mailbox_unavailable")


async def test_an_id_that_is_none_is_told(actor: Actor, redis_url: str) -> None:
    calendar = await actor.connect(platform_uuid="not an id")
    await actor.quiesce()
    await pass_time(actor, redis_url, seconds=61)
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["connection_failure_data"]["code"]) == ("disconnected", "calendar_gone")


async def test_a_grant_without_the_calendar_scope(actor: Actor) -> None:
    account = actor.sandbox.world.add_account(
        "unticked@example.com", provider="microsoft", scopes=("User.Read", "offline_access")
    )
    calendar = await actor.connect(account)
    await actor.quiesce()
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["connection_failure_data"]["code"]) == ("disconnected", "scope_missing")


@pytest.mark.parametrize(
    "poison",
    [
        pytest.param(
            {"raw_extra": {"start": {"dateTime": "0001-01-01T00:00:00", "timeZone": "UTC"}}}, id="absurd date"
        ),
        pytest.param({"raw_omit": ("end",)}, id="no end"),
        pytest.param({"raw_extra": {"attendees": "everybody"}}, id="wrong type"),
        pytest.param({"raw_extra": {"uid": "x" * 6_000}}, id="long uid"),
    ],
)
async def test_promise_10_one_bad_event_is_parked_and_the_rest_goes_on(actor: Actor, poison: dict[str, Any]) -> None:
    calendar = await actor.connected()
    bad = actor.add_event(calendar, "Bad", **poison)
    actor.add_event(calendar, "Good")
    await actor.quiesce()
    assert [e["name"] for e in await actor.events(calendar)] == ["Good"]
    assert await parked(actor) == [bad.id]
    actor.sandbox.world.update_event(calendar.remote_id, bad.id, raw_extra={}, raw_omit=())
    await actor.quiesce()
    assert sorted(e["name"] for e in await actor.events(calendar)) == ["Bad", "Good"]
