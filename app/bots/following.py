"""Bots follow their events: in the transaction that changed these, for all of a round at once.

Whoever changes events holds their calendar's row; bots are locked after it, in the order of their ids. What a bot's
back end has to know is left to the launching loop: the row says from when on there is something to do.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from app.bots import records
from app.bots.standing import LIVE, Event, Meeting, Reason, Standing, Step, follow
from app.db import Row, Tx
from app.runtime import Runtime
from app.telemetry import BOT_STEPS, log

_FOLLOWERS = """
SELECT b.id, b.project_id, b.state, b.state_reason, b.is_removed, b.meeting_url, b.meeting_platform, b.join_at,
       b.ends_at, b.deduplication_key, e.is_deleted, e.deletion_kind, e.status, e.meeting_url AS event_url,
       e.meeting_platform AS event_platform, e.start_time, e.end_time, e.series_id, app_now() AS now
  FROM bots b JOIN calendar_events e ON e.id = b.calendar_event_id
 WHERE {which} AND NOT b.is_removed AND b.state <> 'failed'
 ORDER BY b.id FOR NO KEY UPDATE OF b
"""
_OF_EVENTS = _FOLLOWERS.format(which="b.calendar_event_id = ANY (CAST(:events AS uuid[]))")
_OF_CALENDAR = _FOLLOWERS.format(
    which="b.calendar_id = :calendar AND (b.ends_at > app_now() OR b.calendar_event_id = ANY (CAST(:events AS uuid[])))"
)

_LIVE_OF_CALENDAR: Final = """
SELECT b.id, b.project_id, b.state, b.state_reason, b.is_removed, b.meeting_url, b.meeting_platform, b.join_at,
       b.ends_at
  FROM bots b
 WHERE b.calendar_id = :calendar AND b.state IN ('scheduled', 'launching', 'launched') AND b.ends_at > app_now()
 ORDER BY b.id FOR NO KEY UPDATE
"""
_DETACH: Final = """
UPDATE bots b SET calendar_event_id = NULL, calendar_id = NULL, is_removed = true
  FROM (SELECT id FROM bots WHERE calendar_id = :calendar ORDER BY id FOR NO KEY UPDATE) d WHERE b.id = d.id
"""

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

_LOCK_KEYS: Final = """
SELECT pg_advisory_xact_lock(k.lock) FROM (
    SELECT DISTINCT hashtextextended(CAST(CAST(:project AS uuid) AS text) || ':' || n, 0) AS lock
      FROM unnest(CAST(:keys AS text[])) n ORDER BY 1) k
"""
_TAKEN = """
SELECT b.deduplication_key FROM bots b
 WHERE b.project_id = :project AND b.deduplication_key = ANY (CAST(:keys AS text[]))
   AND b.state IN ('scheduled', 'launching', 'launched')
