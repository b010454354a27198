"""The client: sessions, limits, and what an answer or its absence means."""

import asyncio
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import perf_counter
from typing import NamedTuple

import aiohttp
from yarl import URL

from app.db import in_transaction
from app.egress.addresses import literal
from app.egress.connector import MAX_FIELD, MAX_FIELDS, MAX_READ, Connector
from app.egress.guard import CURRENT, Blocked, Exchange, Guard, Lookup, TimedResponse
from app.egress.headers import with_customers
from app.egress.names import Names
from app.egress.tunnel import Tunnel, TunnelRefused
from app.egress.urls import url_problem
from app.errors import refusal
from app.settings import Settings
from app.telemetry import log

MAX_BODY_KEPT = 2_000
URLS_REMEMBERED = 4_096
BODY_SECONDS = 2.0
"""The status decides; so long an answer's body is waited for, for the log."""


class EgressAnswer(NamedTuple):
    """How one exchange ended: a status, or the code of what went wrong before there was one."""

    status: int | None
    error: str | None
    retry_after: float | None
    """Seconds, as the other side asked for in `Retry-After`."""
    body: str
    """The first 2,000 bytes, as text."""
    phases_ms: dict[str, float | None]
    address: str | None
    """What was dialled; None where a proxy resolved the name."""
    content: bytes = b""
    """What was read of the body, at most MAX_READ bytes, or as many as the caller asked for."""

    @property
    def is_ours(self) -> bool:
        """Whether the fault is ours, so that it is not charged to whom the request was for."""
        return self.error == "proxy_error"


class _Judged(NamedTuple):
    """What the text of a URL says; settings do not change, so it is read once."""

    url: URL
    address: str | None
    problem: str | None


