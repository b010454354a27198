"""Hazard 82: a calendar with thousands of events, listed over several pages while its lease would end."""

import asyncio
from datetime import datetime, timedelta

import pytest

from sandbox.model import EventDraft
from tests.harness import BOTH, Actor, Connected

EVENTS = 2_600


@pytest.fixture
def overrides() -> dict[str, object]:
    """A lease far shorter than the listing."""
    return {"sync_lease_seconds": 6}


async def lease(actor: Actor, calendar: Connected) -> datetime:
    """Until when the run may go on."""
    async with actor.rt.db.reading() as tx:
        found: datetime = await tx.scalar(
            "SELECT lease_until FROM sync_state WHERE calendar_id = :c", {"c": calendar.key}
        )
    return found


@BOTH
async def test_hazard_82_huge_calendar(actor: Actor) -> None:
    """The lease is kept while the pages come, nothing is shown before the last of them, then everything at once; each
    change has its number, and a message that does not hold them all says so."""
    await actor.subscribe()
    calendar = await actor.connect()
    first = actor.now() + timedelta(hours=1)
    for number in range(EVENTS):
        start = first + timedelta(minutes=15 * number)
        draft = EventDraft(title=f"Event {number}", start=start, end=start + timedelta(minutes=10))
        actor.sandbox.world.create_event(calendar.remote_id, draft)
    listing = "events.list" if actor.platform == "google" else "graph.calendarView"
    gate = actor.sandbox.faults.gate(listing)
    running = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    began = await lease(actor, calendar)
    async with asyncio.timeout(120):
        while await lease(actor, calendar) <= began:
            await asyncio.sleep(0.05)
    assert await actor.run(calendar) == "idle"
    assert await actor.events(calendar) == []
    actor.sandbox.faults.gates.clear()
    gate.release()
    assert await running == "synced"
    assert actor.sandbox.requests.count(listing) >= 2

    await actor.assert_equal(calendar)
    inside = len(await actor.events(calendar))
    assert inside > 2_500
    await actor.quiesce()
    data = actor.messages()[0].body["data"]
    assert (data["from_seq"], data["to_seq"], data["truncated"]) == (1, inside, True)
    feed = await actor.events(calendar, is_deleted=None, after_seq=0, exclude="raw")
    assert [event["change_seq"] for event in feed] == list(range(1, inside + 1))
    assert {entry["change"] for entry in actor.entries()} == {"created"}


@pytest.mark.slow  # fifty thousand entries cross the wire
async def test_hazard_82_too_huge_calendar(actor: Actor) -> None:
    """More than can be held in memory is not taken at all: the calendar says so, and keeps what it has."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.add_event(calendar, "Known")
    await actor.quiesce()
    actor.sandbox.push.mode = "drop"
    hourly = [actor.add_event(calendar, f"Hourly {n}", hours=-30, recurrence=("RRULE:FREQ=HOURLY",)) for n in range(70)]
    await actor.call("POST", f"/calendars/{calendar.id}/sync", json={"full": True}, expect=202)
    assert await actor.run(calendar) == "failed"
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["health"]["status"]) == ("connected", "failing")
    assert shown["health"]["reason"] == "too_large"
    assert [event["name"] for event in await actor.events(calendar)] == ["Known"]

    for event in hourly:
        actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    actor.advance(timedelta(minutes=20))
    await actor.quiesce()
    await actor.assert_equal(calendar)
    assert [entry["change"] for entry in actor.entries()] == ["created"]
    assert (await actor.calendar(calendar))["health"]["status"] == "healthy"
