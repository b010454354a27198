"""Which of what is due is sent, put off or merged."""

from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ids import new_id
from app.webhooks.due import BLOCKED_SECONDS, BURST_SECONDS, LATER_SHARE, PARKED_SECONDS, Choice, Due, Pace, choose

CALENDAR = UUID(int=7)


def due(endpoint: int = 1, pace: Pace | None = None, **over: object) -> Due:
    values: dict[str, object] = {
        "id": new_id(),
        "fence": 0,
        "project_id": UUID(int=1),
        "endpoint_id": UUID(int=endpoint),
        "calendar_id": CALENDAR,
        "trigger": "calendar.events_update",
        "is_first": True,
        "is_digest": False,
        "endpoint_state": "enabled",
        "paused": 0.0,
        "interval": pace.interval if pace else None,
        "is_probed": pace.is_probe if pace else False,
        "ahead": pace.ahead if pace else 0.0,
        "blocked": None,
    }
    return Due(**values | over)  # type: ignore[arg-type]  # as many kinds as fields


def chosen(rows: list[Due], *, batch: int = 100, room: int = 100, share: int = 400) -> Choice:
    return choose(rows, batch=batch, room=room, rooms={}, share=share, shares={})


def test_first_attempts_go_first_and_leave_a_place_for_others() -> None:
    rows = [due(is_first=True) for _ in range(30)] + [due(is_first=False) for _ in range(30)]
    taken = chosen(rows, batch=16).take
    assert Counter(row.is_first for row in taken) == {True: 16 - 16 // LATER_SHARE - 1, False: 16 // LATER_SHARE + 1}
    assert len(chosen(rows[:30], batch=16).take) == 16
    assert len(chosen(rows[30:], batch=16).take) == 16


def test_a_launch_goes_before_all_else_and_leaves_half_of_a_batch() -> None:
    launches = [due(endpoint, is_first=False, is_urgent=True, trigger="bot.launch") for endpoint in range(30)]
    rows = [*launches, *(due(endpoint=99) for _ in range(30)), *(due(endpoint=99, is_first=False) for _ in range(30))]
    taken = chosen(rows, batch=16).take
    kinds = Counter((row.is_urgent, row.is_first) for row in taken)
    assert (kinds[True, False], sum(kinds.values())) == (9, 16)
    assert min(kinds[False, True], kinds[False, False]) > 0
    assert taken[:9] == launches[:9]
    assert chosen(launches, batch=16).take == launches[:16]


@pytest.mark.parametrize(
    "trouble",
    [
        {"paused": 30.0},
        {"blocked": 30.0},
        {"pace": Pace(25.0, 10.0, is_probe=True)},
        {"pace": Pace(1.0, 100.0)},
        {"endpoint_state": "failing"},
        {"endpoint_state": "disabled"},  # ends without an exchange
    ],
)
def test_nothing_puts_off_a_launch(trouble: dict[str, Any]) -> None:
    launch = due(is_urgent=True, is_first=False, trigger="bot.launch", **trouble)
    choice = chosen([launch])
    assert (choice.take, choice.put_off) == ([launch], [])


def test_a_launch_has_a_room_of_its_own() -> None:
    rows = [due(is_urgent=True, is_first=False, trigger="bot.launch") for _ in range(5)] + [due() for _ in range(5)]
    one = UUID(int=1)
    choice = choose(rows, batch=100, room=100, rooms={one: 0}, share=400, shares={}, urgent_rooms={one: 3})
    assert choice.take == rows[:3]


def test_what_a_failing_endpoint_is_owed_is_merged_and_the_rest_is_sent() -> None:
    for state in ("failing", "disabled"):
        plain = due(endpoint_state=state)
        growing = due(endpoint_state=state, is_digest=True)
        digest = due(endpoint_state=state, is_digest=True, calendar_id=UUID(int=8))
        other = due(endpoint_state=state, trigger="calendar.state_change")
        choice = chosen([growing, plain, digest, other])
        assert choice.merge == {(UUID(int=1), CALENDAR)}
        if state == "failing":
            assert choice.take == [digest, other]
        else:
            assert choice.take == [other]  # ends without an exchange
            assert choice.put_off == [(growing, PARKED_SECONDS), (digest, PARKED_SECONDS)]


def test_a_pause_puts_off_all_but_a_test() -> None:
    row, test = due(paused=30.0), due(paused=30.0, trigger="webhook.test")
    choice = chosen([row, test])
    assert (choice.take, choice.put_off) == ([test], [(row, 30.0)])


def test_who_waits_in_a_lane_is_put_off_until_its_head_is_due() -> None:
    long, soon = due(blocked=900.0), due(blocked=-0.1)
    choice = chosen([long, soon])
    assert choice.put_off == [(long, 900.0), (soon, BLOCKED_SECONDS)]  # its end makes the next one due
    assert choice.take == []


def test_a_half_open_breaker_lets_one_through() -> None:
    rows = [due(pace=Pace(25.0, 0.0, is_probe=True)) for _ in range(3)]
    choice = chosen(rows)
    assert choice.take == rows[:1]
    assert [wait for _, wait in choice.put_off] == [25.0, 25.0]
    assert [wait for _, wait in chosen([due(pace=Pace(25.0, 10.0, is_probe=True))]).put_off] == [10.0]


def test_an_endpoint_with_many_first_attempts_has_room_for_a_retry() -> None:
    rows = [due(is_first=True) for _ in range(30)] + [due(is_first=False) for _ in range(30)]
    assert [row.is_first for row in chosen(rows, room=4).take] == [True, True, True, False]


@given(rate=st.integers(1, 1_000), count=st.integers(1, 400), ahead=st.floats(0, 10))
def test_a_rate_limit_spreads_what_is_more(rate: int, count: int, ahead: float) -> None:
    pace = Pace(1 / rate, ahead)
    choice = chosen([due(pace=pace) for _ in range(count)], batch=400, room=400)
    burst = max(1.0, BURST_SECONDS * rate)
    assert len(choice.take) == pace.room(count) <= burst
    assert len(choice.take) + len(choice.put_off) == count
    waits = [wait for _, wait in choice.put_off]
    assert waits == sorted(waits)
    for seconds in (0.5, 1.0, 2.0):
        assert len(choice.take) + sum(wait <= seconds for wait in waits) <= rate * seconds + burst + 1e-6


@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=60),
    st.integers(1, 20),
    st.integers(0, 10),
    st.integers(0, 30),
)
def test_room_share_and_batch_hold(rows: list[tuple[int, bool]], batch: int, room: int, share: int) -> None:
    listed = sorted((due(endpoint, is_first=is_first) for endpoint, is_first in rows), key=lambda row: not row.is_first)
    taken = chosen(listed, batch=batch, room=room, share=share).take
    assert len(taken) <= min(batch, share)
    assert all(count <= room for count in Counter(row.endpoint_id for row in taken).values())
    assert len({row.id for row in taken}) == len(taken)
