"""Where each provider's events have their meeting links, in the shapes that the providers send."""

from typing import Any

import pytest

from app.meetings import NO_PREFERENCES, SCORES, Preferences
from app.providers.base import RemoteEvent
from app.providers.google.mapping import map_item as map_google
from app.providers.google.mapping import map_page
from app.providers.microsoft.mapping import map_item as map_graph
from tests.unit.meetings.tables import toml

MEET = "https://meet.google.com/abc-defg-hij"
ZOOM = "https://us02web.zoom.us/j/89512345678?pwd=aB1.x"
TEAMS = "https://teams.microsoft.com/l/meetup-join/19%3ameeting_Zm9v%40thread.v2/0?context=%7b%22Tid%22%3a%22t%22%7d"
SHORT = "https://teams.microsoft.com/meet/2514589012345?p=Ab3dE"
SAFELINK = (
    "https://nam02.safelinks.protection.outlook.com/?url=https%3A%2F%2Fus02web.zoom.us%2Fj%2F89512345678%3Fpwd%3DaB1.x"
    "&data=05%7C02&reserved=0"
)
TEXTS = {case["id"]: case for case in toml("texts.toml")}

Found = list[tuple[str, str, str | None, str | None]]


def google(preferences: Preferences = NO_PREFERENCES, **fields: Any) -> RemoteEvent:
    """An event of "Events: list"."""
    item = {
        "kind": "calendar#event",
        "etag": '"3546600800000000"',
        "id": "k1o2p3q4",
        "status": "confirmed",
        "summary": "Planning",
        "start": {"dateTime": "2026-03-20T13:00:00-03:00", "timeZone": "America/Sao_Paulo"},
        "end": {"dateTime": "2026-03-20T14:00:00-03:00", "timeZone": "America/Sao_Paulo"},
        "iCalUID": "k1o2p3q4@google.com",
        "eventType": "default",
    }
    mapped = map_google(item | fields, time_zone="America/Sao_Paulo", preferences=preferences)
    assert isinstance(mapped, RemoteEvent), mapped
    return mapped


def graph(preferences: Preferences = NO_PREFERENCES, **fields: Any) -> RemoteEvent:
    """An event of "calendarView"."""
    item = {
        "id": "AAMkAGI1AAAt9AHjAAA=",
        "type": "singleInstance",
        "subject": "Planning",
        "isAllDay": False,
        "isCancelled": False,
        "isOrganizer": True,
        "showAs": "busy",
        "body": {"contentType": "html", "content": "<html><body></body></html>"},
        "start": {"dateTime": "2026-03-20T16:00:00.0000000", "timeZone": "UTC"},
        "end": {"dateTime": "2026-03-20T17:00:00.0000000", "timeZone": "UTC"},
        "location": {"displayName": "", "locationType": "default", "uniqueIdType": "unknown", "address": {}},
        "locations": [],
        "isOnlineMeeting": False,
        "onlineMeetingProvider": "unknown",
        "onlineMeetingUrl": None,
        "onlineMeeting": None,
    }
    mapped = map_graph(item | fields, time_zone=None, owner="ana@example.com", preferences=preferences)
    assert isinstance(mapped, RemoteEvent), mapped
    return mapped


def found(event: RemoteEvent) -> Found:
    """(platform, source, passcode, wrapper) of the candidates."""
    assert all(c.score == SCORES[c.source] for c in event.meeting_candidates)
    return [(c.platform, c.source, c.passcode, c.unwrapped_from) for c in event.meeting_candidates]


def conference(uri: str, name: str = "Google Meet") -> dict[str, Any]:
    """`conferenceData` as Google and its add-ons write it."""
    return {
        "conferenceId": "abc-defg-hij",
        "conferenceSolution": {"key": {"type": "addOn" if name != "Google Meet" else "hangoutsMeet"}, "name": name},
        "entryPoints": [
            {"entryPointType": "video", "uri": uri, "label": uri.removeprefix("https://")},
            {"entryPointType": "phone", "uri": "tel:+1-304-555-0100", "pin": "123456789"},
            {"entryPointType": "more", "uri": "https://tel.meet/abc-defg-hij?pin=1234567890123"},
        ],
        "notes": "Meeting host: ana@example.com",
    }


