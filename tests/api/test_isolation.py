"""Isolation: every operation of the document with another project's ids answers as for ids that nothing has."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.ids import BOT, CALENDAR, DELIVERY, ENDPOINT, EVENT, KEY, LAUNCHER, REPLAY, RULE, new_id, parse, public
from app.runtime import Runtime
from tests.api.openapi_judge import Judge
from tests.api.rows import MEET, Rows, calendar_ref

DRY_RUN = "/api/v1/rules/dry_run"
OPERATIONS_WITHOUT_IDS = {
    "create_calendar",
    "list_remote_calendars",
    "create_bot",  # but in its body: below
    "create_launcher",
    "create_rule",  # the same
    "dry_run",  # the same
    "create_endpoint",
    "get_project",
    "update_project",
    "create_api_key",
}
"""Calls that name no stored object. Whoever adds one decides here that it cannot."""


class Ids:
    """For each parameter that can name an object: the other project's, and one that nothing has."""

    def __init__(self, foreign: dict[str, str]) -> None:
        unknown = {
            "calendar_id": public(CALENDAR, new_id()),
            "event_id": public(EVENT, new_id()),
            "webhook_id": public(ENDPOINT, new_id()),
            "delivery_id": public(DELIVERY, new_id()),
            "replay_id": public(REPLAY, new_id()),
            "bot_id": public(BOT, new_id()),
            "calendar_event_id": public(EVENT, new_id()),
            "launcher_id": public(LAUNCHER, new_id()),
            "rule_id": public(RULE, new_id()),
            "key_id": public(KEY, new_id()),
            "object_id": public(CALENDAR, new_id()),
            "meeting_url": "https://meet.google.com/zzz-zzzz-zzz",
            "calendar_deduplication_key": "nobody's",
            "deduplication_key": "nobody's",
            "email": "nobody@example.com",
            "ical_uid": "nobody's",
            "series_id": "nobody's",
        }
        self.pairs = {name: (foreign[name], unknown[name]) for name in unknown}


@pytest.fixture
async def ids(foreign: Rows) -> Ids:
    calendar = await foreign.calendar(dedup="theirs", email="bob@example.com")
    event = await foreign.event(calendar, ical_uid="their-uid", series_id="their-series")
    endpoint = await foreign.endpoint()
    endpoint_key = parse(ENDPOINT, endpoint)
    assert endpoint_key is not None
    launcher = await foreign.launcher()
    bot = await foreign.bot(calendar, event, deduplication_key="theirs", launcher_id=parse(LAUNCHER, launcher))
    key = await foreign.key()
    await foreign.entry(calendar_ref(calendar), key_id=key.id)
    return Ids(
        {
            "key_id": public(KEY, key.id),
            "object_id": calendar_ref(calendar),
            "calendar_id": calendar_ref(calendar),
            "event_id": event,
            "webhook_id": endpoint,
            "delivery_id": await foreign.delivery(endpoint_key, calendar_id=calendar),
            "replay_id": await foreign.replay(endpoint_key),
            "bot_id": bot,
            "calendar_event_id": event,
            "launcher_id": launcher,
            "rule_id": await foreign.rule(),
            "meeting_url": MEET,
            "calendar_deduplication_key": "theirs",
            "deduplication_key": "theirs",
            "email": "bob@example.com",
            "ical_uid": "their-uid",
            "series_id": "their-series",
        }
    )


async def _snapshot(rt: Runtime) -> list[Any]:
    async with rt.db.reading() as tx:
        tables = [
            row[0]
            for row in await tx.rows(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
            )
        ]
        whole = (
            "SELECT string_agg(j.row, '|' ORDER BY j.row) FROM {} t, CAST(to_jsonb(t) - 'last_used_at' AS text) j(row)"
        )
        return [(table, await tx.scalar(whole.format(table))) for table in sorted(tables)]


def _told(answer: httpx.Response, asked_for: str) -> Any:
    """What an answer tells, apart from the request's own id and address."""
    told = answer.json() if answer.content else None
    if isinstance(told, dict):
        told.pop("request_id", None)
    headers = {name: answer.headers[name] for name in answer.headers if name not in {"x-request-id", "content-length"}}
    return answer.status_code, headers, str(told).replace(asked_for, "<id>")


