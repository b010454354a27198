"""A bot goes on with the event that takes its event's place: a series that was split, a calendar written anew."""

from datetime import timedelta

import pytest

from app.instants import instant
from sandbox.model import Conference
from tests.bots.meetings import live, of_event
from tests.bots.stage import MEET, OTHER, Bots
from tests.harness import BOTH, Actor

LINK = Conference("meet", MEET)


@BOTH
async def test_an_event_that_is_written_anew_keeps_its_bots(actor: Actor, bots: Bots) -> None:
    calendar, event, bot = await bots.scheduled()
    world = actor.sandbox.world
    world.delete_event(calendar.remote_id, event.id)
    new = bots.meeting(calendar, start=event.start, end=event.end)
    await actor.quiesce()
    [shown] = await actor.events(calendar)
    now = await bots.get(bot)
    assert (now["state"], now["calendar_event_id"]) == ("scheduled", shown["id"])
    assert now["updated_at"] > bot["updated_at"]  # or a reader by time would not see it
    start = actor.now() + timedelta(hours=25)
    world.update_event(calendar.remote_id, new.id, start=start, end=start + timedelta(hours=1))
    await actor.quiesce()
    assert (await bots.get(bot))["join_at"] == instant(start)
    world.delete_event(calendar.remote_id, new.id)
    await actor.quiesce()
    assert (await bots.get(bot))["state"] == "cancelled"


async def test_two_events_at_once_share_the_bots_out(actor: Actor, bots: Bots) -> None:
    """Each event's bots go to one event, and no event takes those of two."""
    calendar = await actor.connected()
    old = [bots.meeting(calendar, hours=24), bots.meeting(calendar, hours=24)]
    await actor.quiesce()
    made = [await bots.on(shown["id"]) for shown in await actor.events(calendar) for _ in range(2)]
    for event in old:
        actor.sandbox.world.delete_event(calendar.remote_id, event.id)
        bots.meeting(calendar, start=event.start, end=event.end)
    await actor.quiesce()
    shown = await actor.events(calendar)
    assert len(shown) == 2
    assert [len(await of_event(actor, one["id"])) for one in shown] == [2, 2]
    assert {one["state"] for one in [await bots.get(bot) for bot in made]} == {"scheduled"}


async def test_another_meeting_is_no_successor(actor: Actor, bots: Bots) -> None:
    """Another link, or a single event at another time."""
    calendar, event, bot = await bots.scheduled()
    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    bots.meeting(calendar, start=event.start, end=event.end, url=OTHER)
    bots.meeting(calendar, start=event.start + timedelta(hours=1), end=event.end + timedelta(hours=1))
    await actor.quiesce()
    gone = await bots.get(bot)
    assert (gone["state"], gone["calendar_event_id"]) == ("cancelled", bot["calendar_event_id"])


@BOTH
@pytest.mark.parametrize("hours", [0, 2, -3])
async def test_a_series_that_is_split_keeps_its_bots(actor: Actor, bots: Bots, hours: int) -> None:
    calendar = await actor.connected()
    start = actor.now() + timedelta(hours=30)
    series = actor.add_event(calendar, hours=30, recurrence=("RRULE:FREQ=DAILY;COUNT=6",), conference=LINK)
    await actor.quiesce()
    before = sorted(await actor.events(calendar), key=lambda one: str(one["start_time"]))
    made = [await bots.on(shown["id"]) for shown in before]
    at = start + timedelta(days=3)
    shifted = at + timedelta(hours=hours)
    times = {"start": shifted, "end": shifted + timedelta(hours=1)} if hours else {"title": "From here on"}
    actor.sandbox.world.split_series(calendar.remote_id, series.id, at, **times)
    await actor.quiesce()
    after = sorted(await actor.events(calendar), key=lambda one: str(one["start_time"]))
    now = [await bots.get(bot) for bot in made]
    assert [bot["state"] for bot in now] == ["scheduled"] * 6
    assert [bot["calendar_event_id"] for bot in now] == [shown["id"] for shown in after]
    assert [bot["join_at"] for bot in now] == [shown["start_time"] for shown in after]
    assert [bot["series_id"] for bot in now] == [shown["series_id"] for shown in after]
    assert {shown["id"] for shown in before[3:]}.isdisjoint(shown["id"] for shown in after)


async def test_no_two_bots_go_on_with_one_occurrence(actor: Actor, bots: Bots) -> None:
    """A daily series from here on a day later: those that are there exactly go first, and one is left without."""
    calendar = await actor.connected()
    start = actor.now() + timedelta(hours=30)
    series = actor.add_event(calendar, hours=30, recurrence=("RRULE:FREQ=DAILY;COUNT=4",), conference=LINK)
    await actor.quiesce()
    made = [await bots.on(shown["id"]) for shown in await actor.events(calendar)]
    at = start + timedelta(days=1)
    shifted = at + timedelta(days=1)
    actor.sandbox.world.split_series(calendar.remote_id, series.id, at, start=shifted, end=shifted + timedelta(hours=1))
    await actor.quiesce()
    now = [await bots.get(bot) for bot in made]
    assert [bot["state"] for bot in now].count("scheduled") == 3
    places = [bot["calendar_event_id"] for bot in now if bot["state"] == "scheduled"]
    assert len(set(places)) == 3
    assert set(places) < {shown["id"] for shown in await actor.events(calendar)}


@pytest.mark.parametrize("scope", ["meeting", "event"])
async def test_a_rules_bots_go_on_with_a_split_series(actor: Actor, bots: Bots, scope: str) -> None:
    """And no others are made for the new occurrences."""
    await bots.rule(dedup_scope=scope)
    calendar = await actor.connected()
    start = actor.now() + timedelta(hours=30)
    series = actor.add_event(calendar, hours=30, recurrence=("RRULE:FREQ=DAILY;COUNT=5",), conference=LINK)
    await actor.quiesce()
    before = {bot["id"] for bot in await live(actor)}
    at = start + timedelta(days=2)
    shifted = at + timedelta(hours=1)
    actor.sandbox.world.split_series(calendar.remote_id, series.id, at, start=shifted, end=shifted + timedelta(hours=1))
    await actor.quiesce()
    now = await live(actor)
    assert {bot["id"] for bot in now} == before
    shown = {one["id"]: one["start_time"] for one in await actor.events(calendar)}
    assert {bot["calendar_event_id"]: bot["join_at"] for bot in now} == shown
    # the claims have gone along: the next one that goes is not taken for another's
    actor.sandbox.world.delete_event(calendar.remote_id, series.id)
    await actor.quiesce()
    assert len(await live(actor)) == 3
