"""Google's two ways to say when (`dateTime`, `date`) as aware UTC instants.

Unreadable instead of a guess: a time without an offset needs a zone that we know.
"""

from datetime import UTC, date, datetime
from typing import Literal, NamedTuple

from app.providers.items import Unreadable
from app.providers.zones import FIRST_YEAR, LAST_YEAR, day_of, known_zone, midnight, zone_of


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
    parsed = day_of(day, what)
    return Moment(midnight(parsed, zone), parsed, own_zone)


def _instant(stamp: object, zone: str | None, what: str) -> datetime:
    # fromisoformat also reads week dates and bare days; RFC 3339 has the T at one place.
    if not isinstance(stamp, str) or len(stamp) < 16 or stamp[10] not in "Tt":
        raise Unreadable(f"{what}_invalid")
    try:
        parsed = datetime.fromisoformat(stamp)
    except ValueError as exc:
        raise Unreadable(f"{what}_invalid") from exc
    if not FIRST_YEAR <= parsed.year <= LAST_YEAR:
        raise Unreadable("date_out_of_range")
    if parsed.tzinfo is None:
        known = zone_of(zone) if zone else None
        if known is None:
            raise Unreadable(f"{what}_invalid")
        parsed = parsed.replace(tzinfo=known)
    return parsed.astimezone(UTC)
