"""Rate limits: a project's reads and writes of a minute, over all its keys and all processes."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest
from redis.asyncio import Redis

from app.allowances import BLOCK_MOST, REDIS_PAUSE, Allowances, Standing
from app.ids import new_id
from app.runtime import Runtime
from app.settings import Settings
from app.telemetry import REGISTRY
from tests.api.refusals import refused
from tests.api.rows import Rows
from tests.harness import Project

LIST, PROJECT, WEBHOOKS = "/api/v1/calendars", "/api/v1/project", "/api/v1/webhooks"
HOOK = {"url": "http://127.0.0.1:9/hook", "triggers": ["calendar.events_update"]}
NOBODY = "redis://127.0.0.1:1/0"
PATIENT = 30.0
"""Seconds: no answer of a busy machine is taken for silence."""


@pytest.fixture
def overrides() -> dict[str, object]:
    return {
        "rate_limit_reads_per_minute": 4,
        "rate_limit_writes_per_minute": 2,
        "rate_limit_patience_seconds": PATIENT,
    }


async def test_reads_and_writes_are_counted_apart(client: httpx.AsyncClient, rows: Rows) -> None:
    reads = [await client.get(LIST) for _ in range(5)]
    assert [answer.status_code for answer in reads] == [200] * 4 + [429]
    assert [answer.headers["ratelimit"].split(";")[:2] for answer in reads] == [
        ['"reads"', f"r={left}"] for left in (3, 2, 1, 0, 0)
    ]
    assert {answer.headers["ratelimit-policy"] for answer in reads} == {'"reads";q=4;w=60'}
    refused(reads[-1], "rate_limited", status=429)
    wait = int(reads[-1].headers["retry-after"])
    assert 1 <= wait <= 15
    assert reads[-1].headers["ratelimit"] == f'"reads";r=0;t={wait}'
    assert "retry-after" not in reads[0].headers
    writes = [await client.post(WEBHOOKS, json=HOOK) for _ in range(3)]
    assert [answer.status_code for answer in writes] == [201, 201, 429]
    assert writes[0].headers["ratelimit-policy"] == '"writes";q=2;w=60'
    await rows.sql("UPDATE projects SET reads_per_minute = 0, writes_per_minute = 9")
    assert "ratelimit" not in (await client.get(LIST)).headers
    assert (await client.post(WEBHOOKS, json=HOOK)).headers["ratelimit-policy"] == '"writes";q=9;w=60'


async def test_who_pays(client: httpx.AsyncClient, api: httpx.AsyncClient, rows: Rows, project: Project) -> None:
    """Nobody for a bad key; its project for whatever a good one asks; a read for what a key may not do."""
    reader = {"Authorization": f"Token {(await rows.key(scope='read')).text}"}
    for _ in range(6):
        assert (await api.get(LIST, headers={"Authorization": f"Token {project.key[:-1]}"})).status_code == 401
    for left in (3, 2):
        answer = await client.post(WEBHOOKS, json=HOOK, headers=reader)
        assert (answer.status_code, answer.headers["ratelimit"].split(";")[:2]) == (403, ['"reads"', f"r={left}"])
    answer = await client.get(f"{LIST}/cal_x")
    assert (answer.status_code, answer.headers["ratelimit"].split(";")[1]) == (404, "r=1")
    answer = await client.post(WEBHOOKS, json={})
    assert (answer.status_code, answer.headers["ratelimit"].split(";")[:2]) == (422, ['"writes"', "r=1"])
    assert (await client.post(WEBHOOKS, json=HOOK)).status_code == 201
    assert (await client.get(LIST, headers=reader)).status_code == 200
    assert (await client.post(WEBHOOKS, json=HOOK, headers=reader)).status_code == 429


async def test_what_a_reading_key_may_ask_is_a_read(client: httpx.AsyncClient, rows: Rows) -> None:
    """A dry run is a POST that changes nothing; it leaves the project its writes."""
    reader = {"Authorization": f"Token {(await rows.key(scope='read')).text}"}
    answer = await client.post("/api/v1/rules/dry_run", json={}, headers=reader)
    assert (answer.status_code, answer.headers["ratelimit"].split(";")[:2]) == (422, ['"reads"', "r=3"])


async def test_a_refused_request_is_not_read_and_does_nothing(client: httpx.AsyncClient, rt: Runtime) -> None:
    for _ in range(2):
        await client.post(WEBHOOKS, json=HOOK)
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(True)
        yield b"{}"

    assert (await client.post(WEBHOOKS, content=body())).status_code == 429
    assert read == []
    async with rt.db.reading() as tx:
        assert await tx.scalar("SELECT count(*) FROM webhook_endpoints") == 2
        assert await tx.scalar("SELECT count(*) FROM audit_log") == 2


async def test_the_project_shows_its_limits(client: httpx.AsyncClient, rows: Rows) -> None:
    assert (await client.get(PROJECT)).json()["limits"] == {"reads_per_minute": 4, "writes_per_minute": 2}
    await rows.sql("UPDATE projects SET reads_per_minute = 0, writes_per_minute = 700")
    assert (await client.get(PROJECT)).json()["limits"] == {"reads_per_minute": None, "writes_per_minute": 700}


class Counting(Redis):
    """A client that counts what it asks."""

    calls = 0

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Ask."""
        self.calls += 1
        return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call] # redis has none there


