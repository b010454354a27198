"""What is answered is what was stored: a failed commit never answers 2xx, an absent database is 503."""

import asyncio
from typing import Any

import httpx
import pytest

from app.crypto import make_api_key
from app.ids import ENDPOINT, new_id, parse
from app.runtime import Runtime
from tests.api.rows import Rows, calendar_ref

CALENDARS, WEBHOOKS = "/api/v1/calendars", "/api/v1/webhooks"
HOOK = {"url": "http://127.0.0.1:9/hook", "triggers": ["calendar.events_update"]}
RANGE = {"created_at_gte": "2026-01-01T00:00:00Z", "created_at_lte": "2026-12-31T00:00:00Z"}
TABLES = ("calendars", "sync_state", "webhook_endpoints", "deliveries", "replays")


async def _refuse_commits(rows: Rows) -> None:
    """Statements succeed, the commit does not: as when a deferred constraint, or the server's last word, says no."""
    await rows.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$")
    for table in TABLES:
        await rows.sql(
            f"CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE OR DELETE ON {table}"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
        )


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
async def test_a_failed_commit_never_answers_2xx(
    client: httpx.AsyncClient, rt: Runtime, rows: Rows, credentials: dict[str, Any], headers: dict[str, str]
) -> None:
    calendar = f"{CALENDARS}/{calendar_ref(await rows.calendar())}"
    endpoint_id = await rows.endpoint()
    endpoint = f"{WEBHOOKS}/{endpoint_id}"
    endpoint_key = parse(ENDPOINT, endpoint_id)
    assert endpoint_key is not None
    delivery = f"/api/v1/webhook_deliveries/{await rows.delivery(endpoint_key)}"
    await _refuse_commits(rows)
    writes: list[tuple[str, str, Any]] = [
        ("POST", CALENDARS, credentials),
        ("POST", CALENDARS, credentials | {"verify": True}),
        ("PATCH", calendar, {"metadata": {"a": "b"}}),
        ("POST", f"{calendar}/sync", {}),
        ("DELETE", calendar, None),
        ("POST", WEBHOOKS, HOOK),
        ("PATCH", endpoint, {"state": "enabled"}),
        ("POST", f"{endpoint}/test", None),
        ("POST", f"{endpoint}/replay", RANGE),
        ("POST", f"{delivery}/retry", None),
        ("DELETE", endpoint, None),
    ]
    for method, url, body in writes:
        answer = await client.request(method, url, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error"), (method, url)
        assert "not today" not in answer.text
    async with rt.db.reading() as tx:
        assert await tx.scalar("SELECT count(*) FROM calendars WHERE deleted_at IS NULL AND metadata IS NULL") == 1
        assert await tx.scalar("SELECT count(*) FROM webhook_endpoints WHERE deleted_at IS NULL") == 1
        assert await tx.scalar("SELECT count(*) FROM idempotency_keys") == 0
        assert await tx.scalar("SELECT count(*) FROM messages") == 1
        assert await tx.scalar("SELECT count(*) FROM deliveries WHERE state = 'failed'") == 1
        assert await tx.scalar("SELECT count(*) FROM replays") == 0


async def test_nothing_is_woken_by_what_was_not_committed(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    calendar = f"{CALENDARS}/{calendar_ref(await rows.calendar())}"
    await _refuse_commits(rows)
    await client.post(f"{calendar}/sync")
    await rt.queue.drain()
    assert await rt.queue.redis.keys("*") == []


async def test_a_lock_that_is_not_given_in_time_is_503(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    endpoint = await rows.endpoint()
    await rows.sql(f"ALTER DATABASE {await _database(rt)} SET lock_timeout = '50ms'")
    await rt.db.recycle()
    async with rt.db.transaction() as tx:
        await tx.rows("SELECT id FROM webhook_endpoints WHERE id = :id FOR UPDATE", {"id": parse(ENDPOINT, endpoint)})
        answer = await client.patch(f"{WEBHOOKS}/{endpoint}", json={"state": "enabled"})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"


async def _database(rt: Runtime) -> str:
    async with rt.db.reading() as tx:
        return str(await tx.scalar("SELECT current_database()"))


async def test_a_lost_connection_is_503_and_the_next_request_works(
    client: httpx.AsyncClient, rt: Runtime, rows: Rows
) -> None:
    endpoint = await rows.endpoint()
    assert (await client.get(WEBHOOKS)).status_code == 200
    async with rt.db.transaction() as tx:
        # Holds the row, so that the request below waits in a connection that is then cut.
        await tx.rows("SELECT id FROM webhook_endpoints FOR UPDATE")
        waiting = asyncio.create_task(client.patch(f"{WEBHOOKS}/{endpoint}", json={"state": "enabled"}))
        cut = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while not await tx.rows(cut):
            await asyncio.sleep(0.01)
            await tx.scalar("SELECT pg_stat_clear_snapshot()")
    answer = await waiting
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert (await client.patch(f"{WEBHOOKS}/{endpoint}", json={"state": "enabled"})).status_code == 200


class TestWithoutADatabase:
    """The server is there, the database is not."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"database_url": "postgresql://nobody@127.0.0.1:1/nowhere"}

    async def test_it_is_503_and_not_ready(self, api: httpx.AsyncClient) -> None:
        key = "punctual_01JD4Q8ZK3V6W8N2M5T7R9B1CX_"
        unsigned = await api.get(CALENDARS, headers={"Authorization": f"Token {key}"})
        assert unsigned.status_code == 401
        ready = await api.get("/readyz")
        assert (ready.status_code, ready.json()["database"]) == (503, "away")
        assert (await api.get("/healthz")).status_code == 200

    async def test_a_request_with_a_key_is_503(self, api: httpx.AsyncClient) -> None:
        headers = {"Authorization": f"Token {make_api_key(new_id()).text}"}
        for answer in (
            await api.get(CALENDARS, headers=headers),
            await api.post(WEBHOOKS, json=HOOK, headers=headers),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
