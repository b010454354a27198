"""Keys: made, listed, used, expired, revoked."""

import asyncio
import re
from contextvars import Context
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.crypto import read_api_key
from app.ids import KEY, public
from app.runtime import Runtime
from tests.api.refusals import refused
from tests.api.rows import Rows
from tests.harness import Project
from tests.integration.test_races import until_it_waits

KEYS, LIST = "/api/v1/api_keys", "/api/v1/calendars"
ROOT = Path(__file__).resolve().parents[2]


def _as(text: str) -> dict[str, str]:
    return {"Authorization": f"Token {text}"}


async def _make(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post(KEYS, json={"name": "k", "scope": "read", **body})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def _in(rt: Runtime, **span: float) -> str:
    return (rt.clock.now() + timedelta(**span)).isoformat()


async def test_a_key_is_shown_once_and_works(client: httpx.AsyncClient, rt: Runtime) -> None:
    made = await _make(client, name="dashboard", expires_at=_in(rt, days=1))
    text = made.pop("key")
    assert (made["name"], made["scope"], made["revoked_at"], made["last_used_at"]) == ("dashboard", "read", None, None)
    assert (await client.get(f"{KEYS}/{made['id']}")).json() == made
    assert made in (await client.get(KEYS)).json()["results"]
    assert text not in (await client.get(KEYS)).text
    assert (await client.get(LIST, headers=_as(text))).status_code == 200
    async with rt.db.reading() as tx:
        stored = await tx.scalar("SELECT string_agg(CAST(k AS text), '') FROM api_keys k")
    assert text.rsplit("_", 1)[1][:-8] not in stored


async def test_the_answer_may_be_asked_for_again(client: httpx.AsyncClient) -> None:
    body, headers = {"name": "k", "scope": "write"}, {"Idempotency-Key": "once"}
    first, again = [await client.post(KEYS, json=body, headers=headers) for _ in range(2)]
    assert first.json() == again.json()
    assert first.headers["cache-control"] == again.headers["cache-control"] == "no-store"
    assert len((await client.get(KEYS)).json()["results"]) == 2


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"name": ""}, "blank", "/name"),
    ({"name": "n" * 101}, "too_long", "/name"),
    ({"name": 7}, "wrong_type", "/name"),
    ({"name": "a\0"}, "invalid_text", "/name"),
    ({"scope": "owner"}, "not_allowed", "/scope"),
    ({"scope": None}, "not_allowed", "/scope"),
    ({"expires_at": "2099-01-01T00:00:00"}, "naive_time", "/expires_at"),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "in_the_past", "/expires_at"),
    ({"revoked_at": None}, "unknown_field", "/revoked_at"),
]


async def test_what_no_key_can_be(client: httpx.AsyncClient) -> None:
    for change, code, pointer in BAD:
        refused(await client.post(KEYS, json={"name": "k", "scope": "read"} | change), code, pointer)
    refused(await client.post(KEYS, json={"name": "k"}), "missing", "/scope")
    assert len((await client.get(KEYS)).json()["results"]) == 1


async def test_an_expired_key_is_like_an_unknown_one(client: httpx.AsyncClient, rt: Runtime) -> None:
    made = await _make(client, expires_at=_in(rt, hours=1))
    assert (await client.get(LIST, headers=_as(made["key"]))).status_code == 200
    rt.clock.advance(timedelta(hours=1, seconds=1))
    answer = await client.get(LIST, headers=_as(made["key"]))
    other = await client.get(LIST, headers=_as(made["key"][:-1]))
    assert answer.status_code == 401
    assert _without_id(answer) == _without_id(other)
    assert (await client.get(f"{KEYS}/{made['id']}")).json()["revoked_at"] is None


def _without_id(answer: httpx.Response) -> Any:
    return answer.json() | {"request_id": ""}, {k: v for k, v in answer.headers.items() if k != "x-request-id"}


async def test_a_revoked_key_is_refused_and_stays_in_the_list(client: httpx.AsyncClient) -> None:
    made = await _make(client, scope="write")
    for _ in range(2):
        assert (await client.delete(f"{KEYS}/{made['id']}")).status_code == 204
    shown = (await client.get(f"{KEYS}/{made['id']}")).json()
    assert shown["revoked_at"] is not None
    assert (await client.get(LIST, headers=_as(made["key"]))).status_code == 401
    assert (await client.get(LIST)).status_code == 200


def _own(project: Project) -> str:
    key = read_api_key(project.key)
    assert key is not None
    return f"{KEYS}/{public(KEY, key[0])}"


