"""Will a bot join an event's meeting, and why: what rules, overrides and other bots come to, for the event's owner.

The same functions answer that decide in a round; nothing is stored.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from app.bots import claims, records
from app.bots.planning import own_key
from app.bots.rules import rulebook
from app.bots.rules.assigning import blocks
from app.bots.rules.rule import WIDE, Candidate, Rule, failed, wanted
from app.bots.standing import LIVE, Meeting
from app.db import ReadTx, Row
from app.errors import NotFound
from app.ids import EVENT, public

Code = Literal[
    "calendar_disconnected",
    "event_deleted",
    "left_window",
    "event_cancelled",
    "no_link",
    "event_over",
    "override_always",
    "override_never",
    "override_without_rule",
    "rule_matches",
    "outranked",
    "rule_by_override",
    "rule_does_not_match",
    "no_rule",
    "bot_by_hand",
    "under_way",
    "transfer",
    "calendar_behind",
    "missed",
    "bot_failed",
    "ended_by_owner",
    "key_in_use",
    "held_by_bot",
    "being_judged",
]
"""Why a bot joins, or none: a closed list, which docs/bots.md explains."""

EVENTS_SHOWN: Final = 100
"""Of those that are the same meeting."""

_CALENDAR: Final = """
SELECT e.calendar_id, c.state, app_now() AS now FROM calendar_events e
  JOIN calendars c ON c.id = e.calendar_id AND c.deleted_at IS NULL
 WHERE e.project_id = :project AND e.id = :id
"""

_BOTS: Final = f"""
SELECT b.id, b.state, b.state_reason, b.join_at, b.ends_at, b.deduplication_key, b.rule_id, b.rule_version,
       b.is_removed, b.is_by_hand, {records.SEEN_RULE} AS seen_rule_id, {records.HOLD_REASON} AS hold_reason
  FROM bots b
 WHERE b.project_id = :project AND b.calendar_event_id = :event ORDER BY b.created_at, b.id
"""  # noqa: S608 - columns of ours

_WAITS: Final = """
SELECT EXISTS (SELECT FROM rule_evaluations v
                WHERE v.calendar_id = :calendar AND (v.event_ids IS NULL OR :event = ANY (v.event_ids)))
"""

_OF_FACTS: Final[dict[str, tuple[Code, str]]] = {
    "event_deleted": ("event_deleted", "the event was deleted"),
    "left_window": ("left_window", "the event is outside the window that is kept"),
    "event_cancelled": ("event_cancelled", "the event is cancelled"),
    "link_gone": ("no_link", "the event has no meeting link"),
}


@dataclass(frozen=True, slots=True)
class Because:
    """One reason."""

    code: Code
    detail: str
    rule_id: UUID | None = None
    bot_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be expected of an event."""

    bots: list[Row]
    """The live ones that join its meeting, wherever they stand."""
    reasons: list[Because]
    keys: list[str]
    event_ids: list[UUID]
    """The project's events of this meeting, its own first."""
    owner_event_id: UUID | None

    @property
    def join_at(self) -> datetime | None:
        """When the first of its bots joins."""
        return min((bot.join_at for bot in self.bots), default=None)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What a decision goes by."""

    event: Candidate
    state: str
    now: datetime
    rules: Sequence[Rule]
    first: Sequence[Rule]
    """Those that want a bot there, one for each slot."""
    bots: Sequence[Row]
    holders: Sequence[Row]
    """Of the meeting's keys: bots on any event of the project."""
    names: dict[str, UUID]
    """Deduplication keys that live bots have."""
    is_waiting: bool

    @property
    def is_open(self) -> bool:
        """Whether a bot could still join."""
        return self.state == "connected" and self.event.is_ahead(self.now)


async def decide(tx: ReadTx, *, project_id: UUID, event_id: UUID) -> Decision:
    """The decision about an event, as it is now. NotFound."""
    found = await tx.row(_CALENDAR, {"project": project_id, "id": event_id})
    book = None if found is None else await rulebook.of_calendar(tx, found.calendar_id)
    events = [] if book is None else await rulebook.events(tx, [event_id], book[0])
    if found is None or book is None or not events:
        raise NotFound
    event, now = events[0], found.now
    rules = [rule for rule in book[1] if rule.series_id is None or rule.covers_series(event.series_id)]
    keys = event.keys("meeting")
    bots = await tx.rows(_BOTS, {"project": project_id, "event": event_id})
    first = wanted(rules, event) if event.is_ahead(now) else []
    names = {name for rule in first if (name := own_key(rule, event)) is not None}
    names |= {bot.deduplication_key for bot in bots if bot.deduplication_key is not None}
    ground = _Ground(
        event=event,
        state=found.state,
        now=now,
        rules=rules,
        first=first,
        bots=bots,
        holders=await claims.holding(tx, project=project_id, keys={key for s in WIDE for key in event.keys(s)}),
        names=await claims.taken(tx, project=project_id, keys=names),
        is_waiting=await tx.scalar(_WAITS, {"calendar": found.calendar_id, "event": event_id}),
    )
    owners = [row for row in ground.holders if row.state in LIVE]
    same = [other.id for other in await rulebook.sharing(tx, project_id, keys) if other.keys("meeting") & keys]
    return Decision(
        bots=_joining(ground, owners),
        reasons=[*_facts(ground), *_override(ground), *_rules(ground), *_bots(ground), *_elsewhere(ground)],
        keys=sorted(keys),
        event_ids=[event_id, *(other for other in same if other != event_id)][:EVENTS_SHOWN],
        owner_event_id=owners[0].calendar_event_id if owners else None,
    )


