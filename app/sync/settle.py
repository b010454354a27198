"""What a failed run means for its calendar: the one place that decides it.

Only the provider's word that this user's access is over disconnects: a revoked grant at once, a missing calendar or
lost access once it was confirmed by a second run. Everything else (our own secret, a quota, an outage, an odd payload)
backs off and keeps the calendar connected. A failure counts only under the run's own fence and against the grant
version that it used: a newer grant turns it into a plain re-run.
"""

import random
from contextlib import suppress
from typing import Any

import orjson

from app.bots import following
from app.db import DATABASE_ERRORS, Tx
from app.errors import (
    AccessLost,
    CalendarGone,
    GrantRevoked,
    MailboxUnavailable,
    MassDeletion,
    OAuthAppBroken,
    ProviderError,
    ProviderThrottled,
    SyncSuperseded,
)
from app.ids import new_id
from app.runtime import Runtime
from app.scheduling import Claim
from app.sync import channels, guard, health, incidents
from app.telemetry import log
from app.webhooks import payloads
from app.webhooks.outbox import NewMessage, publish

_CONFIRM_SECONDS = 60.0
_MAILBOX_SECONDS = 1_000.0
"""A mailbox that is being made answers like none for about a quarter of an hour."""
_APP_BROKEN_SECONDS = 60.0

_BACK_OFF = """
UPDATE sync_state s
   SET lease_until = NULL,
       failure_count = s.failure_count + CASE WHEN :is_failure THEN 1 ELSE 0 END,
       failure_code = CASE WHEN :is_failure THEN :code ELSE s.failure_code END,
       failing_since = CASE WHEN :is_failure THEN coalesce(s.failing_since, app_now()) ELSE s.failing_since END,
       suspect_code = CAST(:suspect AS text), is_deferral = :is_deferral AND g.version = :version,
       not_before = CASE WHEN g.version = :version THEN app_now() + make_interval(secs => :seconds)
                         ELSE '-infinity' END,
       due_at = CASE WHEN g.version = :version THEN s.due_at ELSE app_now() END,
       health_status = CASE WHEN :is_told THEN :health ELSE s.health_status END,
       health_changed_at = CASE WHEN :is_told THEN app_now() ELSE s.health_changed_at END
  FROM grants g
 WHERE s.calendar_id = :id AND s.fence = :fence AND g.calendar_id = s.calendar_id
RETURNING g.version = :version AS is_counted
"""

_LOCK = """
SELECT c.state, c.metadata, c.deduplication_key, c.deleted_at, g.version, s.fence, s.last_successful_sync_at,
       s.last_attempted_sync_at, c.channel_key, app_now() AS now
  FROM calendars c JOIN grants g ON g.calendar_id = c.id JOIN sync_state s ON s.calendar_id = c.id
 WHERE c.id = :id FOR NO KEY UPDATE OF c
"""

_DISCONNECT = """
UPDATE calendars SET state = 'disconnected', failure = CAST(:failure AS jsonb), is_greeting_due = true,
                     updated_at = app_now() WHERE id = :id
"""

_STOP = """
UPDATE sync_state SET lease_until = NULL, not_before = 'infinity', is_deferral = false,
       failure_count = failure_count + 1, failure_code = :code, failing_since = coalesce(failing_since, app_now()),
       suspect_code = NULL
 WHERE calendar_id = :id AND fence = :fence
"""


# Whoever tells a calendar's health holds its row: what was told last is read behind the lock.
_LOCK_CALENDAR = """
SELECT c.metadata, c.deduplication_key, s.health_status, s.health_changed_at, app_now() AS now
  FROM calendars c JOIN sync_state s ON s.calendar_id = c.id
 WHERE c.id = :id AND c.state = 'connected' AND c.deleted_at IS NULL FOR NO KEY UPDATE OF c
"""


async def settle(rt: Runtime, claim: Claim, error: ProviderError, *, grant_version: int) -> str:
    """Record a failed run; `failed`, `disconnected` or `superseded`. `grant_version` is the one that was used."""
    log.warning("sync.failed", calendar=str(claim.calendar_id), code=error.code, failures=claim.failure_count + 1)
    try:
        if isinstance(error, GrantRevoked):
            return await _disconnect(rt, claim, error.reason, error.error, error.detail, version=grant_version)
        if isinstance(error, CalendarGone | AccessLost) and claim.suspect_code == error.code:
            return await _disconnect(rt, claim, error.code, error.code, error.detail, version=grant_version)
        return await _back_off(rt, claim, error, version=grant_version)
    except SyncSuperseded:
        return "superseded"


async def settle_crash(rt: Runtime, claim: Claim, *, grant_version: int) -> None:
    """A run that ended in a fault of ours (`internal_error`): the calendar backs off and shows it, like any other.

    Where the database is what failed, the lease's end brings the calendar back.
    """
    with suppress(*DATABASE_ERRORS):
        await _record(rt, claim, None, version=grant_version, code="internal_error", seconds=_jittered(rt, claim))


async def _back_off(rt: Runtime, claim: Claim, error: ProviderError, *, version: int) -> str:
    return await _record(rt, claim, error, version=version, code=error.code, seconds=_wait(rt, claim, error))


