"""When a calendar is synced: requests, claims, leases and the sweep, all as rows of `sync_state`.

A row is due while `requested_seq > synced_seq`. A request only counts up and moves `due_at` (trailing edge with a
maximum wait), so it never waits for a run and a run never hides it. A claim takes a lease and a new fence; whoever
comes back with an old fence changes nothing. Redis only wakes: `due_calendars` says whose turn it is.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app import projects
from app.db import DATABASE_ERRORS, Row, Tx
from app.errors import HealthStatus, SyncSuperseded
from app.meetings import Preferences
from app.providers.base import Platform, Window
from app.runtime import Runtime
from app.telemetry import log

_BY_ID = "calendar_id = ANY(:ids)"
_BY_CHANNEL = """calendar_id IN (
    SELECT id FROM calendars WHERE channel_key = ANY(:keys) AND state = 'connected' AND deleted_at IS NULL)"""

_REQUEST = """
WITH target AS (
    SELECT calendar_id, first_requested_at IS NULL AS opens
      FROM sync_state WHERE {which} ORDER BY calendar_id FOR UPDATE
)
UPDATE sync_state s
   SET requested_seq = s.requested_seq + 1,
       asked_seq = CASE WHEN :is_asked THEN s.requested_seq + 1 ELSE s.asked_seq END,
       pushed_seq = CASE WHEN :is_push THEN s.requested_seq + 1 ELSE s.pushed_seq END,
       full_requested_seq = CASE WHEN :is_full THEN s.requested_seq + 1 ELSE s.full_requested_seq END,
       first_requested_at = coalesce(s.first_requested_at, n.now),
       due_at = CASE WHEN :is_priority THEN n.now
                     WHEN s.is_priority AND s.requested_seq > s.synced_seq THEN s.due_at
                     ELSE least(n.now + make_interval(secs => :quiet),
                                coalesce(s.first_requested_at, n.now) + make_interval(secs => :max_wait)) END,
       is_priority = s.is_priority OR :is_priority,
       last_notification_at = CASE WHEN :is_push THEN n.now ELSE s.last_notification_at END
  FROM target t, (SELECT app_now() AS now) n
 WHERE s.calendar_id = t.calendar_id
RETURNING s.calendar_id, s.requested_seq, t.opens OR :is_priority AS is_wake_due,
          CASE WHEN s.not_before < 'infinity' THEN extract(epoch FROM greatest(s.due_at, s.not_before) - n.now) END
          AS delay
"""

_CLAIM = """
WITH claimed AS (
    UPDATE sync_state s
       SET lease_until = clock_timestamp() + make_interval(secs => :lease), fence = s.fence + 1,
           first_requested_at = NULL, is_priority = false, last_attempted_sync_at = app_now()
     WHERE s.calendar_id = (
           SELECT calendar_id FROM sync_state
            WHERE calendar_id = :id AND requested_seq > synced_seq AND due_at <= app_now()
              AND not_before <= app_now() AND (lease_until IS NULL OR lease_until < clock_timestamp())
              FOR UPDATE SKIP LOCKED)
    RETURNING s.*
)
SELECT s.fence, s.requested_seq, s.cursor, s.cursor_version, s.window_start, s.window_end, s.suspect_code,
       s.failure_count, s.due_at, s.anchor_due_at <= app_now() OR s.full_requested_seq > s.synced_seq AS is_full_due,
       s.asked_seq > s.synced_seq AS is_asked, s.pushed_seq > s.synced_seq AS is_pushed, s.lag_step,
       s.health_status, s.health_changed_at,
       EXISTS (SELECT FROM absent_events x WHERE x.calendar_id = s.calendar_id) AS is_guarded,
       c.project_id, c.platform, c.platform_uuid, c.remote_calendar_id, c.account_subject, c.email, c.time_zone,
       g.version, g.access_token_sealed, g.is_identity_due,
       g.access_token_expires_at > app_now() + interval '5 minutes' AS is_token_fresh,
       a.id AS oauth_app_id, a.client_id, a.failing_code AS app_failing_code,
       CAST(p.meeting_preferences AS text) AS meeting_preferences, app_now() AS now
  FROM claimed s
  JOIN calendars c ON c.id = s.calendar_id AND c.deleted_at IS NULL
  JOIN grants g ON g.calendar_id = c.id
  JOIN oauth_apps a ON a.id = c.oauth_app_id
  JOIN projects p ON p.id = c.project_id
