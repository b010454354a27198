"""Rules as their owner makes, changes and deletes them.

Whoever does holds the project's row: so its rules are counted, its launchers stay as they are, and two changes of a
rule come one after the other. What a change means for events that are stored already is only asked for here; it is
worked on in the background (`judging`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

import orjson

from app.bots import fitting
from app.bots.rules import evaluations
from app.bots.rules.rule import Scope
from app.db import ReadTx, Row, Tx
from app.errors import Conflict, NotFound
from app.ids import new_id

RULES_MOST: Final = 100
"""Of a project: every event of every round is held against each."""

_COUNT: Final = "SELECT count(*) FROM rules WHERE project_id = :project AND series_id IS NULL AND deleted_at IS NULL"
_INSERT: Final = """
INSERT INTO rules (id, project_id, name, is_enabled, priority, match, dedup_scope, bot_name, config, launcher_id,
                   created_at, updated_at)
VALUES (:id, :project, :name, :is_enabled, :priority, :match, :scope, :bot_name, CAST(:config AS jsonb), :launcher,
        app_now(), app_now())
"""
_FIND: Final = """
SELECT r.name, r.is_enabled, r.priority, r.match, r.dedup_scope, r.bot_name, CAST(r.config AS text) AS config,
       r.launcher_id, r.version, r.created_at
  FROM rules r
 WHERE r.project_id = :project AND r.id = :id AND r.series_id IS NULL AND r.deleted_at IS NULL
"""
_UPDATE: Final = """
UPDATE rules
   SET name = :name, is_enabled = :is_enabled, priority = :priority, match = :match, dedup_scope = :scope,
       bot_name = :bot_name, config = CAST(:config AS jsonb), launcher_id = :launcher, version = :version,
       updated_at = app_now()
 WHERE id = :id
"""
_DELETE: Final = "UPDATE rules SET deleted_at = app_now(), updated_at = app_now() WHERE id = :id"


@dataclass(frozen=True, slots=True)
class Terms:
    """All that a rule says."""

    name: str
    is_enabled: bool
    priority: int
    match: str
    """Canonical JSON."""
    scope: Scope
    bot_name: str
    config: Mapping[str, Any] | None
    launcher_id: UUID | None

    def is_version_new(self, before: "Terms") -> bool:
        """Whether its bots are compared with it anew, and what kept it from making one counts no more.

        Its name is for people, and its priority decides whose turn it is, not what its bots are.
        """
        return replace(self, name=before.name, priority=before.priority) != before

    def is_outcome_new(self, before: "Terms") -> bool:
        """Whether events may get other bots by it."""
        return (self.is_enabled or before.is_enabled) and replace(self, name=before.name) != before


@dataclass(frozen=True, slots=True)
class Stored:
    """A rule's terms with what its row adds."""

    terms: Terms
    row: Row


async def make(tx: Tx, *, project_id: UUID, terms: Terms) -> UUID:
    """Store a rule, and have the project's events judged. Invalid, Conflict (`too_many_rules`)."""
    await fitting.lock_project(tx, project_id)
    await check_bot(tx, project_id, terms)
    if await tx.scalar(_COUNT, {"project": project_id}) >= RULES_MOST:
        raise Conflict(f"the project has {RULES_MOST} rules", code="too_many_rules")
    rule_id = new_id()
    await tx.execute(_INSERT, {"id": rule_id, "project": project_id, **_columns(terms)})
    if terms.is_enabled:
        await evaluations.request_project(tx, project_id)
    return rule_id


async def change(tx: Tx, *, project_id: UUID, rule_id: UUID, given: Mapping[str, Any]) -> None:
    """Change what is given, by the names of `Terms`; what is said already changes nothing. NotFound, Invalid."""
    await fitting.lock_project(tx, project_id)
    stored = await find(tx, project_id, rule_id)
    if stored is None:
        raise NotFound
    before, terms = stored.terms, replace(stored.terms, **given)
    if "config" in given:
        await check_bot(tx, project_id, terms)
    if terms == before:
        return
    version = stored.row.version + terms.is_version_new(before)
    await tx.execute(_UPDATE, {"id": rule_id, "version": version, **_columns(terms)})
    if terms.is_outcome_new(before):
        await evaluations.request_project(tx, project_id)


async def delete(tx: Tx, *, project_id: UUID, rule_id: UUID) -> None:
    """Forget a rule; its bots go, but for those that another rule wants. NotFound."""
    await fitting.lock_project(tx, project_id)
    stored = await find(tx, project_id, rule_id)
    if stored is None:
        raise NotFound
    await tx.execute(_DELETE, {"id": rule_id})
    if stored.terms.is_enabled:
        await evaluations.request_project(tx, project_id)


async def find(tx: ReadTx, project_id: UUID, rule_id: UUID) -> Stored | None:
    """A rule that its owner made: those of series are nobody's to see."""
    row = await tx.row(_FIND, {"project": project_id, "id": rule_id})
    if row is None:
        return None
    config = None if row.config is None else orjson.loads(row.config)
    terms = Terms(
        name=row.name,
        is_enabled=row.is_enabled,
        priority=row.priority,
        match=row.match,
        scope=row.dedup_scope,
        bot_name=row.bot_name,
        config=config,
        launcher_id=row.launcher_id,
    )
    return Stored(terms, row)


async def check_bot(tx: ReadTx, project_id: UUID, terms: Terms, *, pointer: str = "/bot") -> None:
    """Invalid unless the rule's launcher is there, and its back end can carry the config out."""
    launcher = await fitting.launcher(tx, project_id, terms.launcher_id, pointer=f"{pointer}/launcher_id")
    fitting.check_config(terms.config, launcher, pointer=f"{pointer}/config")


def _columns(terms: Terms) -> dict[str, Any]:
    return {
        "name": terms.name,
        "is_enabled": terms.is_enabled,
        "priority": terms.priority,
        "match": terms.match,
        "scope": terms.scope,
        "bot_name": terms.bot_name,
        "config": fitting.config_text(terms.config),
        "launcher": terms.launcher_id,
    }
