"""The port to a bot back end, and the frozen values that cross it.

Pure: no I/O library is imported here. A launcher speaks to one back end; it keeps no state and decides nothing about
the bot. All its errors are `LauncherError`s, except that a setting which cannot be rendered is a bug. Times are aware
UTC instants, spans are seconds.

How to call it, so that a meeting gets one bot and not two:

1. Write down that a start is under way, then `start`.
2. After `LaunchUnknown` (and after a death between 1 and the record of its outcome) ask `find` before `start` again,
   with the same `attempt`. What `find` or `start` bring back may be of an earlier `revision`: then `change` it, with
   `before` None.
3. After `LaunchLater` from `start` use the next `attempt`.
4. After `MustReplace` from `change`: `withdraw` the old one, then `start` with a higher `revision`, `is_replacement`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, Protocol

Kind = Literal["webhook", "attendee", "recall", "meeting_baas"]

BOT_ID = "punctual_bot_id"
REVISION = "punctual_revision"
"""Keys of the metadata that every bot is given at its back end: by them a start whose answer was lost is found."""

MAX_HAND_OVER_SECONDS = 3_600
"""A launcher's `hand_over_seconds`, at most."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a kind of back end can do, and when."""

    base_url: str | None
    """The vendor's own; None where the customer's endpoints are the back end."""
    hand_over_seconds: int
    """How long before `join_at` a bot is handed over, where the launcher names no other time."""
    change_until_seconds: int
    """A bot that joins later than this can be changed in place; else it has to be replaced. 0: until it joins."""
    has_key: bool
    """Whether a launcher of this kind has an API key."""
    once_by: Literal["unique_key", "idempotency_key", "lookup", "revision"]
    """What keeps one bot from being started twice: the back end refuses a second live bot with our key, repeats its
    first answer to our key (for an hour), can only be asked, or is told the bot's id and revision."""
    after_start: Literal["leaves", "is_told"]
    """What becomes of a bot that is withdrawn once it has joined."""


CAPABILITIES: Mapping[Kind, Capabilities] = MappingProxyType(
    {
        "webhook": Capabilities(None, 60, 0, False, "revision", "is_told"),
        "attendee": Capabilities("https://app.attendee.dev", 180, 0, True, "unique_key", "leaves"),
        "recall": Capabilities("https://us-east-1.recall.ai", 720, 600, True, "idempotency_key", "leaves"),
        "meeting_baas": Capabilities("https://api.meetingbaas.com", 300, 240, True, "lookup", "leaves"),
    }
)


@dataclass(frozen=True, slots=True)
class Order:
    """One bot as it should be at its back end."""

    bot_id: str
    """As the customer sees it."""
    revision: int
    """Grows with every change that the back end is to know of, and whenever the bot is handed over anew."""
    meeting_url: str
    platform: str | None
    """The meeting's, by our name for it (`google_meet`)."""
    join_at: datetime
    bot_name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    """Our common settings, as `config.config_problems` finds nothing wrong with them."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    """What the back end shall not start twice; empty: the bot's id. Never the customer's own key."""
    is_replacement: bool = False
    """Whether an earlier bot of ours was withdrawn from this meeting, so that it does not stand in this one's way."""
    attempt: int = 1
    """Grows with every start that the back end has answered; one whose outcome is unknown is repeated with its own."""
    is_certain: bool = True
    """Of an order that was told: whether the back end has it. Something may have come in between that nobody knows."""

    @property
    def once(self) -> str:
        """The key under which the back end starts this bot once."""
        return self.key or self.bot_id

    @property
    def tags(self) -> dict[str, str]:
        """The metadata that the back end keeps: the customer's, and ours."""
        return {**self.metadata, BOT_ID: self.bot_id, REVISION: str(self.revision)}


@dataclass(frozen=True, slots=True)
class Started:
    """A bot that the back end has."""

    external_id: str
    revision: int | None
    """Which revision of ours it has; None where it does not say."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The back end has the bot as it is now."""


@dataclass(frozen=True, slots=True)
class MustReplace:
    """It cannot be changed in place: withdraw it, and start another."""

    reason: Literal["too_late", "refused", "not_changeable", "gone"]
    """`too_late`: within `change_until_seconds`, or it has joined. `not_changeable`: only a start can say that."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The bot does not join, or leaves."""

    how: Literal["cancelled", "left", "was_gone"]


@dataclass(frozen=True, slots=True)
class Check:
    """Whether the launcher's address and key work; `detail` is a sentence for its owner."""

    ok: bool
    detail: str


class Launcher(Protocol):
    """One back end, with one key."""

    async def start(self, order: Order, now: datetime) -> Started:
        """Have the bot join at `join_at`, or at once where that is over or near.

        LaunchRefused, LaunchLater, LaunchUnknown, LauncherKeyRefused.
        """
        ...

    async def find(self, order: Order, since: datetime) -> Started | None:
        """The live bot that an earlier start of this one made, none of which was before `since`.

        LaunchLater while it cannot be said, LauncherKeyRefused, LaunchRefused where there is no back end at that
        address.
        """
        ...

    async def change(
        self, external_id: str, order: Order, before: Order | None, now: datetime
    ) -> Changed | MustReplace:
        """Make the bot what `order` says; `before` is what the back end was last told.

        Where it is not certain that the back end has that still, all is said that can be, changed or not. With None,
        where it is not known what was told, the same, and what only a start can say is left. May be repeated without
        harm. LaunchLater, LaunchRefused, LauncherKeyRefused.
        """
        ...

    async def withdraw(self, external_id: str, order: Order, now: datetime) -> Withdrawn:
        """Keep the bot from joining, or make it leave; who is gone already counts as withdrawn.

        May be repeated without harm. LaunchLater (a bot that is just joining can be neither cancelled nor made leave),
        LauncherKeyRefused; LaunchRefused where there is no back end at that address.
        """
        ...

    async def check(self) -> Check:
        """Try the address and the key without starting anything. Raises nothing of the network's."""
        ...
