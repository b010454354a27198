"""The rows of deliveries under way: claimed by lease, settled under a fence, both many at a time.

A claim is one short transaction that moves `next_attempt_at` beyond the attempt's deadline and raises the fence.
Whatever dies afterwards is due again by itself; whoever settles too late finds another fence and changes nothing.
Of what was chosen (`due`), another worker may have been faster with some: that is left to it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import NamedTuple
from uuid import UUID

from app.db import Database, DirectTx, Row
from app.webhooks.due import SCAN, Due, choose, look
from app.webhooks.launches import URGENT, Launch, read
from app.webhooks.payloads import BOT_LAUNCH
from app.webhooks.secrets import OLD_SECRETS, SealedSecret, sealed_secrets


class Claim(NamedTuple):
    """One delivery that is ours until `lease_ends` (on the monotonic clock), and all that sending it takes.

    Up to `is_well` the columns of `_CLAIM`, in their order.
    """

    delivery_id: UUID
    project_id: UUID
    fence: int
    attempt: int
    """1 for the first."""
    is_first: bool
    """Nothing was sent before, and it is no replay."""
    trigger: str
    created_at: datetime
    message_id: UUID
    payload: bytes
    calendar_id: UUID | None
    lane: UUID | None
    """The calendar, where the endpoint wants its messages in order."""
    seq: int | None
    is_digest: bool
    endpoint_id: UUID
    endpoint_state: str
    url: str
    headers_sealed: bytes | None
    """The customer's own headers."""
    retry_seconds: Sequence[float] | None
    """The endpoint's own schedule."""
    is_well: bool
    """Its last attempt succeeded, as far as is known."""
    secrets: tuple[SealedSecret, ...]
    """What signs it, the endpoint's current one first."""
    lease_ends: float
    seen_at: float
    """When the endpoint's state, URL, secrets and headers were read, on the monotonic clock."""
    is_urgent: bool = False
    """It goes before whatever else its endpoint has waiting."""
    launch: Launch | None = None
    """Of a `bot.launch`."""


PUT_OFF_MANY = SCAN // 4
"""So many put off at once are the beginning of a long queue."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What one look brought: claims, and whether to look again at once."""

    claims: list[Claim]
    merge: set[tuple[UUID, UUID]]
    """Endpoints and calendars to be merged."""
    put_off: set[UUID]
    """Endpoints of which something was put off, and more may be due: a look without them sees what is behind it."""
    is_more: bool


_CLAIM = f"""
WITH mine AS (
    SELECT d.id, d.priority = 0 OR d.priority = {URGENT} AND d.attempt_count = 0 AS is_first
      FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[])) AS c (id, fence)
      JOIN deliveries d ON d.id = c.id AND d.fence = c.fence
     WHERE d.next_attempt_at <= (SELECT app_now())
       FOR UPDATE OF d SKIP LOCKED
), claimed AS (
    UPDATE deliveries d
    SET next_attempt_at = (SELECT app_now()) + make_interval(secs => :lease),
        attempt_count = d.attempt_count + 1,
        fence = d.fence + 1,
        is_claimed = true,
        priority = CASE WHEN d.priority = {URGENT} THEN {URGENT} ELSE 1 END
    FROM mine
    WHERE d.id = mine.id
    RETURNING d.id, d.project_id, d.fence, d.attempt_count, mine.is_first, d.trigger, d.created_at, d.message_id,
              d.calendar_id, d.lane, d.seq, d.is_digest, d.endpoint_id, d.priority
)
SELECT c.id, c.project_id, c.fence, c.attempt_count, c.is_first, c.trigger, c.created_at, c.message_id, m.payload,
    c.calendar_id, c.lane, c.seq, c.is_digest, c.endpoint_id,
    CASE WHEN e.deleted_at IS NULL THEN e.state ELSE 'deleted' END AS endpoint_state, e.url, e.headers_sealed,
    e.retry_seconds, e.failure_count = 0 AND e.paused_until IS NULL AS is_well,
    e.secret_sealed, old.ids AS old_ids, old.sealed AS old_sealed, c.priority = {URGENT} AS is_urgent,
    CASE WHEN c.trigger = '{BOT_LAUNCH}' AND c.attempt_count > 1 THEN (
        SELECT extract(epoch FROM (SELECT app_now()) - min(a.at))::float8
          FROM (SELECT at FROM delivery_attempts WHERE delivery_id = c.id ORDER BY id DESC LIMIT c.attempt_count - 1) a
    ) END AS since_first
FROM claimed c JOIN messages m ON m.id = c.message_id JOIN webhook_endpoints e ON e.id = c.endpoint_id
{OLD_SECRETS}
"""  # noqa: S608 - a text of ours

