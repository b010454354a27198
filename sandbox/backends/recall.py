"""Recall's `/api/v1/bot/`: create, list, read, change, delete, leave_call.

As its OpenAPI 1.11 and its reference have it: 201 with the bot; `{code, detail}` or a map of fields for 400;
`Idempotency-Key` repeats what was first answered for an hour, and is a 409 while that is being worked out; a bot of the
pool (no `join_at`, or one within 10 minutes) can meet with 507; updates need 10 minutes before the old and the new
`join_at` (`update_bot_failed`); DELETE is 204 before the bot was dispatched and 405 after; `leave_call` refuses a bot
that is not in a call (`cannot_command_unstarted_bot`, `cannot_command_completed_bot`). 402 is an empty balance. Lists
are filtered by `metadata__KEY=VALUE`, `meeting_url`, `join_at_after`, `join_at_before`.

Assumed: refusals are repeated under their key like any answer. Not played: recordings.
"""

import asyncio
from datetime import datetime, timedelta
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

WINDOW = timedelta(minutes=10)
REMEMBERED = timedelta(hours=1)
STATUSES = {
    "scheduled": ["ready"],
    "settling": ["ready", "joining_call"],
    "joined": ["ready", "joining_call", "in_call_recording"],
    "left": ["ready", "joining_call", "in_call_recording", "call_ended", "done"],
    "failed": ["ready", "fatal"],
}


def refuse(status: int, code: str, message: str) -> Response:
    """An error as Recall writes it."""
    return reply({"code": code, "detail": message}, status=status)


