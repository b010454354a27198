"""Rows that no request can make, written by SQL: events as a sync would store them, states of the engine."""

from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from app import audit, keys
from app.audit import Actor
from app.db import Tx
from app.ids import BOT, CALENDAR, DELIVERY, ENDPOINT, EVENT, LAUNCHER, OAUTH_APP, REPLAY, RULE, new_id, parse, public
from app.keys import NewKey, Scope
from app.providers.base import RemoteEvent
from app.runtime import Runtime
from app.sync import content

MEET = "https://meet.google.com/abc-defg-hij"
START = datetime(2026, 12, 1, 9, tzinfo=UTC)

_EVENT = """
INSERT INTO calendar_events (id, project_id, calendar_id, platform_uuid, ical_uid, start_time, end_time, status,
    is_deleted, series_id, meeting_url, meeting_platform, content, content_hash, change_seq, raw, is_raw_truncated,
    created_at, updated_at)
VALUES (:id, :project_id, :calendar_id, :platform_uuid, :ical_uid, :start_time, :end_time, :status, :is_deleted,
    :series_id, :meeting_url, :meeting_platform, :content, :content_hash, :change_seq, :raw, :is_raw_truncated,
    :updated_at, :updated_at)
"""

_STORED = (
    "platform_uuid",
    "ical_uid",
    "start_time",
    "end_time",
    "status",
    "series_id",
    "meeting_url",
    "meeting_platform",
    "raw",
)

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
            await tx.execute(
                "INSERT INTO sync_state (calendar_id, oauth_app_id) VALUES (:id, :app)",
                {"id": calendar_id, "app": app_id},
            )
            await tx.execute(
                "INSERT INTO grants (calendar_id, refresh_token_sealed) VALUES (:id, CAST('x' AS bytea))",
                {"id": calendar_id},
            )
        return calendar_id

    async def app_of(self, calendar_id: UUID) -> tuple[str, str]:
        """The OAuth app of a calendar, and its client id."""
        query = "SELECT a.* FROM oauth_apps a JOIN calendars c ON c.oauth_app_id = a.id WHERE c.id = :id"
        async with self.rt.db.reading() as tx:
            row = await tx.row(query, {"id": calendar_id})
        assert row is not None
        return public(OAUTH_APP, row.id), row.client_id

    async def app(self) -> str:
        """An OAuth app without calendars."""
        app_id = new_id()
        await self.sql(
            "INSERT INTO oauth_apps (id, project_id, platform, client_id) VALUES (:id, :project, 'google', :client_id)",
            id=app_id,
            project=self.project_id,
            client_id=f"{app_id}.apps.googleusercontent.com",
        )
        return public(OAUTH_APP, app_id)

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

    async def delivery(self, endpoint_id: UUID, *, calendar_id: UUID | None = None, state: str = "failed") -> str:
        """A delivery with one attempt; a pending one has its next in an hour."""
        delivery_id, message_id = new_id(), new_id()
        params = {"id": delivery_id, "message": message_id, "project": self.project_id, "calendar": calendar_id}
        values = {"endpoint": endpoint_id, "state": state}
        async with self.rt.db.transaction() as tx:
            await tx.execute(
                "INSERT INTO messages (id, project_id, calendar_id, trigger, payload)"
                " VALUES (:message, :project, :calendar, 'calendar.events_update', CAST('{}' AS bytea))",
                params,
            )
            await tx.execute(
                "INSERT INTO deliveries (id, project_id, message_id, endpoint_id, calendar_id, trigger, state,"
                " attempt_count, next_attempt_at)"
                " VALUES (:id, :project, :message, :endpoint, :calendar, 'calendar.events_update', :state, 1,"
                " CASE WHEN CAST(:state AS text) = 'pending' THEN app_now() + interval '1 hour' END)",
                params | values,
            )
            await tx.execute(
                "INSERT INTO delivery_attempts (delivery_id, at, status, phases_ms, address, response_body)"
                """ VALUES (:id, app_now(), 500, CAST('{"total": 1.5}' AS jsonb), '192.0.2.1', 'no')""",
                params,
            )
        return public(DELIVERY, delivery_id)

    async def replay(self, endpoint_id: UUID) -> str:
        """A replay that is due."""
        replay_id = new_id()
        await self.sql(
            "INSERT INTO replays (id, project_id, endpoint_id, created_at_gte, created_at_lte, states, count,"
            " next_batch_at)"
            " VALUES (:id, :project, :endpoint, app_now() - interval '1 day', app_now(), '{failed}', 0, app_now())",
            id=replay_id,
            project=self.project_id,
            endpoint=endpoint_id,
        )
        return public(REPLAY, replay_id)

    async def launcher(self) -> str:
        """A launcher of the kind that needs no key."""
        launcher_id = new_id()
        await self.sql(
            "INSERT INTO launchers (id, project_id, kind, name, hand_over_seconds, created_at)"
            " VALUES (:id, :project, 'webhook', 'Ours', 60, app_now())",
            id=launcher_id,
            project=self.project_id,
        )
        return public(LAUNCHER, launcher_id)

    async def rule(self) -> str:
        """A rule for every event that is not all-day."""
        rule_id = new_id()
        await self.sql(
            "INSERT INTO rules (id, project_id, name, match, dedup_scope, bot_name, created_at)"
            " VALUES (:id, :project, 'All', :match, 'meeting', 'Notes', app_now())",
            id=rule_id,
            project=self.project_id,
            match='{"is_all_day":false}',
        )
        return public(RULE, rule_id)

    async def bot(self, calendar_id: UUID, event: str, **values: Any) -> str:
        """A bot on an event, an hour ahead; `values` are columns."""
        bot_id = new_id()
        row: dict[str, Any] = {
            "id": bot_id,
            "project_id": self.project_id,
            "calendar_id": calendar_id,
            "calendar_event_id": parse(EVENT, event),
            "state": "scheduled",
            "bot_name": "Notes",
            "meeting_url": MEET,
            "meeting_platform": "google_meet",
            "join_at": self.rt.clock.now() + timedelta(hours=1),
            "ends_at": self.rt.clock.now() + timedelta(hours=2),
        }
        row |= values
        places = ", ".join(f":{name}" for name in row)
        await self.sql(f"INSERT INTO bots ({', '.join(row)}, created_at) VALUES ({places}, app_now())", **row)
        return public(BOT, bot_id)

    async def key(self, *, scope: Scope = "admin", expires_at: datetime | None = None) -> NewKey:
        """A key of the project."""
        async with self.rt.db.transaction() as tx:
            return await keys.make(tx, project_id=self.project_id, name="k", scope=scope, expires_at=expires_at)

    async def entry(self, object_id: str, *, key_id: UUID, action: str = "update_calendar") -> None:
        """An entry of the audit log."""
        actor = Actor(key_id, "192.0.2.10")
        async with self.rt.db.transaction() as tx:
            await audit.record(tx, project_id=self.project_id, actor=actor, action=action, object_id=object_id)

    async def sql(self, statement: str, **params: Any) -> None:
        """Any statement, committed."""
        async with self.rt.db.transaction() as tx:
            await tx.execute(statement, params)


