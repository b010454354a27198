"""Hazards 43 to 50: access tokens are refreshed once, saved before use, and only the user's own refusal disconnects."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest

from app.crypto import Place
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from sandbox import Sandbox
from tests.harness import BOTH, Actor, Connected
from tests.integration.test_failures import pass_time

OUTLOOK = pytest.mark.parametrize("platform", ["microsoft"])
"""Marks what only Microsoft's rotating refresh tokens can do."""


@pytest.fixture
async def second(settings: Settings, rt: Runtime, sandbox: Sandbox) -> AsyncIterator[Runtime]:
    """Another worker on the same database."""
    async with open_runtime(settings, transport=httpx.ASGITransport(sandbox.app)) as other:
        yield other


def count(actor: Actor, operation: str) -> int:
    """How often the provider was asked so far."""
    return actor.sandbox.requests.count(actor.operation(operation))


async def refresh_token(actor: Actor, calendar: Connected) -> str:
    """The stored one."""
    async with actor.rt.db.reading() as tx:
        sealed = await tx.scalar("SELECT refresh_token_sealed FROM grants WHERE calendar_id = :c", {"c": calendar.key})
    return actor.rt.cipher.open(sealed, Place("grants", "refresh_token", calendar.key))


async def access_token(actor: Actor, calendar: Connected) -> str:
    """What the API hands out: the stored one where it is fresh."""
    return str((await actor.call("POST", f"/calendars/{calendar.id}/access_token"))["token"])


async def the_lease_runs_out(actor: Actor) -> None:
    """Whoever is refreshing takes too long."""
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE grants SET lease_until = clock_timestamp() - interval '1 second'")


async def ask_for_a_sync(actor: Actor, calendar: Connected) -> None:
    """`POST /calendars/{id}/sync`"""
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)


async def healthy_and_told(actor: Actor, calendar: Connected, *changes: str) -> None:
    """Connected as ever, the provider's state shown, exactly these changes told, and no change of state."""
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["health"]["status"]) == ("connected", "healthy")
    await actor.assert_equal(calendar)
    assert [entry["change"] for entry in actor.entries()] == list(changes)
    assert actor.messages("calendar.state_change") == []


# --- 43 to 46: refreshing ---


@BOTH
async def test_hazard_43_two_workers_refresh_together(actor: Actor, second: Runtime) -> None:
    """One asks, the others wait for its answer; a provider whose refresh tokens work once sees no difference."""
    if actor.platform == "microsoft":
        actor.sandbox.faults.add("strict_rotation", actor.operation("token"), times=None)
    await actor.subscribe()
    calendar = await actor.connected()
    for round_number in range(2):
        actor.advance(timedelta(hours=2))
        second.clock.advance(timedelta(hours=2))
        actor.add_event(calendar, f"Event {round_number}", hours=24 + round_number)
        await actor.sandbox.push.idle()
        asked = count(actor, "token")
        gate = actor.sandbox.faults.gate(actor.operation("token"))
        run = asyncio.create_task(actor.run(calendar, second))
        await gate.reached()
        readers = [asyncio.create_task(access_token(actor, calendar)) for _ in range(8)]
        finished, _ = await asyncio.wait(readers, timeout=0.3)
        assert (finished, gate.waiting) == (set(), 1)
        gate.release()
        assert await run == "synced"
        assert len(set(await asyncio.gather(*readers))) == 1
        assert count(actor, "token") == asked + 1
        await actor.quiesce()
    assert await refresh_token(actor, calendar) == calendar.account.refresh_token
    await healthy_and_told(actor, calendar, "created", "created")


@BOTH
async def test_hazard_43_older_answer_never_overwrites_newer(actor: Actor, second: Runtime) -> None:
    """A refresh that outlived its lease comes back after another one was saved: its tokens are thrown away."""
    calendar = await actor.connected()
    actor.advance(timedelta(hours=2))
    second.clock.advance(timedelta(hours=2))
    gate = actor.sandbox.faults.gate(actor.operation("token"))
    late = asyncio.create_task(access_token(actor, calendar))
    await gate.reached()
    actor.sandbox.faults.gates.clear()
    await the_lease_runs_out(actor)
    await ask_for_a_sync(actor, calendar)
    assert await actor.run(calendar, second) == "synced"
    saved = await refresh_token(actor, calendar), await access_token(actor, calendar)
    gate.release()
    assert await late == saved[1]
    assert (await refresh_token(actor, calendar), await access_token(actor, calendar)) == saved
    assert saved[0] == calendar.account.refresh_token


