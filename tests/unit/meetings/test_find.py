"""Which field goes before which, why a candidate is the first, and what a project's preferences change."""

import pytest

from app.meetings import NO_PREFERENCES, NOTHING, Meeting, MeetingCandidate, Preferences, canonical_key, find, judge
from app.meetings.table import SELF_HOSTED

MEET = "https://meet.google.com/abc-defg-hij"
ZOOM = "https://us02web.zoom.us/j/89512345678?pwd=aB1.x"
TEAMS = (
    "https://teams.microsoft.com/l/meetup-join/19%3ameeting_Zm9v%40thread.v2/0"
    "?context=%7b%22Tid%22%3a%22t%22%2c%22Oid%22%3a%22o%22%7d"
)
WEBEX = "https://acme.webex.com/meet/jane"


def _find(
    *structured: tuple[str, str],
    location: str | None = None,
    description: str | None = None,
    name: str | None = None,
    preferences: Preferences = NO_PREFERENCES,
) -> Meeting:
    texts = (("location", location), ("description", description), ("name", name))
    return find(structured=structured, texts=texts, preferences=preferences)


def _urls(meeting: Meeting) -> list[str]:
    return [candidate.url for candidate in meeting.candidates]


def test_structured_fields_come_first_then_location_description_and_name() -> None:
    meeting = _find(
        ("conference_data", MEET),
        ("hangout_link", MEET),
        location=f"Room 5 / {ZOOM}",
        description=f"{TEAMS} {MEET}",
        name=f"Standup {WEBEX}",
    )
    assert meeting == Meeting(
        (
            MeetingCandidate(MEET, "google_meet", "conference_data", 100),
            MeetingCandidate(ZOOM, "zoom", "location", 70, "aB1.x"),
            MeetingCandidate(TEAMS, "microsoft_teams", "description", 50),
            MeetingCandidate(WEBEX, "webex", "name", 30),
        ),
        "source",
    )
    assert (meeting.url, meeting.platform) == (MEET, "google_meet")


def test_without_a_link_there_is_nothing() -> None:
    for meeting in (_find(), _find(location=None, description="", name="Planning"), _find(("hangout_link", "tel:+1"))):
        assert meeting == NOTHING
        assert (meeting.url, meeting.platform, meeting.choice) == (None, None, None)


@pytest.mark.parametrize(
    ("texts", "choice"),
    [
        ({"description": ZOOM}, "only"),
        ({"description": f"{ZOOM} or {ZOOM}&from=addon"}, "only"),
        ({"location": ZOOM, "description": TEAMS}, "source"),
        ({"description": f"{ZOOM} {TEAMS}"}, "ambiguous"),
        ({"location": f"{ZOOM} {TEAMS}", "description": MEET}, "ambiguous"),
        ({"location": ZOOM, "description": f"{TEAMS} {MEET}"}, "source"),
    ],
)
def test_the_choice_is_explained(texts: dict[str, str], choice: str) -> None:
    meeting = _find(location=texts.get("location"), description=texts.get("description"))
    assert meeting.choice == choice
    assert meeting.url is not None
    assert meeting.url.startswith(ZOOM)


def test_two_structured_meetings_are_ambiguous() -> None:
    assert _find(("conference_data", MEET), ("conference_data", ZOOM)).choice == "ambiguous"
    assert _find(("conference_data", MEET), ("hangout_link", ZOOM)).choice == "source"


def test_a_meeting_that_a_better_field_names_too_keeps_that_fields_score() -> None:
    """The passcode stands in the description alone, the location says that this is the meeting."""
    meeting = _find(location="zoom.us/j/123456789", description=f"{TEAMS} https://zoom.us/j/123456789?pwd=x")
    assert meeting.candidates[0] == MeetingCandidate(
        "https://zoom.us/j/123456789?pwd=x", "zoom", "description", 70, "x"
    )
    assert meeting.choice == "source"


