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
from app.providers.base import Platform
from app.runtime import Runtime, open_runtime
from app.sync import engine
from benchmarks.graph_pages import first_pages
from benchmarks.rig import Bench, Figure, child, counted_statements, free_port, new_project, provider_settings

COUNT = 2_000
ROUNDS = 7

_COPIED = (
    "id, project_id, calendar_id, platform_uuid, ical_uid, start_time, end_time, status, is_deleted, meeting_url,"
    " meeting_platform, content, content_hash, change_seq, raw, is_raw_truncated, created_at, updated_at"
)


async def connect(rt: Runtime, project_id: UUID, platform: Platform = "google") -> UUID:
    """A calendar that waits for its first sync."""
    new = calendars.NewCalendar(calendars.Credentials(platform, "bench", "secret", "refresh"), None, None, None)
    async with rt.db.transaction() as tx:
        return await calendars.connect(rt, tx, project_id=project_id, new=new)


async def run(bench: Bench) -> list[Figure]:
    """Statements and ratio, for each provider."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    pages: dict[Platform, list[str]] = {
        "google": [f"{origin}/calendar/v3/calendars/primary/events"],
        "microsoft": first_pages(origin, COUNT),
    }
    figures: list[Figure] = []
    async with child("-m", "benchmarks.pages", str(port), str(COUNT), ready=f"{origin}/"):
        async with open_runtime(bench.settings(**provider_settings(origin))) as rt:
            for platform, urls in pages.items():
                figures += await _measure(bench, rt, platform, urls)
    return figures


async def _measure(bench: Bench, rt: Runtime, platform: Platform, urls: list[str]) -> list[Figure]:
    """Ours and the floor take turns, so that a busy moment hits both."""
    project_id, _ = await new_project(rt)
    async with floor(bench, urls) as bare:
        first = await connect(rt, project_id, platform)
        with counted_statements(rt) as statements:
            await engine.sync_calendar(rt, first)
        count = len(statements) + 1  # and COPY
        await bare.prepare(first)
        ours, least = [], []
        for _ in range(ROUNDS):
            waiting = await connect(rt, project_id, platform)
            ours.append(await seconds(partial(engine.sync_calendar, rt, waiting)))
            least.append(await bare.seconds())
    us, them = statistics.median(ours), statistics.median(least)
    what = f"{len(urls)} pages" if len(urls) > 1 else "fetch"
    told = f"{us * 1000:.0f} ms against {them * 1000:.0f} ms for {what}, parse and COPY"
    return [
        Figure(f"{platform}: first sync, statements", str(count), None, "<= 12", count <= 12),
        Figure(f"{platform}: first sync of {COUNT:,}", told, us / them, "<= 2.5", us / them <= 2.5),
    ]


class Floor:
    """The same bytes over the same transport, parsed once, and the same rows into a table of the same shape."""

    def __init__(
        self, connection: "asyncpg.Connection[asyncpg.Record]", client: httpx.AsyncClient, urls: list[str]
    ) -> None:
        self._connection = connection
        self._client = client
        self._urls = urls
        self._rows: list[tuple[object, ...]] = []

    async def prepare(self, calendar_id: UUID) -> None:
        """Take the rows that a first sync has just written."""
        await self._connection.execute("ANALYZE")
        await self._connection.execute("CREATE TABLE IF NOT EXISTS bare (LIKE calendar_events INCLUDING ALL)")
        query = f"SELECT {_COPIED} FROM calendar_events WHERE calendar_id = $1"  # noqa: S608 - constants
        self._rows = [tuple(row) for row in await self._connection.fetch(query, calendar_id)]
        assert len(self._rows) == COUNT  # noqa: S101 - else the floor does less

    async def seconds(self) -> float:
        """One turn."""
        await self._connection.execute("TRUNCATE bare")
        return await seconds(self._once)

    async def _once(self) -> None:
        for url in self._urls:
            answer = await self._client.get(url)
            orjson.loads(answer.content)
        columns = [name.strip() for name in _COPIED.split(",")]
        async with self._connection.transaction():
            await self._connection.copy_records_to_table("bare", records=self._rows, columns=columns)


@asynccontextmanager
async def floor(bench: Bench, urls: list[str]) -> AsyncIterator[Floor]:
    """A floor with a connection and a client of its own."""
    connection = await asyncpg.connect(bench.database_url)
    async with httpx.AsyncClient(transport=AiohttpTransport(), trust_env=False) as client:
        yield Floor(connection, client, urls)
    await connection.close()


async def seconds(action: Callable[[], Awaitable[object]]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    await action()
    return time.perf_counter() - started
