"""Webhook endpoints: where the project's messages go."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from app.api import queries
from app.api.deps import ProjectId, Reading, Rt, Writing
from app.api.idempotency import Idempotent
from app.api.inputs import Cursor, Input, Limit, Metadata, Query, QueryOf, key_of, metadata_text, not_null
from app.api.operations import IDEMPOTENCY, URLS, body_examples, example, problems
from app.api.outputs import DeliveryRef, EndpointRef, NextUrl, Output, PreviousUrl, Timestamp
from app.api.pages import Order, Pager
from app.api.render import JsonObject, answer, embedded
from app.api.route import ApiRoute
from app.crypto import Place, new_webhook_secret
from app.db import Row
from app.errors import NotFound
from app.ids import DELIVERY, ENDPOINT, new_id, public
from app.instants import instant
from app.webhooks import outbox, payloads
from app.webhooks.standing import release

_ORDER = Order("w.created_at", "w.id", is_descending=True)
Trigger = Literal["calendar.events_update", "calendar.state_change", "calendar.health_change", "oauth_app.failing"]
"""What an endpoint may listen to: `payloads.SUBSCRIBABLE`, for the type checker."""

_INSERT = """
INSERT INTO webhook_endpoints (id, project_id, url, triggers, metadata, secret_sealed, state, created_at, updated_at)
VALUES (:id, :project, :url, :triggers, CAST(:metadata AS jsonb), :sealed, 'enabled', app_now(), app_now())
"""

_UPDATE = """
UPDATE webhook_endpoints
   SET url = coalesce(:url, url), triggers = coalesce(CAST(:triggers AS text[]), triggers),
       metadata = CASE WHEN :is_metadata_given THEN CAST(:metadata AS jsonb) ELSE metadata END,
       state = CASE WHEN :is_enabled THEN 'enabled' ELSE state END,
       failure_count = CASE WHEN :is_fresh THEN 0 ELSE failure_count END,
       pause_count = CASE WHEN :is_fresh THEN 0 ELSE pause_count END,
       failing_since = CASE WHEN NOT :is_fresh THEN failing_since END,
       paused_until = CASE WHEN NOT :is_fresh THEN paused_until END,
       next_slot_at = CASE WHEN NOT :is_fresh THEN next_slot_at END,
       disabled_reason = CASE WHEN :is_enabled THEN NULL ELSE disabled_reason END,
       updated_at = app_now()
 WHERE project_id = :project AND id = :id AND deleted_at IS NULL
"""

_DELETE = """
UPDATE webhook_endpoints SET deleted_at = app_now(), updated_at = app_now()
 WHERE project_id = :project AND id = :id AND deleted_at IS NULL
