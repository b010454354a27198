"""Which addresses are dialled, and which URLs are stored."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.egress import Egress, blocked_reason, url_problem
from app.errors import Invalid
from app.settings import Settings


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


@given(address=st.ip_addresses(v=4))
def test_an_address_in_disguise_is_judged_as_what_it_leads_to(address: ipaddress.IPv4Address) -> None:
    plain = blocked_reason(address)
    assert blocked_reason(ipaddress.IPv6Address((0xFFFF << 32) | int(address))) == plain
    assert blocked_reason(ipaddress.IPv6Address((0x64FF9B << 96) | int(address))) == plain


@given(address=st.ip_addresses(v=6))
def test_only_global_unicast(address: ipaddress.IPv6Address) -> None:
    disguised = address.ipv4_mapped or address in ipaddress.ip_network("64:ff9b::/96")
    if blocked_reason(address) is None and not disguised:
        assert int(address) >> 125 == 1
        assert not address.is_private


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


async def test_check_url_says_where() -> None:
    egress = Egress(config())
    egress.check_url("https://receiver.example.com/")
    with pytest.raises(Invalid) as caught:
        egress.check_url("https://10.0.0.1/", pointer="/webhook/url")
    assert [(e.pointer, e.code) for e in caught.value.errors] == [("/webhook/url", "host_not_allowed")]
    await egress.close()
