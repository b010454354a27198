"""Who is to be told of changes, and the sender of notifications: in the background, with retries.

Notifications can be held back (and released in another order), doubled, dropped, or lost now and then, because real
ones are. What one looks like, and which answers end its attempts, is the business of the façade that makes it.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import httpx

Mode = Literal["deliver", "hold", "drop"]
RETRIES = 6
RETRY_SECONDS = 0.2


@dataclass(slots=True)
class Channel:
    """A registration at Google for one calendar by one user's client."""

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


@dataclass(slots=True)
class Subscription:
    """A registration at Graph for one calendar by one user's application. `immutable`: made preferring such ids."""

    id: str
    calendar_id: str
    email: str
    client_id: str
    resource: str
    change_type: str
    notification_url: str
    lifecycle_url: str | None
    client_state: str | None
    expires_at: datetime
    immutable: bool
    tls: str = "v1_2"
    removed: bool = False

    def is_live(self, now: datetime) -> bool:
        """Neither removed nor expired; expiry is silent."""
        return not self.removed and self.expires_at > now

    def wants(self, change_type: str) -> bool:
        """Whether it is for this kind of change."""
        return change_type in {name.strip().lower() for name in self.change_type.split(",")}


@dataclass(frozen=True, slots=True)
class Post:
    """One POST to a receiver: an absolute URL, headers, a body, and how many seconds its answer may take."""

    url: str
    headers: Mapping[str, str]
    content: bytes = b""
    seconds: float = 10


class Message(Protocol):
    """A notification that can be sent."""

    def post(self, attempt: int) -> Post:
        """What goes over the wire, the first time (0) or a later one."""

    def is_final(self, status: int) -> bool:
        """Whether this answer ends the attempts; 0 is a broken connection."""

    def answered(self, status: int, seconds: float) -> None:
        """Called after each attempt, with how long it took."""


class Push:
    """Who is to be told, and the queue of notifications."""

    def __init__(self, client: httpx.AsyncClient | None) -> None:
        self._client = client
        self.channels: dict[str, Channel] = {}
        """Google's registrations, by id."""
        self.subscriptions: dict[str, Subscription] = {}
        """Graph's, by id."""
        self.mode: Mode = "deliver"
        self.copies = 1
        self.lost = 0
        """How many got lost by chance."""
        self._loss, self._chance = 0.0, random.Random(0)
        self.held: list[Message] = []
        self.sent: list[tuple[Message, int]] = []
        """What was delivered, with the final status (0: nobody answered)."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_connected(self) -> bool:
        """Whether there is a way out; without one, notifications go nowhere."""
        return self._client is not None

    @property
    def loss(self) -> float:
        """The part of all notifications that gets lost."""
        return self._loss

    def lose(self, part: float, *, seed: int = 0) -> None:
        """Lose this part of all notifications from now on, the same ones for the same seed. ValueError."""
        if not 0 <= part <= 1:
            raise ValueError(f"not between 0 and 1: {part}")
        self._loss, self._chance = part, random.Random(seed)

    def send(self, message: Message) -> None:
        """Deliver, hold or drop, by the mode that is on; or lose it, by chance."""
        if self.mode == "drop" or self._client is None:
            return
        if self._loss and self._chance.random() < self._loss:
            self.lost += 1
            return
        if self.mode == "hold":
            self.held.append(message)
            return
        for _ in range(self.copies):
            _ = self.deliver(message)

    def deliver(self, message: Message) -> asyncio.Task[None]:
        """Send now, in the background."""
        return self._start(self._deliver(message))

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Do something of the façade's own after that long; `idle` waits for it."""

        async def wait() -> None:
            await asyncio.sleep(seconds)
            work()

        _ = self._start(wait())

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def release(self, *, reverse: bool = False) -> int:
        """Deliver what was held back, perhaps in the wrong order; how many. New ones are delivered again."""
        held, self.held, self.mode = self.held, [], "deliver"
        for message in reversed(held) if reverse else held:
            _ = self.deliver(message)
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

    async def post(self, post: Post) -> httpx.Response | None:
        """One attempt; None when nobody answers in time."""
        if self._client is None:
            return None
        try:
            async with asyncio.timeout(post.seconds):
                return await self._client.post(
                    post.url, headers=dict(post.headers), content=post.content, timeout=post.seconds
                )
        except (httpx.TransportError, TimeoutError):
            return None

    async def _deliver(self, message: Message) -> None:
        status = 0
        for attempt in range(RETRIES):
            started = time.monotonic()
            answer = await self.post(message.post(attempt))
            status = answer.status_code if answer is not None else 0
            message.answered(status, time.monotonic() - started)
            if message.is_final(status):
                break
            await asyncio.sleep(RETRY_SECONDS * 2**attempt)
        self.sent.append((message, status))
