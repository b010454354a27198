"""The rows of deliveries under way: claimed by lease, settled under a fence, both many at a time.

A claim is one short transaction that moves `next_attempt_at` beyond the attempt's deadline and raises the fence.
Whatever dies afterwards is due again by itself; whoever settles too late finds another fence and changes nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Literal
from uuid import UUID

import orjson

from app.db import Database, Tx

SCAN = 400
"""Due rows looked at for one claim: of an endpoint with a backlog only as many are taken as it has room for."""

State = Literal["pending", "succeeded", "failed"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One delivery that is ours until `lease_ends` (on the monotonic clock), and all that sending it takes."""

    delivery_id: UUID
    project_id: UUID
    fence: int
    attempt: int
    """1 for the first."""
    trigger: str
    created_at: datetime
    message_id: UUID
    payload: bytes
    endpoint_id: UUID
    endpoint_state: str
    url: str
    secret_sealed: bytes
    lease_ends: float
    seen_at: float
    """When the endpoint's state, URL and secret were read, on the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a claim ended. `wait_seconds` is until the next attempt of one that stays pending."""

    claim: Claim
    state: State
    wait_seconds: float
    started: float
    """On the monotonic clock."""
    is_attempt: bool = True
    """False where nothing was sent: the claim is given back, and does not count."""
    status: int | None = None
    error: str | None = None
    phases_ms: Mapping[str, float | None] | None = None
    address: str | None = None
    response_body: str | None = None


# A row is pending exactly where it has a next_attempt_at. The second look, under the lock, leaves `state` out: with
# it the planner, whose statistics never know how long the queue is, would take the queue's index for the join.
_CLAIM = """
WITH due AS MATERIALIZED (
    SELECT id, endpoint_id, project_id, next_attempt_at FROM deliveries
    WHERE state = 'pending' AND next_attempt_at <= (SELECT app_now())
      AND endpoint_id <> ALL (CAST(:full AS uuid[])) AND project_id <> ALL (CAST(:full_projects AS uuid[]))
    ORDER BY next_attempt_at LIMIT :scan
), ranked AS (
    SELECT id, project_id, next_attempt_at,
           row_number() OVER (PARTITION BY endpoint_id ORDER BY next_attempt_at) AS place,
           coalesce(CAST(CAST(:rooms AS jsonb) ->> CAST(endpoint_id AS text) AS int), :room) AS room
    FROM due
), fitting AS (
    SELECT id, next_attempt_at, row_number() OVER (PARTITION BY project_id ORDER BY next_attempt_at) AS place,
           coalesce(CAST(CAST(:shares AS jsonb) ->> CAST(project_id AS text) AS int), :share) AS room
    FROM ranked WHERE place <= room
), mine AS (
    SELECT d.id, r.next_attempt_at AS due_at
    FROM fitting r JOIN deliveries d ON d.id = r.id
    WHERE r.place <= r.room AND d.next_attempt_at <= (SELECT app_now())
    ORDER BY r.next_attempt_at LIMIT :batch
    FOR UPDATE OF d SKIP LOCKED
), claimed AS (
    UPDATE deliveries d
    SET next_attempt_at = (SELECT app_now()) + make_interval(secs => :lease),
        attempt_count = d.attempt_count + 1,
        fence = d.fence + 1
    FROM mine
    WHERE d.id = mine.id
    RETURNING d.id, d.fence, d.attempt_count, d.trigger, d.created_at, d.message_id, d.endpoint_id, d.project_id,
              mine.due_at
)
SELECT c.id, c.project_id, c.fence, c.attempt_count, c.trigger, c.created_at, c.message_id, m.payload, c.endpoint_id,
    CASE WHEN e.deleted_at IS NULL THEN e.state ELSE 'deleted' END AS endpoint_state, e.url, e.secret_sealed
FROM claimed c JOIN messages m ON m.id = c.message_id JOIN webhook_endpoints e ON e.id = c.endpoint_id
ORDER BY c.due_at
"""

# Settling uses the fence up: recording the same outcome twice (the answer to a commit was lost) changes nothing.
# Rows are locked in the order of their ids, like everywhere a pending delivery is touched and waited for.
_SETTLE = """
WITH outcome AS (
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:fences AS bigint[]), CAST(:states AS text[]), CAST(:waits AS float8[]),
        CAST(:attempts AS bool[]), CAST(:ages AS float8[]), CAST(:statuses AS int[]), CAST(:errors AS text[]),
        CAST(:phases AS text[]), CAST(:addresses AS text[]), CAST(:bodies AS text[])
    ) AS o (id, fence, state, wait, is_attempt, age, status, error, phases, address, body)
), ours AS (
    SELECT d.id FROM deliveries d JOIN outcome o ON o.id = d.id AND o.fence = d.fence
    ORDER BY d.id FOR UPDATE OF d
), settled AS (
    UPDATE deliveries d
    SET state = o.state,
        next_attempt_at = CASE WHEN o.state = 'pending'
                               THEN (SELECT app_now()) + make_interval(secs => o.wait) END,
        attempt_count = d.attempt_count - CASE WHEN o.is_attempt THEN 0 ELSE 1 END,
        fence = d.fence + 1,
        updated_at = clock_timestamp()
    FROM ours JOIN outcome o ON o.id = ours.id
    WHERE d.id = ours.id
    RETURNING d.id
), logged AS (
    INSERT INTO delivery_attempts (delivery_id, at, status, error, phases_ms, address, response_body)
    SELECT o.id, (SELECT app_now()) - make_interval(secs => o.age), o.status, o.error,
           CAST(o.phases AS jsonb), o.address, o.body
    FROM settled JOIN outcome o ON o.id = settled.id
    WHERE o.is_attempt
)
SELECT id FROM settled
"""