def _body(operation: dict[str, Any]) -> Any:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return next(iter(content.get("examples", {}).values()), {"value": None})["value"]


async def test_every_operation_with_another_projects_ids(
    client: httpx.AsyncClient, rt: Runtime, ids: Ids, judge: Judge, subtests: pytest.Subtests
) -> None:
    before = await _snapshot(rt)
    tried = set()
    for path, operations in judge.document["paths"].items():
        for method, operation in operations.items():
            if not path.startswith("/api/v1/"):
                continue
            for parameter in operation.get("parameters", ()):
                name, place = parameter["name"], parameter["in"]
                if name not in ids.pairs:
                    assert not name.endswith("_id"), f"{operation['operationId']}: what does {name} name?"
                    continue
                tried.add(operation["operationId"])
                with subtests.test(operation=operation["operationId"], parameter=name):
                    answers = []
                    for value in ids.pairs[name]:
                        url = path.replace(f"{{{name}}}", value)
                        query = _query(name, value, ids) if place == "query" else None
                        answer = await client.request(method, url, params=query, json=_body(operation))
                        answers.append(_told(answer, value))
                    assert answers[0] == answers[1]
                    if place == "path":
                        assert answers[0][0] == 404
                    else:
                        assert "'results': []" in answers[0][2]
    everything = {
        operation["operationId"]
        for path, operations in judge.document["paths"].items()
        for operation in operations.values()
        if path.startswith("/api/v1/")
    }
    assert everything - tried == OPERATIONS_WITHOUT_IDS | {
        "list_endpoints",
        "list_launchers",
        "list_rules",
        "list_api_keys",
    }
    assert await _snapshot(rt) == before


def _query(name: str, value: str, ids: Ids) -> dict[str, str]:
    # A series is looked for within something that bounds it.
    return {name: value} | ({"updated_after": "2020-01-01T00:00:00Z"} if name == "series_id" else {})


async def test_lists_and_feeds_show_nothing_of_others(client: httpx.AsyncClient, ids: Ids) -> None:
    calendar = ids.pairs["calendar_id"][0]
    for url in (
        "/api/v1/calendars",
        "/api/v1/calendar_events",
        "/api/v1/calendar_events?updated_after=2020-01-01T00:00:00Z",
        f"/api/v1/calendar_events?calendar_id={calendar}&after_seq=0",
        "/api/v1/webhooks",
        "/api/v1/webhook_deliveries",
        "/api/v1/bots",
        "/api/v1/bots?state=scheduled",
        "/api/v1/launchers",
        "/api/v1/rules",
        "/api/v1/audit_log",
    ):
        assert (await client.get(url)).json()["results"] == [], url


async def test_what_a_bots_body_names(client: httpx.AsyncClient, rt: Runtime, ids: Ids) -> None:
    before = await _snapshot(rt)
    own = {"bot_name": "Notes", "meeting_url": MEET, "join_at": (rt.clock.now() + timedelta(hours=1)).isoformat()}
    for name, body in (("calendar_event_id", {"bot_name": "Notes"}), ("launcher_id", own)):
        answers = []
        for value in (*ids.pairs[name], "x"):
            answer = await client.post("/api/v1/bots", json=body | {name: value})
            assert (answer.status_code, answer.json()["code"]) == (422, "not_found")
            assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{name}"]
            answers.append(_told(answer, value))
        assert answers[0] == answers[1] == answers[2]
    assert await _snapshot(rt) == before


async def test_what_a_rules_body_names(client: httpx.AsyncClient, rt: Runtime, ids: Ids, rows: Rows) -> None:
    mine = f"/api/v1/rules/{await rows.rule()}"
    before = await _snapshot(rt)
    rule = {"name": "r", "match": {"is_all_day": False}, "bot": {"bot_name": "Notes"}}

    def bot(value: str) -> dict[str, Any]:
        return {"bot": {"bot_name": "Notes", "launcher_id": value}}

    calls: list[tuple[str, str, str, str, Any]] = [
        ("POST", "/api/v1/rules", "launcher_id", "/bot/launcher_id", lambda value: rule | bot(value)),
        ("PATCH", mine, "launcher_id", "/bot/launcher_id", bot),
        ("POST", DRY_RUN, "launcher_id", "/rule/bot/launcher_id", lambda value: {"rule": rule | bot(value)}),
        ("POST", DRY_RUN, "rule_id", "/rule/id", lambda value: {"rule": rule | {"id": value}}),
        ("POST", DRY_RUN, "calendar_id", "/calendar_id", lambda value: {"rule": rule, "calendar_id": value}),
    ]
    for method, url, name, pointer, body in calls:
        answers = []
        for value in (*ids.pairs[name], "x"):
            answer = await client.request(method, url, json=body(value))
            assert (answer.status_code, answer.json()["code"]) == (422, "not_found"), answer.text
            assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
            answers.append(_told(answer, value))
        assert answers[0] == answers[1] == answers[2]
    answer = await client.post(DRY_RUN, json={"rule": rule})
    assert answer.json() == {"results": []}
    assert await _snapshot(rt) == before


