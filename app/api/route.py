"""The one way into every operation of the API.

In this order: key (401), limits (429), scope (403), body size (413), media type (415), JSON (400), query parameters and
texts (422); then FastAPI validates and the operation runs. A read gets one connection for the key and the data. A write
gets a transaction, unless it opens it itself because it has to ask a provider before (`app.api.writes`).
"""

import asyncio
import json
import re
from collections.abc import Callable, Coroutine, Mapping
from itertools import islice
from time import monotonic
from typing import Any

import orjson
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from app.api import callers, deps
from app.api.inputs import QueryOf, is_storable, unstorable_texts
from app.api.operations import scope_problem
from app.api.problems import escape
from app.api.writes import Write
from app.db import Tx
from app.errors import PROBLEMS_MOST, FieldProblem, Malformed, TooLarge, WrongMediaType, refusal, refusals
from app.runtime import Runtime

BODY_LIMIT = 1024 * 1024
"""Bytes of a request's body."""

_BODY_SECONDS = 30.0
_KEY_HOLDS_SECONDS = 1.0
"""A key is looked at once more where the body took longer: it may have been revoked meanwhile."""
_FIELDS_MOST = 200
_DEPTH_MOST = 100

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
        self.scope = callers.needed(options.get("dependencies") or (), set(options["methods"]))
        options["responses"] = {**(options.get("responses") or {}), **scope_problem(self.scope)}
        super().__init__(path, endpoint, **options)
        if self.scope == "read" and deps.takes_tx(self.dependant):
            raise TypeError(f"{self.name} writes, and any key may call it")
        extra: dict[str, Any] = {"security": [{"bearer": [self.scope]}]}
        parameters = [parameter for query in _queries(self.dependant) for parameter in query.parameters()]
        if parameters:
            extra["parameters"] = parameters
        self.openapi_extra = {**(self.openapi_extra or {}), **extra}

    def get_route_handler(self) -> Handler:
        """The operation, with everything that comes before it."""
        operate = super().get_route_handler()
        known = {
            name: name in query.model.repeatable
            for query in _queries(self.dependant)
            for name in query.model.model_fields
        }
        takes_body = self.body_field is not None
        is_audited = self.scope != "read"

        async def read(request: Request) -> Response:
            runtime: Runtime = request.app.state.runtime
            key = callers.presented_key(request)
            async with runtime.db.reading() as tx:
                request.state.tx = tx
                request.state.caller = await callers.caller_of(runtime, tx, key)
                await callers.admit(request, request.state.caller, self.scope)
                _judge_query(request, known)
                return await operate(request)

        async def write(request: Request) -> Response:
            runtime: Runtime = request.app.state.runtime
            key = callers.presented_key(request)
            async with runtime.db.reading() as tx:
                request.state.caller = await callers.caller_of(runtime, tx, key)
            await callers.admit(request, request.state.caller, self.scope)
            body, parsed = b"", None
            if request.method in _WITH_BODY:
                started = monotonic()
                body = await _read_body(request)
                parsed = _parse(request, body)
                if not takes_body and parsed is not None and parsed != {}:
                    raise refusals(_unexpected(parsed))
                if monotonic() - started > _KEY_HOLDS_SECONDS:
                    async with runtime.db.reading() as tx:
                        await callers.caller_of(runtime, tx, key)
            _judge_query(request, known)
            request.state.parsed = parsed
            request = ParsedRequest(request, body=body, parsed=parsed)
            return await (self._write(request, operate) if is_audited else operate(request))

        return read if self.methods == {"GET"} else write

    async def _write(self, request: Request, operate: Handler) -> Response:
        write = Write(request.app.state.runtime, request, action=self.name)
        request.state.write = write

        async def operation(tx: Tx) -> Response:
            request.state.tx = tx
            return await operate(request)

        if deps.takes_tx(self.dependant):
            return await write.run(operation)
        response = await operate(request)
        await write.finish(response)
        return response


def _queries(dependant: Dependant) -> list[QueryOf[Any]]:
    return [sub.call for sub in dependant.dependencies if isinstance(sub.call, QueryOf)]


async def _read_body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > BODY_LIMIT:
        raise TooLarge
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_LIMIT:
                    raise TooLarge
    except TimeoutError as exc:
        raise Malformed(f"the body did not arrive within {_BODY_SECONDS:g} seconds") from exc
    return bytes(body)


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
    if parsed is None:  # which FastAPI takes for a body that was left out
        raise refusal("", "wrong_type", message="has the wrong type")
    if isinstance(parsed, dict) and len(parsed) > _FIELDS_MOST:
        raise refusal("", "too_long", message=f"has more than {_FIELDS_MOST} fields")
    if body.count(b"[") + body.count(b"{") > _DEPTH_MOST and _is_deeper(parsed, _DEPTH_MOST):
        raise Malformed(f"the body is nested more than {_DEPTH_MOST} levels deep")
    _refuse_repeated_names(body)
    if b"\\u" in body:
        problems = list(islice(unstorable_texts(parsed), PROBLEMS_MOST))
        if problems:
            raise refusals(problems)
    return parsed


def _refuse_repeated_names(body: bytes) -> None:
    """A name that an object has twice means two things: whoever looked at the body before us may have read the other.

    orjson keeps the last and does not tell, so the body is read once more: 10 µs for most, a tenth of a second or
    two for the largest that is made of nothing but brackets.
    """

    def judged(pairs: list[tuple[str, object]]) -> object:
        made = dict(pairs)
        if len(made) < len(pairs):
            raise Malformed("an object of the body has a name twice")
        return made

    json.loads(body, object_pairs_hook=judged, parse_int=str, parse_float=str)


def _with_half_pairs(body: bytes) -> object:
    """JSON with an escape of half a surrogate pair is well-formed, though nothing can store it: 422, not 400."""
    try:
        parsed: object = json.loads(body, parse_constant=_no_json) if b"\\ud" in body.lower() else None
    except (ValueError, RecursionError) as exc:
        raise Malformed("the body is not JSON") from exc
    if next(unstorable_texts(parsed), None) is None:  # then something else was wrong, which json reads generously
        raise Malformed("the body is not JSON")
    return parsed


def _no_json(constant: str) -> object:
    raise ValueError(constant)


def _is_deeper(parsed: object, most: int) -> bool:
    level = [parsed]
    for _ in range(most):
        inner = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, list | dict))
        level = [part for parts in inner for part in parts if isinstance(part, list | dict)]
        if not level:
            return False
    return True


def _unexpected(parsed: object) -> list[FieldProblem]:
    if isinstance(parsed, dict):
        keys = islice(parsed, PROBLEMS_MOST)
        return [FieldProblem(f"/{escape(key)}", "unknown_field", "this call takes no fields") for key in keys]
    return [FieldProblem("", "wrong_type", "this call takes no body")]


def _judge_query(request: Request, known: Mapping[str, bool]) -> None:
    """Refuse parameters that the call does not know; `known` says of each whether it may be repeated."""
    if not request.url.query:
        return
    problems: list[FieldProblem] = []
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in known:
            if name not in seen:
                problems.append(FieldProblem(name[:100], "unknown_parameter", "is not a parameter of this call"))
        elif name in seen and not known[name]:
            problems.append(FieldProblem(name, "repeated_parameter", "may be given once"))
        elif not is_storable(value):
            problems.append(FieldProblem(name, "invalid_text", "holds a NUL character"))
        seen.add(name)
    if problems:
        raise refusals(problems)
