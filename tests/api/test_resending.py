"""Retry of one delivery and replay of a range, through HTTP; the log that they work on."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.api import queries
from app.api.pages import Order, Slice
from app.db import Params, ReadTx, Row
from app.ids import DELIVERY, ENDPOINT, new_id, parse
from app.runtime import Runtime
from app.webhooks import replays
from tests.api.rows import Rows

WEBHOOKS, DELIVERIES = "/api/v1/webhooks", "/api/v1/webhook_deliveries"
ALWAYS = {"created_at_gte": "2020-01-01T00:00:00Z", "created_at_lte": "2100-01-01T00:00:00Z"}


def _key(ref: str, prefix: str = ENDPOINT) -> UUID:
    key = parse(prefix, ref)
    assert key is not None
    return key


def _text(at: datetime) -> str:
    """As the API writes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def _row(rt: Runtime, delivery: str) -> Any:
    async with rt.db.reading() as tx:
        return await tx.row("SELECT * FROM deliveries WHERE id = :id", {"id": _key(delivery, DELIVERY)})


async def _log(rows: Rows, endpoint: UUID, *, state: str, count: int, trigger: str = "calendar.events_update") -> None:
    """Deliveries a minute apart, the last of them a minute ago."""
    await rows.sql(
        "WITH made AS (SELECT gen_random_uuid() AS id, n FROM generate_series(1, :count) n),"
        " stored AS (INSERT INTO messages (id, project_id, trigger, payload)"
        "            SELECT id, :project, :trigger, CAST('{}' AS bytea) FROM made)"
        " INSERT INTO deliveries (id, project_id, message_id, endpoint_id, trigger, state, next_attempt_at, created_at,"
        "                         updated_at)"
        " SELECT gen_random_uuid(), :project, id, :endpoint, :trigger, :state,"
        "        CASE WHEN CAST(:state AS text) = 'pending' THEN app_now() END,"
        "        app_now() - make_interval(mins => n), app_now() - make_interval(mins => n) FROM made",
        count=count,
        project=rows.project_id,
        endpoint=endpoint,
        trigger=trigger,
        state=state,
    )


@pytest.mark.parametrize("state", ["failed", "succeeded", "merged"])
async def test_what_is_over_begins_anew(client: httpx.AsyncClient, rt: Runtime, rows: Rows, state: str) -> None:
    delivery = await rows.delivery(_key(await rows.endpoint()), state=state)
    before = (await client.get(f"{DELIVERIES}/{delivery}")).json()
    assert (before["state"], before["next_attempt_at"]) == (state, None)
    answer = await client.post(f"{DELIVERIES}/{delivery}/retry")
    shown = answer.json()
    assert (answer.status_code, shown["state"]) == (202, "pending")
    assert shown["next_attempt_at"] <= _text(rt.clock.now())
    for name in ("id", "message_id", "attempts", "payload", "created_at"):
        assert shown[name] == before[name]
    row = await _row(rt, delivery)
    assert (row.priority, row.attempt_count, row.lane) == (1, 0, None)
    assert rt.queue.delivery_due.is_set()


