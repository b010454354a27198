"""The customers' OAuth apps: what they are, which secrets they have, and in which order these are tried.

A project has one app per client id. Calendars that bring client id and secret make an implicit one, which its owner may
take over. A secret that comes in is a candidate: it is tried first until the provider has judged it, and those that
have worked stay behind it, so that a wrong one breaks nothing. What a newer one has replaced goes a week later
(`sync/cleanup`), since whoever still sends the old one must not make it the newest again.

Lock order: a calendar's row, its app's, secrets, grants, `sync_state`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from app.crypto import Place, SealBroken
from app.db import ReadTx, Row, Tx
from app.errors import Conflict, NotFound, OAuthAppBroken, ProviderUnavailable, refusal
from app.ids import OAUTH_APP, new_id, public
from app.providers.base import AppCredentials, Platform
from app.runtime import Runtime
from app.telemetry import log

_T = TypeVar("_T")

SECRETS_MOST: Final = 10
"""Kept of one app: those that have worked before those that have not."""
_TRIED_MOST: Final = 2
"""Of each kind, in one look: candidates, those that have worked, refused ones."""

TRIED_KIND: Final = """
CASE WHEN offered_at > coalesce(greatest(last_worked_at, refused_at), '-infinity') THEN 0
     WHEN last_worked_at IS NOT NULL THEN 1 ELSE 2 END
"""
"""A candidate, one that has worked, one that was refused and never worked: tried in this order."""
TRIED_ORDER: Final = f"{TRIED_KIND}, CASE {TRIED_KIND} WHEN 1 THEN last_worked_at ELSE offered_at END DESC, id DESC"
"""In which order the secrets of one app are tried."""

_SECRETS = f"""
SELECT id, secret_sealed
  FROM (SELECT s.*, {TRIED_KIND} AS kind,
               row_number() OVER (PARTITION BY {TRIED_KIND} ORDER BY {TRIED_ORDER}) AS place
          FROM oauth_app_secrets s WHERE oauth_app_id = :app) ranked
 WHERE place <= {_TRIED_MOST} ORDER BY kind, place
"""  # noqa: S608 - made of constants

_KNOWN = f"""
SELECT s.id, s.secret_sealed, s.refused_at IS NOT NULL AND s.last_worked_at IS NULL AS is_refused, a.is_implicit
  FROM oauth_app_secrets s JOIN oauth_apps a ON a.id = s.oauth_app_id
 WHERE s.oauth_app_id = :app ORDER BY {TRIED_ORDER.replace("id DESC", "s.id DESC")}
"""  # noqa: S608 - made of constants

_CURRENT = f"SELECT id FROM oauth_app_secrets WHERE oauth_app_id = :app ORDER BY {TRIED_ORDER} LIMIT 1"  # noqa: S608

WORKED: Final = """
UPDATE oauth_app_secrets SET last_worked_at = app_now(), refused_at = NULL
 WHERE id = :secret
   AND (refused_at IS NOT NULL OR last_worked_at IS NULL OR offered_at > last_worked_at
        OR last_worked_at < app_now() - interval '1 minute')
"""
"""The provider has taken `:secret`; once a minute is enough to know."""

_ADD = """
INSERT INTO oauth_app_secrets (id, oauth_app_id, secret_sealed, created_at, offered_at)
VALUES (:id, :app, :sealed, app_now(), app_now())
"""

_RENEW = "UPDATE oauth_app_secrets SET offered_at = app_now(), refused_at = NULL WHERE id = :id"

_DROP_SURPLUS = """
DELETE FROM oauth_app_secrets WHERE id IN (
    SELECT id FROM oauth_app_secrets WHERE oauth_app_id = :app AND id <> :new
     ORDER BY last_worked_at DESC NULLS LAST, refused_at IS NOT NULL, offered_at DESC OFFSET :others)
"""

# A date that is sent again is no news: what has been told of it has been told.
_EXPIRES = """
UPDATE oauth_app_secrets
   SET expires_at = CAST(:at AS timestamptz), warn_at = CAST(:at AS timestamptz) - interval '30 days'
 WHERE id = :id AND expires_at IS DISTINCT FROM CAST(:at AS timestamptz)
