"""A dry run: what rules would make of the events ahead, with one rule more, or with one of them changed.

Reads all that it needs, in a few statements and without a lock, and then goes on without the database (`trial`). So it
says what would happen if nothing else did: what a sync brings meanwhile, and another worker's turn, are not in it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from app.bots import claims, planning
from app.bots.claims import Holder
from app.bots.fitting import config_text
from app.bots.following import BOT
from app.bots.rules import assigning, matching, rulebook, ruling
from app.bots.rules.rule import WIDE, Candidate, Rule, failed, names_of
from app.bots.rules.ruling import Terms
from app.bots.rules.trial import Trial, bot_of
from app.bots.standing import LIVE, Meeting
from app.db import ReadTx, Row
from app.errors import refusal
from app.ids import new_id
from app.meetings import NO_PREFERENCES
from app.runtime import Runtime

EVENTS_MOST: Final = 2_000
AHEAD: Final = timedelta(days=7)
UNDER_WAY: Final = timedelta(days=1)
"""So long ago an event may have begun that is looked at because it is not over."""
_LAST: Final = datetime.max.replace(tzinfo=UTC)
_CHUNK: Final = 50
"""Events that are looked at before the loop's other tasks have their turn."""
_STEPS: Final = 3
"""From an event to one of the same meeting, from there to one that shares another name with it, and so on."""

Effect = Literal["add", "remove", "keep", "none"]
CODES: Final = (
    "matches",
    "no_meeting",
    "disabled",
    "overridden",
    "outranked",
    "held_by_another_bot",
    "bot_removed",
    "bot_failed",
    "transferred",
)
REASONS: Final = frozenset({*CODES, *matching.CONDITIONS})
"""Why: one of the codes, or the condition that does not hold."""

_CONNECTED: Final = "c.state = 'connected' AND c.deleted_at IS NULL"

_RULES: Final = f"""
SELECT {rulebook.RULE}, r.priority, r.created_at, r.is_enabled
  FROM rules r WHERE r.project_id = :project AND r.series_id IS NULL AND r.deleted_at IS NULL
"""  # noqa: S608 - columns of ours

_OF_SERIES: Final = f"""
SELECT {rulebook.RULE}, r.series_calendar_id FROM rules r
 WHERE r.series_calendar_id = ANY (CAST(:calendars AS uuid[])) AND r.series_id IS NOT NULL AND r.deleted_at IS NULL
 ORDER BY {rulebook.ORDER}
"""  # noqa: S608 - columns of ours

_AHEAD: Final = f"""
SELECT e.id FROM calendar_events e JOIN calendars c ON c.id = e.calendar_id
 WHERE e.project_id = :project AND NOT e.is_deleted AND e.end_time > app_now() AND {_CONNECTED}
   AND e.start_time >= :since AND e.start_time <= :until
   AND (CAST(:calendar AS uuid) IS NULL OR e.calendar_id = :calendar)
 ORDER BY e.start_time, e.id LIMIT {EVENTS_MOST + 1}
"""  # noqa: S608 - a number of ours

# Who may share a meeting: without their content, for at one time there can be thousands.
_NEAR: Final = f"""
SELECT e.id, e.meeting_url, e.start_time, e.ical_uid,
       CASE WHEN e.ical_uid = ANY (CAST(:uids AS text[])) THEN CAST(e.content AS json) ->> 'original_start_time' END
           AS original
  FROM calendar_events e JOIN calendars c ON c.id = e.calendar_id
 WHERE e.id IN (
       SELECT u.id FROM calendar_events u
        WHERE u.project_id = :project AND u.ical_uid = ANY (CAST(:uids AS text[])) AND NOT u.is_deleted
       UNION
       SELECT s.id FROM calendar_events s
        WHERE s.project_id = :project AND s.start_time = ANY (CAST(:starts AS timestamptz[])) AND NOT s.is_deleted)
   AND e.id <> ALL (CAST(:ids AS uuid[]))
   AND e.meeting_url IS NOT NULL AND e.end_time > app_now() AND {_CONNECTED}
"""  # noqa: S608 - a condition of ours

_BOTS: Final = f"SELECT {BOT} FROM bots b WHERE b.calendar_event_id = ANY (CAST(:events AS uuid[]))"  # noqa: S608 - ours

_CLAIMS: Final = """
SELECT c.key, b.id, b.is_removed, b.state = 'failed' AS is_failed, b.rule_id, b.rule_version,
       b.state IN ('scheduled', 'launching', 'launched') AND b.ends_at > app_now() AS is_live
  FROM bot_claims c JOIN bots b ON b.id = c.bot_id
 WHERE c.project_id = :project AND (c.key = ANY (CAST(:keys AS text[])) OR c.bot_id = ANY (CAST(:bots AS uuid[])))
"""


@dataclass(frozen=True, slots=True)
class Span:
    """Which events a dry run looks at; None: the usual."""

    calendar_id: UUID | None
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Result:
    """What becomes of an event's bots, and why, as far as the rule that is tried goes."""

    event_id: UUID
    effect: Effect
    reason: str


