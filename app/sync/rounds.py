"""A round: all that one fetch brought, page after page, before anything is written. Pure."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.errors import RoundTooLarge
from app.providers.base import ChangePage, Item, RemoteEvent, Tombstone, Window

WINDOW_BEFORE = timedelta(days=1)
WINDOW_AFTER = timedelta(days=30)
MAX_ITEMS = 50_000
"""A window with more entries makes the calendar failing: too_large."""


@dataclass(slots=True)
class Round:
    """All pages of one fetch. Of an id that comes twice the last one counts."""

    items: dict[str, Item]
    window: Window
    is_full: bool
    """Whether absence counts: the whole window was listed."""
    is_anchored: bool
    """Whether the window is a new one. A delta that does not tell everything lists the old one."""
    is_told: bool = False
    """Whether the provider had anything to say since the cursor."""
    removed: set[str] = field(default_factory=set)
    """Events and series that a delta said were gone."""
    cursor: str | None = None
    name: str | None = None
    time_zone: str | None = None

    def add(self, page: ChangePage) -> None:
        """Take one page in. RoundTooLarge."""
        self.is_told = self.is_told or (not self.is_anchored and bool(page.items or page.starts_listing))
        if page.starts_listing:
            self.items.clear()
            self.is_full = True
            self.removed.update(page.removed)
        for item in page.items:
            self.items[item.platform_uuid] = item
            if isinstance(item, Tombstone):
                self.removed.add(item.platform_uuid)
        if len(self.items) > MAX_ITEMS:
            raise RoundTooLarge(f"more than {MAX_ITEMS} entries")
        self.cursor = page.cursor or self.cursor
        self.name = page.calendar_name or self.name
        self.time_zone = page.time_zone or self.time_zone

    def complete(self, delta: "Round") -> None:
        """Take over from a delta of the same run what a listing cannot tell: who is gone by the provider's word, and
        who only left the window."""
        self.removed |= delta.removed
        for key, item in delta.items.items():
            is_outside = isinstance(item, RemoteEvent) and not self.window.overlaps(item.start_time, item.end_time)
            if is_outside and key not in self.items:
                self.items[key] = item


def window_from(anchor: datetime) -> Window:
    """The span kept in sync until the next anchoring, about a day later.

    In whole seconds, like the bounds of a listing: else an event could be inside for the diff and outside for it.
    """
    anchor = anchor.replace(microsecond=0)
    return Window(anchor - WINDOW_BEFORE, anchor + WINDOW_AFTER)
