"""Calendars through HTTP: connect, look, change, delete, and what the provider is asked."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.ids import CALENDAR, OAUTH_APP, parse, public
from app.runtime import Runtime
from sandbox import Sandbox
from tests.api.rows import Rows, calendar_ref

URL = "/api/v1/calendars"


async def _row(rt: Runtime, calendar: str) -> Any:
    async with rt.db.reading() as tx:
        return await tx.row(
            "SELECT c.*, s.requested_seq, s.full_requested_seq, s.not_before, g.version FROM calendars c"
            " JOIN sync_state s ON s.calendar_id = c.id JOIN grants g ON g.calendar_id = c.id WHERE c.id = :id",
            {"id": parse(CALENDAR, calendar)},
        )


async def test_connect_answers_at_once(
    client: httpx.AsyncClient, rt: Runtime, sandbox: Sandbox, credentials: dict[str, Any]
) -> None:
    more = {"metadata": {"tenant": "1"}, "deduplication_key": "user-1", "platform_uuid": "team@example.com"}
    answer = await client.post(URL, json=credentials | more)
    made = answer.json()
    assert answer.status_code == 201
    assert {name: made[name] for name in (*more, "state", "email", "client_id")} == {
        **more,
        "state": "connected",
        "email": None,
        "client_id": credentials["client_id"],
    }
    assert made["oauth_app_id"].startswith(OAUTH_APP)
    assert not sandbox.requests.seen
    assert (await _row(rt, made["id"])).requested_seq == 1
    shown = (await client.get(f"{URL}/{made['id']}")).json()
    assert shown | {"health": None} == made | {"health": None}  # its lag grows


async def test_nothing_secret_ever_comes_back(client: httpx.AsyncClient, credentials: dict[str, Any]) -> None:
    made = await client.post(URL, json=credentials)
    calendar = made.json()["id"]
    answers = [made, await client.get(URL), await client.patch(f"{URL}/{calendar}", json={"client_secret": "new-one"})]
    for answer in answers:
        for secret in (credentials["client_secret"], credentials["refresh_token"], "new-one"):
            assert secret not in answer.text


async def test_secrets_are_sealed_at_rest(client: httpx.AsyncClient, rt: Runtime, credentials: dict[str, Any]) -> None:
    await client.post(URL, json=credentials, headers={"Idempotency-Key": "k"})
    async with rt.db.reading() as tx:
        stored = [
            await tx.scalar("SELECT refresh_token_sealed FROM grants"),
            await tx.scalar("SELECT secret_sealed FROM oauth_app_secrets"),
            await tx.scalar("SELECT response_sealed FROM idempotency_keys"),
        ]
    for secret in (credentials["client_secret"], credentials["refresh_token"], credentials["client_id"]):
        assert all(secret.encode() not in sealed for sealed in stored)


async def test_verify_asks_first(
    client: httpx.AsyncClient, rt: Runtime, sandbox: Sandbox, credentials: dict[str, Any]
) -> None:
    body = credentials | {"verify": True}
    assert (await client.post(URL, json=body)).status_code == 201
    refused = {
        "user_revoked": body | {"refresh_token": "1//unknown"},
        "oauth_app_broken": body | {"client_secret": "wrong"},
        "calendar_gone": body | {"platform_uuid": "nobody@example.com"},
    }
    for code, request in refused.items():
        answer = await client.post(URL, json=request)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
        assert request["refresh_token"] not in answer.text
    async with rt.db.reading() as tx:
        assert await tx.scalar("SELECT count(*) FROM calendars") == 1


async def test_a_provider_that_is_away_is_503(
    client: httpx.AsyncClient, sandbox: Sandbox, credentials: dict[str, Any]
) -> None:
    sandbox.faults.add("unavailable", times=None)
    for url, body in ((URL, credentials | {"verify": True}), (f"{URL}/raw", credentials)):
        answer = await client.post(url, json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
        assert int(answer.headers["retry-after"]) > 0


async def test_raw_lists_what_the_user_sees_and_stores_nothing(
    client: httpx.AsyncClient, rt: Runtime, sandbox: Sandbox, credentials: dict[str, Any]
) -> None:
    team = sandbox.world.add_calendar(sandbox.world.accounts["ada@example.com"], "Team", "Asia/Tokyo")
    listed = (await client.post(f"{URL}/raw", json=credentials)).json()["results"]
    assert {item["platform_uuid"]: (item["is_primary"], item["time_zone"]) for item in listed} == {
        "ada@example.com": (True, "UTC"),
        team.id: (False, "Asia/Tokyo"),
    }
    async with rt.db.reading() as tx:
        assert await tx.scalar("SELECT count(*) FROM calendars") == 0
        assert await tx.scalar("SELECT count(*) FROM oauth_apps") == 0


async def test_a_taken_key_names_the_calendar_that_has_it(
    client: httpx.AsyncClient, credentials: dict[str, Any]
) -> None:
    body = credentials | {"deduplication_key": "user-1"}
    made = (await client.post(URL, json=body)).json()["id"]
    problem = (await client.post(URL, json=body)).json()
    assert (problem["status"], problem["code"], problem["existing_id"]) == (409, "deduplication_key_in_use", made)
    assert (await client.delete(f"{URL}/{made}")).status_code == 204
    assert (await client.post(URL, json=body)).status_code == 201


async def test_filters(client: httpx.AsyncClient, rows: Rows) -> None:
    one = calendar_ref(await rows.calendar(dedup="one", email="Ada@Example.com"))
    two = calendar_ref(await rows.calendar(dedup="two", email="bob@example.com"))
    gone = await rows.calendar(dedup="gone", email="ada@example.com")
    await rows.sql("UPDATE calendars SET state = 'disconnected' WHERE deduplication_key = 'two'")
    await rows.sql("UPDATE calendars SET deleted_at = app_now() WHERE id = :id", id=gone)
    cases: list[tuple[dict[str, str], list[str]]] = [
        ({}, [two, one]),
        ({"deduplication_key": "one"}, [one]),
        ({"deduplication_key": "gone"}, []),
        ({"state": "disconnected"}, [two]),
        ({"state": "connected"}, [one]),
        ({"email": "ada@example.COM"}, [one]),
        ({"platform": "google"}, [two, one]),
        ({"platform": "microsoft"}, []),
        ({"platform": "google", "email": "bob@example.com", "state": "connected"}, []),
    ]
    for params, expected in cases:
        results = (await client.get(URL, params=params)).json()["results"]
        assert [item["id"] for item in results] == expected, params


async def test_patch_changes_what_it_names(client: httpx.AsyncClient, rt: Runtime, credentials: dict[str, Any]) -> None:
    made = (await client.post(URL, json=credentials | {"metadata": {"a": "1"}})).json()
    url = f"{URL}/{made['id']}"
    assert (await client.patch(url, json={})).json()["metadata"] == {"a": "1"}
    assert (await client.patch(url, json={"metadata": {"b": "2"}})).json()["metadata"] == {"b": "2"}
    assert (await client.patch(url, json={"metadata": None})).json()["metadata"] is None
    row = await _row(rt, made["id"])
    assert (row.requested_seq, row.version) == (4, 1)
    await client.patch(url, json={"refresh_token": "1//new"})
    row = await _row(rt, made["id"])
    assert (row.requested_seq, row.version) == (5, 2)


async def test_sync_counts_up(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    calendar = calendar_ref(await rows.calendar())
    for body, seq in ((None, 1), ({}, 2), ({"full": False}, 3), ({"full": True}, 4)):
        answer = await client.post(f"{URL}/{calendar}/sync", json=body)
        assert (answer.status_code, answer.json()) == (202, {"requested_seq": seq})
    assert (await _row(rt, calendar)).full_requested_seq == 4


@pytest.mark.parametrize("path", ["sync", "access_token"])
async def test_fields_where_none_are_taken(client: httpx.AsyncClient, rows: Rows, path: str) -> None:
    calendar = calendar_ref(await rows.calendar())
    answer = await client.post(f"{URL}/{calendar}/{path}", json={"force": True})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_field")
    assert answer.json()["errors"][0]["pointer"] == "/force"


async def test_access_token(
    client: httpx.AsyncClient, sandbox: Sandbox, rt: Runtime, credentials: dict[str, Any]
) -> None:
    calendar = (await client.post(URL, json=credentials)).json()["id"]
    first = await client.post(f"{URL}/{calendar}/access_token")
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-store")
    assert first.json()["token"] in sandbox.world.tokens
    assert (await client.post(f"{URL}/{calendar}/access_token")).json() == first.json()
    rt.clock.advance(timedelta(minutes=56))
    later = (await client.post(f"{URL}/{calendar}/access_token")).json()
    assert later["token"] != first.json()["token"]
    assert later["expires_at"] > first.json()["expires_at"]


async def test_access_token_of_a_calendar_that_is_gone_or_disconnected(
    client: httpx.AsyncClient, sandbox: Sandbox, rows: Rows, credentials: dict[str, Any]
) -> None:
    calendar = (await client.post(URL, json=credentials)).json()["id"]
    sandbox.world.revoke(sandbox.world.accounts["ada@example.com"])
    answer = await client.post(f"{URL}/{calendar}/access_token")
    assert (answer.status_code, answer.json()["code"]) == (422, "user_revoked")
    await rows.sql("UPDATE calendars SET state = 'disconnected'")
    answer = await client.post(f"{URL}/{calendar}/access_token")
    assert (answer.status_code, answer.json()["code"]) == (409, "calendar_disconnected")
    await client.delete(f"{URL}/{calendar}")
    assert (await client.post(f"{URL}/{calendar}/access_token")).status_code == 404


async def test_after_delete_everything_is_404(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar_id = await rows.calendar()
    event = await rows.event(calendar_id)
    url = f"{URL}/{public(CALENDAR, calendar_id)}"
    answer = await client.delete(url)
    assert (answer.status_code, answer.content) == (204, b"")
    again = [
        await client.get(url),
        await client.patch(url, json={}),
        await client.delete(url),
        await client.post(f"{url}/sync"),
        await client.post(f"{url}/access_token"),
        await client.get(f"/api/v1/calendar_events/{event}"),
    ]
    assert {answer.status_code for answer in again} == {404}


async def test_health(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    calendar_id = await rows.calendar()
    url = f"{URL}/{calendar_ref(calendar_id)}"

    async def health() -> Any:
        return (await client.get(url)).json()["health"]

    quiet = {"active": False, "expires_at": None, "last_notification_at": None}
    assert await health() == {
        "status": "healthy",
        "reason": None,
        "since": None,
        "push": quiet,
        "lag_seconds": 0.0,
        "audit_found_changes": 0,
    }
    since = "2026-11-20T10:00:00.000000Z"
    failing = "UPDATE sync_state SET failure_code = 'oauth_app_broken', failing_since = '2026-11-20T10:00:00Z',"
    for count, status in ((1, "degraded"), (4, "degraded"), (5, "failing")):
        await rows.sql(f"{failing} failure_count = {count}")
        shown = await health()
        assert (shown["status"], shown["reason"], shown["since"]) == (status, "oauth_app_broken", since)
    await rows.sql("UPDATE sync_state SET requested_seq = 1, due_at = app_now()")
    rt.clock.advance(timedelta(seconds=90))
    assert 90 <= (await health())["lag_seconds"] < 120
    await rows.sql("UPDATE sync_state SET due_at = app_now() + interval '1 hour'")
    assert (await health())["lag_seconds"] == 0


async def test_health_of_push_and_of_a_disconnected_calendar(
    client: httpx.AsyncClient, rt: Runtime, rows: Rows
) -> None:
    calendar_id = await rows.calendar()
    url = f"{URL}/{calendar_ref(calendar_id)}"
    await rows.sql("UPDATE calendars SET channel_key = CAST('k' AS bytea)")
    await rows.sql(
        "INSERT INTO push_channels (id, channel_key, token_hash, state, expires_at) VALUES"
        " (gen_random_uuid(), CAST('k' AS bytea), CAST('t' AS bytea), 'active', app_now() + interval '1 day')"
    )
    assert (await client.get(url)).json()["health"]["push"]["active"] is True
    rt.clock.advance(timedelta(days=2))
    assert (await client.get(url)).json()["health"]["push"]["active"] is False
    failure = (
        '{"code": "user_revoked", "error": "invalid_grant", "message": "gone", "timestamp": "2026-11-20T10:00:00.5Z"}'
    )
    await rows.sql(
        "UPDATE calendars SET state = 'disconnected', failure = CAST(:failure AS jsonb)",
        failure=failure.replace("00.5Z", "00.500000Z"),
    )
    shown = (await client.get(url)).json()
    assert shown["connection_failure_data"]["code"] == "user_revoked"
    assert (shown["health"]["status"], shown["health"]["reason"]) == ("failing", "user_revoked")
    assert shown["health"]["since"] == "2026-11-20T10:00:00.500000Z"
