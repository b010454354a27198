"""What steps of launching come to, and their record: for many bots at a time, under the fences of their leases.

A bot may change while its back end is being called. What the back end was told is true all the same, and recorded; what
it led to counts only for the revision that it was meant for, and the bot is due again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.bots import records
from app.bots.launchers import Kind
from app.bots.standing import LIVE, State
from app.bots.writing import WEBHOOK_HAND_OVER
from app.db import Row, Tx
from app.queue import Queue
from app.telemetry import BOT_STEPS, log

_ENDS: Final = frozenset({"failed", "missed"})
"""Notes that are true of a bot only if it came to that."""

_LOCK: Final = """
SELECT id, fence, lease_until, revision, state, state_reason, join_at, external_id, app_now() AS now FROM bots
 WHERE id = ANY (CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE
"""

_WRITE: Final = """
UPDATE bots b
   SET lease_until = CASE WHEN n.is_held THEN b.lease_until END,
       due_at = CASE WHEN n.is_held THEN b.due_at ELSE n.due END,
       state = n.state, state_reason = n.reason, revision = n.revision, failure_count = n.failures,
       starting_since = n.since, start_attempt = n.attempt, is_replacement = n.is_replacement, handed_to = n.handed_to,
       handed_revision = n.handed_revision, handed = CAST(n.handed AS jsonb), external_id = n.external_id,
       launch_message_id = n.message, updated_at = CASE WHEN n.is_seen THEN app_now() ELSE b.updated_at END
  FROM unnest(
        CAST(:ids AS uuid[]), CAST(:helds AS bool[]), CAST(:dues AS timestamptz[]), CAST(:states AS text[]),
        CAST(:reasons AS text[]), CAST(:revisions AS int[]), CAST(:failures AS int[]), CAST(:sinces AS timestamptz[]),
        CAST(:attempts AS int[]), CAST(:replacements AS bool[]), CAST(:handed_tos AS uuid[]),
        CAST(:handed_revisions AS int[]), CAST(:handeds AS text[]), CAST(:external_ids AS text[]),
        CAST(:messages AS uuid[]), CAST(:seens AS bool[])
       ) AS n (id, is_held, due, state, reason, revision, failures, since, attempt, is_replacement, handed_to,
               handed_revision, handed, external_id, message, is_seen)
 WHERE b.id = n.id
"""


@dataclass(frozen=True, slots=True)
class After:
    """What a step leaves behind: the bot's state, what its back end has, and when to look again."""

    state: State
    wait: float | None
    """Seconds; None: there is nothing to do until something changes."""
    reason: str | None
    failures: int
    since: datetime | None
    """From when on a start may have made a bot of which nothing is known."""
    attempt: int
    is_replacement: bool
    handed_to: UUID | None
    """The launcher that has it, or may have; None: nobody, or by message."""
    handed_revision: int | None
    handed: str | None
    """The order that the back end was last told, as JSON."""
    external_id: str | None
    message: UUID | None
    notes: tuple[tuple[str, str | None], ...] = ()
    """What is noted for the bot's owner: (type, detail)."""
    is_anew: bool = False
    """Whether it is to be handed over once more, so that its revision grows."""
    is_held: bool = False
    """Whether this is the record of an intent: the lease goes on."""
    key_refused: tuple[str, str] | None = None
    """Code and detail, where the launcher is at fault."""

    def gone(self) -> "After":
        """The same, of a bot of which its back end has nothing."""
        return replace(
            self, since=None, handed_to=None, handed_revision=None, handed=None, external_id=None, message=None
        )


@dataclass(frozen=True, slots=True)
class BackEnd:
    """The launcher of a bot, as it was when the bot was claimed."""

    id: UUID
    kind: Kind
    base_url: str | None
    api_key_sealed: bytes | None
    failing_code: str | None
    hand_over_seconds: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A bot that is ours until its lease is over, in monotonic seconds."""

    row: Row
    back_end: BackEnd | None
    """None: its project has no launcher."""
    as_is: After
    lease_ends: float
    is_sought: bool = False
    """Whether an earlier start may have made it: look for that one first."""

    @property
    def is_by_message(self) -> bool:
        """Whether the customer's own endpoints are the back end."""
        return self.back_end is None or self.back_end.kind == "webhook"

    @property
    def is_out_of_reach(self) -> bool:
        """Whether the bot was handed to a launcher that is deleted by now."""
        back_end = self.back_end
        return self.row.handed_to is not None and back_end is not None and back_end.api_key_sealed is None

    @property
    def hand_over(self) -> float:
        """Seconds ahead of `join_at`."""
        return self.back_end.hand_over_seconds if self.back_end else WEBHOOK_HAND_OVER


async def record(tx: Tx, queue: Queue, outcomes: Sequence[tuple[Claim, After]]) -> int:
    """Store what steps came to, note and tell it; how many were still ours."""
    if not outcomes:
        return 0
    locked = {row.id: row for row in await tx.rows(_LOCK, {"ids": [claim.row.id for claim, _ in outcomes]})}
    ours = []
    for claim, after in outcomes:
        now = locked.get(claim.row.id)
        if now is None or now.fence != claim.row.fence or now.lease_until is None:  # else it was recorded already
            log.warning("bots.superseded", bot=str(claim.row.id))
        else:
            ours.append((claim, after, now))
    if not ours:
        return 0
    states: list[State] = [after.state if _counts(claim, now) else now.state for claim, after, now in ours]
    await tx.execute(
        _WRITE,
        {
            "ids": [now.id for _, _, now in ours],
            "helds": [after.is_held for _, after, _ in ours],
            "dues": [_due(*one) for one in ours],
            "states": states,
            "reasons": [_reason(*one) for one in ours],
            "revisions": [now.revision + after.is_anew for _, after, now in ours],
            "failures": [after.failures for _, after, _ in ours],
            "sinces": [after.since for _, after, _ in ours],
            "attempts": [after.attempt for _, after, _ in ours],
            "replacements": [after.is_replacement for _, after, _ in ours],
            "handed_tos": [after.handed_to for _, after, _ in ours],
            "handed_revisions": [after.handed_revision for _, after, _ in ours],
            "handeds": [after.handed for _, after, _ in ours],
            "external_ids": [after.external_id for _, after, _ in ours],
            "messages": [after.message for _, after, _ in ours],
            "seens": [
                state != now.state or after.external_id != now.external_id
                for (_, after, now), state in zip(ours, states, strict=True)
            ],
        },
    )
    notes = [(now.id, type_, detail) for claim, after, now in ours for type_, detail in _notes(claim, after, now)]
    await records.note(tx, notes)
    for _, type_, _ in notes:
        BOT_STEPS.labels(type_).inc()
    told = {now.id: now.state for (_, _, now), state in zip(ours, states, strict=True) if state != now.state}
    if told:
        await records.tell_states(tx, queue, told)
    return len(ours)


def _counts(claim: Claim, now: Row) -> bool:
    """Whether the bot is still the one that the step was meant for."""
    return bool(claim.row.revision == now.revision)


def _reason(claim: Claim, after: After, now: Row) -> str | None:
    reason: str | None = now.state_reason
    return after.reason if _counts(claim, now) else reason


def _notes(claim: Claim, after: After, now: Row) -> Sequence[tuple[str, str | None]]:
    if _counts(claim, now):
        return after.notes
    return [note for note in after.notes if note[0] not in _ENDS]


def _due(claim: Claim, after: After, now: Row) -> datetime | None:
    """When there is something to do: of a changed bot at once, where its back end has it or may have it."""
    at: datetime = now.now
    if _counts(claim, now):
        return None if after.wait is None else at + timedelta(seconds=after.wait)
    if after.handed_revision is not None or after.since is not None:
        return at
    if now.state not in LIVE:
        return None
    join_at: datetime = now.join_at
    return max(at, join_at - timedelta(seconds=claim.hand_over))