def _joining(ground: _Ground, owners: Sequence[Row]) -> list[Row]:
    found = {bot.id: bot for bot in (*ground.bots, *owners) if bot.state in LIVE and bot.ends_at > ground.now}
    return list(found.values())


def _facts(ground: _Ground) -> list[Because]:
    found: list[Because] = []
    if ground.state != "connected":
        found.append(Because("calendar_disconnected", "the provider ended our access to the calendar"))
    meeting = ground.event.meeting
    if not isinstance(meeting, Meeting):
        found.append(Because(*_OF_FACTS[meeting]))
    elif meeting.ends_at <= ground.now:
        found.append(Because("event_over", "the event is over"))
    return found


def _override(ground: _Ground) -> list[Because]:
    value = ground.event.override
    if value == "never":
        return [Because("override_never", "bot_override is never: no rule counts")]
    if value is None:
        return []
    found = [Because("override_always", "bot_override is always")]
    if not ground.rules:  # one of a series does not count for another
        found.append(Because("override_without_rule", "there is no rule that says what bot to make"))
    return found


def _rules(ground: _Ground) -> list[Because]:
    """Each rule with what it comes to, as if nothing ruled it out; a series' own by the word `all_occurrences`."""
    event, found = ground.event, list[Because]()
    forced = {rule.id for rule in ground.first}
    slots: dict[object, Rule] = {}
    for rule in ground.rules:
        condition = failed(rule, event)
        shown = _shown(rule)
        if condition is None and rule.slot in slots:
            found.append(Because("outranked", f"rule {slots[rule.slot].name} goes first", shown))
        elif condition is None:
            slots[rule.slot] = rule
            found.append(Because("rule_matches", "all_occurrences" if shown is None else rule.name, shown))
        elif rule.id in forced:
            found.append(Because("rule_by_override", condition, shown))
        else:
            found.append(Because("rule_does_not_match", condition, shown))
    if not ground.rules and not any(bot.rule_id is None and bot.state in LIVE for bot in ground.bots):
        found.append(Because("no_rule", "no rule is enabled, and there is no live bot made by hand"))
    return found


def _bots(ground: _Ground) -> list[Because]:
    """What the event's own bots say."""
    found: list[Because] = []
    for bot in ground.bots:
        if bot.state in LIVE:
            found += _live(bot, ground)
        elif bot.state == "missed":
            found.append(Because("missed", "the meeting was over before it could start", bot.seen_rule_id, bot.id))
        elif bot.rule_id is None or any(blocks(bot, rule) for rule in ground.rules):
            if bot.state == "failed":
                found.append(Because("bot_failed", bot.state_reason or "", bot.seen_rule_id, bot.id))
            elif bot.is_removed:
                found.append(Because("ended_by_owner", bot.state_reason or "", bot.seen_rule_id, bot.id))
        if bot.state == "cancelled" and bot.state_reason == "superseded" and bot.deduplication_key in ground.names:
            holder = ground.names[bot.deduplication_key]
            found.append(Because("key_in_use", bot.deduplication_key, bot.seen_rule_id, holder))
    return found


def _live(bot: Row, ground: _Ground) -> list[Because]:
    found: list[Because] = []
    if bot.rule_id is None or bot.is_by_hand:
        how = "made by hand" if bot.rule_id is None else "changed by hand"
        found.append(Because("bot_by_hand", how, bot.seen_rule_id, bot.id))
    elif bot.join_at <= ground.now < bot.ends_at:
        found.append(Because("under_way", "the meeting is under way", bot.seen_rule_id, bot.id))
    if bot.hold_reason == "transfer":
        found.append(Because("transfer", "held until it is known what other event takes it", bot.seen_rule_id, bot.id))
    elif bot.hold_reason is not None:
        found.append(Because("calendar_behind", bot.hold_reason, bot.seen_rule_id, bot.id))
    return found


def _elsewhere(ground: _Ground) -> list[Because]:
    """What keeps rules that want a bot from having one of their own here."""
    found: list[Because] = []
    if not ground.is_open:
        return found
    own = {bot.id for bot in ground.bots}
    live = {bot.rule_id for bot in ground.bots if bot.state in LIVE}
    for rule in ground.first:
        if rule.scope in WIDE:
            keys = ground.event.keys(rule.scope)
            found += _held(rule, [row for row in _once(ground.holders, keys) if row.id not in own], ground)
        name = own_key(rule, ground.event)
        if rule.id not in live and name in ground.names and ground.names[name] not in own:
            found.append(Because("key_in_use", name or "", _shown(rule), ground.names[name]))
    if ground.is_waiting:
        found.append(Because("being_judged", "rules have changed, and are applied soon"))
    return found


def _once(holders: Sequence[Row], keys: Collection[str]) -> list[Row]:
    return list({row.id: row for row in holders if row.key in keys}.values())


def _held(rule: Rule, holders: Sequence[Row], ground: _Ground) -> list[Because]:
    found: list[Because] = []
    for row in holders:
        event = public(EVENT, row.calendar_event_id) if row.calendar_event_id else "an event that is gone"
        holder = claims.Holder(row.id, row.rule_id, row.is_removed, row.is_failed)
        if row.state in LIVE:
            found.append(Because("held_by_bot", f"on {event}", _shown(rule), row.id))
        elif not holder.lets(None, rule.id, is_forced=ground.event.override == "always"):
            code: Code = "ended_by_owner" if row.is_removed else "bot_failed"
            found.append(Because(code, f"on {event}", _shown(rule), row.id))
    return found


def _shown(rule: Rule) -> UUID | None:
    return rule.id if rule.series_id is None else None
