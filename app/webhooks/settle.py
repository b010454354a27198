"""The record of attempts: how claims ended, and what that means for their endpoints, lanes and gaps.

One transaction for many outcomes. Each counts under the fence of its claim only: what was claimed again meanwhile, or
was dropped, changes nothing. Endpoints are locked before deliveries, and deliveries in the order of their ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Literal, NamedTuple
from uuid import UUID

import orjson

from app.db import DATABASE_ERRORS, Database, DirectTx
from app.telemetry import log
from app.webhooks.claims import Claim
from app.webhooks.launches import URGENT
from app.webhooks.payloads import EVENTS_UPDATE
from app.webhooks.standing import THROTTLING, Result, judge

State = Literal["pending", "succeeded", "failed"]


class Outcome(NamedTuple):
    """How a claim ended. `wait_seconds` is until the next attempt of one that stays pending."""

    claim: Claim
    state: State
    wait_seconds: float
    started: float
    """On the monotonic clock."""
    is_attempt: bool = True
    """False where nothing was sent: the claim is given back, and does not count."""
    is_charged: bool = True
    """False where the fault was not the endpoint's."""
    retry_after: float = 0.0
    """Seconds, as the endpoint asked for."""
    status: int | None = None
    error: str | None = None
    phases_ms: Mapping[str, float | None] | None = None
    address: str | None = None
    response_body: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """The ids that were still ours, and whether something became due by that: here, or to launching."""

    ours: set[UUID]
    is_more: bool
    are_bots_due: bool = False


# Settling uses the fence up: recording the same outcome twice (the answer to a commit was lost) changes nothing.
# Rows are locked in the order of their ids, like everywhere a pending delivery is touched and waited for.
_SETTLE = f"""
WITH outcome AS (
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:fences AS bigint[]), CAST(:states AS text[]), CAST(:waits AS float8[]),
        CAST(:attempts AS bool[]), CAST(:ages AS float8[]), CAST(:statuses AS int[]), CAST(:errors AS text[]),
        CAST(:phases AS text[]), CAST(:addresses AS text[]), CAST(:bodies AS text[]), CAST(:priorities AS int[])
    ) AS o (id, fence, state, wait, is_attempt, age, status, error, phases, address, body, priority)
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
        is_claimed = false,
        priority = CASE WHEN d.priority = {URGENT} THEN {URGENT} ELSE o.priority END,
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
"""  # noqa: S608 - a number of ours

# Whose turn it is in a lane once its head is done. Its fence is raised, so that who has just seen it wait does not put
# it off; it is locked with the heads, so that all are locked in one order.
_LOCK_LANES = """
SELECT d.id FROM deliveries d
 WHERE d.id = ANY (CAST(:ids AS uuid[])) OR d.id IN (
    SELECT (SELECT n.id FROM deliveries n
             WHERE n.endpoint_id = h.endpoint_id AND n.lane = h.lane AND n.state = 'pending' AND n.seq > h.seq
             ORDER BY n.seq LIMIT 1)
      FROM unnest(CAST(:endpoints AS uuid[]), CAST(:lanes AS uuid[]), CAST(:seqs AS bigint[])) AS h (
        endpoint_id, lane, seq
      )
 )
 ORDER BY d.id FOR UPDATE
"""

_NEXT_IN_LANE = """
UPDATE deliveries d SET next_attempt_at = app_now(), fence = d.fence + 1
 WHERE NOT (d.is_claimed AND d.next_attempt_at > app_now()) AND d.id IN (
    SELECT (SELECT n.id FROM deliveries n
             WHERE n.endpoint_id = h.endpoint_id AND n.lane = h.lane AND n.state = 'pending'
             ORDER BY n.seq LIMIT 1)
      FROM unnest(CAST(:endpoints AS uuid[]), CAST(:lanes AS uuid[])) AS h (endpoint_id, lane)
 ) AND d.id = ANY (CAST(:locked AS uuid[])) AND d.id <> ALL (CAST(:ids AS uuid[]))
"""

# What the release before published says its range in the payload only.
_OPEN_GAPS = """
INSERT INTO delivery_gaps (endpoint_id, calendar_id, from_seq, to_seq)
SELECT d.endpoint_id, d.calendar_id, min(r.from_seq), max(r.to_seq)
  FROM deliveries d JOIN messages m ON m.id = d.message_id
 CROSS JOIN LATERAL (
    SELECT m.from_seq, m.to_seq WHERE m.from_seq IS NOT NULL
    UNION ALL
    SELECT CAST(p.data ->> 'from_seq' AS bigint), CAST(p.data ->> 'to_seq' AS bigint)
      FROM (SELECT CAST(convert_from(m.payload, 'UTF8') AS json) -> 'data' AS data WHERE m.from_seq IS NULL) p
 ) r
 WHERE d.id = ANY (CAST(:ids AS uuid[])) AND d.calendar_id IS NOT NULL AND r.from_seq IS NOT NULL
 GROUP BY d.endpoint_id, d.calendar_id
 ORDER BY d.endpoint_id, d.calendar_id
ON CONFLICT (endpoint_id, calendar_id) DO UPDATE
   SET from_seq = least(delivery_gaps.from_seq, excluded.from_seq),
       to_seq = greatest(delivery_gaps.to_seq, excluded.to_seq)
"""