"""

WEBHOOK_HAND_OVER: Final = 60
"""Seconds ahead of `join_at` at which `bot.launch` is sent, where a project has no launcher."""


async def synced(rt: Runtime, tx: Tx, calendar_id: UUID, event_ids: Sequence[UUID], *, is_reconnected: bool) -> int:
    """Let bots follow these events, as they are stored now; how many changed. Their calendar's row is locked.

    With a calendar that works again come back the bots of all its meetings that are still ahead: those that were, and
    those that were put off meanwhile.
    """
    if is_reconnected:
        rows = await tx.rows(_OF_CALENDAR, {"calendar": calendar_id, "events": list(event_ids)})
        return await _follow(rt, tx, rows, connected=True)
    if not event_ids:
        return 0
    return await _follow(rt, tx, await tx.rows(_OF_EVENTS, {"events": list(event_ids)}), connected=True)


async def disconnected(rt: Runtime, tx: Tx, calendar_id: UUID) -> int:
    """The user's access is over: the calendar's bots are cancelled, to be restored with it."""
    return await _follow(rt, tx, await tx.rows(_OF_CALENDAR, {"calendar": calendar_id, "events": []}), connected=False)


async def calendar_deleted(rt: Runtime, tx: Tx, calendar_id: UUID) -> int:
    """A calendar is gone for good: its bots are cancelled, and stay readable without their events."""
    rows = await tx.rows(_LIVE_OF_CALENDAR, {"calendar": calendar_id})
    steps = {row.id: Step("cancelled", "calendar_deleted", _standing(row).meeting) for row in rows}
    await write(tx, {row.id: row for row in rows}, steps)
    await tx.execute(_DETACH, {"calendar": calendar_id})
    await records.tell_states(tx, rt.queue, {row.id: row.state for row in rows})
    tx.after_commit(rt.queue.wake_launching)
    return len(rows)


async def _follow(rt: Runtime, tx: Tx, rows: Sequence[Row], *, connected: bool) -> int:
    steps: dict[UUID, Step] = {}
    for row in rows:
        meeting: Meeting | Reason = _event(row).meeting() if connected else "calendar_disconnected"
        step = follow(_standing(row), meeting, now=row.now)
        if step is not None:
            steps[row.id] = step
    if not steps:
        return 0
    changed = {row.id: row for row in rows if row.id in steps}
    await _supersede(tx, changed, steps)
    steps = {id_: step for id_, step in steps.items() if not _is_same(changed[id_], step)}
    await write(tx, {id_: changed[id_] for id_ in steps}, steps)
    before = {id_: changed[id_].state for id_, step in steps.items() if changed[id_].state != step.state}
    await records.tell_states(tx, rt.queue, before)
    if steps:
        tx.after_commit(rt.queue.wake_launching)
        log.info("bots.followed", bots=len(steps))
    return len(steps)


async def _supersede(tx: Tx, rows: Mapping[UUID, Row], steps: dict[UUID, Step]) -> None:
    """A bot whose key another one took meanwhile, or takes right now, does not come back."""
    back = [rows[id_] for id_, step in steps.items() if rows[id_].state not in LIVE and step.state in LIVE]
    keyed = [row for row in back if row.deduplication_key is not None]
    if not keyed:
        return
    params = {"project": keyed[0].project_id, "keys": [row.deduplication_key for row in keyed]}
    await lock_keys(tx, **params)
    taken = {row.deduplication_key for row in await tx.rows(_TAKEN, params)}
    for row in keyed:
        if row.deduplication_key in taken:
            steps[row.id] = Step("cancelled", "superseded", steps[row.id].meeting)
        taken.add(row.deduplication_key)  # of two that would come back, one does


async def lock_keys(tx: Tx, *, project: UUID, keys: Sequence[str]) -> None:
    """Whoever is to give a bot one of these keys waits for who is about to: the unique index would fail one of them.

    The last locks of a transaction but for `sync_state`; several in the order of their hashes.
    """
    await tx.rows(_LOCK_KEYS, {"project": project, "keys": list(keys)})


async def write(tx: Tx, rows: Mapping[UUID, Row], steps: Mapping[UUID, Step]) -> None:
    """Store what bots become, and note it for their owners. Their rows are locked."""
    if not steps:
        return
    standings = {id_: _standing(rows[id_]) for id_ in steps}
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


def _is_same(row: Row, step: Step) -> bool:
    return step.state not in LIVE and (row.state, row.state_reason) == (step.state, step.reason)


def _event(row: Row) -> Event:
    return Event(
        is_deleted=row.is_deleted,
        deletion_kind=row.deletion_kind,
        status=row.status,
        meeting_url=row.event_url,
        meeting_platform=row.event_platform,
        start_time=row.start_time,
        end_time=row.end_time,
    )


def _standing(row: Row) -> Standing:
    meeting = Meeting(row.meeting_url, row.meeting_platform, row.join_at, row.ends_at)
    return Standing(row.state, row.state_reason, meeting, row.is_removed)
