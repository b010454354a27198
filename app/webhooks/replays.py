"""Sending again: one delivery, or a range of an endpoint's log.

Guarantees: a message keeps its `webhook-id`, a delivery its attempts. A delivery whose attempt is under way gets
no second one beside it. A replay is a row: each batch moves the row and makes its deliveries pending in one
transaction, so that a worker that dies leaves exactly what was committed, and another goes on from there. Within a
replay nothing is sent again twice, and a range may have any length.

What is sent again waits behind first attempts (`priority`) and outside its lane: it has lost its place in the order
already, and must not hold up what is new. Sequence numbers tell a receiver where it belongs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.db import Row, Tx
from app.errors import Conflict, FieldProblem, Invalid, NotFound, refusals
from app.ids import new_id
from app.queue import Queue
from app.runtime import Runtime
from app.telemetry import log

STATES = ("failed", "succeeded", "merged")
"""What can be replayed: whatever is over."""
BATCH = 500
SCAN = 20_000
"""Rows of the log that one batch looks at, however few of them it takes: a transaction stays short."""
AHEAD_SECONDS = 1.0
"""A batch is made this long before its first delivery is due, so that one joins the next."""

_NO_ID = UUID(int=0)

# An endpoint is locked before its deliveries, by whoever locks both. Shared, for who only has to know how it stands.
_ENDPOINT = """
SELECT state, rate_limit FROM webhook_endpoints
 WHERE project_id = :project AND id = :id AND deleted_at IS NULL FOR SHARE
"""

_DELIVERY = """
SELECT d.endpoint_id FROM deliveries d
 WHERE d.project_id = :project AND d.id = :id
   AND NOT EXISTS (SELECT FROM calendars x WHERE x.id = d.calendar_id AND x.deleted_at IS NOT NULL)
"""

# Of what is pending, only what waits: neither due already nor in a worker's hands. A digest that was sent counts one
# attempt, since at none it would still take in what follows, under an id that its receiver may know.
_RETRY = """
UPDATE deliveries
   SET state = 'pending', next_attempt_at = app_now(), is_claimed = false,
       attempt_count = CASE WHEN state = 'pending' THEN attempt_count WHEN is_digest THEN 1 ELSE 0 END,
       priority = CASE WHEN state = 'pending' THEN priority ELSE 1 END,
       lane = CASE WHEN state = 'pending' THEN lane END,
       fence = fence + 1, updated_at = clock_timestamp()
 WHERE id = :id AND (state <> 'pending' OR next_attempt_at > app_now() AND NOT is_claimed)
"""

# What belongs to a deleted calendar is not there for anybody. `updated_at` is when a delivery ended, on the clock of
# `replays.created_at`: what ends, or is sent again, after the replay was asked for is no part of it.
_CHOSEN = """
   AND state = ANY (CAST(:states AS text[]))
   AND (CAST(:triggers AS text[]) IS NULL OR trigger = ANY (CAST(:triggers AS text[])))
   AND (calendar_id IS NULL OR calendar_id NOT IN (
        SELECT x.id FROM calendars x WHERE x.project_id = :project AND x.deleted_at IS NOT NULL))
"""

_COUNT = """
SELECT count(*) FROM deliveries
 WHERE project_id = :project AND endpoint_id = :endpoint AND created_at >= :gte AND created_at <= :lte
"""

_INSERT = """
INSERT INTO replays (id, project_id, endpoint_id, created_at_gte, created_at_lte, states, triggers, count,
                     next_batch_at)
VALUES (:id, :project, :endpoint, :gte, :lte, CAST(:states AS text[]), CAST(:triggers AS text[]), :count, app_now())
"""

_TAKE = """
SELECT id, project_id, endpoint_id, created_at_gte, created_at_lte, states, triggers, position_at, position_id,
       created_at, greatest(next_batch_at, app_now()) AS starts_at
  FROM replays WHERE next_batch_at <= app_now() + make_interval(secs => :ahead)
 ORDER BY next_batch_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""

