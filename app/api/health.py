"""What operators and load balancers ask: alive, ready, metrics."""

import asyncio
from typing import Final, Literal

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError
from starlette.responses import Response

from app.api.deps import Rt
from app.api.operations import Responses, example, only, problems
from app.api.outputs import Output
from app.api.render import answer
from app.crypto import same
from app.db import DATABASE_ERRORS
from app.errors import NotFound, Unauthenticated
from app.runtime import Runtime
from app.telemetry import REGISTRY

_SECONDS: Final = 2.0

# The list over all calendars waits for writers that it can see. Sessions of another role that may write events, and
# whose transactions this role may not see, would break its promise.
_BLIND: Final = """
SELECT EXISTS (SELECT FROM calendar_events) IS NOT NULL
   AND NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
   AND EXISTS (SELECT FROM pg_stat_activity s JOIN pg_roles r ON r.oid = s.usesysid
                WHERE s.datname = current_database() AND s.usename <> current_user AND NOT r.rolsuper
                  AND has_table_privilege(r.oid, 'calendar_events', 'INSERT'))
"""


class Alive(Output):
    """The process answers."""

    status: Literal["ok"]


class Ready(Output):
    """Whether requests can be served."""

    status: Literal["ok", "unavailable"]
    database: Literal["ok", "away", "blind"]
    redis: Literal["ok", "away"]


_READY_ANSWERS: Final[Responses] = {
    200: example({"status": "ok", "database": "ok", "redis": "ok"}),
    503: {"model": Ready, "description": "Not now"}
    | example({"status": "unavailable", "database": "away", "redis": "ok"}),
}

router = APIRouter(tags=["Operations"])


@router.get(
    "/healthz",
    response_model=Alive,
    summary="Is the process alive?",
    responses={200: example({"status": "ok"})},
    openapi_extra={"security": []},
)
async def healthz() -> Response:
    """Asks nothing else."""
    return answer({"status": "ok"})


@router.get(
    "/readyz",
    response_model=Ready,
    summary="Can it serve requests?",
    responses=_READY_ANSWERS,
    openapi_extra={"security": []},
)
async def readyz(rt: Rt) -> Response:
    """Needs the database, migrated. Redis is a hint: without it work is found a second later, so it is only told.

    `blind`: another database role writes events and this one may not see its transactions; grant
    `pg_read_all_stats`, or use one role.
    """
    database, redis = await asyncio.gather(_database(rt), _redis(rt))
    is_ready = database == "ok"
    content = {"status": "ok" if is_ready else "unavailable", "database": database, "redis": redis}
    return answer(content, status=200 if is_ready else 503)


async def _database(rt: Runtime) -> str:
    try:
        async with asyncio.timeout(_SECONDS), rt.db.reading() as tx:
            return "blind" if await tx.scalar(_BLIND) else "ok"
    except DATABASE_ERRORS:
        return "away"


async def _redis(rt: Runtime) -> str:
    try:
        async with asyncio.timeout(_SECONDS):
            await rt.queue.redis.ping()
    except (RedisError, OSError, TimeoutError):
        return "away"
    return "ok"


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    responses=only(problems("not_found"), 401, 404)
    | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    response_class=Response,
    openapi_extra={"security": []},
)
async def metrics(request: Request, rt: Rt) -> Response:
    """With METRICS_TOKEN set only with it as Bearer; without, open in development and 404 in production."""
    token = rt.settings.metrics_token
    if token is not None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not same(given.strip().encode(), token.get_secret_value().encode()):
            raise Unauthenticated("the metrics token is needed", headers={"WWW-Authenticate": 'Bearer realm="metrics"'})
    elif rt.settings.environment == "production":
        raise NotFound
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
