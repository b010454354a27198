"""A round's changes as rows: set-based reads and writes of one calendar, whatever the number of events.

Every function takes the transaction of the run. The calendar's row is locked first and serialises its writers;
`finish`, the compare-and-swap on fence and cursor, is the last statement and the only one that touches `sync_state`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat
from typing import Any
from uuid import UUID

from app.db import Row, Tx
from app.ids import new_ids
from app.providers.base import Item, Parked, RemoteEvent, Stored, Tombstone, Window
from app.runtime import Runtime
from app.scheduling import Claim
from app.sync.changes import Change, StoredRow

_LOCK = """
SELECT c.state, c.failure, c.metadata, c.deduplication_key, c.last_change_seq, c.last_event_updated_at, c.name,
       c.email, c.time_zone, c.remote_calendar_id, c.account_subject, c.channel_key, c.is_greeting_due, c.deleted_at,
       s.fence, s.cursor_version, s.requested_seq, s.health_status, s.health_changed_at, app_now() AS now,
       EXISTS (SELECT FROM push_channels p WHERE p.channel_key = c.channel_key AND p.state = 'active'
                                                         AND p.expires_at > app_now()) AS is_watched,
       EXISTS (SELECT FROM parked_items p WHERE p.calendar_id = c.id) AS has_parked
  FROM calendars c JOIN sync_state s ON s.calendar_id = c.id
 WHERE c.id = :id
   FOR NO KEY UPDATE OF c
"""

_TOUCHED = """
SELECT id, platform_uuid, series_id, content_hash, is_deleted, deletion_kind, start_time, end_time
  FROM calendar_events
 WHERE calendar_id = :id
   AND (platform_uuid = ANY(:ids) OR (series_id = ANY(:gone) AND NOT is_deleted))
"""

_WINDOW_ROWS = """
UNION
SELECT id, platform_uuid, series_id, content_hash, is_deleted, deletion_kind, start_time, end_time
  FROM calendar_events
 WHERE calendar_id = :id AND NOT is_deleted AND end_time > :window_start AND start_time < :window_end
"""

_COLUMNS: tuple[tuple[str, str], ...] = (
    ("id", "uuid"),
    ("platform_uuid", "text"),
    ("ical_uid", "text"),
    ("start_time", "timestamptz"),
    ("end_time", "timestamptz"),
    ("status", "text"),
    ("is_deleted", "bool"),
    ("deletion_kind", "text"),
    ("series_id", "text"),
    ("meeting_url", "text"),
    ("meeting_platform", "text"),
    ("content", "text"),
    ("content_hash", "bytea"),
    ("change_seq", "bigint"),
    ("raw", "text"),
    ("is_raw_truncated", "bool"),
)
"""Columns that an upsert writes, in order."""

_STAMP = """
SELECT greatest(clock_timestamp(), CAST(:last AS timestamptz) + interval '1 microsecond')
"""
"""The `updated_at` of a round: taken under the calendar's lock, and greater than the last one."""


def _upsert() -> str:
    names = [name for name, _ in _COLUMNS]
    arrays = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in _COLUMNS)
    values = ", ".join(f"v.{name}" for name in names)
    updates = ", ".join(f"{name} = excluded.{name}" for name in names if name not in {"id", "platform_uuid"})
    return f"""
WITH stamp AS MATERIALIZED (
    SELECT coalesce(CAST(:at AS timestamptz), ({_STAMP})) AS at
), written AS (
    INSERT INTO calendar_events (project_id, calendar_id, created_at, updated_at, {", ".join(names)})
    SELECT :project, :calendar, stamp.at, stamp.at, {values}
      FROM stamp, unnest({arrays}) AS v({", ".join(names)})
    ON CONFLICT (calendar_id, platform_uuid) DO UPDATE SET updated_at = excluded.updated_at, {updates}
)
SELECT at FROM stamp
"""  # noqa: S608 - column names are the constants above


_UPSERT = _upsert()

