"""Isolation: every operation of the document with another project's ids answers as for ids that nothing has.

The walk reads addresses, query parameters, bodies and cursors from the document, so a new operation takes part by
itself; where it needs to know something, it fails. `belongings.py` makes the objects.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.ids import ENDPOINT, parse, public
from app.runtime import Runtime
from tests.api.belongings import ALIASES, PLAIN, belongings, id_fields, nobodys, planted
from tests.api.openapi_judge import Judge
from tests.api.rows import MEET, Rows
from tests.harness import Project

NAMES_NOTHING = {
    "create_launcher",
    "create_endpoint",
    "create_oauth_app",
    "get_project",
    "update_project",
    "create_api_key",
}
"""Operations that can name no stored object. Whoever adds one decides here that it cannot."""


@dataclass(frozen=True, slots=True)
class Ids:
    """What the three call things by the same names: the caller, the other project, nobody."""

    mine: dict[str, str]
    theirs: dict[str, str]
    nobodys: dict[str, str]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the document."""

    document: Any
    method: str
    path: str
    described: Any

    @property
    def name(self) -> str:
        return str(self.described["operationId"])

    def parameters(self, place: str) -> list[str]:
        """Names of the parameters in the address or the query."""
        return [one["name"] for one in self.described.get("parameters", ()) if one["in"] == place]

    def example(self) -> Any:
        """The first example of a body, if there is one."""
        content = self.described.get("requestBody", {}).get("content", {}).get("application/json", {})
        return next(iter(content.get("examples", {}).values()), {"value": None})["value"]

    def named_in_body(self) -> list[tuple[str, ...]]:
        """Where the body may name objects."""
        content = self.described.get("requestBody", {}).get("content", {}).get("application/json", {})
        return list(id_fields(self.document, content.get("schema", {})))

    def address(self, ids: dict[str, str], **others: str) -> str:
        """The path, filled in; KeyError where nobody knows how to make such an object (`belongings`)."""
        return re.sub(r"\{(\w+)\}", lambda found: others.get(found[1]) or ids[found[1]], self.path)


def operations(judge: Judge) -> Iterator[Operation]:
    """All that take a project's key."""
    for path, methods in judge.document["paths"].items():
        for method, described in methods.items():
            if path.startswith("/api/v1/"):
                yield Operation(judge.document, method, path, described)


@pytest.fixture
async def ids(foreign: Rows) -> Ids:
    """The other project has one of each; the caller has nothing."""
    theirs = await belongings(foreign, "theirs")
    return Ids({}, theirs, nobodys(theirs))


@pytest.fixture
async def furnished(rows: Rows, ids: Ids) -> Ids:
    """Both have one of each."""
    return Ids(await belongings(rows, "mine"), ids.theirs, ids.nobodys)


async def _snapshot(rt: Runtime) -> dict[str, Any]:
    """Everything stored, of all projects, but when a key was last used."""
    row = "SELECT CAST(to_jsonb({0}) - 'last_used_at' AS text) AS text FROM {0}"
    whole = f"SELECT string_agg(text, '|' ORDER BY text) FROM ({row}) t"
    async with rt.db.reading() as tx:
        tables = [
            row[0]
            for row in await tx.rows(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
            )
        ]
        return {table: await tx.scalar(whole.format(table)) for table in sorted(tables)}


def _told(answer: httpx.Response, asked_for: str) -> Any:
    """What an answer tells, apart from the request's own id and address."""
    told = answer.json() if answer.content else None
    if isinstance(told, dict):
        told.pop("request_id", None)
    headers = {name: answer.headers[name] for name in answer.headers if name not in {"x-request-id", "content-length"}}
    return answer.status_code, headers, str(told).replace(asked_for, "<id>")


@dataclass(slots=True)
class Caller:
    """Sends a request twice, for the other project's object and for nobody's, and compares."""

    client: httpx.AsyncClient
    rt: Runtime
    tried: set[str] = field(default_factory=set)

    async def same(
        self, operation: Operation, *requests: tuple[str, str, dict[str, str] | None, Any]
    ) -> httpx.Response:
        """The answer for the first of requests that differ in an id (value, address, query, body).

        What was sent to the database is the same too, so that time does not tell them apart.
        """
        self.tried.add(operation.name)
        answers, told, sent = [], [], []
        for value, url, query, body in requests:
            statements: list[str] = []
            with self.rt.db.watched(statements.append):
                answer = await self.client.request(operation.method, url, params=query, json=body)
            answers.append(answer)
            told.append(_told(answer, value))
            sent.append([one for one in statements if "api_keys" not in one])
        assert told[0] == told[1]
        assert sent[0] == sent[1]
        return answers[0]


