"""`/_sandbox/backends/…`: which bots came to which meeting, and whose keys are good."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.answers import reply
from sandbox.backends.book import Book


class BackendControl:
    """The routes, on one book."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def routes(self) -> list[Route]:
        """Every control route of the back ends."""
        return [
            Route("/_sandbox/backends/meetings", self._meetings, methods=["GET"]),
            Route("/_sandbox/backends", _endpoint(self._set), methods=["PUT"]),
            Route("/_sandbox/backends/bots/{bot:str}/end", _endpoint(self._end), methods=["POST"]),
            Route("/_sandbox/backends/{backend:str}/keys", _endpoint(self._keys), methods=["PUT"]),
        ]

    async def _meetings(self, _: Request) -> Response:
        return reply({"meetings": self._book.meetings()})

    async def _set(self, request: Request) -> object:
        body = await request.json()
        self._book.settling_seconds = float(body.get("settling_seconds", self._book.settling_seconds))
        self._book.work_seconds = float(body.get("work_seconds", self._book.work_seconds))
        return {"settling_seconds": self._book.settling_seconds, "work_seconds": self._book.work_seconds}

    async def _end(self, request: Request) -> object:
        self._book.settle()
        self._book.bots[request.path_params["bot"]].left_at = self._book.clock.now()
        return {}

    async def _keys(self, request: Request) -> object:
        keys = self._book.keys[request.path_params["backend"]]
        keys.clear()
        keys.update(str(key) for key in (await request.json())["keys"])
        return {"keys": sorted(keys)}


def _endpoint(handler: Callable[[Request], Awaitable[object]]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            return reply(await handler(request))
        except KeyError as exc:
            return reply({"error": f"unknown: {exc}"}, status=404)
        except (TypeError, ValueError) as exc:
            return reply({"error": str(exc)}, status=422)

    return answer
