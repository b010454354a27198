"""Which exception becomes which problem; everything else is a 500 in `middleware`."""

from collections.abc import Iterable

from asyncpg import DataError, InterfaceError, PostgresError
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from app.api import connect
from app.api.problems import InternalError, Unavailable, from_validation, problem_response
from app.errors import Malformed, MethodNotAllowed, NotFound, RequestError
from app.telemetry import log

_RETRY = {"Retry-After": "1"}
_PASSING_SQLSTATES = ("08", "53", "57", "40", "55P03", "25P03", "25P04")
"""Connection, resources, operator intervention, rollback (deadlock), lock not available, timeouts of a transaction."""


def install(app: FastAPI, routes: Iterable[BaseRoute]) -> None:
    """Have every exception that is an answer answered with a problem document. `routes` are all that there are."""
    known = [route for route in routes if isinstance(route, Route)]

    def allowed(path: str) -> list[str]:
        """Methods of all routes at an address. One without parameters is meant before one that they could make."""
        exact = [route for route in known if route.path == path]
        found = exact or [route for route in known if route.path_regex.match(path)]
        return sorted(set[str]().union(*(route.methods or () for route in found)))

    async def http(request: Request, exc: Exception) -> Response:
        """What Starlette raises by itself: no such route, or not with this method."""
        status = exc.status_code if isinstance(exc, HTTPException) else 500
        if status == 405:  # `Allow` of Starlette's own has the methods of one route, not of all at this address
            return _respond(request, MethodNotAllowed(headers={"Allow": ", ".join(allowed(request.scope["path"]))}))
        if status == 404:
            return _respond(request, NotFound("there is nothing at this address"))
        return _respond(request, Malformed() if status == 400 else InternalError())

    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientDisconnect, _disconnect)
    for kind in (DBAPIError, PoolTimeout, PostgresError, InterfaceError, OSError):
        app.add_exception_handler(kind, _database)


def _respond(request: Request, error: RequestError) -> Response:
    if request.url.path.startswith(connect.PREFIX):
        return connect.failure(error)
    return problem_response(error, request_id=request.state.request_id)


async def _request_error(request: Request, exc: Exception) -> Response:
    return _respond(request, exc if isinstance(exc, RequestError) else InternalError())


async def _validation(request: Request, exc: Exception) -> Response:
    return _respond(request, from_validation(exc) if isinstance(exc, RequestValidationError) else InternalError())


async def _disconnect(request: Request, _: Exception) -> Response:
    return _respond(request, Malformed("the connection ended before the body did"))


async def _database(request: Request, exc: Exception) -> Response:
    """What passes is 503; a fault of ours is for the 500 handler."""
    if not _is_passing(exc):
        raise exc
    log.warning("http.unavailable", error=type(exc).__name__)
    return _respond(request, Unavailable(headers=_RETRY))


def _is_passing(exc: Exception) -> bool:
    if isinstance(exc, DBAPIError):
        if exc.connection_invalidated:
            return True
        state = getattr(exc.orig, "sqlstate", None)
    elif isinstance(exc, PostgresError):
        state = exc.sqlstate
    else:  # no connection to be had; but a value of the wrong type is a fault of ours
        return not isinstance(exc, DataError)
    return str(state or "").startswith(_PASSING_SQLSTATES)
