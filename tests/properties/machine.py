"""The state machine: users edit, providers fail, workers die, customers read, time passes, in any order.

Rules take numbers that wrap around, so every drawn example can be played, and shrinks to small ones. What they do is
noted in the stage's journal, which a failure brings along: real time and random ids make an example repeatable in its
steps, not in each of its races.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from app.providers.base import Platform
from sandbox.model import Role
from tests.properties import trouble
from tests.properties.edits import Editor
from tests.properties.judge import Judge
from tests.properties.playing import Machine
from tests.properties.stage import Stage
from tests.properties.watching import Watch

PLATFORMS: st.SearchStrategy[Platform] = st.sampled_from(("google", "microsoft"))
NUMBERS = st.integers(0, 63)
CALENDARS = st.integers(0, 2)
WORKERS = st.integers(0, 1)
FUSES = st.integers(1, 35)
"""A run makes about fifteen steps, a pass a few more."""
HOURS = st.one_of(
    st.integers(-100, 2900).map(lambda quarters: quarters / 4),
    st.sampled_from([-24.25, -24, -23.75, 719.75, 720, 720.25, -75, 900]),
)
LENGTHS = st.sampled_from([1, 0.5, 26, 0, 200])
SPANS = st.sampled_from([timedelta(minutes=m) for m in (1, 7, 60, 8 * 60, 20 * 60, 24 * 60, 72 * 60)])
STARTS = st.sampled_from([timedelta(), timedelta(days=110)])
"""Now, or with the clocks about to change."""
ROLES: tuple[Role | None, ...] = ("writer", "freeBusyReader", "reader", None)


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit: what, where, and numbers that say the rest."""

    kind: str
    calendar: int
    which: int
    number: int
    hours: float
    length: float


KINDS = (
    "add",
    "series",
    "change",
    "change",
    "retime",
    "delete",
    "delete the first",
    "restore",
    "move",
    "occurrence",
    "there and back",
)
EDITS = st.builds(
    Edit,
    kind=st.sampled_from(KINDS),
    calendar=CALENDARS,
    which=NUMBERS,
    number=NUMBERS,
    hours=HOURS,
    length=LENGTHS,
)
STOCK = (
    ("add", 0, 0, 5, -20, 1),
    ("add", 0, 0, 0, 24, 1),
    ("series", 0, 0, 1, 230, 1),
    ("add", 1, 0, 2, 48, 1),
    ("add", 0, 0, 1, 72, 26),
    ("series", 1, 0, 2, 190, 1),
    ("add", 2, 0, 3, 30, 1),
)
THEN = st.sampled_from(
    [
        "settle",
        "settle",
        "settle",
        "crash",
        "crash",
        "both",
        "edit during a run",
        "overtaken run",
        "stray job",
        "slow transaction",
        "read meanwhile",
        "work",
        "nothing",
    ]
)
"""What the service does next."""
STORIES = (
    "trouble",
    "trouble",
    "a series goes",
    "the first goes",
    "a refusing receiver",
    "out and in",
    "a reader stops half way",
)
ODDLY = st.sampled_from(["nothing", "crash", "crash", "crash", "both", "edit during a run", "overtaken run"])


