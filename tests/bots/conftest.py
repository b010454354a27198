"""Fixtures of the tests of bots."""

from collections.abc import AsyncIterator

import pytest

from tests.bots.stage import Bots, staged
from tests.harness import Actor


@pytest.fixture
async def bots(actor: Actor) -> AsyncIterator[Bots]:
    """An application with an endpoint for every message, and the back ends at hand."""
    await actor.subscribe()
    async with staged(actor) as made:
        yield made
