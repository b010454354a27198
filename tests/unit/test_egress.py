"""Which addresses are dialled, and which URLs are stored."""

import ipaddress
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.egress import Egress, blocked_reason, url_problem
from app.egress.addresses import unwrapped
from app.errors import Invalid
from app.settings import Network, Settings


def words(text: str) -> list[str]:
    return text.split()


REFUSED = words("""
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254
168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1
192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9
224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::169.254.169.254 ::ffff:127.0.0.1 ::ffff:a9fe:a9fe ::ffff:10.0.0.1 ::ffff:0:127.0.0.1
64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::10.1.2.3 64:ff9b:1::7f00:1 64:ff9b:1::8.8.8.8
100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2001:db8::1
2002:7f00:1:: 2002:a9fe:a9fe:: 2002:808:808::1 2620:4f:8000::1 3fff::1 3fff:fff::1 5f00::1
4000::1 fc00::1 fd00:ec2::254 fdff::1 fe80::1 fe80::1%1 febf::1 fec0::1 ff02::1 ff0e::1
""")
REACHABLE = words("""
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 168.63.129.17
169.253.255.255 169.255.0.1 172.15.255.255 172.32.0.1 192.0.1.1 192.167.255.255 192.169.0.1 198.17.255.255
198.20.0.1 223.255.255.255 2001:200::1 2001:4860:4860::8888 2003::1 2600::1 2606:4700::1111 2a00::1 3ffe::1
::ffff:8.8.8.8 64:ff9b::8.8.8.8
""")


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    assert blocked_reason(ipaddress.ip_address(text)) is not None


@pytest.mark.parametrize("text", REACHABLE)
def test_reachable(text: str) -> None:
    assert blocked_reason(ipaddress.ip_address(text)) is None


FORMS: dict[str, Callable[[int, int], int]] = {
    # RFC 4291, 2.5.5; RFC 2765, 2.1
    "mapped": lambda v4, _: 0xFFFF << 32 | v4,
    "compatible": lambda v4, _: v4,
    "translated": lambda v4, _: 0xFFFF_0000 << 32 | v4,
    # RFC 3056; RFC 4380, 4 (server, and the client's own address inverted)
    "6to4": lambda v4, rest: 0x2002 << 112 | v4 << 80 | rest & (1 << 80) - 1,
    "teredo server": lambda v4, rest: 0x2001_0000 << 96 | v4 << 64 | rest & (1 << 64) - 1,
    "teredo client": lambda v4, rest: 0x2001_0000 << 96 | (rest & (1 << 64) - 1) << 32 | ~v4 & 0xFFFF_FFFF,
    # RFC 6052; RFC 8215, at each place where RFC 6052, 2.2 lets the address stand in its /48
    "nat64": lambda v4, _: 0x64FF9B << 96 | v4,
    "local nat64 /96": lambda v4, _: 0x64FF9B0001 << 80 | v4,
    "local nat64 /48": lambda v4, _: 0x64FF9B0001 << 80 | v4 >> 16 << 64 | (v4 & 0xFFFF) << 40,
    # RFC 5214, 6.1, under a prefix of the global space
    "isatap": lambda v4, rest: 0x2606_4700 << 96 | (rest & 0xFFFF_FFFF) << 64 | 0x5EFE << 32 | v4,
    "isatap, universal": lambda v4, rest: 0x2A00 << 112 | (rest & 0xFFFF_FFFF) << 64 | 0x0200_5EFE << 32 | v4,
}
any_v4 = st.one_of(st.ip_addresses(v=4), st.sampled_from([ipaddress.IPv4Address(a) for a in REFUSED if ":" not in a]))
any_v6 = st.one_of(
    st.ip_addresses(v=6),
    st.builds(lambda form, v4, rest: ipaddress.IPv6Address(FORMS[form](int(v4), rest)), st.sampled_from(sorted(FORMS)),
              any_v4, st.integers(0, 2**80)),
    st.sampled_from([ipaddress.IPv6Address(a) for a in REFUSED + REACHABLE if ":" in a]),
)  # fmt: skip
any_address = st.one_of(any_v4, any_v6)


def network_of(address: ipaddress.IPv4Address | ipaddress.IPv6Address, bits: int) -> Network:
    return ipaddress.ip_network((address.packed, min(bits, address.max_prefixlen)), strict=False)


