"""What answers do to an endpoint's standing."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.webhooks.standing import (
    BREAKER_FAILURES,
    PAUSE_MAX_SECONDS,
    PAUSE_SECONDS,
    RETRY_AFTER_MAX_SECONDS,
    Result,
    Standing,
    judged,
)

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
WELL = Standing("enabled")


def failed(hours_ago: float = 0, count: int = 1) -> list[Result]:
    return [Result(NOW - timedelta(hours=hours_ago), "failed")] * count


def pause(standing: Standing) -> float:
    return 0.0 if standing.paused_until is None else (standing.paused_until - NOW).total_seconds()


def test_a_success_makes_well_whatever_was() -> None:
    worst = Standing("failing", None, 100, NOW - timedelta(days=4), NOW, 9)
    assert judged(worst, [Result(NOW, "succeeded")], now=NOW) == WELL


def test_what_follows_the_last_success_counts() -> None:
    standing = judged(WELL, [*failed(30, 9), Result(NOW, "succeeded"), *failed(1, 2)], now=NOW)
    assert (standing.failure_count, standing.failing_since) == (2, NOW - timedelta(hours=1))


@pytest.mark.parametrize(
    ("hours", "count", "state"),
    [
        (23.9, 100, "enabled"),
        (24, 4, "enabled"),
        (24, 5, "failing"),
        (119.9, 100, "failing"),
        (120, 19, "failing"),
        (120, 20, "disabled"),
    ],
)
def test_failing_after_a_day_and_disabled_after_five(hours: float, count: int, state: str) -> None:
    standing = judged(WELL, failed(hours, count), now=NOW)
    assert standing.state == state
    assert standing.disabled_reason == ("failed_for_days" if state == "disabled" else None)


def test_gone_disables_at_once_and_nothing_undoes_it() -> None:
    standing = judged(WELL, [Result(NOW, "gone"), Result(NOW, "succeeded")], now=NOW)
    assert (standing.state, standing.disabled_reason) == ("disabled", "gone")


def test_the_breaker_opens_and_its_pauses_double() -> None:
    standing = judged(WELL, failed(count=BREAKER_FAILURES - 1), now=NOW)
    assert not standing.is_probed
    assert standing.paused_until is None
    waits = []
    for _ in range(12):
        standing = judged(standing, failed(), now=NOW)
        waits.append(pause(standing))
        standing = judged(standing, failed(), now=NOW)  # one that was under way: the pause stays as it is
        assert pause(standing) == waits[-1]
        standing = Standing(
            standing.state, None, standing.failure_count, standing.failing_since, NOW, standing.pause_count
        )
    assert standing.is_probed
    assert waits == [min(PAUSE_SECONDS * 2**n, PAUSE_MAX_SECONDS) for n in range(12)]


def test_a_throttling_answer_pauses_at_once_and_for_as_long_as_it_asks() -> None:
    assert pause(judged(WELL, [Result(NOW, "throttled")], now=NOW)) == PAUSE_SECONDS
    assert pause(judged(WELL, [Result(NOW, "throttled", 60)], now=NOW)) == 60
    assert pause(judged(WELL, [Result(NOW, "throttled", 1e9)], now=NOW)) == RETRY_AFTER_MAX_SECONDS
    twice = judged(WELL, [Result(NOW, "throttled", 60), Result(NOW, "throttled", 90)], now=NOW)
    assert (pause(twice), twice.pause_count) == (90, 1)
    assert pause(judged(WELL, [Result(NOW, "failed", 60)], now=NOW)) == 0


@given(
    st.lists(
        st.builds(
            Result,
            st.floats(0, 200).map(lambda hours: NOW - timedelta(hours=hours)),
            st.sampled_from(["succeeded", "failed", "throttled"]),
            st.floats(0, 1e6),
        )
    )
)
def test_a_result_more_never_forgives_but_for_a_success(results: list[Result]) -> None:
    rank = ["enabled", "failing", "disabled"]
    standing = WELL
    for result in results:
        after = judged(standing, [result], now=NOW)
        assert pause(after) <= RETRY_AFTER_MAX_SECONDS
        if result.kind == "succeeded" and standing.state != "disabled":
            assert after == WELL
        else:
            assert rank.index(after.state) >= rank.index(standing.state)
            assert pause(after) >= pause(standing)
        standing = after
    assert standing == judged(WELL, results, now=NOW)
