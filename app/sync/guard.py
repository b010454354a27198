"""The guard against announcing a deletion that did not happen.

A listing that lacks most of a calendar is more often a provider's bad moment than a user's great clean-up. Where
nothing but absence says so, the round is not applied: what it lacked is stored, and the next listing, a minute later,
decides, whatever it says. Tombstones are the provider's word; many of them are checked by a listing in the same run.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from app.db import Row, Tx
from app.errors import MassDeletion
from app.runtime import Runtime
from app.scheduling import Claim
from app.sync import changes
from app.sync.changes import Change, StoredRow
from app.telemetry import log

CONFIRM_SECONDS = 60.0
"""From one listing to the one that decides. A push does not shorten it."""

_FUTURE = """
SELECT count(*) FROM calendar_events WHERE calendar_id = :id AND NOT is_deleted AND end_time > app_now()
"""

_KEEP = """
INSERT INTO absent_events (calendar_id, event_id)
SELECT :id, v.id FROM unnest(CAST(:ids AS uuid[])) AS v(id) ON CONFLICT DO NOTHING
"""


class ListingNeeded(Exception):
    """A delta is not enough: it may have left something out, or would delete most of the calendar. List the window."""


async def check(
    rt: Runtime, tx: Tx, claim: Claim, row: Row, found: Sequence[Change], *, named: Collection[str], is_full: bool
) -> None:
    """MassDeletion where a listing would delete too much to be believed at once; ListingNeeded where a delta would, or
    may have left something out.

    `named` holds the ids (of events or series) that the provider said were gone in a delta of this run.
    """
    settings = rt.settings
    if not is_full and changes.is_ambiguous(found):
        raise ListingNeeded
    if claim.is_guarded or not settings.mass_deletion_count:
        return
    gone = [c.row for c in found if c.change == "deleted" and c.event is None and c.row and c.row.end_time > row.now]
    if is_full:
        gone = [event for event in gone if not _is_named(event, named)]
    if len(gone) < settings.mass_deletion_count:
        return
    if len(gone) <= settings.mass_deletion_share * await tx.scalar(_FUTURE, {"id": claim.calendar_id}):
        return
    if not is_full:
        raise ListingNeeded
    raise MassDeletion([event.id for event in gone])


def _is_named(event: StoredRow, named: Collection[str]) -> bool:
    return event.platform_uuid in named or event.series_id in named


async def keep(tx: Tx, calendar_id: UUID, event_ids: Sequence[UUID]) -> None:
    """Store what a listing lacked; from then on every run lists, until a round is applied."""
    await tx.execute(_KEEP, {"id": calendar_id, "ids": list(event_ids)})


async def settle(tx: Tx, claim: Claim, found: Sequence[Change]) -> None:
    """A round is applied: whatever it says, the doubt is over."""
    if not claim.is_guarded:
        return
    rows = await tx.rows(
        "DELETE FROM absent_events WHERE calendar_id = :id RETURNING event_id", {"id": claim.calendar_id}
    )
    gone = {change.row.id for change in found if change.change == "deleted" and change.row}
    absent = {row.event_id for row in rows}
    log.info(
        "sync.deletions_checked",
        calendar=str(claim.calendar_id),
        confirmed=len(absent & gone),
        came_back=len(absent - gone),
    )


async def forget(tx: Tx, calendar_id: UUID) -> None:
    """The calendar is disconnected: a listing after that begins without a doubt."""
    await tx.execute("DELETE FROM absent_events WHERE calendar_id = :id", {"id": calendar_id})
