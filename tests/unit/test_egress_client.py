"""The guarded client against servers that mean harm, on real sockets."""

import asyncio
import datetime
import gzip
import resource
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.egress import Egress, EgressAnswer, Lookup
from app.egress.client import MAX_BODY_KEPT, MAX_HEADERS
from app.settings import Settings

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A receiver made of bytes; counts connections."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections = 0
        self.port = 0
        self.open: set[asyncio.StreamWriter] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        try:
            await self.handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.open.discard(writer)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(handler)
    listener = await asyncio.start_server(server, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        while server.open:
            for writer in server.open:
                writer.transport.abort()
            await asyncio.sleep(0.01)


def answering(answer: bytes, *, times: int = 1) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(times):
            await read_request(reader)
            writer.write(answer)
            await writer.drain()

    return handle


@asynccontextmanager
async def client(lookup: Lookup | None = None, *, allow: str = "127.0.0.0/8") -> AsyncIterator[Egress]:
    values = {"database_url": "postgresql://x", "redis_url": "redis://x", "webhook_allow_http": True}
    egress = Egress(Settings.model_validate(values | {"egress_allow": allow}), lookup=lookup)
    try:
        yield egress
    finally:
        await egress.close()


async def post(egress: Egress, url: str, *, seconds: float = 3.0) -> EgressAnswer:
    return await egress.post(url, headers={"x-test": "1"}, body=b"{}", timeout_seconds=seconds)


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine"


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


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await reader.read()


async def trickled_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for n in range(1_000):
        writer.write(b"x-%d: y\r\n" % n)
        await writer.drain()
        await asyncio.sleep(0.05)


async def flood_of_1xx(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    while True:
        writer.write(b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n" * 50)
        await writer.drain()
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("handler", [never, trickled_headers, flood_of_1xx])
async def test_the_deadline_ends_it(handler: Handler) -> None:
    async with serving(handler) as server, client() as egress:
        started = monotonic()
        answer = await post(egress, f"http://127.0.0.1:{server.port}/", seconds=0.4)
        assert answer.status is None
        assert answer.error in {"timeout", "protocol_error"}
        assert monotonic() - started < 1.5


@pytest.mark.parametrize("gap", [0.0, 0.05])
async def test_a_body_without_end_costs_little(gap: float) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            chunk = b"a" if gap else b"a" * 65_536
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
            await asyncio.sleep(gap)

    async with serving(endless) as server, client() as egress:
        started = monotonic()
        answer = await post(egress, f"http://127.0.0.1:{server.port}/", seconds=0.5 if gap else 5)
        assert (answer.status, answer.error) == (200, None)  # the status decides
        assert len(answer.body) <= MAX_BODY_KEPT
        assert monotonic() - started < 1


async def test_a_gzip_bomb_is_not_opened() -> None:
    bomb = gzip.compress(b"a" * 200_000_000, 9)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    async with serving(answering(head + bomb)) as server, client() as egress:
        before = _peak_bytes()
        answer = await post(egress, f"http://127.0.0.1:{server.port}/")
        assert answer.status == 200
        assert "aaa" not in answer.body
        assert "\0" not in answer.body
        assert _peak_bytes() - before < 20_000_000


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1_024)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 20_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * (MAX_HEADERS + 1) + b"\r\n",
        b"HTTP/1.1 200 " + b"y" * 20_000 + b"\r\n\r\n",
        b"\x16\x03\x01 not http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    ],
)
async def test_answers_that_are_no_http(answer: bytes) -> None:
    async with serving(answering(answer)) as server, client() as egress:
        assert (await post(egress, f"http://127.0.0.1:{server.port}/")).error == "protocol_error"


async def test_a_reset_before_an_answer() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.transport.abort()

    async with serving(reset) as server, client() as egress:
        assert (await post(egress, f"http://127.0.0.1:{server.port}/")).error == "connection_reset"
        assert server.connections == 1


async def test_a_kept_connection_that_was_closed_meanwhile_is_no_failure() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await reader.read(10)  # the next request is answered by closing

    async with serving(once) as server, client() as egress:
        for _ in range(3):
            assert (await post(egress, f"http://127.0.0.1:{server.port}/")).status == 200
        assert server.connections == 3


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


def certificate(directory: Path, name: str) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{name}.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(encoding))
    return path


async def test_tls_is_verified_for_the_name_and_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def loopback(_: str) -> Sequence[str]:
        return ["127.0.0.1"]

    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Plain HTTP\r\n\r\n")

    pem = certificate(tmp_path, "receiver.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    async with serving(answering(OK), context) as server, client(loopback) as egress:
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
