"""What can go wrong at a provider, switched on as data.

A fault names the operation it is for, perhaps a calendar and a page, how often it strikes and after how many requests,
and how likely it is to strike one.
A gate holds answers back until they are released, so that a test can interleave two runs at a chosen point.
"""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

KINDS: dict[str, str] = {
    "cursor_expired": "410 fullSyncRequired (params: page)",
    "deleted_410": "410 with reason `deleted`, which is no order to resync",
    "long_cursor": "a sync token or delta link that is longer than usual (params: bytes)",
    "empty_page": "an empty page with a nextPageToken before the real one",
    "short_pages": "pages of at most params.size entries, whatever was asked for",
    "duplicate_ids": "a delta says of each item what it was before, then what it is",
    "rate_limited": "403 PERMISSION_DENIED rateLimitExceeded, as recorded",
    "too_many_requests": "429 (params: retry_after)",
    "unavailable": "503, JSON (params: status, retry_after)",
    "html": "an HTML body (params: status)",
    "unauthorized": "401 authError",
    "forbidden": "403 forbidden on the calendar",
    "insufficient_scope": "403 insufficientPermissions",
    "not_found": "404 notFound",
    "not_configured": "403 accessNotConfigured",
    "oauth_error": "an OAuth error (params: status, error, description, subtype)",
    "consent_error": "the consent page sends the person back with params.error",
    "delay": "answer after params.seconds",
    "drop": "close the connection without an answer",
    "garbage": "200 with a body that is not JSON",
    "surrogate": "200 with a lone surrogate in a title",
    "lost_answer": "do what was asked, then close the connection",
    "bad_page_token": "400 for the page token",
    "partial_cancellation": "of a deleted series only the first params.count instances are reported",
    "bare_tombstone": "a deleted series is reported by the master's id alone",
    "edit_between_pages": "a new event is committed while the round is read",
    "short_expiration": "a channel that lives params.seconds only",
    "push_not_supported": "400 pushNotSupportedForRequestedResource",
    "early_sync_message": "the sync notification is sent, and waited for, before the watch is answered",
    "gateway_timeout": "Graph: 504 UnknownError without a message (params: above, a page size that still works)",
    "mailbox_not_enabled": "Graph: 404 MailboxNotEnabledForRESTAPI (params: seconds since it was first asked for)",
    "user_gone": "Graph: 404 Request_ResourceNotFound",
    "endless_pages": "Graph: the last entries again and again, each time with another nextLink",
    "replayed_changes": "Graph: a delta brings the whole window once more before what is new",
    "unknown_removals": "Graph: @removed for three ids that nobody ever saw",
    "missing_master": "Graph: a delta without the masters of its occurrences",
    "silent_cancellation": "Graph: a cancelled occurrence leaves no trace in the delta, not even its series",
    "replication_lag": "Graph: a delta knows nothing of the last params.seconds",
    "no_refresh_token": "Graph: the token endpoint answers without a new refresh token",
    "strict_rotation": "Graph: a refresh token works once",
    "duplicate_subscription": "Graph: 409, the subscription exists",
    "endpoint_unreachable": "Graph: 400, the underlying connection was closed",
    "slow_validation": "Graph: the validation handshake begins after params.seconds",
    "wrong_client_state": "Graph: an item with a clientState that nobody chose (params: client_state)",
    "notify_after_deletion": "Graph: a subscription that has ended is notified all the same",
    "no_machine": "back ends: 507, no machine for a bot that goes at once",
    "no_credits": "back ends: the balance is empty, in each one's own words",
    "limit_reached": "back ends: too many bots, in each one's own words",
    "conflict": "back ends: 409",
    "redirect": "back ends: 302 (params: location)",
    "echo": "back ends: an error that repeats the key and params.about (params: status)",
    "unfiltered_list": "back ends: a list that pays no heed to its filter",
    "failed_answer": "back ends: do what was asked, then answer 502 (params: status, retry_after)",
    "garbled_answer": "back ends: do what was asked, then answer with JSON that breaks off",
    "huge_answer": "back ends: do what was asked, then answer after params.bytes of blanks",
    "odd_answer": "back ends: do what was asked, then answer with other types than documented",
}
"""Every kind, with its parameters."""


class Dropped(Exception):
    """The connection is closed without an answer."""


@dataclass
class Fault:
    """One thing that will go wrong. `times` None is always; `after` lets that many matching requests pass first.

    `probability` is each matching request's; the same `seed` gives the same luck.
    """

    kind: str
    operation: str | None = None
    calendar: str | None = None
    page: int | None = None
    times: int | None = 1
    after: int = 0
    probability: float = 1.0
    seed: int = 0
    params: dict[str, Any] = field(default_factory=dict)
    struck: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no such fault: {self.kind}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"not between 0 and 1: {self.probability}")
        self._chance = random.Random(self.seed)

    def is_lucky(self) -> bool:
        """Whether it spares this request."""
        return self.probability < 1 and self._chance.random() >= self.probability


class Gate:
    """Holds the answers of one operation: `await reached()`, look around, `release()`."""

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self.waiting = 0
        self._reached = asyncio.Event()
        self._open = asyncio.Event()

    async def hold(self) -> None:
        """Called by the façade after it has worked out its answer."""
        self.waiting += 1
        self._reached.set()
        await self._open.wait()

    async def reached(self, *, seconds: float = 10) -> None:
        """Until a request waits here."""
        async with asyncio.timeout(seconds):
            await self._reached.wait()

    def release(self) -> None:
        """Let everything through, now and later."""
        self._open.set()


class Faults:
    """The faults and gates that are switched on."""

    def __init__(self) -> None:
        self.active: list[Fault] = []
        self.gates: dict[str, Gate] = {}

    def add(self, kind: str, operation: str | None = None, **values: Any) -> Fault:
        """Switch one on; unknown keywords become its params."""
        names = {"calendar", "page", "times", "after", "probability", "seed", "params"}
        known = {name: values.pop(name) for name in list(values) if name in names}
        fault = Fault(kind, operation, **known)
        fault.params.update(values)
        self.active.append(fault)
        return fault

    def clear(self) -> None:
        """Switch everything off and let everything through."""
        self.active.clear()
        for gate in self.gates.values():
            gate.release()
        self.gates.clear()

    def strike(
        self, kind: str, operation: str, *, calendar: str | None = None, page: int | None = None
    ) -> Fault | None:
        """The fault of this kind that hits this request, used up by one."""
        for fault in self.active:
            if fault.kind != kind or (fault.operation not in {None, operation}):
                continue
            if fault.calendar not in {None, calendar} or fault.page not in {None, page}:
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            if fault.is_lucky():
                continue
            fault.struck += 1
            if fault.times is not None and fault.struck >= fault.times:
                self.active.remove(fault)
            return fault
        return None

    def page_size(self, operation: str, asked: int, *, calendar: str) -> int:
        """How many entries a page holds: as many as were asked for, or fewer where pages are short."""
        fault = self.strike("short_pages", operation, calendar=calendar)
        return asked if fault is None else min(asked, int(fault.params.get("size", 1)))

    def gate(self, operation: str) -> Gate:
        """Hold the next answers of this operation."""
        gate = Gate(operation)
        self.gates[operation] = gate
        return gate

    async def pass_gate(self, operation: str) -> None:
        """Wait if there is a gate."""
        gate = self.gates.get(operation)
        if gate is not None:
            await gate.hold()
