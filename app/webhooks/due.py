"""What is due, and what becomes of it: sent now, put off, or merged into a digest.

Looking takes no lock. The choice is made here, in memory and without a side effect; `claims` carries it out, and finds
by the fence what another worker was faster with. What cannot be sent now is put off to the moment from which it can
(a pause ends, a slot comes free, the head of its lane is tried again), so that most looks do not meet it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from app.db import ReadTx
from app.webhooks.launches import URGENT
from app.webhooks.payloads import BOT_LAUNCH, EVENTS_UPDATE, TEST
from app.webhooks.standing import BREAKER_FAILURES

SCAN = 400
"""Due rows of each priority that are looked at for one claim."""
LATER_SHARE = 8
"""One in so many places of a batch is kept for what is not a first attempt, so that an overload starves no retry."""
URGENT_SHARE = 2
"""One in so many places of a batch is kept for what is not urgent."""
BURST_SECONDS = 0.25
"""A rate limit holds on average; so much of a second's worth may go out at once."""
BLOCKED_SECONDS = 10.0
"""Who waits in a lane is made due by the end of its head; after this time it is looked at whatever happened."""
PARKED_SECONDS = 300.0
"""After this time a disabled endpoint's digest is looked at again, for whatever reason it was not woken."""


class Pace(NamedTuple):
    """How often something may be sent to an endpoint: seconds apart, and by how many it is ahead of that."""

    interval: float
    ahead: float
    is_probe: bool = False
    """One at a time: its breaker is half open."""

    def wait(self, count: int) -> float:
        """Seconds until one more than `count` may be sent; none or less: now."""
        return self.ahead + (count + 1) * self.interval - max(BURST_SECONDS, self.interval)

    def room(self, wanted: int) -> int:
        """How many of `wanted` may be sent now."""
        return next((count for count in range(wanted) if self.wait(count) > 0), wanted)


class Due(NamedTuple):
    """A delivery whose time has come, and what of its endpoint and its lane decides whether it is sent.

    The columns of `_LOOK`, in their order.
    """

    id: UUID
    fence: int
    project_id: UUID
    endpoint_id: UUID
    calendar_id: UUID | None
    trigger: str
    is_first: bool
    """No attempt was made yet, and it is neither a replay nor urgent."""
    is_digest: bool
    endpoint_state: str
    paused: float
    """Seconds until the endpoint's pause is over; 0 without one."""
    interval: float | None
    """Seconds between two attempts at the endpoint; None: as many as there is room for."""
    is_probed: bool
    ahead: float
    """Seconds until its next slot, where there is an interval."""
    blocked: float | None
    """Seconds until the head of its lane is due, where that is another one."""
    is_urgent: bool = False
    """A launch: before all else, with a room of its own."""

    @property
    def pace(self) -> Pace | None:
        """What its endpoint may be sent, where that is limited."""
        return None if self.interval is None else Pace(self.interval, self.ahead, self.is_probed)

    @property
    def is_free(self) -> bool:
        """Whether it goes whatever the standing: a test, a launch, or what ends without an exchange."""
        return self.trigger in (TEST, BOT_LAUNCH) or self.endpoint_state in ("deleted", "disabled")


@dataclass(slots=True)
class Choice:
    """What is to be done with what was looked at."""

    take: list[Due] = field(default_factory=list)
    put_off: list[tuple[Due, float]] = field(default_factory=list)
    """With seconds."""
    merge: set[tuple[UUID, UUID]] = field(default_factory=set)
    """Endpoints and calendars whose messages become a digest."""


_COLUMNS = """
id, fence, project_id, endpoint_id, calendar_id, trigger, priority, is_digest, lane, seq, next_attempt_at
"""
_PART = f"""
SELECT {_COLUMNS} FROM deliveries
 WHERE state = 'pending' AND priority = {{priority}} AND next_attempt_at <= (SELECT app_now())
   AND endpoint_id <> ALL (CAST(:{{full}} AS uuid[])) AND project_id <> ALL (CAST(:full_projects AS uuid[]))
 ORDER BY next_attempt_at LIMIT :scan
"""  # noqa: S608 - no value comes from outside

