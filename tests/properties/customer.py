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
    """Each entry with the message it came in: where there are several, the one that is no digest."""
    holes: set[int] = field(default_factory=set)
    """Numbers that truncated messages left out: to be read in the feed."""


class Inconsistent(AssertionError):
    """The messages contradict themselves."""


def unique(received: Iterable[Received]) -> list[Received]:
    """Each acknowledged message once, by its id; the same id always brings the same body.

    What was never acknowledged has to be told by a digest that was.
    """
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
    known = [one for key, one in found.items() if key in acknowledged]
    digests = [one.body for one in known if is_digest(one.body)]
    for key in found.keys() - acknowledged:
        if not any(_covers(digest, found[key].body) for digest in digests):
            raise Inconsistent(f"given up before it was acknowledged: {key}")
    return known


def is_digest(body: Json) -> bool:
    """Whether a message stands for others."""
    return body["trigger"] == "calendar.events_update" and body["data"]["digest_of_count"] is not None


def _covers(digest: Json, body: Json) -> bool:
    """Whether all that a message told is told by this digest; one without changes tells how the calendar stands."""
    if body["trigger"] != digest["trigger"] or body["calendar_id"] != digest["calendar_id"]:
        return False
    data, mine = body["data"], digest["data"]
    if data["from_seq"] is None:
        return bool(body["timestamp"] <= digest["timestamp"])
    return mine["from_seq"] is not None and bool(
        mine["from_seq"] <= data["from_seq"] and data["to_seq"] <= mine["to_seq"]
    )


def replay(messages: Iterable[Received], calendar_id: str) -> Told:
    """Go through a calendar's messages in order of their numbers: they leave no gap, and only digests overlap."""
    bodies = [m.body for m in messages if m.body["calendar_id"] == calendar_id]
    told, last_of_others = Told(), 0
    entries: dict[int, tuple[Json, Json]] = {}
    for body in sorted(
        (b for b in bodies if b["trigger"] == "calendar.events_update" and b["data"]["from_seq"] is not None),
        key=lambda b: int(b["data"]["from_seq"]),
    ):
        data = body["data"]
        if data["from_seq"] > told.last + 1:
            raise Inconsistent(f"after number {told.last} comes {data['from_seq']}")
        if not is_digest(body):
            if data["from_seq"] <= last_of_others:
                raise Inconsistent(
                    f"{data['from_seq']} comes again, up to {last_of_others} was told, and not by digests"
                )
            last_of_others = data["to_seq"]
        _collect(entries, body)
        told.last = max(told.last, data["to_seq"])
    for number in range(1, told.last + 1):
        if number not in entries:
            told.holes.add(number)
            continue
        told.entries.append(entries[number])
        _apply(told, entries[number][0])
    return told


def _collect(entries: dict[int, tuple[Json, Json]], body: Json) -> None:
    data = body["data"]
    numbers = [entry["change_seq"] for entry in data["events"]]
    missing = set(range(data["from_seq"], data["to_seq"] + 1)) - set(numbers)
    if len(set(numbers)) != len(numbers) or set(numbers) - set(range(data["from_seq"], data["to_seq"] + 1)):
        raise Inconsistent(f"numbers {numbers} in a message from {data['from_seq']} to {data['to_seq']}")
    if bool(missing) is not data["truncated"]:
        raise Inconsistent(f"truncated is {data['truncated']}, missing are {sorted(missing)}")
    for entry in data["events"]:
        known = entries.get(entry["change_seq"])
        if known is not None and known[0] != entry:
            raise Inconsistent(f"number {entry['change_seq']} is {known[0]} and {entry}")
        if known is None or not is_digest(body):
            entries[entry["change_seq"]] = (entry, body)


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
