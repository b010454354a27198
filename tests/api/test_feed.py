"""The change feed of one calendar: `after_seq`, `position`, and when it has expired."""

from typing import Any

import httpx
import pytest

from app.runtime import Runtime
from tests.api.rows import Rows, calendar_ref

EVENTS = "/api/v1/calendar_events"


async def _feed(client: httpx.AsyncClient, calendar_id: Any, after: int, **more: Any) -> Any:
    params = {"calendar_id": calendar_ref(calendar_id), "after_seq": after, **more}
    answer = await client.get(EVENTS, params=params)
    return answer.json()


async def test_changes_come_in_their_order_and_exclude_the_start(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    ids = await rows.events(calendar, 4)
    page = await _feed(client, calendar, 2)
    assert [(item["id"], item["change_seq"]) for item in page["results"]] == [(ids[2], 3), (ids[3], 4)]
    assert page["position"] == 4
    assert (await _feed(client, calendar, 4)) == {"next": None, "previous": None, "results": [], "position": 4}
    assert (await _feed(client, calendar, 9))["position"] == 9


async def test_deleted_rows_are_part_of_it(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    await rows.event(calendar)
    await rows.event(calendar, is_deleted=True)
    page = await _feed(client, calendar, 0)
    assert [item["is_deleted"] for item in page["results"]] == [False, True]


async def test_each_page_says_where_to_go_on(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    await rows.events(calendar, 5)
    page = await _feed(client, calendar, 0, limit=2)
    positions = [page["position"]]
    while page["next"]:
        page = (await client.get(page["next"])).json()
        positions.append(page["position"])
    assert positions == [2, 4, 5]


async def test_other_lists_have_no_position(client: httpx.AsyncClient, rows: Rows) -> None:
    await rows.event(await rows.calendar())
    assert "position" not in (await client.get(EVENTS)).json()


async def test_the_feed_expires_below_the_floor_only(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    await rows.events(calendar, 3)
    await rows.sql("UPDATE calendars SET feed_floor = 2")
    expired = await client.get(EVENTS, params={"calendar_id": calendar_ref(calendar), "after_seq": 1})
    assert (expired.status_code, expired.json()["code"]) == (410, "feed_expired")
    assert len((await _feed(client, calendar, 2))["results"]) == 1
    assert len((await _feed(client, calendar, 0))["results"]) == 3


async def test_at_the_end_the_position_is_at_least_the_floor(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    await rows.events(calendar, 3)
    await rows.sql("DELETE FROM calendar_events WHERE change_seq = 3")
    await rows.sql("UPDATE calendars SET feed_floor = 3")
    page = await _feed(client, calendar, 0, limit=1)
    assert page["position"] == 1
    page = (await client.get(page["next"])).json()
    assert page["position"] == 3
    assert (await _feed(client, calendar, page["position"]))["results"] == []


async def test_a_walk_from_the_start_never_expires(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    await rows.events(calendar, 6)
    page = await _feed(client, calendar, 0, limit=2)
    await rows.sql("DELETE FROM calendar_events WHERE change_seq IN (3, 5)")
    await rows.sql("UPDATE calendars SET feed_floor = 5")
    seen = [item["change_seq"] for item in page["results"]]
    while page["next"]:
        answer = await client.get(page["next"])
        assert answer.status_code == 200
        page = answer.json()
        seen += [item["change_seq"] for item in page["results"]]
    assert (seen, page["position"]) == ([1, 2, 4, 6], 6)


async def test_a_walk_that_missed_a_purge_is_told_so(client: httpx.AsyncClient, rows: Rows) -> None:
    """Begun at 1, at 3 when rows up to 5 were purged: the reader would never hear that 4 and 5 are gone."""
    calendar = await rows.calendar()
    await rows.events(calendar, 8)
    page = await _feed(client, calendar, 1, limit=2)
    assert page["position"] == 3
    await rows.sql("DELETE FROM calendar_events WHERE change_seq IN (4, 5)")
    await rows.sql("UPDATE calendars SET feed_floor = 5")
    assert (await client.get(page["next"])).status_code == 410


async def test_filters_narrow_the_feed(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    await rows.event(calendar, meeting_url="https://meet.google.com/a")
    await rows.event(calendar)
    await rows.event(calendar, meeting_url="https://meet.google.com/b")
    page = await _feed(client, calendar, 0, has_meeting_url="true")
    assert [item["change_seq"] for item in page["results"]] == [1, 3]


@pytest.mark.parametrize("column", ["deleted_at = app_now()"])
async def test_a_deleted_calendar_has_no_feed(client: httpx.AsyncClient, rt: Runtime, rows: Rows, column: str) -> None:
    calendar = await rows.calendar()
    await rows.events(calendar, 3)
    await rows.sql("UPDATE calendars SET feed_floor = 3")
    await rows.sql(f"UPDATE calendars SET {column}")
    assert (await _feed(client, calendar, 1)) == {"next": None, "previous": None, "results": [], "position": 1}
