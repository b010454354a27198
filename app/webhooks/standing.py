"""How an endpoint stands: what its answers do to it, and how it comes back.

A row per endpoint, shared by all workers. One success makes it well. Failures, and nothing but failures, open its
breaker, then make it `failing`, then disable it; 410 disables it at once; 429, 502 and 504 throttle it. While the
breaker is open nothing is sent; then one attempt at a time, until one succeeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from app.db import DirectTx, Row, Tx
from app.telemetry import ENDPOINT_CHANGES, log

EndpointState = Literal["enabled", "failing", "disabled"]

BREAKER_FAILURES = 10
"""So many failures in a row open the breaker."""
PAUSE_SECONDS = 5.0
"""The first pause; each one that follows without a success between is twice as long."""
PAUSE_MAX_SECONDS = 900.0
RETRY_AFTER_MAX_SECONDS = 86_400.0
RESUMED_AT_ONCE = 1_000
HURRIED_AT_ONCE = 5_000
"""A statement ends in time, however many wait. One of a calendar brings the others along; the rest have their own."""
FAILING_AFTER, FAILING_COUNT = timedelta(days=1), 5
DISABLED_AFTER, DISABLED_COUNT = timedelta(days=5), 20
THROTTLING = frozenset({429, 502, 504})
"""Standard Webhooks: answers of a receiver, or of what stands before it, that has too much to do."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one attempt went, as far as its endpoint is concerned."""

    at: datetime
    kind: Literal["succeeded", "failed", "throttled", "gone"]
    retry_after: float = 0.0
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The part of an endpoint's row that its answers change."""

    state: EndpointState
    disabled_reason: str | None = None
    failure_count: int = 0
    """Attempts since the last success."""
    failing_since: datetime | None = None
    """When the first of them began."""
    paused_until: datetime | None = None
    pause_count: int = 0
    """Pauses since the last success."""

    @property
    def is_held(self) -> bool:
        """Whether first attempts may have been put off."""
        return self.is_probed or self.paused_until is not None

    @property
    def is_probed(self) -> bool:
        """Whether attempts go out one at a time, under a slot of their own."""
        return self.state == "failing" or self.failure_count >= BREAKER_FAILURES


def judged(standing: Standing, results: Sequence[Result], *, now: datetime) -> Standing:
    """The standing after these results, in the order in which they came."""
    for result in results:
        if standing.state == "disabled":
            break
        if result.kind == "gone":
            standing = replace(standing, state="disabled", disabled_reason="gone")
        elif result.kind == "succeeded":
            standing = Standing("enabled")
        else:
            standing = _failed(standing, result, now=now)
    return standing


def _failed(standing: Standing, result: Result, *, now: datetime) -> Standing:
    count, since = standing.failure_count + 1, standing.failing_since or result.at
    standing = _paused(replace(standing, failure_count=count, failing_since=since), result, now=now)
    if count >= DISABLED_COUNT and now - since >= DISABLED_AFTER:
        return replace(standing, state="disabled", disabled_reason="failed_for_days")
    if count >= FAILING_COUNT and now - since >= FAILING_AFTER:
        return replace(standing, state="failing")
    return standing


def _paused(standing: Standing, result: Result, *, now: datetime) -> Standing:
    is_throttled = result.kind == "throttled"
    if not is_throttled and standing.failure_count < BREAKER_FAILURES:
        return standing
    asked = now + timedelta(seconds=min(result.retry_after, RETRY_AFTER_MAX_SECONDS) if is_throttled else 0.0)
    if standing.paused_until is not None and standing.paused_until > now:  # attempts that were under way before
        return replace(standing, paused_until=max(standing.paused_until, asked))
    pause = min(PAUSE_SECONDS * 2.0 ** min(standing.pause_count, 16), PAUSE_MAX_SECONDS)
    until = max(asked, now + timedelta(seconds=pause))
    return replace(standing, paused_until=until, pause_count=standing.pause_count + 1)


# Only while the URL is the one that answered so: its owner may have put another in its place meanwhile.
_LOCK = """
SELECT e.id, e.state, e.disabled_reason, e.failure_count, e.failing_since, e.paused_until, e.pause_count,
       app_now() AS now
  FROM webhook_endpoints e
  JOIN unnest(CAST(:ids AS uuid[]), CAST(:urls AS text[])) AS g (id, url) ON e.id = g.id AND e.url = g.url
 WHERE e.deleted_at IS NULL
 ORDER BY e.id FOR NO KEY UPDATE OF e
"""

_WRITE = """
UPDATE webhook_endpoints e
   SET state = n.state, disabled_reason = n.disabled_reason, failure_count = n.failure_count,
       failing_since = n.failing_since, paused_until = n.paused_until, pause_count = n.pause_count,
       next_slot_at = CASE WHEN n.is_slot_kept THEN e.next_slot_at END,
       updated_at = CASE WHEN e.state = n.state THEN e.updated_at ELSE app_now() END
  FROM unnest(
        CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:reasons AS text[]), CAST(:counts AS int[]),
        CAST(:since AS timestamptz[]), CAST(:paused AS timestamptz[]), CAST(:pauses AS int[]), CAST(:kept AS bool[])
  ) AS n (id, state, disabled_reason, failure_count, failing_since, paused_until, pause_count, is_slot_kept)
 WHERE e.id = n.id
"""

