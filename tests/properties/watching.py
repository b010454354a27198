"""What the judgement needs to know of each calendar and each run."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sandbox.model import Role
from tests.harness import Connected
from tests.properties.oracle import Span

ENDLESS = 1 << 60


@dataclass(slots=True)
class Run:
    """One run of a calendar: what of the world's log it can have seen (`first` before it began, `last` at its end)."""

    calendar_id: UUID
    began: datetime
    first: int
    first_tick: int
    ended: datetime | None = None
    last: int = ENDLESS
    result: str = "begun"
    window: Span | None = None


@dataclass(slots=True)
class Watch:
    """What is known about one connected calendar."""

    connected: Connected
    role: Role = "owner"
    unheard: int = -1
    """Tick of the newest change that nobody may have been told of: a later run sees it."""
    is_lied_to: bool = False
    """Whether a delta may have kept something back: only a full listing sees it."""
    may_disconnect: bool = False
    """Whether there was a reason to."""
    is_watched: bool = False
    """Whether it had a live channel, when everything was last quiet."""


@dataclass(slots=True)
class Sync:
    """A calendar's row of `sync_state`, and its state."""

    state: str
    is_due: bool
    is_failing: bool
    window: Span | None
    has_channel: bool
