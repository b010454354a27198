"""The state machine: users edit, providers fail, workers die, customers read, time passes, in any order.

Rules take numbers that wrap around, so every drawn example can be played, and shrinks to small ones. What they do is
noted in the stage's journal, which a failure brings along: real time and random ids make an example repeatable in its
steps, not in each of its races.
"""

from collections.abc import Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from app.providers.base import Platform
from sandbox.model import Role
from tests.properties import trouble
from tests.properties.customer import Reader
from tests.properties.edits import Editor
from tests.properties.ground import Ground
from tests.properties.judge import Judge
from tests.properties.stage import Stage, Watch

NUMBERS = st.integers(0, 63)
CALENDARS = st.integers(0, 2)
WORKERS = st.integers(0, 1)
FUSES = st.integers(1, 60)
HOURS = st.one_of(
    st.integers(-100, 2900).map(lambda quarters: quarters / 4),
    st.sampled_from([-24.25, -24, -23.75, 719.75, 720, 720.25, -75, 900]),
)
LENGTHS = st.sampled_from([1, 0.5, 26, 0, 200])
SPANS = st.sampled_from([timedelta(minutes=m) for m in (1, 7, 60, 8 * 60, 20 * 60, 24 * 60, 72 * 60)])
STARTS = st.sampled_from([timedelta(), timedelta(days=110)])
"""Now, or with the clocks about to change."""
ROLES: tuple[Role | None, ...] = ("writer", "freeBusyReader", "reader", None)


