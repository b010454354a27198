"""Loops that find work by rows: what makes Redis a hint, and a second worker an equal.

Every second what is due by the clock is requested (`workers.dispatch` runs it), and replays go on; every minute
channels are renewed and deletions finished; every hour the retention is applied. Each has a loop of its own, so that a
provider that hangs delays nothing else.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from uuid import UUID

from app import scheduling
from app.bots import checking, transfers
from app.bots.rules import judging
from app.db import DATABASE_ERRORS
from app.runtime import Runtime
from app.sync import channels, cleanup, health, incidents
from app.telemetry import BACKLOG, OLDEST_DUE, log
from app.webhooks import replays
from workers.jobs import guarded

MINUTE = 60.0
CHECK_SECONDS = 1.0
HOUR = 3600.0
AT_ONCE = 10
RETRIES_AT_ONCE = 4
"""Batches of 500."""
DEADLINE_SECONDS = 180.0


async def clock_loop(rt: Runtime, stop: asyncio.Event) -> None:
    """Request what is due by the clock or may work again, tell what has lasted or will end.

    Asks no provider: nothing can hold it up.
    """
    last = 0.0

    async def step() -> None:
        nonlocal last
        await scheduling.sweep(rt)
        await retry_failed(rt)
        if time.monotonic() - last >= MINUTE:
            last = time.monotonic()
            await measure(rt)
            await health.tell_due(rt)
            await warn_of_secrets(rt)

    await every(rt.settings.sweep_interval_seconds, step, stop)


async def channels_loop(rt: Runtime, stop: asyncio.Event) -> None:
    """Every minute: keep channels alive."""

    async def step() -> None:
        await keep_channels(rt, stop)

    await every(MINUTE, step, stop)


async def deletions_loop(rt: Runtime, stop: asyncio.Event) -> None:
    """Every minute: finish deletions."""

    async def step() -> None:
        await finish_deletions(rt)

    await every(MINUTE, step, stop)


async def replays_loop(rt: Runtime, stop: asyncio.Event) -> None:
    """Make due what replays want sent again, batch after batch, at each one's pace."""

    async def step() -> None:
        while not stop.is_set() and await replays.run_due(rt):
            pass

    await every(rt.settings.sweep_interval_seconds, step, stop)


async def checks_loop(rt: Runtime, stop: asyncio.Event) -> None:
    """Have calendars synced ahead of the hand-over of their bots, and before these join."""

    async def step() -> None:
        while not stop.is_set() and await checking.look_ahead(rt) == checking.BATCH:
            pass

    await every(CHECK_SECONDS, step, stop)


async def rules_loop(rt: Runtime, stop: asyncio.Event) -> None:
    """Apply rules that have changed, and move bots to other calendars' events, until nothing of it is left."""

    async def step() -> None:
        failed: set[UUID] = set()
        while not stop.is_set() and await apply_rules(rt, failed):
            pass

    await every(CHECK_SECONDS, step, stop)


async def retention_loop(rt: Runtime, stop: asyncio.Event) -> None:
    """At the start and every hour: forget what is old, batch after batch."""

    async def step() -> None:
        is_more = True
        while is_more and not stop.is_set():
            is_more = await cleanup.purge(rt)

    await every(HOUR, step, stop)


async def keep_channels(rt: Runtime, stop: asyncio.Event | None = None) -> int:
    """Open what is missing or due for renewal, stop what was replaced, batch after batch; how many calls.

    A calendar whose turn failed comes again with the next pass, so one that always fails keeps this from no end.
    """
    seen: set[UUID] = set()
    while True:
        wanting, stoppable = await channels.due(rt, seen=seen)
        if not (wanting or stoppable) or (stop is not None and stop.is_set()):
            return len(seen)
        await _each("open_channel", [(id_, partial(channels.ensure, rt, id_)) for id_ in wanting])
        await _each("stop_channel", [(channel.id, partial(channels.stop, rt, channel)) for channel in stoppable])
        seen |= {*wanting, *(channel.id for channel in stoppable)}


async def finish_deletions(rt: Runtime) -> int:
    """Clean up deleted calendars whose job was lost or has to be repeated; how many."""
    due = await cleanup.due(rt)
    await _each("clean_up", [(id_, partial(cleanup.clean_up, rt, id_)) for id_ in due])
    return len(due)


async def retry_failed(rt: Runtime) -> int:
    """Some batches of the calendars whose OAuth app may work again: more in a second than can be run; how much."""
    done = 0
    for _ in range(RETRIES_AT_ONCE):
        count = await incidents.retry_due(rt)
        done += count
        if not count:
            break
    return done


async def warn_of_secrets(rt: Runtime) -> int:
    """Tell of secrets that will expire, batch after batch; how many."""
    told = 0
    while count := await incidents.warn_due(rt):
        told += count
    return told


async def apply_rules(rt: Runtime, failed: set[UUID]) -> int:
    """One step of the calendars that wait to be judged, and of the held bots; how much was done.

    Those in `failed` are left out, and who fails joins them: however many do, the others have their turn.
    """

    def guard(job: str) -> judging.Guard:
        async def guarded_step(work: Awaitable[int], id_: UUID) -> int:
            done = await guarded(work, job=job, id=id_)
            if done is None:
                failed.add(id_)
            return 1 if done is None else done

        return guarded_step

    done = await judging.judge_due(rt, guard("judge_rules"), but=failed)
    return done + await transfers.transfer_due(rt, guard("transfer_bot"), but=failed)


async def _each(job: str, works: Sequence[tuple[UUID, Callable[[], Awaitable[object]]]]) -> None:
    """A few at once, each with a deadline and an outer edge of its own: one that hangs or fails stops no other."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(work: Callable[[], Awaitable[object]]) -> object:
        async with slots, asyncio.timeout(DEADLINE_SECONDS):
            return await work()

    await asyncio.gather(*(guarded(one(work), job=job, id=id_) for id_, work in works))


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
