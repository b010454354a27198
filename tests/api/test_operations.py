"""What surrounds the API: health, metrics, docs, request ids, logs, inbound pushes."""

import secrets
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from app.main import create_app
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from tests.api.rows import Rows, calendar_ref
from tests.harness import Project, application

LIST = "/api/v1/calendars"


async def test_alive_and_ready(api: httpx.AsyncClient) -> None:
    assert (await api.get("/healthz", params={"any": "thing"})).json() == {"status": "ok"}
    ready = await api.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ok", "database": "ok", "redis": "ok"})


async def test_not_ready_while_another_roles_writes_are_invisible(settings: Settings, rows: Rows) -> None:
    """The list over all calendars waits for open writes; it cannot wait for those that it may not see."""
    roles = [f"punctual_{secrets.token_hex(4)}" for _ in range(2)]
    urls = [_as_role(settings.database_url, role) for role in roles]
    for role in roles:
        await rows.sql(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
        await rows.sql(f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {role}")
    try:
        async with open_runtime(settings.model_copy(update={"database_url": urls[0]})) as rt:
            transport = httpx.ASGITransport(application(rt))
            async with httpx.AsyncClient(transport=transport, base_url="http://punctual.test") as client:
                assert (await client.get("/readyz")).status_code == 200
                other = await asyncpg.connect(urls[1])
                blind = await client.get("/readyz")
                await rows.sql(f"GRANT pg_read_all_stats TO {roles[0]}")
                seeing = await client.get("/readyz")
                await other.close()
    finally:
        for role in roles:
            await rows.sql(f"DROP OWNED BY {role}")
            await rows.sql(f"DROP ROLE {role}")
    assert (blind.status_code, blind.json()["database"]) == (503, "blind")
    assert (seeing.status_code, seeing.json()["database"]) == (200, "ok")


def _as_role(url: str, role: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{role}:{role}@{parts.netloc.rpartition('@')[2]}").geturl()


class TestWithoutRedis:
    """Redis is a hint."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"redis_url": "redis://127.0.0.1:1/0"}

    async def test_it_is_ready_and_says_so(self, client: httpx.AsyncClient, rows: Rows) -> None:
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["redis"]) == (200, "away")
        calendar = calendar_ref(await rows.calendar())
        assert (await client.post(f"{LIST}/{calendar}/sync")).status_code == 202


async def test_before_the_migration_it_is_not_ready(api: httpx.AsyncClient, rows: Rows) -> None:
    await rows.sql("DROP TABLE calendar_events CASCADE")
    assert (await api.get("/readyz")).status_code == 503


async def test_metrics_are_open_in_development(client: httpx.AsyncClient) -> None:
    calendar = "cal_01JD4Q8ZK3V6W8N2M5T7R9B1CX"
    await client.get(f"{LIST}/{calendar}")
    text = (await client.get("/metrics")).text
    assert 'route="/api/v1/calendars/{calendar_id}"' in text
    assert calendar not in text


class TestMetricsWithAToken:
    """METRICS_TOKEN is set."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"metrics_token": "s3cret"}

    async def test_only_with_it(self, api: httpx.AsyncClient, project: Project) -> None:
        for headers in ({}, project.headers, {"Authorization": "Token s3cret"}, {"Authorization": "Bearer s3cre"}):
            assert (await api.get("/metrics", headers=headers)).status_code == 401
        assert (await api.get("/metrics", headers={"Authorization": "Bearer s3cret"})).status_code == 200


class TestInProduction:
    """ENVIRONMENT=production."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        key = "prod:cHJvZHVjdGlvbi1rZXktb2YtMzItYnl0ZXMtLS0tLTE="
        return {"environment": "production", "punctual_secret_keys": key, "public_url": "https://punctual.example"}

    async def test_metrics_are_not_there_without_a_token(self, api: httpx.AsyncClient) -> None:
        assert (await api.get("/metrics")).status_code == 404


async def test_docs_come_from_here(api: httpx.AsyncClient) -> None:
    page = await api.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "//" not in page.text.replace("<!doctype html>", "")
    for name, kind in (
        ("swagger-ui-bundle.js", "text/javascript"),
        ("swagger-ui.css", "text/css"),
        ("favicon-32x32.png", "image/png"),
        ("start.js", "text/javascript"),
    ):
        asset = await api.get(f"/docs/{name}")
        assert (asset.status_code, asset.headers["content-type"].partition(";")[0]) == (200, kind)
        assert f"docs/{name}" in page.text
    assert (await api.get("/docs/other.js")).status_code == 404
    assert (await api.get("/openapi.json")).json()["openapi"].startswith("3.1")


class TestWithoutDocs:
    """DOCS_ENABLED=0."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"docs_enabled": False}

    async def test_they_are_404(self, api: httpx.AsyncClient) -> None:
        for path in ("/docs", "/docs/swagger-ui-bundle.js", "/openapi.json"):
            answer = await api.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("given", ["abc-123", "req_1.2", "x" * 128])
async def test_a_request_id_is_taken_over(client: httpx.AsyncClient, given: str) -> None:
    for path in (LIST, "/nowhere", "/healthz", "/docs"):
        answer = await client.get(path, headers={"X-Request-ID": given})
        assert answer.headers.get_list("x-request-id") == [given]
        if answer.status_code == 404:
            assert answer.json()["request_id"] == given


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a\tb", "<script>", "a,b"])
async def test_else_one_is_made(client: httpx.AsyncClient, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-ID": given}
    ids = [(await client.get(LIST, headers=headers)).headers["x-request-id"] for _ in range(2)]
    assert all(text.startswith("req_") for text in ids)
    assert ids[0] != ids[1]


async def test_one_line_per_request_without_anything_personal(
    client: httpx.AsyncClient, logs: list[MutableMapping[str, Any]]
) -> None:
    logs.clear()
    calendar = "cal_01JD4Q8ZK3V6W8N2M5T7R9B1CX"
    await client.get(f"{LIST}/{calendar}?email=ada@example.com", headers={"X-Request-ID": "r1"})
    lines = [line for line in logs if line["event"] == "http.request"]
    assert len(lines) == 1
    assert lines[0]["ms"] > 0
    assert {name: lines[0][name] for name in ("method", "route", "status", "request_id")} == {
        "method": "GET",
        "route": "/api/v1/calendars/{calendar_id}",
        "status": 422,
        "request_id": "r1",
    }
    assert calendar not in str(logs)
    assert "ada@" not in str(logs)


async def test_a_fault_of_ours_is_500_with_an_id_and_nothing_else(
    client: httpx.AsyncClient, rows: Rows, logs: list[MutableMapping[str, Any]]
) -> None:
    await rows.sql("ALTER TABLE calendar_events DROP COLUMN content")
    answer = await client.get("/api/v1/calendar_events", headers={"X-Request-ID": "r2"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "html_link" not in answer.text
    failed = [line for line in logs if line["event"] == "http.failed"]
    assert [line["request_id"] for line in failed] == ["r2"]


async def test_strangers_learn_nothing_from_a_push(api: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    await rows.calendar()
    told = []
    for headers in (
        {},
        {"X-Goog-Channel-ID": "x"},
        {
            "X-Goog-Channel-ID": "01a1fc76-fb6a-7e0a-b60a-333027ccc785",
            "X-Goog-Channel-Token": "guess",
            "X-Goog-Resource-ID": "r",
            "X-Goog-Resource-State": "exists",
        },
    ):
        answer = await api.post("/push/google?any=thing", headers=headers, content=b"x" * 100)
        told.append((answer.status_code, answer.content))
    assert told == [(200, b"")] * 3
    async with rt.db.reading() as tx:
        assert await tx.scalar("SELECT max(requested_seq) FROM sync_state") == 0


async def test_the_lifespan_opens_a_runtime_and_closes_it(settings: Settings) -> None:
    app = create_app(settings=settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://punctual.test") as client:
            assert (await client.get("/readyz")).status_code == 200