class Convergence(RuleBasedStateMachine):
    """Whatever happens: in the end the API is the world, and everybody was told, of nothing but the truth."""

    ground: ClassVar[Ground]
    examples: ClassVar[int] = 0
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.stage: Stage | None = None
        self.is_broken = False

    # --- running ---

    def play(self, line: str, work: Coroutine[Any, Any, object]) -> None:
        """Let one step happen; what goes wrong carries the journal."""
        Convergence.steps += 1
        if self.stage is not None:
            self.stage.journal.append(line)
        try:
            self.ground.run(work)
        except BaseException as exc:
            self.is_broken = True
            if self.stage is not None:
                exc.add_note("The journal:\n" + "\n".join(self.stage.journal))
            raise

    @property
    def at(self) -> Stage:
        """The stage, once it is made."""
        assert self.stage is not None
        return self.stage

    def watch(self, number: int) -> Watch:
        """One of the calendars."""
        return self.at.watches[number % len(self.at.watches)]

    def remote(self, number: int) -> str:
        """Its id at the provider."""
        return self.watch(number).connected.remote_id

    @initialize(platform=st.sampled_from(["google", "microsoft"]), start=STARTS, is_shared=st.booleans())
    def begin(self, platform: Platform, start: timedelta, is_shared: bool) -> None:
        """Connect two calendars of one person, and perhaps one that somebody shared with them."""
        Convergence.examples += 1
        self.stage = Stage(self.ground, platform)
        self.play(f"begin at {platform} in {start}", self.stage.open(start=start, is_shared=is_shared))
        self.editor = Editor(self.stage.sandbox.world)
        self.judge = Judge(self.stage)

    def teardown(self) -> None:
        """The end of every example: what was lost is repaired by time, and everything is judged."""
        if self.stage is None:
            return
        try:
            if not self.is_broken:
                self.play("end", self._end())
        finally:
            self.ground.run(self.stage.close())

    # --- users ---

    def _changing(self, line: str, calendar: int, make: Any) -> None:
        """An edit happens inside the loop: providers send their notifications from there."""

        async def edit() -> None:
            self.at.journal[-1] += f" [{self.remote(calendar)[:12]}] {make()}"

        self.play(line, edit())

    @rule(calendar=CALENDARS, hours=HOURS, length=LENGTHS, kind=NUMBERS)
    def add(self, calendar: int, hours: float, length: float, kind: int) -> None:
        """A single event."""
        self._changing("add", calendar, lambda: self.editor.add(self.remote(calendar), hours, length, kind))

    @rule(calendar=CALENDARS, hours=st.integers(-200, 300), kind=NUMBERS)
    def add_series(self, calendar: int, hours: int, kind: int) -> None:
        """A series."""
        self._changing("series", calendar, lambda: self.editor.add_series(self.remote(calendar), hours, kind))

    @rule(calendar=CALENDARS, which=NUMBERS, kind=NUMBERS)
    def change(self, calendar: int, which: int, kind: int) -> None:
        """Anything but its times."""
        self._changing("change", calendar, lambda: self.editor.change(self.remote(calendar), which, kind))

    @rule(calendar=CALENDARS, which=NUMBERS)
    def there_and_back(self, calendar: int, which: int) -> None:
        """Changed and changed back."""
        self._changing("there and back", calendar, lambda: self.editor.there_and_back(self.remote(calendar), which))

    @rule(calendar=CALENDARS, which=NUMBERS, hours=HOURS, length=LENGTHS, is_all_day=st.booleans())
    def retime(self, calendar: int, which: int, hours: float, length: float, is_all_day: bool) -> None:
        """Another time, inside the window or not."""
        make = partial(self.editor.retime, self.remote(calendar), which, hours, length, is_all_day=is_all_day)
        self._changing("retime", calendar, make)

    @rule(calendar=CALENDARS, which=NUMBERS)
    def delete(self, calendar: int, which: int) -> None:
        """An event, or a series."""
        self._changing("delete", calendar, lambda: self.editor.delete(self.remote(calendar), which))

    @rule(calendar=CALENDARS, which=NUMBERS)
    def restore(self, calendar: int, which: int) -> None:
        """Back from the trash."""
        self._changing("restore", calendar, lambda: self.editor.restore(self.remote(calendar), which))

    @rule(calendar=CALENDARS, which=NUMBERS, to=CALENDARS)
    def move(self, calendar: int, which: int, to: int) -> None:
        """To another calendar."""
        self._changing("move", calendar, lambda: self.editor.move(self.remote(calendar), which, self.remote(to)))

    @rule(calendar=CALENDARS, which=NUMBERS, place=NUMBERS, kind=NUMBERS, hours=HOURS)
    def occurrence(self, calendar: int, which: int, place: int, kind: int, hours: float) -> None:
        """One occurrence of a series."""
        make = partial(self.editor.occurrence, self.remote(calendar), which, place, kind, hours)
        self._changing("occurrence", calendar, make)

    @rule(role=st.sampled_from(ROLES))
    def share(self, role: Role | None) -> None:
        """The owner of a shared calendar changes the person's access to it, or ends it."""
        if len(self.at.watches) > 2:
            self.play(f"share as {role}", self.at.share(self.at.watches[2], role))

    # --- providers ---

    @rule(number=NUMBERS, times=st.integers(1, 3), after=st.integers(0, 2))
    def trouble(self, number: int, times: int, after: int) -> None:
        """Something goes wrong with one of the next requests, or with several."""
        found = trouble.of(self.at.platform, number)
        self.play(f"trouble: {found.name} ({times} times after {after})", self.at.trouble(found, times, after))

    @rule(calendar=CALENDARS)
    def expire(self, calendar: int) -> None:
        """The provider forgets its cursors."""

        async def expire() -> None:
            self.at.sandbox.world.expire_sync_tokens(self.remote(calendar))

        self.play("expire", expire())

    @rule(mode=st.sampled_from(["deliver", "deliver", "hold", "drop"]), copies=st.integers(1, 3))
    def pushes(self, mode: Any, copies: int) -> None:
        """Notifications come, come twice, late, or never."""
        self.play(f"pushes: {mode} {copies}", self.at.push_mode(mode, copies))

    @rule(reverse=st.booleans())
    def release(self, reverse: bool) -> None:
        """What was held back arrives, perhaps in the wrong order."""

        async def release() -> None:
            self.at.sandbox.push.release(reverse=reverse)

        self.play("release", release())

    @rule()
    def revoke(self) -> None:
        """The person ends our access."""
        self.play("revoke", self.at.revoke())

    @rule()
    def reconnect(self) -> None:
        """And grants it again: the customer hands us a new token."""
        self.play("reconnect", self.at.reconnect())

    # --- the service ---

    @rule(span=SPANS)
    def pass_time(self, span: timedelta) -> None:
        """A minute, or some days."""
        self.play(f"{span} pass", self.at.pass_time(span))

    @rule(worker=WORKERS)
    def work(self, worker: int) -> None:
        """One pass of one worker."""
        self.play(f"worker {worker}", self.at.let_work(worker))

    @rule(worker=WORKERS, fuse=FUSES)
    def crash(self, worker: int, fuse: int) -> None:
        """A pass that ends with `kill -9` somewhere."""
        self.play(f"worker {worker} dies after {fuse} steps", self.at.let_work(worker, fuse=fuse))

    @rule(fuse=st.one_of(st.none(), FUSES))
    def both(self, fuse: int | None) -> None:
        """Both workers at once, one of which may die."""
        at = self.at
        self.play(f"both, {fuse}", at.at_once(at.let_work(0), at.let_work(1, fuse=fuse)))

    @rule(calendar=CALENDARS)
    def stray_job(self, calendar: int) -> None:
        """A job that nobody asked for, at the same time as the right one."""
        at, key = self.at, self.watch(calendar).connected.key
        self.play("stray job", at.at_once(at.let_work(0), at.let_do(1, partial(at.stray, 1, key))))

    @rule(calendar=CALENDARS, which=NUMBERS, kind=NUMBERS, is_late=st.booleans())
    def edit_during_a_run(self, calendar: int, which: int, kind: int, is_late: bool) -> None:
        """A run stands still with its pages read; the calendar changes; perhaps another run overtakes it."""
        remote = self.remote(calendar)

        def edit() -> None:
            if kind % 2:
                self.editor.change(remote, which, kind)
            elif kind % 4:
                self.editor.delete(remote, which)
            else:
                self.editor.add(remote, 24, 1, kind)

        self.play(f"edit during a run, late: {is_late}", self.at.hold_run(self.watch(calendar), edit, is_late=is_late))

    @rule(calendar=CALENDARS, limit=st.integers(1, 5))
    def slow_transaction(self, calendar: int, limit: int) -> None:
        """One calendar's apply waits for a lock, while another's commits and the customer reads."""
        self.play("slow transaction", self._slow(self.watch(calendar), limit))

    async def _slow(self, watch: Watch, limit: int) -> None:
        reader = self.at.readers[-1]
        await self.at.hold_row(watch, lambda: reader.read(limit=limit))
        self.judge.read(reader)

    @rule(calendar=CALENDARS, is_full=st.booleans())
    def ask(self, calendar: int, is_full: bool) -> None:
        """The customer asks for a sync."""
        path = f"/calendars/{self.watch(calendar).connected.id}/sync"
        body = {"full": True} if is_full else {}
        self.play(f"ask, full: {is_full}", self.at.actor.call("POST", path, json=body, expect=202))

    @rule()
    def wipe_redis(self) -> None:
        """FLUSHDB."""
        self.play("redis is wiped", self.at.wipe_redis())

    @rule()
    def settle(self) -> None:
        """Everything due is done: whatever nothing hinders is right already."""
        self.play("settle", self._settle())

    async def _settle(self) -> None:
        await self.at.quiesce()
        judged = await self.judge.settled()
        self.at.journal.append(f"  judged {len(judged)} calendars")

    # --- the customer ---

    @rule(status=st.sampled_from([500, 503, 429, 404]), times=st.integers(1, 3))
    def refuse(self, status: int, times: int) -> None:
        """The customer's receiver is out of order for some requests."""

        async def refuse() -> None:
            self.at.sink.hook().statuses = [*([status] * times), 204]

        self.play(f"the receiver answers {status}", refuse())

    @rule(which=NUMBERS, limit=st.integers(1, 7), is_ascending=st.booleans(), pages=st.integers(1, 3))
    def read(self, which: int, limit: int, is_ascending: bool, pages: int) -> None:
        """A reader goes on, while a worker works."""
        reader = self.at.readers[which % len(self.at.readers)]
        read = reader.read(limit=limit, is_ascending=is_ascending, pages=pages)
        self.play(f"reader {which % len(self.at.readers)}", self._read(reader, read))

    async def _read(self, reader: Reader, read: Coroutine[Any, Any, None]) -> None:
        await self.at.at_once(read, self.at.let_work(0))
        self.judge.read(reader)

    # --- the end ---

    async def _end(self) -> None:
        await self.at.repair()
        await self.at.pass_time(timedelta(minutes=20))
        await self._settle()
        await self.at.pass_time(timedelta(hours=26))
        await self.at.quiesce()
        await self.at.drain()
        for watch in self.at.watches:
            watch.unheard, watch.is_lied_to = -1, False
        await self.judge.end()
        for watch in self.at.watches:
            self.editor.add(watch.connected.remote_id, 48, 1, 0)
        await self._settle()
        await self.judge.end()
