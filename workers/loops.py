"""Loops of `work` that need no queue: delivery, and the launching of bots.

Rows say what is due. An event in this process, a message through Redis and a poll each make the loop look; any two
of them may be missing. Neither Redis nor PostgreSQL going away ends it.
"""

import asyncio
from contextlib import suppress

from redis.exceptions import RedisError

from app.bots import launching
from app.db import DATABASE_ERRORS
from app.queue import DELIVERY_TOPIC, Queue
from app.runtime import Runtime
from app.telemetry import REDIS_FAILURES, log
from app.webhooks.delivery import Courier

STOP_SECONDS = 6.0
"""How long attempts under way may take once the process has been told to stop; the rest is given back."""
BACKOFF_MAX_SECONDS = 5.0
LISTEN_SECONDS = 30.0


async def delivery_loop(rt: Runtime, stop: asyncio.Event) -> None:
    """Deliver until `stop` is set; then finish or give back what is held, within about ten seconds."""
    listener = asyncio.create_task(_listen(rt.queue))
    try:
        async with Courier(rt) as courier:
            await _deliver(courier, stop)
            await courier.finish(grace_seconds=STOP_SECONDS)
    finally:
        listener.cancel()
        await asyncio.wait([listener])


async def _deliver(courier: Courier, stop: asyncio.Event) -> None:
    failures = 0
    while not stop.is_set():
        courier.wake.clear()
        try:
            again = await courier.claim()
        except DATABASE_ERRORS as exc:
            failures += 1
            log.warning("delivery.claim_failed", error=type(exc).__name__)
            with suppress(TimeoutError):
                async with asyncio.timeout(_backoff(failures)):
                    await stop.wait()
            continue
        failures = 0
        if not again:
            await courier.rest()


async def launching_loop(rt: Runtime, stop: asyncio.Event) -> None:
    """Bring bots where they are to be, until `stop` is set; then finish the calls under way, or leave their leases."""
    async with launching.Launching(rt) as calls:
        failures = 0
        while not stop.is_set():
            calls.wake.clear()
            try:
                again = await calls.claim()
            except DATABASE_ERRORS as exc:
                failures += 1
                log.warning("bots.launching_failed", error=type(exc).__name__)
                await _either(stop, stop, seconds=_backoff(failures))
                continue
            failures = 0
            if not again:
                await _either(calls.wake, stop, seconds=launching.POLL_SECONDS)
        await calls.finish(grace_seconds=STOP_SECONDS)


async def _either(woken: asyncio.Event, stop: asyncio.Event, *, seconds: float) -> None:
    """Until one of the two is set, and no longer than that."""
    waits = [asyncio.create_task(woken.wait()), asyncio.create_task(stop.wait())]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


async def _listen(queue: Queue) -> None:
    """Pass on what other processes announce; for as long as Redis is away, the poll alone finds work."""
    failures = 0
    while True:
        try:
            async with queue.redis.pubsub(ignore_subscribe_messages=True) as channel:
                await channel.subscribe(DELIVERY_TOPIC)
                while True:
                    if await channel.get_message(timeout=LISTEN_SECONDS):
                        queue.delivery_due.set()
                    failures = 0
        except (RedisError, OSError) as exc:
            failures += 1
            REDIS_FAILURES.labels("listen").inc()
            log.warning("delivery.not_listening", error=type(exc).__name__)
            await asyncio.sleep(_backoff(failures))


def _backoff(failures: int) -> float:
    return float(min(BACKOFF_MAX_SECONDS, 0.1 * 2 ** min(failures, 6)))