_LOOK = """
WITH seen AS MATERIALIZED (
    SELECT id, created_at, updated_at, state, trigger, calendar_id FROM deliveries
     WHERE endpoint_id = :endpoint AND created_at <= :lte
       AND (created_at, id) > (CAST(:position_at AS timestamptz), CAST(:position_id AS uuid))
     ORDER BY created_at, id LIMIT :scan
), chosen AS MATERIALIZED (
    SELECT id, created_at, row_number() OVER (ORDER BY created_at, id) AS place FROM seen
     WHERE updated_at <= :asked_at
"""

# The second look, under the lock, sees what another replay or a retry has done meanwhile.
_SEND_AGAIN = """
     ORDER BY created_at, id LIMIT :batch
), ours AS MATERIALIZED (
    SELECT d.id, c.place FROM chosen c JOIN deliveries d ON d.id = c.id
     WHERE d.state = ANY (CAST(:states AS text[])) AND d.updated_at <= :asked_at
     ORDER BY d.id FOR UPDATE OF d
), sent_again AS (
    UPDATE deliveries d
       SET state = 'pending', priority = 1, attempt_count = CASE WHEN d.is_digest THEN 1 ELSE 0 END, lane = NULL,
           is_claimed = false, fence = d.fence + 1,
           next_attempt_at = CAST(:starts_at AS timestamptz)
                             + make_interval(secs => (o.place - 1) / CAST(:rate AS float8)),
           updated_at = clock_timestamp()
      FROM ours o WHERE d.id = o.id
    RETURNING d.id
), last AS (
    (SELECT created_at, id, true AS is_chosen FROM chosen ORDER BY created_at DESC, id DESC LIMIT 1)
    UNION ALL
    (SELECT created_at, id, false FROM seen ORDER BY created_at DESC, id DESC LIMIT 1)
)
SELECT (SELECT count(*) FROM seen) AS seen, (SELECT count(*) FROM chosen) AS chosen,
       (SELECT count(*) FROM sent_again) AS done, last.created_at AS position_at, last.id AS position_id
  FROM last WHERE last.is_chosen = ((SELECT count(*) FROM chosen) = :batch)
"""

_MOVE = """
UPDATE replays
   SET done_count = done_count + :done, position_at = :position_at, position_id = :position_id,
       next_batch_at = CASE WHEN NOT :is_last
                            THEN CAST(:starts_at AS timestamptz) + make_interval(secs => :seconds) END,
       finished_at = CASE WHEN :is_last THEN app_now() END
 WHERE id = :id
"""

_FINISH = "UPDATE replays SET next_batch_at = NULL, finished_at = app_now() WHERE id = :id"


@dataclass(frozen=True, slots=True)
class Range:
    """Which deliveries: made within these times, both inclusive, and now in one of these states.

    No triggers means all of them.
    """

    created_at_gte: datetime
    created_at_lte: datetime
    states: Sequence[str] = ("failed",)
    triggers: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Requested:
    """A replay that was asked for, and how many deliveries were in its range then. No id: they were only counted."""

    count: int
    replay_id: UUID | None


async def retry(tx: Tx, queue: Queue, delivery_id: UUID, *, project_id: UUID) -> None:
    """Send one delivery again, now. NotFound where it, its calendar or its endpoint is no more; Conflict if disabled.

    One that is over begins its schedule anew. One that waits for its next attempt has it now, and keeps its place in
    the schedule. One whose attempt is under way stays as it is, since a second one beside it would double it: it comes
    again by itself if its worker is dead.
    """
    row = await tx.row(_DELIVERY, {"project": project_id, "id": delivery_id})
    if row is None:
        raise NotFound
    await _enabled(tx, row.endpoint_id, project_id=project_id)
    if await tx.execute(_RETRY, {"id": delivery_id}):
        tx.after_commit(queue.wake_delivery)


