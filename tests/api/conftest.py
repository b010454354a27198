"""Fixtures of the API's tests: every answer is held against the published document."""

from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import structlog

from app.runtime import Runtime
from sandbox import Sandbox
from tests.api.openapi_judge import Judge
from tests.api.rows import Rows
from tests.harness import Project, application

URL = "http://punctual.test"
PUBLISHED = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
"""What the code publishes: `test_document.py` compares the two."""


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged."""
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as captured:
        yield captured


@pytest.fixture(scope="session")
def judge() -> Judge:
    """The document as a judge of answers."""
    return Judge(orjson.loads(PUBLISHED.read_bytes()))


@pytest.fixture
async def api(rt: Runtime, judge: Judge) -> AsyncIterator[httpx.AsyncClient]:
    """The API without a key, judged. A fault inside is a 500, as for a customer."""
    transport = httpx.ASGITransport(application(rt), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=URL, event_hooks={"response": [judge]}) as client:
        yield client


@pytest.fixture
async def client(rt: Runtime, judge: Judge, project: Project) -> AsyncIterator[httpx.AsyncClient]:
    """The API with the project's key, judged."""
    transport = httpx.ASGITransport(application(rt), raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url=URL, event_hooks={"response": [judge]}, headers=project.headers
    ) as client:
        yield client


@pytest.fixture
def rows(rt: Runtime, project: Project) -> Rows:
    """Writes rows of the project."""
    return Rows(rt, project.id)


@pytest.fixture
def foreign(rt: Runtime, other_project: Project) -> Rows:
    """Writes rows of the other project."""
    return Rows(rt, other_project.id)


@pytest.fixture
def credentials(sandbox: Sandbox) -> dict[str, Any]:
    """Credentials that the sandbox takes."""
    account = sandbox.world.add_account("ada@example.com")
    return {
        "platform": "google",
        "client_id": account.client_id,
        "client_secret": account.client_secret,
        "refresh_token": account.refresh_token,
    }
