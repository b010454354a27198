"""Graph's `dateTimeTimeZone` as aware UTC instants and as days, and its three ways to name a zone.

Graph is asked for UTC, so a zone's name matters for all-day events and for showing alone. Windows names become IANA
names by Unicode's table; what has no IANA name (`tzone://Microsoft/Custom`) is unknown, never an error.
"""

from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Literal

from tzlocal.windows_tz import win_tz

from app.providers.items import Unreadable
from app.providers.zones import FIRST_YEAR, LAST_YEAR, day_of, known_zone, zone_of

What = Literal["start", "end", "original_start"]


@lru_cache(maxsize=1024)
def iana_zone(name: str) -> str | None:
    """`Pacific Standard Time`, `Europe/Berlin` or `tzone://Microsoft/Utc` as an IANA name; None where there is none."""
    if name == "tzone://Microsoft/Utc":
        return "UTC"
    return known_zone(win_tz.get(name, name))


def zone_named(value: object) -> str | None:
    """The same for any value."""
    return iana_zone(value) if isinstance(value, str) and 0 < len(value) <= 64 else None


def instant(value: object, what: What) -> datetime:
    """A `dateTimeTimeZone`: the time without an offset, its zone beside it. Unreadable."""
    fields = _fields(value, what)
    stamp = _stamp(fields.get("dateTime"), what)
    if stamp.tzinfo is None:
        zone = zone_named(fields.get("timeZone"))
        known = zone_of(zone) if zone is not None else None
        if known is None:
            raise Unreadable(f"{what}_invalid")
        stamp = stamp.replace(tzinfo=known)
    return stamp.astimezone(UTC)


def day(value: object, what: What) -> date:
    """The date of an all-day event's start or end: midnight as written, whatever the zone beside it says."""
    stamp = _fields(value, what).get("dateTime")
    return day_of(stamp[:10] if isinstance(stamp, str) else None, what)


def moment(value: object, what: What) -> datetime:
    """An RFC 3339 time with offset, such as `originalStart`. Unreadable."""
    stamp = _stamp(value, what)
    return (stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC)).astimezone(UTC)


def _fields(value: object, what: What) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unreadable(f"{what}_missing" if value is None else f"{what}_invalid")
    return value


def _stamp(value: object, what: What) -> datetime:
    # Seven digits of a second, as Graph sends them, are read; what is beyond a microsecond is cut.
    if not isinstance(value, str) or len(value) < 16 or value[10] not in "Tt":
        raise Unreadable(f"{what}_missing" if value is None else f"{what}_invalid")
    try:
        stamp = datetime.fromisoformat(value)
    except ValueError as exc:
        raise Unreadable(f"{what}_invalid") from exc
    if not FIRST_YEAR <= stamp.year <= LAST_YEAR:
        raise Unreadable("date_out_of_range")
    return stamp