def test_a_structured_address_stays_as_it_is_and_learns_its_passcode() -> None:
    meeting = _find(("conference_data", "https://zoom.us/j/123456789"), description="zoom.us/j/123456789?pwd=x")
    assert meeting.candidates == (MeetingCandidate("https://zoom.us/j/123456789", "zoom", "conference_data", 100, "x"),)


def test_the_projects_order_goes_before_every_field() -> None:
    wanted = Preferences(platforms=("zoom", "webex"))
    meeting = _find(("conference_data", MEET), preferences=wanted, location=TEAMS, description=f"{WEBEX} {ZOOM}")
    assert _urls(meeting) == [ZOOM, WEBEX, MEET, TEAMS]
    assert [candidate.score for candidate in meeting.candidates] == [2050, 1050, 100, 70]
    assert meeting.choice == "preference"
    assert _find(("conference_data", ZOOM), preferences=wanted, description=ZOOM).choice == "only"
    both = _find(preferences=wanted, description=f"{ZOOM} https://zoom.us/j/123456789")
    assert both.choice == "ambiguous"
    assert _find(preferences=wanted, location=ZOOM, description="https://zoom.us/j/123456789").choice == "source"


def test_a_structured_link_counts_on_any_https_host_and_nothing_else_does() -> None:
    meeting = _find(
        ("conference_data", "https://meet.acme.example/r/1?room=2"),
        ("conference_data", "http://plain.example/r/1"),
        ("conference_data", "tel:+1-234"),
        ("conference_data", "javascript:alert(1)"),
        ("conference_data", f"https://meet.acme.example/{'r' * 4096}"),
        ("conference_data", "https://ada@meet.acme.example/r/1"),
    )
    assert _urls(meeting) == ["https://meet.acme.example/r/1?room=2"]
    assert (meeting.candidates[0].platform, meeting.platform) == ("unknown", None)


@pytest.mark.parametrize(
    "url",
    [
        "https://teams.microsoft.com/meetingOptions/?organizerId=x",
        "https://teams.microsoft.com/l/channel/19%3aabc/General",
        "https://zoom.us/rec/share/abc",
        "https://zoom.us/u/abc",
        "https://us02web.zoom.us/meeting/register/abc",
        "https://meet.google.com/landing",
        "https://docs.daily.co/guides",
    ],
)
def test_a_structured_page_that_is_known_to_be_no_meeting_is_none(url: str) -> None:
    assert _find(("online_meeting_url", url)) == NOTHING
    assert _urls(_find(("online_meeting_url", url), description=ZOOM)) == [ZOOM]


def test_a_new_form_of_a_known_product_is_trusted_in_a_structured_field_alone() -> None:
    url = "https://teams.microsoft.com/join/2030-form/abc"
    assert _find(("online_meeting", url)).platform == "microsoft_teams"
    assert _find(description=url) == NOTHING


def test_candidates_are_bounded_and_the_best_stay() -> None:
    text = " ".join(f"https://zoom.us/j/1234567{n:02}" for n in range(50))
    assert len(_find(description=text).candidates) == 10
    wanted = _find(preferences=Preferences(platforms=("webex",)), description=f"{text} {WEBEX}")
    assert (len(wanted.candidates), wanted.url) == (10, WEBEX)


