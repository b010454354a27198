"""The audit log: what was done in a project, by which key, from where.

An entry is written in the transaction of what it tells, so neither is there without the other: `app.api.writes` does it
for every operation of the API, the command line for its own, `app.connect.keeping` for what a connect link's user did.
It names fields, and never holds a value.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from app.db import Tx
from app.ids import new_id

_INSERT = """
INSERT INTO audit_log (id, project_id, at, key_id, action, object_id, ip, changes)
VALUES (:id, :project, app_now(), :key, :action, :object, CAST(:ip AS inet), CAST(:changes AS text[]))
"""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it: a key and the address that it was used from; neither for the command line and for a link's user."""

    key_id: UUID | None = None
    ip: str | None = None


COMMAND_LINE = Actor()
LINK_USER = Actor()
"""Whoever has followed a connect link. Where they were is nothing that the application has to know."""


async def record(
    tx: Tx, *, project_id: UUID, actor: Actor, action: str, object_id: str | None, changes: Iterable[str] = ()
) -> None:
    """Note a write. `object_id` as the API shows it, `changes` the names of the fields that were given."""
    await tx.execute(
        _INSERT,
        {
            "id": new_id(),
            "project": project_id,
            "key": actor.key_id,
            "action": action,
            "object": object_id,
            "ip": actor.ip,
            "changes": sorted(changes),
        },
    )
