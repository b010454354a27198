"""What rules would do to events, without doing it, and without a database.

Goes the way of a change of rules that is carried out (`judging`): calendar by calendar, batch by batch, planned and
shared out by the same functions; then what is held is handed on as `transfers` does, its other calendars taken as they
are. Bots and claims are a picture here, which changes as their rows would.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Final, cast
from uuid import UUID

from app.bots import following, resolving, writing
from app.bots.claims import Holder
from app.bots.planning import Plan, plan
from app.bots.rules.judging import BATCH
from app.bots.rules.rule import WIDE, Candidate, Rule
from app.bots.standing import LIVE, Meeting
from app.db import Row

_CHUNK: Final = 100
"""Events that are looked at before the loop's other tasks have their turn."""


_NOBODY: Final = UUID(int=0)


def bot_of(row: Row) -> Row:
    """A bot's row that can change."""
    return cast("Row", SimpleNamespace(**dict(row.items())))


@dataclass
class Trial:
    """Events with their bots, and what rules make of them."""

    now: datetime
    rules: Sequence[Rule]
    """The project's, whose turn it is first."""
    series: Mapping[UUID, Sequence[Rule]]
    """Those of series, by their calendar."""
    versions: Mapping[UUID, int]
    """Of the project's rules, disabled ones too: claims of what was ended or failed go by them."""
    events: Sequence[Candidate]
    bots: dict[UUID, Row]
    claims: dict[str, UUID]
    """Whose each key is, in force or not."""
    owners: Mapping[UUID, Holder | None]
    """Whose claims count, of the bots on other events."""
    names: Mapping[str, UUID]
    """The live bots with the deduplication keys that may be asked for."""
    handed_on: dict[UUID, UUID] = field(default_factory=dict)
    """The event that each bot was transferred to."""
    wants: dict[UUID, Sequence[Rule]] = field(default_factory=dict)
    """The rules that want a bot on an event with a meeting ahead."""
    _of_event: dict[UUID, set[UUID]] = field(default_factory=lambda: defaultdict(set))
    _by_id: dict[UUID, Candidate] = field(default_factory=dict)
    _by_key: dict[str, list[Candidate]] = field(default_factory=lambda: defaultdict(list))
    _held: list[UUID] = field(default_factory=list)
    _claimed: dict[UUID, set[str]] = field(default_factory=lambda: defaultdict(set))
    _named: dict[str, UUID] = field(default_factory=dict)

    async def run(self) -> None:
        """Judge all events, until nothing waits: neither to be judged anew nor to be handed on."""
        await self._index()
        work: dict[UUID, list[list[Candidate]]] = {}
        for calendar, events in self._of_calendar().items():
            work[calendar] = [events[start : start + BATCH] for start in range(0, len(events), BATCH)]
        await self._work(work)
        while self._held:
            held, self._held = self._held, []
            for bot_id in held:
                for calendar, waiting in self._hand_on(self.bots[bot_id]).items():
                    work.setdefault(calendar, []).append(waiting)
            await self._work(work)

    async def _work(self, work: dict[UUID, list[list[Candidate]]]) -> None:
        while work:
            for calendar in list(work):
                waiting = await self._judge(calendar, work[calendar].pop(0))
                for other, ids in waiting.items():
                    work.setdefault(other, []).insert(0, [self._by_id[id_] for id_ in ids])
                if not work[calendar]:
                    del work[calendar]
                await asyncio.sleep(0)

    async def _index(self) -> None:
        for bot in self.bots.values():
            self._of_event[bot.calendar_event_id].add(bot.id)
            if bot.transfer_since is not None:
                self._held.append(bot.id)
        for key, owner in self.claims.items():
            self._claimed[owner].add(key)
        for place, event in enumerate(self.events):
            self._by_id[event.id] = event
            for key in {key for scope in WIDE for key in event.keys(scope)}:
                self._by_key[key].append(event)
            if place % _CHUNK == 0:
                await asyncio.sleep(0)

    def _of_calendar(self) -> dict[UUID, list[Candidate]]:
        found: dict[UUID, list[Candidate]] = defaultdict(list)
        for event in sorted(self.events, key=lambda event: (event.ground.calendar_id, event.id)):
            found[event.ground.calendar_id].append(event)
        return found

    def of_event(self, event_id: UUID) -> list[Row]:
        """The bots of an event, as they are by now."""
        return [self.bots[id_] for id_ in sorted(self._of_event[event_id])]

    def holder(self, event: Candidate, rule: Rule) -> Holder | None:
        """A bot that keeps the rule's from this meeting."""
        holders = self._holders(event.keys(rule.scope)).values()
        is_forced = event.override == "always"
        return next((one for one in holders if not one.lets(_NOBODY, rule.id, is_forced=is_forced)), None)

    async def _judge(self, calendar: UUID, batch: Sequence[Candidate]) -> dict[UUID, list[UUID]]:
        """What `following` does with these events; those, by their calendars, that are to be judged anew."""
        rules = [*self.series.get(calendar, ()), *self.rules]
        bots = sorted((bot for event in batch for bot in self.of_event(event.id)), key=lambda bot: bot.id)
        events = sorted(batch, key=lambda event: (event.event.start_time, event.id))
        wants = await following.wanted_by(rules, events, now=self.now)
        self.wants |= wants
        made = plan(bots, events, wants, now=self.now)
        made.claims_before = self._claims_of(resolving.of_interest(made))
        found = resolving.sort(made)
        held = resolving.hold(found, self._sharing(found.let_go), rules)
        owners, named = self._holders(found.asked), self._taken(found.names.values())
        resolving.share_out(found, held, owners, named)
        left = found.left_behind
        waiting = resolving.waiting(self._sharing(left), left, but=found.moved)
        self._store(made, held)
        return waiting

    def _claims_of(self, bots: Iterable[UUID]) -> dict[UUID, frozenset[str]]:
        return {id_: frozenset(self._claimed[id_]) for id_ in bots}

    def _sharing(self, keys: Collection[str]) -> list[Candidate]:
        found = {event.id: event for key in keys for event in self._by_key.get(key, ())}
        return sorted(found.values(), key=lambda event: (event.event.start_time, event.id))

    def _holders(self, keys: Iterable[str]) -> dict[str, Holder]:
        """As `claims.holders`."""
        found = {key: self._owner(self.claims[key]) for key in keys if key in self.claims}
        return {key: owner for key, owner in found.items() if owner is not None}

    def _owner(self, bot_id: UUID) -> Holder | None:
        bot = self.bots.get(bot_id)
        if bot is None:
            return self.owners[bot_id]
        is_failed = bot.state == "failed"
        is_kept_out = (bot.is_removed or is_failed) and self.versions.get(bot.rule_id) == bot.rule_version
        counts = is_kept_out or (bot.state in LIVE and bot.ends_at > self.now)
        return Holder(bot_id, bot.rule_id, bot.is_removed, is_failed) if counts else None

    def _taken(self, names: Iterable[str]) -> dict[str, UUID]:
        """As `claims.taken`."""
        found = {}
        for name in names:
            owner = self._named.get(name, self.names.get(name))
            if owner is not None and (owner not in self.bots or self.bots[owner].state in LIVE):
                found[name] = owner
        return found

    def _store(self, made: Plan, held: Mapping[UUID, str]) -> None:
        """What `following.carry_out` does to rows."""
        for id_, step in made.steps.items():
            if not made.is_vain(id_):
                vars(made.bots[id_]).update(
                    state=step.state, state_reason=step.reason, transfer_since=None, transfer_reason=None
                )
                self._place(made.bots[id_], step.meeting)
                if id_ in made.adopted:
                    self._adopt(made.bots[id_], made.adopted[id_])
        for id_, reason in held.items():
            vars(made.bots[id_]).update(transfer_since=self.now, transfer_reason=reason)
        self._held += sorted(held)
        for id_ in made.released:
            vars(made.bots[id_]).update(transfer_since=None, transfer_reason=None)
        for new in made.new:
            self._add(new)
        for id_, keys in made.claims_after.items():
            self._claim(id_, keys)

    def _claim(self, bot_id: UUID, keys: frozenset[str]) -> None:
        """As `claims.store`: a key that is given has one owner."""
        for key in self._claimed[bot_id] - keys:
            del self.claims[key]
        for key in keys:
            before = self.claims.get(key)
            if before is not None:
                self._claimed[before].discard(key)
            self.claims[key] = bot_id
        self._claimed[bot_id] = set(keys)

    def _add(self, new: writing.NewBot) -> None:
        rule, event = new.rule, new.candidate
        bot = SimpleNamespace(
            id=new.id,
            project_id=event.ground.project_id,
            state="scheduled",
            state_reason=None,
            is_removed=False,
            deduplication_key=new.deduplication_key,
            calendar_id=event.ground.calendar_id,
            calendar_event_id=event.id,
            series_id=event.series_id,
            is_by_hand=False,
            transfer_since=None,
            transfer_reason=None,
            created_at=self.now,
            is_at_back_end=False,
            now=self.now,
        )
        self.bots[new.id] = cast("Row", bot)
        self._adopt(self.bots[new.id], rule)
        self._place(self.bots[new.id], new.meeting)
        self._of_event[event.id].add(new.id)
        if new.deduplication_key is not None:
            self._named[new.deduplication_key] = new.id

    def _adopt(self, bot: Row, rule: Rule) -> None:
        vars(bot).update(
            rule_id=rule.id, rule_version=rule.version, dedup_scope=rule.scope, launcher_id=rule.launcher_id
        )

    def _place(self, bot: Row, meeting: Meeting) -> None:
        vars(bot).update(
            meeting_url=meeting.url,
            meeting_platform=meeting.platform,
            join_at=meeting.join_at,
            ends_at=meeting.ends_at,
        )

    def _hand_on(self, bot: Row) -> dict[UUID, list[Candidate]]:
        """What becomes of a bot that is held: the best event that is left takes it, or it ends.

        The events, by their calendars, that may have what it leaves behind.
        """
        if bot.transfer_since is None or bot.state not in LIVE:
            return {}
        before = frozenset(self._claimed[bot.id])
        for event, rule in resolving.takers(bot, before, self._sharing(before), self.rules):
            keys = event.keys(rule.scope)
            own = {one.rule_id for one in self.of_event(event.id) if one.state in LIVE}
            if own & {rule.id, bot.rule_id} or not resolving.is_free(bot, event, rule, self._holders(keys)):
                continue
            self._of_event[bot.calendar_event_id].discard(bot.id)
            self._of_event[event.id].add(bot.id)
            vars(bot).update(calendar_event_id=event.id, transfer_since=None)
            if isinstance(event.meeting, Meeting):
                self._place(bot, event.meeting)
            if not bot.is_by_hand and not (bot.is_at_back_end and bot.launcher_id != rule.launcher_id):
                self._adopt(bot, rule)
            self._claim(bot.id, keys)
            self.handed_on[bot.id] = event.id
            return self._waiting(before - keys, but={event.id})
        vars(bot).update(state="cancelled", state_reason=bot.transfer_reason, transfer_since=None)
        return self._waiting(before, but=())

    def _waiting(self, left: frozenset[str], *, but: Collection[UUID]) -> dict[UUID, list[Candidate]]:
        found = resolving.waiting(self._sharing(left), left, but=but)
        return {calendar: [self._by_id[id_] for id_ in ids] for calendar, ids in found.items()}
