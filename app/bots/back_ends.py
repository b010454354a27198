"""Launchers as their owner makes and changes them: the bot back ends of a project, with their keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from app.bots import fitting
from app.bots.calls import api_key_place
from app.bots.launchers import CAPABILITIES, Kind, make_launcher
from app.bots.launchers.base import Check
from app.crypto import SealBroken
from app.db import Row, Tx
from app.errors import Conflict, FieldProblem, NotFound, refusals
from app.ids import new_id
from app.runtime import Runtime

_INSERT: Final = """
INSERT INTO launchers (id, project_id, kind, name, base_url, api_key_sealed, hand_over_seconds, is_default,
                       created_at, updated_at)
VALUES (:id, :project, :kind, :name, :base_url, :key, :hand_over, :is_default, app_now(), app_now())
"""
_NO_DEFAULT: Final = """
UPDATE launchers SET is_default = false, updated_at = app_now()
 WHERE project_id = :project AND is_default AND deleted_at IS NULL AND id <> :id
"""
_LOCK: Final = """
SELECT id, kind, name, base_url, api_key_sealed, hand_over_seconds, is_default FROM launchers
 WHERE project_id = :project AND id = :id AND deleted_at IS NULL FOR NO KEY UPDATE
"""
_UPDATE: Final = """
UPDATE launchers
   SET kind = :kind, name = :name, base_url = :base_url, api_key_sealed = :key, hand_over_seconds = :hand_over,
       is_default = :is_default, updated_at = app_now(),
       failing_code = CASE WHEN :is_key_new THEN NULL ELSE failing_code END,
       failing_detail = CASE WHEN :is_key_new THEN NULL ELSE failing_detail END
 WHERE id = :id
"""
# Of bots that name no launcher, those that wait need the default one; of rules those alone that name it.
_USED: Final = """
SELECT EXISTS (SELECT FROM rules r WHERE r.project_id = :project AND r.launcher_id = :id AND r.deleted_at IS NULL)
    OR EXISTS (SELECT FROM bots b
                WHERE b.project_id = :project
                  AND (b.launcher_id = :id OR b.handed_to = :id
                       OR :is_default AND b.launcher_id IS NULL AND b.handed_revision IS NULL
                          AND b.state IN ('scheduled', 'launching'))
                  AND (b.state IN ('scheduled', 'launching', 'launched') AND b.ends_at > app_now()
                       OR b.due_at IS NOT NULL))
"""
_DELETE: Final = """
UPDATE launchers SET deleted_at = app_now(), is_default = false, api_key_sealed = NULL, updated_at = app_now()
 WHERE id = :id
"""

# A bot that has ended may come back with its event, and is to find a launcher then: the default. One that a sync brings
# back in this very moment is `scheduled` by now; those that the launching loop may be about to take are left, as below.
_NAME_NONE: Final = """
UPDATE bots b SET launcher_id = NULL
  FROM (SELECT e.id FROM bots e
         WHERE e.project_id = :project AND e.launcher_id = :id AND e.calendar_event_id IS NOT NULL AND NOT e.is_removed
           AND e.state IN ('scheduled', 'cancelled', 'missed')
           AND e.handed_revision IS NULL AND e.starting_since IS NULL
           AND (e.due_at IS NULL OR e.due_at > app_now() + interval '2 seconds')
         ORDER BY e.id FOR NO KEY UPDATE) ended
 WHERE b.id = ended.id
"""

# A bot that waits for its hand-over waits for the new one; those that were handed over, or are being, are left, and so
# are those that the launching loop, which holds bots before launchers, may be about to take.
_RESCHEDULE: Final = """
UPDATE bots b
   SET due_at = greatest(app_now(), b.join_at - make_interval(secs => coalesce(
           (SELECT l.hand_over_seconds FROM launchers l
             WHERE l.deleted_at IS NULL AND CASE WHEN b.launcher_id IS NULL
                   THEN l.project_id = b.project_id AND l.is_default ELSE l.id = b.launcher_id END), 60)))
  FROM (SELECT w.id FROM bots w WHERE w.project_id = :project AND w.state = 'scheduled'
            AND w.due_at > app_now() + interval '2 seconds'
         ORDER BY w.id FOR NO KEY UPDATE) waiting
 WHERE b.id = waiting.id
"""

# What was put off may work with another key.
_TRY_AGAIN: Final = """
UPDATE bots b SET due_at = app_now()
  FROM (SELECT w.id FROM bots w
         WHERE w.project_id = :project AND w.failure_count > 0 AND w.due_at > app_now() + interval '2 seconds'
           AND (w.launcher_id = :id OR w.handed_to = :id OR w.launcher_id IS NULL AND w.handed_to IS NULL)
         ORDER BY w.id FOR NO KEY UPDATE) waiting
 WHERE b.id = waiting.id
"""


@dataclass(frozen=True, slots=True)
class NewLauncher:
    """A launcher to be made; None takes the kind's own."""

    kind: Kind
    name: str
    base_url: str | None
    api_key: str | None
    hand_over_seconds: int | None
    is_default: bool


async def make(rt: Runtime, tx: Tx, *, project_id: UUID, new: NewLauncher) -> UUID:
    """Store a launcher. Invalid where its address may not be reached, or its key is missing or of no use."""
    _check(rt, new.kind, new.base_url, api_key=new.api_key, is_key_needed=True)
    launcher_id = new_id()
    await fitting.lock_project(tx, project_id)
    if new.is_default:
        await tx.execute(_NO_DEFAULT, {"project": project_id, "id": launcher_id})
    capabilities = CAPABILITIES[new.kind]
    hand_over = capabilities.hand_over_seconds if new.hand_over_seconds is None else new.hand_over_seconds
    await tx.execute(
        _INSERT,
        {
            "id": launcher_id,
            "project": project_id,
            "kind": new.kind,
            "name": new.name,
            "base_url": new.base_url,
            "key": _sealed(rt, launcher_id, new.api_key),
            "hand_over": hand_over,
            "is_default": new.is_default,
        },
    )
    if new.is_default:
        await tx.execute(_RESCHEDULE, {"project": project_id})
        tx.after_commit(rt.queue.wake_launching)
    return launcher_id


