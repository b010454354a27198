"""What a round changes: the provider's items against the stored rows. Pure.

The diff is taken on what a customer can see (a hash over the normalised event), never on the provider's etag or
update time, so a page that is applied twice, or an edit that was undone, announces nothing. Whether an event counts is
decided by one window, exclusive on both sides, in the same way here, in SQL and in the provider's listing.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

import orjson

from app.providers.base import Item, Parked, RemoteEvent, Tombstone, Window

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

_BY_NAME = (
    "ical_uid",
    "description",
    "location",
    "time_zone",
    "visibility",
    "transparency",
    "event_type",
    "organizer",
    "creator",
    "series_id",
    "original_start_time",
    "is_exception",
    "meeting_platform",
    "meeting_candidates",
    "html_link",
)
"""Fields that the message only names."""

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

_CONSEQUENCES = {"is_exception", "meeting_candidates"}
"""Fields that follow from others: they make no kind of their own beside them."""

_RESPONSES_SHOWN = 20


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
    content_hash: bytes | None
    kinds: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)


def content_hash(event: RemoteEvent) -> bytes:
    """16 bytes over everything of the event that a customer can see, except `raw`."""
    visible = orjson.dumps(
        (
            event.ical_uid,
            event.name,
            event.description,
            event.location,
            event.start_time,
            event.end_time,
            event.is_all_day,
            event.start_date,
            event.end_date,
            event.time_zone,
            event.status,
            event.visibility,
            event.transparency,
            event.event_type,
            event.organizer,
            event.creator,
            event.attendees,
            event.own_response_status,
            event.series_id,
            event.original_start_time,
            event.is_exception,
            event.meeting_url,
            event.meeting_platform,
            event.meeting_candidates,
            event.html_link,
        ),
        option=orjson.OPT_UTC_Z,
    )
    return hashlib.blake2b(visible, digest_size=16).digest()


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
            deleted.append(Change("deleted", row, None, None))
    return deleted + others


def _event_change(event: RemoteEvent, row: StoredRow | None, window: Window) -> Change | None:
    is_inside = window.overlaps(event.start_time, event.end_time)
    if row is None:
        return Change("created", None, event, content_hash(event)) if is_inside else None
    if row.is_deleted:
        if not is_inside:
            return None
        kind = "entered_window" if row.deletion_kind == "left_window" else "restored"
        return Change("created", row, event, content_hash(event), (kind,))
    if is_inside:
        digest = content_hash(event)
        return None if digest == row.content_hash else Change("updated", row, event, digest)
    if window.overlaps(row.start_time, row.end_time):
        return Change("deleted", row, event, content_hash(event), ("left_window",))
    return None


def describe(old: Mapping[str, Any], event: RemoteEvent) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Kinds and fields of an update. `old` has the stored values, nested ones as JSON values.

    Times, status, link, name and responses come as {"from", "to"}; every other changed field is named, its value null.
    """
    fields: dict[str, Any] = {}
    for name in _WITH_VALUES:
        before, after = _plain(old[name]), _plain(getattr(event, name))
        if before != after:
            fields[name] = {"from": before, "to": after}
    for name in _BY_NAME:
        if _plain(old[name]) != _plain(getattr(event, name)):
            fields[name] = None
    kinds = {_KIND_OF.get(name, "details_changed") for name in fields.keys() - _CONSEQUENCES - {"status"}}
    if "status" in fields:
        kinds.add("cancelled" if event.status == "cancelled" else "details_changed")
    kinds |= _attendee_kinds(old["attendees"] or [], event, fields)
    if fields and not kinds:
        kinds.add("details_changed")
    return tuple(sorted(kinds)), fields


def _attendee_kinds(old: list[dict[str, Any]], event: RemoteEvent, fields: dict[str, Any]) -> set[str]:
    new = _plain(event.attendees)
    if old == new:
        return set()
    before = {_who(a): a["response_status"] for a in old}
    after = {_who(a): a["response_status"] for a in new}
    answered = {who for who in before.keys() & after.keys() if before[who] != after[who]}
    fields["attendees"] = None
    if answered and len(answered) <= _RESPONSES_SHOWN:
        fields["attendees"] = {
            "from": {who: before[who] for who in sorted(answered)},
            "to": {who: after[who] for who in sorted(answered)},
        }
    kinds = {"responses_changed"} if answered else set()
    if before.keys() != after.keys() or not answered:
        kinds.add("attendees_changed")
    return kinds


def _who(attendee: dict[str, Any]) -> str:
    return str(attendee["email"] or attendee["name"] or "")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, str | bool | int | list | dict):
        return value
    return orjson.loads(orjson.dumps(value))


def parked(items: Mapping[str, Item]) -> list[Parked]:
    """The items of a round that could not be parsed."""
    return [item for item in items.values() if isinstance(item, Parked)]
