"""Lists among 50,000 events: what a page reads is in proportion to the page, or to what its bounds leave.

Every bound with every ordering, as HTTP asks for it. The project has a fifth of the events, of which each of its ten
calendars has 1,000; what starts and what changes lies in the same order, which is how calendars are, and the worst case
for who looks for the one among the other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from app.ids import EVENT, LAUNCHER, parse, public
from app.runtime import Runtime
from tests.api.plans import explain, recording
from tests.api.rows import Rows, calendar_ref
from tests.harness import Project, application

Connection = asyncpg.Connection
EVENTS, BOTS = "/api/v1/calendar_events", "/api/v1/bots"
MINE, OTHERS, CALENDARS = 10_000, 40_000, 10
PAGE = 20
COMMON = {"limit": PAGE, "exclude": "bots"}
ORDERINGS = ("updated_at", "start_time", "end_time", "created_at", "change_seq")
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
"""When the first event starts. One follows each ten minutes, for ten weeks; half an hour long, each 500th a month."""

_EVENTS = """
INSERT INTO calendar_events (id, project_id, calendar_id, platform_uuid, ical_uid, start_time, end_time, status,
       is_deleted, series_id, meeting_url, meeting_platform, content, content_hash, change_seq, raw, created_at,
       updated_at)
SELECT gen_random_uuid(), :project, (CAST(:calendars AS uuid[]))[1 + n % :count], CAST(n AS text), 'u' || n / 5,
       s.start, s.start + CASE WHEN n % 500 = 1 THEN interval '30 days' ELSE interval '30 minutes' END,
       CASE WHEN n % 10 = 0 THEN 'tentative' ELSE 'confirmed' END, n % 20 = 0,
       CASE WHEN n % 2 = 0 THEN 's' || n / 100 END, CASE WHEN n % 3 = 0 THEN 'https://zoom.us/j/' || n END,
       CASE WHEN n % 3 = 0 THEN 'zoom' END,
       concat('{"organizer"\\:{"email"\\:"o', n % 100, '@example.com"},"attendees"\\:[{"email"\\:"a', n % 100,
              '@example.com"}],"description"\\:"', repeat('x', 300), '"}'),
       CAST('x' AS bytea), 1 + n / :count, '{}', s.start - interval '300 days', s.start - interval '200 days'
  FROM generate_series(0, CAST(:most AS int) - 1) n CROSS JOIN LATERAL (
       SELECT CAST(:first AS timestamptz) + n % 10000 * interval '10 minutes' + n / 10000 * interval '1 second'
       ) s (start)
"""
_BOTS = """
INSERT INTO bots (id, project_id, state, bot_name, meeting_url, join_at, ends_at, calendar_id, calendar_event_id,
       launcher_id, deduplication_key, created_at)
SELECT gen_random_uuid(), :project, CASE WHEN n < :most / 5 - 50 THEN 'cancelled' ELSE 'scheduled' END, 'Notes',
       'https://zoom.us/j/' || n / 4, s.start, s.start, (CAST(:calendars AS uuid[]))[1 + n % :count],
       gen_random_uuid(), (CAST(:launchers AS uuid[]))[CASE WHEN n < :most / 5 - 30 THEN 1 ELSE 2 END],
       'k' || n % 500, s.start - interval '20 days'
  FROM generate_series(0, CAST(:most AS int) / 5 - 1) n CROSS JOIN LATERAL (
       SELECT CAST(:first AS timestamptz) + n % 2000 * interval '50 minutes' + n / 2000 * interval '1 second'
       ) s (start)
