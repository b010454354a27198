"""Every read of the API: the project first, explicit columns, one statement per list.

Conditions are constants of this module; a customer's values are parameters. What belongs to a deleted calendar is
not there for anybody.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from app.api.pages import Slice
from app.db import ReadTx, Row
from app.oauth_apps import TRIED_ORDER

Params = Mapping[str, Any]

STAMP: Final = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24\\:MI\\:SS.US"Z"')"""
"""An instant as the API writes it."""


async def project(tx: ReadTx, project_id: UUID) -> Row | None:
    """The project itself."""
    query = (
        "SELECT id, name, internal_domains, return_urls, CAST(meeting_preferences AS text) AS meeting_preferences,"
        " retention_days, reads_per_minute, writes_per_minute FROM projects WHERE id = :id"
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
    "oauth_app_id": "c.oauth_app_id = :oauth_app_id",
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


_OAUTH_APPS: Final = f"""
SELECT a.id, a.platform, a.client_id, a.name, a.tenant, a.is_implicit, a.failing_since, a.failing_code,
       a.failing_detail, a.created_at, a.updated_at,
       (SELECT CAST(coalesce(json_agg(json_build_object(
                   'id', id, 'created_at', {STAMP.format("created_at")},
                   'last_worked_at', {STAMP.format("last_worked_at")}, 'refused_at', {STAMP.format("refused_at")},
                   'expires_at', {STAMP.format("expires_at")}) ORDER BY {TRIED_ORDER}), '[]') AS text)
          FROM oauth_app_secrets WHERE oauth_app_id = a.id) AS secrets
  FROM oauth_apps a
 WHERE a.project_id = :project AND a.deleted_at IS NULL
"""  # noqa: S608 - made of constants

OAUTH_APP_FILTERS: Final[Mapping[str, str]] = {
    "platform": "a.platform = :platform",
    # Both platforms are named so that the index on (project, platform, client id) finds it.
    "client_id": "a.client_id = :client_id AND a.platform IN ('google', 'microsoft')",
}


async def oauth_app(tx: ReadTx, project_id: UUID, *, app_id: UUID) -> Row | None:
    """One OAuth app with its secrets' standing, in the order in which they are tried."""
    return await tx.row(f"{_OAUTH_APPS} AND a.id = :id", {"project": project_id, "id": app_id})


async def oauth_apps(tx: ReadTx, project_id: UUID, *, filters: Params, part: Slice) -> Sequence[Row]:
    """A page of OAuth apps; `filters` names entries of OAUTH_APP_FILTERS."""
    query = f"{_OAUTH_APPS}{_and(OAUTH_APP_FILTERS, filters)} AND {part.condition} {part.order_by}"
    return await tx.rows(query, {"project": project_id, **filters, **part.params})


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
