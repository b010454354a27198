"""What Google's items become: each field, its default, and the reason with which an odd item is parked."""

import json
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ProviderContract
from app.meetings import MeetingCandidate
from app.providers.base import RAW_LIMIT, Attendee, Parked, Person, RemoteEvent, Tombstone
from app.providers.google.mapping import map_item, map_page
from app.providers.http import parse_json

ZONE = "America/Sao_Paulo"


def _item(**fields: Any) -> dict[str, Any]:
    item = {
        "kind": "calendar#event",
        "etag": '"3546600800000000"',
        "id": "k1o2p3q4",
        "status": "confirmed",
        "htmlLink": "https://www.google.com/calendar/event?eid=a1",
        "created": "2026-03-02T08:00:00.000Z",
        "updated": "2026-03-02T08:00:01.123Z",
        "summary": "Planning",
        "creator": {"email": "ana@example.com", "self": True},
        "organizer": {"email": "ana@example.com", "displayName": "Ana", "self": True},
        "start": {"dateTime": "2026-03-20T13:00:00-03:00", "timeZone": "America/Los_Angeles"},
        "end": {"dateTime": "2026-03-20T14:00:00-03:00", "timeZone": "America/Los_Angeles"},
        "iCalUID": "k1o2p3q4@google.com",
        "sequence": 0,
        "reminders": {"useDefault": True},
    }
    item |= fields
    return {key: value for key, value in item.items() if value is not None}


def _event(**fields: Any) -> RemoteEvent:
    mapped = map_item(_item(**fields), time_zone=ZONE)
    assert isinstance(mapped, RemoteEvent), mapped
    return mapped


def _reason(item: object) -> str:
    mapped = map_item(item, time_zone=ZONE)
    assert isinstance(mapped, Parked), mapped
    return mapped.reason


def test_a_plain_event_takes_googles_defaults_for_what_google_leaves_out() -> None:
    item = _item()
    mapped = map_item(item, time_zone=ZONE)
    assert isinstance(mapped, RemoteEvent)
    assert mapped.raw is not None
    assert json.loads(mapped.raw) == item
    assert replace(mapped, raw=None) == RemoteEvent(
        platform_uuid="k1o2p3q4",
        ical_uid="k1o2p3q4@google.com",
        name="Planning",
        description=None,
        location=None,
        start_time=datetime(2026, 3, 20, 16, tzinfo=UTC),
        end_time=datetime(2026, 3, 20, 17, tzinfo=UTC),
        is_all_day=False,
        start_date=None,
        end_date=None,
        time_zone="America/Los_Angeles",
        status="confirmed",
        visibility="default",
        transparency="opaque",
        event_type="default",
        organizer=Person("ana@example.com", "Ana", self=True),
        creator=Person("ana@example.com", None, self=True),
        attendees=(),
        own_response_status=None,
        series_id=None,
        original_start_time=None,
        is_exception=False,
        meeting_url=None,
        meeting_platform=None,
        meeting_candidates=(),
        html_link="https://www.google.com/calendar/event?eid=a1",
        raw=None,
    )


def test_what_google_states_goes_before_the_defaults() -> None:
    event = _event(
        summary=None,
        status="tentative",
        visibility="private",
        transparency="transparent",
        eventType="focusTime",
        organizer=None,
        location="Room 5",
    )
    assert (event.name, event.status, event.visibility) == (None, "tentative", "private")
    assert (event.transparency, event.event_type, event.organizer) == ("transparent", "focusTime", None)
    assert event.location == "Room 5"


@pytest.mark.parametrize(
    ("zone", "start", "end"),
    [
        (ZONE, datetime(2026, 3, 15, 3, tzinfo=UTC), datetime(2026, 3, 16, 3, tzinfo=UTC)),
        ("Asia/Tokyo", datetime(2026, 3, 14, 15, tzinfo=UTC), datetime(2026, 3, 15, 15, tzinfo=UTC)),
        (None, datetime(2026, 3, 15, tzinfo=UTC), datetime(2026, 3, 16, tzinfo=UTC)),
        # A day in which clocks change is not 24 hours long: 23 in Berlin's March,
        ("Europe/Berlin", datetime(2026, 3, 14, 23, tzinfo=UTC), datetime(2026, 3, 15, 23, tzinfo=UTC)),
    ],
)
def test_an_all_day_event_lasts_from_midnight_to_midnight_in_the_calendars_zone(
    zone: str | None, start: datetime, end: datetime
) -> None:
    item = _item(start={"date": "2026-03-15"}, end={"date": "2026-03-16"})
    event = map_item(item, time_zone=zone)
    assert isinstance(event, RemoteEvent)
    assert (event.is_all_day, event.start_date, event.end_date) == (True, date(2026, 3, 15), date(2026, 3, 16))
    assert (event.start_time, event.end_time, event.time_zone) == (start, end, zone)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", 29, 23),  # spring forward
        ("Europe/Berlin", 30, 24),
        ("Africa/Cairo", 23, 24),
    ],
)
def test_days_on_which_clocks_change(zone: str, day: int, hours: int) -> None:
    item = _item(start={"date": f"2026-03-{day}"}, end={"date": f"2026-03-{day + 1}"})
    event = map_item(item, time_zone=zone)
    assert isinstance(event, RemoteEvent)
    assert (event.end_time - event.start_time).total_seconds() == hours * 3600


