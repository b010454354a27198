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
from app.webhooks.payloads import EVENTS_UPDATE, TEST
from app.webhooks.standing import BREAKER_FAILURES

SCAN = 400
"""Due rows of either priority that are looked at for one claim."""
LATER_SHARE = 8
"""One in so many places of a batch is kept for what is not a first attempt, so that an overload starves no retry."""
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
    """No attempt was made yet, and it is no replay."""
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

    @property
    def pace(self) -> Pace | None:
        """What its endpoint may be sent, where that is limited."""
        return None if self.interval is None else Pace(self.interval, self.ahead, self.is_probed)

    @property
    def is_free(self) -> bool:
        """Whether it goes whatever the standing: a test, or what ends without an exchange."""
        return self.trigger == TEST or self.endpoint_state in ("deleted", "disabled")


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
   AND endpoint_id <> ALL (CAST(:full AS uuid[])) AND project_id <> ALL (CAST(:full_projects AS uuid[]))
 ORDER BY next_attempt_at LIMIT :scan
"""  # noqa: S608 - no value comes from outside

# Of an endpoint that is well no more rows come back than it has room for; of any other all that were seen, so that
# those that cannot be sent now are put off or merged together.
_LOOK = f"""
WITH due AS MATERIALIZED (
    ({_PART.format(priority=0)}) UNION ALL ({_PART.format(priority=1)})
), ranked AS (
    SELECT d.*, row_number() OVER (PARTITION BY endpoint_id, priority ORDER BY next_attempt_at) AS place,
           coalesce(r.room, :room) AS room
      FROM due d
      LEFT JOIN unnest(CAST(:known AS uuid[]), CAST(:rooms AS int[])) AS r (endpoint_id, room) USING (endpoint_id)
)
SELECT d.id, d.fence, d.project_id, d.endpoint_id, d.calendar_id, d.trigger, d.priority = 0 AS is_first,
       d.is_digest, CASE WHEN e.deleted_at IS NULL THEN e.state ELSE 'deleted' END AS endpoint_state,
       coalesce(extract(epoch FROM e.paused_until - (SELECT app_now())), 0)::float8 AS paused,
       CASE WHEN e.failure_count >= {BREAKER_FAILURES} OR e.state = 'failing' THEN CAST(:probe AS float8)
            ELSE 1.0::float8 / e.rate_limit END AS interval,
       e.failure_count >= {BREAKER_FAILURES} OR e.state = 'failing' AS is_probed,
       greatest(coalesce(extract(epoch FROM e.next_slot_at - (SELECT app_now())), 0), 0)::float8 AS ahead,
       CASE WHEN d.lane IS NOT NULL THEN (
           SELECT extract(epoch FROM h.next_attempt_at - (SELECT app_now()))::float8 FROM deliveries h
            WHERE h.endpoint_id = d.endpoint_id AND h.lane = d.lane AND h.state = 'pending' AND h.seq < d.seq
            ORDER BY h.seq LIMIT 1
       ) END AS blocked
  FROM ranked d JOIN webhook_endpoints e ON e.id = d.endpoint_id
 WHERE d.place <= d.room OR d.lane IS NOT NULL OR e.state <> 'enabled' OR e.paused_until > (SELECT app_now())
    OR e.failure_count >= {BREAKER_FAILURES} OR e.rate_limit IS NOT NULL
 ORDER BY d.priority, d.next_attempt_at
"""  # noqa: S608 - no value comes from outside


async def look(
    tx: ReadTx,
    *,
    room: int,
    rooms: Mapping[UUID, int],
    full_projects: Sequence[UUID],
    probe_seconds: float,
) -> Sequence[Due]:
    """What is due, first attempts first, the longest due first; nothing for endpoints and projects without room.

    `probe_seconds`: how far apart attempts at an endpoint are whose breaker is half open.
    """
    params = {
        "full": [endpoint for endpoint, left in rooms.items() if left <= 0],
        "full_projects": full_projects,
        "known": list(rooms),
        "rooms": list(rooms.values()),
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
) -> Choice:
    """At most `batch` to send: of an endpoint its room (`rooms`, else `room`), of a project its share."""
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
    choice.take = _fitting(ready, batch=batch, room=room, rooms=rooms, share=share, shares=shares)
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
    ready: Sequence[Due], *, batch: int, room: int, rooms: Mapping[UUID, int], share: int, shares: Mapping[UUID, int]
) -> list[Due]:
    """First attempts, but for the places that are kept for the others, of the batch and of each endpoint's room."""
    later = [row for row in ready if not row.is_first]
    taken: list[Due] = []
    endpoints: Counter[UUID] = Counter()
    projects: Counter[UUID] = Counter()

    def take(rows: Iterable[Due], *, most: int, part: int) -> None:
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

    take(later, most=batch // LATER_SHARE + 1, part=LATER_SHARE)
    kept = {row.id for row in taken}
    take((row for row in ready if row.is_first), most=batch, part=1)
    take((row for row in later if row.id not in kept), most=batch, part=1)
    return sorted(taken, key=lambda row: not row.is_first)
