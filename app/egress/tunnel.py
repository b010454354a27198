"""The way through an egress proxy, where the operator has one: HTTP's CONNECT (RFC 9110, 9.3.6).

The proxy resolves the name and judges its address; whom it connects to is its word alone. So it matters whose fault a
refusal is: the proxy's own is not charged to the endpoint, that of the receiver behind it is. A proxy may say which by
`Proxy-Status` (RFC 9209), smokescreen by `X-Smokescreen-Error`, Squid by `X-Squid-Error`.
"""

import asyncio
import base64
import re
import socket
from collections.abc import Mapping
from time import perf_counter
from urllib.parse import unquote, urlsplit

import aiohttp

from app import __version__
from app.egress.guard import CURRENT, RECEIVE_BUFFER, Lookup

MAX_ANSWER = 16 * 1_024
_READ = 2 * 1_024


class TunnelRefused(aiohttp.ClientError):
    """No way through the proxy; `code` is what it means for the exchange."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Tunnel:
    """Opens connections through a proxy. Its address is the operator's, and not judged."""

    def __init__(self, url: str, lookup: Lookup) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._lookup = lookup
        self._credentials = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._credentials = f"proxy-authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"

    async def open(self, host: str, port: int) -> socket.socket:
        """A socket that leads to the host. TunnelRefused where there is no way."""
        exchange = CURRENT.get()
        if exchange:
            exchange.dialled, exchange.overdue = perf_counter(), "proxy_error"
        sock = await self._dial()
        try:
            if exchange:
                exchange.overdue = "timeout"  # whoever is silent now may be the receiver
            target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            request = f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nuser-agent: Punctual/{__version__}\r\n"
            await self._ask(sock, f"{request}{self._credentials}\r\n".encode("ascii"))
        except BaseException:
            sock.close()
            raise
        return sock

    async def _dial(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        try:
            addresses = await self._lookup(self._host)
        except (OSError, UnicodeError) as exc:
            raise TunnelRefused("proxy_error") from exc
        for address in addresses:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            try:
                await loop.sock_connect(sock, (address, self._port))
            except OSError:
                sock.close()
            except BaseException:
                sock.close()
                raise
            else:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
        raise TunnelRefused("proxy_error")

    async def _ask(self, sock: socket.socket, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        head = bytearray()
        try:
            await loop.sock_sendall(sock, request)
            while b"\r\n\r\n" not in head and len(head) <= MAX_ANSWER:
                if not (part := await loop.sock_recv(sock, _READ)):
                    break
                head += part
        except OSError as exc:
            raise TunnelRefused("proxy_error") from exc
        text, end, rest = bytes(head).partition(b"\r\n\r\n")
        status, headers = parse_head(text)
        if not end or status is None:
            raise TunnelRefused("proxy_error")
        if 200 <= status < 300:
            if rest:
                raise TunnelRefused("protocol_error")  # a receiver that speaks before it is asked
            return
        raise TunnelRefused(refusal(status, headers))


def parse_head(head: bytes) -> tuple[int | None, dict[str, str]]:
    """Status and headers (lower case; repeated ones joined) of an answer; no status where it is no HTTP."""
    first, *lines = head.decode("latin-1").split("\r\n")
    found = re.fullmatch(r"HTTP/1\.[01] ([1-5][0-9]{2})( .*)?", first)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            name = name.strip().lower()
            headers[name] = ", ".join(filter(None, (headers.get(name), value.strip())))
    return (int(found[1]) if found else None), headers


_PROXY_STATUS = {
    "connection_limit_reached": "proxy_error",
    "connection_refused": "connect_error",
    "connection_terminated": "connect_error",
    "connection_timeout": "timeout",
    "destination_ip_prohibited": "egress_blocked",
    "destination_ip_unroutable": "connect_error",
    "destination_not_found": "dns_error",
    "destination_unavailable": "connect_error",
    "dns_error": "dns_error",
    "dns_timeout": "dns_error",
    "http_request_denied": "egress_blocked",
}
"""Error types of RFC 9209, 2.3; what stands here for none is the proxy's own."""
_SQUID = {"ERR_ACCESS_DENIED": "egress_blocked", "ERR_CONNECT_FAIL": "connect_error", "ERR_DNS_FAIL": "dns_error"}


def refusal(status: int, headers: Mapping[str, str]) -> str:
    """Whose fault a proxy's answer to CONNECT is, as an error code: `proxy_error` unless it says otherwise.

    A 403 is its policy. Smokescreen gives 407 for that, 502 and 504 for receivers that it cannot connect to.
    """
    if found := re.search(r";\s*error=\"?([a-z_]+)", headers.get("proxy-status", "")):
        return _PROXY_STATUS.get(found[1], "proxy_error")
    if "x-squid-error" in headers:
        return _SQUID.get(headers["x-squid-error"].split(" ")[0], "proxy_error")
    if "x-smokescreen-error" in headers:
        if status == 502 and "resolve" in headers["x-smokescreen-error"]:
            return "dns_error"
        return {407: "egress_blocked", 502: "connect_error", 504: "timeout"}.get(status, "proxy_error")
    return "egress_blocked" if status == 403 else "proxy_error"