def test_a_day_whose_midnight_is_skipped_begins_when_the_clocks_jump() -> None:
    # Cairo goes from 2026-04-23 23:59:59 +02 to 2026-04-24 01:00 +03.
    item = _item(start={"date": "2026-04-24"}, end={"date": "2026-04-25"})
    event = map_item(item, time_zone="Africa/Cairo")
    assert isinstance(event, RemoteEvent)
    assert event.start_time == datetime(2026, 4, 23, 22, tzinfo=UTC)
    assert event.end_time == datetime(2026, 4, 24, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        ({"dateTime": "2026-03-20T16:00:00Z"}, datetime(2026, 3, 20, 16, tzinfo=UTC)),
        ({"dateTime": "2026-03-20T16:00:00.250+00:00"}, datetime(2026, 3, 20, 16, 0, 0, 250_000, tzinfo=UTC)),
        (
            {"dateTime": "2026-11-20T08:00:00", "timeZone": "America/Los_Angeles"},
            datetime(2026, 11, 20, 16, tzinfo=UTC),
        ),
    ],
)
def test_times_are_instants_whatever_way_they_are_written(value: dict[str, str], instant: datetime) -> None:
    assert _event(start=value, end={"dateTime": "2027-01-01T00:00:00Z"}).start_time == instant


def test_a_zone_that_nobody_knows_gives_way_to_the_calendars() -> None:
    start = {"dateTime": "2026-03-20T13:00:00-03:00", "timeZone": "Mars/Olympus"}
    assert _event(start=start).time_zone == ZONE
    assert _event(start={"dateTime": "2026-03-20T13:00:00-03:00"}).time_zone == ZONE


def test_guests_and_the_owners_answer() -> None:
    event = _event(
        attendees=[
            {"email": "ana@example.com", "organizer": True, "self": True, "responseStatus": "accepted"},
            {"email": "bo@example.com", "displayName": "Bo", "optional": True, "responseStatus": "needsAction"},
            {"email": "room@resource.calendar.google.com", "resource": True, "responseStatus": "declined"},
            {"displayName": "hidden"},
        ],
        attendeesOmitted=True,
    )
    assert event.attendees == (
        Attendee("ana@example.com", None, "accepted", False, True, True, False),
        Attendee("bo@example.com", "Bo", "needs_action", True, False, False, False),
        Attendee("room@resource.calendar.google.com", None, "declined", False, False, False, True),
        Attendee(None, "hidden", "needs_action", False, False, False, False),
    )
    assert event.own_response_status == "accepted"


def test_an_owner_who_is_no_guest_has_no_answer() -> None:
    assert _event(attendees=[{"email": "bo@example.com", "responseStatus": "tentative"}]).own_response_status is None


def test_an_occurrence_is_an_exception_once_it_stands_elsewhere() -> None:
    original = {"dateTime": "2026-03-20T16:00:00Z", "timeZone": "America/Los_Angeles"}
    in_place = _event(recurringEventId="m1", originalStartTime=original)
    assert (in_place.series_id, in_place.is_exception) == ("m1", False)
    assert in_place.original_start_time == in_place.start_time
    moved = _event(recurringEventId="m1", originalStartTime={"dateTime": "2026-03-19T16:00:00Z"})
    assert moved.is_exception
    assert moved.original_start_time == datetime(2026, 3, 19, 16, tzinfo=UTC)
    made_all_day = _event(
        recurringEventId="m1",
        originalStartTime={"dateTime": "2026-03-20T03:00:00Z"},
        start={"date": "2026-03-20"},
        end={"date": "2026-03-21"},
    )
    assert made_all_day.is_exception
    all_day = _event(
        recurringEventId="m1",
        originalStartTime={"date": "2026-03-20"},
        start={"date": "2026-03-20"},
        end={"date": "2026-03-21"},
    )
    assert not all_day.is_exception


MEET = "https://meet.google.com/abc-defg-hij"


def _conference(uri: str, *, status: str = "success") -> dict[str, Any]:
    return {
        "createRequest": {"requestId": "r", "status": {"statusCode": status}},
        "entryPoints": [
            {"entryPointType": "phone", "uri": "tel:+1-234-567-8901"},
            {"entryPointType": "video", "uri": uri, "label": "x"},
            {"entryPointType": "more", "uri": "https://tel.meet/abc-defg-hij?pin=1"},
        ],
    }


