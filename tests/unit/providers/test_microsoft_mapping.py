"""What Graph's events become: the same normalised event as Google's, and the reason why an odd item is parked."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.meetings import SCORES, MeetingCandidate
from app.providers.base import RAW_LIMIT, Attendee, Parked, Person, RemoteEvent, Tombstone
from app.providers.google.mapping import map_item as map_google
from app.providers.microsoft.mapping import map_item
from app.providers.microsoft.text import TEXT_LIMIT, to_text
from app.providers.microsoft.times import iana_zone

OWNER = "ana@example.com"
START = datetime(2026, 3, 20, 16, tzinfo=UTC)
JOIN = "https://teams.microsoft.com/l/meetup-join/19%3ameeting_Zm9v%40thread.v2/0?context=%7b%22Tid%22%3a%22t%22%7d"


def _at(text: str, zone: str = "UTC") -> dict[str, str]:
    return {"dateTime": text, "timeZone": zone}


def _person(address: str, name: str | None = None) -> dict[str, Any]:
    return {"emailAddress": {"name": name, "address": address}}


def _item(**fields: Any) -> dict[str, Any]:
    return {
        "@odata.etag": 'W/"Rsx2xZXkVkex=="',
        "id": "AAMkADRj=",
        "createdDateTime": "2026-03-02T08:00:00.1234567Z",
        "lastModifiedDateTime": "2026-03-02T08:00:01.12Z",
        "changeKey": "Rsx2xZXkVkex==",
        "originalStartTimeZone": "Pacific Standard Time",
        "originalEndTimeZone": "Pacific Standard Time",
        "iCalUId": "040000008200E00074C5B7101A82E008",
        "uid": "040000008200E00074C5B7101A82E008",
        "subject": "Planning",
        "bodyPreview": "",
        "sensitivity": "normal",
        "isAllDay": False,
        "isCancelled": False,
        "isOrganizer": True,
        "seriesMasterId": None,
        "showAs": "busy",
        "type": "singleInstance",
        "webLink": "https://outlook.office365.com/owa/?itemid=AAMkADRj%3D",
        "onlineMeetingUrl": None,
        "responseStatus": {"response": "organizer", "time": "0001-01-01T00:00:00Z"},
        "body": {"contentType": "html", "content": ""},
        "start": _at("2026-03-20T16:00:00.0000000"),
        "end": _at("2026-03-20T17:00:00.0000000"),
        "location": {"displayName": "", "locationType": "default"},
        "recurrence": None,
        "attendees": [],
        "organizer": _person(OWNER, "Ana"),
        "onlineMeeting": None,
        **fields,
    }


def _event(**fields: Any) -> RemoteEvent:
    mapped = map_item(_item(**fields), time_zone=None, owner=OWNER)
    assert isinstance(mapped, RemoteEvent), mapped
    return mapped


def _reason(item: object) -> str:
    mapped = map_item(item, time_zone=None, owner=OWNER)
    assert isinstance(mapped, Parked), mapped
    return mapped.reason


def test_a_plain_event() -> None:
    item = _item()
    mapped = map_item(item, time_zone=None, owner=OWNER)
    assert isinstance(mapped, RemoteEvent)
    assert mapped.raw is not None
    assert json.loads(mapped.raw) == item
    assert replace(mapped, raw=None) == RemoteEvent(
        platform_uuid="AAMkADRj=",
        ical_uid="040000008200E00074C5B7101A82E008",
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
        organizer=Person(OWNER, "Ana", self=True),
        creator=None,
        attendees=(),
        own_response_status=None,
        series_id=None,
        original_start_time=None,
        is_exception=False,
        meeting_url=None,
        meeting_platform=None,
        meeting_candidates=(),
        html_link="https://outlook.office365.com/owa/?itemid=AAMkADRj%3D",
        raw=None,
    )


def test_the_same_meeting_is_the_same_event_at_both_providers() -> None:
    """But for what only one of them says: its ids and links, who created it, the organizer's place among the guests."""
    guests = [("bo@example.com", "Bo", "accepted", "optional"), ("room@example.com", "Room", "declined", "resource")]
    ours = _event(
        attendees=[
            {"type": kind, "status": {"response": answer}, **_person(address, name)}
            for address, name, answer, kind in guests
        ],
        body={"contentType": "text", "content": "Agenda"},
        location={"displayName": "Room 4"},
        sensitivity="private",
        showAs="free",
    )
    theirs = map_google(
        {
            "id": "g",
            "summary": "Planning",
            "description": "Agenda",
            "location": "Room 4",
            "visibility": "private",
            "transparency": "transparent",
            "organizer": {"email": OWNER, "displayName": "Ana", "self": True},
            "start": {"dateTime": "2026-03-20T09:00:00-07:00", "timeZone": "America/Los_Angeles"},
            "end": {"dateTime": "2026-03-20T10:00:00-07:00", "timeZone": "America/Los_Angeles"},
            "attendees": [
                {
                    "email": address,
                    "displayName": name,
                    "responseStatus": answer,
                    "optional": kind == "optional",
                    "resource": kind == "resource",
                }
                for address, name, answer, kind in guests
            ],
        },
        time_zone="America/Los_Angeles",
    )
    assert isinstance(theirs, RemoteEvent)
    own: dict[str, Any] = {
        "platform_uuid": "",
        "ical_uid": None,
        "html_link": None,
        "raw": None,
        "own_response_status": None,
    }
    assert replace(ours, **own) == replace(theirs, **own)


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"isCancelled": True}, {"status": "cancelled"}),
        ({"showAs": "tentative"}, {"status": "tentative", "transparency": "opaque"}),
        ({"showAs": "oof"}, {"event_type": "outOfOffice"}),
        ({"showAs": "workingElsewhere"}, {"event_type": "workingLocation"}),
        ({"showAs": "somethingNew"}, {"status": "confirmed", "event_type": "default"}),
        ({"sensitivity": "personal"}, {"visibility": "private"}),
        ({"sensitivity": "confidential"}, {"visibility": "confidential"}),
        ({"subject": ""}, {"name": None}),
        ({"subject": None}, {"name": None}),
        ({"location": None}, {"location": None}),
        ({"body": None, "bodyPreview": "Begin"}, {"description": "Begin"}),
        ({"isOrganizer": False}, {"organizer": Person(OWNER, "Ana", self=False)}),
        ({"organizer": None}, {"organizer": None}),
        ({"originalStartTimeZone": "Europe/Berlin"}, {"time_zone": "Europe/Berlin"}),
        ({"originalStartTimeZone": "tzone://Microsoft/Custom"}, {"time_zone": None}),
        ({"originalStartTimeZone": "tzone://Microsoft/Utc"}, {"time_zone": "UTC"}),
        ({"originalStartTimeZone": ""}, {"time_zone": None}),
        ({"uid": None}, {"ical_uid": "040000008200E00074C5B7101A82E008"}),
        ({"start": _at("2026-03-20T16:00:00.1234567")}, {"start_time": datetime(2026, 3, 20, 16, 0, 0, 123456, UTC)}),
        ({"start": _at("2026-03-20T09:00:00", "Pacific Standard Time")}, {"start_time": START}),
    ],
)  # fmt: skip
def test_single_fields(fields: dict[str, Any], shown: dict[str, Any]) -> None:
    event = _event(**fields)
    assert {name: getattr(event, name) for name in shown} == shown


