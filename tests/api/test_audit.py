"""The audit log: every operation that writes leaves one entry, together with what it did."""

import ast
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.crypto import read_api_key
from app.ids import DELIVERY, ENDPOINT, KEY, LAUNCHER, new_id, parse, public
from app.main import create_app
from app.runtime import Runtime
from app.settings import Settings
from tests.api.openapi_judge import Judge
from tests.api.refusals import refused
from tests.api.rows import MEET, Rows, calendar_ref
from tests.harness import Project, application

LOG, CALENDARS, WEBHOOKS = "/api/v1/audit_log", "/api/v1/calendars", "/api/v1/webhooks"
BACK = "https://app.example.com/back"
HOOK = {"url": "http://127.0.0.1:9/hook", "triggers": ["calendar.events_update"]}
RANGE = {"created_at_gte": "2026-01-01T00:00:00Z", "created_at_lte": "2026-01-02T00:00:00Z"}
API = Path(__file__).resolve().parents[2] / "app" / "api"


async def _entries(client: httpx.AsyncClient, **filters: str) -> list[dict[str, Any]]:
    answer = await client.get(LOG, params=filters)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


def _key_of(project: Project) -> str:
    key = read_api_key(project.key)
    assert key is not None
    return public(KEY, key[0])


class Targets:
    """For each operation: objects of its own, and a body with which it succeeds."""

    def __init__(self, rows: Rows, credentials: dict[str, Any], made: dict[str, str]) -> None:
        self._rows = rows
        self._made = made
        soon = (rows.rt.clock.now() + timedelta(hours=1)).isoformat()
        self._bodies: dict[str, Any] = {
            "create_calendar": credentials,
            "list_remote_calendars": credentials,
            "create_endpoint": HOOK,
            "replay_deliveries": RANGE,
            "create_bot": {"bot_name": "Notes", "meeting_url": MEET, "join_at": soon},
            "create_rule": {"name": "r", "match": {"is_all_day": False}, "bot": {"bot_name": "Notes"}},
            "update_rule": {"priority": 3},
            "update_bot": {"bot_name": "Minutes"},
            "update_launcher": {"hand_over_seconds": 90},
            "create_launcher": {"kind": "webhook", "name": "Ours"},
            "create_connect_link": {"oauth_app_id": made["app"], "return_url": BACK},
        }
        """Of those whose first example does not do."""

    def body(self, operation: dict[str, Any]) -> Any:
        """What to send."""
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        example = next(iter(content.get("examples", {}).values()), {"value": None})["value"]
        return self._bodies.get(operation["operationId"], example)

    async def object_for(self, parameter: str, operation_id: str) -> str:
        """A fresh object of the kind that a path parameter names."""
        rows = self._rows
        if operation_id in self._made:
            return self._made[operation_id]
        if parameter == "key_id":
            return public(KEY, (await rows.key()).id)
        if parameter == "launcher_id":
            return await rows.launcher()
        if parameter == "rule_id":
            return await rows.rule()
        if parameter == "webhook_id":
            return await rows.endpoint()
        if parameter == "delivery_id":
            endpoint = parse(ENDPOINT, await rows.endpoint())
            assert endpoint is not None
            return await rows.delivery(endpoint)
        if parameter == "oauth_app_id":
            return await rows.app()
        calendar = await rows.calendar()
        if parameter == "calendar_id":
            return calendar_ref(calendar)
        event = await rows.event(calendar, start_time=rows.rt.clock.now() + timedelta(hours=2))
        return event if parameter == "event_id" else await rows.bot(calendar, event)


