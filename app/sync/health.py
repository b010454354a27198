"""How well a calendar is kept in sync, and when its application is told: `calendar.health_change`.

What the API shows is the state of this moment. What is told has lasted: one failed run is no news, and two messages
about a calendar are at least a minute apart; what has passed by then was none. A refused OAuth app is one incident,
told once for all its calendars, never by each of them.
"""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.db import Row, Tx
from app.errors import HealthStatus
from app.ids import new_id
from app.runtime import Runtime
from app.webhooks import payloads
from app.webhooks.outbox import NewMessage, publish

FAILING_AFTER: Final = 5
"""Failed runs in a row after which a calendar is `failing` rather than `degraded`."""
NEWS_AFTER: Final = 2
"""Failed runs in a row after which that is told."""
APART: Final = timedelta(seconds=60)
_FAILING_AT_ONCE: Final = "too_large"
_NEWS_AT_ONCE: Final = "mass_deletion"
_NEVER_NEWS: Final = "oauth_app_broken"

_LASTING: Final = f"""
CASE WHEN s.failure_count = 0 THEN 'healthy'
     WHEN s.failure_code = '{_NEVER_NEWS}' THEN s.health_status
     WHEN s.failure_count >= {FAILING_AFTER} OR s.failure_code = '{_FAILING_AT_ONCE}' THEN 'failing'
     WHEN s.failure_count >= {NEWS_AFTER} OR s.failure_code = '{_NEWS_AT_ONCE}' THEN 'degraded'
     ELSE s.health_status END
"""
"""`lasting` of the stored row."""

_DUE = f"""
SELECT s.calendar_id FROM sync_state s JOIN calendars c ON c.id = s.calendar_id
 WHERE c.state = 'connected' AND c.deleted_at IS NULL
   AND s.health_changed_at <= app_now() - CAST(:apart AS interval) AND s.health_status <> {_LASTING}
 ORDER BY s.calendar_id LIMIT :most
"""  # noqa: S608 - made of constants

_LOCK = """
SELECT id, project_id, deduplication_key, metadata, app_now() AS now FROM calendars
 WHERE id = :id AND state = 'connected' AND deleted_at IS NULL FOR NO KEY UPDATE
"""

_TELL = f"""
WITH told AS (
    SELECT s.calendar_id, s.health_status AS before, {_LASTING} AS after, s.failure_code
      FROM sync_state s WHERE s.calendar_id = :id FOR UPDATE
)
UPDATE sync_state s SET health_status = told.after, health_changed_at = app_now()
  FROM told
 WHERE s.calendar_id = told.calendar_id AND told.after <> told.before
   AND (s.health_changed_at IS NULL OR s.health_changed_at <= app_now() - CAST(:apart AS interval))
RETURNING told.before, told.after, CASE WHEN told.after <> 'healthy' THEN told.failure_code END AS reason
"""  # noqa: S608 - made of constants


def status(failure_count: int, failure_code: str | None) -> HealthStatus:
    """A connected calendar's health at this moment."""
    if failure_count == 0:
        return "healthy"
    return "failing" if failure_count >= FAILING_AFTER or failure_code == _FAILING_AT_ONCE else "degraded"


def lasting(failure_count: int, failure_code: str | None, told: HealthStatus) -> HealthStatus:
    """What its application should know by now, having been told `told` last."""
    if failure_count == 0:
        return "healthy"
    is_early = failure_count < NEWS_AFTER and failure_code not in {_FAILING_AT_ONCE, _NEWS_AT_ONCE}
    if is_early or failure_code == _NEVER_NEWS:
        return told
    return status(failure_count, failure_code)


def is_time(now: datetime, changed_at: datetime | None) -> bool:
    """Whether enough time has passed since the last message about this calendar's health."""
    return changed_at is None or now - changed_at >= APART


def change(
    calendar: Row, *, calendar_id: UUID, project_id: UUID, before: str, after: str, reason: str | None
) -> NewMessage:
    """The message; `calendar` is its locked row."""
    message_id = new_id()
    payload = payloads.health_change(
        message_id,
        at=calendar.now,
        calendar=payloads.MessageCalendar(calendar_id, calendar.deduplication_key, calendar.metadata),
        before=before,
        after=after,
        reason=reason,
    )
    return NewMessage(message_id, project_id, calendar_id, payloads.HEALTH_CHANGE, payload)


async def tell(rt: Runtime, tx: Tx, calendar_id: UUID) -> bool:
    """Tell what has lasted, if that is news and enough time has passed. Takes the calendar's row, then its state."""
    row = await tx.row(_LOCK, {"id": calendar_id})
    if row is None:
        return False
    told = await tx.row(_TELL, {"id": calendar_id, "apart": APART})
    if told is None:
        return False
    message = change(
        row,
        calendar_id=calendar_id,
        project_id=row.project_id,
        before=told.before,
        after=told.after,
        reason=told.reason,
    )
    await publish(tx, rt.queue, [message])
    return True


async def tell_due(rt: Runtime, *, most: int = 500) -> int:
    """Tell what had to wait because the last message was too fresh, batch after batch; how many."""
    told = 0
    while True:
        async with rt.db.reading() as reading:
            due = [row.calendar_id for row in await reading.rows(_DUE, {"apart": APART, "most": most})]
        for calendar_id in due:
            async with rt.db.transaction() as tx:
                told += await tell(rt, tx, calendar_id)
        if len(due) < most:
            return told
