"""Which links count as meetings, which come first, and that no text makes the search slow or raise."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.meetings import MeetingCandidate, find

MEET = "https://meet.google.com/abc-defg-hij"
ZOOM = "https://us02web.zoom.us/j/89512345678?pwd=aB1.x"
TEAMS = (
    "https://teams.microsoft.com/l/meetup-join/19%3ameeting_Zm9v%40thread.v2/0"
    "?context=%7b%22Tid%22%3a%22t%22%2c%22Oid%22%3a%22o%22%7d"
)


def _described(text: str) -> list[tuple[str, str]]:
    return [(c.platform, c.url) for c in find(structured=(), location=None, description=text)]


@pytest.mark.parametrize(
    ("url", "platform"),
    [
        (MEET, "google_meet"),
        ("https://meet.google.com/_meet/abc-defg-hij?authuser=1", "google_meet"),
        ("https://meet.google.com/lookup/abc123", "google_meet"),
        ("https://g.co/meet/team-room", "google_meet"),
        (ZOOM, "zoom"),
        ("https://zoom.us/j/123456789", "zoom"),
        ("https://acme-org.zoom.us/my/jane.doe", "zoom"),
        ("https://zoom.us/w/91234567890?tk=x", "zoom"),
        ("https://app.zoom.us/wc/91234567890/join", "zoom"),
        ("https://zoom.us/wc/join/91234567890", "zoom"),
        ("https://zoom.us/join?confno=91234567890", "zoom"),
        ("https://acme.zoom.com.cn/j/91234567890", "zoom"),
        ("https://acme.zoomgov.com/j/1612345678", "zoom_gov"),
        (TEAMS, "microsoft_teams"),
        ("https://teams.microsoft.com/meet/2514589012345?p=Ab3dE", "microsoft_teams"),
        ("https://teams.cloud.microsoft/meet/2514589012345?p=Ab3dE", "microsoft_teams"),
        ("https://teams.live.com/meet/9312345678901?p=q", "microsoft_teams"),
        ("https://gov.teams.microsoft.us/l/meetup-join/19%3ameeting_x%40thread.v2/0", "microsoft_teams"),
        ("https://teams.microsoft.com/_#/l/meetup-join/19:meeting_x@thread.v2/0", "microsoft_teams"),
    ],
)
def test_meeting_pages_are_found_as_they_stand(url: str, platform: str) -> None:
    assert _described(f"Join here: {url} see you") == [(platform, url)]


@pytest.mark.parametrize(
    "url",
    [
        "https://meet.google.com/",
        "https://meet.google.com/landing",
        "https://meet.google.com/new",
        "https://tel.meet/abc-defg-hij?pin=1",
        "https://zoom.us/u/abcde",
        "https://zoom.us/download",
        "https://zoom.us/rec/share/abc",
        "https://zoom.us/meeting/register/tJwx",
        "https://zoom.us/join",
        "https://teams.microsoft.com/meetingOptions/?organizerId=x",
        "https://teams.microsoft.com/l/channel/19%3aabc/General",
        "https://aka.ms/JoinTeamsMeeting",
        "https://zoom.us.example.com/j/123456789",
        "https://evil-zoom.us/j/123456789",
        "https://meet.google.com.evil.io/abc-defg-hij",
        "https://x@zoom.us@evil.example/j/123456789",
        "https://zoom.us@evil.example/j/123456789",
        "https://sub.teams.microsoft.com/meet/123",
        "https://zoom.us:8443/j/123456789",
        "https://zoom.us:port/j/123456789",
        "jane@zoom.us/j/123456789",
        "https://example.com/zoom.us/j/123456789",
        "blog.co/meet/abc",
    ],
)
def test_other_pages_and_lookalikes_are_not(url: str) -> None:
    assert _described(f"Join here: {url} see you") == []


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (f"Join: {ZOOM}.", ZOOM),
        (f"({ZOOM})", ZOOM),
        (f"<{ZOOM}>", ZOOM),
        (f"[Join]({ZOOM}), or call", ZOOM),
        (f"[{ZOOM}]({ZOOM})", ZOOM),
        (f"*{ZOOM}*", ZOOM),
        ('<a href="https://zoom.us/j/123456789?a=1&amp;pwd=x">Join now</a>', "https://zoom.us/j/123456789?a=1&pwd=x"),
        ("&lt;https://zoom.us/j/123456789&gt;", "https://zoom.us/j/123456789"),
        ("https://zoom.us/j/123456789?a=1&param=2", "https://zoom.us/j/123456789?a=1&param=2"),
        ("HTTPS://ZOOM.US/j/123456789", "HTTPS://ZOOM.US/j/123456789"),
        ("Zoom: zoom.us/j/123456789", "https://zoom.us/j/123456789"),
        ("acme.zoom.us/my/Room", "https://acme.zoom.us/my/Room"),
        ("İstanbul https://zoom.us/j/123456789", "https://zoom.us/j/123456789"),
        (f"https://docs.example/a,{MEET}", MEET),
        (
            'https://teams.microsoft.com/l/meetup-join/19:m@thread.v2/0?context={"Tid":"t","Oid":"o"} bye',
            'https://teams.microsoft.com/l/meetup-join/19:m@thread.v2/0?context={"Tid":"t","Oid":"o"}',
        ),
    ],
)
def test_what_people_write_around_a_link_is_left_out(text: str, url: str) -> None:
    assert [found for _, found in _described(text)] == [url]


@pytest.mark.parametrize(
    "wrapped",
    [
        "https://nam02.safelinks.protection.outlook.com/?url=https%3A%2F%2Fzoom.us%2Fj%2F123456789%3Fpwd%3Dx&data=05&reserved=0",
        "https://nam02.safelinks.protection.outlook.com/ap/t-1/?data=05&amp;url=https%3A%2F%2Fzoom.us%2Fj%2F123456789%3Fpwd%3Dx",
        "https://www.google.com/url?q=https%3A%2F%2Fzoom.us%2Fj%2F123456789%3Fpwd%3Dx&sa=D&source=calendar",
        (
            "https://www.google.com/url?q=https%3A%2F%2Feur01.safelinks.protection.outlook.com%2F%3Furl%3D"
            "https%253A%252F%252Fzoom.us%252Fj%252F123456789%253Fpwd%253Dx"
        ),
    ],
)
def test_rewritten_links_are_unwrapped(wrapped: str) -> None:
    assert ("zoom", "https://zoom.us/j/123456789?pwd=x") in _described(wrapped)


def test_the_teams_launcher_leads_to_its_meeting() -> None:
    launcher = (
        "https://teams.microsoft.com/dl/launcher/launcher.html?url=%2F_%23%2Fl%2Fmeetup-join%2F19%3Am%40thread.v2%2F0"
    )
    assert _described(launcher) == [
        ("microsoft_teams", "https://teams.microsoft.com/_#/l/meetup-join/19:m@thread.v2/0")
    ]


def test_decoding_a_wrapper_brings_no_character_that_cannot_be_stored() -> None:
    safelink = "https://nam02.safelinks.protection.outlook.com/?url=https%3A%2F%2Fzoom.us%2Fj%2F123456789%3Funame%3D"
    assert _described(f"{safelink}a%2500") == [("zoom", "https://zoom.us/j/123456789?uname=a%00")]
    assert _described(f"{safelink}a%00") == []
    assert _described(f"{safelink}a%20b") == [("zoom", "https://zoom.us/j/123456789?uname=a%20b")]
    assert _described(f"{safelink}%FF%ED%A0%80") == [("zoom", "https://zoom.us/j/123456789?uname=" + "\ufffd" * 4)]


def test_structured_links_come_first_then_location_then_description() -> None:
    found = find(
        structured=(("conference_data", MEET), ("hangout_link", MEET)),
        location=f"Room 5 / {ZOOM}",
        description=f"{TEAMS} {MEET}",
    )
    assert found == (
        MeetingCandidate(MEET, "google_meet", "conference_data"),
        MeetingCandidate(ZOOM, "zoom", "location"),
        MeetingCandidate(TEAMS, "microsoft_teams", "description"),
    )


def test_a_structured_link_counts_on_any_https_host_and_nothing_else_does() -> None:
    structured = (
        ("conference_data", "https://meet.acme.example/r/1"),
        ("conference_data", "http://plain.example/r/1"),
        ("conference_data", "tel:+1-234"),
        ("conference_data", "javascript:alert(1)"),
    )
    found = find(structured=structured, location=None, description=None)
    assert found == (MeetingCandidate("https://meet.acme.example/r/1", "unknown", "conference_data"),)


def test_the_spelling_with_a_passcode_wins_within_the_texts() -> None:
    found = find(structured=(), location="zoom.us/j/123456789", description="https://zoom.us/j/123456789?pwd=x")
    assert found == (MeetingCandidate("https://zoom.us/j/123456789?pwd=x", "zoom", "description"),)


def test_candidates_are_bounded() -> None:
    text = " ".join(f"https://zoom.us/j/1234567{n:02}" for n in range(50))
    assert len(_described(text)) == 10


@given(st.text(st.sampled_from("https://zoom.us/j1&amp;{}[]()\"'<>,;%@.?=\0\ud800 é"), max_size=300))
def test_no_text_makes_it_raise(text: str) -> None:
    find(structured=(("conference_data", text),), location=text, description=text)


@pytest.mark.parametrize(
    "unit",
    ["https://", "zoom.us/", "a.", "&amp;", "https://zoom.us/j/1(", '{"', "https://zoom.us/?url=https%3A%2F%2F", "[("],
)
def test_work_is_linear_in_the_text(unit: str) -> None:
    def seconds(length: int) -> float:
        text = "zoom.us/j/123456789 " + unit * (length // len(unit))
        start = time.perf_counter()
        find(structured=(), location=None, description=text)
        return time.perf_counter() - start

    # Eight times the text: about eight times the work; sixty-four times were it quadratic.
    short = min(seconds(7_500) for _ in range(3))
    assert min(seconds(60_000) for _ in range(3)) < 30 * short + 0.02
