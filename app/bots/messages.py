"""Launching by message: the customer's own endpoints are told by `bot.launch`, of an end by `bot.state_change`.

A message goes the way of all messages, and the answer that an endpoint gives to it is the back end's. A bot that has
changed is told anew, with a higher revision, in the same transaction in which the older message is given up.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

import orjson

from app.bots import records
from app.bots.checking import looked
from app.bots.launchers.webhook import external_id, launch_data
from app.bots.outcomes import After, Claim
from app.bots.standing import LIVE
from app.db import Row, Tx
from app.ids import new_id
from app.runtime import Runtime
from app.webhooks import payloads
from app.webhooks.outbox import NewMessage, publish

LOOK_SECONDS: Final = 1.0
"""Until the first look at what became of a `bot.launch`; each further one takes twice as long, up to a most."""
LOOK_MAX_SECONDS: Final = 8.0

_ANSWERS: Final = """
SELECT d.message_id, bool_or(d.state = 'succeeded') AS is_taken, bool_or(d.state = 'pending') AS is_open,
       max((SELECT a.response_body FROM delivery_attempts a
             WHERE a.delivery_id = d.id AND d.state = 'succeeded' ORDER BY a.id DESC LIMIT 1)) AS answer
  FROM deliveries d WHERE d.message_id = ANY (CAST(:ids AS uuid[])) GROUP BY d.message_id
"""

_LISTENED: Final = """
SELECT DISTINCT e.project_id FROM webhook_endpoints e
 WHERE e.project_id = ANY (CAST(:ids AS uuid[])) AND e.deleted_at IS NULL AND e.state <> 'disabled'
   AND 'bot.launch' = ANY (e.triggers)
"""

# An attempt under way finds another fence, and changes nothing.
_GIVE_UP: Final = """
WITH given_up AS (
    SELECT id FROM deliveries WHERE message_id = ANY (CAST(:ids AS uuid[])) AND state = 'pending' ORDER BY id FOR UPDATE
)
UPDATE deliveries d SET state = 'failed', next_attempt_at = NULL, fence = d.fence + 1
  FROM given_up g WHERE d.id = g.id
"""


async def settle(tx: Tx, claims: Sequence[Claim]) -> list[tuple[Claim, After]]:
    """What becomes of these bots; `send` has to follow once that is recorded."""
    if not claims:
        return []
    awaited = [c.row.launch_message_id for c in claims if _is_awaited(c.row)]
    answers = {row.message_id: row for row in await tx.rows(_ANSWERS, {"ids": awaited})} if awaited else {}
    news = [c.row.project_id for c in claims if _is_new(c.row)]
    listened = {row.project_id for row in await tx.rows(_LISTENED, {"ids": sorted(set(news))})} if news else set()
    old = [c.row.launch_message_id for c in claims if c.row.launch_message_id and not _is_awaited(c.row)]
    if old:
        await tx.execute(_GIVE_UP, {"ids": old})
    settled = []
    for claim in claims:
        row, as_is = claim.row, claim.as_is
        if row.state not in LIVE:
            after = replace(as_is.gone(), wait=None, failures=0)
        elif _is_new(row):
            after = _sent(row, as_is, has_listener=row.project_id in listened)
        elif _is_awaited(row):
            after = _answered(row, as_is, answers.get(row.launch_message_id))
        else:
            after = replace(as_is, state="launched", wait=None, failures=0)
        settled.append((claim, after))
    return settled


def _told(row: Row) -> int:
    """The revision that was told last; 0: none."""
    return row.handed_revision or (int(orjson.loads(row.handed)["revision"]) if row.handed else 0)


def _is_new(row: Row) -> bool:
    return row.state in LIVE and bool(_told(row) < row.revision)


def _is_awaited(row: Row) -> bool:
    return row.state in LIVE and row.launch_message_id is not None and not _is_new(row)


def _sent(row: Row, as_is: After, *, has_listener: bool) -> After:
    if row.handed_revision is not None:
        passed_on = (("passed_on", None),)
        return replace(
            as_is,
            state="launched",
            wait=None,
            failures=0,
            handed_revision=row.revision,
            message=new_id(),
            notes=passed_on,
        )
    if not has_listener:
        why = "no endpoint listens to bot.launch"
        return replace(
            as_is.gone(), state="failed", reason="no_receiver", wait=None, failures=0, notes=(("failed", why),)
        )
    return replace(
        as_is,
        state="launching",
        reason=None,
        wait=LOOK_SECONDS,
        failures=0,
        since=row.now,
        handed_to=None,
        message=new_id(),
        handed=orjson.dumps({"revision": row.revision}).decode(),
        notes=(*looked(row), ("launching", None)) if row.state != "launching" else (("passed_on", None),),
    )


def _answered(row: Row, as_is: After, answer: Row | None) -> After:
    if answer is not None and answer.is_taken:
        own = external_id((answer.answer or "").encode()) or as_is.external_id
        return replace(
            as_is,
            state="launched",
            reason=None,
            wait=None,
            failures=0,
            since=None,
            handed_revision=_told(row),
            external_id=own,
            message=None,
            notes=(("launched", own),),
        )
    if answer is not None and answer.is_open:
        wait = min(LOOK_MAX_SECONDS, LOOK_SECONDS * 2 ** min(row.failure_count + 1, 10))
        left = max(0.0, (row.ends_at - row.now).total_seconds())
        return replace(as_is, wait=min(wait, left), failures=row.failure_count + 1)
    notes = (("failed", "no endpoint took bot.launch"),)
    return replace(as_is.gone(), state="failed", reason="not_delivered", wait=None, failures=0, notes=notes)


async def send(rt: Runtime, tx: Tx, settled: Sequence[tuple[Claim, After]]) -> None:
    """Publish the messages of what `settle` came to, with the bots as they are recorded now."""
    new: dict[UUID, tuple[UUID, Row]] = {
        claim.row.id: (after.message, claim.row)
        for claim, after in settled
        if after.message is not None and after.message != claim.row.launch_message_id
    }
    if not new:
        return
    told = await records.rows_to_tell(tx, list(new))
    made = []
    for bot_id, (message_id, row) in new.items():
        bot = told[bot_id]
        shown, is_cut = records.told(bot)
        data = launch_data(shown, revision=bot.revision, join_at=bot.join_at, expires_at=bot.ends_at)
        payload = payloads.bot_launch(
            message_id, at=row.now, calendar=records.message_calendar(bot), data=data | {"truncated": is_cut}
        )
        made.append(NewMessage(message_id, row.project_id, row.calendar_id, payloads.BOT_LAUNCH, payload))
    await publish(tx, rt.queue, made)
