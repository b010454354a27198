"""Ten thousand bots on a thousand calendars, due in one minute: by a call, and by message, beside their messages."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import httpx

from app.bots import back_ends
from app.bots.launchers import Kind
from app.crypto import Place, new_webhook_secret
from app.ids import new_id, new_ids
from app.runtime import Runtime, open_runtime
from benchmarks.delivering import working
from benchmarks.rig import Bench, Figure, child, free_port, new_project
from demo.processes import http
from workers.loops import launching_loop

CALENDARS, BOTS = 1_000, 10_000
MINUTE = 60.0
ANSWER_SECONDS = 0.1
"""What the back end takes for each bot."""
GIVEN_UP_SECONDS = 180.0
TRIGGERS = ["bot.state_change", "bot.launch"]

_BOTS = """
INSERT INTO bots (id, project_id, state, bot_name, meeting_url, meeting_platform, join_at, ends_at, calendar_id, due_at)
SELECT id, $2, 'scheduled', 'Notes', 'https://zoom.us/j/' || (91000000000 + n), 'zoom', now() + interval '60 seconds',
       now() + interval '1 hour', ($3::uuid[])[1 + n % $4], now()
  FROM unnest($1::uuid[]) WITH ORDINALITY AS b (id, n)
"""
_LAST = "SELECT count(*) FILTER (WHERE state = 'launched'), max(updated_at) FROM bots WHERE project_id = $1"


async def run(bench: Bench) -> list[Figure]:
    """For either way: whether the last bot was handed over before the first meeting begins, a minute after its due."""
    pg = await asyncpg.connect(bench.database_url)
    kinds: tuple[Kind, ...] = ("attendee", "webhook")
    try:
        async with back_end() as origin, http() as client, open_runtime(bench.settings()) as rt:
            return [await _figure(rt, pg, client, origin, kind) for kind in kinds]
    finally:
        await pg.close()


@asynccontextmanager
async def back_end() -> AsyncIterator[str]:
    """The back end as a process of its own, which receives messages too; its address."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    async with child("-m", "benchmarks.back_end", str(port), str(ANSWER_SECONDS), ready=f"{origin}/made"):
        yield origin


async def _figure(
    rt: Runtime, pg: "asyncpg.Connection[asyncpg.Record]", client: httpx.AsyncClient, origin: str, kind: Kind
) -> Figure:
    project_id = await _project(rt, origin, kind)
    calendars = await _calendars(pg, project_id, kind)
    began = time.time()
    await pg.execute(_BOTS, new_ids(BOTS), project_id, calendars, CALENDARS)
    last = await _until_launched(rt, pg, project_id)
    made = (await client.get(f"{origin}/made")).json()
    assert kind == "webhook" or made == {"made": BOTS, "twice": 0}, made  # noqa: S101 - else the figure means nothing
    taken = last - began
    told = f"the last of {BOTS:,} after {taken:.1f} s, all due at once, {BOTS / taken:.0f}/s"
    ratio = taken / MINUTE
    return Figure(f"launching by {kind}", told, ratio, "of a minute, <= 1", ratio <= 1)


async def _until_launched(rt: Runtime, pg: "asyncpg.Connection[asyncpg.Record]", project_id: UUID) -> float:
    """When the last one was."""
    stop = asyncio.Event()
    async with working(rt):
        loop = asyncio.create_task(launching_loop(rt, stop))
        try:
            async with asyncio.timeout(GIVEN_UP_SECONDS):
                while True:
                    count, at = await pg.fetchrow(_LAST, project_id) or (0, None)
                    if count == BOTS:
                        return float(at.timestamp())
                    await asyncio.sleep(0.25)
        finally:
            stop.set()
            await loop


async def _project(rt: Runtime, origin: str, kind: Kind) -> UUID:
    project_id, _ = await new_project(rt)
    endpoint_id = new_id()
    sealed = rt.cipher.seal(new_webhook_secret(), Place("webhook_endpoints", "secret", endpoint_id))
    has_key = kind != "webhook"
    launcher = back_ends.NewLauncher(kind, kind, origin if has_key else None, "key" if has_key else None, 60, True)
    async with rt.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO webhook_endpoints (id, project_id, url, triggers, secret_sealed, state)"
            " VALUES (:id, :project, :url, :triggers, :sealed, 'enabled')",
            {
                "id": endpoint_id,
                "project": project_id,
                "url": f"{origin}/hook",
                "triggers": TRIGGERS,
                "sealed": sealed,
            },
        )
        await back_ends.make(rt, tx, project_id=project_id, new=launcher)
    return project_id


async def _calendars(pg: "asyncpg.Connection[asyncpg.Record]", project_id: UUID, name: str) -> list[UUID]:
    """Calendars whose bots they are."""
    app_id, ids = new_id(), new_ids(CALENDARS)
    await pg.execute(
        "INSERT INTO oauth_apps (id, project_id, platform, client_id) VALUES ($1, $2, 'google', $3)",
        app_id,
        project_id,
        f"bench-{name}",
    )
    await pg.execute(
        "INSERT INTO calendars (id, project_id, oauth_app_id, platform, state, channel_key)"
        " SELECT id, $2, $3, 'google', 'connected', uuid_send(id) FROM unnest($1::uuid[]) AS c (id)",
        ids,
        project_id,
        app_id,
    )
    return ids
