"""Events: every field, every filter, every ordering."""

from datetime import date, timedelta
from typing import Any

import httpx

from app.ids import CALENDAR, public
from app.meetings import MeetingCandidate
from app.providers.base import Attendee, Person
from app.runtime import Runtime
from tests.api.rows import START, Rows, calendar_ref

EVENTS = "/api/v1/calendar_events"
FAR = {"updated_after": "2020-01-01T00:00:00Z"}


SHOWN: dict[str, Any] = {
    "platform_uuid": "abc",
    "ical_uid": "abc@google.com",
    "name": "L\u00e4ufer \u2603",
    "description": None,
    "location": None,
    "start_time": "2026-12-01T09:00:00.000000Z",
    "end_time": "2026-12-01T09:30:00.000000Z",
    "is_all_day": False,
    "start_date": None,
    "end_date": None,
    "time_zone": "UTC",
    "status": "confirmed",
    "is_deleted": False,
    "visibility": "default",
    "transparency": "opaque",
    "event_type": "default",
    "organizer": {"email": "ada@example.com", "name": "Ada", "self": True},
    "creator": {"email": "ada@example.com", "name": "Ada", "self": True},
    "attendees": [
        {
            "email": "b@example.com",
            "name": None,
            "response_status": "accepted",
            "optional": True,
            "organizer": False,
            "self": False,
            "resource": False,
        }
    ],
    "own_response_status": "accepted",
    "series_id": None,
    "original_start_time": None,
    "is_exception": False,
    "meeting_url": "https://meet.google.com/x",
    "meeting_platform": "google_meet",
    "meeting_candidates": [
        {
            "url": "https://meet.google.com/x",
            "platform": "google_meet",
            "source": "conference_data",
            "score": 100,
            "passcode": None,
            "unwrapped_from": None,
        }
    ],
    "meeting_choice": "only",
    "html_link": "https://calendar.google.com/x",
    "change_seq": 1,
    "bot_override": None,
    "raw": {"id": "abc", "nested": {"list": [1, None, "\u2603"]}},
    "is_raw_truncated": False,
    "bots": [],
}
"""The event below, but for its ids and stamps."""


async def _names(client: httpx.AsyncClient, **params: Any) -> list[str]:
    answer = await client.get(EVENTS, params=params)
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()["results"]]


