"""What users do with their meetings. `minutes` are from now; other numbers choose, and wrap around."""

from datetime import timedelta
from itertools import count

from sandbox.model import Conference, Event, EventDraft
from sandbox.world import World
from tests.properties.edits import Editor, pick

KINDS = (
    "add",
    "add",
    "copy",
    "series",
    "move",
    "move",
    "lengthen",
    "relink",
    "relink",
    "unlink",
    "rename",
    "cancel",
    "cancel",
    "delete",
    "restore",
    "occurrence",
)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Meetings:
    """Somebody at their calendars, whose meetings have links that no other has."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._editor = Editor(world)
        self._made = count(1)

    def link(self, number: int) -> Conference:
        """A link that nobody has yet: at Google Meet, Zoom or Teams."""
        made = next(self._made)
        kind = ("meet", "zoom", "teams")[number % 3]
        if kind == "zoom":
            return Conference("zoom", f"https://example.zoom.us/j/{95_000_000_000 + made}")
        if kind == "teams":
            return Conference("teams", f"https://teams.microsoft.com/l/meetup-join/19%3ameeting_{made}/0")
        letters = "".join(_LETTERS[made // 26**place % 26] for place in range(4))
        return Conference("meet", f"https://meet.google.com/bot-{letters}-xyz")

    def events(self, calendar: str) -> list[Event]:
        """What is there."""
        return self._editor.events(calendar)

    def restore_last(self, calendar: str) -> str:
        """What went last comes back."""
        gone = self._gone(calendar)
        last = max(range(len(gone)), key=lambda place: gone[place].seq, default=0)
        return self._restore(calendar, last)

    def edit(self, kind: str, calendar: str, which: int, *, minutes: float, length: float, number: int) -> str:
        """One edit; the nearest thing to what was asked for. What was done, in words."""
        if kind == "series":
            return self._add(calendar, minutes, min(length, 60), number, recurrence=("RRULE:FREQ=DAILY;COUNT=3",))
        if kind == "copy":
            return self._copy(calendar, which)
        if kind == "add" or not self._world.versions[calendar]:
            return self._add(calendar, minutes, length, number)
        if kind == "restore":
            return self._restore(calendar, which)
        event = pick(self._editor.events(calendar), which)
        if event is None:
            return "nothing"
        if kind == "occurrence" and event.is_series:
            return self._editor.occurrence(calendar, 0, number // 5, number, minutes / 60)
        return self._change(kind, calendar, event, minutes=minutes, length=length, number=number)

    def _add(
        self, calendar: str, minutes: float, length: float, number: int, *, recurrence: tuple[str, ...] = ()
    ) -> str:
        start = self._editor.now() + timedelta(minutes=minutes)
        link = None if number % 7 == 6 else self.link(number)
        title = f"Meeting {next(self._made)}"
        end = start + timedelta(minutes=length)
        draft = EventDraft(title=title, start=start, end=end, conference=link, recurrence=recurrence)
        self._world.create_event(calendar, draft)
        return f"{title} in {minutes} minutes for {length}"

    def _copy(self, calendar: str, which: int) -> str:
        """What an invitation is: the same meeting in another calendar, by the same iCalendar id."""
        others = [one for other in self._world.versions if other != calendar for one in self._editor.events(other)]
        there = {one.ical_uid for one in self._editor.events(calendar)}
        event = pick([one for one in others if one.ical_uid not in there and not one.is_series], which)
        return "nothing" if event is None else self.copy_to(calendar, event)

    def copy_to(self, calendar: str, event: Event) -> str:
        """An invitation to this meeting."""
        draft = EventDraft(
            title=event.title, start=event.start, end=event.end, conference=event.conference, ical_uid=event.ical_uid
        )
        self._world.create_event(calendar, draft)
        return f"{event.title} from another calendar"

    def _gone(self, calendar: str) -> list[Event]:
        newest = [versions[-1] for versions in self._world.versions[calendar].values()]
        return [one for one in newest if not one.is_live or one.called_off]

    def _restore(self, calendar: str, which: int) -> str:
        event = pick(self._gone(calendar), which)
        if event is None:
            return "nothing"
        if event.deleted:
            self._world.restore_event(calendar, event.id)
        else:
            self._world.update_event(calendar, event.id, status="confirmed", called_off=False)
        return str(event.title)

    def _change(self, kind: str, calendar: str, event: Event, *, minutes: float, length: float, number: int) -> str:
        world, told = self._world, f"{event.title}"
        if kind == "move":
            start = self._editor.now() + timedelta(minutes=minutes)
            world.update_event(calendar, event.id, start=start, end=start + timedelta(minutes=min(length, 600)))
            told += f" to in {minutes} minutes"
        elif kind == "lengthen" and isinstance(event.start, type(event.end)):
            world.update_event(calendar, event.id, end=event.start + timedelta(minutes=min(length, 600)))
            told += f" for {length} minutes"
        elif kind == "relink":
            world.update_event(calendar, event.id, conference=self.link(number))
        elif kind == "unlink":
            world.update_event(calendar, event.id, conference=None)
        elif kind == "delete":
            world.delete_event(calendar, event.id)
        elif kind == "cancel":
            is_google = event.id_style == "classic"
            world.update_event(calendar, event.id, **({"status": "cancelled"} if is_google else {"called_off": True}))
        else:
            world.update_event(calendar, event.id, title=f"{event.title} again")
        return told
