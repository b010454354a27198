"""Google's two ways to say when (`dateTime`, `date`) as instants, with zones loaded once.

Guarantees aware UTC instants, days that begin when the zone's day begins (also where daylight saving skips midnight),
and Unreadable instead of a guess: a time without an offset needs a zone that we know.
"""

from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

_FIRST_YEAR, _LAST_YEAR = 1970, 2200
"""Years outside are a broken client's (0001-01-01 is common), and would break date arithmetic further on."""


class Unreadable(Exception):
    """An item cannot be mapped; `reason` is the code it is parked with."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Moment(NamedTuple):
    """One end of an event. `day` is None unless it was sent as a date; `zone` is the known zone that it names."""

    at: datetime
    day: date | None
    zone: str | None


def moment(value: object, *, zone: str, what: Literal["start", "end", "original_start"]) -> Moment:
    """Read `start`, `end` or `originalStartTime` ("Events" resource). `zone` is where a date's midnight is.

    Unreadable: `…_missing`, `…_invalid`, `date_out_of_range`.
    """
    if not isinstance(value, dict):
        raise Unreadable(f"{what}_missing" if value is None else f"{what}_invalid")
    named = value.get("timeZone")
    own_zone = known_zone(named) if named is not None else None
    stamp = value.get("dateTime")
    if stamp is not None:
        return Moment(_instant(stamp, own_zone, what), None, own_zone)
    day = value.get("date")
    if day is None:
        raise Unreadable(f"{what}_missing")
    parsed = _day(day, what)
    return Moment(_midnight(parsed, zone), parsed, own_zone)


def known_zone(name: object) -> str | None:
    """The name if it is an IANA zone's; None otherwise, never an error."""
    return name if isinstance(name, str) and _zone(name) is not None else None


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo | None:
    if not 1 <= len(name) <= 64 or not name.isascii():
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, malformed, or the name of a folder
        return None


def _instant(stamp: object, zone: str | None, what: str) -> datetime:
    # fromisoformat also reads week dates and bare days; RFC 3339 has the T at one place.
    if not isinstance(stamp, str) or len(stamp) < 16 or stamp[10] not in "Tt":
        raise Unreadable(f"{what}_invalid")
    try:
        parsed = datetime.fromisoformat(stamp)
    except ValueError as exc:
        raise Unreadable(f"{what}_invalid") from exc
    if not _FIRST_YEAR <= parsed.year <= _LAST_YEAR:
        raise Unreadable("date_out_of_range")
    if parsed.tzinfo is None:
        known = _zone(zone) if zone else None
        if known is None:
            raise Unreadable(f"{what}_invalid")
        parsed = parsed.replace(tzinfo=known)
    return parsed.astimezone(UTC)


def _day(value: object, what: str) -> date:
    if not isinstance(value, str) or len(value) != 10:
        raise Unreadable(f"{what}_invalid")
    try:
        day = date.fromisoformat(value)
    except ValueError as exc:
        raise Unreadable(f"{what}_invalid") from exc
    if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise Unreadable("date_out_of_range")
    return day


@lru_cache(maxsize=4096)
def _midnight(day: date, zone: str) -> datetime:
    # Where the clocks skip midnight, the offset before the change still makes this the day's first instant.
    return datetime.combine(day, time(), tzinfo=_zone(zone) or UTC).astimezone(UTC)
