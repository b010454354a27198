"""Transfers: a bot whose event is gone goes on with another calendar's event of the same meeting.

A bot that another event could take is held rather than cancelled (`resolving`): neither launched nor ended. That event
may be as gone as its own, and only not synced yet. So its calendar is synced first, ahead of others; once that was
served, or after PATIENCE_SECONDS, the bot is moved to the best event that is left, or ended by the reason it would have
been ended by. One meeting per transaction, both calendars locked in the order of their ids.
"""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from app.bots import claims, records, resolving, writing
from app.bots.following import BOT
from app.bots.rules import rulebook
from app.bots.rules.judging import Guard, unguarded
from app.bots.rules.rule import Candidate, Rule
from app.bots.standing import LIVE, Meeting, Step
from app.bots.writing import standing_of
from app.db import Row, Tx
from app.ids import EVENT, public
from app.runtime import Runtime
from app.scheduling import request_syncs
from app.telemetry import log

PATIENCE_SECONDS: Final = 30.0
"""So long the sync of the other calendar is waited for; then its events are taken as they are."""
BATCH: Final = 100

# Those that there is something to do for: others may wait as long as they like, and keep none of these from its turn.
_HELD: Final = f"""
SELECT h.* FROM (
    SELECT b.id, b.project_id, b.calendar_id, b.dedup_scope, b.calendar_event_id, b.rule_id, b.transfer_since,
           b.transfer_calendar_id, b.transfer_seq,
           b.transfer_since <= app_now() - make_interval(secs => {PATIENCE_SECONDS}) AS is_overdue
      FROM bots b WHERE b.transfer_since IS NOT NULL AND b.id <> ALL (CAST(:but AS uuid[]))) h
 WHERE h.transfer_calendar_id IS NULL OR h.is_overdue OR NOT EXISTS (
       SELECT FROM sync_state s JOIN calendars c ON c.id = s.calendar_id
        WHERE s.calendar_id = h.transfer_calendar_id AND c.state = 'connected' AND c.deleted_at IS NULL
          AND s.synced_seq < h.transfer_seq AND s.failure_code IS NULL AND s.not_before <= app_now())
 ORDER BY h.transfer_since, h.id LIMIT :most
"""  # noqa: S608 - a number of ours

_AWAIT: Final = """
UPDATE bots SET transfer_calendar_id = :calendar, transfer_seq = :seq WHERE id = :id AND transfer_since IS NOT NULL
"""

_LOCK_CALENDARS: Final = """
SELECT id FROM calendars WHERE id = ANY (CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE
"""

_LOCK_BOT: Final = f"""
SELECT {BOT} FROM bots b WHERE b.id = :id AND b.transfer_since = :since FOR NO KEY UPDATE
"""  # noqa: S608 - columns of ours

_RULES: Final = f"""
SELECT {rulebook.RULE} FROM rules r
 WHERE r.project_id = :project AND r.deleted_at IS NULL AND r.is_enabled AND r.series_id IS NULL
 ORDER BY {rulebook.ORDER}
"""  # noqa: S608 - columns of ours

# One that its owner has changed, say: it has kept its scope, and claims nothing.
_OWN: Final = """
SELECT b.calendar_event_id, b.rule_id FROM bots b
 WHERE b.calendar_event_id = ANY (CAST(:events AS uuid[])) AND b.rule_id IS NOT NULL
   AND b.state IN ('scheduled', 'launching', 'launched')
"""

_END: Final = """
UPDATE bots SET transfer_since = NULL, transfer_reason = NULL, transfer_calendar_id = NULL, transfer_seq = NULL
 WHERE id = :id
"""


async def transfer_due(rt: Runtime, guard: Guard = unguarded, *, but: Collection[UUID] = ()) -> int:
    """Bring held bots, but for these, one step on: ask for a sync, or settle it; how many steps were taken."""
    async with rt.db.reading() as tx:
        held = await tx.rows(_HELD, {"most": BATCH, "but": list(but)})
    done = 0
    for row in held:
        done += await guard(_ask(rt, row) if row.transfer_calendar_id is None else _settle(rt, row), row.id)
    return done


async def _ask(rt: Runtime, row: Row) -> int:
    """Have the calendar synced whose event would take the bot; without one, the bot's time here is over."""
    async with rt.db.transaction() as tx:
        bot = await tx.row(_LOCK_BOT, {"id": row.id, "since": row.transfer_since})
        if bot is None:
            return 0
        keys = (await claims.of_bots(tx, [bot.id]))[bot.id]
        for event, _ in await _targets(tx, bot, keys):
            calendar = event.ground.calendar_id
            asked = await request_syncs(rt, tx, [calendar], is_priority=True)
            if calendar in asked:
                await tx.execute(_AWAIT, {"id": bot.id, "calendar": calendar, "seq": asked[calendar]})
                return 1
    return await _settle(rt, row)