"""


def _unique(triggers: list[Trigger]) -> list[Trigger]:
    if len(set(triggers)) < len(triggers):
        raise PydanticCustomError("not_unique", "must name each trigger once")
    return triggers


Url = Annotated[str, Field(description="https; may not lead into a private network", max_length=2048)]


def _not_more_than_there_are(value: object) -> object:
    if isinstance(value, list) and len(value) > len(payloads.SUBSCRIBABLE):
        raise PydanticCustomError("too_long", "has more entries than there are triggers")
    return value


Triggers = Annotated[
    list[Trigger], Field(min_length=1), BeforeValidator(_not_more_than_there_are), AfterValidator(_unique)
]


class EndpointCreate(Input):
    """An endpoint to be made."""

    url: Url
    triggers: Triggers
    metadata: Metadata | None = None


class EndpointUpdate(Input):
    """What may change; fields that are left out stay as they are."""

    url: Annotated[Url | None, BeforeValidator(not_null), WithJsonSchema({"type": "string", "maxLength": 2048})] = None
    triggers: Annotated[
        Triggers | None,
        BeforeValidator(not_null),
        WithJsonSchema(
            {
                "type": "array",
                "minItems": 1,
                "uniqueItems": True,
                "items": {"type": "string", "enum": list(payloads.SUBSCRIBABLE)},
            }
        ),
    ] = None
    metadata: Metadata | None = None
    state: Annotated[
        Literal["enabled"] | None,
        BeforeValidator(not_null),
        WithJsonSchema({"type": "string", "enum": ["enabled"]}),
        Field(description="Enables a disabled endpoint again"),
    ] = None


class EndpointPage(Query):
    """Page of the list."""

    limit: Limit = 25
    cursor: Cursor = None


class Endpoint(Output):
    """A webhook endpoint."""

    id: EndpointRef
    url: str
    triggers: list[Trigger]
    metadata: dict[str, str] | None
    state: Literal["enabled", "disabled"]
    disabled_reason: str | None
    created_at: Timestamp
    updated_at: Timestamp


class EndpointWithSecret(Endpoint):
    """A webhook endpoint at its creation."""

    secret: str = Field(description="Signs every message (Standard Webhooks, `v1`). Shown this once", pattern="^whsec_")


class EndpointList(Output):
    """A page of endpoints."""

    next: NextUrl
    previous: PreviousUrl
    results: list[Endpoint]


class TestAccepted(Output):
    """The delivery of the test."""

    delivery_id: DeliveryRef


_EXAMPLE = {
    "id": "ep_01JD4QA1Y5Z7B9D1F3G5H7J9K1",
    "url": "https://app.example.com/hooks/punctual",
    "triggers": ["calendar.events_update", "calendar.state_change"],
    "metadata": None,
    "state": "enabled",
    "disabled_reason": None,
    "created_at": "2026-11-20T09:00:00.000000Z",
    "updated_at": "2026-11-20T09:00:00.000000Z",
}
_SECRET = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
_CREATE = body_examples(all={"url": "https://app.example.com/hooks/punctual", "triggers": list(payloads.SUBSCRIBABLE)})
_PATCH = body_examples(enable={"state": "enabled"}, narrow={"triggers": ["calendar.events_update"]})

router = APIRouter(prefix="/api/v1/webhooks", tags=["Webhooks"], route_class=ApiRoute)


def render(row: Row) -> JsonObject:
    """An endpoint as the API shows it."""
    return {
        "id": public(ENDPOINT, row.id),
        "url": row.url,
        "triggers": row.triggers,
        "metadata": embedded(row.metadata),
        "state": row.state,
        "disabled_reason": row.disabled_reason,
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
    }


@router.post(
    "",
    status_code=201,
    response_model=EndpointWithSecret,
    summary="Create an endpoint",
    responses=problems(*IDEMPOTENCY, *URLS, "too_short", "not_unique", takes="body")
    | {201: example(_EXAMPLE | _SECRET)},
    openapi_extra=_CREATE,
)
async def create_endpoint(
    body: EndpointCreate, rt: Rt, tx: Writing, project_id: ProjectId, once: Idempotent
) -> Response:
    """The answer shows the signing secret; it is not shown again."""
    rt.egress.check_url(body.url)

    async def create() -> Response:
        endpoint_id, secret = new_id(), new_webhook_secret()
        sealed = rt.cipher.seal(secret, Place("webhook_endpoints", "secret", endpoint_id))
        await tx.execute(
            _INSERT,
            {
                "id": endpoint_id,
                "project": project_id,
                "url": body.url,
                "triggers": body.triggers,
                "metadata": metadata_text(body.metadata),
                "sealed": sealed,
            },
        )
        shown = await _read(tx, project_id, endpoint_id=endpoint_id)
        return answer(shown | {"secret": secret}, status=201)

    return await once.run(tx, create)


async def _read(tx: Reading, project_id: UUID, *, endpoint_id: UUID) -> JsonObject:
    row = await queries.endpoint(tx, project_id, endpoint_id=endpoint_id)
    if row is None:
        raise NotFound
    return render(row)


@router.get(
    "",
    response_model=EndpointList,
    summary="List endpoints",
    responses=problems(takes="filters") | {200: example({"next": None, "previous": None, "results": [_EXAMPLE]})},
)
async def list_endpoints(
    request: Request, part: Annotated[EndpointPage, Depends(QueryOf(EndpointPage))], tx: Reading, project_id: ProjectId
) -> Response:
    """The project's endpoints, newest first."""
    pager = Pager(request, project_id=project_id, order=_ORDER, limit=part.limit)
    page = pager.page(await queries.endpoints(tx, project_id, part=pager.slice), lambda row: (row.created_at, row.id))
    return answer({"next": page.next, "previous": page.previous, "results": [render(row) for row in page.rows]})


