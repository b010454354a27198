"""Which rules want a bot on an event. Pure.

A rule of a project has a match; one of a series (`all_occurrences`) covers that series' occurrences. The rules that
want one are taken by priority; of those that look beyond their own calendar (`meeting`, `organization`), one of a
scope is enough. An override of the event beats them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Any, Final, Literal
from uuid import UUID

import orjson

from app.bots.rules import matching
from app.bots.standing import Event, Meeting, Reason
from app.meetings import Preferences, canonical_key

Scope = Literal["event", "meeting", "organization"]
Override = Literal["always", "never"]
Name = tuple[Literal["uid", "link"], str, str]

WIDE: Final[frozenset[Scope]] = frozenset({"meeting", "organization"})
"""One bot for each real meeting, whichever calendars it stands in."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as events are judged by it. `config` and `metadata` are JSON texts."""

    id: UUID
    name: str
    version: int
    match: str
    scope: Scope
    bot_name: str
    config: str | None
    launcher_id: UUID | None
    series_id: str | None = None
    deduplication_key: str | None = None
    metadata: str | None = None
    further_series: frozenset[str] = frozenset()
    """Those that its series was split into."""
    first_event_id: UUID | None = None
    """Of a series' rule that is being made: the event whose bot gets its deduplication key as it is."""

    @property
    def slot(self) -> UUID | Scope:
        """An event has one bot for each slot."""
        return self.scope if self.scope in WIDE else self.id

    def covers_series(self, series_id: str | None) -> bool:
        """Whether it is this series' rule. Google splits a series by a new one, named after the first."""
        if self.series_id is None or series_id is None:
            return False
        is_named_after = series_id.startswith(f"{self.series_id}_R")
        return series_id == self.series_id or is_named_after or series_id in self.further_series


@dataclass(frozen=True, slots=True)
class Ground:
    """What is the same for all events of a calendar."""

    project_id: UUID
    calendar_id: UUID
    email: str | None
    metadata: dict[str, str]
    internal_domains: frozenset[str]
    preferences: Preferences


@dataclass(frozen=True)
class Candidate:
    """An event that may get a bot."""

    id: UUID
    ground: Ground
    event: Event
    series_id: str | None
    ical_uid: str | None
    override: Override | None
    is_new: bool
    """Whether this round brought it."""
    text: str = field(repr=False)
    """Its content, JSON."""

    @cached_property
    def content(self) -> dict[str, Any]:
        """Its content, as the API shows it."""
        content: dict[str, Any] = orjson.loads(self.text)
        return content

    @cached_property
    def facts(self) -> matching.Facts:
        """What rules look at."""
        ground = self.ground
        return matching.facts(
            self.content,
            calendar_metadata=ground.metadata,
            internal_domains=ground.internal_domains,
            owner_email=ground.email,
        )

    @cached_property
    def meeting(self) -> Meeting | Reason:
        """Where it leads to, or why nowhere."""
        return self.event.meeting()

    def is_ahead(self, now: datetime) -> bool:
        """Whether there is a meeting that a bot could still join."""
        return isinstance(self.meeting, Meeting) and self.meeting.ends_at > now

    def keys(self, scope: Scope) -> frozenset[str]:
        """What makes it the same meeting as another event: by its iCalendar uid, and by its link and start."""
        realm = self._realm(scope)
        return frozenset(Key(realm, kind, name, at).text for kind, name, at in self.names)

    @cached_property
    def names(self) -> frozenset[Name]:
        """The same as `keys`, whatever the scope."""
        if not isinstance(self.meeting, Meeting):
            return frozenset()
        original = self.content.get("original_start_time")
        return names_of(self.meeting.url, self.meeting.join_at, self.ical_uid, original, self.ground.preferences)

    def _realm(self, scope: Scope) -> str:
        if scope != "organization":
            return scope
        domain = (self.ground.email or "").rpartition("@")[2].lower()
        return f"organization:{domain or self.ground.calendar_id}"


_KEY_LIMIT: Final = 400
"""Characters of a name inside a key: an index takes no more than some kilobytes."""


@dataclass(frozen=True, slots=True)
class Key:
    """One of the two names of a meeting, in the realm in which it gets one bot."""

    realm: str
    kind: Literal["uid", "link"]
    name: str
    at: str
    """Of a link the start, of a uid the original start of the occurrence, empty for a single event."""

    @property
    def text(self) -> str:
        """As it is stored, and shown by a decision."""
        name = self.name if len(self.name) <= _KEY_LIMIT else f"sha256:{sha256(self.name.encode()).hexdigest()}"
        return f"{self.realm}|{self.kind}|{name}|{self.at}"

    @classmethod
    def parse(cls, text: str) -> "Key":
        """The reverse of `text`, but for long names."""
        realm, kind, rest = text.split("|", 2)
        name, _, at = rest.rpartition("|")
        return cls(realm, "uid" if kind == "uid" else "link", name, at)


def names_of(
    url: str, start: datetime, ical_uid: str | None, original_start: str | None, preferences: Preferences
) -> frozenset[Name]:
    """What a meeting goes by: (kind, name, at) as a `Key` has them. All forms of a link into it have one name."""
    found: set[Name] = {("link", _link(url, preferences), _stamp(start))}
    if ical_uid is not None:
        found.add(("uid", ical_uid, original_start or ""))
    return frozenset(found)


def by_link(realm: str, url: str, start: datetime, preferences: Preferences) -> Key:
    """The key of a meeting by its link and start."""
    return Key(realm, "link", _link(url, preferences), _stamp(start))


@lru_cache(maxsize=16_384)
def _link(url: str, preferences: Preferences) -> str:
    """What all links into one meeting have in common. Kept: whatever else starts at the same moment is compared."""
    return canonical_key(url, preferences, is_trusted=True) or url


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def wanted(rules: Sequence[Rule], candidate: Candidate) -> list[Rule]:
    """The rules, by their priority, that want a bot on an event with a meeting ahead; one for each slot.

    `always` makes the first rule want it where none does; without any rule there is nothing to make a bot of.
    """
    if candidate.override == "never":
        return []
    found = [rule for rule in rules if failed(rule, candidate) is None]
    if candidate.override == "always" and not found:
        found = [rule for rule in rules if rule.series_id is None][:1]
    taken: set[UUID | Scope] = set()
    first: list[Rule] = []
    for rule in found:
        if rule.slot not in taken:
            taken.add(rule.slot)
            first.append(rule)
    return first


def failed(rule: Rule, candidate: Candidate) -> str | None:
    """The first condition of a rule that does not hold for an event; None where it wants a bot."""
    if rule.series_id is not None:
        return None if rule.covers_series(candidate.series_id) else "series_id"
    return matching.compiled(rule.match).failed(candidate.facts)
