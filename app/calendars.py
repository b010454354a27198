"""Connecting, reconnecting, disconnecting and deleting calendars.

A calendar brings its own OAuth app (client id and secret), which becomes one implicit row per client id of the
project. A secret that comes in is a candidate: it is used from its first success on, and never replaces a working one
because it was sent later. Writers take the calendar's row first, `sync_state` last.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from app import scheduling
from app.bots import following
from app.bots.rules import evaluations
from app.crypto import Place
from app.db import Tx
from app.errors import (
    AccessLost,
    CalendarGone,
    Conflict,
    GrantRevoked,
    Invalid,
    NotFound,
    OAuthAppBroken,
    ProviderAway,
    ProviderContract,
    ProviderError,
    ProviderThrottled,
    SyncSuperseded,
)
from app.grants import GrantTokens, OneOffTokens
from app.ids import CALENDAR, new_id, public
from app.providers.base import Access, AppCredentials, Platform, RemoteCalendar
from app.runtime import Runtime
from app.telemetry import log
from app.webhooks import outbox

_T = TypeVar("_T")

_INSERT = """
INSERT INTO calendars (id, project_id, oauth_app_id, platform, platform_uuid, metadata, deduplication_key, state,
                       created_at, updated_at)
VALUES (:id, :project, :app, :platform, :platform_uuid, CAST(:metadata AS jsonb), :dedup, 'connected',
        app_now(), app_now())
ON CONFLICT (project_id, deduplication_key) WHERE deleted_at IS NULL AND deduplication_key IS NOT NULL DO NOTHING
"""

_LOCK = """
SELECT id, platform, oauth_app_id, state FROM calendars
 WHERE project_id = :project AND id = :id AND deleted_at IS NULL FOR NO KEY UPDATE
"""

# Rules may look at it.
_IS_TO_BE_JUDGED = """
SELECT c.metadata IS DISTINCT FROM CAST(:metadata AS jsonb)
       AND EXISTS (SELECT FROM rules r WHERE r.project_id = c.project_id AND r.deleted_at IS NULL AND r.is_enabled)
  FROM calendars c WHERE c.id = :id
"""

_RETRY = """
UPDATE sync_state SET not_before = CASE WHEN is_deferral THEN not_before ELSE '-infinity' END,
                      watch_not_before = '-infinity', suspect_code = NULL
 WHERE calendar_id = :id
"""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a customer sends for one of its users."""

    platform: Platform
    client_id: str
    client_secret: str
    refresh_token: str


@dataclass(frozen=True, slots=True)
class NewCalendar:
    """A calendar to connect; `platform_uuid` None is the account's primary one."""

    credentials: Credentials
    platform_uuid: str | None
    metadata: str | None
    """JSON text of an object of strings."""
    deduplication_key: str | None


@dataclass(frozen=True, slots=True)
class CalendarPatch:
    """New credentials and metadata; None leaves things as they are, save metadata where `is_metadata_given`."""

    client_secret: str | None
    refresh_token: str | None
    metadata: str | None
    is_metadata_given: bool


async def check(rt: Runtime, credentials: Credentials, platform_uuid: str | None) -> RemoteCalendar:
    """Try the credentials at the provider. Invalid with the provider's reason, or ProviderAway."""
    provider = rt.providers[credentials.platform]
    return await _asked(provider.fetch_calendar(_one_off(rt, credentials), platform_uuid))


async def list_remote(rt: Runtime, credentials: Credentials) -> list[RemoteCalendar]:
    """Every calendar that the credentials open; stores nothing. Invalid with the provider's reason, or ProviderAway."""
    return await _asked(rt.providers[credentials.platform].list_calendars(_one_off(rt, credentials)))


def _one_off(rt: Runtime, credentials: Credentials) -> Access:
    app = AppCredentials(credentials.client_id, credentials.client_secret)
    tokens = OneOffTokens(rt, credentials.platform, app, credentials.refresh_token)
    return Access(tokens=tokens, client_id=credentials.client_id, user_key=credentials.refresh_token)


async def _asked(answer: Awaitable[_T]) -> _T:
    """What a provider's refusal means for a request that waits for it."""
    try:
        return await answer
    except GrantRevoked as exc:
        raise Invalid(exc.detail, code=exc.reason) from exc
    except (OAuthAppBroken, CalendarGone, AccessLost, ProviderContract) as exc:
        raise Invalid(exc.detail, code=exc.code) from exc
    except ProviderThrottled as exc:
        after = str(round(exc.after)) if exc.after is not None else "60"
        raise ProviderAway(exc.detail, headers={"Retry-After": after}) from exc
    except (ProviderError, TimeoutError) as exc:
        raise ProviderAway("the provider did not answer as it should", headers={"Retry-After": "5"}) from exc