class Process:
    """One process's view of the buckets, at a moment that stands still unless told."""

    def __init__(self, redis: Redis, *, patience: float = PATIENT) -> None:
        settings = Settings.model_construct(rate_limit_patience_seconds=patience)
        self.now = 0.0
        self._buckets = Allowances(settings, redis, now=lambda: self.now)

    async def read(self, project_id: UUID, limit: int) -> Standing | None:
        """Count one read."""
        return await self._buckets.take(project_id, "reads", limit=limit)

    async def granted(self, project_id: UUID, limit: int) -> int:
        """How many reads it is granted in a row."""
        count = 0
        while (standing := await self.read(project_id, limit)) is not None and standing.retry_after is None:
            count += 1
        assert standing is not None
        return count


@pytest.mark.parametrize("limit", [1, 7, 6_000])
async def test_processes_share_a_bucket(redis_url: str, limit: int) -> None:
    """Together they are granted a minute's worth, and what flows in while they ask (a thousandth of it in 60 ms)."""
    async with Redis.from_url(redis_url) as redis:
        one, two, mine, other = Process(redis), Process(redis), new_id(), new_id()
        before = await redis.time()
        counts = [await one.granted(mine, limit), await two.granted(mine, limit)]
        after = await redis.time()
        flown = (after[0] - before[0] + (after[1] - before[1]) / 1e6) * limit / 60
        assert limit <= sum(counts) <= limit + flown + 1
        assert await two.granted(other, limit) >= limit


async def test_most_requests_ask_nobody(redis_url: str) -> None:
    async with Counting.from_url(redis_url) as redis:
        process, project_id = Process(redis), new_id()
        await process.read(project_id, 60_000)  # loads the script
        redis.calls = 0
        reads = [process.read(project_id, 60_000) for _ in range(10 * BLOCK_MOST)]
        lefts = [standing.left for standing in await asyncio.gather(*reads) if standing is not None]
        assert redis.calls == 10
        assert 59_998 <= max(lefts) <= 59_999
        assert min(lefts) >= 59_990 - 10 * BLOCK_MOST


async def test_a_bucket_fills_again(redis_url: str) -> None:
    """A refusal holds for as long as it said, without another question; then Redis is asked."""
    async with Redis.from_url(redis_url) as redis:
        process, project_id = Process(redis), new_id()
        assert await process.granted(project_id, 3) == 3
        [bucket] = await redis.keys("punctual:allowance:*")
        await redis.delete(bucket)  # as if a minute had passed there
        assert await process.granted(project_id, 3) == 0
        process.now += 21
        assert await process.granted(project_id, 3) == 3


