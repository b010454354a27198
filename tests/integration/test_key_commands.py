"""`punctual projects` and `punctual keys`: what an operator does about access."""

import json
from datetime import datetime, timedelta
from typing import Any

import httpx

from app.ids import KEY, PROJECT, new_id, parse, public
from app.runtime import Runtime
from tests.harness import Project
from tests.integration.delivering import rows
from tests.integration.test_commands import punctual, punctual_json

LIST = "/api/v1/calendars"


async def _status(api: httpx.AsyncClient, key: str, path: str = LIST) -> int:
    return (await api.get(path, headers={"Authorization": f"Token {key}"})).status_code


async def test_the_life_of_a_key(rt: Runtime, api: httpx.AsyncClient, project: Project) -> None:
    create = ("keys", "create", project.public_id, "--name", "dashboard", "--scope", "read")
    made = await punctual_json(rt, *create, "--expires-in", "90d")
    assert await _status(api, made["api_key"]) == 200
    assert await _status(api, made["api_key"], "/api/v1/api_keys") == 403
    _, said, _ = await punctual(rt, "keys", "list", project.public_id, "--json")
    first, shown = [json.loads(line) for line in said.splitlines()]
    assert (first["name"], first["scope"]) == ("first", "admin")
    assert (shown["key_id"], shown["name"], shown["scope"]) == (made["key_id"], "dashboard", "read")
    good = datetime.fromisoformat(shown["expires_at"]) - datetime.fromisoformat(shown["created_at"])
    assert abs(good - timedelta(days=90)) < timedelta(minutes=1)
    assert made["api_key"] not in said
    await punctual_json(rt, "keys", "revoke", made["key_id"])
    assert await _status(api, made["api_key"]) == 401
    for key in (made["key_id"], first["key_id"]):  # the last one of all, and one that is revoked already
        assert await punctual_json(rt, "keys", "revoke", key) == {"key_id": key, "state": "revoked"}
    assert await _status(api, project.key) == 401


async def test_a_projects_limits(rt: Runtime, project: Project) -> None:
    limits = ("projects", "limits", project.public_id)
    assert await punctual_json(rt, *limits) == {"reads_per_minute": "6000", "writes_per_minute": "3000"}
    own = {"reads_per_minute": "600", "writes_per_minute": "0"}
    assert await punctual_json(rt, *limits, "--reads", "600", "--writes", "0") == own
    assert await punctual_json(rt, *limits, "--writes", "default") == own | {"writes_per_minute": "3000"}


async def test_what_it_does_is_in_the_log(rt: Runtime) -> None:
    made = await punctual_json(rt, "projects", "create", "Ours")
    key = await punctual_json(rt, "keys", "create", made["project_id"], "--name", "k", "--scope", "write")
    await punctual_json(rt, "projects", "limits", made["project_id"])  # shows, changes nothing
    await punctual_json(rt, "projects", "limits", made["project_id"], "--reads", "5")
    await punctual_json(rt, "keys", "revoke", key["key_id"])
    log: Any = await rows(rt, "SELECT * FROM audit_log ORDER BY at, id")
    assert [(entry["action"], entry["object_id"], entry["changes"]) for entry in log] == [
        ("create_project", made["project_id"], ["name"]),
        ("create_api_key", key["key_id"], ["name", "scope"]),
        ("limit_project", made["project_id"], ["reads_per_minute"]),
        ("revoke_api_key", key["key_id"], []),
    ]
    assert {(entry["project_id"], entry["key_id"], entry["ip"]) for entry in log} == {
        (parse(PROJECT, made["project_id"]), None, None)
    }


async def test_refusals_say_why(rt: Runtime, project: Project) -> None:
    unknown, make = public(PROJECT, new_id()), ("--name", "k", "--scope", "read")
    until = ("--expires-at", "2020-01-01T00:00:00Z")
    cases: list[tuple[str, tuple[str, ...]]] = [
        ("is not an id that starts with proj_", ("keys", "list", "proj_x")),
        ("There is no such object", ("keys", "create", unknown, *make)),
        ("There is no such object", ("keys", "list", unknown)),
        ("There is no such object", ("keys", "revoke", public(KEY, new_id()))),
        ("no such object", ("projects", "limits", unknown, "--reads", "1")),
        ("Missing option '--scope'", ("keys", "create", project.public_id, "--name", "k")),
        ("is not one of", ("keys", "create", project.public_id, "--name", "k", "--scope", "owner")),
        ("such as 90d", ("keys", "create", project.public_id, *make, "--expires-in", "soon")),
        ("never be good", ("keys", "create", project.public_id, *make, *until)),
        ("either", ("keys", "create", project.public_id, *make, *until, "--expires-in", "1d")),
        ("a number of requests", ("projects", "limits", project.public_id, "--reads", "-1")),
    ]
    for complaint, arguments in cases:
        status, said, why = await punctual(rt, *arguments)
        assert status > 0, arguments
        assert said == ""
        assert complaint in why
    assert await rows(rt, "SELECT id FROM audit_log") == []
