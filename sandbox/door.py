"""What every façade's requests pass: they are noted, faults strike them and gates hold their answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sandbox.faults import Dropped, Faults

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that came in; `at` is unix time."""

    operation: str
    calendar: str | None
    status: int
    at: float
    ms: float
    query: str


@dataclass(slots=True)
class RequestLog:
    """What was asked, and how much of it at once."""

    seen: list[Seen] = field(default_factory=list)
    in_flight: int = 0
    peak: int = 0

    def count(self, operation: str) -> int:
        """How often this operation was asked."""
        return sum(1 for entry in self.seen if entry.operation == operation)


class Door:
    """The way in to one façade. `planted` writes its answer to a fault that is nothing but an error."""

    def __init__(
        self,
        faults: Faults,
        log: RequestLog,
        errors: Collection[str],
        planted: Callable[[str, dict[str, Any]], Response],
    ) -> None:
        self._faults = faults
        self._log = log
        self._errors = errors
        self._planted = planted

    def open(self, handler: Endpoint, operation: str) -> Endpoint:
        """The handler, with what happens to every request around it."""

        async def serve(request: Request) -> Response:
            started, status = time.monotonic(), 0
            self._log.in_flight += 1
            self._log.peak = max(self._log.peak, self._log.in_flight)
            calendar = request.path_params.get("calendar")
            try:
                answer = await self._with_faults(handler, request, operation, calendar)
                status = answer.status_code
                return answer
            finally:
                self._log.in_flight -= 1
                ms = (time.monotonic() - started) * 1000
                self._log.seen.append(Seen(operation, calendar, status, time.time(), ms, request.url.query))

        return serve

    async def _with_faults(self, handler: Endpoint, request: Request, operation: str, calendar: str | None) -> Response:
        delay = self._faults.strike("delay", operation, calendar=calendar)
        if delay is not None:
            await asyncio.sleep(float(delay.params.get("seconds", 1)))
        if self._faults.strike("drop", operation, calendar=calendar):
            raise Dropped
        for kind in self._errors:
            fault = self._faults.strike(kind, operation, calendar=calendar)
            if fault is not None:
                return self._planted(kind, fault.params)
        answer = await handler(request)
        await self._faults.pass_gate(operation)
        if self._faults.strike("lost_answer", operation, calendar=calendar):
            raise Dropped
        return answer
