"""Scopes: each of them at each operation of the document."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import keys
from app.ids import new_id, public
from app.keys import SCOPES, Scope
from app.runtime import Runtime
from tests.api.openapi_judge import Judge
from tests.api.refusals import counts
from tests.harness import Project

ROOT = Path(__file__).resolve().parents[2]
ADMIN = {
    "get_access_token",
    "create_oauth_app",
    "update_oauth_app",
    "delete_oauth_app",
    "update_project",
    "create_api_key",
    "list_api_keys",
    "get_api_key",
    "revoke_api_key",
    "list_audit_log",
}
READ_THOUGH_NO_GET = {"dry_run"}


def _operations(judge: Judge) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, an address with ids that nothing has, and description of each."""
    for path, operations in judge.document["paths"].items():
        if path.startswith("/api/v1/"):
            for method, operation in operations.items():
                for parameter in operation.get("parameters", ()):
                    if parameter["in"] == "path":
                        path = path.replace(f"{{{parameter['name']}}}", public("x", new_id()))
                yield method.upper(), path, operation


def _contract(method: str, operation_id: str) -> Scope:
    if operation_id in ADMIN:
        return "admin"
    return "read" if method == "GET" or operation_id in READ_THOUGH_NO_GET else "write"


def test_the_document_names_the_scope_of_each_operation(judge: Judge) -> None:
    seen = set()
    for method, _, operation in _operations(judge):
        scope = _contract(method, operation["operationId"])
        assert operation["security"] == [{"bearer": [scope]}], operation["operationId"]
        assert ("403" in operation["responses"]) == (scope != "read"), operation["operationId"]
        seen.add(operation["operationId"])
    assert seen >= ADMIN | READ_THOUGH_NO_GET


def test_the_guide_names_what_takes_an_admin_key(judge: Judge) -> None:
    rows = [line for line in (ROOT / "docs/keys.md").read_text().splitlines() if line.startswith("| `admin` | what")]
    for path, operations in judge.document["paths"].items():
        if ADMIN & {operation["operationId"] for operation in operations.values()}:
            last = [part for part in path.split("/") if not part.startswith("{")][-1]
            assert f"/{last}`" in rows[0], path


async def test_each_scope_at_each_operation(
    api: httpx.AsyncClient, rt: Runtime, project: Project, judge: Judge, subtests: pytest.Subtests
) -> None:
    """Whoever may not is told so whatever else is wrong; whoever may is told what else is."""
    async with rt.db.transaction() as tx:
        texts = {s: (await keys.make(tx, project_id=project.id, name=s, scope=s)).text for s in SCOPES}
    before = await counts(rt)
    for method, path, operation in _operations(judge):
        needed = _contract(method, operation["operationId"])
        for scope, text in texts.items():
            with subtests.test(operation=operation["operationId"], scope=scope):
                headers = {"Authorization": f"Bearer {text}", "Content-Type": "application/json"}
                content = None if method in {"GET", "DELETE"} else b"{"
                answer = await api.request(method, f"{path}?no_such=1", content=content, headers=headers)
                if SCOPES.index(scope) < SCOPES.index(needed):
                    problem = answer.json()
                    assert (answer.status_code, problem["code"]) == (403, "insufficient_scope")
                    assert problem["needed_scope"] == needed
                    assert needed in problem["detail"]
                else:
                    assert answer.status_code == (400 if content else 422), answer.text
    assert await counts(rt) == before


async def test_a_scope_is_judged_before_the_body_is_read(api: httpx.AsyncClient, rt: Runtime, project: Project) -> None:
    async with rt.db.transaction() as tx:
        key = await keys.make(tx, project_id=project.id, name="reader", scope="read")
    read = []

    async def body() -> Any:
        read.append(True)
        yield b"{}"

    headers = {"Authorization": f"Bearer {key.text}", "Content-Type": "application/json"}
    answer = await api.post("/api/v1/calendars", content=body(), headers=headers)
    assert (answer.status_code, read) == (403, [])
