"""Rows that no request can make, written by SQL: events as a sync would store them, states of the engine."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from app.db import Tx
from app.ids import CALENDAR, DELIVERY, ENDPOINT, EVENT, new_id, public
from app.runtime import Runtime

START = datetime(2026, 12, 1, 9, tzinfo=UTC)

_EVENT = """
INSERT INTO calendar_events (id, project_id, calendar_id, platform_uuid, ical_uid, name, start_time, end_time,
    is_all_day, start_date, end_date, time_zone, status, is_deleted, visibility, transparency, event_type, organizer,
    creator, attendees, own_response_status, series_id, original_start_time, is_exception, meeting_url,
    meeting_platform, meeting_candidates, html_link, change_seq, raw, is_raw_truncated, content_hash, created_at,
    updated_at)
VALUES (:id, :project_id, :calendar_id, :platform_uuid, :ical_uid, :name, :start_time, :end_time, :is_all_day,
    :start_date, :end_date, :time_zone, :status, :is_deleted, 'default', 'opaque', 'default',
    CAST(:organizer AS jsonb), CAST(:organizer AS jsonb), CAST(:attendees AS jsonb), 'accepted', :series_id,
    :original_start_time, false, :meeting_url, :meeting_platform, CAST(:meeting_candidates AS jsonb), :html_link,
    :change_seq, :raw, :is_raw_truncated, CAST('x' AS bytea), :updated_at, :updated_at)
"""

_STAMP = """
UPDATE calendars SET last_change_seq = last_change_seq + 1,
       last_event_updated_at = greatest(clock_timestamp(), last_event_updated_at + interval '1 microsecond')
 WHERE id = :id RETURNING last_change_seq, last_event_updated_at
"""


@dataclass(frozen=True, slots=True)
class Rows:
    """Writes rows of one project."""

    rt: Runtime
    project_id: UUID

    async def calendar(self, *, dedup: str | None = None, email: str | None = None) -> UUID:
        """A connected calendar without a grant."""
        calendar_id, app_id = new_id(), new_id()
        async with self.rt.db.transaction() as tx:
            await tx.execute(
                "INSERT INTO oauth_apps (id, project_id, platform, client_id)"
                " VALUES (:id, :project, 'google', :client)",
                {"id": app_id, "project": self.project_id, "client": str(app_id)},
            )
            await tx.execute(
                "INSERT INTO calendars (id, project_id, oauth_app_id, platform, state, deduplication_key, email,"
                " created_at) VALUES (:id, :project, :app, 'google', 'connected', :dedup, :email, app_now())",
                {"id": calendar_id, "project": self.project_id, "app": app_id, "dedup": dedup, "email": email},
            )
            await tx.execute("INSERT INTO sync_state (calendar_id) VALUES (:id)", {"id": calendar_id})
            await tx.execute(
                "INSERT INTO grants (calendar_id, refresh_token_sealed) VALUES (:id, CAST('x' AS bytea))",
                {"id": calendar_id},
            )
        return calendar_id

    async def event(self, calendar_id: UUID, **values: Any) -> str:
        """An event, stamped as the engine stamps it; its public id."""
        async with self.rt.db.transaction() as tx:
            return await write_event(tx, self.project_id, calendar_id, **values)

    async def events(self, calendar_id: UUID, count: int) -> list[str]:
        """Several, an hour apart, each with its own stamp."""
        hours = [timedelta(hours=n) for n in range(count)]
        return [await self.event(calendar_id, start_time=START + hour) for hour in hours]

    async def endpoint(self) -> str:
        """A webhook endpoint."""
        endpoint_id = new_id()
        async with self.rt.db.transaction() as tx:
            await tx.execute(
                "INSERT INTO webhook_endpoints (id, project_id, url, triggers, secret_sealed, state)"
                " VALUES (:id, :project, 'https://app.example.com/', '{calendar.events_update}',"
                " CAST('x' AS bytea), 'enabled')",
                {"id": endpoint_id, "project": self.project_id},
            )
        return public(ENDPOINT, endpoint_id)

    async def delivery(self, endpoint_id: UUID, *, calendar_id: UUID | None = None) -> str:
        """A failed delivery with one attempt."""
        delivery_id, message_id = new_id(), new_id()
        params = {"id": delivery_id, "message": message_id, "project": self.project_id, "calendar": calendar_id}
        async with self.rt.db.transaction() as tx:
            await tx.execute(
                "INSERT INTO messages (id, project_id, calendar_id, trigger, payload)"
                " VALUES (:message, :project, :calendar, 'calendar.events_update', CAST('{}' AS bytea))",
                params,
            )
            await tx.execute(
                "INSERT INTO deliveries (id, project_id, message_id, endpoint_id, calendar_id, trigger, state)"
                " VALUES (:id, :project, :message, :endpoint, :calendar, 'calendar.events_update', 'failed')",
                params | {"endpoint": endpoint_id},
            )
            await tx.execute(
                "INSERT INTO delivery_attempts (delivery_id, at, status, phases_ms, address, response_body)"
                """ VALUES (:id, app_now(), 500, CAST('{"total": 1.5}' AS jsonb), '192.0.2.1', 'no')""",
                params,
            )
        return public(DELIVERY, delivery_id)

    async def sql(self, statement: str, **params: Any) -> None:
        """Any statement, committed."""
        async with self.rt.db.transaction() as tx:
            await tx.execute(statement, params)


async def write_event(tx: Tx, project_id: UUID, calendar_id: UUID, **values: Any) -> str:
    """An event in the caller's transaction: the calendar's row is locked and gives number and time."""
    stamp = await _stamp(tx, calendar_id)
    event_id = values.pop("id", None) or new_id()
    start = values.get("start_time", START)
    defaults: dict[str, Any] = {
        "platform_uuid": str(event_id),
        "ical_uid": None,
        "name": "Planning",
        "end_time": start + timedelta(minutes=30),
        "start_time": start,
        "is_all_day": False,
        "start_date": None,
        "end_date": None,
        "time_zone": "UTC",
        "status": "confirmed",
        "is_deleted": False,
        "organizer": None,
        "attendees": "[]",
        "series_id": None,
        "original_start_time": None,
        "meeting_url": None,
        "meeting_platform": None,
        "meeting_candidates": "[]",
        "html_link": None,
        "raw": None,
        "is_raw_truncated": False,
    }
    params = defaults | values | {"id": event_id, "project_id": project_id, "calendar_id": calendar_id}
    await tx.execute(_EVENT, params | stamp)
    return public(EVENT, event_id)


async def touch_event(tx: Tx, calendar_id: UUID) -> None:
    """A change to the calendar's oldest row in the feed, which becomes its newest."""
    await tx.execute(
        "UPDATE calendar_events SET change_seq = :change_seq, updated_at = :updated_at WHERE id ="
        " (SELECT id FROM calendar_events WHERE calendar_id = :id ORDER BY change_seq LIMIT 1)",
        await _stamp(tx, calendar_id) | {"id": calendar_id},
    )


async def _stamp(tx: Tx, calendar_id: UUID) -> dict[str, Any]:
    stamp = await tx.row(_STAMP, {"id": calendar_id})
    assert stamp is not None
    return {"change_seq": stamp.last_change_seq, "updated_at": stamp.last_event_updated_at}


def calendar_ref(calendar_id: UUID) -> str:
    """The id a customer sees."""
    return public(CALENDAR, calendar_id)
