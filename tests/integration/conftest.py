"""Fixtures of the tests of delivery."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.delivering import Receiver, receiving


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A webhook receiver on loopback."""
    async with receiving() as made:
        yield made
