"""What an answer means for the delivery."""

from datetime import UTC, datetime
from time import monotonic

import pytest

from app.egress import EgressAnswer
from app.ids import new_id
from app.webhooks.attempts import JITTER, decide
from app.webhooks.claims import Claim
from app.webhooks.settle import Outcome

WAITS = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)


def claim(attempt: int) -> Claim:
    return Claim(
        delivery_id=new_id(),
        project_id=new_id(),
        fence=1,
        attempt=attempt,
        is_first=attempt == 1,
        trigger="webhook.test",
        created_at=datetime.now(UTC),
        message_id=new_id(),
        payload=b"{}",
        calendar_id=None,
        lane=None,
        seq=None,
        is_digest=False,
        endpoint_id=new_id(),
        endpoint_state="enabled",
        url="https://receiver.example/",
        secrets=(),
        headers_sealed=None,
        retry_seconds=None,
        is_well=True,
        lease_ends=monotonic() + 25,
        seen_at=monotonic(),
    )


def outcome(
    attempt: int, *, status: int | None = None, error: str | None = None, after: float | None = None
) -> Outcome:
    answer = EgressAnswer(status, error, after, "", {}, None)
    return decide(claim(attempt), answer, waits=WAITS, started=monotonic())


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_only_2xx_succeeds(status: int) -> None:
    assert (outcome(1, status=status).state, outcome(1, status=status).error) == ("succeeded", None)


@pytest.mark.parametrize(
    ("status", "error"),
    [(301, "redirect"), (307, "redirect"), (400, "refused"), (404, "refused"), (429, "refused"), (500, "refused")],
)
def test_other_statuses_are_tried_again(status: int, error: str) -> None:
    result = outcome(1, status=status)
    assert (result.state, result.error) == ("pending", error)


def test_gone_ends_it() -> None:
    assert (outcome(1, status=410).state, outcome(1, status=410).error) == ("failed", "gone")


@pytest.mark.parametrize("attempt", range(1, 10))
def test_waits_follow_the_schedule_and_are_never_shorter(attempt: int) -> None:
    waits = [outcome(attempt, error="timeout").wait_seconds for _ in range(200)]
    assert min(waits) >= WAITS[attempt - 1]
    assert max(waits) <= WAITS[attempt - 1] * (1 + JITTER)
    assert max(waits) > min(waits)


def test_tenth_failure_is_the_last() -> None:
    assert outcome(9, status=500).state == "pending"
    assert outcome(10, status=500).state == "failed"
    assert outcome(11, status=500).state == "failed"


def test_the_whole_schedule_is_that_of_the_specification() -> None:
    assert sum(WAITS) == (75 * 60 + 35) * 60 + 5


@pytest.mark.parametrize(
    ("after", "least", "most"), [(1.0, 5.0, 5.5), (600.0, 600.0, 600.0), (1e9, 86_400.0, 86_400.0)]
)
def test_retry_after_is_a_lower_bound_up_to_a_day(after: float, least: float, most: float) -> None:
    assert least <= outcome(1, status=503, after=after).wait_seconds <= most
