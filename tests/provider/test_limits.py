"""The quota limiter: shared through Redis, fair to app and user, and of no consequence when Redis is away."""

import asyncio
from asyncio import current_task, get_running_loop
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest
from redis.asyncio import ConnectionPool, Redis

from app.errors import ProviderThrottled
from app.providers.limits import REDIS_PATIENCE, Limits
from app.providers.meter import LONGEST_WAIT
from app.telemetry import REGISTRY
from tests.provider.harness import NOBODY, make_settings


@asynccontextmanager
async def _limits(redis_url: str, *, user: int = 60, app: int = 6_000) -> AsyncIterator[Limits]:
    settings = make_settings(google_user_quota_per_minute=user, google_app_quota_per_minute=app)
    async with Redis.from_url(redis_url) as redis:
        yield Limits(settings, redis)


_slept: defaultdict[asyncio.Task[Any] | None, float] = defaultdict(float)
"""Seconds that each task was told to sleep: how long a busy machine lets it sleep says nothing."""


@pytest.fixture(autouse=True)
async def _sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = get_running_loop()
    call_later = loop.call_later

    def counted(delay: float, *call: Any, **context: Any) -> asyncio.TimerHandle:
        _slept[current_task()] += delay
        return call_later(delay, *call, **context)

    _slept.clear()
    monkeypatch.setattr(loop, "call_later", counted)


async def _take(limits: Limits, *, user: str = "ana", client: str = "app-1") -> float:
    """Seconds that one request was made to wait."""
    before = _slept[current_task()]
    await limits.acquire(platform="google", client_id=client, user_key=user)
    return _slept[current_task()] - before


async def _refused(limits: Limits, *, user: str = "ana", client: str = "app-1") -> ProviderThrottled:
    with pytest.raises(ProviderThrottled) as raised:
        await _take(limits, user=user, client=client)
    assert raised.value.after is not None
    return raised.value


@pytest.fixture(params=["redis", "away"])
def url(request: pytest.FixtureRequest, redis_url: str) -> str:
    """The limiter behaves the same with Redis and, for one process, without."""
    return redis_url if request.param == "redis" else NOBODY


async def test_a_burst_and_then_the_rate(url: str) -> None:
    async with _limits(url, user=60) as limits:
        began = monotonic()
        waits = sorted(await asyncio.gather(*(_take(limits) for _ in range(7))))
        passed = monotonic() - began - waits[6]
        assert waits[:5] == [0] * 5  # five seconds' worth at once
        assert 1 - passed <= waits[5] <= 1.01
        assert 2 - passed <= waits[6] <= 2.01


async def test_who_would_wait_long_is_sent_away(url: str) -> None:
    async with _limits(url, user=1) as limits:
        await _take(limits)
        error = await _refused(limits)
        assert error.scope == "user"
        assert error.after is not None
        assert LONGEST_WAIT < error.after <= 132
        assert await _take(limits, user="bo") == 0
        assert await _take(limits, client="app-2") == 0


async def test_an_apps_quota_is_its_users_together(url: str) -> None:
    async with _limits(url, app=2) as limits:
        await _take(limits, user="ana")
        error = await _refused(limits, user="bo")
        assert error.scope == "app"
        assert await _take(limits, user="bo", client="app-2") == 0


async def test_a_refusal_takes_nothing(url: str) -> None:
    async with _limits(url, user=60, app=2) as limits:
        await _take(limits, user="ana")
        for _ in range(20):
            await _refused(limits, user="bo")
        assert await _take(limits, user="bo", client="app-2") == 0


async def test_backstop_work_leaves_room_for_what_is_asked_for(url: str) -> None:
    async with _limits(url, user=60) as limits:
        took, began = 0, monotonic()
        with suppress(ProviderThrottled):
            while took < 20:
                await limits.acquire(platform="google", client_id="app-1", user_key="ana", is_backstop=True)
                took += 1
        assert 2 <= took <= 4 + monotonic() - began  # half of the burst of five, and one a second
        assert await _take(limits) == 0
        assert await _take(limits) == 0


async def test_the_refused_are_given_moments_of_their_own(url: str) -> None:
    async with _limits(url, user=6) as limits:  # one every ten seconds
        await _take(limits)
        afters = sorted([(await _refused(limits)).after or 0.0 for _ in range(10)])
        assert afters[0] > 10
        assert max(later - sooner for sooner, later in pairwise(afters)) < 25  # ten, each spread by a tenth
        assert 100 < afters[-1] < 125


