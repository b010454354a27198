"""Any text: nothing raises, no host comes from nowhere, and no text takes more than linear time."""

import html
import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.meetings import Preferences, canonical_key, find, judge
from app.meetings.links import TEXT_LIMIT
from app.meetings.table import PLATFORMS
from app.meetings.unwrap import WRAPPERS
from tests.unit.meetings.tables import lines, pairs, toml

_PIECES = (
    [host.removeprefix("*.") for row in PLATFORMS for host in row.hosts]
    + [host.removeprefix("*") for wrapper in WRAPPERS for host in wrapper.hosts.split()]
    + ["https://", "http://", "://", "HTTPS://", "zoommtg://", "msteams:/l/", "//", "/", "\\", "@", ":", ":443"]
    + ["/j/123456789", "/meet/abc", "/abc-defg-hij", "/l/meetup-join/19:m@thread.v2/0", "?pwd=x", "?url=", "?q=", "&u="]
    + ["/v3/__", "__;", "!!", "/v2/url?u=https-3A__", "/v1/url?u=", "*", "**A", "/wis/clicktime/v1/query?url="]
    + ["___", "___."]
    + ["%", "%2", "%2F", "%3A", "%252F", "%00", "%FF", "&amp;", "&#47;", "&#x2f;", "&#xd800;", "&#0;", "&lt;", "&nbsp;"]
    + ["(", ")", "[", "]", "{", '{"', "}", '"}', "<", ">", '"', "'", "`", "*", "_", "~", ",", ".", ";", "!", "|", "#"]
    + [" ", "\n", "\r\n", "\t", "\0", "\ud800", "é", "会", "\u3002", "\u200b", "evil.example", "x", "-"]
    + ["Passcode: 1", "="]
)  # fmt: skip
_REAL = (
    [url for _, _, url in lines("urls.txt", 3)]
    + [wrapped for *_, wrapped in pairs("wrapped.txt")]
    + [case["text"] for case in toml("texts.toml")]
)
TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(st.one_of(st.sampled_from(_PIECES), st.sampled_from(_REAL)), max_size=30).map("".join),
    st.tuples(st.sampled_from(_REAL), st.integers(0, 400), st.sampled_from(_PIECES), st.integers(0, 400)).map(
        lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[3] :]
    ),
)
OWN = Preferences.of(platforms=("zoom", "jitsi"), extra_hosts={"jitsi": ["evil.example"]})


@given(TEXTS)
def test_no_text_makes_anything_raise(text: str) -> None:
    for preferences in (Preferences(), OWN):
        meeting = find(
            structured=(("conference_data", text), ("online_meeting_url", text)),
            texts=(("location", text), ("description", text), ("name", text)),
            preferences=preferences,
        )
        assert (meeting.url is None) == (not meeting.candidates) == (meeting.choice is None)
        assert len(meeting.candidates) <= 10
        scores = [candidate.score for candidate in meeting.candidates]
        assert scores == sorted(scores, reverse=True)
        assert (meeting.choice == "ambiguous") == (len(scores) > 1 and scores[0] == scores[1])
        verdict = judge(text, preferences)
        assert (verdict.link is None) != (verdict.refusal is None)
        canonical_key(text, preferences)


@given(TEXTS)
def test_no_host_comes_from_nowhere(text: str) -> None:
    """What is found stands in the text, or is wrapped in what stands there. Line ends may break an address."""
    there = re.sub(r"[\s>]", "", html.unescape(html.unescape(text))).lower()
    for candidate in find(structured=(), texts=(("description", text),)).candidates:
        address = candidate.unwrapped_from or candidate.url
        host = "msteams:" if address.startswith("msteams:/l/") else urlsplit(address).hostname
        assert host is not None
        assert host in there
        if candidate.passcode is not None:
            assert candidate.passcode in candidate.url or candidate.passcode.lower() in there
        if candidate.unwrapped_from is None:
            assert html.unescape(address).lower().removeprefix("https://").replace(" ", "") in there


@given(TEXTS)
def test_what_is_found_is_found_again(text: str) -> None:
    """A candidate's URL in a text of its own leads to the same meeting, and so does its key."""
    for candidate in find(structured=(), texts=(("description", text),)).candidates:
        again = find(structured=(("conference_data", candidate.url),), texts=())
        if candidate.url.lower().startswith("https:"):
            assert (again.url, again.platform) == (candidate.url, candidate.platform)
        assert canonical_key(candidate.url) is not None


UNITS = (
    "https://", "http", "zoom.us/", "a.", "a-", "a.us/", "x.com/", "/", "://", "&amp;", "&#47;", "&#x2f;", "%25",
    "https://zoom.us/j/1(", '{"', '{"a', "[(", "a@zoom.us/", "a.zoom.us", "zoom.us/j/123456789 ", "zoommtg://zoom.us/",
    "zoommtg://zoom.us/join?confno=", "msteams:/l/", "https://zoom.us/?url=https%3A%2F%2F",
    "https://nam02.safelinks.protection.outlook.com/?url=", "https://urldefense.com/v3/__",
    "https://urldefense.com/v3/__**A", "__;", "https://urldefense.com/v2/url?u=https-3A__", "___",
    "https://protect.checkpoint.com/v2/___", "https://www.google.com/url?q=", "https://secure-web.cisco.com/a/",
    "https://eu.protection.sophos.com?u=aHR0cHM6Ly96b29tLnVz", "https://teams.microsoft.com/l/x\n",
    "https://teams.microsoft.com/l/meetup-join/", "https://teams.microsoft.com/l/meetup-join/19%3a\n",
    "https://acme.daily.co/a/", "https://meet.jit.si/a/", "https://acme.webex.com/a/", "Passcode:", "Passcode: ",
    "https://zoom.us/j/123456789 Passcode ", "<", "<a ", "</a>", "\n", " \n", "*", "_", ",https://",
)  # fmt: skip
BENIGN = "Agenda: numbers, questions and next steps; see https://docs.example.com/d/1 or zoom.us/j/123456789. "


def _seconds(unit: str, length: int) -> float:
    """The best of three, of the processor's time: others use the machine too."""
    text = "https://zoom.us/j/123456789 " + unit * (length // len(unit))

    def run() -> None:
        find(structured=(("conference_data", text),), texts=(("description", text),))
        judge(text)

    return min(_timed(run) for _ in range(3))


def _timed(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


@pytest.fixture(scope="module")
def benign() -> float:
    """What a megabyte of harmless text takes."""
    return _seconds(BENIGN, 1 << 20)


@pytest.mark.parametrize("unit", UNITS)
def test_a_megabyte_of_hostile_text(unit: str, benign: float) -> None:
    """Twice the text takes about twice the time, and none takes out of proportion to a harmless one.

    A quadratic search would take 16 times as long for the larger text, and hundreds of times as long as the harmless.
    """
    assert any(_is_linear(unit, benign) for _ in range(6))  # one of them undisturbed
    assert any(_seconds(unit, 1 << 20) < 60 * benign for _ in range(6))


def _is_linear(unit: str, benign: float) -> bool:
    quarter, whole = _seconds(unit, TEXT_LIMIT // 4), _seconds(unit, TEXT_LIMIT)
    return whole < 8 * quarter + benign
