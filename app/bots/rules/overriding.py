"""Overrides: what an owner says of one event or of a series, which beats every rule.

It is no part of an event's content, and moves neither its number nor its stamp. What was ended or has failed there
before keeps rules from making another bot no more, unless none is wanted at all.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from app.bots import claims, following, resolving
from app.bots.making import lock_calendar_of
from app.bots.rules.rule import Override
from app.db import Tx
from app.errors import NotFound, refusal
from app.runtime import Runtime

_EVENT: Final = "SELECT is_deleted, series_id FROM calendar_events WHERE id = :id"

_SET_EVENT: Final = """
UPDATE calendar_events SET bot_override = :value
 WHERE id = :id AND bot_override IS DISTINCT FROM CAST(:value AS text)
"""
_SET_SERIES: Final = """
INSERT INTO series_overrides AS o (calendar_id, series_id, bot_override) VALUES (:calendar, :series, :value)
ON CONFLICT (calendar_id, series_id) DO UPDATE SET bot_override = excluded.bot_override
      WHERE o.bot_override <> excluded.bot_override
"""
_UNSET_SERIES: Final = "DELETE FROM series_overrides WHERE calendar_id = :calendar AND series_id = :series"
_UNSET_EVENTS: Final = """
UPDATE calendar_events SET bot_override = NULL
 WHERE calendar_id = :calendar AND series_id = :series AND bot_override IS NOT NULL
"""
_OF_SERIES: Final = """
SELECT id FROM calendar_events
 WHERE calendar_id = :calendar AND series_id = :series AND NOT is_deleted AND end_time > app_now()
 ORDER BY start_time, id
"""

_LOCK_BOTS: Final = """
SELECT b.id, b.rule_id IS NOT NULL AND (b.is_removed OR b.state = 'failed') AS is_in_the_way
  FROM bots b WHERE b.calendar_event_id = ANY (CAST(:events AS uuid[])) ORDER BY b.id FOR NO KEY UPDATE
"""
_UNBLOCK: Final = "UPDATE bots SET rule_version = NULL WHERE id = ANY (CAST(:ids AS uuid[]))"


async def override(
    rt: Runtime, tx: Tx, *, project_id: UUID, event_id: UUID, value: Override | None, is_series: bool
) -> None:
    """Set or clear what an event, or its series, says; its bots come and go in the same transaction.

    With a series, its events say nothing of their own any more. NotFound, Invalid (`event_gone`, `not_a_series`).
    """
    found = await lock_calendar_of(tx, project_id, event_id)
    event = None if found is None else await tx.row(_EVENT, {"id": event_id})
    if found is None or event is None:
        raise NotFound
    calendar_id, state = found
    if event.is_deleted:
        raise refusal("/bot_override", "event_gone", message="the event was deleted")
    if is_series and event.series_id is None:
        raise refusal("/all_occurrences", "not_a_series", message="the event is no occurrence of a series")
    if is_series:
        is_changed, events = await _of_series(tx, calendar_id, event.series_id, value)
    else:
        is_changed = bool(await tx.execute(_SET_EVENT, {"id": event_id, "value": value}))
        events = [event_id]
    if not is_changed:
        return
    if value != "never":
        await _unblock(tx, project_id, events)
    if state == "connected":  # else all of its events are judged when it works
        await following.judged_in_part(rt, tx, calendar_id, events)


async def _of_series(tx: Tx, calendar_id: UUID, series_id: str, value: Override | None) -> tuple[bool, list[UUID]]:
    """Whether that was new, and the events ahead that it goes for."""
    params = {"calendar": calendar_id, "series": series_id}
    if value is None:
        changed = await tx.execute(_UNSET_SERIES, params)
    else:
        changed = await tx.execute(_SET_SERIES, params | {"value": value})
    changed += await tx.execute(_UNSET_EVENTS, params)
    return bool(changed), [row.id for row in await tx.rows(_OF_SERIES, params)]


async def _unblock(tx: Tx, project_id: UUID, events: Sequence[UUID]) -> None:
    """Let rules make bots anew: for these events, and for others of the same meetings, which have waited as well."""
    rows = await tx.rows(_LOCK_BOTS, {"events": list(events)})
    ended = [row.id for row in rows if row.is_in_the_way]
    if not ended:
        return
    await tx.execute(_UNBLOCK, {"ids": ended})
    claimed = await claims.of_bots(tx, ended)
    keys = {key for each in claimed.values() for key in each}
    await resolving.pass_on(tx, project_id, keys, but=set(events))
