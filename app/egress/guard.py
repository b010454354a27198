"""What aiohttp is built from here: a resolver and a maker of sockets that judge, and the clock of one exchange.

A name is resolved once, every answer is judged, and a judged address is dialled: there is no moment in which the
name could point somewhere else. Literals, which no resolver sees, are judged where their socket is made. Only
aiohttp's public seams are used, so that its connection pool stays as it is.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from functools import lru_cache
from time import perf_counter

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection

from app.egress.addresses import blocked_reason, literal, opens
from app.settings import Settings

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""All addresses of a name, as text; OSError where there are none."""


RECEIVE_BUFFER = 64 * 1_024
"""What the kernel holds of an answer that is not read yet, and so the most that arrives at once (Linux doubles it)."""


class Blocked(OSError):
    """Raised where aiohttp expects the failures of the network, so that it cleans up as after those."""


class Exchange:
    """The clock of one exchange, filled in by the guard while aiohttp works."""

    __slots__ = (
        "address",
        "answered",
        "dialled",
        "is_tunnelled",
        "max_read",
        "overdue",
        "resolved",
        "resolving",
        "securing",
        "sent",
        "started",
    )

    def __init__(self) -> None:
        self.started = perf_counter()
        self.resolving: float | None = None
        self.resolved: float | None = None
        self.dialled: float | None = None
        self.securing: float | None = None
        self.sent: float | None = None
        self.answered: float | None = None
        self.address: str | None = None
        self.is_tunnelled = False
        """A proxy connects, so that the peer of our connection is not whom the request is for."""
        self.max_read = 0
        """Bytes of the answer's body that the caller wants, at most; 0 is the usual bound."""
        self.overdue = "timeout"
        """The error code that it would be if the time were over now."""

    def phases_ms(self) -> dict[str, float | None]:
        """Milliseconds by phase; None where it did not take place or did not end."""
        return {
            "dns": _ms(self.resolving, self.resolved),
            "connect": _ms(self.dialled, self.securing or self.sent),
            "tls": _ms(self.securing, self.sent),
            "first_byte": _ms(self.sent, self.answered),
            "total": _ms(self.started, perf_counter()),
        }


CURRENT: ContextVar[Exchange | None] = ContextVar("egress_exchange", default=None)


def _ms(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round((end - start) * 1_000, 2)


class Guard(AbstractResolver):
    """Judges each address twice: all answers of a name before any is used, and every socket before it connects."""

    def __init__(self, settings: Settings, lookup: Lookup) -> None:
        self._settings = settings
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses of a name, or none: one bad answer spoils the rest."""
        exchange = CURRENT.get()
        if exchange:
            exchange.resolving = perf_counter()
        try:
            answers = await self._lookup(host)
        except UnicodeError as exc:
            raise OSError("not a host name") from exc
        if exchange:
            exchange.resolved = perf_counter()
        if not answers:
            raise OSError("the name has no address")
        for answer in answers:
            self._judge(answer, port)
        return [
            ResolveResult(
                hostname=host,
                host=answer,
                port=port,
                family=socket.AF_INET6 if ":" in answer else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for answer in answers
        ]

    def open_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for one judged address; literals, which no resolver sees, come here too."""
        family, kind, protocol, _, target = info
        exchange = CURRENT.get()
        if exchange:
            exchange.address = target[0]
        self._judge(target[0], target[1])
        if exchange:
            exchange.dialled = perf_counter()
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        return sock

    def _judge(self, text: str, port: int) -> None:
        address = literal(text)
        allow = self._settings.egress_allow
        if address is None or blocked_reason(address, allow):
            raise Blocked(f"{text} may not be reached")
        if port not in self._settings.webhook_ports and not opens(address, allow):
            raise Blocked(f"port {port} may not be reached")

    async def close(self) -> None:
        """Nothing is held."""


class TimedResponse(aiohttp.ClientResponse):
    """Notes when the request was on its way, and to whom (a connection from the pool was dialled earlier)."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        exchange = CURRENT.get()
        if exchange:
            exchange.sent = perf_counter()
            peer = connection.transport.get_extra_info("peername") if connection.transport else None
            exchange.address = peer[0] if peer and not exchange.is_tunnelled else exchange.address
        return await super().start(connection)


class _TlsContext(ssl.SSLContext):
    """Notes when the handshake begins; apart from that, what `ssl.create_default_context()` makes."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        exchange = CURRENT.get()
        if exchange:
            exchange.securing = perf_counter()
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def tls_context() -> ssl.SSLContext:
    """One for the process and its certificates: to read these takes longer than a delivery."""
    return _tls_context(ssl.get_default_verify_paths())


@lru_cache(maxsize=8)
def _tls_context(paths: ssl.DefaultVerifyPaths) -> ssl.SSLContext:
    del paths  # where load_default_certs reads
    context = _TlsContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context
