"""Rules as steps, and what has to come of them: one bot for each meeting that an enabled rule wants, and no other.

Their owner asks the API for all of them: rules, the bots of a series, overrides, and single bots that rules have made.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

from app.ids import BOT, EVENT, RULE, parse, public
from sandbox.model import Instance
from tests.properties.bots.stage import STATES, BotStage
from tests.properties.oracle import expected
from tests.properties.watching import Watch

Json = dict[str, Any]
Key = tuple[str, str]
SCOPES: Final = ("meeting", "meeting", "organization", "event")
WIDE: Final = {"meeting", "organization"}
MATCHES: Final[tuple[tuple[Json, Callable[[Instance], bool]], ...]] = (
    ({"is_all_day": False}, lambda _: True),
    ({"is_all_day": False}, lambda _: True),
    ({"is_recurring": False}, lambda cell: cell.series_id is None),
    ({"title_contains": ["again"]}, lambda cell: "again" in (cell.title or "")),
)
REFUSALS: Final = {
    "bot_joined",
    "bot_not_live",
    "calendar_disconnected",
    "event_gone",
    "event_over",
    "event_without_link",
    "not_found",
    "overridden",
}
_KNOWN = "SELECT id, version, further_series FROM rules WHERE deleted_at IS NULL"


@dataclass(slots=True)
class RuleWish:
    """A rule that its owner made; that of a series' bots is known by the first of these."""

    id: UUID
    match: int
    scope: str
    priority: int = 0
    is_enabled: bool = True
    series: tuple[UUID, str] | None = None
    """The series whose occurrences it is for: calendar, and its id at the provider."""
    first: str = ""
    """Of a series: the bot that was answered."""

    def wants(self, calendar: UUID, cell: Instance, further: Collection[str]) -> bool:
        """Whether an event gets its bot; `further`: what its series is known to go on as."""
        if not self.is_enabled or self.series is None:
            return self.is_enabled and MATCHES[self.match][1](cell)
        series_id = cell.series_id or ""
        is_part = series_id == self.series[1] or series_id.startswith(f"{self.series[1]}_R") or series_id in further
        return self.series[0] == calendar and is_part