# What waits for a later attempt becomes part of a digest at once, and not only when its time has come. What is
# under way is left to itself.
_HURRY = """
WITH waiting AS (
    SELECT id FROM deliveries
     WHERE endpoint_id = ANY (CAST(:ids AS uuid[])) AND created_at > app_now() - make_interval(days => :days)
       AND state = 'pending' AND trigger = 'calendar.events_update' AND NOT is_digest
       AND next_attempt_at > app_now() AND NOT is_claimed
     ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED
)
UPDATE deliveries d SET next_attempt_at = app_now() FROM waiting WHERE d.id = waiting.id
"""

# Whatever it cost while its endpoint failed, a digest begins its schedule anew, sealed if it was.
_RELEASE = """
WITH waiting AS (
    SELECT d.id FROM delivery_gaps g
      JOIN deliveries d ON d.calendar_id = g.calendar_id AND d.endpoint_id = g.endpoint_id
     WHERE g.endpoint_id = ANY (CAST(:ids AS uuid[])) AND d.state = 'pending' AND d.is_digest
       AND NOT d.is_claimed
     ORDER BY d.id FOR UPDATE OF d SKIP LOCKED
)
UPDATE deliveries d
   SET next_attempt_at = app_now(), attempt_count = least(attempt_count, 1), fence = fence + 1
  FROM waiting WHERE d.id = waiting.id
"""

# What was put off while it was paused or its breaker was open, the longest due first; what is left of many is due with
# the next slot.
_RESUME = """
WITH waiting AS (
    SELECT d.id FROM unnest(CAST(:ids AS uuid[]), CAST(:since AS timestamptz[])) AS e (id, since)
     CROSS JOIN LATERAL (
        SELECT id FROM deliveries
         WHERE endpoint_id = e.id AND created_at > e.since - interval '1 hour' AND state = 'pending' AND priority = 0
           AND next_attempt_at > app_now() AND NOT is_claimed
         ORDER BY created_at LIMIT :most
     ) o JOIN deliveries d ON d.id = o.id
     WHERE d.state = 'pending' AND NOT d.is_claimed
     ORDER BY d.id FOR UPDATE OF d SKIP LOCKED
)
UPDATE deliveries d SET next_attempt_at = app_now(), fence = fence + 1 FROM waiting WHERE d.id = waiting.id
"""


async def judge(tx: DirectTx, results: Mapping[UUID, tuple[str, Sequence[Result]]]) -> bool:
    """Apply results to their endpoints, by id with the URL that was asked; whether something became due by that.

    Locks the endpoints, so it comes before any delivery is locked.
    """
    params = {"ids": list(results), "urls": [url for url, _ in results.values()]}
    before: dict[UUID, Standing] = {}
    after: dict[UUID, Standing] = {}
    for row in await tx.rows(_LOCK, params):
        before[row.id] = _standing(row)
        after[row.id] = judged(before[row.id], results[row.id][1], now=row.now)
    new = {id_: standing for id_, standing in after.items() if standing != before[id_]}
    if new:
        await tx.execute(_WRITE, _columns(before, new))
    changed = [(id_, standing.state) for id_, standing in new.items() if standing.state != before[id_].state]
    failing = [id_ for id_, state in changed if state != "enabled"]
    if failing:
        days = DISABLED_AFTER.days + 1
        await tx.execute(_HURRY, {"ids": failing, "days": days, "most": HURRIED_AT_ONCE})
    closed = {id_: before[id_].failing_since for id_ in new if before[id_].is_held and not new[id_].is_held}
    if closed:
        await resume(tx, closed)
    well = [id_ for id_, state in changed if state == "enabled"]
    if well:
        await release(tx, well)
    if changed:
        tx.after_commit(lambda: _tell(changed))
    return bool(changed or closed)


async def release(tx: Tx | DirectTx, endpoint_ids: Sequence[UUID]) -> int:
    """Make the digests of endpoints that came back due now; how many. Lock the endpoints before."""
    return await tx.execute(_RELEASE, {"ids": list(endpoint_ids)})


async def resume(tx: Tx | DirectTx, endpoints: Mapping[UUID, datetime | None]) -> int:
    """Make due what was put off for endpoints since they began to fail; how many. Lock the endpoints before."""
    params = {"ids": list(endpoints), "since": list(endpoints.values()), "most": RESUMED_AT_ONCE}
    return await tx.execute(_RESUME, params)


def _tell(changed: Sequence[tuple[UUID, EndpointState]]) -> None:
    for id_, state in changed:
        ENDPOINT_CHANGES.labels(state).inc()
        log.info("endpoint.state_changed", endpoint=str(id_), state=state)


def _standing(row: Row) -> Standing:
    return Standing(
        state=row.state,
        disabled_reason=row.disabled_reason,
        failure_count=row.failure_count,
        failing_since=row.failing_since,
        paused_until=row.paused_until,
        pause_count=row.pause_count,
    )


def _columns(before: Mapping[UUID, Standing], after: Mapping[UUID, Standing]) -> dict[str, list[object]]:
    rows = after.values()
    return {
        "ids": list(after),
        "states": [s.state for s in rows],
        "reasons": [s.disabled_reason for s in rows],
        "counts": [s.failure_count for s in rows],
        "since": [s.failing_since for s in rows],
        "paused": [s.paused_until for s in rows],
        "pauses": [s.pause_count for s in rows],
        "kept": [not before[id_].is_probed for id_ in after],  # what ended was a probe: its slot is free
    }
