"""Edits of every kind that a user can make, chosen by numbers, so that a failing example shrinks to simple ones.

Each function looks at what there is and does the nearest thing to what it was asked for; nothing where there is
nothing to do it with.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sandbox.model import Attendee, Conference, Event, EventDraft, Moment, OriginalStart, Person
from sandbox.world import World

_T = TypeVar("_T")

LINKS = (
    Conference("meet", "https://meet.google.com/abc-defg-hij"),
    Conference("teams", "https://teams.microsoft.com/l/meetup-join/19%3ameeting_abc/0"),
    Conference("zoom", "https://example.zoom.us/j/123456789"),
    Conference("teams", "https://teams.microsoft.com/l/meetup-join/19%3ameeting_xyz/0", pending=True),
)
RULES = (
    "FREQ=DAILY;COUNT=5",
    "FREQ=WEEKLY",
    "FREQ=WEEKLY;COUNT=6",
    "FREQ=DAILY;INTERVAL=9",
    "FREQ=WEEKLY;BYDAY=MO,TH;COUNT=8",
)
ANSWERS = ("accepted", "declined", "tentative", "needsAction")
VISIBILITIES = ("private", "default", "confidential", "public")
GUEST = "guest@example.com"
CHIEF = Person("chief@example.com", "Chief")


class Editor:
    """Somebody at their calendars. `hours` are from now; other numbers choose, and wrap around."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._titles = 0

    def _title(self, what: str) -> str:
        self._titles += 1
        return f"{what} {self._titles}"

    def now(self) -> datetime:
        """To the second, as calendars are."""
        return self._world.clock.now().replace(microsecond=0)

    def events(self, calendar_id: str) -> list[Event]:
        """What is there."""
        return [versions[-1] for versions in self._world.versions[calendar_id].values() if versions[-1].is_live]

    def newest(self, calendar_id: str) -> int:
        """The place of the event that was edited last."""
        events = self.events(calendar_id)
        return max(range(len(events)), key=lambda place: events[place].seq, default=0)

    def times(self, hours: float, length: float, *, is_all_day: bool) -> tuple[Moment, Moment]:
        """Start and end; of whole days, at least one."""
        start = self.now() + timedelta(hours=hours)
        if is_all_day:
            return start.date(), start.date() + timedelta(days=1 + int(length) // 24)
        return start, start + timedelta(hours=length)

    def add(self, calendar_id: str, hours: float, length: float, kind: int) -> str:
        """A single event: plain, of whole days, a meeting, with a link, or with something else of its own."""
        account = self._world.calendar(calendar_id).owner
        kinds: list[dict[str, Any]] = [
            {},
            {},
            {"attendees": (Attendee(account), Attendee(GUEST, "Guest")), "organizer": CHIEF},
            {"conference": LINKS[kind % len(LINKS)]},
            {"status": "tentative", "location": "Room 1"},
            {"visibility": "private", "description": "Not for everybody"},
            {"transparency": "transparent"},
        ]
        details = kinds[kind % len(kinds)]
        start, end = self.times(hours, length, is_all_day=kind % len(kinds) == 1)
        draft = EventDraft(title=self._title("Event"), start=start, end=end, **details)
        return self._world.create_event(calendar_id, draft).id

    def add_series(self, calendar_id: str, hours: float, kind: int) -> str:
        """A series, every other one of whole days where `kind` says so."""
        start, end = self.times(hours, 1, is_all_day=kind % 4 == 3)
        rule = RULES[kind % len(RULES)]
        link = LINKS[kind % len(LINKS)] if kind % 3 == 2 else None
        draft = EventDraft(
            title=self._title("Series"), start=start, end=end, recurrence=(f"RRULE:{rule}",), conference=link
        )
        return self._world.create_event(calendar_id, draft).id

    def change(self, calendar_id: str, which: int, kind: int) -> str:
        """Something about an event or a whole series that is not its times."""
        event = pick(self.events(calendar_id), which)
        if event is None:
            return "nothing"
        changes = self._changes(event, kind)
        self._world.update_event(calendar_id, event.id, **changes)
        return f"{event.title}: {', '.join(changes) or 'touched'}"

    def _changes(self, event: Event, kind: int) -> dict[str, Any]:
        turn = kind // 9
        kinds: list[dict[str, Any]] = [
            {"title": self._title("Renamed")},
            {"location": ("Room 2", None, "Room 3")[turn % 3]},
            {"description": ("Bring biscuits", None)[turn % 2]},
            {"attendees": answered(event.attendees, turn), "organizer": CHIEF},
            {"conference": (None, *LINKS)[turn % (1 + len(LINKS))]},
            {"visibility": VISIBILITIES[turn % len(VISIBILITIES)]},
            {"status": ("tentative", "confirmed")[turn % 2]},
            {"called_off": not event.called_off} if event.id_style == "immutable" else {},
            {"transparency": ("transparent", "opaque")[turn % 2]},
        ]
        return kinds[kind % 9]

    def there_and_back(self, calendar_id: str, which: int) -> str:
        """Changed and changed back: nobody should hear of it."""
        event = pick(self.events(calendar_id), which)
        if event is None:
            return "nothing"
        self._world.update_event(calendar_id, event.id, title="For a moment")
        self._world.update_event(calendar_id, event.id, title=event.title)
        return str(event.title)

    def retime(self, calendar_id: str, which: int, hours: float, length: float, *, is_all_day: bool) -> str:
        """Move an event or a whole series, perhaps into the window or out of it."""
        event = pick(self.events(calendar_id), which)
        if event is None:
            return "nothing"
        start, end = self.times(hours, min(length, 20), is_all_day=is_all_day)
        self._world.update_event(calendar_id, event.id, start=start, end=end)
        return str(event.title)

    def delete(self, calendar_id: str, which: int) -> str:
        """An event or a whole series."""
        event = pick(self.events(calendar_id), which)
        if event is None:
            return "nothing"
        self._world.delete_event(calendar_id, event.id)
        return str(event.title)

    def delete_first(self, calendar_id: str) -> str:
        """The one that began first: it may have become too old to be kept in sync."""
        events = sorted(self.events(calendar_id), key=lambda event: str(event.start))
        if not events:
            return "nothing"
        self._world.delete_event(calendar_id, events[0].id)
        return f"the first, {events[0].title}"

    def restore(self, calendar_id: str, which: int) -> str:
        """One that was deleted, but not moved away."""
        newest = [versions[-1] for versions in self._world.versions[calendar_id].values()]
        event = pick([one for one in newest if one.deleted and one.moved_to is None], which)
        if event is None:
            return "nothing"
        self._world.restore_event(calendar_id, event.id)
        return str(event.title)

    def move(self, calendar_id: str, which: int, destination: str) -> str:
        """To another calendar, once."""
        event = pick(self.events(calendar_id), which)
        if event is None or event.id in self._world.versions[destination]:
            return "nothing"
        self._world.move_event(calendar_id, event.id, destination)
        return str(event.title)

    def occurrence(self, calendar_id: str, which: int, place: int, kind: int, hours: float) -> str:
        """One occurrence alone: renamed, moved, cancelled, or where its series is split."""
        series = pick([one for one in self.events(calendar_id) if one.is_series], which)
        original = pick(self._originals(series), place) if series is not None else None
        if series is None or original is None:
            return "nothing"
        world, what = self._world, ("renamed", "moved", "cancelled", "split", "answered")[kind % 5]
        if what == "renamed":
            world.update_instance(calendar_id, series.id, original, title=self._title("Exception"))
        elif what == "moved":
            start, end = self.times(hours, 1, is_all_day=series.is_all_day)
            world.update_instance(calendar_id, series.id, original, start=start, end=end)
        elif what == "cancelled":
            world.cancel_instance(calendar_id, series.id, original)
        elif what == "split":
            world.split_series(calendar_id, series.id, original, title=self._title("Split"))
        else:
            guests = answered(series.attendees, place)
            world.update_instance(calendar_id, series.id, original, attendees=guests)
        return f"{series.title} at {original}: {what}"

    def _originals(self, series: Event) -> Sequence[OriginalStart]:
        now = self.now()
        shown = self._world.instances(series.calendar_id, now - timedelta(days=2), now + timedelta(days=35))
        found = [one.original_start for one in shown if one.series_id == series.id and one.original_start is not None]
        return sorted(found, key=str)


def answered(guests: tuple[Attendee, ...], turn: int) -> tuple[Attendee, ...]:
    """One guest answers; two are invited where nobody was, and nobody remains where the number says so."""
    if not guests:
        return (Attendee(GUEST, "Guest"), Attendee("second@example.com", response=ANSWERS[turn % 4]))
    if turn % 5 == 4:
        return ()
    chosen = turn % len(guests)
    first = guests[chosen]
    changed = Attendee(first.email, first.name, ANSWERS[(turn + 1) % 4], first.optional)
    return (*guests[:chosen], changed, *guests[chosen + 1 :])


def pick(things: Sequence[_T], number: int) -> _T | None:
    """One of them; None where there is none."""
    return things[number % len(things)] if things else None
