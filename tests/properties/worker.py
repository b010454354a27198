"""A worker that can be killed between any two steps, as `kill -9` would: nothing it does afterwards leaves it.

A worker is a runtime of its own. Whatever it sends passes a fuse first: each statement, each commit, each request to a
provider, each answer it would read. A fuse that burns down raises `Killed`, and from then on lets nothing through, so
that the worker's own `finally` blocks change nothing any more. What was sent before goes on at its receiver.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar
from uuid import UUID

import httpx
from sqlalchemy import event

from app import scheduling
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from app.sync.health import tell_due
from app.webhooks.delivery import deliver_due
from workers.jobs import run_sync
from workers.sweeps import keep_channels

_T = TypeVar("_T")
_owner: ContextVar["Worker | None"] = ContextVar("owner", default=None)

RunNoted = Callable[["Worker", UUID, str], None]
"""Told of each run before it begins (`begun`) and with its result afterwards (`killed` where it had none)."""


class Killed(BaseException):
    """The process is gone. No `except Exception` sees it."""


def make_task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> "asyncio.Task[Any]":
    """A loop's task factory that knows which worker a task belongs to: the one that started it."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    context = options.get("context")
    owner = context.get(_owner) if context is not None else _owner.get()
    if owner is not None:
        owner.tasks.add(task)
        task.add_done_callback(owner.forget)
    return task


class _Cable(httpx.AsyncBaseTransport):
    """The way to the providers, which do what they were asked even where nobody is left to read their answer."""

    def __init__(self, worker: "Worker", inner: httpx.AsyncBaseTransport) -> None:
        self._worker = worker
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._worker.ask(lambda: self._inner.handle_async_request(request))


class Worker:
    """One process of `work`, driven pass by pass."""

    def __init__(self, name: str, noted: RunNoted) -> None:
        self.name = name
        self.tasks: set[asyncio.Task[Any]] = set()
        self._sent: set[asyncio.Task[Any]] = set()
        self.steps = 0
        self.rt: Runtime
        self._noted = noted
        self._fuse: int | None = None
        self._died = asyncio.Event()
        self._stack = AsyncExitStack()

    async def open(self, settings: Settings, transport: httpx.AsyncBaseTransport) -> None:
        """Start it."""
        cable = _Cable(self, transport)
        self.rt = await self._stack.enter_async_context(open_runtime(settings, application=self.name, transport=cable))
        self._stack.enter_context(self.rt.db.watched(lambda _: self.step()))
        event.listen(self.rt.db.engine.sync_engine, "commit", lambda _: self.step())

    @property
    def is_dead(self) -> bool:
        """Whether its fuse has burnt down."""
        return self._died.is_set()

    def step(self) -> None:
        """Something is about to leave it, or to reach it."""
        if self.is_dead:
            raise Killed
        self.steps += 1
        if self._fuse is not None:
            self._fuse -= 1
            if self._fuse <= 0:
                self._died.set()
                raise Killed

    async def ask(self, send: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Let something leave it that is done even where it does not live to read the answer."""
        self.step()
        context = copy_context()
        context.run(_owner.set, None)
        asked = asyncio.get_running_loop().create_task(send(), context=context)
        self._sent.add(asked)
        asked.add_done_callback(self._sent.discard)
        answer = await asyncio.shield(asked)
        self.step()
        return answer

    async def do(self, work: Callable[[], Coroutine[Any, Any, int]], *, fuse: int | None = None) -> int:
        """Let it work, until it is done or so many steps were made; how much was done."""
        self._fuse = fuse
        context = copy_context()
        context.run(_owner.set, self)
        task = asyncio.get_running_loop().create_task(work(), context=context)
        died = asyncio.create_task(self._died.wait())
        await asyncio.wait([task, died], return_when=asyncio.FIRST_COMPLETED)
        died.cancel()
        if self.is_dead:
            await self.bury()
            return 0
        self._fuse = None
        return task.result()

    async def work(self) -> int:
        """One pass over everything that is due now, as the loops of a worker find it; how much was done."""
        due = await scheduling.due_calendars(self.rt, most=100)
        for calendar_id in due:
            await self.sync(calendar_id)
        done = len(due) + await keep_channels(self.rt) + await tell_due(self.rt)
        return done + await deliver_due(self.rt)

    async def sync(self, calendar_id: UUID) -> str:
        """One run, due or not: a job may be late, or doubled."""
        self._noted(self, calendar_id, "begun")
        result = "killed"
        try:
            result = await run_sync(self.rt, calendar_id)
        finally:
            self._noted(self, calendar_id, result)
        return result

    async def bury(self) -> None:
        """End what is left of it. Its tasks may unwind, but reach nobody."""
        self._died.set()
        for patience in (0.05, *(0.02 for _ in range(100))):
            if not (alive := [task for task in self.tasks if not task.done()]):
                break
            await asyncio.wait(alive, timeout=patience)
            for task in alive:
                task.cancel()
        left = [task for task in self.tasks if not task.done()]
        assert not left, f"{self.name} does not die: {left}"
        if self._sent:
            await asyncio.wait(self._sent)
        await self.close()

    def forget(self, task: "asyncio.Task[Any]") -> None:
        """A task of it has ended; a dead worker's are of no interest to the loop's log."""
        self.tasks.discard(task)
        if self.is_dead and not task.cancelled():
            task.exception()

    async def close(self) -> None:
        """Give its connections back."""
        await self._stack.aclose()
