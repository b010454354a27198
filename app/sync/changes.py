"""What a round changes: the provider's items against the stored rows. Pure.

The diff is taken on what a customer can see (`content`, by its digest), never on the provider's etag or
update time, so a page that is applied twice, or an edit that was undone, announces nothing. Whether an event counts is
decided by one window, exclusive on both sides, in the same way here, in SQL and in the provider's listing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson

from app.providers.base import Item, Parked, RemoteEvent, Tombstone, Window
from app.sync import content

ChangeKind = Literal["created", "updated", "deleted"]

_WITH_VALUES = (
    "name",
    "start_time",
    "end_time",
    "start_date",
    "end_date",
    "is_all_day",
    "status",
    "meeting_url",
    "own_response_status",
)
"""Fields whose old and new values go into the message."""

_KIND_OF = {
    "name": "renamed",
    "start_time": "rescheduled",
    "end_time": "rescheduled",
    "start_date": "rescheduled",
    "end_date": "rescheduled",
    "is_all_day": "rescheduled",
    "meeting_url": "link_changed",
    "meeting_platform": "link_changed",
    "location": "relocated",
    "visibility": "visibility_changed",
    "own_response_status": "responses_changed",
}

_CONSEQUENCES = {"is_exception", "meeting_candidates", "meeting_choice"}
"""Fields that follow from others: they make no kind of their own beside them."""

_OWN_KINDS = {"status", "attendees"}
"""Fields whose values decide the kind."""

_RESPONSES_SHOWN = 20

_Attendee = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredRow:
    """What the diff needs of a stored event."""

    id: UUID
    platform_uuid: str
    series_id: str | None
    content_hash: bytes
    is_deleted: bool
    deletion_kind: str | None
    start_time: datetime
    end_time: datetime


@dataclass(slots=True)
class Change:
    """One change to commit. `event` is the new state; None where only the row's id is known to be gone."""

    change: ChangeKind
    row: StoredRow | None
    event: RemoteEvent | None
    content: str | None
    content_hash: bytes | None
    kinds: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)


def diff(items: Mapping[str, Item], stored: Iterable[StoredRow], *, window: Window, is_full: bool) -> list[Change]:
    """The changes a round makes, deletions first. `stored` holds every row that the round can touch.

    Of a full listing, live rows inside the window that it lacks are gone; of a delta, absence says nothing.
    """
    rows = {row.platform_uuid: row for row in stored}
    deleted: list[Change] = []
    others: list[Change] = []
    for item in items.values():
        if isinstance(item, RemoteEvent):
            change = _event_change(item, rows.get(item.platform_uuid), window)
            if change is not None:
                (deleted if change.change == "deleted" else others).append(change)
    gone = {key for key, item in items.items() if isinstance(item, Tombstone)}
    for row in rows.values():
        if row.is_deleted or not window.overlaps(row.start_time, row.end_time):
            continue
        item_of_row = items.get(row.platform_uuid)
        is_named = row.platform_uuid in gone or (item_of_row is None and row.series_id in gone)
        if is_named or (is_full and item_of_row is None):
            deleted.append(Change("deleted", row, None, None, None))
    return deleted + others


def _event_change(event: RemoteEvent, row: StoredRow | None, window: Window) -> Change | None:
    is_inside = window.overlaps(event.start_time, event.end_time)
    if row is None:
        return _change("created", row, event) if is_inside else None
    if row.is_deleted:
        if not is_inside:
            return None
        return _change("created", row, event, "entered_window" if row.deletion_kind == "left_window" else "restored")
    if is_inside:
        change = _change("updated", row, event)
        return None if change.content_hash == row.content_hash else change
    if window.overlaps(row.start_time, row.end_time):
        return _change("deleted", row, event, "left_window")
    return None


def _change(change: ChangeKind, row: StoredRow | None, event: RemoteEvent, *kinds: str) -> Change:
    shown = content.render(event)
    return Change(change, row, event, shown.text, shown.digest, kinds)


def describe(before: str, after: str, *, is_guest_list_cut: bool = False) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Kinds and fields of an update, from the content as it was and as it is.

    Times, status, link, name and responses come as {"from", "to"}; every other changed field is named, its value null.
    Nobody is said to be gone from a guest list that is not whole.
    """
    old, new = orjson.loads(before), orjson.loads(after)
    changed = [name for name in new if old.get(name) != new[name]]
    fields: dict[str, Any] = {
        name: {"from": old.get(name), "to": new[name]} if name in _WITH_VALUES else None for name in changed
    }
    kinds = {_KIND_OF.get(name, "details_changed") for name in fields.keys() - _CONSEQUENCES - _OWN_KINDS}
    if "status" in fields:
        kinds.add("cancelled" if new["status"] == "cancelled" else "details_changed")
    if "attendees" in fields:
        responses, attendee_kinds = _attendees(old["attendees"], new["attendees"], is_cut=is_guest_list_cut)
        fields["attendees"] = responses
        kinds |= attendee_kinds
    if fields and not kinds:
        kinds.add("details_changed")
    return tuple(sorted(kinds)), fields


def _attendees(old: list[_Attendee], new: list[_Attendee], *, is_cut: bool) -> tuple[dict[str, Any] | None, set[str]]:
    """Who answered differently (None where too many did, or nobody), and what kinds that makes."""
    before = {_who(attendee): attendee["response_status"] for attendee in old}
    after = {_who(attendee): attendee["response_status"] for attendee in new}
    answered = sorted(who for who in before.keys() & after.keys() if before[who] != after[who])
    kinds = {"responses_changed"} if answered else set()
    is_news = not after.keys() <= before.keys() if is_cut else before.keys() != after.keys() or not answered
    if is_news:
        kinds.add("attendees_changed")
    if not 0 < len(answered) <= _RESPONSES_SHOWN:
        return None, kinds
    return {"from": {who: before[who] for who in answered}, "to": {who: after[who] for who in answered}}, kinds


def _who(attendee: _Attendee) -> str:
    return str(attendee["email"] or attendee["name"] or "")


def is_ambiguous(found: Iterable[Change]) -> bool:
    """Whether a delta may have left something out: of a deleted series, Google cancels some occurrences only."""
    gone = Counter(c.row.series_id for c in found if c.change == "deleted" and c.event is None and c.row)
    return any(count > 1 for series, count in gone.items() if series is not None)


def overlapping(found: Iterable[Change], window: Window | None) -> list[Change]:
    """The changes inside a window: what entered because the window moved is not among them."""
    if window is None:
        return []
    return [
        c for c in found if c.row is not None or (c.event and window.overlaps(c.event.start_time, c.event.end_time))
    ]


def parked(items: Mapping[str, Item]) -> list[Parked]:
    """The items of a round that could not be parsed."""
    return [item for item in items.values() if isinstance(item, Parked)]
