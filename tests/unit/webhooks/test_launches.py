"""When a `bot.launch` is sent again."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.webhooks.launches import EVERY_SECONDS, NEAR_SECONDS, Launch, wait

STEPS = [2, 5, 10, 20, 50, 80, 110, 140]


def step_after(elapsed: float, *, retry_after: float = 0.0) -> float:
    """The next step, in seconds from the first attempt."""
    launch = Launch(UUID(int=1), ends_at=10_000.0, first_at=1_000.0)
    return elapsed + wait(launch, started=0.0, now=1_000.0 + elapsed, retry_after=retry_after)


def test_the_steps() -> None:
    at, steps = 0.0, []
    for _ in STEPS:
        at = step_after(at + 0.01)
        steps.append(at)
    assert steps == pytest.approx(STEPS)


def test_the_first_attempt_begins_the_schedule() -> None:
    launch = Launch(UUID(int=1), ends_at=10_000.0, first_at=None)
    assert wait(launch, started=50.0, now=51.5) == pytest.approx(0.5)


@pytest.mark.parametrize(("elapsed", "step"), [(1.7, 2), (1.9, 5), (15, 20), (19.9, 50), (20.1, 50), (49.9, 80)])
def test_what_an_attempt_takes_moves_no_step(elapsed: float, step: float) -> None:
    assert step_after(elapsed) == pytest.approx(step)


@pytest.mark.parametrize(
    ("elapsed", "retry_after", "step"), [(0.1, 4, 5), (0.1, 5, 10), (0.1, 3_600, 20), (20.1, 3_600, 50), (50.1, 10, 80)]
)
def test_retry_after_leaves_out_steps_but_waits_no_longer_than_between_two(
    elapsed: float, retry_after: float, step: float
) -> None:
    assert step_after(elapsed, retry_after=retry_after) == pytest.approx(step)


@given(st.floats(0, 20_000), st.floats(0, 100_000))
def test_no_wait_is_longer_than_between_two_steps(elapsed: float, retry_after: float) -> None:
    waited = step_after(elapsed, retry_after=retry_after) - elapsed
    assert NEAR_SECONDS * 0.99 <= waited <= EVERY_SECONDS + NEAR_SECONDS + 1e-6