class Recall:
    """The routes, on one book."""

    def __init__(self, book: Book, faults: Faults, log: RequestLog) -> None:
        self._book = book
        self._faults = faults
        self._desk = Desk("recall", book, faults, log, refuse, "authorization", "Token")
        self._under_way: set[tuple[str, str]] = set()
        self._answered: dict[tuple[str, str], tuple[datetime, Response]] = {}

    def routes(self) -> list[Route]:
        """Everything that Recall answers here."""
        bots, one = "/api/v1/bot/", "/api/v1/bot/{bot:str}/"
        return [
            Route(bots, self._desk.open(self._create_once, "create"), methods=["POST"]),
            Route(bots, self._desk.open(self._list, "list"), methods=["GET"]),
            Route(one, self._desk.open(self._get, "get"), methods=["GET"]),
            Route(one, self._desk.open(self._update, "update"), methods=["PATCH"]),
            Route(one, self._desk.open(self._delete, "delete"), methods=["DELETE"]),
            Route(f"{one}leave_call/", self._desk.open(self._leave, "leave"), methods=["POST"]),
        ]

    async def _create_once(self, request: Request, account: str) -> Response:
        key = account, request.headers.get("idempotency-key", "")
        if not key[1]:
            return await self._create(request, account)
        if key in self._under_way:
            return refuse(409, "conflict", "A request with this idempotency key is being processed")
        at, first = self._answered.get(key, (None, None))
        if at and first and self._book.clock.now() - at < REMEMBERED:
            return Response(bytes(first.body), first.status_code, media_type="application/json")
        self._under_way.add(key)
        try:
            answer = await self._create(request, account)
        finally:
            self._under_way.discard(key)
        self._answered[key] = (self._book.clock.now(), answer)
        return answer

    async def _create(self, request: Request, account: str) -> Response:
        await asyncio.sleep(self._book.work_seconds)
        if self._faults.strike("no_credits", "recall.create"):
            return refuse(402, "insufficient_credit_balance", "Insufficient credit balance")
        if self._faults.strike("limit_reached", "recall.create"):
            return refuse(429, "throttled", "Request was throttled.")
        body = await body_of(request)
        problem = _problem(body)
        if body is None or problem:
            return reply(problem or {"detail": "JSON parse error"}, status=400)
        asked = body.get("join_at")
        is_pooled = asked is None or moment(asked) - self._book.clock.now() <= WINDOW
        if is_pooled and self._faults.strike("no_machine", "recall.create"):
            return refuse(507, "adhoc_pool_depleted", "All available bots are currently in use")
        return reply(self._shown(self._book.add("recall", account, body, bot_id=str(uuid4()))), status=201)

    async def _list(self, request: Request, account: str) -> Response:
        found = [bot for bot in self._book.of("recall", account) if not bot.withdrawn_at]
        is_unfiltered = self._faults.strike("unfiltered_list", "recall.list")
        for name, value in () if is_unfiltered else request.query_params.items():
            if name.startswith("metadata__"):
                kept = name.removeprefix("metadata__")
                found = [bot for bot in found if (bot.options.get("metadata") or {}).get(kept) == value]
            elif name == "meeting_url":
                found = [bot for bot in found if bot.meeting_url == value]
        size, number = self._faults.page_size("recall.list", 100, calendar=""), int(request.query_params.get("page", 1))
        more = str(request.url.include_query_params(page=number + 1)) if number * size < len(found) else None
        page = [self._shown(bot) for bot in found[(number - 1) * size : number * size]]
        return reply({"count": len(found), "next": more, "previous": None, "results": page})

    async def _get(self, request: Request, account: str) -> Response:
        bot = self._bot(request, account)
        return reply(self._shown(bot)) if bot else refuse(404, "not_found", "Not found.")

    async def _update(self, request: Request, account: str) -> Response:
        bot, body = self._bot(request, account), await body_of(request)
        if bot is None:
            return refuse(404, "not_found", "Not found.")
        if self._book.phase(bot) != "scheduled":
            return refuse(400, "update_bot_failed", "Only non-dispatched bots can be updated")
        limit = self._book.clock.now() + WINDOW
        if body is None or bot.join_at <= limit or ("join_at" in body and moment(body["join_at"]) <= limit):
            return refuse(400, "update_bot_failed", "Not enough time to launch new bot")
        self._book.change(bot, body)
        return reply(self._shown(bot))

    async def _delete(self, request: Request, account: str) -> Response:
        bot = self._bot(request, account)
        if bot is None:
            return refuse(404, "not_found", "Not found.")
        phase = self._book.phase(bot)
        if phase != "scheduled":
            status = 405 if phase == "settling" else 400
            message = "Only scheduled bots which have not joined a call can be deleted"
            return refuse(status, "cannot_delete_bot", message)
        bot.withdrawn_at = self._book.clock.now()
        return Response(status_code=204)

    async def _leave(self, request: Request, account: str) -> Response:
        bot = self._bot(request, account)
        if bot is None:
            return refuse(404, "not_found", "Not found.")
        phase = self._book.phase(bot)
        if phase != "joined":
            code = "cannot_command_completed_bot" if phase == "left" else "cannot_command_unstarted_bot"
            return refuse(400, code, "Cannot send a command to this bot")
        bot.left_at = self._book.clock.now()
        return reply({})

    def _bot(self, request: Request, account: str) -> Bot | None:
        bot = self._book.find("recall", account, request.path_params["bot"])
        return bot if bot and not bot.withdrawn_at else None

    def _shown(self, bot: Bot) -> dict[str, Any]:
        """A bot as Recall shows it: its meeting URL taken apart, whatever the OpenAPI says."""
        shown = {name: value for name, value in bot.options.items() if name not in {"meeting_url", "join_at"}}
        return {
            "id": bot.id,
            "meeting_url": {"meeting_id": bot.meeting_url.rpartition("/")[2], "platform": "unknown"},
            "join_at": bot.join_at.isoformat(),
            "status_changes": [{"code": code, "sub_code": None} for code in STATUSES[self._book.phase(bot)]],
            "recordings": [],
            **shown,
        }


def _problem(body: dict[str, Any] | None) -> dict[str, Any] | None:
    if body is None:
        return {"detail": "JSON parse error"}
    if not str(body.get("meeting_url", "")).startswith("https://"):
        return {"meeting_url": ["Enter a valid URL."]}
    try:
        if body.get("join_at") is not None:
            moment(body["join_at"])
    except ValueError:
        return {"join_at": ["Datetime has wrong format."]}
    return None
