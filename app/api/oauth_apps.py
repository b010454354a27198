"""OAuth apps: your client ids at the providers, the secrets they have, and whether the provider takes them."""

import re
from typing import Annotated, Any, Final
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Request
from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from app import oauth_apps
from app.api import queries
from app.api.calendars import Platform
from app.api.callers import NEEDS_ADMIN
from app.api.deps import ProjectId, Reading, Rt, Writing
from app.api.idempotency import Idempotent
from app.api.inputs import Cursor, Input, Instant, Limit, Name, PatchedSecret, Query, QueryOf, Secret, key_of
from app.api.operations import IDEMPOTENCY, TIMES, body_examples, example, problems
from app.api.outputs import NextUrl, OAuthAppRef, OAuthAppSecretRef, Output, PreviousUrl, Timestamp
from app.api.pages import Order, Pager
from app.api.render import JsonObject, answer
from app.api.route import ApiRoute
from app.db import ReadTx, Row
from app.errors import NotFound
from app.ids import APP_SECRET, OAUTH_APP, public
from app.instants import instant
from app.oauth_apps import NewApp

_ORDER: Final = Order("a.created_at", "a.id", is_descending=True)
_TENANT: Final = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"


def _tenant(value: str) -> str:
    if re.fullmatch(_TENANT, value, re.ASCII) is None:
        raise PydanticCustomError(
            "invalid_tenant", "must be common, organizations, consumers, or a tenant's id or domain"
        )
    return value


Tenant = Annotated[
    str, AfterValidator(_tenant), WithJsonSchema({"type": "string", "maxLength": 253, "pattern": f"^{_TENANT}$"})
]


class OAuthAppCreate(Input):
    """An app that you have registered at a provider."""

    platform: Platform = Field(description="The provider")
    client_id: Name = Field(description="As the provider shows it")
    client_secret: Secret = Field(description="Never shown again")
    name: Annotated[Name | None, Field(description="Yours, for people")] = None
    tenant: Annotated[
        Tenant | None,
        Field(
            description="Of Microsoft: whose accounts may connect: `common` (all), `organizations`, `consumers`, or one"
            " tenant's id or domain. Null: the server's default, `common` unless its operator says otherwise"
        ),
    ] = None
    secret_expires_at: Annotated[
        Instant | None,
        Field(
            description="When the secret ends, as the provider's console says: you are warned 30, 7 and 1 days ahead"
        ),
    ] = None


class OAuthAppUpdate(Input):
    """What may change. Every PATCH tries calendars again that wait because the provider refused the app."""

    name: Name | None = None
    client_secret: PatchedSecret = None
    tenant: Tenant | None = None
    secret_expires_at: Annotated[
        Instant | None,
        Field(description="Of the secret that comes with it, else of the one that is tried first"),
    ] = None


class OAuthAppFilters(Query):
    """Filters of the list."""

    platform: Platform | None = None
    client_id: str | None = None
    limit: Limit = 25
    cursor: Cursor = None


class OAuthAppSecret(Output):
    """One secret. It is never shown."""

    id: OAuthAppSecretRef
    created_at: Timestamp
    last_worked_at: Timestamp | None = Field(description="Null: the provider has not taken it yet")
    refused_at: Timestamp | None = Field(description="Null: the provider has not refused it since")
    expires_at: Timestamp | None = Field(description="As you have said")


class Incident(Output):
    """The provider refuses the app: its calendars stay connected, and are tried again slowly."""

    code: str = Field(description="The provider's own, as `invalid_client`")
    since: Timestamp
    detail: str


class OAuthApp(Output):
    """Your client at a provider, with all calendars that use it."""

    id: OAuthAppRef
    platform: Platform
    client_id: str
    name: str | None
    tenant: str | None = Field(description="Of Microsoft, the server's default included; null of Google")
    is_implicit: bool = Field(description="Whether calendars have brought it, and you have not made it an object yet")
    secret_expires_at: Timestamp | None = Field(description="Of the first secret")
    secrets: list[OAuthAppSecret] = Field(description="In the order in which they are tried")
    incident: Incident | None
    created_at: Timestamp
    updated_at: Timestamp


class OAuthAppList(Output):
    """A page of OAuth apps."""

    next: NextUrl
    previous: PreviousUrl
    results: list[OAuthApp]


_EXAMPLE: Final[dict[str, Any]] = {
    "id": "oapp_01JD4Q8ZK3X0C2F4H6K8M0P2R4",
    "platform": "microsoft",
    "client_id": "11112222-bbbb-3333-cccc-4444dddd5555",
    "name": "Production",
    "tenant": "common",
    "is_implicit": False,
    "secret_expires_at": "2027-05-20T00:00:00.000000Z",
    "secrets": [
        {
            "id": "oas_01JD4Q8ZK4M2P6R8T0V2X4Z6B8",
            "created_at": "2026-11-20T09:00:00.000000Z",
            "last_worked_at": "2026-11-20T09:58:13.410022Z",
            "refused_at": None,
            "expires_at": "2027-05-20T00:00:00.000000Z",
        }
    ],
    "incident": None,
    "created_at": "2026-11-20T09:00:00.000000Z",
    "updated_at": "2026-11-20T09:00:00.000000Z",
}
_CREATE: Final = body_examples(
    google={
        "platform": "google",
        "client_id": "1234-abcd.apps.googleusercontent.com",
        "client_secret": "GOCSPX-…",
        "name": "Production",
    },
    microsoft={
        "platform": "microsoft",
        "client_id": "11112222-bbbb-3333-cccc-4444dddd5555",
        "client_secret": "abc8Q~…",
        "tenant": "common",
        "secret_expires_at": "2027-05-20T00:00:00Z",
    },
)
_PATCH: Final = body_examples(
    new_secret={"client_secret": "def8Q~…", "secret_expires_at": "2027-11-20T00:00:00Z"},
    retry={},
    name={"name": "Live"},
)

