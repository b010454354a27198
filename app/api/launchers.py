"""Launchers: the bot back ends of a project."""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from app.api import bot_queries
from app.api.bot_inputs import LauncherCreate, LauncherKind, LauncherPage, LauncherUpdate
from app.api.deps import ProjectId, Reading, Rt, Writing
from app.api.idempotency import Idempotent, RefusesKey
from app.api.inputs import QueryOf, key_of
from app.api.operations import IDEMPOTENCY, NO_KEY, URLS, body_examples, example, problems
from app.api.outputs import LauncherRef, NextUrl, Output, PreviousUrl, Timestamp
from app.api.pages import Order, Pager
from app.api.render import JsonObject, answer
from app.api.route import ApiRoute
from app.bots import back_ends
from app.bots.back_ends import NewLauncher
from app.bots.launchers import CAPABILITIES
from app.db import ReadTx, Row
from app.errors import NotFound
from app.ids import LAUNCHER, public
from app.instants import instant

_ORDER: Final = Order("l.created_at", "l.id", is_descending=True)


class LauncherHealth(Output):
    """Whether the back end takes the launcher's key."""

    status: Literal["healthy", "failing"]
    reason: str | None


class Launcher(Output):
    """A bot back end. Its key is never shown."""

    id: LauncherRef
    kind: LauncherKind
    name: str
    base_url: str | None = Field(description="Null of `webhook`")
    hand_over_seconds: int
    is_default: bool
    health: LauncherHealth
    created_at: Timestamp
    updated_at: Timestamp


class LauncherList(Output):
    """A page of launchers."""

    next: NextUrl
    previous: PreviousUrl
    results: list[Launcher]


class LauncherCheck(Output):
    """Whether address and key work."""

    ok: bool
    detail: str


_EXAMPLE: Final[dict[str, Any]] = {
    "id": "lch_01JD4QBA1C3E5G7J9M1P3R5T7V",
    "kind": "attendee",
    "name": "Our Attendee",
    "base_url": "https://app.attendee.dev",
    "hand_over_seconds": 180,
    "is_default": True,
    "health": {"status": "healthy", "reason": None},
    "created_at": "2026-11-20T09:00:00.000000Z",
    "updated_at": "2026-11-20T09:00:00.000000Z",
}
_CREATE: Final = body_examples(
    attendee={"kind": "attendee", "name": "Our Attendee", "api_key": "a-key", "is_default": True},
    webhook={"kind": "webhook", "name": "Our own bots", "hand_over_seconds": 90},
)
_PATCH: Final = body_examples(later={"hand_over_seconds": 120}, new_key={"api_key": "another-key"})

router = APIRouter(prefix="/api/v1/launchers", tags=["Launchers"], route_class=ApiRoute)


def render(row: Row) -> JsonObject:
    """A launcher as the API shows it."""
    failing = row.failing_code is not None
    return {
        "id": public(LAUNCHER, row.id),
        "kind": row.kind,
        "name": row.name,
        "base_url": row.base_url or CAPABILITIES[row.kind].base_url,
        "hand_over_seconds": row.hand_over_seconds,
        "is_default": row.is_default,
        "health": {"status": "failing" if failing else "healthy", "reason": row.failing_code},
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
    }


async def _shown(tx: ReadTx, project_id: Any, *, launcher_id: Any, status: int = 200) -> Response:
    row = await bot_queries.launcher(tx, project_id, launcher_id=launcher_id)
    if row is None:
        raise NotFound
    return answer(render(row), status=status)


@router.post(
    "",
    status_code=201,
    response_model=Launcher,
    summary="Add a launcher",
    responses=problems(*URLS, "out_of_range", *IDEMPOTENCY, takes="body") | {201: example(_EXAMPLE)},
    openapi_extra=_CREATE,
)
async def create_launcher(
    body: LauncherCreate, rt: Rt, tx: Writing, project_id: ProjectId, once: Idempotent
) -> Response:
    """Without any launcher, bots are launched by a `bot.launch` message, 60 s before they are to join."""
    new = NewLauncher(
        kind=body.kind,
        name=body.name,
        base_url=body.base_url,
        api_key=body.api_key,
        hand_over_seconds=body.hand_over_seconds,
        is_default=body.is_default,
    )

    async def create() -> Response:
        launcher_id = await back_ends.make(rt, tx, project_id=project_id, new=new)
        return await _shown(tx, project_id, launcher_id=launcher_id, status=201)

    return await once.run(tx, create)


@router.get(
    "",
    response_model=LauncherList,
    summary="List launchers",
    responses=problems(takes="filters") | {200: example({"next": None, "previous": None, "results": [_EXAMPLE]})},
)
async def list_launchers(
    request: Request, part: Annotated[LauncherPage, Depends(QueryOf(LauncherPage))], tx: Reading, project_id: ProjectId
) -> Response:
    """The project's launchers, newest first."""
    pager = Pager(request, project_id=project_id, order=_ORDER, limit=part.limit)
    rows = await bot_queries.launchers(tx, project_id, part=pager.slice)
    page = pager.page(rows, lambda row: (row.created_at, row.id))
    return answer({"next": page.next, "previous": page.previous, "results": [render(row) for row in page.rows]})


@router.get(
    "/{launcher_id}",
    response_model=Launcher,
    summary="Get a launcher",
    responses=problems("not_found") | {200: example(_EXAMPLE)},
)
async def get_launcher(launcher_id: str, tx: Reading, project_id: ProjectId) -> Response:
    """One launcher, without its key."""
    return await _shown(tx, project_id, launcher_id=key_of(LAUNCHER, launcher_id))


@router.patch(
    "/{launcher_id}",
    response_model=Launcher,
    summary="Change a launcher",
    responses=problems("not_found", "launcher_in_use", *URLS, "out_of_range", takes="body") | {200: example(_EXAMPLE)},
    openapi_extra=_PATCH,
)
async def update_launcher(
    launcher_id: str, body: LauncherUpdate, rt: Rt, tx: Writing, project_id: ProjectId
) -> Response:
    """Another kind or address needs `api_key` in the same request: the old key is never sent there."""
    key = key_of(LAUNCHER, launcher_id)
    given = body.model_dump(include=body.model_fields_set)
    await back_ends.change(rt, tx, project_id=project_id, launcher_id=key, given=given)
    return await _shown(tx, project_id, launcher_id=key)


@router.delete(
    "/{launcher_id}",
    status_code=204,
    summary="Delete a launcher",
    responses=problems("not_found", "launcher_in_use"),
)
async def delete_launcher(launcher_id: str, tx: Writing, project_id: ProjectId) -> Response:
    """Refused while bots are scheduled with it, or a rule names it: end them, or let them go elsewhere, first."""
    await back_ends.delete(tx, project_id=project_id, launcher_id=key_of(LAUNCHER, launcher_id))
    return Response(status_code=204)


@router.post(
    "/{launcher_id}/check",
    response_model=LauncherCheck,
    summary="Try a launcher",
    dependencies=[RefusesKey],
    responses=problems("not_found", *NO_KEY, takes="no_body")
    | {200: example({"ok": True, "detail": "the back end takes the key"})},
)
async def check_launcher(launcher_id: str, rt: Rt, project_id: ProjectId) -> Response:
    """Asks the back end for something harmless with the launcher's key; starts no bot."""
    outcome = await back_ends.check(rt, project_id=project_id, launcher_id=key_of(LAUNCHER, launcher_id))
    return answer({"ok": outcome.ok, "detail": outcome.detail})