networks = st.builds(network_of, any_address, st.integers(0, 128))


@given(address=any_v4, form=st.sampled_from(sorted(FORMS)), rest=st.integers(0, 2**80))
def test_an_address_in_disguise_is_judged_at_least_as_strictly(
    address: ipaddress.IPv4Address, form: str, rest: int
) -> None:
    plain = blocked_reason(address)
    disguised = blocked_reason(ipaddress.IPv6Address(FORMS[form](int(address), rest)))
    assert disguised is not None or plain is None
    if form in {"mapped", "nat64"}:  # which lead there, for everybody
        assert disguised == plain


@given(address=any_v6)
def test_only_global_unicast(address: ipaddress.IPv6Address) -> None:
    disguised = address.ipv4_mapped or address in ipaddress.ip_network("64:ff9b::/96")
    if blocked_reason(address) is None and not disguised:
        assert int(address) >> 125 == 1
        assert not address.is_private
        assert address.sixtofour is None
        assert address.teredo is None


@given(address=any_address)
def test_what_the_standard_library_refuses_is_refused(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Two opinions, and the stricter one holds; NAT64 alone is judged by what it leads to."""
    if blocked_reason(address) is None and address not in ipaddress.ip_network("64:ff9b::/96"):
        plain = getattr(address, "ipv4_mapped", None) or address
        assert plain.is_global
        assert not plain.is_multicast


@given(address=any_address, others=st.lists(networks, max_size=2), bits=st.none() | st.integers(0, 128))
def test_the_operator_opens_exactly_what_is_named(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, others: list[Network], bits: int | None
) -> None:
    allow = others + ([] if bits is None else [network_of(address, bits)])
    leads_to = unwrapped(address)
    is_named = any(leads_to in network for network in allow)
    is_scoped = isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None
    assert (blocked_reason(address, allow) is None) == (not is_scoped and (is_named or blocked_reason(address) is None))


def test_what_an_ipv6_network_opens_is_no_ipv4() -> None:
    allow = [ipaddress.ip_network("::/0")]
    assert blocked_reason(ipaddress.ip_address("fd00::1"), allow) is None
    for text in ("::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "10.0.0.1"):
        assert blocked_reason(ipaddress.ip_address(text), allow) is not None


def test_what_the_operator_opened_is_reachable_in_each_form() -> None:
    allow = [ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00:1::/32")]
    for text in ("10.1.2.3", "::ffff:10.1.2.3", "fd00:1::9"):
        assert blocked_reason(ipaddress.ip_address(text), allow) is None
    for text in ("10.2.0.1", "fd00:2::1", "127.0.0.1"):
        assert blocked_reason(ipaddress.ip_address(text), allow) is not None


# ------------------------------------------------------------------------------------------------------ URLs


def config(**values: Any) -> Settings:
    return Settings.model_validate(
        {"environment": "test", "database_url": "postgresql://x", "redis_url": "redis://x", **values}
    )


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://receiver.example.com/", "scheme_not_allowed"),
        ("ftp://receiver.example.com/", "scheme_not_allowed"),
        ("file:///etc/passwd", "scheme_not_allowed"),
        ("receiver.example.com", "scheme_not_allowed"),
        ("https://user:pass@receiver.example.com/", "userinfo_not_allowed"),
        ("https://@receiver.example.com/", "userinfo_not_allowed"),
        ("https://receiver.example.com@169.254.169.254/", "userinfo_not_allowed"),
        ("https://receiver.example.com/#x", "fragment_not_allowed"),
        ("https://receiver.example.com/#", "fragment_not_allowed"),
        ("https:///x", "invalid_url"),
        ("https://", "invalid_url"),
        ("https://receiver.example.com:99999/", "invalid_url"),
        ("https://receiver.example.com:x/", "invalid_url"),
        ("https://receiver.example.com\\@evil.example/", "invalid_url"),
        ("https://receiver .example.com/", "invalid_url"),
        ("https://receiver.example.com/\r\nhost: x", "invalid_url"),
        ("https://receiver..example.com/", "invalid_url"),
        ("https://%6c%6fcalhost/", "invalid_url"),
        ("https://[fe80::1%251]/", "host_not_allowed"),
        ("https://receiver.example.com:22/", "port_not_allowed"),
        ("https://receiver.example.com:0/", "port_not_allowed"),
        ("https://8.8.8.8:6379/", "port_not_allowed"),
        ("https://127.0.0.1/", "host_not_allowed"),
        ("https://10.0.0.1:9000/", "host_not_allowed"),
        ("https://[::1]/", "host_not_allowed"),
        ("https://[::ffff:169.254.169.254]/", "host_not_allowed"),
        ("https://169.254.169.254/latest/meta-data", "host_not_allowed"),
        ("https://2130706433/", "host_not_allowed"),
        ("https://127.1/", "host_not_allowed"),
        ("https://0x7f.1/", "host_not_allowed"),
        ("https://0177.0.0.1/", "host_not_allowed"),
        ("https://127.0.0.1./", "host_not_allowed"),
        ("https://localhost/", "host_not_allowed"),
        ("https://LOCALHOST./", "host_not_allowed"),
        ("https://a.localhost/", "host_not_allowed"),
        ("https://metadata.google.internal/", "host_not_allowed"),
        ("https://db.internal/", "host_not_allowed"),
        ("https://printer.local/", "host_not_allowed"),
        ("https://intranet/", "host_not_allowed"),
        ("https://receiver.example.com/" + "x" * 2_048, "too_long"),
    ],
)
def test_urls_that_are_not_stored(url: str, code: str) -> None:
    problem = url_problem(url, config())
    assert problem is not None
    assert problem[0] == code


@pytest.mark.parametrize(
    "url",
    [
        "https://receiver.example.com/hooks?x=1&y=a@b",
        "https://receiver.example.com:8443",
        "https://RECEIVER.example.com./x",
        "https://bücher.example/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
        "https://a_b.example.com/",
        "https://receiver.example.com/" + "x" * 2_019,
    ],
)
def test_urls_that_are_stored(url: str) -> None:
    assert url_problem(url, config()) is None


def test_what_the_operator_opens_may_be_named() -> None:
    test = config(egress_allow="127.0.0.0/8", webhook_allow_http=True)
    assert url_problem("http://127.0.0.1:54321/hook", test) is None
    assert url_problem("http://localhost:54321/hook", test) is None
    assert url_problem("http://intranet:8000/", test) is not None
    compose = config(egress_allow="172.16.0.0/12", webhook_allow_http=True)
    assert url_problem("http://application:3000/hook", compose) is None
    assert url_problem("http://localhost:3000/hook", compose) is not None
    assert url_problem("http://metadata.google.internal/", compose) is not None
    assert url_problem("https://receiver.example.com:3000/", compose) is not None


@pytest.mark.parametrize(
    ("url", "allow", "is_fine"),
    [
        ("http://10.1.2.3:8000/", "10.0.0.0/8", True),
        ("http://attendee:8000/", "10.0.0.0/8", True),
        ("http://attendee.internal/", "10.0.0.0/8", True),
        ("http://localhost:8000/", "127.0.0.0/8", True),
        ("http://10.1.2.3:8000/", "", False),
        ("http://attendee:8000/", "127.0.0.0/8", False),
        ("http://192.168.0.1/", "10.0.0.0/8", False),
        ("http://8.8.8.8/", "10.0.0.0/8", False),
        ("http://example.com/", "10.0.0.0/8", False),
        ("http://metadata.google.internal/", "10.0.0.0/8", False),
        ("ftp://10.1.2.3/", "10.0.0.0/8", False),
    ],
)
def test_http_leads_to_opened_places_where_the_caller_may_be_plain(url: str, allow: str, is_fine: bool) -> None:
    rules = config(egress_allow=allow)
    assert (url_problem(url, rules, may_be_plain=True) is None) is is_fine
    assert url_problem(url, rules) is not None


async def test_check_url_says_where() -> None:
    egress = Egress(config())
    egress.check_url("https://receiver.example.com/")
    with pytest.raises(Invalid) as caught:
        egress.check_url("https://10.0.0.1/", pointer="/webhook/url")
    assert [(e.pointer, e.code) for e in caught.value.errors] == [("/webhook/url", "host_not_allowed")]
    await egress.close()
