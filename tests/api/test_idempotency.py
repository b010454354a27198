"""`Idempotency-Key`: the first answer, once."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.runtime import Runtime
from sandbox import Sandbox
from tests.api.rows import Rows, calendar_ref

CALENDARS, WEBHOOKS = "/api/v1/calendars", "/api/v1/webhooks"
KEY = {"Idempotency-Key": "order-66"}
ENDPOINT = {"url": "http://127.0.0.1:9/hook", "triggers": ["calendar.events_update"]}


async def _count(rt: Runtime, table: str) -> int:
    async with rt.db.reading() as tx:
        count: int = await tx.scalar(f"SELECT count(*) FROM {table}")
    return count


async def test_the_same_request_gets_the_first_answer(
    client: httpx.AsyncClient, rt: Runtime, credentials: dict[str, Any]
) -> None:
    first = await client.post(CALENDARS, json=credentials, headers=KEY)
    again = await client.post(CALENDARS, json=dict(reversed(credentials.items())), headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert await _count(rt, "calendars") == 1


async def test_a_secret_that_is_shown_once_is_shown_again_to_who_missed_it(
    client: httpx.AsyncClient, rt: Runtime
) -> None:
    first = await client.post(WEBHOOKS, json=ENDPOINT, headers=KEY)
    again = await client.post(WEBHOOKS, json=ENDPOINT, headers=KEY)
    assert first.json()["secret"] == again.json()["secret"]
    assert first.headers["cache-control"] == again.headers["cache-control"] == "no-store"
    async with rt.db.reading() as tx:
        sealed: bytes = await tx.scalar("SELECT response_sealed FROM idempotency_keys")
    assert first.json()["secret"].encode() not in sealed
    assert b"hook" not in sealed


async def test_another_body_is_refused(client: httpx.AsyncClient, rt: Runtime, credentials: dict[str, Any]) -> None:
    await client.post(CALENDARS, json=credentials, headers=KEY)
    for verify in (False, True):
        other = credentials | {"deduplication_key": "x", "verify": verify}
        answer = await client.post(CALENDARS, json=other, headers=KEY)
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")
    assert await _count(rt, "calendars") == 1


async def test_a_key_belongs_to_method_and_path(client: httpx.AsyncClient, rows: Rows) -> None:
    one, two = calendar_ref(await rows.calendar()), calendar_ref(await rows.calendar())
    for _ in range(2):
        for calendar in (one, two):
            answer = await client.post(f"{CALENDARS}/{calendar}/sync", headers=KEY)
            assert answer.json() == {"requested_seq": 1}
    assert (await client.post(WEBHOOKS, json=ENDPOINT, headers=KEY)).status_code == 201


async def test_without_a_key_everything_runs_each_time(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = calendar_ref(await rows.calendar())
    seqs = [(await client.post(f"{CALENDARS}/{calendar}/sync")).json()["requested_seq"] for _ in range(3)]
    assert seqs == [1, 2, 3]


async def test_a_failure_is_not_kept(client: httpx.AsyncClient, rt: Runtime, credentials: dict[str, Any]) -> None:
    body = credentials | {"deduplication_key": "taken"}
    taken = (await client.post(CALENDARS, json=body)).json()["id"]
    assert (await client.post(CALENDARS, json=body, headers=KEY)).status_code == 409
    assert await _count(rt, "idempotency_keys") == 0
    await client.delete(f"{CALENDARS}/{taken}")
    assert (await client.post(CALENDARS, json=body, headers=KEY)).status_code == 201


async def test_after_a_day_the_key_is_free(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    calendar = calendar_ref(await rows.calendar())
    url = f"{CALENDARS}/{calendar}/sync"
    assert (await client.post(url, headers=KEY)).json() == {"requested_seq": 1}
    rt.clock.advance(timedelta(hours=23, minutes=59))
    assert (await client.post(url, headers=KEY)).json() == {"requested_seq": 1}
    rt.clock.advance(timedelta(minutes=2))
    assert (await client.post(url, json={"full": True}, headers=KEY)).json() == {"requested_seq": 2}
    assert (await client.post(url, json={"full": True}, headers=KEY)).json() == {"requested_seq": 2}


@pytest.mark.parametrize("verify", [False, True])
async def test_of_concurrent_twins_one_runs(
    client: httpx.AsyncClient, rt: Runtime, credentials: dict[str, Any], verify: bool
) -> None:
    body = credentials | {"verify": verify}
    answers = await asyncio.gather(*(client.post(CALENDARS, json=body, headers=KEY) for _ in range(12)))
    made = [answer for answer in answers if answer.status_code == 201]
    told = {answer.json()["code"] for answer in answers if answer.status_code != 201}
    assert len({answer.json()["id"] for answer in made}) == 1
    assert told <= {"idempotency_in_progress"}
    assert await _count(rt, "calendars") == 1


async def test_a_twin_is_told_while_the_first_still_runs(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    calendar_id = await rows.calendar()
    url = f"{CALENDARS}/{calendar_ref(calendar_id)}/sync"
    async with rt.db.transaction() as tx:
        await tx.execute("SELECT FROM sync_state WHERE calendar_id = :id FOR UPDATE", {"id": calendar_id})
        first = asyncio.create_task(client.post(url, headers=KEY))
        while True:
            twin = await client.post(url, headers=KEY, timeout=1) if await _waits(rt) else None
            if twin is not None:
                break
    assert (twin.status_code, twin.json()["code"]) == (409, "idempotency_in_progress")
    assert (await first).json() == {"requested_seq": 1}
    assert (await client.post(url, headers=KEY)).json() == {"requested_seq": 1}


async def _waits(rt: Runtime) -> bool:
    async with rt.db.reading() as tx:
        return bool(
            await tx.scalar(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
            )
        )


async def test_a_stored_answer_needs_no_provider(
    client: httpx.AsyncClient, sandbox: Sandbox, credentials: dict[str, Any]
) -> None:
    body = credentials | {"verify": True}
    first = await client.post(CALENDARS, json=body, headers=KEY)
    asked = sandbox.requests.count("token")
    assert asked
    assert (await client.post(CALENDARS, json=body, headers=KEY)).content == first.content
    assert sandbox.requests.count("token") == asked


async def test_an_answer_that_cannot_be_committed_is_not_kept(
    client: httpx.AsyncClient, rt: Runtime, rows: Rows
) -> None:
    calendar = calendar_ref(await rows.calendar())
    await rows.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$")
    await rows.sql(
        "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON sync_state DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    assert (await client.post(f"{CALENDARS}/{calendar}/sync", headers=KEY)).status_code == 500
    assert await _count(rt, "idempotency_keys") == 0
    await rows.sql("DROP TRIGGER refuse ON sync_state")
    assert (await client.post(f"{CALENDARS}/{calendar}/sync", headers=KEY)).json() == {"requested_seq": 1}
