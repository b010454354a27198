"""Zones and days, as both providers name them: loaded once, never an error.

Guarantees that a day begins when its zone's day begins (also where daylight saving skips midnight) and that years which
only a broken client sends (0001-01-01 is common) are refused, because they would break date arithmetic further on.
"""

from datetime import UTC, date, datetime, time
from functools import lru_cache
from zoneinfo import ZoneInfo

from app.providers.items import Unreadable

FIRST_YEAR, LAST_YEAR = 1970, 2200


def known_zone(name: object) -> str | None:
    """The name if it is an IANA zone's; None otherwise, never an error."""
    return name if isinstance(name, str) and zone_of(name) is not None else None


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo | None:
    """The IANA zone of this name; None where there is none."""
    if not 1 <= len(name) <= 64 or not name.isascii():
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, malformed, or the name of a folder
        return None


def day_of(value: object, what: str) -> date:
    """`YYYY-MM-DD`. Unreadable `…_invalid`, `date_out_of_range`."""
    if not isinstance(value, str) or len(value) != 10:
        raise Unreadable(f"{what}_invalid")
    try:
        day = date.fromisoformat(value)
    except ValueError as exc:
        raise Unreadable(f"{what}_invalid") from exc
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise Unreadable("date_out_of_range")
    return day


@lru_cache(maxsize=4096)
def midnight(day: date, zone: str) -> datetime:
    """When the day begins in the zone (UTC where it is unknown), as UTC."""
    # Where the clocks skip midnight, the offset before the change still makes this the day's first instant.
    return datetime.combine(day, time(), tzinfo=zone_of(zone) or UTC).astimezone(UTC)
