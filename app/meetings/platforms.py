"""Judges a URL by the table: the meeting behind it, its platform, its passcode, and the key of the meeting itself."""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, unquote, urlsplit

from app.meetings.hosts import Hosts
from app.meetings.preferences import ExtraHosts
from app.meetings.table import PLATFORMS, SELF_HOSTED, Row

UNKNOWN = "unknown"
"""The platform of a structured conference link on a host that stands in no row."""

URL_LIMIT = 4096
"""Characters; a longer URL is no meeting's."""
_PARAMETERS_MOST = 50

_CONTROL = re.compile(r"[\x00-\x20\x7f]")
# What a structured field may hold of a known product and still is no meeting. New forms of links pass.
_NO_MEETING = re.compile(
    r"/(?:(?:meeting|webinar)/register|meetingoptions|rec|recording|recordings|download|landing|new|u|support|"
    r"l/(?:channel|message|team|chat|app)|static|dialinnumbers|dialin)(?:/.*)?",
    re.IGNORECASE,
)
_ZOOM_CLUSTER = re.compile(r"(?:us[0-9]{2}(?:web|st[0-9])?|app|www)\.(?=[a-z])")
_TEAMS_FRAGMENT_PATHS = frozenset({"/_", "/v2", "/v2/"})

HOSTS = Hosts((host, row) for row in PLATFORMS for host in row.hosts)


@dataclass(frozen=True, slots=True)
class Link:
    """A URL that leads to a meeting. `key` is the same for every spelling of one meeting's address."""

    url: str
    platform: str
    key: str
    passcode: str | None = None
    """As it stands in the URL, byte for byte."""
    asks_passcode: bool = False
    """Whether the product's invitations write a passcode beside the link."""


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a URL that rows look at. Teams' web client has path and query of a meeting in its fragment."""

    host: str
    path: str
    query: str
    fragment: str


def recognise(url: str, extra_hosts: ExtraHosts = ()) -> Link | None:
    """The meeting behind a URL found in text; None where it is no product's, or not one's meeting page."""
    parts = split(url)
    return _match(url, _address(parts), extra_hosts) if parts else None


def trust(url: str, extra_hosts: ExtraHosts = ()) -> Link | None:
    """The meeting behind a URL from a field that holds nothing else: any https page, on whatever host.

    Of a known product's pages those are left out that are known to be something else.
    """
    parts = split(url)
    if parts is None or parts.scheme != "https":
        return None
    address = _address(parts)
    link = _match(url, address, extra_hosts)
    if link is not None:
        return link
    rows = rows_of(address.host, extra_hosts)
    if rows and (_NO_MEETING.fullmatch(address.path) or all(row.path is None for row in rows)):
        return None
    name = rows[0].name if rows else UNKNOWN
    query = f"?{address.query}" if address.query else ""
    return Link(url, name, f"{name}:{address.host}{address.path.rstrip('/')}{query}")


def rows_of(host: str, extra_hosts: ExtraHosts = ()) -> tuple[Row, ...]:
    """The forms of address that count at a host; the project's own hosts go first."""
    if extra_hosts:
        own = _own_rows(extra_hosts).get(host)
        if own is not None:
            return own
    return HOSTS.of(host)


def split(url: str) -> SplitResult | None:
    """The parts of a plain http(s) URL: a host of ASCII, no user name, odd port or control character; else None."""
    if len(url) > URL_LIMIT or _CONTROL.search(url):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname
    if parts.scheme not in {"http", "https"} or not host or not host.isascii() or "@" in parts.netloc:
        return None
    return parts if port in {None, 80, 443} else None


def parameters(query: str) -> dict[str, str]:
    """The first value of each of a query's parameters, as it stands; names in lower case. At most fifty are read."""
    found: dict[str, str] = {}
    for part in query.split("&", _PARAMETERS_MOST)[:_PARAMETERS_MOST]:
        name, _, value = part.partition("=")
        found.setdefault(name.lower(), value)
    return found


@lru_cache(maxsize=256)
def _own_rows(extra_hosts: ExtraHosts) -> dict[str, tuple[Row, ...]]:
    return {host: tuple(row for row in SELF_HOSTED if row.name == name) for host, name in extra_hosts}


def _address(parts: SplitResult) -> Address:
    host = (parts.hostname or "").removesuffix(".")
    if parts.path in _TEAMS_FRAGMENT_PATHS and parts.fragment.startswith("/"):
        path, _, query = parts.fragment.partition("?")
        return Address(host, path, query, "")
    return Address(host, parts.path, parts.query, parts.fragment)


def _match(url: str, address: Address, extra_hosts: ExtraHosts) -> Link | None:
    rows = rows_of(address.host, extra_hosts)
    given: dict[str, str] | None = None
    for row in rows:
        found = _path_match(row, address)
        if found is None:
            continue
        if given is None:
            given = parameters(address.query)
        named = given.get(row.query.lower(), "") if row.query else ""
        if row.query and not _is_name(row, named):
            continue
        groups = found.groupdict()
        passcode = groups.get("passcode") or next((given[name] for name in row.passcodes if given.get(name)), None)
        key = _key(row, address, named or groups.get("id") or address.path)
        return Link(url, row.name, key, passcode, bool(row.passcodes))
    return None


def _path_match(row: Row, address: Address) -> re.Match[str] | None:
    if row.path is None or (row.never is not None and row.never.fullmatch(address.path)):
        return None
    return row.path.fullmatch(f"{address.path}#{address.fragment}" if row.has_fragment else address.path)


def _is_name(row: Row, value: str) -> bool:
    """Whether a parameter names a meeting; Zoom's and GoTo's are numbers."""
    if row.query in {"confno", "meetingid"}:
        return value.isascii() and value.isdigit() and 3 <= len(value) <= 13
    return 0 < len(value) <= 200


def _key(row: Row, address: Address, named: str) -> str:
    """Product, host where it counts, and what names the meeting: without passcode, case or escapes that say nothing."""
    named = unquote(unquote(named)).strip("/")
    if row.name == "microsoft_teams":
        named = named.removesuffix("/0")  # the whole thread: what a link without a message means as well
    if row.is_folded:
        named = named.lower()
    if row.is_shared:
        return f"{row.name}:{named}"
    host = address.host
    if row.name in {"zoom", "zoom_gov"}:
        host = _ZOOM_CLUSTER.sub("", host, count=1)
    return f"{row.name}:{host.removeprefix('www.')}/{named}"
