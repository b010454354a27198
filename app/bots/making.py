"""Bots as their owner makes, changes and ends them.

A bot on an event follows it; one of its own has the link and the time that it was given. Whoever makes or changes a bot
on an event holds the calendar's row first and reads the event after that: else one made while its meeting moves would
stay behind.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from app.bots import claims, fitting, records
from app.bots.standing import LIVE, OWN_MEETING, Meeting
from app.bots.writing import WEBHOOK_HAND_OVER, event_in
from app.db import Row, Tx
from app.errors import Conflict, FieldProblem, NotFound, refusal, refusals
from app.ids import BOT, new_id, public
from app.runtime import Runtime

MOST_AHEAD: Final = timedelta(days=3 * 365 + 1)

_EVENT_CALENDAR: Final = """
SELECT e.calendar_id FROM calendar_events e JOIN calendars c ON c.id = e.calendar_id AND c.deleted_at IS NULL
 WHERE e.project_id = :project AND e.id = :id
"""
LOCK_CALENDAR: Final = "SELECT state FROM calendars WHERE id = :id AND deleted_at IS NULL FOR NO KEY UPDATE"
_EVENT: Final = """
SELECT e.is_deleted, e.deletion_kind, e.status, e.meeting_url, e.meeting_platform, e.start_time, e.end_time,
       e.series_id, coalesce(e.bot_override, o.bot_override) AS bot_override, app_now() AS now
  FROM calendar_events e
  LEFT JOIN series_overrides o ON o.calendar_id = e.calendar_id AND o.series_id = e.series_id
 WHERE e.id = :id
"""
_INSERT: Final = """
INSERT INTO bots (id, project_id, state, bot_name, meeting_url, meeting_platform, join_at, ends_at, calendar_id,
                  calendar_event_id, launcher_id, deduplication_key, metadata, config, series_id, due_at,
                  created_at, updated_at)
VALUES (:id, :project, 'scheduled', :name, :url, :platform, :join_at, :ends_at, :calendar, :event, :launcher, :key,
        CAST(:metadata AS jsonb), CAST(:config AS jsonb), :series,
        greatest(app_now(), CAST(:join_at AS timestamptz) - make_interval(secs => :hand_over)), app_now(), app_now())
ON CONFLICT (project_id, deduplication_key)
      WHERE deduplication_key IS NOT NULL AND state IN ('scheduled', 'launching', 'launched') DO NOTHING
"""
_FIND: Final = "SELECT calendar_id FROM bots WHERE project_id = :project AND id = :id"
_LOCK: Final = """
SELECT b.id, b.project_id, b.state, b.state_reason, b.is_removed, b.meeting_url, b.meeting_platform, b.join_at,
       b.ends_at, b.calendar_event_id, b.deduplication_key, b.launcher_id, CAST(b.config AS text) AS config,
       app_now() AS now
  FROM bots b WHERE b.id = :id FOR NO KEY UPDATE
"""
_REMOVE: Final = """
UPDATE bots b
   SET is_removed = true, state = 'cancelled', state_reason = :reason, revision = b.revision + 1,
       rule_version = (SELECT r.version FROM rules r WHERE r.id = b.rule_id),
       transfer_since = NULL, transfer_reason = NULL, transfer_calendar_id = NULL, transfer_seq = NULL,
       failure_count = 0, updated_at = app_now(),
       due_at = CASE WHEN b.handed_revision IS NOT NULL OR b.starting_since IS NOT NULL THEN app_now() END
 WHERE b.id = :id
"""
_KEEP_OUT: Final = """
UPDATE bots b SET is_removed = true, rule_version = (SELECT r.version FROM rules r WHERE r.id = b.rule_id)
 WHERE b.id = :id
"""
_CHANGE: Final = """
UPDATE bots b
   SET {sets}, is_by_hand = true, revision = b.revision + 1, failure_count = 0, updated_at = app_now(),
       due_at = CASE WHEN b.handed_revision IS NOT NULL OR b.starting_since IS NOT NULL THEN app_now()
                     ELSE greatest(app_now(), {join_at} - make_interval(secs => :hand_over)) END
 WHERE b.id = :id
