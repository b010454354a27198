"""Replays: a range of an endpoint's log, sent again."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from app.api import queries
from app.api.deps import ProjectId, Reading, Rt, Writing
from app.api.idempotency import HEADER, Idempotent
from app.api.inputs import Input, Instant, key_of
from app.api.operations import IDEMPOTENCY, NO_KEY, TIMES, body_examples, example, problems
from app.api.outputs import EndpointRef, Output, ReplayRef, Timestamp
from app.api.render import JsonObject, answer
from app.api.route import ApiRoute
from app.api.webhook_deliveries import Trigger
from app.db import Row
from app.errors import NotFound, refusal
from app.ids import ENDPOINT, REPLAY, public
from app.instants import instant
from app.webhooks import replays
from app.webhooks.payloads import TRIGGERS

State = Literal["failed", "succeeded", "merged"]
"""`replays.STATES`, for the type checker."""
_MOST: Final = max(len(TRIGGERS), len(replays.STATES))


def _few(value: object) -> object:
    """Counted before each is judged: a complaint per entry would be longer than the body."""
    if isinstance(value, list) and len(value) > _MOST:
        raise PydanticCustomError("too_long", "has more entries than there are values")
    return value


def _unique(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("not_unique", "must name each value once")
    return values


States = Annotated[list[State], Field(min_length=1), BeforeValidator(_few), AfterValidator(_unique)]
Triggers = Annotated[list[Trigger], Field(min_length=1), BeforeValidator(_few), AfterValidator(_unique)]


class ReplayCreate(Input):
    """A range of the log; deliveries that are still pending go out by themselves."""

    created_at_gte: Instant = Field(description="Deliveries made at this time or later …")
    created_at_lte: Instant = Field(description="… up to this one; those made or ended after the request are outside")
    states: States = Field(default=["failed"], description="What has become of them")
    triggers: Triggers | None = Field(default=None, description="Null or left out: all")
    dry_run: bool = Field(default=False, description="Only count")


class ReplayAccepted(Output):
    """How many deliveries will be sent again."""

    count: int
    replay_id: ReplayRef | None = Field(description="Null after a dry run")


class Replay(Output):
    """A range of the log that is being sent again, oldest first."""

    id: ReplayRef
    webhook_id: EndpointRef
    created_at_gte: Timestamp
    created_at_lte: Timestamp
    states: list[State]
    triggers: list[Trigger] | None
    count: int = Field(description="Deliveries that were in the range when it was asked for")
    done_count: int = Field(description="Those of them that are due again by now")
    created_at: Timestamp
    finished_at: Timestamp | None = Field(description="Set too where the endpoint was disabled in the middle of it")


_RANGE = {"created_at_gte": "2026-11-19T00:00:00Z", "created_at_lte": "2026-11-20T00:00:00Z"}
_CREATE = body_examples(
    failed=_RANGE, count_all=_RANGE | {"states": list(replays.STATES), "triggers": None, "dry_run": True}
)
_EXAMPLE = {
    "id": "rpl_01JD4QC3D5F7H9K1M3P5R7T9V1",
    "webhook_id": "ep_01JD4QA1Y5Z7B9D1F3G5H7J9K1",
    "created_at_gte": "2026-11-19T00:00:00.000000Z",
    "created_at_lte": "2026-11-20T00:00:00.000000Z",
    "states": ["failed"],
    "triggers": None,
    "count": 1_240,
    "done_count": 500,
    "created_at": "2026-11-20T10:00:00.000000Z",
    "finished_at": None,
}

router = APIRouter(prefix="/api/v1/webhooks", tags=["Webhooks"], route_class=ApiRoute)


def render(row: Row) -> JsonObject:
    """A replay as the API shows it."""
    return {
        "id": public(REPLAY, row.id),
        "webhook_id": public(ENDPOINT, row.endpoint_id),
        "created_at_gte": instant(row.created_at_gte),
        "created_at_lte": instant(row.created_at_lte),
        "states": row.states,
        "triggers": row.triggers,
        "count": row.count,
        "done_count": row.done_count,
        "created_at": instant(row.created_at),
        "finished_at": instant(row.finished_at),
    }


@router.post(
    "/{webhook_id}/replay",
    status_code=202,
    response_model=ReplayAccepted,
    summary="Replay deliveries",
    responses=problems(
        "not_found",
        "endpoint_disabled",
        "too_short",
        "not_unique",
        "end_before_start",
        "in_the_future",
        *TIMES,
        *IDEMPOTENCY,
        *NO_KEY,
        takes="body",
    )
    | {
        202: example({"count": 1_240, "replay_id": _EXAMPLE["id"]}),
        200: {
            "description": "The count of a dry run",
            "model": ReplayAccepted,
            **example({"count": 1_240, "replay_id": None}),
        },
    },
    openapi_extra=_CREATE,
)
async def replay_deliveries(
    webhook_id: str, body: ReplayCreate, rt: Rt, tx: Writing, project_id: ProjectId, once: Idempotent
) -> Response:
    """Sends a range of the log again: oldest first, under the same ids, behind whatever is new.

    It goes at the endpoint's `rate_limit`, or at the service's own pace. `dry_run` only counts.
    """
    key = key_of(ENDPOINT, webhook_id)
    if body.dry_run and once.scope_hash is not None:
        raise refusal(HEADER, "idempotency_key_not_accepted", message="is not accepted by a dry run")
    wanted = replays.Range(body.created_at_gte, body.created_at_lte, body.states, body.triggers)

    async def request() -> Response:
        made = await replays.request(
            tx, key, wanted, project_id=project_id, now=rt.clock.now(), is_dry_run=body.dry_run
        )
        replay_id = public(REPLAY, made.replay_id) if made.replay_id else None
        return answer({"count": made.count, "replay_id": replay_id}, status=202 if replay_id else 200)

    return await once.run(tx, request)


@router.get(
    "/{webhook_id}/replays/{replay_id}",
    response_model=Replay,
    summary="Get a replay",
    responses=problems("not_found") | {200: example(_EXAMPLE)},
)
async def get_replay(webhook_id: str, replay_id: str, tx: Reading, project_id: ProjectId) -> Response:
    """How far a replay has come."""
    keys = {"endpoint_id": key_of(ENDPOINT, webhook_id), "replay_id": key_of(REPLAY, replay_id)}
    row = await queries.replay(tx, project_id, **keys)
    if row is None:
        raise NotFound
    return answer(render(row))
