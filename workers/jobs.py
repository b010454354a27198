"""arq jobs: one thin function each. A job may be lost, doubled or late; rows know what is due."""

from typing import Any
from uuid import UUID

from app.runtime import Runtime
from app.sync import channels, cleanup, engine
from app.telemetry import log


async def sync_calendar(ctx: dict[str, Any], calendar_id: str) -> str:
    """Sync one calendar if it is due, and see that it has a push channel."""
    return await run_sync(ctx["runtime"], UUID(calendar_id))


async def clean_up_calendar(ctx: dict[str, Any], calendar_id: str) -> bool:
    """Finish the deletion of one calendar."""
    return await cleanup.clean_up(ctx["runtime"], UUID(calendar_id))


async def run_sync(rt: Runtime, calendar_id: UUID) -> str:
    """A sync with its outer edge: a bug in one calendar's run is logged, its lease ends, and no other run suffers."""
    try:
        outcome = await engine.sync_calendar(rt, calendar_id)
        if outcome.is_channel_missing:
            await channels.ensure(rt, calendar_id)
    except Exception:  # noqa: BLE001 - a job's outer edge, one of the two places
        log.exception("sync.crashed", calendar=str(calendar_id))
        return "crashed"
    return outcome.result