async def request(
    tx: Tx, endpoint_id: UUID, wanted: Range, *, project_id: UUID, now: datetime, is_dry_run: bool = False
) -> Requested:
    """Have a range of an endpoint's log sent again by `run_due`.

    Invalid where it ends before it starts, or has not begun; NotFound; Conflict where the endpoint is disabled.
    A transaction that is still open may have made deliveries of the range that are not seen here. They are pending,
    so they go out by themselves. (Those it stores as failed, because it saw the endpoint disabled, stay failed where
    the replay has passed them: ask again.)
    """
    if wanted.created_at_lte < wanted.created_at_gte:
        raise _invalid(FieldProblem("/created_at_lte", "end_before_start", "is before created_at_gte"))
    if wanted.created_at_gte > now:
        raise _invalid(FieldProblem("/created_at_gte", "in_the_future", "is later than now"))
    await _enabled(tx, endpoint_id, project_id=project_id)
    params = {
        "project": project_id,
        "endpoint": endpoint_id,
        "gte": wanted.created_at_gte,
        "lte": wanted.created_at_lte,
        "states": list(wanted.states),
        "triggers": None if wanted.triggers is None else list(wanted.triggers),
    }
    count: int = await tx.scalar(f"{_COUNT}{_CHOSEN}", params)
    if is_dry_run:
        return Requested(count, None)
    replay_id = new_id()
    await tx.execute(_INSERT, params | {"id": replay_id, "count": count})
    return Requested(count, replay_id)


def _invalid(problem: FieldProblem) -> Invalid:
    return refusals([problem])


async def _enabled(tx: Tx, endpoint_id: UUID, *, project_id: UUID) -> None:
    row = await tx.row(_ENDPOINT, {"project": project_id, "id": endpoint_id})
    if row is None:
        raise NotFound
    if row.state == "disabled":
        raise Conflict("the endpoint is disabled: enable it first", code="endpoint_disabled")


async def run_due(rt: Runtime) -> bool:
    """One batch of the replay that has been due longest; False where none is due, or all are in other hands.

    Its deliveries come in the order in which they were made, at the endpoint's rate or `replay_per_second`. A replay
    whose endpoint was deleted or disabled meanwhile is finished with what it has done.
    """
    async with rt.db.transaction() as tx:
        replay = await tx.row(_TAKE, {"ahead": AHEAD_SECONDS})
        if replay is None:
            return False
        endpoint = await tx.row(_ENDPOINT, {"project": replay.project_id, "id": replay.endpoint_id})
        if endpoint is None or endpoint.state == "disabled":
            await tx.execute(_FINISH, {"id": replay.id})
            log.info("replay.ended_early", replay=str(replay.id))
            return True
        moved = await _batch(tx, replay, rate=float(endpoint.rate_limit or rt.settings.replay_per_second))
        await tx.execute(_MOVE, moved)
        if moved["done"]:
            tx.after_commit(rt.queue.wake_delivery)
    return True


async def _batch(tx: Tx, replay: Row, *, rate: float) -> dict[str, Any]:
    """Make the next deliveries pending; what the replay's row has to say of it."""
    moved = await tx.row(
        f"{_LOOK}{_CHOSEN}{_SEND_AGAIN}",
        {
            "project": replay.project_id,
            "endpoint": replay.endpoint_id,
            "lte": replay.created_at_lte,
            "states": replay.states,
            "triggers": replay.triggers,
            "asked_at": replay.created_at,
            "position_at": replay.position_at or replay.created_at_gte,
            "position_id": replay.position_id or _NO_ID,
            "starts_at": replay.starts_at,
            "rate": rate,
            "batch": BATCH,
            "scan": SCAN,
        },
    )
    if moved is None:  # nothing of the range is left
        done, is_last, position = 0, True, (replay.position_at, replay.position_id)
    else:
        done, is_last = moved.done, moved.seen < SCAN and moved.chosen < BATCH
        position = (moved.position_at, moved.position_id)
    return {
        "id": replay.id,
        "done": done,
        "is_last": is_last,
        "position_at": position[0],
        "position_id": position[1],
        "starts_at": replay.starts_at,
        "seconds": done / rate,
    }
