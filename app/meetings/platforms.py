"""The meeting products as data: which hosts are theirs, and which of their pages lead into a meeting.

A host is matched on the parsed URL, exactly or as a subdomain, so `zoom.us.example.com`, `evil-zoom.us` and
`https://zoom.us@evil.example` are none of them. Paths matter because the same hosts serve recordings, registrations and
landing pages, which no bot can join. A new product is a new row.
"""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, urlsplit

UNKNOWN = "unknown"
"""The platform of a structured conference link on a host that stands in no row."""

URL_LIMIT = 4096
"""Characters; a longer URL is no meeting's."""

_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_ZOOM_PATH = re.compile(
    # Ids have 9 to 12 digits; shorter ones are let through, since a link of this form leads nowhere else.
    r"/(?:[jsw]/[0-9]{3,13}|wc/(?:join/)?[0-9]{3,13}(?:/(?:join|start))?|my/[\w.%-]{1,200}|ej/[\w.%-]{1,200})/?"
)
_ZOOM_CONFNO = re.compile(r"[0-9]{3,13}")
_MEET_PATH = re.compile(r"/(?:_meet/)?(?:[a-z]{3}-[a-z]{4}-[a-z]{3}|lookup/[\w-]{1,200})/?", re.IGNORECASE)
_TEAMS_PATH = re.compile(r"/(?:_#/)?l/meetup-join/.{1,2000}|/meet/[\w-]{1,200}/?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Platform:
    """One product at some hosts. `path` must match a meeting's path as a whole."""

    name: str
    hosts: tuple[str, ...]
    path: re.Pattern[str]
    has_subdomains: bool = False
    """Whether every subdomain is the product's as well."""
    id_parameter: str | None = None
    """A query parameter that names the meeting on the path `/join`."""


PLATFORMS: tuple[Platform, ...] = (
    Platform("google_meet", ("meet.google.com",), _MEET_PATH),
    Platform("google_meet", ("stream.meet.google.com",), re.compile(r"/stream/[\w-]{1,200}/?")),
    Platform("google_meet", ("g.co",), re.compile(r"/meet/[\w-]{1,200}/?")),
    Platform(
        "zoom",
        ("zoom.us", "zoom.com", "zoom.com.cn", "zoom-x.de"),
        _ZOOM_PATH,
        has_subdomains=True,
        id_parameter="confno",
    ),
    Platform("zoom_gov", ("zoomgov.com",), _ZOOM_PATH, has_subdomains=True, id_parameter="confno"),
    Platform(
        "microsoft_teams",
        (
            "teams.microsoft.com",
            "teams.cloud.microsoft",
            "teams.live.com",
            "teams.microsoft.us",
            "gov.teams.microsoft.us",
            "dod.teams.microsoft.us",
        ),
        _TEAMS_PATH,
    ),
)

_BY_HOST = {host: platform for platform in PLATFORMS for host in platform.hosts}

HOSTS = tuple(_BY_HOST)
"""Every host of the table, for finding links that come without a scheme."""


@dataclass(frozen=True, slots=True)
class Link:
    """A URL that leads to a meeting. `key` is the same for every spelling of one address."""

    url: str
    platform: str
    key: str


def recognise(url: str) -> Link | None:
    """The meeting behind a URL found in text; None where it is no product's, or not one's meeting page."""
    parts = split(url)
    platform = _platform(parts.hostname or "") if parts else None
    if parts is None or platform is None or not _is_meeting(platform, parts):
        return None
    return Link(url, platform.name, _key(parts, platform))


def trust(url: str) -> Link | None:
    """The meeting behind a URL from a field that holds nothing else: any https page, on whatever host."""
    parts = split(url)
    if parts is None or parts.scheme != "https":
        return None
    platform = _platform(parts.hostname or "")
    return Link(url, platform.name if platform else UNKNOWN, _key(parts, platform))


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


def _platform(host: str) -> Platform | None:
    host = host.removesuffix(".")
    exact = _BY_HOST.get(host)
    if exact is not None:
        return exact
    for _ in range(8):
        _, dot, host = host.partition(".")
        if not dot:
            break
        parent = _BY_HOST.get(host)
        if parent is not None:
            return parent if parent.has_subdomains else None
    return None


def _is_meeting(platform: Platform, parts: SplitResult) -> bool:
    path = f"{parts.path}#{parts.fragment}" if parts.path == "/_" and parts.fragment else parts.path
    if platform.path.fullmatch(path):
        return True
    if platform.id_parameter is None or parts.path != "/join":
        return False
    try:
        values = parse_qs(parts.query, max_num_fields=50).get(platform.id_parameter, [])
    except ValueError:
        return False
    return any(_ZOOM_CONFNO.fullmatch(value) for value in values)


def _key(parts: SplitResult, platform: Platform | None) -> str:
    """Host and path; the query too where it may name the meeting, else it is a passcode or decoration."""
    key = f"{(parts.hostname or '').removesuffix('.')}{parts.path.rstrip('/')}"
    if parts.path == "/_":
        key += f"#{parts.fragment}"
    return f"{key}?{parts.query}" if platform is None or parts.path == "/join" else key
