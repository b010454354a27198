"""Pages of events against what stands in the table: every bound with every ordering, forth and back.

Statements differ from bound to bound (`event_queries`); what they find must not.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.api.rows import START, Rows

EVENTS = "/api/v1/calendar_events"
Event = dict[str, Any]
Bound = tuple[dict[str, Any], Callable[[Event], bool]]
ORDERINGS = ("updated_at", "start_time", "end_time", "created_at", "change_seq")


def _at(hours: float) -> str:
    return f"{START + timedelta(hours=hours):%Y-%m-%dT%H:%M:%S.%f}Z"


@pytest.fixture
async def events(client: httpx.AsyncClient, rows: Rows) -> list[Event]:
    """Events of two calendars: short ones, days and weeks long, as long as the limit, of no length."""
    calendars = [await rows.calendar(dedup=f"key-{n}") for n in range(2)]
    lengths = [0.5, 0, 48, 48.001, 24 * 21, 1, 0.5, 24 * 400, 47, 2]
    for place, length in enumerate(lengths):
        start = START + timedelta(hours=place * 11)
        end = start + timedelta(hours=length)
        await rows.event(
            calendars[place % 2], name=str(place), start_time=start, end_time=end, ical_uid=f"u{place // 4}"
        )
    other = await rows.event(calendars[0], name="early", start_time=START - timedelta(days=300), ical_uid="u0")
    assert other.startswith("evt_")
    gone = await rows.calendar()
    await rows.events(gone, 2)
    await rows.sql("UPDATE calendars SET deleted_at = app_now() WHERE id = :id", id=gone)
    shown: list[Event] = (await client.get(EVENTS)).json()["results"]
    assert len(shown) == 11
    return shown


def _bounds(events: list[Event]) -> list[Bound]:
    calendar, middle = events[0]["calendar_id"], sorted(event["updated_at"] for event in events)[5]
    early, late = _at(40), _at(72)

    def starts(event: Event) -> bool:
        return bool(early <= event["start_time"] <= late)

    def ends(event: Event) -> bool:
        return bool(early <= event["end_time"] <= late)

    return [
        ({}, lambda _: True),
        ({"calendar_id": calendar}, lambda event: event["calendar_id"] == calendar),
        (
            {"calendar_id": calendar, "start_time_gte": early},
            lambda e: e["calendar_id"] == calendar and e["start_time"] >= early,
        ),
        ({"event_id": events[3]["id"]}, lambda event: event["id"] == events[3]["id"]),
        ({"ical_uid": "u0"}, lambda event: event["ical_uid"] == "u0"),
        ({"updated_after": middle}, lambda event: event["updated_at"] >= middle),
        (
            {"updated_at_gte": middle, "end_time_gte": late},
            lambda e: e["updated_at"] >= middle and e["end_time"] >= late,
        ),
        ({"start_time_gte": early, "start_time_lte": late}, starts),
        ({"end_time_gte": early, "end_time_lte": late}, ends),
        ({"end_time_gte": late}, lambda event: event["end_time"] >= late),
        ({"end_time_gte": _at(70)}, lambda event: event["end_time"] >= _at(70)),  # when one of 48 hours ends
        ({"end_time_gte": _at(134.9)}, lambda event: event["end_time"] >= _at(134.9)),  # just before one of 47 does
        ({"end_time_lte": late}, lambda event: event["end_time"] <= late),
        ({"end_time_gte": late, "start_time_lte": late}, lambda e: e["end_time"] >= late >= e["start_time"]),
        ({"end_time_gte": late, "start_time_gte": early}, lambda e: e["end_time"] >= late and e["start_time"] >= early),
    ]


async def test_every_bound_with_every_ordering(
    client: httpx.AsyncClient, events: list[Event], subtests: pytest.Subtests
) -> None:
    for bound, is_in in _bounds(events):
        for ordering in ORDERINGS:
            for sign in ("", "-"):
                with subtests.test(bound=bound, ordering=sign + ordering):
                    wanted = [event for event in events if is_in(event)]
                    params = bound | {"ordering": sign + ordering, "limit": 5, "exclude": "raw,bots"}
                    pages = await _walk(client, params)
                    found = [event for page in pages for event in page]
                    assert {event["id"] for event in found} == {event["id"] for event in wanted}
                    assert len(found) == len(wanted)
                    values = [event[ordering] for event in found]
                    assert values == sorted(values, reverse=sign == "-")


async def _walk(client: httpx.AsyncClient, params: dict[str, Any]) -> list[list[Event]]:
    """The pages, forth; those before the last are the same on the way back."""
    page = (await client.get(EVENTS, params=params)).json()
    forth = [page["results"]]
    while page["next"] is not None:
        page = (await client.get(page["next"])).json()
        forth.append(page["results"])
    back = []
    while page["previous"] is not None:
        page = (await client.get(page["previous"])).json()
        back.append(page["results"])
    assert back[::-1] == forth[:-1]
    return forth


async def test_limits_at_the_ends_of_time(client: httpx.AsyncClient, events: list[Event]) -> None:
    for limit in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        for name in ("start_time_gte", "start_time_lte", "end_time_gte", "end_time_lte", "updated_after"):
            answer = await client.get(EVENTS, params={name: limit, "ordering": "end_time"})
            is_open = limit.startswith("0001") != name.endswith("_lte")
            assert len(answer.json()["results"]) == (len(events) if is_open else 0), (name, limit)
