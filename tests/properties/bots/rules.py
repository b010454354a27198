"""Rules as steps, and what has to come of them: one bot for each meeting that an enabled rule wants, and no other.

Rules are written as their owner's requests leave them, with the request to judge all events anew.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from app.bots.rules import evaluations
from app.ids import BOT, new_id, public
from sandbox.model import Instance
from tests.properties.bots.stage import STATES, BotStage
from tests.properties.oracle import expected
from tests.properties.stage import Watch

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


@dataclass(slots=True)
class RuleWish:
    """A rule that its owner made."""

    id: UUID
    match: int
    scope: str
    is_enabled: bool = True


class RuleOwner:
    """Makes rules, changes them, and takes them back."""

    def __init__(self, stage: BotStage) -> None:
        self._stage = stage
        self.rules: list[RuleWish] = []
        self.overridden: set[tuple[UUID, str]] = set()
        """Events that are to have no bot: calendar, and the event at the provider."""

    async def give(self, kind: str, number: int) -> str:
        """One thing that is asked for; what came of it, in words."""
        if kind == "make" or not self.rules:
            return await self._make(number)
        rule = self.rules[number % len(self.rules)]
        if kind == "toggle":
            rule.is_enabled = not rule.is_enabled
            await self._change(rule, "is_enabled = :value", rule.is_enabled)
        elif kind == "match":
            rule.match = number // 2 % len(MATCHES)
            await self._change(rule, "match = :value", json.dumps(MATCHES[rule.match][0]))
        elif kind == "bot":
            await self._change(rule, "bot_name = :value", f"Notes {number}")
        elif kind == "override":
            return await self._override(number)
        else:
            self.rules.remove(rule)
            await self._change(rule, "deleted_at = CASE WHEN :value THEN app_now() END", True)
        return f"{kind} {rule}"

    async def _make(self, number: int) -> str:
        if len(self.rules) > 3:
            return "nothing"
        rule = RuleWish(new_id(), number // 4 % len(MATCHES), SCOPES[number % len(SCOPES)])
        values = {"match": json.dumps(MATCHES[rule.match][0]), "scope": rule.scope, "priority": number % 3}
        async with self._stage.rt.db.transaction() as tx:
            await tx.execute(
                "INSERT INTO rules (id, project_id, name, match, dedup_scope, bot_name, priority)"
                " VALUES (:id, :project, 'Rule', :match, :scope, 'Notes', :priority)",
                {"id": rule.id, "project": self._stage.actor.project.id} | values,
            )
            await evaluations.request_project(tx, self._stage.actor.project.id)
        self.rules.append(rule)
        return f"made {rule}"

    async def _change(self, rule: RuleWish, change: str, value: object) -> None:
        async with self._stage.rt.db.transaction() as tx:
            statement = f"UPDATE rules SET {change}, version = version + 1 WHERE id = :id"
            await tx.execute(statement, {"id": rule.id, "value": value})
            await evaluations.request_project(tx, self._stage.actor.project.id)

    async def _override(self, number: int) -> str:
        """One event is to have no bot, or may have one again."""
        stage = self._stage
        watch = stage.watches[number % len(stage.watches)]
        rows = await stage.actor.events(watch.connected)
        if not rows:
            return "nothing"
        event = rows[number // 3 % len(rows)]
        place = (watch.connected.key, str(event["platform_uuid"]))
        self.overridden ^= {place}
        value = "never" if place in self.overridden else None
        async with stage.rt.db.transaction() as tx:
            event_id = await tx.scalar(
                "UPDATE calendar_events SET bot_override = :value WHERE calendar_id = :calendar"
                " AND platform_uuid = :uuid AND NOT is_deleted RETURNING id",
                {"value": value, "calendar": watch.connected.key, "uuid": place[1]},
            )
            if event_id is not None:
                await evaluations.request_events(tx, {watch.connected.key: [event_id]})
        return f"override {event['name']}: {value}"


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
            if row.dedup_scope in WIDE and row.rule_id and row.state in STATES and row.ends_at > row.now
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
        events = [event for watch in judged for event in await self._events(watch)]
        live = [row for row in rows if row.rule_id and row.state in STATES and row.ends_at > row.now]
        ended = [row for row in rows if row.rule_id and (row.is_removed or row.is_by_hand or row.state == "failed")]
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

    def _has_one(self, event: Wanted, rule: RuleWish, live: list[Any], ended: list[Any]) -> None:
        def is_its(row: Any) -> bool:
            if rule.scope in WIDE:
                return bool(row.dedup_scope == rule.scope and _keys_of(row) & event.keys)
            return bool(row.rule_id == rule.id and (row.calendar_id, row.cell) == event.place)

        found = [row for row in live if is_its(row)]
        if len(found) > (1 if rule.scope not in WIDE else 2):  # two keys, each with a bot of its own, at the most
            raise AssertionError(f"[rule] {len(found)} bots for {event} by {rule}")
        if not found and not any(is_its(row) for row in ended):
            raise AssertionError(f"[rule] no bot for {event} by {rule}")

    async def _events(self, watch: Watch) -> list[Wanted]:
        stage, calendar = self._stage, watch.connected
        world, now, found = stage.sandbox.world, stage.now(), []
        for cell in world.instances(calendar.remote_id, *await stage.actor.window(calendar)):
            shown = expected(cell, world, calendar.account, watch.role)
            if shown["meeting_url"] is None or shown["status"] == "cancelled":
                continue
            if datetime.fromisoformat(shown["end_time"]) <= now:
                continue
            place = (calendar.key, cell.event_id)
            rules = [one for one in self._owner.rules if one.is_enabled and MATCHES[one.match][1](cell)]
            rules = [] if place in self._owner.overridden else rules
            original = cell.original_start
            uid = f"{cell.ical_uid} {original.timestamp() if isinstance(original, datetime) else original}"
            keys = frozenset({("uid", uid), ("link", f"{shown['meeting_url']} {shown['start_time']}")})
            found.append(Wanted(place, keys, tuple(rules)))
        return found


def _keys_of(row: Any) -> frozenset[Key]:
    """What makes a bot's meeting the same as another's, of what its row and its event say."""
    original = row.original_start and datetime.fromisoformat(row.original_start).timestamp()
    start = row.join_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return frozenset({("uid", f"{row.ical_uid} {original}"), ("link", f"{row.meeting_url} {start}")})
