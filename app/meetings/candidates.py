"""Collects an event's meeting links and puts the most trusted first.

Order of trust: the provider's conference data, then its hangout link, then the location, then the description; inside
one text the order of appearance. Structured fields win although Google adds a Meet link to many events by itself: all
links are reported, so a customer may choose otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from app.meetings.links import addresses
from app.meetings.platforms import Link, recognise, trust
from app.meetings.unwrap import unwrap

_MOST = 10


@dataclass(frozen=True, slots=True)
class MeetingCandidate:
    """A link that may lead to the meeting; `source` names the field it was found in, the best comes first.

    `platform` is a snake_case product name, or `unknown` for a structured link to a product that we do not know.
    """

    url: str
    platform: str
    source: str


def find(
    *, structured: Sequence[tuple[str, str]], location: str | None, description: str | None
) -> tuple[MeetingCandidate, ...]:
    """At most ten candidates, best first, one per meeting address.

    `structured` holds (source, url) of fields made for the purpose: any https link in them counts. In the free texts
    only addresses of known products do. Where they name a meeting twice, the longer address stays: it has the passcode.
    """
    if not structured and not location and not description:
        return ()
    found: dict[str, MeetingCandidate] = {}
    for source, url in structured:
        link = _trusted(url)
        if link is not None and link.key not in found:
            found[link.key] = MeetingCandidate(link.url, link.platform, source)
    trusted = frozenset(found)
    for source, text in (("location", location), ("description", description)):
        for link in filter(None, map(_recognised, addresses(text))) if text else ():
            known = found.get(link.key)
            if known is None or (link.key not in trusted and len(link.url) > len(known.url)):
                found[link.key] = MeetingCandidate(link.url, link.platform, source)
    return tuple(found.values())[:_MOST]


# The occurrences of a series, and a person's own room, bring the same address again and again.
@lru_cache(maxsize=1024)
def _trusted(url: str) -> Link | None:
    return trust(unwrap(url.strip()))


@lru_cache(maxsize=1024)
def _recognised(address: str) -> Link | None:
    return recognise(unwrap(address))
