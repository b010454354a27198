"""What every façade's requests pass: they are noted, faults strike them and gates hold their answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sandbox.clock import Clock
from sandbox.faults import Dropped, Fault, Faults

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
class Flight:
    """How many requests are being answered at once, now and at most."""

    now: int = 0
    peak: int = 0

    @contextmanager
    def aboard(self) -> Iterator[None]:
        """One more, as long as this lasts."""
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            yield
        finally:
            self.now -= 1


@dataclass(slots=True)
class RequestLog:
    """What was asked, and how much of it at once: altogether, and by application and mailbox where that is limited."""

    seen: list[Seen] = field(default_factory=list)
    flight: Flight = field(default_factory=Flight)
    mailboxes: dict[tuple[str, str], Flight] = field(default_factory=dict)

    @property
    def peak(self) -> int:
        """The most requests at once."""
        return self.flight.peak

    def mailbox(self, client_id: str, email: str) -> Flight:
        """The flight of one application's requests for one mailbox."""
        return self.mailboxes.setdefault((client_id, email), Flight())

    def mailbox_peak(self, email: str | None = None) -> int:
        """The most requests at once that one application had for one mailbox, of this address or of all."""
        return max((f.peak for (_, name), f in self.mailboxes.items() if email in {None, name}), default=0)

    def count(self, operation: str) -> int:
        """How often this operation was asked."""
        return sum(1 for entry in self.seen if entry.operation == operation)


def _unguarded(_: Request, __: str) -> AbstractContextManager[Response | None]:
    return nullcontext()


class Door:
    """The way in to one façade.

    `planted` writes its answer to a fault that is nothing but an error. `guard` stands around each request and may
    refuse it before anything else happens.
    """

    def __init__(
        self,
        faults: Faults,
        log: RequestLog,
        clock: Clock,
        errors: Collection[str],
        planted: Callable[[str, dict[str, Any], Request], Response],
        guard: Callable[[Request, str], AbstractContextManager[Response | None]] = _unguarded,
    ) -> None:
        self._faults = faults
        self._log = log
        self._clock = clock
        self._errors = errors
        self._planted = planted
        self._guard = guard

    def open(self, handler: Endpoint, operation: str) -> Endpoint:
        """The handler, with what happens to every request around it."""

        async def serve(request: Request) -> Response:
            started, status = time.monotonic(), 0
            calendar = request.path_params.get("calendar")
            try:
                with self._log.flight.aboard(), self._guard(request, operation) as refusal:
                    answer = refusal or await self._with_faults(handler, request, operation, calendar)
                status = answer.status_code
                answer.headers["Date"] = format_datetime(self._clock.now(), usegmt=True)
                return answer
            finally:
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
                return self._dated(self._planted(kind, fault.params, request), fault)
        answer = await handler(request)
        await self._faults.pass_gate(operation)
        if self._faults.strike("lost_answer", operation, calendar=calendar):
            raise Dropped
        return answer

    def _dated(self, answer: Response, fault: Fault) -> Response:
        """`retry_at`: when to come back, as a date on the provider's own clock."""
        if "retry_at" in fault.params:
            moment = self._clock.now() + timedelta(seconds=float(fault.params["retry_at"]))
            answer.headers["Retry-After"] = format_datetime(moment, usegmt=True)
        return answer
