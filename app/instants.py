"""How an instant is written wherever a customer sees one: RFC 3339, UTC, always six digits, so it sorts as text."""

from datetime import UTC, datetime

_WHOLE_SECONDS = "%04d-%02d-%02dT%02d:%02d:%02d.000000Z"


def instant(at: datetime | None) -> datetime | str | None:
    """For orjson with OPT_UTC_Z.

    orjson writes a datetime seven times as fast as Python, but leaves out a fraction of zero.
    """
    if at is None:
        return None
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    if at.microsecond:
        return at
    return _WHOLE_SECONDS % (at.year, at.month, at.day, at.hour, at.minute, at.second)
