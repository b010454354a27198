"""Health by degrees, told once per transition that lasts; and a refused OAuth app as one incident."""

from datetime import timedelta

import pytest

from app.errors import HealthReason, ProviderError
from tests.harness import BOTH, Actor, Connected, Json


async def fail(actor: Actor, calendar: Connected, *, times: int = 1) -> None:
    """So many failed runs in a row, a backoff apart."""
    for _ in range(times):
        actor.advance(timedelta(seconds=1000))
        await sync(actor, calendar)


async def sync(actor: Actor, calendar: Connected) -> None:
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()


def told(actor: Actor) -> list[Json]:
    """The transitions that arrived, in order."""
    return [message.body["data"] for message in actor.messages("calendar.health_change")]


async def status(actor: Actor, calendar: Connected) -> str:
    return str((await actor.calendar(calendar))["health"]["status"])


@BOTH
async def test_each_degree_is_told_once(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.faults.add("unavailable", actor.operation("changes"), times=None)
    await fail(actor, calendar)
    assert (await status(actor, calendar), told(actor)) == ("degraded", [])  # one failed run is no news
    await fail(actor, calendar)
    degraded = {"from": "healthy", "to": "degraded", "reason": "provider_unavailable"}
    assert told(actor) == [degraded]
    await fail(actor, calendar, times=2)
    assert told(actor) == [degraded]
    await fail(actor, calendar, times=4)
    failing = {"from": "degraded", "to": "failing", "reason": "provider_unavailable"}
    assert (await status(actor, calendar), told(actor)) == ("failing", [degraded, failing])
    actor.sandbox.faults.clear()
    actor.advance(timedelta(seconds=1000))
    await actor.quiesce()
    assert told(actor) == [degraded, failing, {"from": "failing", "to": "healthy", "reason": None}]
    assert (await actor.calendar(calendar))["state"] == "connected"
    assert actor.messages("calendar.state_change") == []


async def test_two_messages_are_a_minute_apart(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.faults.add("unavailable", "events.list", times=2)
    await fail(actor, calendar, times=2)
    assert [change["to"] for change in told(actor)] == ["degraded"]
    actor.advance(timedelta(seconds=20))  # the second backoff lasts 10 s at most
    await actor.quiesce()
    assert await status(actor, calendar) == "healthy"
    assert [change["to"] for change in told(actor)] == ["degraded"]
    actor.advance(timedelta(seconds=41))
    await actor.quiesce()
    assert [change["to"] for change in told(actor)] == ["degraded", "healthy"]


async def test_what_did_not_last_is_no_news(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.faults.add("unavailable", "events.list", times=2)
    await fail(actor, calendar, times=2)
    actor.advance(timedelta(seconds=20))
    await actor.quiesce()  # healthy again, too early to tell
    actor.sandbox.faults.add("unavailable", "events.list", times=None)
    await sync(actor, calendar)
    actor.advance(timedelta(seconds=10))
    await actor.quiesce()
    assert await status(actor, calendar) == "degraded"
    actor.advance(timedelta(seconds=31))
    await actor.quiesce()
    assert [change["to"] for change in told(actor)] == ["degraded"]


async def test_a_disconnected_calendar_has_no_health_to_tell(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.world.revoke(calendar.account)
    await fail(actor, calendar, times=4)
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["health"]["status"]) == ("disconnected", "failing")
    assert told(actor) == []
    assert len(actor.messages("calendar.state_change")) == 1


def test_reasons_are_a_closed_list() -> None:
    known = {name for part in HealthReason.__args__ for name in part.__args__}

    def codes(error: type[ProviderError]) -> set[str]:
        return {error.code}.union(*(codes(child) for child in error.__subclasses__()))

    assert codes(ProviderError) | {"internal_error"} <= known


# --- one incident per OAuth app ---


def break_secret(actor: Actor, calendar: Connected) -> None:
    """The OAuth app's owner made a new secret and did not tell us."""
    world = actor.sandbox.world
    world.set_client_secret(calendar.account.client_id, "another")
    world.expire_access_tokens()


@BOTH
async def test_a_refused_secret_is_one_incident(actor: Actor) -> None:
    await actor.subscribe()
    calendars = [await actor.connected() for _ in range(4)]
    assert len({calendar.account.client_id for calendar in calendars}) == 1
    break_secret(actor, calendars[0])
    for _ in range(7):
        actor.advance(timedelta(seconds=1000))
        for calendar in calendars:
            await sync(actor, calendar)
    (incident,) = actor.messages("oauth_app.failing")
    shown = await actor.calendar(calendars[0])
    data = incident.body["data"]
    assert (data["oauth_app_id"], data["calendars_affected"]) == (shown["oauth_app_id"], 4)
    assert data["code"] in {"invalid_client", "unauthorized_client"}
    assert incident.body["calendar_id"] is None
    for calendar in calendars:
        shown = await actor.calendar(calendar)
        assert (shown["state"], shown["health"]["reason"]) == ("connected", "oauth_app_broken")
    assert told(actor) == []
    assert actor.messages("calendar.state_change") == []


@BOTH
async def test_an_incident_ends_with_the_first_token(actor: Actor) -> None:
    await actor.subscribe()
    one, other = await actor.connected(), await actor.connected()
    secret = one.account.client_secret
    break_secret(actor, one)
    await fail(actor, one, times=2)
    actor.sandbox.world.set_client_secret(one.account.client_id, secret)
    await fail(actor, other)
    assert await status(actor, other) == "healthy"
    actor.advance(timedelta(seconds=1000))
    await actor.quiesce()
    assert await status(actor, one) == "healthy"
    assert len(actor.messages("oauth_app.failing")) == 1
    actor.advance(timedelta(hours=1))
    break_secret(actor, one)
    await fail(actor, one)
    assert len(actor.messages("oauth_app.failing")) == 2  # another incident


async def test_a_run_on_an_old_token_proves_nothing(actor: Actor) -> None:
    await actor.subscribe()
    one, other = await actor.connected(), await actor.connected()
    actor.sandbox.world.set_client_secret(one.account.client_id, "another")
    for _ in range(3):
        async with actor.rt.db.transaction() as tx:
            await tx.execute(
                "UPDATE grants SET access_token_expires_at = app_now() WHERE calendar_id = :id", {"id": one.key}
            )
        await fail(actor, one)
        await sync(actor, other)  # its access token lives for an hour
        assert await status(actor, other) == "healthy"
    assert len(actor.messages("oauth_app.failing")) == 1


async def test_an_api_that_is_not_enabled_is_an_incident_until_it_answers(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.faults.add("not_configured", "events.list", times=2)
    await fail(actor, calendar, times=2)
    assert [m.body["data"]["code"] for m in actor.messages("oauth_app.failing")] == ["accessNotConfigured"]
    await fail(actor, calendar)
    assert await status(actor, calendar) == "healthy"
    actor.advance(timedelta(hours=1))
    actor.sandbox.faults.add("not_configured", "events.list")
    await fail(actor, calendar)
    assert len(actor.messages("oauth_app.failing")) == 2


@pytest.mark.parametrize("overrides", [{"retry_max_seconds": 900}])
async def test_one_users_odd_grant_is_no_incident(actor: Actor) -> None:
    await actor.subscribe()
    one, other = await actor.connected(), await actor.connected()
    actor.sandbox.world.expire_access_tokens()
    actor.sandbox.faults.add("oauth_error", "token", status=401, error="unauthorized_client", times=1)
    await fail(actor, one)
    assert (await actor.calendar(one))["health"]["reason"] == "oauth_app_broken"
    await sync(actor, other)
    assert actor.messages("oauth_app.failing") == []
