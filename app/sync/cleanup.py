"""The second half of deleting a calendar, and the end of what is kept: retention.

The request has already made the calendar invisible. Here its channels are stopped and then its credentials, events and
payloads wiped: retried for a day while the provider does not answer, then wiped anyway. Retention removes rows in small
batches; where it takes events, the calendar's feed floor rises in the same transaction, so that a reader that comes
back too late is told so.
"""

from uuid import UUID

from app.runtime import Runtime
from app.sync import channels
from app.telemetry import log

_BATCH = 1_000

_DUE = """
UPDATE calendars SET wipe_not_before = app_now() + interval '5 minutes'
 WHERE id IN (SELECT id FROM calendars WHERE deleted_at IS NOT NULL AND wipe_not_before <= app_now()
               ORDER BY deleted_at LIMIT :most FOR UPDATE SKIP LOCKED)
RETURNING id
"""

_PURGE_EVENTS = """
WITH old AS (
    SELECT id FROM calendar_events
     WHERE calendar_id = :calendar
       AND ((is_deleted AND updated_at < app_now() - make_interval(days => :days))
         OR (end_time < app_now() - make_interval(days => :days)
             AND updated_at < app_now() - make_interval(days => :days)))
     LIMIT :batch
), gone AS (
    DELETE FROM calendar_events e USING old WHERE e.id = old.id RETURNING e.change_seq
)
UPDATE calendars SET feed_floor = greatest(feed_floor, (SELECT max(change_seq) FROM gone))
 WHERE id = :calendar AND EXISTS (SELECT FROM gone)
RETURNING (SELECT count(*) FROM gone)
"""

_PURGE_MESSAGES = """
DELETE FROM messages WHERE id IN (
    SELECT m.id FROM messages m
     WHERE m.created_at < app_now() - make_interval(days => :days)
       AND NOT EXISTS (SELECT FROM deliveries d WHERE d.message_id = m.id AND d.state = 'pending') LIMIT :batch)
"""

_PURGE_IDEMPOTENCY_KEYS = """
DELETE FROM idempotency_keys WHERE id IN (
    SELECT id FROM idempotency_keys WHERE created_at < app_now() - interval '1 day' LIMIT :batch)
"""

_PURGE_WEBHOOK_SECRETS = """
DELETE FROM webhook_secrets WHERE id IN (
    SELECT id FROM webhook_secrets WHERE expires_at <= app_now() LIMIT :batch)
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
        await tx.execute(
            "DELETE FROM messages WHERE calendar_id = :id AND NOT EXISTS"
            " (SELECT FROM deliveries d WHERE d.message_id = messages.id AND d.state = 'pending')",
            {"id": calendar_id},
        )
    log.info("calendar.wiped", calendar=str(calendar_id))
    return True


async def due(rt: Runtime, *, most: int = 20) -> list[UUID]:
    """Deleted calendars whose job was lost or has to be repeated: `clean_up` each."""
    async with rt.db.transaction() as tx:
        return [row.id for row in await tx.rows(_DUE, {"most": most})]


async def purge(rt: Runtime) -> bool:
    """Remove a batch per table and calendar of what is older than the retention; whether there may be more."""
    params = {"days": rt.settings.retention_days, "batch": _BATCH}
    is_more = False
    async with rt.db.reading() as tx:
        calendars = await tx.rows(
            "SELECT DISTINCT calendar_id FROM calendar_events"
            " WHERE updated_at < app_now() - make_interval(days => :days)"
            " AND (is_deleted OR end_time < app_now() - make_interval(days => :days))",
            {"days": rt.settings.retention_days},
        )
    for row in calendars:
        async with rt.db.transaction() as tx:
            await tx.row("SELECT id FROM calendars WHERE id = :id FOR NO KEY UPDATE", {"id": row.calendar_id})
            gone: int | None = await tx.scalar(_PURGE_EVENTS, {"calendar": row.calendar_id, **params})
        is_more = is_more or (gone or 0) >= _BATCH
    for statement in (_PURGE_MESSAGES, _PURGE_IDEMPOTENCY_KEYS, _PURGE_WEBHOOK_SECRETS, _PURGE_CHANNELS):
        async with rt.db.transaction() as tx:
            bound = params if ":days" in statement else {"batch": _BATCH}
            is_more = await tx.execute(statement, bound) >= _BATCH or is_more
    return is_more
