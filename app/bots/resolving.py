"""Where a plan meets the bots of other calendars: one for each real meeting, and none lost on the way.

All keys that a round will look at are locked first; what is read after that is what every other round has left. What
follows from it is decided without reading more, so that a trial of rules (`trial`) decides the same.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.bots import claims
from app.bots.claims import Holder
from app.bots.planning import Plan
from app.bots.rules import evaluations, rulebook
from app.bots.rules.rule import WIDE, Candidate, Ground, Rule, Scope, wanted
from app.bots.standing import LIVE, Meeting, Step
from app.bots.writing import NewBot, standing_of
from app.db import Row, Tx


@dataclass(slots=True)
class Round:
    """What of a plan other bots have a say in."""

    made: Plan
    moving: list[Row] = field(default_factory=list)
    """Live bots whose keys are others now."""
    returning: list[Row] = field(default_factory=list)
    leaving: list[Row] = field(default_factory=list)
    staying: list[Row] = field(default_factory=list)
    new: list[NewBot] = field(default_factory=list)
    keys: dict[UUID, frozenset[str]] = field(default_factory=dict)
    """What each bot that asks for keys will claim."""
    names: dict[UUID, str] = field(default_factory=dict)
    """The deduplication keys of those that are new, or come back."""

    @property
    def asked(self) -> set[str]:
        """Every key that a bot asks for."""
        return {key for keys in self.keys.values() for key in keys}

    @property
    def let_go(self) -> set[str]:
        """The keys of those that go."""
        return {key for bot in self.leaving for key in self.made.claims_before[bot.id]}

    @property
    def left_behind(self) -> set[str]:
        """The keys of those that have moved on to others."""
        before, after = self.made.claims_before, self.made.claims_after
        return {key for bot in self.moving for key in before[bot.id] - after.get(bot.id, frozenset())}

    @property
    def moved(self) -> set[UUID]:
        """The events of those that have moved on, which are judged already."""
        return {bot.calendar_event_id for bot in self.moving} | {event.id for event in self.made.attached.values()}


async def resolve(tx: Tx, ground: Ground, made: Plan, rules: Sequence[Rule]) -> dict[UUID, str]:
    """Take from a plan what another bot's claims forbid; the bots to be held for a transfer, with the reason.

    A bot that another event could take does not go: it is held until it is known what that event is now.
    """
    project = ground.project_id
    made.claims_before = await claims.of_bots(tx, of_interest(made))
    found = sort(made)
    locked = found.asked | found.let_go | {key for bot in found.moving for key in made.claims_before[bot.id]}
    locked |= {claims.name(name) for name in found.names.values()}
    if not locked:
        return {}
    await claims.lock_keys(tx, project=project, keys=locked)
    held = hold(found, await rulebook.sharing(tx, project, found.let_go), rules)
    owners = await claims.holders(tx, project=project, keys=found.asked)
    named = await claims.taken(tx, project=project, keys=set(found.names.values()))
    share_out(found, held, owners, named)
    await pass_on(tx, project, found.left_behind, but=found.moved)
    return held


async def pass_on(tx: Tx, project_id: UUID, left: Collection[str], *, but: Collection[UUID]) -> None:
    """Have the events judged anew that may have what a bot has left behind; but for these, which are judged already."""
    if left:
        others = await rulebook.sharing(tx, project_id, left)
        await evaluations.request_events(tx, waiting(others, left, but=but))


def of_interest(made: Plan) -> list[UUID]:
    """The bots whose claims have to be known: they are one for their meeting, or are to be."""
    ours = [
        bot for bot in made.bots.values() if bot.rule_id is not None and (bot.state in LIVE or made.is_live_after(bot))
    ]
    return [bot.id for bot in ours if bot.dedup_scope in WIDE or _scope(made, bot) in WIDE]


def sort(made: Plan) -> Round:
    """What a plan means for claims; it knows those that its bots have."""
    found = Round(made, new=list(made.new))
    for bot in (made.bots[id_] for id_ in of_interest(made)):
        if not made.is_live_after(bot):
            found.leaving.append(bot)
            continue
        keys = _keys(made, bot)
        if bot.state not in LIVE:
            found.returning.append(bot)
        elif keys != made.claims_before[bot.id]:
            found.moving.append(bot)
        else:
            found.staying.append(bot)
            continue
        found.keys[bot.id] = keys
    for one in made.new:
        if one.rule.scope in WIDE:
            found.keys[one.id] = one.candidate.keys(one.rule.scope)
        if one.deduplication_key is not None:
            found.names[one.id] = one.deduplication_key
    for bot in made.bots.values():
        if bot.deduplication_key is not None and bot.state not in LIVE and made.is_live_after(bot):
            found.names[bot.id] = bot.deduplication_key
    return found


def _keys(made: Plan, bot: Row) -> frozenset[str]:
    """A bot that is its event's alone claims nothing; one whose rule looks further than before claims the meeting."""
    event, scope = made.events.get(bot.id), _scope(made, bot)
    if event is None or not isinstance(event.meeting, Meeting):
        return made.claims_before[bot.id]
    return event.keys(scope) if scope in WIDE else frozenset()


