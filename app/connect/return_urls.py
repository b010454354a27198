"""Where hosted connect may lead back to: addresses that a project has named, and links compared with them. Pure.

A link's address counts as a named one where scheme, host, port and path are the same; its query is its own. What a
browser is sent to is put together from those parts, so that no second parser reads a customer's text differently.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlencode

from yarl import URL

MAX_URL = 2_048
RESERVED: Final = frozenset({"calendar_id", "state", "error"})
"""Parameters that the answer adds."""
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\\]")
_HOST = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]*:[0-9a-f:.]*")
"""A name in ASCII, or an IPv6 address. RFC 3986 has `;`, `,` and `*` too, which mean something in a content policy."""
_AUTHORITY = re.compile(r"[A-Za-z]+://(\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#]+)(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class ReturnUrl:
    """An address in parts. `base` is scheme, host, port and path in one spelling: what is compared."""

    base: str
    host: str
    """With the port where one is named: what people are shown."""
    origin: str
    query: str

    def answered(self, params: Mapping[str, str | None]) -> str:
        """The address with an answer; what is None is left out."""
        added = urlencode({name: value for name, value in params.items() if value is not None})
        return f"{self.base}?{'&'.join(part for part in (self.query, added) if part)}"


def problem_of(url: str, *, may_have_query: bool) -> tuple[str, str] | None:
    """What is wrong with an address, as (code, message); None where it may be stored."""
    if len(url) > MAX_URL:
        return "too_long", f"at most {MAX_URL} characters"
    parsed = _parsed(url)
    if parsed is None:
        return "invalid_url", "not a URL that a browser could be sent to"
    if parsed.scheme != "https" and not (parsed.scheme == "http" and _is_loopback(parsed.raw_host or "")):
        return "scheme_not_allowed", "must be https, or http on this machine's own address"
    authority = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    if "@" in authority:
        return "userinfo_not_allowed", "user and password are not allowed"
    if "#" in url:
        return "fragment_not_allowed", "a fragment is not allowed"
    if not (_AUTHORITY.match(url) and _HOST.fullmatch(parsed.raw_host or "")):
        return "invalid_url", "not a host and a port"
    if "?" in url and not may_have_query:
        return "not_allowed", "a query is not allowed; a link may bring one"
    if RESERVED & set(parsed.query):
        return "reserved", f"{', '.join(sorted(RESERVED))} are for the answer"
    return None


def read(url: str) -> ReturnUrl:
    """An address without `problem_of`, in parts."""
    parsed = URL(url)
    origin = str(parsed.origin())
    return ReturnUrl(
        base=f"{origin}{parsed.raw_path or '/'}",
        host=origin.partition("://")[2],
        origin=origin,
        query=parsed.raw_query_string,
    )


def _parsed(url: str) -> URL | None:
    if _UNPRINTABLE.search(url):
        return None
    try:
        parsed = URL(url)
        has_place = bool(parsed.raw_host) and parsed.port is not None
    except ValueError:
        return None
    return parsed if has_place else None


def _is_loopback(host: str) -> bool:
    """RFC 8252, 8.3: the addresses, and the name that browsers take for them."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
