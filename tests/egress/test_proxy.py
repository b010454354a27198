"""An egress proxy on a real socket: what it is told, what stays judged here, and whose fault its refusals are."""

import asyncio
import base64
import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.egress import EgressAnswer
from app.settings import Settings
from tests.egress.receivers import (
    OK,
    Handler,
    Server,
    answering,
    certificate,
    client,
    post,
    read_request,
    server_tls,
    serving,
    settings,
)


class Proxy:
    """A proxy that speaks CONNECT, and resolves every name to 127.0.0.1."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.answer = answer
        self.asked: list[tuple[str, list[str]]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.asked.append((first, [h for h in headers if h]))
        if not self.answer.endswith(b"established\r\n\r\n"):
            writer.write(self.answer)
            await writer.drain()
            return
        port = int(first.split()[1].rpartition(":")[2])
        inner, onward = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(self.answer)
            await asyncio.gather(_pass(reader, onward), _pass(inner, writer))
        finally:
            onward.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def no_names(host: str) -> Sequence[str]:
    """The system's resolver: knows nothing but the proxy."""
    if host == "proxy.internal":
        return ["127.0.0.1"]
    raise AssertionError(f"{host} was looked up here")


def at(server: Server, credentials: str = "") -> str:
    return f"http://{credentials}proxy.internal:{server.port}"


async def test_everything_goes_through_it_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = certificate(tmp_path, "receiver.example.com")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    proxy = Proxy()
    async with serving(proxy) as entry, serving(answering(OK, times=2), server_tls(pem)) as receiver:
        rules = settings(egress_proxy=at(entry, "us%40er:pa:ss@"), webhook_ports=str(receiver.port))
        async with client(no_names, rules=rules) as egress:
            url = f"https://receiver.example.com:{receiver.port}/"
            answers = [await post(egress, url) for _ in range(2)]
            other = await post(egress, f"https://other.example.com:{receiver.port}/")
    assert [(a.status, a.body, a.error) for a in answers] == [(200, "fine", None)] * 2
    assert answers[0].phases_ms["dns"] is None
    assert all(isinstance(answers[0].phases_ms[name], float) for name in ("connect", "tls", "first_byte", "total"))
    assert answers[1].phases_ms["connect"] is None  # the connection was kept
    assert answers[0].address is None
    assert (other.status, other.error, other.is_ours) == (None, "tls_error", False)
    assert [first for first, _ in proxy.asked] == [
        f"CONNECT {host}.example.com:{receiver.port} HTTP/1.1" for host in ("receiver", "other")
    ]
    credentials = base64.b64encode(b"us@er:pa:ss").decode()
    assert f"proxy-authorization: Basic {credentials}" in proxy.asked[0][1]


async def test_the_receiver_learns_nothing_of_the_proxy() -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(OK)

    async with serving(Proxy()) as entry, serving(handle) as receiver:
        rules = settings(egress_proxy=at(entry, "u:p@"), webhook_allow_http=True, webhook_ports=str(receiver.port))
        async with client(no_names, rules=rules) as egress:
            assert (await post(egress, f"http://receiver.example.com:{receiver.port}/x")).status == 200
    assert seen[0].startswith(b"POST /x HTTP/1.1\r\n")  # plain HTTP goes through a tunnel too
    assert b"proxy" not in seen[0].lower()


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:10.0.0.1]/",
        "https://2130706433/",
        "https://localhost/",
        "https://metadata.google.internal/",
        "https://intranet/",
        "http://receiver.example.com/",
        "https://receiver.example.com:6379/",
        "https://8.8.8.8:22/",
    ],
)
async def test_what_the_text_says_is_judged_before_the_proxy_hears_of_it(url: str) -> None:
    proxy = Proxy()
    async with serving(proxy) as entry, client(no_names, rules=settings(egress_proxy=at(entry))) as egress:
        answer = await post(egress, url)
    assert (answer.status, answer.error, answer.is_ours) == (None, "egress_blocked", False)
    assert proxy.asked == []
    assert entry.connections == 0


