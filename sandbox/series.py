"""Series expanded into instances: by rule in the event's own time zone, so that clocks may change in between.

An instance is named by its original start (a UTC instant, or a date for all-day series), which never changes, however
it is moved. Expansion is lazy and unlimited; callers bound it by a window or a count.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from itertools import islice
from typing import cast
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rruleset, rrulestr

from sandbox import ids
from sandbox.model import DRAFT_FIELDS, Event, Instance, Moment, OriginalStart

ENDLESS = 730
"""Instances that a touched series shows at most in a delta: an endless one would never end."""


def instances(event: Event, *, limit: int = ENDLESS) -> Iterator[Instance]:
    """All instances of a series by original start, cancelled ones too; a single event is its own only one."""
    if not event.is_series:
        yield single(event)
        return
    for original in islice(_originals(event), limit):
        yield occurrence(event, original)


def within(event: Event, start: datetime, end: datetime, zone: ZoneInfo) -> Iterator[Instance]:
    """Instances that overlap the span, exclusive on both sides; moved ones by where they are now."""
    if not event.is_series:
        if overlaps(single(event), start, end, zone):
            yield single(event)
        return
    length = _length(event)
    seen = set()
    for original in _originals(event, after=start - length - timedelta(days=2)):
        if _instant(original, zone) > end + timedelta(days=2):
            break
        seen.add(original)
        shown = occurrence(event, original)
        if overlaps(shown, start, end, zone):
            yield shown
    for original in event.overrides:
        if original not in seen and is_original(event, original):
            shown = occurrence(event, original)
            if overlaps(shown, start, end, zone):
                yield shown


def single(event: Event) -> Instance:
    """A single event as what a calendar shows."""
    return Instance(
        **{name: getattr(event, name) for name in DRAFT_FIELDS},
        event_id=event.id,
        calendar_id=event.calendar_id,
        series_id=None,
        original_start=None,
        created=event.created,
        updated=event.updated,
        seq=event.seq,
        sequence=event.sequence,
        live=event.is_live,
    )


def occurrence(event: Event, original: OriginalStart) -> Instance:
    """One instance of a series, with what was changed on it alone."""
    override = event.overrides.get(original)
    shown = Instance(
        **{name: getattr(event, name) for name in DRAFT_FIELDS if name not in {"start", "end", "recurrence"}},
        start=original,
        end=_end_of(event, original),
        event_id=instance_id(event, original),
        calendar_id=event.calendar_id,
        series_id=event.id,
        original_start=original,
        created=event.created,
        updated=event.updated,
        seq=event.base_seq,
        sequence=event.sequence,
        live=event.is_live,
    )
    if override is None:
        return shown
    return replace(
        shown,
        **override.changes,
        live=event.is_live and not override.cancelled,
        seq=max(override.seq, event.base_seq),
        updated=max(override.updated, event.updated) if override.seq < event.base_seq else override.updated,
        is_exception=True,
    )


def is_original(event: Event, original: OriginalStart) -> bool:
    """Whether the rule (still) has this instance."""
    after = _naive(event, original)
    for found in _originals(event, after=None, naive_after=after - timedelta(seconds=1)):
        return found == original
    return False


def count_before(event: Event, at: OriginalStart) -> int:
    """How many instances the rule has before this one."""
    count = 0
    for original in _originals(event):
        if str(original) >= str(at):
            break
        count += 1
    return count


def instance_id(event: Event, original: OriginalStart) -> str:
    """Google's form of today (`<master>_20261121T090000Z`), or an opaque one where the event's `id_style` says so."""
    if event.id_style == "immutable":
        return ids.immutable(f"{event.id}|{original}")
    if event.id_style != "classic":
        return sha256(f"{event.id}|{original}".encode()).hexdigest()[:26]
    if isinstance(original, datetime):
        return f"{event.id}_{original.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    return f"{event.id}_{original:%Y%m%d}"


def overlaps(shown: Instance, start: datetime, end: datetime, zone: ZoneInfo) -> bool:
    """Exclusive on both sides: it ends after `start` and begins before `end`."""
    return _instant(shown.end, zone) > start and _instant(shown.start, zone) < end


def _instant(moment: Moment, zone: ZoneInfo) -> datetime:
    if isinstance(moment, datetime):
        return moment
    return datetime.combine(moment, time(), zone)


def _length(event: Event) -> timedelta:
    return event.end - event.start


def _end_of(event: Event, original: OriginalStart) -> Moment:
    """Same length on the wall clock: an hour's meeting stays an hour's meeting when clocks change."""
    if isinstance(original, datetime) and isinstance(event.start, datetime) and isinstance(event.end, datetime):
        return original + (event.end - event.start)
    return original + _length(event)


def _zone(event: Event) -> ZoneInfo:
    return ZoneInfo(event.time_zone or "UTC")


def _naive(event: Event, moment: Moment) -> datetime:
    if isinstance(moment, datetime):
        return moment.astimezone(_zone(event)).replace(tzinfo=None)
    return datetime.combine(moment, time())


def _originals(
    event: Event, *, after: datetime | None = None, naive_after: datetime | None = None
) -> Iterator[OriginalStart]:
    rules = _rules(event)
    begin = naive_after if naive_after is not None else (_naive(event, after) if after is not None else None)
    found = rules.xafter(begin, inc=True) if begin is not None else iter(rules)
    zone = _zone(event)
    for wall in found:
        if isinstance(event.start, datetime):
            yield wall.replace(tzinfo=zone).astimezone(UTC)
        else:
            yield wall.date()


def _rules(event: Event) -> rruleset:
    first = _naive(event, event.start)
    rules = rruleset()
    for line in event.recurrence:
        name, _, value = line.partition(":")
        kind = name.partition(";")[0].upper()
        if kind == "RRULE":
            parsed = rrulestr(f"RRULE:{_local_until(event, value)}", dtstart=first)
            rules.rrule(cast("rrule", parsed))  # one RRULE line is never a set
        elif kind in {"EXDATE", "RDATE"}:
            for text in value.split(","):
                (rules.exdate if kind == "EXDATE" else rules.rdate)(_wall(event, text))
    return rules


def _local_until(event: Event, rule: str) -> str:
    """UNTIL is given in UTC; the rule runs on the wall clock."""
    parts = []
    for part in rule.split(";"):
        name, _, value = part.partition("=")
        if name.upper() == "UNTIL":
            value = f"{_wall(event, value):%Y%m%dT%H%M%S}"
        parts.append(f"{name}={value}")
    return ";".join(parts)


def _wall(event: Event, text: str) -> datetime:
    if len(text) == 8:
        return datetime.combine(date.fromisoformat(text), time())
    if text.endswith("Z"):
        return (
            datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).astimezone(_zone(event)).replace(tzinfo=None)
        )
    return datetime.strptime(text, "%Y%m%dT%H%M%S")  # noqa: DTZ007 - a wall clock