# Only while the URL is the one that answered so: its owner may have put another in its place meanwhile.
_DISABLE = """
WITH gone AS (
    SELECT e.id FROM webhook_endpoints e
    JOIN unnest(CAST(:ids AS uuid[]), CAST(:urls AS text[])) AS g (id, url) ON e.id = g.id AND e.url = g.url
    WHERE e.state <> 'disabled' AND e.deleted_at IS NULL
    ORDER BY e.id FOR NO KEY UPDATE OF e
)
UPDATE webhook_endpoints e
SET state = 'disabled', disabled_reason = 'gone', updated_at = app_now()
FROM gone WHERE e.id = gone.id
"""


async def claim(
    db: Database,
    *,
    batch: int,
    lease_seconds: float,
    room: int,
    rooms: Mapping[UUID, int],
    share: int = SCAN,
    shares: Mapping[UUID, int] | None = None,
) -> list[Claim]:
    """Up to `batch` due deliveries, the longest due first, of an endpoint at most its room, of a project its share.

    `rooms` says so for endpoints that are busy (0: none at all), `room` for all others; so do `shares` and `share` for
    projects. No more than SCAN rows are looked at: what is due behind a long queue of one endpoint, or project, shows
    once that one has no room.
    """
    shares = shares or {}
    seen_at = monotonic()
    params = {
        "full": [endpoint for endpoint, left in rooms.items() if left <= 0],
        "rooms": orjson.dumps({str(endpoint): left for endpoint, left in rooms.items() if left > 0}).decode(),
        "room": room,
        "full_projects": [project for project, left in shares.items() if left <= 0],
        "shares": orjson.dumps({str(project): left for project, left in shares.items() if left > 0}).decode(),
        "share": share,
        "scan": SCAN,
        "batch": batch,
        "lease": lease_seconds,
    }
    async with db.transaction() as tx:
        rows = await tx.rows(_CLAIM, params)
    return [
        Claim(
            delivery_id=row.id,
            project_id=row.project_id,
            fence=row.fence,
            attempt=row.attempt_count,
            trigger=row.trigger,
            created_at=row.created_at,
            message_id=row.message_id,
            payload=row.payload,
            endpoint_id=row.endpoint_id,
            endpoint_state=row.endpoint_state,
            url=row.url,
            secret_sealed=row.secret_sealed,
            lease_ends=seen_at + lease_seconds,
            seen_at=seen_at,
        )
        for row in rows
    ]


_STANDING = """
SELECT d.id, CASE WHEN e.deleted_at IS NULL THEN e.state ELSE 'deleted' END AS endpoint_state, e.url, e.secret_sealed
  FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[])) AS c (id, fence)
  JOIN deliveries d ON d.id = c.id AND d.fence = c.fence
  JOIN webhook_endpoints e ON e.id = d.endpoint_id
"""


async def look_again(db: Database, claims: Sequence[Claim]) -> dict[UUID, Claim]:
    """Claims as they stand now, by delivery: where to, with which secret; what was dropped is not among them."""
    by_id = {claim.delivery_id: claim for claim in claims}
    params = {"ids": list(by_id), "fences": [claim.fence for claim in by_id.values()]}
    seen_at = monotonic()
    async with db.reading() as tx:
        rows = await tx.rows(_STANDING, params)
    return {
        row.id: replace(
            by_id[row.id],
            endpoint_state=row.endpoint_state,
            url=row.url,
            secret_sealed=row.secret_sealed,
            seen_at=seen_at,
        )
        for row in rows
    }


async def settle(db: Database, outcomes: Sequence[Outcome]) -> set[UUID]:
    """Record how claims ended, with one attempt each; the ids that were still ours.

    A 410 disables its endpoint, first: endpoints are locked before deliveries by whoever locks both.
    """
    gone = [outcome.claim for outcome in outcomes if outcome.error == "gone"]
    async with db.transaction() as tx:
        if gone:
            await _disable(tx, gone)
        rows = await tx.rows(_SETTLE, _columns(outcomes))
    return {row.id for row in rows}


async def _disable(tx: Tx, gone: Sequence[Claim]) -> None:
    urls = {claim.endpoint_id: claim.url for claim in gone}
    await tx.execute(_DISABLE, {"ids": list(urls), "urls": list(urls.values())})


def _columns(outcomes: Sequence[Outcome]) -> dict[str, list[object]]:
    now = monotonic()
    return {
        "ids": [o.claim.delivery_id for o in outcomes],
        "fences": [o.claim.fence for o in outcomes],
        "states": [o.state for o in outcomes],
        "waits": [o.wait_seconds for o in outcomes],
        "attempts": [o.is_attempt for o in outcomes],
        "ages": [now - o.started for o in outcomes],
        "statuses": [o.status for o in outcomes],
        "errors": [o.error for o in outcomes],
        "phases": [orjson.dumps(o.phases_ms or {}).decode() for o in outcomes],
        "addresses": [o.address for o in outcomes],
        "bodies": [o.response_body for o in outcomes],
    }


def per_endpoint(claims: Sequence[Claim]) -> Counter[UUID]:
    """How many claims each endpoint got."""
    return Counter(claim.endpoint_id for claim in claims)
