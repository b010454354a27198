"""The schedule of `bot.launch`: a meeting does not wait, and a bot that comes late has missed something. Pure.

Steps are counted from the first attempt, whatever an attempt takes, and end with the meeting. A launch waits for no
breaker, rate limit or lane; what it does to its endpoint's standing is said in `attempts`.
"""

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import orjson

from app.ids import BOT, parse

STEPS_SECONDS: Final = (0.0, 2.0, 5.0, 10.0, 20.0)
"""After the first attempt; from the last of them on, one every EVERY_SECONDS."""
EVERY_SECONDS: Final = 30.0
NEAR_SECONDS: Final = 0.25
"""A step that is nearer than this has had its attempt."""
URGENT: Final = -1
"""`deliveries.priority` of a launch that was not sent again because somebody asked. First attempts have 0, others 1."""


class Launch(NamedTuple):
    """What of a `bot.launch` decides when it is sent. Times are on the monotonic clock."""

    bot_id: UUID
    ends_at: float
    """When the meeting is over, as the message says."""
    first_at: float | None
    """When its first recorded attempt began; None: there was none."""


def read(payload: bytes, *, now: datetime, read_at: float, since_first: float | None) -> Launch:
    """What a message's bytes say, at `now` on the clock of what is due, and `read_at` on the monotonic one.

    `since_first`: seconds since its first attempt.
    """
    data = orjson.loads(payload)["data"]
    bot_id = parse(BOT, data["bot"]["id"])
    if bot_id is None:
        raise ValueError("a bot.launch that names no bot")
    left = (datetime.fromisoformat(data["expires_at"]) - now).total_seconds()
    return Launch(bot_id, read_at + left, None if since_first is None else read_at - since_first)


def wait(launch: Launch, *, started: float, now: float, retry_after: float = 0.0) -> float:
    """Seconds until the next step, after an attempt that began at `started`.

    `Retry-After` leaves out the steps before its end, as long as the next one is within EVERY_SECONDS.
    """
    elapsed = now - (started if launch.first_at is None else launch.first_at)
    step = _after(elapsed + NEAR_SECONDS)
    while step < elapsed + retry_after and _after(step) <= elapsed + EVERY_SECONDS:
        step = _after(step)
    return step - elapsed


def _after(seconds: float) -> float:
    """The first step that is later."""
    last = STEPS_SECONDS[-1]
    further = last + EVERY_SECONDS * max(1.0, (seconds - last) // EVERY_SECONDS + 1)
    return next((step for step in STEPS_SECONDS if step > seconds), further)
