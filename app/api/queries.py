"""Every read of the API: the project first, explicit columns, one statement per list.

Conditions are constants of this module; a customer's values are parameters. What belongs to a deleted calendar is
not there for anybody.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from app.api.pages import Slice
from app.db import ReadTx, Row

Params = Mapping[str, Any]


async def project(tx: ReadTx, project_id: UUID) -> Row | None:
    """The project itself."""
    query = (
        "SELECT id, name, internal_domains, CAST(meeting_preferences AS text) AS meeting_preferences, retention_days,"
        " reads_per_minute, writes_per_minute FROM projects WHERE id = :id"
    )
    return await tx.row(query, {"id": project_id})


_CALENDARS: Final = """
SELECT c.id, c.platform, a.client_id, c.oauth_app_id, c.platform_uuid, c.email, c.name, c.time_zone, c.state,
       CAST(c.metadata AS text) AS metadata, c.deduplication_key, CAST(c.failure AS text) AS failure,
       c.failure ->> 'code' AS disconnect_code, c.failure ->> 'timestamp' AS disconnected_at,
       c.created_at, c.updated_at,
       s.last_successful_sync_at, s.last_attempted_sync_at, s.failure_count, s.failure_code, s.failing_since,
       s.audit_found_count,
       p.expires_at AS push_expires_at, s.last_notification_at,
       CASE WHEN s.requested_seq > s.synced_seq AND s.due_at > '-infinity'
            THEN CAST(greatest(0, extract(epoch FROM app_now() - s.due_at)) AS float8)
            ELSE 0 END AS lag_seconds
  FROM calendars c
  JOIN oauth_apps a ON a.id = c.oauth_app_id
  JOIN sync_state s ON s.calendar_id = c.id
  LEFT JOIN push_channels p ON p.channel_key = c.channel_key AND p.state = 'active' AND p.expires_at > app_now()
 WHERE c.project_id = :project AND c.deleted_at IS NULL
"""

CALENDAR_FILTERS: Final[Mapping[str, str]] = {
    "deduplication_key": "c.deduplication_key = :deduplication_key",
    "platform": "c.platform = :platform",
    "state": "c.state = :state",
    "email": "lower(c.email) = lower(:email)",
}


async def calendar(tx: ReadTx, project_id: UUID, *, calendar_id: UUID) -> Row | None:
    """One calendar as the API shows it."""
    return await tx.row(f"{_CALENDARS} AND c.id = :id", {"project": project_id, "id": calendar_id})


async def calendars(tx: ReadTx, project_id: UUID, *, filters: Params, part: Slice) -> Sequence[Row]:
    """A page of calendars; `filters` names entries of CALENDAR_FILTERS."""
    query = f"{_CALENDARS}{_and(CALENDAR_FILTERS, filters)} AND {part.condition} {part.order_by}"
    return await tx.rows(query, {"project": project_id, **filters, **part.params})


# An event's content is passed on as it is stored; what belongs to the row is written behind it here, where that costs
# the API's process, the first to be busy, nothing. Deleted calendars are few, because a job wipes them: kept out as a
# set they cost a page less than a join (0.05 against 0.2 ms).
_EVENTS: Final = """
SELECT e.id, e.calendar_id, {sort_key} AS sort_key, e.content,
       concat('"is_deleted":', CASE WHEN e.is_deleted THEN 'true' ELSE 'false' END, ',"change_seq":', e.change_seq,
              ',"bot_override"\\:', {override}, ',"raw":', {raw}, ',"is_raw_truncated":',
              CASE WHEN e.is_raw_truncated THEN 'true' ELSE 'false' END, ',"bots"\\:') AS more,
       concat('"created_at":"', {created_at}, '","updated_at":"', {updated_at}, '"}}') AS stamps
  FROM calendar_events e
 WHERE e.project_id = :project
   AND e.calendar_id NOT IN (SELECT d.id FROM calendars d WHERE d.project_id = :project AND d.deleted_at IS NOT NULL)