OWN = {
    "jitsi": ["/Planning", "/acme/Planning"],
    "bigbluebutton": ["/b/ada-abc", "/gl/ada-abc", "/rooms/ada-abc-def/join", "/bigbluebutton/api/join?meetingID=x"],
    "skype_for_business": ["/jane.doe/AB12CD34", "/acme/jane.doe/AB12CD34", "/jane.doe/meet/AB12CD34"],
    "nextcloud_talk": ["/call/abcdef12", "/index.php/call/abcdef12"],
    "pexip": ["/meet/jane.doe", "/webapp3/m/jane.doe", "/webapp/conference/jane.doe?pin=1"],
    "livekit": ["/rooms/standup"],
    "element_call": ["/room/#/standup?roomId=!abc"],
    "opentalk": ["/room/0f3b2a1c-4d5e-6f70-8192-a3b4c5d6e7f8"],
    "galene": ["/group/acme/standup"],
    "mirotalk": ["/join/standup"],
}  # fmt: skip
OTHER_PAGES = {
    "jitsi": ["/", "/static/dialInInfo.html", "/external_api.js"],
    "bigbluebutton": ["/", "/b", "/playback/presentation/2.3/abc", "/bigbluebutton/api/getRecordings?meetingID=x"],
    "skype_for_business": ["/", "/dialin/conference", "/jane.doe"],
    "nextcloud_talk": ["/", "/apps/files", "/call/"],
    "pexip": ["/", "/webapp"],
    "livekit": ["/", "/rooms/"],
    "element_call": ["/", "/room/"],
    "opentalk": ["/", "/room/x"],
    "galene": ["/", "/recordings/acme"],
    "mirotalk": ["/", "/about"],
}


def test_every_self_hosted_product_has_cases() -> None:
    assert OWN.keys() == OTHER_PAGES.keys() == {row.name for row in SELF_HOSTED}


@pytest.mark.parametrize(("platform", "path"), [(name, path) for name, paths in OWN.items() for path in paths])
def test_a_host_of_the_projects_own(platform: str, path: str) -> None:
    own = Preferences.of(platforms=(), extra_hosts={platform: ["video.acme.example"]})
    url = f"https://video.acme.example{path}"
    for text in (f"Join {url} now", f"Join video.acme.example{path} now"):
        meeting = _find(preferences=own, description=text)
        assert (meeting.url, meeting.platform) == (url, platform)
    assert _find(("conference_data", url), preferences=own).platform == platform
    assert judge(url, own).refusal is None
    assert canonical_key(url, own) is not None
    # Nobody else's host, and not a subdomain.
    assert _find(description=url) == NOTHING
    assert _find(preferences=own, description=url.replace("video.", "x.video.")) == NOTHING
    assert judge(url).refusal == "unknown_platform"


@pytest.mark.parametrize(("platform", "path"), [(name, path) for name, paths in OTHER_PAGES.items() for path in paths])
def test_other_pages_of_the_projects_own_host(platform: str, path: str) -> None:
    own = Preferences.of(platforms=(), extra_hosts={platform: ["video.acme.example"]})
    assert _find(preferences=own, description=f"https://video.acme.example{path}") == NOTHING
    assert judge(f"https://video.acme.example{path}", own).refusal == "not_a_meeting"


def test_a_wrapped_link_to_the_projects_own_host() -> None:
    own = Preferences.of(platforms=(), extra_hosts={"jitsi": ["video.acme.example"]})
    wrapped = "https://www.google.com/url?q=https%3A%2F%2Fvideo.acme.example%2FPlanning"
    assert _urls(_find(preferences=own, description=wrapped)) == ["https://video.acme.example/Planning"]
    assert _find(description=wrapped) == NOTHING


def test_decoding_a_wrapper_brings_no_character_that_cannot_be_stored() -> None:
    safelink = "https://nam02.safelinks.protection.outlook.com/?url=https%3A%2F%2Fzoom.us%2Fj%2F123456789%3Funame%3D"
    assert _urls(_find(description=f"{safelink}a%2500")) == ["https://zoom.us/j/123456789?uname=a%00"]
    assert _urls(_find(description=f"{safelink}a%00")) == []
    assert _urls(_find(description=f"{safelink}a%20b")) == ["https://zoom.us/j/123456789?uname=a%20b"]
    assert _urls(_find(description=f"{safelink}%FF%ED%A0%80")) == ["https://zoom.us/j/123456789?uname=" + "\ufffd" * 4]
