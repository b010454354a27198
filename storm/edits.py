"""Edits of every kind, by seed, and what they made of each event: enough to tell what nobody ever did.

An `Editor` works alone on its calendars, one edit after the other, so that what it knows is what there is. The world's
own word decides what is right (`verdict`); this history only says which events, titles and times there ever were, and
how often an event came into a calendar and went out of it.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from demo.provider import Json
from storm.provider import RemoteCalendar, Users

QUARTERS = (12, 25 * 96)
"""Where events begin, in quarters of an hour from now: nothing begins or leaves the window meanwhile."""
BEYOND_DAYS = 60
RULES = ("FREQ=DAILY;COUNT=9", "FREQ=WEEKLY", "FREQ=WEEKLY;BYDAY=MO,TH;COUNT=12")
WEIGHTS = {
    "create": 18,
    "rename": 22,
    "retime": 16,
    "relocate": 8,
    "relink": 6,
    "doubt": 3,
    "delete": 9,
    "restore": 4,
    "leave": 4,
    "start_series": 2,
    "rename_series": 2,
    "retime_series": 1,
    "delete_series": 1,
    "split_series": 1,
    "rename_occurrence": 3,
    "move_occurrence": 3,
    "cancel_occurrence": 3,
}


@dataclass(slots=True)
class Entry:
    """A single event or a series, and what was ever done to it."""

    id: str
    calendar: RemoteCalendar
    is_series: bool
    start: datetime
    is_deleted: bool = False
    has_days: bool = False
    """Whether it was ever held in dates."""
    titles: set[str] = field(default_factory=set)
    starts: set[datetime] = field(default_factory=set)
    came: Counter[str] = field(default_factory=Counter)
    """By calendar: how many edits can have made it, or an occurrence of it, appear there."""
    went: Counter[str] = field(default_factory=Counter)
    """By calendar: how many can have made it vanish."""


History = dict[str, Entry]
"""By the provider's id, which an event keeps when it moves."""