"""


@pytest.fixture
async def calendars(rt: Runtime, rows: Rows, foreign: Rows) -> list[str]:
    """The project's calendars, with all those events and bots."""
    for table in ("calendar_events", "bots"):
        await rows.sql(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
    made = []
    for writer, most in ((rows, MINE), (foreign, OTHERS)):
        launchers = [parse(LAUNCHER, await writer.launcher()) for _ in range(2)]
        keys = [await writer.calendar(dedup=f"key-{n}") for n in range(CALENDARS)]
        params = {"project": writer.project_id, "calendars": keys, "count": CALENDARS, "most": most, "first": FIRST}
        await writer.sql(_EVENTS, **params)
        await writer.sql(_BOTS, launchers=launchers, **params)
        made.append(keys)
    await rows.sql("ANALYZE calendar_events, bots, calendars")
    return [calendar_ref(key) for key in made[0]]


class Lists:
    """Asks for pages through HTTP, and judges what was sent by what running it reads."""

    def __init__(self, rt: Runtime, project: Project, connection: Connection, *, path: str, table: str) -> None:
        recorded, self._sent = recording(rt)
        transport = httpx.ASGITransport(application(recorded))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://punctual.test", headers=project.headers)
        self._connection, self._path, self._table = connection, path, table

    async def page(self, params: dict[str, Any], *, most: int) -> str | None:
        """A page reads at most so many rows, however it is planned; the address of the next."""
        return await self._judged(self._path, params, most)

    async def two_pages(self, params: dict[str, Any], *, most: int) -> None:
        """A page and the next, the second from where the first one ended."""
        after = await self.page(params, most=most)
        if after is not None:
            await self._judged(after, None, most)

    async def _judged(self, url: str, params: dict[str, Any] | None, most: int) -> str | None:
        self._sent.clear()
        answer = await self._client.get(url, params=params)
        assert answer.status_code == 200, answer.text
        for cost in await explain(self._connection, self._sent[0], table=self._table):
            assert cost.rows <= most, cost
            assert cost.pages <= most + 100, cost
            assert not cost.is_whole, cost
            assert not cost.is_spilt, cost
        after: str | None = answer.json()["next"]
        return after


@pytest.fixture
async def connection(rt: Runtime) -> AsyncIterator[Connection]:
    """A connection for plans, set as the service's are."""
    connection = await asyncpg.connect(rt.settings.database_url, server_settings={"jit": "off", "timezone": "UTC"})
    yield connection
    await connection.close()


def _day(number: int) -> str:
    return (FIRST + timedelta(days=number)).isoformat()


def _changed(number: int) -> str:
    """When what starts on this day was changed last."""
    return _day(number - 200)


IN_ORDER = 2 * (PAGE + 1)
"""Rows that a page in an index's order may read: its own, and as many again."""
OF_DAY, OF_CALENDAR = 24 * 6, MINE // CALENDARS
LONG = MINE // 500
BEFORE = 2 * OF_DAY + LONG
"""What may have to be looked at because it could end after a time: two days' events and the long ones."""


@pytest.mark.slow  # 50,000 rows are written, some hundred plans run
@pytest.mark.timeout(120)
async def test_pages(
    rt: Runtime, project: Project, calendars: list[str], connection: Connection, subtests: pytest.Subtests
) -> None:
    """One test, because the rows take longer than both."""
    await _events(rt, project, calendars, connection, subtests)
    await _bots(rt, project, calendars, connection, subtests)


async def _events(
    rt: Runtime, project: Project, calendars: list[str], connection: Connection, subtests: pytest.Subtests
) -> None:
    lists = Lists(rt, project, connection, path=EVENTS, table="calendar_events")
    one = await connection.fetchval("SELECT id FROM calendar_events WHERE project_id = $1 LIMIT 1", project.id)
    calendar = {"calendar_id": calendars[3]}
    # A bound, the rows that it leaves, and the orderings that an index of its own has.
    bounds: list[tuple[dict[str, Any], int, set[str]]] = [
        ({}, MINE, {"updated_at", "start_time"}),
        (calendar, OF_CALENDAR, {"updated_at", "change_seq"}),
        ({"calendar_deduplication_key": "key-4"}, OF_CALENDAR, {"updated_at", "change_seq"}),
        ({"event_id": public(EVENT, one)}, 1, set()),
        ({"ical_uid": "u77"}, 5, set()),
        ({"updated_after": _changed(69)}, OF_DAY, {"updated_at"}),
        ({"updated_at_gte": _changed(0)}, MINE, {"updated_at"}),
        ({"start_time_gte": _day(10), "start_time_lte": _day(11)}, OF_DAY, {"start_time"}),
        ({"end_time_gte": _day(10), "end_time_lte": _day(11)}, OF_DAY + BEFORE, set()),
        ({"end_time_gte": _day(40), "start_time_lte": _day(41)}, OF_DAY + BEFORE, set()),
        ({"start_time_gte": _day(60)}, MINE, {"start_time"}),
        ({"start_time_lte": _day(5)}, MINE, {"start_time"}),
        ({"end_time_lte": _day(5)}, MINE, {"start_time"}),
        ({"end_time_gte": _day(60)}, MINE, set()),
        (calendar | {"updated_after": _changed(60)}, OF_CALENDAR, {"updated_at"}),
        (calendar | {"start_time_gte": _day(10), "start_time_lte": _day(11)}, OF_CALENDAR, set()),
    ]
    for bound, left, indexed in bounds:
        for ordering in ORDERINGS:
            with subtests.test(bound=bound, ordering=ordering):
                params = bound | COMMON
                if ordering in indexed:
                    await lists.two_pages(params | {"ordering": ordering}, most=IN_ORDER)
                    await lists.two_pages(params | {"ordering": f"-{ordering}"}, most=IN_ORDER)
                    continue
                # An index that leads astray does so from one of its ends.
                signs = ("", "-") if ordering in {"updated_at", "start_time"} else ("-",)
                for sign in signs:
                    await lists.page(params | {"ordering": sign + ordering}, most=left + left // 5 + PAGE)
    with subtests.test(bound="what is under way or to come, by its start"):
        for ordering in ("start_time", "-start_time"):
            await lists.page({"end_time_gte": _day(60)} | COMMON | {"ordering": ordering}, most=IN_ORDER + BEFORE)
    with subtests.test(bound="after_seq"):
        await lists.two_pages(calendar | COMMON | {"after_seq": 100}, most=IN_ORDER)
    others = {
        "is_deleted": "true",
        "has_meeting_url": "true",
        "meeting_platform": "webex",
        "series_id": "s50",
        "attendee_email": "a7@example.com",
        "organizer_email": "o7@example.com",
        "status": "tentative",
    }
    for name, value in others.items():
        for bound, left in ((calendar, OF_CALENDAR), ({"updated_after": _changed(69)}, OF_DAY)):
            with subtests.test(bound=bound, filter=name):
                await lists.page(bound | COMMON | {name: value}, most=left + left // 5 + PAGE)


async def _bots(
    rt: Runtime, project: Project, calendars: list[str], connection: Connection, subtests: pytest.Subtests
) -> None:
    """The oldest come first, and what is looked for came last."""
    lists = Lists(rt, project, connection, path=BOTS, table="bots")
    last = await connection.fetchrow(
        "SELECT * FROM bots WHERE project_id = $1 ORDER BY created_at DESC LIMIT 1", project.id
    )
    assert last is not None
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, IN_ORDER),
        ({"state": "scheduled"}, IN_ORDER + PAGE),
        ({"state": ["scheduled", "launched", "scheduled"]}, IN_ORDER + PAGE),
        ({"launcher_id": public(LAUNCHER, last["launcher_id"])}, IN_ORDER),
        ({"calendar_event_id": public(EVENT, last["calendar_event_id"])}, IN_ORDER),
        ({"calendar_id": calendars[7]}, OF_CALENDAR + PAGE),
        ({"meeting_url": last["meeting_url"]}, IN_ORDER),
        ({"deduplication_key": last["deduplication_key"]}, IN_ORDER),
        ({"join_at_gte": _day(68)}, 2 * OF_DAY + PAGE),
        ({"join_at_after": _day(40), "join_at_before": _day(41), "state": "failed"}, OF_DAY + PAGE),
    ]
    for params, most in cases:
        with subtests.test(params=params):
            await lists.two_pages(params | {"limit": PAGE}, most=most)
