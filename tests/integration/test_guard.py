"""Deletions that nobody meant: a listing that lacks most of a calendar is believed when a second one agrees."""

from datetime import timedelta

import pytest

from sandbox.model import Event
from tests.harness import BOTH, Actor, Connected

COUNT = 30


async def full_calendar(actor: Actor, *, count: int = COUNT) -> tuple[Connected, list[Event]]:
    """A connected calendar with so many single events ahead; what was told about it is forgotten."""
    await actor.subscribe()
    calendar = await actor.connected()
    events = [actor.add_event(calendar, f"Event {n}", hours=24 + n) for n in range(count)]
    await actor.quiesce()
    assert len(await actor.events(calendar)) == count
    return calendar, events


def lose(actor: Actor, calendar: Connected, events: list[Event]) -> None:
    """Events vanish without a trace, as in a provider's bad moment: no push, and the cursor knows nothing of it."""
    actor.sandbox.push.mode = "drop"
    for event in events:
        actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    actor.sandbox.world.expire_sync_tokens(calendar.remote_id)


async def sync(actor: Actor, calendar: Connected) -> None:
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()


@BOTH
async def test_a_listing_that_lacks_most_is_believed_the_second_time(actor: Actor) -> None:
    calendar, events = await full_calendar(actor)
    lose(actor, calendar, events[:20])
    told = len(actor.entries())
    await sync(actor, calendar)
    assert len(await actor.events(calendar)) == COUNT
    health = (await actor.calendar(calendar))["health"]
    assert (health["status"], health["reason"]) == ("degraded", "mass_deletion")
    assert len(actor.entries()) == told
    actor.advance(timedelta(seconds=40))
    await sync(actor, calendar)  # neither a request nor a push shortens it
    assert len(await actor.events(calendar)) == COUNT
    actor.advance(timedelta(seconds=21))
    await actor.quiesce()
    await actor.assert_equal(calendar)
    assert len(await actor.events(calendar)) == COUNT - 20
    assert [entry["change"] for entry in actor.entries()[told:]] == ["deleted"] * 20
    assert (await actor.calendar(calendar))["health"]["status"] == "healthy"


@BOTH
async def test_what_came_back_was_never_gone(actor: Actor) -> None:
    calendar, events = await full_calendar(actor)
    lose(actor, calendar, events[:25])
    told = len(actor.entries())
    await sync(actor, calendar)
    for event in events[:24]:
        actor.sandbox.world.restore_event(calendar.remote_id, event.id)
    actor.advance(timedelta(seconds=61))
    await actor.quiesce()
    await actor.assert_equal(calendar)
    assert [entry["change"] for entry in actor.entries()[told:]] == ["deleted"]


async def test_the_second_listing_decides_even_if_it_lacks_others(actor: Actor) -> None:
    calendar, events = await full_calendar(actor)
    lose(actor, calendar, events[:20])
    await sync(actor, calendar)
    for event in events[:5]:
        actor.sandbox.world.restore_event(calendar.remote_id, event.id)
    for event in events[20:28]:
        actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    actor.advance(timedelta(seconds=61))
    await actor.quiesce()
    await actor.assert_equal(calendar)
    assert len(await actor.events(calendar)) == COUNT - 15 - 8


@BOTH
async def test_tombstones_are_checked_by_a_listing_of_the_same_run(actor: Actor) -> None:
    calendar, events = await full_calendar(actor)
    actor.sandbox.push.mode = "hold"
    for event in events[:25]:
        actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    await sync(actor, calendar)
    await actor.assert_equal(calendar)
    assert len(await actor.events(calendar)) == COUNT - 25
    assert (await actor.calendar(calendar))["health"]["status"] == "healthy"


@BOTH
async def test_a_long_series_that_is_deleted_goes_at_once(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    series = actor.add_event(calendar, "Daily", recurrence=("RRULE:FREQ=DAILY",))
    await actor.quiesce()
    assert len(await actor.events(calendar)) >= 28
    actor.sandbox.world.delete_event(calendar.remote_id, series.id)
    await actor.quiesce()
    assert await actor.events(calendar) == []


@pytest.mark.parametrize(("count", "gone"), [(COUNT, 19), (60, 30)])
async def test_fewer_than_twenty_or_half_are_believed_at_once(actor: Actor, count: int, gone: int) -> None:
    calendar, events = await full_calendar(actor, count=count)
    lose(actor, calendar, events[:gone])
    await sync(actor, calendar)
    await actor.assert_equal(calendar)


async def test_the_past_does_not_count(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    past = [actor.add_event(calendar, f"Past {n}", hours=-20 + n / 10) for n in range(30)]
    await actor.quiesce()
    lose(actor, calendar, past)
    await sync(actor, calendar)
    assert await actor.events(calendar) == []


async def test_a_disconnect_drops_the_doubt(actor: Actor) -> None:
    calendar, events = await full_calendar(actor)
    lose(actor, calendar, events[:20])
    await sync(actor, calendar)
    actor.sandbox.world.revoke(calendar.account)
    actor.advance(timedelta(hours=2))
    await sync(actor, calendar)
    assert (await actor.calendar(calendar))["state"] == "disconnected"
    assert await rows(actor) == 0
    token = actor.sandbox.world.issue_refresh_token(calendar.account)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": token})
    await actor.quiesce()
    assert await rows(actor) == 20  # in doubt again: the listing after the reconnection is the first one
    actor.advance(timedelta(seconds=61))
    await actor.quiesce()
    await actor.assert_equal(calendar)
    assert await rows(actor) == 0


class TestSwitchedOff:
    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"mass_deletion_count": 0}

    async def test_everything_is_believed_at_once(self, actor: Actor) -> None:
        calendar, events = await full_calendar(actor)
        lose(actor, calendar, events)
        await sync(actor, calendar)
        assert await actor.events(calendar) == []


async def rows(actor: Actor) -> int:
    """How many events are in doubt."""
    async with actor.rt.db.reading() as tx:
        return int(await tx.scalar("SELECT count(*) FROM absent_events"))
