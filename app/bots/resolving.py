"""Where a plan meets the bots of other calendars: one for each real meeting, and none lost on the way.

All keys that a round will look at are locked first; what is read after that is what every other round has left.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.bots import claims, evaluations, rulebook
from app.bots.claims import Holder
from app.bots.planning import Plan
from app.bots.rules import WIDE, Candidate, Ground, Rule, Scope, wanted
from app.bots.standing import LIVE, Meeting, Step
from app.bots.writing import NewBot, standing_of
from app.db import Row, Tx


@dataclass(slots=True)
class _Round:
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


async def resolve(tx: Tx, ground: Ground, made: Plan, rules: Sequence[Rule]) -> dict[UUID, str]:
    """Take from a plan what another bot's claims forbid; the bots to be held for a transfer, with the reason.

    A bot that another event could take does not go: it is held until it is known what that event is now.
    """
    found = await _sorted(tx, made)
    before = made.claims_before
    locked = {key for keys in found.keys.values() for key in keys}
    locked |= {key for bot in (*found.moving, *found.leaving) for key in before[bot.id]}
    locked |= {claims.name(name) for name in found.names.values()}
    if not locked:
        return {}
    await claims.lock_keys(tx, project=ground.project_id, keys=locked)
    held = await _held(tx, ground, found, rules)
    await _settle(tx, ground, found, held)
    await _pass_on(tx, ground, found)
    return held


async def _sorted(tx: Tx, made: Plan) -> _Round:
    found = _Round(made, new=list(made.new))
    ours = [
        bot for bot in made.bots.values() if bot.rule_id is not None and {bot.dedup_scope, _scope(made, bot)} & WIDE
    ]
    of_interest = [bot for bot in ours if bot.state in LIVE or made.is_live_after(bot)]
    made.claims_before = await claims.of_bots(tx, [bot.id for bot in of_interest])
    for bot in of_interest:
        if not made.is_live_after(bot):
            found.leaving.append(bot)
            continue
        event = made.events.get(bot.id)
        has_meeting = event is not None and isinstance(event.meeting, Meeting)
        keys = _keys(event, _scope(made, bot)) if event and has_meeting else made.claims_before[bot.id]
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


def _keys(event: Candidate, scope: Scope) -> frozenset[str]:
    """A bot that is its event's alone claims nothing; one whose rule looks further than before claims the meeting."""
    return event.keys(scope) if scope in WIDE else frozenset()


def _scope(made: Plan, bot: Row) -> Scope:
    rule = made.adopted.get(bot.id)
    scope: Scope = rule.scope if rule is not None else bot.dedup_scope
    return scope


async def _held(tx: Tx, ground: Ground, found: _Round, rules: Sequence[Rule]) -> dict[UUID, str]:
    """Of the bots that would go, those that another event wants."""
    made = found.made
    keys = {key for bot in found.leaving for key in made.claims_before[bot.id]}
    others = await rulebook.sharing(tx, ground.project_id, keys)
    held: dict[UUID, str] = {}
    for bot in found.leaving:
        if any(takes(other, bot, made.claims_before[bot.id], rules) for other in others):
            step = made.steps.pop(bot.id)
            made.attached.pop(bot.id, None)
            held[bot.id] = step.reason or ""
    return held


def takes(other: Candidate, bot: Row, keys: frozenset[str], rules: Sequence[Rule]) -> bool:
    """Whether another event is the same meeting, and a rule wants this bot there."""
    scope: Scope = bot.dedup_scope
    if other.id == bot.calendar_event_id or not other.keys(scope) & keys:
        return False
    return heir(other, scope, rules) is not None


def heir(event: Candidate, scope: Scope, rules: Sequence[Rule]) -> Rule | None:
    """The rule that wants a bot of this scope on an event; a series' own rule looks at its own calendar only."""
    common = [rule for rule in rules if rule.series_id is None]
    return next((rule for rule in wanted(common, event) if rule.scope == scope), None)


async def _settle(tx: Tx, ground: Ground, found: _Round, held: dict[UUID, str]) -> None:
    """Share the keys out: to those that are live, then to those that come back, then to new ones in their order."""
    made, project = found.made, ground.project_id
    asked = {key for keys in found.keys.values() for key in keys}
    owners = await claims.holders(tx, project=project, keys=asked)
    named = await claims.taken(tx, project=project, keys=set(found.names.values()))
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


async def _pass_on(tx: Tx, ground: Ground, found: _Round) -> None:
    made = found.made
    left: set[str] = set()
    for bot in found.moving:
        left |= made.claims_before[bot.id] - made.claims_after.get(bot.id, frozenset())
    moved = {bot.calendar_event_id for bot in found.moving} | {event.id for event in made.attached.values()}
    await pass_on(tx, ground.project_id, left, but=moved)


async def pass_on(tx: Tx, project_id: UUID, left: Collection[str], *, but: Collection[UUID]) -> None:
    """Have the events judged anew that may have what a bot has left behind; but for these, which are judged already."""
    waiting: dict[UUID, list[UUID]] = defaultdict(list)
    for event in await rulebook.sharing(tx, project_id, left):
        if event.id not in but and any(event.keys(scope) & set(left) for scope in WIDE):
            waiting[event.ground.calendar_id].append(event.id)
    await evaluations.request_events(tx, waiting)