# What lies beyond the digest is lacking still: it was given up, or waits in the next one.
_CLOSE_GAPS = """
WITH told AS (
    SELECT g.endpoint_id, g.calendar_id, m.to_seq FROM delivery_gaps g
      JOIN deliveries d ON d.endpoint_id = g.endpoint_id AND d.calendar_id = g.calendar_id
      JOIN messages m ON m.id = d.message_id AND g.from_seq BETWEEN m.from_seq AND m.to_seq
     WHERE d.id = ANY (CAST(:ids AS uuid[]))
     ORDER BY g.endpoint_id, g.calendar_id FOR UPDATE OF g
), most AS (
    SELECT endpoint_id, calendar_id, max(to_seq) AS to_seq FROM told GROUP BY endpoint_id, calendar_id
), narrowed AS (
    UPDATE delivery_gaps g SET from_seq = m.to_seq + 1 FROM most m
     WHERE g.endpoint_id = m.endpoint_id AND g.calendar_id = m.calendar_id AND g.to_seq > m.to_seq
)
DELETE FROM delivery_gaps g USING most m
 WHERE g.endpoint_id = m.endpoint_id AND g.calendar_id = m.calendar_id AND g.to_seq <= m.to_seq
"""


# The same once more, after the commit: what was published while the record was under way may have been seen waiting
# behind a head that was done, and put off.
_WAKE_LANES = """
WITH waiting AS (
    SELECT d.id FROM deliveries d
     WHERE NOT (d.is_claimed AND d.next_attempt_at > app_now()) AND d.id IN (
        SELECT (SELECT n.id FROM deliveries n
                 WHERE n.endpoint_id = h.endpoint_id AND n.lane = h.lane AND n.state = 'pending'
                 ORDER BY n.seq LIMIT 1)
          FROM unnest(CAST(:endpoints AS uuid[]), CAST(:lanes AS uuid[])) AS h (endpoint_id, lane)
     )
     ORDER BY d.id FOR UPDATE
)
UPDATE deliveries d SET next_attempt_at = least(d.next_attempt_at, app_now()), fence = d.fence + 1
  FROM waiting WHERE d.id = waiting.id AND d.attempt_count = 0
"""

# A bot whose launch was answered is looked at now. Whoever holds one may be waiting for what is locked here, so nobody
# waits for a bot: one that is in other hands is looked at again by itself.
_WAKE_BOTS = """
WITH awaiting AS (
    SELECT b.id FROM bots b
      JOIN unnest(CAST(:ids AS uuid[]), CAST(:messages AS uuid[])) AS l (id, message_id)
        ON l.id = b.id AND l.message_id = b.launch_message_id
     WHERE b.state = 'launching' AND b.due_at > app_now()
     ORDER BY b.id FOR NO KEY UPDATE OF b SKIP LOCKED
)
UPDATE bots b SET due_at = app_now() FROM awaiting a WHERE b.id = a.id
"""


async def settle(db: Database, outcomes: Sequence[Outcome]) -> Settled:
    """Record how claims ended, with one attempt each, and what that means for their endpoints and lanes.

    Endpoints are locked before deliveries, deliveries in the order of their ids, by whoever waits for them. Bots are
    last, and waited for by nobody.
    """
    outcomes = _latest(outcomes)
    async with db.direct() if all(map(_is_plain, outcomes)) else db.writing() as tx:
        is_changed = await _judge(tx, outcomes)
        ended = [o.claim for o in outcomes if o.claim.lane is not None and o.state != "pending"]
        locked = await _lock_lanes(tx, outcomes, ended) if ended else []
        rows = await tx.rows(_SETTLE, _columns(outcomes))
        ours = {row.id for row in rows}
        await _mark_gaps(tx, [o for o in outcomes if o.claim.delivery_id in ours])
        heads = [claim for claim in ended if claim.delivery_id in ours]
        if heads:
            await tx.execute(_NEXT_IN_LANE, _heads(heads) | {"locked": locked, "ids": list(ours)})
        are_bots_due = await _wake_bots(tx, [o for o in outcomes if o.claim.delivery_id in ours])
    if heads:
        await _wake_lanes(db, heads)
    return Settled(ours, is_more=is_changed or bool(heads), are_bots_due=are_bots_due)