async def test_what_waits_for_its_next_attempt_has_it_now(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    delivery = await rows.delivery(_key(await rows.endpoint()), state="pending")
    answer = await client.post(f"{DELIVERIES}/{delivery}/retry")
    assert answer.json()["next_attempt_at"] <= _text(rt.clock.now())
    row = await _row(rt, delivery)
    assert (row.attempt_count, row.state) == (1, "pending")  # the second of its schedule comes early
    again = await client.post(f"{DELIVERIES}/{delivery}/retry")
    assert again.json() == answer.json()


async def test_a_key_makes_it_one_retry(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    delivery = await rows.delivery(_key(await rows.endpoint()))
    headers = {"Idempotency-Key": "k"}
    first = await client.post(f"{DELIVERIES}/{delivery}/retry", headers=headers)
    await rows.sql("UPDATE deliveries SET state = 'failed', next_attempt_at = NULL")
    again = await client.post(f"{DELIVERIES}/{delivery}/retry", headers=headers)
    assert (again.status_code, again.content) == (202, first.content)
    assert (await _row(rt, delivery)).state == "failed"


async def test_no_retry_to_an_endpoint_that_gets_none(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    endpoint = await rows.endpoint()
    deliveries = [await rows.delivery(_key(endpoint), state=state) for state in ("failed", "pending")]
    before = [await _row(rt, delivery) for delivery in deliveries]
    await rows.sql("UPDATE webhook_endpoints SET state = 'disabled', disabled_reason = 'gone'")
    for delivery in deliveries:
        answer = await client.post(f"{DELIVERIES}/{delivery}/retry")
        assert (answer.status_code, answer.json()["code"]) == (409, "endpoint_disabled")
    answer = await client.post(f"{WEBHOOKS}/{endpoint}/replay", json=ALWAYS)
    assert (answer.status_code, answer.json()["code"]) == (409, "endpoint_disabled")
    await rows.sql("UPDATE webhook_endpoints SET deleted_at = app_now()")
    for delivery in deliveries:
        answer = await client.post(f"{DELIVERIES}/{delivery}/retry")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await client.post(f"{WEBHOOKS}/{endpoint}/replay", json=ALWAYS)).status_code == 404
    assert [await _row(rt, delivery) for delivery in deliveries] == before
    async with rt.db.reading() as tx:
        assert await tx.scalar("SELECT count(*) FROM replays") == 0


async def test_a_failing_endpoint_may_be_tried(client: httpx.AsyncClient, rows: Rows) -> None:
    endpoint = await rows.endpoint()
    delivery = await rows.delivery(_key(endpoint))
    await rows.sql("UPDATE webhook_endpoints SET state = 'failing'")
    assert (await client.post(f"{WEBHOOKS}/{endpoint}/replay", json=ALWAYS)).json()["count"] == 1
    assert (await client.post(f"{DELIVERIES}/{delivery}/retry")).status_code == 202


async def test_what_belongs_to_a_deleted_calendar_is_not_sent_again(
    client: httpx.AsyncClient, rt: Runtime, rows: Rows
) -> None:
    endpoint, calendar = await rows.endpoint(), await rows.calendar()
    delivery = await rows.delivery(_key(endpoint), calendar_id=calendar)
    await rows.sql("UPDATE calendars SET deleted_at = app_now()")
    assert (await client.post(f"{DELIVERIES}/{delivery}/retry")).status_code == 404
    replay = (await client.post(f"{WEBHOOKS}/{endpoint}/replay", json=ALWAYS)).json()
    assert replay["count"] == 0
    while await replays.run_due(rt):
        pass
    assert (await _row(rt, delivery)).state == "failed"


async def test_a_replay_is_counted_and_can_be_followed(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    endpoint = await rows.endpoint()
    for state, count in (("failed", 3), ("succeeded", 4), ("merged", 2), ("pending", 5)):
        await _log(rows, _key(endpoint), state=state, count=count)
    await _log(rows, _key(endpoint), state="failed", count=1, trigger="webhook.test")
    await _log(rows, _key(await rows.endpoint()), state="failed", count=9)
    now = rt.clock.now()
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, 4),
        ({"states": ["succeeded"]}, 4),
        ({"states": ["failed", "succeeded", "merged"]}, 10),
        ({"triggers": ["webhook.test"]}, 1),
        ({"triggers": ["webhook.test", "calendar.events_update"]}, 4),
        ({"triggers": None, "created_at_gte": _text(now - timedelta(minutes=2.5))}, 3),
        ({"created_at_lte": _text(now - timedelta(minutes=2.5))}, 1),
    ]
    for change, count in cases:
        dry = await client.post(f"{WEBHOOKS}/{endpoint}/replay", json=ALWAYS | change | {"dry_run": True})
        assert (dry.status_code, dry.json()) == (200, {"count": count, "replay_id": None}), change
    headers = {"Idempotency-Key": "k"}
    made = await client.post(f"{WEBHOOKS}/{endpoint}/replay", json=ALWAYS, headers=headers)
    assert (made.status_code, made.json()["count"]) == (202, 4)
    again = await client.post(f"{WEBHOOKS}/{endpoint}/replay", json=ALWAYS, headers=headers)
    assert (again.status_code, again.content) == (202, made.content)
    url = f"{WEBHOOKS}/{endpoint}/replays/{made.json()['replay_id']}"
    shown = (await client.get(url)).json()
    assert (shown["webhook_id"], shown["states"], shown["triggers"]) == (endpoint, ["failed"], None)
    assert (shown["count"], shown["done_count"], shown["finished_at"]) == (4, 0, None)
    assert await replays.run_due(rt)
    done = (await client.get(url)).json()
    assert done["finished_at"] is not None
    assert done == shown | {"done_count": 4, "finished_at": done["finished_at"]}
    assert not await replays.run_due(rt)
    async with rt.db.reading() as tx:
        assert await tx.scalar("SELECT count(*) FROM replays") == 1


async def test_merged_ones_are_listed(client: httpx.AsyncClient, rows: Rows) -> None:
    merged = await rows.delivery(_key(await rows.endpoint()), state="merged")
    listed = (await client.get(DELIVERIES, params={"state": "merged"})).json()["results"]
    assert [item["id"] for item in listed] == [merged]


async def test_a_list_shows_the_latest_attempts_and_a_delivery_more(client: httpx.AsyncClient, rows: Rows) -> None:
    delivery = await rows.delivery(_key(await rows.endpoint()))
    await rows.sql("DELETE FROM delivery_attempts")
    await rows.sql(
        "INSERT INTO delivery_attempts (delivery_id, at, status, error, phases_ms, address, response_body)"
        " SELECT :id, app_now() - make_interval(mins => 200 - n), n, 'refused',"
        """ CAST('{"dns": 1.5, "connect": 2, "tls": null, "first_byte": 3, "total": 4}' AS jsonb), '192.0.2.1', 'no'"""
        "   FROM generate_series(1, 150) n",
        id=_key(delivery, DELIVERY),
    )
    shown = (await client.get(f"{DELIVERIES}/{delivery}")).json()["attempts"]
    listed = (await client.get(DELIVERIES)).json()["results"][0]["attempts"]
    assert [attempt["status"] for attempt in shown] == list(range(51, 151))
    assert listed == shown[-10:]
    assert shown[0]["phases_ms"] == {"dns": 1.5, "connect": 2, "tls": None, "first_byte": 3, "total": 4}
    assert (shown[0]["error"], shown[0]["address"], shown[0]["response_body"]) == ("refused", "192.0.2.1", "no")


async def test_no_plan_reads_the_whole_log(rt: Runtime, rows: Rows) -> None:
    """Each filter finds its rows by an index, also where nothing matches; one statement per list."""
    endpoint, calendar = _key(await rows.endpoint()), await rows.calendar()
    await _log(rows, endpoint, state="succeeded", count=20_000)
    await _log(rows, _key(await rows.endpoint()), state="failed", count=50)
    await rows.delivery(endpoint, calendar_id=calendar)
    await rows.sql("ANALYZE deliveries")
    await rows.sql("ANALYZE messages")
    now = rt.clock.now()
    filters: list[dict[str, Any]] = [
        {},
        {"webhook_id": endpoint},
        {"webhook_id": new_id()},
        {"state": "failed"},
        {"state": "merged"},
        {"state": "pending"},
        {"webhook_id": endpoint, "state": "failed"},
        {"trigger": "webhook.test"},
        {"calendar_id": calendar},
        {"calendar_id": new_id()},
        {"created_at_gte": now - timedelta(minutes=3), "created_at_lte": now - timedelta(minutes=2)},
    ]
    part = Slice(Order("d.created_at", "d.id", is_descending=True), 25, None)
    for given in filters:
        async with rt.db.reading() as tx:
            plan = await queries.deliveries(_Explained(tx), rows.project_id, filters=given, part=part)
        text = "\n".join(row[0] for row in plan)
        assert "on deliveries" in text
        for table in ("deliveries", "messages", "delivery_attempts"):
            assert f"Seq Scan on {table}" not in text, (given, text)


class _Explained(ReadTx):
    """Shows a query's plan in place of its rows."""

    def __init__(self, tx: ReadTx) -> None:
        self._tx = tx

    async def rows(self, statement: str, params: Params | None = None) -> Sequence[Row]:
        return await self._tx.rows(f"EXPLAIN {statement}", params)

    async def row(self, statement: str, params: Params | None = None) -> Row | None:
        raise NotImplementedError

    async def scalar(self, statement: str, params: Params | None = None) -> Any:
        raise NotImplementedError