async def _targets(tx: Tx, bot: Row, keys: frozenset[str]) -> list[tuple[Candidate, Rule]]:
    """The events that could take the bot and that no other has, each with the rule that wants it there; best first."""
    rules = [rulebook.rule_of(row) for row in await tx.rows(_RULES, {"project": bot.project_id})]
    found = resolving.takers(bot, keys, await rulebook.sharing(tx, bot.project_id, keys), rules)
    asked = {key for event, rule in found for key in event.keys(rule.scope)}
    owners = await claims.holders(tx, project=bot.project_id, keys=asked)
    ids = {"events": [event.id for event, _ in found]}
    own = {(row.calendar_event_id, row.rule_id) for row in await tx.rows(_OWN, ids)}
    return [
        (event, rule)
        for event, rule in found
        if own.isdisjoint({(event.id, rule.id), (event.id, bot.rule_id)})
        and resolving.is_free(bot, event, rule, owners)
    ]


async def _settle(rt: Runtime, row: Row) -> int:
    """Move the bot to the event that takes it, have the next one's calendar synced, or end it."""
    async with rt.db.transaction() as tx:
        keys = (await claims.of_bots(tx, [row.id]))[row.id]
        known = await _targets(tx, row, keys)
        target = row.transfer_calendar_id
        if row.is_overdue:
            target = known[0][0].ground.calendar_id if known else None
        await tx.rows(_LOCK_CALENDARS, {"ids": sorted({target, row.calendar_id} - {None})})
        bot = await tx.row(_LOCK_BOT, {"id": row.id, "since": row.transfer_since})
        if bot is None or bot.calendar_id != row.calendar_id or bot.state not in LIVE:
            if bot is not None and bot.state not in LIVE:
                await tx.execute(_END, {"id": row.id})
            return 0
        of_target = (one for one in known if one[0].ground.calendar_id == target)
        locked = keys.union(*(event.keys(rule.scope) for event, rule in of_target))
        await claims.lock_keys(tx, project=bot.project_id, keys=locked)
        later = False
        for event, rule in await _targets(tx, bot, keys):
            if event.ground.calendar_id == target and event.keys(rule.scope) <= locked:
                await _move(rt, tx, bot, event, rule, keys)
                return 1
            later = True
        if not later:
            await _end(rt, tx, bot)
            await resolving.pass_on(tx, bot.project_id, keys, but=())
        elif not row.is_overdue:  # else its turn comes at once, with the locks for it
            await tx.execute(_AWAIT, {"id": row.id, "calendar": None, "seq": None})
    return 1


async def _move(rt: Runtime, tx: Tx, bot: Row, event: Candidate, rule: Rule, before: frozenset[str]) -> None:
    """Make it the event's bot. What it has claimed until now and claims no more, another event may have."""
    meeting, keys = event.meeting, event.keys(rule.scope)
    if not isinstance(meeting, Meeting):
        return
    is_adopted = not bot.is_by_hand and (bot.rule_id, bot.rule_version) != (rule.id, rule.version)
    is_elsewhere = bot.is_at_back_end and bot.launcher_id != rule.launcher_id
    await writing.attach(tx, {bot.id: event})
    if is_adopted and not is_elsewhere:
        await writing.adopt(tx, {bot.id: rule})
    step = Step(bot.state, None, meeting, is_adopted=is_adopted and not is_elsewhere)
    await writing.write(tx, {bot.id: bot}, {bot.id: step})
    await claims.store(tx, project=bot.project_id, before={bot.id: before}, after={bot.id: keys})
    await records.note(tx, [(bot.id, "transferred", f"to {public(EVENT, event.id)}: {bot.transfer_reason}")])
    tx.after_commit(rt.queue.wake_launching)
    await resolving.pass_on(tx, bot.project_id, before - keys, but={event.id})
    log.info("bots.transferred", bot=str(bot.id), calendar=str(event.ground.calendar_id))


async def _end(rt: Runtime, tx: Tx, bot: Row) -> None:
    """No event is left that would take it."""
    step = Step("cancelled", bot.transfer_reason, standing_of(bot).meeting)
    await writing.write(tx, {bot.id: bot}, {bot.id: step})
    await records.tell_states(tx, rt.queue, {bot.id: bot.state})
    tx.after_commit(rt.queue.wake_launching)