async def connect(rt: Runtime, tx: Tx, *, project_id: UUID, new: NewCalendar) -> UUID:
    """Store a calendar and ask for its first sync. Conflict where its deduplication key is taken."""
    credentials = new.credentials
    app_id = await _oauth_app(rt, tx, project_id=project_id, credentials=credentials)
    calendar_id = new_id()
    inserted = await tx.execute(
        _INSERT,
        {
            "id": calendar_id,
            "project": project_id,
            "app": app_id,
            "platform": credentials.platform,
            "platform_uuid": new.platform_uuid,
            "metadata": new.metadata,
            "dedup": new.deduplication_key,
        },
    )
    if not inserted:
        raise await _key_in_use(tx, project_id=project_id, key=new.deduplication_key)
    sealed = rt.cipher.seal(credentials.refresh_token, Place("grants", "refresh_token", calendar_id))
    await tx.execute(
        "INSERT INTO grants (calendar_id, refresh_token_sealed) VALUES (:id, :sealed)",
        {"id": calendar_id, "sealed": sealed},
    )
    await tx.execute(
        "INSERT INTO sync_state (calendar_id, oauth_app_id, requested_seq, asked_seq, full_requested_seq, due_at)"
        " VALUES (:id, :app, 1, 1, 1, app_now())",
        {"id": calendar_id, "app": app_id},
    )
    tx.after_commit(lambda: rt.queue.wake_sync(calendar_id, 0))
    return calendar_id


async def _key_in_use(tx: Tx, *, project_id: UUID, key: str | None) -> Conflict:
    existing = await tx.scalar(
        "SELECT id FROM calendars WHERE project_id = :project AND deduplication_key = :key AND deleted_at IS NULL",
        {"project": project_id, "key": key},
    )
    extra = {"existing_id": public(CALENDAR, existing)} if existing else {}
    return Conflict("a calendar with this deduplication_key exists", code="deduplication_key_in_use", extra=extra)


async def _oauth_app(rt: Runtime, tx: Tx, *, project_id: UUID, credentials: Credentials) -> UUID:
    """The implicit OAuth app of this client id, with the secret among its candidates."""
    app_id: UUID = await tx.scalar(
        "INSERT INTO oauth_apps (id, project_id, platform, client_id) VALUES (:id, :project, :platform, :client_id)"
        " ON CONFLICT (project_id, platform, client_id) DO UPDATE SET client_id = excluded.client_id RETURNING id",
        {
            "id": new_id(),
            "project": project_id,
            "platform": credentials.platform,
            "client_id": credentials.client_id,
        },
    )
    await _offer_secret(rt, tx, app_id=app_id, secret=credentials.client_secret)
    return app_id


async def _offer_secret(rt: Runtime, tx: Tx, *, app_id: UUID, secret: str) -> None:
    """Make a secret a candidate unless the app has it already; a refused one that is sent again is tried again."""
    rows = await tx.rows(
        "SELECT id, secret_sealed FROM oauth_app_secrets WHERE oauth_app_id = :app ORDER BY created_at DESC LIMIT 20",
        {"app": app_id},
    )
    for row in rows:
        if rt.cipher.open(row.secret_sealed, Place("oauth_app_secrets", "secret", row.id)) == secret:
            await tx.execute(
                "UPDATE oauth_app_secrets SET refused_at = NULL WHERE id = :id AND refused_at IS NOT NULL",
                {"id": row.id},
            )
            return
    secret_id = new_id()
    sealed = rt.cipher.seal(secret, Place("oauth_app_secrets", "secret", secret_id))
    await tx.execute(
        "INSERT INTO oauth_app_secrets (id, oauth_app_id, secret_sealed) VALUES (:id, :app, :sealed)",
        {"id": secret_id, "app": app_id, "sealed": sealed},
    )


