"""OAuth apps at work: secrets change without a gap, an incident ends for all at once, what will expire is told once."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import Context
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app import scheduling
from app.calendars import Credentials, NewCalendar
from app.calendars import connect as connect_calendar
from app.ids import OAUTH_APP, parse
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from app.sync import cleanup, incidents
from app.webhooks.delivery import deliver_due
from sandbox import Sandbox
from tests.harness import BOTH, Actor, Connected, Json
from tests.integration.test_races import until_it_waits
from tests.integration.test_upkeep import looping
from workers.sweeps import warn_of_secrets

OUTLOOK = pytest.mark.parametrize("platform", ["microsoft"])
OTHER = {"platform": "google", "client_id": "another client"}
FAILING = "oauth_app.failing"


@pytest.fixture
async def second(settings: Settings, rt: Runtime, sandbox: Sandbox) -> AsyncIterator[Runtime]:
    """Another worker on the same database."""
    async with open_runtime(settings, transport=httpx.ASGITransport(sandbox.app)) as other:
        yield other


async def make_app(actor: Actor, **more: Any) -> Json:
    """The app of the actor's accounts, as an object."""
    account = actor.new_account()
    body = {"platform": actor.platform, "client_id": account.client_id, "client_secret": account.client_secret}
    return await actor.call("POST", "/oauth_apps", json=body | more, expect=201)


async def connect(actor: Actor, app: Json) -> Connected:
    """A calendar that names its app."""
    account = actor.new_account()
    body = {"platform": actor.platform, "oauth_app_id": app["id"], "refresh_token": account.refresh_token}
    calendar = await actor.call("POST", "/calendars", json=body, expect=201)
    return Connected(calendar["id"], account, account.calendar_id)


async def patch(actor: Actor, app: Json, **change: Any) -> Json:
    """`PATCH /oauth_apps/{id}`"""
    return await actor.call("PATCH", f"/oauth_apps/{app['id']}", json=change)


async def shown(actor: Actor, app: Json) -> Json:
    """`GET /oauth_apps/{id}`"""
    return await actor.call("GET", f"/oauth_apps/{app['id']}")


async def refresh_all(actor: Actor, calendars: list[Connected]) -> list[str]:
    """Every calendar needs a new token; how they are then."""
    actor.advance(timedelta(hours=2))
    for calendar in calendars:
        await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()
    return [(await actor.calendar(calendar))["health"]["status"] for calendar in calendars]


def told(actor: Actor) -> list[str]:
    """The codes of what was told about apps."""
    return [message.body["data"]["code"] for message in actor.messages(FAILING)]


# --- secrets change ---


@BOTH
async def test_a_secret_is_rotated_without_a_gap(actor: Actor) -> None:
    await actor.subscribe()
    in_a_month = (actor.rt.clock.now() + timedelta(days=31)).isoformat()
    app = await make_app(actor, secret_expires_at=in_a_month)
    calendars = [await connect(actor, app) for _ in range(2)]
    await actor.quiesce()
    world, client_id = actor.sandbox.world, app["client_id"]
    (old,) = app["secrets"]

    await patch(actor, app, client_secret="made, not yet known everywhere")
    asked = actor.sandbox.requests.count(actor.operation("token"))
    for _ in range(2):
        assert await refresh_all(actor, calendars) == ["healthy", "healthy"]
    assert actor.sandbox.requests.count(actor.operation("token")) == asked + 5  # refused once
    first, new = (await shown(actor, app))["secrets"]
    assert (first["id"], new["last_worked_at"]) == (old["id"], None)

    world.set_client_secret(client_id, "made, not yet known everywhere")
    assert await refresh_all(actor, calendars) == ["healthy", "healthy"]
    first, kept = (await shown(actor, app))["secrets"]
    assert (first["id"], first["refused_at"], kept["id"]) == (new["id"], None, old["id"])

    actor.advance(timedelta(days=8))
    assert await refresh_all(actor, calendars) == ["healthy", "healthy"]
    await cleanup.purge(actor.rt)
    assert [secret["id"] for secret in (await shown(actor, app))["secrets"]] == [new["id"]]
    actor.advance(timedelta(days=25))
    await warn_of_secrets(actor.rt)
    await deliver_due(actor.rt)
    assert told(actor) == []  # neither refused nor, as the old one has gone, expiring


@BOTH
async def test_a_secret_that_comes_while_the_old_one_is_refused_is_tried_at_once(actor: Actor) -> None:
    await actor.subscribe()
    app = await make_app(actor)
    calendar = await connect(actor, app)
    await actor.quiesce()
    actor.sandbox.world.set_client_secret(app["client_id"], "rotated")
    actor.advance(timedelta(hours=2))
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    gate = actor.sandbox.faults.gate(actor.operation("token"))
    run = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    await patch(actor, app, client_secret="rotated")
    gate.release()
    assert await run == "synced"
    await actor.quiesce()
    assert told(actor) == []