@pytest.mark.parametrize(
    ("others", "status"),
    [
        (lambda _: [], 409),
        (lambda _: [{"scope": "write"}], 409),
        (lambda rt: [{"scope": "admin", "expires_at": _in(rt, days=300)}], 409),
        (lambda _: [{"scope": "admin"}], 204),
    ],
)
async def test_no_project_locks_itself_out(
    client: httpx.AsyncClient, rt: Runtime, project: Project, others: Any, status: int
) -> None:
    """How long a project has an admin key is never cut short."""
    for body in others(rt):
        await _make(client, **body)
    answer = await client.delete(_own(project))
    assert answer.status_code == status
    if status == 409:
        assert answer.json()["code"] == "last_admin_key"
        assert (await client.get(LIST)).status_code == 200


async def test_of_keys_that_expire_the_one_that_lasts_stays(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    short, long = [await _make(client, scope="admin", expires_at=_in(rt, days=days)) for days in (1, 2)]
    await rows.sql("UPDATE api_keys SET revoked_at = app_now() WHERE expires_at IS NULL")
    mine = _as(short["key"])
    refused(await client.delete(f"{KEYS}/{long['id']}", headers=mine), "last_admin_key", status=409)
    assert (await client.delete(f"{KEYS}/{short['id']}", headers=mine)).status_code == 204
    assert (await client.get(LIST, headers=_as(long["key"]))).status_code == 200


async def test_two_keys_cannot_revoke_each_other(client: httpx.AsyncClient, rt: Runtime, project: Project) -> None:
    """Both were good when they asked; the second one to be revoked is the last by then."""
    made = await _make(client, scope="admin")
    async with rt.db.transaction() as tx:
        await tx.row("SELECT id FROM projects WHERE id = :id FOR NO KEY UPDATE", {"id": project.id})
        asked = [
            asyncio.create_task(client.delete(f"{KEYS}/{made['id']}"), context=Context()),
            asyncio.create_task(client.delete(_own(project), headers=_as(made["key"])), context=Context()),
        ]
        await until_it_waits(tx, sessions=2)
    assert sorted([(await one).status_code for one in asked]) == [204, 409]


async def _last_used(client: httpx.AsyncClient, rt: Runtime, key_id: str) -> datetime | None:
    await rt.key_uses.drain()
    shown = (await client.get(f"{KEYS}/{key_id}")).json()["last_used_at"]
    return datetime.fromisoformat(shown) if shown else None


async def test_last_use_is_noted_once_a_minute(client: httpx.AsyncClient, rt: Runtime) -> None:
    made = await _make(client)
    await rt.key_uses.drain()  # the one that made it is used, too
    statements: list[str] = []
    with rt.db.watched(statements.append):
        for _ in range(5):
            assert (await client.get(LIST, headers=_as(made["key"]))).status_code == 200
            await rt.key_uses.drain()
    assert len([statement for statement in statements if "UPDATE api_keys" in statement]) == 1
    first = await _last_used(client, rt, made["id"])
    assert first is not None
    rt.clock.advance(timedelta(seconds=30))
    await client.get(LIST, headers=_as(made["key"]))
    assert await _last_used(client, rt, made["id"]) == first
    rt.clock.advance(timedelta(seconds=31))
    answer = await client.post(LIST, headers=_as(made["key"]))
    assert answer.status_code == 403  # a use all the same
    later = await _last_used(client, rt, made["id"])
    assert later is not None
    assert later > first


async def test_a_refused_key_counts_as_no_use(client: httpx.AsyncClient, rt: Runtime) -> None:
    made = await _make(client)
    assert (await client.get(LIST, headers=_as(made["key"][:-1] + "x"))).status_code == 401
    assert await _last_used(client, rt, made["id"]) is None


async def test_many_requests_note_one_use(client: httpx.AsyncClient, rt: Runtime) -> None:
    """Nobody waits for the row, though it is locked by somebody else."""
    made = await _make(client)
    async with rt.db.transaction() as tx:
        await tx.execute("SELECT FROM api_keys FOR UPDATE")
        for _ in range(3):
            assert (await client.get(LIST, headers=_as(made["key"]))).status_code == 200
    await rt.key_uses.drain()
    await client.get(LIST, headers=_as(made["key"]))
    assert await _last_used(client, rt, made["id"]) is not None


async def test_the_documented_pattern_finds_keys(client: httpx.AsyncClient) -> None:
    text = (ROOT / "docs" / "keys.md").read_text()
    found = re.search(r"^(punctual_\S+)$", text, re.MULTILINE)
    assert found is not None
    pattern = re.compile(found[1])
    key = (await _make(client))["key"]
    assert pattern.search(f'KEY = "{key}"') is not None
    for other in (key[:-1], key.lower(), key.replace("punctual", "puncture")):
        assert pattern.fullmatch(other) is None


async def test_no_browser_of_another_site_gets_in(client: httpx.AsyncClient) -> None:
    """CORS is off: neither a preflight nor an answer allows an origin."""
    origin = {"Origin": "https://evil.example"}
    asks = origin | {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    for answer in (await client.get(LIST, headers=origin), await client.options(LIST, headers=asks)):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert answer.status_code == 405
