"""Webhook endpoints: where the project's messages go."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from app.api import queries
from app.api.deps import ProjectId, Reading, Rt, Writing
from app.api.idempotency import Idempotent
from app.api.inputs import QueryOf, key_of, metadata_text
from app.api.operations import HEADERS, IDEMPOTENCY, URLS, body_examples, example, problems
from app.api.outputs import DeliveryRef, EndpointRef, NextUrl, Output, PreviousUrl, Timestamp
from app.api.pages import Order, Pager
from app.api.render import NOT_KEPT, JsonObject, answer, embedded
from app.api.route import ApiRoute
from app.api.webhook_inputs import (
    EndpointCreate,
    EndpointPage,
    EndpointUpdate,
    Rotation,
    Scheme,
    Trigger,
    check_headers,
)
from app.db import Row
from app.errors import NotFound
from app.ids import DELIVERY, ENDPOINT, new_id, public
from app.instants import instant
from app.runtime import Runtime
from app.webhooks import outbox, payloads, secrets
from app.webhooks.standing import release, resume

_ORDER = Order("w.created_at", "w.id", is_descending=True)

_INSERT = """
INSERT INTO webhook_endpoints (id, project_id, url, triggers, metadata, secret_sealed, signature, public_key,
    headers_sealed, header_names, retry_seconds, rate_limit, is_ordered, state, created_at, updated_at)
VALUES (:id, :project, :url, :triggers, CAST(:metadata AS jsonb), :sealed, :signature, :public_key, :headers_sealed,
    :header_names, :retry_seconds, :rate_limit, :is_ordered, 'enabled', app_now(), app_now())
"""

_SET: Final[Mapping[str, str]] = {
    "url": "url = :url",
    "triggers": "triggers = CAST(:triggers AS text[])",
    "metadata": "metadata = CAST(:metadata AS jsonb)",
    "rate_limit": "rate_limit = :rate_limit",
    "ordered": "is_ordered = :is_ordered",
    "retry_seconds": "retry_seconds = CAST(:retry_seconds AS float8[])",
    "headers": "headers_sealed = :headers_sealed, header_names = CAST(:header_names AS text[])",
}
"""What a field of a PATCH sets."""

# Of an address that is new, or that its owner calls well, no failure is known.
_FORGET_FAILURES = """
failure_count = 0, failing_since = NULL, paused_until = NULL, pause_count = 0, next_slot_at = NULL,
state = CASE WHEN :is_enabled OR state = 'failing' THEN 'enabled' ELSE state END,
disabled_reason = CASE WHEN :is_enabled THEN NULL ELSE disabled_reason END
"""

_LOCK = """
SELECT failing_since FROM webhook_endpoints
 WHERE project_id = :project AND id = :id AND deleted_at IS NULL FOR NO KEY UPDATE
"""

_UPDATE = """
UPDATE webhook_endpoints SET {}
 WHERE project_id = :project AND id = :id AND deleted_at IS NULL
RETURNING state
"""

_DELETE = """
UPDATE webhook_endpoints SET deleted_at = app_now(), updated_at = app_now()
 WHERE project_id = :project AND id = :id AND deleted_at IS NULL
