"""What tests are written with: an application that uses Punctual, and a way to let everything due happen.

`Actor` speaks HTTP to the API like a customer and edits calendars in the sandbox like a user. `quiesce` runs due
syncs, channels and deliveries through the functions that the worker's loops call, until nothing is due: tests read as
cause and effect, without sleeping.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import uvicorn

from app import scheduling
from app.crypto import make_api_key
from app.ids import CALENDAR, PROJECT, new_id, parse, public
from app.runtime import Runtime
from app.sync import channels, cleanup
from app.webhooks.delivery import deliver_due
from workers.jobs import run_sync


class LateTransport(httpx.AsyncBaseTransport):
    """A transport whose inner one is known later: sandbox and application push to each other."""

    inner: httpx.AsyncBaseTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass on; a connection error while there is nobody."""
        if self.inner is None:
            raise httpx.ConnectError("nobody listens yet", request=request)
        return await self.inner.handle_async_request(request)


@dataclass(frozen=True, slots=True)
class Project:
    """A project and its key."""

    id: UUID
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """What authenticates as this project."""
        return {"Authorization": f"Token {self.key}"}

    @property
    def public_id(self) -> str:
        """The id a customer sees."""
        return public(PROJECT, self.id)


async def new_project(rt: Runtime, name: str) -> Project:
    """A project with one key, as `punctual projects create` makes it."""
    project_id, key_id = new_id(), new_id()
    made = make_api_key(key_id)
    async with rt.db.transaction() as tx:
        await tx.execute("INSERT INTO projects (id, name) VALUES (:id, :name)", {"id": project_id, "name": name})
        await tx.execute(
            "INSERT INTO api_keys (id, project_id, secret_hash) VALUES (:id, :project, :hash)",
            {"id": key_id, "project": project_id, "hash": made.secret_hash},
        )
    return Project(project_id, made.text)


async def run_due(rt: Runtime) -> int:
    """One pass over everything that is due now; how much was done."""
    due = await scheduling.due_calendars(rt, most=100)
    for calendar_id in due:
        await run_sync(rt, calendar_id)
    done = len(due)
    done += await channels.sweep(rt)
    done += await cleanup.sweep(rt)
    done += await deliver_due(rt)
    return done


@asynccontextmanager
async def listen(app: Any) -> AsyncIterator[str]:  # noqa: ANN401 - any ASGI application
    """Serve an ASGI application on a free loopback port; its base URL."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()