"""

_FIND = """
SELECT id, platform, client_id, tenant FROM oauth_apps
 WHERE project_id = :project AND id = :id AND deleted_at IS NULL
"""

# A deleted app stays while deleted calendars still need it to stop their channels: then its row lives again, as new.
_ANEW = """
       created_at = CASE WHEN a.deleted_at IS NULL THEN a.created_at ELSE app_now() END,
       updated_at = CASE WHEN a.deleted_at IS NULL AND {keeps} THEN a.updated_at ELSE app_now() END,
       failing_since = CASE WHEN a.deleted_at IS NULL THEN a.failing_since END,
       failing_code = CASE WHEN a.deleted_at IS NULL THEN a.failing_code END,
       failing_detail = CASE WHEN a.deleted_at IS NULL THEN a.failing_detail END,
       deleted_at = NULL
"""

_IMPLICIT = f"""
INSERT INTO oauth_apps AS a (id, project_id, platform, client_id, created_at, updated_at)
VALUES (:id, :project, :platform, :client_id, app_now(), app_now())
ON CONFLICT (project_id, platform, client_id) DO UPDATE
   SET is_implicit = a.is_implicit OR a.deleted_at IS NOT NULL,
       name = CASE WHEN a.deleted_at IS NULL THEN a.name END,
       tenant = CASE WHEN a.deleted_at IS NULL THEN a.tenant END,
       {_ANEW.format(keeps="true")}
RETURNING id
"""  # noqa: S608 - made of constants

_CREATE = f"""
INSERT INTO oauth_apps AS a (id, project_id, platform, client_id, name, tenant, is_implicit, created_at, updated_at)
VALUES (:id, :project, :platform, :client_id, :name, :tenant, false, app_now(), app_now())
ON CONFLICT (project_id, platform, client_id) DO UPDATE
   SET is_implicit = false, name = excluded.name, tenant = excluded.tenant, retry_since = app_now(),
       {_ANEW.format(keeps="false")}
 WHERE a.is_implicit OR a.deleted_at IS NOT NULL
RETURNING id
"""  # noqa: S608 - made of constants

# What a deleted app had is not tried again in its next life.
_FORGET = """
DELETE FROM oauth_app_secrets WHERE oauth_app_id IN (
    SELECT id FROM oauth_apps
     WHERE project_id = :project AND platform = :platform AND client_id = :client_id AND deleted_at IS NOT NULL
       FOR NO KEY UPDATE)
"""

_UPDATE = """
UPDATE oauth_apps SET name = :name, tenant = :tenant, retry_since = app_now(), updated_at = app_now() WHERE id = :id
"""

_USED = "SELECT EXISTS (SELECT FROM calendars WHERE oauth_app_id = :id AND deleted_at IS NULL)"

# The row goes at once unless calendars that are being wiped point to it; then `cleanup` takes it.
_DELETE = """
DELETE FROM oauth_apps WHERE id = :id AND NOT EXISTS (SELECT FROM calendars WHERE oauth_app_id = :id)
"""


@dataclass(frozen=True, slots=True)
class AppSecret:
    """One secret of an app, opened."""

    id: UUID
    text: str


@dataclass(frozen=True, slots=True)
class OAuthApp:
    """An app as the provider is asked with it; `secrets` in the order in which they are tried."""

    id: UUID
    platform: Platform
    client_id: str
    tenant: str | None
    """Of Microsoft; None takes the setting's."""
    secrets: Sequence[AppSecret]


@dataclass(frozen=True, slots=True)
class NewApp:
    """An app as its owner describes it."""

    platform: Platform
    client_id: str
    client_secret: str
    name: str | None
    tenant: str | None
    secret_expires_at: datetime | None


# --- how the provider is asked ---


async def load(rt: Runtime, tx: ReadTx, *, project_id: UUID, app_id: UUID) -> OAuthApp | None:
    """A project's app with its secrets opened; None where there is none."""
    row = await tx.row(_FIND, {"project": project_id, "id": app_id})
    if row is None:
        return None
    return OAuthApp(row.id, row.platform, row.client_id, row.tenant, await secrets_of(rt, tx, row.id))