async def test_every_write_has_one_entry(
    client: httpx.AsyncClient,
    rows: Rows,
    project: Project,
    credentials: dict[str, Any],
    judge: Judge,
    subtests: pytest.Subtests,
) -> None:
    await rows.sql("UPDATE projects SET return_urls = ARRAY[:back] WHERE id = :id", back=BACK, id=project.id)
    made = {  # whose secrets are sealed by the service
        "get_access_token": (await client.post(CALENDARS, json=credentials)).json()["id"],
        "rotate_secret": (await client.post(WEBHOOKS, json=HOOK)).json()["id"],
        "app": await rows.app(),
    }
    targets = Targets(rows, credentials, made)
    walked = set()
    for path, operations in judge.document["paths"].items():
        for method, operation in operations.items():
            if method == "get" or not path.startswith("/api/v1/") or operation["security"] == [{"bearer": ["read"]}]:
                continue
            name, body = operation["operationId"], targets.body(operation)
            walked.add(name)
            with subtests.test(operation=name):
                url, named = path, None
                for parameter in operation.get("parameters", ()):
                    if parameter["in"] == "path":
                        named = await targets.object_for(parameter["name"], name)
                        url = url.replace(f"{{{parameter['name']}}}", named)
                before = {entry["id"] for entry in await _entries(client, limit="250")}
                answer = await client.request(method, url, json=body)
                assert answer.status_code < 300, f"say in Targets how it succeeds: {answer.text}"
                new = [entry for entry in await _entries(client, limit="250") if entry["id"] not in before]
                assert len(new) == 1
                entry = new[0]
                shown = answer.json() if answer.content else {}
                assert (entry["action"], entry["key_id"], entry["ip"]) == (name, _key_of(project), "127.0.0.1")
                assert entry["object_id"] == (named or shown.get("id"))
                assert entry["changes"] == sorted(body or {})
    assert len(walked) >= 24


