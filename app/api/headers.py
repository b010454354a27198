"""Response headers in the OpenAPI document, by what every answer of a kind carries."""

from collections.abc import Iterator
from typing import Any, Final

from app.api.problems import MEDIA_TYPE

Json = dict[str, Any]

_HEADERS: Final[Json] = {
    "X-Request-ID": {
        "description": "The request's id: yours if you sent one of 1 to 128 letters, digits, `.`, `_`, `-`; else ours",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
        "example": "req_01JD4Q8ZK3V6W8N2M5T7R9B1CX",
    },
    "WWW-Authenticate": {
        "description": "Which schemes are accepted",
        "required": True,
        "schema": {"type": "string"},
        "example": 'Bearer realm="punctual", Token realm="punctual"',
    },
    "Retry-After": {
        "description": "Seconds after which to repeat the request",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
        "example": 1,
    },
    "RateLimit-Policy": {
        "description": "What the project may ask in 60 seconds. Missing where there is no limit, or no counting",
        "schema": {"type": "string"},
        "example": '"reads";q=6000;w=60',
    },
    "RateLimit": {
        "description": "`r` requests are left; after `t` seconds without one it is all of them again, of a 429: one",
        "schema": {"type": "string"},
        "example": '"reads";r=5962;t=1',
    },
    "Idempotency-Replayed": {
        "description": "`true` where this is the stored answer to an earlier request with the same `Idempotency-Key`",
        "schema": {"type": "string", "enum": ["true"]},
        "example": "true",
    },
}


def install(document: Json) -> None:
    """Describe the headers of every answer."""
    document["components"]["headers"] = _HEADERS
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                named = {name: {"$ref": f"#/components/headers/{name}"} for name in _of(operation, status, answer)}
                answer["headers"] = named | answer.get("headers", {})


def _of(operation: Json, status: str, answer: Json) -> Iterator[str]:
    yield "X-Request-ID"
    if status == "401":
        yield "WWW-Authenticate"
    if status == "429" or (status == "503" and MEDIA_TYPE in answer.get("content", {})):
        yield "Retry-After"
    if operation.get("security", True) and (status == "429" or status.startswith("2")):
        yield from ("RateLimit-Policy", "RateLimit")  # of other problems too, where it helps nobody to say so
    takes_key = any(given["name"] == "Idempotency-Key" for given in operation.get("parameters", ()))
    if takes_key and status.startswith("2"):
        yield "Idempotency-Replayed"
