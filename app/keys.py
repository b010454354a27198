"""API keys: what each may do, and until when.

A key holds one scope; each scope holds those before it. What a route asks for is judged in `app.api.callers`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args
from uuid import UUID

from app.crypto import make_api_key
from app.db import Tx
from app.ids import new_id

Scope = Literal["read", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""From the least to the most."""

NAME_MOST: Final = 100

_INSERT = """
INSERT INTO api_keys (id, project_id, name, scope, secret_hash, created_at, expires_at)
VALUES (:id, :project, :name, :scope, :hash, app_now(), :expires_at)
"""


def holds(scope: Scope, needed: Scope) -> bool:
    """Whether a key of this scope may do what needs the other."""
    return SCOPES.index(scope) >= SCOPES.index(needed)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at its creation, the one time that its text is known."""

    id: UUID
    text: str


async def make(
    tx: Tx, *, project_id: UUID, name: str, scope: Scope = "admin", expires_at: datetime | None = None
) -> NewKey:
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