async def _record(
    rt: Runtime, claim: Claim, error: ProviderError | None, *, version: int, code: str, seconds: float
) -> str:
    throttled = error if isinstance(error, ProviderThrottled) else None
    is_failure = throttled is None or not throttled.is_ours
    lasting = health.lasting(claim.failure_count + int(is_failure), code, claim.health_status)
    is_news = is_failure and lasting != claim.health_status
    async with rt.db.transaction() as tx:
        calendar = await tx.row(_LOCK_CALENDAR, {"id": claim.calendar_id}) if is_news else None
        if calendar is not None and not (
            calendar.health_status != lasting and health.is_time(calendar.now, calendar.health_changed_at)
        ):
            calendar = None
        if isinstance(error, OAuthAppBroken):
            await incidents.begin(rt, tx, claim, error, grant_version=version)
        row = await tx.row(
            _BACK_OFF,
            {
                "id": claim.calendar_id,
                "fence": claim.fence,
                "version": version,
                "code": code,
                "suspect": code if isinstance(error, CalendarGone | AccessLost) else None,
                "is_deferral": isinstance(error, MassDeletion)
                or (throttled is not None and throttled.after is not None),
                "is_failure": is_failure,
                "seconds": seconds,
                "is_told": calendar is not None,
                "health": lasting,
            },
        )
        if row is None:
            return "superseded"
        if isinstance(error, MassDeletion) and row.is_counted:
            await guard.keep(tx, claim.calendar_id, error.event_ids)
        if calendar is not None:
            message = health.change(
                calendar,
                calendar_id=claim.calendar_id,
                project_id=claim.project_id,
                before=calendar.health_status,
                after=lasting,
                reason=code if lasting != "healthy" else None,
            )
            await publish(tx, rt.queue, [message])
        delay = seconds if row.is_counted else 0.0
        tx.after_commit(lambda: rt.queue.wake_sync(claim.calendar_id, delay))
    return "failed"


def _wait(rt: Runtime, claim: Claim, error: ProviderError) -> float:
    """Seconds until the next try: what the provider asked for, exactly; else exponential with full jitter."""
    if isinstance(error, ProviderThrottled) and error.after is not None:
        return max(0.0, error.after)
    if isinstance(error, MailboxUnavailable):
        return _MAILBOX_SECONDS
    if isinstance(error, MassDeletion):
        return guard.CONFIRM_SECONDS
    if isinstance(error, CalendarGone | AccessLost):
        return _CONFIRM_SECONDS
    return _jittered(rt, claim, least=_APP_BROKEN_SECONDS if isinstance(error, OAuthAppBroken) else None)


def _jittered(rt: Runtime, claim: Claim, *, least: float | None = None) -> float:
    settings = rt.settings
    return backoff(claim.failure_count, base=settings.retry_base_seconds, most=settings.retry_max_seconds, least=least)


def backoff(failures: int, *, base: float, most: float, least: float | None = None) -> float:
    """Seconds to wait after so many earlier failures in a row: exponential with full jitter, never less than half
    of `base` (or `least`)."""
    end = min(most, base * 2.0 ** min(failures, 20))
    start = base / 2 if least is None else least
    return random.uniform(min(start, end), max(start, end))  # noqa: S311 - spreads load, guards nothing


async def _disconnect(rt: Runtime, claim: Claim, code: str, error: str, message: str, *, version: int) -> str:
    async with rt.db.transaction() as tx:
        row = await tx.row(_LOCK, {"id": claim.calendar_id})
        if row is None or row.deleted_at is not None or row.fence != claim.fence:
            return "superseded"
        if row.version != version:
            await _run_again(rt, tx, claim)
            return "superseded"
        failure = {
            "code": code,
            "error": error,
            "message": message,
            "timestamp": row.now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        }
        await tx.execute(_DISCONNECT, {"id": claim.calendar_id, "failure": orjson.dumps(failure).decode()})
        await following.disconnected(rt, tx, claim.calendar_id)
        await guard.forget(tx, claim.calendar_id)
        if row.state == "connected":
            await _announce(rt, tx, claim, row, failure)
        if row.channel_key is not None:
            await channels.abandon(tx, row.channel_key)
        if not await tx.execute(_STOP, {"id": claim.calendar_id, "fence": claim.fence, "code": code}):
            raise SyncSuperseded
    return "disconnected"


async def _run_again(rt: Runtime, tx: Tx, claim: Claim) -> None:
    await tx.execute(
        "UPDATE sync_state SET lease_until = NULL, not_before = '-infinity', due_at = app_now()"
        " WHERE calendar_id = :id AND fence = :fence",
        {"id": claim.calendar_id, "fence": claim.fence},
    )
    tx.after_commit(lambda: rt.queue.wake_sync(claim.calendar_id, 0))


async def _announce(rt: Runtime, tx: Tx, claim: Claim, row: Any, failure: dict[str, str]) -> None:
    message_id = new_id()
    payload = payloads.state_change(
        message_id,
        at=row.now,
        calendar=payloads.MessageCalendar(claim.calendar_id, row.deduplication_key, row.metadata),
        connection=payloads.Connection(
            "disconnected", failure, row.last_successful_sync_at, row.last_attempted_sync_at
        ),
        previous_state=row.state,
    )
    message = NewMessage(message_id, claim.project_id, claim.calendar_id, "calendar.state_change", payload)
    await publish(tx, rt.queue, [message])