def test_the_conference_is_the_meeting() -> None:
    event = _event(conferenceData=_conference(MEET), hangoutLink=MEET, location="zoom.us/j/123456789")
    assert (event.meeting_url, event.meeting_platform) == (MEET, "google_meet")
    assert event.meeting_candidates == (
        MeetingCandidate(MEET, "google_meet", "conference_data", 100),
        MeetingCandidate("https://zoom.us/j/123456789", "zoom", "location", 70),
    )


def test_a_pending_conference_has_no_link_yet() -> None:
    pending = _conference(MEET, status="pending")
    assert _event(conferenceData=pending).meeting_url is None
    del pending["entryPoints"]
    assert _event(conferenceData=pending).meeting_candidates == ()


def test_a_conference_of_an_unknown_product_has_a_link_and_no_platform() -> None:
    event = _event(conferenceData=_conference("https://meet.acme.example/r/1"))
    assert (event.meeting_url, event.meeting_platform) == ("https://meet.acme.example/r/1", None)
    assert event.meeting_candidates[0].platform == "unknown"


@pytest.mark.parametrize(
    "item",
    [
        {"id": "t1", "status": "cancelled"},
        {"kind": "calendar#event", "etag": '"1"', "id": "t1", "status": "cancelled", "recurringEventId": "m1"},
        _item(id="t1", status="cancelled"),
        _item(id="t1", status="cancelled", summary="\0", start={"date": "0001-01-01"}),
    ],
)
def test_cancelled_is_a_tombstone_whatever_else_it_holds(item: dict[str, Any]) -> None:
    assert map_item(item, time_zone=ZONE) == Tombstone("t1")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"start": None}, "start_missing"),
        ({"end": None}, "end_missing"),
        ({"end": {}}, "end_missing"),
        ({"start": "2026-03-20"}, "start_invalid"),
        ({"start": {"dateTime": "tomorrow"}}, "start_invalid"),
        ({"start": {"dateTime": "2026-03-20"}}, "start_invalid"),
        ({"start": {"dateTime": "2026-13-20T10:00:00Z"}}, "start_invalid"),
        ({"start": {"dateTime": "2026-03-20T10:00:00"}}, "start_invalid"),
        ({"start": {"dateTime": "2026-03-20T10:00:00", "timeZone": "Mars/Olympus"}}, "start_invalid"),
        ({"start": {"dateTime": 1_773_300_549}}, "start_invalid"),
        ({"end": {"date": "2026-03-21"}}, "end_invalid"),
        ({"start": {"date": "2026-3-1"}, "end": {"date": "2026-03-21"}}, "start_invalid"),
        ({"start": {"date": "2026-02-30"}, "end": {"date": "2026-03-21"}}, "start_invalid"),
        ({"start": {"dateTime": "0001-01-01T00:00:00+14:00"}}, "date_out_of_range"),
        ({"end": {"dateTime": "9999-12-31T23:59:59-12:00"}}, "date_out_of_range"),
        ({"start": {"date": "1969-12-31"}, "end": {"date": "1970-01-01"}}, "date_out_of_range"),
        ({"end": {"dateTime": "2026-03-20T12:59:59-03:00"}}, "end_before_start"),
        ({"originalStartTime": {"dateTime": "?"}}, "original_start_invalid"),
        ({"originalStartTime": {}}, "original_start_missing"),
        ({"recurrence": ["RRULE:FREQ=DAILY"]}, "series_master"),
        ({"status": "postponed"}, "status_unknown"),
        ({"status": 7}, "status_unknown"),
        ({"summary": 7}, "field_invalid"),
        ({"attendees": "all"}, "field_invalid"),
        ({"attendees": [None]}, "field_invalid"),
        ({"attendees": [{"responseStatus": "maybe"}]}, "field_invalid"),
        ({"organizer": "ana"}, "field_invalid"),
        ({"conferenceData": []}, "field_invalid"),
    ],
)
def test_an_odd_item_is_parked_with_its_reason(fields: dict[str, Any], reason: str) -> None:
    item = _item(**fields)
    mapped = map_item(item, time_zone=ZONE)
    assert isinstance(mapped, Parked)
    assert (mapped.platform_uuid, mapped.reason) == ("k1o2p3q4", reason)
    assert mapped.raw is not None
    assert mapped.raw.isprintable()
    assert json.loads(mapped.raw) == item


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("a\0b", "ab"),
        ("a\\\0", "a\\"),
        ("\ud800", "\ufffd"),
        ("\0x\udc00y", "x\ufffdy"),
        ("\ud83c\udff4", "\U0001f3f4"),
        ("\0", ""),
    ],
)
def test_what_postgres_cannot_hold_is_taken_out_of_texts(title: str, shown: str) -> None:
    event = _event(summary=title, extendedProperties={"private": {"a\0": ["b\0"]}})
    assert event.name == shown
    assert event.raw is not None
    assert json.loads(event.raw)["extendedProperties"] == {"private": {"a": ["b"]}}


