"""Every read of events: pages that cost what they show, or what their bounds leave.

Five indexes carry the list: a calendar's events by `updated_at` and by `change_seq`, a project's by `updated_at`, by
`start_time` and by `ical_uid`. A page in the order of the index that bounds it stops at its last row. Any other is
sorted from what its bounds leave: a calendar's events, an `ical_uid`'s, what has changed since, what starts within two
limits. That is written into the statement, because the planner trusts in rows lying anywhere: to sort a morning's
changes by `start_time` it would look for them among all that ever started.

Conditions are constants of this module; a customer's values are parameters.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from app.api.pages import Slice
from app.api.queries import STAMP
from app.db import ReadTx, Row

Params = Mapping[str, Any]

# An event's content is passed on as it is stored; what belongs to the row is written behind it here, where that costs
# the API's process, the first to be busy, nothing. The page is chosen first: what has to be sorted is not written.
_SHOWN: Final = """
SELECT e.id, e.calendar_id, {sort_key} AS sort_key, e.content,
       concat('"is_deleted":', CASE WHEN e.is_deleted THEN 'true' ELSE 'false' END, ',"change_seq":', e.change_seq,
              ',"bot_override"\\:', {override}, ',"raw":', {raw}, ',"is_raw_truncated":',
              CASE WHEN e.is_raw_truncated THEN 'true' ELSE 'false' END, ',"bots"\\:') AS more,
       concat('"created_at":"', {created_at}, '","updated_at":"', {updated_at}, '"}}') AS stamps
  FROM ({rows}) e
"""
_OVERRIDE: Final = """coalesce(to_json(coalesce(e.bot_override, CASE WHEN e.series_id IS NOT NULL THEN (
       SELECT o.bot_override FROM series_overrides o
        WHERE o.calendar_id = e.calendar_id AND o.series_id = e.series_id) END)), 'null')"""
_INSTANTS: Final = {name: STAMP.format(f"e.{name}") for name in ("created_at", "updated_at")}

# Deleted calendars are few, because a job wipes them: kept out as a set they cost a page less than a join (0.05
# against 0.2 ms).
_ROWS: Final = """
SELECT e.* FROM {source} e
 WHERE {scope}
   AND e.calendar_id NOT IN (SELECT d.id FROM calendars d WHERE d.project_id = :project AND d.deleted_at IS NOT NULL)
   AND {conditions}
"""
_PROJECT: Final = "e.project_id = :project"
# The same, but no index answers it: beside a calendar's index the planner would read a whole project's as well, to
# intersect the two.
_PROJECT_TOO: Final = "e.project_id IS NOT DISTINCT FROM :project"
_NARROWER: Final = frozenset({"calendar_id", "calendar_deduplication_key", "event_id"})
_OF_CALENDAR: Final = _NARROWER | {"updated_after", "updated_at_gte", "after_seq"}
_SINCE: Final = frozenset({"updated_after", "updated_at_gte"})
_FROM: Final = frozenset({"start_time_gte", "end_time_gte"})
_UNTIL: Final = frozenset({"start_time_lte", "end_time_lte"})
# No event ends before it starts, so what ended by then started by then. What ends after a time starts at most two days
# before, but for long events, which are few and have an index of their own.
_STARTED_BY: Final = "e.start_time <= :end_time_lte"
_NOT_LONG: Final = (
    "e.start_time >= CAST(:end_time_gte AS timestamptz) - interval '48 hours'"
    " AND NOT e.end_time - e.start_time > interval '48 hours'"
)
_LONG: Final = """
(SELECT l.* FROM calendar_events l
  WHERE l.project_id = :project AND l.end_time - l.start_time > interval '48 hours' AND l.end_time >= :end_time_gte
 OFFSET 0)"""


@lru_cache(maxsize=512)
def _shown(sort_key: str, rows: str, *, without: frozenset[str] = frozenset()) -> str:
    raw = "'null'" if "raw" in without else "coalesce(e.raw, 'null')"
    return _SHOWN.format(sort_key=sort_key, rows=rows, raw=raw, override=_OVERRIDE, **_INSTANTS)


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
    rows = _ROWS.format(scope=_PROJECT_TOO, source="calendar_events", conditions="e.id = :id")
    return await tx.row(_shown("NULL", rows), {"project": project_id, "id": event_id})


async def events(
    tx: ReadTx, project_id: UUID, *, filters: Params, part: Slice, without: frozenset[str]
) -> Sequence[Row]:
    """A page of events; `filters` names entries of EVENT_FILTERS, `without` the parts to leave out: `raw`, `bots`."""
    query = f"{_shown(part.order.column, _page(frozenset(filters), part), without=without)} {part.order_by}"
    return await tx.rows(query, {"project": project_id, **filters, **part.params})


def _page(given: frozenset[str], part: Slice) -> str:
    """The statement that finds the rows of a page, in whatever order."""
    if given & _NARROWER:
        return _of_calendar(given, part)
    conditions = _conditions(given)
    if "end_time_lte" in given and "start_time_lte" not in given:
        conditions += f" AND {_STARTED_BY}"
    column = part.order.column
    is_sorted = (
        "ical_uid" in given
        or (bool(given & _SINCE) and column != "e.updated_at")
        or (bool(given & _FROM) and bool(given & _UNTIL) and column != "e.start_time")
    )
    if "end_time_gte" not in given or "start_time_gte" in given:
        return _ordered(conditions, part, is_sorted=is_sorted)
    usual = _ordered(f"{conditions} AND {_NOT_LONG}", part, is_sorted=is_sorted)
    return f"({usual}) UNION ALL ({_ordered(conditions, part, source=_LONG)})"


def _of_calendar(given: frozenset[str], part: Slice) -> str:
    if part.order.column in {"e.updated_at", "e.change_seq"} and not given & (_FROM | _UNTIL):
        return _ordered(_conditions(given), part, scope=_PROJECT_TOO)
    # No index but the calendar's is to be tried for the rest.
    rows = _ROWS.format(scope=_PROJECT_TOO, source="calendar_events", conditions=_conditions(given & _OF_CALENDAR))
    return _sorted(rows, _conditions(given - _OF_CALENDAR), part)


def _conditions(given: frozenset[str]) -> str:
    return " AND ".join(["true", *(EVENT_FILTERS[name] for name in EVENT_FILTERS if name in given)])


def _ordered(
    conditions: str,
    part: Slice,
    *,
    scope: str = _PROJECT,
    source: str = "calendar_events",
    is_sorted: bool = False,
) -> str:
    rows = _ROWS.format(scope=scope, source=source, conditions=conditions)
    return _sorted(rows, "true", part) if is_sorted else f"{rows} AND {part.condition} {part.order_by}"


def _sorted(rows: str, conditions: str, part: Slice) -> str:
    # The OFFSET keeps the planner from carrying conditions, order and limit into the rows.
    return f"SELECT e.* FROM ({rows} OFFSET 0) e WHERE {conditions} AND {part.condition} {part.order_by}"  # noqa: S608


async def feed_floor(tx: ReadTx, project_id: UUID, *, calendar_id: UUID) -> int | None:
    """The highest `change_seq` of a row that was purged from this calendar; None where there is no such calendar.

    Read after the page: a purge in between makes the floor too high for the rows, never too low.
    """
    floor: int | None = await tx.scalar(
        "SELECT feed_floor FROM calendars WHERE project_id = :project AND id = :id AND deleted_at IS NULL",
        {"project": project_id, "id": calendar_id},
    )
    return floor