async def test_a_failing_run_and_a_patch_do_not_wait_for_each_other_in_a_circle(actor: Actor) -> None:
    """Both take the calendar's app before `sync_state`."""
    calendar = await actor.connected()
    actor.sandbox.world.set_client_secret(calendar.account.client_id, "rotated")
    actor.advance(timedelta(hours=2))
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    gate = actor.sandbox.faults.gate(actor.operation("token"))
    run = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    async with actor.rt.db.transaction() as tx:
        await tx.row("SELECT calendar_id FROM sync_state FOR UPDATE")
        gate.release()
        await until_it_waits(tx)
        body = {"client_secret": "rotated"}
        patched = asyncio.create_task(actor.call("PATCH", f"/calendars/{calendar.id}", json=body), context=Context())
        await until_it_waits(tx, sessions=2)
    await patched
    assert await run == "failed"


@OUTLOOK
async def test_tokens_come_from_the_apps_tenant(actor: Actor) -> None:
    app = await make_app(actor, tenant="consumers")
    account = actor.new_account()
    body = {"platform": "microsoft", "oauth_app_id": app["id"], "refresh_token": account.refresh_token, "verify": True}
    await actor.call("POST", "/calendars", json=body, expect=422)
    await patch(actor, app, tenant="example.com")
    calendar = await actor.call("POST", "/calendars", json=body, expect=201)
    await actor.quiesce()
    assert (await actor.call("GET", f"/calendars/{calendar['id']}"))["last_successful_sync_at"] is not None
    await patch(actor, app, tenant="consumers")
    actor.advance(timedelta(hours=2))
    await actor.call("POST", f"/calendars/{calendar['id']}/sync", expect=202)
    await actor.quiesce()
    assert (await actor.call("GET", f"/calendars/{calendar['id']}"))["state"] == "disconnected"


# --- incidents ---


async def break_app(actor: Actor, app: Json) -> list[Connected]:
    """Three calendars of an app whose secret the provider no longer takes; they wait for their next try."""
    calendars = [await connect(actor, app) for _ in range(3)]
    await actor.quiesce()
    actor.sandbox.world.set_client_secret(app["client_id"], "rotated")
    assert await refresh_all(actor, calendars) == ["degraded"] * 3
    return calendars


@BOTH
async def test_an_incident_is_shown_and_a_new_secret_ends_it_for_all_at_once(actor: Actor) -> None:
    await actor.subscribe()
    app = await make_app(actor)
    calendars = await break_app(actor, app)
    (message,) = actor.messages(FAILING)
    incident, data = (await shown(actor, app))["incident"], message.body["data"]
    assert incident == {name: data[name] for name in ("code", "since", "detail")}
    assert (data["calendars_affected"], data["secret_expires_at"]) == (3, None)

    await patch(actor, app, client_secret="also wrong")
    await actor.quiesce()
    assert (await shown(actor, app))["incident"] == incident
    await patch(actor, app, client_secret="rotated")
    async with looping(actor):
        for calendar in calendars:
            while (await actor.calendar(calendar))["health"]["status"] != "healthy":
                await asyncio.sleep(0.01)
    assert (await shown(actor, app))["incident"] is None
    await actor.quiesce()
    assert len(actor.messages(FAILING)) == 1
    assert actor.messages("calendar.state_change") == []


async def test_the_first_success_has_the_others_tried(actor: Actor) -> None:
    app = await make_app(actor)
    calendars = await break_app(actor, app)
    actor.sandbox.world.set_client_secret(app["client_id"], calendars[0].account.client_secret)
    actor.advance(timedelta(minutes=3))
    async with actor.rt.db.transaction() as tx:  # they have failed for long, and wait for long
        await tx.execute("UPDATE sync_state SET not_before = app_now() + interval '15 minutes'")
    await actor.call("PATCH", f"/calendars/{calendars[0].id}", json={})
    await actor.quiesce()
    assert [(await actor.calendar(calendar))["health"]["status"] for calendar in calendars] == ["healthy"] * 3
    assert (await shown(actor, app))["incident"] is None


_MORE = """
WITH one AS (SELECT * FROM calendars ORDER BY id LIMIT 1),
     more AS (INSERT INTO calendars (id, project_id, oauth_app_id, platform, state)
              SELECT gen_random_uuid(), project_id, oauth_app_id, platform, state FROM one, generate_series(1, 1200)
              RETURNING id, oauth_app_id)
INSERT INTO sync_state (calendar_id, oauth_app_id, requested_seq, due_at, not_before, failure_code,
                        last_attempted_sync_at)
SELECT id, oauth_app_id, 1, app_now(), app_now() + interval '15 minutes', 'oauth_app_broken', app_now() FROM more
"""


