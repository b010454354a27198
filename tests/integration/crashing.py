"""A worker that something befalls at a given await, and the awaits there are.

Every task that the worker starts is seen at each suspension, a point. At the n-th one the worker dies, stalls, loses
its connections, or an exception comes out of that await. Points are counted over all its tasks, and known by where
they are: the awaits of ours that the task stands in, innermost last.

A death at a point stands for all until the next one: what had been sent is carried out, nobody reads the answer, and
between two points nothing leaves the process.
"""

import ast
import asyncio
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from datetime import timedelta
from functools import lru_cache, partial
from inspect import iscoroutine
from itertools import count, islice
from pathlib import Path
from socket import socket
from types import CodeType
from typing import Any, Literal, NamedTuple
from zlib import crc32

from app.db import DATABASE_ERRORS
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from tests.harness import LateTransport

ROOT = Path(__file__).resolve().parents[2]

IS_WHOLE = "CRASH_POINTS_OFTEN" in os.environ
"""`make crash-points` comes to every point, `make test` to every third."""
OFTEN = int(os.environ.get("CRASH_POINTS_OFTEN", "1"))
"""How many times a place counts, where all frames of a task wait at the same awaits, those of libraries too."""

Harm = Literal["death", "stall", "long stall", "overtaken", "cut", "reset", "cancelled"]
ALWAYS: tuple[Harm, ...] = ("death",)
"""What `make test` does; `make crash-points` does all of them."""
HARMS: tuple[Harm, ...] = ("death", "stall", "long stall", "overtaken", "cut", "reset", "cancelled")
"""What befalls a worker at a point:

death: no step of it happens any more; what it had sent arrives, its connections are closed.
stall: it stops, and goes on after its leases have run out and another has delivered everything.
long stall: the same, and PostgreSQL has ended its sessions meanwhile (`idle_in_transaction_session_timeout`).
overtaken: it stops, and goes on after its leases have run out, while another's attempts at the same are under way.
cut: all its connections break; what was waiting for an answer is told so by its driver.
reset: the same, and this await, whatever it waits for, raises ConnectionResetError.
cancelled: the task is cancelled.
"""


Role = Literal["await", "enter", "exit"]


class Site(NamedTuple):
    """One await of the source: where its expression, or its `async with`, begins."""

    path: str
    line: int
    column: int
    role: Role


Trail = tuple[Site, ...]
Work = Callable[[Runtime], Coroutine[Any, Any, Any]]

_owner: ContextVar["Worker | None"] = ContextVar("owner", default=None)


