"""Which events a match takes, and for which of its conditions it does not take the others."""

from datetime import timedelta
from typing import Any

import pytest

from app.bots.rules.matching import CONDITIONS, domain_of, normal_domain
from app.providers.base import Person
from tests.unit.bots.events import EVENT, INTERNAL, event_with, failed, guest, looked_at

NOBODY = frozenset[str]()
CLIENT = (guest("Eve@Client.example"), guest("bob@acme.example"))
COLLEAGUES = (guest("bob@ACME.example"), guest("zoe@eu.acme.example"), guest("room@rooms.example", is_resource=True))
DEEP = "x." * 13 + "acme.example"
NOT_ACME = Person("eve@client.example", None, self=False)
GROUP = Person("c_1@group.calendar.google.com", "Team", self=True)


def lasts(minutes: float) -> dict[str, Any]:
    return {"end_time": EVENT.start_time + timedelta(minutes=minutes)}


HOLD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"is_all_day": False}, {}),
    ({"is_all_day": True}, {"is_all_day": True}),
    ({"is_organizer": False}, {}),
    ({"is_organizer": False}, {"organizer": None}),
    ({"is_organizer": True}, {"organizer": Person("ana@acme.example", None, self=True)}),
    ({"is_recurring": False}, {}),
    ({"is_recurring": True}, {"series_id": "s1"}),
    ({"own_response": ["tentative", "accepted"]}, {}),
    ({"own_response": ["declined"]}, {"own_response_status": "declined"}),
    ({"is_organizer": False}, {"own_response_status": None}),
    ({"is_organizer": False}, {"own_response_status": "needs_action"}),
    ({"visibility": ["default", "public"]}, {}),
    ({"event_types": ["focusTime"]}, {"event_type": "focusTime"}),
    ({"meeting_platforms": ["google_meet", "zoom"]}, {}),
    ({"duration_seconds_gte": 1800}, {}),
    ({"duration_seconds_lte": 1800}, {}),
    ({"duration_seconds_gte": 0, "duration_seconds_lte": 0}, lasts(0)),
    ({"duration_seconds_gte": 1800}, lasts(30.5)),
    ({"title_contains": ["nothing", "PRODUCT"]}, {}),
    ({"title_contains": ["STRASSE"]}, {"name": "In der Straße"}),
    ({"title_regex": "Pro.uct"}, {}),
    ({"title_regex": "^Weekly"}, {}),
    ({"title_regex": "(?i)\\breview$"}, {}),
    ({"title_regex": "会議.$"}, {"name": "週次会議😀"}),
    ({"title_regex": "^.{3}$"}, {"name": "会é😀"}),
    ({"title_regex": "^$"}, {"name": ""}),
    ({"has_external_attendees": True}, {"attendees": CLIENT}),
    ({"has_external_attendees": True}, {"organizer": NOT_ACME}),
    ({"has_external_attendees": True}, {"attendees": (guest("eve@notacme.example"),)}),
    ({"has_external_attendees": True}, {"attendees": (guest("eve@acme.example.evil.example"),)}),
    ({"has_external_attendees": False}, {"attendees": COLLEAGUES}),
    ({"has_external_attendees": False}, {"attendees": COLLEAGUES, "organizer": None}),
    ({"has_external_attendees": False}, {"organizer": GROUP}),
    ({"has_external_attendees": False}, {"attendees": (guest(None), guest("nobody"), guest("a@[10.0.0.1]"))}),
    ({"attendee_count_gte": 2, "attendee_count_lte": 2}, {"attendees": COLLEAGUES}),
    ({"attendee_count_lte": 0}, {}),
    ({"attendee_domains": ["other.example", "client.example"]}, {"attendees": CLIENT}),
    ({"attendee_domains": ["acme.example"]}, {"attendees": (guest("a@deep.eu.acme.example"),)}),
    ({"attendee_domains": [DEEP]}, {"attendees": (guest(f"a@{DEEP}"),)}),
    ({"attendee_domains": ["acme.example"]}, {"attendees": (guest(f"a@{DEEP}"),)}),
    ({"attendee_domains": ["xn--bcher-kva.example"]}, {"attendees": (guest("a@Bücher.example"),)}),
    ({"organizer_domains": ["client.example"]}, {"organizer": Person("a@mail.client.example", None, self=False)}),
    ({"title_contains": ["review"], "attendee_count_gte": 1, "is_recurring": False}, {"attendees": CLIENT}),
]
FAIL: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"is_all_day": True}, {}, "is_all_day"),
    ({"is_all_day": False}, {"is_all_day": True}, "is_all_day"),
    ({"is_recurring": False}, {"is_all_day": True}, "is_all_day"),
    ({"is_recurring": False}, {"own_response_status": "declined"}, "own_response"),
    ({"own_response": ["accepted"]}, {"own_response_status": "declined"}, "own_response"),
    ({"own_response": ["accepted", "declined"]}, {"own_response_status": None}, "own_response"),
    ({"is_organizer": True}, {}, "is_organizer"),
    ({"is_organizer": True}, {"organizer": None}, "is_organizer"),
    ({"is_organizer": False}, {"organizer": GROUP}, "is_organizer"),
    ({"is_recurring": True}, {}, "is_recurring"),
    ({"is_recurring": False}, {"series_id": "s1"}, "is_recurring"),
    ({"visibility": ["public"]}, {}, "visibility"),
    ({"visibility": ["default"]}, {"visibility": None}, "visibility"),
    ({"event_types": ["default"]}, {"event_type": "birthday"}, "event_types"),
    ({"event_types": ["default"]}, {"event_type": None}, "event_types"),
    ({"meeting_platforms": ["google_meet"]}, {}, "meeting_platforms"),
    ({"meeting_platforms": ["zoom"]}, {"meeting_platform": None}, "meeting_platforms"),
    ({"duration_seconds_gte": 1801}, {}, "duration_seconds_gte"),
    ({"duration_seconds_lte": 1799}, {}, "duration_seconds_lte"),
    ({"duration_seconds_lte": 1800}, lasts(30.0001), "duration_seconds_lte"),
    ({"title_contains": ["retro", "demo"]}, {}, "title_contains"),
    ({"title_contains": ["review"]}, {"name": None}, "title_contains"),
    ({"title_regex": "product"}, {}, "title_regex"),
    ({"title_regex": "^Product"}, {}, "title_regex"),
    ({"title_regex": ""}, {"name": None}, "title_regex"),
    ({"title_regex": "(refused by a later RE2"}, {}, "title_regex"),
    ({"has_external_attendees": True}, {"attendees": COLLEAGUES}, "has_external_attendees"),
    ({"has_external_attendees": True}, {"attendees": (), "organizer": None}, "has_external_attendees"),
    ({"has_external_attendees": False}, {"attendees": CLIENT}, "has_external_attendees"),
    ({"has_external_attendees": False}, {"organizer": NOT_ACME}, "has_external_attendees"),
    ({"attendee_count_gte": 3}, {"attendees": COLLEAGUES}, "attendee_count_gte"),
    ({"attendee_count_gte": 1}, {}, "attendee_count_gte"),
    ({"attendee_count_lte": 1}, {"attendees": COLLEAGUES}, "attendee_count_lte"),
    ({"attendee_domains": ["rooms.example"]}, {"attendees": COLLEAGUES}, "attendee_domains"),
    ({"attendee_domains": ["eu.client.example", "ent.example"]}, {"attendees": CLIENT}, "attendee_domains"),
    ({"attendee_domains": ["acme.example"]}, {}, "attendee_domains"),
    ({"organizer_domains": ["eu.acme.example"]}, {}, "organizer_domains"),
    ({"organizer_domains": ["acme.example"]}, {"organizer": None}, "organizer_domains"),
    ({"organizer_domains": ["acme.example"]}, {"organizer": Person(None, "X", self=False)}, "organizer_domains"),
    ({"title_contains": ["review"], "is_recurring": False, "title_regex": "x"}, {}, "title_regex"),
    ({"title_contains": ["retro"], "is_recurring": False, "title_regex": "^W"}, {}, "title_contains"),
    ({"calendar_metadata": {"team": "sales"}}, {}, "calendar_metadata"),
]