"""

_NOT_YET = """
SELECT extract(epoch FROM greatest(due_at, not_before) - app_now())
  FROM sync_state
 WHERE calendar_id = :id AND requested_seq > synced_seq AND not_before < 'infinity'
   AND (lease_until IS NULL OR lease_until < clock_timestamp())
"""

BACKSTOP_SECONDS = 900
"""For so long what the clock asked for waits behind what somebody asked for."""

# Turn by turn between OAuth apps, so that nobody waits behind an app's fifty thousand; what a push or a request asked
# for goes before what the clock asked for, unless that has waited for a quarter of an hour. The apps that have anything
# to do are found by skipping through the index.
_ASKED = "s.asked_seq > s.synced_seq"
_BACKSTOP = "s.requested_seq > s.synced_seq AND s.asked_seq <= s.synced_seq"


def _apps(where: str) -> str:
    found = f"SELECT s.oauth_app_id FROM sync_state s WHERE {where}"  # noqa: S608 - made of constants
    return f"""(
    SELECT ({found} ORDER BY s.oauth_app_id LIMIT 1)
    UNION ALL
    SELECT ({found} AND s.oauth_app_id > a.id ORDER BY s.oauth_app_id LIMIT 1) FROM {{name}} a WHERE a.id IS NOT NULL
)"""  # noqa: S608 - made of constants


def _due_of(name: str, where: str, *, is_backstop: bool) -> str:
    return f"""
SELECT d.*, {is_backstop} AS is_backstop, row_number() OVER (PARTITION BY a.id ORDER BY d.ready_at) AS place
  FROM {name} a CROSS JOIN LATERAL (
       SELECT s.calendar_id, s.oauth_app_id, s.due_at, greatest(s.due_at, s.not_before) AS ready_at FROM sync_state s
        WHERE s.oauth_app_id = a.id AND {where} AND greatest(s.due_at, s.not_before) <= app_now()
          AND (s.lease_until IS NULL OR s.lease_until < clock_timestamp())
        ORDER BY greatest(s.due_at, s.not_before) LIMIT :most) d
 WHERE NOT a.id = ANY(CAST(:full AS uuid[]))
"""  # noqa: S608 - made of constants


_DUE = f"""
WITH RECURSIVE asked(id) AS {_apps(_ASKED).format(name="asked")},
     backstop(id) AS {_apps(_BACKSTOP).format(name="backstop")},
     due AS ({_due_of("asked", _ASKED, is_backstop=False)}
             UNION ALL {_due_of("backstop", _BACKSTOP, is_backstop=True)}),
     holding AS (SELECT * FROM unnest(CAST(:apps AS uuid[]), CAST(:counts AS bigint[])) AS v(oauth_app_id, count))
SELECT due.calendar_id, due.oauth_app_id FROM due LEFT JOIN holding USING (oauth_app_id)
 ORDER BY due.is_backstop AND due.due_at > app_now() - make_interval(secs => {BACKSTOP_SECONDS}),
          due.place + coalesce(holding.count, 0), due.ready_at
 LIMIT :most
