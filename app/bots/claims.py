"""Claims: what keeps two bots from one meeting, whichever calendars it stands in.

A bot of a wide rule claims its meeting's keys. A claim counts while its bot is live and its meeting is not over, and
while a bot that its owner has ended, or that has failed, keeps its rule from making another; any other may be taken
over. Keys are locked before they are looked at, in one statement and in one order, so that two calendars of one meeting
which are synced at once wait for each other, and the second sees what the first has made.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from app.db import ReadTx, Row, Tx

LOCKS: Final = 256
"""Locks that all keys of a project share: a round with thousands of meetings must not fill the server's table."""

_LOCK: Final = f"""
SELECT pg_advisory_xact_lock(k.lock) FROM (
    SELECT DISTINCT hashtextextended(CAST(CAST(:project AS uuid) AS text), 0)
                    # (hashtextextended(n, 0) & {LOCKS - 1}) AS lock
      FROM unnest(CAST(:keys AS text[])) n ORDER BY 1) k
"""  # noqa: S608 - a number of ours

_TAKEN: Final = """
SELECT b.deduplication_key AS key, b.id FROM bots b
 WHERE b.project_id = :project AND b.deduplication_key = ANY (CAST(:keys AS text[]))
   AND b.state IN ('scheduled', 'launching', 'launched')
"""

_OF_BOTS: Final = "SELECT bot_id, key FROM bot_claims WHERE bot_id = ANY (CAST(:bots AS uuid[]))"

_HOLDERS: Final = """
SELECT c.key, b.id, b.rule_id, b.is_removed, b.state = 'failed' AS is_failed, b.state,
       b.calendar_event_id, b.join_at, b.ends_at
  FROM bot_claims c JOIN bots b ON b.id = c.bot_id LEFT JOIN rules r ON r.id = b.rule_id AND r.deleted_at IS NULL
 WHERE c.project_id = :project AND c.key = ANY (CAST(:keys AS text[]))
   AND (b.state IN ('scheduled', 'launching', 'launched') AND b.ends_at > app_now()
        OR (b.is_removed OR b.state = 'failed') AND b.rule_version = r.version)
 ORDER BY b.is_removed, b.state = 'failed', b.id
"""

_STORE: Final = """
INSERT INTO bot_claims (project_id, key, bot_id)
SELECT :project, n.key, n.bot FROM unnest(CAST(:keys AS text[]), CAST(:bots AS uuid[])) AS n (key, bot) ORDER BY n.key
ON CONFLICT (project_id, key) DO UPDATE SET bot_id = excluded.bot_id
"""

_RELEASE: Final = """
DELETE FROM bot_claims c USING unnest(CAST(:keys AS text[]), CAST(:bots AS uuid[])) AS n (key, bot)
 WHERE c.project_id = :project AND c.key = n.key AND c.bot_id = n.bot
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """The bot that has a key."""

    bot: UUID
    rule: UUID | None = None
    is_removed: bool = False
    """Ended by its owner: it keeps every rule of its scope from the meeting."""
    is_failed: bool = False
    """It keeps its own rule from it: another one's bot may fare better."""

    @property
    def is_ended(self) -> bool:
        """Whether it is not there, and keeps others away all the same."""
        return self.is_removed or self.is_failed

    def lets(self, bot: UUID | None, rule: UUID, *, is_forced: bool) -> bool:
        """Whether a rule's bot may have the key; `is_forced`: the event's owner wants one whatever has ended before."""
        if self.bot == bot or (self.is_ended and is_forced):
            return True
        return self.is_failed and not self.is_removed and self.rule != rule


def name(deduplication_key: str) -> str:
    """What is locked for a key that an owner gave."""
    return f"name|{deduplication_key}"


async def lock_keys(tx: Tx, *, project: UUID, keys: Iterable[str]) -> None:
    """Whoever is to give a bot one of these keys waits for who is about to.

    The last locks of a transaction but for `sync_state`, and taken once: all that it will need.
    """
    wanted = sorted(set(keys))
    if wanted:
        await tx.rows(_LOCK, {"project": project, "keys": wanted})


async def taken(tx: ReadTx, *, project: UUID, keys: Collection[str]) -> dict[str, UUID]:
    """Which of these deduplication keys live bots have."""
    if not keys:
        return {}
    return {row.key: row.id for row in await tx.rows(_TAKEN, {"project": project, "keys": list(keys)})}


async def of_bots(tx: Tx, bots: Collection[UUID]) -> dict[UUID, frozenset[str]]:
    """The keys that these bots claim, or claimed last."""
    found: dict[UUID, set[str]] = {bot: set() for bot in bots}
    if bots:
        for row in await tx.rows(_OF_BOTS, {"bots": list(bots)}):
            found[row.bot_id].add(row.key)
    return {bot: frozenset(keys) for bot, keys in found.items()}


async def holders(tx: Tx, *, project: UUID, keys: Collection[str]) -> dict[str, Holder]:
    """Whose these keys are, where that counts."""
    rows = await holding(tx, project=project, keys=keys)
    return {row.key: Holder(row.id, row.rule_id, row.is_removed, row.is_failed) for row in rows}


async def holding(tx: ReadTx, *, project: UUID, keys: Collection[str]) -> Sequence[Row]:
    """The same as rows, one for each key; live ones first."""
    return await tx.rows(_HOLDERS, {"project": project, "keys": list(keys)}) if keys else []


async def store(
    tx: Tx, *, project: UUID, before: Mapping[UUID, frozenset[str]], after: Mapping[UUID, frozenset[str]]
) -> None:
    """Give these bots their keys, and take from them those that they have no more."""
    gone = [(key, bot) for bot, keys in after.items() for key in before.get(bot, frozenset()) - keys]
    if gone:
        keys, bots = zip(*gone, strict=True)
        await tx.execute(_RELEASE, {"project": project, "keys": list(keys), "bots": list(bots)})
    new = [(key, bot) for bot, keys in after.items() for key in keys - before.get(bot, frozenset())]
    if new:
        keys, bots = zip(*sorted(new), strict=True)
        await tx.execute(_STORE, {"project": project, "keys": list(keys), "bots": list(bots)})
