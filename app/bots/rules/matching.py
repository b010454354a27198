"""Whether a rule's match holds of an event on a calendar, and if not, for which of its conditions. Pure.

Evaluated in the transaction of a round, for every rule and every event of it: so a match is compiled once, what
several rules ask of an event is worked out once, cheap conditions come first, and what a title can cost is bounded.
Nothing is guessed: where an event does not say what a condition asks, the condition does not hold, whichever way it is
put; an event without a title has none of the texts that are looked for.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson
import re2  # type: ignore[import-untyped]  # brings no types

TITLE_MOST: Final = 500
"""Characters of a title that are looked at. Calendars show fewer; a sender can put a megabyte there."""
PATTERN_BYTES: Final = 200
_PATTERN_MEMORY: Final = 512 * 1024
"""Bytes that RE2 may take for a pattern: its program, and what it remembers of texts that it has read."""
_PROGRAM_MOST: Final = 1_500
"""Instructions. Where RE2 cannot remember enough it takes time for as many as are under way, at each byte of a title.
A class such as `\\pL` has 1,200."""
_REASON_MOST: Final = 80

_DOMAIN_MOST: Final = 253
_LABELS_MOST: Final = 12
"""Of a domain that a rule names, and so of those above a deeper one that are looked at."""
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN: Final = re.compile(rf"(?:{_LABEL}\.)+{_LABEL}")
_ADDRESS_MOST: Final = 320
_CALENDARS: Final = "calendar.google.com"
"""Below it Google has the addresses of calendars and rooms, which organize events of their own and are nobody."""


class Guests(NamedTuple):
    """What addresses say of an event. Domains come with those above them: `eu.acme.com` and `acme.com`."""

    people: int
    """On the guest list, without rooms and other resources. Outlook's list does not hold the organizer."""
    domains: frozenset[str]
    organizer_domains: frozenset[str]
    is_external: bool | None
    """Whether anybody's domain is not internal; None where it is not known which domains are."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a match looks at of one event on one calendar."""

    title: str | None
    is_all_day: bool
    own_response: str | None
    is_organizer: bool
    is_recurring: bool
    duration_seconds: float | None
    visibility: str | None
    event_type: str | None
    meeting_platform: str | None
    organizer: Mapping[str, Any] | None
    attendees: Sequence[Mapping[str, Any]]
    calendar_metadata: Mapping[str, str]
    internal_domains: frozenset[str]
    """The project's, or the owner's own where it has none; empty: not known."""
    _once: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def guests(self) -> Guests:
        """Worked out when the first rule asks."""
        found: Guests | None = self._once.get("guests")
        if found is None:
            found = self._once["guests"] = _guests(self.organizer, self.attendees, self.internal_domains)
        return found

    @property
    def folded_title(self) -> str:
        """The title without the difference of upper and lower case."""
        found: str | None = self._once.get("folded")
        if found is None:
            found = self._once["folded"] = (self.title or "").casefold()
        return found

    @property
    def encoded_title(self) -> bytes:
        """The title as RE2 reads it."""
        found: bytes | None = self._once.get("encoded")
        if found is None:
            found = self._once["encoded"] = (self.title or "").encode(errors="replace")
        return found


def facts(
    content: Mapping[str, Any],
    *,
    calendar_metadata: Mapping[str, str],
    internal_domains: frozenset[str],
    owner_email: str | None,
) -> Facts:
    """Of a stored event's content, parsed. `internal_domains` are the project's, as `normal_domain` gives them."""
    title, organizer = content.get("name"), content.get("organizer")
    own = None if internal_domains else domain_of(owner_email)
    return Facts(
        title=None if title is None else title[:TITLE_MOST],
        is_all_day=content.get("is_all_day") is True,
        own_response=content.get("own_response_status"),
        is_organizer=organizer is not None and organizer.get("self") is True,
        is_recurring=content.get("series_id") is not None,
        duration_seconds=_seconds(content.get("start_time"), content.get("end_time")),
        visibility=content.get("visibility"),
        event_type=content.get("event_type"),
        meeting_platform=content.get("meeting_platform"),
        organizer=organizer,
        attendees=content.get("attendees") or (),
        calendar_metadata=calendar_metadata,
        internal_domains=internal_domains if own is None else frozenset({own}),
    )


