"""What becomes of a bot when its meeting does something. Pure.

A bot follows its event: it moves when the meeting moves, goes when it goes, and comes back with it. Only what its
owner ended stays ended.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

State = Literal["scheduled", "launching", "launched", "failed", "cancelled", "missed"]
Reason = Literal[
    "event_cancelled",
    "event_deleted",
    "link_gone",
    "left_window",
    "calendar_disconnected",
    "calendar_deleted",
    "superseded",
    "no_rule",
    "overridden",
    "removed",
    "left_by_request",
    "meeting_over",
    "no_receiver",
    "not_delivered",
    "launch_refused",
]
"""Why a bot is `cancelled`, `missed` or `failed`: a closed list, which docs/bots.md explains."""

LIVE: frozenset[State] = frozenset({"scheduled", "launching", "launched"})
BY_RULES: frozenset[str] = frozenset({"no_rule", "overridden"})
"""Of a cancelled bot: it comes back when a rule wants it again."""
RESTORABLE: frozenset[str] = frozenset(
    {"event_cancelled", "event_deleted", "link_gone", "left_window", "calendar_disconnected", "superseded"}
)
"""Of a cancelled bot: it comes back when its meeting does."""

OWN_MEETING = timedelta(hours=3)
"""What a meeting is taken to last that no event tells of."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where and when a bot is wanted."""

    url: str
    platform: str | None
    join_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """What of a calendar's event decides about its bots."""

    is_deleted: bool
    deletion_kind: str | None
    status: str
    meeting_url: str | None
    meeting_platform: str | None
    start_time: datetime
    end_time: datetime

    def meeting(self) -> Meeting | Reason:
        """The meeting that it leads to, or why there is none."""
        if self.is_deleted:
            return "left_window" if self.deletion_kind == "left_window" else "event_deleted"
        if self.status == "cancelled":
            return "event_cancelled"
        if self.meeting_url is None:
            return "link_gone"
        return Meeting(self.meeting_url, self.meeting_platform, self.start_time, self.end_time)


@dataclass(frozen=True, slots=True)
class Standing:
    """A bot, as far as following it goes."""

    state: State
    state_reason: str | None
    meeting: Meeting
    is_removed: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What a bot becomes: the state, why, and where it is wanted from now on."""

    state: State
    reason: Reason | None
    meeting: Meeting
    is_adopted: bool = False
    """Whether it is another rule's from now on, or its rule has changed."""

    def is_order_new(self, before: Standing) -> bool:
        """Whether its back end has to know of it."""
        old, new = before.meeting, self.meeting
        is_moved = (old.url, old.join_at) != (new.url, new.join_at)
        return before.state != self.state or is_moved or self.is_adopted


def follow(bot: Standing, meeting: Meeting | Reason, *, now: datetime) -> Step | None:
    """What a bot becomes with its event as it is now; None where it stays as it is.

    A bot whose meeting is over stays what it was: an event that is cleared away later does not undo that it took part.
    """
    if bot.is_removed:
        return None
    if bot.state in LIVE:
        is_over = bot.meeting.ends_at <= now
        if not isinstance(meeting, Meeting):
            return None if is_over else Step("cancelled", meeting, bot.meeting)
        if meeting == bot.meeting or (is_over and meeting.ends_at <= now):
            return None
        return Step(_moved(bot, meeting, now=now), None, meeting)
    if not isinstance(meeting, Meeting) or meeting.ends_at <= now:
        return None
    is_back = bot.state == "missed" or (bot.state == "cancelled" and bot.state_reason in RESTORABLE)
    return Step("scheduled", None, meeting) if is_back else None


def _moved(bot: Standing, meeting: Meeting, *, now: datetime) -> State:
    """A meeting that took place and is held once more wants its bot anew."""
    return "scheduled" if bot.meeting.ends_at <= now < meeting.ends_at else bot.state
