"""The one way into every operation of the API.

In this order: key (401), body size (413), media type (415), JSON (400), query parameters and texts (422); then
FastAPI validates and the operation runs. A read gets one connection for the key and the data. A write's transaction is
its own, because an operation may have to ask a provider before it opens one.
"""

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

import orjson
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from app.api.inputs import QueryOf, is_storable, unstorable_texts
from app.api.problems import invalid
from app.crypto import read_api_key, same
from app.db import ReadTx
from app.errors import FieldProblem, Malformed, TooLarge, Unauthenticated, WrongMediaType
from app.runtime import Runtime

BODY_LIMIT = 1024 * 1024
"""Bytes of a request's body."""

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="punctual", Token realm="punctual"'}
_KEY = "SELECT project_id, secret_hash FROM api_keys WHERE id = :id AND revoked_at IS NULL"
_WITH_BODY = {"POST", "PUT", "PATCH"}

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ParsedRequest(Request):
    """A request whose body has been read and judged."""

    def __init__(self, request: Request, *, body: bytes, parsed: object) -> None:
        super().__init__(request.scope, request.receive)
        self._bytes = body
        self._parsed = parsed

    async def body(self) -> bytes:
        """The body, as it came."""
        return self._bytes

    async def json(self) -> object:
        """The body, parsed once."""
        return self._parsed


class ApiRoute(APIRoute):
    """A route of the API: see this module's docstring."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        parameters = [parameter for query in _queries(self.dependant) for parameter in query.parameters()]
        if parameters:
            self.openapi_extra = {**(self.openapi_extra or {}), "parameters": parameters}

    def get_route_handler(self) -> Handler:
        """The operation, with everything that comes before it."""
        operate = super().get_route_handler()
        known = frozenset(name for query in _queries(self.dependant) for name in query.model.model_fields)
        takes_body = self.body_field is not None

        async def read(request: Request) -> Response:
            runtime: Runtime = request.app.state.runtime
            key = _presented_key(request)
            async with runtime.db.reading() as tx:
                request.state.tx = tx
                request.state.project_id = await _project_of(tx, key)
                _judge_query(request, known)
                return await operate(request)

        async def write(request: Request) -> Response:
            runtime: Runtime = request.app.state.runtime
            key = _presented_key(request)
            async with runtime.db.reading() as tx:
                request.state.project_id = await _project_of(tx, key)
            body, parsed = b"", None
            if request.method in _WITH_BODY:
                body = await _read_body(request)
                parsed = _parse(request, body)
                if not takes_body and parsed:
                    raise invalid(_unexpected(parsed))
            _judge_query(request, known)
            request.state.parsed = parsed
            return await operate(ParsedRequest(request, body=body, parsed=parsed))

        return read if self.methods == {"GET"} else write


def _queries(dependant: Dependant) -> list[QueryOf[Any]]:
    return [sub.call for sub in dependant.dependencies if isinstance(sub.call, QueryOf)]


def _presented_key(request: Request) -> tuple[UUID, bytes]:
    """Row id and secret's hash of the key that came along."""
    scheme, _, presented = request.headers.get("authorization", "").partition(" ")
    key = read_api_key(presented.strip()) if scheme.lower() in {"token", "bearer"} else None
    if key is None:
        raise Unauthenticated(headers=_CHALLENGE)
    return key


async def _project_of(tx: ReadTx, key: tuple[UUID, bytes]) -> UUID:
    """The key's project. One statement; a wrong secret reads like an unknown key."""
    key_id, secret_hash = key
    row = await tx.row(_KEY, {"id": key_id})
    if row is None or not same(row.secret_hash, secret_hash):
        raise Unauthenticated(headers=_CHALLENGE)
    project_id: UUID = row.project_id
    return project_id


async def _read_body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > BODY_LIMIT:
        raise TooLarge
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_LIMIT:
            raise TooLarge
        chunks.append(chunk)
    return b"".join(chunks)


def _parse(request: Request, body: bytes) -> object:
    if not body:
        return None
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not re.fullmatch(r"application/[^/\s]+\+json", media_type):
        raise WrongMediaType
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = _with_half_pairs(body)
    if b"\\u" in body:
        problems = list(unstorable_texts(parsed))
        if problems:
            raise invalid(problems)
    return parsed


def _with_half_pairs(body: bytes) -> object:
    """JSON with an escape of half a surrogate pair is well-formed, though nothing can store it: 422, not 400."""
    if b"\\ud" not in body.lower():
        raise Malformed("the body is not JSON")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise Malformed("the body is not JSON") from exc


def _unexpected(parsed: object) -> list[FieldProblem]:
    if isinstance(parsed, dict):
        return [FieldProblem(f"/{key}", "unknown_field", "this call takes no fields") for key in parsed]
    return [FieldProblem("", "wrong_type", "this call takes no body")]


def _judge_query(request: Request, known: frozenset[str]) -> None:
    if not request.url.query:
        return
    problems: list[FieldProblem] = []
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in known:
            if name not in seen:
                problems.append(FieldProblem(name[:100], "unknown_parameter", "is not a parameter of this call"))
        elif name in seen:
            problems.append(FieldProblem(name, "repeated_parameter", "may be given once"))
        elif not is_storable(value):
            problems.append(FieldProblem(name, "invalid_text", "holds a NUL character"))
        seen.add(name)
    if problems:
        raise invalid(problems)
