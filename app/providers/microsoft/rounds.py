"""What a delta round of Graph is worth: enough to be applied as it is, or only the news that something changed.

Single events come full, and so can be applied. Of a series Graph sends the master, its occurrences without their
content, and for a deleted occurrence nothing; a tombstone does not say what it was. So whatever touches a series sends
the run to the window's listing, which completes nothing by guesswork. What the listing cannot tell, that an event was
moved out of the window rather than deleted, is looked up either way. Pure but for what it is handed.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.errors import RoundTooLarge
from app.providers.base import Item, Known, RemoteEvent, Tombstone, Window
from app.providers.microsoft.mapping import kind_of

LOOKED_UP_MOST = 20
"""Tombstones of events that are looked up one by one; more of them cost more than the listing, and are left to it."""
_STALE_PAGES = 3


@dataclass(frozen=True, slots=True)
class ListedPage:
    """A page of the window's listing; the last one carries the delta link."""

    entries: list[object]
    cursor: str | None
    is_first: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """A round's changed single events, and the stored events whose tombstones are to be looked up."""

    changed: Mapping[str, object]
    removed: Sequence[str]
    is_enough: bool
    """Whether that is all there is to the round; else the window has to be listed."""


@dataclass(frozen=True, slots=True)
class Told:
    """The items that a round tells of; all of them where it is enough, else those that no listing shows."""

    items: tuple[Item, ...]
    is_enough: bool


class Progress:
    """Notices a listing that never ends: too many pages, or pages that bring nothing new."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pages = 0
        self._stale = 0
        self._seen: set[str] = set()

    def check(self, entries: Iterable[object]) -> None:
        """Before the next page is asked for. RoundTooLarge."""
        ids = {key for key in map(id_of, entries) if key is not None}
        fresh = ids - self._seen
        self._pages += 1
        self._stale = self._stale + 1 if ids and not fresh else 0  # an empty page is normal
        self._seen |= fresh
        if self._pages >= self._most or self._stale >= _STALE_PAGES:
            raise RoundTooLarge("the listing does not come to an end")


def id_of(entry: object) -> str | None:
    """The id of an entry; None where it has none."""
    key = entry.get("id") if isinstance(entry, dict) else None
    return key if isinstance(key, str) else None


def removed_ids(entries: Iterable[object]) -> tuple[str, ...]:
    """What a delta round says is gone: events, or a whole series by its master."""
    return tuple(key for entry in entries if kind_of(entry) == "removed" and (key := id_of(entry)) is not None)


async def judge(entries: Iterable[object], known: Known) -> Verdict:
    """Whether the round is about single events alone.

    Of an id that comes twice the last entry counts. A tombstone of something that is not stored is noise: Graph sends
    one for every edit outside the window.
    """
    last: dict[str, object] = {}
    for entry in entries:
        key = id_of(entry)
        if key is None:
            return Verdict({}, (), is_enough=False)
        last.pop(key, None)
        last[key] = entry
    changed = {key: entry for key, entry in last.items() if kind_of(entry) != "removed"}
    stored = await known([key for key in last if key not in changed])
    removed = [key for key, what in stored.items() if what != "series"]
    is_few = len(removed) <= LOOKED_UP_MOST
    is_single = all(kind_of(entry) == "singleInstance" for entry in changed.values())
    is_enough = is_few and is_single and all(what == "single" for what in stored.values())
    return Verdict(changed, removed if is_few else (), is_enough)


async def complete(
    verdict: Verdict,
    look_up: Callable[[str], Awaitable[object]],
    read: Callable[[object], Item],
    *,
    window: Window,
) -> Told:
    """The round after its look-ups. One that contradicts its tombstone sends the run to the listing.

    An event that is still there, with times outside the window, has left it; one that is not there is gone.
    """
    gone: list[Item] = []
    left: list[Item] = []
    is_enough = verdict.is_enough
    for event_id in verdict.removed:
        entry = await look_up(event_id)
        item = None if entry is None else read(entry)
        if item is None:
            gone.append(Tombstone(event_id))
        elif isinstance(item, RemoteEvent) and not window.overlaps(item.start_time, item.end_time):
            left.append(item)
        else:
            is_enough = False
    if not is_enough:
        return Told(tuple(left), is_enough=False)
    changed = [read(entry) for entry in verdict.changed.values()]
    return Told((*changed, *gone, *left), is_enough=True)
