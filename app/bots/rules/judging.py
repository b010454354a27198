"""Rules that have changed, applied: calendar by calendar, a bounded batch of events in each transaction.

Rows say what is to be judged (`evaluations`). Whoever works on a calendar holds its row, as a sync does; one that dies
leaves the request where it was, and what was judged is judged again to the same end.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final
from uuid import UUID

from app.bots import following
from app.db import Row, Tx
from app.runtime import Runtime

BATCH: Final = 500
"""Events of one transaction."""
Guard = Callable[[Awaitable[int], UUID], Awaitable[int]]
"""What stands around one step, of a calendar or a bot, so that one that fails keeps no other from its turn."""

CALENDARS: Final = 50
"""Calendars whose turn comes in one step."""

# One that was deleted waits to be wiped, for as long as its provider is away, and its requests with it. Of a calendar
# the first request counts, found by its place: to sort all would take 0.3 s of each step while 100,000 calendars wait.
_WAITING: Final = """
SELECT r.calendar_id FROM rule_evaluations r JOIN calendars c ON c.id = r.calendar_id AND c.deleted_at IS NULL
 WHERE r.calendar_id <> ALL (CAST(:but AS uuid[]))
   AND NOT EXISTS (SELECT FROM rule_evaluations e WHERE e.calendar_id = r.calendar_id AND e.id < r.id)
 ORDER BY r.id LIMIT :most
"""

_LOCK: Final = """
SELECT state FROM calendars WHERE id = :calendar AND deleted_at IS NULL FOR NO KEY UPDATE SKIP LOCKED
"""

_REQUESTS: Final = """
SELECT id, event_ids, after_event_id FROM rule_evaluations WHERE calendar_id = :calendar ORDER BY id
"""

_AHEAD: Final = """
SELECT id FROM calendar_events
 WHERE calendar_id = :calendar AND NOT is_deleted AND end_time > app_now()
   AND (CAST(:after AS uuid) IS NULL OR id > :after)
 ORDER BY id LIMIT :most
"""

_REST: Final = "UPDATE rule_evaluations SET event_ids = CAST(:events AS uuid[]) WHERE id = :id"
_FORGET: Final = "DELETE FROM rule_evaluations WHERE id = ANY (CAST(:ids AS bigint[]))"


async def unguarded(work: Awaitable[int], _: UUID) -> int:
    """A step that fails is its caller's."""
    return await work


async def judge_due(rt: Runtime, guard: Guard = unguarded, *, but: Collection[UUID] = ()) -> int:
    """Work on calendars that wait, but for these, one batch of each; how many events were judged or requests ended."""
    async with rt.db.reading() as tx:
        waiting = [row.calendar_id for row in await tx.rows(_WAITING, {"most": CALENDARS, "but": list(but)})]
    done = 0
    for calendar_id in waiting:
        done += await guard(_step(rt, calendar_id), calendar_id)
    return done


async def _step(rt: Runtime, calendar_id: UUID) -> int:
    async with rt.db.transaction() as tx:
        return await _batch(rt, tx, calendar_id)


async def _batch(rt: Runtime, tx: Tx, calendar_id: UUID) -> int:
    """One batch. A calendar that somebody else holds is left to the next step; one that is gone has no requests."""
    state = await tx.scalar(_LOCK, {"calendar": calendar_id})
    if state is None:
        return 0
    requests = await tx.rows(_REQUESTS, {"calendar": calendar_id})
    if state != "connected":  # all of it is asked for again when it works
        await tx.execute(_FORGET, {"ids": [row.id for row in requests]})
        return len(requests)
    named = next((row for row in requests if row.event_ids is not None), None)
    if named is not None:
        batch, rest = named.event_ids[:BATCH], named.event_ids[BATCH:]
        await following.judged_anew(rt, tx, calendar_id, batch)
        if rest:
            await tx.execute(_REST, {"id": named.id, "events": rest})
        else:
            await tx.execute(_FORGET, {"ids": [named.id]})
        return len(batch)
    return await _walk(rt, tx, calendar_id, requests)


async def _walk(rt: Runtime, tx: Tx, calendar_id: UUID, requests: Sequence[Row]) -> int:
    """The next batch of a walk through all events ahead. Requests that came before it began are served by it."""
    if not requests:
        return 0
    walk = requests[0]
    params = {"calendar": calendar_id, "after": walk.after_event_id, "most": BATCH}
    events = [row.id for row in await tx.rows(_AHEAD, params)]
    await following.judged_anew(rt, tx, calendar_id, events)
    served = [row.id for row in requests[1:]] if walk.after_event_id is None else []
    if len(events) < BATCH:
        served.append(walk.id)
    else:
        await tx.execute(
            "UPDATE rule_evaluations SET after_event_id = :after WHERE id = :id", {"id": walk.id, "after": events[-1]}
        )
    await tx.execute(_FORGET, {"ids": served})
    return len(events) + len(served)
