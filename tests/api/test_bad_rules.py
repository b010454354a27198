"""Bad input about rules: each kind a problem with a stable code and a pointer, and nothing stored."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.runtime import Runtime
from tests.api.refusals import counts, refused
from tests.api.rows import MEET, Rows, calendar_ref

RULES, DRY_RUN = "/api/v1/rules", "/api/v1/rules/dry_run"
RULE: dict[str, Any] = {"name": "All", "match": {"is_all_day": False}, "bot": {"bot_name": "Notes"}}
UNKNOWN = "rule_01JD4QC5D7F9H1J3K5M7N9P1R3"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def calendar(rows: Rows) -> UUID:
    """A calendar that would be judged anew."""
    return await rows.calendar()


@pytest.fixture
async def rule(rows: Rows, calendar: UUID) -> str:
    """A rule that is there."""
    return await rows.rule()


@pytest.fixture(autouse=True)
async def _nothing_is_stored(rt: Runtime, rule: str) -> AsyncIterator[None]:
    before = await counts(rt), await _stored(rt)
    yield
    assert (await counts(rt), await _stored(rt)) == before


async def _stored(rt: Runtime) -> Any:
    async with rt.db.reading() as tx:
        return await tx.scalar("SELECT string_agg(CAST(r AS text), '|' ORDER BY r.id) FROM rules r")


MATCHES: list[Any] = [
    ({}, "empty_match", ""),
    ({"title_contains": None}, "empty_match", ""),
    (None, "wrong_type", ""),
    ([], "wrong_type", ""),
    ({"title": "demo"}, "unknown_field", "/title"),
    ({"any": [{"is_all_day": True}]}, "unknown_field", "/any"),
    ({"title_regex": "("}, "invalid_regex", "/title_regex"),
    ({"title_regex": "(?=demo)"}, "invalid_regex", "/title_regex"),
    ({"title_regex": r"(a)\1"}, "invalid_regex", "/title_regex"),
    ({"title_regex": "((a{1,100}){1,100}){1,100}"}, "invalid_regex", "/title_regex"),
    ({"title_regex": "(a{1000}){1000}"}, "invalid_regex", "/title_regex"),
    ({"title_regex": "x" * 201}, "too_long", "/title_regex"),
    ({"title_regex": "ä" * 101}, "too_long", "/title_regex"),
    ({"title_regex": ""}, "too_short", "/title_regex"),
    ({"title_regex": "a\0"}, "invalid_text", "/title_regex"),
    ({"title_regex": ["a"]}, "wrong_type", "/title_regex"),
    ({"title_contains": []}, "too_short", "/title_contains"),
    ({"title_contains": ["  "]}, "blank", "/title_contains/0"),
    ({"title_contains": ["t"] * 51}, "too_long", "/title_contains"),
    ({"title_contains": ["t" * 201]}, "too_long", "/title_contains/0"),
    ({"title_contains": "demo"}, "wrong_type", "/title_contains"),
    ({"own_response": ["maybe"]}, "not_allowed", "/own_response/0"),
    ({"is_organizer": "yes"}, "wrong_type", "/is_organizer"),
    ({"has_external_attendees": 1}, "wrong_type", "/has_external_attendees"),
    ({"attendee_count_gte": -1}, "out_of_range", "/attendee_count_gte"),
    ({"attendee_count_gte": 3, "attendee_count_lte": 2}, "out_of_range", "/attendee_count_lte"),
    ({"duration_seconds_gte": 2, "duration_seconds_lte": 1}, "out_of_range", "/duration_seconds_lte"),
    ({"attendee_domains": ["ada@example.com"]}, "invalid_domain", "/attendee_domains/0"),
    ({"organizer_domains": ["*.example.com"]}, "invalid_domain", "/organizer_domains/0"),
    ({"meeting_platforms": ["skypish"]}, "not_allowed", "/meeting_platforms/0"),
    ({"visibility": ["secret"]}, "not_allowed", "/visibility/0"),
    ({"event_types": ["party"]}, "not_allowed", "/event_types/0"),
    ({"calendar_metadata": {}}, "too_short", "/calendar_metadata"),
    ({"calendar_metadata": {"a": 1}}, "wrong_type", "/calendar_metadata/a"),
]
FIELDS: list[Any] = [
    ({"name": " "}, "blank", "/name"),
    ({"name": "n" * 513}, "too_long", "/name"),
    ({"is_enabled": None}, "wrong_type", "/is_enabled"),
    ({"is_enabled": "true"}, "wrong_type", "/is_enabled"),
    ({"priority": 1.5}, "wrong_type", "/priority"),
    ({"priority": 1_001}, "out_of_range", "/priority"),
    ({"priority": -1_001}, "out_of_range", "/priority"),
    ({"dedup_scope": "galaxy"}, "not_allowed", "/dedup_scope"),
    ({"bot": None}, "wrong_type", "/bot"),
    ({"bot": {}}, "missing", "/bot/bot_name"),
    ({"bot": {"bot_name": " "}}, "blank", "/bot/bot_name"),
    ({"bot": {"bot_name": "n" * 101}}, "too_long", "/bot/bot_name"),
    ({"bot": {"bot_name": "n", "metadata": {}}}, "unknown_field", "/bot/metadata"),
    ({"bot": {"bot_name": "n", "launcher_id": "x"}}, "not_found", "/bot/launcher_id"),
    ({"bot": {"bot_name": "n", "launcher_id": "lch_01JD4QBA1C3E5G7J9M1P3R5T7V"}}, "not_found", "/bot/launcher_id"),
    ({"bot": {"bot_name": "n", "config": []}}, "wrong_type", "/bot/config"),
    ({"bot": {"bot_name": "n", "config": {"record": True}}}, "unknown_field", "/bot/config/record"),
    ({"bot": {"bot_name": "n", "config": {"language": "de"}}}, "needs_transcription", "/bot/config/language"),
    ({"version": 2}, "unknown_field", "/version"),
    ({"series_id": "s"}, "unknown_field", "/series_id"),
    ({"created_at": None}, "unknown_field", "/created_at"),
    *(({"match": match}, code, f"/match{place}") for match, code, place in MATCHES),
]


async def test_fields_of_a_rule(client: httpx.AsyncClient, rule: str, subtests: pytest.Subtests) -> None:
    for change, code, pointer in FIELDS:
        with subtests.test(case=str(change)[:80]):
            for method, url, body, place in (
                ("POST", RULES, RULE | change, pointer),
                ("PATCH", f"{RULES}/{rule}", change, pointer),
                ("POST", DRY_RUN, {"rule": RULE | change}, f"/rule{pointer}"),
            ):
                answer = await client.request(method, url, content=json.dumps(body).encode(), headers=JSON)
                refused(answer, code, place)


async def test_what_a_rule_needs(client: httpx.AsyncClient) -> None:
    for name in ("name", "match", "bot"):
        body = {key: value for key, value in RULE.items() if key != name}
        refused(await client.post(RULES, json=body), "missing", f"/{name}")
        refused(await client.post(DRY_RUN, json={"rule": body}), "missing", f"/rule/{name}")
    refused(await client.post(RULES, json=RULE | {"id": UNKNOWN}), "unknown_field", "/id")
    refused(await client.patch(f"{RULES}/{UNKNOWN}", json={"id": UNKNOWN}), "unknown_field", "/id")


async def test_rules_that_nothing_has(client: httpx.AsyncClient) -> None:
    for url in (f"{RULES}/{UNKNOWN}", f"{RULES}/x", f"{RULES}/dry_run"):
        for answer in (await client.get(url), await client.patch(url, json={"name": "x"}), await client.delete(url)):
            refused(answer, "not_found", status=404)


async def test_what_the_launchers_back_end_cannot_do(client: httpx.AsyncClient, rows: Rows, rule: str) -> None:
    """What the default launcher is counts where none is named."""
    bot = {"bot_name": "Notes", "config": {"recording": "hologram"}}
    refused(await client.post(RULES, json=RULE | {"bot": bot}), "not_allowed", "/bot/config/recording")
    bot = {"bot_name": "Notes", "config": {"leave": {"silence": 0}}}
    refused(await client.patch(f"{RULES}/{rule}", json={"bot": bot}), "out_of_range", "/bot/config/leave/silence")


DRY_RUNS: list[Any] = [
    ({"calendar_id": 7}, "wrong_type", "/calendar_id"),
    ({"calendar_id": "x"}, "not_found", "/calendar_id"),
    ({"start_time_gte": "2026-11-20T10:00:00"}, "naive_time", "/start_time_gte"),
    ({"start_time_lte": "soon"}, "invalid_time", "/start_time_lte"),
    (
        {"start_time_gte": "2026-11-20T10:00:00Z", "start_time_lte": "2026-11-19T10:00:00Z"},
        "end_before_start",
        "/start_time_lte",
    ),
    ({"limit": 10}, "unknown_field", "/limit"),
    ({"rule": None}, "wrong_type", "/rule"),
    ({"rule": RULE | {"id": UNKNOWN}}, "not_found", "/rule/id"),
    ({"rule": RULE | {"id": "x"}}, "not_found", "/rule/id"),
]


async def test_fields_of_a_dry_run(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for change, code, pointer in DRY_RUNS:
        with subtests.test(case=str(change)[:80]):
            refused(await client.post(DRY_RUN, json={"rule": RULE} | change), code, pointer)
    answer = await client.post(DRY_RUN, json={"rule": RULE}, headers={"Idempotency-Key": "k"})
    refused(answer, "idempotency_key_not_accepted", "Idempotency-Key")


async def test_a_dry_run_of_too_many_events(client: httpx.AsyncClient, rt: Runtime, rows: Rows, calendar: UUID) -> None:
    start = rt.clock.now() + timedelta(hours=1)
    await rows.event(calendar, start_time=start, end_time=start + timedelta(hours=1), meeting_url=MEET)
    await rows.sql(
        "INSERT INTO calendar_events (id, project_id, calendar_id, platform_uuid, start_time, end_time, status,"
        " is_deleted, content, content_hash, change_seq, is_raw_truncated, created_at, updated_at)"
        " SELECT gen_random_uuid(), project_id, calendar_id, CAST(n AS text), start_time, end_time, status, is_deleted,"
        " content, content_hash, change_seq + n, is_raw_truncated, created_at, updated_at"
        " FROM calendar_events CROSS JOIN generate_series(1, 2000) n"
    )
    refused(await client.post(DRY_RUN, json={"rule": RULE}), "too_many_events", "")
    later = {"start_time_gte": (start + timedelta(minutes=1)).isoformat()}
    assert (await client.post(DRY_RUN, json={"rule": RULE} | later)).json() == {"results": []}


async def test_parameters_of_the_list(client: httpx.AsyncClient) -> None:
    refused(await client.get(f"{RULES}?name=All"), "unknown_parameter", "name")
    refused(await client.get(f"{RULES}?limit=0"), "out_of_range", "limit")
    refused(await client.get(f"{RULES}?cursor=x"), "invalid_cursor", "cursor")


async def test_a_deleted_calendar_of_a_dry_run(client: httpx.AsyncClient, rows: Rows, calendar: UUID) -> None:
    await rows.sql("UPDATE calendars SET deleted_at = app_now()")
    refused(
        await client.post(DRY_RUN, json={"rule": RULE, "calendar_id": calendar_ref(calendar)}),
        "not_found",
        "/calendar_id",
    )
