"""The storm's verdict, shown false evidence: it must say so, and under the right word. (`make storm` runs alone.)"""

from collections import Counter
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from demo.application import Application, Message
from storm.edits import Entry, History
from storm.follower import Follower
from storm.provider import RemoteCalendar
from storm.storm import Result
from storm.verdict import Judgement, judge

SPAN = (datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 12, 19, tzinfo=UTC))
START = datetime(2026, 11, 24, 9, tzinfo=UTC)
CALENDAR = RemoteCalendar("ana@storm.example", "ana@storm.example", "google", ZoneInfo("Europe/Berlin"), {})
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
    "attendees": [],
    "conference_url": None,
}
SHOWN: dict[str, Any] = {
    "id": "ev_1",
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
    "attendees": [],
    "meeting_url": None,
    "is_deleted": False,
    "change_seq": 2,
}


def entry(number: int, change: str, *, id_: str = "ev_1", **fields: Any) -> dict[str, Any]:
    """One entry of a message; `fields` are what an update came to."""
    values = {name: {"from": None, "to": to} for name, to in fields.items()}
    return {"id": id_, "change": change, "change_seq": number, "kinds": [], "fields": values}


def message(*entries: dict[str, Any], is_valid: bool = True, is_truncated: bool = False) -> Message:
    """An acknowledged message with these entries."""
    numbers = [one["change_seq"] for one in entries]
    data = {"from_seq": min(numbers), "to_seq": max(numbers), "events": list(entries), "truncated": is_truncated}
    return Message(0.0, f"msg_{numbers[0]}", is_valid, True, "calendar.events_update", "cal_1", data)


CREATED = entry(1, "created")
RENAMED = entry(2, "updated", name="Planning")


def history(*, came: int = 1, went: int = 0, is_series: bool = False) -> History:
    """One event that had two titles, and was made and unmade so many times."""
    made = Entry("a1", CALENDAR, is_series, START, titles={"Draft", "Planning"}, starts={START})
    made.came, made.went = Counter({CALENDAR.id: came}), Counter({CALENDAR.id: went})
    return {"a1": made}


def judged(
    *messages: Message,
    listed: list[dict[str, Any]] | None = None,
    shown: list[dict[str, Any]] | None = None,
    known: History | None = None,
) -> Judgement:
    """The judgement of what was told, on one calendar with one meeting unless anything else is given."""
    return judge(
        CALENDAR,
        listed=[SHOWN] if listed is None else listed,
        shown=[MEETING] if shown is None else shown,
        span=SPAN,
        messages=messages,
        history=history() if known is None else known,
    )


def counts(found: Judgement) -> tuple[int, int, int]:
    """Lost, stale, invented."""
    return len(found.lost), len(found.stale), len(found.invented)


def test_what_is_right_holds_in_any_order() -> None:
    assert judged(message(RENAMED), message(CREATED)).holds
    assert judged(message(CREATED, RENAMED)).holds


def test_a_missing_event_is_lost() -> None:
    assert counts(judged(listed=[])) == (1, 0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Draft"},
        {"start_time": "2026-11-24T08:00:00.000000Z"},
        {"status": "tentative"},
        {"location": None},
    ],
)
def test_other_content_is_stale(wrong: dict[str, Any]) -> None:
    assert len(judged(message(CREATED, entry(2, "updated")), listed=[SHOWN | wrong]).stale) == 1


def test_another_link_is_stale() -> None:
    linked = MEETING | {"conference_url": "https://meet.google.com/abc-defg-hij"}
    assert counts(judged(message(CREATED, RENAMED), shown=[linked])) == (0, 1, 0)


def test_what_is_gone_and_still_shown_is_stale() -> None:
    assert counts(judged(message(CREATED, RENAMED), shown=[])) == (0, 1, 0)


def test_what_nobody_made_is_invented() -> None:
    found = judged(message(CREATED, RENAMED), shown=[], known={})
    assert not found.lost
    assert not found.stale
    assert any("is shown" in text for text in found.invented)
    assert any("never made" in text for text in found.invented)


def test_a_deletion_of_what_is_alive_is_invented() -> None:
    gone = SHOWN | {"is_deleted": True}
    found = judged(message(CREATED, entry(2, "deleted")), listed=[gone])
    assert counts(found) == (0, 0, 2)  # it is alive, and nobody deleted it
    assert counts(judged(message(CREATED, entry(2, "deleted")), listed=[gone], known=history(went=1))) == (0, 0, 1)


