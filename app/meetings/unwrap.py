"""Sees through addresses that a mail gateway, a calendar or an app wrapped around the real link.

Offline, bounded, and never raising, whatever the encoding looks like. A wrapper is one row: its hosts, its path, and
how the target is read from it. A few rounds are enough (wrapped links get wrapped again). What a gateway keeps to
itself, as Mimecast's links do, stays as it is.
"""

import binascii
import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from urllib.parse import SplitResult, unquote, urljoin

from app.meetings.hosts import Hosts
from app.meetings.platforms import URL_LIMIT, parameters, split
from app.meetings.table import TEAMS_HOSTS

_ROUNDS = 6
_ENCODINGS = 3
"""How many times an address may have been percent-encoded beyond what its wrapper needs."""

Decode = Callable[[str, SplitResult], Iterator[str]]
"""Candidates for the target of a URL, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Wrapper:
    """One rewriter of links. `path` must match as a whole; None: any."""

    hosts: str
    path: re.Pattern[str] | None
    decode: Decode


def _parameter(*names: str) -> Decode:
    def decode(url: str, parts: SplitResult) -> Iterator[str]:
        given = parameters(parts.query)
        return (unquote(given[name]) for name in names if given.get(name))

    return decode


def _base64_parameter(url: str, parts: SplitResult) -> Iterator[str]:
    """Sophos: base64 of either alphabet, its padding lost or percent-encoded."""
    value = unquote(parameters(parts.query).get("u", ""))
    decoded = _base64(value)
    if decoded is not None:
        yield decoded.decode(errors="replace")


def _last_part(url: str, parts: SplitResult) -> Iterator[str]:
    """Cisco: the encoded address is the path's last part; its own query has been encoded with it, or follows."""
    target = unquote(parts.path.rpartition("/")[2])
    yield f"{target}?{parts.query}" if parts.query else target


_PROOFPOINT_2 = str.maketrans("-_", "%/")


def _proofpoint_2(url: str, parts: SplitResult) -> Iterator[str]:
    value = parameters(parts.query).get("u")
    if value:
        yield unquote(value.translate(_PROOFPOINT_2))


_RUN = re.compile(r"\*(?:\*(.))?", re.DOTALL)
_LOST_SLASH = re.compile(r"^(https?):/(?!/)", re.IGNORECASE)
_RUN_LENGTHS = {
    letter: length
    for length, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", start=2)
}


def _proofpoint_3(url: str, parts: SplitResult) -> Iterator[str]:
    """The address with `*` in the place of a character, `**X` of a run; the characters follow, as base64.

    `…/v3/__https://zoom.us/j/1*success__;Iw!!org!signature$`. Source: Proofpoint's URL decoder for v3.
    """
    target, mark, rest = url.partition("/v3/__")[2].partition("__;")
    held = _base64(rest.partition("!")[0]) if mark else None
    if held is None:
        return
    characters = held.decode(errors="replace")
    position = 0

    def restored(run: re.Match[str]) -> str:
        nonlocal position
        start = position
        position += _RUN_LENGTHS.get(run[1], 0) if run[1] else 1
        return characters[start:position]

    yield _LOST_SLASH.sub(r"\1://", _RUN.sub(restored, target), count=1)


def _check_point(url: str, parts: SplitResult) -> Iterator[str]:
    """`…/v2/___https://zoom.us/j/1___.signature`."""
    target, mark, _ = url.partition("___")[2].partition("___.")
    if mark:
        yield target


