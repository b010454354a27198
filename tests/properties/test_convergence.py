"""The property: whatever happens in whatever order, everything converges and everybody was told. A short look.

`make properties` is the long one.
"""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.ground import Ground
from tests.properties.machine import Convergence

SHORT = settings(
    max_examples=6,
    stateful_step_count=14,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


@pytest.fixture
def _ground() -> Iterator[None]:
    Convergence.ground = Ground()
    yield
    Convergence.ground.close()


@pytest.mark.usefixtures("_ground")
@pytest.mark.timeout(900)
@pytest.mark.slow  # examples of many steps each
def test_everything_converges() -> None:
    run_state_machine_as_test(Convergence, settings=SHORT)
