"""Judges a meeting's URL that somebody gives by hand, and says what meeting any URL is of."""

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from app.meetings.hosts import is_public_name
from app.meetings.platforms import URL_LIMIT, Link, recognise, rows_of, split, trust
from app.meetings.preferences import NONE, Preferences
from app.meetings.unwrap import unwrap

Refusal = Literal[
    "too_long",
    "invalid_url",
    "scheme_not_allowed",
    "userinfo_not_allowed",
    "host_not_allowed",
    "port_not_allowed",
    "unknown_platform",
    "not_a_meeting",
]

REASONS: Final[dict[Refusal, str]] = {
    "too_long": f"is longer than {URL_LIMIT} characters",
    "invalid_url": "is not a URL",
    "scheme_not_allowed": "must start with https://",
    "userinfo_not_allowed": "must not hold a user name or password",
    "host_not_allowed": "must lead to a public host by its name",
    "port_not_allowed": "must not name another port than 443",
    "unknown_platform": "is at a host of no known meeting product; a host of your own can be named in the project",
    "not_a_meeting": "is a page of a meeting product that does not lead into a meeting",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a URL leads to, or why it is not acceptable; one of the two is None."""

    link: Link | None
    refusal: Refusal | None


def judge(url: str, preferences: Preferences = NONE) -> Verdict:
    """Whether a bot may be sent to this URL. A wrapped one is judged by what it wraps; never raises."""
    url = unwrap(url.strip()) if len(url) <= URL_LIMIT else url
    refusal = _flaw(url)
    if refusal is not None:
        return Verdict(None, refusal)
    link = recognise(url, preferences.extra_hosts)
    if link is not None:
        return Verdict(link, None)
    host = (urlsplit(url).hostname or "").removesuffix(".")
    return Verdict(None, "not_a_meeting" if rows_of(host, preferences.extra_hosts) else "unknown_platform")


def canonical_key(url: str, preferences: Preferences = NONE, *, is_trusted: bool = False) -> str | None:
    """The same text for every spelling of one meeting's address, whatever its passcode; None where it is no meeting's.

    `is_trusted` of what a structured field held: there a meeting may be at any https address. Teams' long and short
    links of one meeting share nothing, and have two keys.
    """
    url = unwrap(url.strip())
    link = trust(url, preferences.extra_hosts) if is_trusted else recognise(url, preferences.extra_hosts)
    return link.key if link is not None else None


def _flaw(url: str) -> Refusal | None:
    if len(url) > URL_LIMIT:
        return "too_long"
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").removesuffix(".")
    except ValueError:
        return "invalid_url"
    if parts.scheme != "https":
        return "scheme_not_allowed" if parts.scheme else "invalid_url"
    if "@" in parts.netloc:
        return "userinfo_not_allowed"
    if not host or "\\" in url or (split(url) is None and port in {None, 443}):
        return "invalid_url"
    if not is_public_name(host):
        return "host_not_allowed"
    return None if port in {None, 443} else "port_not_allowed"
