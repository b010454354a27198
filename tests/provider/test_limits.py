"""The quota limiter: shared through Redis, fair to app and user, and of no consequence when Redis is away."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

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


async def _take(limits: Limits, *, user: str = "ana", client: str = "app-1") -> float:
    """Seconds that one request had to wait."""
    start = time.perf_counter()
    await limits.acquire(platform="google", client_id=client, user_key=user)
    return time.perf_counter() - start


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
        waits = await asyncio.gather(*(_take(limits) for _ in range(7)))
        assert max(waits[:5]) < 0.5  # five seconds' worth at once
        assert 0.5 < waits[5] < 1.5
        assert 1.5 < waits[6] < 2.5


async def test_who_would_wait_long_is_sent_away(url: str) -> None:
    async with _limits(url, user=1) as limits:
        await _take(limits)
        error = await _refused(limits)
        assert error.scope == "user"
        assert error.after is not None
        assert LONGEST_WAIT < error.after <= 132
        assert await _take(limits, user="bo") < 0.5
        assert await _take(limits, client="app-2") < 0.5


async def test_an_apps_quota_is_its_users_together(url: str) -> None:
    async with _limits(url, app=2) as limits:
        await _take(limits, user="ana")
        error = await _refused(limits, user="bo")
        assert error.scope == "app"
        assert await _take(limits, user="bo", client="app-2") < 0.5


async def test_a_refusal_takes_nothing(url: str) -> None:
    async with _limits(url, user=60, app=2) as limits:
        await _take(limits, user="ana")
        for _ in range(20):
            await _refused(limits, user="bo")
        assert await _take(limits, user="bo", client="app-2") < 0.5


async def test_backstop_work_leaves_room_for_what_is_asked_for(url: str) -> None:
    async with _limits(url, user=60) as limits:
        took = 0
        with suppress(ProviderThrottled):
            while took < 20:
                await limits.acquire(platform="google", client_id="app-1", user_key="ana", is_backstop=True)
                took += 1
        assert 2 <= took <= 4  # half of the burst of five
        assert await _take(limits) < 0.5
        assert await _take(limits) < 0.5


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
        ana = {"client_id": "app-1", "user_key": "ana"}
        await limits.defer(platform="google", **ana, scope="user", seconds=30)
        await limits.defer(platform="google", **ana, scope="user", seconds=5)  # never shortens
        error = await _refused(limits)
        assert error.after == pytest.approx(30, abs=0.5)
        assert error.scope == "user"
        assert await _take(limits, user="bo") < 0.5
        await limits.defer(platform="google", **ana, scope="app", seconds=60)
        assert (await _refused(limits, user="bo")).scope == "app"


async def test_a_retry_after_ends(url: str) -> None:
    async with _limits(url) as limits:
        await limits.defer(platform="google", client_id="app-1", user_key="ana", scope="user", seconds=0.2)
        await _refused(limits)
        await asyncio.sleep(0.25)
        await _take(limits)


async def test_workers_share_quota_and_retry_after(redis_url: str) -> None:
    async with _limits(redis_url, user=1) as one, _limits(redis_url, user=1) as two:
        await _take(one)
        await _refused(two)
        await one.defer(platform="google", client_id="app-1", user_key="bo", scope="user", seconds=30)
        assert (await _refused(two, user="bo")).after == pytest.approx(30, abs=0.5)


async def test_who_falls_back_on_its_own_account_begins_with_no_new_burst(redis_url: str) -> None:
    settings = make_settings(google_user_quota_per_minute=1)
    async with Redis.from_url(redis_url) as redis:
        limits = Limits(settings, redis)
        await _take(limits)
        await redis.connection_pool.disconnect()
        redis.connection_pool = ConnectionPool.from_url(NOBODY)
        await _refused(limits)


async def test_redis_holds_no_name_of_anybody_and_forgets(redis_url: str) -> None:
    async with _limits(redis_url) as limits, Redis.from_url(redis_url) as redis:
        await limits.defer(platform="google", client_id="app-1", user_key="ana@example.com", scope="app", seconds=5)
        await _take(limits, user="ana@example.com", client="app-2")
        keys = [key async for key in redis.scan_iter()]
        assert len(keys) == 3
        assert not any(b"ana" in key or b"app-" in key for key in keys)
        assert all([0 < await redis.pttl(key) < 60_000 for key in keys])


async def test_redis_away_is_asked_once_and_nobody_waits_for_it() -> None:
    def failures() -> float:
        return REGISTRY.get_sample_value("punctual_redis_failures_total", {"use": "limits"}) or 0.0

    before = failures()
    async with _limits(NOBODY, user=6_000) as limits:
        start = time.perf_counter()
        for _ in range(50):
            await _take(limits)
        assert time.perf_counter() - start < REDIS_PATIENCE + 0.5
    assert failures() == before + 1


async def test_a_redis_that_takes_connections_and_says_nothing_costs_its_patience_once() -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closing.wait()
        writer.close()

    closing = asyncio.Event()
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with _limits(f"redis://127.0.0.1:{port}/0", user=6_000) as limits:
            start = time.perf_counter()
            for _ in range(20):
                await _take(limits)
            assert REDIS_PATIENCE <= time.perf_counter() - start < 2 * REDIS_PATIENCE
        closing.set()


async def test_a_flushed_redis_forgets_no_retry_after_that_this_process_saw(redis_url: str) -> None:
    async with _limits(redis_url) as limits, Redis.from_url(redis_url) as redis:
        await limits.defer(platform="google", client_id="app-1", user_key="ana", scope="user", seconds=30)
        await redis.flushdb()
        await _refused(limits)
        assert await _take(limits, user="bo") < 0.5