async def write_event(tx: Tx, project_id: UUID, calendar_id: UUID, **values: Any) -> str:
    """An event in the caller's transaction: the calendar's row is locked and gives number and time."""
    stamp = await _stamp(tx, calendar_id)
    event_id = values.pop("id", None) or new_id()
    start = values.get("start_time", START)
    row = {"is_deleted": values.pop("is_deleted", False), "is_raw_truncated": values.pop("is_raw_truncated", False)}
    blank: dict[str, Any] = dict.fromkeys(field.name for field in fields(RemoteEvent))
    event = RemoteEvent(
        **blank
        | {
            "platform_uuid": str(event_id),
            "name": "Planning",
            "start_time": start,
            "end_time": start + timedelta(minutes=30),
            "is_all_day": False,
            "time_zone": "UTC",
            "status": "confirmed",
            "visibility": "default",
            "transparency": "opaque",
            "event_type": "default",
            "attendees": (),
            "own_response_status": "accepted",
            "is_exception": False,
            "meeting_candidates": (),
        }
        | values
    )
    shown = content.render(event)
    row |= {name: getattr(event, name) for name in _STORED} | {"content": shown.text, "content_hash": shown.digest}
    await tx.execute(_EVENT, row | {"id": event_id, "project_id": project_id, "calendar_id": calendar_id} | stamp)
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