"""  # noqa: S608 - made of constants

_SWEEP = """
WITH due AS (
    SELECT s.calendar_id FROM sync_state s
     WHERE (s.poll_due_at <= app_now() OR s.anchor_due_at <= app_now())
       AND s.requested_seq = s.synced_seq AND s.not_before < 'infinity'
     ORDER BY s.calendar_id LIMIT :most FOR UPDATE SKIP LOCKED
)
UPDATE sync_state s SET requested_seq = s.requested_seq + 1, due_at = app_now()
  FROM due WHERE s.calendar_id = due.calendar_id
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one calendar until the lease ends, and all that the run needs to know."""

    calendar_id: UUID
    project_id: UUID
    platform: Platform
    platform_uuid: str | None
    remote_calendar_id: str | None
    account_subject: str | None
    email: str | None
    time_zone: str | None
    oauth_app_id: UUID
    client_id: str
    app_failing_code: str | None
    """The incident of the OAuth app, if there is one."""
    fence: int
    requested_seq: int
    cursor: str | None
    cursor_version: int
    window: Window | None
    is_full_due: bool
    is_asked: bool
    """Whether a push or a request is served; else only the clock asked."""
    is_pushed: bool
    is_second_look: bool
    """Whether an earlier push found nothing, and this may be the look for what it told of."""
    is_guarded: bool
    """Whether the listing before this one lacked most of the calendar: this one decides."""
    suspect_code: str | None
    failure_count: int
    health_status: HealthStatus
    health_changed_at: datetime | None
    due_at: datetime
    now: datetime
    grant_version: int
    is_identity_due: bool
    access_token_sealed: bytes | None
    is_token_fresh: bool
    preferences: Preferences
    """The project's, for meeting links."""

    @property
    def is_backstop(self) -> bool:
        """Whether it can wait: only the clock asked, and not long ago."""
        return not self.is_asked and (self.now - self.due_at).total_seconds() < BACKSTOP_SECONDS


async def request_syncs(
    rt: Runtime,
    tx: Tx,
    calendar_ids: Sequence[UUID],
    *,
    is_full: bool = False,
    is_priority: bool = False,
    is_backstop: bool = False,
) -> dict[UUID, int]:
    """Ask for a sync of each calendar; the requested_seq that will have served this request.

    `is_backstop`: as the clock would, after what somebody waits for.
    """
    params = {
        "ids": list(calendar_ids),
        "is_full": is_full,
        "is_priority": is_priority,
        "is_push": False,
        "is_asked": not is_backstop,
    }
    return await _request(rt, tx, _BY_ID, params)


async def request_served(rt: Runtime, tx: Tx, channel_keys: Sequence[bytes], *, is_full: bool = False) -> None:
    """Ask for a sync of every connected calendar that these push channels serve: a notification came."""
    params = {"keys": list(channel_keys), "is_full": is_full, "is_priority": False, "is_push": True, "is_asked": True}
    await _request(rt, tx, _BY_CHANNEL, params)


async def _request(rt: Runtime, tx: Tx, which: str, params: dict[str, object]) -> dict[UUID, int]:
    quiet = {"quiet": rt.settings.sync_quiet_seconds, "max_wait": rt.settings.sync_max_wait_seconds}
    rows = await tx.rows(_REQUEST.format(which=which), {**params, **quiet})
    for row in rows:
        if row.is_wake_due and row.delay is not None:
            _wake_after_commit(rt, tx, row.calendar_id, float(row.delay))
    return {row.calendar_id: row.requested_seq for row in rows}


def _wake_after_commit(rt: Runtime, tx: Tx, calendar_id: UUID, delay: float) -> None:
    tx.after_commit(lambda: rt.queue.wake_sync(calendar_id, max(0.0, delay)))


async def claim(rt: Runtime, calendar_id: UUID) -> Claim | None:
    """Take the calendar if it is due and free.

    A job that comes too early sends itself ahead to the time it is due; one that meets a live lease just ends,
    because the finishing run, or the sweep, wakes the row again.
    """
    async with rt.db.transaction() as tx:
        row = await tx.row(_CLAIM, {"id": calendar_id, "lease": rt.settings.sync_lease_seconds})
        if row is not None:
            return _claim_of(calendar_id, row)
        delay = await tx.scalar(_NOT_YET, {"id": calendar_id})
        if delay is not None and delay < rt.settings.sync_lease_seconds:
            _wake_after_commit(rt, tx, calendar_id, float(delay))
        return None


