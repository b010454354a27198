"""Connect links: an address on which one user connects one calendar, or reconnects it.

An application makes a link and gives its address to a user. The address carries a random token of which the hash alone
is stored. A link may be opened as often as anybody likes (mail scanners do); a calendar that is connected uses it up.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from app import oauth_apps
from app.connect import return_urls
from app.connect.return_urls import ReturnUrl
from app.crypto import hash_secret
from app.db import ReadTx, Row, Tx
from app.errors import Conflict, refusal
from app.ids import CALENDAR, new_id, public
from app.providers.base import Platform
from app.runtime import Runtime

Problem = Literal["access_denied", "scope_missing", "wrong_account", "expired", "already_used", "provider_error"]
"""Why a link did not lead to a calendar: `error` of the address that the user comes back to, a closed list."""

Standing = Literal["open", "used", "expired", "withdrawn"]
"""`withdrawn`: its OAuth app or calendar is gone, or its address is no longer one of the project's."""

TOKEN_LENGTH: Final = 43
KEPT_DAYS: Final = 7
"""How long after its end a link still says what became of it."""

_ADDRESSES = "SELECT return_urls FROM projects WHERE id = :project"

_RECONNECTED = "SELECT oauth_app_id FROM calendars WHERE project_id = :project AND id = :id AND deleted_at IS NULL"

_KEY_HOLDER = """
SELECT id, oauth_app_id, platform_uuid FROM calendars
 WHERE project_id = :project AND deduplication_key = :key AND deleted_at IS NULL
"""

_INSERT = """
INSERT INTO connect_links (id, project_id, oauth_app_id, token_hash, return_url, state, login_hint, calendar_id,
                           platform_uuid, metadata, deduplication_key, expires_at, created_at)
VALUES (:id, :project, :app, :hash, :return_url, :state, :login_hint, :calendar, :platform_uuid,
        CAST(:metadata AS jsonb), :key, app_now() + make_interval(secs => :expires_in), app_now())
RETURNING expires_at
"""

COLUMNS: Final = """
       l.id AS link_id, l.project_id, l.oauth_app_id, l.return_url, l.state, l.login_hint, l.calendar_id,
       l.platform_uuid, CAST(l.metadata AS text) AS metadata, l.deduplication_key, l.last_error, l.connected_id,
       l.used_at IS NOT NULL AS is_used,
       l.expires_at <= app_now() AS is_expired, a.platform, a.client_id, a.tenant, a.name AS app_name,
       a.deleted_at IS NOT NULL AS is_app_gone, c.email AS calendar_email, c.deleted_at IS NOT NULL AS is_calendar_gone,
       p.name AS project_name, p.return_urls
"""
TABLES: Final = """
       connect_links l JOIN oauth_apps a ON a.id = l.oauth_app_id JOIN projects p ON p.id = l.project_id
       LEFT JOIN calendars c ON c.id = l.calendar_id
"""
_FIND = f"SELECT {COLUMNS} FROM {TABLES} WHERE l.token_hash = :hash"  # noqa: S608 - made of constants


@dataclass(frozen=True, slots=True)
class NewLink:
    """A link as an application asks for it; `expires_in` is in seconds."""

    oauth_app_id: UUID | None
    """None where a calendar is reconnected: its own."""
    return_url: str
    calendar_id: UUID | None
    """The calendar to reconnect; None connects a new one, with the three that follow."""
    platform_uuid: str | None
    metadata: str | None
    """JSON text of an object of strings."""
    deduplication_key: str | None
    login_hint: str | None
    state: str | None
    expires_in: int


@dataclass(frozen=True, slots=True)
class MadeLink:
    """A fresh link. `url` holds the token, which is shown this once."""

    id: UUID
    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Link:
    """A link as it stands now."""

    id: UUID
    project_id: UUID
    oauth_app_id: UUID
    platform: Platform
    client_id: str
    tenant: str | None
    reader: str
    """Who will read the calendar: the name of the OAuth app, or of the project."""
    return_url: ReturnUrl
    state: str | None
    login_hint: str | None
    calendar_id: UUID | None
    calendar_email: str | None
    platform_uuid: str | None
    metadata: str | None
    deduplication_key: str | None
    last_error: Problem | None
    connected_id: UUID | None
    standing: Standing

    def answer(self, problem: Problem | None = None, *, connected_id: UUID | None = None) -> str:
        """Where the browser goes in the end: back to the application, with the calendar or with what went wrong.

        `already_used` comes with the calendar too: the link's user may be back because an answer got lost.
        """
        connected = connected_id or self.connected_id
        calendar = public(CALENDAR, connected) if connected else None
        return self.return_url.answered({"calendar_id": calendar, "error": problem, "state": self.state})


