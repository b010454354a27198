"""Meeting BaaS v2's `/v2/bots` and `/v2/bots/scheduled`: create, list, read, change, delete, status, leave.

As its OpenAPI v2 of May 2026 and its guides have it: `{success, data}`, or `{success: false, error, code, statusCode,
message, details}`. A scheduled bot may be a minute late and 90 days ahead; it can be changed while it joins in four
minutes or more (409 after); deleting it cancels it or makes it leave, a second time is a 409. It keeps its id when it
joins, and is `completed` as a schedule then. With `allow_multiple_bots: false` a meeting URL takes one bot within five
minutes: 409 `BOT_ALREADY_EXISTS` for a bot that goes at once, while a scheduled one fails when it would join. `leave`
is a 409 for a bot that is queued or at its end. 402 is for want of tokens, 429 with `retryAfter` for a rate or a day's
cap.

Assumed: codes of refusals that the guides do not name. Lists show no `extra` here, and `/v2/bots` has no filter for it:
the worst that the documents allow. Not played: callbacks, artifacts.
"""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.answers import reply
from sandbox.backends.book import Book, Bot, moment
from sandbox.backends.desk import Desk, body_of
from sandbox.door import RequestLog
from sandbox.faults import Faults

WINDOW = timedelta(minutes=4)
LATE, AHEAD = timedelta(minutes=1), timedelta(days=90)
SCHEDULES = {
    "scheduled": "scheduled",
    "settling": "scheduled",
    "joined": "completed",
    "left": "completed",
    "withdrawn": "cancelled",
    "failed": "failed",
}
STATUSES = {"joined": "in_call_recording", "left": "completed", "failed": "failed"}


def refuse(status: int, code: str, message: str) -> Response:
    """An error as Meeting BaaS writes it."""
    body = {"success": False, "error": message, "code": code.upper(), "statusCode": status, "message": message}
    return reply(body | {"details": None}, status=status)


def done(data: object, *, status: int = 200) -> Response:
    """What went well."""
    return reply({"success": True, "data": data}, status=status)


