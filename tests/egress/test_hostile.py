"""Receivers that mean harm, on real sockets: each attempt ends by its deadline, with the word for what was wrong."""

import asyncio
import gzip
import socket
import ssl
import struct
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TypeAlias

import pytest

from app.egress.client import BODY_SECONDS, MAX_BODY_KEPT
from app.egress.connector import MAX_FIELD, MAX_FIELDS, MAX_HEAD, MAX_INFORMATIONAL, MAX_READ
from tests.egress.receivers import (
    OK,
    Handler,
    answering,
    certificate,
    client,
    post,
    read_request,
    server_tls,
    serving,
)

DEADLINE = 0.5
SLACK = 20.0
"""What a busy machine may add before a test calls it late; without the deadline each of these would last for ever."""

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter


async def endlessly(writer: Writer, part: bytes, *, gap: float = 0.0) -> None:
    while True:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(gap)


async def accepts_and_is_silent(reader: Reader, _: Writer) -> None:
    await reader.read()
    await asyncio.Event().wait()


async def reads_and_is_silent(reader: Reader, _: Writer) -> None:
    await read_request(reader)
    await asyncio.Event().wait()


async def never_reads(_: Reader, writer: Writer) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


async def trickles_a_status_line(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    for byte in b"HTTP/1.1 200 " + b"x" * 1_000:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.05)


