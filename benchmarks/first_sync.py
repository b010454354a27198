"""First sync of 2,000 events, against fetching the same bytes, parsing them and one COPY of the same rows."""

import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID

import asyncpg
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from app import calendars
from app.runtime import Runtime, open_runtime
from app.sync import engine
from benchmarks.rig import Bench, Figure, child, counted_statements, free_port, new_project

COUNT = 2_000
ROUNDS = 7

_COPIED = (
    "id, project_id, calendar_id, platform_uuid, ical_uid, start_time, end_time, status, is_deleted, meeting_url,"
    " meeting_platform, content, content_hash, change_seq, raw, is_raw_truncated, created_at, updated_at"
)


async def connect(rt: Runtime, project_id: UUID) -> UUID:
    """A calendar that waits for its first sync."""
    new = calendars.NewCalendar(calendars.Credentials("google", "bench", "secret", "refresh"), None, None, None)
    async with rt.db.transaction() as tx:
        return await calendars.connect(rt, tx, project_id=project_id, new=new)


async def run(bench: Bench) -> list[Figure]:
    """Two figures: statements, and the ratio. Ours and the floor take turns, so that a busy moment hits both."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    async with child("-m", "benchmarks.pages", str(port), str(COUNT), ready=f"{origin}/"):
        settings = bench.settings(google_api_url=origin, google_token_url=f"{origin}/token")
        async with open_runtime(settings) as rt, floor(bench, origin) as bare:
            project_id, _ = await new_project(rt)
            first = await connect(rt, project_id)
            with counted_statements(rt) as statements:
                await engine.sync_calendar(rt, first)
            count = len(statements) + 1  # COPY does not pass through SQLAlchemy
            await bare.prepare()
            ours, least = [], []
            for _ in range(ROUNDS):
                waiting = await connect(rt, project_id)
                ours.append(await seconds(partial(engine.sync_calendar, rt, waiting)))
                least.append(await bare.seconds())
    us, them = statistics.median(ours), statistics.median(least)
    told = f"{us * 1000:.0f} ms against {them * 1000:.0f} ms for fetch, parse and COPY"
    return [
        Figure("first sync, statements", str(count), None, "<= 12", count <= 12),
        Figure(f"first sync of {COUNT:,} events", told, us / them, "<= 2.5", us / them <= 2.5),
    ]


class Floor:
    """The same bytes over the same transport, parsed once, and the same rows into a table of the same shape."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", client: httpx.AsyncClient, url: str) -> None:
        self._connection = connection
        self._client = client
        self._url = url
        self._rows: list[tuple[object, ...]] = []

    async def prepare(self) -> None:
        """Take the rows that a first sync has just written."""
        await self._connection.execute("ANALYZE")
        await self._connection.execute("CREATE TABLE bare (LIKE calendar_events INCLUDING ALL)")
        query = f"SELECT {_COPIED} FROM calendar_events LIMIT {COUNT}"  # noqa: S608 - constants
        self._rows = [tuple(row) for row in await self._connection.fetch(query)]

    async def seconds(self) -> float:
        """One turn."""
        await self._connection.execute("TRUNCATE bare")
        return await seconds(self._once)

    async def _once(self) -> None:
        answer = await self._client.get(self._url)
        orjson.loads(answer.content)
        columns = [name.strip() for name in _COPIED.split(",")]
        async with self._connection.transaction():
            await self._connection.copy_records_to_table("bare", records=self._rows, columns=columns)


@asynccontextmanager
async def floor(bench: Bench, origin: str) -> AsyncIterator[Floor]:
    """A floor with a connection and a client of its own."""
    connection = await asyncpg.connect(bench.database_url)
    async with httpx.AsyncClient(transport=AiohttpTransport(), trust_env=False) as client:
        yield Floor(connection, client, f"{origin}/calendar/v3/calendars/primary/events")
    await connection.close()


async def seconds(action: Callable[[], Awaitable[object]]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    await action()
    return time.perf_counter() - started