async def make(rt: Runtime, tx: Tx, *, project_id: UUID, new: NewLink) -> MadeLink:
    """Store a link.

    Conflict where PUBLIC_URL is not set, or where another calendar has the deduplication key that this link could not
    reconnect; Invalid where the OAuth app or the calendar is unknown, or the address none of the project's.
    """
    if rt.settings.public_url is None:
        raise Conflict("the operator has not set PUBLIC_URL, where links would lead to", code="no_public_url")
    app_id = await _app_of(tx, project_id, new)
    if await oauth_apps.hold(tx, project_id=project_id, app_id=app_id) is None:
        raise refusal("/oauth_app_id", "not_found", message="there is no such OAuth app")
    await _check_address(tx, project_id, new.return_url)
    await _check_key(tx, project_id, new, app_id)
    token, link_id = secrets.token_urlsafe(32), new_id()
    expires_at: datetime = await tx.scalar(
        _INSERT,
        {
            "id": link_id,
            "project": project_id,
            "app": app_id,
            "hash": hash_secret(token),
            "return_url": new.return_url,
            "state": new.state,
            "login_hint": new.login_hint,
            "calendar": new.calendar_id,
            "platform_uuid": new.platform_uuid,
            "metadata": new.metadata,
            "key": new.deduplication_key,
            "expires_in": new.expires_in,
        },
    )
    return MadeLink(link_id, f"{rt.settings.public_url}/connect/{token}", expires_at)


async def _check_address(tx: Tx, project_id: UUID, url: str) -> None:
    problem = return_urls.problem_of(url, may_have_query=True)
    if problem is not None:
        code, message = problem
        raise refusal("/return_url", code, message=message)
    if return_urls.read(url).base not in await tx.scalar(_ADDRESSES, {"project": project_id}):
        raise refusal("/return_url", "not_allowed", message="is none of the project's return_urls")


async def _app_of(tx: Tx, project_id: UUID, new: NewLink) -> UUID:
    """The OAuth app: the one that is named, or that of the calendar."""
    if new.calendar_id is None:
        if new.oauth_app_id is None:
            raise refusal("/oauth_app_id", "missing", message="is needed, or calendar_id")
        return new.oauth_app_id
    app_id: UUID | None = await tx.scalar(_RECONNECTED, {"project": project_id, "id": new.calendar_id})
    if app_id is None:
        raise refusal("/calendar_id", "not_found", message="there is no such calendar")
    if new.oauth_app_id not in {None, app_id}:
        raise refusal("/oauth_app_id", "not_allowed", message="is not the OAuth app of this calendar")
    return app_id


async def _check_key(tx: Tx, project_id: UUID, new: NewLink, app_id: UUID) -> None:
    if new.deduplication_key is None:
        return
    holder = await tx.row(_KEY_HOLDER, {"project": project_id, "key": new.deduplication_key})
    if holder is not None and not _is_meant(holder, app_id, new.platform_uuid):
        raise Conflict(
            "another calendar has this deduplication_key, of another OAuth app or another platform_uuid",
            code="deduplication_key_in_use",
            extra={"existing_id": public(CALENDAR, holder.id)},
        )


def is_meant(link: Link, holder: Row) -> bool:
    """Whether the holder of the link's deduplication key is what the link would make: then it is reconnected."""
    return _is_meant(holder, link.oauth_app_id, link.platform_uuid)


def _is_meant(holder: Row, app_id: UUID, platform_uuid: str | None) -> bool:
    return bool(holder.oauth_app_id == app_id and holder.platform_uuid == platform_uuid)


async def find(tx: ReadTx, token: str) -> Link | None:
    """The link behind a token; None where there is none."""
    if len(token) != TOKEN_LENGTH or not token.isascii():
        return None
    row = await tx.row(_FIND, {"hash": hash_secret(token)})
    return None if row is None else of_row(row)


def of_row(row: Row) -> Link:
    """A link from `COLUMNS`."""
    address = return_urls.read(row.return_url)
    is_withdrawn = row.is_app_gone or row.is_calendar_gone or address.base not in row.return_urls
    standing: Standing = "open"
    if is_withdrawn:
        standing = "withdrawn"
    elif row.is_used:
        standing = "used"
    elif row.is_expired:
        standing = "expired"
    return Link(
        id=row.link_id,
        project_id=row.project_id,
        oauth_app_id=row.oauth_app_id,
        platform=row.platform,
        client_id=row.client_id,
        tenant=row.tenant,
        reader=row.app_name or row.project_name,
        return_url=address,
        state=row.state,
        login_hint=row.login_hint,
        calendar_id=row.calendar_id,
        calendar_email=row.calendar_email,
        platform_uuid=row.platform_uuid,
        metadata=row.metadata,
        deduplication_key=row.deduplication_key,
        last_error=row.last_error,
        connected_id=row.connected_id,
        standing=standing,
    )
