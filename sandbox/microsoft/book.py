"""Which ids the items of a mailbox have, and which item an id means.

An event has two: the immutable one (as in the world), and the ordinary one, which follows from the calendar too and so
changes when the event moves to another. Either is accepted in a request, whatever it prefers ("Outlook immutable IDs").
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sandbox import ids, series
from sandbox.microsoft.preferences import Preferences
from sandbox.model import Calendar, Event, Instance, OriginalStart
from sandbox.world import UnknownError, World


@dataclass(frozen=True, slots=True)
class Found:
    """An event, or (with `original`) one occurrence of it."""

    calendar: Calendar
    event: Event
    original: OriginalStart | None = None

    @property
    def shown(self) -> Instance:
        """As a calendar shows it; for a master, what stands in its first place."""
        if self.original is None:
            return series.single(self.event)
        return series.occurrence(self.event, self.original)


class Book:
    """Remembers every id that was handed out."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ordinary: dict[tuple[str, str], str] = {}
        self._meant: dict[str, tuple[str, str]] = {}
        self._occurrences: dict[str, tuple[str, OriginalStart]] = {}

    def name(self, calendar: Calendar, item_id: str, prefs: Preferences) -> str:
        """The id to show for an item of this calendar."""
        if prefs.immutable:
            return item_id
        key = (calendar.id, item_id)
        known = self._ordinary.get(key)
        if known is None:
            personal = self._world.accounts[calendar.owner].personal
            known = self._ordinary[key] = ids.item(f"{calendar.id}|{item_id}", personal=personal)
            self._meant[known] = key
        return known

    def note(self, shown: Instance) -> None:
        """Remember which occurrence an id means."""
        if shown.series_id is not None and shown.original_start is not None:
            self._occurrences[shown.event_id] = (shown.series_id, shown.original_start)

    def find(self, text: str, calendars: Iterable[Calendar]) -> Found | None:
        """The live item of these calendars that the id means; None when there is none, or none any more."""
        place, item_id = self._meant.get(text, (None, text))
        for calendar in calendars:
            if place in {None, calendar.id}:
                found = self._find(calendar, item_id)
                if found is not None and found.event.is_live and found.shown.live:
                    return found
        return None

    def _find(self, calendar: Calendar, item_id: str) -> Found | None:
        if item_id in self._world.versions[calendar.id]:
            return Found(calendar, self._world.event(calendar.id, item_id))
        known = self._occurrences.get(item_id)
        if known is not None:
            try:
                event = self._world.event(calendar.id, known[0])
            except UnknownError:
                return None
            return Found(calendar, event, known[1]) if series.is_original(event, known[1]) else None
        return self._search(calendar, item_id)

    def _search(self, calendar: Calendar, item_id: str) -> Found | None:
        """An occurrence that was never shown: look through every series."""
        for versions in self._world.versions[calendar.id].values():
            if versions[-1].is_series:
                for shown in series.instances(versions[-1]):
                    if shown.event_id == item_id:
                        return Found(calendar, versions[-1], shown.original_start)
        return None
