"""The property: whatever happens in whatever order, a meeting that wants a bot gets it, once, in time. A short look.

`make properties` is the long one.
"""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.bots.machine import Bots
from tests.properties.ground import Ground
from tests.properties.test_convergence import SHORT


@pytest.fixture
def _ground() -> Iterator[None]:
    Bots.ground = Ground()
    yield
    Bots.ground.close()


@pytest.mark.usefixtures("_ground")
@pytest.mark.timeout(900)
@pytest.mark.slow  # examples of many steps each
def test_every_meeting_gets_its_bot_once() -> None:
    run_state_machine_as_test(Bots, settings=settings(SHORT, max_examples=3, stateful_step_count=7))
