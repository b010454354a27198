"""What the demo says: plain lines, in words."""

import sys
import textwrap
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

Json = dict[str, Any]

WIDTH = 120
DONE_WIDTH = 43
"""Of the column that says what was done at the provider."""


def say(line: str = "") -> None:
    """A line on stdout, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def row(who: str, done: str, after: str, told: str) -> str:
    """One line of the table, or more where much was told."""
    head = f"  {who:<10} {done:<{DONE_WIDTH}} {after:>9}   "
    return textwrap.fill(told, WIDTH, initial_indent=head, subsequent_indent=" " * len(head))


def milliseconds(seconds: float) -> str:
    """`1 085 ms`"""
    return f"{round(seconds * 1000):,} ms".replace(",", " ")


def change(entry: Json, event: Json, zone: ZoneInfo) -> str:
    """One entry of a message about an event that the API knows."""
    name = f'"{event["name"]}"'
    if entry["change"] != "updated":
        return f"{entry['change']} {name}"
    return f"{name} {', '.join(kind.replace('_', ' ') for kind in entry['kinds'])}{_values(entry['fields'], zone)}"


def summary(entries: list[Json], messages: int, *, is_truncated: bool) -> str:
    """Many entries, counted by kind."""
    counts = Counter(kind for entry in entries for kind in entry["kinds"] or [entry["change"]])
    kinds = ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in counts.most_common())
    more = " and more, too many for a message" if is_truncated else ""
    return f"{len(entries)} changes{more} in {messages} message{'s' if messages > 1 else ''}: {kinds}"


def trial(results: list[Json]) -> str:
    """What a dry run came to, counted by reason."""
    added = sum(one["effect"] == "add" for one in results)
    reasons = Counter(one["reason"].replace("_", " ") for one in results if one["effect"] != "add")
    others = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
    return f"stored nothing; of {len(results)} events {added} would get a bot. The others: {others}"


def decision(told: Json, rules: Mapping[str, str]) -> str:
    """Whether a bot will join, and why; `rules` names them by their ids."""
    reasons = []
    for reason in told["reasons"]:
        rule, words = rules.get(reason["rule_id"]), reason["code"].replace("_", " ")
        more = "" if reason["detail"] == rule else f" ({reason['detail']})"
        reasons.append(f"{rule}: {words}{more}" if rule else f"{words}{more}")
    return f"{'yes' if told['will_join'] else 'no'}. {'; '.join(reasons)}"


def _values(fields: Json, zone: ZoneInfo) -> str:
    if fields.get("name"):
        return f', was "{fields["name"]["from"]}"'
    if fields.get("start_time"):
        before, after = (datetime.fromisoformat(fields["start_time"][side]).astimezone(zone) for side in ("from", "to"))
        to = f"{after:%H:%M}" if before.date() == after.date() else f"{after:%a} {after.day} {after:%b %H:%M}"
        return f", {before:%a} {before.day} {before:%b %H:%M} to {to}"
    return ""
