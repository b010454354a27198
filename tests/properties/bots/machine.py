"""The state machine on bots: meetings change, owners order, back ends fail, workers die, time passes, in any order.

What has to hold after every step, whenever it is quiet, and in the end, is `judge.BotJudge`'s. Real time and random ids
make an example repeatable in its steps, not in each of its races.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, cast, get_args

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from app.bots.launchers import Kind
from app.providers.base import Platform
from sandbox.backends.book import Backend
from tests.properties import trouble as providers
from tests.properties.bots import trouble as back_ends
from tests.properties.bots.judge import BotJudge
from tests.properties.bots.meetings import KINDS, Meetings
from tests.properties.bots.owner import Order, Owner
from tests.properties.bots.rules import RuleJudge, RuleOwner
from tests.properties.bots.stage import STATES, BotStage
from tests.properties.bots.stories import STORIES, Teller
from tests.properties.bots.worker import BotWorker
from tests.properties.playing import Machine

BACKENDS: tuple[Backend, ...] = get_args(Backend)
PLATFORMS: st.SearchStrategy[Platform] = st.sampled_from(("google", "microsoft"))
DEFAULTS: st.SearchStrategy[Kind | None] = st.sampled_from(
    ("attendee", "attendee", "recall", "recall", "meeting_baas", "meeting_baas", "webhook", None)
)
OTHERS: st.SearchStrategy[Kind] = st.sampled_from(("attendee", "recall", "meeting_baas", "webhook"))
NUMBERS = st.integers(0, 63)
CALENDARS = st.integers(0, 2)
FUSES = st.integers(1, 70)
"""A pass with a launch makes some forty steps, a launch alone about ten."""
MINUTES = st.sampled_from([-40, -5, -0.5, 0.4, 0.9, 2, 3.5, 6, 11, 15, 15, 40, 40, 90, 90, 240, 50_000])
LENGTHS = st.sampled_from([30, 30, 30, 5, 1, 180])
SPANS = st.sampled_from(
    [timedelta(seconds=s) for s in (2, 10, 50, 55, 120, 240, 600, 900, 1_800, 3_600, 4 * 3_600, 30 * 3_600)]
)
THEN = st.sampled_from(
    [
        "settle",
        "settle",
        "settle",
        "work",
        "launch",
        "crash",
        "crash",
        "crash in a launch",
        "both",
        "in a call",
        "nothing",
    ]
)
ORDERS_OF_RULES = (
    "make",
    "make",
    "toggle",
    "match",
    "bot",
    "override",
    "override",
    "series",
    "series",
    "remove",
    "patch",
    "end",
)
TIMES = st.sampled_from(["attended", "attended", "attended", "neglected"])


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit: what, where, and numbers that say the rest."""

    kind: str
    calendar: int
    which: int
    number: int
    minutes: float
    length: float


EDITS = st.builds(
    Edit,
    kind=st.sampled_from(KINDS),
    calendar=CALENDARS,
    which=NUMBERS,
    number=NUMBERS,
    minutes=MINUTES,
    length=LENGTHS,
)
ORDERS = st.builds(
    Order,
    kind=st.sampled_from(["on", "on", "on", "on", "own", "own", "patch", "patch", "end"]),
    calendar=CALENDARS,
    which=NUMBERS,
    number=NUMBERS,
    minutes=MINUTES,
)
STOCK = (
    Edit("add", 0, 0, 0, 15, 30),
    Edit("copy", 1, 0, 0, 0, 0),
    Edit("add", 1, 0, 1, 40, 30),
    Edit("series", 2, 0, 2, 11, 30),
    Edit("add", 2, 0, 3, 2, 30),
    Edit("copy", 0, 1, 0, 0, 0),
)
ORDERED = (
    Order("on", 0, 0, 0, 0),
    Order("on", 1, 0, 1, 0),
    Order("on", 1, 1, 1, 0),
    Order("on", 2, 0, 5, 0),
    Order("own", 0, 0, 2, 6),
    Order("on", 0, 1, 4, 0),
)


