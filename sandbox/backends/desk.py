"""What every back end's requests pass: the door with its faults, the key, and what spoils an answer after the deed."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from sandbox.answers import reply
from sandbox.backends.book import Backend, Book
from sandbox.door import Door, Endpoint, RequestLog
from sandbox.faults import Faults

Refuse = Callable[[int, str, str], Response]
"""Writes an error in the back end's own shape: status, code, sentence."""
Handler = Callable[[Request, str], Awaitable[Response]]
"""Answers a request of an account."""

_PLANTED: dict[str, tuple[int, str, str]] = {
    "too_many_requests": (429, "throttled", "Request was throttled."),
    "unavailable": (503, "unavailable", "Service unavailable"),
    "unauthorized": (401, "authentication_failed", "Invalid token."),
    "forbidden": (403, "request_blocked", "Forbidden"),
    "not_found": (404, "not_found", "Not found."),
    "conflict": (409, "conflict", "Conflict, please retry"),
}
ERRORS = (*_PLANTED, "html", "garbage", "redirect", "echo")


class Desk:
    """The way in to one back end. `header` holds the key, after `scheme` and a blank where there is one."""

    def __init__(
        self,
        backend: Backend,
        book: Book,
        faults: Faults,
        log: RequestLog,
        refuse: Refuse,
        header: str,
        scheme: str = "",
    ) -> None:
        self._backend = backend
        self._book = book
        self._faults = faults
        self._refuse = refuse
        self._header = header
        self._scheme = scheme
        self._door = Door(faults, log, book.clock, ERRORS, self._planted)

    def open(self, handler: Handler, operation: str) -> Endpoint:
        """The handler for those whose key is good; faults strike `<back end>.<operation>`."""
        name = f"{self._backend}.{operation}"

        async def serve(request: Request) -> Response:
            account = self._account(request)
            if account is None:
                return self._refuse(401, "authentication_failed", "Invalid token.")
            return self._spoilt(await handler(request, account), name)

        return self._door.open(serve, name)

    def _account(self, request: Request) -> str | None:
        """Each good key is an account of its own."""
        text = request.headers.get(self._header, "")
        if self._scheme:
            scheme, _, text = text.partition(" ")
            if scheme != self._scheme:
                return None
        return text if text in self._book.keys[self._backend] else None

    def _spoilt(self, answer: Response, operation: str) -> Response:
        fault = self._faults.strike("failed_answer", operation)
        if fault:
            spoilt = self._refuse(int(fault.params.get("status", 502)), "unavailable", "Bad gateway")
            if "retry_after" in fault.params:
                spoilt.headers["Retry-After"] = str(fault.params["retry_after"])
            return spoilt
        if self._faults.strike("garbled_answer", operation):
            return Response(bytes(answer.body)[:-1], answer.status_code, media_type="application/json")
        if fault := self._faults.strike("huge_answer", operation):
            padding = b" " * int(fault.params.get("bytes", 8 << 20))
            return Response(padding + bytes(answer.body), answer.status_code, media_type="application/json")
        if self._faults.strike("odd_answer", operation):
            return reply(_odd(orjson.loads(answer.body or b"null")), status=answer.status_code)
        return answer

    def _planted(self, kind: str, params: dict[str, Any], request: Request) -> Response:
        if kind == "html":
            answer = Response("<html>Error</html>", int(params.get("status", 502)), media_type="text/html")
        elif kind == "garbage":
            answer = Response(b'{"id": ', media_type="application/json")
        elif kind == "redirect":
            answer = Response(status_code=302, headers={"Location": str(params.get("location", "/elsewhere"))})
        elif kind == "echo":
            told = f"bad request by {request.headers.get(self._header)} for {params.get('about', '')}"
            answer = self._refuse(int(params.get("status", 400)), "echo", told)
        else:
            status, code, message = _PLANTED[kind]
            answer = self._refuse(int(params.get("status", status)), code, message)
        if "retry_after" in params:
            answer.headers["Retry-After"] = str(params["retry_after"])
        return answer


def _odd(value: Any) -> Any:
    """The same shape, with every text and number another type."""
    if isinstance(value, dict):
        return {name: _odd(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_odd(one) for one in value]
    return [7] if isinstance(value, str) else "odd"


async def body_of(request: Request) -> dict[str, Any] | None:
    """A request's JSON object; None where it is none."""
    try:
        body = orjson.loads(await request.body() or b"{}")
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None
