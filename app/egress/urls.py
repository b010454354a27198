"""Which URLs a customer may store, and which of the stored ones may be asked. Pure: asks no name server.

What a name points to is judged at each connect; here falls what can be seen in the text. A URL is judged as aiohttp
will read it: the same parser says what its host is.
"""

import re
from collections.abc import Sequence

from yarl import URL

from app.egress.addresses import blocked_reason, literal, opens
from app.settings import Network, Settings

MAX_URL = 2_048

_HOST = re.compile(r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)")
_PORT = re.compile(r"(:[0-9]{0,5})?")
_METADATA_NAMES = frozenset(
    {
        "instance-data.ec2.internal",
        "metadata.goog",
        "metadata.google.internal",
        "metadata.platformequinix.com",
        "metadata.tencentyun.com",
    }
)
"""Names of metadata services; most lead to link-local addresses, and fall at connect too."""
_PRIVATE_NAMES = ("internal", "intranet", "local", "localdomain", "lan", "corp", "home", "private", "home.arpa")


def url_problem(
    url: str, settings: Settings, *, is_resolved_here: bool = False, may_be_plain: bool = False
) -> tuple[str, str] | None:
    """What is wrong with a customer's URL, as (code, message); None where it may be stored.

    Asks no name server: what a name points to is judged at each connect. Names that cannot be public are refused
    unless EGRESS_ALLOW opens such a place. With `is_resolved_here` the port of a name is left to who knows its address,
    with `may_be_plain` http:// leads to private places that EGRESS_ALLOW opens, whatever holds for webhooks.
    """
    if len(url) > MAX_URL:
        return "too_long", f"at most {MAX_URL} characters"
    if re.search(r"[\x00-\x20\x7f-\xa0\\]", url):
        return "invalid_url", "blanks, control characters and backslashes are not allowed"
    try:
        parsed = URL(url)
        host, port = (parsed.raw_host or "").lower().removesuffix("."), parsed.port
    except ValueError:
        return "invalid_url", "not a URL"
    is_plain = settings.webhook_allow_http or (may_be_plain and _is_opened(host, settings.egress_allow))
    schemes = ("https", "http") if is_plain else ("https",)
    if parsed.scheme not in schemes:
        return "scheme_not_allowed", f"must start with {' or '.join(f'{s}://' for s in schemes)}"
    authority = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    if "@" in authority:
        return "userinfo_not_allowed", "user and password are not allowed"
    if "#" in url:
        return "fragment_not_allowed", "a fragment is not allowed"
    if not _is_plain(authority, host):
        return "invalid_url", "not a host and a port"
    return _host_problem(host, port or 0, settings, is_resolved_here=is_resolved_here)


def _is_plain(authority: str, host: str) -> bool:
    """Whether the text around a host is what every parser takes for it: brackets of IPv6, and decimal digits."""
    if authority.startswith("["):
        return ":" in host and _PORT.fullmatch(authority.rpartition("]")[2]) is not None
    return _PORT.fullmatch("".join(authority.partition(":")[1:])) is not None


def _host_problem(host: str, port: int, settings: Settings, *, is_resolved_here: bool) -> tuple[str, str] | None:
    refused = "host_not_allowed", "this host may not be reached"
    address = literal(host)
    if address is None and not _HOST.fullmatch(host):
        return "invalid_url", "not a host name"
    if address is None and _NUMERIC.fullmatch(host.rpartition(".")[2]):
        return refused  # 127.1, 2130706433, 0x7f.1: addresses in a spelling that no standard URL has
    if address is None and not _may_exist(host, settings.egress_allow):
        return refused
    if address is not None and blocked_reason(address, settings.egress_allow):
        return refused
    opened = is_resolved_here or _is_local(host) if address is None else opens(address, settings.egress_allow)
    if port not in settings.webhook_ports and not opened:
        return "port_not_allowed", f"the port must be one of {', '.join(map(str, settings.webhook_ports))}"
    return None


def _is_opened(host: str, allow: Sequence[Network]) -> bool:
    """Whether the text of a host leads to a private place that is open: an address in `allow`, or a private name."""
    address = literal(host)
    return opens(address, allow) if address else _is_local(host) and _may_exist(host, allow)


def _may_exist(host: str, allow: Sequence[Network]) -> bool:
    """Whether a name could point to something that may be reached."""
    if host == "localhost" or host.endswith(".localhost"):
        return any(n.is_loopback for n in allow)
    return host not in _METADATA_NAMES and (not _is_local(host) or any(not n.is_loopback for n in allow))


def _is_local(host: str) -> bool:
    return "." not in host or host.endswith((".localhost", *(f".{name}" for name in _PRIVATE_NAMES)))