def test_a_zero_length_event_is_no_odd_one() -> None:
    instant = {"dateTime": "2026-03-20T13:00:00-03:00"}
    event = _event(start=instant, end=instant)
    assert event.start_time == event.end_time


def test_text_that_only_looks_like_a_nul_is_kept() -> None:
    assert _event(summary="\\u0000").name == "\\u0000"


def test_integers_of_any_size_are_kept() -> None:
    event = _event(extendedProperties={"private": {"n": 2**70}})
    assert event.raw is not None
    assert str(2**70) in event.raw


@pytest.mark.parametrize("item", [None, 7, "x", [], {}, _item(id=None), _item(id=7), _item(id=""), _item(id="a\0")])
def test_an_item_without_an_id_is_parked_under_the_same_made_up_one_each_time(item: object) -> None:
    first, second = (map_item(deepcopy(item), time_zone=ZONE) for _ in range(2))
    assert isinstance(first, Parked)
    assert first == second
    assert first.platform_uuid.startswith("parked:")
    assert first.reason in {"not_an_object", "id_missing", "id_invalid"}


def test_raw_is_bounded() -> None:
    event = _event(description="x" * RAW_LIMIT)
    assert event.raw is None
    assert event.description is not None


def test_a_page_names_its_calendar_and_the_next_request() -> None:
    answer = {"summary": "Ana", "timeZone": "Asia/Tokyo", "items": [_item(), None], "nextPageToken": "p2"}
    page = map_page(answer, time_zone=ZONE)
    assert (page.next_page, page.change.cursor) == ("p2", None)
    assert (page.change.calendar_name, page.change.time_zone) == ("Ana", "Asia/Tokyo")
    assert [type(item) for item in page.change.items] == [RemoteEvent, Parked]
    last = map_page({"items": [], "nextSyncToken": "s1", "timeZone": "?"}, time_zone=ZONE)
    assert (last.next_page, last.change.cursor, last.change.time_zone) == (None, "s1", ZONE)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"items": []},
        {"items": {}, "nextSyncToken": "s"},
        {"items": [], "nextSyncToken": ""},
        {"items": [], "nextSyncToken": 7},
        {"items": [], "nextPageToken": 7, "nextSyncToken": "s"},
    ],
)
def test_a_page_that_leads_nowhere_breaks_the_contract(answer: object) -> None:
    with pytest.raises(ProviderContract):
        map_page(answer, time_zone=ZONE)


def test_stray_bytes_cost_no_more_than_themselves() -> None:
    body = json.dumps({"items": [_item(), _item(id="odd", summary="a@@b")], "nextSyncToken": "s"}).encode()
    for stray in (b"\\ud800", b"\xff"):
        _, odd = map_page(parse_json(body.replace(b"@@", stray)), time_zone=ZONE).change.items
        assert isinstance(odd, RemoteEvent)
        assert odd.name == "a\ufffdb"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_moments = st.fixed_dictionaries(
    {},
    optional={
        "date": st.dates().map(str) | _json,
        "dateTime": st.datetimes().map(lambda moment: moment.isoformat() + "Z") | _json,
        "timeZone": st.sampled_from([ZONE, "", "../x", "America", "\ud800"]) | _json,
    },
)
_items = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=5) | _json,
        "status": st.sampled_from(["confirmed", "cancelled"]) | _json,
        "start": _moments | _json,
        "end": _moments | _json,
        "originalStartTime": _moments | _json,
        "recurringEventId": st.text(max_size=3) | _json,
        "attendees": st.lists(st.fixed_dictionaries({"responseStatus": _json, "self": _json})) | _json,
        "organizer": _json,
        "conferenceData": st.fixed_dictionaries({"createRequest": _json, "entryPoints": _json}) | _json,
        "hangoutLink": _json,
        "description": _json,
        "other": _json,
    },
)


@given(_items | _json)
def test_no_item_makes_the_mapping_raise_or_yields_what_cannot_be_stored(item: object) -> None:
    mapped = map_item(item, time_zone=ZONE)
    assert mapped.platform_uuid
    stored = orjson.dumps(mapped)  # refuses lone surrogates
    if isinstance(mapped, RemoteEvent):
        assert mapped.end_time >= mapped.start_time
        assert b"\\u0000" not in stored.replace(b"\\\\", b"")


def test_depth_that_no_reader_survives_is_parked() -> None:
    deep: list[object] = []
    for _ in range(2_000):
        deep = [deep]
    assert _reason(_item(extendedProperties=deep)) == "nested_too_deeply"