"""


class Endpoint(Output):
    """A webhook endpoint."""

    id: EndpointRef
    url: str
    triggers: list[Trigger]
    metadata: dict[str, str] | None
    rate_limit: int | None
    ordered: bool
    signature: Scheme
    public_key: str | None = Field(description="Verifies what `v1a` signed; null of `v1`", pattern="^whpk_")
    retry_seconds: list[float] | None
    header_names: list[str] = Field(description="Of the headers that are sent along; their values are never shown")
    state: Literal["enabled", "failing", "disabled"] = Field(
        description="`failing`: nothing but failures for a day. `disabled`: nothing is sent until it is enabled again"
    )
    disabled_reason: str | None = Field(
        description="`gone`: it answered 410. `failed_for_days`: it never answered well"
    )
    created_at: Timestamp
    updated_at: Timestamp


class EndpointWithSecret(Endpoint):
    """A webhook endpoint at its creation."""

    secret: str | None = Field(
        description="Signs every message (Standard Webhooks, `v1`). Shown this once; null of `v1a`", pattern="^whsec_"
    )


class EndpointList(Output):
    """A page of endpoints."""

    next: NextUrl
    previous: PreviousUrl
    results: list[Endpoint]


class SecretRotated(Output):
    """What signs from now on."""

    secret: str | None = Field(description="Shown this once; null of `v1a`", pattern="^whsec_")
    public_key: str | None = Field(description="Of `v1a`; else null", pattern="^whpk_")
    previous_expires_at: Timestamp = Field(description="Until then the one before signs too")


class TestAccepted(Output):
    """The delivery of the test."""

    delivery_id: DeliveryRef


_EXAMPLE = {
    "id": "ep_01JD4QA1Y5Z7B9D1F3G5H7J9K1",
    "url": "https://app.example.com/hooks/punctual",
    "triggers": ["calendar.events_update", "calendar.state_change"],
    "metadata": None,
    "rate_limit": None,
    "ordered": False,
    "signature": "v1",
    "public_key": None,
    "retry_seconds": None,
    "header_names": ["authorization"],
    "state": "enabled",
    "disabled_reason": None,
    "created_at": "2026-11-20T09:00:00.000000Z",
    "updated_at": "2026-11-20T09:00:00.000000Z",
}
_SECRET = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
_HOOK = {"url": "https://app.example.com/hooks/punctual", "triggers": list(payloads.SUBSCRIBABLE)}
_CREATE = body_examples(
    all=_HOOK,
    asymmetric=_HOOK | {"signature": "v1a"},
    careful=_HOOK
    | {"rate_limit": 50, "ordered": True, "retry_seconds": [5, 60, 3600], "headers": {"authorization": "Bearer hello"}},
)
_PATCH = body_examples(
    enable={"state": "enabled"}, narrow={"triggers": ["calendar.events_update"]}, unlimited={"rate_limit": None}
)
_ROTATE = body_examples(a_day={"grace_seconds": 86_400}, leaked={"grace_seconds": 0})

router = APIRouter(prefix="/api/v1/webhooks", tags=["Webhooks"], route_class=ApiRoute)


def render(row: Row) -> JsonObject:
    """An endpoint as the API shows it."""
    return {
        "id": public(ENDPOINT, row.id),
        "url": row.url,
        "triggers": row.triggers,
        "metadata": embedded(row.metadata),
        "rate_limit": row.rate_limit,
        "ordered": row.is_ordered,
        "signature": row.signature,
        "public_key": row.public_key,
        "retry_seconds": row.retry_seconds,
        "header_names": row.header_names or [],
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
    responses=problems(*IDEMPOTENCY, *URLS, *HEADERS, "too_short", "not_unique", "out_of_range", takes="body")
    | {201: example(_EXAMPLE | _SECRET)},
    openapi_extra=_CREATE,
)
async def create_endpoint(
    body: EndpointCreate, rt: Rt, tx: Writing, project_id: ProjectId, once: Idempotent
) -> Response:
    """The answer shows the signing secret; it is not shown again. With `v1a`, `public_key` is all there is to know."""
    rt.egress.check_url(body.url)
    check_headers(body.headers)

    async def create() -> Response:
        endpoint_id, key = new_id(), secrets.new_key(body.signature)
        params = _columns(rt, endpoint_id, body) | {
            "id": endpoint_id,
            "project": project_id,
            "sealed": rt.cipher.seal(key.text, secrets.current_place(endpoint_id)),
            "signature": body.signature,
            "public_key": key.public_key,
        }
        await tx.execute(_INSERT, params)
        shown = await _read(tx, project_id, endpoint_id=endpoint_id)
        return answer(shown | {"secret": key.shown}, status=201, headers=NOT_KEPT)

    return await once.run(tx, create)


def _columns(rt: Runtime, endpoint_id: UUID, body: EndpointCreate | EndpointUpdate) -> JsonObject:
    return {
        "url": body.url,
        "triggers": body.triggers,
        "metadata": metadata_text(body.metadata),
        "rate_limit": body.rate_limit,
        "is_ordered": body.ordered,
        "retry_seconds": body.retry_seconds,
        "headers_sealed": secrets.seal_headers(rt.cipher, endpoint_id, body.headers or {}),
        "header_names": sorted(body.headers or ()),
    }


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
    responses=problems("not_found", *URLS, *HEADERS, "too_short", "not_unique", "out_of_range", takes="body")
    | {200: example(_EXAMPLE)},
    openapi_extra=_PATCH,
)
async def update_endpoint(
    webhook_id: str, body: EndpointUpdate, rt: Rt, tx: Writing, project_id: ProjectId
) -> Response:
    """`state: enabled` lets a disabled endpoint have messages again, from now on."""
    key = key_of(ENDPOINT, webhook_id)
    if body.url is not None:
        rt.egress.check_url(body.url)
    check_headers(body.headers)
    changes = [change for name, change in _SET.items() if name in body.model_fields_set]
    is_fresh = body.url is not None or body.state is not None
    if is_fresh:
        changes.append(_FORGET_FAILURES)
    statement = _UPDATE.format(", ".join([*changes, "updated_at = app_now()"]))
    params = {"project": project_id, "id": key, "is_enabled": body.state is not None}
    since = await tx.scalar(_LOCK, params) if is_fresh else None
    state = await tx.scalar(statement, _columns(rt, key, body) | params)
    if state is None:
        raise NotFound
    if is_fresh and state == "enabled":
        await release(tx, [key])
        if since is not None:
            await resume(tx, {key: since})
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
    "/{webhook_id}/rotate_secret",
    response_model=SecretRotated,
    summary="Rotate the signing secret",
    responses=problems("not_found", "too_many_secrets", *IDEMPOTENCY, "out_of_range", takes="body")
    | {200: example(_SECRET | {"public_key": None, "previous_expires_at": "2026-11-21T09:00:00.000000Z"})},
    openapi_extra=_ROTATE,
)
async def rotate_secret(
    webhook_id: str, rt: Rt, tx: Writing, project_id: ProjectId, once: Idempotent, body: Rotation | None = None
) -> Response:
    """A new secret, or pair of keys, signs at once; the one before signs too until its grace is over."""
    key = key_of(ENDPOINT, webhook_id)
    grace = (body or Rotation()).grace_seconds

    async def rotate() -> Response:
        rotated = await secrets.rotate(tx, rt.cipher, project_id=project_id, endpoint_id=key, grace_seconds=grace)
        shown = {"secret": rotated.key.shown, "public_key": rotated.key.public_key}
        return answer(shown | {"previous_expires_at": instant(rotated.previous_expires_at)}, headers=NOT_KEPT)

    return await once.run(tx, rotate)


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
