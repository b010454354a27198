"""A request's time is bounded: it is cancelled where it waits, and what it had begun to write is gone.

Limits are tried from short to long until the request came as far as the test needs: a slow machine takes another turn.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx

from app.runtime import Runtime
from tests.api.refusals import counts, refused
from tests.harness import Project, application

CALENDARS = "/api/v1/calendars"
LIMITS = (0.2, 1.0, 5.0, 25.0)


def impatient(rt: Runtime, project: Project, seconds: float) -> httpx.AsyncClient:
    """The same service with less time for each request."""
    limited = replace(rt, settings=rt.settings.model_copy(update={"request_timeout_seconds": seconds}))
    transport = httpx.ASGITransport(application(limited), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://punctual.test", headers=project.headers)


async def test_a_request_that_waits_for_a_lock_leaves_nothing(
    client: httpx.AsyncClient, rt: Runtime, project: Project, credentials: dict[str, Any]
) -> None:
    before = await counts(rt)
    sent: list[str] = []
    with rt.db.watched(sent.append):
        async with rt.db.transaction() as tx:
            await tx.execute("LOCK TABLE grants IN EXCLUSIVE MODE")
            for limit in LIMITS:
                async with impatient(rt, project, limit) as hasty:
                    answer = await hasty.post(CALENDARS, json=credentials)
                refused(answer, "timed_out", status=503)
                assert answer.headers["retry-after"]
                if any("INSERT INTO grants" in statement for statement in sent):
                    break
    written = [statement for statement in sent if "INSERT INTO" in statement]
    assert "INSERT INTO grants" in written[-1]
    assert any("INSERT INTO calendars" in statement for statement in written)
    assert await counts(rt) == before
    assert (await client.post(CALENDARS, json=credentials)).status_code == 201


async def test_who_is_about_to_connect_gets_a_page(rt: Runtime, project: Project) -> None:
    async with rt.db.transaction() as tx:
        await tx.execute("LOCK TABLE connect_links IN ACCESS EXCLUSIVE MODE")
        async with impatient(rt, project, LIMITS[0]) as hasty:
            answer = await hasty.get(f"/connect/{'t' * 43}")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert answer.headers["retry-after"]


async def test_a_body_that_never_ends(rt: Runtime, project: Project) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with impatient(rt, project, LIMITS[0]) as hasty:
        answer = await hasty.post(CALENDARS, content=endless(), headers={"Content-Type": "application/json"})
    refused(answer, "timed_out", status=503)


async def test_who_reads_slowly_gets_the_whole_answer(rt: Runtime, project: Project) -> None:
    told: list[Any] = []
    for limit in LIMITS:
        told.clear()

        async def send(message: Any, limit: float = limit) -> None:
            told.append(message)
            if message.get("status") == 200:
                await asyncio.sleep(1.5 * limit)

        async with impatient(rt, project, limit) as hasty:
            request = hasty.build_request("GET", CALENDARS)
            transport: Any = hasty._transport
            scope = {
                "type": "http",
                "method": "GET",
                "scheme": "http",
                "path": CALENDARS,
                "query_string": b"",
                "headers": [(name.lower(), value) for name, value in request.headers.raw],
            }
            await transport.app(scope, asyncio.Queue[Any]().get, send)
        if told[0]["status"] == 200:
            break
    assert [(message["type"], message.get("more_body", False)) for message in told] == [
        ("http.response.start", False),
        ("http.response.body", False),
    ]
    assert told[0]["status"] == 200