# Locked before any delivery, and waited for by nobody: whoever holds an endpoint's row is judging it.
_PACES = """
SELECT e.id, coalesce(extract(epoch FROM e.next_slot_at - app_now()), 0)::float8 AS ahead,
       coalesce(e.paused_until > app_now(), false) AS is_paused
  FROM webhook_endpoints e WHERE e.id = ANY (CAST(:ids AS uuid[])) FOR NO KEY UPDATE SKIP LOCKED
"""

_TAKE_SLOTS = """
UPDATE webhook_endpoints e SET next_slot_at = app_now() + make_interval(secs => s.ahead)
  FROM unnest(CAST(:ids AS uuid[]), CAST(:aheads AS float8[])) AS s (id, ahead) WHERE e.id = s.id
"""

_PUT_OFF = """
WITH mine AS (
    SELECT d.id, c.wait
      FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[]), CAST(:waits AS float8[])) AS c (id, fence, wait)
      JOIN deliveries d ON d.id = c.id AND d.fence = c.fence
     WHERE d.next_attempt_at <= (SELECT app_now())
       FOR UPDATE OF d SKIP LOCKED
)
UPDATE deliveries d SET next_attempt_at = (SELECT app_now()) + make_interval(secs => mine.wait), is_claimed = false
  FROM mine WHERE d.id = mine.id
"""


async def claim(
    db: Database,
    *,
    batch: int,
    lease_seconds: float,
    room: int,
    rooms: Mapping[UUID, int],
    share: int = SCAN,
    shares: Mapping[UUID, int] | None = None,
    urgent_rooms: Mapping[UUID, int] | None = None,
) -> Claimed:
    """Up to `batch` due deliveries: launches, then first attempts; of an endpoint its room, of a project its share.

    `rooms` says so for endpoints that are busy (0: none at all), `room` for all others; so do `shares` and `share` for
    projects, and `urgent_rooms` for launches, where that is another room. No more than SCAN rows of each priority are
    looked at: what is due behind a long queue of one endpoint, or project, shows once that one has no room.
    """
    shares = shares or {}
    full_projects = [project for project, left in shares.items() if left <= 0]
    async with db.direct() as tx:
        due = await look(
            tx,
            room=room,
            rooms=rooms,
            full_projects=full_projects,
            probe_seconds=lease_seconds,
            urgent_rooms=urgent_rooms,
        )
        choice = choose(due, batch=batch, room=room, rooms=rooms, share=share, shares=shares, urgent_rooms=urgent_rooms)
        is_plain = not choice.put_off and all(d.interval is None or d.is_free for d in choice.take)
        seen_at, put_off = monotonic(), 0
        rows: Sequence[Row] = ()
        if is_plain and choice.take:
            rows = await tx.rows(_CLAIM, _wanted(choice.take, lease_seconds))
    if not is_plain:
        async with db.writing() as tx:
            taken = await _in_pace(tx, choice.take)
            rows = await tx.rows(_CLAIM, _wanted(taken, lease_seconds)) if taken else ()
            put_off = await tx.execute(_PUT_OFF, _waits(choice.put_off)) if choice.put_off else 0
    place = {d.id: i for i, d in enumerate(choice.take)}
    secrets: dict[UUID, tuple[SealedSecret, ...]] = {}
    now = db.clock.now()
    claims = [_claim(row, secrets, now=now, seen_at=seen_at, lease_ends=seen_at + lease_seconds) for row in rows]
    claims.sort(key=lambda claim: place[claim.delivery_id])
    later = {due.endpoint_id for due, _ in choice.put_off} if put_off >= PUT_OFF_MANY else set()
    return Claimed(claims, choice.merge, later, is_more=len(claims) == batch or put_off > 0)


