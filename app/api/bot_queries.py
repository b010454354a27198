"""Every read of bots, launchers and rules: the project first, one statement per list."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from app.api.pages import Slice
from app.bots import records
from app.db import ReadTx, Row

_BOTS: Final = f"SELECT {records.COLUMNS}, {records.EVENTS} FROM bots b WHERE b.project_id = :project"  # noqa: S608

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
    return await tx.row(f"{_BOTS} AND b.id = :id", {"project": project_id, "id": bot_id})


async def bots(tx: ReadTx, project_id: UUID, *, filters: Mapping[str, Any], part: Slice) -> Sequence[Row]:
    """A page of bots; `filters` names entries of BOT_FILTERS."""
    conditions = "".join(f" AND {BOT_FILTERS[name]}" for name in filters)
    query = f"{_BOTS}{conditions} AND {part.condition} {part.order_by}"
    return await tx.rows(query, {"project": project_id, **filters, **part.params})


async def bots_of_events(tx: ReadTx, project_id: UUID, *, event_ids: Sequence[UUID]) -> Sequence[Row]:
    """The bots of a page of events, oldest first."""
    query = f"{_BOTS} AND b.calendar_event_id = ANY (CAST(:events AS uuid[])) ORDER BY b.created_at, b.id"
    return await tx.rows(query, {"project": project_id, "events": list(event_ids)})


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
