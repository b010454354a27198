"""Collects an event's meeting links and puts the most trusted first.

Order of trust: the provider's conference data, then its older field for a link, then the location, the description and
the name; inside one text the order of appearance. Structured fields win although Google adds a Meet link to many events
by itself: all links are reported, and a project may put platforms first, which then beat every source.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

from app.meetings import links, passcodes
from app.meetings.platforms import UNKNOWN, URL_LIMIT, Link, recognise, trust
from app.meetings.preferences import NONE, Preferences
from app.meetings.unwrap import unwrap

CANDIDATES_MOST = 10

Choice = Literal["only", "source", "preference", "ambiguous"]
"""Why the first candidate is the meeting. `only`: there is no other. `source`: it was found in a field that is trusted
more. `preference`: the project wants its platform more. `ambiguous`: another one is as good, and this one stood first.
"""

SCORES: Final = {
    "conference_data": 100,
    "online_meeting": 100,
    "hangout_link": 90,
    "online_meeting_url": 90,
    "location": 70,
    "description": 50,
    "name": 30,
}
"""How far a field is trusted."""
PREFERRED: Final = 1_000
"""What each place in a project's order of platforms adds to a score: more than any field."""


@dataclass(frozen=True, slots=True)
class MeetingCandidate:
    """A link that may lead to the meeting, the best one first."""

    url: str
    platform: str
    """A snake_case product name, or `unknown` for a structured link to a product that we do not know."""
    source: str
    """The field that the URL was found in."""
    score: int
    """Of the best field that names this meeting, and of the project's wish for its platform."""
    passcode: str | None = None
    """As it stands in the URL, else as the text beside the link has it."""
    unwrapped_from: str | None = None
    """The address as it was found, where a gateway, a calendar or an app had wrapped it."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """Which meeting an event leads to, and what else it might be."""

    candidates: tuple[MeetingCandidate, ...] = ()
    choice: Choice | None = None

    @property
    def url(self) -> str | None:
        """The best candidate's."""
        return self.candidates[0].url if self.candidates else None

    @property
    def platform(self) -> str | None:
        """The best candidate's; None for a product that we do not know."""
        known = self.candidates and self.candidates[0].platform != UNKNOWN
        return self.candidates[0].platform if known else None


NOTHING: Final = Meeting()


def find(
    *,
    structured: Sequence[tuple[str, str]],
    texts: Sequence[tuple[str, str | None]],
    preferences: Preferences = NONE,
) -> Meeting:
    """At most ten candidates, best first, one per meeting.

    `structured` holds (source, URL) of fields made for the purpose: any https link in them counts. In `texts`, (source,
    text), only addresses of known products do. Where texts name a meeting twice, the address with a passcode stays, or
    the longer one; a structured address always does.
    """
    found: dict[str, MeetingCandidate] = {}
    for source, url in structured:
        if len(url) > URL_LIMIT:
            continue  # no meeting's, and too long to be kept
        link, candidate = _trusted(source, url, preferences)
        if link is not None and candidate is not None:
            _add(found, link.key, candidate, is_structured=True)
    trusted = frozenset(found)
    for source, text in texts:
        if text and links.may_hold(text):
            _read(found, text, source, preferences, trusted=trusted)
    if len(found) < 2:
        return Meeting(tuple(found.values()), "only") if found else NOTHING
    candidates = tuple(sorted(found.values(), key=lambda candidate: -candidate.score)[:CANDIDATES_MOST])
    return Meeting(candidates, _choice(candidates, preferences))


def _read(
    found: dict[str, MeetingCandidate],
    text: str,
    source: str,
    preferences: Preferences,
    *,
    trusted: frozenset[str],
) -> None:
    """Add what a text names. What stands inside an address that was recognised is no address of its own."""
    scanned = links.scan(text, preferences.extra_hosts)
    seen = 0
    for address in scanned.found:
        if address.start < seen:
            continue
        link, candidate = _recognised(source, address.url, preferences)
        if link is None or candidate is None:
            continue
        seen = address.end
        if candidate.passcode is None and link.asks_passcode:
            passcode = passcodes.beside(scanned.text, address.end)
            candidate = replace(candidate, passcode=passcode) if passcode else candidate
        _add(found, link.key, candidate, is_structured=link.key in trusted)


def _add(found: dict[str, MeetingCandidate], key: str, candidate: MeetingCandidate, *, is_structured: bool) -> None:
    known = found.get(key)
    if known is None:
        found[key] = candidate
    elif not is_structured and _worth(candidate) > _worth(known):
        found[key] = replace(candidate, score=known.score)
    elif known.passcode is None and candidate.passcode is not None:
        found[key] = replace(known, passcode=candidate.passcode)


def _worth(candidate: MeetingCandidate) -> tuple[bool, int]:
    return candidate.passcode is not None and candidate.passcode in candidate.url, len(candidate.url)


def _choice(candidates: Sequence[MeetingCandidate], preferences: Preferences) -> Choice:
    if len(candidates) == 1:
        return "only"
    first, second = candidates[:2]
    if first.score == second.score:
        return "ambiguous"
    is_wanted_more = preferences.rank(first.platform) > preferences.rank(second.platform)
    return "preference" if is_wanted_more else "source"


_Judged = tuple[Link | None, MeetingCandidate | None]


# The occurrences of a series, and a person's own room, bring the same address again and again.
@lru_cache(maxsize=1024)
def _trusted(source: str, url: str, preferences: Preferences) -> _Judged:
    url = url.strip()
    inner = unwrap(url)
    return _judged(source, url, inner, trust(inner, preferences.extra_hosts), preferences)


@lru_cache(maxsize=1024)
def _recognised(source: str, url: str, preferences: Preferences) -> _Judged:
    inner = unwrap(url)
    return _judged(source, url, inner, recognise(inner, preferences.extra_hosts), preferences)


def _judged(source: str, url: str, inner: str, link: Link | None, preferences: Preferences) -> _Judged:
    if link is None:
        return None, None
    score = SCORES[source] + PREFERRED * preferences.rank(link.platform)
    wrapper = url if inner != url else None
    return link, MeetingCandidate(link.url, link.platform, source, score, link.passcode, wrapper)
