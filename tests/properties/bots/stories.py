"""What random order rarely brings together: a bot at a certain point of its life, and what befalls it there."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from app.ids import BOT, parse
from sandbox.model import Event
from tests.properties.bots.meetings import Meetings
from tests.properties.bots.owner import Order, Owner
from tests.properties.bots.rules import RuleOwner
from tests.properties.bots.stage import BotStage, Wish

STORIES = (
    "handed over",
    "handed over",
    "in a call",
    "lost",
    "lost",
    "lost",
    "a key",
    "unheard",
    "unheard",
    "access",
    "copies",
    "copies",
    "a say",
    "a say",
    "taken back",
)
SAYS = ("remove", "never", "patch", "always", "null", "toggle", "bot", "remove")
"""What is asked of the bot of a meeting with copies, or of the rules."""
CHANGES = ("move", "cancel", "relink", "move", "delete", "unlink", "end", "patch")
MINUTES = (0.7, 40.0, 8.0, -40.0)
"""Where a meeting is moved to, from now."""
ENDS = ("cancel", "end", "move", "delete", "unlink", "relink", "end", "cancel")
"""Mostly what leaves a bot without a meeting."""
LOST = ("lost_answer", "failed_answer", "lost_answer", "garbled_answer", "drop", "unavailable", "too_many_requests")

Turn = Callable[[str, int, int], Awaitable[None]]


@dataclass(slots=True)
class Point:
    """A meeting of its own that has a bot, and the numbers that say what befalls it."""

    calendar: str
    place: int
    """Of the meeting among the calendar's events."""
    wish: Wish
    number: int
    fuse: int


