"""A customer who follows the list of all calendars by `updated_after`, whatever happens to the API meanwhile."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import httpx

from demo.application import Application
from demo.provider import Json

PAUSE_SECONDS = 1.0
_T = TypeVar("_T")


class Follower:
    """Asks for what is new since the greatest `updated_at` that it has seen, and never for anything older."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._mark = datetime.fromtimestamp(0, UTC).isoformat()
        self._seen: dict[str, int] = {}

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            await steadily(self.look)
            await asyncio.sleep(PAUSE_SECONDS)

    async def look(self) -> None:
        """Every page of what is new. The mark moves once the last one is read."""
        query = {"updated_after": self._mark, "ordering": "updated_at", "limit": 100, "exclude": "raw,bots"}
        mark = self._mark
        page = await self._application.call("GET", "/calendar_events", query=query)
        while True:
            for event in page["results"]:
                self._seen[event["id"]] = event["change_seq"]
                mark = event["updated_at"]
            if page["next"] is None:
                break
            page = await self._application.call("GET", page["next"])
        self._mark = mark

    def missed(self, listed: Sequence[Json]) -> list[str]:
        """Which of these events it does not know in their last version."""
        return [
            f"{event['platform_uuid']} {event['name']!r}: who follows updated_after knows"
            f" {self._seen.get(event['id'])}, it is at {event['change_seq']}"
            for event in listed
            if self._seen.get(event["id"]) != event["change_seq"]
        ]


async def steadily(call: Callable[[], Awaitable[_T]], *, seconds: float = 60) -> _T:
    """A read that is tried again while the API is away or answers 5xx. Raises HTTPError after so long."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await call()
        except httpx.HTTPStatusError as exc:
            if not exc.response.is_server_error or time.monotonic() > deadline:
                raise
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.2)