class Egress:
    """Asks customers' addresses. One per process: connections are kept and shared."""

    def __init__(self, settings: Settings, *, lookup: Lookup | None = None) -> None:
        self._settings = settings
        self._names = Names()
        self._lookup = lookup or self._names.look_up
        self._session: aiohttp.ClientSession | None = None
        self._judged: dict[tuple[str, bool], _Judged] = {}

    def check_url(self, url: str, *, pointer: str = "/url", may_be_plain: bool = False) -> None:
        """Invalid (422, with `pointer` as the wrong place) unless the URL may be stored."""
        problem = url_problem(url, self._settings, may_be_plain=may_be_plain)
        if problem:
            code, message = problem
            raise refusal(pointer, code, message=message)

    async def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        timeout_seconds: float,
        customer_headers: Mapping[str, str] | None = None,
    ) -> EgressAnswer:
        """`request` for messages: sent once more where a connection from the pool turns out to have been closed by the
        other side, which may be a second time for a receiver that closed it without an answer.
        """
        return await self.request(
            "POST",
            url,
            headers=with_customers(headers, customer_headers or {}),
            body=body,
            timeout_seconds=timeout_seconds,
            may_repeat=True,
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        timeout_seconds: float,
        may_repeat: bool = False,
        max_read: int | None = None,
        may_be_plain: bool = False,
    ) -> EgressAnswer:
        """One exchange within `timeout_seconds`, waiting for a connection included. The network never raises here.

        `max_read` is for callers to whom the body matters: so many bytes of it are read, for as long as there is time.
        Without it the status decides, and the beginning of the body is read for the log. `may_be_plain` as in
        `url_problem`.

        Error codes: dns_error, connect_error, tls_error, timeout, egress_blocked, connection_reset,
        protocol_error, invalid_url, proxy_error (alone not the fault of whom the request is for).
        """
        if in_transaction():
            raise RuntimeError(f"{method} to a customer's address inside a transaction")
        exchange = Exchange()
        exchange.is_tunnelled = self._settings.egress_proxy is not None
        exchange.max_read = max_read or 0
        token = CURRENT.set(exchange)
        try:
            target = self._judge(url, exchange, may_be_plain=may_be_plain)
            async with asyncio.timeout(timeout_seconds):
                response = await self._send(method, target, headers, body, exchange, may_repeat=may_repeat)
            exchange.answered = perf_counter()
            left = timeout_seconds - (exchange.answered - exchange.started)
            read = await _read(response, left if max_read else min(left, BODY_SECONDS), max_read or MAX_READ)
        except (aiohttp.ClientError, OSError, ValueError) as exc:  # TimeoutError is an OSError
            return EgressAnswer(None, _error_code(exc, exchange), None, "", exchange.phases_ms(), exchange.address)
        finally:
            CURRENT.reset(token)
        return EgressAnswer(
            status=response.status,
            error=None,
            retry_after=_retry_after(response.headers.get("Retry-After")),
            body=read[:MAX_BODY_KEPT].decode("utf-8", "replace").replace("\0", ""),
            phases_ms=exchange.phases_ms(),
            address=exchange.address,
            content=read,
        )

    def _judge(self, url: str, exchange: Exchange, *, may_be_plain: bool) -> URL:
        """The URL, judged once more: the rules may be stricter than when it was stored. Blocked or ValueError."""
        judged = self._judged.get((url, may_be_plain))
        if judged is None:
            if len(self._judged) >= URLS_REMEMBERED:
                self._judged.clear()
            judged = self._judged[url, may_be_plain] = self._read(url, may_be_plain=may_be_plain)
        exchange.address = judged.address
        if judged.problem:
            raise Blocked(judged.problem)
        return judged.url

    def _read(self, url: str, *, may_be_plain: bool) -> _Judged:
        problem = url_problem(
            url, self._settings, is_resolved_here=self._settings.egress_proxy is None, may_be_plain=may_be_plain
        )
        if problem and problem[0] in {"invalid_url", "too_long"}:
            raise ValueError(problem[1])
        parsed = URL(url)
        host = parsed.raw_host or ""
        return _Judged(parsed, host if literal(host) else None, problem[1] if problem else None)

    async def _send(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | None,
        exchange: Exchange,
        *,
        may_repeat: bool,
    ) -> aiohttp.ClientResponse:
        session = self._open_session()
        data = None if body is None else aiohttp.BytesPayload(body)
        try:
            return await session.request(method, url, data=data, headers=headers, allow_redirects=False)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
            if not may_repeat or exchange.dialled is not None or isinstance(exc, aiohttp.ClientConnectorError):
                raise
            data = None if body is None else aiohttp.BytesPayload(body)
            return await session.request(method, url, data=data, headers=headers, allow_redirects=False)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            guard = Guard(self._settings, self._lookup)
            proxy = self._settings.egress_proxy
            connector = Connector(
                guard,
                limit=self._settings.delivery_concurrency,
                tunnel=Tunnel(proxy.get_secret_value(), self._lookup) if proxy else None,
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
                max_line_size=MAX_FIELD,
                max_field_size=MAX_FIELD,
                max_headers=MAX_FIELDS,
            )
        return self._session

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
        self._names.close()


async def _read(response: aiohttp.ClientResponse, seconds: float, most: int) -> bytes:
    """The first bytes of an answer. What cannot be read in time or at all is left: the status is known."""
    if response.content.is_eof():
        return response.content.read_nowait(most)
    read = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while len(read) < most and (chunk := await response.content.read(most - len(read))):
                read += chunk
    except (aiohttp.ClientError, OSError) as exc:  # TimeoutError is an OSError
        log.debug("egress.answer_cut", error=type(exc).__name__)
    finally:
        response.close()  # gives a connection back whose answer was read to its end, and closes any other
    return bytes(read)


def _error_code(exc: Exception, exchange: Exchange) -> str:
    cause = exc.os_error if isinstance(exc, aiohttp.ClientConnectorError) else exc
    if isinstance(cause, Blocked):
        return "egress_blocked"
    if isinstance(exc, TunnelRefused):
        return exc.code
    if isinstance(exc, TimeoutError) and not isinstance(exc, aiohttp.ClientError):
        return exchange.overdue
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
