"""Bots follow their events, and rules make and end them: in the transaction that changed these, all of a round at once.

Whoever changes events holds their calendar's row; bots are locked after it, in the order of their ids, and the keys of
meetings after those. A round reads events, bots and rules with one statement each, plans what becomes of them without
another, and writes the whole of it. What a plan costs does not depend on how many events it is about.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from time import monotonic
from typing import Final
from uuid import UUID

from app.bots import claims, records, splitting, writing
from app.bots.planning import Plan, plan
from app.bots.resolving import resolve
from app.bots.rules import evaluations, rulebook
from app.bots.rules.rule import Candidate, Ground, Rule, wanted
from app.bots.standing import Reason
from app.db import Row, Tx
from app.runtime import Runtime
from app.telemetry import log

AT_ONCE: Final = 500
"""Events whose bots are made or changed in a request; the others' follow soon."""
SLICE_SECONDS: Final = 0.01
"""So long the loop's other tasks wait at most while many events are judged by many rules."""

BOT: Final = """
b.id, b.project_id, b.state, b.state_reason, b.is_removed, b.meeting_url, b.meeting_platform, b.join_at, b.ends_at,
b.deduplication_key, b.calendar_id, b.calendar_event_id, b.series_id, b.rule_id, b.rule_version, b.dedup_scope,
b.is_by_hand, b.launcher_id, b.transfer_since, b.transfer_reason, b.created_at,
b.handed_revision IS NOT NULL OR b.starting_since IS NOT NULL AS is_at_back_end, app_now() AS now
"""
"""The columns of a bot that a round goes by."""

_FOLLOWERS: Final = f"SELECT {BOT} FROM bots b WHERE {{which}} ORDER BY b.id FOR NO KEY UPDATE"  # noqa: S608 - ours
_OF_EVENTS: Final = _FOLLOWERS.format(which="b.calendar_event_id = ANY (CAST(:events AS uuid[]))")
_OF_CALENDAR: Final = _FOLLOWERS.format(
    which="b.calendar_id = :calendar AND (b.ends_at > app_now() OR b.calendar_event_id = ANY (CAST(:events AS uuid[])))"
)
_DETACH: Final = """
UPDATE bots b SET calendar_event_id = NULL, calendar_id = NULL
  FROM (SELECT id FROM bots WHERE calendar_id = :calendar ORDER BY id FOR NO KEY UPDATE) d WHERE b.id = d.id
"""
_END_SERIES: Final = """
UPDATE rules SET deleted_at = app_now() WHERE series_calendar_id = :calendar AND deleted_at IS NULL
"""


async def synced(rt: Runtime, tx: Tx, calendar_id: UUID, event_ids: Sequence[UUID], *, is_reconnected: bool) -> int:
    """Let bots follow these events, as they are stored now; how many changed. Their calendar's row is locked.

    With a calendar that works again come back the bots of all its meetings that are still ahead: those that were, and
    those that were put off meanwhile. What rules want of its other events is looked at soon.
    """
    if not event_ids and not is_reconnected:
        return 0
    book = await rulebook.of_calendar(tx, calendar_id)
    if book is None:
        return 0
    if is_reconnected and book[1]:
        await evaluations.request(tx, [calendar_id])
    params = {"calendar": calendar_id, "events": list(event_ids)}
    bots = await tx.rows(_OF_CALENDAR, params) if is_reconnected else await tx.rows(_OF_EVENTS, params)
    return await _judge(rt, tx, *book, event_ids, bots, is_round=True)


async def judged_anew(
    rt: Runtime, tx: Tx, calendar_id: UUID, event_ids: Sequence[UUID], *, first: tuple[UUID, UUID] | None = None
) -> int:
    """Apply the rules, which have changed, to these events; how many bots changed. Their calendar's row is locked.

    `first`: a series' new rule, and the event whose bot gets the rule's deduplication key as it is.
    """
    book = await rulebook.of_calendar(tx, calendar_id)
    if book is None or not event_ids:
        return 0
    ground, rules = book
    if first is not None:
        rules = [replace(rule, first_event_id=first[1]) if rule.id == first[0] else rule for rule in rules]
    bots = await tx.rows(_OF_EVENTS, {"events": list(event_ids)})
    return await _judge(rt, tx, ground, rules, event_ids, bots)


