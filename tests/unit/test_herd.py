"""The herd on its virtual clock, small: quotas hold, everything drains, and the model can tell when they do not."""

import pytest

from app.providers.meter import Meter, Rate
from benchmarks.herd import APP_QUOTA, USER_QUOTA, Herd


@pytest.mark.parametrize("seed", [1, 2])
def test_an_outage_ends_without_a_stampede(seed: int) -> None:
    result = Herd(calendars=2_000, seed=seed).run()
    assert result.exceeded == 0
    assert result.app_peak <= APP_QUOTA
    assert result.user_peak <= USER_QUOTA
    assert result.drained < 1_000
    assert result.fresh_wait < 10
    assert max(result.push_wait, result.backstop_wait) < 1_000  # the longest backoff, and its queue


def test_the_model_counts_by_itself() -> None:
    """A meter that allows more than the provider does is found out."""
    herd = Herd(calendars=2_000, seed=1)
    herd.app_quota = 100
    assert herd.run().exceeded > 0


def test_a_meter_gives_no_more_than_its_rate_and_one_burst() -> None:
    now = 0.0
    meter = Meter(lambda: now)
    rates = (Rate.per_minute(60), Rate.per_minute(6_000))
    granted = 0
    while now < 60:
        granted += meter.acquire(("user", "app"), rates).outcome == 1
        now += 0.05
    assert 60 <= granted <= 60 + 7  # five seconds' worth at once, two that wait