"""
# Asked for the rows of a page alone, where a join would come before its limit.
_OVERRIDE: Final = """coalesce(to_json(coalesce(e.bot_override, CASE WHEN e.series_id IS NOT NULL THEN (
       SELECT o.bot_override FROM series_overrides o
        WHERE o.calendar_id = e.calendar_id AND o.series_id = e.series_id) END)), 'null')"""
_INSTANT: Final = """to_char(e.{} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24\\:MI\\:SS.US"Z"')"""
_INSTANTS: Final = {name: _INSTANT.format(name) for name in ("created_at", "updated_at")}


@cache
def _events(sort_key: str, *, without: frozenset[str] = frozenset()) -> str:
    raw = "'null'" if "raw" in without else "coalesce(e.raw, 'null')"
    return _EVENTS.format(sort_key=sort_key, raw=raw, override=_OVERRIDE, **_INSTANTS)


EVENT_FILTERS: Final[Mapping[str, str]] = {
    "calendar_id": "e.calendar_id = :calendar_id",
    "calendar_deduplication_key": (
        "e.calendar_id = (SELECT k.id FROM calendars k WHERE k.project_id = :project"
        " AND k.deduplication_key = :calendar_deduplication_key AND k.deleted_at IS NULL)"
    ),
    "event_id": "e.id = :event_id",
    "updated_after": "e.updated_at >= :updated_after",
    "updated_at_gte": "e.updated_at >= :updated_at_gte",
    "updated_before_h": "e.updated_at < :updated_before_h",
    "after_seq": "e.change_seq > :after_seq",
    "start_time_gte": "e.start_time >= :start_time_gte",
    "start_time_lte": "e.start_time <= :start_time_lte",
    "end_time_gte": "e.end_time >= :end_time_gte",
    "end_time_lte": "e.end_time <= :end_time_lte",
    "is_deleted": "e.is_deleted = :is_deleted",
    "has_meeting_url": "(e.meeting_url IS NOT NULL) = :has_meeting_url",
    "meeting_platform": "e.meeting_platform = :meeting_platform",
    "ical_uid": "e.ical_uid = :ical_uid",
    "series_id": "e.series_id = :series_id",
    "attendee_email": (
        "EXISTS (SELECT FROM json_array_elements(CAST(e.content AS json) -> 'attendees') a"
        " WHERE lower(a ->> 'email') = lower(:attendee_email))"
    ),
    "organizer_email": "lower(CAST(e.content AS json) #>> '{organizer,email}') = lower(:organizer_email)",
    "status": "e.status = :status",
}

# The view of other sessions is cached for a transaction: dropped first. Then the clock, then the sessions: each step
# reads a column of the one before, so none can run earlier. Whoever commits later than `at` was seen here, or started
# later than `at`; either way its `updated_at` is not below `h`.
_HORIZON: Final = """
WITH cleared AS MATERIALIZED (SELECT pg_stat_clear_snapshot() IS NULL AS done),
     clock AS MATERIALIZED (SELECT clock_timestamp() AS at FROM cleared WHERE done IS NOT NULL)
SELECT least(clock.at, writers.oldest)
  FROM clock CROSS JOIN LATERAL (
       SELECT min(s.xact_start) AS oldest
         FROM pg_stat_get_activity(NULL) s
        WHERE s.datid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
          AND s.backend_xid IS NOT NULL AND clock.at IS NOT NULL
  ) writers
"""


async def horizon(tx: ReadTx) -> datetime:
    """`h`: no transaction that is still open, or yet to come, commits an event with an `updated_at` below it.

    In a statement of its own before a list over several calendars, whose next statement then sees every commit
    below it (architecture.md, "Time and watermarks").
    """
    at: datetime = await tx.scalar(_HORIZON)
    return at


async def event(tx: ReadTx, project_id: UUID, *, event_id: UUID) -> Row | None:
    """One event, deleted ones too."""
    query = f"{_events('NULL')} AND e.id = :id"
    return await tx.row(query, {"project": project_id, "id": event_id})


async def events(
    tx: ReadTx, project_id: UUID, *, filters: Params, part: Slice, without: frozenset[str]
) -> Sequence[Row]:
    """A page of events; `filters` names entries of EVENT_FILTERS, `without` the parts to leave out: `raw`, `bots`."""
    columns = _events(part.order.column, without=without)
    query = f"{columns}{_and(EVENT_FILTERS, filters)} AND {part.condition} {part.order_by}"
    return await tx.rows(query, {"project": project_id, **filters, **part.params})


async def feed_floor(tx: ReadTx, project_id: UUID, *, calendar_id: UUID) -> int | None:
    """The highest `change_seq` of a row that was purged from this calendar; None where there is no such calendar.

    Read after the page: a purge in between makes the floor too high for the rows, never too low.
    """
    floor: int | None = await tx.scalar(
        "SELECT feed_floor FROM calendars WHERE project_id = :project AND id = :id AND deleted_at IS NULL",
        {"project": project_id, "id": calendar_id},
    )
    return floor


_ENDPOINTS: Final = """
SELECT w.id, w.url, w.triggers, CAST(w.metadata AS text) AS metadata, w.signature, w.public_key, w.header_names,
       w.retry_seconds, w.rate_limit, w.is_ordered, w.state, w.disabled_reason, w.created_at, w.updated_at
  FROM webhook_endpoints w
 WHERE w.project_id = :project AND w.deleted_at IS NULL
"""


async def endpoint(tx: ReadTx, project_id: UUID, *, endpoint_id: UUID) -> Row | None:
    """One webhook endpoint."""
    return await tx.row(f"{_ENDPOINTS} AND w.id = :id", {"project": project_id, "id": endpoint_id})


async def endpoints(tx: ReadTx, project_id: UUID, *, part: Slice) -> Sequence[Row]:
    """A page of webhook endpoints."""
    query = f"{_ENDPOINTS} AND {part.condition} {part.order_by}"
    return await tx.rows(query, {"project": project_id, **part.params})


ATTEMPTS_LISTED: Final = 10
"""Of each delivery in a list, the latest: as many as the usual schedule has. An answer of each may be 2 kB."""
ATTEMPTS_SHOWN: Final = 100
"""Of a single delivery."""

_DELIVERIES: Final = """
SELECT d.id, d.endpoint_id, d.message_id, d.trigger, d.calendar_id, d.state,
       CASE WHEN d.state = 'pending' THEN d.next_attempt_at END AS next_attempt_at,
       m.payload, d.created_at, d.updated_at,
       (SELECT CAST(coalesce(json_agg(json_build_object(
                   'at', to_char(t.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24\\:MI\\:SS.US"Z"'), 'status', t.status,
                   'error', t.error, 'phases_ms', t.phases_ms, 'address', t.address,
                   'response_body', t.response_body) ORDER BY t.at, t.id), '[]') AS text)
          FROM (SELECT * FROM delivery_attempts a WHERE a.delivery_id = d.id
                 ORDER BY a.at DESC, a.id DESC LIMIT :attempts) t) AS attempts
  FROM deliveries d JOIN messages m ON m.id = d.message_id
 WHERE d.project_id = :project
   AND (d.calendar_id IS NULL OR d.calendar_id NOT IN (
        SELECT x.id FROM calendars x WHERE x.project_id = :project AND x.deleted_at IS NOT NULL))
"""

DELIVERY_FILTERS: Final[Mapping[str, str]] = {
    "webhook_id": "d.endpoint_id = :webhook_id",
    "state": "d.state = :state",
    "trigger": "d.trigger = :trigger",
    "calendar_id": "d.calendar_id = :calendar_id AND m.calendar_id = :calendar_id",  # the message's has an index
    "created_at_gte": "d.created_at >= :created_at_gte",
    "created_at_lte": "d.created_at <= :created_at_lte",
}


async def delivery(tx: ReadTx, project_id: UUID, *, delivery_id: UUID) -> Row | None:
    """One delivery with its attempts and payload."""
    params = {"project": project_id, "id": delivery_id, "attempts": ATTEMPTS_SHOWN}
    return await tx.row(f"{_DELIVERIES} AND d.id = :id", params)


async def deliveries(tx: ReadTx, project_id: UUID, *, filters: Params, part: Slice) -> Sequence[Row]:
    """A page of deliveries; `filters` names entries of DELIVERY_FILTERS."""
    query = f"{_DELIVERIES}{_and(DELIVERY_FILTERS, filters)} AND {part.condition} {part.order_by}"
    return await tx.rows(query, {"project": project_id, "attempts": ATTEMPTS_LISTED, **filters, **part.params})


_REPLAY: Final = """
SELECT r.id, r.endpoint_id, r.created_at_gte, r.created_at_lte, r.states, r.triggers, r.count, r.done_count,
       r.created_at, r.finished_at
  FROM replays r JOIN webhook_endpoints w ON w.id = r.endpoint_id AND w.deleted_at IS NULL
 WHERE r.project_id = :project AND r.endpoint_id = :endpoint AND r.id = :id
"""


async def replay(tx: ReadTx, project_id: UUID, *, endpoint_id: UUID, replay_id: UUID) -> Row | None:
    """One replay of an endpoint's log."""
    return await tx.row(_REPLAY, {"project": project_id, "endpoint": endpoint_id, "id": replay_id})


def _and(conditions: Mapping[str, str], filters: Params) -> str:
    return "".join(f" AND {conditions[name]}" for name in filters)
