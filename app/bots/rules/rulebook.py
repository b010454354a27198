"""The rules of a project and the events that they judge, as rows."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

import orjson

from app import projects
from app.bots.rules.rule import Candidate, Ground, Key, Rule, by_link
from app.bots.writing import event_in
from app.db import ReadTx, Row

_GROUND: Final = """
c.project_id, c.id AS calendar_id, c.email, CAST(c.metadata AS text) AS calendar_metadata, p.internal_domains,
CAST(p.meeting_preferences AS text) AS meeting_preferences
"""

RULE: Final = """
r.id, r.name, r.version, r.match, r.dedup_scope AS scope, r.bot_name, CAST(r.config AS text) AS config, r.launcher_id,
r.series_id, r.deduplication_key, CAST(r.metadata AS text) AS metadata, r.further_series
"""
"""The columns that `Rule` takes, in its order."""

ORDER: Final = "(r.series_id IS NULL), r.priority DESC, r.created_at, r.id"
"""Whose turn it is: a series' own rule, then by priority, then the older one."""

_OF_CALENDAR: Final = f"""
SELECT {_GROUND}, r.id IS NOT NULL AS has_rule, {RULE}
  FROM calendars c JOIN projects p ON p.id = c.project_id
  LEFT JOIN rules r ON r.project_id = c.project_id AND r.deleted_at IS NULL AND r.is_enabled
                   AND (r.series_id IS NULL OR r.series_calendar_id = c.id)
 WHERE c.id = :calendar
 ORDER BY {ORDER}
"""  # noqa: S608 - columns of ours

_EVENT: Final = f"""
SELECT e.id, e.is_deleted, e.deletion_kind, e.status, e.meeting_url, e.meeting_platform, e.start_time, e.end_time,
       e.series_id, e.ical_uid, coalesce(e.bot_override, o.bot_override) AS bot_override,
       e.created_at = e.updated_at AS is_new, e.content, {_GROUND}
  FROM calendar_events e
  JOIN calendars c ON c.id = e.calendar_id JOIN projects p ON p.id = c.project_id
  LEFT JOIN series_overrides o ON o.calendar_id = e.calendar_id AND o.series_id = e.series_id
"""  # noqa: S608 - columns of ours

_BY_ID: Final = f"{_EVENT} WHERE e.id = ANY (CAST(:ids AS uuid[])) ORDER BY e.start_time, e.id"

# Much of a large project starts at the same moment: only links are read of it. Of a series, whose occurrences have one
# uid in every invitee's calendar, only one occurrence each is wanted: content says which (`_mark`).
_STARTING: Final = """
SELECT e.meeting_url, e.start_time, array_agg(e.id) AS ids,
       (SELECT CAST(p.meeting_preferences AS text) FROM projects p WHERE p.id = :project) AS meeting_preferences
  FROM calendar_events e
 WHERE e.project_id = :project AND e.start_time = ANY (CAST(:starts AS timestamptz[])) AND NOT e.is_deleted
   AND e.meeting_url IS NOT NULL AND e.end_time > app_now()
 GROUP BY e.meeting_url, e.start_time
"""
_PAUSE: Final = 200
"""Links that are looked at until others of the loop have a turn."""

_SHARING: Final = f"""
{_EVENT}
 WHERE e.id IN (
       SELECT u.id
         FROM calendar_events u JOIN unnest(CAST(:uids AS text[]), CAST(:marks AS text[])) AS n (uid, mark)
              ON u.ical_uid = n.uid AND strpos(u.content, n.mark) > 0
        WHERE u.project_id = :project AND NOT u.is_deleted
       UNION SELECT unnest(CAST(:ids AS uuid[])))
   AND NOT e.is_deleted AND e.meeting_url IS NOT NULL AND e.end_time > app_now() AND c.state = 'connected'
   AND c.deleted_at IS NULL
 ORDER BY e.start_time, e.id
"""  # noqa: S608 - columns of ours


