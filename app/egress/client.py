"""The client: sessions, limits, and what an answer or its absence means."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from time import perf_counter

import aiohttp
from yarl import URL

from app.db import in_transaction
from app.egress.guard import CURRENT, Blocked, Exchange, Guard, Lookup, TimedResponse, tls_context
from app.egress.headers import with_customers
from app.egress.names import Names
from app.egress.urls import url_problem
from app.errors import FieldProblem, Invalid
from app.settings import Settings
from app.telemetry import log

MAX_READ = 16 * 1_024
MAX_BODY_KEPT = 2_000
MAX_HEADER = 8 * 1_024
MAX_HEADERS = 64
BODY_SECONDS = 2.0
"""The status decides; so long an answer's body is waited for, for the log."""
KEEPALIVE_SECONDS = 4.0
"""Below the five seconds after which common servers close an idle connection."""


@dataclass(frozen=True, slots=True)
class EgressAnswer:
    """How one exchange ended: a status, or the code of what went wrong before there was one."""

    status: int | None
    error: str | None
    retry_after: float | None
    """Seconds, as the other side asked for in `Retry-After`."""
    body: str
    phases_ms: dict[str, float | None]
    address: str | None


class Egress:
    """Posts to customers' addresses. One per process: connections are kept and shared."""

    def __init__(self, settings: Settings, *, lookup: Lookup | None = None) -> None:
        self._settings = settings
        self._names = Names()
        self._lookup = lookup or self._names.look_up
        self._session: aiohttp.ClientSession | None = None

    def check_url(self, url: str, *, pointer: str = "/url") -> None:
        """Invalid (422, with `pointer` as the wrong place) unless the URL may be stored."""
        problem = url_problem(url, self._settings)
        if problem:
            code, message = problem
            raise Invalid(f"{pointer.strip('/')}: {message}", errors=(FieldProblem(pointer, code, message),))

    async def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        timeout_seconds: float,
        customer_headers: Mapping[str, str] | None = None,
    ) -> EgressAnswer:
        """One exchange within `timeout_seconds`, waiting for a connection included. The network never raises here.

        Of `customer_headers` those are sent that may be and that do not repeat one of `headers`.

        Error codes: dns_error, connect_error, tls_error, timeout, egress_blocked, connection_reset,
        protocol_error, invalid_url.
        """
        if in_transaction():
            raise RuntimeError("POST to a customer's address inside a transaction")
        exchange = Exchange()
        token = CURRENT.set(exchange)
        try:
            async with asyncio.timeout(timeout_seconds):
                response = await self._send(URL(url), with_customers(headers, customer_headers or {}), body, exchange)
            exchange.answered = perf_counter()
            left = timeout_seconds - (exchange.answered - exchange.started)
            read = await _read(response, min(left, BODY_SECONDS))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
            return EgressAnswer(None, _error_code(exc), None, "", exchange.phases_ms(), exchange.address)
        finally:
            CURRENT.reset(token)
        return EgressAnswer(
            status=response.status,
            error=None,
            retry_after=_retry_after(response.headers.get("Retry-After")),
            body=read[:MAX_BODY_KEPT].decode("utf-8", "replace").replace("\0", ""),
            phases_ms=exchange.phases_ms(),
            address=exchange.address,
        )

    async def _send(
        self, url: URL, headers: Mapping[str, str], body: bytes, exchange: Exchange
    ) -> aiohttp.ClientResponse:
        """Send, once more where a connection from the pool turns out to have been closed by the other side."""
        request = partial(self._open_session().post, url, data=body, headers=headers, allow_redirects=False)
        try:
            return await request()
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
            if exchange.dialled is not None or isinstance(exc, aiohttp.ClientConnectorError):
                raise
            return await request()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            guard = Guard(self._settings, self._lookup)
            connector = aiohttp.TCPConnector(
                resolver=guard,
                socket_factory=guard.open_socket,
                use_dns_cache=False,
                ssl=tls_context(),
                limit=self._settings.delivery_concurrency,
                keepalive_timeout=KEEPALIVE_SECONDS,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                response_class=TimedResponse,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                headers={"accept": "*/*", "accept-encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=None),  # asyncio.timeout() in post() covers more
                read_bufsize=MAX_READ,
                max_line_size=MAX_HEADER,
                max_field_size=MAX_HEADER,
                max_headers=MAX_HEADERS,
            )
        return self._session

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
        self._names.close()


async def _read(response: aiohttp.ClientResponse, seconds: float) -> bytes:
    """The first bytes of an answer. What cannot be read in time or at all is left: the status is known."""
    if response.content.is_eof():
        return response.content.read_nowait(MAX_READ)
    read = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while len(read) < MAX_READ and (chunk := await response.content.read(MAX_READ - len(read))):
                read += chunk
    except (aiohttp.ClientError, OSError) as exc:  # TimeoutError is an OSError
        log.debug("egress.answer_cut", error=type(exc).__name__)
    finally:
        response.close()  # gives a connection back whose answer was read to its end, and closes any other
    return bytes(read)


def _error_code(exc: Exception) -> str:
    if isinstance(exc, aiohttp.ClientConnectorError) and isinstance(exc.os_error, Blocked):
        return "egress_blocked"
    for kinds, code in _ERROR_CODES:
        if isinstance(exc, kinds):
            return code
    return "protocol_error"


_ERROR_CODES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "dns_error"),
    ((aiohttp.ClientSSLError, ssl.SSLError), "tls_error"),
    (aiohttp.ClientConnectorError, "connect_error"),
    (TimeoutError, "timeout"),
    ((aiohttp.ServerDisconnectedError, OSError), "connection_reset"),
    ((aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError), "invalid_url"),
    (aiohttp.ClientError, "protocol_error"),
    (ValueError, "invalid_url"),
)
"""First match counts: aiohttp's classes are each other's children, and the operating system's."""


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3: a number or a date); None where it is neither."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError, TypeError):  # each is what some nonsense makes of it
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
