"""Receivers made of bytes on real sockets, and the guarded client before them."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.egress import Egress, EgressAnswer, Lookup
from app.settings import Settings

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A receiver made of bytes; counts connections."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections = 0
        self.port = 0
        self.busy: set[asyncio.Task[None]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        busy = asyncio.ensure_future(self.handler(reader, writer))
        self.busy.add(busy)
        try:
            await busy
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self.busy.discard(busy)


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
        while server.busy:
            for task in server.busy:
                task.cancel()
            await asyncio.sleep(0.01)


def answering(answer: bytes, *, times: int = 1) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(times):
            await read_request(reader)
            writer.write(answer)
            await writer.drain()

    return handle


def settings(**values: Any) -> Settings:
    return Settings.model_validate({"database_url": "postgresql://x", "redis_url": "redis://x"} | values)


@asynccontextmanager
async def client(
    lookup: Lookup | None = None, *, allow: str = "127.0.0.0/8", rules: Settings | None = None
) -> AsyncIterator[Egress]:
    """The client: plain HTTP to `allow`, or whatever `rules` say."""
    egress = Egress(rules or settings(webhook_allow_http=True, egress_allow=allow), lookup=lookup)
    try:
        yield egress
    finally:
        await egress.close()


async def post(egress: Egress, url: str, *, seconds: float = 30.0) -> EgressAnswer:
    return await egress.post(url, headers={"x-test": "1"}, body=b"{}", timeout_seconds=seconds)


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine"


def certificate(directory: Path, name: str, *, days_left: int = 1) -> Path:
    """A self-signed certificate and its key; with negative `days_left` it is over."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now + datetime.timedelta(days=days_left))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{name}.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(encoding))
    return path


def server_tls(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
