"""What a project has set for itself."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from uuid import UUID

import orjson

from app.db import Tx
from app.meetings import NO_PREFERENCES, Preferences

_SET = "UPDATE projects SET meeting_preferences = CAST(:preferences AS jsonb) WHERE id = :id"

_SET_DOMAINS = """
UPDATE projects SET internal_domains = CAST(:domains AS text[])
 WHERE id = :id AND internal_domains <> CAST(:domains AS text[])
"""


@lru_cache(maxsize=1024)
def preferences_of(stored: str | None) -> Preferences:
    """The column `meeting_preferences` as the mapping takes it."""
    if stored is None:
        return NO_PREFERENCES
    shape = orjson.loads(stored)
    return Preferences.of(platforms=shape["platforms"], extra_hosts=shape["extra_hosts"])


async def prefer(
    tx: Tx, project_id: UUID, *, platforms: Sequence[str], extra_hosts: Mapping[str, Sequence[str]]
) -> None:
    """Set what later syncs go by; events that are stored change when they are read again."""
    shape = {"platforms": platforms, "extra_hosts": {name: hosts for name, hosts in extra_hosts.items() if hosts}}
    stored = orjson.dumps(shape).decode() if platforms or shape["extra_hosts"] else None
    await tx.execute(_SET, {"id": project_id, "preferences": stored})


async def set_internal_domains(tx: Tx, project_id: UUID, domains: Sequence[str]) -> bool:
    """Set whose people are no guests, as `matching.normal_domain` gives them; whether that changes anything."""
    return await tx.execute(_SET_DOMAINS, {"id": project_id, "domains": list(domains)}) > 0
