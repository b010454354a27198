"""Whose turn it is: nothing claimed is forgotten, no slot is lost, and slow endpoints hold no more than their share."""

from collections import deque
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.ids import new_id
from app.webhooks.claims import Claim
from app.webhooks.lanes import FIRST_SLOTS, Turn, Turns


def claim(project: int, endpoint: int, *, is_urgent: bool = False) -> Claim:
    return Claim(
        delivery_id=new_id(),
        project_id=UUID(int=project),
        fence=1,
        attempt=1,
        is_first=True,
        trigger="webhook.test",
        created_at=datetime.now(UTC),
        message_id=new_id(),
        payload=b"",
        calendar_id=None,
        lane=None,
        seq=None,
        is_digest=False,
        endpoint_id=UUID(int=1_000 * project + endpoint),
        endpoint_state="enabled",
        url="https://receiver.example/",
        secrets=(),
        headers_sealed=None,
        retry_seconds=None,
        is_well=True,
        lease_ends=0.0,
        seen_at=0.0,
        is_urgent=is_urgent,
    )


def filled(turns: Turns, *counts: tuple[int, int, int]) -> None:
    for project, endpoint, count in counts:
        for _ in range(count):
            turns.queue(turns.take_in(claim(project, endpoint)))


def drawn(turns: Turns) -> list[Turn]:
    taken = []
    while (turn := turns.next()) is not None:
        taken.append(turn)
    return taken


def test_projects_take_turns() -> None:
    turns = Turns(most_active=20, most_held=200, most_of_endpoint=10)
    filled(turns, (1, 1, 4), (1, 2, 4), (2, 1, 4))
    order = [turn.claim.project_id.int for turn in drawn(turns)]
    assert order[:6] == [1, 2, 1, 2, 1, 2]


def test_an_endpoint_begins_small_grows_with_answers_and_falls_to_one() -> None:
    turns = Turns(most_active=100, most_held=800, most_of_endpoint=20)
    filled(turns, (1, 1, 60))
    first = drawn(turns)
    assert len(first) == FIRST_SLOTS
    lane = first[0].lane
    for turn in first:
        turns.answered(turn.lane, 0.01, in_time=True)
        turns.done(turn)
    assert len(drawn(turns)) == lane.slots == 20
    turns.answered(lane, 15.0, in_time=False)
    assert (lane.slots, lane.is_quick) == (1, False)


def test_a_launch_has_the_next_turn_of_its_endpoint_and_its_project() -> None:
    turns = Turns(most_active=100, most_held=200, most_of_endpoint=10)
    filled(turns, (1, 1, 20), (1, 2, 20), (2, 1, 20))
    launch = claim(1, 2, is_urgent=True)
    turns.queue(turns.take_in(launch))
    assert next(turn.claim for turn in drawn(turns) if turn.claim.project_id == launch.project_id) == launch


def test_launches_have_all_slots_that_an_endpoint_may_have() -> None:
    turns = Turns(most_active=100, most_held=200, most_of_endpoint=10)
    filled(turns, (1, 1, 20))
    first = drawn(turns)
    assert len(first) == FIRST_SLOTS
    lane = first[0].lane
    endpoint = first[0].claim.endpoint_id
    assert (turns.rooms()[endpoint], turns.urgent_rooms()[endpoint]) == (0, 10)
    for _ in range(12):
        turns.queue(turns.take_in(claim(1, 1, is_urgent=True)))
    assert sum(turn.claim.is_urgent for turn in drawn(turns)) == lane.active - FIRST_SLOTS == 10 - FIRST_SLOTS
    for turn in first:
        turns.done(turn)
    assert [turn.claim.is_urgent for turn in drawn(turns)] == [True] * FIRST_SLOTS
    assert (lane.active, len(lane.urgent), len(lane.waiting)) == (10, 2, 20 - FIRST_SLOTS)


def test_slow_endpoints_of_a_project_hold_half_and_quick_ones_go_on() -> None:
    turns = Turns(most_active=20, most_held=800, most_of_endpoint=10)
    filled(turns, *((1, endpoint, 3) for endpoint in range(40)))
    slow = drawn(turns)
    assert len(slow) == 10
    filled(turns, (1, 99, 10))
    quick = turns.take_in(claim(1, 99))
    for _ in range(5):
        turns.answered(quick, 0.001, in_time=True)
    turns.queue(quick)
    assert {turn.lane for turn in drawn(turns)} == {quick}


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.booleans()), max_size=60),
    st.lists(st.tuples(st.booleans(), st.floats(0, 20)), min_size=1, max_size=200),
)
def test_nothing_is_forgotten(claims: list[tuple[int, int, bool]], steps: list[tuple[bool, float]]) -> None:
    turns = Turns(most_active=6, most_held=12, most_of_endpoint=4)
    for project, endpoint, is_urgent in claims:
        turns.queue(turns.take_in(claim(project, endpoint, is_urgent=is_urgent)))
    under_way: deque[Turn] = deque()
    sent: list[UUID] = []
    for is_start, seconds in [*steps, *[(False, 0.1)] * 200]:
        if is_start or not under_way:
            turn = turns.next()
            if turn is not None:
                under_way.append(turn)
                slow = sum(each.is_slow for each in under_way if each.claim.project_id == turn.claim.project_id)
                assert slow <= 3
        elif under_way:
            turn = under_way.popleft()
            turns.answered(turn.lane, seconds, in_time=seconds < 15)
            turns.done(turn)
            turns.let_go(turn.claim.project_id)
            sent.append(turn.claim.delivery_id)
    assert len(sent) == len(set(sent)) == len(claims)
    assert all(lane.held == 0 for lane in turns.lanes)
    assert all(left == turns.share for left in turns.shares().values())