async def secrets_of(rt: Runtime, tx: ReadTx, app_id: UUID) -> list[AppSecret]:
    """The secrets that are worth a try, in their order."""
    rows = await tx.rows(_SECRETS, {"app": app_id})
    opened = [(row.id, _opened(rt, row)) for row in rows]
    return [AppSecret(id_, text) for id_, text in opened if text is not None]


def _opened(rt: Runtime, row: Row) -> str | None:
    """A secret's text; None of one that does not open here, which must keep nobody from sending another."""
    try:
        return rt.cipher.open(row.secret_sealed, _place(row.id))
    except SealBroken:
        log.error("oauth_app.secret_not_opened", secret=str(row.id))
        return None


async def ask(
    rt: Runtime,
    app: OAuthApp,
    question: Callable[[AppCredentials], Awaitable[_T]],
    *,
    meanwhile: Callable[[Tx], Awaitable[object]] | None = None,
) -> tuple[UUID, _T]:
    """The answer to the first secret that the provider takes, and that secret's id, which the caller notes as worked.

    Refused ones are noted here, each in a transaction of its own in which `meanwhile` may do something too. One that
    came in while the others were refused is tried as well. OAuthAppBroken where none is taken.
    """
    broken: OAuthAppBroken | None = None
    secrets, refused = app.secrets, set[UUID]()
    while secrets:
        for secret in secrets:
            try:
                return secret.id, await question(AppCredentials(app.client_id, secret.text, app.tenant))
            except OAuthAppBroken as exc:
                broken = broken or exc
            refused.add(secret.id)
            async with rt.db.transaction() as tx:
                await note_refused(tx, secret.id)
                if meanwhile is not None:
                    await meanwhile(tx)
        async with rt.db.reading() as reading:
            secrets = [one for one in await secrets_of(rt, reading, app.id) if one.id not in refused]
    raise broken or ProviderUnavailable("the OAuth app has no secret")


async def note_worked(tx: Tx, secret_id: UUID) -> None:
    """The provider has taken this secret: it is tried before all that are no candidates."""
    await tx.execute(WORKED, {"secret": secret_id})


async def note_refused(tx: Tx, secret_id: UUID) -> None:
    """The provider has refused it: a candidate goes behind those that have worked."""
    await tx.execute("UPDATE oauth_app_secrets SET refused_at = app_now() WHERE id = :id", {"id": secret_id})


# --- how apps and secrets come in ---


async def implicit(
    rt: Runtime, tx: Tx, *, project_id: UUID, platform: Platform, client_id: str, client_secret: str
) -> UUID:
    """The app of a client id that a calendar brings, made where there is none, with the secret among its candidates."""
    params = {"id": new_id(), "project": project_id, "platform": platform, "client_id": client_id}
    app_id: UUID = await tx.scalar(_IMPLICIT, params)
    await offer(rt, tx, app_id=app_id, secret=client_secret, is_brought=True)
    return app_id


async def hold(tx: Tx, *, project_id: UUID, app_id: UUID) -> Platform | None:
    """Keep a project's app from being deleted until the transaction ends; whose it is, None where there is none."""
    row = await tx.row(f"{_FIND} FOR KEY SHARE", {"project": project_id, "id": app_id})
    return None if row is None else row.platform


async def lock(tx: Tx, app_id: UUID) -> None:
    """Before `offer`, unless the transaction has written the app's row already: two must not bring the same secret."""
    await tx.execute("SELECT id FROM oauth_apps WHERE id = :id FOR NO KEY UPDATE", {"id": app_id})


async def offer(rt: Runtime, tx: Tx, *, app_id: UUID, secret: str, is_brought: bool = False) -> UUID:
    """Make a secret the first candidate; its id.

    One that the app has already is not stored twice. Where a calendar has brought it (`is_brought`) to an app that its
    owner keeps as an object, the owner's word goes before: then only a refused one is tried again.
    """
    for place, row in enumerate(await tx.rows(_KNOWN, {"app": app_id})):
        if _opened(rt, row) == secret:
            if place > 0 and (row.is_refused or row.is_implicit or not is_brought):
                await tx.execute(_RENEW, {"id": row.id})
            known: UUID = row.id
            return known
    secret_id = new_id()
    sealed = rt.cipher.seal(secret, _place(secret_id))
    await tx.execute(_ADD, {"id": secret_id, "app": app_id, "sealed": sealed})
    await tx.execute(_DROP_SURPLUS, {"app": app_id, "new": secret_id, "others": SECRETS_MOST - 1})
    return secret_id


