"""Wake-ups through Redis: job names and the only use of arq outside `workers/`.

Redis is a hint. Rows say what is due; everything sent here may be lost, doubled or late, and costs one sweep then.
So sending never fails and never waits for the request that caused it: it happens in the background, after commit.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from arq.connections import ArqRedis
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

from app.settings import Settings
from app.telemetry import REDIS_FAILURES, log

SYNC_JOB = "sync_calendar"
CLEAN_UP_JOB = "clean_up_calendar"
QUEUE_NAME = "punctual:jobs"
DELIVERY_TOPIC = "punctual:deliveries"

_QUIET_SECONDS = 0.005
"""New deliveries are announced at once; those that follow within this time share an announcement at its end."""


class Queue:
    """Sends wake-ups; lazily connected, so that a missing Redis hinders no start."""

    def __init__(self, settings: Settings) -> None:
        pool = BlockingConnectionPool.from_url(
            settings.redis_url, max_connections=50, timeout=1, socket_connect_timeout=1, socket_timeout=5
        )
        self.redis = ArqRedis(
            pool, job_serializer=orjson.dumps, job_deserializer=orjson.loads, default_queue_name=QUEUE_NAME
        )
        self.delivery_due = asyncio.Event()
        self.launching_due = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._announcing = False
        self._is_unannounced = False

    def wake_sync(self, calendar_id: UUID, delay_seconds: float) -> None:
        """Have some worker look at this calendar after `delay_seconds`."""
        self._send(self._enqueue(SYNC_JOB, calendar_id, delay_seconds))

    def wake_clean_up(self, calendar_id: UUID) -> None:
        """Have some worker wipe a deleted calendar."""
        self._send(self._enqueue(CLEAN_UP_JOB, calendar_id, 0))

    def wake_delivery(self) -> None:
        """Tell the delivery loop of this process at once, and those of the others, that something is due."""
        self.delivery_due.set()
        self._is_unannounced = True
        if not self._announcing:
            self._announcing = True
            self._send(self._announce())

    def wake_launching(self) -> None:
        """Tell the launching loop of this process that something is due; those of the others look every second."""
        self.launching_due.set()

    async def _announce(self) -> None:
        try:
            while self._is_unannounced:
                self._is_unannounced = False
                await self.redis.publish(DELIVERY_TOPIC, b"due")
                await asyncio.sleep(_QUIET_SECONDS)
        finally:
            self._announcing = False

    async def _enqueue(self, job: str, calendar_id: UUID, delay_seconds: float) -> None:
        delay = timedelta(seconds=delay_seconds) if delay_seconds > 0 else None
        await self.redis.enqueue_job(job, str(calendar_id), _defer_by=delay)

    def _send(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._quietly(coroutine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _quietly(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except (RedisError, OSError, TimeoutError) as exc:
            REDIS_FAILURES.labels("wake").inc()
            log.warning("queue.wake_lost", error=type(exc).__name__)

    async def drain(self) -> None:
        """Wait until everything handed over so far was sent."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Send what is left, then disconnect."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self.drain()
        await self.redis.aclose(close_connection_pool=True)