def _scope(made: Plan, bot: Row) -> Scope:
    rule = made.adopted.get(bot.id)
    scope: Scope = rule.scope if rule is not None else bot.dedup_scope
    return scope


def hold(found: Round, others: Iterable[Candidate], rules: Sequence[Rule]) -> dict[UUID, str]:
    """Of the bots that would go, those that another event wants: they stay, by the reason that they would have gone by.

    `others`: the events that may have their keys.
    """
    made = found.made
    by_key = _by_key(others) if found.leaving else {}
    held: dict[UUID, str] = {}
    for bot in found.leaving:
        keys = made.claims_before[bot.id]
        near = {other.id: other for key in keys for other in by_key.get(key, ())}
        if takers(bot, keys, near.values(), rules):
            step = made.steps.pop(bot.id)
            made.attached.pop(bot.id, None)
            held[bot.id] = step.reason or ""
    return held


def _by_key(events: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    """Compared one by one, the bots of a calendar with all events at their times would take minutes."""
    found: dict[str, list[Candidate]] = defaultdict(list)
    for event in events:
        for key in {key for scope in WIDE for key in event.keys(scope)}:
            found[key].append(event)
    return found


def takers(
    bot: Row, keys: frozenset[str], others: Iterable[Candidate], rules: Sequence[Rule]
) -> list[tuple[Candidate, Rule]]:
    """Other events of a bot's meeting, each with the rule that wants the bot there; the best first."""
    scope: Scope = bot.dedup_scope
    found = []
    for event in others:
        if event.id != bot.calendar_event_id and event.keys(scope) & keys:
            rule = heir(event, scope, rules)
            if rule is not None:
                found.append((event, rule))
    order = {rule.id: place for place, rule in enumerate(rules)}
    return sorted(found, key=lambda one: (order[one[1].id], one[0].event.start_time, one[0].id))


def is_free(bot: Row, event: Candidate, rule: Rule, owners: Mapping[str, Holder]) -> bool:
    """Whether a bot may have an event's keys, by those who have them now."""
    of_others = (owners[key] for key in event.keys(rule.scope) if key in owners)
    return all(owner.lets(bot.id, rule.id, is_forced=event.override == "always") for owner in of_others)


def heir(event: Candidate, scope: Scope, rules: Sequence[Rule]) -> Rule | None:
    """The rule that wants a bot of this scope on an event; a series' own rule looks at its own calendar only."""
    common = [rule for rule in rules if rule.series_id is None]
    return next((rule for rule in wanted(common, event) if rule.scope == scope), None)


def share_out(found: Round, held: Iterable[UUID], owners: Mapping[str, Holder], named: dict[str, UUID]) -> None:
    """Share the keys out: to those that are live, then to those that come back, then to new ones in their order.

    `owners`, `named`: whose keys and deduplication keys count now, as `claims.holders` and `claims.taken` tell.
    """
    made = found.made
    owned = {key: owner for key, owner in owners.items() if owner.bot not in made.bots or owner.is_ended}
    for bot in [*(bot for bot in found.staying if bot.ends_at > bot.now), *(made.bots[id_] for id_ in held)]:
        owned |= dict.fromkeys(made.claims_before[bot.id], Holder(bot.id))

    def takes_keys(id_: UUID, rule: UUID, event: Candidate | None) -> bool:
        keys, name = found.keys.get(id_, frozenset()), found.names.get(id_)
        is_forced = event is not None and event.override == "always"
        is_free = all(owned[key].lets(id_, rule, is_forced=is_forced) for key in keys if key in owned)
        if not is_free or (name is not None and named.setdefault(name, id_) != id_):
            return False
        owned.update(dict.fromkeys(keys, Holder(id_)))
        if id_ in found.keys:
            made.claims_after[id_] = keys
        return True

    by_name = [bot for bot in made.bots.values() if bot.id in found.names and bot.id not in found.keys]
    for bot in [*found.moving, *found.returning, *by_name]:
        rule = made.adopted.get(bot.id)
        if not takes_keys(bot.id, rule.id if rule else bot.rule_id, made.events.get(bot.id)):
            step = made.steps.get(bot.id)
            meeting = step.meeting if step is not None else standing_of(bot).meeting
            made.steps[bot.id] = Step("cancelled", "superseded", meeting)
    made.new = [one for one in found.new if takes_keys(one.id, one.rule.id, one.candidate)]


def waiting(others: Iterable[Candidate], left: Collection[str], *, but: Collection[UUID]) -> dict[UUID, list[UUID]]:
    """Of these events, by their calendars, those that may have a key that was left; but for some."""
    found: dict[UUID, list[UUID]] = defaultdict(list)
    for event in others:
        if event.id not in but and any(event.keys(scope) & set(left) for scope in WIDE):
            found[event.ground.calendar_id].append(event.id)
    return found
