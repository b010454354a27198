"""Calendars: connect, look, patch, delete, sync now, and provider access for calls that Punctual does not make."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from app import calendars
from app.api import queries
from app.api.calendar_examples import CALENDAR, CREATE, PATCH, RAW, REMOTE, SYNC
from app.api.callers import NEEDS_ADMIN
from app.api.deps import Opening, ProjectId, Reading, Rt, Writing
from app.api.idempotency import Idempotent, RefusesKey
from app.api.inputs import (
    Cursor,
    Input,
    Limit,
    Metadata,
    Name,
    OptionalName,
    OptionalText,
    PatchedSecret,
    Query,
    QueryOf,
    Secret,
    key_in_body,
    key_of,
    metadata_text,
)
from app.api.operations import GRANT, IDEMPOTENCY, NO_KEY, REMOTE_CALENDAR, example, problems
from app.api.outputs import CalendarRef, NextUrl, OAuthAppRef, Output, PreviousUrl, Timestamp
from app.api.pages import Order, Pager
from app.api.render import NOT_KEPT, JsonObject, answer, embedded
from app.api.route import ApiRoute
from app.calendars import CalendarPatch, Credentials, InlineApp, NewCalendar
from app.db import Row, Tx
from app.errors import FailureCode, FieldProblem, HealthReason, HealthStatus, NotFound, refusals
from app.ids import CALENDAR as PREFIX
from app.ids import OAUTH_APP, parse, public
from app.instants import instant
from app.sync import health

Platform = Literal["google", "microsoft"]
State = Literal["connected", "disconnected"]
_ORDER = Order("c.created_at", "c.id", is_descending=True)


class CalendarCredentials(Input):
    """Access to one of your users' accounts at the provider: by client id and secret, or by `oauth_app_id`."""

    platform: Platform = Field(description="The provider")
    oauth_app_id: Annotated[
        OptionalText, Field(description="One of your OAuth apps, instead of client id and secret")
    ] = None
    client_id: Annotated[OptionalName, Field(description="Your OAuth app's client id")] = None
    client_secret: Annotated[PatchedSecret, Field(description="Your OAuth app's secret. Never shown again")] = None
    refresh_token: Secret = Field(description="The user's grant. Never shown again")

    def credentials(self) -> Credentials:
        """The same, for the feature. Invalid unless the app is given in exactly one way."""
        inline = {"client_id": self.client_id, "client_secret": self.client_secret}
        key = key_in_body(OAUTH_APP, self.oauth_app_id, "/oauth_app_id")
        if key is not None:
            _refuse(inline, "not_allowed", "stands in the OAuth app already", is_given=True)
            return Credentials(self.platform, key, self.refresh_token)
        _refuse(inline, "missing", "is needed, or oauth_app_id", is_given=False)
        return Credentials(self.platform, InlineApp(self.client_id or "", self.client_secret or ""), self.refresh_token)


def _refuse(fields: Mapping[str, str | None], code: str, message: str, *, is_given: bool) -> None:
    wrong = [name for name, value in fields.items() if (value is not None) is is_given]
    if wrong:
        raise refusals([FieldProblem(f"/{name}", code, message) for name in wrong])


class CalendarCreate(CalendarCredentials):
    """A calendar to connect."""

    platform_uuid: Annotated[
        Name | None, Field(description="The provider's id of the calendar; null: the primary one")
    ] = None
    metadata: Annotated[Metadata | None, Field(description="Yours; comes with every message about this calendar")] = (
        None
    )
    deduplication_key: Annotated[Name | None, Field(description="Unique among the project's calendars")] = None
    verify: Annotated[bool, Field(description="Ask the provider first; refuse credentials that do not work")] = False


class CalendarUpdate(Input):
    """What may change. Every PATCH asks for a sync; `{}` retries the connection."""

    client_secret: Annotated[PatchedSecret, Field(description="Of its OAuth app")] = None
    refresh_token: Annotated[PatchedSecret, Field(description="A new grant; reconnects the calendar")] = None
    metadata: Annotated[Metadata | None, Field(description="Takes the place of what was there")] = None


