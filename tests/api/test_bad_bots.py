"""Bad input about bots and launchers: each kind a problem with a stable code and a pointer, and nothing stored."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.runtime import Runtime
from tests.api.refusals import counts, refused
from tests.api.rows import Rows

BOTS, LAUNCHERS = "/api/v1/bots", "/api/v1/launchers"
SOON = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
BOT: dict[str, Any] = {
    "bot_name": "Notes",
    "meeting_url": "https://meet.google.com/abc-defg-hij",
    "join_at": SOON,
}
LAUNCHER: dict[str, Any] = {"kind": "attendee", "name": "Theirs", "api_key": "hunter2"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def event(rows: Rows) -> str:
    """A single event."""
    return await rows.event(await rows.calendar())


@pytest.fixture(autouse=True)
async def _nothing_is_stored(rt: Runtime, event: str) -> AsyncIterator[None]:
    before = await counts(rt)
    yield
    assert await counts(rt) == before


_PNG = "iVBORw0KGgoAAAANSUhEUg=="
BOT_FIELDS: list[Any] = [
    ({"bot_name": None}, "wrong_type", "/bot_name"),
    ({"bot_name": "  "}, "blank", "/bot_name"),
    ({"bot_name": "n" * 101}, "too_long", "/bot_name"),
    ({"calendar_event_id": "evt_01JD4Q9A7B9D1F3G5H7K9M1N3P"}, "not_allowed", "/meeting_url", "/join_at"),
    ({"calendar_event_id": 7}, "wrong_type", "/calendar_event_id"),
    ({"all_occurrences": True}, "not_a_series", "/all_occurrences"),
    ({"all_occurrences": 1}, "wrong_type", "/all_occurrences"),
    ({"meeting_url": None}, "missing", "/meeting_url"),
    ({"join_at": None}, "missing", "/join_at"),
    ({"meeting_url": None, "join_at": None}, "missing", "/meeting_url", "/join_at"),
    ({"join_at": 1}, "invalid_time", "/join_at"),
    ({"join_at": "2030-01-01T10:00:00"}, "naive_time", "/join_at"),
    ({"join_at": "soon"}, "invalid_time", "/join_at"),
    ({"join_at": "2020-01-01T10:00:00Z"}, "in_the_past", "/join_at"),
    ({"join_at": (datetime.now(UTC) - timedelta(minutes=2)).isoformat()}, "in_the_past", "/join_at"),
    ({"join_at": (datetime.now(UTC) + timedelta(days=1_097)).isoformat()}, "out_of_range", "/join_at"),
    ({"join_at": "9999-12-31T23:59:59Z"}, "out_of_range", "/join_at"),
    ({"meeting_url": ""}, "invalid_url", "/meeting_url"),
    ({"meeting_url": "our room"}, "invalid_url", "/meeting_url"),
    ({"meeting_url": "https://meet.google.com/" + "x" * 4_096}, "too_long", "/meeting_url"),
    ({"meeting_url": "http://zoom.us/j/123456789"}, "scheme_not_allowed", "/meeting_url"),
    ({"meeting_url": "https://ada:pw@zoom.us/j/123456789"}, "userinfo_not_allowed", "/meeting_url"),
    ({"meeting_url": "https://10.0.0.1/j/123456789"}, "host_not_allowed", "/meeting_url"),
    ({"meeting_url": "https://jitsi.internal/Planning"}, "host_not_allowed", "/meeting_url"),
    ({"meeting_url": "https://www.google.com/url?q=https%3A%2F%2F10.0.0.1%2Fj"}, "host_not_allowed", "/meeting_url"),
    ({"meeting_url": "https://zoom.us:8443/j/123456789"}, "port_not_allowed", "/meeting_url"),
    ({"meeting_url": "https://example.com/j/123456789"}, "unknown_platform", "/meeting_url"),
    ({"meeting_url": "https://zoom.us/rec/share/abc"}, "not_a_meeting", "/meeting_url"),
    ({"launcher_id": "lch_01JD4QBA1C3E5G7J9M1P3R5T7V"}, "not_found", "/launcher_id"),
    ({"launcher_id": "x"}, "not_found", "/launcher_id"),
    ({"deduplication_key": ""}, "blank", "/deduplication_key"),
    ({"deduplication_key": "k" * 513}, "too_long", "/deduplication_key"),
    ({"metadata": {"a": 1}}, "wrong_type", "/metadata/a"),
    ({"metadata": {str(n): "v" for n in range(51)}}, "too_long", "/metadata"),
    ({"metadata": {"a": "x" * 8_192}}, "too_long", "/metadata"),
    ({"config": []}, "wrong_type", "/config"),
    ({"config": {"record": True}}, "unknown_field", "/config/record"),
    ({"config": {"recording": "hologram"}}, "not_allowed", "/config/recording"),
    ({"config": {"bot_image": "hello"}}, "invalid_image", "/config/bot_image"),
    ({"config": {"bot_image": _PNG + "A" * 600_000}}, "too_long", "/config/bot_image"),
    ({"config": {"language": "Klingon", "transcription": True}}, "invalid_language", "/config/language"),
    ({"config": {"language": "de"}}, "needs_transcription", "/config/language"),
    ({"config": {"leave": {"silence": 0}}}, "out_of_range", "/config/leave/silence"),
    ({"config": {"passthrough": {"meeting_url": "x"}}}, "reserved", "/config/passthrough/meeting_url"),
    ({"config": {"passthrough": {"a": "x" * 16_384}}}, "too_long", "/config/passthrough"),
    ({"config": {"passthrough": {"a": "\0"}}}, "invalid_text", "/config/passthrough/a"),
    ({"config": {"passthrough": {"a": "\ud800"}}}, "invalid_text", "/config/passthrough/a"),
    *(
        ({name: value}, "unknown_field", f"/{name}")
        for name, value in (
            ("id", "bot_01JD4QB7C9E1G3J5M7P9R1T3VX"),
            ("state", "launched"),
            ("external_id", "x"),
            ("rule_id", None),
            ("recording_settings", {}),
        )
    ),
]


async def test_bot_fields(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for change, code, *pointers in BOT_FIELDS:
        with subtests.test(case=str(change)[:80]):
            body = {name: value for name, value in (BOT | change).items() if value is not None or code != "missing"}
            answer = await client.post(BOTS, content=json.dumps(body).encode(), headers=JSON)
            refused(answer, code, *pointers)


async def test_fields_of_a_bot_that_nothing_has(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    url = f"{BOTS}/bot_01JD4QB7C9E1G3J5M7P9R1T3VX"
    for change, code, pointer in (
        ({"bot_name": None}, "wrong_type", "/bot_name"),
        ({"meeting_url": None}, "wrong_type", "/meeting_url"),
        ({"meeting_url": "https://zoom.us/rec/share/abc"}, "not_a_meeting", "/meeting_url"),
        ({"join_at": None}, "wrong_type", "/join_at"),
        ({"join_at": "2030-01-01T10:00:00"}, "naive_time", "/join_at"),
        ({"deduplication_key": "k"}, "unknown_field", "/deduplication_key"),
        ({"launcher_id": None}, "unknown_field", "/launcher_id"),
        ({"calendar_event_id": "x"}, "unknown_field", "/calendar_event_id"),
        ({"state": "cancelled"}, "unknown_field", "/state"),
    ):
        with subtests.test(case=str(change)):
            refused(await client.patch(url, json=change), code, pointer)
    for query, code, pointer in (
        ("all_occurrences=perhaps", "wrong_type", "all_occurrences"),
        ("all_occurrences=true&all_occurrences=true", "repeated_parameter", "all_occurrences"),
        ("occurrences=all", "unknown_parameter", "occurrences"),
    ):
        refused(await client.patch(f"{url}?{query}", json={}), code, pointer)
        refused(await client.delete(f"{url}?{query}"), code, pointer)
    refused(await client.patch(f"{url}?all_occurrences=true", json={}), "not_found", status=404)
    refused(await client.delete(f"{url}?all_occurrences=true"), "not_found", status=404)
    for answer in (await client.get(url), await client.patch(url, json={}), await client.delete(url)):
        refused(answer, "not_found", status=404)


OVERRIDES: list[Any] = [
    ({}, "missing", "/bot_override"),
    ({"all_occurrences": True}, "missing", "/bot_override"),
    ({"bot_override": "sometimes"}, "not_allowed", "/bot_override"),
    ({"bot_override": True}, "not_allowed", "/bot_override"),
    ({"bot_override": "always", "all_occurrences": None}, "wrong_type", "/all_occurrences"),
    ({"bot_override": "always", "all_occurrences": "true"}, "wrong_type", "/all_occurrences"),
    ({"bot_override": "always", "all_occurrences": True}, "not_a_series", "/all_occurrences"),
    ({"bot_override": None, "name": "Planning"}, "unknown_field", "/name"),
]


async def test_overrides_of_an_event(
    client: httpx.AsyncClient, rows: Rows, event: str, subtests: pytest.Subtests
) -> None:
    url = f"/api/v1/calendar_events/{event}"
    before = (await client.get(url)).json()
    for body, code, pointer in OVERRIDES:
        with subtests.test(case=str(body)):
            refused(await client.patch(url, json=body), code, pointer)
            assert (await client.get(url)).json() == before
    await rows.sql("UPDATE calendar_events SET is_deleted = true")
    refused(await client.patch(url, json={"bot_override": "always"}), "event_gone", "/bot_override")
    for other in ("evt_01JD4Q9A7B9D1F3G5H7K9M1N3P", "x"):
        answer = await client.patch(f"/api/v1/calendar_events/{other}", json={"bot_override": "always"})
        refused(answer, "not_found", status=404)


LAUNCHER_FIELDS: list[Any] = [
    ({"kind": "zoom"}, "not_allowed", "/kind"),
    ({"kind": None}, "not_allowed", "/kind"),
    ({"name": ""}, "blank", "/name"),
    ({"api_key": None}, "missing", "/api_key"),
    ({"api_key": ""}, "wrong_type", "/api_key"),
    ({"api_key": "two words"}, "wrong_type", "/api_key"),
    ({"api_key": "line\r\nbreak"}, "wrong_type", "/api_key"),
    ({"api_key": "k" * 4_097}, "too_long", "/api_key"),
    ({"kind": "webhook"}, "not_allowed", "/api_key"),
    ({"kind": "webhook", "api_key": None, "base_url": "https://bots.example.com"}, "not_allowed", "/base_url"),
    ({"base_url": "https://10.0.0.1"}, "host_not_allowed", "/base_url"),
    ({"base_url": "https://169.254.169.254/"}, "host_not_allowed", "/base_url"),
    ({"base_url": "https://[::ffff:10.0.0.1]/"}, "host_not_allowed", "/base_url"),
    ({"base_url": "ftp://bots.example.com"}, "scheme_not_allowed", "/base_url"),
    ({"base_url": "https://u:p@bots.example.com"}, "userinfo_not_allowed", "/base_url"),
    ({"base_url": "https://bots.example.com/#x"}, "fragment_not_allowed", "/base_url"),
    ({"base_url": "https://bots.example.com:22"}, "port_not_allowed", "/base_url"),
    ({"base_url": "not a url"}, "invalid_url", "/base_url"),
    ({"base_url": "https://bots.example.com/" + "x" * 2_048}, "too_long", "/base_url"),
    ({"hand_over_seconds": -1}, "out_of_range", "/hand_over_seconds"),
    ({"hand_over_seconds": 3_601}, "out_of_range", "/hand_over_seconds"),
    ({"hand_over_seconds": 1.5}, "wrong_type", "/hand_over_seconds"),
    ({"hand_over_seconds": "60"}, "wrong_type", "/hand_over_seconds"),
    ({"is_default": "yes"}, "wrong_type", "/is_default"),
    ({"is_default": None}, "wrong_type", "/is_default"),
    ({"health": {}}, "unknown_field", "/health"),
]


async def test_launcher_fields(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for change, code, pointer in LAUNCHER_FIELDS:
        with subtests.test(case=str(change)[:80]):
            answer = await client.post(LAUNCHERS, json=LAUNCHER | change)
            refused(answer, code, pointer)
            assert "hunter2" not in answer.text


BOT_FILTERS: list[Any] = [
    ("state=asleep", "not_allowed", "state"),
    ("state=scheduled&state=asleep", "not_allowed", "state"),
    ("states=scheduled,launched", "not_allowed", "states"),
    ("&".join(["state=scheduled"] * 7), "too_long", "state"),
    ("state=%00", "invalid_text", "state"),
    ("calendar_id=x&calendar_id=y", "repeated_parameter", "calendar_id"),
    ("join_at_gte=2026-11-20T10:00:00", "naive_time", "join_at_gte"),
    ("join_at_before=soon", "invalid_time", "join_at_before"),
    ("ordering=join_at", "unknown_parameter", "ordering"),
    ("limit=251", "out_of_range", "limit"),
    ("cursor=x", "invalid_cursor", "cursor"),
]


async def test_bot_filters(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for query, code, pointer in BOT_FILTERS:
        with subtests.test(case=query[:80]):
            refused(await client.get(f"{BOTS}?{query}"), code, pointer)
    refused(await client.get(f"{LAUNCHERS}?kind=webhook"), "unknown_parameter", "kind")
