"""The second half of deleting a calendar, and the end of what is kept: retention.

The request has already made the calendar invisible. Here its channels are stopped and then its credentials, events and
payloads wiped: retried for a day while the provider does not answer, then wiped anyway. Retention removes rows in small
batches; where it takes events, the calendar's feed floor rises in the same transaction, so that a reader that comes
back too late is told so. A project may have its events, messages and bots kept for a shorter time than the server's.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from app.connect.links import KEPT_DAYS
from app.db import Tx
from app.runtime import Runtime
from app.sync import channels
from app.telemetry import log
from app.webhooks import outbox

_BATCH = 1_000

_DUE = """
UPDATE calendars SET wipe_not_before = app_now() + interval '5 minutes'
 WHERE id IN (SELECT id FROM calendars WHERE deleted_at IS NOT NULL AND wipe_not_before <= app_now()
               ORDER BY deleted_at LIMIT :most FOR UPDATE SKIP LOCKED)
RETURNING id
"""

# Calendars with something old, and what is old there: by the server's span, or by the project's own.
_OLD_EVENTS = """
SELECT f.calendar_id, min(f.days) AS days FROM (
    SELECT DISTINCT calendar_id, CAST(:days AS int) AS days FROM calendar_events
     WHERE updated_at < app_now() - make_interval(days => :days)
       AND (is_deleted OR end_time < app_now() - make_interval(days => :days))
    UNION ALL
    SELECT DISTINCT e.calendar_id, p.retention_days
      FROM projects p JOIN calendar_events e ON e.project_id = p.id
     WHERE p.retention_days < :days
       AND e.updated_at < app_now() - make_interval(days => p.retention_days)
       AND (e.is_deleted OR e.end_time < app_now() - make_interval(days => p.retention_days))
) f GROUP BY f.calendar_id
"""

# What is past and still in the stored window stays: a listing of the window would bring it back as new.
_PURGE_EVENTS = """
WITH old AS (
    SELECT e.id FROM calendar_events e
     WHERE e.calendar_id = :calendar
       AND e.updated_at < app_now() - make_interval(days => :days)
       AND (e.is_deleted OR (
            e.end_time < app_now() - make_interval(days => :days)
            AND NOT EXISTS (SELECT FROM sync_state s
                             WHERE s.calendar_id = e.calendar_id AND e.end_time > s.window_start)))
     LIMIT :batch
), gone AS (
    DELETE FROM calendar_events e USING old WHERE e.id = old.id RETURNING e.change_seq
)
UPDATE calendars SET feed_floor = greatest(feed_floor, (SELECT max(change_seq) FROM gone))
 WHERE id = :calendar AND EXISTS (SELECT FROM gone)
RETURNING (SELECT count(*) FROM gone)
"""

# A message goes with its deliveries and their attempts, a batch of deliveries at a time, however many it has; one that
# is still to be delivered stays, whatever its age.
_OLD_MESSAGES = """
SELECT m.id AS message_id, d.id AS delivery_id
  FROM messages m LEFT JOIN deliveries d ON d.message_id = m.id
 WHERE m.created_at < app_now() - make_interval(days => :days)
   AND NOT EXISTS (SELECT FROM deliveries p WHERE p.message_id = m.id AND p.state = 'pending')
 ORDER BY m.created_at, m.id LIMIT :batch
"""

# The same of one project, by indexes that it has; then what has no deliveries, because they were dropped.
_OLD_MESSAGES_OF_PROJECT = """
SELECT d.message_id, d.id AS delivery_id
  FROM deliveries d
 WHERE d.project_id = :project AND d.created_at < app_now() - make_interval(days => :days)
   AND NOT EXISTS (SELECT FROM deliveries p WHERE p.message_id = d.message_id AND p.state = 'pending')
 ORDER BY d.created_at, d.id LIMIT :batch
"""

_OLD_MESSAGES_TO_NOBODY = """
SELECT m.id AS message_id, CAST(NULL AS uuid) AS delivery_id
  FROM calendars c JOIN messages m ON m.calendar_id = c.id
 WHERE c.project_id = :project AND m.created_at < app_now() - make_interval(days => :days)
   AND NOT EXISTS (SELECT FROM deliveries d WHERE d.message_id = m.id)
 LIMIT :batch
"""

# Locked in the order of their ids, as everywhere; the look under the lock spares what is sent again meanwhile.
_PURGE_DELIVERIES = """
WITH old AS (
    SELECT id FROM deliveries WHERE id = ANY (CAST(:ids AS uuid[])) AND state <> 'pending' ORDER BY id FOR UPDATE
)
DELETE FROM deliveries d USING old WHERE d.id = old.id
"""

_PURGE_MESSAGES = """
DELETE FROM messages m WHERE m.id = ANY (CAST(:ids AS uuid[]))
   AND NOT EXISTS (SELECT FROM deliveries d WHERE d.message_id = m.id)
"""

_PURGE_REPLAYS = """
DELETE FROM replays WHERE id IN (
    SELECT id FROM replays WHERE finished_at < app_now() - make_interval(days => :days) LIMIT :batch)