class SyncRequest(Input):
    """How to sync."""

    full: Annotated[bool, Field(description="List the whole window anew instead of asking for changes")] = False


class CalendarFilters(Query):
    """Filters of the list."""

    deduplication_key: str | None = None
    platform: Platform | None = None
    oauth_app_id: str | None = None
    state: State | None = None
    email: Annotated[str | None, Field(description="Case does not matter")] = None
    limit: Limit = 25
    cursor: Cursor = None


class ConnectionFailure(Output):
    """Why a calendar is disconnected, in the provider's words."""

    code: FailureCode
    error: str
    message: str
    timestamp: Timestamp


class PushHealth(Output):
    """The push channel; without a live one the calendar is polled."""

    active: bool
    expires_at: Timestamp | None = Field(description="It is renewed before")
    last_notification_at: Timestamp | None


class CalendarHealth(Output):
    """How well the calendar is kept in sync."""

    status: HealthStatus = Field(description="`degraded` and `failing`: not up to date, for this reason")
    reason: HealthReason | None
    since: Timestamp | None
    push: PushHealth
    lag_seconds: float = Field(description="How long a requested sync has been due")
    audit_found_changes: int = Field(description="Changes that no push had told of, found by a look without one")


class Calendar(Output):
    """A connected calendar."""

    id: CalendarRef
    platform: Platform
    client_id: str
    oauth_app_id: OAuthAppRef = Field(description="The app of its `client_id`")
    platform_uuid: str | None = Field(description="As you sent it; null is the account's primary calendar")
    email: str | None = Field(description="The account's; null until the first sync")
    name: str | None = Field(description="At the provider; null until the first sync")
    time_zone: str | None = Field(description="IANA name; null of Microsoft, whose calendars have none")
    state: State = Field(description="`disconnected`: the provider says that access is over")
    metadata: dict[str, str] | None
    deduplication_key: str | None
    connection_failure_data: ConnectionFailure | None = Field(description="Null while connected")
    health: CalendarHealth
    created_at: Timestamp
    updated_at: Timestamp
    last_successful_sync_at: Timestamp | None = Field(description="Null until the first sync is done")
    last_attempted_sync_at: Timestamp | None


class CalendarList(Output):
    """A page of calendars."""

    next: NextUrl
    previous: PreviousUrl
    results: list[Calendar]


class RemoteCalendar(Output):
    """A calendar that the credentials open."""

    platform_uuid: str
    name: str | None
    email: str | None
    is_primary: bool
    access_role: str | None
    time_zone: str | None


class RemoteCalendarList(Output):
    """All of them; there are no pages."""

    results: list[RemoteCalendar]


class SyncAccepted(Output):
    """The request's number: served once a run that began later has succeeded."""

    requested_seq: int


class AccessToken(Output):
    """An access token of the user's, good for a few minutes at least."""

    token: str
    expires_at: Timestamp


router = APIRouter(prefix="/api/v1/calendars", tags=["Calendars"], route_class=ApiRoute)


def render(row: Row) -> JsonObject:
    """A calendar as the API shows it."""
    return {
        "id": public(PREFIX, row.id),
        "platform": row.platform,
        "client_id": row.client_id,
        "oauth_app_id": public(OAUTH_APP, row.oauth_app_id),
        "platform_uuid": row.platform_uuid,
        "email": row.email,
        "name": row.name,
        "time_zone": row.time_zone,
        "state": row.state,
        "metadata": embedded(row.metadata),
        "deduplication_key": row.deduplication_key,
        "connection_failure_data": embedded(row.failure),
        "health": _health(row),
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
        "last_successful_sync_at": instant(row.last_successful_sync_at),
        "last_attempted_sync_at": instant(row.last_attempted_sync_at),
    }


