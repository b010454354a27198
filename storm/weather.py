"""What goes wrong during the storm, and when: kills, servers that go away, lost pushes, refusals, forgotten cursors,
a frozen worker, a receiver that is down.

Everything is chosen by the seed; when exactly it strikes depends on the machine. A killed process comes back after a
short pause, as with any supervisor. One that ends by itself is nobody's doing: the stack says so, and the storm fails.
"""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from demo.processes import Process, Stack
from demo.provider import Json
from demo.telling import say
from storm.provider import RemoteCalendar, Users
from storm.servers import Servers

KILL_EVERY_SECONDS = 5.0
FORGET_EVERY_SECONDS = 4.0
RESTART_SECONDS = (0.3, 1.5)
LOST_PUSHES = 0.20
FAILED_ANSWERS = 0.05
FAILURES: tuple[tuple[str, Json], ...] = (
    ("unavailable", {}),
    ("too_many_requests", {"retry_after": 2}),
    ("drop", {}),
    ("lost_answer", {}),
)
REDIS_AWAY_SECONDS = 5.0
FROZEN_SECONDS = 8.0
"""Longer than a run's lease: what a frozen worker held has been done by another when it wakes."""
DEAF_SECONDS = 30.0


@dataclass(slots=True)
class Seat:
    """What a supervisor keeps running."""

    name: str
    start: Callable[[], Awaitable[Process]]
    process: Process | None


class Weather:
    """One storm over one installation."""

    def __init__(
        self,
        stack: Stack,
        servers: Servers,
        users: Users,
        *,
        calendars: Sequence[RemoteCalendar],
        receive: Callable[[int], Awaitable[None]],
        seconds: float,
        seed: int,
    ) -> None:
        """`receive` sets the status that the webhook receiver answers from now on."""
        self._stack = stack
        self._servers = servers
        self._users = users
        self._calendars = calendars
        self._receive = receive
        self._seconds = seconds
        self._seed = seed
        self._chance = random.Random(f"{seed}/weather")
        self._seats = [Seat("API", stack.start_api, stack.api)]
        self._seats += [Seat(f"worker {n}", stack.start_worker, one) for n, one in enumerate(stack.workers, start=1)]
        self._began = 0.0
        self.kills = 0

    async def blow(self) -> None:
        """For so many seconds. Raises StackError where a process ended by itself, or did not come back."""
        self._began = time.monotonic()
        await self._users.lose_pushes(LOST_PUSHES, seed=self._seed)
        await self._users.fail(FAILED_ANSWERS, FAILURES, seed=self._seed)
        deaf = min(DEAF_SECONDS, self._seconds / 4)
        plan: list[tuple[float, str, Callable[[], Awaitable[None]]]] = [
            (0.12, "Redis: every key deleted", self._servers.flush_redis),
            (0.22, f"a worker: frozen for {FROZEN_SECONDS:.0f} s", self._freeze),
            (0.34, f"Redis: killed for {REDIS_AWAY_SECONDS:.0f} s", self._stop_redis),
            (0.50, "PostgreSQL: stopped with all sessions, started again", self._restart_postgres),
            (0.62, f"receiver: answers 503 for {deaf:.0f} s", partial(self._be_deaf, deaf)),
            (0.85, "Redis: every key deleted", self._servers.flush_redis),
        ]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._kill(group))
            group.create_task(self._forget())
            for part, what, work in plan:
                moment = self._seconds * (part + self._chance.uniform(-0.03, 0.03))
                group.create_task(self._strike(moment, what, work))
            await self._until(self._seconds)
        failed = await self._users.recover()
        lost = await self._users.lose_pushes(0, seed=0)
        say(f"  calm       {self.kills} kills, {lost} pushes lost, {failed} of the providers' answers failed")

    async def _kill(self, group: asyncio.TaskGroup) -> None:
        moment = KILL_EVERY_SECONDS
        while moment < self._seconds:
            await self._until(moment)
            moment += KILL_EVERY_SECONDS
            running = [seat for seat in self._seats if seat.process is not None]
            if not running:
                continue
            seat = self._chance.choice(running)
            process, seat.process = seat.process, None
            if process is not None:
                await self._stack.kill(process)
                self.kills += 1
                group.create_task(self._restart(seat, self._chance.uniform(*RESTART_SECONDS)))

    async def _forget(self) -> None:
        """Now and then the provider loses its place in a calendar: 410, and all has to be listed anew."""
        chance = random.Random(f"{self._seed}/forget")
        moment = FORGET_EVERY_SECONDS
        while moment < self._seconds:
            await self._until(moment)
            moment += FORGET_EVERY_SECONDS
            await self._users.forget_cursors(chance.choice(self._calendars).id)

    async def _restart(self, seat: Seat, pause: float) -> None:
        await asyncio.sleep(pause)
        seat.process = await seat.start()

    async def _strike(self, moment: float, what: str, work: Callable[[], Awaitable[None]]) -> None:
        await self._until(moment)
        self._say(what)
        await work()

    async def _freeze(self) -> None:
        while not (running := [seat for seat in self._seats[1:] if seat.process is not None]):
            await asyncio.sleep(0.1)
        seat = self._chance.choice(running)
        process, seat.process = seat.process, None  # nobody else kills it meanwhile
        if process is not None:
            process.signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(FROZEN_SECONDS)
            finally:
                process.signal(signal.SIGCONT)
        seat.process = process

    async def _stop_redis(self) -> None:
        await self._servers.stop_redis(REDIS_AWAY_SECONDS)

    async def _restart_postgres(self) -> None:
        seconds = await self._servers.restart_postgres()
        self._say(f"PostgreSQL: back after {seconds:.1f} s")

    async def _be_deaf(self, seconds: float) -> None:
        await self._receive(503)
        await asyncio.sleep(seconds)
        await self._receive(204)

    def _say(self, what: str) -> None:
        say(f"  {time.monotonic() - self._began:5.0f} s    {what}")

    async def _until(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, self._began + moment - time.monotonic()))
