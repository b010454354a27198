"""Every read of bots, launchers and rules: the project first, one statement per list.

A list of bots is in the order in which they were made, and what most ask for came last: those that are live, those to
come. So each filter has an index of its own, and the statement says which is to be read (see `event_queries`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from app.api.pages import Slice
from app.bots import records
from app.db import ReadTx, Row

_BOTS: Final = f"SELECT {records.COLUMNS}, {records.EVENTS} FROM"
_LIVE: Final = "b.state IN ('scheduled', 'launching', 'launched')"
ENDED_SHOWN: Final = 10
"""Of an event's bots that have ended, the latest: one that is made and ended again and again leaves many."""

_OF_EVENT: Final = (
    "SELECT b.* FROM bots b WHERE b.calendar_event_id = n.id AND b.project_id IS NOT DISTINCT FROM :project"
)
_OF_EVENTS: Final = f"""
{_BOTS} unnest(CAST(:events AS uuid[])) AS n (id) CROSS JOIN LATERAL (
       {_OF_EVENT} AND {_LIVE}
        UNION ALL
       ({_OF_EVENT} AND NOT {_LIVE} ORDER BY b.created_at DESC, b.id DESC LIMIT {ENDED_SHOWN})) b
 ORDER BY b.created_at, b.id
"""

BOT_FILTERS: Final[Mapping[str, str]] = {
    "calendar_event_id": "b.calendar_event_id = :calendar_event_id",
    "calendar_id": "b.calendar_id = :calendar_id",
    "states": "b.state = ANY (CAST(:states AS text[]))",
    "deduplication_key": "b.deduplication_key = :deduplication_key",
    "join_at_gte": "b.join_at >= :join_at_gte",
    "join_at_lte": "b.join_at <= :join_at_lte",
    "join_at_after": "b.join_at > :join_at_after",
    "join_at_before": "b.join_at < :join_at_before",
    "meeting_url": "b.meeting_url = :meeting_url",
    "launcher_id": "b.launcher_id = :launcher_id",
}

_LAUNCHERS: Final = """
SELECT l.id, l.kind, l.name, l.base_url, l.hand_over_seconds, l.is_default, l.failing_code, l.failing_detail,
       l.created_at, l.updated_at
  FROM launchers l
 WHERE l.project_id = :project AND l.deleted_at IS NULL
"""

_RULES: Final = """
SELECT r.id, r.name, r.is_enabled, r.priority, r.match, r.bot_name, CAST(r.config AS text) AS config, r.launcher_id,
       r.dedup_scope, r.created_at, r.updated_at
  FROM rules r
 WHERE r.project_id = :project AND r.series_id IS NULL AND r.deleted_at IS NULL
"""


async def bot(tx: ReadTx, project_id: UUID, *, bot_id: UUID) -> Row | None:
    """One bot with its history."""
    query = f"{_BOTS} bots b WHERE b.project_id = :project AND b.id = :id"
    return await tx.row(query, {"project": project_id, "id": bot_id})


async def bots(tx: ReadTx, project_id: UUID, *, filters: Mapping[str, Any], part: Slice) -> Sequence[Row]:
    """A page of bots; `filters` names entries of BOT_FILTERS."""
    query = f"{_BOTS} ({_page(filters, part)}) b {part.order_by}"
    return await tx.rows(query, {"project": project_id, **filters, **part.params})


_LIVE_STATES: Final = frozenset({"scheduled", "launching", "launched"})
_OWNED: Final = frozenset({"calendar_event_id", "calendar_id", "launcher_id", "meeting_url"})
_NARROW: Final = frozenset(
    {"deduplication_key", "meeting_url", "join_at_gte", "join_at_lte", "join_at_after", "join_at_before"}
)


def _page(filters: Mapping[str, Any], part: Slice) -> str:
    """The statement that finds the rows of a page, in whatever order."""
    given = filters.keys()
    # What is owned by something that has an index is looked for there: none on the project answers the second.
    project = "b.project_id = :project" if given.isdisjoint(_OWNED) else "b.project_id IS NOT DISTINCT FROM :project"
    conditions = [project, *(BOT_FILTERS[name] for name in given)]
    rows = f"SELECT b.* FROM bots b WHERE {' AND '.join(conditions)}"  # noqa: S608 - made of constants
    if given.isdisjoint(_NARROW) and not _LIVE_STATES.issuperset(filters.get("states", ("all",))):
        return f"{rows} AND {part.condition} {part.order_by}"
    # The OFFSET keeps the planner from carrying position, order and limit into the rows.
    return f"SELECT b.* FROM ({rows} OFFSET 0) b WHERE {part.condition} {part.order_by}"  # noqa: S608 - constants


async def bots_of_events(tx: ReadTx, project_id: UUID, *, event_ids: Sequence[UUID]) -> Sequence[Row]:
    """The bots of a page of events, oldest first: all that are live, the latest that are not."""
    return await tx.rows(_OF_EVENTS, {"project": project_id, "events": list(event_ids)})


async def launcher(tx: ReadTx, project_id: UUID, *, launcher_id: UUID) -> Row | None:
    """One launcher."""
    return await tx.row(f"{_LAUNCHERS} AND l.id = :id", {"project": project_id, "id": launcher_id})


async def launchers(tx: ReadTx, project_id: UUID, *, part: Slice) -> Sequence[Row]:
    """A page of launchers."""
    query = f"{_LAUNCHERS} AND {part.condition} {part.order_by}"
    return await tx.rows(query, {"project": project_id, **part.params})


async def rule(tx: ReadTx, project_id: UUID, *, rule_id: UUID) -> Row | None:
    """One rule."""
    return await tx.row(f"{_RULES} AND r.id = :id", {"project": project_id, "id": rule_id})


async def rules(tx: ReadTx, project_id: UUID, *, part: Slice) -> Sequence[Row]:
    """A page of rules, without those of series."""
    query = f"{_RULES} AND {part.condition} {part.order_by}"
    return await tx.rows(query, {"project": project_id, **part.params})