def _health(row: Row) -> JsonObject:
    status: HealthStatus = "healthy"
    reason, since = None, None
    if row.state == "disconnected":
        status, reason, since = "failing", row.disconnect_code, row.disconnected_at
    elif row.failure_count > 0:
        status = health.status(row.failure_count, row.failure_code)
        reason, since = row.failure_code, instant(row.failing_since)
    return {
        "status": status,
        "reason": reason,
        "since": since,
        "push": {
            "active": row.push_expires_at is not None,
            "expires_at": instant(row.push_expires_at),
            "last_notification_at": instant(row.last_notification_at),
        },
        "lag_seconds": round(row.lag_seconds, 3),
        "audit_found_changes": row.audit_found_count,
    }


@router.post(
    "",
    status_code=201,
    response_model=Calendar,
    summary="Connect a calendar",
    responses=problems(
        "deduplication_key_in_use",
        "platform_mismatch",
        *IDEMPOTENCY,
        *GRANT,
        *REMOTE_CALENDAR,
        takes="body",
        refers=True,
    )
    | {201: example(CALENDAR)},
    openapi_extra=CREATE,
)
async def create_calendar(
    body: CalendarCreate, rt: Rt, write: Opening, project_id: ProjectId, once: Idempotent
) -> Response:
    """Connect one of your users' calendars. Answers at once; the first sync has been asked for then.

    Credentials that the provider refuses show as `state: disconnected` after the first sync, or, with
    `verify: true`, as a problem right away.
    """
    credentials = body.credentials()
    if body.verify:
        async with rt.db.reading() as reading:
            first = await once.stored(reading)
        if first is not None:
            return first
        await calendars.check(rt, project_id=project_id, credentials=credentials, platform_uuid=body.platform_uuid)
    new = NewCalendar(credentials, body.platform_uuid, metadata_text(body.metadata), body.deduplication_key)

    async def connect(tx: Tx) -> Response:
        calendar_id = await calendars.connect(rt, tx, project_id=project_id, new=new)
        return await _shown(tx, project_id, calendar_id=calendar_id, status=201)

    return await write.run(lambda tx: once.run(tx, partial(connect, tx)))


async def _shown(tx: Reading, project_id: UUID, *, calendar_id: UUID, status: int = 200) -> Response:
    row = await queries.calendar(tx, project_id, calendar_id=calendar_id)
    if row is None:
        raise NotFound
    return answer(render(row), status=status)


@router.get(
    "",
    response_model=CalendarList,
    summary="List calendars",
    responses=problems(takes="filters") | {200: example({"next": None, "previous": None, "results": [CALENDAR]})},
)
async def list_calendars(
    request: Request,
    filters: Annotated[CalendarFilters, Depends(QueryOf(CalendarFilters))],
    tx: Reading,
    project_id: ProjectId,
) -> Response:
    """The project's calendars, newest first."""
    pager = Pager(request, project_id=project_id, order=_ORDER, limit=filters.limit)
    given = filters.model_dump(exclude_none=True, exclude={"limit", "cursor"})
    if filters.oauth_app_id is not None:
        given["oauth_app_id"] = parse(OAUTH_APP, filters.oauth_app_id)
    rows = await queries.calendars(tx, project_id, filters=given, part=pager.slice)
    page = pager.page(rows, lambda row: (row.created_at, row.id))
    return answer({"next": page.next, "previous": page.previous, "results": [render(row) for row in page.rows]})


@router.post(
    "/raw",
    response_model=RemoteCalendarList,
    summary="List the calendars that credentials open",
    dependencies=[RefusesKey],
    responses=problems("platform_mismatch", *GRANT, *REMOTE_CALENDAR, *NO_KEY, takes="body", refers=True)
    | {200: example({"results": [REMOTE]})},
    openapi_extra=RAW,
)
async def list_remote_calendars(body: CalendarCredentials, rt: Rt, project_id: ProjectId) -> Response:
    """Ask the provider which calendars the user can see, to let the user choose. Stores nothing."""
    found = await calendars.list_remote(rt, project_id=project_id, credentials=body.credentials())
    results = [
        {
            "platform_uuid": remote.id,
            "name": remote.name,
            "email": remote.email,
            "is_primary": remote.is_primary,
            "access_role": remote.access_role,
            "time_zone": remote.time_zone,
        }
        for remote in found
    ]
    return answer({"results": results})


