"""Google's sync rules on the wire: which parameters go with which request, and how a round ends or breaks off."""

import itertools
from datetime import UTC, datetime, timedelta, timezone

import httpx
import pytest

from app.errors import (
    CalendarGone,
    CursorExpired,
    ProviderContract,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
)
from app.meetings import NO_PREFERENCES
from app.providers.base import ChangePage, Parked, Tombstone, Window
from app.providers.google.client import PAGE_LIMIT
from tests.provider.harness import API, Google, nothing_known, refusal, scripted_google

WINDOW = Window(
    datetime(2026, 3, 1, 0, 0, 0, 123_456, tzinfo=UTC), datetime(2026, 4, 1, 2, tzinfo=timezone(timedelta(hours=2)))
)
TYPES = ["birthday", "default", "focusTime", "fromGmail", "outOfOffice", "workingLocation"]
EVENTS = f"{API}/calendars/ana%40example.com/events"
TOMBSTONE = {"id": "t1", "status": "cancelled"}


async def _round(google: Google, cursor: str | None, calendar: str = "ana@example.com") -> list[ChangePage]:
    pages = google.provider.fetch_changes(
        google.access,
        calendar,
        cursor=cursor,
        window=WINDOW,
        time_zone="Europe/Berlin",
        owner=None,
        known=nothing_known,
        preferences=NO_PREFERENCES,
    )
    return [page async for page in pages]


def _asked(google: Google) -> list[list[tuple[str, str]]]:
    return [request.url.params.multi_items() for request in google.requests]


CONSTANT = [("singleEvents", "true"), ("maxResults", "2500"), *(("eventTypes", kind) for kind in TYPES)]


async def test_a_window_listing_pages_with_all_its_parameters(google: Google) -> None:
    google.mock.get(url__startswith=EVENTS).mock(
        side_effect=[
            httpx.Response(200, json={"items": [], "nextPageToken": "p+2/="}),
            httpx.Response(200, json={"items": [TOMBSTONE], "nextPageToken": "p3"}),
            httpx.Response(
                200, json={"items": [{}], "nextSyncToken": "s1", "timeZone": "Asia/Tokyo", "summary": "Ana"}
            ),
        ]
    )
    pages = await _round(google, None)
    window = [("timeMin", "2026-03-01T00:00:00Z"), ("timeMax", "2026-04-01T00:00:00Z")]
    assert _asked(google) == [
        [*CONSTANT, *window],
        [*CONSTANT, *window, ("pageToken", "p+2/=")],
        [*CONSTANT, *window, ("pageToken", "p3")],
    ]
    assert [page.cursor for page in pages] == [None, None, "s1"]
    assert pages[1].items == (Tombstone("t1"),)
    assert isinstance(pages[2].items[0], Parked)
    assert (pages[2].time_zone, pages[2].calendar_name) == ("Asia/Tokyo", "Ana")
    assert pages[0].time_zone == "Europe/Berlin"


async def test_an_incremental_listing_sends_both_tokens_on_each_later_page(google: Google) -> None:
    google.mock.get(url__startswith=EVENTS).mock(
        side_effect=[
            httpx.Response(200, json={"items": [], "nextPageToken": "p2"}),
            httpx.Response(200, json={"items": [], "nextSyncToken": "s2"}),
        ]
    )
    pages = await _round(google, "s1=")
    assert _asked(google) == [
        [*CONSTANT, ("syncToken", "s1=")],
        [*CONSTANT, ("syncToken", "s1="), ("pageToken", "p2")],
    ]
    assert pages[-1].cursor == "s2"


async def test_a_request_says_who_asks_and_for_whom(google: Google) -> None:
    google.mock.get(url__startswith=EVENTS).respond(json={"items": [], "nextSyncToken": "s"})
    await _round(google, None)
    headers = google.requests[0].headers
    assert headers["authorization"] == "Bearer token-1"
    assert "gzip" in headers["accept-encoding"]
    assert "gzip" in headers["user-agent"]  # else Google sends plain text


async def test_every_character_of_a_calendars_id_stays_inside_its_part_of_the_path(google: Google) -> None:
    google.mock.get(url__startswith=API).respond(json={"items": [], "nextSyncToken": "s"})
    await _round(google, None, calendar="en.usa#holiday/../x?y@group.v.calendar.google.com")
    path = google.requests[0].url.raw_path.decode().split("?")[0]
    assert path == "/calendar/v3/calendars/en.usa%23holiday%2F..%2Fx%3Fy%40group.v.calendar.google.com/events"


@pytest.mark.parametrize("cursor", [None, "s1"])
@pytest.mark.parametrize("broken_page", [0, 1])
async def test_410_can_come_at_any_page(google: Google, cursor: str | None, broken_page: int) -> None:
    answers = [httpx.Response(200, json={"items": [], "nextPageToken": "p2"})] * broken_page
    google.mock.get(url__startswith=EVENTS).mock(side_effect=[*answers, refusal(410, "fullSyncRequired", "calendar")])
    with pytest.raises(CursorExpired):
        await _round(google, cursor)


@pytest.mark.parametrize(
    ("cursor", "pages", "answer", "meaning"),
    [
        (None, 0, refusal(400, "invalid"), ProviderContract),
        ("s1", 0, refusal(400, "invalid"), CursorExpired),
        (None, 1, refusal(400, "invalid"), ProviderUnavailable),
        ("s1", 1, refusal(400, "invalid"), ProviderUnavailable),
        ("s1", 0, refusal(404, "notFound"), CalendarGone),
        ("s1", 0, refusal(410, "deleted"), CalendarGone),
        ("s1", 1, refusal(403, "rateLimitExceeded", "usageLimits"), ProviderThrottled),
        ("s1", 1, httpx.Response(502, text="<html>"), ProviderUnavailable),
        (None, 0, httpx.Response(200, text="<html>"), ProviderContract),
        (None, 0, httpx.Response(200), ProviderContract),
        (None, 0, httpx.Response(200, json={"items": []}), ProviderContract),
        (None, 0, httpx.Response(302, headers={"location": "https://elsewhere.test"}), ProviderUnavailable),
    ],
)
async def test_how_a_round_breaks_off(
    google: Google, cursor: str | None, pages: int, answer: httpx.Response, meaning: type[ProviderError]
) -> None:
    before = [httpx.Response(200, json={"items": [], "nextPageToken": "p2"})] * pages
    google.mock.get(url__startswith=EVENTS).mock(side_effect=[*before, answer])
    with pytest.raises(meaning) as raised:
        await _round(google, cursor)
    assert type(raised.value) is meaning
    assert len(google.requests) == pages + 1


async def test_a_page_token_that_comes_back_ends_the_round(google: Google) -> None:
    google.mock.get(url__startswith=EVENTS).respond(json={"items": [], "nextPageToken": "again"})
    with pytest.raises(ProviderContract):
        await _round(google, "s1")
    assert len(google.requests) == 2


async def test_a_listing_without_end_is_given_up() -> None:
    async with scripted_google(google_user_quota_per_minute=60_000, google_app_quota_per_minute=60_000) as google:
        pages = itertools.count(2)
        google.mock.get(url__startswith=EVENTS).mock(
            side_effect=lambda _: httpx.Response(200, json={"items": [], "nextPageToken": f"p{next(pages)}"})
        )
        with pytest.raises(ProviderContract):
            await _round(google, "s1")
        assert len(google.requests) == PAGE_LIMIT
