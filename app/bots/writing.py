"""What becomes of bots, as rows: set-based, for all of a round at once.

What a bot's back end has to know is left to the launching loop: the row says from when on there is something to do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from app.bots import records
from app.bots.rules.rule import Candidate, Rule
from app.bots.standing import LIVE, Event, Meeting, Standing, Step
from app.db import Row, Tx
from app.telemetry import BOT_STEPS

WEBHOOK_HAND_OVER: Final = 60
"""Seconds ahead of `join_at` at which `bot.launch` is sent, where a project has no launcher."""

# A bot that its back end has been told of, or may have been, is due at once; any other when it is to be handed over.
_WRITE: Final = """
UPDATE bots b
   SET state = n.state, state_reason = n.reason,
       meeting_url = n.url, meeting_platform = n.platform, join_at = n.join_at, ends_at = n.ends_at,
       revision = b.revision + CASE WHEN n.is_new THEN 1 ELSE 0 END,
       failure_count = CASE WHEN n.is_new THEN 0 ELSE b.failure_count END,
       due_at = CASE
           WHEN NOT n.is_new THEN b.due_at
           WHEN b.handed_revision IS NOT NULL OR b.starting_since IS NOT NULL THEN app_now()
           WHEN n.state IN ('scheduled', 'launching', 'launched') THEN
               greatest(app_now(), n.join_at - make_interval(secs => coalesce(l.hand_over_seconds, :hand_over)))
           END,
       transfer_since = NULL, transfer_reason = NULL, transfer_calendar_id = NULL, transfer_seq = NULL,
       updated_at = app_now()
  FROM unnest(
        CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:reasons AS text[]), CAST(:urls AS text[]),
        CAST(:platforms AS text[]), CAST(:join AS timestamptz[]), CAST(:ends AS timestamptz[]), CAST(:new AS bool[])
       ) AS n (id, state, reason, url, platform, join_at, ends_at, is_new)
  JOIN bots own ON own.id = n.id
  LEFT JOIN LATERAL (
       SELECT k.hand_over_seconds FROM launchers k
        WHERE k.deleted_at IS NULL AND (k.id = own.launcher_id
              OR own.launcher_id IS NULL AND k.project_id = own.project_id AND k.is_default)
       ) l ON true
 WHERE b.id = n.id
"""

_INSERT: Final = """
INSERT INTO bots (id, project_id, state, bot_name, meeting_url, meeting_platform, join_at, ends_at, calendar_id,
                  calendar_event_id, launcher_id, deduplication_key, metadata, config, series_id, rule_id, rule_version,
                  dedup_scope, due_at, created_at, updated_at)
SELECT n.id, :project, 'scheduled', r.bot_name, n.url, n.platform, n.join_at, n.ends_at, n.calendar, n.event,
       r.launcher_id, n.key, r.metadata, r.config, n.series, r.id, r.version, r.dedup_scope,
       greatest(app_now(), n.join_at - make_interval(secs => coalesce(l.hand_over_seconds, :hand_over))),
       app_now(), app_now()
  FROM unnest(
        CAST(:ids AS uuid[]), CAST(:rules AS uuid[]), CAST(:calendars AS uuid[]), CAST(:events AS uuid[]),
        CAST(:urls AS text[]), CAST(:platforms AS text[]), CAST(:join AS timestamptz[]), CAST(:ends AS timestamptz[]),
        CAST(:series AS text[]), CAST(:keys AS text[])
       ) AS n (id, rule, calendar, event, url, platform, join_at, ends_at, series, key)
  JOIN rules r ON r.id = n.rule
  LEFT JOIN LATERAL (
       SELECT k.hand_over_seconds FROM launchers k
        WHERE k.deleted_at IS NULL AND (k.id = r.launcher_id
              OR r.launcher_id IS NULL AND k.project_id = r.project_id AND k.is_default)
       ) l ON true
"""

_ADOPT: Final = """
UPDATE bots b
   SET rule_id = r.id, rule_version = r.version, dedup_scope = r.dedup_scope, bot_name = r.bot_name, config = r.config,
       launcher_id = r.launcher_id, metadata = CASE WHEN r.series_id IS NULL THEN b.metadata ELSE r.metadata END
  FROM unnest(CAST(:ids AS uuid[]), CAST(:rules AS uuid[])) AS n (id, rule) JOIN rules r ON r.id = n.rule
 WHERE b.id = n.id
"""

_ATTACH: Final = """
UPDATE bots b
   SET calendar_event_id = n.event, calendar_id = n.calendar, series_id = n.series, updated_at = app_now(),
       checked_at = CASE WHEN b.calendar_id = n.calendar THEN b.checked_at END,
       checked_seq = CASE WHEN b.calendar_id = n.calendar THEN b.checked_seq END
  FROM unnest(CAST(:ids AS uuid[]), CAST(:events AS uuid[]), CAST(:calendars AS uuid[]), CAST(:series AS text[]))
       AS n (id, event, calendar, series)
 WHERE b.id = n.id
