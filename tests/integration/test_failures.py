"""What disconnects a calendar, and what never does (promise 9); what is parked (promise 10)."""

from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from sandbox.model import EventDraft
from tests.harness import BOTH, Actor

QUIET = [
    pytest.param("rate_limited", "events.list", {}, id="the recorded 403 PERMISSION_DENIED quota answer"),
    pytest.param("too_many_requests", "events.list", {}, id="429"),
    pytest.param("unavailable", "events.list", {}, id="503"),
    pytest.param("html", "events.list", {"status": 502}, id="502 in HTML"),
    pytest.param("garbage", "events.list", {}, id="not JSON"),
    pytest.param("drop", "events.list", {}, id="broken connection"),
    pytest.param("not_found", "events.list", {}, id="one 404"),
    pytest.param("forbidden", "events.list", {}, id="one 403"),
    pytest.param("unauthorized", "events.list", {}, id="401 once"),
    pytest.param("not_configured", "events.list", {}, id="our API is not enabled"),
    pytest.param("deleted_410", "events.list", {}, id="410 that orders no resync"),
    pytest.param("cursor_expired", "events.list", {"page": 1, "times": 2}, id="410 and 410 again"),
]


async def pass_time(actor: Actor, redis_url: str, **delta: float) -> None:
    """Let back-off pass, also in the limiter, which lives in real time."""
    actor.advance(timedelta(**delta))
    async with Redis.from_url(redis_url) as redis:
        await redis.flushdb()
    await actor.quiesce()


@pytest.mark.parametrize(("kind", "operation", "params"), QUIET)
async def test_promise_9_never_disconnects(
    actor: Actor, redis_url: str, kind: str, operation: str, params: dict[str, int]
) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.faults.add(kind, operation, **params)
    actor.add_event(calendar)
    await actor.quiesce()
    assert (await actor.calendar(calendar))["state"] == "connected"
    await pass_time(actor, redis_url, minutes=20)
    shown = await actor.calendar(calendar)
    assert shown["state"] == "connected"
    assert shown["health"]["status"] == "healthy"
    assert len(await actor.events(calendar)) == 1
    assert actor.messages("calendar.state_change") == []


WORDS = [
    pytest.param("invalid_grant", "Token has been expired or revoked.", None, "user_revoked"),
    pytest.param("invalid_grant", "Bad Request", None, "user_revoked"),
    pytest.param("invalid_grant", "reauth related error (invalid_rapt)", "invalid_rapt", "reauth_required"),
    pytest.param("admin_policy_enforced", None, None, "admin_blocked"),
]


@pytest.mark.parametrize(("error", "description", "subtype", "code"), WORDS)
async def test_promise_9_the_providers_word_disconnects_once_and_a_new_grant_reconnects(
    actor: Actor, error: str, description: str | None, subtype: str | None, code: str
) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar)
    await actor.quiesce()
    (before,) = await actor.events(calendar)
    actor.sandbox.world.revoke(calendar.account, error=error, description=description or "", subtype=subtype)
    actor.sandbox.world.update_event(calendar.remote_id, event.id, title="Unseen")
    await actor.quiesce()
    shown = await actor.calendar(calendar)
    assert shown["state"] == "disconnected"
    assert shown["connection_failure_data"]["code"] == code
    (told,) = actor.messages("calendar.state_change")
    assert (told.body["data"]["state"], told.body["data"]["previous_state"]) == ("disconnected", "connected")
    assert await actor.events(calendar) == [before]

    token = actor.sandbox.world.issue_refresh_token(calendar.account)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": token})
    await actor.quiesce()
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["connection_failure_data"]) == ("connected", None)
    assert [m.body["data"]["state"] for m in actor.messages("calendar.state_change")] == ["disconnected", "connected"]
    (after,) = await actor.events(calendar)
    assert (after["id"], after["name"]) == (before["id"], "Unseen")
    assert [e["change"] for e in actor.entries()] == ["created", "updated"]


@pytest.mark.parametrize(("kind", "code"), [("not_found", "calendar_gone"), ("forbidden", "access_lost")])
@BOTH
async def test_a_missing_calendar_is_confirmed_before_it_counts(
    actor: Actor, redis_url: str, kind: str, code: str
) -> None:
    """Hazard 51."""
    calendar = await actor.connected()
    actor.sandbox.faults.add(kind, actor.operation("changes"), times=None)
    actor.add_event(calendar)
    await actor.quiesce()
    assert (await actor.calendar(calendar))["state"] == "connected"
    await pass_time(actor, redis_url, seconds=61)
    shown = await actor.calendar(calendar)
    assert shown["state"] == "disconnected"
    assert shown["connection_failure_data"]["code"] == code


@BOTH
async def test_a_wrong_client_secret_degrades_and_heals_with_the_right_one(actor: Actor, redis_url: str) -> None:
    account = actor.new_account()
    calendar = await actor.connect(account, client_secret="wrong")
    await actor.quiesce()
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["health"]["status"]) == ("connected", "degraded")
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"client_secret": account.client_secret})
    await actor.quiesce()
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["health"]["status"]) == ("connected", "healthy")


@BOTH
async def test_a_wrong_secret_never_replaces_one_that_works(actor: Actor) -> None:
    calendar = await actor.connected()
    other = await actor.connect(actor.new_account(), client_secret="mistyped")
    await actor.quiesce()
    for one in (calendar, other):
        actor.sandbox.world.expire_access_tokens()
        actor.add_event(one)
        await actor.quiesce()
        assert (await actor.calendar(one))["health"]["status"] == "healthy"
        assert len(await actor.events(one)) == 1


