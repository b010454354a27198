"""Keeps all workers together below the providers' quotas, and makes one worker's Retry-After everybody's.

Providers count requests per user and per OAuth app, whatever process sends them, so the account is kept in Redis. Redis
is a hint here too: while it is away each process limits itself, and nobody waits for it. Keys are hashed: no subject or
address stands in Redis.
"""

import asyncio
import hashlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Literal

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.errors import ProviderThrottled
from app.providers.base import Platform
from app.providers.meter import (
    DEFERRED,
    GRANTED,
    LONGEST_QUEUE,
    REFUSED,
    SCOPES,
    Meter,
    Rate,
    Scope,
    Verdict,
    patience,
)
from app.settings import Settings
from app.telemetry import REDIS_FAILURES, log

PLACE_PATIENCE = 0.5
"""Seconds that a request waits for one of its mailbox's places."""
REDIS_PATIENCE = 0.5
"""Seconds that a request waits for Redis."""
REDIS_PAUSE = 5.0
"""Seconds in which Redis is not asked again after it failed."""

CONCURRENT: Final[Mapping[Platform, int]] = {"microsoft": 4}
"""Requests of one app for one user that a provider works on at once."""

# `Meter` for all workers together: both shares or neither, and a place in the queue for the refused.
# KEYS user, app, their deferrals, their queues. ARGV interval and tolerance of user, of app, longest wait, longest
# queue; all ms. Answers {wait, who, what}: who 1 = user, 2 = app; what 1 = granted and reserved, its taker sleeps
# `wait` first; 0 = refused, to come back after `wait`; 2 = a deferral runs for `wait`.
_ACQUIRE = """
for who = 1, 2 do
  local rest = redis.call('PTTL', KEYS[who + 2])
  if rest > 0 then return {rest, who, 2} end
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local wait, slowest, tats = 0, 1, {}
for who = 1, 2 do
  local tat = math.max(tonumber(redis.call('GET', KEYS[who]) or '0'), now)
  local this = tat - tonumber(ARGV[2 * who]) - now
  if this > wait then wait, slowest = this, who end
  tats[who] = tat + tonumber(ARGV[2 * who - 1])
end
if wait > tonumber(ARGV[5]) then
  local last = math.max(tonumber(redis.call('GET', KEYS[slowest + 4]) or '0'), now + wait)
  local free = math.min(last + tonumber(ARGV[2 * slowest - 1]), now + tonumber(ARGV[6]))
  redis.call('SET', KEYS[slowest + 4], string.format('%.3f', free), 'PX', math.ceil(free - now) + 1000)
  return {math.ceil(free - now), slowest, 0}
end
for who = 1, 2 do
  redis.call('SET', KEYS[who], string.format('%.3f', tats[who]), 'PX', math.ceil(tats[who] - now) + 1000)
end
return {math.ceil(wait), slowest, 1}
"""

# Keeps the longer of two deferrals. KEYS deferral. ARGV ms.
_DEFER = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) end
return 1
"""

# At most so many requests of one mailbox under way, over all workers; a worker that died gives its place back by time.
# KEYS places. ARGV most, this request, ms that it may take. Answers 1 where there was a place.
_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""


class Places:
    """How many requests of one mailbox are under way, over all workers; one per worker while Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._take = redis.register_script(_TAKE)
        self._alone: dict[str, int] = {}
        self._away_until = 0.0

    @asynccontextmanager
    async def take(self, key: str, *, most: int, seconds: float) -> AsyncIterator[None]:
        """Hold a place while the block runs. ProviderThrottled where none came free within PLACE_PATIENCE."""
        name = secrets.token_hex(8)
        end = time.monotonic() + PLACE_PATIENCE
        while (is_shared := await self._try(key, name, most=most, seconds=seconds)) is None:
            if time.monotonic() > end:
                after = random.uniform(1.0, 6.0)  # noqa: S311 - no secret
                raise ProviderThrottled("the mailbox is busy with our requests", after=after, is_ours=True)
            await asyncio.sleep(random.uniform(0.01, 0.05))  # noqa: S311 - no secret
        try:
            yield
        finally:
            await self._give_back(key, name, is_shared=is_shared)

    async def _try(self, key: str, name: str, *, most: int, seconds: float) -> bool | None:
        """Whether the place is Redis's or this process's own; None where there is none."""
        if time.monotonic() >= self._away_until:
            try:
                async with asyncio.timeout(REDIS_PATIENCE):
                    is_mine = await self._take(keys=[key], args=[most, name, int((seconds + REDIS_PAUSE) * 1000)])
            except (RedisError, OSError):
                REDIS_FAILURES.labels("places").inc()
                self._away_until = time.monotonic() + REDIS_PAUSE
            else:
                return True if is_mine else None
        if self._alone.get(key, 0):
            return None
        self._alone[key] = 1
        return False

    async def _give_back(self, key: str, name: str, *, is_shared: bool) -> None:
        if not is_shared:
            self._alone.pop(key, None)
            return
        try:
            async with asyncio.timeout(REDIS_PATIENCE):
                await self._redis.zrem(key, name)
        except (RedisError, OSError):  # it comes back by time
            REDIS_FAILURES.labels("places").inc()


