"""aiohttp's connector with two things added: what an answer may cost, and the way through a proxy.

Both are hooks that aiohttp keeps for its own subclasses, so each is tried on real sockets (`tests/egress/`): a release
of aiohttp that drops one fails there.
"""

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from app.egress.guard import CURRENT, Guard, tls_context
from app.egress.tunnel import Tunnel

MAX_READ = 16 * 1_024
MAX_HEAD = 64 * 1_024
"""Bytes of an answer before its body, 1xx answers included."""
MAX_BODY = 2 * MAX_READ
"""Bytes of a body on the wire, however they are chunked; what was read until then counts. Twice of what the caller
reads, where that is more."""
MAX_INFORMATIONAL = 16
"""1xx answers that may come before an answer."""
MAX_FIELD = 8 * 1_024
MAX_FIELDS = 64
KEEPALIVE_SECONDS = 4.0
"""Below the five seconds after which common servers close an idle connection."""
_SLICE = 2 * 1_024
"""Read at a time before the body: so many 1xx answers, sixteen bytes each, may be objects at once."""


class Receiving(ResponseHandler):
    """Reads answers, and breaks off one that costs more than an answer may.

    An event loop hands on up to 256 KiB at once, which as 1xx answers are 16,000 objects and as small chunks 40,000.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._is_head = True
        self._informational = 0
        self._head = 0
        self._body = 0
        self._max_body = MAX_BODY

    def set_response_params(self, **params: Any) -> None:
        """A new answer is expected."""
        self._is_head, self._informational, self._head, self._body = True, 0, 0, 0
        exchange = CURRENT.get()
        self._max_body = max(MAX_BODY, 2 * exchange.max_read) if exchange else MAX_BODY
        super().set_response_params(**params)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Pass an answer on; 1xx answers say nothing to us."""
        if data[0].code < 200 and data[0].code != HTTPStatus.SWITCHING_PROTOCOLS:
            self._informational += 1
        elif self._informational <= MAX_INFORMATIONAL:
            self._is_head = False
            super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Read as much as an answer may cost."""
        at = 0
        while self._is_head and at < len(data):
            part = data[at : at + _SLICE]
            at += len(part)
            self._head += len(part)
            super().data_received(part)
            if self.exception() is not None or self.transport is None:
                return
            if self._informational > MAX_INFORMATIONAL or self._head > MAX_HEAD:
                self._break_off()
                return
        if at < len(data) or not data:
            rest = data[at : at + max(0, self._max_body - self._body)]
            self._body += len(data) - at
            super().data_received(rest)
        if self._body > self._max_body and self.transport is not None:
            self.transport.abort()

    def _break_off(self) -> None:
        self.set_exception(HttpProcessingError(message="more than an answer may say before its body"))
        if self.transport is not None:
            self.transport.abort()


class Connector(aiohttp.TCPConnector):
    """Connects to judged addresses, or through the proxy that does."""

    def __init__(self, guard: Guard, *, limit: int, tunnel: Tunnel | None) -> None:
        self._tls = tls_context()
        super().__init__(
            resolver=guard,
            socket_factory=guard.open_socket,
            use_dns_cache=False,
            ssl=self._tls,
            limit=limit,
            keepalive_timeout=KEEPALIVE_SECONDS,
        )
        self._tunnel = tunnel
        make: Callable[..., ResponseHandler] = Receiving
        self._factory = partial(make, loop=self._loop)

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> ResponseHandler:
        if self._tunnel is None:
            return await super()._create_connection(req, traces, timeout)
        host, port = req.url.raw_host or "", req.url.port or 0
        sock = await self._tunnel.open(host, port)
        tls: ssl.SSLContext | None = self._tls if req.is_ssl() else None
        try:
            _, protocol = await self._loop.create_connection(
                self._factory, sock=sock, ssl=tls, server_hostname=host if tls else None
            )
        except ssl.SSLError as exc:
            raise aiohttp.ClientConnectorSSLError(req.connection_key, exc) from exc
        except OSError as exc:
            raise aiohttp.ClientConnectorError(req.connection_key, exc) from exc
        return protocol
