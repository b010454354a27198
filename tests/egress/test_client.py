"""The guarded client: what it sends, whom it reaches, and what an answer or its absence is called."""

import asyncio
import datetime
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.egress.receivers import OK, answering, certificate, client, post, read_request, server_tls, serving


async def test_an_answer_with_its_times_and_address() -> None:
    async with serving(answering(OK, times=2)) as server, client() as egress:
        url = f"http://localhost:{server.port}/hook"
        first = await post(egress, url.replace("localhost", "127.0.0.1"))
        assert (first.status, first.error, first.body, first.address) == (200, None, "fine", "127.0.0.1")
        assert first.phases_ms["dns"] is None
        assert first.phases_ms["tls"] is None
        assert [first.phases_ms[name] is not None for name in ("connect", "first_byte", "total")] == [True] * 3
        second = await post(egress, url.replace("localhost", "127.0.0.1"))
        assert (second.phases_ms["connect"], second.address, server.connections) == (None, "127.0.0.1", 1)


async def test_what_is_sent() -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n")
        seen.append(await read_request(reader))
        writer.write(OK)

    async with serving(handle) as server, client() as egress:
        for _ in range(2):
            await post(egress, f"http://127.0.0.1:{server.port}/a%20b?q=1")
    for request in seen:
        head = request.lower()
        assert head.startswith(b"post /a%20b?q=1 http/1.1\r\n")
        assert b"accept-encoding: identity\r\n" in head
        assert b"cookie" not in head
        assert b"authorization" not in head
        assert request.endswith(b"\r\n\r\n{}")


async def test_another_method_and_all_of_an_answer() -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n" + b"x" * 5_000)

    async with serving(handle) as server, client() as egress:
        url = f"http://127.0.0.1:{server.port}/"
        answer = await egress.request("GET", url, headers={"authorization": "Bearer x"}, timeout_seconds=3)
    assert (answer.status, len(answer.content), len(answer.body)) == (200, 5_000, 2_000)
    assert seen[0].startswith(b"GET / HTTP/1.1\r\n")
    assert b"content-length" not in seen[0].lower()


