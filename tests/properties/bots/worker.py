"""A worker that launches too: what it says to back ends passes its fuse, like everything that leaves it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx

from app import scheduling
from app.bots.checking import look_ahead
from app.bots.launching import launch_due
from app.bots.rules.judging import judge_due
from app.bots.transfers import transfer_due
from app.egress import Egress, EgressAnswer
from app.settings import Settings
from app.sync.health import tell_due
from app.webhooks.delivery import deliver_due
from tests.properties.worker import RunNoted, Worker
from workers.sweeps import finish_deletions, keep_channels

Noted = Callable[["BotWorker"], Awaitable[None]]


class _Line(Egress):
    """The way to the back ends, which do what they were asked even where nobody is left to read their answer."""

    def __init__(self, worker: Worker, inner: Egress, settings: Settings) -> None:
        super().__init__(settings)
        self._worker = worker
        self._inner = inner

    async def request(self, *args: Any, **options: Any) -> EgressAnswer:
        return await self._worker.ask(lambda: self._inner.request(*args, **options))


class BotWorker(Worker):
    """One process of `work`, driven pass by pass. `launching` is told each time before it launches."""

    def __init__(self, name: str, noted: RunNoted, launching: Noted) -> None:
        super().__init__(name, noted)
        self._launching = launching

    async def open(self, settings: Settings, transport: httpx.AsyncBaseTransport) -> None:
        """Start it."""
        await super().open(settings, transport)
        self.rt = replace(self.rt, launches=_Line(self, self.rt.launches, settings))

    async def work(self) -> int:
        """One pass over everything that is due now, as the loops of a worker find it; how much was done."""
        done = await look_ahead(self.rt)
        due = await scheduling.due_calendars(self.rt, most=100)
        for calendar_id in due:
            await self.sync(calendar_id)
        done += len(due) + await judge_due(self.rt) + await transfer_due(self.rt)
        done += await keep_channels(self.rt) + await finish_deletions(self.rt) + await tell_due(self.rt)
        done += await self.launch()
        return done + await deliver_due(self.rt)

    async def launch(self) -> int:
        """Launch what is due, and nothing else."""
        await self._launching(self)
        return await launch_due(self.rt)
