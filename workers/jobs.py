"""arq jobs: one thin function each. A job may be lost, doubled or late; rows know what is due."""

from collections.abc import Awaitable
from typing import Any, TypeVar
from uuid import UUID

from app.db import is_away
from app.runtime import Runtime
from app.sync import channels, cleanup, engine
from app.telemetry import log

_T = TypeVar("_T")


async def sync_calendar(ctx: dict[str, Any], calendar_id: str) -> None:
    """This calendar is due: have the worker look whose turn it is."""
    del calendar_id
    await ctx["offer"]()


async def clean_up_calendar(ctx: dict[str, Any], calendar_id: str) -> bool:
    """Finish the deletion of one calendar."""
    return await cleanup.clean_up(ctx["runtime"], UUID(calendar_id))


async def run_sync(rt: Runtime, calendar_id: UUID) -> str:
    """A sync, and the channel that it found missing."""
    outcome = await guarded(engine.sync_calendar(rt, calendar_id), job="sync", calendar=calendar_id)
    if outcome is None:
        return "crashed"
    if outcome.is_channel_missing:
        await guarded(channels.ensure(rt, calendar_id), job="open_channel", calendar=calendar_id)
    return outcome.result


async def guarded(work: Awaitable[_T], *, job: str, **ids: object) -> _T | None:
    """A job's outer edge: a fault in one is logged, and no other suffers. None where it failed."""
    try:
        return await work
    except Exception as exc:  # noqa: BLE001 - a job's outer edge
        if is_away(exc):
            log.warning("job.database_away", job=job, error=type(exc).__name__)
            return None
        log.exception("job.crashed", job=job, **{name: str(value) for name, value in ids.items()})
        return None
