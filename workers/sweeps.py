"""Loops that find work by rows: what makes Redis a hint, and a second worker an equal.

Every second the due calendars are claimed by the same function that the jobs call; every minute channels are renewed,
deletions finished and what is due by the clock is requested; every hour the retention is applied.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID

from app import scheduling
from app.db import DATABASE_ERRORS
from app.runtime import Runtime
from app.sync import channels, cleanup
from app.telemetry import BACKLOG, OLDEST_DUE, log
from workers.jobs import run_sync

MINUTE = 60.0
HOUR = 3600.0


async def claim_loop(rt: Runtime, stop: asyncio.Event) -> None:
    """Run due calendars that no job was there for, at most `sync_concurrency` at a time."""
    running: dict[UUID, asyncio.Task[str]] = {}
    limit = rt.settings.sync_concurrency

    async def step() -> None:
        if len(running) < limit:
            for calendar_id in await scheduling.due_calendars(rt, most=limit + len(running)):
                if calendar_id not in running and len(running) < limit:
                    task = asyncio.create_task(run_sync(rt, calendar_id))
                    running[calendar_id] = task
                    task.add_done_callback(partial(_forget, running, calendar_id))

    await every(rt.settings.sweep_interval_seconds, step, stop)
    for task in list(running.values()):
        task.cancel()
    await asyncio.gather(*running.values(), return_exceptions=True)


def _forget(running: dict[UUID, asyncio.Task[str]], calendar_id: UUID, _: asyncio.Task[str]) -> None:
    running.pop(calendar_id, None)


async def clock_loop(rt: Runtime, stop: asyncio.Event) -> None:
    """Request what is due by the clock, keep channels alive, finish deletions, forget what is old."""
    last = {"minute": 0.0, "hour": time.monotonic()}

    async def step() -> None:
        await scheduling.sweep(rt)
        now = time.monotonic()
        if now - last["minute"] >= MINUTE:
            last["minute"] = now
            await channels.sweep(rt)
            await cleanup.sweep(rt)
            await measure(rt)
        if now - last["hour"] >= HOUR:
            last["hour"] = now
            await cleanup.purge(rt)

    await every(rt.settings.sweep_interval_seconds, step, stop)


async def every(seconds: float, step: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    """Repeat a step until stopped; a database that is away costs a pause, not the loop."""
    pause = seconds
    while not stop.is_set():
        try:
            await step()
            pause = seconds
        except DATABASE_ERRORS as exc:
            pause = min(10.0, pause * 2)
            log.warning("sweep.database_away", error=type(exc).__name__, pause_seconds=pause)
        try:
            async with asyncio.timeout(pause):
                await stop.wait()
        except TimeoutError:
            continue


_DUE_NOW = """
SELECT 'sync' AS kind, count(*) AS rows_due, extract(epoch FROM max(app_now() - due_at)) AS age FROM sync_state
 WHERE requested_seq > synced_seq AND due_at <= app_now() AND not_before <= app_now() AND isfinite(due_at)
UNION ALL
SELECT 'delivery', count(*), extract(epoch FROM max(app_now() - next_attempt_at)) FROM deliveries
 WHERE state = 'pending' AND next_attempt_at <= app_now()
"""


async def measure(rt: Runtime) -> None:
    """Publish how much is due and how long the oldest has waited."""
    async with rt.db.reading() as tx:
        for row in await tx.rows(_DUE_NOW):
            BACKLOG.labels(row.kind).set(row.rows_due)
            OLDEST_DUE.labels(row.kind).set(float(row.age or 0))
