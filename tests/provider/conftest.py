"""Fixtures of the tests that script a provider's answers."""

from collections.abc import AsyncIterator

import pytest

from tests.provider.harness import Google, scripted_google


@pytest.fixture
async def google() -> AsyncIterator[Google]:
    """The Google provider and its scripted counterpart."""
    async with scripted_google() as scripted:
        yield scripted