class Convergence(Machine[Stage]):
    """Whatever happens: in the end the API is the world, and everybody was told, of nothing but the truth."""

    def remote(self, number: int) -> str:
        """Its id at the provider."""
        return self.watch(number).connected.remote_id

    @initialize(
        platform=st.sampled_from(["google", "microsoft"]),
        start=STARTS,
        is_shared=st.booleans(),
        stock=st.integers(0, 7),
    )
    def begin(self, platform: Platform, start: timedelta, is_shared: bool, stock: int) -> None:
        """Connect two calendars of one person, and perhaps one that somebody shared with them."""
        Convergence.examples += 1
        self.stage = Stage(self.ground, platform)
        self.play(f"begin at {platform} in {start}", self.stage.open(start=start, is_shared=is_shared))
        self.editor = Editor(self.stage.sandbox.world)
        self.judge = Judge(self.stage)
        self.play("stock", self._edit([Edit(*one) for one in STOCK[:stock]]))

    # --- what happens ---

    @rule(edits=st.lists(EDITS, min_size=1, max_size=4), then=THEN, calendar=CALENDARS, worker=WORKERS, fuse=FUSES)
    def edit(self, edits: list[Edit], then: str, calendar: int, worker: int, fuse: int) -> None:
        """Users edit their calendars; then the service has a turn, or not yet."""
        self.play("edit", self._edit(edits))
        self.play(f"  then {then}", self._turn(then, calendar, worker, fuse))

    @rule(edits=st.lists(EDITS, min_size=1, max_size=2), then=ODDLY, calendar=CALENDARS, worker=WORKERS, fuse=FUSES)
    def edit_and_settle(self, edits: list[Edit], then: str, calendar: int, worker: int, fuse: int) -> None:
        """The service's ordinary life, judged at once: whatever went wrong on the way is over."""
        self.play("edit", self._edit(edits))
        self.play(f"  then {then}", self._turn(then, calendar, worker, fuse))
        self.play("  then settle", self._settle())

    @rule(kind=st.sampled_from(STORIES), calendar=CALENDARS, number=NUMBERS, times=st.integers(1, 2))
    def story(self, kind: str, calendar: int, number: int, times: int) -> None:
        """What random order rarely brings together: a trouble and what it is about, judged at once."""
        self.play(f"story: {kind}", self._story(kind, calendar, number, times))

    async def _story(self, kind: str, calendar: int, number: int, times: int) -> None:
        at, remote = self.at, self.remote(calendar)
        if kind in {"a series goes", "a reader stops half way"}:
            self.editor.add_series(remote, 20, number)
        elif kind == "the first goes":
            self.editor.add(remote, -20, 1, 0)
        await at.sandbox.push.idle()
        await self._settle()
        if kind == "trouble":
            await self._trouble(number, times, 0)
            self._again("change", calendar, times * 9)
        elif kind == "a series goes":
            name = "a series deleted by its bare id" if at.platform == "google" else "a series without its master"
            await at.trouble(next(one for one in trouble.TROUBLES if one.name == name), 1, 0)
            at.journal.append(f"  {name}: {self.editor.delete(remote, self.editor.newest(remote))}")
        elif kind == "a reader stops half way":
            for reader in (number % len(at.readers), len(at.readers) - 1):
                await self._read(reader, limit=times + 1, is_ascending=True, pages=1 + number % 2)
        elif kind == "out and in":
            self._again("retime", calendar, 0, hours=900 if number % 2 else -75)
            await at.sandbox.push.idle()
            await self._settle()
            self._again("retime", calendar, 0)
        elif kind == "the first goes":
            for _ in range(2):
                await at.pass_time(timedelta(hours=20))
                await at.quiesce()
            at.journal.append(f"  deleted: {self.editor.delete_first(remote)}")
        else:
            await at.refuse((500, 404)[number % 2], times=times)
            self._again("change", calendar, number)
        await at.sandbox.push.idle()
        await self._settle()

    async def _edit(self, edits: list[Edit]) -> None:
        for one in edits:
            self.at.journal.append(f"  {self.remote(one.calendar)[:12]} {one.kind}: {self._make(one)}")
        if (
            sum(one.number for one in edits) % 5
        ):  # else the service has its turn while notifications are still on their way
            await self.at.sandbox.push.idle()

    def _make(self, one: Edit) -> str:
        editor, remote = self.editor, self.remote(one.calendar)
        if one.kind == "add" or not editor.events(remote):
            return editor.add(remote, one.hours, one.length, one.number)
        if one.kind == "series":
            return editor.add_series(remote, one.hours % 500 - 200, one.number)
        if one.kind == "change":
            return editor.change(remote, one.which, one.number)
        if one.kind == "there and back":
            return editor.there_and_back(remote, one.which)
        if one.kind == "retime":
            is_all_day = one.number % 4 == 1
            return editor.retime(remote, one.which, one.hours, one.length, is_all_day=is_all_day)
        if one.kind == "delete":
            return editor.delete(remote, one.which)
        if one.kind == "delete the first":
            return editor.delete_first(remote)
        if one.kind == "restore":
            return editor.restore(remote, one.which)
        if one.kind == "move":
            return editor.move(remote, one.which, self.remote(one.number))
        return editor.occurrence(remote, one.which, one.number // 5, one.number, one.hours)

    @rule(then=THEN, calendar=CALENDARS, worker=WORKERS, fuse=FUSES)
    def turn(self, then: str, calendar: int, worker: int, fuse: int) -> None:
        """The service has a turn."""
        self.play(then, self._turn(then, calendar, worker, fuse))

    async def _turn(self, then: str, calendar: int, worker: int, fuse: int) -> None:
        at, watch = self.at, self.watch(calendar)
        if then == "settle":
            await self._settle()
        elif then == "work":
            await at.let_work(worker)
        elif then == "crash":
            at.journal[-1] += f" after {fuse} steps"
            await at.let_work(worker, fuse=fuse)
        elif then == "both":
            await at.at_once(at.let_work(0), at.let_work(1, fuse=fuse if fuse % 2 else None))
        elif then == "stray job":
            await at.at_once(at.let_work(0), at.let_do(1, partial(at.stray, 1, watch.connected.key)))
        elif then == "slow transaction":
            await self._slow(watch, fuse % 5 + 1, is_late=worker > 0)
        elif then == "read meanwhile":
            await self._read(fuse % len(at.readers), limit=fuse % 7 + 1, is_ascending=fuse % 2 > 0, pages=fuse % 3 + 1)
        elif then in {"edit during a run", "overtaken run"}:
            self._again("change", calendar, 0)
            await at.sandbox.push.idle()
            await at.hold_run(watch, partial(self._during, calendar, fuse), is_late=then == "overtaken run")
            if worker:
                await self._settle()

    def _during(self, calendar: int, number: int) -> None:
        self._again(("change", "delete", "add", "retime")[number % 4], calendar, number // 4 * 9)

    def _again(self, kind: str, calendar: int, number: int, *, hours: float = 24) -> None:
        """An edit of what was edited last: what the run has read of it is old then."""
        newest = self.editor.newest(self.remote(calendar))
        one = Edit(kind, calendar, which=newest, number=number, hours=hours, length=1)
        self.at.journal.append(f"  again {kind}: {self._make(one)}")

    async def _slow(self, watch: Watch, limit: int, *, is_late: bool) -> None:
        reader = self.at.readers[-1]
        for number in range(len(self.at.watches)):
            self._again("change", number, 0)
        await self.at.sandbox.push.idle()
        await self.at.hold_row(watch, lambda: reader.read(limit=limit), is_late=is_late)
        self.judge.read(reader)

    async def _read(self, which: int, *, limit: int, is_ascending: bool, pages: int) -> None:
        reader = self.at.readers[which]
        read = reader.read(limit=limit, is_ascending=is_ascending, pages=pages)
        await self.at.at_once(read, self.at.let_work(0))
        self.judge.read(reader)

    async def _outage(self, number: int) -> None:
        """Long enough for the endpoint to be `failing`, and for what changes then to be merged."""
        await self.at.refuse(503, times=8)
        for round_ in range(5):
            if round_ in {0, 4}:
                for calendar in range(len(self.at.watches)):
                    self._again("change", calendar, number + round_)
            await self.at.quiesce()
            await self.at.pass_time(timedelta(hours=9))

    async def _settle(self) -> None:
        await self.at.quiesce()
        judged = await self.judge.settled()
        self.at.journal.append(f"  judged {len(judged)} calendars")

    @rule(spans=st.lists(SPANS, min_size=1, max_size=3), is_settled=st.booleans())
    def pass_time(self, spans: list[timedelta], is_settled: bool) -> None:
        """A minute, or some days; perhaps all that has become due is done in between."""
        for span in spans:
            self.play(f"{span} pass", self.at.pass_time(span))
            if is_settled:
                self.play("  then settle", self._settle())

    @rule(number=NUMBERS, times=st.integers(1, 3), after=st.integers(0, 2))
    def trouble(self, number: int, times: int, after: int) -> None:
        """Something goes wrong with one of the next requests, or with several."""
        self.play("trouble", self._trouble(number, times, after))

    async def _trouble(self, number: int, times: int, after: int) -> None:
        found = trouble.of(self.at.platform, number)
        self.at.journal.append(f"  {found.name}, {times} times after {after}")
        await self.at.trouble(found, times, after)

    @rule(mode=st.sampled_from(["deliver", "hold", "drop", "release", "reverse"]), copies=st.integers(1, 3))
    def pushes(self, mode: str, copies: int) -> None:
        """Notifications come, come twice, late, in another order, or never."""
        self.play(f"pushes: {mode} {copies}", self.at.push_mode(mode, copies))

    @rule(kind=st.sampled_from(["expire", "expire", "share", "revoke", "reconnect"]), number=NUMBERS)
    def access(self, kind: str, number: int) -> None:
        """Cursors are forgotten; a role in a shared calendar changes, or ends; our access ends, or is granted again."""
        if kind == "share" and len(self.at.watches) > 2:
            role = ROLES[number % len(ROLES)]
            self.play(f"share as {role}", self.at.share(self.at.watches[2], role))
        elif kind == "revoke":
            self.play("revoke", self.at.revoke())
        elif kind == "reconnect":
            self.play("reconnect", self.at.reconnect())
        else:
            self.play("expire", self.at.expire(self.watch(number)))

    @rule(kind=st.sampled_from(["refuse", "outage", "ask", "ask for all", "redis"]), number=NUMBERS)
    def outside(self, kind: str, number: int) -> None:
        """The receiver is out of order for a while, or for days; the customer asks for a sync; Redis is wiped."""
        if kind == "refuse":
            status = (500, 503, 429, 404)[number % 4]
            self.play(f"the receiver answers {status}", self.at.refuse(status, times=1 + number % 3))
        elif kind == "outage":
            self.play("the receiver is away for days", self._outage(number))
        elif kind == "redis":
            self.play("redis is wiped", self.at.wipe_redis())
        else:
            self.play(kind, self.at.ask(self.watch(number), is_full=kind == "ask for all"))

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
            self.editor.add(watch.connected.remote_id, 48, 1, 0)  # pushes still work, for everybody
        await self._settle()
        await self.judge.end()