class MeetingBaas:
    """The routes, on one book."""

    def __init__(self, book: Book, faults: Faults, log: RequestLog) -> None:
        self._book = book
        self._faults = faults
        self._desk = Desk("meeting_baas", book, faults, log, refuse, "x-meeting-baas-api-key")

    def routes(self) -> list[Route]:
        """Everything that Meeting BaaS answers here; `scheduled` before ids, which could be called so."""
        scheduled, one = "/v2/bots/scheduled", "/v2/bots/scheduled/{bot:str}"
        return [
            Route(scheduled, self._desk.open(self._schedule, "create"), methods=["POST"]),
            Route(scheduled, self._desk.open(self._list_scheduled, "list"), methods=["GET"]),
            Route(one, self._desk.open(self._get_scheduled, "get"), methods=["GET"]),
            Route(one, self._desk.open(self._update, "update"), methods=["PATCH"]),
            Route(one, self._desk.open(self._delete, "delete"), methods=["DELETE"]),
            Route("/v2/bots", self._desk.open(self._create, "create"), methods=["POST"]),
            Route("/v2/bots", self._desk.open(self._list, "list"), methods=["GET"]),
            Route("/v2/bots/{bot:str}", self._desk.open(self._get, "get"), methods=["GET"]),
            Route("/v2/bots/{bot:str}/status", self._desk.open(self._status, "get"), methods=["GET"]),
            Route("/v2/bots/{bot:str}/leave", self._desk.open(self._leave, "leave"), methods=["POST"]),
        ]

    # --- making ---

    async def _schedule(self, request: Request, account: str) -> Response:
        body = await body_of(request)
        refused = await self._refused(body, needs_time=True)
        if refused or body is None:
            return refused or refuse(400, "FST_ERR_VALIDATION", "Invalid JSON")
        return self._made(account, body)

    async def _create(self, request: Request, account: str) -> Response:
        body = await body_of(request)
        refused = await self._refused(body, needs_time=False)
        if refused or body is None:
            return refused or refuse(400, "FST_ERR_VALIDATION", "Invalid JSON")
        body.pop("join_at", None)
        if body.get("allow_multiple_bots", True) is False:
            now = self._book.clock.now()
            probe = Bot("meeting_baas", account, "", str(body["meeting_url"]), "", now, False, {}, now)
            self._book.settle()
            if self._book.is_taken(probe, now):
                return refuse(409, "BOT_ALREADY_EXISTS", "A bot is already running for this meeting URL")
        return self._made(account, body)

    async def _refused(self, body: dict[str, Any] | None, *, needs_time: bool) -> Response | None:
        await asyncio.sleep(self._book.work_seconds)
        if self._faults.strike("no_credits", "meeting_baas.create"):
            return refuse(402, "INSUFFICIENT_TOKENS", "Not enough tokens were available to launch the bot")
        if self._faults.strike("limit_reached", "meeting_baas.create"):
            return refuse(429, "FST_ERR_DAILY_BOT_CAP_REACHED", "Daily bot cap has been reached")
        if self._faults.strike("no_machine", "meeting_baas.create"):
            return refuse(507, "INSUFFICIENT_STORAGE", "No machine")
        if body is None or not body.get("bot_name"):
            return refuse(400, "FST_ERR_VALIDATION", "body/bot_name is required")
        if not str(body.get("meeting_url", "")).startswith("https://"):
            return refuse(400, "INVALID_MEETING_URL", "body/meeting_url is not a meeting URL")
        return self._time_problem(body.get("join_at")) if needs_time else None

    def _time_problem(self, asked: Any) -> Response | None:
        now = self._book.clock.now()
        try:
            at = moment(asked)
        except ValueError:
            return refuse(400, "FST_ERR_VALIDATION", "body/join_at must match format date-time")
        if not now - LATE <= at <= now + AHEAD:
            return refuse(400, "FST_ERR_VALIDATION", "body/join_at is over, or too far ahead")
        return None

    def _made(self, account: str, body: dict[str, Any]) -> Response:
        is_alone = body.get("allow_multiple_bots", True) is False
        bot = self._book.add("meeting_baas", account, body, bot_id=str(uuid4()), is_alone=is_alone)
        return done({"bot_id": bot.id}, status=201)

    # --- looking ---

    async def _list_scheduled(self, request: Request, account: str) -> Response:
        found = [bot for bot in self._book.of("meeting_baas", account) if bot.is_scheduled]
        for condition in filter(None, request.query_params.get("extra", "").split(",")):
            name, _, value = condition.partition(":")
            kept = [bot for bot in found if (bot.options.get("extra") or {}).get(name) == value]
            found = found if self._faults.strike("unfiltered_list", "meeting_baas.list") else kept
        if asked := request.query_params.get("status"):
            found = [bot for bot in found if SCHEDULES[self._book.phase(bot)] in asked.split(",")]
        return self._page(request, [self._entry(b) | {"status": SCHEDULES[self._book.phase(b)]} for b in found], 20)

    async def _list(self, request: Request, account: str) -> Response:
        found = [bot for bot in self._book.of("meeting_baas", account) if self._is_launched(bot)]
        if after := request.query_params.get("created_after"):
            found = [bot for bot in found if bot.created_at > moment(after)]
        shown = [self._entry(bot) | {"status": STATUSES[self._book.phase(bot)]} for bot in reversed(found)]
        return self._page(request, shown, 50)

    def _page(self, request: Request, entries: list[dict[str, Any]], usual: int) -> Response:
        asked, at = int(request.query_params.get("limit", usual)), int(request.query_params.get("cursor", 0))
        size = self._faults.page_size("meeting_baas.list", asked, calendar="")
        more = str(at + size) if at + size < len(entries) else None
        return reply({"success": True, "data": entries[at : at + size], "cursor": more, "prev_cursor": None})

    async def _get_scheduled(self, request: Request, account: str) -> Response:
        bot = self._scheduled(request, account)
        if bot is None:
            return _unknown()
        return done(self._entry(bot) | {"status": SCHEDULES[self._book.phase(bot)], "extra": bot.options.get("extra")})

    async def _get(self, request: Request, account: str) -> Response:
        bot = self._launched(request, account)
        if bot is None:
            return _unknown()
        return done(self._entry(bot) | {"status": STATUSES[self._book.phase(bot)], "extra": bot.options.get("extra")})

    async def _status(self, request: Request, account: str) -> Response:
        bot = self._launched(request, account)
        return done({"bot_id": bot.id, "status": STATUSES[self._book.phase(bot)]}) if bot else _unknown()

    # --- changing ---

    async def _update(self, request: Request, account: str) -> Response:
        bot, body = self._scheduled(request, account), await body_of(request)
        if bot is None or body is None:
            return _unknown()
        limit = self._book.clock.now() + WINDOW
        times = [bot.join_at, *([moment(body["join_at"])] if "join_at" in body else [])]
        if self._book.phase(bot) != "scheduled" or min(times) < limit:
            return refuse(409, "FST_ERR_BOT_STATUS", "The bot can no longer be updated")
        self._book.change(bot, body)
        bot.is_alone = bot.options.get("allow_multiple_bots", True) is False
        return done({"message": "Scheduled bot updated successfully."})

    async def _delete(self, request: Request, account: str) -> Response:
        bot = self._scheduled(request, account)
        if bot is None:
            return _unknown()
        phase = self._book.phase(bot)
        if phase == "scheduled":
            bot.withdrawn_at = self._book.clock.now()
        elif phase == "joined":
            bot.left_at = self._book.clock.now()
        else:
            return refuse(409, "FST_ERR_BOT_STATUS", f"Status of bot is: {SCHEDULES[phase]}")
        return done({"message": "Scheduled bot deleted successfully."})

    async def _leave(self, request: Request, account: str) -> Response:
        bot = self._launched(request, account)
        if bot is None:
            return _unknown()
        phase = self._book.phase(bot)
        if phase != "joined":
            return refuse(409, "FST_ERR_BOT_STATUS", f"Status of bot is: {STATUSES[phase]}. Operation not permitted.")
        bot.left_at = self._book.clock.now()
        return done({"message": "Bot leave request sent successfully."})

    # --- who ---

    def _scheduled(self, request: Request, account: str) -> Bot | None:
        bot = self._book.find("meeting_baas", account, request.path_params["bot"])
        return bot if bot and bot.is_scheduled else None

    def _launched(self, request: Request, account: str) -> Bot | None:
        bot = self._book.find("meeting_baas", account, request.path_params["bot"])
        return bot if bot and self._is_launched(bot) else None

    def _is_launched(self, bot: Bot) -> bool:
        return self._book.phase(bot) in STATUSES

    def _entry(self, bot: Bot) -> dict[str, Any]:
        return {
            "bot_id": bot.id,
            "bot_name": bot.bot_name,
            "meeting_url": bot.meeting_url,
            "join_at": bot.join_at.isoformat(),
            "created_at": bot.created_at.isoformat(),
        }


def _unknown() -> Response:
    return refuse(404, "FST_ERR_BOT_NOT_FOUND_BY_ID", "Bot not found")