router = APIRouter(prefix="/api/v1/oauth_apps", tags=["OAuth apps"], route_class=ApiRoute)


def render(row: Row, *, default_tenant: str) -> JsonObject:
    """An OAuth app as the API shows it."""
    secrets = [secret | {"id": public(APP_SECRET, UUID(secret["id"]))} for secret in orjson.loads(row.secrets)]
    incident = {"code": row.failing_code, "since": instant(row.failing_since), "detail": row.failing_detail}
    return {
        "id": public(OAUTH_APP, row.id),
        "platform": row.platform,
        "client_id": row.client_id,
        "name": row.name,
        "tenant": (row.tenant or default_tenant) if row.platform == "microsoft" else None,
        "is_implicit": row.is_implicit,
        "secret_expires_at": secrets[0]["expires_at"] if secrets else None,
        "secrets": secrets,
        "incident": incident if row.failing_since is not None else None,
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
    }


async def _shown(rt: Rt, tx: ReadTx, project_id: UUID, *, app_id: UUID, status: int = 200) -> Response:
    row = await queries.oauth_app(tx, project_id, app_id=app_id)
    if row is None:
        raise NotFound
    return answer(render(row, default_tenant=rt.settings.microsoft_tenant), status=status)


@router.post(
    "",
    status_code=201,
    response_model=OAuthApp,
    summary="Add an OAuth app",
    dependencies=[NEEDS_ADMIN],
    responses=problems("oauth_app_exists", "invalid_tenant", "in_the_past", *TIMES, *IDEMPOTENCY, takes="body")
    | {201: example(_EXAMPLE)},
    openapi_extra=_CREATE,
)
async def create_oauth_app(
    body: OAuthAppCreate, rt: Rt, tx: Writing, project_id: ProjectId, once: Idempotent
) -> Response:
    """One client id and secret for all your calendars of it.

    A client id that calendars have brought themselves is taken over, with its calendars: the id stays that of their
    `oauth_app_id`, and the secret joins those that are there as the one that is tried first.
    """
    new = NewApp(
        platform=body.platform,
        client_id=body.client_id,
        client_secret=body.client_secret,
        name=body.name,
        tenant=body.tenant,
        secret_expires_at=body.secret_expires_at,
    )

    async def create() -> Response:
        app_id = await oauth_apps.create(rt, tx, project_id=project_id, new=new)
        return await _shown(rt, tx, project_id, app_id=app_id, status=201)

    return await once.run(tx, create)


@router.get(
    "",
    response_model=OAuthAppList,
    summary="List OAuth apps",
    responses=problems(takes="filters") | {200: example({"next": None, "previous": None, "results": [_EXAMPLE]})},
)
async def list_oauth_apps(
    request: Request,
    filters: Annotated[OAuthAppFilters, Depends(QueryOf(OAuthAppFilters))],
    rt: Rt,
    tx: Reading,
    project_id: ProjectId,
) -> Response:
    """The project's OAuth apps, newest first; those too that calendars have brought."""
    pager = Pager(request, project_id=project_id, order=_ORDER, limit=filters.limit)
    given = filters.model_dump(exclude_none=True, exclude={"limit", "cursor"})
    rows = await queries.oauth_apps(tx, project_id, filters=given, part=pager.slice)
    page = pager.page(rows, lambda row: (row.created_at, row.id))
    results = [render(row, default_tenant=rt.settings.microsoft_tenant) for row in page.rows]
    return answer({"next": page.next, "previous": page.previous, "results": results})


@router.get(
    "/{oauth_app_id}",
    response_model=OAuthApp,
    summary="Get an OAuth app",
    responses=problems("not_found") | {200: example(_EXAMPLE)},
)
async def get_oauth_app(oauth_app_id: str, rt: Rt, tx: Reading, project_id: ProjectId) -> Response:
    """One app, with its secrets' standing and the incident, if the provider refuses it."""
    return await _shown(rt, tx, project_id, app_id=key_of(OAUTH_APP, oauth_app_id))


@router.patch(
    "/{oauth_app_id}",
    response_model=OAuthApp,
    summary="Change an OAuth app",
    dependencies=[NEEDS_ADMIN],
    responses=problems("not_found", "invalid_tenant", "in_the_past", *TIMES, takes="body") | {200: example(_EXAMPLE)},
    openapi_extra=_PATCH,
)
async def update_oauth_app(
    oauth_app_id: str, body: OAuthAppUpdate, rt: Rt, tx: Writing, project_id: ProjectId
) -> Response:
    """A new `client_secret` is tried first; those before stay until it has worked, and a week longer.

    Every PATCH, `{}` too, has the calendars that the app has failed tried again at once.
    """
    key = key_of(OAUTH_APP, oauth_app_id)
    given = body.model_dump(include=body.model_fields_set)
    await oauth_apps.change(rt, tx, project_id=project_id, app_id=key, given=given)
    return await _shown(rt, tx, project_id, app_id=key)


@router.delete(
    "/{oauth_app_id}",
    status_code=204,
    summary="Delete an OAuth app",
    dependencies=[NEEDS_ADMIN],
    responses=problems("not_found", "oauth_app_in_use"),
)
async def delete_oauth_app(oauth_app_id: str, tx: Writing, project_id: ProjectId) -> Response:
    """Forgets the app and its secrets. Refused while calendars use it."""
    await oauth_apps.delete(tx, project_id=project_id, app_id=key_of(OAUTH_APP, oauth_app_id))
    return Response(status_code=204)
