"""What is to be judged by the rules anew: requests, as rows.

A request is only ever inserted, so that whoever makes one waits for nobody; doubled ones cost a second look.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final
from uuid import UUID

from app.db import Tx

_REQUEST: Final = "INSERT INTO rule_evaluations (calendar_id) SELECT unnest(CAST(:calendars AS uuid[]))"

_REQUEST_PROJECT: Final = """
INSERT INTO rule_evaluations (calendar_id)
SELECT c.id FROM calendars c WHERE c.project_id = :project AND c.deleted_at IS NULL AND c.state = 'connected'
 ORDER BY c.id
"""

_REQUEST_EVENTS: Final = """
INSERT INTO rule_evaluations (calendar_id, event_ids)
SELECT n.calendar, array_agg(n.event)
  FROM unnest(CAST(:calendars AS uuid[]), CAST(:events AS uuid[])) AS n (calendar, event) GROUP BY n.calendar
"""


async def request(tx: Tx, calendar_ids: Collection[UUID]) -> None:
    """Judge all events ahead of these calendars anew, soon."""
    await tx.execute(_REQUEST, {"calendars": list(calendar_ids)})


async def request_project(tx: Tx, project_id: UUID) -> None:
    """Judge all events ahead of a project anew, soon: its rules have changed, or what they go by."""
    await tx.execute(_REQUEST_PROJECT, {"project": project_id})


async def request_events(tx: Tx, events: Mapping[UUID, Sequence[UUID]]) -> None:
    """Judge these events anew, by their calendars: a key that they have may be free."""
    pairs = [(calendar, event) for calendar, ids in events.items() for event in ids]
    if pairs:
        calendars, ids = zip(*pairs, strict=True)
        await tx.execute(_REQUEST_EVENTS, {"calendars": list(calendars), "events": list(ids)})