async def _in_pace(tx: DirectTx, chosen: Sequence[Due]) -> list[Due]:
    """Without what another worker took the slots for, between the look and now."""
    paces = {d.endpoint_id: d.pace for d in chosen if d.pace is not None and not d.is_free}
    if not paces:
        return list(chosen)
    wanted = Counter(d.endpoint_id for d in chosen if not d.is_free)
    slots: Counter[UUID] = Counter()
    ahead: dict[UUID, float] = {}
    for row in await tx.rows(_PACES, {"ids": sorted(paces)}):
        pace = paces[row.id]._replace(ahead=max(row.ahead, 0.0))
        slots[row.id] = 0 if row.is_paused else pace.room(wanted[row.id])
        if slots[row.id]:
            ahead[row.id] = pace.ahead + slots[row.id] * pace.interval
    if ahead:
        await tx.execute(_TAKE_SLOTS, {"ids": list(ahead), "aheads": list(ahead.values())})
    taken = []
    for due in chosen:
        if due.endpoint_id in paces and not due.is_free:
            if not slots[due.endpoint_id]:
                continue
            slots[due.endpoint_id] -= 1
        taken.append(due)
    return taken


def _waits(put_off: Sequence[tuple[Due, float]]) -> dict[str, list[object]]:
    return {
        "ids": [due.id for due, _ in put_off],
        "fences": [due.fence for due, _ in put_off],
        "waits": [wait for _, wait in put_off],
    }


def _wanted(taken: Sequence[Due], lease_seconds: float) -> dict[str, object]:
    return {"ids": [d.id for d in taken], "fences": [d.fence for d in taken], "lease": lease_seconds}


def _claim(
    row: Row, known: dict[UUID, tuple[SealedSecret, ...]], *, now: datetime, seen_at: float, lease_ends: float
) -> Claim:
    *columns, secret, old_ids, old, is_urgent, since_first = row
    endpoint_id: UUID = row.endpoint_id
    secrets = known.get(endpoint_id)
    if secrets is None:
        secrets = known[endpoint_id] = sealed_secrets(endpoint_id, secret, old_ids, old)
    launch = None
    if row.trigger == BOT_LAUNCH:
        launch = read(row.payload, now=now, read_at=monotonic(), since_first=since_first)
    return Claim._make((*columns, secrets, lease_ends, seen_at, is_urgent, launch))


_STANDING = f"""
SELECT d.id, d.endpoint_id, CASE WHEN e.deleted_at IS NULL THEN e.state ELSE 'deleted' END AS endpoint_state, e.url,
       e.secret_sealed, e.headers_sealed, old.ids AS old_ids, old.sealed AS old_sealed
  FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[])) AS c (id, fence)
  JOIN deliveries d ON d.id = c.id AND d.fence = c.fence
  JOIN webhook_endpoints e ON e.id = d.endpoint_id
{OLD_SECRETS}
"""  # noqa: S608 - a text of ours


async def look_again(db: Database, claims: Sequence[Claim]) -> dict[UUID, Claim]:
    """Claims as they stand now, by delivery: where to, with which secrets; what was dropped is not among them."""
    by_id = {claim.delivery_id: claim for claim in claims}
    params = {"ids": list(by_id), "fences": [claim.fence for claim in by_id.values()]}
    seen_at = monotonic()
    async with db.reading() as tx:
        rows = await tx.rows(_STANDING, params)
    return {
        row.id: by_id[row.id]._replace(
            endpoint_state=row.endpoint_state,
            url=row.url,
            secrets=sealed_secrets(row.endpoint_id, row.secret_sealed, row.old_ids, row.old_sealed),
            headers_sealed=row.headers_sealed,
            seen_at=seen_at,
        )
        for row in rows
    }


def per_endpoint(claims: Iterable[Claim]) -> Counter[UUID]:
    """How many claims each endpoint got."""
    return Counter(claim.endpoint_id for claim in claims)
