"""Identifiers: time-ordered keys inside, prefixed text outside.

A key is a 128-bit UUID whose first 48 bits are milliseconds since the epoch (the layout of UUIDv7), so
that rows made together lie together in an index. Customers see it as `cal_01J…`: a prefix that says what
it names, and 26 characters of Crockford's base 32.
"""

import os
import time
from uuid import UUID

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {c: i for i, c in enumerate(_ALPHABET)}
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_TRIPLES = [pair + c for pair in _PAIRS for c in _ALPHABET]
_LENGTH = 26

PROJECT, KEY, CALENDAR, EVENT = "proj", "key", "cal", "evt"
ENDPOINT, MESSAGE, DELIVERY, REPLAY, OAUTH_APP = "ep", "msg", "dlv", "rpl", "oapp"
BOT, LAUNCHER, RULE, APP_SECRET = "bot", "lch", "rule", "oas"
ENTRY = "aud"
CONNECT_LINK = "lnk"


def new_id() -> UUID:
    """A new key; later calls in the same process and millisecond are not ordered among themselves."""
    return new_ids(1)[0]


def new_ids(count: int) -> list[UUID]:
    """Many new keys of one millisecond in ascending order, for a page of rows: one read of the system's randomness."""
    head = (time.time_ns() // 1_000_000 & ((1 << 48) - 1)) << 80
    tail = int.from_bytes(os.urandom(10), "big") & ((1 << 79) - 1)
    return [_stamped(head | (tail + i)) for i in range(count)]


def _stamped(value: int) -> UUID:
    value &= ~(0xF << 76) & ~(0x3 << 62)
    return UUID(int=value | (0x7 << 76) | (0x2 << 62))


def public(prefix: str, key: UUID) -> str:
    """The form a customer sees, such as `evt_01J9Z…`."""
    v, t = key.int, _TRIPLES  # a page has hundreds of ids: table look-ups, and one string made at the end
    return (
        f"{prefix}_{_PAIRS[v >> 120]}{t[v >> 105 & 32767]}{t[v >> 90 & 32767]}{t[v >> 75 & 32767]}"
        f"{t[v >> 60 & 32767]}{t[v >> 45 & 32767]}{t[v >> 30 & 32767]}{t[v >> 15 & 32767]}{t[v & 32767]}"
    )


def parse(prefix: str, text: str) -> UUID | None:
    """The key behind a customer's text, or None where it is no such id (which reads like an unknown one)."""
    head, _, body = text.partition("_")
    if head != prefix or len(body) != _LENGTH or body[0] > "7":
        return None
    value = 0
    for char in body:
        digit = _VALUES.get(char)
        if digit is None:
            return None
        value = value << 5 | digit
    return UUID(int=value)