# Of an endpoint that is well no more rows come back than it has room for; of any other all that were seen, so that
# those that cannot be sent now are put off or merged together. What is urgent is never put off.
_LOOK = f"""
WITH due AS MATERIALIZED (
    ({_PART.format(priority=URGENT, full="full_of_urgent")}) UNION ALL
    ({_PART.format(priority=0, full="full")}) UNION ALL ({_PART.format(priority=1, full="full")})
), ranked AS (
    SELECT d.*, row_number() OVER (PARTITION BY endpoint_id, priority ORDER BY next_attempt_at) AS place,
           coalesce(CASE WHEN d.priority = {URGENT} THEN r.urgent_room ELSE r.room END, :room) AS room
      FROM due d
      LEFT JOIN unnest(CAST(:known AS uuid[]), CAST(:rooms AS int[]), CAST(:urgent_rooms AS int[]))
             AS r (endpoint_id, room, urgent_room) USING (endpoint_id)
)
SELECT d.id, d.fence, d.project_id, d.endpoint_id, d.calendar_id, d.trigger, d.priority = 0 AS is_first,
       d.is_digest, CASE WHEN e.deleted_at IS NULL THEN e.state ELSE 'deleted' END AS endpoint_state,
       coalesce(extract(epoch FROM e.paused_until - (SELECT app_now())), 0)::float8 AS paused,
       CASE WHEN e.failure_count >= {BREAKER_FAILURES} OR e.state = 'failing' THEN CAST(:probe AS float8)
            ELSE 1.0::float8 / e.rate_limit END AS interval,
       e.failure_count >= {BREAKER_FAILURES} OR e.state = 'failing' AS is_probed,
       greatest(coalesce(extract(epoch FROM e.next_slot_at - (SELECT app_now())), 0), 0)::float8 AS ahead,
       CASE WHEN d.lane IS NOT NULL AND d.trigger <> '{BOT_LAUNCH}' THEN (
           SELECT extract(epoch FROM h.next_attempt_at - (SELECT app_now()))::float8 FROM deliveries h
            WHERE h.endpoint_id = d.endpoint_id AND h.lane = d.lane AND h.state = 'pending' AND h.seq < d.seq
            ORDER BY h.seq LIMIT 1
       ) END AS blocked,
       d.priority = {URGENT} AS is_urgent
  FROM ranked d JOIN webhook_endpoints e ON e.id = d.endpoint_id
 WHERE d.place <= d.room OR d.priority <> {URGENT} AND (
       d.lane IS NOT NULL OR e.state <> 'enabled' OR e.paused_until > (SELECT app_now())
       OR e.failure_count >= {BREAKER_FAILURES} OR e.rate_limit IS NOT NULL)
 ORDER BY d.priority, d.next_attempt_at
"""  # noqa: S608 - no value comes from outside


async def look(
    tx: ReadTx,
    *,
    room: int,
    rooms: Mapping[UUID, int],
    full_projects: Sequence[UUID],
    probe_seconds: float,
    urgent_rooms: Mapping[UUID, int] | None = None,
) -> Sequence[Due]:
    """What is due, what is urgent first, then first attempts, the longest due first.

    Nothing for endpoints and projects without room; `urgent_rooms` is that of what is urgent, where it is another.
    `probe_seconds`: how far apart attempts at an endpoint are whose breaker is half open.
    """
    urgent_rooms = rooms if urgent_rooms is None else urgent_rooms
    known = list({**rooms, **urgent_rooms})
    params = {
        "full": [endpoint for endpoint, left in rooms.items() if left <= 0],
        "full_of_urgent": [endpoint for endpoint, left in urgent_rooms.items() if left <= 0],
        "full_projects": full_projects,
        "known": known,
        "rooms": [rooms.get(endpoint, room) for endpoint in known],
        "urgent_rooms": [urgent_rooms.get(endpoint, room) for endpoint in known],
        "room": room,
        "probe": probe_seconds,
        "scan": SCAN,
    }
    return [Due(*row) for row in await tx.rows(_LOOK, params)]