@pytest.mark.parametrize(("match", "fields"), HOLD)
def test_matches(match: dict[str, Any], fields: dict[str, Any]) -> None:
    assert failed(match, looked_at(event_with(**fields))) is None


@pytest.mark.parametrize(("match", "fields", "condition"), FAIL)
def test_does_not_match(match: dict[str, Any], fields: dict[str, Any], condition: str) -> None:
    assert failed(match, looked_at(event_with(**fields))) == condition


def test_each_condition_is_tried_both_ways() -> None:
    assert {name for match, _ in HOLD for name in match} >= CONDITIONS - {"calendar_metadata"}
    assert {condition for *_, condition in FAIL} == CONDITIONS


def test_metadata_of_the_calendar() -> None:
    seen = looked_at(EVENT, metadata={"team": "sales", "region": "eu"})
    assert failed({"calendar_metadata": {"team": "sales"}}, seen) is None
    assert failed({"calendar_metadata": {"team": "sales", "region": "eu"}}, seen) is None
    assert failed({"calendar_metadata": {"team": "Sales"}}, seen) == "calendar_metadata"
    assert failed({"calendar_metadata": {"team": "sales", "tenant": "1"}}, seen) == "calendar_metadata"


@pytest.mark.parametrize(
    ("internal", "owner", "guests", "is_external"),
    [
        (NOBODY, "ana@acme.example", CLIENT, True),
        (NOBODY, "Ana@ACME.example", COLLEAGUES, False),
        (NOBODY, "ana@eu.acme.example", COLLEAGUES, True),
        (frozenset({"acme.example", "client.example"}), "ana@acme.example", CLIENT, False),
        (frozenset({"client.example"}), "ana@acme.example", CLIENT, True),
        (NOBODY, None, CLIENT, None),
        (NOBODY, "no address", CLIENT, None),
        (INTERNAL, None, CLIENT, True),
    ],
)
def test_what_is_internal(internal: frozenset[str], owner: str | None, guests: Any, is_external: bool | None) -> None:
    """The project's domains, else the owner's; where neither is known nothing is said, either way."""
    seen = looked_at(event_with(attendees=guests), internal=internal, owner=owner)
    name = "has_external_attendees"
    assert failed({name: True}, seen) == (None if is_external else name)
    assert failed({name: False}, seen) == (None if is_external is False else name)


