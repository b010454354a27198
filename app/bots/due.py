"""Bots that are due: taken under a lease, and brought as far as they come without a call.

One transaction takes many. What needs a call leaves it with its intent written down: whoever dies after that leaves a
bot that is due again when its lease is over, and of which the next one knows that a start may have been made. A
launcher is read once its bots are held, and keeps address and key until the commit: who changes it sees them then.
"""

from collections.abc import Mapping
from dataclasses import replace
from time import monotonic
from typing import Final
from uuid import UUID

from app.bots import messages
from app.bots.calls import doubted, missed
from app.bots.checking import IS_AWAITED, STANDS, looked
from app.bots.outcomes import After, BackEnd, Claim, record
from app.bots.records import COLUMNS
from app.bots.standing import LIVE
from app.db import Row, Tx
from app.runtime import Runtime

LEASE_SECONDS: Final = 90.0
"""Longer than the calls of one step together take at most, and the record after them."""
SCAN: Final = 400
"""Due bots that are looked at for one claim; what is behind many of one launcher shows once that one has no room."""

# What is handed over, or may be, belongs to the launcher that has it; all else goes to the one it would have now.
_CLAIM: Final = f"""
WITH due AS MATERIALIZED (
    SELECT b.id, b.due_at, t.id AS to_id
      FROM bots b
      LEFT JOIN launchers l ON l.id = b.launcher_id AND l.deleted_at IS NULL
      LEFT JOIN launchers d ON d.project_id = b.project_id AND d.is_default AND d.deleted_at IS NULL
     CROSS JOIN LATERAL (
           SELECT CASE WHEN b.handed_revision IS NOT NULL OR b.starting_since IS NOT NULL THEN b.handed_to
                       ELSE coalesce(l.id, d.id) END AS id) t
     WHERE b.due_at <= (SELECT app_now()) AND (b.lease_until IS NULL OR b.lease_until <= (SELECT app_now()))
       AND b.transfer_since IS NULL AND (t.id IS NULL OR t.id <> ALL (CAST(:full AS uuid[]))) AND NOT {IS_AWAITED}
     ORDER BY b.due_at LIMIT :scan
), placed AS (
    SELECT d.*, row_number() OVER (PARTITION BY d.to_id ORDER BY d.due_at) AS place FROM due d
), chosen AS (
    SELECT p.id, p.to_id
      FROM placed p LEFT JOIN unnest(CAST(:known AS uuid[]), CAST(:rooms AS int[])) AS r (to_id, room) USING (to_id)
     WHERE p.to_id IS NULL OR p.place <= coalesce(r.room, :room)
     ORDER BY p.due_at LIMIT :most
), held AS MATERIALIZED (
    SELECT b.id, c.to_id FROM bots b JOIN chosen c ON c.id = b.id
     WHERE b.due_at <= (SELECT app_now()) AND (b.lease_until IS NULL OR b.lease_until <= (SELECT app_now()))
       AND b.transfer_since IS NULL
     ORDER BY b.id FOR NO KEY UPDATE OF b SKIP LOCKED
), claimed AS (
    UPDATE bots b SET lease_until = (SELECT app_now()) + make_interval(secs => :lease), fence = b.fence + 1
      FROM held h WHERE b.id = h.id RETURNING b.*, h.to_id
)
SELECT {COLUMNS}, b.fence, b.failure_count, b.starting_since, b.start_attempt, b.is_replacement, b.handed_to,
       b.handed_revision, CAST(b.handed AS text) AS handed, b.launch_message_id, b.due_at, b.to_id,
       {STANDS} AS look,
       (SELECT app_now()) AS now
  FROM claimed b ORDER BY b.due_at
"""  # noqa: S608 - columns of ours

_LAUNCHERS: Final = """
SELECT id, kind, base_url, api_key_sealed, failing_code, hand_over_seconds FROM launchers
 WHERE id = ANY (CAST(:ids AS uuid[])) ORDER BY id FOR SHARE
"""


async def claim(rt: Runtime, *, most: int, room: int, rooms: Mapping[UUID, int]) -> tuple[int, list[Claim]]:
    """Take up to `most` due bots: how many, and those of them for which a back end is to be called.

    `rooms` says how many more a launcher may have called that is busy (0: none), `room` for all others.
    """
    async with rt.db.reading() as tx:
        if not await tx.scalar("SELECT min(due_at) <= app_now() FROM bots"):  # nearly always: the first of ix_bots_due
            return 0, []
    lease_ends = monotonic() + LEASE_SECONDS
    params = {
        "most": most,
        "scan": max(SCAN, most),
        "lease": LEASE_SECONDS,
        "full": [id_ for id_, left in rooms.items() if left <= 0],
        "known": list(rooms),
        "rooms": list(rooms.values()),
        "room": room,
    }
    async with rt.db.transaction() as tx:
        rows = await tx.rows(_CLAIM, params)
        if not rows:
            return 0, []
        back_ends = await _back_ends(tx, {row.to_id for row in rows if row.to_id is not None})
        claims = [_claim(row, back_ends.get(row.to_id), lease_ends) for row in rows]
        calls, settled, by_message = _sorted(claims)
        settled += await messages.settle(tx, by_message)
        await record(tx, rt.queue, settled)
        await messages.send(rt, tx, settled)
    return len(rows), calls


async def _back_ends(tx: Tx, ids: set[UUID]) -> dict[UUID, BackEnd]:
    if not ids:
        return {}
    return {row.id: BackEnd(*row) for row in await tx.rows(_LAUNCHERS, {"ids": sorted(ids)})}


def _sorted(claims: list[Claim]) -> tuple[list[Claim], list[tuple[Claim, After]], list[Claim]]:
    """Those to be called for, what is settled or intended here, and those that messages are for."""
    calls: list[Claim] = []
    settled: list[tuple[Claim, After]] = []
    by_message: list[Claim] = []
    for each in claims:
        row, as_is = each.row, each.as_is
        is_start = row.state in LIVE and row.handed_revision is None
        if is_start and row.ends_at <= row.now and (each.is_by_message or as_is.since is None):
            settled.append((each, missed(as_is)))
        elif each.is_by_message:
            by_message.append(each)
        elif row.state not in LIVE and row.handed_revision is None and as_is.since is None:
            settled.append((each, replace(as_is.gone(), wait=None)))
        elif is_start and as_is.since is None:
            intended = replace(as_is, state="launching", reason=None, since=row.now, handed_to=row.to_id)
            notes = (*looked(row), ("launching", None)) if row.state != "launching" else ()
            settled.append((each, replace(intended, is_held=True, notes=notes)))
            calls.append(replace(each, as_is=intended))
        elif as_is.handed is not None and (row.state not in LIVE or row.handed_revision < row.revision):
            # While nobody knows what came of this, what was told before may not be taken to be there still.
            intended = replace(as_is, handed=doubted(as_is.handed))
            settled.append((each, replace(intended, wait=0.0, is_held=True)))
            calls.append(replace(each, as_is=intended))
        else:
            calls.append(replace(each, is_sought=is_start))
    return calls, settled, by_message


def _claim(row: Row, back_end: BackEnd | None, lease_ends: float) -> Claim:
    as_is = After(
        state=row.state,
        wait=None,
        reason=row.state_reason,
        failures=row.failure_count,
        since=row.starting_since,
        attempt=row.start_attempt,
        is_replacement=row.is_replacement,
        handed_to=row.handed_to,
        handed_revision=row.handed_revision,
        handed=row.handed,
        external_id=row.external_id,
        message=row.launch_message_id,
    )
    return Claim(row, back_end, as_is, lease_ends)
