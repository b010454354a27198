"""iCalendar rules as Graph's patterned recurrence: one pattern, one range ("recurrencePattern", "recurrenceRange").

A rule that Outlook cannot express (hourly, several weeks of a month) is ValueError: no Outlook calendar can hold it.
"""

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sandbox.model import Event

_DAYS = {
    "MO": "monday",
    "TU": "tuesday",
    "WE": "wednesday",
    "TH": "thursday",
    "FR": "friday",
    "SA": "saturday",
    "SU": "sunday",
}
_WEEKDAYS = list(_DAYS.values())
_INDEX = {1: "first", 2: "second", 3: "third", 4: "fourth", -1: "last"}
_NEVER = "0001-01-01"


def patterned(event: Event, zone_name: str) -> dict[str, Any] | None:
    """The `recurrence` of a master; None for what does not recur. `zone_name` is written into the range."""
    line = next((line for line in event.recurrence if line.upper().startswith("RRULE")), None)
    if line is None:
        return None
    rule = dict(part.split("=", 1) for part in line.partition(":")[2].upper().split(";"))
    first = first_day(event)
    return {"pattern": _pattern(rule, first), "range": _range(rule, first, event, zone_name)}


def first_day(event: Event) -> date:
    """The day on which the series begins, in its own zone."""
    if isinstance(event.start, datetime):
        return event.start.astimezone(ZoneInfo(event.time_zone or "UTC")).date()
    return event.start


def _pattern(rule: dict[str, str], first: date) -> dict[str, Any]:
    frequency = rule["FREQ"]
    days = [_DAYS[day[-2:]] for day in rule.get("BYDAY", "").split(",") if day]
    pattern: dict[str, Any] = {
        "type": "daily",
        "interval": int(rule.get("INTERVAL", "1")),
        "month": 0,
        "dayOfMonth": 0,
        "daysOfWeek": days or [_WEEKDAYS[first.weekday()]],
        "firstDayOfWeek": _DAYS[rule.get("WKST", "SU")],
        "index": "first",
    }
    if not days and frequency != "WEEKLY":
        del pattern["daysOfWeek"]
    if frequency == "DAILY" and not days:
        return pattern
    if frequency in {"DAILY", "WEEKLY"}:
        return pattern | {"type": "weekly"}
    if frequency not in {"MONTHLY", "YEARLY"}:
        raise ValueError(f"Outlook has no series that repeats {frequency}")
    reach = "Monthly" if frequency == "MONTHLY" else "Yearly"
    month = int(rule.get("BYMONTH", str(first.month))) if reach == "Yearly" else 0
    if not days:
        day = int(rule.get("BYMONTHDAY", str(first.day)))
        return pattern | {"type": f"absolute{reach}", "month": month, "dayOfMonth": day}
    place = rule.get("BYSETPOS") or rule["BYDAY"].split(",")[0][:-2] or "1"
    return pattern | {"type": f"relative{reach}", "month": month, "index": _INDEX[int(place)]}


def _range(rule: dict[str, str], first: date, event: Event, zone_name: str) -> dict[str, Any]:
    kind, last, count = "noEnd", _NEVER, 0
    if "COUNT" in rule:
        kind, count = "numbered", int(rule["COUNT"])
    elif "UNTIL" in rule:
        kind, last = "endDate", _day_of(rule["UNTIL"], event).isoformat()
    return {
        "type": kind,
        "startDate": first.isoformat(),
        "endDate": last,
        "recurrenceTimeZone": zone_name,
        "numberOfOccurrences": count,
    }


def _day_of(text: str, event: Event) -> date:
    day = date.fromisoformat(text[:8])
    if not text.endswith("Z"):
        return day
    moment = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return moment.astimezone(ZoneInfo(event.time_zone or "UTC")).date()