GOOGLE: dict[str, tuple[dict[str, Any], str | None, Found, str | None]] = {
    "meet": (
        {"conferenceData": conference(MEET), "hangoutLink": MEET},
        MEET,
        [("google_meet", "conference_data", None, None)],
        "only",
    ),
    "zoom's add-on": (
        {"conferenceData": conference(ZOOM, "Zoom Meeting"), "location": ZOOM, "description": TEXTS["dot"]["text"]},
        ZOOM,
        [("zoom", "conference_data", "aB1.x", None), ("zoom", "description", "x", None)],
        "source",
    ),
    "meet added to an event that is on zoom": (
        {"hangoutLink": MEET, "description": f"<p>Join <a href='{ZOOM}'>Zoom</a></p>"},
        MEET,
        [("google_meet", "hangout_link", None, None), ("zoom", "description", "aB1.x", None)],
        "source",
    ),
    "a location without scheme": (
        {"location": "Room 4 / us02web.zoom.us/j/89512345678"},
        "https://us02web.zoom.us/j/89512345678",
        [("zoom", "location", None, None)],
        "only",
    ),
    "a rewritten description": (
        {"description": f'<a href="{SAFELINK.replace("&", "&amp;")}">Join</a>'},
        ZOOM,
        [("zoom", "description", "aB1.x", SAFELINK)],
        "only",
    ),
    "a title": ({"summary": f"Call {MEET}"}, MEET, [("google_meet", "name", None, None)], "only"),
    "two in one text": (
        {"description": f"{ZOOM}\n{TEAMS}"},
        ZOOM,
        [("zoom", "description", "aB1.x", None), ("microsoft_teams", "description", None, None)],
        "ambiguous",
    ),
    "no link": ({"location": "Room 4", "description": "Agenda: https://docs.example.com/a"}, None, [], None),
}
GRAPH: dict[str, tuple[dict[str, Any], str | None, Found, str | None]] = {
    "teams": (
        {
            "isOnlineMeeting": True,
            "onlineMeetingProvider": "teamsForBusiness",
            "onlineMeeting": {"joinUrl": TEAMS, "conferenceId": "123", "tollNumber": "+1 323-555-0166"},
            "location": {"displayName": "Microsoft Teams Meeting", "locationType": "default"},
            "locations": [{"displayName": "Microsoft Teams Meeting", "locationType": "default"}],
            "body": {"contentType": "html", "content": TEXTS["html-of-outlook"]["text"]},
        },
        TEAMS,
        [("microsoft_teams", "online_meeting", "Ab3dE", None)],
        "only",
    ),
    "teams in the body alone": (
        {"body": {"contentType": "html", "content": TEXTS["html-of-outlook"]["text"]}},
        TEAMS,
        [("microsoft_teams", "description", "Ab3dE", None)],
        "only",
    ),
    "teams of an invitation in plain text": (
        {"body": {"contentType": "text", "content": TEXTS["teams-invitation-2026"]["text"]}},
        TEXTS["teams-invitation-2026"]["found"][0],
        [("microsoft_teams", "description", "Ab3dEfGh", None)],
        "only",
    ),
    "the older field": (
        {"onlineMeetingUrl": SHORT},
        SHORT,
        [("microsoft_teams", "online_meeting_url", "Ab3dE", None)],
        "only",
    ),
    "zoom's plugin": (
        {
            "location": {"displayName": ZOOM, "locationUri": ZOOM, "locationType": "default"},
            "locations": [{"displayName": ZOOM, "locationUri": ZOOM, "locationType": "default"}],
        },
        ZOOM,
        [("zoom", "location", "aB1.x", None)],
        "only",
    ),
    "a second location": (
        {
            "location": {"displayName": "Room 4"},
            "locations": [{"displayName": "Room 4"}, {"displayName": f"Zoom {ZOOM}"}, {"displayName": 7}, "odd"],
        },
        ZOOM,
        [("zoom", "location", "aB1.x", None)],
        "only",
    ),
    "the address of a location": (
        {"location": {"displayName": "Online"}, "locations": [{"displayName": "Online", "locationUri": ZOOM}]},
        ZOOM,
        [("zoom", "location", "aB1.x", None)],
        "only",
    ),
    "teams ticked, zoom meant": (
        {
            "onlineMeeting": {"joinUrl": TEAMS},
            "body": {"contentType": "html", "content": f'<p><a href="{SAFELINK.replace("&", "&amp;")}">Zoom</a></p>'},
        },
        TEAMS,
        [("microsoft_teams", "online_meeting", None, None), ("zoom", "description", "aB1.x", SAFELINK)],
        "source",
    ),
    "an odd list of locations": ({"locations": {"displayName": ZOOM}}, None, [], None),
}


@pytest.mark.parametrize("name", GOOGLE)
def test_an_event_of_google(name: str) -> None:
    fields, url, candidates, choice = GOOGLE[name]
    event = google(**fields)
    assert (event.meeting_url, found(event), event.meeting_choice) == (url, candidates, choice)


@pytest.mark.parametrize("name", GRAPH)
def test_an_event_of_graph(name: str) -> None:
    fields, url, candidates, choice = GRAPH[name]
    event = graph(**fields)
    assert (event.meeting_url, found(event), event.meeting_choice) == (url, candidates, choice)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in TEXTS.values()])
def test_a_description_is_read_alike_at_both(case: dict[str, Any]) -> None:
    for event in (
        google(description=case["text"]),
        graph(body={"contentType": "text", "content": case["text"]}),
        graph(body={"contentType": "html", "content": f"<html><body>{case['text']}</body></html>"}),
    ):
        assert [c.url for c in event.meeting_candidates] == case["found"]


def test_the_projects_preferences_reach_every_event() -> None:
    wanted = Preferences.of(platforms=["zoom"], extra_hosts={"jitsi": ["meet.acme.example"]})
    for event in (
        google(wanted, hangoutLink=MEET, description=ZOOM),
        graph(wanted, onlineMeetingUrl=SHORT, body={"contentType": "html", "content": ZOOM}),
    ):
        assert (event.meeting_url, event.meeting_choice) == (ZOOM, "preference")
    own = "https://meet.acme.example/Planning"
    for event in (google(wanted, location=own), graph(wanted, location={"displayName": own})):
        assert (event.meeting_url, event.meeting_platform) == (own, "jitsi")
    page = {"items": [{"id": "a", "location": own, "start": {"date": "2026-03-20"}, "end": {"date": "2026-03-21"}}]}
    (item,) = map_page(page | {"nextSyncToken": "s"}, time_zone=None, preferences=wanted).change.items
    assert isinstance(item, RemoteEvent)
    assert item.meeting_platform == "jitsi"