async def _wake_bots(tx: DirectTx, outcomes: Sequence[Outcome]) -> bool:
    """Make due the bots whose launches ended; whether there are any."""
    ended = {
        o.claim.launch.bot_id: o.claim.message_id
        for o in outcomes
        if o.claim.launch is not None and o.state != "pending"
    }
    if not ended:
        return False
    return await tx.execute(_WAKE_BOTS, {"ids": list(ended), "messages": list(ended.values())}) > 0


async def _wake_lanes(db: Database, heads: Sequence[Claim]) -> None:
    """Recorded is recorded: where this fails, who waits in a lane is looked at after BLOCKED_SECONDS."""
    try:
        async with db.direct() as tx:
            await tx.execute(_WAKE_LANES, _heads(heads))
    except DATABASE_ERRORS as exc:
        log.warning("delivery.lanes_not_woken", error=type(exc).__name__)


def _is_plain(outcome: Outcome) -> bool:
    """Whether it means nothing for endpoint, lane, gap or bot: recording it is one statement then; the usual case."""
    claim = outcome.claim
    if outcome.state == "pending":
        return not outcome.is_attempt
    return (
        outcome.state == "succeeded"
        and claim.is_well
        and claim.lane is None
        and not claim.is_digest
        and claim.launch is None
    )


def _latest(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Of each delivery the outcome under the highest fence: who was away for a lease may have claimed one twice."""
    latest: dict[UUID, Outcome] = {}
    for outcome in outcomes:
        known = latest.get(outcome.claim.delivery_id)
        if known is None or known.claim.fence < outcome.claim.fence:
            latest[outcome.claim.delivery_id] = outcome
    return list(latest.values())


_CURRENT = """
SELECT d.id FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[])) AS c (id, fence)
  JOIN deliveries d ON d.id = c.id AND d.fence = c.fence
"""


async def _judge(tx: DirectTx, outcomes: Sequence[Outcome]) -> bool:
    """Tell the endpoints whose standing these outcomes may change; whether one changed its state."""
    telling = [o for o in outcomes if o.is_attempt and o.is_charged and (o.state != "succeeded" or not o.claim.is_well)]
    if not telling:
        return False
    params = {"ids": [o.claim.delivery_id for o in telling], "fences": [o.claim.fence for o in telling]}
    current = {row.id for row in await tx.rows(_CURRENT, params)}
    now: datetime = await tx.scalar("SELECT app_now()")
    results: dict[UUID, tuple[str, list[Result]]] = {}
    for outcome in outcomes:  # all of them: a success between two failures counts
        claim = outcome.claim
        if outcome.is_attempt and outcome.is_charged and (claim.delivery_id in current or outcome.state == "succeeded"):
            results.setdefault(claim.endpoint_id, (claim.url, []))[1].append(_result(outcome, now))
    asked = {o.claim.endpoint_id for o in telling if o.claim.delivery_id in current}
    results = {endpoint: told for endpoint, told in results.items() if endpoint in asked}
    return await judge(tx, results) if results else False


def _result(outcome: Outcome, now: datetime) -> Result:
    at = now - timedelta(seconds=monotonic() - outcome.started)
    if outcome.state == "succeeded":
        return Result(at, "succeeded")
    if outcome.error == "gone":
        return Result(at, "gone")
    return Result(at, "throttled" if outcome.status in THROTTLING else "failed", outcome.retry_after)


async def _lock_lanes(tx: DirectTx, outcomes: Sequence[Outcome], ended: Sequence[Claim]) -> list[UUID]:
    params = _heads(ended) | {"ids": [o.claim.delivery_id for o in outcomes], "seqs": [c.seq for c in ended]}
    return [row.id for row in await tx.rows(_LOCK_LANES, params)]


def _heads(claims: Sequence[Claim]) -> dict[str, list[object]]:
    return {"endpoints": [c.endpoint_id for c in claims], "lanes": [c.lane for c in claims]}


async def _mark_gaps(tx: DirectTx, outcomes: Sequence[Outcome]) -> None:
    """Remember from where an endpoint lacks a calendar's changes; forget it once a digest was acknowledged."""
    told = [o for o in outcomes if o.claim.trigger == EVENTS_UPDATE]
    lost = [o.claim.delivery_id for o in told if o.state == "failed"]
    caught_up = [o.claim.delivery_id for o in told if o.state == "succeeded" and o.claim.is_digest]
    if lost:
        await tx.execute(_OPEN_GAPS, {"ids": lost})
    if caught_up:
        await tx.execute(_CLOSE_GAPS, {"ids": caught_up})


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
        "priorities": [int(o.is_attempt or not o.claim.is_first) for o in outcomes],
    }
