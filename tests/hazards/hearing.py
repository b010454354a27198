"""What the tests of hazards compare: what was announced, what is stored, and what was asked of the provider."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from app import scheduling
from tests.harness import Actor, Connected, Json

GOOGLE = pytest.mark.parametrize("platform", ["google"])
OUTLOOK = pytest.mark.parametrize("platform", ["microsoft"])
WEEKLY = ("RRULE:FREQ=WEEKLY",)

Announced = list[tuple[str, list[str]]]
"""Changes with their kinds, in the order of their sequence."""


def announced(actor: Actor, *, since: int = 0) -> Announced:
    """What was announced after the first `since` entries."""
    return [(entry["change"], entry["kinds"]) for entry in actor.entries()[since:]]


async def everything(actor: Actor, calendar: Connected) -> list[Json]:
    """Every stored event, deleted ones too."""
    return await actor.events(calendar, is_deleted=None)


async def as_stored(actor: Actor, calendar: Connected) -> dict[str, tuple[Any, ...]]:
    """Of every stored event what moves with each write: equal before and after, nothing was touched."""
    stored = await everything(actor, calendar)
    return {e["platform_uuid"]: (e["id"], e["is_deleted"], e["change_seq"], e["updated_at"]) for e in stored}


async def by_start(actor: Actor, calendar: Connected) -> list[Json]:
    """The live events in the order of their start."""
    return sorted(await actor.events(calendar), key=lambda event: str(event["start_time"]))


async def cursor(actor: Actor, calendar: Connected) -> str | None:
    """The committed position at the provider."""
    async with actor.rt.db.reading() as tx:
        found: str | None = await tx.scalar("SELECT cursor FROM sync_state WHERE calendar_id = :c", {"c": calendar.key})
    return found


async def request(actor: Actor, calendar: Connected, *, full: bool = False) -> None:
    """What an application does that wants a sync now."""
    await actor.call("POST", f"/calendars/{calendar.id}/sync", json={"full": full}, expect=202)


async def run(actor: Actor, calendar: Connected) -> str:
    """One run, asked for; how it ended."""
    await request(actor, calendar)
    return await actor.run(calendar)


async def asked(actor: Actor, calendar: Connected) -> list[str]:
    """What one successful run asks the provider for."""
    before = len(actor.sandbox.requests.seen)
    assert await run(actor, calendar) == "synced"
    return [seen.operation for seen in actor.sandbox.requests.seen[before:]]


async def tick(actor: Actor) -> None:
    """What the worker does each second: request what is due by the clock, then run it."""
    await scheduling.sweep(actor.rt)
    await actor.quiesce()


async def days_pass(actor: Actor, days: float = 1) -> None:
    """The clock alone: each day rolls the window, and lists it."""
    actor.advance(timedelta(days=days))
    await tick(actor)


def at(event: Json, which: str = "start") -> datetime:
    """One of an event's instants."""
    return datetime.fromisoformat(event[f"{which}_time"])


def original(event: Json) -> datetime:
    """Where an occurrence stands by rule."""
    return datetime.fromisoformat(event["original_start_time"])


def put(actor: Actor, calendar: Connected, event_id: str, *, days: float) -> None:
    """Move an event, by itself an hour long, to so many days from now."""
    start = actor.now() + timedelta(days=days)
    actor.sandbox.world.update_event(calendar.remote_id, event_id, start=start, end=start + timedelta(hours=1))


def put_occurrence(actor: Actor, calendar: Connected, series_id: str, by_rule: datetime, *, days: float) -> datetime:
    """Move one occurrence alone to so many days from now; where it stands then."""
    start = actor.now() + timedelta(days=days)
    end = start + timedelta(hours=1)
    actor.sandbox.world.update_instance(calendar.remote_id, series_id, by_rule, start=start, end=end)
    return start
