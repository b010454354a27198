"""An OAuth app that the provider refuses: one incident for all its calendars, told once (`oauth_app.failing`).

It begins with the first run that the provider refuses on the app's account, and ends with the first proof that the app
works: a refreshed token, or an answer where the API itself was what was refused. Its calendars stay connected.
"""

from typing import Final

from app.db import Tx
from app.errors import OAuthAppBroken
from app.ids import new_id
from app.runtime import Runtime
from app.scheduling import Claim
from app.telemetry import log
from app.webhooks import payloads
from app.webhooks.outbox import NewMessage, publish

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
RETURNING a.failing_since, n.now, a.failing_told_at = n.now AS is_news,
          (SELECT count(*) FROM calendars c
            WHERE c.oauth_app_id = a.id AND c.state = 'connected' AND c.deleted_at IS NULL) AS calendars
"""

_END = """
UPDATE oauth_apps SET failing_since = NULL, failing_code = NULL, failing_detail = NULL
 WHERE id = :id AND failing_since IS NOT NULL
"""


async def begin(rt: Runtime, tx: Tx, claim: Claim, error: OAuthAppBroken) -> None:
    """Note that the app is refused, and tell it if that is new."""
    params = {"id": claim.oauth_app_id, "code": error.error, "detail": error.detail}
    row = await tx.row(_BEGIN, params | {"is_certain": error.error in _API_CODES | _ABOUT_THE_APP})
    if row is None or not row.is_news:
        return
    message_id = new_id()
    payload = payloads.oauth_app_failing(
        message_id,
        at=row.now,
        oauth_app_id=claim.oauth_app_id,
        code=error.error,
        detail=error.detail,
        since=row.failing_since,
        calendars_affected=row.calendars,
    )
    await publish(tx, rt.queue, [NewMessage(message_id, claim.project_id, None, payloads.OAUTH_APP_FAILING, payload)])
    log.warning("oauth_app.failing", oauth_app=str(claim.oauth_app_id), code=error.error, calendars=row.calendars)


async def end(tx: Tx, claim: Claim, *, is_token_new: bool) -> None:
    """A run has succeeded: the incident is over if that proves it."""
    if claim.app_failing_code is None or not (is_token_new or claim.app_failing_code in _API_CODES):
        return
    if await tx.execute(_END, {"id": claim.oauth_app_id}):
        log.info("oauth_app.recovered", oauth_app=str(claim.oauth_app_id))