def _claim_of(calendar_id: UUID, row: Row) -> Claim:
    window = Window(row.window_start, row.window_end) if row.window_start is not None else None
    return Claim(
        calendar_id=calendar_id,
        project_id=row.project_id,
        platform=row.platform,
        platform_uuid=row.platform_uuid,
        remote_calendar_id=row.remote_calendar_id,
        account_subject=row.account_subject,
        email=row.email,
        time_zone=row.time_zone,
        oauth_app_id=row.oauth_app_id,
        client_id=row.client_id,
        app_failing_code=row.app_failing_code,
        fence=row.fence,
        requested_seq=row.requested_seq,
        cursor=row.cursor,
        cursor_version=row.cursor_version,
        window=window,
        is_full_due=row.is_full_due or row.is_guarded or window is None,
        is_asked=row.is_asked,
        is_pushed=row.is_pushed,
        is_second_look=row.lag_step > 0,
        is_guarded=row.is_guarded,
        suspect_code=row.suspect_code,
        failure_count=row.failure_count,
        health_status=row.health_status,
        health_changed_at=row.health_changed_at,
        due_at=row.due_at,
        now=row.now,
        grant_version=row.version,
        is_identity_due=row.is_identity_due,
        access_token_sealed=row.access_token_sealed,
        is_token_fresh=bool(row.is_token_fresh),
        preferences=projects.preferences_of(row.meeting_preferences),
    )


@asynccontextmanager
async def held(rt: Runtime, claim: Claim) -> AsyncIterator[None]:
    """Keep the lease alive while the block runs; SyncSuperseded ends the block when the fence is no longer ours."""
    lost, has_ended = False, False
    owner = asyncio.current_task()

    async def renew() -> None:
        nonlocal lost
        while not has_ended:  # a driver that waits in vain for a silent server may turn the cancellation into an error
            await asyncio.sleep(rt.settings.sync_lease_seconds / 3)
            try:
                still_ours = await _renew(rt, claim)
            except DATABASE_ERRORS as exc:
                log.warning("sync.lease_not_renewed", calendar=str(claim.calendar_id), error=type(exc).__name__)
                continue
            if still_ours or has_ended:
                continue
            lost = True
            if owner is not None:
                owner.cancel()
            return

    keeper = asyncio.create_task(renew())
    try:
        yield
    except asyncio.CancelledError:
        if lost and owner is not None and owner.uncancel() == 0:
            raise SyncSuperseded("the lease was lost during the run") from None
        raise
    finally:
        has_ended = True
        keeper.cancel()
        await asyncio.wait([keeper])


# Of a run that has just ended nothing comes back, and nothing was taken from it either.
_RENEW = """
UPDATE sync_state
   SET lease_until = CASE WHEN lease_until IS NOT NULL THEN clock_timestamp() + make_interval(secs => :lease) END
 WHERE calendar_id = :id AND fence = :fence
"""


async def _renew(rt: Runtime, claim: Claim) -> bool:
    params = {"id": claim.calendar_id, "fence": claim.fence, "lease": rt.settings.sync_lease_seconds}
    async with rt.db.transaction() as tx:
        return await tx.execute(_RENEW, params) == 1


async def release(rt: Runtime, claim: Claim) -> None:
    """Give an unfinished claim back at once: a worker that stops must not cost a whole lease."""
    async with rt.db.transaction() as tx:
        touched = await tx.execute(
            "UPDATE sync_state SET lease_until = NULL, due_at = least(due_at, app_now())"
            " WHERE calendar_id = :id AND fence = :fence",
            {"id": claim.calendar_id, "fence": claim.fence},
        )
        if touched:
            _wake_after_commit(rt, tx, claim.calendar_id, 0)


async def due_calendars(
    rt: Runtime, *, most: int, holding: Mapping[UUID, int] | None = None, places: int | None = None
) -> dict[UUID, UUID]:
    """Calendars that could be claimed now, in the order of their turn, each with its OAuth app.

    `holding` says how many runs each app has under way: the fewer, the sooner its turn; none with `places` or more.
    """
    holding = holding or {}
    params = {
        "most": most,
        "apps": list(holding),
        "counts": list(holding.values()),
        "full": [app_id for app_id, count in holding.items() if places is not None and count >= places],
    }
    async with rt.db.reading() as tx:
        return {row.calendar_id: row.oauth_app_id for row in await tx.rows(_DUE, params)}


async def sweep(rt: Runtime, *, most: int = 500) -> int:
    """Request a sync for calendars whose poll, audit or window roll is due; how many."""
    async with rt.db.direct() as tx:
        return await tx.execute(_SWEEP, {"most": most})
