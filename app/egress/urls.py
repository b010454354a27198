"""Which URLs a customer may store. Pure: asks no name server.

What a name points to is judged at each connect; here falls what can be seen in the text.
"""

import re
from collections.abc import Sequence

from yarl import URL

from app.egress.addresses import blocked_reason, literal, opens
from app.settings import Network, Settings

MAX_URL = 2_048

_HOST = re.compile(r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)")
_METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"})
_PRIVATE_NAMES = ("internal", "intranet", "local", "lan", "corp", "home.arpa")


def url_problem(url: str, settings: Settings) -> tuple[str, str] | None:
    """What is wrong with a customer's URL, as (code, message); None where it may be stored.

    Asks no name server: what a name points to is judged at each connect. Names that cannot be public are refused
    unless EGRESS_ALLOW opens such a place.
    """
    if len(url) > MAX_URL:
        return "too_long", f"at most {MAX_URL} characters"
    if re.search(r"[\x00-\x20\x7f\\]", url):
        return "invalid_url", "blanks, control characters and backslashes are not allowed"
    try:
        parsed = URL(url)
        host, port = (parsed.raw_host or "").lower().removesuffix("."), parsed.port
    except ValueError:
        return "invalid_url", "not a URL"
    schemes = ("https", "http") if settings.webhook_allow_http else ("https",)
    if parsed.scheme not in schemes:
        return "scheme_not_allowed", f"must start with {' or '.join(f'{s}://' for s in schemes)}"
    if "@" in re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]:
        return "userinfo_not_allowed", "user and password are not allowed"
    if "#" in url:
        return "fragment_not_allowed", "a fragment is not allowed"
    return _host_problem(host, port or 0, settings)


def _host_problem(host: str, port: int, settings: Settings) -> tuple[str, str] | None:
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
    opened = _is_local(host) if address is None else opens(address, settings.egress_allow)
    if port not in settings.webhook_ports and not opened:
        return "port_not_allowed", f"the port must be one of {', '.join(map(str, settings.webhook_ports))}"
    return None


def _may_exist(host: str, allow: Sequence[Network]) -> bool:
    """Whether a name could point to something that may be reached."""
    if host == "localhost" or host.endswith(".localhost"):
        return any(n.is_loopback for n in allow)
    return host not in _METADATA_NAMES and (not _is_local(host) or any(not n.is_loopback for n in allow))


def _is_local(host: str) -> bool:
    return "." not in host or host.endswith((".localhost", *(f".{name}" for name in _PRIVATE_NAMES)))
