"""A reader that pages by a watermark misses nothing, whatever commits meanwhile.

Writers hold transactions of different lengths open, each over several calendars' rows in the way the engine writes
them. The reader polls all the while; at the end it must have seen every row in its last version.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.runtime import Runtime
from tests.api.rows import Rows, calendar_ref, touch_event, write_event
from tests.harness import Project

EVENTS = "/api/v1/calendar_events"
WRITERS, ROUNDS = 8, 12


async def _write(rt: Runtime, project: Project, calendar: UUID, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(ROUNDS):
        async with rt.db.transaction() as tx:
            for _ in range(dice.randint(1, 3)):
                await write_event(tx, project.id, calendar)
            if dice.random() < 0.5:
                await touch_event(tx, calendar)
            await asyncio.sleep(dice.choice([0, 0, 0.002, 0.03, 0.09]))


async def _while_writing(
    rt: Runtime, project: Project, calendars: list[UUID], poll: Callable[[], Awaitable[None]]
) -> set[tuple[str, int]]:
    """Poll until the writers are done and once more; what the table holds then."""
    writers = [asyncio.create_task(_write(rt, project, calendars[n % len(calendars)], n)) for n in range(WRITERS)]
    while not all(writer.done() for writer in writers):
        await poll()
    await asyncio.gather(*writers)
    await poll()
    async with rt.db.reading() as tx:
        stored = await tx.rows("SELECT platform_uuid, change_seq FROM calendar_events")
    return {(row.platform_uuid, row.change_seq) for row in stored}


class Reader:
    """Follows a list by its greatest `updated_at`, or by its `position`."""

    def __init__(self, client: httpx.AsyncClient, params: dict[str, Any], mark: str) -> None:
        self.client, self.params, self.mark = client, params, mark
        self.seen: set[tuple[str, int]] = set()

    async def poll(self) -> None:
        """Read everything since the watermark, page by page, then move it."""
        page = (await self.client.get(EVENTS, params={**self.params, "limit": 5, "exclude": "raw"})).json()
        watermark = self.params[self.mark]
        while True:
            self.seen |= {(item["platform_uuid"], item["change_seq"]) for item in page["results"]}
            if self.mark == "after_seq":
                watermark = page["position"]
            else:
                watermark = max([watermark, *(item["updated_at"] for item in page["results"])])
            if page["next"] is None:
                break
            page = (await self.client.get(page["next"])).json()
        self.params[self.mark] = watermark


@pytest.mark.parametrize("ordering", ["-updated_at", "updated_at"])
async def test_by_updated_after_over_all_calendars(
    client: httpx.AsyncClient, rt: Runtime, project: Project, rows: Rows, ordering: str
) -> None:
    calendars = [await rows.calendar() for _ in range(WRITERS)]
    reader = Reader(client, {"updated_after": "2020-01-01T00:00:00.000000Z", "ordering": ordering}, "updated_after")
    stored = await _while_writing(rt, project, calendars, reader.poll)
    assert stored <= reader.seen


async def test_by_updated_after_of_one_calendar(
    client: httpx.AsyncClient, rt: Runtime, project: Project, rows: Rows
) -> None:
    calendar = await rows.calendar()
    params = {"calendar_id": calendar_ref(calendar), "updated_after": "2020-01-01T00:00:00.000000Z"}
    reader = Reader(client, params, "updated_after")
    stored = await _while_writing(rt, project, [calendar], reader.poll)
    assert stored <= reader.seen


async def test_by_after_seq(client: httpx.AsyncClient, rt: Runtime, project: Project, rows: Rows) -> None:
    calendar = await rows.calendar()
    reader = Reader(client, {"calendar_id": calendar_ref(calendar), "after_seq": 0}, "after_seq")
    stored = await _while_writing(rt, project, [calendar], reader.poll)
    assert stored <= reader.seen


async def test_an_open_write_holds_only_what_is_newer(
    client: httpx.AsyncClient, rt: Runtime, project: Project, rows: Rows
) -> None:
    """One of two writers is slow: the list over all calendars shows nothing that began after it, then all."""
    slow, quick = await rows.calendar(), await rows.calendar()
    before = await rows.event(quick)
    async with rt.db.transaction() as tx:
        await write_event(tx, project.id, slow)
        later = await rows.event(quick)
        listed = {item["id"] for item in (await client.get(EVENTS)).json()["results"]}
        assert listed == {before}
        one = (await client.get(EVENTS, params={"calendar_id": calendar_ref(quick)})).json()
        assert {item["id"] for item in one["results"]} == {before, later}
    assert len((await client.get(EVENTS)).json()["results"]) == 3


async def test_an_idle_reader_holds_nothing_back(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    """Only writers count: a transaction that merely reads does not delay the list."""
    async with rt.db.reading() as tx:
        await tx.scalar("SELECT count(*) FROM calendars")
        event = await rows.event(await rows.calendar())
        assert [item["id"] for item in (await client.get(EVENTS)).json()["results"]] == [event]
