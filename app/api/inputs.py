"""What may come in: types that refuse early, with a code of the closed list.

Bodies are strict (a number is not a text), times need an offset, texts hold no NUL and no lone surrogate, metadata
is a small object of texts.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Generic, TypeVar, overload
from uuid import UUID

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from app.api.problems import escape
from app.errors import FieldProblem, NotFound, refusal
from app.ids import CALENDAR, EVENT, LAUNCHER, OAUTH_APP, RULE, parse

METADATA_KEYS = 50
METADATA_BYTES = 8 * 1024
_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d(?P<time>[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(?P<offset>Z|[+ -]\d\d:?\d\d)?)?", re.IGNORECASE
)


class Input(BaseModel):
    """A request body: unknown fields and coercions are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Query(BaseModel):
    """The query parameters of a list."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    repeatable: ClassVar[frozenset[str]] = frozenset()
    """Those that may be given several times; each is a list."""


_Q = TypeVar("_Q", bound=Query)


class QueryOf(Generic[_Q]):
    """A dependency that reads a list's query parameters in one go.

    FastAPI reads them one by one, which for twenty takes longer than the key, the horizon and the page's SQL together
    (0.3 ms, measured). `route` adds them to the OpenAPI document and refuses unknown and repeated ones.
    """

    def __init__(self, model: type[_Q]) -> None:
        self.model = model

    async def __call__(self, request: Request) -> _Q:
        """The parameters; RequestValidationError as FastAPI would raise it."""
        try:
            return self.model.model_validate(self._given(request))
        except ValidationError as exc:
            raise RequestValidationError(
                [{**error, "loc": ("query", *error["loc"])} for error in exc.errors()]
            ) from exc

    def _given(self, request: Request) -> dict[str, Any]:
        given = dict[str, Any](request.query_params)
        for name in self.model.repeatable & given.keys():
            given[name] = request.query_params.getlist(name)
        return given

    def parameters(self) -> list[dict[str, Any]]:
        """Their description for the OpenAPI document."""
        return [
            {"name": name, "in": "query", "required": False, "schema": schema}
            | ({"description": schema["description"]} if "description" in schema else {})
            for name, schema in self.model.model_json_schema()["properties"].items()
        ]


def not_blank(value: str) -> str:
    """Refuse a text of nothing but white space."""
    if not value.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return value


def not_null(value: object) -> object:
    """Refuse null where leaving a field out means to keep what is stored."""
    if value is None:
        raise PydanticCustomError("wrong_type", "must not be null; leave the field out instead")
    return value


def at_most(count: int) -> Callable[[object], object]:
    """Counted before each entry is judged: a complaint per entry would be longer than the body."""

    def check(value: object) -> object:
        if isinstance(value, list | dict) and len(value) > count:
            raise PydanticCustomError("too_long", "has more than {count} entries", {"count": count})
        return value

    return check


def _instant(value: object) -> datetime:
    """A time in a query. A blank before the offset is a `+` that was not escaped."""
    text = value if isinstance(value, str) else ""
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise PydanticCustomError("invalid_time", "must be an RFC 3339 time such as 2026-11-20T10:00:00Z")
    if match["offset"] is None:
        raise PydanticCustomError("naive_time", "needs an offset, such as Z or +02:00")
    head, offset = text[: match.start("offset")], match["offset"].replace(" ", "+").upper()
    try:
        return datetime.fromisoformat(head + offset).astimezone(UTC)
    except (ValueError, OverflowError):
        raise PydanticCustomError("invalid_time", "is no time of the calendar") from None


def _few_keys(value: object) -> object:
    """Counted before each is judged: a complaint per key would be longer than the body."""
    if isinstance(value, dict) and len(value) > METADATA_KEYS:
        raise PydanticCustomError("too_long", "at most 50 keys")
    return value


def _metadata(value: dict[str, str]) -> dict[str, str]:
    if len(orjson.dumps(value)) > METADATA_BYTES:
        raise PydanticCustomError("too_long", "at most 8192 bytes as JSON")
    return value


Secret = Annotated[str, Field(max_length=4096), AfterValidator(not_blank)]
Name = Annotated[str, Field(max_length=512), AfterValidator(not_blank)]
PatchedSecret = Annotated[
    Secret | None,
    BeforeValidator(not_null),
    WithJsonSchema({"type": "string", "maxLength": 4096}),
]
"""A secret that may be left out, but not be null."""
OptionalName = Annotated[Name | None, BeforeValidator(not_null), WithJsonSchema({"type": "string", "maxLength": 512})]
OptionalText = Annotated[str | None, BeforeValidator(not_null), WithJsonSchema({"type": "string"})]
"""The same for names, and for ids of other objects."""
Metadata = Annotated[
    dict[str, str],
    BeforeValidator(_few_keys),
    AfterValidator(_metadata),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "maxProperties": METADATA_KEYS,
            "description": "An object of texts: at most 50 keys, 8 KiB as JSON",
        }
    ),
]
Instant = Annotated[datetime, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]
Limit = Annotated[int, Field(ge=1, le=250, description="Objects per page")]
Cursor = Annotated[
    str | None, Field(description="Where to go on: taken from `next` or `previous`, good for the same list only")
]


def key_of(prefix: str, text: str) -> UUID:
    """The key behind an id in the path; what is no id reads like an unknown one."""
    key = parse(prefix, text)
    if key is None:
        raise NotFound
    return key


@overload
def key_in_body(prefix: str, text: str, pointer: str) -> UUID: ...
@overload
def key_in_body(prefix: str, text: str | None, pointer: str) -> UUID | None: ...
def key_in_body(prefix: str, text: str | None, pointer: str) -> UUID | None:
    """The key behind an id in a body, if there is one; Invalid where it is none, as for an unknown one."""
    key = None if text is None else parse(prefix, text)
    if text is not None and key is None:
        raise refusal(pointer, "not_found", message=f"there is no such {_NAMES[prefix]}")
    return key


_NAMES: Final = {CALENDAR: "calendar", EVENT: "event", LAUNCHER: "launcher", RULE: "rule", OAUTH_APP: "OAuth app"}


def metadata_text(metadata: Mapping[str, str] | None) -> str | None:
    """Metadata as it is stored."""
    return None if metadata is None else orjson.dumps(metadata).decode()


def unstorable_texts(value: Any) -> Iterator[FieldProblem]:
    """Texts (keys too) with a NUL or half a surrogate pair, which no database stores; with their pointers.

    Pointers are made for what is found alone: one for each part of a body would cost a thousand times the body.
    """
    stack: list[tuple[_Path | None, Any]] = [(None, value)]
    while stack:
        path, item = stack.pop()
        if isinstance(item, str) and not is_storable(item):
            yield FieldProblem(_pointer(path), "invalid_text", "holds a NUL character or half a surrogate pair")
        elif isinstance(item, list):
            stack.extend(((path, index), part) for index, part in enumerate(item) if isinstance(part, _HOLDS_TEXT))
        elif isinstance(item, dict):
            for key, part in item.items():
                if not is_storable(key):
                    yield FieldProblem(_pointer(path), "invalid_text", "has a key with a NUL or half a surrogate pair")
                elif isinstance(part, _HOLDS_TEXT):
                    stack.append(((path, key), part))


_Path = tuple[Any, str | int]
"""A step and the path before it."""
_HOLDS_TEXT = (str, list, dict)


def _pointer(path: _Path | None) -> str:
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(f"/{escape(str(step))[:POINTER_STEP]}")
    return "".join(reversed(steps))


POINTER_STEP = 200
"""Characters of a customer's key that a pointer repeats."""


def is_storable(text: str) -> bool:
    """Whether PostgreSQL takes it."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)
