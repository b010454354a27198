"""Digests: what an endpoint that fails, or is disabled, still has to be told of a calendar, in one message.

Its pending `calendar.events_update` of a calendar are merged: they end as `merged`, and one message takes their place,
with an id of its own. Until its first attempt a digest takes in what follows; then its bytes are fixed, and the next
one takes it in, unless it may be under way just then. It begins where the endpoint's knowledge ends: ranges of digests
may overlap, and leave no gap.
"""

from collections.abc import Collection, Sequence
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

from app.db import Row, Tx
from app.ids import new_id
from app.runtime import Runtime
from app.webhooks.payloads import Digest, events_digest

KEYS_AT_ONCE = 4
"""In one transaction, whose messages are read and rendered without a break: so long nothing else moves."""
MESSAGES_AT_ONCE = 250
"""Of one calendar, for one endpoint: what is more is merged with the next look."""

_LOCK = """
SELECT id FROM webhook_endpoints
 WHERE id = ANY (CAST(:ids AS uuid[])) AND state <> 'enabled' AND deleted_at IS NULL
 ORDER BY id FOR NO KEY UPDATE
"""

# Not what is under way: claimed, under a lease that has not ended.
_PENDING = """
WITH mine AS (
    SELECT d.id
      FROM unnest(CAST(:endpoints AS uuid[]), CAST(:calendars AS uuid[])) AS k (endpoint_id, calendar_id)
      CROSS JOIN LATERAL (
        SELECT d.id FROM deliveries d
         WHERE d.calendar_id = k.calendar_id AND d.endpoint_id = k.endpoint_id AND d.state = 'pending'
           AND d.trigger = 'calendar.events_update'
           AND (NOT d.is_claimed OR d.next_attempt_at <= app_now())
         ORDER BY d.is_digest DESC, d.seq LIMIT :most
      ) d
), locked AS (
    SELECT d.id, d.endpoint_id, d.calendar_id, d.project_id, d.lane, d.message_id, d.seq, d.is_digest, d.attempt_count,
           d.merged_count
      FROM deliveries d JOIN mine ON mine.id = d.id
     WHERE d.state = 'pending' AND (NOT d.is_claimed OR d.next_attempt_at <= app_now())
     ORDER BY d.id FOR UPDATE OF d
)
SELECT l.*, m.payload, g.from_seq AS gap_seq, app_now() AS now
  FROM locked l JOIN messages m ON m.id = l.message_id
  LEFT JOIN delivery_gaps g ON g.endpoint_id = l.endpoint_id AND g.calendar_id = l.calendar_id
 ORDER BY l.endpoint_id, l.calendar_id, l.seq NULLS FIRST, l.id
"""

_MERGED = """
UPDATE deliveries SET state = 'merged', next_attempt_at = NULL, fence = fence + 1, updated_at = clock_timestamp()
 WHERE id = ANY (CAST(:ids AS uuid[]))
"""

_MESSAGES = """
INSERT INTO messages (id, project_id, calendar_id, trigger, payload, from_seq, to_seq)
SELECT id, project_id, calendar_id, 'calendar.events_update', payload, from_seq, to_seq
  FROM unnest(
    CAST(:ids AS uuid[]), CAST(:projects AS uuid[]), CAST(:calendars AS uuid[]), CAST(:payloads AS bytea[]),
    CAST(:from AS bigint[]), CAST(:to AS bigint[])
  ) AS m (id, project_id, calendar_id, payload, from_seq, to_seq)
"""

_DELIVERIES = """
INSERT INTO deliveries (
    id, project_id, message_id, endpoint_id, calendar_id, trigger, state, next_attempt_at, lane, is_digest, merged_count
)
SELECT id, project_id, message_id, endpoint_id, calendar_id, 'calendar.events_update', 'pending', app_now(), lane, true,
       merged_count
  FROM unnest(
    CAST(:deliveries AS uuid[]), CAST(:projects AS uuid[]), CAST(:ids AS uuid[]), CAST(:endpoints AS uuid[]),
    CAST(:calendars AS uuid[]), CAST(:lanes AS uuid[]), CAST(:counts AS int[])
  ) AS d (id, project_id, message_id, endpoint_id, calendar_id, lane, merged_count)
"""

_GROWN_MESSAGES = """
UPDATE messages m SET payload = n.payload, from_seq = n.from_seq, to_seq = n.to_seq
  FROM unnest(CAST(:ids AS uuid[]), CAST(:payloads AS bytea[]), CAST(:from AS bigint[]), CAST(:to AS bigint[]))
       AS n (id, payload, from_seq, to_seq)
 WHERE m.id = n.id
"""

_GROWN_DELIVERIES = """
UPDATE deliveries d
   SET merged_count = n.merged_count, next_attempt_at = app_now(), fence = fence + 1, updated_at = clock_timestamp()
  FROM unnest(CAST(:deliveries AS uuid[]), CAST(:counts AS int[])) AS n (id, merged_count)
 WHERE d.id = n.id
"""