async def test_the_queue_of_the_refused_has_an_end(url: str) -> None:
    async with _limits(url, user=1) as limits:
        await _take(limits)
        afters = [(await _refused(limits)).after or 0.0 for _ in range(20)]
        assert 800 < max(afters) <= 900 * 1.1


async def test_a_retry_after_is_kept_to_the_second(url: str) -> None:
    async with _limits(url) as limits:
        ana, began = {"client_id": "app-1", "user_key": "ana"}, monotonic()
        await limits.defer(platform="google", **ana, scope="user", seconds=30)
        await limits.defer(platform="google", **ana, scope="user", seconds=5)  # never shortens
        error = await _refused(limits)
        assert 30 - (monotonic() - began) <= (error.after or 0) <= 30.01
        assert error.scope == "user"
        assert await _take(limits, user="bo") == 0
        await limits.defer(platform="google", **ana, scope="app", seconds=60)
        assert (await _refused(limits, user="bo")).scope == "app"


async def test_a_retry_after_ends(url: str) -> None:
    refused = None
    async with _limits(url) as limits:
        for seconds in (0.2, 2.0, 20.0):  # on a busy machine it may be over before anybody asks
            await limits.defer(platform="google", client_id="app-1", user_key="ana", scope="user", seconds=seconds)
            try:
                await _take(limits)
            except ProviderThrottled as exc:
                refused = exc
                break
        assert refused is not None
        assert refused.after is not None
        await asyncio.sleep(refused.after + 0.05)
        await _take(limits)


async def test_workers_share_quota_and_retry_after(redis_url: str) -> None:
    async with _limits(redis_url, user=1) as one, _limits(redis_url, user=1) as two:
        await _take(one)
        await _refused(two)
        began = monotonic()
        await one.defer(platform="google", client_id="app-1", user_key="bo", scope="user", seconds=30)
        after = (await _refused(two, user="bo")).after or 0
        assert 30 - (monotonic() - began) <= after <= 30.01


async def test_who_falls_back_on_its_own_account_begins_with_no_new_burst(redis_url: str) -> None:
    settings = make_settings(google_user_quota_per_minute=1)
    async with Redis.from_url(redis_url) as redis:
        limits = Limits(settings, redis)
        await _take(limits)
        await redis.connection_pool.disconnect()
        redis.connection_pool = ConnectionPool.from_url(NOBODY)
        await _refused(limits)


async def test_redis_holds_no_name_of_anybody_and_forgets(redis_url: str) -> None:
    async with _limits(redis_url, user=2, app=2) as limits, Redis.from_url(redis_url) as redis:
        await limits.defer(platform="google", client_id="app-1", user_key="ana@example.com", scope="app", seconds=30)
        await _take(limits, user="ana@example.com", client="app-2")
        keys = [key async for key in redis.scan_iter()]
        assert len(keys) == 3
        assert not any(b"ana" in key or b"app-" in key for key in keys)
        assert all([0 < await redis.pttl(key) < 60_000 for key in keys])


def _failures() -> float:
    """How often Redis was asked in vain."""
    return REGISTRY.get_sample_value("punctual_redis_failures_total", {"use": "limits"}) or 0.0


async def test_redis_away_is_asked_once_and_nobody_waits_for_it() -> None:
    before = _failures()
    async with _limits(NOBODY, user=6_000) as limits:
        assert [await _take(limits) for _ in range(50)] == [0] * 50
    assert _failures() == before + 1


async def test_a_redis_that_takes_connections_and_says_nothing_costs_its_patience_once() -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closing.wait()
        writer.close()

    closing, before = asyncio.Event(), _failures()
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with _limits(f"redis://127.0.0.1:{port}/0", user=6_000) as limits:
            began = monotonic()
            assert [await _take(limits) for _ in range(20)] == [0] * 20
            assert monotonic() - began >= REDIS_PATIENCE
        closing.set()
    assert _failures() == before + 1


async def test_a_flushed_redis_forgets_no_retry_after_that_this_process_saw(redis_url: str) -> None:
    async with _limits(redis_url) as limits, Redis.from_url(redis_url) as redis:
        await limits.defer(platform="google", client_id="app-1", user_key="ana", scope="user", seconds=30)
        await redis.flushdb()
        await _refused(limits)
        assert await _take(limits, user="bo") == 0