"""


@dataclass(frozen=True, slots=True)
class NewBot:
    """A bot that a rule makes."""

    id: UUID
    rule: Rule
    candidate: Candidate
    meeting: Meeting
    deduplication_key: str | None


def standing_of(row: Row) -> Standing:
    """A bot, as far as following its meeting goes."""
    meeting = Meeting(row.meeting_url, row.meeting_platform, row.join_at, row.ends_at)
    return Standing(row.state, row.state_reason, meeting, row.is_removed)


def event_in(row: Row) -> Event:
    """An event, as far as its bots go."""
    return Event(
        is_deleted=row.is_deleted,
        deletion_kind=row.deletion_kind,
        status=row.status,
        meeting_url=row.meeting_url,
        meeting_platform=row.meeting_platform,
        start_time=row.start_time,
        end_time=row.end_time,
    )


async def write(tx: Tx, rows: Mapping[UUID, Row], steps: Mapping[UUID, Step]) -> None:
    """Store what bots become, and note it for their owners. Their rows are locked."""
    if not steps:
        return
    standings = {id_: standing_of(rows[id_]) for id_ in steps}
    await tx.execute(
        _WRITE,
        {
            "ids": list(steps),
            "states": [step.state for step in steps.values()],
            "reasons": [step.reason for step in steps.values()],
            "urls": [step.meeting.url for step in steps.values()],
            "platforms": [step.meeting.platform for step in steps.values()],
            "join": [step.meeting.join_at for step in steps.values()],
            "ends": [step.meeting.ends_at for step in steps.values()],
            "new": [step.is_order_new(standings[id_]) for id_, step in steps.items()],
            "hand_over": WEBHOOK_HAND_OVER,
        },
    )
    notes = [(id_, type_, detail) for id_, step in steps.items() for type_, detail in told(standings[id_], step)]
    await records.note(tx, notes)
    for _, type_, _ in notes:
        BOT_STEPS.labels(type_).inc()


def told(before: Standing, step: Step) -> list[tuple[str, str | None]]:
    """What is noted of a step: (type, detail)."""
    old, new = before.meeting, step.meeting
    if step.state not in LIVE:
        return [("cancelled", step.reason)]
    notes: list[tuple[str, str | None]] = []
    if before.state not in LIVE:
        notes.append(("restored", before.state_reason))
    if old.join_at != new.join_at:
        notes.append(("moved", f"from {_minute(old.join_at)} to {_minute(new.join_at)}"))
    if old.url != new.url:
        notes.append(("link_changed", None))
    return notes


def _minute(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


async def attach(tx: Tx, moved: Mapping[UUID, Candidate]) -> None:
    """Make these bots those of other events; the rest is for `write`. A look at another calendar counts no more."""
    if not moved:
        return
    events = list(moved.values())
    await tx.execute(
        _ATTACH,
        {
            "ids": list(moved),
            "events": [event.id for event in events],
            "calendars": [event.ground.calendar_id for event in events],
            "series": [event.series_id for event in events],
        },
    )


async def adopt(tx: Tx, rules: Mapping[UUID, Rule]) -> None:
    """Make these bots what their rules say; before `write`, which counts that up."""
    if rules:
        await tx.execute(_ADOPT, {"ids": list(rules), "rules": [rule.id for rule in rules.values()]})
        await records.note(tx, [(bot, "changed", f"rule {rule.name}") for bot, rule in rules.items()])


async def insert(tx: Tx, project_id: UUID, new: Sequence[NewBot]) -> None:
    """Store the bots that rules make."""
    if not new:
        return
    await tx.execute(
        _INSERT,
        {
            "project": project_id,
            "ids": [one.id for one in new],
            "rules": [one.rule.id for one in new],
            "calendars": [one.candidate.ground.calendar_id for one in new],
            "events": [one.candidate.id for one in new],
            "urls": [one.meeting.url for one in new],
            "platforms": [one.meeting.platform for one in new],
            "join": [one.meeting.join_at for one in new],
            "ends": [one.meeting.ends_at for one in new],
            "series": [one.candidate.series_id for one in new],
            "keys": [one.deduplication_key for one in new],
            "hand_over": WEBHOOK_HAND_OVER,
        },
    )
    await records.note(tx, [(one.id, "created", f"rule {one.rule.name}") for one in new])


_HOLD: Final = """
UPDATE bots b
   SET transfer_since = app_now(), transfer_reason = n.reason, transfer_calendar_id = NULL, transfer_seq = NULL,
       updated_at = app_now()
  FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[])) AS n (id, reason) WHERE b.id = n.id
"""

_LET_GO: Final = """
UPDATE bots SET transfer_since = NULL, transfer_reason = NULL, transfer_calendar_id = NULL, transfer_seq = NULL,
                updated_at = app_now()
 WHERE id = ANY (CAST(:ids AS uuid[]))
"""


async def hold(tx: Tx, held: Mapping[UUID, str]) -> None:
    """Keep these bots back until they are transferred; by the reason for which they would have been cancelled."""
    if held:
        await tx.execute(_HOLD, {"ids": list(held), "reasons": list(held.values())})
        await records.note(tx, [(bot, "held", f"transfer: {reason}") for bot, reason in held.items()])


async def let_go(tx: Tx, ids: Sequence[UUID]) -> None:
    """End the hold of bots that need no transfer after all."""
    if ids:
        await tx.execute(_LET_GO, {"ids": list(ids)})
        await records.note(tx, [(bot, "released", None) for bot in ids])