_DELETE = f"""
WITH stamp AS MATERIALIZED (
    SELECT coalesce(CAST(:at AS timestamptz), ({_STAMP})) AS at
), written AS (
    UPDATE calendar_events e
       SET is_deleted = true, deletion_kind = NULL, change_seq = v.change_seq, updated_at = stamp.at
      FROM stamp, unnest(CAST(:ids AS uuid[]), CAST(:seqs AS bigint[])) AS v(id, change_seq)
     WHERE e.id = v.id
)
SELECT at FROM stamp
"""  # noqa: S608 - made of constants

# A push may outrun its data. Where it brought nothing, its calendar is looked at again after 8 s, and then after 60 s.
_LAG_STEP = """
CASE WHEN NOT :is_empty THEN 0
     WHEN :is_pushed THEN 1
     WHEN lag_step > 0 AND poll_due_at > app_now() THEN lag_step
     WHEN lag_step = 1 THEN 2
     ELSE 0 END
"""

# With a live channel the backstop is enough, more often while its renewal fails, and never later than its end.
_REGULAR = """
coalesce((SELECT least(:jitter * least(CAST(:audit AS float8),
                                       greatest(CAST(:poll AS float8),
                                                CAST(:audit AS float8) / power(2, least(watch_failure_count, 16)))),
                       extract(epoch FROM p.expires_at - app_now()) + 1)
            FROM push_channels p
           WHERE p.channel_key = :channel_key AND p.state = 'active' AND p.expires_at > app_now()),
         :jitter * CAST(:poll AS float8))
"""

_FINISH = f"""
UPDATE sync_state
   SET cursor = :cursor, cursor_version = cursor_version + 1, window_start = :window_start, window_end = :window_end,
       synced_seq = greatest(synced_seq, :seq), lease_until = NULL, not_before = '-infinity', is_deferral = false,
       failure_count = 0, failure_code = NULL, failing_since = NULL, suspect_code = NULL,
       last_successful_sync_at = app_now(), audit_found_count = audit_found_count + :audit_found,
       health_status = CASE WHEN :is_health_told THEN 'healthy' ELSE health_status END,
       health_changed_at = CASE WHEN :is_health_told THEN app_now() ELSE health_changed_at END,
       anchor_due_at = coalesce(CAST(:anchor_due_at AS timestamptz), anchor_due_at),
       lag_step = {_LAG_STEP},
       poll_due_at = CASE
           WHEN :is_empty AND NOT :is_pushed AND lag_step > 0 AND poll_due_at > app_now() THEN poll_due_at
           ELSE app_now() + make_interval(secs => least(
               {_REGULAR}, CASE {_LAG_STEP} WHEN 1 THEN 8.0 WHEN 2 THEN 60.0 ELSE 'Infinity' END))
           END
 WHERE calendar_id = :id AND fence = :fence AND cursor_version = :cursor_version
RETURNING requested_seq > synced_seq AS is_again,
          extract(epoch FROM due_at - app_now()) AS delay,
          watch_not_before <= app_now() AND NOT EXISTS (
              SELECT FROM push_channels p
               WHERE p.channel_key = :channel_key AND p.state = 'active' AND p.expires_at > app_now())
          AS is_channel_missing
"""  # noqa: S608 - made of constants


COPY_FROM = 200
"""From so many new rows on, COPY is faster than an upsert of arrays."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What the compare-and-swap left behind: whether a later request waits, and for how long (seconds)."""

    is_again: bool
    delay: float
    is_channel_missing: bool


async def lock(tx: Tx, claim: Claim) -> Row | None:
    """The calendar's row, locked against other writers of this calendar; None where the run lost its right to write.

    The fence is read without a lock: a push never waits for an apply. `finish` decides for good.
    """
    row = await tx.row(_LOCK, {"id": claim.calendar_id})
    if row is None or row.deleted_at is not None:
        return None
    if row.fence != claim.fence or row.cursor_version != claim.cursor_version:
        return None
    return row