async def trickles_headers(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\n")
    await endlessly(writer, b"x", gap=0.05)


async def trickles_1xx(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    await endlessly(writer, b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n", gap=0.1)


@pytest.mark.parametrize(
    "handler",
    [
        accepts_and_is_silent,
        reads_and_is_silent,
        trickles_a_status_line,
        trickles_headers,
        trickles_1xx,
    ],
)
async def test_the_deadline_ends_it(handler: Handler) -> None:
    async with serving(handler) as server, client() as egress:
        started = monotonic()
        answer = await post(egress, f"http://127.0.0.1:{server.port}/", seconds=DEADLINE)
        assert (answer.status, answer.error) == (None, "timeout")
        assert DEADLINE <= monotonic() - started < DEADLINE + SLACK
        assert answer.phases_ms["total"] is not None
        assert answer.phases_ms["first_byte"] is None


async def test_a_receiver_that_does_not_read() -> None:
    async with serving(never_reads) as server, client() as egress:
        started = monotonic()
        answer = await egress.post(
            f"http://127.0.0.1:{server.port}/", headers={}, body=b"x" * 1_000_000, timeout_seconds=DEADLINE
        )
        assert (answer.status, answer.error) == (None, "timeout")
        assert monotonic() - started < DEADLINE + SLACK


async def trickles_a_body(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    await endlessly(writer, b"a", gap=0.05)


async def stops_in_its_body(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nabc")
    await asyncio.Event().wait()


async def trickles_chunk_extensions(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;")
    await endlessly(writer, b"a", gap=0.05)


@pytest.mark.parametrize("handler", [trickles_a_body, stops_in_its_body, trickles_chunk_extensions])
async def test_a_body_that_never_ends_has_the_deadline_too(handler: Handler) -> None:
    async with serving(handler) as server, client() as egress:
        started = monotonic()
        answer = await post(egress, f"http://127.0.0.1:{server.port}/", seconds=DEADLINE)
        assert (answer.status, answer.error) == (200, None)  # the status decides
        assert monotonic() - started < DEADLINE + SLACK
        started = monotonic()
        assert (await post(egress, f"http://127.0.0.1:{server.port}/", seconds=30)).status == 200
        assert BODY_SECONDS <= monotonic() - started < BODY_SECONDS + SLACK


def floods(head: bytes, part: bytes) -> Handler:
    async def handle(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(head)
        await endlessly(writer, part)

    return handle


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
BODIES = {
    "to the end of the connection": floods(b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 65_536),
    "of a told length": floods(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n", b"a" * 65_536),
    "in large chunks": floods(CHUNKED, b"10000\r\n" + b"a" * 65_536 + b"\r\n"),
    "in small chunks": floods(CHUNKED, b"1\r\na\r\n" * 10_000),
    "of a gzip bomb": floods(
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n", gzip.compress(b"\0" * 50_000_000, 9)
    ),
}


@pytest.mark.parametrize("name", BODIES)
async def test_an_endless_body_is_read_a_little(name: str) -> None:
    async with serving(BODIES[name]) as server, client() as egress:
        answer = await post(egress, f"http://127.0.0.1:{server.port}/", seconds=30)
        assert (answer.status, answer.error) == (200, None)
        assert 0 < len(answer.content) <= MAX_READ
        assert len(answer.body) <= MAX_BODY_KEPT
        assert "\0" not in answer.body
        assert (answer.phases_ms["total"] or 0) < BODY_SECONDS * 1_000 + SLACK * 1_000


FRAMES = {
    "chunk extensions": floods(CHUNKED, b"1;" + b"x" * 65_536),
    "trailers": floods(CHUNKED + b"1\r\na\r\n0\r\n", b"x: y\r\n" * 10_000),
    "a chunk size": floods(CHUNKED, b"0" * 65_536),
}


@pytest.mark.parametrize("name", FRAMES)
async def test_endless_framing_of_a_body(name: str) -> None:
    async with serving(FRAMES[name]) as server, client() as egress:
        answer = await post(egress, f"http://127.0.0.1:{server.port}/", seconds=30)
        assert (answer.status, answer.error) == (200, None) or answer.error == "protocol_error"
        assert (answer.phases_ms["total"] or 0) < BODY_SECONDS * 1_000 + SLACK * 1_000


HEADS = {
    "a long header": b"HTTP/1.1 200 OK\r\nx: " + b"y" * (MAX_FIELD * 2) + b"\r\n\r\n",
    "a long name": b"HTTP/1.1 200 OK\r\n" + b"x" * (MAX_FIELD * 2) + b": y\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    "more in all than each allows": b"HTTP/1.1 200 OK\r\n"
    + (b"x: " + b"y" * (MAX_FIELD - 200) + b"\r\n") * (MAX_HEAD // MAX_FIELD + 2)
    + b"\r\n",
    "a long reason": b"HTTP/1.1 200 " + b"y" * (MAX_FIELD * 2) + b"\r\n\r\n",
    "too many 1xx": b"HTTP/1.1 100 \r\n\r\n" * (MAX_INFORMATIONAL + 1) + OK,
    "tls on the plain port": b"\x16\x03\x01 not http at all\r\n\r\n",
    "another protocol": b"220 mail.example.com ESMTP\r\n",
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "HTTP/9.9": b"HTTP/9.9 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "a length of letters": b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
    "a NUL in a header": b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", HEADS)
async def test_heads_that_are_no_answer(name: str) -> None:
    async with serving(answering(HEADS[name])) as server, client() as egress:
        answer = await post(egress, f"http://127.0.0.1:{server.port}/")
        assert (answer.status, answer.error) == (None, "protocol_error")


async def test_what_is_just_allowed() -> None:
    fields = b"".join(b"x-%d: %b\r\n" % (n, b"y" * 800) for n in range(MAX_FIELDS - 1))
    heads = [
        b"HTTP/1.1 100 \r\n\r\n" * MAX_INFORMATIONAL + OK,
        b"HTTP/1.1 200 OK\r\n" + fields + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * (MAX_FIELD - 10) + b"\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nfine",
    ]
    for head in heads:
        async with serving(answering(head)) as server, client() as egress:
            assert (await post(egress, f"http://127.0.0.1:{server.port}/")).status == 200


@pytest.mark.parametrize(
    "part", [b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n", b"HTTP/1.1 102 \r\nx: y\r\n\r\n"]
)
async def test_a_flood_of_1xx_ends_long_before_the_deadline(part: bytes) -> None:
    async with serving(floods(b"", part * 4_000)) as server, client() as egress:
        answer = await post(egress, f"http://127.0.0.1:{server.port}/", seconds=30)
        assert (answer.status, answer.error) == (None, "protocol_error")
        assert (answer.phases_ms["total"] or 0) < SLACK * 1_000


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nabc\r\n",
        b"-1\r\nabc\r\n",
        b"ffffffffffffffffff\r\nabc\r\n",
        b"5\r\nabc",
        b"3\r\nabcdef\r\n0\r\n\r\n",
    ],
)
async def test_chunks_that_are_none(body: bytes) -> None:
    """The status is known by then; what there is of the body is shown."""
    async with serving(answering(CHUNKED + body)) as server, client() as egress:
        answer = await post(egress, f"http://127.0.0.1:{server.port}/")
        assert (answer.status, answer.error) == (200, None) or answer.error == "protocol_error"
        assert len(answer.body) <= 6


async def test_lengths_that_lie() -> None:
    short = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nshort"
    long = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfineHTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n"
    async with serving(answering(short)) as server, client() as egress:
        answer = await post(egress, f"http://127.0.0.1:{server.port}/")
        assert (answer.status, answer.body) == (200, "short")
    async with serving(answering(long, times=3)) as server, client() as egress:
        for _ in range(3):  # an answer that nobody asked for is not taken for that of the next request
            answer = await post(egress, f"http://127.0.0.1:{server.port}/")
            assert (answer.status, answer.body) == (200, "fine")


# ------------------------------------------------------------------------------------------------------ resets


def reset(writer: Writer) -> None:
    """Close with RST, as a machine does that forgot the connection."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def resets_after(answer: bytes | None) -> Handler:
    """Reset at once (None), or after the request and so much of an answer."""

    async def handle(reader: Reader, writer: Writer) -> None:
        if answer is not None:
            await read_request(reader)
            writer.write(answer)
            await writer.drain()
            await asyncio.sleep(0.05)  # lets it arrive: a reset overtakes what is not read yet
        reset(writer)

    return handle


@pytest.mark.parametrize("answer", [None, b"", b"HTTP/1.", b"HTTP/1.1 200 OK\r\nx: y\r\n", b"HTTP/1.1 100 \r\n\r\n"])
async def test_a_reset_before_an_answer(answer: bytes | None) -> None:
    async with serving(resets_after(answer)) as server, client() as egress:
        got = await post(egress, f"http://127.0.0.1:{server.port}/")
        assert (got.status, got.error) == (None, "connection_reset")
        assert server.connections == 1


async def test_a_reset_within_a_body() -> None:
    answer = b"HTTP/1.1 204 OK\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc"
    for head in answer:
        async with serving(resets_after(head)) as server, client() as egress:
            got = await post(egress, f"http://127.0.0.1:{server.port}/")
            assert got.status in {200, 204}
            assert got.error is None


async def test_a_kept_connection_that_was_closed_meanwhile_is_no_failure() -> None:
    async def once(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(OK)
        await reader.read(10)  # the next request is answered by closing

    async with serving(once) as server, client() as egress:
        for _ in range(3):
            assert (await post(egress, f"http://127.0.0.1:{server.port}/")).status == 200
        assert server.connections == 3


# --------------------------------------------------------------------------------------------------------- TLS


async def loopback(_: str) -> Sequence[str]:
    return ["127.0.0.1"]


async def says_plain(reader: Reader, writer: Writer) -> None:
    await reader.read(10_000)
    writer.write(b"HTTP/1.1 400 Plain HTTP\r\n\r\n")


async def test_tls_that_is_not_to_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = certificate(tmp_path, "receiver.example.com")
    expired = certificate(tmp_path, "expired.example.com", days_left=-1)
    unknown = certificate(tmp_path, "unknown.example.com")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(good.read_bytes() + expired.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.load_cert_chain(good)
    old.set_ciphers("AES128-SHA:@SECLEVEL=0")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with client(loopback) as egress:
        async with serving(answering(OK), server_tls(good)) as server:
            assert (await post(egress, f"https://receiver.example.com:{server.port}/")).status == 200
            for host in ("other.example.com", "127.0.0.1"):
                assert (await post(egress, f"https://{host}:{server.port}/")).error == "tls_error"
        for name, pem in (("expired", expired), ("unknown", unknown)):
            async with serving(answering(OK), server_tls(pem)) as server:
                answer = await post(egress, f"https://{name}.example.com:{server.port}/")
                assert (answer.status, answer.error, answer.address) == (None, "tls_error", "127.0.0.1")
        async with serving(says_plain) as server:
            assert (await post(egress, f"https://receiver.example.com:{server.port}/")).error == "tls_error"
        async with serving(answering(OK), old) as server:
            answer = await post(egress, f"https://receiver.example.com:{server.port}/")
            assert answer.error in {"tls_error", "connect_error"}  # whether its alert arrives before it closes


async def garbles_its_hello(reader: Reader, writer: Writer) -> None:
    await reader.read(100)
    writer.write(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB begins
    await endlessly(writer, b"\0", gap=0.05)


@pytest.mark.parametrize("handler", [accepts_and_is_silent, garbles_its_hello])
async def test_a_handshake_that_never_ends(handler: Handler) -> None:
    async with serving(handler) as server, client(loopback) as egress:
        started = monotonic()
        answer = await post(egress, f"https://receiver.example.com:{server.port}/", seconds=DEADLINE)
        assert answer.status is None
        assert answer.error in {"timeout", "tls_error"}
        assert monotonic() - started < DEADLINE + SLACK
        assert answer.phases_ms["tls"] is None


async def test_a_caller_to_whom_the_body_matters_reads_as_much_of_it_as_it_says() -> None:
    wanted = 100 * 1_024

    async def large(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % wanted)
        for _ in range(wanted // 1_024):
            writer.write(b"x" * 1_024)
            await writer.drain()

    async def endless(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await endlessly(writer, b"x" * 1_024)

    for handler, most, length in ((large, wanted, wanted), (large, 50 * 1_024, 50 * 1_024), (endless, wanted, wanted)):
        async with serving(handler) as server, client() as egress:
            answer = await egress.request(
                "POST",
                f"http://127.0.0.1:{server.port}/",
                headers={},
                body=b"{}",
                timeout_seconds=5.0,
                max_read=most,
            )
        assert (answer.status, len(answer.content)) == (200, length)
        assert len(answer.body) == MAX_BODY_KEPT
