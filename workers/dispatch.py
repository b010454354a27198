"""Who is synced next, in one worker: rows are the queue, and this takes from it.

Every start goes through here, so that it is fair whatever woke the worker: a job, a run that ended with more to do, or
the look once a second that makes up for lost jobs. OAuth apps take turns (`scheduling.due_calendars`), and none holds
more than three quarters of the places: nobody waits for the timeouts of an app whose provider does not answer.
"""

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from app import scheduling
from app.db import DATABASE_ERRORS
from app.runtime import Runtime
from app.telemetry import log
from workers.jobs import run_sync

APP_SHARE = 0.75
"""Of the places, that one OAuth app's runs may hold."""
_ROOM_SECONDS = 1.0
_BACKOFF_MAX_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Run:
    task: asyncio.Task[str]
    app_id: UUID


class Dispatcher:
    """The places of one worker process, `sync_concurrency` of them."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._places = rt.settings.sync_concurrency
        self._places_of_app = max(1, int(self._places * APP_SHARE))
        self._running: dict[UUID, _Run] = {}
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._is_more = False

    async def offer(self) -> None:
        """Something may be due. Waits a moment for a free place, in which the job is not another worker's to take."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ROOM_SECONDS):
                await self._room.wait()
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Start what is due until stopped; then each run gives its claim back. The database's absence costs a pause."""
        interval = self._rt.settings.sweep_interval_seconds
        pause = interval
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        try:
            while not stop.is_set():
                self._wake.clear()
                try:
                    await self._look()
                    pause = interval
                except DATABASE_ERRORS as exc:
                    pause = min(_BACKOFF_MAX_SECONDS, pause * 2)
                    log.warning("dispatch.database_away", error=type(exc).__name__, pause_seconds=pause)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
        finally:
            stopping.cancel()
            tasks = [run.task for run in self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        free = self._places - len(self._running)
        if free <= 0:
            self._is_more = True
            return
        most = free + len(self._running)  # a run may not have committed its claim yet: it is among the due ones
        holding = Counter(run.app_id for run in self._running.values())
        due = await scheduling.due_calendars(self._rt, most=most, holding=holding, places=self._places_of_app)
        self._is_more = len(due) >= most or any(count >= self._places_of_app for count in holding.values())
        for calendar_id, app_id in due.items():
            is_room = len(self._running) < self._places and holding[app_id] < self._places_of_app
            if is_room and calendar_id not in self._running:
                holding[app_id] += 1
                self._start(calendar_id, app_id)

    def _start(self, calendar_id: UUID, app_id: UUID) -> None:
        task = asyncio.create_task(run_sync(self._rt, calendar_id))
        self._running[calendar_id] = _Run(task, app_id)
        if len(self._running) >= self._places:
            self._room.clear()
        task.add_done_callback(lambda _: self._ended(calendar_id))

    def _ended(self, calendar_id: UUID) -> None:
        del self._running[calendar_id]
        self._room.set()
        if self._is_more:
            self._wake.set()
