"""API keys: what each may do, and until when.

A key holds one scope; each scope holds those before it. What a route asks for is judged in `app.api.callers`.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args
from uuid import UUID

from app.crypto import make_api_key
from app.db import DATABASE_ERRORS, Database, Tx
from app.errors import Conflict, NotFound
from app.ids import new_id
from app.telemetry import log

Scope = Literal["read", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""From the least to the most."""

NAME_MOST: Final = 100
_DRAIN_SECONDS: Final = 2

_INSERT = """
INSERT INTO api_keys (id, project_id, name, scope, secret_hash, created_at, expires_at)
VALUES (:id, :project, :name, :scope, :hash, app_now(), :expires_at)
"""

# How long a project has a key that can make others is never cut short by the API.
_HAS_ANOTHER = """
SELECT EXISTS (
    SELECT FROM api_keys k JOIN api_keys o ON o.project_id = k.project_id
     WHERE k.id = :id AND o.id <> k.id AND o.scope = 'admin' AND o.revoked_at IS NULL
       AND coalesce(o.expires_at, 'infinity') >= coalesce(k.expires_at, 'infinity'))
"""

_LOCK = """
SELECT scope, revoked_at IS NULL AND (expires_at IS NULL OR expires_at > app_now()) AS is_good
  FROM api_keys WHERE project_id = :project AND id = :id FOR NO KEY UPDATE
"""


# Whoever comes later within the minute changes nothing; what somebody else has locked is noted by them, or next time.
_USED = """
WITH due AS (
    SELECT id FROM api_keys
     WHERE id = ANY (CAST(:ids AS uuid[]))
       AND (last_used_at IS NULL OR last_used_at <= app_now() - interval '1 minute')
     ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE api_keys k SET last_used_at = app_now() FROM due WHERE k.id = due.id
"""


def holds(scope: Scope, needed: Scope) -> bool:
    """Whether a key of this scope may do what needs the other."""
    return SCOPES.index(scope) >= SCOPES.index(needed)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at its creation, the one time that its text is known."""

    id: UUID
    text: str


async def make(tx: Tx, *, project_id: UUID, name: str, scope: Scope, expires_at: datetime | None = None) -> NewKey:
    """Store a key of a project; `expires_at` None: good until it is revoked."""
    key_id = new_id()
    made = make_api_key(key_id)
    await tx.execute(
        _INSERT,
        {
            "id": key_id,
            "project": project_id,
            "name": name,
            "scope": scope,
            "hash": made.secret_hash,
            "expires_at": expires_at,
        },
    )
    return NewKey(key_id, made.text)


async def revoke(tx: Tx, *, project_id: UUID, key_id: UUID, is_last_too: bool = False) -> None:
    """Refuse a key from now on; one that is revoked stays so. NotFound.

    Conflict where nobody could make another key any more, or not for as long as now, unless `is_last_too`.
    """
    await tx.row("SELECT id FROM projects WHERE id = :id FOR NO KEY UPDATE", {"id": project_id})
    row = await tx.row(_LOCK, {"project": project_id, "id": key_id})
    if row is None:
        raise NotFound
    if row.is_good and row.scope == "admin" and not is_last_too and not await tx.scalar(_HAS_ANOTHER, {"id": key_id}):
        raise Conflict("no other admin key of the project is good for as long as this one", code="last_admin_key")
    await tx.execute("UPDATE api_keys SET revoked_at = coalesce(revoked_at, app_now()) WHERE id = :id", {"id": key_id})


class KeyUses:
    """Notes when keys were last used, beside the requests: none waits for it, and it may be lost."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._used: set[UUID] = set()
        self._task: asyncio.Task[None] | None = None

    def note(self, key_id: UUID) -> None:
        """Write down that a key is used, once those are written that came before."""
        self._used.add(key_id)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._used:
            used, self._used = self._used, set()
            try:
                async with self._db.direct() as tx:
                    await tx.execute(_USED, {"ids": sorted(used)})
            except DATABASE_ERRORS as exc:  # the next request with the key notes it
                log.warning("keys.use_not_noted", error=type(exc).__name__)

    async def drain(self) -> None:
        """Wait until everything noted so far was written."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_DRAIN_SECONDS)
