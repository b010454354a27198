"""The sandbox put together: one world, its faces, the push sender, faults, and the control surface, as one ASGI app."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from sandbox.backends.attendee import Attendee
from sandbox.backends.book import Book
from sandbox.backends.control import BackendControl
from sandbox.backends.meeting_baas import MeetingBaas
from sandbox.backends.recall import Recall
from sandbox.clock import Clock
from sandbox.control import Control
from sandbox.door import RequestLog
from sandbox.faults import Dropped, Faults
from sandbox.google.facade import Google
from sandbox.microsoft.facade import Graph
from sandbox.push import Push
from sandbox.world import World

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]


@dataclass(slots=True)
class Sandbox:
    """Everything a test or a demo holds on to."""

    world: World
    push: Push
    faults: Faults
    requests: RequestLog
    graph: Graph
    bots: Book
    app: Callable[[Scope, Receive, Send], Awaitable[None]]

    @classmethod
    def create(
        cls, *, push_client: httpx.AsyncClient | None = None, clock: Clock | None = None, on_socket: bool = False
    ) -> "Sandbox":
        """A fresh world. Without a client, notifications go nowhere. `on_socket`: it is served by a real server."""
        world = World(clock)
        faults, log = Faults(), RequestLog()
        push = Push(push_client)
        google = Google(world, push, faults, log)
        graph = Graph(world, push, faults, log)
        control = Control(world, push, faults, log, graph)
        bots = Book(world.clock)
        backends = (BackendControl(bots), *(kind(bots, faults, log) for kind in (Attendee, Recall, MeetingBaas)))
        routes = [*control.routes(), *google.routes(), *graph.routes()]
        routes += [route for backend in backends for route in backend.routes()]
        # What a client sees of a dropped connection: on a socket an answer that breaks off, else httpx's own error.
        dropped = _drop_on_socket if on_socket else _drop_in_process
        app = Starlette(routes=routes, exception_handlers={Dropped: dropped})
        return cls(world, push, faults, log, graph, bots, app)

    async def close(self) -> None:
        """Let go of whoever waits, and stop sending."""
        self.faults.clear()
        await self.push.close()


class _BrokenOff(Response):
    """The beginning of an answer, after which a server closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A head that promises a body."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})


async def _drop_on_socket(_: Request, __: Exception) -> Response:
    return _BrokenOff()


async def _drop_in_process(_: Request, exc: Exception) -> Response:
    raise httpx.RemoteProtocolError("the provider closed the connection") from exc