class Teller:
    """Tells them on one stage. `turn` gives the service a turn, `settle` judges."""

    def __init__(
        self,
        stage: BotStage,
        meetings: Meetings,
        owners: tuple[Owner, RuleOwner],
        turn: Turn,
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self._stage = stage
        self._meetings = meetings
        self._owner, self._rules = owners
        self._turn = turn
        self._settle = settle

    async def tell(self, kind: str, calendar: int, number: int, fuse: int) -> None:
        """One story, judged in the end."""
        point = await self._begin(calendar, number, fuse)
        if point is None:
            return
        if kind in {"copies", "a say"}:
            await self._copies(point, is_said=kind == "a say")
        elif kind == "a key":
            await self._key(point)
        elif kind == "access":
            await self._access(point)
        elif kind == "unheard":
            await self._unheard(point)
        elif kind == "lost":
            await self._lost(point)
        elif kind == "taken back":
            await self._taken_back(point)
        else:
            await self._handed_over(point, is_in_a_call=kind == "in a call")
        await self._settle()

    # --- the beginning ---

    async def _begin(self, calendar: int, number: int, fuse: int, *, key: str | None = None) -> Point | None:
        """A meeting in a while, and a bot on it; None where that cannot be now."""
        stage = self._stage
        watch = stage.watches[calendar % len(stage.watches)]
        remote = watch.connected.remote_id
        told = self._meetings.edit("add", remote, 0, minutes=25, length=30, number=number % 3)
        title = told.partition(" in ")[0]
        await stage.sandbox.push.idle()
        await stage.quiesce()
        events = await stage.actor.events(watch.connected)
        place = next((place for place, one in enumerate(events) if one["name"] == title), None)
        if place is None:
            stage.journal.append(f"  {title} is not known")
            return None
        order = Order("on", calendar, place, 0 if key is None else 1, 0)
        before = set(stage.wishes)
        stage.journal.append(f"  on: {await self._owner.give(order)}")
        made = [wish for wish in stage.wishes.values() if wish.id not in before]
        if not made:
            return None
        live = [one.title for one in self._meetings.events(remote)]
        return Point(remote, live.index(title), made[0], number, fuse)

    async def _reach(self, point: Point, *, is_handed: bool, ahead: float = 0) -> None:
        """Let time pass until the bot is to be handed over; perhaps let that happen."""
        stage = self._stage
        [row] = [one for one in await stage.bots() if one.id == _key(point.wish)]
        at = row.join_at - timedelta(seconds=row.hand_over + ahead)
        await stage.attend(max(timedelta(), at - stage.now() - timedelta(seconds=2)))
        if is_handed:
            await stage.attend(timedelta(seconds=5))
        else:
            await stage.pass_time(timedelta(seconds=5))

    async def _change(self, point: Point, kind: str) -> None:
        if kind in {"end", "patch"}:
            place = list(self._stage.wishes).index(point.wish.id)
            told = await self._owner.give(Order(kind, 0, place, point.fuse, 15))
        else:
            minutes = MINUTES[point.fuse % len(MINUTES)]
            told = self._meetings.edit(
                kind, point.calendar, point.place, minutes=minutes, length=30, number=point.number
            )
        self._stage.journal.append(f"  {kind}: {told}")

    async def _restore(self, point: Point) -> None:
        told = self._meetings.restore_last(point.calendar)
        self._stage.journal.append(f"  restore: {told}")
        await self._stage.sandbox.push.idle()

    # --- the stories ---

    async def _handed_over(self, point: Point, *, is_in_a_call: bool) -> None:
        await self._reach(point, is_handed=not is_in_a_call)
        kind = CHANGES[point.number % len(CHANGES)]
        if is_in_a_call:
            await self._turn("in a call", point.number // 8 * 4, point.fuse)
        await self._change(point, kind)
        await self._stage.sandbox.push.idle()
        if point.fuse % 3:
            await self._sync()
            await self._turn("crash in a launch" if point.fuse % 3 == 1 else "in a call", 2, point.fuse)
        await self._settle()
        if kind in {"cancel", "delete"}:
            await self._restore(point)

    async def _lost(self, point: Point) -> None:
        """Nobody knows whether a start has made a bot, and then something else happens to it."""
        stage = self._stage
        await self._reach(point, is_handed=False)
        if point.number % 2:
            await self._turn("crash in a launch", 0, point.fuse)
        else:
            for kind in stage.sandbox.bots.keys:
                stage.sandbox.faults.add(LOST[point.fuse % len(LOST)], f"{kind}.create")
            stage.is_troubled()
            await self._turn("launch", 0, point.fuse)
            stage.sandbox.faults.clear()
        if point.number // 16:
            await self._change(point, ENDS[point.number // 2 % len(ENDS)])
            await stage.sandbox.push.idle()
        await stage.attend(timedelta(seconds=100))

    async def _taken_back(self, point: Point) -> None:
        """A withdrawal is done and not answered, and then the meeting is there again."""
        stage = self._stage
        await self._reach(point, is_handed=True)
        await self._change(point, ("cancel", "delete")[point.number % 2])
        await stage.sandbox.push.idle()
        await self._sync()
        for kind in stage.sandbox.bots.keys:
            for operation in ("delete", "leave"):
                stage.sandbox.faults.add("lost_answer", f"{kind}.{operation}")
        stage.is_troubled()
        await self._turn("launch", 0, point.fuse)
        stage.sandbox.faults.clear()
        await self._restore(point)
        await self._sync()

    async def _key(self, point: Point) -> None:
        """The key of a bot that went is taken meanwhile."""
        watch = next(at for at, one in enumerate(self._stage.watches) if one is point.wish.watch)
        first = await self._begin(watch, point.number, point.fuse, key="first")
        if first is None:
            return
        await self._change(first, ("cancel", "delete", "unlink")[point.number % 3])
        await self._stage.sandbox.push.idle()
        await self._settle()
        second = await self._begin(watch + point.fuse % 2, point.number, point.fuse, key="first")
        if point.number % 3 == 2:
            await self._change(first, "relink")
        await self._restore(first)
        await self._settle()
        if second is not None and point.fuse % 2:
            await self._change(second, "end")
            await self._change(first, "move")
            await self._stage.sandbox.push.idle()

    async def _unheard(self, point: Point) -> None:
        """No push tells that the meeting is off, or elsewhere."""
        mode = self._stage.sandbox.push.mode
        await self._stage.push_mode("drop", 1)
        await self._reach(point, is_handed=True, ahead=70 if point.fuse % 2 else -3)
        await self._change(point, CHANGES[point.number % 6])
        [row] = [one for one in await self._stage.bots() if one.id == _key(point.wish)]
        await self._stage.attend(max(timedelta(), row.join_at - self._stage.now()) + timedelta(seconds=30))
        await self._settle()
        await self._stage.push_mode(mode, 1)

    async def _access(self, point: Point) -> None:
        """The user's access ends, and comes back; in between, the meeting may have changed."""
        stage, watch = self._stage, point.wish.watch
        assert watch is not None
        if point.fuse % 2:
            await self._reach(point, is_handed=True)
        await stage.revoke_one(watch)
        stage.sandbox.world.expire_access_tokens()
        await self._sync()
        await self._settle()
        if point.number % 3:
            await self._change(point, CHANGES[point.number % 6])
        await stage.reconnect_one(watch)

    async def _copies(self, point: Point, *, is_said: bool) -> None:
        """The meeting stands in another calendar too, a rule wants one bot for it, and one of the copies goes.

        `is_said`: before that, and perhaps after it, the owner has a say in which of them has the bot.
        """
        stage = self._stage
        other = next((one for one in stage.watches if one is not point.wish.watch), None)
        if not any(rule.is_enabled and rule.scope == "meeting" and rule.match < 2 for rule in self._rules.rules):
            stage.journal.append(f"  {await self._rules.give('make', 0)}")
        if other is None:
            return
        event = self._meetings.events(point.calendar)[point.place]
        stage.journal.append(f"  copy: {self._meetings.copy_to(other.connected.remote_id, event)}")
        await stage.sandbox.push.idle()
        await self._settle()
        if point.fuse % 2:
            await self._reach(point, is_handed=True)
        if is_said:
            await self._say(event, point.number // 8, point.fuse)
        if point.number % 4 == 3 and point.wish.watch is not None:
            await stage.revoke_one(point.wish.watch)
            stage.sandbox.world.expire_access_tokens()
        else:
            await self._change(point, CHANGES[point.number % 6])
        await stage.sandbox.push.idle()
        await self._sync()
        if point.fuse % 3:
            await self._turn("crash", point.number, point.fuse)
        if is_said and point.fuse % 2 == 0:
            await self._say(event, point.fuse // 2, point.number)
            await self._restore(point)

    async def _say(self, event: Event, which: int, number: int) -> None:
        kind = SAYS[which % len(SAYS)]
        if kind in {"toggle", "bot"}:
            told = await self._rules.give(kind, number)
        else:
            told = await self._rules.of_meeting(kind, event.ical_uid or "", number)
        self._stage.journal.append(f"  {kind}: {told}")
        if number % 2:
            await self._settle()

    async def _sync(self) -> None:
        for watch in self._stage.watches:
            await self._stage.let_do(1, lambda key=watch.connected.key: self._stage.stray(1, key))


def _key(wish: Wish) -> UUID | None:
    return parse(BOT, wish.id)