@pytest.mark.parametrize(
    ("head", "error"),
    [
        ("403 Forbidden", "egress_blocked"),
        ("407 Proxy Authentication Required\r\nproxy-authenticate: Basic", "proxy_error"),
        ("400 Bad Request", "proxy_error"),
        ("429 Too Many Requests", "proxy_error"),
        ("500 Internal Server Error", "proxy_error"),
        ("502 Bad Gateway", "proxy_error"),
        ("503 Service Unavailable", "proxy_error"),
        ("504 Gateway Timeout", "proxy_error"),
        ("301 Elsewhere\r\nlocation: http://169.254.169.254/", "proxy_error"),
        ("407 No\r\nX-Smokescreen-Error: egress denied", "egress_blocked"),
        ("500 No\r\nX-Smokescreen-Error: Internal server error", "proxy_error"),
        ("502 No\r\nX-Smokescreen-Error: Failed to connect to remote host: connection refused", "connect_error"),
        ("502 No\r\nX-Smokescreen-Error: Failed to resolve remote hostname: no such host", "dns_error"),
        ("504 No\r\nX-Smokescreen-Error: Timed out connecting to remote host", "timeout"),
        ("503 No\r\nX-Squid-Error: ERR_CONNECT_FAIL 111", "connect_error"),
        ("503 No\r\nX-Squid-Error: ERR_DNS_FAIL 0", "dns_error"),
        ("503 No\r\nX-Squid-Error: ERR_CANNOT_FORWARD 0", "proxy_error"),
        ("502 No\r\nProxy-Status: edge; error=connection_refused", "connect_error"),
        ('502 No\r\nProxy-Status: edge; error="dns_error"; rcode="NXDOMAIN"', "dns_error"),
        ("504 No\r\nProxy-Status: edge; error=connection_timeout", "timeout"),
        ("502 No\r\nProxy-Status: edge; error=destination_ip_prohibited", "egress_blocked"),
        ("500 No\r\nProxy-Status: edge; error=proxy_internal_error", "proxy_error"),
    ],
)
async def test_whose_fault_a_refusal_is(head: str, error: str) -> None:
    answer = await refused(Proxy(f"HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n".encode()))
    assert (answer.status, answer.error, answer.is_ours) == (None, error, error == "proxy_error")


async def refused(proxy: Handler, *, seconds: float = 3.0) -> EgressAnswer:
    async with serving(proxy) as entry, client(no_names, rules=settings(egress_proxy=at(entry))) as egress:
        answer = await post(egress, "https://receiver.example.com/", seconds=seconds)
        assert entry.connections == 1
        return answer


async def hangs_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


async def speaks_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"220 mail.example.com ESMTP\r\n\r\n")


async def never_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x: y\r\n" * 1_000)
        await writer.drain()


@pytest.mark.parametrize("proxy", [hangs_up, resets, speaks_nonsense, never_ends])
async def test_a_proxy_that_is_broken(proxy: Handler) -> None:
    answer = await refused(proxy)
    assert (answer.error, answer.is_ours) == ("proxy_error", True)


async def test_a_proxy_that_is_away() -> None:
    async with serving(hangs_up) as entry:
        url = at(entry)
    for lookup in (no_names, nobody):
        async with client(lookup, rules=settings(egress_proxy=url)) as egress:
            answer = await post(egress, "https://receiver.example.com/")
            assert (answer.status, answer.error, answer.is_ours) == (None, "proxy_error", True)


async def nobody(_: str) -> Sequence[str]:
    raise OSError("no such name")


async def test_silence_is_the_proxys_until_it_is_connected() -> None:
    async def slow(_: str) -> Sequence[str]:
        await asyncio.sleep(30)
        return []

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    answer = await refused(silent, seconds=0.3)
    assert (answer.error, answer.is_ours) == ("timeout", False)  # the receiver may be what it waits for
    async with client(slow, rules=settings(egress_proxy="http://proxy.internal:1")) as egress:
        answer = await post(egress, "https://receiver.example.com/", seconds=0.3)
        assert (answer.error, answer.is_ours) == ("proxy_error", True)


async def test_a_receiver_that_speaks_before_it_is_asked() -> None:
    answer = await refused(Proxy(b"HTTP/1.1 200 OK\r\n\r\n" + OK.replace(b"200", b"201")))
    assert (answer.error, answer.is_ours) == ("protocol_error", False)


@pytest.mark.parametrize(
    "value",
    ["https://proxy:1", "socks5://proxy:1", "proxy:1", "http://proxy", "http://u:geheim@proxy", "http://proxy:99999",
     "http://proxy:1/geheim", "http://proxy:1?x=geheim"],
)  # fmt: skip
def test_addresses_that_are_none(value: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(egress_proxy=value)
    assert "geheim" not in str(caught.value)
    assert "must be http://host:port" in str(caught.value)


def test_credentials_are_not_shown() -> None:
    made: Settings = settings(egress_proxy="http://user:geheim@proxy:4750")
    assert "geheim" not in repr(made)
    assert settings(egress_proxy="").egress_proxy is None
