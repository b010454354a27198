"""API keys: made, listed and revoked by a key that may do everything."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import AfterValidator, Field
from starlette.responses import Response

from app import keys
from app.api import key_queries
from app.api.callers import NEEDS_ADMIN
from app.api.deps import ProjectId, Reading, Rt, Writing
from app.api.idempotency import Idempotent
from app.api.inputs import Cursor, Input, Instant, Limit, Query, QueryOf, key_of, not_blank
from app.api.operations import IDEMPOTENCY, TIMES, body_examples, example, problems
from app.api.outputs import KeyRef, NextUrl, Output, PreviousUrl, Timestamp
from app.api.pages import Order, Pager
from app.api.render import NOT_KEPT, JsonObject, answer
from app.api.route import ApiRoute
from app.db import ReadTx, Row
from app.errors import NotFound, refusal
from app.ids import KEY, public
from app.instants import instant
from app.keys import NAME_MOST, Scope

_ORDER: Final = Order("k.created_at", "k.id", is_descending=True)


class KeyCreate(Input):
    """A key to make."""

    name: Annotated[str, Field(max_length=NAME_MOST, description="For you"), AfterValidator(not_blank)]
    scope: Scope = Field(description="What it may do; each holds those before it")
    expires_at: Annotated[Instant | None, Field(description="From then on it is refused; null: never")] = None


class KeyPage(Query):
    """Which part of the list."""

    limit: Limit = 25
    cursor: Cursor = None


class Key(Output):
    """A key, without its text."""

    id: KeyRef
    name: str
    scope: Scope
    created_at: Timestamp
    expires_at: Timestamp | None
    revoked_at: Timestamp | None
    last_used_at: Timestamp | None = Field(description="To the minute; null: never")


class KeyWithText(Key):
    """A key at its creation."""

    key: str = Field(
        description="What to send. Shown this once", pattern="^punctual_[0-7][0-9A-HJKMNP-TV-Z]{25}_[0-9a-f]{72}$"
    )


class KeyList(Output):
    """A page of keys."""

    next: NextUrl
    previous: PreviousUrl
    results: list[Key]


_EXAMPLE: Final[dict[str, Any]] = {
    "id": "key_01JD4Q7P3Q5R7T9V1X3Z5B7D9F",
    "name": "dashboard",
    "scope": "read",
    "created_at": "2026-11-20T09:00:00.000000Z",
    "expires_at": "2027-11-20T09:00:00.000000Z",
    "revoked_at": None,
    "last_used_at": "2026-11-20T09:12:00.000000Z",
}
_MADE: Final = _EXAMPLE | {
    "last_used_at": None,
    "key": "punctual_01JD4Q7P3Q5R7T9V1X3Z5B7D9F_" + "5eed" * 16 + "0123abcd",
}
_CREATE: Final = body_examples(
    dashboard={"name": "dashboard", "scope": "read", "expires_at": "2099-11-20T09:00:00Z"},
    application={"name": "our application", "scope": "write"},
)

router = APIRouter(prefix="/api/v1/api_keys", tags=["Keys"], route_class=ApiRoute, dependencies=[NEEDS_ADMIN])


def render(row: Row) -> JsonObject:
    """A key as the API shows it."""
    return {
        "id": public(KEY, row.id),
        "name": row.name,
        "scope": row.scope,
        "created_at": instant(row.created_at),
        "expires_at": instant(row.expires_at),
        "revoked_at": instant(row.revoked_at),
        "last_used_at": instant(row.last_used_at),
    }


async def _read(tx: ReadTx, project_id: UUID, *, key_id: UUID) -> JsonObject:
    row = await key_queries.api_key(tx, project_id, key_id=key_id)
    if row is None:
        raise NotFound
    return render(row)


@router.post(
    "",
    status_code=201,
    response_model=KeyWithText,
    summary="Make a key",
    responses=problems("in_the_past", *TIMES, *IDEMPOTENCY, takes="body") | {201: example(_MADE)},
    openapi_extra=_CREATE,
)
async def create_api_key(body: KeyCreate, rt: Rt, tx: Writing, project_id: ProjectId, once: Idempotent) -> Response:
    """The answer shows the key's text; it is not shown again."""

    async def create() -> Response:
        if body.expires_at is not None and body.expires_at <= rt.clock.now():
            raise refusal("/expires_at", "in_the_past", message="the key would never be good")
        made = await keys.make(tx, project_id=project_id, name=body.name, scope=body.scope, expires_at=body.expires_at)
        shown = await _read(tx, project_id, key_id=made.id)
        return answer(shown | {"key": made.text}, status=201, headers=NOT_KEPT)

    return await once.run(tx, create)


@router.get(
    "",
    response_model=KeyList,
    summary="List keys",
    responses=problems(takes="filters") | {200: example({"next": None, "previous": None, "results": [_EXAMPLE]})},
)
async def list_api_keys(
    request: Request, part: Annotated[KeyPage, Depends(QueryOf(KeyPage))], tx: Reading, project_id: ProjectId
) -> Response:
    """The project's keys, newest first; those that are revoked or expired too, until the retention takes them."""
    pager = Pager(request, project_id=project_id, order=_ORDER, limit=part.limit)
    rows = await key_queries.api_keys(tx, project_id, part=pager.slice)
    page = pager.page(rows, lambda row: (row.created_at, row.id))
    return answer({"next": page.next, "previous": page.previous, "results": [render(row) for row in page.rows]})


@router.get(
    "/{key_id}",
    response_model=Key,
    summary="Get a key",
    responses=problems("not_found") | {200: example(_EXAMPLE)},
)
async def get_api_key(key_id: str, tx: Reading, project_id: ProjectId) -> Response:
    """One key, without its text."""
    return answer(await _read(tx, project_id, key_id=key_of(KEY, key_id)))


@router.delete("/{key_id}", status_code=204, summary="Revoke a key", responses=problems("not_found", "last_admin_key"))
async def revoke_api_key(key_id: str, tx: Writing, project_id: ProjectId) -> Response:
    """It is refused from now on; what it has begun goes on. Refused for the last key that can make others."""
    await keys.revoke(tx, project_id=project_id, key_id=key_of(KEY, key_id))
    return Response(status_code=204)