def choose(
    due: Iterable[Due],
    *,
    batch: int,
    room: int,
    rooms: Mapping[UUID, int],
    share: int,
    shares: Mapping[UUID, int],
    urgent_rooms: Mapping[UUID, int] | None = None,
) -> Choice:
    """At most `batch` to send: of an endpoint its room (`rooms`, else `room`), of a project its share.

    What is urgent comes first, in a room of its own (`urgent_rooms`).
    """
    choice = Choice()
    ready: list[Due] = []
    paced: Counter[UUID] = Counter()
    for row in due:
        if row.endpoint_state in ("failing", "disabled") and row.trigger == EVENTS_UPDATE:
            if not row.is_digest and row.calendar_id is not None:
                choice.merge.add((row.endpoint_id, row.calendar_id))
                continue
            if row.endpoint_state == "disabled":
                choice.put_off.append((row, PARKED_SECONDS))
                continue
        wait = _wait(row, paced)
        if wait is None:
            ready.append(row)
        else:
            choice.put_off.append((row, wait))
    ready = [row for row in ready if not row.is_digest or (row.endpoint_id, row.calendar_id) not in choice.merge]
    urgent_rooms = rooms if urgent_rooms is None else urgent_rooms
    choice.take = _fitting(
        ready, batch=batch, room=room, rooms=rooms, share=share, shares=shares, urgent_rooms=urgent_rooms
    )
    return choice


def _wait(row: Due, paced: Counter[UUID]) -> float | None:
    """Seconds to put it off; None where it may be sent."""
    if row.is_free:
        return None
    if row.paused > 0:
        return row.paused
    if row.blocked is not None:
        return max(row.blocked, BLOCKED_SECONDS)
    pace = row.pace
    if pace is None:
        return None
    count = paced[row.endpoint_id]
    wait = pace.wait(min(count, 1) if pace.is_probe else count)  # all of them have the next slot before them
    paced[row.endpoint_id] += 1
    return wait if wait > 0 else None


def _fitting(
    ready: Sequence[Due],
    *,
    batch: int,
    room: int,
    rooms: Mapping[UUID, int],
    share: int,
    shares: Mapping[UUID, int],
    urgent_rooms: Mapping[UUID, int],
) -> list[Due]:
    """What is urgent, then first attempts, but for the places that are kept for others, of the batch and each room."""
    urgent = [row for row in ready if row.is_urgent]
    later = [row for row in ready if not row.is_first and not row.is_urgent]
    taken: list[Due] = []
    endpoints: Counter[UUID] = Counter()
    projects: Counter[UUID] = Counter()

    def take(rows: Iterable[Due], *, most: int, part: int, rooms: Mapping[UUID, int] = rooms) -> None:
        for row in rows:
            if len(taken) >= most:
                return
            place = rooms.get(row.endpoint_id, room)
            if endpoints[row.endpoint_id] >= min(place, place // part + 1):
                continue
            if projects[row.project_id] >= shares.get(row.project_id, share):
                continue
            endpoints[row.endpoint_id] += 1
            projects[row.project_id] += 1
            taken.append(row)

    take(urgent, most=batch // URGENT_SHARE + 1, part=1, rooms=urgent_rooms)
    take(later, most=min(batch, len(taken) + batch // LATER_SHARE + 1), part=LATER_SHARE)
    kept = {row.id for row in taken}
    take((row for row in ready if row.is_first), most=batch, part=1)
    take((row for row in later if row.id not in kept), most=batch, part=1)
    take((row for row in urgent if row.id not in kept), most=batch, part=1, rooms=urgent_rooms)
    return sorted(taken, key=lambda row: (not row.is_urgent, not row.is_first))