_GAPS = """
INSERT INTO delivery_gaps (endpoint_id, calendar_id, from_seq, to_seq)
SELECT endpoint_id, calendar_id, from_seq, to_seq
  FROM unnest(
    CAST(:endpoints AS uuid[]), CAST(:calendars AS uuid[]), CAST(:from AS bigint[]), CAST(:to AS bigint[])
  ) AS g (endpoint_id, calendar_id, from_seq, to_seq)
 WHERE from_seq IS NOT NULL
 ORDER BY endpoint_id, calendar_id
ON CONFLICT (endpoint_id, calendar_id) DO UPDATE
   SET from_seq = least(delivery_gaps.from_seq, excluded.from_seq),
       to_seq = greatest(delivery_gaps.to_seq, excluded.to_seq)
"""

# Whose turn it is in a lane after what was merged: it waits for a head that is no more.
_NEXT_IN_LANE = """
WITH next AS (
    SELECT d.id FROM deliveries d
     WHERE d.id IN (
        SELECT (SELECT n.id FROM deliveries n
                 WHERE n.endpoint_id = h.endpoint_id AND n.lane = h.lane AND n.state = 'pending'
                 ORDER BY n.seq LIMIT 1)
          FROM unnest(CAST(:endpoints AS uuid[]), CAST(:lanes AS uuid[])) AS h (endpoint_id, lane)
         WHERE h.lane IS NOT NULL
     ) AND d.next_attempt_at > app_now() AND NOT d.is_claimed
     ORDER BY d.id FOR UPDATE SKIP LOCKED
)
UPDATE deliveries d SET next_attempt_at = app_now(), fence = fence + 1 FROM next WHERE d.id = next.id
"""


class _Digest(NamedTuple):
    """A digest as it is now, and what it is made of; `is_new` unless it was there and has had no attempt."""

    delivery_id: UUID
    message_id: UUID
    content: Digest
    message_count: int
    is_new: bool
    merged: Sequence[Row]


async def merge(rt: Runtime, keys: Collection[tuple[UUID, UUID]]) -> int:
    """Merge what waits for these endpoints and calendars; how many messages were.

    An endpoint that is well again by now is left alone: its messages go out one by one.
    """
    merged = 0
    wanted = sorted(keys)
    for start in range(0, len(wanted), KEYS_AT_ONCE):
        part = wanted[start : start + KEYS_AT_ONCE]
        async with rt.db.transaction() as tx:
            merged += await _merge(tx, part)
    return merged


async def _merge(tx: Tx, keys: Sequence[tuple[UUID, UUID]]) -> int:
    locked = {row.id for row in await tx.rows(_LOCK, {"ids": sorted({endpoint for endpoint, _ in keys})})}
    keys = [key for key in keys if key[0] in locked]
    params = {
        "endpoints": [endpoint for endpoint, _ in keys],
        "calendars": [calendar for _, calendar in keys],
        "most": MESSAGES_AT_ONCE,
    }
    rows = await tx.rows(_PENDING, params) if keys else []
    groups = [list(group) for _, group in groupby(rows, lambda row: (row.endpoint_id, row.calendar_id))]
    digests = [_digest(group) for group in groups if not all(row.is_digest for row in group)]
    if not digests:
        return 0
    merged = [row.id for digest in digests for row in digest.merged]
    await tx.execute(_MERGED, {"ids": merged})
    new, grown = _columns([d for d in digests if d.is_new]), _columns([d for d in digests if not d.is_new])
    if new["ids"]:
        await tx.execute(_MESSAGES, _only(new, "ids", "projects", "calendars", "payloads", "from", "to"))
        await tx.execute(
            _DELIVERIES, _only(new, "deliveries", "projects", "ids", "endpoints", "calendars", "lanes", "counts")
        )
    if grown["ids"]:
        await tx.execute(_GROWN_MESSAGES, _only(grown, "ids", "payloads", "from", "to"))
        await tx.execute(_GROWN_DELIVERIES, _only(grown, "deliveries", "counts"))
    of_all = _columns(digests)
    await tx.execute(_GAPS, _only(of_all, "endpoints", "calendars", "from", "to"))
    if any(of_all["lanes"]):
        await tx.execute(_NEXT_IN_LANE, _only(of_all, "endpoints", "lanes"))
    return len(merged)


def _digest(rows: Sequence[Row]) -> _Digest:
    growing = next((row for row in rows if row.is_digest and row.attempt_count == 0), None)
    merged = [row for row in rows if row is not growing]
    message_id = growing.message_id if growing else new_id()
    count = sum(row.merged_count if row.is_digest else 1 for row in rows)
    content = events_digest(
        message_id, at=rows[0].now, messages=[row.payload for row in rows], count=count, from_seq=rows[0].gap_seq
    )
    return _Digest(growing.id if growing else new_id(), message_id, content, count, growing is None, merged)


def _columns(digests: Sequence[_Digest]) -> dict[str, list[object]]:
    first = [digest.merged[0] for digest in digests]
    return {
        "deliveries": [digest.delivery_id for digest in digests],
        "ids": [digest.message_id for digest in digests],
        "payloads": [digest.content.payload for digest in digests],
        "from": [digest.content.from_seq for digest in digests],
        "to": [digest.content.to_seq for digest in digests],
        "counts": [digest.message_count for digest in digests],
        "projects": [row.project_id for row in first],
        "endpoints": [row.endpoint_id for row in first],
        "calendars": [row.calendar_id for row in first],
        "lanes": [next((row.lane for row in digest.merged if row.lane), None) for digest in digests],  # not: sent again
    }


def _only(columns: dict[str, list[object]], *names: str) -> dict[str, list[object]]:
    return {name: columns[name] for name in names}