"""

_PURGE_SECRETS = """
DELETE FROM webhook_secrets WHERE id IN (SELECT id FROM webhook_secrets WHERE expires_at <= app_now() LIMIT :batch)
"""

_PURGE_GAPS = """
DELETE FROM delivery_gaps WHERE (endpoint_id, calendar_id) IN (
    SELECT g.endpoint_id, g.calendar_id FROM delivery_gaps g
     WHERE NOT EXISTS (SELECT FROM calendars c WHERE c.id = g.calendar_id AND c.deleted_at IS NULL)
        OR EXISTS (SELECT FROM webhook_endpoints e WHERE e.id = g.endpoint_id AND e.deleted_at IS NOT NULL)
     ORDER BY g.endpoint_id, g.calendar_id LIMIT :batch FOR UPDATE OF g SKIP LOCKED)
"""

_PURGE_IDEMPOTENCY_KEYS = """
DELETE FROM idempotency_keys WHERE id IN (
    SELECT id FROM idempotency_keys WHERE created_at < app_now() - interval '1 day' LIMIT :batch)
"""

# A secret that a newer one has replaced for a week: until then it is known to whoever sends it again.
_PURGE_APP_SECRETS = """
DELETE FROM oauth_app_secrets WHERE id IN (
    SELECT s.id FROM oauth_app_secrets s
     WHERE EXISTS (SELECT FROM oauth_app_secrets b
                    WHERE b.oauth_app_id = s.oauth_app_id AND b.id <> s.id
                      AND b.last_worked_at > greatest(s.offered_at, s.last_worked_at, s.refused_at) + interval '7 days')
     ORDER BY s.id LIMIT :batch FOR UPDATE OF s SKIP LOCKED)
"""

# A deleted app, once the last of its calendars has been wiped.
_PURGE_APPS = """
DELETE FROM oauth_apps WHERE id IN (
    SELECT a.id FROM oauth_apps a
     WHERE a.deleted_at IS NOT NULL AND NOT EXISTS (SELECT FROM calendars c WHERE c.oauth_app_id = a.id)
     ORDER BY a.id LIMIT :batch FOR UPDATE OF a SKIP LOCKED)
"""

# With the ways to the provider that began at them.
_PURGE_CONNECT_LINKS = """
DELETE FROM connect_links WHERE id IN (
    SELECT id FROM connect_links WHERE expires_at <= app_now() - make_interval(days => :days) LIMIT :batch)
"""

# With what happened to them. One that its back end has still to be told of stays until that is done; so does the latest
# of a series that nobody has ended, by which alone it can be: what comes once a year is over for long in between.
_PURGE_BOTS = """
DELETE FROM bots WHERE id IN (
    SELECT b.id FROM bots b
     WHERE {which} b.ends_at < app_now() - make_interval(days => :days) AND b.due_at IS NULL
       AND NOT EXISTS (
           SELECT FROM rules r
            WHERE r.id = b.rule_id AND r.series_id IS NOT NULL AND r.deleted_at IS NULL
              AND NOT EXISTS (
                  SELECT FROM bots l WHERE l.rule_id = r.id AND (l.join_at, l.id) > (b.join_at, b.id)))
     ORDER BY b.id LIMIT :batch FOR UPDATE OF b SKIP LOCKED)
"""
_PURGE_ALL_BOTS = _PURGE_BOTS.format(which="")
# None ends before it joins, and there is an index on that.
_PURGE_BOTS_OF_PROJECT = _PURGE_BOTS.format(
    which="b.project_id = :project AND b.join_at < app_now() - make_interval(days => :days) AND"
)

# A key goes after what it did; project by project, as their lists have it.
_PURGE_KEYS = """
DELETE FROM api_keys WHERE id IN (
    SELECT id FROM api_keys WHERE least(revoked_at, expires_at) < app_now() - make_interval(days => :days) LIMIT :batch)
"""

_PURGE_AUDIT_LOG = """
DELETE FROM audit_log WHERE id IN (
    SELECT a.id
      FROM projects p CROSS JOIN LATERAL (
           SELECT l.id FROM audit_log l
            WHERE l.project_id = p.id AND l.at < app_now() - make_interval(days => :days) ORDER BY l.at LIMIT :batch) a
     LIMIT :batch)
"""

# A batch: each one's bots are looked for once more as its row goes.
_PURGE_RULES = """
DELETE FROM rules WHERE id IN (
    SELECT r.id FROM rules r
     WHERE r.deleted_at < app_now() - make_interval(days => :days)
       AND NOT EXISTS (SELECT FROM bots b WHERE b.rule_id = r.id)
     ORDER BY r.id LIMIT :batch FOR UPDATE OF r SKIP LOCKED)
"""

_PURGE_LAUNCHERS = """
DELETE FROM launchers l
 WHERE l.deleted_at < app_now() - make_interval(days => :days)
   AND NOT EXISTS (SELECT FROM bots b WHERE b.launcher_id = l.id OR b.handed_to = l.id)
   AND NOT EXISTS (SELECT FROM rules r WHERE r.launcher_id = l.id)