@dataclass(frozen=True, slots=True)
class _Book:
    """The rules as they would be, whose turn it is first."""

    tried: Rule | None
    """None where it is not enabled."""
    common: Sequence[Rule]
    versions: Mapping[UUID, int]
    is_wide: bool
    """Whether any is or was about meetings, whichever calendars they stand in."""


async def dry_run(rt: Runtime, *, project_id: UUID, rule_id: UUID | None, terms: Terms, span: Span) -> list[Result]:
    """What a new rule would do, or a change of the rule `rule_id`, to each event ahead, by their starts.

    Invalid: a rule, launcher or calendar that is not there, a config that cannot be carried out, `too_many_events`.
    """
    now = rt.clock.now()
    async with rt.db.reading() as tx:
        book = await _book(tx, project_id, rule_id, terms, now=now)
        events = await _candidates(tx, await _ahead(tx, project_id, span, now=now))
        near = await _others(tx, project_id, events) if book.is_wide else []
        trial = await _trial(tx, project_id, book, [*events, *near], now=now)
    before = _standing(trial)
    await trial.run()
    after = _standing(trial)
    results = []
    for place, event in enumerate(events):
        effect = _effect(before.get(event.id, set()), after.get(event.id, set()))
        results.append(Result(event.id, effect, _reason(trial, book.tried, event)))
        if place % _CHUNK == 0:
            await asyncio.sleep(0)
    return results


async def _book(tx: ReadTx, project_id: UUID, rule_id: UUID | None, terms: Terms, *, now: datetime) -> _Book:
    stored = None if rule_id is None else await ruling.find(tx, project_id, rule_id)
    if rule_id is not None and stored is None:
        raise refusal("/rule/id", "not_found", message="there is no such rule")
    await ruling.check_bot(tx, project_id, terms, pointer="/rule/bot")
    id_, version, since = rule_id or new_id(), 1, now
    if stored is not None:
        version, since = stored.row.version + terms.is_version_new(stored.terms), stored.row.created_at
    tried = Rule(
        id=id_,
        name=terms.name,
        version=version,
        match=terms.match,
        scope=terms.scope,
        bot_name=terms.bot_name,
        config=config_text(terms.config),
        launcher_id=terms.launcher_id,
    )
    rows = [row for row in await tx.rows(_RULES, {"project": project_id}) if row.id != id_]
    turns = [(-row.priority, row.created_at, row.id, rulebook.rule_of(row)) for row in rows if row.is_enabled]
    if terms.is_enabled:
        turns.append((-terms.priority, since, id_, tried))
    scopes = {row.scope for row in rows} | {terms.scope} | ({stored.terms.scope} if stored else set())
    return _Book(
        tried=tried if terms.is_enabled else None,
        common=[rule for *_, rule in sorted(turns, key=lambda turn: turn[:3])],
        versions={row.id: row.version for row in rows} | {id_: version},
        is_wide=not scopes.isdisjoint(WIDE),
    )


async def _series(tx: ReadTx, events: Sequence[Candidate]) -> dict[UUID, list[Rule]]:
    """The rules of series, by their calendars: of those alone that are looked at, for a project may have many."""
    found: dict[UUID, list[Rule]] = defaultdict(list)
    for row in await tx.rows(_OF_SERIES, {"calendars": list({event.ground.calendar_id for event in events})}):
        found[row.series_calendar_id].append(rulebook.rule_of(row))
    return found


async def _ahead(tx: ReadTx, project_id: UUID, span: Span, *, now: datetime) -> list[UUID]:
    """The events that are looked at, by their starts."""
    if span.calendar_id is not None and not await tx.scalar(
        "SELECT id FROM calendars WHERE project_id = :project AND id = :id AND deleted_at IS NULL",
        {"project": project_id, "id": span.calendar_id},
    ):
        raise refusal("/calendar_id", "not_found", message="there is no such calendar")
    since = span.since or now - UNDER_WAY
    until = span.until or min(span.since or now, _LAST - AHEAD) + AHEAD
    params = {"project": project_id, "calendar": span.calendar_id, "since": since, "until": until}
    return _few([row.id for row in await tx.rows(_AHEAD, params)])


async def _others(tx: ReadTx, project_id: UUID, events: Sequence[Candidate]) -> list[Candidate]:
    """Other events that may share a meeting with one of these, and those that may with these again."""
    known = {event.id for event in events}
    found: list[Candidate] = []
    latest = events
    for _ in range(_STEPS):
        ids = await _near(tx, project_id, latest, known)
        if not ids:
            break
        known |= set(_few([*ids, *(event.id for event in found)]))
        latest = await _candidates(tx, ids)
        found += latest
    return found