async def judged_in_part(
    rt: Runtime, tx: Tx, calendar_id: UUID, event_ids: Sequence[UUID], *, first: tuple[UUID, UUID] | None = None
) -> None:
    """The same in a request: AT_ONCE of the events now, the others soon."""
    await judged_anew(rt, tx, calendar_id, event_ids[:AT_ONCE], first=first)
    await evaluations.request_events(tx, {calendar_id: event_ids[AT_ONCE:]})


async def disconnected(rt: Runtime, tx: Tx, calendar_id: UUID) -> int:
    """The user's access is over: the calendar's bots are cancelled, to be restored with it, or transferred."""
    return await _end(rt, tx, calendar_id, "calendar_disconnected")


async def calendar_deleted(rt: Runtime, tx: Tx, calendar_id: UUID) -> int:
    """A calendar is gone for good: its bots are cancelled or transferred, and stay readable without their events."""
    return await _end(rt, tx, calendar_id, "calendar_deleted")


async def _end(rt: Runtime, tx: Tx, calendar_id: UUID, reason: Reason) -> int:
    bots = await tx.rows(_OF_CALENDAR, {"calendar": calendar_id, "events": []})
    book = await rulebook.of_calendar(tx, calendar_id) if bots else None
    if reason == "calendar_deleted":
        await tx.execute(_DETACH, {"calendar": calendar_id})
        await tx.execute(_END_SERIES, {"calendar": calendar_id})
    if book is None:
        return 0
    return await carry_out(rt, tx, book[0], plan(bots, [], {}, now=rt.clock.now(), ended=reason), book[1])


async def _judge(
    rt: Runtime,
    tx: Tx,
    ground: Ground,
    rules: Sequence[Rule],
    event_ids: Collection[UUID],
    bots: Sequence[Row],
    *,
    is_round: bool = False,
) -> int:
    if not bots and not rules:
        return 0
    ids = {*event_ids, *(bot.calendar_event_id for bot in bots)}
    candidates: Sequence[Candidate] = await rulebook.events(tx, ids, ground)
    if is_round:
        touched = set(event_ids)
        candidates, rules = await splitting.carry_over(tx, ground.calendar_id, candidates, rules, touched=touched)
    now = rt.clock.now()
    wants = await wanted_by(rules, candidates, now=now)
    return await carry_out(rt, tx, ground, plan(bots, candidates, wants, now=now), rules)


async def wanted_by(
    rules: Sequence[Rule], candidates: Sequence[Candidate], *, now: datetime
) -> dict[UUID, Sequence[Rule]]:
    """The rules that want a bot, for each event with a meeting ahead. Lets others go on now and then."""
    found: dict[UUID, Sequence[Rule]] = {}
    began = monotonic()
    for candidate in candidates:
        if candidate.is_ahead(now):
            found[candidate.id] = wanted(rules, candidate)
        if monotonic() - began > SLICE_SECONDS:
            await asyncio.sleep(0)
            began = monotonic()
    return found


async def carry_out(rt: Runtime, tx: Tx, ground: Ground, made: Plan, rules: Sequence[Rule]) -> int:
    """Store a plan, as far as other calendars' bots of the same meetings leave room for it; how many bots changed.

    The bots are locked, and their calendar's row.
    """
    held = await resolve(tx, ground, made, rules)
    steps = {id_: step for id_, step in made.steps.items() if not made.is_vain(id_)}
    await writing.attach(tx, made.attached)
    await writing.adopt(tx, {id_: rule for id_, rule in made.adopted.items() if id_ in steps})
    await writing.write(tx, {id_: made.bots[id_] for id_ in steps}, steps)
    await writing.hold(tx, held)
    await writing.let_go(tx, made.released)
    await writing.insert(tx, ground.project_id, made.new)
    await claims.store(tx, project=ground.project_id, before=made.claims_before, after=made.claims_after)
    before: dict[UUID, str | None] = {
        id_: made.bots[id_].state for id_, step in steps.items() if made.bots[id_].state != step.state
    }
    before |= dict.fromkeys([one.id for one in made.new])
    await records.tell_states(tx, rt.queue, before)
    changed = len(steps.keys() | made.attached.keys()) + len(made.new) + len(held)
    if changed:
        tx.after_commit(rt.queue.wake_launching)
        log.info("bots.followed", bots=len(steps), new=len(made.new), held=len(held))
    return changed
