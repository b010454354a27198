"""Bad input: each kind a problem with a stable code and a pointer, and nothing stored."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.runtime import Runtime
from tests.api.refusals import counts, refused

CALENDARS, EVENTS, WEBHOOKS = "/api/v1/calendars", "/api/v1/calendar_events", "/api/v1/webhooks"
BOTS, LAUNCHERS = "/api/v1/bots", "/api/v1/launchers"
GOOD: dict[str, Any] = {
    "platform": "google",
    "client_id": "client",
    "client_secret": "secret",
    "refresh_token": "token",
}
ENDPOINT: dict[str, Any] = {"url": "http://127.0.0.1:9/hook", "triggers": ["calendar.events_update"]}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
async def _nothing_is_stored(rt: Runtime) -> AsyncIterator[None]:
    before = await counts(rt)
    yield
    assert await counts(rt) == before


CALENDAR_FIELDS: list[Any] = [
    ({"surprise": 1}, "unknown_field", "/surprise"),
    ({"oauth_app_id": "oapp_x"}, "not_found", "/oauth_app_id"),
    ({"oauth_app_id": None}, "wrong_type", "/oauth_app_id"),
    ({"client_id": 7}, "wrong_type", "/client_id"),
    ({"verify": "true"}, "wrong_type", "/verify"),
    ({"verify": 1}, "wrong_type", "/verify"),
    ({"client_secret": None}, "wrong_type", "/client_secret"),
    ({"client_secret": ""}, "blank", "/client_secret"),
    ({"refresh_token": " \t"}, "blank", "/refresh_token"),
    ({"client_id": ""}, "blank", "/client_id"),
    ({"platform_uuid": ""}, "blank", "/platform_uuid"),
    ({"deduplication_key": ""}, "blank", "/deduplication_key"),
    ({"deduplication_key": "k" * 513}, "too_long", "/deduplication_key"),
    ({"refresh_token": "k" * 4097}, "too_long", "/refresh_token"),
    ({"platform": "caldav"}, "not_allowed", "/platform"),
    ({"platform": "outlook"}, "not_allowed", "/platform"),
    ({"platform": None}, "not_allowed", "/platform"),
    ({"metadata": []}, "wrong_type", "/metadata"),
    ({"metadata": "x"}, "wrong_type", "/metadata"),
    ({"metadata": {"a/b~c": 1}}, "wrong_type", "/metadata/a~1b~0c"),
    ({"metadata": {"a": None}}, "wrong_type", "/metadata/a"),
    ({"metadata": {"a": {"b": "c"}}}, "wrong_type", "/metadata/a"),
    ({"metadata": {str(n): "v" for n in range(51)}}, "too_long", "/metadata"),
    ({"metadata": {"a": "x" * 8192}}, "too_long", "/metadata"),
    ({"client_id": "a\0b"}, "invalid_text", "/client_id"),
    ({"metadata": {"a": "\0"}}, "invalid_text", "/metadata/a"),
    ({"metadata": {"a\0": "b"}}, "invalid_text", "/metadata"),
    ({"client_secret": "\ud800"}, "invalid_text", "/client_secret"),
    ({"metadata": {"\udfff": "b"}}, "invalid_text", "/metadata"),
]


async def test_calendar_fields(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for change, code, pointer in CALENDAR_FIELDS:
        with subtests.test(case=str(change)[:80]):
            answer = await client.post(CALENDARS, content=json.dumps(GOOD | change).encode(), headers=JSON)
            refused(answer, code, pointer)


EACH_CREDENTIAL_IS_NEEDED: list[Any] = sorted(GOOD)


async def test_each_credential_is_needed(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for name in EACH_CREDENTIAL_IS_NEEDED:
        with subtests.test(case=str(name)[:80]):
            body = {key: value for key, value in GOOD.items() if key != name}
            refused(await client.post(CALENDARS, json=body), "missing", f"/{name}")
            refused(await client.post(f"{CALENDARS}/raw", json=body), "missing", f"/{name}")


async def test_several_faults_are_all_named(client: httpx.AsyncClient) -> None:
    problem = (await client.post(CALENDARS, json=GOOD | {"client_id": 1, "x": 1, "refresh_token": ""})).json()
    assert problem["code"] == "invalid"
    named = {(error["pointer"], error["code"]) for error in problem["errors"]}
    assert named == {("/client_id", "wrong_type"), ("/x", "unknown_field"), ("/refresh_token", "blank")}


async def test_values_are_never_repeated(client: httpx.AsyncClient) -> None:
    answer = await client.post(CALENDARS, json=GOOD | {"client_secret": ["hunter2"], "refresh_token": 77077})
    assert "hunter2" not in answer.text
    assert "77077" not in answer.text


WHAT_IS_NO_JSON_IS_MALFORMED: list[Any] = [
    b"{",
    b"",
    b'{"a": NaN}',
    b"\xff",
    b'{"platform": "google"',
    b"[" * 100_000,
    b'"\\ud800',
    b"{'a': 1}",
    b"1e999",
]


async def test_what_is_no_json_is_malformed(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for body in WHAT_IS_NO_JSON_IS_MALFORMED:
        with subtests.test(case=str(body)[:80]):
            answer = await client.post(CALENDARS, content=body, headers=JSON)
            if body:
                refused(answer, "malformed", status=400)
            else:
                refused(answer, "missing", "")


JSON_OF_ANOTHER_KIND: list[Any] = [b"[]", b'"text"', b"1", b"true", b"[1, 2]", b"null"]


async def test_json_of_another_kind(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for body in JSON_OF_ANOTHER_KIND:
        with subtests.test(case=str(body)[:80]):
            refused(await client.post(CALENDARS, content=body, headers=JSON), "wrong_type", "")


ANOTHER_MEDIA_TYPE: list[Any] = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]


async def test_another_media_type(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for media_type in ANOTHER_MEDIA_TYPE:
        with subtests.test(case=str(media_type)[:80]):
            answer = await client.post(CALENDARS, content=json.dumps(GOOD), headers={"Content-Type": media_type})
            refused(answer, "wrong_media_type", status=415)


async def test_a_body_over_one_mebibyte(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65_536

    declared = await client.post(CALENDARS, content=b" " * (1024 * 1024 + 1), headers=JSON)
    refused(declared, "too_large", status=413)
    streamed = await client.post(CALENDARS, content=endless(), headers=JSON)
    refused(streamed, "too_large", status=413)


EVENT_FILTERS: list[Any] = [
    ("no_such=1", "unknown_parameter", "no_such"),
    ("no_such=1&no_such=2", "unknown_parameter", "no_such"),
    ("Calendar_id=1", "unknown_parameter", "Calendar_id"),
    ("limit=0", "out_of_range", "limit"),
    ("limit=251", "out_of_range", "limit"),
    ("limit=many", "wrong_type", "limit"),
    ("limit=10&limit=20", "repeated_parameter", "limit"),
    ("is_deleted=perhaps&event_id=x", "wrong_type", "is_deleted"),
    ("ordering=name", "not_allowed", "ordering"),
    ("ordering=--updated_at", "not_allowed", "ordering"),
    ("exclude=attendees", "not_allowed", "exclude"),
    ("status=gone&event_id=x", "not_allowed", "status"),
    ("updated_after=2026-11-20", "naive_time", "updated_after"),
    ("updated_after=2026-11-20T10:00:00", "naive_time", "updated_after"),
    ("start_time_gte=2026-11-20T10:00:00.5", "naive_time", "start_time_gte"),
    ("updated_after=yesterday", "invalid_time", "updated_after"),
    ("updated_after=1700000000", "invalid_time", "updated_after"),
    ("updated_after=2026-02-30T10:00:00Z", "invalid_time", "updated_after"),
    ("updated_after=2026-11-20T10:00:60Z", "invalid_time", "updated_after"),
    ("updated_after=0001-01-01T00:00:00%2B14:00", "invalid_time", "updated_after"),
    ("updated_after=", "invalid_time", "updated_after"),
    ("cursor=", "invalid_cursor", "cursor"),
    ("cursor=x", "invalid_cursor", "cursor"),
    ("cursor=%E2%98%83", "invalid_cursor", "cursor"),
    ("cursor=AQAABmDCMMZXmAGh_Hb7enhevugUvTpVSUh935D5vJIMvQ", "invalid_cursor", "cursor"),
    ("after_seq=5", "missing", "calendar_id"),
    ("after_seq=-1&calendar_id=x", "out_of_range", "after_seq"),
    ("after_seq=9223372036854775808&calendar_id=x", "out_of_range", "after_seq"),
    (f"after_seq={'9' * 5000}&calendar_id=x", "out_of_range", "after_seq"),
    ("after_seq=1.5&calendar_id=x", "wrong_type", "after_seq"),
    ("after_seq=1&calendar_id=x&ordering=-updated_at", "not_allowed", "ordering"),
    ("series_id=a%00b&event_id=x", "invalid_text", "series_id"),
    ("status=confirmed", "filter_needs_bound", "status"),
    ("is_deleted=false", "filter_needs_bound", "is_deleted"),
    ("attendee_email=a@example.com", "filter_needs_bound", "attendee_email"),
]


async def test_event_filters(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for query, code, pointer in EVENT_FILTERS:
        with subtests.test(case=str(query)[:80]):
            refused(await client.get(f"{EVENTS}?{query}"), code, pointer)


FILTERS_OF_THE_OTHER_LISTS: list[Any] = [
    (f"{CALENDARS}?platform=caldav", "not_allowed", "platform"),
    (f"{CALENDARS}?state=paused", "not_allowed", "state"),
    (f"{CALENDARS}?updated_after=2026-11-20T10:00:00Z", "unknown_parameter", "updated_after"),
    (f"{CALENDARS}/cal_x?expand=1", "unknown_parameter", "expand"),
    (f"{WEBHOOKS}?state=enabled", "unknown_parameter", "state"),
    ("/api/v1/webhook_deliveries?state=lost", "not_allowed", "state"),
    ("/api/v1/webhook_deliveries?trigger=bot.lunch", "not_allowed", "trigger"),
    ("/api/v1/webhook_deliveries?created_at_gte=2026-11-20T10:00:00", "naive_time", "created_at_gte"),
]


async def test_filters_of_the_other_lists(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for url, code, pointer in FILTERS_OF_THE_OTHER_LISTS:
        with subtests.test(case=str(url)[:80]):
            refused(await client.get(url), code, pointer)


ENDPOINT_FIELDS: list[Any] = [
    ({"triggers": []}, "too_short", "/triggers"),
    ({"triggers": ["calendar.events_update"] * 2}, "not_unique", "/triggers"),
    ({"triggers": ["bot.lunch"]}, "not_allowed", "/triggers/0"),
    ({"triggers": ["webhook.test"]}, "not_allowed", "/triggers/0"),
    ({"triggers": "calendar.events_update"}, "wrong_type", "/triggers"),
    ({"url": "ftp://127.0.0.1/"}, "scheme_not_allowed", "/url"),
    ({"url": "http://10.0.0.1/"}, "host_not_allowed", "/url"),
    ({"url": "http://user:pw@127.0.0.1/"}, "userinfo_not_allowed", "/url"),
    ({"url": "http://127.0.0.1/#x"}, "fragment_not_allowed", "/url"),
    ({"url": "not a url"}, "invalid_url", "/url"),
    ({"url": "https://app.example.com:22/"}, "port_not_allowed", "/url"),
    ({"url": "http://127.0.0.1/" + "x" * 2048}, "too_long", "/url"),
    ({"url": "http://127.0.0.1/" + "x" * 2048, "headers": {"host": "x"}}, "too_long", "/url"),
    ({"url": "javascript:alert(1)"}, "scheme_not_allowed", "/url"),
    ({"url": "https://[::ffff:10.0.0.1]/"}, "host_not_allowed", "/url"),
    ({"url": 7}, "wrong_type", "/url"),
    ({"triggers": ["calendar.events_update", "calendar.everything"]}, "not_allowed", "/triggers/1"),
    ({"rate_limit": 0}, "out_of_range", "/rate_limit"),
    ({"rate_limit": 1001}, "out_of_range", "/rate_limit"),
    ({"rate_limit": 10**12}, "out_of_range", "/rate_limit"),
    ({"rate_limit": 1.5}, "wrong_type", "/rate_limit"),
    ({"rate_limit": "5"}, "wrong_type", "/rate_limit"),
    ({"rate_limit": True}, "wrong_type", "/rate_limit"),
    ({"ordered": "yes"}, "wrong_type", "/ordered"),
    ({"ordered": 1}, "wrong_type", "/ordered"),
    ({"ordered": None}, "wrong_type", "/ordered"),
    ({"retry_seconds": 5}, "wrong_type", "/retry_seconds"),
    ({"retry_seconds": [5, "5"]}, "wrong_type", "/retry_seconds/1"),
    ({"retry_seconds": [True]}, "wrong_type", "/retry_seconds/0"),
    ({"retry_seconds": [None]}, "wrong_type", "/retry_seconds/0"),
    ({"retry_seconds": [0.99]}, "out_of_range", "/retry_seconds/0"),
    ({"retry_seconds": [1, 604_800.5]}, "out_of_range", "/retry_seconds/1"),
    ({"retry_seconds": [5] * 21}, "too_long", "/retry_seconds"),
    ({"headers": ["authorization"]}, "wrong_type", "/headers"),
    ({"headers": {"authorization": 7}}, "wrong_type", "/headers/authorization"),
    ({"headers": {"authorization": ""}}, "blank", "/headers/authorization"),
    ({"headers": {"x-key": "a\r\nwebhook-id: b"}}, "invalid_header_value", "/headers/x-key"),
    ({"headers": {"x key": "a"}}, "invalid_header_name", "/headers/x key"),
    ({"headers": {"Host": "10.0.0.1"}}, "header_not_allowed", "/headers/Host"),
    ({"headers": {"webhook-signature": "v1,x"}}, "header_not_allowed", "/headers/webhook-signature"),
    ({"headers": {"content/length": "1"}}, "invalid_header_name", "/headers/content~1length"),
    ({"headers": {"x-key": "a", "X-Key": "b"}}, "not_unique", "/headers"),
    ({"headers": {f"x-{n}": "a" for n in range(11)}}, "too_long", "/headers"),
    ({"headers": {"x-key": "a" * 1025}}, "too_long", "/headers/x-key"),
    ({"secret": "whsec_x"}, "unknown_field", "/secret"),
    ({"public_key": "whpk_x"}, "unknown_field", "/public_key"),
    ({"state": "enabled"}, "unknown_field", "/state"),
]

SCHEMES_OF_ANOTHER_NAME: list[Any] = ["v2", "V1A", "hmac", "", None, 1, ["v1"]]


async def test_endpoint_fields(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for change, code, pointer in ENDPOINT_FIELDS:
        with subtests.test(case=str(change)[:80]):
            refused(await client.post(WEBHOOKS, json=ENDPOINT | change), code, pointer)


async def test_signatures_of_another_scheme(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for scheme in SCHEMES_OF_ANOTHER_NAME:
        with subtests.test(case=str(scheme)):
            refused(await client.post(WEBHOOKS, json=ENDPOINT | {"signature": scheme}), "not_allowed", "/signature")


async def test_values_of_headers_are_never_repeated(client: httpx.AsyncClient) -> None:
    for headers in ({"host": "hunter2"}, {"x-key": "hunter2\n"}, {"x-key": ["hunter2"]}, {"x-a": "hunter2", "X-A": ""}):
        answer = await client.post(WEBHOOKS, json=ENDPOINT | {"headers": headers})
        assert answer.status_code == 422
        assert "hunter2" not in answer.text


RANGE: dict[str, Any] = {"created_at_gte": "2026-01-01T00:00:00Z", "created_at_lte": "2026-01-02T00:00:00Z"}
REPLAY_FIELDS: list[Any] = [
    ({"created_at_lte": "2025-12-31T23:59:59Z"}, "end_before_start", "/created_at_lte"),
    ({"created_at_gte": "2900-01-01T00:00:00Z", "created_at_lte": "2901-01-01T00:00:00Z"}, "in_the_future",
     "/created_at_gte"),
    ({"created_at_gte": "2026-01-01T00:00:00"}, "naive_time", "/created_at_gte"),
    ({"created_at_lte": "tomorrow"}, "invalid_time", "/created_at_lte"),
    ({"created_at_lte": None}, "invalid_time", "/created_at_lte"),
    ({"created_at_lte": 1767225600}, "invalid_time", "/created_at_lte"),
    ({"states": []}, "too_short", "/states"),
    ({"states": ["pending"]}, "not_allowed", "/states/0"),
    ({"states": ["failed", "failed"]}, "not_unique", "/states"),
    ({"states": "failed"}, "wrong_type", "/states"),
    ({"states": None}, "wrong_type", "/states"),
    ({"states": [0] * 300_000}, "too_long", "/states"),
    ({"triggers": []}, "too_short", "/triggers"),
    ({"triggers": ["bot.lunch"]}, "not_allowed", "/triggers/0"),
    ({"triggers": ["webhook.test"] * 2}, "not_unique", "/triggers"),
    ({"dry_run": "true"}, "wrong_type", "/dry_run"),
    ({"limit": 10}, "unknown_field", "/limit"),
]  # fmt: skip


async def test_replay_fields(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    url = f"{WEBHOOKS}/ep_01JD4QA1Y5Z7B9D1F3G5H7J9K1/replay"
    for change, code, pointer in REPLAY_FIELDS:
        with subtests.test(case=str(change)[:80]):
            refused(await client.post(url, json=RANGE | change), code, pointer)
    for name in RANGE:
        refused(await client.post(url, json={k: v for k, v in RANGE.items() if k != name}), "missing", f"/{name}")
    refused(await client.post(url, json=RANGE), "not_found", status=404)
    answer = await client.post(url, json=RANGE | {"dry_run": True}, headers={"Idempotency-Key": "k"})
    refused(answer, "idempotency_key_not_accepted", "Idempotency-Key")


IDEMPOTENCY_KEYS_OF_ANOTHER_SHAPE: list[Any] = ["", " ", "k" * 256, "sn\u00f6", " k"]


async def test_idempotency_keys_of_another_shape(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for key in IDEMPOTENCY_KEYS_OF_ANOTHER_SHAPE:
        with subtests.test(case=str(key)[:80]):
            answer = await client.post(CALENDARS, json=GOOD, headers={"Idempotency-Key": key.encode("latin-1")})
            refused(answer, "invalid_idempotency_key", "Idempotency-Key")


IDEMPOTENCY_KEYS_WHERE_NONE_IS_KEPT: list[Any] = ["raw", "cal_01JD4Q8ZK3V6W8N2M5T7R9B1CX/access_token"]


async def test_idempotency_keys_where_none_is_kept(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for path in IDEMPOTENCY_KEYS_WHERE_NONE_IS_KEPT:
        with subtests.test(case=str(path)[:80]):
            body = GOOD if path == "raw" else None
            answer = await client.post(f"{CALENDARS}/{path}", json=body, headers={"Idempotency-Key": "k"})
            refused(answer, "idempotency_key_not_accepted", "Idempotency-Key")


IDS_THAT_NOTHING_HAS: list[Any] = [
    "x",
    "cal_",
    "cal_x",
    "cal_01JD4Q8ZK3V6W8N2M5T7R9B1CX",
    "evt_01JD4Q8ZK3V6W8N2M5T7R9B1CX",
    "%00",
    "%ff",
    "..%2f",
    "cal_01jd4q8zk3v6w8n2m5t7r9b1cx",
    "cal_81JD4Q8ZK3V6W8N2M5T7R9B1CX",
    "0" * 3000,
]


async def test_ids_that_nothing_has(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for text in IDS_THAT_NOTHING_HAS:
        with subtests.test(case=str(text)[:80]):
            for url in (
                f"{CALENDARS}/{text}",
                f"{EVENTS}/{text}",
                f"{WEBHOOKS}/{text}",
                f"/api/v1/webhook_deliveries/{text}",
                f"{BOTS}/{text}",
                f"{LAUNCHERS}/{text}",
            ):
                refused(await client.get(url), "not_found", status=404)
            refused(await client.patch(f"{CALENDARS}/{text}", json={}), "not_found", status=404)
            for url in (f"{WEBHOOKS}/{text}", f"{BOTS}/{text}", f"{LAUNCHERS}/{text}"):
                refused(await client.delete(url), "not_found", status=404)


async def test_unknown_addresses_and_methods(client: httpx.AsyncClient) -> None:
    for path in ("/", "/api", "/api/v1", "/api/v1/rulers", f"{CALENDARS}/", "/api/v1/calendars/a/b/c"):
        refused(await client.get(path), "not_found", status=404)
    for method, path, allowed in (
        ("PUT", CALENDARS, "GET, POST"),
        ("DELETE", EVENTS, "GET"),
        ("DELETE", f"{EVENTS}/evt_x", "GET, PATCH"),
        ("PUT", f"{CALENDARS}/raw", "POST"),
        ("GET", "/push/google", "POST"),
    ):
        answer = await client.request(method, path)
        refused(answer, "method_not_allowed", status=405)
        assert answer.headers["allow"] == allowed


async def test_nesting_beyond_reason(client: httpx.AsyncClient) -> None:
    for depth in (101, 260, 1_000):
        body = f'{{"url": "http://127.0.0.1:9/", "triggers": {"[" * depth}{"]" * depth}}}'
        for headers in (JSON, JSON | {"Idempotency-Key": "k"}):
            refused(await client.post(WEBHOOKS, content=body, headers=headers), "malformed", status=400)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
async def test_what_only_looks_like_json(client: httpx.AsyncClient, value: str) -> None:
    """Also beside a well-formed pair, which takes the body through a more generous reader."""
    body = f'{{"url": {value}, "metadata": {{"a": "\\ud83d\\ude00"}}}}'
    refused(await client.post(WEBHOOKS, content=body, headers=JSON), "malformed", status=400)


async def test_a_complaint_is_not_longer_than_what_it_complains_about(client: httpx.AsyncClient) -> None:
    many: list[tuple[str, Any]] = [
        (WEBHOOKS, ENDPOINT | {"triggers": [0] * 300_000}),
        (WEBHOOKS, ENDPOINT | {"retry_seconds": [0] * 300_000}),
        (WEBHOOKS, ENDPOINT | {"headers": {str(n): n for n in range(50_000)}}),
        (WEBHOOKS, ENDPOINT | {"metadata": dict.fromkeys(map(str, range(60_000)), 0)}),
        (CALENDARS, GOOD | dict.fromkeys(map(str, range(60_000)), 0)),
        (f"{CALENDARS}/cal_01JD4Q8ZK3V6W8N2M5T7R9B1CX/access_token", dict.fromkeys(map(str, range(150)), 0)),
    ]
    for url, body in many:
        answer = await client.post(url, json=body)
        assert answer.status_code == 422
        assert len(answer.content) < 10_000


async def test_a_pointer_is_made_for_what_is_wrong_alone(client: httpx.AsyncClient) -> None:
    """A pointer for each part of this body would be three gigabytes."""
    key = "k" * 200_000
    body = f'{{"{key}": ["\\u0041", {"0," * 15_000} "\\u0000"]}}'
    answer = await client.post(WEBHOOKS, content=body, headers=JSON)
    refused(answer, "invalid_text", f"/{'k' * 200}/15001")


async def test_a_call_without_a_body_takes_none(client: httpx.AsyncClient) -> None:
    url = f"{CALENDARS}/cal_01JD4Q8ZK3V6W8N2M5T7R9B1CX/access_token"
    for body in ("0", "false", '""', "[]", "1"):
        refused(await client.post(url, content=body, headers=JSON), "wrong_type", "")
    refused(await client.post(url, json={"a/b~c": 1}), "unknown_field", "/a~1b~0c")