class Bots(Machine[BotStage]):
    """Whatever happens: a meeting that wants a bot gets it, once, in time, and no other meeting does."""

    @initialize(
        platform=PLATFORMS,
        default=DEFAULTS,
        other=OTHERS,
        settling=st.sampled_from([0, 0, 60]),
        stock=st.sampled_from([0, 2, 4, len(STOCK)]),
        rule=st.sampled_from([-1, 0, 1, 2, 3, 8]),
    )
    def begin(
        self, platform: Platform, default: Kind | None, other: Kind, settling: int, stock: int, rule: int
    ) -> None:
        """Connect three people's calendars, with some meetings in them that have bots."""
        Bots.examples += 1
        self.stage = BotStage(self.ground, platform, (default, other))
        line = f"begin at {platform} with {default}, {other}, settling {settling}"
        self.play(line, self.stage.open(start=timedelta(), is_shared=False))
        self.stage.sandbox.bots.settling_seconds = settling
        self.meetings = Meetings(self.stage.sandbox.world)
        self.owner = Owner(self.stage, self.meetings)
        self.rule_owner = RuleOwner(self.stage)
        self.judge = BotJudge(self.stage, RuleJudge(self.stage, self.rule_owner))
        self.teller = Teller(self.stage, self.meetings, (self.owner, self.rule_owner), self._turn, self._settle)
        self.play("stock", self._edit(STOCK[:stock]))
        self.play("  then settle", self._settle())
        self.play("ordered", self._order(ORDERED[:stock]))
        if rule >= 0:
            self.play("ruled", self._rule("make", rule))

    # --- what happens ---

    @rule(edits=st.lists(EDITS, min_size=1, max_size=3), then=THEN, number=NUMBERS, fuse=FUSES)
    def edit(self, edits: list[Edit], then: str, number: int, fuse: int) -> None:
        """Users edit their calendars; then the service has a turn, or not yet."""
        self.play("edit", self._edit(edits))
        self.play(f"  then {then}", self._turn(then, number, fuse))

    @rule(orders=st.lists(ORDERS, min_size=1, max_size=3), then=THEN, number=NUMBERS, fuse=FUSES)
    def order(self, orders: list[Order], then: str, number: int, fuse: int) -> None:
        """The owner makes bots, changes them, ends them."""
        self.play("order", self._order(orders))
        self.play(f"  then {then}", self._turn(then, number, fuse))

    @rule(
        edits=st.lists(EDITS, max_size=2),
        how=TIMES,
        spans=st.lists(SPANS, min_size=1, max_size=3),
        is_settled=st.booleans(),
    )
    def pass_time(self, edits: list[Edit], how: str, spans: list[timedelta], is_settled: bool) -> None:
        """Seconds or hours, with a worker at hand or without one."""
        self.play("edit", self._edit(edits))
        for span in spans:
            self.play(f"{span} {how}", self.at.attend(span) if how == "attended" else self.at.neglect(span))
        if is_settled:
            self.play("  then settle", self._settle())

    @rule(kind=st.sampled_from(ORDERS_OF_RULES), number=NUMBERS, then=THEN, fuse=FUSES)
    def order_by_rule(self, kind: str, number: int, then: str, fuse: int) -> None:
        """The owner makes a rule, changes one, takes one back; or says of one event that it has no bot."""
        self.play("rule", self._rule(kind, number))
        self.play(f"  then {then}", self._turn(then, number, fuse))

    @rule(
        orders=st.lists(st.tuples(st.sampled_from(ORDERS_OF_RULES), NUMBERS), min_size=2, max_size=4),
        edits=st.lists(EDITS, max_size=1),
        then=THEN,
        number=NUMBERS,
        fuse=FUSES,
    )
    def orders_by_rule(
        self, orders: list[tuple[str, int]], edits: list[Edit], then: str, number: int, fuse: int
    ) -> None:
        """Several at once, before the first is carried out; then something happens to a meeting."""
        for kind, chosen in orders:
            self.play("rule", self._rule(kind, chosen))
        self.play("edit", self._edit(edits))
        self.play(f"  then {then}", self._turn(then, number, fuse))

    @rule(kind=st.sampled_from(STORIES), calendar=CALENDARS, number=NUMBERS, fuse=FUSES)
    def story(self, kind: str, calendar: int, number: int, fuse: int) -> None:
        """What random order rarely brings together, judged at once."""
        self.play(f"story: {kind} {number} {fuse}", self.teller.tell(kind, calendar, number, fuse))

    @rule(kind=st.sampled_from(STORIES), calendar=CALENDARS, number=NUMBERS, fuse=FUSES)
    def another_story(self, kind: str, calendar: int, number: int, fuse: int) -> None:
        """Twice as often as anything else."""
        self.play(f"story: {kind} {number} {fuse}", self.teller.tell(kind, calendar, number, fuse))

    @rule(then=THEN, number=NUMBERS, fuse=FUSES)
    def turn(self, then: str, number: int, fuse: int) -> None:
        """The service has a turn."""
        self.play(then, self._turn(then, number, fuse))

    @rule(number=NUMBERS, times=st.integers(1, 3), after=st.integers(0, 1), then=THEN, fuse=FUSES)
    def trouble(self, number: int, times: int, after: int, then: str, fuse: int) -> None:
        """Something goes wrong with one of the next requests to a back end, or with several."""
        self.play("trouble", self._trouble(number, times, after))
        self.play(f"  then {then}", self._turn(then, number, fuse))

    @rule(number=NUMBERS, after=st.integers(0, 1))
    def provider_trouble(self, number: int, after: int) -> None:
        """Something goes wrong with one of the next requests to the provider."""
        found = providers.of(self.at.platform, number)
        if not found.may_disconnect and not found.is_lie:
            self.play(f"provider: {found.name}", self.at.trouble(found, 1, after))

    @rule(kind=st.sampled_from(BACKENDS), are_good=st.booleans())
    def keys(self, kind: Backend, are_good: bool) -> None:
        """A back end refuses the launcher's key, or takes it again."""
        self.at.journal.append(f"keys of {kind} are good: {are_good}")
        self.at.keys(kind, are_good=are_good)

    @rule(mode=st.sampled_from(["deliver", "hold", "drop", "drop", "release"]))
    def pushes(self, mode: str) -> None:
        """Notifications come, late, or never."""
        self.play(f"pushes: {mode}", self.at.push_mode(mode, 1))

    @rule(kind=st.sampled_from(["revoke", "reconnect", "reconnect", "delete", "launcher", "refuse"]), number=NUMBERS)
    def access(self, kind: str, number: int) -> None:
        """Access ends, or is granted again; a calendar goes; another launcher is the default; the receiver fails."""
        at, watch = self.at, self.watch(number)
        if kind == "revoke":
            self.play("revoke", at.revoke_one(watch))
        elif kind == "reconnect":
            self.play("reconnect", at.reconnect_one(watch))
        elif kind == "launcher":
            self.play("launcher", self.owner.launcher(number))
        elif kind == "refuse":
            self.play("refuse", at.refuse(500, times=1 + number % 2))
            at.is_troubled()
        elif len(at.watches) > 2 and number % 2:
            self.play("delete", at.delete_calendar(watch))

    # --- how ---

    async def _always(self) -> None:
        if hasattr(self, "judge"):
            await self.judge.always()

    async def _edit(self, edits: Any) -> None:
        for one in edits:
            calendar = self.watch(one.calendar).connected.remote_id
            done = self.meetings.edit(
                one.kind, calendar, one.which, minutes=one.minutes, length=one.length, number=one.number
            )
            self.at.journal.append(f"  {one.calendar} {one.kind}: {done}")
        if sum(one.number for one in edits) % 5:  # else the service has its turn while these are still on their way
            await self.at.sandbox.push.idle()

    async def _order(self, orders: Any) -> None:
        for one in orders:
            self.at.journal.append(f"  {one.kind}: {await self.owner.give(one)}")

    async def _rule(self, kind: str, number: int) -> None:
        self.at.journal.append(f"  {await self.rule_owner.give(kind, number)}")

    async def _turn(self, then: str, number: int, fuse: int) -> None:
        at, worker = self.at, cast("BotWorker", self.at.workers[number % 2])
        if then == "settle":
            await self._settle()
        elif then == "work":
            await at.let_work(number % 2)
        elif then == "launch":
            await at.let_do(number % 2, worker.launch)
        elif then == "crash":
            at.journal[-1] += f" after {fuse} steps"
            await at.let_work(number % 2, fuse=fuse)
        elif then == "crash in a launch":
            at.journal[-1] += f" after {1 + fuse % 15} steps"
            await at.let_do(number % 2, worker.launch, fuse=1 + fuse % 15)
        elif then == "both":
            with at.together():
                await at.at_once(at.let_work(0), at.let_work(1, fuse=fuse if fuse % 2 else None))
        elif then == "in a call":
            with at.together():
                await self._in_a_call(number, fuse)
            await at.quiesce()

    async def _in_a_call(self, number: int, fuse: int) -> None:
        """A back end has done what it was asked, and has not answered yet, while something happens."""
        at = self.at
        operations = ("create", "create", "update", "delete")
        names = [f"{kind}.{operations[number % 4]}" for kind in BACKENDS]
        gates = [at.sandbox.faults.gate(name) for name in names]
        run = asyncio.create_task(at.let_do(0, cast("BotWorker", at.workers[0]).launch))
        reached = [asyncio.create_task(gate.reached()) for gate in gates]
        await asyncio.wait([run, *reached], return_when=asyncio.FIRST_COMPLETED)
        for one in reached:
            one.cancel()
        await asyncio.wait(reached)
        at.journal.append(f"  in a call: {not run.done()}")
        await self._meanwhile(number, fuse)
        at.sandbox.faults.gates.clear()
        for gate in gates:
            gate.release()
        await run

    async def _meanwhile(self, number: int, fuse: int) -> None:
        at = self.at
        kind = ("move", "cancel", "relink", "delete", "unlink")[fuse % 5]
        if fuse % 3:
            await self._edit([Edit(kind, number, fuse, number, (6, 15, 40)[fuse % 3], 30)])
            await at.sandbox.push.idle()
        else:
            await self._order([Order(("end", "patch")[fuse % 2], number, fuse, number, 15)])
        for name in [name for name in at.sandbox.faults.gates if fuse % 2]:
            at.sandbox.faults.gates.pop(name)  # the next call there is answered
        if fuse % 4 == 0:
            await at.neglect(timedelta(seconds=91))  # the lease of the call is over
        if at.sandbox.faults.gates:
            due = partial(self._sync_all, 1)
            await at.let_do(1, due)
        else:
            await at.let_work(1)

    async def _sync_all(self, which: int) -> int:
        for watch in self.at.watches:
            await self.at.workers[which].sync(watch.connected.key)
        return 0

    async def _trouble(self, number: int, times: int, after: int) -> None:
        at = self.at
        for found, kind in [(back_ends.of(kind, number), kind) for kind in BACKENDS]:
            at.sandbox.faults.add(found.kind, f"{kind}.{found.operation}", times=times, after=after, **found.params)
            at.journal.append(f"  {found.kind} at {kind}.{found.operation}, {times} times after {after}")
        at.is_troubled()

    async def _settle(self) -> None:
        await self.at.quiesce()
        if not self.at.is_calm:
            self.at.is_troubled()
        self.at.journal.append(f"  judged {await self.judge.settled()} bots")

    # --- the end ---

    async def _end(self) -> None:
        at = self.at
        await at.repair()
        for minutes in (6, 14):
            await at.attend(timedelta(minutes=minutes), most=400)
            await self._settle()
        waiting = [row for row in await at.bots() if row.state in STATES and row.join_at > row.now]
        last = max((row.join_at for row in waiting), default=at.now())
        at.journal.append(f"  {len(waiting)} bots wait until {last}")
        await at.attend(last - at.now() + timedelta(minutes=2), most=3_000)
        await self._settle()
        await at.drain()
        await self.judge.end([row for row in waiting if row.join_at <= at.now()])