class RuleOwner:
    """Makes rules, changes them, and takes them back, and has a say in what they make."""

    def __init__(self, stage: BotStage) -> None:
        self._stage = stage
        self.rules: list[RuleWish] = []
        self.overridden: dict[tuple[UUID, str], str] = {}
        """What was said of events: calendar, and the event at the provider."""

    async def give(self, kind: str, number: int) -> str:
        """One thing that is asked for; what came of it, in words."""
        if kind == "override":
            return await self._override(number)
        if kind == "series":
            return await self._series(number)
        if kind in {"remove", "patch"}:
            return await self._bot(kind, number)
        if kind == "make" or not self.rules:
            return await self._make(number)
        rule = self.rules[number % len(self.rules)]
        if kind == "end":
            self.rules.remove(rule)
            await self._end(rule)
        elif rule.series is not None:
            await self._call("PATCH", f"/bots/{rule.first}?all_occurrences=true", {"bot_name": f"Notes {number}"})
        elif kind == "toggle":
            rule.is_enabled = not rule.is_enabled
            await self._change(rule, {"is_enabled": rule.is_enabled})
        elif kind == "match":
            rule.match = number // 2 % len(MATCHES)
            await self._change(rule, {"match": MATCHES[rule.match][0]})
        else:
            await self._change(rule, {"bot": {"bot_name": f"Notes {number}"}})
        return f"{kind} {rule}"

    async def _make(self, number: int) -> str:
        if len(self.rules) > 3:
            return "nothing"
        match, scope, priority = number // 4 % len(MATCHES), SCOPES[number % len(SCOPES)], number % 3
        asked = {
            "name": "Rule",
            "match": MATCHES[match][0],
            "bot": {"bot_name": "Notes"},
            "dedup_scope": scope,
            "priority": priority,
        }
        answer = await self._stage.actor.call("POST", "/rules", json=asked, expect=201)
        rule = RuleWish(cast("UUID", parse(RULE, answer["id"])), match, scope, priority)
        self.rules.append(rule)
        return f"made {rule}"

    async def _change(self, rule: RuleWish, change: Json) -> None:
        await self._stage.actor.call("PATCH", f"/rules/{public(RULE, rule.id)}", json=change)

    async def _end(self, rule: RuleWish) -> None:
        path = f"/rules/{public(RULE, rule.id)}"
        if rule.series is not None:
            path = f"/bots/{rule.first}?all_occurrences=true"
        await self._stage.actor.call("DELETE", path, expect=204)

    async def _series(self, number: int) -> str:
        """A bot for each occurrence of a series."""
        found = [await self._event(number + other, is_recurring=True) for other in range(len(self._stage.watches))]
        watch, event = next((one for one in found if one[1] is not None), found[0])
        if event is None or len(self.rules) > 3:
            return "nothing"
        body = {"bot_name": "Notes", "calendar_event_id": event["id"], "all_occurrences": True}
        answer = await self._call("POST", "/bots", body)
        if "state" not in answer:
            return f"series refused: {answer}"
        [made] = [row for row in await self._stage.bots() if public(BOT, row.id) == answer["id"]]
        series = (watch.connected.key, str(event["series_id"]))
        self.rules.append(RuleWish(made.rule_id, 0, "event", series=series, first=answer["id"]))
        return f"made {self.rules[-1]}"

    async def _bot(self, kind: str, number: int) -> str:
        """A bot that a rule has made is taken away, or changed."""
        rows = [row for row in await self._stage.bots() if row.rule_id and row.state in STATES]
        if not rows:
            return "nothing"
        return await self._have(kind, public(BOT, rows[number % len(rows)].id), number)

    async def _have(self, kind: str, chosen: str, number: int) -> str:
        if kind == "remove":
            return f"removed {chosen}: {await self._call('DELETE', f'/bots/{chosen}')}"
        answer = await self._call("PATCH", f"/bots/{chosen}", {"bot_name": f"Notes {number}"})
        return f"changed {chosen}: {answer.get('code')}"

    async def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        """The answer, which may be one of the refusals that are known."""
        actor = self._stage.actor
        answer = await actor.api.request(method, f"/api/v1{path}", headers=actor.project.headers, json=body)
        found = dict(answer.json()) if answer.content else {}
        if answer.status_code >= 300:
            codes = {one["code"] for one in found.get("errors") or ()} or {found.get("code")}
            if answer.status_code not in {404, 409, 422} or not codes <= REFUSALS:
                raise AssertionError(f"[refused] {method} {path}: {answer.status_code} {found}")
            return {"code": ", ".join(sorted(map(str, codes)))}
        return found

    async def _event(self, number: int, *, is_recurring: bool = False) -> tuple[Watch, Json | None]:
        watch = self._stage.watches[number % len(self._stage.watches)]
        rows = await self._stage.actor.events(watch.connected)
        found = [row for row in rows if row["series_id"] or not is_recurring]
        return watch, (found[number // 3 % len(found)] if found else None)

    async def _override(self, number: int) -> str:
        """One event is to have no bot, or one whatever rules say, or rules decide again."""
        watch, event = await self._event(number)
        if event is None:
            return "nothing"
        place = (watch.connected.key, str(event["platform_uuid"]))
        value = None if place in self.overridden else ("never", "never", "always")[number // 3 % 3]
        return await self._say(event["id"], place, value)

    async def _say(self, event_id: str, place: tuple[UUID, str], value: str | None) -> str:
        answer = await self._call("PATCH", f"/calendar_events/{event_id}", {"bot_override": value})
        if "id" not in answer:
            return f"override refused: {answer}"
        self.overridden.pop(place, None)
        if value is not None:
            self.overridden[place] = value
        return f"override {answer['name']}: {value}"

    async def of_meeting(self, kind: str, ical_uid: str, number: int) -> str:
        """The bot that a rule made for a meeting is taken away, changed, or kept from the copy that it is on."""
        rows = [row for row in await self._stage.bots() if row.rule_id and row.ical_uid == ical_uid]
        if not rows:
            return "nothing"
        row = next((row for row in rows if row.state in STATES), rows[number % len(rows)])
        if kind in {"remove", "patch"}:
            return await self._have(kind, public(BOT, row.id), number)
        value = kind if kind in {"never", "always"} else None
        return await self._say(public(EVENT, row.calendar_event_id), (row.calendar_id, row.cell), value)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An event with a meeting ahead."""

    place: tuple[UUID, str]
    keys: frozenset[Key]
    rules: tuple[RuleWish, ...]


class RuleJudge:
    """Holds the bots of rules against the world and the rules."""

    def __init__(self, stage: BotStage, owner: RuleOwner) -> None:
        self._stage = stage
        self._owner = owner

    def always(self, rows: list[Any]) -> None:
        """Of the bots of a wide scope never two are live for one meeting."""
        keys = Counter(
            (row.dedup_scope, key)
            for row in rows
            if row.dedup_scope in WIDE and row.rule_id and not row.is_by_hand
            if row.state in STATES and row.ends_at > row.now
            for key in _keys_of(row)
        )
        if twice := [key for key, times in keys.items() if times > 1]:
            raise AssertionError(f"[meeting] two live bots for {twice}")

    async def settled(self, judged: list[Watch], rows: list[Any]) -> None:
        """Each meeting that an enabled rule wants has its bot, and each bot of a rule is wanted."""
        stage = self._stage
        state = await stage.state()
        connected = [one for one in stage.watches if state[one.connected.key].state == "connected"]
        if len(judged) < len(connected) or any(row.transfer_since for row in rows):
            return
        async with stage.rt.db.reading() as tx:
            stored = {row.id: row for row in await tx.rows(_KNOWN)}
        further = {id_: row.further_series for id_, row in stored.items()}
        events = [event for watch in judged for event in await self._events(watch, further)]
        live = [row for row in rows if row.rule_id and row.state in STATES and row.ends_at > row.now]
        if back := [row for row in live if row.is_removed]:
            raise AssertionError(f"[removed] by its owner, and live: {[public(BOT, row.id) for row in back]}")
        kept_out = [row for row in rows if _counts(row, stored)]
        ended = kept_out + [row for row in rows if row.rule_id and row.is_by_hand]
        # One that was where another copy of the meeting has not come to yet: nobody looks at that because time passes.
        ended += [row for row in rows if row.rule_id and row.state in {*STATES, "missed"} and row.ends_at <= row.now]
        self._kept_out(live, kept_out)
        for event in events:
            for rule in event.rules:
                self._has_one(event, rule, live, ended)
        known = {event.place: event for event in events}
        for row in live:
            its = known.get((row.calendar_id, row.cell))
            rules = () if its is None else its.rules
            is_wanted = any(
                (one.scope == row.dedup_scope and one.scope in WIDE) or one.id == row.rule_id for one in rules
            )
            is_there = row.state == "launched" and row.join_at <= row.now
            if not is_wanted and not row.is_by_hand and not is_there:
                raise AssertionError(f"[unwanted] {public(BOT, row.id)} {row.state} on {its}")

    @staticmethod
    def _kept_out(live: list[Any], ended: list[Any]) -> None:
        """Where a rule's bot was ended, or failed, that rule has made no other."""
        places = {(row.rule_id, row.calendar_id, row.cell) for row in ended}
        for row in live:
            if (row.rule_id, row.calendar_id, row.cell) in places and not row.is_by_hand:
                raise AssertionError(f"[kept out] {public(BOT, row.id)} {row.state} on {row.cell}")

    def _has_one(self, event: Wanted, rule: RuleWish, live: list[Any], ended: list[Any]) -> None:
        def is_its(row: Any) -> bool:
            if rule.scope in WIDE:
                return bool(row.dedup_scope == rule.scope and _keys_of(row) & event.keys)
            return bool(row.rule_id == rule.id and (row.calendar_id, row.cell) == event.place)

        found = [row for row in live if is_its(row) and not row.is_by_hand]
        if len(found) > (1 if rule.scope not in WIDE else 2):  # two keys, each with a bot of its own, at the most
            raise AssertionError(f"[rule] {len(found)} bots for {event} by {rule}")
        if not found and not any(is_its(row) for row in ended):
            raise AssertionError(f"[rule] no bot for {event} by {rule}")

    async def _events(self, watch: Watch, further: Mapping[UUID, Collection[str]]) -> list[Wanted]:
        stage, calendar = self._stage, watch.connected
        world, now, found = stage.sandbox.world, stage.now(), []
        for cell in world.instances(calendar.remote_id, *await stage.actor.window(calendar)):
            shown = expected(cell, world, calendar.account, watch.role)
            if shown["meeting_url"] is None or shown["status"] == "cancelled":
                continue
            if datetime.fromisoformat(shown["end_time"]) <= now:
                continue
            place = (calendar.key, cell.event_id)
            known = self._owner.rules
            rules = [one for one in known if one.wants(calendar.key, cell, further.get(one.id, ()))]
            override = self._owner.overridden.get(place)
            if override == "always" and not rules:
                usual = [one for one in known if one.is_enabled and one.series is None]
                rules = sorted(usual, key=lambda one: -one.priority)[:1]
            rules = [] if override == "never" else rules
            original = cell.original_start
            uid = f"{cell.ical_uid} {original.timestamp() if isinstance(original, datetime) else original}"
            keys = frozenset({("uid", uid), ("link", f"{shown['meeting_url']} {shown['start_time']}")})
            found.append(Wanted(place, keys, tuple(rules)))
        return found


def _counts(row: Any, rules: Mapping[UUID, Any]) -> bool:
    """Whether an ended bot keeps its rule from making another: neither the rule nor an override has changed since."""
    is_ended = row.rule_id in rules and (row.is_removed or row.state == "failed")
    return bool(is_ended and row.rule_version == rules[row.rule_id].version)


def _keys_of(row: Any) -> frozenset[Key]:
    """What makes a bot's meeting the same as another's, of what its row and its event say."""
    original = row.original_start and datetime.fromisoformat(row.original_start).timestamp()
    start = row.join_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    link = ("link", f"{row.meeting_url} {start}")
    if row.ical_uid is None:  # its event is gone for good: it is held until another one takes it
        return frozenset({link})
    return frozenset({("uid", f"{row.ical_uid} {original}"), link})
