"""Sees through addresses that a mail gateway or a calendar wrapped around the real link.

Each wrapper is one row: its hosts, its path, and the parameter that carries the target. A few rounds are enough
(wrapped links get wrapped again); nothing here raises, whatever the encoding looks like.
"""

from dataclasses import dataclass
from urllib.parse import parse_qs, urljoin

from app.meetings.platforms import split

_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Wrapper:
    """One rewriter of links. A `host` that begins with a dot means its subdomains."""

    host: str
    path: str | None
    """The exact path; None: any."""
    parameters: tuple[str, ...]


WRAPPERS = (
    Wrapper(".safelinks.protection.outlook.com", None, ("url",)),
    Wrapper(".safelinks.protection.office365.us", None, ("url",)),
    Wrapper("www.google.com", "/url", ("q", "url")),
    Wrapper("teams.microsoft.com", "/dl/launcher/launcher.html", ("url",)),
)


def unwrap(url: str) -> str:
    """The innermost address; the URL itself where it is not wrapped."""
    for _ in range(_ROUNDS):
        inner = _target(url)
        if inner is None:
            break
        url = inner
    return url


def _target(url: str) -> str | None:
    parts = split(url)
    host = (parts.hostname or "").removesuffix(".") if parts else ""
    wrapper = next((w for w in WRAPPERS if host == w.host or (w.host[0] == "." and host.endswith(w.host))), None)
    if parts is None or wrapper is None or wrapper.path not in {None, parts.path}:
        return None
    try:
        fields = parse_qs(parts.query, max_num_fields=50)
    except ValueError:
        return None
    for parameter in wrapper.parameters:
        for value in fields.get(parameter, ()):
            try:
                # The Teams launcher carries a path of its own host; a decoded space would end an address.
                target = urljoin(url, value.replace(" ", "%20"))
            except ValueError:
                continue
            if split(target) is not None and target != url:
                return target
    return None
