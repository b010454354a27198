"""An OAuth app that the provider refuses, or soon will: told once for all its calendars (`oauth_app.failing`).

An incident begins with the first run that the provider refuses on the app's account, and ends with the first proof that
the app works: a refreshed token, or an answer where the API itself was what was refused. Its calendars stay connected,
and are tried again when it ends, or when its owner changes the app. A secret with a date is warned of 30, 7 and 1 days
ahead; whoever comes late gets the one warning that is nearest.
"""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.db import Tx
from app.errors import OAuthAppBroken
from app.ids import new_id
from app.instants import instant
from app.runtime import Runtime
from app.scheduling import Claim
from app.telemetry import log
from app.webhooks import payloads
from app.webhooks.outbox import NewMessage, publish

_WARNING: Final = "secret_expires"
"""The `code` of a warning; an incident's is the provider's own."""

_API_CODES: Final = frozenset({"accessNotConfigured", "SERVICE_DISABLED"})
"""The API is not enabled for the app: its tokens are fine, and prove nothing."""
_ABOUT_THE_APP: Final = frozenset({"invalid_client", "deleted_client"})
"""The id or the secret is refused, whoever's grant it is."""

# Most refusals may be about one user's grant, or one tenant: while the app's secret works for others, they are. And
# whatever flaps is told once an hour at most.
_BEGIN = """
WITH n AS MATERIALIZED (SELECT app_now() AS now)
UPDATE oauth_apps a
   SET failing_since = n.now, failing_code = :code, failing_detail = :detail,
       failing_told_at = CASE WHEN a.failing_told_at > n.now - interval '1 hour' THEN a.failing_told_at ELSE n.now END
  FROM n
 WHERE a.id = :id AND a.failing_since IS NULL
   AND NOT (NOT :is_certain AND EXISTS (
       SELECT FROM oauth_app_secrets s
        WHERE s.oauth_app_id = a.id AND s.last_worked_at > app_now() - interval '2 hours'))
   AND EXISTS (SELECT FROM sync_state s JOIN grants g ON g.calendar_id = s.calendar_id
                WHERE s.calendar_id = :calendar AND s.fence = :fence AND g.version = :version)
RETURNING a.failing_since, n.now, a.failing_told_at = n.now AS is_news,
          (SELECT count(*) FROM calendars c
            WHERE c.oauth_app_id = a.id AND c.state = 'connected' AND c.deleted_at IS NULL) AS calendars
"""

# What flaps within two minutes leaves the calendars to their own times: they were hardly put off.
_END = """
UPDATE oauth_apps
   SET failing_since = NULL, failing_code = NULL, failing_detail = NULL,
       retry_since = CASE WHEN failing_since < app_now() - interval '2 minutes' THEN app_now() ELSE retry_since END
 WHERE id = :id AND failing_since IS NOT NULL
"""

_RETRYING = "SELECT id, retry_since FROM oauth_apps WHERE retry_since IS NOT NULL ORDER BY id LIMIT 1"
_TAKE_RETRYING = f"{_RETRYING} FOR NO KEY UPDATE SKIP LOCKED"

# Found by the two indexes of what is due. They keep their place behind what pushes and requests ask for, and apps take
# turns: a thousand of them are no herd. What has been tried since, and failed once more, is left.
_WAITS = "last_attempted_sync_at <= :since AND not_before > app_now() AND not_before < 'infinity' AND NOT is_deferral"
_RETRY = f"""
WITH waiting AS (
    SELECT calendar_id FROM sync_state
     WHERE calendar_id = ANY (ARRAY(
           SELECT calendar_id FROM sync_state
            WHERE oauth_app_id = :app AND failure_code = 'oauth_app_broken' AND {_WAITS}
              AND (asked_seq > synced_seq OR requested_seq > synced_seq AND asked_seq <= synced_seq)
            LIMIT :most)) AND {_WAITS}
     ORDER BY calendar_id FOR UPDATE
)
UPDATE sync_state s SET not_before = '-infinity', due_at = least(s.due_at, app_now())
  FROM waiting WHERE s.calendar_id = waiting.calendar_id
"""  # noqa: S608 - made of constants