async def test_an_event_as_it_is_shown(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    person = Person("ada@example.com", "Ada", self=True)
    attendee = Attendee("b@example.com", None, "accepted", optional=True, organizer=False, self=False, resource=False)
    event = await rows.event(
        calendar,
        platform_uuid="abc",
        ical_uid="abc@google.com",
        name="L\u00e4ufer \u2603",
        organizer=person,
        creator=person,
        attendees=(attendee,),
        meeting_url="https://meet.google.com/x",
        meeting_platform="google_meet",
        meeting_choice="only",
        meeting_candidates=(MeetingCandidate("https://meet.google.com/x", "google_meet", "conference_data", 100),),
        html_link="https://calendar.google.com/x",
        raw='{"id": "abc", "nested": {"list": [1, null, "\\u2603"]}}',
    )
    shown = (await client.get(f"{EVENTS}/{event}")).json()
    own = {"id": event, "calendar_id": calendar_ref(calendar)}
    stamps = {"created_at": shown["updated_at"], "updated_at": shown["updated_at"]}
    assert shown == SHOWN | own | stamps
    assert (await client.get(EVENTS)).json()["results"] == [shown]


async def test_an_occurrence_of_days(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    event = await rows.event(
        calendar,
        is_all_day=True,
        start_date=date(2026, 12, 24),
        end_date=date(2026, 12, 26),
        series_id="s",
        original_start_time=START + timedelta(microseconds=1),
        is_raw_truncated=True,
    )
    shown = (await client.get(f"{EVENTS}/{event}")).json()
    assert (shown["start_date"], shown["end_date"]) == ("2026-12-24", "2026-12-26")
    assert shown["original_start_time"] == "2026-12-01T09:00:00.000001Z"
    assert (shown["raw"], shown["is_raw_truncated"]) == (None, True)


async def test_parts_can_be_left_out(client: httpx.AsyncClient, rows: Rows) -> None:
    await rows.event(await rows.calendar(), raw="{}")
    for exclude, raw, bots in (
        ("raw", None, []),
        ("bots", {}, None),
        ("raw,bots", None, None),
        ("bots,raw", None, None),
    ):
        item = (await client.get(EVENTS, params={"exclude": exclude})).json()["results"][0]
        assert (item["raw"], item["bots"]) == (raw, bots), exclude


async def test_of_many_bots_the_live_and_the_latest_are_shown(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    event, other = await rows.event(calendar), await rows.event(calendar)
    live = [await rows.bot(calendar, event)]
    ended = [await rows.bot(calendar, event, state="cancelled") for _ in range(12)]
    live.append(await rows.bot(calendar, event, state="launched"))
    alone = await rows.bot(calendar, other, state="failed")
    shown = {item["id"]: [bot["id"] for bot in item["bots"]] for item in (await client.get(EVENTS)).json()["results"]}
    assert shown == {event: [live[0], *ended[2:], live[1]], other: [alone]}
    single = (await client.get(f"{EVENTS}/{event}")).json()
    assert [bot["id"] for bot in single["bots"]] == shown[event]


async def test_filters_by_calendar_and_id(client: httpx.AsyncClient, rows: Rows) -> None:
    one, two = await rows.calendar(dedup="one"), await rows.calendar(dedup="two")
    first = await rows.event(one, name="first")
    await rows.event(two, name="second")
    assert await _names(client, calendar_id=calendar_ref(one)) == ["first"]
    assert await _names(client, calendar_deduplication_key="two") == ["second"]
    assert await _names(client, calendar_id=calendar_ref(one), calendar_deduplication_key="two") == []
    assert await _names(client, event_id=first) == ["first"]
    assert await _names(client, event_id=first, calendar_id=calendar_ref(two)) == []
    for nothing in ("x", "", public(CALENDAR, rows.project_id)):
        assert await _names(client, calendar_id=nothing) == []
        assert await _names(client, event_id=nothing) == []


async def test_limits_in_time_are_inclusive(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    for hour in range(3):
        await rows.event(calendar, name=str(hour), start_time=START + timedelta(hours=hour))
    order = {"ordering": "start_time"}
    assert await _names(client, start_time_gte="2026-12-01T10:00:00Z", **order) == ["1", "2"]
    assert await _names(client, start_time_lte="2026-12-01T10:00:00Z", **order) == ["0", "1"]
    assert await _names(client, end_time_gte="2026-12-01T10:30:00Z", **order) == ["1", "2"]
    assert await _names(client, end_time_lte="2026-12-01T10:30:00Z", **order) == ["0", "1"]
    offsets = (
        "2026-12-01T12:00:00+02:00",
        "2026-12-01T12:00:00 02:00",
        "2026-12-01T05:00-0500",
        "2026-12-01t10:00:00z",
    )
    for text in offsets:
        assert await _names(client, start_time_gte=text, start_time_lte=text) == ["1"], text


async def test_updated_after_is_inclusive_and_has_a_second_name(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    for name in "abc":
        await rows.event(calendar, name=name)
    listed = (await client.get(EVENTS)).json()["results"]
    middle = listed[1]["updated_at"]
    assert await _names(client, updated_after=middle) == ["c", "b"]
    assert await _names(client, updated_at_gte=middle) == ["c", "b"]
    assert await _names(client, updated_at_gte=listed[0]["updated_at"], updated_after=middle) == ["c"]


async def test_the_other_filters(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    attendees = tuple(
        Attendee(email, None, "accepted", optional=False, organizer=False, self=False, resource=False)
        for email in ("Bob@Example.com", None)
    )
    organizer = Person("ADA@example.com", None, self=False)
    await rows.event(calendar, name="plain")
    await rows.event(calendar, name="deleted", is_deleted=True)
    await rows.event(calendar, name="tentative", status="tentative")
    await rows.event(calendar, name="meet", meeting_url="https://x", meeting_platform="google_meet")
    await rows.event(calendar, name="invited", attendees=attendees, organizer=organizer)
    await rows.event(calendar, name="weekly", series_id="s", ical_uid="u")
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"is_deleted": "true"}, ["deleted"]),
        ({"is_deleted": "false"}, ["weekly", "invited", "meet", "tentative", "plain"]),
        ({"is_deleted": "False", "status": "tentative"}, ["tentative"]),
        ({"has_meeting_url": "true"}, ["meet"]),
        ({"has_meeting_url": "false", "status": "tentative"}, ["tentative"]),
        ({"meeting_platform": "google_meet"}, ["meet"]),
        ({"meeting_platform": "zoom"}, []),
        ({"attendee_email": "bob@example.com"}, ["invited"]),
        ({"attendee_email": "bob@example"}, []),
        ({"organizer_email": "ada@EXAMPLE.com"}, ["invited"]),
        ({"series_id": "s"}, ["weekly"]),
        ({"ical_uid": "u"}, ["weekly"]),
        ({"status": "cancelled"}, []),
    ]
    for params, names in cases:
        assert await _names(client, **FAR, **params) == names, params
    assert await _names(client, ical_uid="u") == ["weekly"]


async def test_bounds_make_a_filter_possible(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar(dedup="d")
    event = await rows.event(calendar, ical_uid="u")
    bounds: list[dict[str, Any]] = [
        FAR,
        {"updated_at_gte": "2020-01-01T00:00:00Z"},
        {"calendar_id": calendar_ref(calendar)},
        {"calendar_deduplication_key": "d"},
        {"event_id": event},
        {"ical_uid": "u"},
        {"start_time_gte": "2020-01-01T00:00:00Z"},
        {"start_time_lte": "2030-01-01T00:00:00Z"},
        {"end_time_gte": "2020-01-01T00:00:00Z"},
        {"end_time_lte": "2030-01-01T00:00:00Z"},
    ]
    for bound in bounds:
        assert await _names(client, is_deleted="false", **bound) == ["Planning"], bound
    assert await _names(client) == ["Planning"]


async def test_orderings(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    await rows.event(calendar, name="a", start_time=START + timedelta(hours=2), end_time=START + timedelta(hours=3))
    await rows.event(calendar, name="b", start_time=START, end_time=START + timedelta(hours=9))
    await rows.event(calendar, name="c", start_time=START + timedelta(hours=1), end_time=START + timedelta(hours=2))
    orders = {
        "updated_at": "abc",
        "created_at": "abc",
        "change_seq": "abc",
        "start_time": "bca",
        "end_time": "cab",
    }
    for ordering, names in orders.items():
        assert await _names(client, ordering=ordering) == list(names)
        assert await _names(client, ordering=f"-{ordering}") == list(reversed(names))
    assert await _names(client) == list("cba")


async def test_a_deleted_calendars_events_are_nowhere(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar(dedup="d")
    event = await rows.event(calendar, ical_uid="u")
    await rows.sql("UPDATE calendars SET deleted_at = app_now()")
    assert (await client.get(f"{EVENTS}/{event}")).status_code == 404
    for params in (
        {},
        FAR,
        {"calendar_id": calendar_ref(calendar)},
        {"calendar_deduplication_key": "d"},
        {"event_id": event},
        {"ical_uid": "u"},
    ):
        assert await _names(client, **params) == []


async def test_a_page_costs_few_statements(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    """The key, the horizon, the page; for one calendar's feed the key, the page, the floor; and the page's bots."""
    calendar = await rows.calendar()
    for event in await rows.events(calendar, 120):
        await rows.bot(calendar, event)
    asked: list[str] = []
    await client.get(EVENTS, params={"limit": 1})
    await rt.key_uses.drain()  # that the key is used is noted once a minute, beside the requests

    with rt.db.watched(asked.append):
        for url in (f"{EVENTS}?limit=100", f"{EVENTS}?calendar_id={calendar_ref(calendar)}&after_seq=0"):
            asked.clear()
            results = (await client.get(url)).json()["results"]
            assert [len(event["bots"]) for event in results] == [1] * 100
            assert len(asked) == 4, asked
            asked.clear()
            without = (await client.get(f"{url}&exclude=bots")).json()["results"]
            assert [event["bots"] for event in without] == [None] * 100
            assert len(asked) == 3, asked
