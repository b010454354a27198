"""Which launcher a bot is to have, and whether its back end can carry out the config: asked before either is stored."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import orjson

from app.bots.launchers import Kind, problems_of
from app.db import ReadTx, Row, Tx
from app.errors import refusal, refusals

_HOLD: Final = "SELECT id FROM projects WHERE id = :project FOR SHARE"
_LOCK: Final = "SELECT id FROM projects WHERE id = :project FOR NO KEY UPDATE"
_LAUNCHER: Final = """
SELECT l.id, l.kind, l.hand_over_seconds FROM launchers l
 WHERE l.project_id = :project AND l.deleted_at IS NULL
   AND CASE WHEN CAST(:id AS uuid) IS NULL THEN l.is_default ELSE l.id = :id END
"""


async def lock_project(tx: Tx, project_id: UUID) -> None:
    """Who changes the project's launchers or rules does it alone."""
    await tx.scalar(_LOCK, {"project": project_id})


async def hold_launchers(tx: Tx, project_id: UUID) -> None:
    """Nobody changes the project's launchers until this transaction ends: one could go between look and use."""
    await tx.scalar(_HOLD, {"project": project_id})


async def launcher(
    tx: ReadTx, project_id: UUID, launcher_id: UUID | None, *, pointer: str = "/launcher_id"
) -> Row | None:
    """This launcher, or the project's default one; None: by message. Invalid where there is none of this id."""
    row = await tx.row(_LAUNCHER, {"project": project_id, "id": launcher_id})
    if row is None and launcher_id is not None:
        raise refusal(pointer, "not_found", message="there is no such launcher")
    return row


def check_config(config: Mapping[str, Any] | None, launcher: Row | None, *, pointer: str = "/config") -> None:
    """Invalid where the launcher's back end cannot carry a config out."""
    kind: Kind = launcher.kind if launcher else "webhook"
    problems = problems_of(config, kind, pointer=pointer) if config is not None else []
    if problems:
        raise refusals(problems)


def config_text(config: Mapping[str, Any] | None) -> str | None:
    """A config as it is stored."""
    return None if config is None else orjson.dumps(config).decode()