@BOTH
async def test_a_wrong_refresh_token_disconnects_at_the_first_sync(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connect(refresh_token="1//nonsense")
    await actor.quiesce()
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["connection_failure_data"]["code"]) == ("disconnected", "user_revoked")
    assert len(actor.messages("calendar.state_change")) == 1


@BOTH
async def test_verify_refuses_wrong_credentials_at_once(actor: Actor) -> None:
    account = actor.new_account()
    body = {
        "platform": actor.platform,
        "client_id": account.client_id,
        "client_secret": account.client_secret,
        "refresh_token": "1//nonsense",
        "verify": True,
    }
    answer = await actor.call("POST", "/calendars", json=body, expect=422)
    assert answer["code"] == "user_revoked"
    assert (await actor.call("GET", "/calendars"))["results"] == []
    body["refresh_token"] = account.refresh_token
    await actor.call("POST", "/calendars", json=body, expect=201)


@BOTH
async def test_another_account_on_reconnect_is_refused(actor: Actor) -> None:
    """Hazard 83."""
    calendar = await actor.connected()
    actor.add_event(calendar)
    await actor.quiesce()
    stranger = actor.new_account()
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": stranger.refresh_token})
    await actor.quiesce()
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["connection_failure_data"]["code"]) == ("disconnected", "wrong_account")
    assert len(await actor.events(calendar)) == 1


async def test_a_grant_without_the_calendar_scope_is_told_apart(actor: Actor) -> None:
    """Hazard 84."""
    account = actor.sandbox.world.add_account("unticked@example.com", scopes=("openid", "email"))
    calendar = await actor.connect(account)
    await actor.quiesce()
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["connection_failure_data"]["code"]) == ("disconnected", "scope_missing")


POISON = [
    pytest.param({"raw_extra": {"start": {"dateTime": "0001-01-01T00:00:00Z"}}}, id="absurd date"),
    pytest.param({"raw_omit": ("end",)}, id="no end"),
    pytest.param({"raw_extra": {"attendees": "everybody"}}, id="wrong type"),
    pytest.param({"raw_extra": {"iCalUID": "x" * 6_000}}, id="long uid"),
    pytest.param({"raw_extra": {"recurringEventId": "ü" * 600}}, id="long series id"),
]


@pytest.mark.parametrize("poison", POISON)
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
    assert await parked(actor) == []


async def test_an_event_that_turns_bad_is_not_taken_for_deleted(actor: Actor) -> None:
    """Hazard 81, also in a full listing."""
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar, "Fine")
    await actor.quiesce()
    actor.sandbox.world.update_event(calendar.remote_id, event.id, raw_omit=("end",))
    await actor.quiesce()
    await actor.call("POST", f"/calendars/{calendar.id}/sync", json={"full": True}, expect=202)
    await actor.quiesce()
    assert [e["name"] for e in await actor.events(calendar)] == ["Fine"]
    assert [e["change"] for e in actor.entries()] == ["created"]


async def parked(actor: Actor) -> list[str]:
    """Ids of the parked items."""
    async with actor.rt.db.reading() as tx:
        return [row.platform_uuid for row in await tx.rows("SELECT platform_uuid FROM parked_items")]


async def test_a_lone_surrogate_costs_one_character(actor: Actor) -> None:
    calendar = await actor.connect()
    now = actor.now()
    for number in range(3):
        start = now + timedelta(hours=number + 1)
        draft = EventDraft(title=f"Event {number}", start=start, end=start + timedelta(minutes=30))
        actor.sandbox.world.create_event(calendar.remote_id, draft)
    actor.sandbox.faults.add("surrogate", actor.operation("changes"))
    await actor.quiesce()
    titles = [event["name"] for event in await actor.events(calendar)]
    assert len(titles) == 3
    assert sum("\ufffd" in title for title in titles) == 1
    assert await parked(actor) == []


@BOTH
async def test_at_once_is_no_advice_after_a_refusal(actor: Actor) -> None:
    """`Retry-After: 0` would make a loop that uses up the user's quota during an outage."""
    calendar = await actor.connected()
    actor.sandbox.faults.add("unavailable", actor.operation("changes"), retry_after=0, times=None)
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    outcomes = [await actor.run(calendar) for _ in range(5)]
    assert outcomes == ["failed", *["idle"] * 4]


async def test_an_endless_delta_is_given_up_for_a_listing(actor: Actor) -> None:
    calendar = await actor.connected()
    actor.add_event(calendar, "Seen")
    actor.sandbox.faults.add(
        "empty_page", actor.operation("changes"), times=2
    )  # the same page token for the second time
    await actor.quiesce()
    assert [event["name"] for event in await actor.events(calendar)] == ["Seen"]


class TestOurOwnQuota:
    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"google_user_quota_per_minute": 1, "microsoft_mailbox_quota_per_minute": 1}

    @BOTH
    async def test_to_wait_for_it_is_no_failure(self, actor: Actor) -> None:
        calendar = await actor.connect()
        await actor.quiesce()
        shown = await actor.calendar(calendar)
        assert (shown["state"], shown["health"]["status"]) == ("connected", "healthy")
        async with actor.rt.db.reading() as tx:
            state = await tx.row("SELECT failure_count, not_before > app_now() AS is_deferred FROM sync_state")
        assert state is not None
        assert (state.failure_count, state.is_deferred) == (0, True)
