"""The demo's verdict, shown false evidence: it must say so. (`make demo` itself runs in CI, on its own.)"""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from demo.verdict import Verdict, breaks, covered, differences

BERLIN = ZoneInfo("Europe/Berlin")
SPAN = (datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 12, 19, tzinfo=UTC))
MEETING: dict[str, Any] = {
    "event_id": "a1",
    "series_id": None,
    "original_start": None,
    "title": "Planning",
    "description": None,
    "location": "Room 4",
    "start": "2026-11-24T09:00:00+00:00",
    "end": "2026-11-24T10:00:00+00:00",
    "status": "confirmed",
    "visibility": "default",
    "attendees": [{"email": "ana@guests.example", "name": "Ana", "response": "needsAction", "optional": False}],
    "conference_url": "https://meet.google.com/abc-defg-hij",
}
SHOWN: dict[str, Any] = {
    "platform_uuid": "a1",
    "series_id": None,
    "original_start_time": None,
    "name": "Planning",
    "description": None,
    "location": "Room 4",
    "start_time": "2026-11-24T09:00:00.000000Z",
    "end_time": "2026-11-24T10:00:00.000000Z",
    "start_date": None,
    "end_date": None,
    "is_all_day": False,
    "status": "confirmed",
    "visibility": "default",
    "attendees": [{"email": "ana@guests.example", "name": "Ana", "response_status": "needs_action", "optional": False}],
    "meeting_url": "https://meet.google.com/abc-defg-hij",
}


def test_equal_events_do_not_differ() -> None:
    assert differences([SHOWN], [MEETING], SPAN, BERLIN) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Planing"},
        {"description": "x"},
        {"location": None},
        {"start_time": "2026-11-24T09:00:01.000000Z"},
        {"end_time": "2026-11-24T11:00:00.000000Z"},
        {"is_all_day": True},
        {"status": "tentative"},
        {"attendees": []},
        {"meeting_url": None},
        {"series_id": "s"},
    ],
)
def test_each_field_counts(wrong: dict[str, Any]) -> None:
    found = differences([SHOWN | wrong], [MEETING], SPAN, BERLIN)
    assert len(found) == 1
    assert next(iter(wrong)) in found[0]


def test_missing_and_superfluous_events_count() -> None:
    assert len(differences([], [MEETING], SPAN, BERLIN)) == 1
    assert len(differences([SHOWN], [], SPAN, BERLIN)) == 1


def test_what_lies_outside_the_span_does_not_count() -> None:
    before = {"start_time": "2026-11-19T23:00:00.000000Z", "end_time": "2026-11-20T00:00:00.000000Z"}
    assert differences([SHOWN | before], [], SPAN, BERLIN) == []


def test_all_day_events_begin_at_midnight_of_their_zone() -> None:
    day = MEETING | {"start": "2026-11-24", "end": "2026-11-25"}
    shown = SHOWN | {
        "is_all_day": True,
        "start_date": "2026-11-24",
        "end_date": "2026-11-25",
        "start_time": "2026-11-23T23:00:00.000000Z",
        "end_time": "2026-11-24T23:00:00.000000Z",
    }
    assert differences([shown], [day], SPAN, BERLIN) == []
    later = {"start_time": "2026-11-24T00:00:00.000000Z"}
    assert len(differences([shown | later], [day], SPAN, BERLIN)) == 1


def test_numbers_count_once_and_only_up_to_the_highest() -> None:
    assert covered(10, [(1, 4), (3, 5), (9, 40)]) == 7


@pytest.mark.parametrize("spans", [[(1, 3)], [(2, 5)], [(1, 2), (4, 5)], [(1, 3), (3, 5)], [(1, 6)]])
def test_spans_that_do_not_join_are_told(spans: list[tuple[int, int]]) -> None:
    assert breaks(5, spans)
    assert breaks(5, [(4, 5), (1, 3)]) == []


def test_only_a_perfect_verdict_holds() -> None:
    assert Verdict(3, 3, 0, 0, 0, ()).holds
    assert str(Verdict(3, 2, 1, 4, 5, ())) == "demo: 3 changes, 2 delivered, 1 lost, 4 stale, 5 bad signatures"
    for bad in (
        Verdict(0, 0, 0, 0, 0, ()),
        Verdict(3, 2, 0, 0, 0, ()),
        Verdict(3, 3, 1, 0, 0, ()),
        Verdict(3, 3, 0, 1, 0, ()),
        Verdict(3, 3, 0, 0, 1, ()),
        Verdict(3, 3, 0, 0, 0, ("a flaw",)),
    ):
        assert not bad.holds