async def test_a_clock_that_is_set_back_locks_nobody_out(redis_url: str) -> None:
    """Buckets are times of Redis' clock: another one's after a failover may be an hour behind."""
    async with Redis.from_url(redis_url) as redis:
        process, project_id = Process(redis), new_id()
        assert await process.granted(project_id, 3) == 3
        [bucket] = await redis.keys("punctual:allowance:*")
        await redis.incrbyfloat(bucket, 3_600_000)
        process.now += 21
        standing = await process.read(project_id, 3)
        assert standing is not None
        assert standing.retry_after is not None
        assert standing.retry_after <= 20


async def test_redis_forgets_and_holds_no_names(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await Process(redis).read(new_id(), 60)
        [bucket] = await redis.keys("*")
        assert 0 < await redis.pttl(bucket) <= 2_100


async def test_a_new_limit_counts_at_once(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        process, project_id = Process(redis), new_id()
        assert await process.granted(project_id, 2) == 2
        assert await process.read(project_id, 0) is None
        assert await process.granted(project_id, 1) == 0


@asynccontextmanager
async def _silent() -> AsyncIterator[str]:
    """Where a Redis takes connections and never answers."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


def _failures() -> float:
    return REGISTRY.get_sample_value("punctual_redis_failures_total", {"use": "allowances"}) or 0.0


def _unchecked() -> float:
    labels = {"kind": "reads", "outcome": "unchecked"}
    return REGISTRY.get_sample_value("punctual_rate_limits_total", labels) or 0.0


async def test_while_redis_is_silent_everything_goes_and_one_request_waits() -> None:
    before, unchecked = _failures(), _unchecked()
    async with _silent() as url, Redis.from_url(url) as silent:
        process = Process(silent, patience=0.05)
        answers = list(await asyncio.gather(*(process.read(new_id(), 1) for _ in range(5))))
        asked = _failures()
        assert 1 <= asked - before <= 5  # those that came together
        answers += [await process.read(new_id(), 1) for _ in range(20)]
        assert _failures() == asked
        process.now += REDIS_PAUSE + 1
        answers += await asyncio.gather(*(process.read(new_id(), 1) for _ in range(5)))
        assert _failures() == asked + 1  # one finds out for all
        assert answers == [None] * 30
        assert _unchecked() == unchecked + 30


class Stalling(Counting):
    """A client whose process has no time for it at first: somebody's largest body is being read, say."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Ask, too late for the first one's patience."""
        if self.calls == 0:
            time.sleep(0.1)  # noqa: ASYNC251 - it is the loop that has to stand still
        return await super().execute_command(*args, **options)


async def test_a_process_that_stood_still_asks_again(redis_url: str) -> None:
    """It is not Redis that was slow: whoever can keep a process busy shall not switch everybody's limits off."""
    async with Redis.from_url(redis_url) as redis, Stalling.from_url(redis_url) as stalling:
        await Process(redis).read(new_id(), 60)  # the server knows the script
        await Process(stalling, patience=0.02).read(new_id(), 60)
        assert stalling.calls > 1


async def test_redis_that_is_back_counts_again(redis_url: str) -> None:
    async with Redis.from_url(NOBODY) as redis, Redis.from_url(redis_url) as back:
        process, project_id = Process(redis), new_id()
        assert await process.read(project_id, 3) is None
        away, redis.connection_pool = redis.connection_pool, back.connection_pool
        assert await process.read(project_id, 3) is None
        process.now += REDIS_PAUSE + 1
        assert await process.granted(project_id, 3) == 3
        redis.connection_pool = away


class TestWithoutRedis:
    """Nothing listens at REDIS_URL."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"rate_limit_reads_per_minute": 1, "redis_url": NOBODY}

    async def test_nobody_is_refused(self, client: httpx.AsyncClient) -> None:
        answers: list[Any] = [await client.get(LIST) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200] * 4
        assert all("ratelimit" not in answer.headers for answer in answers)