class Limits:
    """The quota of every user and every OAuth app, shared by all workers."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._rates: dict[Platform, tuple[Rate, Rate]] = {
            "google": (
                Rate.per_minute(settings.google_user_quota_per_minute),
                Rate.per_minute(settings.google_app_quota_per_minute),
            ),
            "microsoft": (
                Rate.per_minute(settings.microsoft_mailbox_quota_per_minute),
                Rate.per_minute(settings.microsoft_app_quota_per_minute),
            ),
        }
        self._places = Places(redis)
        self._acquire = redis.register_script(_ACQUIRE)
        self._defer = redis.register_script(_DEFER)
        self._local = Meter(time.monotonic)
        self._away_until = 0.0
        self._is_away = False

    async def acquire(self, *, platform: Platform, client_id: str, user_key: str, is_backstop: bool = False) -> None:
        """Take one request's share; returns when it may be sent. Backstop work leaves room for what is asked for.

        ProviderThrottled with `after` in seconds where that would take more than LONGEST_WAIT (of backstop work
        BACKSTOP_WAIT), or while a Retry-After of this user or app runs. Never an error because of Redis.
        """
        keys = _keys(platform, client_id, user_key)
        # A deferral that this process has seen holds even where Redis lost it.
        rates = self._rates[platform]
        verdict = self._local.deferral(keys) or await self._ask_redis(keys, rates, is_backstop=is_backstop)
        verdict = verdict or self._local.acquire(keys, rates, is_backstop=is_backstop)
        if verdict.outcome == DEFERRED:
            raise ProviderThrottled("a Retry-After is running", after=verdict.wait, scope=verdict.scope)
        if verdict.outcome == REFUSED:
            after = verdict.wait * random.uniform(1.0, 1.1)  # noqa: S311 - no secret
            raise ProviderThrottled("our own quota is used up", after=after, scope=verdict.scope, is_ours=True)
        if verdict.wait > 0:
            await asyncio.sleep(verdict.wait)

    @asynccontextmanager
    async def slot(self, *, platform: Platform, client_id: str, user_key: str, seconds: float) -> AsyncIterator[None]:
        """Hold one of the user's places while a request is under way; `seconds` is the longest it may take.

        Only Microsoft counts requests that run at once ("Throttling limits", Outlook: 4 per app and mailbox).
        ProviderThrottled where no place came free within PLACE_PATIENCE.
        """
        most = CONCURRENT.get(platform)
        if most is None:
            yield
            return
        async with self._places.take(_key("places", platform, client_id, user_key), most=most, seconds=seconds):
            yield

    async def defer(self, *, platform: Platform, client_id: str, user_key: str, scope: Scope, seconds: float) -> None:
        """Hold back every request of this user, or of this app, for `seconds`, in all workers."""
        if seconds <= 0:
            return
        key = _keys(platform, client_id, user_key)[SCOPES.index(scope)]
        self._local.defer(key, seconds)
        if time.monotonic() < self._away_until:
            return
        try:
            async with asyncio.timeout(REDIS_PATIENCE):
                await self._defer(keys=[_deferral(key)], args=[int(seconds * 1000) + 1])
        except (RedisError, OSError) as exc:  # TimeoutError is an OSError
            self._lost(exc)

    async def _ask_redis(self, keys: tuple[str, str], rates: tuple[Rate, Rate], *, is_backstop: bool) -> Verdict | None:
        """None while Redis is away."""
        if time.monotonic() < self._away_until:
            return None
        figures = [s for rate in rates for s in (rate.interval, rate.tolerated(is_backstop=is_backstop))]
        figures += [patience(is_backstop=is_backstop), LONGEST_QUEUE]
        queues = [f"{key}:queue:{int(is_backstop)}" for key in keys]
        try:
            async with asyncio.timeout(REDIS_PATIENCE):
                wait, who, outcome = await self._acquire(
                    keys=[*keys, *map(_deferral, keys), *queues], args=[f"{s * 1000:.3f}" for s in figures]
                )
        except (RedisError, OSError) as exc:  # TimeoutError is an OSError
            self._lost(exc)
            return None
        if self._is_away:
            self._is_away = False
            log.info("limits.redis_back")
        if outcome == GRANTED:
            self._local.note(keys, rates)
        return Verdict(wait / 1000, SCOPES[who - 1], outcome)

    def _lost(self, exc: Exception) -> None:
        REDIS_FAILURES.labels("limits").inc()
        self._away_until = time.monotonic() + REDIS_PAUSE
        if not self._is_away:
            self._is_away = True
            log.warning("limits.redis_away", error=type(exc).__name__)


def _keys(platform: Platform, client_id: str, user_key: str) -> tuple[str, str]:
    """A user's quota is per app (Calendar API guide, "Manage quotas": per minute per project per user)."""
    return _key("user", platform, client_id, user_key), _key("app", platform, client_id)


def _key(scope: Scope | Literal["places"], *parts: str) -> str:
    digest = hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:32]
    return f"punctual:quota:{scope}:{digest}"


def _deferral(key: str) -> str:
    return f"{key}:deferred"
