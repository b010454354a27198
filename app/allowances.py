"""How many requests a project may make in a minute, over all processes.

Each project has a bucket of a minute's worth of reads, and one of writes, which fill steadily. The buckets are in
Redis; a process takes requests out of them a few at a time, so that most requests ask nobody. What a process holds was
counted for all, so together they never grant more than the bucket had. While Redis is away or slow everything is let
through, and nobody waits for it again and again: one request finds out every REDIS_PAUSE seconds.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.settings import Settings
from app.telemetry import RATE_LIMITS, REDIS_FAILURES, log

Kind = Literal["reads", "writes"]

MINUTE: Final = 60.0
BLOCK_MOST: Final = 20
"""Requests that a process takes at once, at most; a tenth of a second's worth where that is less."""
REDIS_PAUSE: Final = 5.0
"""Seconds in which Redis is not asked again after it failed."""
_ATTEMPTS: Final = 3
"""How often Redis is asked where this process stood still meanwhile; each costs a block at most."""
LEASES_MOST: Final = 10_000
"""Projects and kinds whose rest a process remembers."""

# A leaky bucket as a meter: KEYS when the bucket will be full, if nothing more is taken. ARGV ms between two requests
# at the full rate, ms of the window, requests wanted. Answers {granted, ms until full, ms until one more is there}.
# What is further away than the window was written by a clock that was set back, or another server's before a failover.
_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local interval, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.min(math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now), now + window)
local granted = math.min(tonumber(ARGV[3]), math.floor((now + window - full) / interval + 0.001))
if granted < 1 then return {0, math.ceil(full - now), math.ceil(full + interval - window - now)} end
full = full + granted * interval
redis.call('SET', KEYS[1], string.format('%.3f', full), 'PX', math.ceil(full - now) + 1000)
return {granted, math.ceil(full - now), 0}
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a project has left of a kind. `retry_after`: seconds, where this request is refused; else None."""

    kind: Kind
    limit: int
    left: int
    full_after: int
    """Seconds until all of `limit` is left again."""
    retry_after: int | None = None


@dataclass(slots=True)
class _Lease:
    """What this process holds of a bucket, and what it knows of the rest. Times are of the monotonic clock."""

    limit: int
    held: int = 0
    full_at: float = 0.0
    empty_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Allowances:
    """The buckets of all projects, as this process sees them."""

    def __init__(self, settings: Settings, redis: Redis, *, now: Callable[[], float] = time.monotonic) -> None:
        self._patience = settings.rate_limit_patience_seconds
        self._take = redis.register_script(_TAKE)
        self._now = now
        self._leases: dict[tuple[UUID, Kind], _Lease] = {}
        self._away_until = 0.0
        self._is_away = False

    async def take(self, project_id: UUID, kind: Kind, *, limit: int) -> Standing | None:
        """Count one request. None where it is not limited: `limit` is 0, or Redis does not say."""
        if not limit:
            return None
        lease = self._lease(project_id, kind, limit)
        standing = self._at_hand(lease, kind)
        if standing is None and not self._is_paused():
            async with lease.lock:  # whoever waited here has what the first one brought
                standing = self._at_hand(lease, kind)
                while standing is None and not self._is_paused() and await self._ask(project_id, kind, lease):
                    standing = self._at_hand(lease, kind)
        if standing is None or standing.retry_after is not None:
            RATE_LIMITS.labels(kind, "unchecked" if standing is None else "refused").inc()
        return standing

    def _lease(self, project_id: UUID, kind: Kind, limit: int) -> _Lease:
        lease = self._leases.get((project_id, kind))
        if lease is None or lease.limit != limit:
            if len(self._leases) >= LEASES_MOST:
                self._leases.clear()
            lease = self._leases[project_id, kind] = _Lease(limit)
        return lease

    def _at_hand(self, lease: _Lease, kind: Kind) -> Standing | None:
        """One of those that are held, or the refusal that holds still; None where Redis has to be asked."""
        now = self._now()
        if lease.held:
            lease.held -= 1
            full_after = max(lease.full_at - now, 0.0)
            left = lease.held + math.floor((MINUTE - full_after) * lease.limit / MINUTE + 0.001)
            return Standing(kind, lease.limit, min(max(left, 0), lease.limit - 1), math.ceil(full_after))
        if now < lease.empty_until:
            wait = max(1, math.ceil(lease.empty_until - now))
            return Standing(kind, lease.limit, 0, math.ceil(max(lease.full_at - now, 0.0)), wait)
        return None

    def _is_paused(self) -> bool:
        return self._now() < self._away_until

    async def _ask(self, project_id: UUID, kind: Kind, lease: _Lease) -> bool:
        """Take a block out of the bucket, or learn when there is one again; whether Redis answered."""
        if self._is_away:
            self._away_until = self._now() + REDIS_PAUSE  # others need not find out too
        interval = 1000 * MINUTE / lease.limit
        wanted = min(max(1, lease.limit // 600), BLOCK_MOST)
        for attempt in range(1, _ATTEMPTS + 1):
            patience = asyncio.timeout(self._patience)
            try:
                async with patience:
                    granted, full, wait = await self._take(
                        keys=[f"punctual:allowance:{kind}:{project_id.hex}"],
                        args=[f"{interval:.6f}", f"{1000 * MINUTE:.0f}", wanted],
                    )
                break
            except (RedisError, OSError) as exc:  # TimeoutError is an OSError
                if attempt < _ATTEMPTS and self._stood_still(patience):
                    continue
                self._lost(exc)
                return False
        if self._is_away:
            self._is_away, self._away_until = False, 0.0
            log.info("allowances.redis_back")
        now = self._now()
        lease.held += granted
        lease.full_at = now + full / 1000
        lease.empty_until = now + wait / 1000
        return True

    def _stood_still(self, patience: asyncio.Timeout) -> bool:
        """Whether this process was busy when patience ended: Redis may have answered long before."""
        end = patience.when()
        late = 0.0 if end is None else asyncio.get_running_loop().time() - end
        return patience.expired() and late > self._patience / 2

    def _lost(self, exc: Exception) -> None:
        REDIS_FAILURES.labels("allowances").inc()
        self._away_until = self._now() + REDIS_PAUSE
        if not self._is_away:
            self._is_away = True
            log.warning("allowances.redis_away", error=type(exc).__name__)
