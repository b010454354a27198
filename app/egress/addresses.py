"""Which addresses must not be dialled on a customer's behalf. Pure.

The tables are our own: `ipaddress.is_global` lets multicast, NAT64, IPv4-compatible and, before Python 3.13, 6to4
addresses pass. For IPv6 they say what may be dialled: the global unicast space, less what in it is not global or leads
to IPv4. Outside of it lie, among others, IPv4-compatible and translated addresses (::/96, ::ffff:0:0:0/96), NAT64 with
a prefix of its own network (64:ff9b:1::/48), segment routing (5f00::/16), unique local, link-local and site-local ones.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from app.settings import Network

Address = IPv4Address | IPv6Address

# https://www.iana.org/assignments/iana-ipv4-special-registry, and two that it does not list.
_V4_REFUSED: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared"),  # and Alibaba's metadata service
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "cloud_metadata"),  # Azure's host, in public space
        ("169.254.0.0/16", "link_local"),  # and most clouds' metadata services
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol"),  # and Oracle's metadata service
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "protocol"),  # AS112
        ("192.52.193.0/24", "protocol"),  # AMT
        ("192.88.99.0/24", "transition"),  # 6to4 relays
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "protocol"),  # AS112
        ("198.18.0.0/15", "benchmark"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_V6_GLOBAL = IPv6Network("2000::/3")
# https://www.iana.org/assignments/iana-ipv6-special-registry: what lies inside the global space and is not global.
_V6_REFUSED: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("2001::/23", "protocol"),  # Teredo, ORCHID, benchmarking, AS112, …
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "transition"),  # 6to4 carries any IPv4 address
        ("2620:4f:8000::/48", "protocol"),  # AS112
        ("3fff::/20", "documentation"),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


def blocked_reason(address: Address, allow: Sequence[Network] = ()) -> str | None:
    """Why an address must not be dialled, or None. What `allow` contains may be.

    An IPv6 address that a host or its network turns into IPv4 (mapped, NAT64) is judged as that one. One with a scope
    belongs to an interface of this machine, whatever its number.
    """
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "scoped"
    address = unwrapped(address)
    if any(address in network for network in allow):
        return None
    if isinstance(address, IPv4Address):
        return next((reason for network, reason in _V4_REFUSED if address in network), None)
    if address not in _V6_GLOBAL:
        return "not_global"
    if _isatap(address) and blocked_reason(IPv4Address(int(address) & 0xFFFF_FFFF)):
        return "transition"
    return next((reason for network, reason in _V6_REFUSED if address in network), None)


def unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to, or the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _isatap(address: IPv6Address) -> bool:
    """Whether a router of any network may send it on inside IPv4 (RFC 5214, 6.1): …:[0|200]:5efe:a.b.c.d."""
    return int(address) >> 32 & 0xFDFF_FFFF == 0x5EFE


def literal(host: str) -> Address | None:
    """The address that a host is, where it is no name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def opens(address: Address, allow: Sequence[Network]) -> bool:
    """Whether the operator opened the network of an address."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    return any(unwrapped(address) in network for network in allow)
