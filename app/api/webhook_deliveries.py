"""Webhook deliveries: what was sent where, how it went, and what is still to come."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from app.api import queries
from app.api.deps import ProjectId, Reading, Rt, Writing
from app.api.idempotency import Idempotent
from app.api.inputs import Cursor, Instant, Limit, Query, QueryOf, key_of
from app.api.messages import TEST_EXAMPLE
from app.api.operations import IDEMPOTENCY, TIMES, example, problems
from app.api.outputs import CalendarRef, DeliveryRef, EndpointRef, MessageRef, NextUrl, Output, PreviousUrl, Timestamp
from app.api.pages import Order, Pager
from app.api.render import JsonObject, answer, embedded
from app.api.route import ApiRoute
from app.db import Row
from app.errors import NotFound
from app.ids import CALENDAR, DELIVERY, ENDPOINT, MESSAGE, parse, public
from app.instants import instant
from app.webhooks import replays

_ORDER = Order("d.created_at", "d.id", is_descending=True)
State = Literal["pending", "succeeded", "failed", "merged"]
Trigger = Literal[
    "calendar.events_update",
    "calendar.state_change",
    "calendar.health_change",
    "oauth_app.failing",
    "bot.state_change",
    "bot.launch",
    "webhook.test",
]
"""`payloads.TRIGGERS`, for the type checker."""


class DeliveryFilters(Query):
    """Filters of the list."""

    webhook_id: str | None = None
    state: State | None = None
    trigger: Trigger | None = None
    calendar_id: str | None = None
    created_at_gte: Annotated[Instant | None, Field(description="Inclusive")] = None
    created_at_lte: Annotated[Instant | None, Field(description="Inclusive")] = None
    limit: Limit = 25
    cursor: Cursor = None

    def conditions(self) -> dict[str, Any] | None:
        """Parameters of `queries.DELIVERY_FILTERS`; None where an id is none, so nothing matches."""
        given = self.model_dump(exclude_none=True, exclude={"limit", "cursor"})
        for name, prefix in (("webhook_id", ENDPOINT), ("calendar_id", CALENDAR)):
            if name in given:
                given[name] = parse(prefix, given[name])
                if given[name] is None:
                    return None
        return given


class Attempt(Output):
    """One HTTP try."""

    at: Timestamp
    status: int | None = Field(description="The receiver's answer; null where there was none")
    error: str | None = Field(description="The kind of failure; null where it succeeded")
    phases_ms: dict[str, float | None] = Field(description="dns, connect, tls, first_byte, total")
    address: str | None = Field(description="The address that was dialled")
    response_body: str | None = Field(description="The first 2 kB of the answer")


class Delivery(Output):
    """One message for one endpoint."""

    id: DeliveryRef
    webhook_id: EndpointRef
    message_id: MessageRef = Field(description="The `webhook-id` header, the same for all attempts")
    trigger: Trigger
    calendar_id: CalendarRef | None
    state: State = Field(description="`merged`: a digest tells it in its place")
    next_attempt_at: Timestamp | None
    attempts: list[Attempt] = Field(
        description=f"Oldest first: in a list the latest {queries.ATTEMPTS_LISTED},"
        f" of a single delivery the latest {queries.ATTEMPTS_SHOWN}"
    )
    payload: dict[str, Any] | None = Field(description="The message as it is signed and sent")
    created_at: Timestamp
    updated_at: Timestamp


class DeliveryList(Output):
    """A page of deliveries."""

    next: NextUrl
    previous: PreviousUrl
    results: list[Delivery]


_EXAMPLE = {
    "id": "dlv_01JD4QAB7C9E1G3J5M7P9R1T3V",
    "webhook_id": "ep_01JD4QA1Y5Z7B9D1F3G5H7J9K1",
    "message_id": TEST_EXAMPLE["idempotency_key"],
    "trigger": "webhook.test",
    "calendar_id": None,
    "state": "succeeded",
    "next_attempt_at": None,
    "attempts": [
        {
            "at": "2026-11-20T10:00:01.004211Z",
            "status": 204,
            "error": None,
            "phases_ms": {"dns": 1.2, "connect": 8.4, "tls": 11.9, "first_byte": 24.0, "total": 45.7},
            "address": "192.0.2.10",
            "response_body": "",
        }
    ],
    "payload": TEST_EXAMPLE,
    "created_at": "2026-11-20T10:00:01.000000Z",
    "updated_at": "2026-11-20T10:00:01.050117Z",
}

_RETRIED = _EXAMPLE | {"state": "pending", "next_attempt_at": "2026-11-20T11:30:00.000000Z"}

router = APIRouter(prefix="/api/v1/webhook_deliveries", tags=["Webhooks"], route_class=ApiRoute)


def render(row: Row) -> JsonObject:
    """A delivery as the API shows it."""
    return {
        "id": public(DELIVERY, row.id),
        "webhook_id": public(ENDPOINT, row.endpoint_id),
        "message_id": public(MESSAGE, row.message_id),
        "trigger": row.trigger,
        "calendar_id": public(CALENDAR, row.calendar_id) if row.calendar_id else None,
        "state": row.state,
        "next_attempt_at": instant(row.next_attempt_at),
        "attempts": embedded(row.attempts),
        "payload": embedded(row.payload) if row.payload else None,
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
    }


@router.get(
    "",
    response_model=DeliveryList,
    summary="List deliveries",
    responses=problems(*TIMES, takes="filters")
    | {200: example({"next": None, "previous": None, "results": [_EXAMPLE]})},
)
async def list_deliveries(
    request: Request,
    filters: Annotated[DeliveryFilters, Depends(QueryOf(DeliveryFilters))],
    tx: Reading,
    project_id: ProjectId,
) -> Response:
    """Deliveries with their attempts, newest first."""
    pager = Pager(request, project_id=project_id, order=_ORDER, limit=filters.limit)
    conditions = filters.conditions()
    rows: Any = []
    if conditions is not None:
        rows = await queries.deliveries(tx, project_id, filters=conditions, part=pager.slice)
    page = pager.page(rows, lambda row: (row.created_at, row.id))
    return answer({"next": page.next, "previous": page.previous, "results": [render(row) for row in page.rows]})


@router.get(
    "/{delivery_id}",
    response_model=Delivery,
    summary="Get a delivery",
    responses=problems("not_found") | {200: example(_EXAMPLE)},
)
async def get_delivery(delivery_id: str, tx: Reading, project_id: ProjectId) -> Response:
    """One delivery with its attempts."""
    return answer(await _read(tx, project_id, delivery_id=key_of(DELIVERY, delivery_id)))


async def _read(tx: Reading, project_id: UUID, *, delivery_id: UUID) -> JsonObject:
    row = await queries.delivery(tx, project_id, delivery_id=delivery_id)
    if row is None:
        raise NotFound
    return render(row)


@router.post(
    "/{delivery_id}/retry",
    status_code=202,
    response_model=Delivery,
    summary="Retry a delivery",
    responses=problems("not_found", "endpoint_disabled", *IDEMPOTENCY, takes="no_body") | {202: example(_RETRIED)},
)
async def retry_delivery(delivery_id: str, rt: Rt, tx: Writing, project_id: ProjectId, once: Idempotent) -> Response:
    """Sends it again, under the same `webhook-id`.

    A delivery that is over begins its schedule anew, and keeps its attempts. One that waits for its next attempt has
    it now. One whose attempt is under way is left as it is.
    """
    key = key_of(DELIVERY, delivery_id)

    async def send_again() -> Response:
        await replays.retry(tx, rt.queue, key, project_id=project_id)
        return answer(await _read(tx, project_id, delivery_id=key), status=202)

    return await once.run(tx, send_again)