async def update(rt: Runtime, tx: Tx, *, project_id: UUID, calendar_id: UUID, patch: CalendarPatch) -> None:
    """Apply a PATCH and ask for a sync; new credentials reconnect. NotFound."""
    row = await tx.row(_LOCK, {"project": project_id, "id": calendar_id})
    if row is None:
        raise NotFound
    if patch.is_metadata_given:
        if await tx.scalar(_IS_TO_BE_JUDGED, {"id": calendar_id, "metadata": patch.metadata}):
            await evaluations.request(tx, [calendar_id])
        await tx.execute(
            "UPDATE calendars SET metadata = CAST(:metadata AS jsonb), updated_at = app_now() WHERE id = :id",
            {"id": calendar_id, "metadata": patch.metadata},
        )
    if patch.client_secret is not None:
        await _offer_secret(rt, tx, app_id=row.oauth_app_id, secret=patch.client_secret)
    if patch.refresh_token is not None:
        sealed = rt.cipher.seal(patch.refresh_token, Place("grants", "refresh_token", calendar_id))
        await tx.execute(
            "UPDATE grants SET refresh_token_sealed = :sealed, is_identity_due = true, access_token_sealed = NULL,"
            " access_token_expires_at = NULL WHERE calendar_id = :id",
            {"id": calendar_id, "sealed": sealed},
        )
    if patch.client_secret is not None or patch.refresh_token is not None:
        # A run that still works with the old credentials settles nothing: its version is no longer the grant's.
        await tx.execute(
            "UPDATE grants SET version = version + 1, lease_until = NULL WHERE calendar_id = :id",
            {"id": calendar_id},
        )
    await tx.execute(_RETRY, {"id": calendar_id})
    await scheduling.request_syncs(rt, tx, [calendar_id], is_priority=True, is_full=row.state == "disconnected")


async def delete(rt: Runtime, tx: Tx, *, project_id: UUID, calendar_id: UUID) -> None:
    """Make a calendar vanish for its project at once; a job stops channels and wipes what is stored. NotFound."""
    if await tx.row(_LOCK, {"project": project_id, "id": calendar_id}) is None:
        raise NotFound
    await tx.execute(
        "UPDATE calendars SET deleted_at = app_now(), updated_at = app_now(), wipe_not_before = app_now()"
        " WHERE id = :id",
        {"id": calendar_id},
    )
    await outbox.drop_undelivered(tx, calendar_id)
    await following.calendar_deleted(rt, tx, calendar_id)
    await tx.execute(
        "UPDATE sync_state SET fence = fence + 1, lease_until = NULL, not_before = 'infinity' WHERE calendar_id = :id",
        {"id": calendar_id},
    )
    tx.after_commit(lambda: rt.queue.wake_clean_up(calendar_id))
    log.info("calendar.deleted", calendar=str(calendar_id))


async def request_sync(rt: Runtime, tx: Tx, *, project_id: UUID, calendar_id: UUID, full: bool) -> int:
    """Ask for a sync now; the requested_seq that will have served it. NotFound."""
    found = await tx.scalar(
        "SELECT id FROM calendars WHERE project_id = :project AND id = :id AND deleted_at IS NULL",
        {"project": project_id, "id": calendar_id},
    )
    if found is None:
        raise NotFound
    requested = await scheduling.request_syncs(rt, tx, [calendar_id], is_priority=True, is_full=full)
    return requested[calendar_id]


async def access_token(rt: Runtime, *, project_id: UUID, calendar_id: UUID) -> tuple[str, datetime]:
    """A provider access token of the calendar's user, and when it ends. NotFound, Conflict, Invalid, ProviderAway."""
    query = (
        "SELECT c.state, g.access_token_sealed, g.access_token_expires_at, app_now() AS now,"
        " g.access_token_expires_at > app_now() + interval '5 minutes' AS is_fresh"
        " FROM calendars c JOIN grants g ON g.calendar_id = c.id"
        " WHERE c.project_id = :project AND c.id = :id AND c.deleted_at IS NULL"
    )
    params = {"project": project_id, "id": calendar_id}
    async with rt.db.reading() as tx:
        row = await tx.row(query, params)
    if row is None:
        raise NotFound
    if row.state != "connected":
        raise Conflict("the calendar is disconnected", code="calendar_disconnected")
    tokens = GrantTokens(rt, calendar_id, sealed=row.access_token_sealed, is_fresh=bool(row.is_fresh))
    try:
        token = await _asked(tokens.token())
    except SyncSuperseded as exc:
        raise NotFound from exc
    async with rt.db.reading() as tx:
        stored = await tx.row(query, params)
    if stored is None:
        raise NotFound
    return token, stored.access_token_expires_at
