"""The customer who wants bots in meetings, and remembers what they were answered."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tests.properties.bots.meetings import Meetings
from tests.properties.bots.stage import BotStage, Wish

Json = dict[str, Any]
KEYS: Final = (None, "first", None, "second")
CONFIGS: Final[tuple[Json | None, ...]] = (None, None, {"recording": "speaker_view"}, {"recording": "audio_only"})
REFUSALS: Final = {"event_gone", "event_without_link", "event_over", "not_found", "in_the_past"}
"""What a bot may be refused for here, of an event or a time that is not what it was."""


@dataclass(frozen=True, slots=True)
class Order:
    """One thing that is asked for: what, of which calendar or bot, and a number that says the rest."""

    kind: str
    calendar: int
    which: int
    number: int
    minutes: float


class Owner:
    """Asks for bots, and holds the answers against what is known."""

    def __init__(self, stage: BotStage, meetings: Meetings) -> None:
        self._stage = stage
        self._meetings = meetings

    async def give(self, order: Order) -> str:
        """One order; what came of it, in words."""
        if order.kind == "on":
            return await self._on(order)
        if order.kind == "own":
            return await self._own(order)
        wishes = list(self._stage.wishes.values())
        if not wishes:
            return "nothing"
        wish = wishes[order.which % len(wishes)]
        return await (self._patch(wish, order) if order.kind == "patch" else self._end(wish))

    async def launcher(self, number: int) -> None:
        """Another launcher is the default, or hands over at another time."""
        launchers = self._stage.launchers
        chosen = launchers[number % len(launchers)]
        change = {"is_default": True} if number % 3 else {"hand_over_seconds": (0, 60, 1_200)[number % 9 // 3]}
        await self._stage.actor.call("PATCH", f"/launchers/{chosen['id']}", json=change)
        self._stage.is_troubled()

    def _common(self, order: Order) -> Json:
        launchers = self._stage.launchers
        launcher = launchers[order.number % len(launchers)]["id"] if order.number % 5 == 4 else None
        key, config = KEYS[order.number % len(KEYS)], CONFIGS[order.number // 4 % len(CONFIGS)]
        return {"bot_name": "Notes", "launcher_id": launcher, "deduplication_key": key, "config": config}

    async def _on(self, order: Order) -> str:
        stage = self._stage
        watch = stage.watches[order.calendar % len(stage.watches)]
        events = await stage.actor.events(watch.connected)
        if not events:
            return "nothing"
        event = events[order.which % len(events)]
        body = {**self._common(order), "calendar_event_id": event["id"]}
        return await self._make(body, watch, event["platform_uuid"])

    async def _own(self, order: Order) -> str:
        link = self._meetings.link(order.number).url
        join_at = (self._stage.now() + timedelta(minutes=min(order.minutes, 600))).replace(microsecond=0)
        body = {**self._common(order), "meeting_url": link, "join_at": join_at.isoformat()}
        return await self._make(body, None, None)

    async def _make(self, body: Json, watch: Any, cell: str | None) -> str:
        status, answer = await self._ask("POST", "/bots", json=body)
        if status == 201:
            wish = Wish(answer["id"], body["deduplication_key"], watch, cell)
            if cell is None:
                wish.link, wish.join_at = body["meeting_url"], _at(body["join_at"])
            self._stage.wishes[wish.id] = wish
            return f"{wish.id} with key {wish.key}: {answer['meeting_url']} at {answer['join_at']}"
        if status == 409 and answer["code"] == "deduplication_key_in_use":
            other = await self._stage.actor.call("GET", f"/bots/{answer['existing_id']}")
            is_true = other["state"] in {"scheduled", "launching", "launched"}
            if not is_true or other["deduplication_key"] != body["deduplication_key"]:
                raise AssertionError(f"[key_in_use] by {other}")
            return f"{body['deduplication_key']} is in use"
        return _refused(status, answer)

    async def _patch(self, wish: Wish, order: Order) -> str:
        change: Json = {"bot_name": f"Notes {order.number}"}
        if order.number % 3 == 1:
            change = {"config": CONFIGS[order.number // 3 % len(CONFIGS)]}
        elif wish.cell is None and order.number % 3:
            at = (self._stage.now() + timedelta(minutes=min(abs(order.minutes) + 0.2, 600))).replace(microsecond=0)
            change = {"join_at": at.isoformat()}
            change |= {"meeting_url": self._meetings.link(order.number).url} if order.number % 2 else {}
        status, answer = await self._ask("PATCH", f"/bots/{wish.id}", json=change)
        if status != 200:
            return f"{wish.id}: {_refused(status, answer)}"
        if "join_at" in change:
            wish.join_at, wish.link = _at(change["join_at"]), change.get("meeting_url", wish.link)
        return f"{wish.id} {change}"

    async def _end(self, wish: Wish) -> str:
        status, answer = await self._ask("DELETE", f"/bots/{wish.id}")
        if status != 204:
            raise AssertionError(f"[ended] {status} {answer}")
        wish.is_removed = True
        return wish.id

    async def _ask(self, method: str, path: str, **request: Any) -> tuple[int, Json]:
        actor = self._stage.actor
        answer = await actor.api.request(method, f"/api/v1{path}", headers=actor.project.headers, **request)
        return answer.status_code, dict(answer.json()) if answer.content else {}


def _refused(status: int, answer: Json) -> str:
    """What it was refused for; anything that is no refusal of ours is wrong."""
    codes = {one["code"] for one in answer.get("errors") or ()} or {answer.get("code")}
    known = REFUSALS if status == 422 else {"calendar_disconnected", "bot_not_live", "bot_joined"}
    if status not in {409, 422} or not codes <= known:
        raise AssertionError(f"[refused] {status} {answer}")
    return f"refused: {', '.join(sorted(map(str, codes)))}"


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)