def test_more_appearances_than_edits_are_invented() -> None:
    told = message(CREATED, entry(2, "deleted"), entry(3, "created"))
    listed = [SHOWN | {"change_seq": 3}]
    assert counts(judged(told, listed=listed, known=history(came=2, went=1))) == (0, 0, 0)
    assert counts(judged(told, listed=listed, known=history(came=1, went=1))) == (0, 0, 1)
    assert counts(judged(told, listed=listed, known=history(came=2, went=0))) == (0, 0, 1)


def test_an_event_cannot_be_created_twice_nor_updated_before() -> None:
    assert len(judged(message(CREATED, entry(2, "created")), known=history(came=2)).invented) == 1
    assert len(judged(message(entry(1, "updated"), RENAMED)).invented) == 1


@pytest.mark.parametrize("wrong", [{"name": "Never"}, {"start_time": "2026-11-24T07:00:00.000000Z"}])
def test_values_that_there_never_were_are_invented(wrong: dict[str, Any]) -> None:
    then = entry(3, "updated", name="Planning", start_time="2026-11-24T09:00:00.000000Z")
    found = judged(message(CREATED, entry(2, "updated", **wrong), then), listed=[SHOWN | {"change_seq": 3}])
    assert counts(found) == (0, 0, 1)


def test_an_unknown_id_is_invented() -> None:
    assert counts(judged(message(CREATED, RENAMED, entry(2, "created", id_="ev_2")))) == (0, 0, 1)


def test_a_bad_signature_is_invented() -> None:
    assert counts(judged(message(CREATED, RENAMED, is_valid=False))) == (0, 0, 1)


def test_a_number_that_no_message_covers_is_lost() -> None:
    assert len(judged(message(RENAMED)).lost) == 1  # the first one
    assert len(judged(message(CREATED)).lost) == 2  # the last one: the number, and what it said
    assert len(judged().lost) == 2


def test_a_last_state_that_was_told_otherwise_is_lost() -> None:
    assert counts(judged(message(CREATED, entry(2, "updated", name="Draft")))) == (1, 0, 0)
    gone = SHOWN | {"is_deleted": True}
    assert judged(message(CREATED, RENAMED), listed=[gone], shown=[]).lost


async def test_a_reader_that_knows_an_older_version_missed_the_last() -> None:
    event = SHOWN | {"updated_at": "2026-11-21T09:00:00.000000Z"}
    pages = [{"next": "http://api/next", "results": [event]}, {"next": None, "results": []}]
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("updated_after"))
        return httpx.Response(200, json=pages[(len(asked) - 1) % 2])

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        follower = Follower(Application(client, api_url="http://api", sink_url="http://sink", key="k"))
        assert len(follower.missed([event])) == 1
        await follower.look()
        await follower.look()
    assert asked == ["1970-01-01T00:00:00+00:00", None, event["updated_at"], None]
    assert follower.missed([event]) == []
    assert len(follower.missed([event | {"change_seq": 3}])) == 1


def test_a_truncated_message_sends_its_reader_to_the_feed() -> None:
    assert judged(message(entry(1, "created", id_="ev_1"), entry(2, "updated", id_="ev_1"), is_truncated=True)).holds
    cut = message(entry(1, "created", id_="ev_0"), is_truncated=True)
    cut.data["to_seq"] = 2
    assert counts(judged(cut, listed=[SHOWN, SHOWN | {"id": "ev_0", "change_seq": 1}])) == (0, 0, 0)


def test_only_a_perfect_result_holds() -> None:
    perfect = Result(3000, 24, Judgement(), 2, True, 12.4)
    assert perfect.holds
    assert str(perfect) == ("storm: 3000 edits, 24 kills, lost 0, stale 0, invented 0, duplicates 2, recovered in 12 s")
    for bad in (
        Result(3000, 24, Judgement(lost=["x"]), 0, True, 1),
        Result(3000, 24, Judgement(stale=["x"]), 0, True, 1),
        Result(3000, 24, Judgement(invented=["x"]), 0, True, 1),
        Result(3000, 24, Judgement(), 0, False, 1),
    ):
        assert not bad.holds
