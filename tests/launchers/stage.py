"""What launchers are tried with: each back end's stand-in on a socket, and orders for it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, get_args

import pytest

from app.bots.launchers import make_launcher
from app.bots.launchers.base import Kind, Launcher, Order
from app.egress import Egress
from app.settings import Settings
from sandbox import Sandbox
from sandbox.backends.book import Backend, Bot
from tests.harness import listen

BACKENDS: tuple[Backend, ...] = get_args(Backend)
EACH = pytest.mark.parametrize("kind", BACKENDS)
"""Marks what has to hold at every back end."""

KEY = "sk_live_canary_7b1e"
"""A key that may appear nowhere but in its header."""
MEETING = "https://meet.google.com/abc-defg-hij?pwd=geheim"
IMAGES: Mapping[str, str] = {
    "attendee": "iVBORw0KGgoAAAANSUhEUg==",
    "recall": "/9j/4AAQSkZJRg==",
    "meeting_baas": "https://example.com/bot.png",
}


@dataclass
class Stage:
    """One back end's stand-in, and a launcher before it."""

    kind: Backend
    box: Sandbox
    url: str
    egress: Egress
    launcher: Launcher

    @property
    def now(self) -> datetime:
        """The one clock of the sandbox and of the calls."""
        return self.box.world.clock.now()

    def order(self, *, seconds: float = 1_800, **values: Any) -> Order:
        """A bot that joins so many seconds from now."""
        known: dict[str, Any] = {
            "bot_id": "bot_01J00000000000000000000000",
            "revision": 1,
            "meeting_url": MEETING,
            "platform": "google_meet",
            "join_at": self.now + timedelta(seconds=seconds),
            "bot_name": "Protokoll",
        }
        return Order(**(known | values))

    def with_key(self, key: str) -> Launcher:
        """A launcher with another key."""
        return make_launcher(self.kind, egress=self.egress, base_url=self.url, api_key=key)

    def pass_time(self, seconds: float) -> None:
        """Let the stand-in's clock go on."""
        self.box.world.clock.advance(timedelta(seconds=seconds))

    def fail(self, kind: str, operation: str, **params: Any) -> None:
        """Switch a fault of this back end on, once."""
        self.box.faults.add(kind, f"{self.kind}.{operation}", **params)

    def count(self, operation: str) -> int:
        """How often this was asked."""
        return self.box.requests.count(f"{self.kind}.{operation}")

    @property
    def bots(self) -> list[Bot]:
        """All bots the back end ever made, with what is due settled."""
        self.box.bots.settle()
        return list(self.box.bots.bots.values())

    def phases(self) -> list[str]:
        """Where each of them is."""
        return [self.box.bots.phase(bot) for bot in self.bots]


def settings(**values: Any) -> Settings:
    """Settings that let loopback be reached over plain HTTP."""
    base: dict[str, Any] = {
        "database_url": "postgresql://nobody/none",
        "redis_url": "redis://127.0.0.1:1/0",
        "egress_allow": "127.0.0.0/8",
        "webhook_allow_http": True,
    }
    return Settings.model_validate(base | values)


@asynccontextmanager
async def staged(kind: Kind) -> AsyncIterator[Stage]:
    """A fresh sandbox on a socket; the canary is its only good key."""
    assert kind != "webhook"
    box, egress = Sandbox.create(on_socket=True), Egress(settings())
    box.bots.keys[kind] = {KEY}
    try:
        async with listen(box.app) as url:
            yield Stage(kind, box, url, egress, make_launcher(kind, egress=egress, base_url=url, api_key=KEY))
            await egress.close()
    finally:
        await egress.close()
        await box.close()
