"""Connecting, reconnecting, disconnecting and deleting calendars.

A calendar names an OAuth app of its project, or brings client id and secret, which make one (`oauth_apps`). Writers
take the calendar's row first, then its app's, `sync_state` last.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from app import oauth_apps, scheduling
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
    refusal,
)
from app.grants import GrantTokens, OneOffTokens
from app.ids import CALENDAR, new_id, public
from app.providers.base import Access, AppCredentials, Platform, RemoteCalendar, TokenAnswer
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
class InlineApp:
    """The OAuth app of a calendar that brings it: it joins the project's app of that client id."""

    client_id: str
    client_secret: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a customer sends for one of its users; `app` is an OAuth app of the project's, or one of its own."""

    platform: Platform
    app: InlineApp | UUID
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


async def check(
    rt: Runtime, *, project_id: UUID, credentials: Credentials, platform_uuid: str | None
) -> RemoteCalendar:
    """Try the credentials at the provider. Invalid with the provider's reason, or ProviderAway."""
    access = await _one_off(rt, project_id, credentials)
    return await _asked(rt.providers[credentials.platform].fetch_calendar(access, platform_uuid))


async def list_remote(rt: Runtime, *, project_id: UUID, credentials: Credentials) -> list[RemoteCalendar]:
    """Every calendar that the credentials open; stores nothing. Invalid with the provider's reason, or ProviderAway."""
    access = await _one_off(rt, project_id, credentials)
    return await _asked(rt.providers[credentials.platform].list_calendars(access))


async def _one_off(rt: Runtime, project_id: UUID, credentials: Credentials) -> Access:
    provider, token = rt.providers[credentials.platform], credentials.refresh_token
    inline = credentials.app
    if isinstance(inline, InlineApp):
        tenant = await _tenant_of(rt, project_id, credentials.platform, inline.client_id)
        app = AppCredentials(inline.client_id, inline.client_secret, tenant)
        return Access(OneOffTokens(lambda: provider.refresh(app, token)), app.client_id, user_key=token)
    async with rt.db.reading() as tx:
        stored = await oauth_apps.load(rt, tx, project_id=project_id, app_id=inline)
    if stored is None:
        raise _no_app()
    _refuse_other_platform(stored.platform, credentials.platform)

    async def refresh() -> TokenAnswer:
        secret_id, answer = await oauth_apps.ask(rt, stored, lambda app: provider.refresh(app, token))
        async with rt.db.transaction() as tx:
            await oauth_apps.note_worked(tx, secret_id)
        return answer

    return Access(OneOffTokens(refresh), stored.client_id, user_key=token)


async def _tenant_of(rt: Runtime, project_id: UUID, platform: Platform, client_id: str) -> str | None:
    """Where the project's app of this client id, if it has one, asks for tokens."""
    query = (
        "SELECT tenant FROM oauth_apps"
        " WHERE project_id = :project AND platform = :platform AND client_id = :client_id AND deleted_at IS NULL"
    )
    async with rt.db.reading() as tx:
        tenant: str | None = await tx.scalar(
            query, {"project": project_id, "platform": platform, "client_id": client_id}
        )
    return tenant


def _no_app() -> Invalid:
    return refusal("/oauth_app_id", "not_found", message="there is no such OAuth app")


def _refuse_other_platform(of_app: Platform, asked: Platform) -> None:
    if of_app != asked:
        raise refusal("/platform", "platform_mismatch", message=f"the OAuth app is one of {of_app}")


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
    """Store a calendar and ask for its first sync.

    Conflict where its deduplication key is taken, Invalid where there is no such OAuth app.
    """
    credentials = new.credentials
    app_id = await _app_of(rt, tx, project_id, credentials)
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


async def _app_of(rt: Runtime, tx: Tx, project_id: UUID, credentials: Credentials) -> UUID:
    """The OAuth app: the one that is named, or that of the client id, with the secret among its candidates."""
    app = credentials.app
    if isinstance(app, InlineApp):
        return await oauth_apps.implicit(
            rt,
            tx,
            project_id=project_id,
            platform=credentials.platform,
            client_id=app.client_id,
            client_secret=app.client_secret,
        )
    platform = await oauth_apps.hold(tx, project_id=project_id, app_id=app)
    if platform is None:
        raise _no_app()
    _refuse_other_platform(platform, credentials.platform)
    return app


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
        await oauth_apps.lock(tx, row.oauth_app_id)
        await oauth_apps.offer(rt, tx, app_id=row.oauth_app_id, secret=patch.client_secret)
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