def test_nobody_is_external_where_nobody_is() -> None:
    seen = looked_at(event_with(organizer=None), internal=NOBODY, owner=None)
    assert failed({"has_external_attendees": False}, seen) is None


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("example.com", "example.com"),
        ("EU.Example.COM.", "eu.example.com"),
        ("acme.local", "acme.local"),
        ("Bücher.Example", "xn--bcher-kva.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("example", None),
        ("", None),
        (".", None),
        ("*.example.com", None),
        ("@example.com", None),
        ("ana@example.com", None),
        ("https://example.com", None),
        ("example.com/", None),
        ("example.com:443", None),
        ("example..com", None),
        ("-example.com", None),
        (" example.com", None),
        ("10.0.0.1", None),
        ("é" * 64 + ".example", None),
        ("a." * 127 + "com", None),
        ("é." * 60 + "example", None),
        ("example.com\n", None),
    ],
)
def test_domains(text: str, domain: str | None) -> None:
    assert normal_domain(text) == domain


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("ana@example.com", "example.com"),
        ("Ana@Example.COM", "example.com"),
        ('"a@b"@example.com', "example.com"),
        (" ana@example.com ", "example.com"),
        ("example.com", None),
        ("/o=ExchangeLabs/ou=Group/cn=Recipients/cn=ana", None),
        ("ana@", None),
        ("a" * 320 + "@example.com", None),
        (None, None),
    ],
)
def test_domains_of_addresses(address: str | None, domain: str | None) -> None:
    assert domain_of(address) == domain
