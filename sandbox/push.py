"""Push channels and the sender of notifications, as Google's guide "push" describes them.

A change sends one notification to each live channel of its calendar: headers only, no body. 500, 502, 503, 504 and
broken connections are tried again with backoff; every other answer is final. Notifications can be held back (and
released in another order), doubled, or dropped, because real ones are.
"""

import asyncio
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Literal

import httpx

from sandbox.clock import Clock
from sandbox.model import Change

Mode = Literal["deliver", "hold", "drop"]
RETRIED = {500, 502, 503, 504}
RETRIES = 6
RETRY_SECONDS = 0.2
DEFAULT_LIFE = timedelta(seconds=604_799)


@dataclass(slots=True)
class Channel:
    """A registration for one calendar by one user's client."""

    id: str
    calendar_id: str
    email: str
    client_id: str
    address: str
    token: str | None
    resource_id: str
    resource_uri: str
    expires_at: datetime
    stopped: bool = False
    message_number: int = 1

    def is_live(self, now: datetime) -> bool:
        """Neither stopped nor expired; expiry is silent."""
        return not self.stopped and self.expires_at > now


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one channel."""

    channel: Channel
    state: Literal["sync", "exists", "not_exists"]
    number: int

    def headers(self) -> dict[str, str]:
        """The X-Goog-* headers."""
        headers = {
            "X-Goog-Channel-ID": self.channel.id,
            "X-Goog-Channel-Expiration": format_datetime(self.channel.expires_at, usegmt=True),
            "X-Goog-Resource-ID": self.channel.resource_id,
            "X-Goog-Resource-URI": self.channel.resource_uri,
            "X-Goog-Resource-State": self.state,
            "X-Goog-Message-Number": str(self.number),
            "Content-Type": "application/json; utf-8",
            "Content-Length": "0",
            "User-Agent": "APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)",
        }
        if self.channel.token is not None:
            headers["X-Goog-Channel-Token"] = self.channel.token
        return headers


class Push:
    """Channels, and the queue of notifications to them."""

    def __init__(self, clock: Clock, client: httpx.AsyncClient | None) -> None:
        self._clock = clock
        self._client = client
        self.channels: dict[str, Channel] = {}
        self.mode: Mode = "deliver"
        self.copies = 1
        self.held: list[Notification] = []
        self.sent: list[tuple[Notification, int]] = []
        """What was delivered, with the final status (0: nobody answered)."""
        self._tasks: set[asyncio.Task[None]] = set()

    def changed(self, change: Change) -> None:
        """Notify every live channel of the change's calendar."""
        for channel in list(self.channels.values()):
            if channel.calendar_id == change.calendar_id and channel.is_live(self._clock.now()):
                channel.message_number += random.randint(1, 5_000)
                self.send(Notification(channel, "exists", channel.message_number))

    def send(self, notification: Notification) -> None:
        """Deliver, hold or drop, by the mode that is on."""
        if self.mode == "drop" or self._client is None:
            return
        if self.mode == "hold":
            self.held.append(notification)
            return
        for _ in range(self.copies):
            _ = self.deliver(notification)

    def deliver(self, notification: Notification) -> asyncio.Task[None]:
        """Send now, in the background."""
        task = asyncio.create_task(self._deliver(notification))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def release(self, *, reverse: bool = False) -> int:
        """Deliver what was held back, perhaps in the wrong order; how many. New ones are delivered again."""
        held, self.held, self.mode = self.held, [], "deliver"
        for notification in reversed(held) if reverse else held:
            _ = self.deliver(notification)
        return len(held)

    async def idle(self) -> None:
        """Until nothing is queued or on its way."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        """Give up what is on its way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, notification: Notification) -> None:
        status = 0
        for attempt in range(RETRIES):
            status = await self._post(notification)
            if status and status not in RETRIED:
                break
            await asyncio.sleep(RETRY_SECONDS * 2**attempt)
        self.sent.append((notification, status))

    async def _post(self, notification: Notification) -> int:
        if self._client is None:
            return 0
        try:
            answer = await self._client.post(notification.channel.address, headers=notification.headers(), timeout=10)
        except httpx.TransportError:
            return 0
        return answer.status_code