class Editor:
    """Edits a few calendars."""

    def __init__(
        self, users: Users, calendars: Sequence[RemoteCalendar], history: History, *, number: int, seed: int
    ) -> None:
        self._users = users
        self._calendars = calendars
        self._history = history
        self._number = number
        self._chance = random.Random(f"{seed}/{number}")
        self._now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        self._entries: list[Entry] = []
        self._titles = 0

    async def fill(self, *, singles: int) -> None:
        """What the calendars have before anybody connects them."""
        for calendar in self._calendars:
            for _ in range(singles):
                await self._create(calendar)
            await self._start_series(calendar)

    async def edit(self) -> None:
        """One edit; a new event where the dice ask for what is not there."""
        kind = self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        calendar = self._chance.choice(self._calendars)
        if kind == "start_series":
            await self._start_series(calendar)
            return
        edits: dict[str, tuple[Callable[[Entry], Awaitable[None]], bool]] = {
            "rename": (self._rename, False),
            "retime": (self._retime, False),
            "relocate": (self._relocate, False),
            "relink": (self._relink, False),
            "doubt": (self._doubt, False),
            "delete": (self._delete, False),
            "restore": (self._restore, False),
            "leave": (self._leave, False),
            "rename_series": (self._rename, True),
            "retime_series": (self._retime_series, True),
            "delete_series": (self._delete, True),
            "split_series": (self._split, True),
            "rename_occurrence": (self._rename_occurrence, True),
            "move_occurrence": (self._move_occurrence, True),
            "cancel_occurrence": (self._cancel_occurrence, True),
        }
        work, is_of_series = edits.get(kind, (None, False))
        found = [
            entry
            for entry in self._entries
            if entry.calendar is calendar
            and entry.is_deleted is (kind == "restore")
            and (entry.is_series is is_of_series or kind in {"restore", "leave"})
        ]
        if work is None or not found:
            await self._create(calendar)
        else:
            await work(self._chance.choice(found))

    # --- new ones ---

    async def _create(self, calendar: RemoteCalendar) -> None:
        title, start = self._title(), self._start()
        draft: Json = {"title": title, **_times(start, minutes=self._chance.choice((30, 60, 90)))}
        if is_in_days := self._chance.random() < 0.1:
            day = start.astimezone(calendar.zone).date()
            draft |= {"start": _day(day), "end": _day(day + timedelta(days=1))}
        if self._chance.random() < 0.3:
            draft["conference"] = self._conference(calendar)
        if self._chance.random() < 0.2:
            draft["description"] = f"Agenda of {title}"
        event_id = await self._users.create(calendar.id, **draft)
        entry = Entry(event_id, calendar, False, start, has_days=is_in_days, titles={title}, starts={start})
        self._add(entry)

    async def _start_series(self, calendar: RemoteCalendar) -> None:
        title, start = self._title(), self._start() - timedelta(days=self._chance.randint(0, 20))
        event_id = await self._users.create(
            calendar.id,
            title=title,
            **_times(start),
            time_zone=calendar.zone.key,
            recurrence=[f"RRULE:{self._chance.choice(RULES)}"],
        )
        self._add(Entry(event_id, calendar, True, start, titles={title}))

    def _add(self, entry: Entry) -> None:
        entry.came[entry.calendar.id] += 1
        self._entries.append(entry)
        self._history[entry.id] = entry

    # --- single events, and some of series too ---

    async def _rename(self, entry: Entry) -> None:
        entry.titles.add(title := self._title())
        await self._users.update(entry.calendar.id, entry.id, title=title)

    async def _retime(self, entry: Entry) -> None:
        """Now and then out of the window, and back the next time."""
        entry.start = self._start()
        if self._chance.random() < 0.08:
            entry.start += timedelta(days=BEYOND_DAYS)
            entry.went[entry.calendar.id] += 1
        entry.came[entry.calendar.id] += 1
        entry.starts.add(entry.start)
        await self._users.update(entry.calendar.id, entry.id, **_times(entry.start))

    async def _relocate(self, entry: Entry) -> None:
        await self._users.update(entry.calendar.id, entry.id, location=f"Room {self._chance.randint(1, 999)}")

    async def _relink(self, entry: Entry) -> None:
        await self._users.update(entry.calendar.id, entry.id, conference=self._conference(entry.calendar))

    async def _doubt(self, entry: Entry) -> None:
        status = self._chance.choice(("tentative", "confirmed"))
        await self._users.update(entry.calendar.id, entry.id, status=status)

    async def _delete(self, entry: Entry) -> None:
        entry.went[entry.calendar.id] += 1
        entry.is_deleted = True
        await self._users.delete(entry.calendar.id, entry.id)

    async def _restore(self, entry: Entry) -> None:
        entry.came[entry.calendar.id] += 1
        entry.is_deleted = False
        await self._users.restore(entry.calendar.id, entry.id)

    async def _leave(self, entry: Entry) -> None:
        """To the other calendar of the same person, and perhaps back again."""
        source = entry.calendar
        destination = next(c for c in self._calendars if c.email == source.email and c is not source)
        entry.went[source.id] += 1
        entry.came[destination.id] += 1
        entry.calendar = destination
        await self._users.move(source.id, entry.id, destination.id)

    # --- series ---

    async def _retime_series(self, entry: Entry) -> None:
        entry.went[entry.calendar.id] += 1
        entry.came[entry.calendar.id] += 1
        entry.start += timedelta(minutes=15 * self._chance.randint(1, 8))
        await self._users.update(entry.calendar.id, entry.id, **_times(entry.start))

    async def _split(self, entry: Entry) -> None:
        one = await self._occurrence(entry)
        if one is None:
            return
        entry.went[entry.calendar.id] += 1
        title, at = self._title(), one["original_start"]
        event_id = await self._users.split(entry.calendar.id, entry.id, at, title=title)
        self._add(Entry(event_id, entry.calendar, True, datetime.fromisoformat(at), titles={title}))

    async def _rename_occurrence(self, entry: Entry) -> None:
        if one := await self._occurrence(entry):
            entry.titles.add(title := self._title())
            await self._users.update_occurrence(entry.calendar.id, entry.id, one["original_start"], title=title)

    async def _move_occurrence(self, entry: Entry) -> None:
        if one := await self._occurrence(entry):
            entry.came[entry.calendar.id] += 1
            times = _times(self._start())
            await self._users.update_occurrence(entry.calendar.id, entry.id, one["original_start"], **times)

    async def _cancel_occurrence(self, entry: Entry) -> None:
        if one := await self._occurrence(entry):
            entry.went[entry.calendar.id] += 1
            await self._users.cancel_occurrence(entry.calendar.id, entry.id, one["original_start"])

    async def _occurrence(self, entry: Entry) -> Json | None:
        """Any of those to come; where there is none, all of the series gets another title instead."""
        span = (self._now + timedelta(hours=3), self._now + timedelta(days=25))
        shown = await self._users.occurrences(entry.calendar.id, entry.id, *span)
        if shown:
            return self._chance.choice(sorted(shown, key=lambda one: str(one["original_start"])))
        await self._rename(entry)
        return None

    # --- what the dice say ---

    def _title(self) -> str:
        self._titles += 1
        return f"Meeting {self._number}-{self._titles}"

    def _start(self) -> datetime:
        return self._now + timedelta(minutes=15 * self._chance.randint(*QUARTERS))

    def _conference(self, calendar: RemoteCalendar) -> Json:
        if calendar.provider == "microsoft":
            number = self._chance.randint(10**9, 10**10 - 1)
            return {"kind": "teams", "url": f"https://teams.microsoft.com/meet/{number}?p=Zq{number % 9973}"}
        letters = "".join(self._chance.choices("abcdefghijkmnpqrstuvwxyz", k=10))
        return {"kind": "meet", "url": f"https://meet.google.com/{letters[:3]}-{letters[3:7]}-{letters[7:]}"}


def _times(start: datetime, *, minutes: int = 60) -> Json:
    return {"start": start.isoformat(), "end": (start + timedelta(minutes=minutes)).isoformat()}


def _day(day: date) -> str:
    return day.isoformat()
