"""Reads of keys and of the audit log: as `queries`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from app.api.pages import Slice
from app.db import ReadTx, Row

_KEYS: Final = """
SELECT k.id, k.name, k.scope, k.created_at, k.expires_at, k.revoked_at, k.last_used_at
  FROM api_keys k
 WHERE k.project_id = :project
"""

_ENTRIES: Final = """
SELECT a.id, a.at, a.key_id, a.action, a.object_id, host(a.ip) AS ip, a.changes
  FROM audit_log a
 WHERE a.project_id = :project
"""

ENTRY_FILTERS: Final[Mapping[str, str]] = {
    "key_id": "a.key_id = :key_id",
    "action": "a.action = :action",
    "object_id": "a.object_id = :object_id",
    "at_gte": "a.at >= :at_gte",
    "at_lte": "a.at <= :at_lte",
}


async def api_key(tx: ReadTx, project_id: UUID, *, key_id: UUID) -> Row | None:
    """One key, revoked and expired ones too."""
    return await tx.row(f"{_KEYS} AND k.id = :id", {"project": project_id, "id": key_id})


async def api_keys(tx: ReadTx, project_id: UUID, *, part: Slice) -> Sequence[Row]:
    """A page of keys."""
    query = f"{_KEYS} AND {part.condition} {part.order_by}"
    return await tx.rows(query, {"project": project_id, **part.params})


async def entries(tx: ReadTx, project_id: UUID, *, filters: Mapping[str, Any], part: Slice) -> Sequence[Row]:
    """A page of the audit log; `filters` names entries of ENTRY_FILTERS."""
    conditions = "".join(f" AND {ENTRY_FILTERS[name]}" for name in filters)
    query = f"{_ENTRIES}{conditions} AND {part.condition} {part.order_by}"
    return await tx.rows(query, {"project": project_id, **filters, **part.params})
