"""Fixtures of the tests of launchers."""

from collections.abc import AsyncIterator

import pytest

from sandbox.backends.book import Backend
from tests.launchers.stage import Stage, staged


@pytest.fixture
async def stage(kind: Backend) -> AsyncIterator[Stage]:
    """The back end that the test is parametrized with."""
    async with staged(kind) as built:
        yield built
