"""Attendee's `/api/v1/bots`: create, list, read, change, delete, leave.

As its source and openapi.yml of August 2026 have it: 201 with the bot; `{"error": …}` or a map of fields for 400; the
`deduplication_key` is unique among bots that are not at their end; `join_at` in the past is refused; only a `scheduled`
bot can be changed (its metadata always) or deleted (200), a later one is told to leave; lists have 25 entries, oldest
first, and are filtered by `deduplication_key`, `meeting_url`, `states`, `join_at_after`, `join_at_before`.

Not played: media, transcripts, webhooks.
"""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.answers import reply
from sandbox.backends.book import Book, Bot, moment, token
from sandbox.backends.desk import Desk, body_of
from sandbox.door import RequestLog
from sandbox.faults import Faults

STATES = {
    "scheduled": "scheduled",
    "settling": "staged",
    "joined": "joined_recording",
    "left": "ended",
    "failed": "fatal_error",
}
_SCHEDULED_ONLY = {"join_at", "meeting_url", "bot_name", "bot_image", "recording_settings"}
_LIVE = {"scheduled", "settling", "joined"}


def refuse(status: int, code: str, message: str) -> Response:
    """An error as Attendee writes it."""
    del code
    return reply({"detail" if status in {401, 429} else "error": message}, status=status)


class Attendee:
    """The routes, on one book."""

    def __init__(self, book: Book, faults: Faults, log: RequestLog) -> None:
        self._book = book
        self._faults = faults
        self._desk = Desk("attendee", book, faults, log, refuse, "authorization", "Token")

    def routes(self) -> list[Route]:
        """Everything that Attendee answers here."""
        bots, one = "/api/v1/bots", "/api/v1/bots/{bot:str}"
        return [
            Route(bots, self._desk.open(self._create, "create"), methods=["POST"]),
            Route(bots, self._desk.open(self._list, "list"), methods=["GET"]),
            Route(one, self._desk.open(self._get, "get"), methods=["GET"]),
            Route(one, self._desk.open(self._update, "update"), methods=["PATCH"]),
            Route(one, self._desk.open(self._delete, "delete"), methods=["DELETE"]),
            Route(f"{one}/leave", self._desk.open(self._leave, "leave"), methods=["POST"]),
        ]

    async def _create(self, request: Request, account: str) -> Response:
        await asyncio.sleep(self._book.work_seconds)
        if self._faults.strike("no_credits", "attendee.create"):
            return refuse(400, "", "Organization has run out of credits. Please add more credits.")
        if self._faults.strike("limit_reached", "attendee.create"):
            return refuse(400, "", "You have exceeded the maximum number of concurrent bots (1) for your account.")
        if self._faults.strike("no_machine", "attendee.create"):
            return refuse(507, "", "Insufficient storage")
        body = await body_of(request)
        problem = _problem(body)
        if body is None or problem:
            return reply(problem or {"error": "JSON parse error"}, status=400)
        if body.get("join_at") is not None and moment(body["join_at"]) < self._book.clock.now():
            return reply({"join_at": ["join_at cannot be in the past"]}, status=400)
        key = body.get("deduplication_key")
        if key and any(
            self._is_live(bot) and bot.options.get("deduplication_key") == key for bot in self._all(account)
        ):
            message = (
                "Deduplication key already in use. A bot in a non-terminal state with this deduplication key exists."
            )
            return refuse(400, "", message)
        return reply(self._shown(self._book.add("attendee", account, body, bot_id=token("bot_"))), status=201)

    async def _list(self, request: Request, account: str) -> Response:
        asked = request.query_params
        found = self._all(account)
        is_unfiltered = self._faults.strike("unfiltered_list", "attendee.list")
        for name in () if is_unfiltered else ("deduplication_key", "meeting_url"):
            if name in asked:
                found = [bot for bot in found if bot.options.get(name) == asked[name]]
        if states := asked.getlist("states"):
            found = [bot for bot in found if STATES[self._book.phase(bot)] in states]
        size, at = self._faults.page_size("attendee.list", 25, calendar=""), int(asked.get("cursor", 0))
        more = str(request.url.include_query_params(cursor=at + size)) if at + size < len(found) else None
        return reply({"next": more, "previous": None, "results": [self._shown(bot) for bot in found[at : at + size]]})

    async def _get(self, request: Request, account: str) -> Response:
        bot = self._bot(request, account)
        return reply(self._shown(bot)) if bot else refuse(404, "", "Bot not found")

    async def _update(self, request: Request, account: str) -> Response:
        bot, body = self._bot(request, account), await body_of(request)
        if bot is None:
            return refuse(404, "", "Bot not found")
        if body is None or body.keys() - _SCHEDULED_ONLY - {"metadata"}:
            return refuse(400, "", "Unexpected fields")
        phase = self._book.phase(bot)
        if body.keys() & _SCHEDULED_ONLY and phase != "scheduled":
            return refuse(
                400, "", f"Bot is in state {STATES[phase]} but can only be updated when in the scheduled state"
            )
        if body.get("join_at") is not None and moment(body["join_at"]) < self._book.clock.now():
            return reply({"join_at": ["join_at cannot be in the past"]}, status=400)
        self._book.change(bot, body)
        return reply(self._shown(bot))

    async def _delete(self, request: Request, account: str) -> Response:
        bot = self._bot(request, account)
        if bot is None:
            return refuse(404, "", "Bot not found")
        phase = self._book.phase(bot)
        if phase != "scheduled":
            return refuse(400, "", f"Bot is in state {STATES[phase]} but can only be deleted when in scheduled state")
        bot.withdrawn_at = self._book.clock.now()
        return Response(status_code=200)

    async def _leave(self, request: Request, account: str) -> Response:
        bot = self._bot(request, account)
        if bot is None:
            return refuse(404, "", "Bot not found")
        if self._book.phase(bot) != "joined":
            return refuse(400, "", "Bot is not in a valid state to leave the meeting")
        bot.left_at = self._book.clock.now()
        return reply(self._shown(bot) | {"state": "leaving"})

    def _all(self, account: str) -> list[Bot]:
        """What the account can see: a deleted bot's row is gone."""
        return [bot for bot in self._book.of("attendee", account) if not bot.withdrawn_at]

    def _bot(self, request: Request, account: str) -> Bot | None:
        bot = self._book.find("attendee", account, request.path_params["bot"])
        return bot if bot and not bot.withdrawn_at else None

    def _is_live(self, bot: Bot) -> bool:
        return self._book.phase(bot) in _LIVE

    def _shown(self, bot: Bot) -> dict[str, Any]:
        return {
            "id": bot.id,
            "metadata": bot.options.get("metadata"),
            "meeting_url": bot.meeting_url,
            "state": STATES[self._book.phase(bot)],
            "events": [],
            "transcription_state": "not_started",
            "recording_state": "not_started",
            "join_at": bot.join_at.isoformat() if bot.is_scheduled else None,
            "deduplication_key": bot.options.get("deduplication_key"),
        }


def _problem(body: dict[str, Any] | None) -> dict[str, Any] | None:
    if body is None:
        return {"error": "JSON parse error"}
    if not str(body.get("meeting_url", "")).startswith("https://"):
        return {"meeting_url": ["Invalid meeting URL"]}
    if not body.get("bot_name"):
        return {"bot_name": ["This field is required."]}
    try:
        if body.get("join_at") is not None:
            moment(body["join_at"])
    except ValueError:
        return {"join_at": ["Datetime has wrong format."]}
    return None
