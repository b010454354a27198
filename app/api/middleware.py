"""Around every request: its id, its time, one log line, one metric, and an answer whatever happens."""

import asyncio
import re
from time import perf_counter
from typing import Final

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import connect
from app.api.problems import InternalError, TimedOut, problem_response
from app.errors import RequestError
from app.ids import new_id, public
from app.telemetry import REQUESTS, log

_HEADER: Final = b"x-request-id"
_GIVEN: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_NO_ROUTE: Final = "none"
_RETRY: Final = {"Retry-After": "5"}


class Observed:
    """The outermost middleware of ours: plain ASGI, because a request must not pay for a task of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on under an id; a problem document instead of a broken connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = scope["state"].get("more_headers", ())
                message["headers"] = [*message.get("headers", ()), *more, (_HEADER, request_id.encode())]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._in_time(scope, receive, send_with_id)
            except Exception as exc:  # noqa: BLE001 - the HTTP 500 handler: whatever it is, the customer gets an answer
                log.error("http.failed", error=type(exc).__name__, route=_route(scope), exc_info=exc)
                if not status:
                    await _failure(scope, InternalError())(scope, receive, send_with_id)
            finally:
                _observe(scope, status=status, seconds=perf_counter() - started)

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Cancel what takes too long where it waits: its transaction rolls back as a whole, or has been committed.

        An answer that has begun may take as long as its reader does.
        """
        limit = asyncio.timeout(scope["app"].state.runtime.settings.request_timeout_seconds)

        async def begin(message: Message) -> None:
            if message["type"] == "http.response.start" and not limit.expired():
                limit.reschedule(None)
            await send(message)

        try:
            async with limit:
                await self._app(scope, receive, begin)
        except TimeoutError:
            if not limit.expired():
                raise
            log.warning("http.timed_out", route=_route(scope))
            await _failure(scope, TimedOut(headers=_RETRY))(scope, receive, send)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == _HEADER and _GIVEN.fullmatch(value):
            return str(value, "ascii")
    return public("req", new_id())


def _failure(scope: Scope, error: RequestError) -> Response:
    if scope["path"].startswith(connect.PREFIX):
        return connect.failure(error)
    return problem_response(error, request_id=scope["state"]["request_id"])


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", _NO_ROUTE)


def _observe(scope: Scope, *, status: int, seconds: float) -> None:
    """One line and one observation, by route template: addresses hold ids, queries hold e-mail addresses."""
    method, route = scope["method"], _route(scope)
    label = method if method in _METHODS else "other"
    REQUESTS.labels(label, route, str(status)).observe(seconds)
    log.info("http.request", method=label, route=route, status=status, ms=round(seconds * 1000, 1))


_METHODS: Final = frozenset({"GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS"})
