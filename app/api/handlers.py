"""Which exception becomes which problem; everything else is a 500 in `middleware`."""

from typing import Any

from asyncpg import InterfaceError as DriverInterfaceError
from asyncpg import PostgresError
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from app.api.problems import InternalError, Unavailable, from_validation, problem_response
from app.errors import Malformed, MethodNotAllowed, NotFound, RequestError
from app.telemetry import log

_RETRY = {"Retry-After": "1"}
_PASSING_SQLSTATES = ("08", "53", "57", "40", "55P03", "25P03", "25P04")
"""Connection, resources, operator intervention, rollback (deadlock), lock not available, timeouts of a transaction."""


def install(app: FastAPI) -> None:
    """Have every exception that is an answer answered with a problem document."""
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _disconnect)
    app.add_exception_handler(DBAPIError, _database)
    for kind in (PoolTimeout, PostgresError, DriverInterfaceError, OSError):
        app.add_exception_handler(kind, _no_database)


def _respond(request: Request, error: RequestError) -> Response:
    return problem_response(error, request_id=request.state.request_id)


async def _request_error(request: Request, exc: Exception) -> Response:
    return _respond(request, exc if isinstance(exc, RequestError) else InternalError())


async def _validation(request: Request, exc: Exception) -> Response:
    return _respond(request, from_validation(exc) if isinstance(exc, RequestValidationError) else InternalError())


async def _http(request: Request, exc: Exception) -> Response:
    """What Starlette raises by itself: no such route, or not with this method."""
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    headers: Any = getattr(exc, "headers", None)
    if status == 405:
        return _respond(request, MethodNotAllowed(headers=dict(headers or {})))
    if status == 404:
        return _respond(request, NotFound("there is nothing at this address"))
    return _respond(request, Malformed() if status == 400 else InternalError())


async def _disconnect(request: Request, _: Exception) -> Response:
    return _respond(request, Malformed("the connection ended before the body did"))


async def _database(request: Request, exc: Exception) -> Response:
    """What passes is 503; a fault of ours is for the 500 handler."""
    state = str(getattr(getattr(exc, "orig", None), "sqlstate", None) or "")
    is_passing = state.startswith(_PASSING_SQLSTATES) or (isinstance(exc, DBAPIError) and exc.connection_invalidated)
    if not is_passing:
        raise exc
    return await _no_database(request, exc)


async def _no_database(request: Request, exc: Exception) -> Response:
    log.warning("http.unavailable", error=type(exc).__name__)
    return _respond(request, Unavailable(headers=_RETRY))