def _seconds(start: str | None, end: str | None) -> float | None:
    if start is None or end is None:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _guests(
    organizer: Mapping[str, Any] | None, attendees: Sequence[Mapping[str, Any]], internal: frozenset[str]
) -> Guests:
    people = [guest for guest in attendees if not guest.get("resource")]
    theirs = {domain_of(guest.get("email")) for guest in people}
    inviters = {domain_of(organizer.get("email"))} if organizer is not None else set()
    outsiders = {domain for domain in theirs | inviters if domain is not None and not _is_calendars(domain)}
    is_external = None
    if internal or not outsiders:
        is_external = any(internal.isdisjoint(_with_parents(domain)) for domain in outsiders)
    return Guests(len(people), _with_all_parents(theirs), _with_all_parents(inviters), is_external)


def _is_calendars(domain: str) -> bool:
    return domain == _CALENDARS or domain.endswith("." + _CALENDARS)


def _with_all_parents(domains: Iterable[str | None]) -> frozenset[str]:
    return frozenset().union(*(_with_parents(domain) for domain in domains if domain is not None))


@lru_cache(maxsize=4096)
def _with_parents(domain: str) -> frozenset[str]:
    """A domain and those above it, of as many labels as a rule may name."""
    labels = domain.split(".")
    return frozenset(".".join(labels[-count:]) for count in range(2, min(len(labels), _LABELS_MOST) + 1)) | {domain}


def domain_of(address: str | None) -> str | None:
    """The domain of an e-mail address, as `normal_domain` gives it; None where it has none that mail could go to."""
    return None if address is None or len(address) > _ADDRESS_MOST else _domain_of(address)


@lru_cache(maxsize=8192)
def _domain_of(address: str) -> str | None:
    _, at, domain = address.rpartition("@")
    return normal_domain(domain.strip()) if at else None