async def test_only_messages_are_sent_twice() -> None:
    """A connection from the pool that turns out to be closed: a message may come twice, another request may not."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await read_request(reader)  # and answers it by closing

    async with serving(once) as server, client() as egress:
        url = f"http://127.0.0.1:{server.port}/"
        assert (await post(egress, url)).status == 200
        answer = await egress.request("POST", url, headers={}, body=b"{}", timeout_seconds=3)
        assert (answer.error, server.connections) == ("connection_reset", 1)


async def test_customers_headers_are_sent_and_ours_win() -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(OK)

    theirs = {"X-Tenant": "7", "Content-Type": "text/html", "host": "evil.example", "Cookie": "a=b", "X-Test": "9"}
    async with serving(handle) as server, client() as egress:
        await egress.post(
            f"http://127.0.0.1:{server.port}/",
            headers={"content-type": "application/json", "x-test": "1"},
            body=b"{}",
            timeout_seconds=3,
            customer_headers=theirs,
        )
    lines = seen[0].decode().lower().split("\r\n")
    assert {"x-tenant: 7", "content-type: application/json", "x-test: 1", f"host: 127.0.0.1:{server.port}"} <= {*lines}
    assert not [line for line in lines if "evil" in line or "cookie" in line or "html" in line or line == "x-test: 9"]


async def test_nothing_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b")
    monkeypatch.setenv("NETRC", str(netrc))
    async with serving(answering(OK)) as proxy, serving(answering(OK)) as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with client() as egress:
            assert (await post(egress, f"http://127.0.0.1:{server.port}/")).status == 200
        assert (proxy.connections, server.connections) == (0, 1)


async def test_private_addresses_are_blocked_unless_opened() -> None:
    async with serving(answering(OK)) as server, client(allow="") as egress:
        answer = await post(egress, f"http://127.0.0.1:{server.port}/")
        assert (answer.status, answer.error, answer.address) == (None, "egress_blocked", "127.0.0.1")
        assert (await post(egress, f"http://localhost:{server.port}/")).error == "egress_blocked"
        assert (await post(egress, f"http://[::ffff:127.0.0.1]:{server.port}/")).error == "egress_blocked"
        assert server.connections == 0


@pytest.mark.parametrize("spelling", ["2130706433", "127.1", "0x7f000001", "0177.0.0.1", "127.0.0.1."])
async def test_odd_spellings_reach_nothing(spelling: str) -> None:
    async with serving(answering(OK)) as server, client(allow="") as egress:
        answer = await post(egress, f"http://{spelling}:{server.port}/")
        assert answer.status is None
        assert answer.error in {"egress_blocked", "invalid_url", "dns_error"}
        assert server.connections == 0


async def test_one_bad_answer_spoils_the_rest() -> None:
    async def mixed(_: str) -> Sequence[str]:
        return ["127.0.0.1", "169.254.169.254"]

    async with serving(answering(OK)) as server, client(mixed) as egress:
        assert (await post(egress, f"http://receiver.example.com:{server.port}/")).error == "egress_blocked"
        assert server.connections == 0


async def test_a_name_that_changes_its_mind_is_judged_at_each_connect() -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])

    async def rebinding(_: str) -> Sequence[str]:
        return next(answers)

    # The server closes after each answer, so that the second exchange has to connect anew.
    close = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    async with serving(answering(close)) as server, client(rebinding) as egress:
        url = f"http://receiver.example.com:{server.port}/"
        assert (await post(egress, url)).status == 200
        assert (await post(egress, url)).error == "egress_blocked"
        assert server.connections == 1


async def test_ports_are_judged_at_connect() -> None:
    async def public(_: str) -> Sequence[str]:
        return ["8.8.8.8"]

    async with client(public) as egress:
        assert (await post(egress, "http://receiver.example.com:6379/")).error == "egress_blocked"


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async with serving(answering(OK)) as inner:
        location = f"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:{inner.port}/\r\ncontent-length: 0\r\n\r\n"
        async with serving(answering(location.encode())) as outer, client() as egress:
            assert (await post(egress, f"http://127.0.0.1:{outer.port}/")).status == 307
            assert inner.connections == 0


async def test_names_without_address_and_ports_without_listener() -> None:
    async def nowhere(_: str) -> Sequence[str]:
        raise OSError("no such name")

    async with client(nowhere) as egress:
        assert (await post(egress, "http://receiver.example.com/")).error == "dns_error"
    async with serving(answering(OK)) as server:
        port = server.port
    async with client() as egress:
        assert (await post(egress, f"http://127.0.0.1:{port}/")).error == "connect_error"


async def test_a_slow_name_server_is_part_of_the_deadline() -> None:
    async def slow(_: str) -> Sequence[str]:
        await asyncio.sleep(30)
        return []

    async with client(slow) as egress:
        assert (await post(egress, "http://receiver.example.com/", seconds=0.2)).error == "timeout"


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("120", 120, 120),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 0),
        ("soon", None, None),
        ("Fri, 20 Nov 2026 10:00:00 +99999999999999999999", None, None),
        ("Fri, 20 Nov 99999999999999999999 10:00:00 GMT", None, None),
        ("-5", None, None),
        ("", None, None),
    ],
)
async def test_retry_after(value: str, least: float | None, most: float | None) -> None:
    busy = f"HTTP/1.1 503 Busy\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n".encode()
    async with serving(answering(busy)) as server, client() as egress:
        answer = await post(egress, f"http://127.0.0.1:{server.port}/")
        assert answer.status == 503
        assert answer.retry_after == least == most


async def test_retry_after_as_a_date() -> None:
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100)
    busy = (
        b"HTTP/1.1 429 Busy\r\nretry-after: %b\r\ncontent-length: 0\r\n\r\n"
        % at.strftime("%a, %d %b %Y %H:%M:%S GMT").encode()
    )
    async with serving(answering(busy)) as server, client() as egress:
        after = (await post(egress, f"http://127.0.0.1:{server.port}/")).retry_after
        assert after is not None
        assert 95 < after <= 100


async def test_tls_is_verified_for_the_name_and_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def loopback(_: str) -> Sequence[str]:
        return ["127.0.0.1"]

    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Plain HTTP\r\n\r\n")

    pem = certificate(tmp_path, "receiver.example.com")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    async with serving(answering(OK), server_tls(pem)) as server, client(loopback) as egress:
        answer = await post(egress, f"https://receiver.example.com:{server.port}/")
        assert answer.status == 200
        assert all(isinstance(ms, float) for ms in answer.phases_ms.values())
        other = await post(egress, f"https://other.example.com:{server.port}/")
        assert (other.status, other.error) == (None, "tls_error")
    async with serving(plain) as server, client(loopback) as egress:
        assert (await post(egress, f"https://receiver.example.com:{server.port}/")).error == "tls_error"


async def test_nothing_is_sent_inside_a_transaction() -> None:
    from app import db  # noqa: PLC0415 - the marker that a transaction is open, set by hand without a database

    token = db._open.set(1)
    try:
        async with client() as egress:
            with pytest.raises(RuntimeError):
                await post(egress, "http://127.0.0.1:1/")
    finally:
        db._open.reset(token)
