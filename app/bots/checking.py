"""The look before joining: what no push has told is found out while it still matters.

Within the last minute before a bot is handed over, and again before it joins, its calendar is synced once more, ahead
of others: a cancellation, a move or a new link reaches the bot by the usual way, in the sync's own transaction. One
request serves all bots of a calendar, and calendars are spread over that minute by their ids. The hand-over waits
PATIENCE_SECONDS for it, and for no quota, backoff or outage.
"""

from typing import Final

from app.db import Row
from app.runtime import Runtime
from app.scheduling import request_syncs
from app.telemetry import log

PATIENCE_SECONDS: Final = 2.0
"""So long a hand-over waits for a look that was asked for."""
BATCH: Final = 500
FARTHEST_SECONDS: Final = 3_660
"""Before `join_at`, the earliest hand-over and the minute before it."""

AHEAD: Final = "make_interval(secs => 5 + get_byte(uuid_send(b.calendar_id), 15) % 50)"
"""How long before the hand-over, and before joining, a calendar's turn is: 5 to 54 seconds."""

# Found by ix_bots_near, which has the bots that may be looked at and no others.
_NEAR: Final = f"""
  FROM bots b
 WHERE b.state IN ('scheduled', 'launching', 'launched') AND b.calendar_id IS NOT NULL
   AND b.join_at > app_now() - interval '1 minute'
   AND b.join_at <= app_now() + make_interval(secs => {FARTHEST_SECONDS})
   AND (b.state = 'scheduled' AND b.due_at - {AHEAD} <= app_now() AND b.due_at > app_now() - interval '1 minute'
            AND coalesce(b.checked_at, '-infinity') < b.due_at - {AHEAD}
        OR b.join_at - {AHEAD} <= app_now() AND coalesce(b.checked_at, '-infinity') < b.join_at - {AHEAD})
"""
_IS_ANY_NEAR: Final = f"SELECT EXISTS (SELECT {_NEAR})"
_TAKE_NEAR: Final = f"""
SELECT b.id, b.calendar_id {_NEAR} ORDER BY b.id LIMIT :most FOR NO KEY UPDATE OF b SKIP LOCKED
"""

_ASKED: Final = """
UPDATE bots b SET checked_at = app_now(), checked_seq = q.seq
  FROM unnest(CAST(:ids AS uuid[]), CAST(:seqs AS bigint[])) AS q (id, seq) WHERE b.id = q.id
"""

STANDS: Final = """
(SELECT CASE WHEN s.synced_seq >= b.checked_seq THEN 'checked'
             WHEN s.failure_code IS NOT NULL THEN 'check_skipped: ' || s.failure_code
             WHEN s.not_before > app_now() THEN 'check_skipped: deferred'
             ELSE 'check_skipped: not served in time' END
   FROM sync_state s WHERE s.calendar_id = b.calendar_id AND b.checked_at > app_now() - interval '2 minutes')
"""
"""How the look that was just asked for a bot stands; null where none was."""

IS_AWAITED: Final = f"""
(b.state = 'scheduled' AND b.checked_seq IS NOT NULL
 AND b.due_at > app_now() - make_interval(secs => {PATIENCE_SECONDS}) AND EXISTS (
     SELECT FROM sync_state s
      WHERE s.calendar_id = b.calendar_id AND s.synced_seq < b.checked_seq
        AND s.failure_code IS NULL AND s.not_before <= app_now()))
"""
"""Whether a bot's hand-over waits for the look, for a moment: not for one that failed, however soon its retry comes."""


def looked(row: Row) -> tuple[tuple[str, str | None], ...]:
    """What is noted at the hand-over of the look before it, from the column `look` (STANDS)."""
    if row.look is None:
        return ()
    kind, _, why = row.look.partition(": ")
    return ((kind, why or None),)


async def look_ahead(rt: Runtime) -> int:
    """Ask for the syncs that are due now; for how many bots. Most looks find none, and are one round trip."""
    async with rt.db.reading() as tx:
        if not await tx.scalar(_IS_ANY_NEAR):
            return 0
    async with rt.db.transaction() as tx:
        rows = await tx.rows(_TAKE_NEAR, {"most": BATCH})
        if not rows:
            return 0
        calendars = sorted({row.calendar_id for row in rows})
        asked = await request_syncs(rt, tx, calendars, is_priority=True)
        known = [row for row in rows if row.calendar_id in asked]
        params = {"ids": [row.id for row in known], "seqs": [asked[row.calendar_id] for row in known]}
        await tx.execute(_ASKED, params)
    log.info("bots.checked", bots=len(rows), calendars=len(calendars))
    return len(rows)
