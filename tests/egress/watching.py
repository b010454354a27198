"""Every connect that this process makes, seen by the interpreter itself: an audit hook, which nothing can go round."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from app.settings import Settings

_watches: list[list[Any]] = []


def _seen(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        for watch in _watches:
            watch.append(args[1])


sys.addaudithook(_seen)  # there is no way to take one away


@contextmanager
def connects(services: Settings | None = None) -> Iterator[list[Any]]:
    """The addresses of all connects in the block, save those to the tests' own PostgreSQL and Redis."""
    seen: list[Any] = []
    own = _own(services) if services else set()
    _watches.append(seen)
    try:
        yield seen
    finally:
        _watches.remove(seen)
        seen[:] = [address for address in seen if _key(address) not in own]


def _key(address: Any) -> Any:
    return address[:2] if isinstance(address, tuple) else address


def _own(services: Settings) -> set[Any]:
    """Addresses of the two services, in the forms that a connect may have."""
    own: set[Any] = set()
    for url, default in ((services.database_url, 5432), (services.redis_url, 6379)):
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        host, port = query.get("host", [parts.hostname])[0], parts.port or int(query.get("port", [default])[0])
        own |= {(host, port), f"{host}/.s.PGSQL.{port}", parts.path}
        own |= {(loopback, port) for loopback in ("127.0.0.1", "::1") if host == "localhost"}
    return own
