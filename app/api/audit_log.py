"""The audit log: which key did what, when, and from where."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from app.api import key_queries
from app.api.callers import NEEDS_ADMIN
from app.api.deps import ProjectId, Reading
from app.api.inputs import Cursor, Instant, Limit, Query, QueryOf
from app.api.operations import TIMES, example, problems
from app.api.outputs import EntryRef, KeyRef, NextUrl, Output, PreviousUrl, Timestamp
from app.api.pages import Order, Pager
from app.api.render import JsonObject, answer
from app.api.route import ApiRoute
from app.db import Row
from app.ids import ENTRY, KEY, parse, public
from app.instants import instant

_ORDER: Final = Order("a.at", "a.id", is_descending=True)


class EntryFilters(Query):
    """Filters of the list."""

    key_id: str | None = None
    action: Annotated[str | None, Field(description="As an entry has it")] = None
    object_id: Annotated[str | None, Field(description="Id of what was changed, of any kind")] = None
    at_gte: Annotated[Instant | None, Field(description="Inclusive")] = None
    at_lte: Annotated[Instant | None, Field(description="Inclusive")] = None
    limit: Limit = 25
    cursor: Cursor = None

    def conditions(self) -> dict[str, Any] | None:
        """Parameters of `key_queries.ENTRY_FILTERS`; None where an id is none, so nothing matches."""
        given = self.model_dump(exclude_none=True, exclude={"limit", "cursor"})
        if "key_id" in given:
            given["key_id"] = parse(KEY, given["key_id"])
            if given["key_id"] is None:
                return None
        return given


class Entry(Output):
    """One write."""

    id: EntryRef
    at: Timestamp
    key_id: KeyRef | None = Field(description="Null: the operator's command line, or the user of a connect link")
    action: str = Field(
        description="The operation's id in this document, a command's name, or `connect_calendar`: what the user of a"
        " connect link did"
    )
    object_id: str | None = Field(description="What was made or changed; null where there is no one object")
    ip: str | None = Field(description="The address that the key was used from; null without a key, or where unknown")
    changes: list[str] = Field(description="Names of the fields that were given, never their values")


class EntryList(Output):
    """A page of the log."""

    next: NextUrl
    previous: PreviousUrl
    results: list[Entry]


_EXAMPLE: Final[dict[str, Any]] = {
    "id": "aud_01JD4QD5R7T9V1X3Z5B7D9F1H3",
    "at": "2026-11-20T09:00:00.000000Z",
    "key_id": "key_01JD4Q7P3Q5R7T9V1X3Z5B7D9F",
    "action": "update_calendar",
    "object_id": "cal_01JD4Q8ZK3V6W8N2M5T7R9B1CX",
    "ip": "192.0.2.10",
    "changes": ["refresh_token"],
}

router = APIRouter(prefix="/api/v1/audit_log", tags=["Keys"], route_class=ApiRoute, dependencies=[NEEDS_ADMIN])


def render(row: Row) -> JsonObject:
    """An entry as the API shows it."""
    return {
        "id": public(ENTRY, row.id),
        "at": instant(row.at),
        "key_id": public(KEY, row.key_id) if row.key_id else None,
        "action": row.action,
        "object_id": row.object_id,
        "ip": row.ip,
        "changes": row.changes,
    }


@router.get(
    "",
    response_model=EntryList,
    summary="List the audit log",
    responses=problems(*TIMES, takes="filters")
    | {200: example({"next": None, "previous": None, "results": [_EXAMPLE]})},
)
async def list_audit_log(
    request: Request,
    filters: Annotated[EntryFilters, Depends(QueryOf(EntryFilters))],
    tx: Reading,
    project_id: ProjectId,
) -> Response:
    """Every write that succeeded, and every access token that was handed out, newest first.

    A replayed answer (`Idempotency-Key`) has no entry of its own: nothing was done for it.
    """
    pager = Pager(request, project_id=project_id, order=_ORDER, limit=filters.limit)
    conditions = filters.conditions()
    rows: Any = []
    if conditions is not None:
        rows = await key_queries.entries(tx, project_id, filters=conditions, part=pager.slice)
    page = pager.page(rows, lambda row: (row.at, row.id))
    return answer({"next": page.next, "previous": page.previous, "results": [render(row) for row in page.rows]})