def test_an_all_day_event_is_dates_whatever_the_zone_says() -> None:
    event = _event(
        isAllDay=True,
        start=_at("2026-03-29T00:00:00.0000000"),
        end=_at("2026-03-30T00:00:00.0000000"),
        originalStartTimeZone="W. Europe Standard Time",
    )
    assert (event.is_all_day, event.start_date, event.end_date) == (True, date(2026, 3, 29), date(2026, 3, 30))
    # The day on which the clocks change lasts 23 hours in the zone that the event was made in.
    assert (event.start_time, event.end_time) == (
        datetime(2026, 3, 28, 23, tzinfo=UTC),
        datetime(2026, 3, 29, 22, tzinfo=UTC),
    )


def test_an_occurrence_and_an_exception() -> None:
    series = {"seriesMasterId": "AAMkMaster=", "iCalUId": "of this occurrence alone"}
    occurrence = _event(**series, type="occurrence")
    assert (occurrence.series_id, occurrence.is_exception) == ("AAMkMaster=", False)
    assert occurrence.original_start_time == occurrence.start_time
    exception = _event(**series, type="exception", originalStart="2026-03-19T16:00:00Z")
    assert exception.is_exception
    assert exception.original_start_time == datetime(2026, 3, 19, 16, tzinfo=UTC)
    assert exception.ical_uid == occurrence.ical_uid == "040000008200E00074C5B7101A82E008"
    assert _event(**series, uid=None, type="occurrence").ical_uid is None


