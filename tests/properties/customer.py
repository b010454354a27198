"""A modelled customer: one who believes the messages, and two who page through the lists with a watermark.

Each keeps a picture of the calendars by the rules of the documentation alone. In the end every picture has to be the
same, and each message has to fit the ones before it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sandbox.sink import Received
from tests.harness import Actor

Json = dict[str, Any]

EARLIEST = "2000-01-01T00:00:00Z"


@dataclass(slots=True)
class Reader:
    """Follows a list: of one calendar or (without one) of the whole project, by `updated_after`; or by `after_seq`."""

    actor: Actor
    calendar_id: str | None
    by_number: bool = False
    rows: dict[str, Json] = field(default_factory=dict)
    watermark: str = EARLIEST
    position: int = 0
    news: list[Json] = field(default_factory=list)
    """Rows as they were read, until somebody has judged them."""

    async def read(self, *, limit: int, is_ascending: bool = False, pages: int | None = None) -> None:
        """Page through what is new. Only an ascending walk may stop half way: its watermark is where it stopped."""
        params: Json = {"limit": limit}
        if self.calendar_id is not None:
            params["calendar_id"] = self.calendar_id
        if self.by_number:
            params["after_seq"] = self.position
        else:
            params |= {"updated_after": self.watermark, "ordering": "updated_at" if is_ascending else "-updated_at"}
        answer = await self.actor.call("GET", "/calendar_events", params=params)
        greatest, seen = self.watermark, 1
        while True:
            for row in answer["results"]:
                self._take(row)
                greatest = max(greatest, row["updated_at"])
            if self.by_number:
                self.position = answer["position"]
            is_enough = pages is not None and seen >= pages and (is_ascending or self.by_number)
            if answer["next"] is None or is_enough:
                break
            answer = await self.actor.call("GET", answer["next"].partition("/api/v1")[2])
            seen += 1
        self.watermark = greatest

    def _take(self, row: Json) -> None:
        known = self.rows.get(row["id"])
        if known is None or known["change_seq"] <= row["change_seq"]:
            self.rows[row["id"]] = row
        if known is None or known["change_seq"] != row["change_seq"]:
            self.news.append(row)

    def live(self, calendar_id: str) -> dict[str, Json]:
        """What it believes to be there."""
        return {
            key: row for key, row in self.rows.items() if row["calendar_id"] == calendar_id and not row["is_deleted"]
        }


@dataclass(slots=True)
class Told:
    """What one calendar's messages come to, put in order of their numbers."""

    live: set[str] = field(default_factory=set)
    values: dict[str, Json] = field(default_factory=dict)
    """By event: the last value of each field that a message gave."""
    last: int = 0
    entries: list[tuple[Json, Json]] = field(default_factory=list)
    """Each entry with the message it came in."""
    holes: set[int] = field(default_factory=set)
    """Numbers that a truncated message left out: to be read in the feed."""


class Inconsistent(AssertionError):
    """The messages contradict themselves."""


def unique(received: Iterable[Received]) -> list[Received]:
    """Each message once, by its id; the same id always brings the same body, and is acknowledged in the end."""
    found: dict[str, Received] = {}
    acknowledged: set[str] = set()
    for one in received:
        if not one.valid:
            raise Inconsistent(f"a signature does not hold: {one.message_id}")
        first = found.setdefault(one.message_id, one)
        if first.body != one.body or one.body["idempotency_key"] != one.message_id:
            raise Inconsistent(f"one id, two messages: {one.message_id}")
        if one.status < 300:
            acknowledged.add(one.message_id)
    if missing := found.keys() - acknowledged:
        raise Inconsistent(f"given up before they were acknowledged: {sorted(missing)}")
    return list(found.values())


def replay(messages: Iterable[Received], calendar_id: str) -> Told:
    """Go through a calendar's messages in order of their numbers, which must join without a gap."""
    bodies = [m.body for m in messages if m.body["calendar_id"] == calendar_id]
    told = Told()
    for body in sorted(
        (b for b in bodies if b["trigger"] == "calendar.events_update" and b["data"]["from_seq"] is not None),
        key=lambda b: int(b["data"]["from_seq"]),
    ):
        _take(told, body)
    return told


def _take(told: Told, body: Json) -> None:
    data = body["data"]
    if data["from_seq"] != told.last + 1:
        raise Inconsistent(f"after number {told.last} comes {data['from_seq']}")
    numbers = [entry["change_seq"] for entry in data["events"]]
    missing = set(range(data["from_seq"], data["to_seq"] + 1)) - set(numbers)
    if len(set(numbers)) != len(numbers) or set(numbers) - set(range(data["from_seq"], data["to_seq"] + 1)):
        raise Inconsistent(f"numbers {numbers} in a message from {data['from_seq']} to {data['to_seq']}")
    if bool(missing) is not data["truncated"]:
        raise Inconsistent(f"truncated is {data['truncated']}, missing are {sorted(missing)}")
    told.holes |= missing
    for entry in sorted(data["events"], key=lambda e: int(e["change_seq"])):
        told.entries.append((entry, body))
        _apply(told, entry)
    told.last = data["to_seq"]


def _apply(told: Told, entry: Json) -> None:
    key, change = entry["id"], entry["change"]
    if (key in told.live) is (change == "created") and not told.holes:
        raise Inconsistent(f"{change} of an event that is {'' if key in told.live else 'not '}there: {entry}")
    if change == "deleted":
        told.live.discard(key)
        told.values.pop(key, None)
        return
    if change == "created":
        told.values[key] = {}
    told.live.add(key)
    if change == "updated" and not entry["fields"]:
        raise Inconsistent(f"an update of nothing: {entry}")
    values = told.values.setdefault(key, {})
    for name, field_change in entry["fields"].items():
        if field_change is None:
            values.pop(name, None)
            continue
        is_checked = name in values and name != "attendees" and not told.holes
        if is_checked and values[name] != field_change["from"]:
            raise Inconsistent(
                f"{name} was {values[name]!r}, and is said to have been {field_change['from']!r}: {entry}"
            )
        values[name] = field_change["to"]


def states(messages: Iterable[Received], calendar_id: str) -> list[tuple[str, str]]:
    """A calendar's transitions (from, to) as told, in order of time."""
    bodies = [m.body for m in messages if m.body["calendar_id"] == calendar_id]
    told = sorted((b for b in bodies if b["trigger"] == "calendar.state_change"), key=lambda b: str(b["timestamp"]))
    return [(b["data"]["previous_state"], b["data"]["state"]) for b in told]