@BOTH
async def test_hazard_44_refresh_answer_lost(actor: Actor, redis_url: str) -> None:
    """The new token never arrived: the old one still works."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.world.expire_access_tokens()
    actor.sandbox.faults.add("lost_answer", actor.operation("token"))
    actor.add_event(calendar)
    await actor.quiesce()
    assert await actor.events(calendar) == []
    await pass_time(actor, redis_url, minutes=1)
    await healthy_and_told(actor, calendar, "created")


NO_SAVING = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.access_token_sealed IS DISTINCT FROM OLD.access_token_sealed THEN RAISE EXCEPTION 'no'; END IF;
    RETURN NEW;
END $$
"""


@BOTH
async def test_hazard_44_crash_between_refresh_and_commit(actor: Actor, redis_url: str) -> None:
    """What could not be saved is not used; the next run refreshes with the old token."""
    await actor.subscribe()
    calendar = await actor.connected()
    before = await refresh_token(actor, calendar)
    actor.advance(timedelta(hours=2))
    async with actor.rt.db.transaction() as tx:
        await tx.execute(NO_SAVING)
        await tx.execute("CREATE TRIGGER refuse BEFORE UPDATE ON grants FOR EACH ROW EXECUTE FUNCTION refuse()")
    asked, refreshed = count(actor, "changes"), count(actor, "token")
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    assert await actor.run(calendar) == "crashed"
    assert count(actor, "token") == refreshed + 1
    assert count(actor, "changes") == asked
    assert await refresh_token(actor, calendar) == before
    async with actor.rt.db.transaction() as tx:
        await tx.execute("DROP TRIGGER refuse ON grants")
    await the_lease_runs_out(actor)
    await pass_time(actor, redis_url, minutes=1)
    await healthy_and_told(actor, calendar, "created")


@BOTH
async def test_hazard_45_refresh_without_a_refresh_token(actor: Actor) -> None:
    """Google's usual answer, and now and then Microsoft's: the old token is kept and goes on working."""
    if actor.platform == "microsoft":
        actor.sandbox.faults.add("no_refresh_token", actor.operation("token"), times=None)
    await actor.subscribe()
    calendar = await actor.connected()
    for number in range(2):
        actor.advance(timedelta(hours=2))
        asked = count(actor, "token")
        actor.add_event(calendar, f"Event {number}", hours=24 + number)
        await actor.quiesce()
        assert count(actor, "token") == asked + 1
        assert await refresh_token(actor, calendar) == calendar.account.refresh_token
    await healthy_and_told(actor, calendar, "created", "created")


@BOTH
async def test_hazard_46_invalid_grant_while_the_user_reconnects(actor: Actor) -> None:
    """The refusal belongs to the old grant: the run goes on with the new one, and nothing is disconnected."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.world.revoke(calendar.account)
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    actor.advance(timedelta(hours=2))
    gate = actor.sandbox.faults.gate(actor.operation("token"))
    running = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    token = actor.sandbox.world.issue_refresh_token(calendar.account)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": token})
    gate.release()
    assert await running != "disconnected"
    await actor.quiesce()
    await healthy_and_told(actor, calendar, "created")


@OUTLOOK
async def test_hazard_46_invalid_grant_while_another_worker_saves_a_newer_token(actor: Actor) -> None:
    """The old token no longer works because the new one is ours already: it is read again, and used."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.advance(timedelta(hours=2))
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    actor.sandbox.faults.add("oauth_error", actor.operation("token"), code=70000)
    gate = actor.sandbox.faults.gate(actor.operation("token"))
    running = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    actor.sandbox.faults.gates.clear()
    await the_lease_runs_out(actor)
    newer = await access_token(actor, calendar)
    gate.release()
    assert await running == "synced"
    assert await access_token(actor, calendar) == newer
    await actor.quiesce()
    await healthy_and_told(actor, calendar, "created")


# --- 47: our own fault ---