class Worker:
    """One process of `work` that delivers, and to which `harm` happens at the `point`-th suspension that counts."""

    def __init__(self, name: str, harm: Harm, point: int, counts: Callable[[Trail], bool]) -> None:
        self.name = name
        self.rt: Runtime
        self.struck: Trail | None = None
        self.is_dead = False
        self.is_held = False
        self.is_alone = False
        self._harm = harm
        self._left = point
        self._counts = counts
        self._been: Counter[tuple[tuple[CodeType, int], ...]] = Counter()
        self._striking = asyncio.Event()
        self._going_on: set[asyncio.Future[None]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._transports: list[asyncio.Transport] = []
        self._work: asyncio.Task[Any] | None = None
        self._stack = AsyncExitStack()

    async def open(self, settings: Settings, *, clock: timedelta) -> None:
        """Start it; its clock runs ahead by so much."""
        opening = open_runtime(settings, application=self.name, transport=LateTransport())
        self.rt = await self._stack.enter_async_context(opening)
        self.rt.clock.advance(clock)

    async def work(self, work: Work) -> None:
        """Let it work until it is done, dead, or stalled. DATABASE_ERRORS and a cancellation may end it."""
        context = copy_context()
        context.run(_owner.set, self)
        self._work = asyncio.get_running_loop().create_task(work(self.rt), context=context)
        striking = asyncio.create_task(self._striking.wait())
        await asyncio.wait([self._work, striking], return_when=asyncio.FIRST_COMPLETED)
        striking.cancel()
        if not self.is_held:
            self._judge_end(self._work)

    async def go_on(self) -> None:
        """The end of a stall, and of the work."""
        assert self._work is not None
        self.is_held = False
        for future in self._going_on:
            if not future.done():
                future.set_result(None)
        await asyncio.wait([self._work])
        self._judge_end(self._work)

    @staticmethod
    def _judge_end(work: "asyncio.Task[Any]") -> None:
        with suppress(*DATABASE_ERRORS, asyncio.CancelledError):
            work.result()

    async def close(self) -> None:
        """Give back what is left of it."""
        if self._tasks:
            self.is_dead = True
            self.cut()
            await self.bury()
        await self._stack.aclose()

    # --- at each suspension ---

    def start(self, loop: asyncio.AbstractEventLoop, body: Coroutine[Any, Any, Any], context: Context) -> Any:
        """A task of this worker."""
        task: asyncio.Task[Any] = asyncio.Task(_Stepped(self, body), loop=loop, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def connected(self, transport: asyncio.Transport) -> None:
        """It has a connection more."""
        self._transports.append(transport)

    def hold(self) -> "asyncio.Future[None] | None":
        """What a task waits for whose worker is dead, or stalls."""
        if not self.is_held:
            return None
        future = asyncio.get_running_loop().create_future()
        self._going_on.add(future)
        return future

    def suspended(self, body: Coroutine[Any, Any, Any]) -> BaseException | None:
        """A task of it waits now. What the await raises, if it raises."""
        if self.struck is not None or self.is_dead:
            return None
        place = tuple(_place(body))
        self._been[place] += 1
        trail = tuple(_trail(body))
        if self._been[place] > OFTEN or not self._counts(trail):
            return None
        self._left -= 1
        if self._left:
            return None
        self.struck = trail
        return self._strike()

    def _strike(self) -> BaseException | None:
        match self._harm:
            case "death":
                self.is_dead = self.is_held = True
                self.cut()
                self._striking.set()
            case "stall" | "long stall" | "overtaken":
                self.is_held = True
                self._striking.set()
            case "cut":
                self.cut()
            case "reset":
                self.cut()
                return ConnectionResetError("planted")
            case "cancelled":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
        return None

    def cut(self) -> None:
        """Break all its connections."""
        for transport in self._transports:
            transport.abort()

    def lose_network(self, seconds: float) -> None:
        """Break all its connections, and let it have no other for a while."""
        self.cut()
        self.is_alone = True
        asyncio.get_running_loop().call_later(seconds, setattr, self, "is_alone", False)

    async def bury(self) -> None:
        """Let what is left of a dead worker unwind. It reaches nobody: it has no connection, and gets no other."""
        self.is_held = False
        for _ in range(50):
            if not self._tasks:
                break
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=0.1)
        assert not self._tasks, f"does not die: {self._tasks}"
        self.rt.db._readers.terminate()  # its own way to close would wait for readers that are dead


class _Stepped(Coroutine[Any, Any, Any]):
    """The body of a task of a worker, step by step."""

    def __init__(self, worker: Worker, body: Coroutine[Any, Any, Any]) -> None:
        self._worker = worker
        self._body = body
        self._kept: Callable[[], Any] | None = None

    def send(self, value: Any) -> Any:
        step, self._kept = self._kept or partial(self._body.send, value), None
        return self._step(step)

    def throw(self, *error: Any) -> Any:
        self._kept = None
        return self._step(partial(self._body.throw, *error))

    def close(self) -> None:
        """Nothing: the worker closes bodies."""

    def __await__(self) -> Any:
        raise NotImplementedError

    def _step(self, step: Callable[[], Any]) -> Any:
        if held := self._worker.hold():
            self._kept = step
            return next(iter(held))
        waited_for = step()
        while error := self._worker.suspended(self._body):
            if isinstance(waited_for, asyncio.Future):
                waited_for._asyncio_future_blocking = False
            waited_for = self._body.throw(error)
        return waited_for


def _make_task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
    context = options.pop("context", None) or copy_context()
    owner = context.get(_owner)
    if owner is None:
        return asyncio.Task(work, loop=loop, context=context, **options)
    return owner.start(loop, work, context)


@contextmanager
def watching() -> Iterator[None]:
    """This loop knows whose its tasks and connections are: the worker's that made them."""
    loop: Any = asyncio.get_running_loop()
    make_transport = loop._make_socket_transport  # the one place where a connection is known before it sends anything

    def noted(sock: socket, *args: Any, **options: Any) -> Any:
        owner = _owner.get()
        if owner is not None and (owner.is_dead or owner.is_alone):
            sock.close()
            raise ConnectionAbortedError
        transport = make_transport(sock, *args, **options)
        if owner is not None:
            owner.connected(transport)
        return transport

    loop._make_socket_transport = noted
    loop.set_task_factory(_make_task)
    try:
        yield
    finally:
        loop.set_task_factory(None)
        del loop._make_socket_transport


# --- which points, where a task stands, and where it could ---


def points(paths: Sequence[str]) -> Iterator[int]:
    """All points, or one in three: which ones, the text of these files decides, so that a change moves the sample."""
    if IS_WHOLE:
        return count(1)
    text = b"".join((ROOT / path).read_bytes() for path in paths)
    return count(1 + crc32(text) % 3, 3)


def _place(body: Any) -> Iterator[tuple[CodeType, int]]:
    """All frames that wait, those of libraries too."""
    while iscoroutine(body):
        if body.cr_frame is not None:
            yield body.cr_frame.f_code, body.cr_frame.f_lasti
        body = body.cr_await


def _trail(body: Any) -> Iterator[Site]:
    while iscoroutine(body):
        frame, awaited = body.cr_frame, body.cr_await
        path = frame.f_code.co_filename if frame is not None else ""
        if frame is not None and (name := _relative(path)):
            line, _, column, _ = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
            role = _ROLES.get(getattr(awaited, "__name__", ""), "await")
            yield Site(name, line or 0, column or 0, role)
        body = awaited


_ROLES: dict[str, Role] = {"__aenter__": "enter", "__aexit__": "exit"}


@lru_cache(maxsize=512)
def _relative(path: str) -> str | None:
    if Path(path).is_relative_to(ROOT / "app"):
        return Path(path).relative_to(ROOT).as_posix()
    return None


def awaits(paths: Sequence[str]) -> dict[Site, str]:
    """Every await of these files, with the first line of its source text."""
    found: dict[Site, str] = {}
    for path in paths:
        source = (ROOT / path).read_text()
        lines = source.encode().split(b"\n")  # an offset counts bytes
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Await():
                    roles: tuple[Role, ...] = ("await",)
                case ast.AsyncWith():
                    roles = ("enter", "exit")
                case ast.AsyncFor():
                    roles = ("await",)
                case _:
                    continue
            end = node.end_col_offset if node.end_lineno == node.lineno else None
            text = lines[node.lineno - 1][node.col_offset : end].decode()
            found |= {Site(path, node.lineno, node.col_offset, role): text for role in roles}
    return found
