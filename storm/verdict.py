"""What the storm concludes about one calendar, as functions of what was seen: pure, so that a test can show them lies.

lost      events that the API lacks; numbers that no acknowledged message covers; events whose last change, or the
          content of it, was not told by one
stale     events that the API shows otherwise than the provider, or that are gone there
invented  what never was: events, titles and times that nobody made, more appearances or deletions than there were edits
          that can have caused them, a deletion of what is alive, a message whose signature does not hold
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from demo import verdict
from demo.application import Message
from demo.provider import Json
from storm.edits import Entry, History
from storm.provider import RemoteCalendar

Span = tuple[datetime, datetime]


@dataclass(slots=True)
class Judgement:
    """What is wrong, one line each."""

    lost: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing is."""
        return not (self.lost or self.stale or self.invented)

    def add(self, other: "Judgement") -> None:
        """Take another calendar's in."""
        self.lost += other.lost
        self.stale += other.stale
        self.invented += other.invented


def judge(
    calendar: RemoteCalendar,
    *,
    listed: Sequence[Json],
    shown: Sequence[Json],
    span: Span,
    messages: Sequence[Message],
    history: History,
) -> Judgement:
    """One calendar: `listed` by the API, deleted ones too, `shown` by the provider within the span, and what was told.

    `messages` are the acknowledged ones, each once.
    """
    found = Judgement()
    _compare(found, calendar, listed, shown, span, history)
    spans = [message.span for message in messages if message.span is not None]
    gaps = verdict.breaks(max((event["change_seq"] for event in listed), default=0), spans)
    found.lost += gaps
    found.invented += [f"{m.id} is signed wrongly" for m in messages if not m.is_valid]
    entries = sorted((e for m in messages for e in m.data["events"]), key=lambda e: int(e["change_seq"]))
    told: dict[str, list[Json]] = {}
    for entry in entries:
        told.setdefault(entry["id"], []).append(entry)
    truncated = [m.span for m in messages if m.data["truncated"] and m.span is not None]
    rows = {event["id"]: event for event in listed}
    found.invented += [f"{id_} was told of, and the API does not know it" for id_ in told.keys() - rows.keys()]
    for id_, row in rows.items():
        news = told.get(id_, [])
        if not any(first <= row["change_seq"] <= last for first, last in truncated):
            found.lost += _untold(row, news)
        found.invented += _never_done(row, news, calendar, history, is_whole=not truncated and not gaps)
    return found


def _compare(
    found: Judgement,
    calendar: RemoteCalendar,
    listed: Sequence[Json],
    shown: Sequence[Json],
    span: Span,
    history: History,
) -> None:
    theirs = {instance["event_id"]: instance for instance in shown}
    live = {event["platform_uuid"]: event for event in listed if not event["is_deleted"] and _overlaps(event, span)}
    gone = {event["platform_uuid"] for event in listed if event["is_deleted"]}
    for key, instance in theirs.items():
        if key in live:
            found.stale += verdict.differences([live[key]], [instance], span, calendar.zone)
        elif key in gone:
            found.invented.append(f"{key} {instance['title']!r} was deleted, and is alive at the provider")
        else:
            found.lost.append(f"{key} {instance['title']!r} is missing")
    for key in live.keys() - theirs.keys():
        is_known = _of(live[key], history) is not None
        (found.stale if is_known else found.invented).append(f"{key} {live[key]['name']!r} is shown, and is not there")


def _untold(row: Json, news: Sequence[Json]) -> list[str]:
    """What of an event's last state no message told."""
    name = f"{row['platform_uuid']} {row['name']!r}"
    if not news or news[-1]["change_seq"] != row["change_seq"]:
        return [f"{name}: its change {row['change_seq']} was not told"]
    if (news[-1]["change"] == "deleted") is not row["is_deleted"]:
        return [f"{name}: was told as {news[-1]['change']}, is_deleted is {row['is_deleted']}"]
    last: dict[str, Any] = {}
    for entry in news:
        values = {field: value["to"] for field, value in entry["fields"].items() if _has_values(field, value)}
        last = values if entry["change"] == "created" else last | values
    return [f"{name}: {field} was told as {to!r}, is {row[field]!r}" for field, to in last.items() if row[field] != to]


def _never_done(
    row: Json, news: Sequence[Json], calendar: RemoteCalendar, history: History, *, is_whole: bool
) -> Iterable[str]:
    """What messages told of an event that nobody did to it. `is_whole`: they tell everything."""
    entry, name = _of(row, history), f"{row['platform_uuid']} {row['name']!r}"
    if entry is None:
        yield f"{name} was never made"
        return
    is_there = False
    for one in news:
        if is_whole and is_there is (one["change"] == "created"):
            yield f"{name}: {one['change']}, and was {'there' if is_there else 'not there'}"
        is_there = one["change"] != "deleted"
        yield from (f"{name}: {text}" for text in _never_said(one, entry))
    for change, most in (("created", entry.came[calendar.id]), ("deleted", entry.went[calendar.id])):
        number = sum(one["change"] == change for one in news)
        if number > most:
            yield f"{name}: told {number} times that it was {change}, which {most} edits can have done"


def _never_said(one: Json, entry: Entry) -> Iterable[str]:
    title = one["fields"].get("name")
    if title is not None and title["to"] not in entry.titles:
        yield f"was told to be called {title['to']!r}"
    start = one["fields"].get("start_time")
    if start is None or entry.is_series or entry.has_days:
        return
    if datetime.fromisoformat(start["to"]) not in entry.starts:
        yield f"was told to start at {start['to']}"


def _has_values(name: str, value: object) -> bool:
    return value is not None and name != "attendees"


def _of(row: Json, history: History) -> Entry | None:
    return history.get(row["series_id"] or row["platform_uuid"])


def _overlaps(event: Json, span: Span) -> bool:
    start, end = (datetime.fromisoformat(event[name]) for name in ("start_time", "end_time"))
    return end > span[0] and start < span[1]