# Not of a secret that a newer one has replaced, nor of one that the provider does not know.
_WARN = """
WITH due AS (
    SELECT s.id FROM oauth_app_secrets s JOIN oauth_apps a ON a.id = s.oauth_app_id
     WHERE s.warn_at <= app_now() AND a.deleted_at IS NULL
       AND NOT (s.refused_at IS NOT NULL AND s.last_worked_at IS NULL)
       AND NOT EXISTS (SELECT FROM oauth_app_secrets n
                        WHERE n.oauth_app_id = s.oauth_app_id AND n.id <> s.id AND n.offered_at >= s.offered_at
                          AND n.last_worked_at >= coalesce(s.last_worked_at, '-infinity'))
     ORDER BY s.warn_at, s.id LIMIT :most FOR UPDATE OF s SKIP LOCKED
)
UPDATE oauth_app_secrets s
   SET warn_at = (SELECT min(s.expires_at - d.days * interval '1 day') FROM (VALUES (7), (1)) d (days)
                   WHERE s.expires_at - d.days * interval '1 day' > app_now())
  FROM due, oauth_apps a
 WHERE s.id = due.id AND a.id = s.oauth_app_id
RETURNING s.oauth_app_id, a.project_id, s.expires_at, app_now() AS now,
          (SELECT count(*) FROM calendars c
            WHERE c.oauth_app_id = a.id AND c.state = 'connected' AND c.deleted_at IS NULL) AS calendars
"""


async def begin(rt: Runtime, tx: Tx, claim: Claim, error: OAuthAppBroken, *, grant_version: int) -> None:
    """Note that the app is refused, and tell it if that is new.

    Comes before the run's own record: the app's row is locked before `sync_state`. A run that another one, or a newer
    grant, has replaced proves nothing.
    """
    params = {
        "id": claim.oauth_app_id,
        "code": error.error,
        "detail": error.detail,
        "is_certain": error.error in _API_CODES | _ABOUT_THE_APP,
        "calendar": claim.calendar_id,
        "fence": claim.fence,
        "version": grant_version,
    }
    row = await tx.row(_BEGIN, params)
    if row is None or not row.is_news:
        return
    message = _message(
        claim.oauth_app_id,
        claim.project_id,
        at=row.now,
        code=error.error,
        detail=error.detail,
        since=row.failing_since,
        calendars=row.calendars,
    )
    await publish(tx, rt.queue, [message])
    log.warning("oauth_app.failing", oauth_app=str(claim.oauth_app_id), code=error.error, calendars=row.calendars)


def _message(
    app_id: UUID,
    project_id: UUID,
    *,
    at: datetime,
    code: str,
    detail: str,
    since: datetime,
    calendars: int,
    expires_at: datetime | None = None,
) -> NewMessage:
    message_id = new_id()
    payload = payloads.oauth_app_failing(
        message_id,
        at=at,
        oauth_app_id=app_id,
        code=code,
        detail=detail,
        since=since,
        secret_expires_at=expires_at,
        calendars_affected=calendars,
    )
    return NewMessage(message_id, project_id, None, payloads.OAUTH_APP_FAILING, payload)


async def end(tx: Tx, claim: Claim, *, is_token_new: bool) -> None:
    """A run has succeeded: the incident is over if that proves it."""
    if claim.app_failing_code is None or not (is_token_new or claim.app_failing_code in _API_CODES):
        return
    if await tx.execute(_END, {"id": claim.oauth_app_id}):
        log.info("oauth_app.recovered", oauth_app=str(claim.oauth_app_id))


async def retry_due(rt: Runtime, *, most: int = 500) -> int:
    """Make due a batch of the calendars that one app has failed, now that it may work again; how many rows that was.

    The app's own row counts too: none is left to do where this is 0.
    """
    async with rt.db.reading() as tx:
        if await tx.row(_RETRYING) is None:  # nearly always: one round trip
            return 0
    async with rt.db.transaction() as tx:
        app = await tx.row(_TAKE_RETRYING)
        if app is None:
            return 0
        count = await tx.execute(_RETRY, {"app": app.id, "since": app.retry_since, "most": most})
        if count == 0:
            await tx.execute("UPDATE oauth_apps SET retry_since = NULL WHERE id = :id", {"id": app.id})
        return count + 1


async def warn_due(rt: Runtime, *, most: int = 100) -> int:
    """Warn of secrets that will expire, each step once; how many warnings. The row that is due is the edge."""
    async with rt.db.reading() as tx:
        if not await tx.scalar("SELECT min(warn_at) <= app_now() FROM oauth_app_secrets"):
            return 0
    async with rt.db.transaction() as tx:
        rows = await tx.rows(_WARN, {"most": most})
        messages = [
            _message(
                row.oauth_app_id,
                row.project_id,
                at=row.now,
                code=_WARNING,
                detail=_remaining(row.expires_at, row.now),
                since=row.now,
                calendars=row.calendars,
                expires_at=row.expires_at,
            )
            for row in rows
        ]
        await publish(tx, rt.queue, messages)
    for row in rows:
        log.warning("oauth_app.secret_expires", oauth_app=str(row.oauth_app_id))
    return len(rows)


def _remaining(expires_at: datetime, now: datetime) -> str:
    if expires_at <= now:
        return f"the client secret expired at {instant(expires_at)}"
    days = max(1, round((expires_at - now) / timedelta(days=1)))
    return f"the client secret expires at {instant(expires_at)}, in {days} day{'s' if days > 1 else ''}"
