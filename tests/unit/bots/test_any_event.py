"""Any event and any pattern: nothing raises, conditions do not depend on each other, no text takes too long."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, get_args

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.api.rule_inputs import EventType, RuleMatch, Visibility, match_text
from app.bots.rules.matching import CONDITIONS, PATTERN_BYTES, TITLE_MOST, compiled, facts, pattern
from app.meetings import NAMES
from app.providers.base import Attendee, Person, RemoteEvent, ResponseStatus
from app.providers.google import client as google
from app.providers.microsoft import mapping as microsoft
from tests.unit.bots.events import event_with, failed, looked_at

_PIECES = [
    "a",
    "ana",
    "@",
    ".",
    "-",
    "_",
    "acme.example",
    "eu.",
    "xn--",
    "é",
    "会",
    "。",
    "😀",
    " ",
    "calendar.google.com",
]
_WORDS = st.lists(st.sampled_from(_PIECES), max_size=8).map("".join) | st.text(max_size=30)
_ADDRESSES = st.none() | _WORDS | _WORDS.map(lambda text: f"a@{text}") | st.just("a@" + "é." * 200 + "example")
_ANSWERS = st.sampled_from(get_args(ResponseStatus))
_PEOPLE = st.builds(Person, _ADDRESSES, st.none() | _WORDS, st.booleans())
_GUESTS = st.builds(
    Attendee, _ADDRESSES, st.none(), _ANSWERS, st.booleans(), st.booleans(), st.booleans(), st.booleans()
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START = st.integers(-62_135_596_800, 253_000_000_000).map(lambda at: _EPOCH + timedelta(seconds=at))
"""From the year 1 to some before 9999."""
EVENTS: st.SearchStrategy[RemoteEvent] = st.tuples(
    st.fixed_dictionaries(
        {
            "name": st.none() | _WORDS | st.just("x" * 5_000),
            "start_time": _START,
            "is_all_day": st.booleans(),
            "visibility": st.none() | st.sampled_from(get_args(Visibility)) | _WORDS,
            "event_type": st.none() | st.sampled_from(get_args(EventType)) | _WORDS,
            "organizer": st.none() | _PEOPLE,
            "attendees": st.lists(_GUESTS, max_size=6).map(tuple),
            "own_response_status": st.none() | _ANSWERS,
            "series_id": st.none() | _WORDS,
            "meeting_platform": st.none() | st.sampled_from(sorted(NAMES)),
        }
    ),
    st.timedeltas(timedelta(0), timedelta(days=400)),
).map(lambda parts: event_with(**parts[0], end_time=parts[0]["start_time"] + parts[1]))

_DOMAINS = st.lists(st.sampled_from(["acme.example", "eu.acme.example", "a.example", "xn--9ca.example"]), min_size=1)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "is_all_day": st.booleans(),
    "own_response": st.lists(_ANSWERS, min_size=1),
    "is_organizer": st.booleans(),
    "is_recurring": st.booleans(),
    "visibility": st.lists(st.sampled_from(get_args(Visibility)), min_size=1),
    "event_types": st.lists(st.sampled_from(get_args(EventType)), min_size=1),
    "meeting_platforms": st.lists(st.sampled_from(sorted(NAMES)), min_size=1),
    "duration_seconds_gte": st.integers(0, 10_000),
    "duration_seconds_lte": st.integers(10_000, 31_000_000),
    "calendar_metadata": st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"), min_size=1),
    "title_contains": st.lists(st.sampled_from(["a", "X", "É", "会"]), min_size=1),
    "attendee_count_gte": st.integers(0, 3),
    "attendee_count_lte": st.integers(3, 6),
    "organizer_domains": _DOMAINS,
    "attendee_domains": _DOMAINS,
    "has_external_attendees": st.booleans(),
    "title_regex": st.sampled_from(["", "a", "(?i)X+$", r"\pL", r"^\C*$", "[^a]", "é|会"]),
}
_DEFAULTS = {"is_all_day", "own_response"}
MATCHES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({}, optional=_VALUES)


@given(
    EVENTS,
    MATCHES,
    st.sets(st.sampled_from(sorted(CONDITIONS))),
    st.sampled_from([frozenset[str](), frozenset({"acme.example"})]),
    _ADDRESSES,
    st.dictionaries(st.sampled_from("ab"), st.sampled_from("12")),
)
def test_all_given_conditions_have_to_hold(
    event: RemoteEvent,
    match: dict[str, Any],
    half: set[str],
    internal: frozenset[str],
    owner: str | None,
    metadata: dict[str, str],
) -> None:
    """A match holds where both halves of it do, and names one of its conditions where it does not."""
    seen = looked_at(event, internal=internal, owner=owner, metadata=metadata)
    shared = {name: value for name, value in match.items() if name in _DEFAULTS}
    one, other = ({name: match[name] for name in match if (name in half) is side} | shared for side in (True, False))
    refused = failed(match, seen)
    assert (refused is None) == (failed(one, seen) is None and failed(other, seen) is None)
    assert refused is None or refused in match.keys() | _DEFAULTS
    if refused is not None and refused not in _DEFAULTS:
        assert failed({name: value for name, value in match.items() if name != refused}, seen) != refused


@given(EVENTS, MATCHES)
def test_the_text_that_is_stored_means_the_match(event: RemoteEvent, match: dict[str, Any]) -> None:
    assume(match and match.get("title_regex") != "")
    turned = {name: match[name] for name in reversed(match)}
    text = match_text(RuleMatch.model_validate(match))
    assert text == match_text(RuleMatch.model_validate(turned))
    assert orjson.loads(text) == match
    assert compiled(text).failed(looked_at(event)) == failed(match, looked_at(event))


def test_every_condition_is_known_to_all() -> None:
    assert set(_VALUES) == CONDITIONS == set(RuleMatch.model_fields)


HOSTILE = [
    "((a{1,100}){1,100}){1,100}",
    "(a{1,1000}){1,100}",
    "(((a{30}){30}){30}){30}",
    r"(\pL{1,30}){1,30}",
    r"\pL{1000}",
    r"(?i)[\pL\pN]{200}",
    r"[[:word:]]{900}.*\pN{10}",
    "(?s).{1000}",
    "(.{1,30}[aeiou]){30}Q",
    r"(?i)(?:\PL{0,99}x){9}",
    "(?:" * 28 + "a" + "){2}" * 28,
    "(" * 100,
    "[" * 200,
    "a\\1",
    "(?=a)",
    "(?P<n>a",
    "a**",
    "\\",
    "[z-a]",
]


@pytest.fixture(scope="module")
def harmless() -> float:
    """What it takes to compile a pattern that RE2 has not seen before."""
    return min(_seconds(partial(pattern, rf"(?i)\b(demo|review)\b{number}")) for number in range(9))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_dangerous_pattern_is_refused_at_once(text: str, harmless: float, capfd: pytest.CaptureFixture[str]) -> None:
    """In a time that has to do with what a harmless one takes, and without a line in the log.

    With RE2's own limit of memory some take a thousand times as long.
    """
    assert len(text.encode()) <= PATTERN_BYTES
    with pytest.raises(ValueError, match=r".") as refused:
        pattern(text)
    assert len(str(refused.value)) <= 80
    assert min(_seconds(lambda: _refused(text)) for _ in range(6)) < 300 * harmless
    assert capfd.readouterr() == ("", "")


def _refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        pattern(text)


def _seconds(run: Callable[[], object]) -> float:
    """Of the processor's time: others use the machine too."""
    start = time.process_time()
    run()
    return time.process_time() - start