async def test_a_thousand_calendars_are_made_due_in_batches_and_are_no_herd(actor: Actor) -> None:
    app = await make_app(actor)
    await connect(actor, app)
    await actor.quiesce()
    async with actor.rt.db.transaction() as tx:
        await tx.execute(_MORE)
    assert await scheduling.due_calendars(actor.rt, most=5000) == {}
    statements: list[str] = []
    with actor.rt.db.watched(statements.append):
        await patch(actor, app)
    assert len(statements) < 10
    batches = [await incidents.retry_due(actor.rt)]
    async with actor.rt.db.transaction() as tx:  # what is made due fails again meanwhile
        await tx.execute(
            "UPDATE sync_state SET last_attempted_sync_at = app_now(), not_before = app_now() + interval '1 minute'"
            " WHERE not_before = '-infinity' AND failure_code IS NOT NULL"
        )
    batches += [await incidents.retry_due(actor.rt) for _ in range(4)]
    assert batches == [501, 501, 201, 1, 0]
    assert len(await scheduling.due_calendars(actor.rt, most=5000)) == 700
    asked = await actor.connect(client_id="another client", client_secret="s")
    first = next(iter(await scheduling.due_calendars(actor.rt, most=40)))
    assert first == asked.key  # another app's, and asked for


# --- what will expire ---


@pytest.mark.parametrize(("days", "expected"), [(40, [30, 7, 1]), (5, [5, 1]), (0.5, [0.5])])
async def test_each_warning_is_told_once(actor: Actor, second: Runtime, days: float, expected: list[float]) -> None:
    await actor.subscribe()
    expires_at = actor.rt.clock.now() + timedelta(days=days)
    app = await make_app(actor, secret_expires_at=expires_at.isoformat())
    left = []
    for day in range(int(days) + 2):
        counts = await asyncio.gather(*(warn_of_secrets(worker) for worker in (actor.rt, second, actor.rt)))
        left += [days - day] * sum(counts)
        actor.advance(timedelta(days=1))
        second.clock.advance(timedelta(days=1))
    assert left == expected
    await deliver_due(actor.rt)
    messages = [message.body["data"] for message in actor.messages(FAILING)]
    assert {data["code"] for data in messages} == {"secret_expires"}
    assert {(data["oauth_app_id"], data["secret_expires_at"]) for data in messages} == {
        (app["id"], app["secret_expires_at"])
    }
    assert len({data["since"] for data in messages}) == len(expected)


async def test_a_new_date_is_warned_of_anew(actor: Actor) -> None:
    await actor.subscribe()
    at = [(actor.rt.clock.now() + timedelta(days=days)).isoformat() for days in (5, 6)]
    app = await make_app(actor, secret_expires_at=at[0])
    async with looping(actor):
        while not (await actor.call("GET", "/webhook_deliveries"))["results"]:
            await asyncio.sleep(0.01)
    for date in (at[0], at[0], at[1], at[1]):
        await patch(actor, app, secret_expires_at=date)
        await actor.quiesce()
    assert told(actor) == ["secret_expires"] * 2
    await patch(actor, app, secret_expires_at=None)
    actor.advance(timedelta(days=5))
    await actor.quiesce()
    assert len(told(actor)) == 2


# --- what must not go wrong ---


async def test_a_secret_of_another_app_is_never_sent(actor: Actor) -> None:
    """Sealed for its row: it does not open elsewhere, and a new one heals the app."""
    app = await make_app(actor)
    calendar = await connect(actor, app)
    await actor.call("POST", "/oauth_apps", json={**OTHER, "client_secret": "theirs"}, expect=201)
    await actor.quiesce()
    async with actor.rt.db.transaction() as tx:
        await tx.execute(
            "UPDATE oauth_app_secrets s SET secret_sealed = o.secret_sealed FROM oauth_app_secrets o WHERE o.id <> s.id"
        )
    asked = actor.sandbox.requests.count(actor.operation("token"))
    assert await refresh_all(actor, [calendar]) == ["degraded"]
    assert actor.sandbox.requests.count(actor.operation("token")) == asked
    await patch(actor, app, client_secret=calendar.account.client_secret)
    actor.advance(timedelta(minutes=20))
    await actor.quiesce()
    assert (await actor.calendar(calendar))["health"]["status"] == "healthy"


async def test_an_app_is_not_deleted_while_a_calendar_is_being_connected(actor: Actor) -> None:
    app = await make_app(actor)
    account = actor.new_account()
    key = parse(OAUTH_APP, app["id"])
    assert key is not None
    new = NewCalendar(Credentials("google", key, account.refresh_token), None, None, None)
    async with actor.rt.db.transaction() as tx:
        await connect_calendar(actor.rt, tx, project_id=actor.project.id, new=new)
        deleting = asyncio.create_task(actor.call("DELETE", f"/oauth_apps/{app['id']}", expect=409), context=Context())
        await until_it_waits(tx)
    assert (await deleting)["code"] == "oauth_app_in_use"