@BOTH
async def test_hazard_47_our_secret_is_refused(actor: Actor, redis_url: str) -> None:
    """Every user's refresh is refused: all stay connected, it is shown as ours, and it heals when the secret works."""
    await actor.subscribe()
    calendars = [await actor.connected(), await actor.connected()]
    account = calendars[0].account
    actor.sandbox.world.set_client_secret(account.client_id, "rotated in the console")
    actor.advance(timedelta(hours=2))
    for calendar in calendars:
        actor.add_event(calendar)
    await actor.quiesce()
    for _ in range(3):
        for calendar in calendars:
            shown = await actor.calendar(calendar)
            assert (shown["state"], shown["connection_failure_data"]) == ("connected", None)
            assert shown["health"]["status"] == "degraded"
            assert shown["health"]["reason"] == "oauth_app_broken"
        await pass_time(actor, redis_url, minutes=1)
    assert actor.messages("calendar.state_change") == []
    actor.sandbox.world.set_client_secret(account.client_id, account.client_secret)
    await pass_time(actor, redis_url, minutes=20)
    for calendar in calendars:
        await healthy_and_told(actor, calendar, "created", "created")


@BOTH
async def test_hazard_47_the_new_secret_of_one_calendar_heals_all(actor: Actor, redis_url: str) -> None:
    """The secret belongs to the app: whoever brings the new one brings it for every user."""
    await actor.subscribe()
    calendars = [await actor.connected(), await actor.connected()]
    actor.sandbox.world.set_client_secret(calendars[0].account.client_id, "rotated in the console")
    actor.advance(timedelta(hours=2))
    for calendar in calendars:
        actor.add_event(calendar)
    await actor.quiesce()
    await actor.call("PATCH", f"/calendars/{calendars[0].id}", json={"client_secret": "rotated in the console"})
    await pass_time(actor, redis_url, minutes=20)
    for calendar in calendars:
        await healthy_and_told(actor, calendar, "created", "created")


# --- 48 to 50: refusals of one request ---


@BOTH
async def test_hazard_48_rate_limit(actor: Actor, redis_url: str) -> None:
    """Google's quota answer is a 403 PERMISSION_DENIED: throttled for hours, never disconnected."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.faults.add("rate_limited", actor.operation("changes"), times=None)
    actor.add_event(calendar)
    await actor.quiesce()
    for _ in range(8):
        assert (await actor.calendar(calendar))["state"] == "connected"
        await pass_time(actor, redis_url, minutes=20)
    actor.sandbox.faults.clear()
    await pass_time(actor, redis_url, minutes=20)
    await healthy_and_told(actor, calendar, "created")


@BOTH
async def test_hazard_49_scope_lost(actor: Actor, redis_url: str) -> None:
    """403 for want of a scope: disconnected at once, told once, and left alone until there is a new grant."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.sandbox.faults.add("insufficient_scope", actor.operation("changes"), times=None)
    actor.add_event(calendar)
    await actor.quiesce()
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["connection_failure_data"]["code"]) == ("disconnected", "scope_missing")
    asked = len(actor.sandbox.requests.seen)
    for channel in actor.live():
        await actor.push(channel)
    await pass_time(actor, redis_url, hours=30)
    assert len(actor.sandbox.requests.seen) == asked
    assert [m.body["data"]["state"] for m in actor.messages("calendar.state_change")] == ["disconnected"]

    actor.sandbox.faults.clear()
    token = actor.sandbox.world.issue_refresh_token(calendar.account)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": token})
    await actor.quiesce()
    assert (await actor.calendar(calendar))["state"] == "connected"
    await actor.assert_equal(calendar)
    assert [entry["change"] for entry in actor.entries()] == ["created"]


@BOTH
async def test_hazard_50_401_once(actor: Actor) -> None:
    """The token ended early: refreshed and asked again within the same run."""
    await actor.subscribe()
    calendar = await actor.connected()
    refreshed, asked = count(actor, "token"), count(actor, "changes")
    actor.sandbox.world.expire_access_tokens()
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    assert await actor.run(calendar) == "synced"
    assert (count(actor, "token"), count(actor, "changes")) == (refreshed + 1, asked + 2)
    await actor.quiesce()
    await healthy_and_told(actor, calendar, "created")


@BOTH
async def test_hazard_50_401_again(actor: Actor, redis_url: str) -> None:
    """A new token refused as well: the run fails and backs off; a token endpoint that says yes disconnects nobody."""
    await actor.subscribe()
    calendar = await actor.connected()
    refreshed, asked = count(actor, "token"), count(actor, "changes")
    actor.sandbox.faults.add("unauthorized", actor.operation("changes"), times=2)
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    assert await actor.run(calendar) == "failed"
    assert (count(actor, "token"), count(actor, "changes")) == (refreshed + 1, asked + 2)
    await actor.quiesce()
    assert count(actor, "changes") == asked + 2
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["health"]["status"]) == ("connected", "degraded")
    await pass_time(actor, redis_url, minutes=20)
    await healthy_and_told(actor, calendar, "created")