async def test_a_feed_of_another_project_never_expires_and_never_moves(
    client: httpx.AsyncClient, foreign: Rows, ids: Ids
) -> None:
    await foreign.sql("UPDATE calendars SET feed_floor = 50")
    for calendar in ids.pairs["calendar_id"]:
        answer = await client.get("/api/v1/calendar_events", params={"calendar_id": calendar, "after_seq": 7})
        assert answer.json() == {"next": None, "previous": None, "results": [], "position": 7}


async def test_a_replay_is_found_under_its_own_endpoint_alone(client: httpx.AsyncClient, rows: Rows, ids: Ids) -> None:
    keys = [parse(ENDPOINT, await rows.endpoint()) for _ in range(2)]
    assert keys[0] is not None
    assert keys[1] is not None
    mine = await rows.replay(keys[0])
    foreign, unknown = ids.pairs["replay_id"]
    one, two = (f"/api/v1/webhooks/{public(ENDPOINT, key)}/replays" for key in keys if key)
    assert (await client.get(f"{one}/{mine}")).status_code == 200
    for url in (f"{two}/{mine}", f"{one}/{foreign}", f"{one}/{unknown}", f"{one}/x"):
        assert (await client.get(url)).status_code == 404, url
    theirs = f"/api/v1/webhooks/{ids.pairs['webhook_id'][0]}/replays"
    assert (await client.get(f"{theirs}/{foreign}")).status_code == 404


async def test_cursors_of_another_project_are_refused(
    client: httpx.AsyncClient, api: httpx.AsyncClient, other_project: Any, foreign: Rows, rows: Rows
) -> None:
    for writer in (foreign, rows):
        calendar = await writer.calendar()
        await writer.events(calendar, 3)
        await writer.calendar()
        for _ in range(2):
            await writer.endpoint()
            await writer.launcher()
            await writer.rule()
            await writer.bot(calendar, await writer.event(calendar))
    for headers in (other_project.headers, client.headers):
        for _ in range(2):
            await api.post("/api/v1/api_keys", json={"name": "k", "scope": "read"}, headers=headers)
    lists = ("calendars", "calendar_events", "webhooks", "launchers", "rules", "bots", "api_keys", "audit_log")
    for path in (f"/api/v1/{name}" for name in lists):
        theirs = (await api.get(path, params={"limit": 1}, headers=other_project.headers)).json()["next"]
        answer = await client.get(theirs)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")


async def test_the_same_keys_in_two_projects_do_not_meet(
    client: httpx.AsyncClient, api: httpx.AsyncClient, rt: Runtime, other_project: Any, credentials: dict[str, Any]
) -> None:
    soon = (rt.clock.now() + timedelta(hours=1)).isoformat()
    bot = {"bot_name": "Notes", "meeting_url": MEET, "join_at": soon, "deduplication_key": "same"}
    for answer in (
        await client.post("/api/v1/bots", json=bot),
        await api.post("/api/v1/bots", json=bot, headers=other_project.headers),
    ):
        assert answer.status_code == 201
    body = credentials | {"deduplication_key": "same"}
    headers = {"Idempotency-Key": "same"}
    mine = await client.post("/api/v1/calendars", json=body, headers=headers)
    theirs = await api.post("/api/v1/calendars", json=body, headers=headers | other_project.headers)
    assert (mine.status_code, theirs.status_code) == (201, 201)
    assert mine.json()["id"] != theirs.json()["id"]
    assert mine.json()["oauth_app_id"] != theirs.json()["oauth_app_id"]
