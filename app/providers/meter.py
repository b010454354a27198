"""The arithmetic of quotas: a leaky bucket as a meter (GCRA) per user and per OAuth app, with a queue for the refused.

Two kinds of work share a quota. Backstop work may use half of the burst only, so whatever a push or a request asks for
finds room while backstop work waits. Who is refused is given a place in a queue: a moment of its own at the quota's own
pace, so that fifty thousand who are refused together do not come back together. `app.providers.limits` keeps the same
account in Redis, for all workers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

Scope = Literal["user", "app"]

LONGEST_WAIT: Final = 2.0
"""Seconds that a request waits for its share; one that would have to wait longer is refused."""
BACKSTOP_WAIT: Final = 0.5
"""The same for backstop work: it comes again later, and holds nothing up meanwhile."""
LONGEST_QUEUE: Final = 900.0
"""Seconds that the queue of the refused may be long."""
BACKSTOP_SHARE: Final = 0.5
"""Of the burst, that backstop work may use."""

_BURST_SECONDS = 5.0
"""A quiet user may send this many seconds' worth at once: with 11/12 of the provider's limit as the rate, the worst
minute still stays below that limit."""

SCOPES: Final[tuple[Scope, Scope]] = ("user", "app")
REFUSED: Final = 0
GRANTED: Final = 1
DEFERRED: Final = 2


@dataclass(frozen=True, slots=True)
class Rate:
    """A quota: seconds between two requests at the full rate, and by how many a burst may run ahead of it."""

    interval: float
    tolerance: float

    @classmethod
    def per_minute(cls, requests: int) -> "Rate":
        """So many requests a minute, with bursts."""
        interval = 60.0 / requests
        return cls(interval, max(_BURST_SECONDS - interval, 0.0))

    def tolerated(self, *, is_backstop: bool) -> float:
        """By how many seconds this kind of work may run ahead."""
        return self.tolerance * BACKSTOP_SHARE if is_backstop else self.tolerance


def patience(*, is_backstop: bool) -> float:
    """Seconds that a granted request may have to wait."""
    return BACKSTOP_WAIT if is_backstop else LONGEST_WAIT


@dataclass(frozen=True, slots=True)
class Verdict:
    """Granted: to be sent after `wait` seconds. Refused: to come back then. Deferred: a Retry-After runs so long."""

    wait: float
    scope: Scope
    outcome: Literal[0, 1, 2]


@dataclass(slots=True)
class Meter:
    """The account of one process, in memory. `now` gives seconds of a clock that only goes forward."""

    now: Callable[[], float]
    arrivals: dict[str, float] = field(default_factory=dict)
    queues: dict[str, float] = field(default_factory=dict)
    deferred_until: dict[str, float] = field(default_factory=dict)

    def acquire(self, keys: tuple[str, str], rates: tuple[Rate, Rate], *, is_backstop: bool = False) -> Verdict:
        """Take one request's share of the user's and the app's quota, of both or of neither."""
        now = self.now()
        tats = [max(self.arrivals.get(key, now), now) for key in keys]
        waits = [
            max(tat - rate.tolerated(is_backstop=is_backstop) - now, 0.0) for tat, rate in zip(tats, rates, strict=True)
        ]
        wait = max(waits)
        slowest = waits.index(wait)
        if wait > patience(is_backstop=is_backstop):
            return Verdict(
                self._queue(keys[slowest], rates[slowest], now + wait, is_backstop), SCOPES[slowest], REFUSED
            )
        for key, tat, rate in zip(keys, tats, rates, strict=True):
            self.arrivals[key] = tat + rate.interval
        _forget_past(self.arrivals, now)
        return Verdict(wait, SCOPES[slowest], GRANTED)

    def note(self, keys: tuple[str, str], rates: tuple[Rate, Rate]) -> None:
        """Count a request that was granted elsewhere: who falls back on this account begins with no new burst."""
        now = self.now()
        for key, rate in zip(keys, rates, strict=True):
            self.arrivals[key] = max(self.arrivals.get(key, now), now) + rate.interval
        _forget_past(self.arrivals, now)

    def _queue(self, key: str, rate: Rate, earliest: float, is_backstop: bool) -> float:
        """Seconds until the next free moment of the queue, which is taken."""
        now, name = self.now(), f"{key}:{is_backstop}"
        end = min(max(self.queues.get(name, 0.0), earliest) + rate.interval, now + LONGEST_QUEUE)
        self.queues[name] = end
        _forget_past(self.queues, now)
        return end - now

    def defer(self, key: str, seconds: float) -> None:
        """Nothing for this key for so long; the longer of two deferrals holds."""
        now = self.now()
        self.deferred_until[key] = max(self.deferred_until.get(key, now), now + seconds)
        _forget_past(self.deferred_until, now)

    def deferral(self, keys: tuple[str, str]) -> Verdict | None:
        """The deferral that runs for one of the keys."""
        now = self.now()
        for key, scope in zip(keys, SCOPES, strict=True):
            rest = self.deferred_until.get(key, now) - now
            if rest > 0:
                return Verdict(rest, scope, DEFERRED)
        return None


def _forget_past(moments: dict[str, float], now: float) -> None:
    """Bounds the memory: moments that have passed limit nobody any more."""
    if len(moments) > 10_000:
        for key in [key for key, moment in moments.items() if moment <= now]:
            del moments[key]
