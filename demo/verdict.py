"""What the demo concludes, as functions of what was seen: pure, so that a test can show them false evidence.

changes         sequence numbers that Punctual has given out, over all calendars
delivered       of these, how many lie within a message that was acknowledged and whose signature holds
lost            the others, and the edits at the provider that never became a change
stale           events that the API shows otherwise than the provider, does not show, or shows too much
bad signatures  attempts whose signature or timestamp the receiver refused

Beyond these figures, each calendar's messages must join: the next one begins where the one before it ended.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

Json = dict[str, Any]
Span = tuple[int, int]

_RESPONSES = {"needsAction": "needs_action"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures of the last line, and what is wrong, one line each."""

    changes: int
    delivered: int
    lost: int
    stale: int
    bad_signatures: int
    flaws: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether everything arrived, once, and is right."""
        figures = (self.lost, self.stale, self.bad_signatures)
        return self.changes > 0 and self.changes == self.delivered and not any(figures) and not self.flaws

    def __str__(self) -> str:
        return (
            f"demo: {self.changes} changes, {self.delivered} delivered, {self.lost} lost, {self.stale} stale,"
            f" {self.bad_signatures} bad signatures"
        )


def covered(highest: int, spans: Iterable[Span]) -> int:
    """How many of the numbers from 1 to `highest` lie within a span."""
    numbers: set[int] = set()
    for first, last in spans:
        numbers.update(range(max(1, first), min(highest, last) + 1))
    return len(numbers)


def breaks(highest: int, spans: Sequence[Span]) -> list[str]:
    """Where the spans do not join from 1 to `highest`, in words."""
    found = []
    expected = 1
    for first, last in sorted(spans):
        if first != expected:
            found.append(f"a message begins with {first} where {expected} was due")
        expected = last + 1
    if expected != highest + 1:
        found.append(f"the messages end with {expected - 1}, the calendar is at {highest}")
    return found


def differences(
    listed: Iterable[Json], shown: Iterable[Json], span: tuple[datetime, datetime], zone: ZoneInfo
) -> list[str]:
    """How the API's live events differ from the provider's instances within the span, one line per event."""
    ours = {event["platform_uuid"]: event for event in listed if _overlaps(event, span)}
    theirs = {instance["event_id"]: instance for instance in shown}
    found = [f"{key} {instance['title']!r} is missing" for key, instance in theirs.items() if key not in ours]
    for key, event in ours.items():
        if key not in theirs:
            found.append(f"{key} {event['name']!r} is shown, and is gone at the provider")
            continue
        wrong = _wrong_fields(event, theirs[key], zone)
        if wrong:
            found.append(f"{key} {event['name']!r}: {', '.join(wrong)}")
    return found


def _wrong_fields(event: Json, instance: Json, zone: ZoneInfo) -> list[str]:
    expected = {
        "name": instance["title"] or None,
        "description": instance["description"] or None,
        "location": instance["location"] or None,
        "status": instance["status"],
        "visibility": instance["visibility"],
        "series_id": instance["series_id"],
        "original_start_time": _instant(instance["original_start"], zone),
        "start_time": _instant(instance["start"], zone),
        "end_time": _instant(instance["end"], zone),
        "start_date": _day(instance["start"]),
        "end_date": _day(instance["end"]),
        "is_all_day": _day(instance["start"]) is not None,
        "attendees": [
            (a["email"], a["name"], _RESPONSES.get(a["response"], a["response"]), a["optional"])
            for a in instance["attendees"]
        ],
    }
    told = {name: event[name] for name in expected}
    for name in ("start_time", "end_time", "original_start_time"):
        told[name] = None if told[name] is None else datetime.fromisoformat(told[name])
    told["attendees"] = [(a["email"], a["name"], a["response_status"], a["optional"]) for a in event["attendees"]]
    if instance["conference_url"] is not None:  # elsewhere a link is read out of text, which the provider does not do
        expected["meeting_url"], told["meeting_url"] = instance["conference_url"], event["meeting_url"]
    return [f"{name} is {told[name]!r}, not {value!r}" for name, value in expected.items() if told[name] != value]


def _overlaps(event: Json, span: tuple[datetime, datetime]) -> bool:
    """Exclusive on both sides, as the provider's listing."""
    start, end = (datetime.fromisoformat(event[name]) for name in ("start_time", "end_time"))
    return end > span[0] and start < span[1]


def _instant(text: str | None, zone: ZoneInfo) -> datetime | None:
    """A date begins at midnight of the calendar's zone."""
    if text is None:
        return None
    if _day(text) is not None:
        return datetime.combine(date.fromisoformat(text), time(), zone).astimezone(UTC)
    return datetime.fromisoformat(text)


def _day(text: str) -> str | None:
    return text if len(text) == len("2026-11-21") else None
