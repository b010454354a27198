"""Keys: who may call, and what the others are told."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app import keys
from app.crypto import make_api_key
from app.ids import new_id
from app.runtime import Runtime
from tests.harness import Project, new_project

LIST = "/api/v1/calendars"


@pytest.mark.parametrize("scheme", ["Token", "Bearer", "token", "BEARER"])
async def test_both_schemes_are_taken(api: httpx.AsyncClient, project: Project, scheme: str) -> None:
    answer = await api.get(LIST, headers={"Authorization": f"{scheme} {project.key}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Token",
        "Token ",
        "Basic dXNlcjpwYXNz",
        "Token punctual_x_y",
        "Token \N{SNOWMAN}",
        "{scheme_is_missing}",
        "Token {with_another_ending}",
        "Token {unknown}",
        "Token {longer}",
    ],
)
async def test_everybody_else_is_refused(api: httpx.AsyncClient, project: Project, header: str | None) -> None:
    values = {
        "scheme_is_missing": project.key,
        "with_another_ending": project.key[:-1] + ("0" if project.key[-1] != "0" else "1"),
        "unknown": make_api_key(new_id()).text,
        "longer": project.key + "0" * 300,
    }
    headers: dict[str, Any] = {} if header is None else {"Authorization": header.format(**values).encode()}
    answer = await api.get(LIST, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthenticated"
    assert "Token" in answer.headers["WWW-Authenticate"]


async def test_a_key_with_the_secret_of_another_is_refused(
    api: httpx.AsyncClient, project: Project, other_project: Project
) -> None:
    mine, other = project.key.split("_"), other_project.key.split("_")
    mixed = f"{mine[0]}_{mine[1]}_{other[2]}"
    answer = await api.get(LIST, headers={"Authorization": f"Token {mixed}"})
    assert answer.status_code == 401


async def test_a_revoked_key_is_refused_and_another_key_of_the_project_still_works(
    api: httpx.AsyncClient, rt: Runtime, project: Project
) -> None:
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE api_keys SET revoked_at = app_now() WHERE project_id = :id", {"id": project.id})
        second = await keys.make(tx, project_id=project.id, name="second", scope="admin")
    assert (await api.get(LIST, headers=project.headers)).status_code == 401
    assert (await api.get(LIST, headers={"Authorization": f"Token {second.text}"})).status_code == 200


async def test_without_a_key_nothing_is_said_about_the_request(api: httpx.AsyncClient) -> None:
    bad = [
        api.get(LIST, params={"no_such": "1"}),
        api.post(LIST, content=b"{", headers={"Content-Type": "application/json"}),
        api.post(LIST, content=b"x", headers={"Content-Type": "text/plain"}),
        api.patch(f"{LIST}/cal_x", json={"no_such": 1}),
        api.get(f"{LIST}/cal_x"),
        api.get("/api/v1/calendar_events", params={"cursor": "x"}),
    ]
    for request in bad:
        assert (await request).status_code == 401


async def test_a_write_with_a_bad_key_stores_nothing(
    api: httpx.AsyncClient, rt: Runtime, credentials: dict[str, Any]
) -> None:
    stranger = await new_project(rt, "stranger")
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE api_keys SET revoked_at = app_now() WHERE project_id = :id", {"id": stranger.id})
    assert (await api.post(LIST, json=credentials, headers=stranger.headers)).status_code == 401
    async with rt.db.reading() as tx:
        assert await tx.scalar("SELECT count(*) FROM calendars") == 0


async def test_a_key_revoked_while_the_body_arrives_writes_nothing(
    api: httpx.AsyncClient, rt: Runtime, project: Project, credentials: dict[str, Any]
) -> None:
    async def body() -> AsyncIterator[bytes]:
        text = json.dumps(credentials).encode()
        yield text[:20]
        async with rt.db.transaction() as tx:
            await tx.execute("UPDATE api_keys SET revoked_at = app_now() WHERE project_id = :id", {"id": project.id})
        await asyncio.sleep(1.1)  # longer than a key counts as checked
        yield text[20:]

    headers = {**project.headers, "Content-Type": "application/json"}
    assert (await api.post(LIST, content=body(), headers=headers)).status_code == 401
    async with rt.db.reading() as tx:
        assert await tx.scalar("SELECT count(*) FROM calendars") == 0
