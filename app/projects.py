"""What a project has set for itself."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final
from uuid import UUID

import orjson

from app.allowances import Kind
from app.db import Tx
from app.errors import NotFound
from app.meetings import NO_PREFERENCES, Preferences
from app.settings import Settings

_SET = "UPDATE projects SET meeting_preferences = CAST(:preferences AS jsonb) WHERE id = :id"

_SET_RETURN_URLS = "UPDATE projects SET return_urls = CAST(:urls AS text[]) WHERE id = :id"

_SET_DOMAINS = """
UPDATE projects SET internal_domains = CAST(:domains AS text[])
 WHERE id = :id AND internal_domains <> CAST(:domains AS text[])
"""

_SET_LIMIT: Final[Mapping[Kind, str]] = {
    "reads": "UPDATE projects SET reads_per_minute = :most WHERE id = :id",
    "writes": "UPDATE projects SET writes_per_minute = :most WHERE id = :id",
}


@lru_cache(maxsize=1024)
def preferences_of(stored: str | None) -> Preferences:
    """The column `meeting_preferences` as the mapping takes it."""
    if stored is None:
        return NO_PREFERENCES
    shape = orjson.loads(stored)
    return Preferences.of(platforms=shape["platforms"], extra_hosts=shape["extra_hosts"])


def limits(settings: Settings, *, reads: int | None, writes: int | None) -> dict[Kind, int]:
    """Requests that a project may make in a minute, by its own columns or else the server's; 0: as many as it likes."""
    return {
        "reads": settings.rate_limit_reads_per_minute if reads is None else reads,
        "writes": settings.rate_limit_writes_per_minute if writes is None else writes,
    }


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


async def retain(tx: Tx, project_id: UUID, *, days: int | None) -> None:
    """Set for how long what is over is kept; None: as long as the server keeps it."""
    await tx.execute("UPDATE projects SET retention_days = :days WHERE id = :id", {"id": project_id, "days": days})


async def limit(tx: Tx, project_id: UUID, *, kind: Kind, most: int | None) -> None:
    """Set a project's own limit of a kind; None: the server's, 0: as many as it likes. NotFound."""
    if not await tx.execute(_SET_LIMIT[kind], {"id": project_id, "most": most}):
        raise NotFound


async def set_return_urls(tx: Tx, project_id: UUID, urls: Sequence[str]) -> None:
    """Set where hosted connect may lead back to, as `connect.return_urls` spells it; links to others end."""
    await tx.execute(_SET_RETURN_URLS, {"id": project_id, "urls": list(urls)})