"""


@dataclass(frozen=True, slots=True)
class NewBot:
    """A bot to be made: on an event, or with a link and a time of its own."""

    bot_name: str
    event_id: UUID | None
    meeting_url: str | None
    meeting_platform: str | None
    join_at: datetime | None
    launcher_id: UUID | None
    deduplication_key: str | None
    metadata: str | None
    """JSON text of an object of strings."""
    config: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class BotPatch:
    """What is to change; only the names in `given` count."""

    given: frozenset[str]
    bot_name: str | None = None
    meeting_url: str | None = None
    meeting_platform: str | None = None
    join_at: datetime | None = None
    metadata: str | None = None
    config: Mapping[str, Any] | None = field(default=None)


async def make(rt: Runtime, tx: Tx, *, project_id: UUID, new: NewBot) -> UUID:
    """Store a bot; it is handed over when its time comes, at once where its meeting is under way.

    Invalid where it makes no sense (with the reason as code), Conflict where its deduplication key is taken.
    """
    calendar_id, series_id = None, None
    await fitting.hold_launchers(tx, project_id)
    if new.event_id is not None:
        calendar_id, row = await event_of(tx, project_id, new.event_id)
        meeting, series_id = meeting_of(row), row.series_id
    else:
        meeting = _own_meeting(rt, new.meeting_url or "", new.meeting_platform, new.join_at)
    launcher = await fitting.launcher(tx, project_id, new.launcher_id)
    fitting.check_config(new.config, launcher)
    bot_id = new_id()
    if new.deduplication_key is not None:
        await claims.lock_keys(tx, project=project_id, keys=[claims.name(new.deduplication_key)])
    inserted = await tx.execute(
        _INSERT,
        {
            "id": bot_id,
            "project": project_id,
            "name": new.bot_name,
            "url": meeting.url,
            "platform": meeting.platform,
            "join_at": meeting.join_at,
            "ends_at": meeting.ends_at,
            "calendar": calendar_id,
            "event": new.event_id,
            "launcher": new.launcher_id,
            "key": new.deduplication_key,
            "metadata": new.metadata,
            "config": fitting.config_text(new.config),
            "series": series_id,
            "hand_over": _hand_over(launcher),
        },
    )
    if not inserted:
        raise await key_in_use(tx, project_id=project_id, key=new.deduplication_key)
    await records.note(tx, [(bot_id, "created", None)])
    await records.tell_states(tx, rt.queue, {bot_id: None})
    tx.after_commit(rt.queue.wake_launching)
    return bot_id


async def event_of(tx: Tx, project_id: UUID, event_id: UUID) -> tuple[UUID, Row]:
    """The event as it is while nobody else can change it, and its calendar. Invalid, Conflict."""
    found = await lock_calendar_of(tx, project_id, event_id)
    row = None if found is None else await tx.row(_EVENT, {"id": event_id})
    if found is None or row is None:
        raise refusal("/calendar_event_id", "not_found", message="there is no such event")
    calendar_id, state = found
    if state != "connected":
        raise Conflict("the calendar is disconnected", code="calendar_disconnected")
    return calendar_id, row


async def lock_calendar_of(tx: Tx, project_id: UUID, event_id: UUID) -> tuple[UUID, str] | None:
    """Lock the row of an event's calendar: its id and state. None: there is no such event."""
    calendar_id = await tx.scalar(_EVENT_CALENDAR, {"project": project_id, "id": event_id})
    state = None if calendar_id is None else await tx.scalar(LOCK_CALENDAR, {"id": calendar_id})
    return None if state is None else (calendar_id, state)


def meeting_of(row: Row) -> Meeting:
    """The meeting that an event leads to. Invalid where a bot could not join it."""
    meeting = event_in(row).meeting()
    if not isinstance(meeting, Meeting):
        code = "event_without_link" if meeting == "link_gone" else "event_gone"
        raise refusal("/calendar_event_id", code, message=_WHY[meeting])
    if meeting.ends_at <= row.now:
        raise refusal("/calendar_event_id", "event_over", message="the event is over")
    return meeting


_WHY: Final = {
    "link_gone": "the event has no meeting link",
    "event_deleted": "the event was deleted",
    "event_cancelled": "the event was cancelled",
    "left_window": "the event is outside the window that is kept",
}


def _own_meeting(rt: Runtime, url: str, platform: str | None, join_at: datetime | None) -> Meeting:
    now = rt.clock.now()
    if join_at is None:
        raise refusal("/join_at", "missing", message="is needed without an event")
    if join_at < now - timedelta(minutes=1):
        raise refusal("/join_at", "in_the_past", message="must not be in the past")
    if join_at > now + MOST_AHEAD:
        raise refusal("/join_at", "out_of_range", message="must be within three years")
    return Meeting(url, platform, join_at, join_at + OWN_MEETING)


def _hand_over(launcher: Row | None) -> float:
    return float(launcher.hand_over_seconds if launcher else WEBHOOK_HAND_OVER)