async def create(rt: Runtime, tx: Tx, *, project_id: UUID, new: NewApp) -> UUID:
    """Store an app, or take over the implicit one of its client id.

    Invalid; Conflict (`oauth_app_exists`) where its owner has made it before.
    """
    _check(rt, new.platform, new.tenant, new.secret_expires_at)
    params = {
        "id": new_id(),
        "project": project_id,
        "platform": new.platform,
        "client_id": new.client_id,
        "name": new.name,
        "tenant": new.tenant,
    }
    await tx.execute(_FORGET, params)
    app_id: UUID | None = await tx.scalar(_CREATE, params)
    if app_id is None:
        raise await _exists(tx, params)
    secret_id = await offer(rt, tx, app_id=app_id, secret=new.client_secret)
    await tx.execute(_EXPIRES, {"id": secret_id, "at": new.secret_expires_at})
    return app_id


async def _exists(tx: Tx, params: Mapping[str, Any]) -> Conflict:
    existing = await tx.scalar(
        "SELECT id FROM oauth_apps WHERE project_id = :project AND platform = :platform AND client_id = :client_id",
        params,
    )
    return Conflict(
        "the project has an OAuth app with this client id",
        code="oauth_app_exists",
        extra={"existing_id": public(OAUTH_APP, existing)},
    )


async def change(rt: Runtime, tx: Tx, *, project_id: UUID, app_id: UUID, given: Mapping[str, Any]) -> None:
    """Change what is given; calendars that the app has failed are tried again soon. NotFound, Invalid.

    A date without a secret is that of the secret which is tried first; a new secret has the date that comes with it.
    """
    row = await tx.row(
        "SELECT platform, name, tenant FROM oauth_apps"
        " WHERE project_id = :project AND id = :id AND deleted_at IS NULL FOR NO KEY UPDATE",
        {"project": project_id, "id": app_id},
    )
    if row is None:
        raise NotFound
    _check(rt, row.platform, given.get("tenant"), given.get("secret_expires_at"))
    params = {"id": app_id, "name": given.get("name", row.name), "tenant": given.get("tenant", row.tenant)}
    await tx.execute(_UPDATE, params)
    secret_id = None
    if "client_secret" in given:
        secret_id = await offer(rt, tx, app_id=app_id, secret=given["client_secret"])
    if "secret_expires_at" in given:
        secret_id = secret_id or await tx.scalar(_CURRENT, {"app": app_id})
        await tx.execute(_EXPIRES, {"id": secret_id, "at": given["secret_expires_at"]})


def _check(rt: Runtime, platform: Platform, tenant: str | None, expires_at: datetime | None) -> None:
    if tenant is not None and platform != "microsoft":
        raise refusal("/tenant", "not_allowed", message="is for apps of Microsoft alone")
    if expires_at is not None and expires_at <= rt.clock.now():
        raise refusal("/secret_expires_at", "in_the_past", message="the secret has expired")


async def delete(tx: Tx, *, project_id: UUID, app_id: UUID) -> None:
    """Forget an app and its secrets. NotFound; Conflict (`oauth_app_in_use`) while calendars use it."""
    row = await tx.row(f"{_FIND} FOR UPDATE", {"project": project_id, "id": app_id})
    if row is None:
        raise NotFound
    if await tx.scalar(_USED, {"id": app_id}):
        raise Conflict("calendars use this OAuth app", code="oauth_app_in_use")
    if not await tx.execute(_DELETE, {"id": app_id}):
        await tx.execute("UPDATE oauth_apps SET deleted_at = app_now() WHERE id = :id", {"id": app_id})


def _place(secret_id: UUID) -> Place:
    return Place("oauth_app_secrets", "secret", secret_id)