def test_guests() -> None:
    event = _event(
        isOrganizer=False,
        organizer=_person("Boss@example.com", "Boss"),
        responseStatus={"response": "tentativelyAccepted", "time": "2026-03-01T00:00:00Z"},
        attendees=[
            {"type": "required", "status": {"response": "tentativelyAccepted"}, **_person("Ana@Example.com", "Ana")},
            {"type": "required", "status": {"response": "none"}, **_person("boss@example.com")},
            {"type": "required", "status": None, "emailAddress": None},
        ],
    )
    assert event.own_response_status == "tentative"
    assert event.attendees == (
        Attendee("Ana@Example.com", "Ana", "tentative", optional=False, organizer=False, self=True, resource=False),
        Attendee("boss@example.com", None, "needs_action", optional=False, organizer=True, self=False, resource=False),
        Attendee(None, None, "needs_action", optional=False, organizer=False, self=False, resource=False),
    )


@pytest.mark.parametrize(
    ("fields", "source"),
    [
        ({"onlineMeeting": {"joinUrl": JOIN}}, "online_meeting"),
        ({"onlineMeetingUrl": JOIN}, "online_meeting_url"),
        ({"location": {"displayName": f"Online; {JOIN}"}}, "location"),
        ({"body": {"contentType": "html", "content": f'<p>Join <a href="{JOIN}">here</a></p>'}}, "description"),
    ],
)
def test_where_the_meeting_is_found(fields: dict[str, Any], source: str) -> None:
    event = _event(**fields)
    assert event.meeting_candidates[0] == MeetingCandidate(JOIN, "microsoft_teams", source, SCORES[source])
    assert (event.meeting_url, event.meeting_platform) == (JOIN, "microsoft_teams")


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (None, "not_an_object"),
        ({"subject": "x"}, "id_missing"),
        ({"id": 7}, "id_invalid"),
        (_item(end=None), "end_missing"),
        (_item(start={"dateTime": "yesterday"}), "start_invalid"),
        (_item(start=_at("2026-03-20T16:00:00", "Middle Earth Time")), "start_invalid"),
        (_item(start=_at("0001-01-01T00:00:00")), "date_out_of_range"),
        (_item(end=_at("2026-03-20T15:00:00")), "end_before_start"),
        (_item(type="seriesMaster"), "series_master"),
        (_item(attendees="everybody"), "field_invalid"),
        (_item(attendees=[{"status": {"response": "perhaps"}}]), "field_invalid"),
        (_item(subject={"text": "x"}), "field_invalid"),
        (_item(uid="u" * 2_000), "identifier_too_long"),
    ],
)
def test_what_cannot_be_mapped_is_parked(item: object, reason: str) -> None:
    assert _reason(item) == reason


def test_a_tombstone_needs_no_more_than_its_id() -> None:
    assert map_item({"id": "x", "@removed": {"reason": "deleted"}}, time_zone=None, owner=None) == Tombstone("x")


def test_a_large_item_keeps_its_fields_and_loses_its_raw() -> None:
    assert _event(body={"contentType": "text", "content": "x" * RAW_LIMIT}).raw is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(_item())), _JSON)
def test_no_value_makes_the_mapping_raise(field: str, value: object) -> None:
    map_item({**_item(), field: value}, time_zone=None, owner=OWNER)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""),
        ("<html><head><style>p {color: red}</style></head><body><p>One</p><p>Two</p></body></html>", "One\n\nTwo"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<div>Hello&nbsp;&amp;\r\n   goodbye</div>", "Hello & goodbye"),
        ("<!-- hidden <p>no</p> -->shown", "shown"),
        ("<script>alert('<p>')</script>after", "after"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("<ul><li>one</li><li>two</li></ul>", "one\n\ntwo"),
        ("<!-- never closed", ""),
        ("<style>never closed", ""),
        ("<" * 1_000, "<" * 1_000),
    ],
)
def test_a_body_as_text(source: str, text: str) -> None:
    assert to_text(source) == text


def test_a_body_is_bounded() -> None:
    assert len(to_text("<p>word </p>" * 100_000)) <= TEXT_LIMIT


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("Pacific Standard Time", "America/Los_Angeles"),
        ("W. Europe Standard Time", "Europe/Berlin"),
        ("Europe/Berlin", "Europe/Berlin"),
        ("tzone://Microsoft/Custom", None),
        ("../../etc/passwd", None),
    ],
)
def test_zones(name: str, zone: str | None) -> None:
    assert iana_zone(name) == zone
