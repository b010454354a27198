"""The end of a consent: a calendar is connected or reconnected and the link used up, in one transaction.

Lock order: the calendar's row, its OAuth app's, the link's, then what `calendars` takes. An app takes its links with it
when it is deleted.
"""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from app import audit, calendars, oauth_apps
from app.calendars import CalendarPatch, Credentials, NewCalendar
from app.connect import links
from app.connect.links import Link, Problem
from app.db import Row, Tx
from app.errors import Conflict
from app.ids import CALENDAR, public
from app.providers.base import Account
from app.runtime import Runtime
from app.telemetry import log

_CALENDAR = """
SELECT id, oauth_app_id, platform_uuid, account_subject, email FROM calendars
 WHERE project_id = :project AND id = :id AND deleted_at IS NULL FOR NO KEY UPDATE
"""

# As the first sync would find it: until then, whoever came next would be taken for the same user.
_IDENTIFY = """
UPDATE calendars SET account_subject = :subject, email = :email WHERE id = :id AND account_subject IS NULL
"""

_KEY_HOLDER = """
SELECT id, oauth_app_id, platform_uuid, account_subject, email FROM calendars
 WHERE project_id = :project AND deduplication_key = :key AND deleted_at IS NULL FOR NO KEY UPDATE
"""

# Its address may have been taken out of the project's while the code was redeemed.
_LINK = """
SELECT l.connected_id, l.used_at IS NOT NULL AS is_used, CAST(:base AS text) = ANY(p.return_urls) AS leads_back
  FROM connect_links l JOIN projects p ON p.id = l.project_id WHERE l.id = :id FOR UPDATE OF l
"""

_USE_UP = """
UPDATE connect_links SET used_at = app_now(), connected_id = :calendar, last_error = NULL WHERE id = :id
"""

_OUTCOME = "UPDATE consents SET outcome = :outcome WHERE id = :id AND outcome IS NULL"

_LAST_ERROR = "UPDATE connect_links SET last_error = :problem WHERE id = :id AND used_at IS NULL"

_TOLD_AGAIN = frozenset({"access_denied", "scope_missing", "wrong_account", "provider_error"})
"""Problems after which the link is as good as before: its page says what happened."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a user has given. `account` is known where it decides about a calendar that is there already."""

    secret_id: UUID
    """Of the OAuth app: the one that worked."""
    refresh_token: str
    account: Account | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The calendar, or why there is none; with `already_used` the calendar that used the link up."""

    calendar_id: UUID | None
    problem: Problem | Literal["withdrawn"] | None


class _Taken(Exception):
    """Somebody has connected a calendar with the link's deduplication key in this very moment."""


async def keep(rt: Runtime, *, consent_id: UUID, link: Link, grant: Grant) -> Outcome:
    """Connect or reconnect. Whoever comes second to the same link, or with another account, changes nothing."""
    try:
        return await _keep(rt, consent_id, link, grant)
    except _Taken:
        return await _keep(rt, consent_id, link, grant)  # now that calendar's row is there to be locked


async def _keep(rt: Runtime, consent_id: UUID, link: Link, grant: Grant) -> Outcome:
    async with rt.db.transaction() as tx:
        calendar = await _locked(tx, link)
        platform = await oauth_apps.hold(tx, project_id=link.project_id, app_id=link.oauth_app_id)
        stored = await tx.row(_LINK, {"id": link.id, "base": link.return_url.base})
        if stored is None or not stored.leads_back or (calendar is None and link.calendar_id is not None):
            return Outcome(None, "withdrawn")
        problem = _objection(link, calendar, grant, is_used=stored.is_used)
        if problem is not None:
            await note(tx, consent_id=consent_id, link=link, problem=problem)
            return Outcome(stored.connected_id, problem)
        if platform is None:
            return Outcome(None, "withdrawn")
        calendar_id = await _stored(rt, tx, link, calendar, grant)
        await tx.execute(_USE_UP, {"id": link.id, "calendar": calendar_id})
        await tx.execute(_OUTCOME, {"id": consent_id, "outcome": "connected"})
        await audit.record(
            tx,
            project_id=link.project_id,
            actor=audit.LINK_USER,
            action="connect_calendar",
            object_id=public(CALENDAR, calendar_id),
            changes=("refresh_token",) if link.metadata is None else ("metadata", "refresh_token"),
        )
    log.info("connect.connected", link=str(link.id), calendar=str(calendar_id), is_new=calendar is None)
    return Outcome(calendar_id, None)


async def _locked(tx: Tx, link: Link) -> Row | None:
    """The calendar that is there already: the one to reconnect, or the holder of the deduplication key."""
    if link.calendar_id is not None:
        return await tx.row(_CALENDAR, {"project": link.project_id, "id": link.calendar_id})
    if link.deduplication_key is not None:
        return await tx.row(_KEY_HOLDER, {"project": link.project_id, "key": link.deduplication_key})
    return None


def _objection(link: Link, calendar: Row | None, grant: Grant, *, is_used: bool) -> Problem | None:
    if is_used:
        return "already_used"
    if calendar is None:
        return None
    if link.calendar_id is None and not links.is_meant(link, calendar):
        return "provider_error"  # made so since the link was: `links.make` refuses what it finds
    account = grant.account
    if account is None or not account.is_the_one(calendar.account_subject, calendar.email):
        return "wrong_account"
    return None


async def _stored(rt: Runtime, tx: Tx, link: Link, calendar: Row | None, grant: Grant) -> UUID:
    """The calendar with the new grant."""
    await oauth_apps.note_worked(tx, grant.secret_id)
    if calendar is not None:
        patch = CalendarPatch(
            client_secret=None,
            refresh_token=grant.refresh_token,
            metadata=link.metadata,
            is_metadata_given=link.metadata is not None,
        )
        await calendars.update(rt, tx, project_id=link.project_id, calendar_id=calendar.id, patch=patch)
        await _identify(tx, calendar.id, grant)
        known: UUID = calendar.id
        return known
    credentials = Credentials(link.platform, link.oauth_app_id, grant.refresh_token)
    new = NewCalendar(credentials, link.platform_uuid, link.metadata, link.deduplication_key)
    try:
        calendar_id = await calendars.connect(rt, tx, project_id=link.project_id, new=new)
    except Conflict as exc:
        raise _Taken from exc
    await _identify(tx, calendar_id, grant)
    return calendar_id


async def _identify(tx: Tx, calendar_id: UUID, grant: Grant) -> None:
    if grant.account is not None:
        params = {"id": calendar_id, "subject": grant.account.subject, "email": grant.account.email}
        await tx.execute(_IDENTIFY, params)


async def note(tx: Tx, *, consent_id: UUID, link: Link, problem: Problem) -> None:
    """Remember how a consent ended, for the same answer arriving again, and for who opens the link again."""
    if problem in _TOLD_AGAIN:  # the link first, as everywhere: it takes its consents with it
        await tx.execute(_LAST_ERROR, {"id": link.id, "problem": problem})
    await tx.execute(_OUTCOME, {"id": consent_id, "outcome": problem})