async def rows_touched(
    tx: Tx, claim: Claim, items: Mapping[str, Item], *, window: Window, is_full: bool
) -> list[StoredRow]:
    """Stored rows that a round names, and for a full one all live rows of the window."""
    if not items and not is_full:
        return []
    params: dict[str, Any] = {
        "id": claim.calendar_id,
        "ids": list(items),
        "gone": [key for key, item in items.items() if isinstance(item, Tombstone)],
    }
    query = _TOUCHED
    if is_full:
        query += _WINDOW_ROWS
        params |= {"window_start": window.start_at, "window_end": window.end_at}
    return [
        StoredRow(
            id=row.id,
            platform_uuid=row.platform_uuid,
            series_id=row.series_id,
            content_hash=row.content_hash,
            is_deleted=row.is_deleted,
            deletion_kind=row.deletion_kind,
            start_time=row.start_time,
            end_time=row.end_time,
        )
        for row in await tx.rows(query, params)
    ]


_KNOWN = """
SELECT v.id, CASE WHEN bool_or(e.platform_uuid = v.id AND e.series_id IS NULL) THEN 'single'
                  WHEN bool_or(e.platform_uuid = v.id) THEN 'occurrence' ELSE 'series' END AS stored
  FROM unnest(CAST(:ids AS text[])) AS v(id)
  JOIN calendar_events e ON e.calendar_id = :calendar AND (e.platform_uuid = v.id OR e.series_id = v.id)
 WHERE NOT e.is_deleted AND e.end_time > :window_start AND e.start_time < :window_end
 GROUP BY v.id
"""


async def known(rt: Runtime, calendar_id: UUID, window: Window, ids: Collection[str]) -> dict[str, Stored]:
    """What the provider's ids name among the live rows inside the window, read before the run's transaction."""
    if not ids:
        return {}
    params = {
        "ids": list(ids),
        "calendar": calendar_id,
        "window_start": window.start_at,
        "window_end": window.end_at,
    }
    async with rt.db.reading() as tx:
        return {row.id: row.stored for row in await tx.rows(_KNOWN, params)}


async def old_contents(tx: Tx, ids: Sequence[UUID]) -> dict[UUID, str]:
    """The content of rows that are about to change, for the message's `fields`."""
    if not ids:
        return {}
    query = "SELECT id, content FROM calendar_events WHERE id = ANY(:ids)"
    return {row.id: row.content for row in await tx.rows(query, {"ids": list(ids)})}


async def apply(
    tx: Tx, claim: Claim, changes: Sequence[Change], *, first_seq: int, last: datetime | None
) -> tuple[datetime | None, list[UUID]]:
    """Write the changes with sequence numbers from `first_seq` on.

    The one `updated_at` they all got, and the events' ids in the order of `changes`.
    """
    ids = [change.row.id if change.row is not None else None for change in changes]
    fresh = iter(new_ids(sum(1 for id_ in ids if id_ is None)))
    event_ids = [id_ if id_ is not None else next(fresh) for id_ in ids]
    numbered = list(zip(changes, event_ids, range(first_seq, first_seq + len(changes)), strict=True))
    written = [(c, c.event, i, n) for c, i, n in numbered if c.event is not None]
    created = [entry for entry in written if entry[0].row is None]
    at: datetime | None = None
    if len(created) >= COPY_FROM:
        at = await tx.scalar(_STAMP, {"last": last})
        await _copy(tx, claim, created, at)
        written = [entry for entry in written if entry[0].row is not None]
    common = {"last": last, "project": claim.project_id, "calendar": claim.calendar_id}
    if written:
        at = await tx.scalar(_UPSERT, {**_arrays(written), **common, "at": at})
    removed = [(i, n) for c, i, n in numbered if c.event is None]
    if removed:
        params = {"ids": [i for i, _ in removed], "seqs": [n for _, n in removed], "last": last, "at": at}
        at = await tx.scalar(_DELETE, params)
    return at, event_ids