@router.get(
    "/{calendar_id}",
    response_model=Calendar,
    summary="Get a calendar",
    responses=problems("not_found") | {200: example(CALENDAR)},
)
async def get_calendar(calendar_id: str, tx: Reading, project_id: ProjectId) -> Response:
    """One calendar with its state and health."""
    return await _shown(tx, project_id, calendar_id=key_of(PREFIX, calendar_id))


@router.patch(
    "/{calendar_id}",
    response_model=Calendar,
    summary="Change a calendar",
    responses=problems("not_found", takes="body") | {200: example(CALENDAR)},
    openapi_extra=PATCH,
)
async def update_calendar(
    calendar_id: str, body: CalendarUpdate, rt: Rt, tx: Writing, project_id: ProjectId
) -> Response:
    """New credentials reconnect a disconnected calendar; `state` changes once a sync has succeeded.

    Every PATCH asks for a sync, so `{}` retries the connection. Fields that are left out stay as they are.
    """
    key = key_of(PREFIX, calendar_id)
    patch = CalendarPatch(
        client_secret=body.client_secret,
        refresh_token=body.refresh_token,
        metadata=metadata_text(body.metadata),
        is_metadata_given="metadata" in body.model_fields_set,
    )
    await calendars.update(rt, tx, project_id=project_id, calendar_id=key, patch=patch)
    return await _shown(tx, project_id, calendar_id=key)


@router.delete(
    "/{calendar_id}", status_code=204, summary="Disconnect and forget a calendar", responses=problems("not_found")
)
async def delete_calendar(calendar_id: str, rt: Rt, tx: Writing, project_id: ProjectId) -> Response:
    """From this answer on the calendar and its events are 404. Nothing is revoked at the user's account."""
    await calendars.delete(rt, tx, project_id=project_id, calendar_id=key_of(PREFIX, calendar_id))
    return Response(status_code=204)


@router.post(
    "/{calendar_id}/sync",
    status_code=202,
    response_model=SyncAccepted,
    summary="Sync a calendar now",
    responses=problems("not_found", *IDEMPOTENCY, takes="body") | {202: example({"requested_seq": 7})},
    openapi_extra=SYNC,
)
async def sync_calendar(
    calendar_id: str,
    rt: Rt,
    tx: Writing,
    project_id: ProjectId,
    once: Idempotent,
    body: SyncRequest | None = None,
) -> Response:
    """Ask for a sync without waiting for it. `{"full": true}` lists the window anew."""
    key = key_of(PREFIX, calendar_id)

    async def request() -> Response:
        is_full = body is not None and body.full
        requested = await calendars.request_sync(rt, tx, project_id=project_id, calendar_id=key, full=is_full)
        return answer({"requested_seq": requested}, status=202)

    return await once.run(tx, request)


@router.post(
    "/{calendar_id}/access_token",
    response_model=AccessToken,
    summary="Get a provider access token",
    dependencies=[NEEDS_ADMIN, RefusesKey],
    responses=problems("not_found", "calendar_disconnected", *GRANT, *NO_KEY, takes="no_body")
    | {200: example({"token": "ya29.a0Af…", "expires_at": "2026-11-20T11:00:00.000000Z"})},
)
async def get_access_token(calendar_id: str, rt: Rt, project_id: ProjectId) -> Response:
    """For provider calls that Punctual does not make. Refreshed where it is about to end; never cache the answer."""
    token, expires_at = await calendars.access_token(rt, project_id=project_id, calendar_id=key_of(PREFIX, calendar_id))
    content = {"token": token, "expires_at": instant(expires_at)}
    return answer(content, headers=NOT_KEPT)