async def key_in_use(
    tx: Tx, *, project_id: UUID, key: str | None, but: UUID | None = None, of_series: UUID | None = None
) -> Conflict:
    """The refusal of a key that another live bot than `but` has, or else the series of the bot `of_series`."""
    existing = await tx.scalar(
        "SELECT id FROM bots WHERE project_id = :project AND deduplication_key = :key"
        " AND state IN ('scheduled', 'launching', 'launched') AND id IS DISTINCT FROM :but",
        {"project": project_id, "key": key, "but": but},
    )
    existing = existing or of_series
    extra = {"existing_id": public(BOT, existing)} if existing else {}
    return Conflict(
        "a live bot, or a series, with this deduplication key exists", code="deduplication_key_in_use", extra=extra
    )


async def _lock(tx: Tx, project_id: UUID, bot_id: UUID) -> Row:
    """The bot's row, its calendar's before it. NotFound."""
    found = await tx.row(_FIND, {"project": project_id, "id": bot_id})
    if found is None:
        raise NotFound
    if found.calendar_id is not None:
        await tx.scalar(LOCK_CALENDAR, {"id": found.calendar_id})
    row = await tx.row(_LOCK, {"id": bot_id})
    if row is None:
        raise NotFound
    return row


async def change(rt: Runtime, tx: Tx, *, project_id: UUID, bot_id: UUID, patch: BotPatch) -> None:
    """Change a live bot until its time to join; what its back end has to know is passed on.

    NotFound, Conflict (`bot_not_live`, `bot_joined`), Invalid.
    """
    row = await _lock(tx, project_id, bot_id)
    if row.state not in LIVE:
        raise Conflict(f"the bot is {row.state}", code="bot_not_live")
    if row.join_at <= row.now:
        raise Conflict("the bot's time to join has come", code="bot_joined")
    if row.calendar_event_id is not None:
        refuse_fixed(patch)
    if not patch.given:
        return
    launcher = await fitting.launcher(tx, project_id, row.launcher_id)
    params: dict[str, Any] = {"id": bot_id, "hand_over": _hand_over(launcher)}
    sets: list[str] = []
    if "bot_name" in patch.given:
        sets.append("bot_name = :name")
        params["name"] = patch.bot_name
    if "metadata" in patch.given:
        sets.append("metadata = CAST(:metadata AS jsonb)")
        params["metadata"] = patch.metadata
    if "config" in patch.given:
        fitting.check_config(patch.config, launcher)
        sets.append("config = CAST(:config AS jsonb)")
        params["config"] = fitting.config_text(patch.config)
    join_at = "b.join_at"
    if patch.given & {"meeting_url", "join_at"}:
        url = patch.meeting_url or row.meeting_url
        platform = patch.meeting_platform if "meeting_url" in patch.given else row.meeting_platform
        meeting = _own_meeting(rt, url, platform, patch.join_at or row.join_at)
        sets += ["meeting_url = :url", "meeting_platform = :platform", "join_at = :join_at", "ends_at = :ends_at"]
        params |= {"url": meeting.url, "platform": meeting.platform}
        params |= {"join_at": meeting.join_at, "ends_at": meeting.ends_at}
        join_at = "CAST(:join_at AS timestamptz)"
    await tx.execute(_CHANGE.format(sets=", ".join(sets), join_at=join_at), params)
    await records.note(tx, [(bot_id, "changed", ", ".join(sorted(patch.given)))])
    tx.after_commit(rt.queue.wake_launching)


def refuse_fixed(patch: BotPatch) -> None:
    """Refuse what a bot on an event has from there."""
    fixed = sorted(patch.given & {"meeting_url", "join_at"})
    if fixed:
        raise refusals([FieldProblem(f"/{name}", "read_only", "comes from the event") for name in fixed])


async def remove(rt: Runtime, tx: Tx, *, project_id: UUID, bot_id: UUID) -> None:
    """End a bot for good: it does not join, or leaves. A second time changes nothing. NotFound."""
    row = await _lock(tx, project_id, bot_id)
    if row.is_removed:
        return
    if row.state not in LIVE:
        await tx.execute(_KEEP_OUT, {"id": bot_id})
        return
    reason = "left_by_request" if row.join_at <= row.now else "removed"
    await tx.execute(_REMOVE, {"id": bot_id, "reason": reason})
    await records.note(tx, [(bot_id, "cancelled", reason)])
    await records.tell_states(tx, rt.queue, {bot_id: row.state})
    tx.after_commit(rt.queue.wake_launching)
