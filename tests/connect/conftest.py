"""Fixtures of hosted connect: an application with an OAuth app and a return address, and a browser."""

from collections.abc import AsyncIterator

import pytest

from sandbox import Sandbox
from tests.connect.visiting import BACK, Application, Visitor, browser, new_app
from tests.harness import Actor


@pytest.fixture
async def application(actor: Actor) -> Application:
    """May send its users to hosted connect."""
    await actor.call("PATCH", "/project", json={"return_urls": [BACK]})
    return Application(actor, await new_app(actor))


@pytest.fixture
async def visitor(actor: Actor, sandbox: Sandbox) -> AsyncIterator[Visitor]:
    """A user's browser."""
    async with browser(actor.rt, sandbox) as made:
        yield made
