"""Pages: cursors that hold while others write, and that nobody can bend."""

import base64
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.api.rows import START, Rows, calendar_ref

EVENTS, CALENDARS, WEBHOOKS = "/api/v1/calendar_events", "/api/v1/calendars", "/api/v1/webhooks"


async def _walk(client: httpx.AsyncClient, url: str | None, direction: str = "next") -> list[list[Any]]:
    pages = []
    while url is not None:
        page = (await client.get(url)).json()
        pages.append([item["id"] for item in page["results"]])
        url = page[direction]
    return pages


async def test_pages_forth_and_back(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    ids = await rows.events(calendar, 7)
    forth = await _walk(client, f"{EVENTS}?limit=3")
    assert forth == [ids[:3:-1], ids[3:0:-1], ids[:1]]
    last = await client.get((await client.get((await client.get(f"{EVENTS}?limit=3")).json()["next"])).json()["next"])
    back = await _walk(client, last.json()["previous"], "previous")
    assert back == [ids[3:0:-1], ids[:3:-1]]


async def test_a_page_before_the_start_is_empty_and_leads_back(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    ids = await rows.events(calendar, 3)
    second = (await client.get((await client.get(f"{EVENTS}?limit=1")).json()["next"])).json()
    first = (await client.get(second["previous"])).json()
    assert [item["id"] for item in first["results"]] == ids[2:]
    assert first["previous"] is None
    assert (await client.get(first["next"])).json()["results"] == second["results"]


@pytest.mark.parametrize("size", [3, 6])
async def test_no_page_after_the_last_row(client: httpx.AsyncClient, rows: Rows, size: int) -> None:
    await rows.events(await rows.calendar(), size)
    pages = await _walk(client, f"{EVENTS}?limit=3")
    assert [len(page) for page in pages] == [3] * (size // 3)


async def test_equal_sort_values_are_neither_lost_nor_repeated(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    ids = [await rows.event(calendar) for _ in range(7)]
    for ordering in ("start_time", "-start_time", "end_time"):
        pages = await _walk(client, f"{EVENTS}?ordering={ordering}&limit=2")
        walked = [event for page in pages for event in page]
        assert len(walked) == 7, ordering
        assert set(walked) == set(ids), ordering


async def test_rows_that_come_in_between_shift_nothing(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    old = [await rows.event(calendar, start_time=START + timedelta(days=2 * n)) for n in range(6)]
    seen: list[str] = []
    url: str | None = f"{EVENTS}?ordering=start_time&limit=2"
    while url is not None:
        page = (await client.get(url)).json()
        seen += [item["id"] for item in page["results"]]
        url = page["next"]
        await rows.event(calendar, start_time=START - timedelta(days=1))
        await rows.sql("DELETE FROM calendar_events WHERE platform_uuid = 'gone'")
    assert seen == old


async def test_the_row_at_the_cursor_may_go(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    ids = await rows.events(calendar, 4)
    page = (await client.get(f"{EVENTS}?ordering=start_time&limit=2")).json()
    await rows.sql("DELETE FROM calendar_events WHERE start_time <= :at", at=START + timedelta(hours=1))
    rest = (await client.get(page["next"])).json()
    assert [item["id"] for item in rest["results"]] == ids[2:]


async def test_the_next_address_keeps_everything_that_was_asked(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar(dedup="a&b=c d")
    await rows.events(calendar, 3)
    params = {
        "calendar_deduplication_key": "a&b=c d",
        "limit": "1",
        "ordering": "-start_time",
        "exclude": "raw",
        "start_time_gte": "2026-12-01T10:00:00+01:00",
    }
    page = (await client.get(EVENTS, params=params)).json()
    asked = httpx.URL(page["next"])
    assert {name: asked.params[name] for name in params} == params
    assert (asked.host, asked.path) == ("punctual.test", EVENTS)
    assert len(await _walk(client, page["next"])) == 2


async def test_limit_and_exclude_may_change_from_page_to_page(client: httpx.AsyncClient, rows: Rows) -> None:
    await rows.events(await rows.calendar(), 5)
    page = (await client.get(f"{EVENTS}?limit=1")).json()
    rest = (await client.get(httpx.URL(page["next"]).copy_merge_params({"limit": 250, "exclude": "raw"}))).json()
    assert len(rest["results"]) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"ordering": "updated_at"},
        {"ordering": "start_time"},
        {"is_deleted": "false"},
        {"updated_after": "2020-01-02T00:00:00Z"},
        {"updated_at_gte": "2020-01-01T00:00:00Z"},
    ],
)
async def test_a_cursor_is_good_for_its_own_list_only(
    client: httpx.AsyncClient, rows: Rows, change: dict[str, str]
) -> None:
    await rows.events(await rows.calendar(), 3)
    page = (await client.get(f"{EVENTS}?limit=1&updated_after=2020-01-01T00:00:00Z")).json()
    answer = await client.get(httpx.URL(page["next"]).copy_merge_params(change))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")


async def test_a_cursor_of_another_path_is_refused(client: httpx.AsyncClient, rows: Rows) -> None:
    await rows.calendar()
    await rows.calendar()
    cursor = httpx.URL((await client.get(f"{CALENDARS}?limit=1")).json()["next"]).params["cursor"]
    assert (await client.get(f"{WEBHOOKS}?limit=1&cursor={cursor}")).status_code == 422


async def test_an_edited_cursor_is_refused(client: httpx.AsyncClient, rows: Rows) -> None:
    await rows.events(await rows.calendar(), 3)
    cursor = httpx.URL((await client.get(f"{EVENTS}?limit=1")).json()["next"]).params["cursor"]
    packed = bytearray(base64.urlsafe_b64decode(cursor + "=="))
    for position in range(len(packed)):
        packed[position] ^= 1
        edited = base64.urlsafe_b64encode(packed).decode().rstrip("=")
        packed[position] ^= 1
        answer = await client.get(f"{EVENTS}?limit=1&cursor={edited}")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor"), position
    assert (await client.get(f"{EVENTS}?limit=1&cursor={cursor}x")).status_code == 422
    assert (await client.get(f"{EVENTS}?limit=1&cursor={cursor}")).status_code == 200


async def test_lists_have_their_default_sizes_and_order(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    newest = [await rows.calendar() for _ in range(26)][-1]
    page = (await client.get(CALENDARS)).json()
    assert len(page["results"]) == 25
    assert page["results"][0]["id"] == calendar_ref(newest)
    await rows.events(calendar, 101)
    assert len((await client.get(EVENTS)).json()["results"]) == 100
    assert len((await client.get(f"{EVENTS}?limit=250")).json()["results"]) == 101
