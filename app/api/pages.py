"""Lists in pages: positions that hold while others write.

A cursor is a position (sort value and id of the last row seen), a direction, and a digest that binds both to the
list: project, path, filters and ordering. A cursor of another list, an edited one or a made-up one is refused. It
grants nothing: every query names the project itself.
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn
from urllib.parse import urlencode
from uuid import UUID

from starlette.requests import Request

from app.db import Row
from app.errors import refusal

_VERSION: Final = 1
_LAYOUT: Final = struct.Struct(">BBq16s8s")  # version, direction, sort value, id, digest
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_UNBOUND: Final = {"cursor", "limit", "exclude"}
"""Parameters that may change from page to page."""

Value = datetime | int


@dataclass(frozen=True, slots=True)
class Order:
    """A list's order: a column with the id as tie-breaker. Both are constants of ours, never a customer's text."""

    column: str
    id_column: str
    is_descending: bool
    is_time: bool = True
    is_unique: bool = False
    """The column needs no tie-breaker; without one the order is that of an index on the column alone."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page starts: beyond this row, or before it."""

    value: Value
    id: UUID
    is_backward: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of a list that one request asks for, as SQL."""

    order: Order
    limit: int
    position: Position | None

    @property
    def condition(self) -> str:
        """Rows beyond the position: one comparison of tuples, so an index finds the start."""
        if self.position is None:
            return "true"
        sign = "<" if self.order.is_descending != self.position.is_backward else ">"
        if self.order.is_unique:
            return f"{self.order.column} {sign} :page_value"
        return f"({self.order.column}, {self.order.id_column}) {sign} (:page_value, :page_id)"

    @property
    def order_by(self) -> str:
        """Order and limit; one row more than asked for says whether there is another page."""
        is_backward = self.position is not None and self.position.is_backward
        direction = "DESC" if self.order.is_descending != is_backward else "ASC"
        tie = "" if self.order.is_unique else f", {self.order.id_column} {direction}"
        return f"ORDER BY {self.order.column} {direction}{tie} LIMIT :page_limit"

    @property
    def params(self) -> dict[str, Any]:
        """Values of both."""
        params: dict[str, Any] = {"page_limit": self.limit + 1}
        if self.position is not None:
            params |= {"page_value": self.position.value, "page_id": self.position.id}
        return params


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of one page, in the list's order, and its neighbours' addresses."""

    rows: Sequence[Row]
    next: str | None
    previous: str | None


class Pager:
    """One request for a page: reads its cursor, later writes those of its neighbours."""

    def __init__(self, request: Request, *, project_id: UUID, order: Order, limit: int) -> None:
        self._request = request
        self._order = order
        bound = sorted((k, v) for k, v in request.query_params.multi_items() if k not in _UNBOUND)
        scope = f"{project_id}\0{request.scope['path']}\0{order.column}\0{order.is_descending}\0{urlencode(bound)}"
        self._scope = scope.encode()
        cursor = request.query_params.get("cursor")
        self.slice = Slice(order, limit, self._read(cursor) if cursor is not None else None)

    def page(self, rows: Sequence[Row], key: Callable[[Row], tuple[Value, UUID]]) -> Page:
        """The page of what the slice's query gave; `key` tells a row's sort value and id."""
        limit, position = self.slice.limit, self.slice.position
        has_more = len(rows) > limit
        rows = rows[:limit]
        if position is not None and position.is_backward:
            rows = rows[::-1]
            before, after = has_more, True
        else:
            before, after = position is not None, has_more
        if not rows:
            start = self._address({}) if position is not None and position.is_backward else None
            return Page(rows, start, None)
        return Page(
            rows,
            self._link(*key(rows[-1]), is_backward=False) if after else None,
            self._link(*key(rows[0]), is_backward=True) if before else None,
        )

    def _link(self, value: Value, row_id: UUID, *, is_backward: bool) -> str:
        number = (value - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else value
        digest = self._digest(number, row_id.bytes, is_backward=is_backward)
        packed = _LAYOUT.pack(_VERSION, is_backward, number, row_id.bytes, digest)
        return self._address({"cursor": base64.urlsafe_b64encode(packed).decode().rstrip("=")})

    def _address(self, more: Mapping[str, str]) -> str:
        request = self._request
        params = [(k, v) for k, v in request.query_params.multi_items() if k != "cursor"]
        query = urlencode([*params, *more.items()])
        host = request.headers.get("host") or "localhost"
        return f"{request.scope['scheme']}://{host}{request.scope['path']}{'?' if query else ''}{query}"

    def _digest(self, number: int, row_id: bytes, *, is_backward: bool) -> bytes:
        return hashlib.sha256(self._scope + struct.pack(">?q16s", is_backward, number, row_id)).digest()[:8]

    def _read(self, cursor: str) -> Position:
        padded = cursor + "=" * (-len(cursor) % 4)
        try:
            packed = base64.b64decode(padded, altchars=b"-_", validate=True)
            version, is_backward, number, row_id, digest = _LAYOUT.unpack(packed)
            value: Value = _EPOCH + number * _MICROSECOND if self._order.is_time else number
        except (binascii.Error, ValueError, struct.error, OverflowError):
            _refuse()
        if version != _VERSION or digest != self._digest(number, row_id, is_backward=bool(is_backward)):
            _refuse()
        return Position(value, UUID(bytes=row_id), bool(is_backward))


def _refuse() -> NoReturn:
    message = "is not a cursor of this list: take it from `next` or `previous` and keep filters and ordering"
    raise refusal("cursor", "invalid_cursor", message=message)
