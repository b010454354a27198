"""What every provider's mapping does with an item before it reads a field of it: keep it, bound it, or park it.

Guarantees that nothing which PostgreSQL cannot store or index gets past (NUL and lone surrogates are taken out of
texts, endless identifiers refused), and that one odd item is parked under a stable id with its reason instead of
costing the others.
"""

import hashlib
import json
import re
from typing import Any

import orjson

from app.providers.base import RAW_LIMIT, Parked

ID_LIMIT = 1_100
"""Bytes of an identifier: what stands in an index must fit into a page of it, and a UID comes from whoever sent the
invitation. Google's ids have at most 1024 characters of ASCII ("Events" resource), and what it makes of one for a split
series, an instance or a UID has some forty more; Graph's have about 220."""

# An escaped NUL in JSON text: the backslash before its `u` is not itself escaped.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class Unreadable(Exception):
    """An item cannot be mapped; `reason` is the code it is parked with."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can hold it: no NUL, no lone surrogate."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text(fields: dict[str, Any], key: str) -> str | None:
    """A text field; None where it is absent or null. Unreadable `field_invalid`: else it looked like a change."""
    value = fields.get(key)
    if value is None or isinstance(value, str):
        return value
    raise Unreadable("field_invalid")


def identifier(fields: dict[str, Any], key: str) -> str | None:
    """A text field that stands in an index. Unreadable `identifier_too_long`."""
    value = text(fields, key)
    if value is not None and is_too_long(value):
        raise Unreadable("identifier_too_long")
    return value


def is_too_long(value: str) -> bool:
    """Whether an index could not hold it."""
    return len(value) * 4 > ID_LIMIT and len(value.encode(errors="surrogatepass")) > ID_LIMIT


def dump(item: object) -> tuple[str | None, str | None]:
    """The item's JSON (None over RAW_LIMIT), and why PostgreSQL could not hold the texts in it."""
    try:
        data = orjson.dumps(item)
    except TypeError:
        return _dump_odd(item)
    # Looking through the JSON once is cheaper than looking into each text.
    flaw = "nul_character" if b"\\u0000" in data and _NUL.search(data) else None
    return data.decode() if len(data) <= RAW_LIMIT else None, flaw


def _dump_odd(item: object) -> tuple[str | None, str | None]:
    """What orjson refuses: lone surrogates, integers over 64 bits (harmless), nesting beyond reason."""
    flaw = None
    try:
        text = json.dumps(item, ensure_ascii=False, separators=(",", ":"))
        if not is_storable(text):
            flaw = "lone_surrogate"
            text = json.dumps(item, separators=(",", ":"))
    except (RecursionError, ValueError):
        return None, "nested_too_deeply"
    data = text.encode()
    if flaw is None and _NUL.search(data):
        flaw = "nul_character"
    return text if len(data) <= RAW_LIMIT else None, flaw


_CLEANABLE = {"nul_character", "lone_surrogate"}


def read(item: object) -> tuple[object, str | None, str | None]:
    """The item with texts that PostgreSQL can hold, its JSON (None over RAW_LIMIT), and why it cannot be read.

    A NUL is dropped, a lone surrogate becomes U+FFFD: who typed or pasted it saw neither.
    """
    raw, flaw = dump(item)
    if flaw not in _CLEANABLE:
        return item, raw, flaw
    try:
        clean = _cleaned(item)
    except RecursionError:
        return item, raw, "nested_too_deeply"
    return clean, *dump(clean)


def _cleaned(value: object) -> object:
    if isinstance(value, str):
        return (
            value
            if is_storable(value)
            else value.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(inner) for key, inner in value.items()}
    return [_cleaned(inner) for inner in value] if isinstance(value, list) else value


def park(event_id: str | None, reason: str, raw: str | None) -> Parked:
    """Without an id of its own an item is kept under one made from its content: the same one each time it comes."""
    if event_id is None:
        event_id = f"parked:{hashlib.sha256((raw or reason).encode()).hexdigest()[:32]}"
    return Parked(event_id, reason, raw)
