"""The sandbox put together: one world, its faces, the push sender, faults, and the control surface, as one ASGI app."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.applications import Starlette

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
        routes = [*control.routes(), *google.routes(), *graph.routes()]
        app = _Droppable(Starlette(routes=routes), on_socket=on_socket)
        return cls(world, push, faults, log, graph, app)

    async def close(self) -> None:
        """Let go of whoever waits, and stop sending."""
        self.faults.clear()
        await self.push.close()


class _Droppable:
    """Turns a dropped connection into what the client sees of one.

    Called in process that is httpx's own transport error; on a socket, an answer that breaks off.
    """

    def __init__(self, inner: Starlette, *, on_socket: bool) -> None:
        self._inner = inner
        self._on_socket = on_socket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._inner(scope, receive, send)
        except Dropped as exc:
            if self._on_socket:
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
                return
            raise httpx.RemoteProtocolError("the provider closed the connection") from exc