async def test_every_operation_with_another_projects_ids(
    client: httpx.AsyncClient, rt: Runtime, furnished: Ids, judge: Judge, subtests: pytest.Subtests
) -> None:
    ids, caller = furnished, Caller(client, rt)
    before = await _snapshot(rt)
    for operation in operations(judge):
        for name in operation.parameters("path"):
            with subtests.test(operation=operation.name, address=name):
                values = [named[name] for named in (ids.theirs, ids.nobodys)]
                urls = [(value, operation.address(ids.mine, **{name: value})) for value in values]
                answer = await caller.same(operation, *((*url, None, operation.example()) for url in urls))
                assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        for name in operation.parameters("query"):
            if name in PLAIN:
                continue
            with subtests.test(operation=operation.name, query=name):
                # Some filters are looked for within something that bounds them.
                more = (
                    {"updated_after": "2020-01-01T00:00:00Z"}
                    if "updated_after" in operation.parameters("query")
                    else {}
                )
                values = [named[name] for named in (ids.theirs, ids.nobodys)]
                url = operation.address(ids.mine)
                answer = await caller.same(operation, *((value, url, more | {name: value}, None) for value in values))
                assert answer.json()["results"] == []
        for path in operation.named_in_body():
            with subtests.test(operation=operation.name, body=path):
                name = ALIASES.get("/".join(path)) or [step for step in path if step != "0"][-1]
                values = [named[name] for named in (ids.theirs, ids.nobodys)]
                body = _bodies(rt).get((operation.name, path[-1])) or operation.example()
                url = operation.address(ids.mine)
                calls = [(value, url, None, planted(body, path, value)) for value in values]
                answer = await caller.same(operation, *calls)
                assert (answer.status_code, answer.json()["code"]) == (422, "not_found"), answer.text
                assert [error["pointer"] for error in answer.json()["errors"]] == ["/" + "/".join(path)]
                malformed = await client.request(operation.method, url, json=planted(body, path, "x"))
                assert _told(malformed, "x") == _told(answer, values[0])
    lists = {operation.name for operation in operations(judge) if "cursor" in operation.parameters("query")}
    assert {operation.name for operation in operations(judge)} - caller.tried - lists == NAMES_NOTHING
    assert await _snapshot(rt) == before


def _bodies(rt: Runtime) -> dict[tuple[str, str], Any]:
    """What to plant an id in, by operation and field, where the document's first example will not do."""
    soon = (rt.clock.now() + timedelta(hours=1)).isoformat()
    grant = {"platform": "google", "refresh_token": "1//refresh"}
    return {
        ("create_calendar", "oauth_app_id"): grant,
        ("list_remote_calendars", "oauth_app_id"): grant,
        ("create_bot", "launcher_id"): {"bot_name": "Notes", "meeting_url": MEET, "join_at": soon},
        ("update_rule", "launcher_id"): {"bot": {"bot_name": "Notes"}},
        ("create_connect_link", "calendar_id"): {"return_url": "https://app.example.com/back"},
    }


async def test_cursors_of_another_project_are_refused(
    client: httpx.AsyncClient,
    api: httpx.AsyncClient,
    rt: Runtime,
    other_project: Project,
    foreign: Rows,
    furnished: Ids,
    judge: Judge,
    subtests: pytest.Subtests,
) -> None:
    await belongings(foreign, "more")
    before, caller = await _snapshot(rt), Caller(client, rt)
    for operation in operations(judge):
        if "cursor" not in operation.parameters("query"):
            continue
        with subtests.test(operation=operation.name):
            url = operation.address(furnished.theirs)
            page = (await api.get(url, params={"limit": 1}, headers=other_project.headers)).json()
            cursor = httpx.URL(page["next"]).params["cursor"]
            url = operation.address(furnished.mine)
            requests = [(value, url, {"limit": "1", "cursor": value}, None) for value in (cursor, "c" * len(cursor))]
            answer = await caller.same(operation, *requests)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")
    assert len(caller.tried) > 5
    assert await _snapshot(rt) == before


async def test_lists_and_feeds_show_nothing_of_others(client: httpx.AsyncClient, ids: Ids) -> None:
    calendar = ids.theirs["calendar_id"]
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
        "/api/v1/oauth_apps",
    ):
        assert (await client.get(url)).json()["results"] == [], url


async def test_a_feed_of_another_project_never_expires_and_never_moves(
    client: httpx.AsyncClient, foreign: Rows, ids: Ids
) -> None:
    await foreign.sql("UPDATE calendars SET feed_floor = 50")
    for calendar in (ids.theirs["calendar_id"], ids.nobodys["calendar_id"]):
        answer = await client.get("/api/v1/calendar_events", params={"calendar_id": calendar, "after_seq": 7})
        assert answer.json() == {"next": None, "previous": None, "results": [], "position": 7}


async def test_a_replay_is_found_under_its_own_endpoint_alone(client: httpx.AsyncClient, rows: Rows, ids: Ids) -> None:
    keys = [parse(ENDPOINT, await rows.endpoint()) for _ in range(2)]
    assert keys[0] is not None
    assert keys[1] is not None
    mine = await rows.replay(keys[0])
    foreign, unknown = ids.theirs["replay_id"], ids.nobodys["replay_id"]
    one, two = (f"/api/v1/webhooks/{public(ENDPOINT, key)}/replays" for key in keys if key)
    assert (await client.get(f"{one}/{mine}")).status_code == 200
    for url in (f"{two}/{mine}", f"{one}/{foreign}", f"{one}/{unknown}", f"{one}/x"):
        assert (await client.get(url)).status_code == 404, url
    theirs = f"/api/v1/webhooks/{ids.theirs['webhook_id']}/replays"
    assert (await client.get(f"{theirs}/{foreign}")).status_code == 404


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
