"""What the machine can do: the least handlers that do the same work, as a process (`python -m benchmarks.bare PORT`).

One FastAPI application on asyncpg: `/page` fetches a hundred rows that are rendered already and joins them, `/push`
does one committed UPDATE of a row of `sync_state`.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import uvicorn
from fastapi import FastAPI, Request, Response

_PUSH = """
UPDATE sync_state SET requested_seq = requested_seq + 1, first_requested_at = coalesce(first_requested_at, app_now()),
       due_at = app_now() + interval '1 second', last_notification_at = app_now()
 WHERE calendar_id = $1
"""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=10, max_size=10) as pool:
        app.state.pool = pool
        yield


bare = FastAPI(lifespan=_lifespan)


@bare.get("/page")
async def page(request: Request) -> Response:
    """A hundred rendered rows, joined."""
    rows = await request.app.state.pool.fetch("SELECT body FROM bench_page ORDER BY number LIMIT 100")
    body = '{"next":null,"previous":null,"results":[' + ",".join([row["body"] for row in rows]) + "]}"
    return Response(body.encode(), media_type="application/json")


@bare.post("/push")
async def push(request: Request) -> Response:
    """One committed UPDATE."""
    await request.app.state.pool.execute(_PUSH, request.headers["x-calendar"])
    return Response(status_code=200)


if __name__ == "__main__":
    uvicorn.run(
        bare,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="warning",
        access_log=False,
        loop="uvloop",
        http="httptools",
    )
