"""The bots of all back ends, and what became of them on the sandbox's clock.

A bot is `scheduled` until it joins at `join_at` (one without is there at once), then `joined` until it leaves; what was
withdrawn before never joins. `settling` is the time just before it joins in which a back end takes no more orders: none
unless `settling_seconds` is set. What is due is settled whenever somebody looks, in the order of the clock.
"""

import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from sandbox.clock import Clock

Backend = Literal["attendee", "recall", "meeting_baas"]
Phase = Literal["scheduled", "settling", "joined", "left", "withdrawn", "failed"]

LOCK = timedelta(minutes=5)
"""So long after a bot came to a meeting another one that wants to be alone there is refused (Meeting BaaS)."""


@dataclass(slots=True)
class Bot:
    """One bot as its back end was told of it."""

    backend: Backend
    account: str
    id: str
    meeting_url: str
    bot_name: str
    join_at: datetime
    is_scheduled: bool
    """Whether it was given a time; else it went at once."""
    options: dict[str, Any]
    """The request as it is now, with every change."""
    created_at: datetime
    is_alone: bool = False
    """Whether it stays out where another bot came within LOCK."""
    joined_at: datetime | None = None
    left_at: datetime | None = None
    withdrawn_at: datetime | None = None
    failure: str | None = None
    changes: list[dict[str, Any]] = field(default_factory=list)
    """Each accepted change, in order."""


class Book:
    """All bots, and whose keys are good."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.bots: dict[str, Bot] = {}
        self.keys: dict[str, set[str]] = {backend: {f"{backend}-key"} for backend in get_args(Backend)}
        self.settling_seconds = 0.0
        self.work_seconds = 0.0
        """Real seconds that making a bot takes, so that requests overtake each other."""

    def add(self, backend: Backend, account: str, body: dict[str, Any], *, bot_id: str, is_alone: bool = False) -> Bot:
        """A new bot; `body` names meeting_url, bot_name and perhaps join_at. ValueError for a time that is none."""
        now = self.clock.now()
        asked = body.get("join_at")
        join_at = now if asked is None else moment(asked)
        bot = Bot(
            backend,
            account,
            bot_id,
            str(body["meeting_url"]),
            str(body.get("bot_name") or ""),
            join_at,
            asked is not None,
            dict(body),
            now,
            is_alone=is_alone,
        )
        self.bots[bot.id] = bot
        self.settle()
        return bot

    def change(self, bot: Bot, values: dict[str, Any]) -> None:
        """Take over what a PATCH says."""
        if values.get("join_at") is not None:
            bot.join_at = moment(values["join_at"])
        bot.meeting_url = str(values.get("meeting_url", bot.meeting_url))
        bot.bot_name = str(values.get("bot_name", bot.bot_name))
        bot.options.update(values)
        bot.changes.append({"at": self.clock.now().isoformat(), **values})

    def find(self, backend: Backend, account: str, bot_id: str) -> Bot | None:
        """A bot of this account; None for anybody else's."""
        self.settle()
        bot = self.bots.get(bot_id)
        return bot if bot and (bot.backend, bot.account) == (backend, account) else None

    def of(self, backend: Backend, account: str) -> list[Bot]:
        """An account's bots, oldest first."""
        self.settle()
        return [bot for bot in self.bots.values() if (bot.backend, bot.account) == (backend, account)]

    def phase(self, bot: Bot) -> Phase:
        """Where a bot is now."""
        if bot.failure:
            return "failed"
        if bot.withdrawn_at:
            return "withdrawn"
        if bot.left_at:
            return "left"
        if bot.joined_at:
            return "joined"
        is_settling = self.clock.now() >= bot.join_at - timedelta(seconds=self.settling_seconds)
        return "settling" if is_settling else "scheduled"

    def settle(self) -> None:
        """Let those join whose time has come, earliest first."""
        now = self.clock.now()
        due = [b for b in self.bots.values() if not (b.joined_at or b.withdrawn_at or b.failure) and b.join_at <= now]
        for bot in sorted(due, key=lambda b: (b.join_at, b.created_at)):
            at = max(bot.join_at, bot.created_at)
            if bot.is_alone and self.is_taken(bot, at):
                bot.failure = "BOT_ALREADY_EXISTS"
            else:
                bot.joined_at = at

    def is_taken(self, bot: Bot, at: datetime) -> bool:
        """Whether another bot of the account came to this meeting within LOCK before `at`."""
        others = (b for b in self.of_meeting(bot.meeting_url) if b is not bot and b.account == bot.account)
        return any(b.joined_at and at - LOCK < b.joined_at <= at for b in others if b.backend == bot.backend)

    def of_meeting(self, meeting_url: str) -> list[Bot]:
        """All that were ever meant for a meeting."""
        return [bot for bot in self.bots.values() if bot.meeting_url == meeting_url]

    def meetings(self) -> list[dict[str, Any]]:
        """The truth for tests: each meeting with its bots, and how many of them came."""
        self.settle()
        urls = dict.fromkeys(bot.meeting_url for bot in self.bots.values())
        return [
            {
                "meeting_url": url,
                "joined": sum(1 for bot in self.of_meeting(url) if bot.joined_at),
                "bots": [self._shown(bot) for bot in self.of_meeting(url)],
            }
            for url in urls
        ]

    def _shown(self, bot: Bot) -> dict[str, Any]:
        shown = {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(bot).items()
        }
        return shown | {"phase": self.phase(bot)}


def moment(text: Any) -> datetime:
    """An instant with an offset; ValueError for anything else."""
    parsed = datetime.fromisoformat(str(text))
    if parsed.tzinfo is None:
        raise ValueError("no offset")
    return parsed.astimezone(UTC)


def token(prefix: str, length: int = 16) -> str:
    """An id that nobody can guess."""
    return prefix + secrets.token_urlsafe(2 * length).replace("-", "").replace("_", "")[:length]
