"""Names of hosts: which are plain ones, and which belong to whom.

A host is looked up as a whole or as a subdomain, never by substring, so `zoom.us.example.com`, `evil-zoom.us` and
`https://zoom.us@evil.example` are nobody's.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Generic, TypeVar

_T = TypeVar("_T")
_DEPTH_MOST = 8
"""Labels of a subdomain; a deeper one is nobody's."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PLAIN = re.compile(rf"(?=.{{4,253}}\Z)(?:{_LABEL}\.){{1,10}}{_LABEL}")
_PRIVATE = ("arpa", "corp", "home", "internal", "intranet", "lan", "local", "localdomain", "localhost", "private")
"""Top level names that are never public (RFC 6761, RFC 6762, ICANN's reserved names, and what networks use)."""


class Hosts(Generic[_T]):
    """What belongs to a host: `zoom.us` means that one alone, `*.zoom.us` its subdomains. The former goes first."""

    def __init__(self, entries: Iterable[tuple[str, _T]]) -> None:
        exact: defaultdict[str, list[_T]] = defaultdict(list)
        below: defaultdict[str, list[_T]] = defaultdict(list)
        for host, value in entries:
            (below[host[2:]] if host.startswith("*.") else exact[host]).append(value)
        self._exact = {host: tuple(values) for host, values in exact.items()}
        self._below = {host: tuple(values) for host, values in below.items()}

    def of(self, host: str) -> tuple[_T, ...]:
        """What belongs to a host in lower case, in the order of the entries."""
        found = self._exact.get(host)
        if found is not None:
            return found
        for _ in range(_DEPTH_MOST):
            _, dot, host = host.partition(".")
            if not dot:
                break
            found = self._below.get(host)
            if found is not None:
                return found
        return ()


def is_public_name(host: str) -> bool:
    """Whether it is a plain name in lower case that can be public: no address, no single label, no private network."""
    if not _PLAIN.fullmatch(host):
        return False
    last = host.rpartition(".")[2]
    return last not in _PRIVATE and not last[0].isdigit()