@pytest.mark.parametrize(
    "text", ["(x+x+)+y", "(x|x)*y", "(x*)*y", r"^(\w+\s?)*$", "(.*x){10}y", "(x?){50}x{50}y", "x*x*x*x*y"]
)
def test_a_megabyte_that_other_engines_never_finish(text: str) -> None:
    """Four times the text takes about four times the time; backtracking would not come back."""
    search = pattern(text).search
    short, long = b"x" * (1 << 18) + b"!", b"x" * (1 << 20) + b"!"
    search(short)
    assert search(long) is None
    assert any(_seconds(partial(search, long)) < 16 * _seconds(partial(search, short)) for _ in range(9))


COSTLY = [".{0,20}" * 8 + "Q", r"(\w?){370}Q", "a{1000}", "(.{1,30}[aeiou]){5}Q"]
"""What is just not refused, and costs the most."""


@pytest.mark.parametrize("match", [{"title_regex": text} for text in COSTLY] + [{"title_contains": ["zz"]}])
def test_a_title_of_a_megabyte_costs_no_more_than_its_beginning(match: dict[str, Any]) -> None:
    """Looking at all of it would take two thousand times as long."""

    def seconds(title: str) -> float:
        content = {"name": title, "is_all_day": False}

        def run() -> None:
            for _ in range(20):
                seen = facts(content, calendar_metadata={}, internal_domains=frozenset(), owner_email=None)
                assert failed(match, seen)

        return _seconds(run)

    assert any(seconds("a" * (1 << 20)) < 50 * seconds("a" * TITLE_MOST) for _ in range(9))


def test_the_end_of_a_long_title_is_not_looked_at() -> None:
    seen = looked_at(event_with(name="x" * (TITLE_MOST - 3) + "yyyz"))
    assert failed({"title_contains": ["yyy"]}, seen) is None
    assert failed({"title_contains": ["z"]}, seen) == "title_contains"
    assert failed({"title_regex": "y$"}, seen) is None


def test_what_the_providers_can_say_can_be_asked_for() -> None:
    assert get_args(EventType) == google._EVENT_TYPES
    assert {*microsoft._EVENT_TYPES.values(), "default"} <= set(get_args(EventType))
    assert set(microsoft._VISIBILITY.values()) <= set(get_args(Visibility))