async def _copy(tx: Tx, claim: Claim, created: "Sequence[_Written]", at: datetime | None) -> None:
    """Many rows that are new: under the calendar's lock nobody else makes them, so no conflict is possible."""
    arrays = _arrays(created)
    columns = ["project_id", "calendar_id", "created_at", "updated_at", *arrays]
    records = zip(repeat(claim.project_id), repeat(claim.calendar_id), repeat(at), repeat(at), *arrays.values())
    await tx.copy("calendar_events", columns, records)


_Written = tuple[Change, RemoteEvent, UUID, int]


def _arrays(written: Sequence[_Written]) -> dict[str, Any]:
    """One array per column: a page of rows travels as one statement."""
    changes = [change for change, *_ in written]
    events = [event for _, event, _, _ in written]
    gone = [change.change == "deleted" for change in changes]
    return {
        "id": [event_id for *_, event_id, _ in written],
        "platform_uuid": [event.platform_uuid for event in events],
        "ical_uid": [event.ical_uid for event in events],
        "start_time": [event.start_time for event in events],
        "end_time": [event.end_time for event in events],
        "status": [event.status for event in events],
        "is_deleted": gone,
        "deletion_kind": ["left_window" if is_gone else None for is_gone in gone],
        "series_id": [event.series_id for event in events],
        "meeting_url": [event.meeting_url for event in events],
        "meeting_platform": [event.meeting_platform for event in events],
        "content": [change.content for change in changes],
        "content_hash": [change.content_hash for change in changes],
        "change_seq": [seq for *_, seq in written],
        "raw": [event.raw for event in events],
        "is_raw_truncated": [event.raw is None for event in events],
    }


async def park(tx: Tx, claim: Claim, items: Mapping[str, Item], parked: Sequence[Parked], *, is_full: bool) -> None:
    """Keep what could not be parsed with its reason; forget what has been parsed, or is gone, since."""
    still = [item.platform_uuid for item in parked]
    await tx.execute(
        "DELETE FROM parked_items WHERE calendar_id = :id AND NOT platform_uuid = ANY(:still)"
        " AND (:is_full OR platform_uuid = ANY(:seen))",
        {"id": claim.calendar_id, "still": still, "seen": list(items), "is_full": is_full},
    )
    if parked:
        await tx.execute(
            "INSERT INTO parked_items (calendar_id, platform_uuid, reason, raw, seen_at)"
            " SELECT :id, v.*, app_now() FROM unnest(CAST(:ids AS text[]), CAST(:reasons AS text[]),"
            " CAST(:raws AS text[])) AS v ON CONFLICT (calendar_id, platform_uuid) DO UPDATE"
            " SET reason = excluded.reason, raw = excluded.raw, seen_at = excluded.seen_at",
            {
                "id": claim.calendar_id,
                "ids": still,
                "reasons": [item.reason for item in parked],
                "raws": [item.raw for item in parked],
            },
        )


async def finish(
    tx: Tx,
    claim: Claim,
    *,
    cursor: str | None,
    window: Window,
    anchor_due_at: datetime | None,
    channel_key: bytes | None,
    intervals: Mapping[str, float],
    is_empty: bool,
    audit_found: int,
    is_health_told: bool,
) -> Finished | None:
    """The last statement: cursor and synced_seq move only if fence and cursor version are still ours; else None.

    `is_empty`: the provider had nothing to tell.
    """
    row = await tx.row(
        _FINISH,
        {
            "id": claim.calendar_id,
            "fence": claim.fence,
            "cursor_version": claim.cursor_version,
            "seq": claim.requested_seq,
            "cursor": cursor,
            "window_start": window.start_at,
            "window_end": window.end_at,
            "anchor_due_at": anchor_due_at,
            "channel_key": channel_key,
            "is_pushed": claim.is_pushed,
            "is_empty": is_empty,
            "audit_found": audit_found,
            "is_health_told": is_health_told,
            **intervals,
        },
    )
    if row is None:
        return None
    return Finished(is_again=row.is_again, delay=float(row.delay), is_channel_missing=row.is_channel_missing)