def normal_domain(text: str) -> str | None:
    """A domain as it is compared: lower case, ASCII (IDNA), without the root's dot. None where it is none.

    Names that only a private network knows are domains too: mail inside a company comes from them.
    """
    if len(text) > _DOMAIN_MOST:
        return None
    name = text.removesuffix(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            return None
    name = name.lower()
    is_domain = len(name) <= _DOMAIN_MOST and _DOMAIN.fullmatch(name)
    return name if is_domain and not name.rpartition(".")[2].isdigit() else None


_Holds = Callable[[Facts], bool]


class Matcher:
    """A match, ready to be asked."""

    __slots__ = ("_conditions",)

    def __init__(self, match: Mapping[str, Any]) -> None:
        given: Mapping[str, Any] = {"is_all_day": False, "own_response": None, **match}
        self._conditions = tuple((name, make(given[name])) for name, make in _CONDITIONS.items() if name in given)

    def failed(self, facts: Facts) -> str | None:
        """The first condition that does not hold, in the order in which they are asked; None where the match holds."""
        for name, holds in self._conditions:
            if not holds(facts):
                return name
        return None


@lru_cache(maxsize=500)
def compiled(text: str) -> Matcher:
    """The matcher of a match as it is stored: a JSON object of the conditions that were given."""
    return Matcher(orjson.loads(text))


def pattern(text: str) -> Any:
    """A regular expression of RE2, for bytes of UTF-8. ValueError says what is wrong, or that it is too costly."""
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _PATTERN_MEMORY
    try:
        found = re2.compile(text.encode(), options)
    except re2.error as exc:
        raise ValueError(_reason(exc)) from exc
    if found.programsize > _PROGRAM_MOST or not 0 <= found.reverseprogramsize <= _PROGRAM_MOST:
        raise ValueError("pattern too large")
    return found


def _reason(error: Exception) -> str:
    """RE2's own words."""
    said = error.args[0] if error.args else ""
    return (said.decode(errors="replace") if isinstance(said, bytes) else str(said))[:_REASON_MOST]


def _all_day(value: bool) -> _Holds:
    """Without the condition only events at a time match."""
    return lambda facts: facts.is_all_day is value


def _own_response(values: Sequence[str] | None) -> _Holds:
    """Without the condition any answer but the owner's no matches."""
    if values is None:
        return lambda facts: facts.own_response != "declined"
    listed = frozenset(values)
    return lambda facts: facts.own_response in listed


def _is_organizer(value: bool) -> _Holds:
    return lambda facts: facts.is_organizer is value


def _is_recurring(value: bool) -> _Holds:
    return lambda facts: facts.is_recurring is value


def _visibility(values: Sequence[str]) -> _Holds:
    listed = frozenset(values)
    return lambda facts: facts.visibility in listed


def _event_types(values: Sequence[str]) -> _Holds:
    listed = frozenset(values)
    return lambda facts: facts.event_type in listed


def _platforms(values: Sequence[str]) -> _Holds:
    listed = frozenset(values)
    return lambda facts: facts.meeting_platform in listed


def _at_least_seconds(value: int) -> _Holds:
    return lambda facts: facts.duration_seconds is not None and facts.duration_seconds >= value


def _at_most_seconds(value: int) -> _Holds:
    return lambda facts: facts.duration_seconds is not None and facts.duration_seconds <= value


def _metadata(wanted: Mapping[str, str]) -> _Holds:
    pairs = wanted.items()
    return lambda facts: pairs <= facts.calendar_metadata.items()


def _title_contains(values: Sequence[str]) -> _Holds:
    needles = tuple(value.casefold() for value in values)

    def holds(facts: Facts) -> bool:
        if facts.title is None:
            return False
        title = facts.folded_title
        for needle in needles:  # noqa: SIM110 # half of the time that `any` takes
            if needle in title:
                return True
        return False

    return holds


def _at_least_guests(value: int) -> _Holds:
    return lambda facts: facts.guests.people >= value


def _at_most_guests(value: int) -> _Holds:
    return lambda facts: facts.guests.people <= value


def _organizer_domains(values: Sequence[str]) -> _Holds:
    listed = frozenset(values)
    return lambda facts: not listed.isdisjoint(facts.guests.organizer_domains)


def _attendee_domains(values: Sequence[str]) -> _Holds:
    listed = frozenset(values)
    return lambda facts: not listed.isdisjoint(facts.guests.domains)


def _has_external(value: bool) -> _Holds:
    return lambda facts: facts.guests.is_external is value


def _title_regex(value: str) -> _Holds:
    """A stored pattern that this version of RE2 refuses matches nothing: raising would stop every calendar."""
    try:
        search = pattern(value).search
    except ValueError:
        return lambda facts: False
    return lambda facts: facts.title is not None and search(facts.encoded_title) is not None


_CONDITIONS: Final[Mapping[str, Callable[[Any], _Holds]]] = {
    "is_all_day": _all_day,
    "own_response": _own_response,
    "is_organizer": _is_organizer,
    "is_recurring": _is_recurring,
    "visibility": _visibility,
    "event_types": _event_types,
    "meeting_platforms": _platforms,
    "duration_seconds_gte": _at_least_seconds,
    "duration_seconds_lte": _at_most_seconds,
    "calendar_metadata": _metadata,
    "title_contains": _title_contains,
    "attendee_count_gte": _at_least_guests,
    "attendee_count_lte": _at_most_guests,
    "organizer_domains": _organizer_domains,
    "attendee_domains": _attendee_domains,
    "has_external_attendees": _has_external,
    "title_regex": _title_regex,
}
"""Every condition that a match can have, in the order in which they are asked: the costly ones last."""

CONDITIONS: Final = frozenset(_CONDITIONS)