async def change(rt: Runtime, tx: Tx, *, project_id: UUID, launcher_id: UUID, given: Mapping[str, Any]) -> None:
    """Change what is given. A new kind or address needs its key in the same request: the old key is not sent to it.

    NotFound, Invalid, Conflict (`launcher_in_use`: another kind or address, while bots or rules need the old one).
    """
    await fitting.lock_project(tx, project_id)
    row = await tx.row(_LOCK, {"project": project_id, "id": launcher_id})
    if row is None:
        raise NotFound
    kind: Kind = given.get("kind", row.kind)
    base_url = given.get("base_url", row.base_url)
    is_elsewhere = (kind, base_url) != (row.kind, row.base_url)
    _check(rt, kind, base_url, api_key=given.get("api_key"), is_key_needed=is_elsewhere)
    if is_elsewhere:
        await _refuse_used(tx, project_id, row)
    is_default = bool(given.get("is_default", row.is_default))
    if is_default and not row.is_default:
        await tx.execute(_NO_DEFAULT, {"project": project_id, "id": launcher_id})
    key = _sealed(rt, launcher_id, given["api_key"]) if given.get("api_key") else row.api_key_sealed
    params = {
        "id": launcher_id,
        "kind": kind,
        "name": given.get("name", row.name),
        "base_url": base_url,
        "key": key if CAPABILITIES[kind].has_key else None,
        "hand_over": given.get("hand_over_seconds", row.hand_over_seconds),
        "is_default": is_default,
        "is_key_new": bool(given.get("api_key")) or is_elsewhere,
    }
    await tx.execute(_UPDATE, params)
    if is_default != row.is_default or params["hand_over"] != row.hand_over_seconds:
        await tx.execute(_RESCHEDULE, {"project": project_id})
    if params["is_key_new"]:
        await tx.execute(_TRY_AGAIN, {"project": project_id, "id": launcher_id})
    tx.after_commit(rt.queue.wake_launching)


async def delete(tx: Tx, *, project_id: UUID, launcher_id: UUID) -> None:
    """Forget a launcher and its key; bots that may come back go to the default then.

    NotFound; Conflict (`launcher_in_use`) while bots or rules need it.
    """
    await fitting.lock_project(tx, project_id)
    row = await tx.row(_LOCK, {"project": project_id, "id": launcher_id})
    if row is None:
        raise NotFound
    await _refuse_used(tx, project_id, row)
    await tx.execute(_DELETE, {"id": launcher_id})
    await tx.execute(_NAME_NONE, {"project": project_id, "id": launcher_id})


async def _refuse_used(tx: Tx, project_id: UUID, row: Row) -> None:
    if await tx.scalar(_USED, {"project": project_id, "id": row.id, "is_default": row.is_default}):
        raise Conflict("bots are scheduled with this launcher, or a rule names it", code="launcher_in_use")


async def check(rt: Runtime, *, project_id: UUID, launcher_id: UUID) -> Check:
    """Try the address and the key, without starting anything. NotFound."""
    query = (
        "SELECT kind, base_url, api_key_sealed FROM launchers"
        " WHERE project_id = :project AND id = :id AND deleted_at IS NULL"
    )
    async with rt.db.reading() as tx:
        row = await tx.row(query, {"project": project_id, "id": launcher_id})
    if row is None:
        raise NotFound
    if row.kind == "webhook":
        return await _check_webhook(rt, project_id)
    try:
        key = rt.cipher.open(row.api_key_sealed, api_key_place(launcher_id))
    except SealBroken:
        return Check(ok=False, detail="the stored key could not be opened: set it again")
    return await make_launcher(row.kind, egress=rt.launches, base_url=row.base_url, api_key=key).check()


async def _check_webhook(rt: Runtime, project_id: UUID) -> Check:
    query = (
        "SELECT count(*) FROM webhook_endpoints WHERE project_id = :project AND deleted_at IS NULL"
        " AND state <> 'disabled' AND 'bot.launch' = ANY (triggers)"
    )
    async with rt.db.reading() as tx:
        count = await tx.scalar(query, {"project": project_id})
    return Check(ok=count > 0, detail=f"{count} endpoints listen to bot.launch")


def _sealed(rt: Runtime, launcher_id: UUID, key: str | None) -> bytes | None:
    return None if key is None else rt.cipher.seal(key, api_key_place(launcher_id))


def _check(rt: Runtime, kind: Kind, base_url: str | None, *, api_key: str | None, is_key_needed: bool) -> None:
    has_key = CAPABILITIES[kind].has_key
    problems = []
    if not has_key and api_key is not None:
        problems.append(FieldProblem("/api_key", "not_allowed", f"a launcher of kind {kind} has no key"))
    if not has_key and base_url is not None:
        problems.append(FieldProblem("/base_url", "not_allowed", f"a launcher of kind {kind} has no address"))
    if has_key and is_key_needed and api_key is None:
        problems.append(FieldProblem("/api_key", "missing", "is needed with this kind and address"))
    if problems:
        raise refusals(problems)
    if base_url is not None:
        rt.launches.check_url(base_url, pointer="/base_url", may_be_plain=True)