@router.get(
    "/{webhook_id}",
    response_model=Endpoint,
    summary="Get an endpoint",
    responses=problems("not_found") | {200: example(_EXAMPLE)},
)
async def get_endpoint(webhook_id: str, tx: Reading, project_id: ProjectId) -> Response:
    """One endpoint, without its secret."""
    return answer(await _read(tx, project_id, endpoint_id=key_of(ENDPOINT, webhook_id)))


@router.patch(
    "/{webhook_id}",
    response_model=Endpoint,
    summary="Change an endpoint",
    responses=problems("not_found", *URLS, "too_short", "not_unique", takes="body") | {200: example(_EXAMPLE)},
    openapi_extra=_PATCH,
)
async def update_endpoint(
    webhook_id: str, body: EndpointUpdate, rt: Rt, tx: Writing, project_id: ProjectId
) -> Response:
    """`state: enabled` lets a disabled endpoint have messages again, from now on."""
    key = key_of(ENDPOINT, webhook_id)
    if body.url is not None:
        rt.egress.check_url(body.url)
    params = {
        "project": project_id,
        "id": key,
        "url": body.url,
        "triggers": body.triggers,
        "metadata": metadata_text(body.metadata),
        "is_metadata_given": "metadata" in body.model_fields_set,
        "is_enabled": body.state is not None,
        "is_fresh": body.state is not None or body.url is not None,
    }
    if not await tx.execute(_UPDATE, params):
        raise NotFound
    if body.state is not None:
        await release(tx, [key])
        tx.after_commit(rt.queue.wake_delivery)
    return answer(await _read(tx, project_id, endpoint_id=key))


@router.delete("/{webhook_id}", status_code=204, summary="Delete an endpoint", responses=problems("not_found"))
async def delete_endpoint(webhook_id: str, tx: Writing, project_id: ProjectId) -> Response:
    """Nothing more is sent to it; what was still waiting is dropped."""
    endpoint = key_of(ENDPOINT, webhook_id)
    params = {"project": project_id, "id": endpoint}
    if not await tx.execute(_DELETE, params):
        raise NotFound
    await outbox.drop_undelivered_to(tx, endpoint)
    return Response(status_code=204)


@router.post(
    "/{webhook_id}/test",
    status_code=202,
    response_model=TestAccepted,
    summary="Send a test message",
    responses=problems("not_found", *IDEMPOTENCY, takes="no_body")
    | {202: example({"delivery_id": "dlv_01JD4QAB7C9E1G3J5M7P9R1T3V"})},
)
async def test_endpoint(webhook_id: str, rt: Rt, tx: Writing, project_id: ProjectId, once: Idempotent) -> Response:
    """Sends `webhook.test` to this endpoint, whatever its triggers; the delivery tells how it went."""
    key = key_of(ENDPOINT, webhook_id)

    async def send() -> Response:
        message_id = new_id()
        message = outbox.NewMessage(
            id=message_id,
            project_id=project_id,
            calendar_id=None,
            trigger=payloads.TEST,
            payload=payloads.webhook_test(message_id, at=rt.clock.now()),
            endpoint_id=key,
        )
        deliveries = await outbox.publish(tx, rt.queue, [message])
        if not deliveries:
            raise NotFound
        return answer({"delivery_id": public(DELIVERY, deliveries[0])}, status=202)

    return await once.run(tx, send)