def _path(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


WRAPPERS = (
    Wrapper(
        "*.safelinks.protection.outlook.com *.safelinks.protection.office365.us", None, _parameter("url")
    ),  # the path may be `/`, `/ap/…`, `/GetUrlReputation`
    Wrapper("statics.teams.cdn.office.net", _path(r"/evergreen-assets/safelinks/.{1,200}"), _parameter("url")),
    Wrapper("www.google.com google.com", _path(r"/url/?"), _parameter("q", "url")),
    Wrapper("meet.google.com", _path(r"/linkredirect/?"), _parameter("dest")),
    Wrapper("urldefense.proofpoint.com urldefense.com urldefense.us", _path(r"/v1/url/?"), _parameter("u")),
    Wrapper("urldefense.proofpoint.com urldefense.com urldefense.us", _path(r"/v2/url/?"), _proofpoint_2),
    Wrapper("urldefense.proofpoint.com urldefense.com urldefense.us", _path(r"/v3/.{1,4000}"), _proofpoint_3),
    Wrapper("linkprotect.cudasvc.com", _path(r"/url/?"), _parameter("a")),
    Wrapper("secure-web.cisco.com", _path(r"/[^/]{1,1000}/.{1,4000}"), _last_part),
    Wrapper("*.trendmicro.com", _path(r"/wis/clicktime/v[0-9]/query/?"), _parameter("url")),
    Wrapper("*.protection.sophos.com", None, _base64_parameter),
    Wrapper("*.fireeye.com *.trellix.com", _path(r"/(?:v[0-9]/)?url/?"), _parameter("u")),
    Wrapper("protect.checkpoint.com url.avanan.click", _path(r"/v2/.{1,4000}"), _check_point),
    Wrapper(" ".join(TEAMS_HOSTS), _path(r"/dl/launcher/launcher\.html"), _parameter("url")),
)

HOSTS = Hosts((host, wrapper) for wrapper in WRAPPERS for host in wrapper.hosts.split())


def unwrap(url: str) -> str:
    """The innermost address; the URL itself where it is not wrapped."""
    for _ in range(_ROUNDS):
        inner = _target(url)
        if inner is None:
            break
        url = inner
    return url


def _target(url: str) -> str | None:
    if not url[:4].lower().startswith("http"):
        return _of_app(url)
    parts = split(url)
    if parts is None:
        return None
    for wrapper in HOSTS.of((parts.hostname or "").removesuffix(".")):
        if wrapper.path is None or wrapper.path.fullmatch(parts.path):
            for target in filter(None, map(partial(_plain, url), wrapper.decode(url, parts))):
                return target
    return None


def _plain(url: str, target: str) -> str | None:
    """A decoded target as a URL; None where it is none. Teams' launcher carries a path of its own host."""
    for _ in range(_ENCODINGS):
        if "://" in target or target.startswith("/"):
            break
        target = unquote(target)
    target = target.strip().replace(" ", "%20")  # a decoded space would end an address
    try:
        target = urljoin(url, target) if target.startswith("/") else target
    except ValueError:
        return None
    return target if target != url and (split(target) is not None or _of_app(target) is not None) else None


_TEAMS_APP = re.compile(r"msteams:(?://(?P<host>[a-z0-9.-]{1,100}))?(?P<path>/l/.*)", re.IGNORECASE | re.DOTALL)
_ZOOM_APP = re.compile(
    r"zoom(?:mtg|us)://(?P<host>[a-z0-9.-]{1,253})/(?:join|start)/?\?(?P<query>[^#]*)", re.IGNORECASE | re.DOTALL
)


def _of_app(url: str) -> str | None:
    """The https address of a link that opens an app, `zoommtg://zoom.us/join?confno=…&pwd=…` and `msteams:/l/…`."""
    if len(url) > URL_LIMIT:
        return None
    if teams := _TEAMS_APP.fullmatch(url):
        target = f"https://{teams['host'] or TEAMS_HOSTS[0]}{teams['path']}"
    elif zoom := _ZOOM_APP.fullmatch(url):
        given = parameters(zoom["query"])
        number, passcode = given.get("confno", ""), given.get("pwd")
        if not (number.isascii() and number.isdigit()):
            return None
        target = f"https://{zoom['host'].lower()}/j/{number}" + (f"?pwd={passcode}" if passcode else "")
    else:
        return None
    return target if split(target) is not None else None


def _base64(text: str) -> bytes | None:
    text = text.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        return None
