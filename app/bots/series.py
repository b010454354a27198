"""Bots for all occurrences of a series: a rule of that series, which nobody sees.

The occurrence that its owner names gets its bot in the request, and so do the others as long as they are few; those
that enter the window later get theirs from the sync. Whoever changes such a rule holds the row of its calendar.
"""

from typing import Any, Final
from uuid import UUID

from app.bots import fitting, following, making, records
from app.bots.making import BotPatch, NewBot
from app.bots.rules import evaluations
from app.db import Row, Tx
from app.errors import Conflict, NotFound, refusal
from app.ids import new_id
from app.runtime import Runtime

_INSERT: Final = """
INSERT INTO rules (id, project_id, name, match, dedup_scope, bot_name, config, launcher_id, series_calendar_id,
                   series_id, deduplication_key, metadata, created_at, updated_at)
VALUES (:id, :project, :name, '{}', 'event', :name, CAST(:config AS jsonb), :launcher, :calendar, :series, :key,
        CAST(:metadata AS jsonb), app_now(), app_now())
"""

_BOT: Final = "SELECT id FROM bots WHERE rule_id = :rule AND calendar_event_id = :event"

# Its first bot may have ended long ago: the latest one is there for as long as the series is.
_KEY_HOLDER: Final = """
SELECT (SELECT b.id FROM bots b WHERE b.rule_id = r.id ORDER BY b.join_at DESC, b.id DESC LIMIT 1) AS bot_id
  FROM rules r
 WHERE r.project_id = :project AND r.series_id IS NOT NULL AND r.deleted_at IS NULL
   AND r.deduplication_key = :key AND r.id <> :id
"""

# A series that Google split is several, named after the first.
_AHEAD: Final = """
SELECT e.id FROM calendar_events e JOIN rules r ON r.id = :rule
 WHERE e.calendar_id = r.series_calendar_id AND NOT e.is_deleted AND e.end_time > app_now()
   AND (e.series_id = r.series_id OR starts_with(e.series_id, r.series_id || '_R')
        OR e.series_id = ANY (r.further_series))
 ORDER BY e.id = CAST(:first AS uuid) DESC, e.start_time, e.id
"""

_RULE: Final = """
SELECT b.calendar_event_id AS event_id, r.id, r.series_id, r.series_calendar_id AS calendar_id, r.launcher_id,
       r.version, r.deleted_at IS NOT NULL AS is_ended
  FROM bots b LEFT JOIN rules r ON r.id = b.rule_id AND r.series_id IS NOT NULL
 WHERE b.project_id = :project AND b.id = :bot
"""

_LOCK_BOTS: Final = """
SELECT b.id FROM bots b
 WHERE b.calendar_id = :calendar AND (b.rule_id = :rule OR b.calendar_event_id = ANY (CAST(:events AS uuid[])))
 ORDER BY b.id FOR NO KEY UPDATE
"""

_CHANGE: Final = "UPDATE rules SET {sets}, version = version + 1, updated_at = app_now() WHERE id = :id"

# An occurrence whose bot its owner has ended stays without one.
SERIES_MOST: Final = 200
"""Rules of series that a calendar may have: every event of its rounds is held against each."""

_COUNT: Final = "SELECT count(*) FROM rules WHERE series_calendar_id = :calendar AND deleted_at IS NULL"

_KEEP_OUT: Final = """
UPDATE bots SET rule_version = rule_version + 1
 WHERE calendar_id = :calendar AND rule_id = :rule AND is_removed AND rule_version = :version
"""

_NO_EXCEPTION: Final = "UPDATE bots SET is_by_hand = false WHERE id = :bot"

_END: Final = "UPDATE rules SET deleted_at = app_now(), updated_at = app_now() WHERE id = :id"

_BOTS: Final = """
SELECT b.id, b.state, b.join_at, b.ends_at, app_now() AS now,
       b.state IN ('scheduled', 'launching', 'launched') AND b.ends_at > app_now() AS is_ended_now
  FROM bots b WHERE b.calendar_id = :calendar AND b.rule_id = :rule AND NOT b.is_removed
 ORDER BY b.id FOR NO KEY UPDATE
"""

_REMOVE: Final = """
UPDATE bots b
   SET is_removed = true, state = 'cancelled', state_reason = n.reason, revision = b.revision + 1, failure_count = 0,
       updated_at = app_now(),
       due_at = CASE WHEN b.handed_revision IS NOT NULL OR b.starting_since IS NOT NULL THEN app_now() END
  FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[])) AS n (id, reason) WHERE b.id = n.id
"""

_STAY_AWAY: Final = "UPDATE bots SET is_removed = true WHERE id = ANY (CAST(:ids AS uuid[]))"