async def test_neither_is_there_without_the_other(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    calendar = f"{CALENDARS}/{calendar_ref(await rows.calendar())}"
    await rows.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$")
    for table in ("calendars", "audit_log"):
        await rows.sql(
            f"CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON {table}"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
        for method, url, body in (("PATCH", calendar, {"metadata": {"a": "b"}}), ("DELETE", calendar, None)):
            assert (await client.request(method, url, json=body)).status_code == 500
        await rows.sql(f"DROP TRIGGER refuse ON {table}")
        async with rt.db.reading() as tx:
            assert await tx.scalar("SELECT count(*) FROM audit_log") == 0
            assert await tx.scalar("SELECT count(*) FROM calendars WHERE metadata IS NULL AND deleted_at IS NULL") == 1


def test_no_operation_opens_a_transaction_past_the_log() -> None:
    opened = {}
    for path in sorted(API.glob("*.py")):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = [func.attr for func in calls if isinstance(func, ast.Attribute)]
        opened[path.name] = sum(name in {"transaction", "writing", "direct"} for name in names)
    assert {name for name, count in opened.items() if count} == {"writes.py"}


async def test_what_was_answered_before_or_refused_has_none(
    client: httpx.AsyncClient, credentials: dict[str, Any]
) -> None:
    body, key = credentials | {"deduplication_key": "d", "verify": True}, {"Idempotency-Key": "k"}
    made = [await client.post(CALENDARS, json=body, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in made] == [201, 201]
    assert (await client.post(CALENDARS, json=body)).status_code == 409
    assert (await client.post(CALENDARS, json={})).status_code == 422
    assert (await client.delete(f"{CALENDARS}/cal_x")).status_code == 404
    assert (await client.post(f"{WEBHOOKS}", json=HOOK, headers=key)).status_code == 201
    assert (await client.post(f"{WEBHOOKS}", json=HOOK, headers=key)).headers["idempotency-replayed"] == "true"
    assert [entry["action"] for entry in await _entries(client)] == ["create_endpoint", "create_calendar"]


async def test_no_value_is_kept(client: httpx.AsyncClient, rt: Runtime, credentials: dict[str, Any]) -> None:
    made = await client.post(CALENDARS, json=credentials | {"metadata": {"tenant": "number-nine"}})
    await client.patch(f"{CALENDARS}/{made.json()['id']}", json={"refresh_token": "another-one"})
    async with rt.db.reading() as tx:
        log = await tx.scalar("SELECT string_agg(CAST(a AS text), ' ') FROM audit_log a")
    assert "refresh_token" in log
    for value in ("number-nine", "tenant", "another-one", credentials["client_secret"], credentials["client_id"]):
        assert value not in log


async def test_filters_and_pages(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    ada, bob = (await rows.key()).id, (await rows.key()).id
    objects = [public(LAUNCHER, new_id()), public(DELIVERY, new_id())]
    for number in range(6):
        await rows.entry(objects[number % 2], key_id=ada if number < 4 else bob, action=f"act_{number % 3}")
    shown = await _entries(client, limit="250")
    assert [entry["at"] for entry in shown] == sorted((entry["at"] for entry in shown), reverse=True)
    cases = {
        6: {"at_gte": shown[-1]["at"], "at_lte": shown[0]["at"]},
        4: {"key_id": public(KEY, ada)},
        3: {"object_id": objects[0]},
        2: {"action": "act_1"},
        1: {"at_lte": shown[-1]["at"]},
        0: {"key_id": "key_x"},
    }
    for count, filters in cases.items():
        assert len(await _entries(client, **filters)) == count, filters
    walked, url = [], f"{LOG}?limit=2&key_id={public(KEY, ada)}"
    while url:
        page = (await client.get(url)).json()
        walked += [entry["id"] for entry in page["results"]]
        url = page["next"]
    assert walked == [entry["id"] for entry in shown if entry["key_id"] == public(KEY, ada)]
    refused(await client.get(f"{LOG}?at_gte=2026-11-20T10:00:00"), "naive_time", "at_gte")
    refused(await client.get(f"{LOG}?ip=127.0.0.1"), "unknown_parameter", "ip")


async def test_each_filter_has_its_index(rt: Runtime, rows: Rows) -> None:
    await rows.sql(
        "INSERT INTO audit_log (id, project_id, at, key_id, action, object_id, changes)"
        " SELECT gen_random_uuid(), :project, app_now() - n * interval '1 second', gen_random_uuid(), 'a' || n,"
        "        'o' || n, '{}' FROM generate_series(1, 3000) n",
        project=rows.project_id,
    )
    await rows.sql("ANALYZE audit_log")
    for filter_, index in {
        "object_id = 'o7'": "ix_audit_log_object",
        "key_id = '00000000-0000-0000-0000-000000000000'": "ix_audit_log_key",
        "action = 'a7'": "ix_audit_log_action",
        "at >= app_now() - interval '1 minute'": "ix_audit_log_list",
        "true": "ix_audit_log_list",
    }.items():
        async with rt.db.reading() as tx:
            plan = await tx.rows(
                f"EXPLAIN SELECT id FROM audit_log WHERE project_id = '{rows.project_id}' AND {filter_}"
                " ORDER BY at DESC, id DESC LIMIT 26"
            )
        assert any(index in line[0] for line in plan), (filter_, [line[0] for line in plan])


FORWARDED = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7, 10.0.0.3", "X-Forwarded-Proto": "https"}


async def _told(app: Any, project: Project, **headers: str) -> tuple[str | None, str]:
    """The address in the log, and the scheme of links, after a request that came by proxies."""
    transport = httpx.ASGITransport(app, client=("10.0.0.2", 1))
    headers = {**project.headers, **headers}
    async with httpx.AsyncClient(transport=transport, base_url="http://punctual.test", headers=headers) as client:
        for _ in range(2):
            assert (await client.post(WEBHOOKS, json=HOOK)).status_code == 201
        page = (await client.get(f"{LOG}?limit=1")).json()
    return page["results"][0]["ip"], httpx.URL(page["next"]).scheme


async def test_only_trusted_proxies_name_the_client(rt: Runtime, project: Project) -> None:
    """The last address that no trusted proxy has; what stands before it may be anybody's word."""
    assert await _told(application(rt), project, **FORWARDED) == ("10.0.0.2", "http")
    settings = Settings.model_validate(rt.settings.model_dump() | {"trusted_proxies": "10.0.0.0/8"})
    behind = create_app(settings=settings)
    behind.state.runtime = rt
    assert await _told(behind, project, **FORWARDED) == ("198.51.100.7", "https")
    assert await _told(behind, project, **{"X-Forwarded-For": "nobody"}) == (None, "http")
    assert await _told(behind, project, **{"X-Forwarded-For": "::ffff:192.0.2.1"}) == ("192.0.2.1", "http")
