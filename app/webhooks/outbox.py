"""The outbox: messages are written in the transaction that changed what they tell about, or not at all.

One statement stores the messages and one delivery for each endpoint that listens. Whoever publishes needs no
idea of endpoints; whoever delivers needs no idea of calendars. A disabled endpoint is owed what changed in its
calendars; anything else is logged as failed, and can be replayed. A launch takes no place in a lane. The wake-up
after the commit may be lost: a poll finds the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from app.db import Tx
from app.queue import Queue
from app.webhooks.launches import URGENT
from app.webhooks.payloads import BOT_LAUNCH


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be stored. `endpoint_id` names its only receiver, else the trigger's listeners get it."""

    id: UUID
    project_id: UUID
    calendar_id: UUID | None
    trigger: str
    payload: bytes
    endpoint_id: UUID | None = None
    from_seq: int | None = None
    to_seq: int | None = None
    """The part of the calendar's feed that it tells, both ends inclusive."""


# A delivery's key starts with the 56 bits of its message's key that hold time and version, so that rows made
# together lie together in the index; the rest is random. (uuidv7() exists from PostgreSQL 18 on only.)
_PUBLISH = f"""
WITH given AS (
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:projects AS uuid[]), CAST(:calendars AS uuid[]),
        CAST(:triggers AS text[]), CAST(:payloads AS bytea[]), CAST(:endpoints AS uuid[]),
        CAST(:from AS bigint[]), CAST(:to AS bigint[])
    ) WITH ORDINALITY AS m (id, project_id, calendar_id, trigger, payload, endpoint_id, from_seq, to_seq, place)
), stored AS (
    INSERT INTO messages (id, project_id, calendar_id, trigger, payload, from_seq, to_seq)
    SELECT id, project_id, calendar_id, trigger, payload, from_seq, to_seq FROM given
), told AS (
    SELECT m.*, e.id AS endpoint, CASE WHEN e.is_ordered AND m.trigger <> '{BOT_LAUNCH}' THEN m.calendar_id END AS lane,
           e.state = 'disabled' AND m.trigger NOT IN ('calendar.events_update', 'webhook.test') AS is_over
    FROM given m
    JOIN webhook_endpoints e ON e.project_id = m.project_id AND e.deleted_at IS NULL AND (
        e.id = m.endpoint_id OR m.endpoint_id IS NULL AND m.trigger = ANY (e.triggers)
    )
), made AS (
    INSERT INTO deliveries (
        id, project_id, message_id, endpoint_id, calendar_id, trigger, state, next_attempt_at, lane, priority
    )
    SELECT
        CAST(encode(overlay(
            uuid_send(gen_random_uuid()) PLACING substring(uuid_send(m.id) FROM 1 FOR 7) FROM 1 FOR 7
        ), 'hex') AS uuid),
        m.project_id, m.id, m.endpoint, m.calendar_id, m.trigger, CASE WHEN m.is_over THEN 'failed' ELSE 'pending' END,
        CASE WHEN NOT m.is_over THEN (SELECT app_now()) END, m.lane,
        CASE WHEN m.trigger = '{BOT_LAUNCH}' THEN {URGENT} ELSE 0 END
    FROM told m ORDER BY m.place  -- `seq` counts in this order
    RETURNING id, state
)
SELECT id FROM made WHERE state = 'pending'
"""  # noqa: S608 - constants of ours

# Locked in the order in which attempts are recorded, so that neither waits for the other in a circle.
_DROP_OF_CALENDAR = """
WITH dropped AS (
    SELECT id FROM deliveries
    WHERE calendar_id = :calendar_id AND state = 'pending' AND trigger LIKE 'calendar.%'
    ORDER BY id FOR UPDATE
)
DELETE FROM deliveries d USING dropped WHERE d.id = dropped.id
"""

_DROP_OF_ENDPOINT = """
WITH dropped AS (
    SELECT id FROM deliveries WHERE endpoint_id = :endpoint_id AND state = 'pending' ORDER BY id FOR UPDATE
)
DELETE FROM deliveries d USING dropped WHERE d.id = dropped.id
"""


async def publish(tx: Tx, queue: Queue, messages: Sequence[NewMessage]) -> list[UUID]:
    """Store messages and their deliveries; the ids of those that are to be sent. Message ids are keys of `app.ids`."""
    if not messages:
        return []
    rows = await tx.rows(
        _PUBLISH,
        {
            "ids": [m.id for m in messages],
            "projects": [m.project_id for m in messages],
            "calendars": [m.calendar_id for m in messages],
            "triggers": [m.trigger for m in messages],
            "payloads": [m.payload for m in messages],
            "endpoints": [m.endpoint_id for m in messages],
            "from": [m.from_seq for m in messages],
            "to": [m.to_seq for m in messages],
        },
    )
    if rows:
        tx.after_commit(queue.wake_delivery)
    return [row.id for row in rows]


async def drop_undelivered(tx: Tx, calendar_id: UUID) -> int:
    """Forget what a deleted calendar had still to tell; what was delivered or failed stays in the log.

    An attempt under way may still arrive; recording it finds no row and changes nothing.
    """
    return await tx.execute(_DROP_OF_CALENDAR, {"calendar_id": calendar_id})


async def drop_undelivered_to(tx: Tx, endpoint_id: UUID) -> int:
    """Forget what a deleted endpoint was still to be told. Lock its row before, never after."""
    return await tx.execute(_DROP_OF_ENDPOINT, {"endpoint_id": endpoint_id})
