"""A bot as its owner sees it, and what is told of it.

One statement reads bots with all that their picture needs; the API and the messages show the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import orjson

from app.db import ReadTx, Row, Tx
from app.ids import BOT, CALENDAR, EVENT, LAUNCHER, RULE, new_id, public
from app.instants import instant
from app.queue import Queue
from app.webhooks import payloads
from app.webhooks.outbox import NewMessage, publish

EVENTS_SHOWN: Final = 50
"""Of what has happened to a bot, the latest."""
CONFIG_TOLD: Final = 8_000
"""Bytes of a config that a message repeats; a longer one is to be read."""

SEEN_RULE: Final = "(SELECT r.id FROM rules r WHERE r.id = b.rule_id AND r.series_id IS NULL)"
"""Null of the bots of a series, whose rule nobody sees."""

HOLD_REASON: Final = """
CASE WHEN b.transfer_since IS NOT NULL THEN 'transfer'
     ELSE (SELECT coalesce(s.failure_code, s.health_status) FROM sync_state s
            WHERE s.calendar_id = b.calendar_id AND s.health_status <> 'healthy'
              AND b.state IN ('scheduled', 'launching', 'launched')) END
"""
"""`transfer`, or what keeps its calendar from being up to date; then it launches as last known."""

COLUMNS: Final = f"""
b.id, b.project_id, b.state, b.state_reason, b.bot_name, b.meeting_url, b.meeting_platform, b.join_at,
b.calendar_event_id, b.calendar_id, b.deduplication_key, CAST(b.metadata AS text) AS metadata,
CAST(b.config AS text) AS config, b.launcher_id, b.external_id, b.series_id, b.revision, b.ends_at, b.created_at,
b.updated_at,
{SEEN_RULE} AS rule_id, {HOLD_REASON} AS hold_reason
"""

EVENTS: Final = f"""
(SELECT CAST(coalesce(json_agg(json_build_object(
            'type', t.type, 'at', to_char(t.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24\\:MI\\:SS.US"Z"'),
            'detail', t.detail) ORDER BY t.id), '[]') AS text)
   FROM (SELECT * FROM bot_events e WHERE e.bot_id = b.id ORDER BY e.id DESC LIMIT {EVENTS_SHOWN}) t) AS events
"""  # noqa: S608 - a number of ours

_TOLD = f"""
SELECT {COLUMNS}, c.deduplication_key AS calendar_key, CAST(c.metadata AS text) AS calendar_metadata
  FROM bots b LEFT JOIN calendars c ON c.id = b.calendar_id AND c.deleted_at IS NULL
 WHERE b.id = ANY (CAST(:ids AS uuid[]))
"""  # noqa: S608 - columns of ours

_NOTE = """
INSERT INTO bot_events (bot_id, at, type, detail)
SELECT n.id, app_now(), n.type, n.detail
  FROM unnest(CAST(:ids AS uuid[]), CAST(:types AS text[]), CAST(:details AS text[])) WITH ORDINALITY
       AS n (id, type, detail, place)
 ORDER BY n.place
"""


def picture(row: Row) -> dict[str, Any]:
    """A bot without its events, ready for orjson; `metadata` and `config` are texts of JSON."""
    return {
        "id": public(BOT, row.id),
        "state": row.state,
        "state_reason": row.state_reason,
        "hold_reason": row.hold_reason,
        "bot_name": row.bot_name,
        "meeting_url": row.meeting_url,
        "meeting_platform": row.meeting_platform,
        "join_at": instant(row.join_at),
        "calendar_event_id": row.calendar_event_id and public(EVENT, row.calendar_event_id),
        "calendar_id": row.calendar_id and public(CALENDAR, row.calendar_id),
        "deduplication_key": row.deduplication_key,
        "metadata": _json(row.metadata),
        "config": _json(row.config),
        "launcher_id": row.launcher_id and public(LAUNCHER, row.launcher_id),
        "external_id": row.external_id,
        "rule_id": row.rule_id and public(RULE, row.rule_id),
        "series_id": row.series_id,
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
    }


def _json(text: str | None) -> orjson.Fragment | None:
    return None if text is None else orjson.Fragment(text)


def told(row: Row) -> tuple[dict[str, Any], bool]:
    """A bot for a message, and whether its config was too long to be repeated."""
    shown = picture(row)
    is_cut = row.config is not None and len(row.config) > CONFIG_TOLD
    return (shown | {"config": None} if is_cut else shown), is_cut


async def note(tx: Tx, notes: Sequence[tuple[UUID, str, str | None]]) -> None:
    """Write down what has happened to bots: (bot, type, detail)."""
    if notes:
        ids, types, details = zip(*notes, strict=True)
        await tx.execute(_NOTE, {"ids": list(ids), "types": list(types), "details": list(details)})


async def rows_to_tell(tx: ReadTx, ids: Sequence[UUID]) -> dict[UUID, Row]:
    """Bots with what a message says of their calendar."""
    return {row.id: row for row in await tx.rows(_TOLD, {"ids": list(ids)})}


async def tell_states(tx: Tx, queue: Queue, before: Mapping[UUID, str | None]) -> None:
    """One `bot.state_change` for each bot, by the state it had before (None: it is new); they are written already."""
    if not before:
        return
    rows = await rows_to_tell(tx, list(before))
    messages = []
    for bot_id, previous in before.items():
        row, message_id = rows[bot_id], new_id()
        shown, is_cut = told(row)
        payload = payloads.bot_state_change(
            message_id,
            at=row.updated_at,
            calendar=message_calendar(row),
            bot=shown,
            revision=row.revision,
            old_state=previous,
            truncated=is_cut,
        )
        messages.append(NewMessage(message_id, row.project_id, row.calendar_id, payloads.BOT_STATE_CHANGE, payload))
    await publish(tx, queue, messages)


def message_calendar(row: Row) -> payloads.MessageCalendar | None:
    """The calendar of a row of `rows_to_tell`, as its owner named it."""
    if row.calendar_id is None:
        return None
    metadata = None if row.calendar_metadata is None else orjson.loads(row.calendar_metadata)
    return payloads.MessageCalendar(row.calendar_id, row.calendar_key, metadata)