def ground_of(row: Row) -> Ground:
    """What a row of `_GROUND` says."""
    return Ground(
        project_id=row.project_id,
        calendar_id=row.calendar_id,
        email=row.email,
        metadata=orjson.loads(row.calendar_metadata or "{}") or {},
        internal_domains=frozenset(row.internal_domains),
        preferences=projects.preferences_of(row.meeting_preferences),
    )


def rule_of(row: Row) -> Rule:
    """A rule, from a row with the columns `RULE`."""
    return Rule(
        id=row.id,
        name=row.name,
        version=row.version,
        match=row.match,
        scope=row.scope,
        bot_name=row.bot_name,
        config=row.config,
        launcher_id=row.launcher_id,
        series_id=row.series_id,
        deduplication_key=row.deduplication_key,
        metadata=row.metadata,
        further_series=frozenset(row.further_series or ()),
    )


def candidate_of(row: Row, ground: Ground | None = None) -> Candidate:
    """An event, from a row of `_EVENT`."""
    return Candidate(
        id=row.id,
        ground=ground or ground_of(row),
        event=event_in(row),
        series_id=row.series_id,
        ical_uid=row.ical_uid,
        override=row.bot_override,
        is_new=row.is_new,
        text=row.content,
    )


async def of_calendar(tx: ReadTx, calendar_id: UUID) -> tuple[Ground, list[Rule]] | None:
    """What the calendar's events are judged by, whose turn it is first. None: there is no such calendar."""
    rows = await tx.rows(_OF_CALENDAR, {"calendar": calendar_id})
    if not rows:
        return None
    return ground_of(rows[0]), [rule_of(row) for row in rows if row.has_rule]


async def events(tx: ReadTx, ids: Collection[UUID], ground: Ground | None = None) -> list[Candidate]:
    """These events, as they are stored now, by their starts."""
    rows = await tx.rows(_BY_ID, {"ids": list(ids)}) if ids else []
    return [candidate_of(row, ground) for row in rows]


async def sharing(tx: ReadTx, project_id: UUID, keys: Collection[str]) -> list[Candidate]:
    """The project's events ahead, in connected calendars, that may be one of these meetings: compare their keys."""
    parsed = [Key.parse(key) for key in keys]
    if not parsed:
        return []
    pairs = {(key.name, _mark(key.at)) for key in parsed if key.kind == "uid"}
    uids, marks = [uid for uid, _ in pairs], [mark for _, mark in pairs]
    params = {"project": project_id, "uids": uids, "marks": marks, "ids": await _linked(tx, project_id, parsed)}
    rows = await tx.rows(_SHARING, params)
    grounds: dict[UUID, Ground] = {}
    return [candidate_of(row, grounds.setdefault(row.calendar_id, ground_of(row))) for row in rows]


def _mark(original_start: str) -> str:
    """What the content of such an occurrence, or of a single event, has in it; others may as well."""
    return f'"original_start_time":{orjson.dumps(original_start or None).decode()}'


async def _linked(tx: ReadTx, project_id: UUID, keys: Collection[Key]) -> list[UUID]:
    """The events that have one of these keys by their link and start."""
    wanted = {key.text for key in keys if key.kind == "link"}
    realms = {key.realm for key in keys}
    starts = sorted({datetime.fromisoformat(key.at) for key in keys if key.kind == "link"})
    rows = await tx.rows(_STARTING, {"project": project_id, "starts": starts}) if starts else []
    preferences = projects.preferences_of(rows[0].meeting_preferences) if rows else None
    found: list[UUID] = []
    for number, row in enumerate(rows):
        if preferences is not None:
            key = by_link("", row.meeting_url, row.start_time, preferences)
            found += row.ids if any(replace(key, realm=realm).text in wanted for realm in realms) else []
        if number % _PAUSE == _PAUSE - 1:
            await asyncio.sleep(0)
    return found