async def _near(tx: ReadTx, project_id: UUID, events: Sequence[Candidate], known: Collection[UUID]) -> list[UUID]:
    names = {name for event in events for name in event.names}
    params = {
        "project": project_id,
        "ids": list(known),
        "uids": sorted({event.ical_uid for event in events if event.ical_uid is not None}),
        "starts": sorted({event.event.start_time for event in events}),
    }
    preferences = events[0].ground.preferences if events else NO_PREFERENCES
    found = []
    for place, row in enumerate(await tx.rows(_NEAR, params)):
        if not names.isdisjoint(names_of(row.meeting_url, row.start_time, row.ical_uid, row.original, preferences)):
            found.append(row.id)
        if place % _CHUNK == 0:
            await asyncio.sleep(0)
    return found


def _few(ids: list[UUID]) -> list[UUID]:
    if len(ids) > EVENTS_MOST:
        raise refusal(
            "", "too_many_events", message=f"more than {EVENTS_MOST} events: name a calendar, or a shorter range"
        )
    return ids


async def _candidates(tx: ReadTx, ids: Sequence[UUID]) -> list[Candidate]:
    found: list[Candidate] = []
    for start in range(0, len(ids), _CHUNK):
        part = await rulebook.events(tx, ids[start : start + _CHUNK])
        for event in part:
            _ = event.names, event.facts  # a little of it at a time
        found += part
    return found


async def _trial(tx: ReadTx, project_id: UUID, book: _Book, events: Sequence[Candidate], *, now: datetime) -> Trial:
    bots = {row.id: bot_of(row) for row in await tx.rows(_BOTS, {"events": [event.id for event in events]})}
    keys = await _keys(events) if book.is_wide else set()
    rows = await tx.rows(_CLAIMS, {"project": project_id, "keys": list(keys), "bots": list(bots)})
    names = {bot.deduplication_key for bot in bots.values()} - {None}
    series = await _series(tx, events)
    for event in events:
        ours = series.get(event.ground.calendar_id, ())
        names |= {planning.own_key(rule, event) for rule in ours if rule.covers_series(event.series_id)} - {None}
    return Trial(
        now=now,
        rules=book.common,
        series=series,
        versions=book.versions,
        events=events,
        bots=bots,
        claims={row.key: row.id for row in rows},
        owners={row.id: _owner(row, book) for row in rows},
        names=await claims.taken(tx, project=project_id, keys=names),
    )


async def _keys(events: Sequence[Candidate]) -> set[str]:
    found: set[str] = set()
    for place, event in enumerate(events):
        found |= {key for scope in WIDE for key in event.keys(scope)}
        if place % _CHUNK == 0:
            await asyncio.sleep(0)
    return found


def _owner(row: Row, book: _Book) -> Holder | None:
    """A bot on none of the events; one that was ended or has failed counts by the rules as they would be."""
    is_kept_out = (row.is_removed or row.is_failed) and row.rule_version == book.versions.get(row.rule_id)
    counts = row.is_live or is_kept_out
    return Holder(row.id, row.rule_id, row.is_removed, row.is_failed) if counts else None


def _standing(trial: Trial) -> dict[UUID, set[UUID]]:
    """The live bots of rules, by their events."""
    found: dict[UUID, set[UUID]] = defaultdict(set)
    for bot in trial.bots.values():
        if bot.state in LIVE and bot.rule_id is not None:
            found[bot.calendar_event_id].add(bot.id)
    return found


def _effect(before: Collection[UUID], after: Collection[UUID]) -> Effect:
    if set(after) - set(before):
        return "add"
    if set(before) - set(after):
        return "remove"
    return "keep" if after else "none"


def _reason(trial: Trial, rule: Rule | None, event: Candidate) -> str:
    if not isinstance(event.meeting, Meeting):
        return "no_meeting"
    if event.override == "never":
        return "overridden"
    if rule is None:
        return "disabled"
    condition = failed(rule, event)
    if rule not in trial.wants.get(event.id, ()):
        return condition or "outranked"
    return _outcome(trial, rule, event) or ("matches" if condition is None else "overridden")


def _outcome(trial: Trial, rule: Rule, event: Candidate) -> str | None:
    """Why an event that the rule wants a bot on has none, or one from elsewhere; None: it has its own."""
    bots = trial.of_event(event.id)
    if any(bot.id in trial.handed_on for bot in bots):
        return "transferred"
    if any(bot.state in LIVE and (bot.rule_id == rule.id or _is_served(bot, rule)) for bot in bots):
        return None
    own = [bot for bot in bots if assigning.blocks(bot, rule)]
    if own:
        return "bot_removed" if any(bot.is_removed for bot in own) else "bot_failed"
    holder = trial.holder(event, rule) if rule.scope in WIDE else None
    if holder is None or not holder.is_ended:
        return "held_by_another_bot"
    return "bot_removed" if holder.is_removed else "bot_failed"


def _is_served(bot: Row, rule: Rule) -> bool:
    """Whether another rule's bot is the one for the meeting."""
    return rule.scope in WIDE and bot.dedup_scope == rule.scope