async def make(rt: Runtime, tx: Tx, *, project_id: UUID, event_id: UUID, new: NewBot) -> UUID:
    """Make a rule of an event's series; the event's bot.

    Invalid (`not_a_series`, `overridden`, and all that a single bot is refused for), Conflict where the deduplication
    key is a live bot's or another series', or the calendar has too many.
    """
    await fitting.hold_launchers(tx, project_id)
    calendar_id, event = await making.event_of(tx, project_id, event_id)
    if event.series_id is None:
        raise refusal("/all_occurrences", "not_a_series", message="the event is no occurrence of a series")
    making.meeting_of(event)
    if event.bot_override == "never":
        raise refusal("/calendar_event_id", "overridden", message="the event's bot_override is never")
    fitting.check_config(new.config, await fitting.launcher(tx, project_id, new.launcher_id))
    if await tx.scalar(_COUNT, {"calendar": calendar_id}) >= SERIES_MOST:
        raise Conflict(f"the calendar has bots for {SERIES_MOST} series", code="too_many_rules")
    rule_id = new_id()
    await tx.execute(
        _INSERT,
        {
            "id": rule_id,
            "project": project_id,
            "name": new.bot_name,
            "config": fitting.config_text(new.config),
            "launcher": new.launcher_id,
            "calendar": calendar_id,
            "series": event.series_id,
            "key": new.deduplication_key,
            "metadata": new.metadata,
        },
    )
    ahead = await _ahead(tx, rule_id, event_id)
    await following.judged_in_part(rt, tx, calendar_id, ahead, first=(rule_id, event_id))
    # The names of the new bots are locked by now: whoever else asks for this one waits, or has come before.
    bot_id: UUID | None = await tx.scalar(_BOT, {"rule": rule_id, "event": event_id})
    key = {"project": project_id, "key": new.deduplication_key, "id": rule_id}
    other = None if new.deduplication_key is None else await tx.row(_KEY_HOLDER, key)
    if bot_id is None or other is not None:
        of_series = None if other is None else other.bot_id
        raise await making.key_in_use(
            tx, project_id=project_id, key=new.deduplication_key, but=bot_id, of_series=of_series
        )
    return bot_id


async def _ahead(tx: Tx, rule_id: UUID, first: UUID | None) -> list[UUID]:
    """The occurrences that a rule is about now, the first one before all others."""
    return [row.id for row in await tx.rows(_AHEAD, {"rule": rule_id, "first": first})]


async def change(rt: Runtime, tx: Tx, *, project_id: UUID, bot_id: UUID, patch: BotPatch) -> None:
    """Change the bots of a series that are ahead, and what those to come will be.

    What was changed of a single one before stays as it is, save of the one that is named here; so does what was ended.
    NotFound, Invalid (`not_a_series`, `read_only`, a config), Conflict (`bot_not_live`).
    """
    await fitting.hold_launchers(tx, project_id)
    rule, state = await _locked(tx, project_id, bot_id)
    if rule.is_ended or state is None:
        raise Conflict("the bots of this series were ended", code="bot_not_live")
    making.refuse_fixed(patch)
    if not patch.given:
        return
    params: dict[str, Any] = {"id": rule.id}
    sets: list[str] = []
    if "bot_name" in patch.given:
        sets.append("bot_name = :name, name = :name")
        params["name"] = patch.bot_name
    if "metadata" in patch.given:
        sets.append("metadata = CAST(:metadata AS jsonb)")
        params["metadata"] = patch.metadata
    if "config" in patch.given:
        fitting.check_config(patch.config, await fitting.launcher(tx, project_id, rule.launcher_id))
        sets.append("config = CAST(:config AS jsonb)")
        params["config"] = fitting.config_text(patch.config)
    events = await _ahead(tx, rule.id, rule.event_id)
    of_rule = {"calendar": rule.calendar_id, "rule": rule.id, "version": rule.version}
    await tx.rows(_LOCK_BOTS, {**of_rule, "events": events})
    await tx.execute(_CHANGE.format(sets=", ".join(sets)), params)
    await tx.execute(_KEEP_OUT, of_rule)
    await tx.execute(_NO_EXCEPTION, {"bot": bot_id})
    if state == "connected":
        await following.judged_in_part(rt, tx, rule.calendar_id, events)


async def remove(rt: Runtime, tx: Tx, *, project_id: UUID, bot_id: UUID) -> None:
    """End the bots of a series for good, and have no others made. A second time changes nothing.

    What has taken part in meetings that are over stays as it is. NotFound, Invalid (`not_a_series`).
    """
    rule, state = await _locked(tx, project_id, bot_id)
    if rule.is_ended or state is None:
        return
    await tx.execute(_END, {"id": rule.id})
    rows = await tx.rows(_BOTS, {"calendar": rule.calendar_id, "rule": rule.id})
    await tx.execute(_STAY_AWAY, {"ids": [row.id for row in rows]})
    ended = {row.id: row for row in rows if row.is_ended_now}
    reasons = ["left_by_request" if row.join_at <= row.now else "removed" for row in ended.values()]
    await tx.execute(_REMOVE, {"ids": list(ended), "reasons": reasons})
    await records.note(tx, [(id_, "cancelled", reason) for id_, reason in zip(ended, reasons, strict=True)])
    await records.tell_states(tx, rt.queue, {id_: row.state for id_, row in ended.items()})
    if state == "connected":  # an override may want another rule's bot there
        await evaluations.request_events(tx, {rule.calendar_id: await _ahead(tx, rule.id, None)})
    tx.after_commit(rt.queue.wake_launching)


async def _locked(tx: Tx, project_id: UUID, bot_id: UUID) -> tuple[Row, str | None]:
    """The rule of a bot's series and the state of its calendar, whose row is locked; None: the calendar is gone."""
    params = {"project": project_id, "bot": bot_id}
    rule = await tx.row(_RULE, params)
    if rule is None:
        raise NotFound
    if rule.id is None:
        raise refusal("all_occurrences", "not_a_series", message="the bot is none of a series")
    state: str | None = await tx.scalar(making.LOCK_CALENDAR, {"id": rule.calendar_id})
    return await tx.row(_RULE, params) or rule, state