"""

_PURGE_CHANNELS = """
DELETE FROM push_channels WHERE id IN (
    SELECT id FROM push_channels
     WHERE state = 'closed' AND created_at < app_now() - make_interval(days => :days) LIMIT :batch)
"""


async def clean_up(rt: Runtime, calendar_id: UUID) -> bool:
    """Stop the channels of a deleted calendar and wipe it; False where the provider has to be asked again."""
    async with rt.db.reading() as tx:
        row = await tx.row(
            "SELECT deleted_at < app_now() - interval '1 day' AS is_late FROM calendars"
            " WHERE id = :id AND deleted_at IS NOT NULL",
            {"id": calendar_id},
        )
    if row is None:
        return True
    if not row.is_late and not await channels.leave(rt, calendar_id):
        log.info("calendar.wipe_postponed", calendar=str(calendar_id))
        return False
    async with rt.db.transaction() as tx:
        await tx.execute("DELETE FROM calendars WHERE id = :id AND deleted_at IS NOT NULL", {"id": calendar_id})
        await tx.execute("DELETE FROM calendar_events WHERE calendar_id = :id", {"id": calendar_id})
        # Dropped once by the request: what was sent again in the same moment may have slipped by.
        await outbox.drop_undelivered(tx, calendar_id)
        await tx.execute(
            "DELETE FROM messages WHERE calendar_id = :id AND NOT EXISTS"
            " (SELECT FROM deliveries d WHERE d.message_id = messages.id AND d.state = 'pending')",
            {"id": calendar_id},
        )
    log.info("calendar.wiped", calendar=str(calendar_id))
    return True


async def due(rt: Runtime, *, most: int = 20) -> list[UUID]:
    """Deleted calendars whose job was lost or has to be repeated: `clean_up` each."""
    async with rt.db.direct() as tx:
        return [row.id for row in await tx.rows(_DUE, {"most": most})]


async def purge(rt: Runtime) -> bool:
    """Remove a batch per table and calendar of what is older than the retention; whether there may be more."""
    params = {"days": rt.settings.retention_days, "batch": _BATCH}
    is_more = False
    async with rt.db.reading() as tx:
        calendars = await tx.rows(_OLD_EVENTS, {"days": rt.settings.retention_days})
        spans = await tx.rows(
            "SELECT id, retention_days FROM projects WHERE retention_days < :days", {"days": rt.settings.retention_days}
        )
    for row in calendars:
        async with rt.db.transaction() as tx:
            await tx.row("SELECT id FROM calendars WHERE id = :id FOR NO KEY UPDATE", {"id": row.calendar_id})
            gone: int | None = await tx.scalar(_PURGE_EVENTS, params | {"calendar": row.calendar_id, "days": row.days})
        is_more = is_more or (gone or 0) >= _BATCH
    log_params = {"days": rt.settings.kept_delivery_days, "batch": _BATCH}
    for statement, bound in (
        (_PURGE_REPLAYS, log_params),
        (_PURGE_SECRETS, {"batch": _BATCH}),
        (_PURGE_GAPS, {"batch": _BATCH}),
        (_PURGE_IDEMPOTENCY_KEYS, {"batch": _BATCH}),
        (_PURGE_APP_SECRETS, {"batch": _BATCH}),
        (_PURGE_APPS, {"batch": _BATCH}),
        (_PURGE_CONNECT_LINKS, {"days": KEPT_DAYS, "batch": _BATCH}),
        (_PURGE_CHANNELS, params),
        (_PURGE_ALL_BOTS, params),
        (_PURGE_RULES, params),
        (_PURGE_LAUNCHERS, {"days": rt.settings.retention_days}),
        (_PURGE_AUDIT_LOG, params),
        (_PURGE_KEYS, params),
    ):
        async with rt.db.transaction() as tx:
            is_more = await tx.execute(statement, bound) >= _BATCH or is_more
    for span in spans:
        own = {"project": span.id, "days": span.retention_days, "batch": _BATCH}
        async with rt.db.transaction() as tx:
            is_more = await tx.execute(_PURGE_BOTS_OF_PROJECT, own) >= _BATCH or is_more
        for which in (_OLD_MESSAGES_OF_PROJECT, _OLD_MESSAGES_TO_NOBODY):
            async with rt.db.transaction() as tx:
                is_more = await _purge_messages(tx, which, own) or is_more
    async with rt.db.transaction() as tx:
        return await _purge_messages(tx, _OLD_MESSAGES, log_params) or is_more


async def _purge_messages(tx: Tx, which: str, params: Mapping[str, Any]) -> bool:
    old = await tx.rows(which, params)
    await tx.execute(_PURGE_DELIVERIES, {"ids": [row.delivery_id for row in old if row.delivery_id is not None]})
    await tx.execute(_PURGE_MESSAGES, {"ids": list({row.message_id for row in old})})
    return len(old) >= _BATCH
