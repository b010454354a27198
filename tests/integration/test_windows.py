"""What is kept in sync: the window, its daily roll, and what goes in and out of it."""

from datetime import UTC, datetime, timedelta

from tests.harness import BOTH, Actor

pytestmark = BOTH


async def test_the_window_rolls_daily_without_a_deletion(actor: Actor) -> None:
    """Hazard 1: nobody edits anything, and still day 28 has to come in."""
    await actor.subscribe()
    calendar = await actor.connect()
    actor.add_event(calendar, "Yesterday", hours=-20)
    actor.add_event(calendar, "Far ahead", hours=24 * 31)
    await actor.quiesce()
    assert [e["name"] for e in await actor.events(calendar)] == ["Yesterday"]

    actor.advance(timedelta(days=3))
    await tick(actor)
    names = {e["name"]: e for e in await actor.events(calendar)}
    assert set(names) == {"Yesterday", "Far ahead"}
    changes = [(e["change"], e["kinds"]) for e in actor.entries()]
    assert changes == [("created", []), ("created", [])]
    await actor.assert_equal(calendar)


async def tick(actor: Actor) -> None:
    """What the worker does each second: request what is due by the clock, then run it."""
    from app import scheduling  # noqa: PLC0415 - the loop's own call

    await scheduling.sweep(actor.rt)
    await actor.quiesce()


async def test_moved_out_is_deleted_and_comes_back_with_the_same_id(actor: Actor) -> None:
    """Hazards 9, 10: an event that leaves the window, and returns."""
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar)
    await actor.quiesce()
    (shown,) = await actor.events(calendar)

    move(actor, calendar.remote_id, event.id, days=90)
    await actor.quiesce()
    assert await actor.events(calendar) == []
    (gone,) = await actor.events(calendar, is_deleted="true")
    assert gone["id"] == shown["id"]
    entry = actor.entries()[-1]
    assert (entry["change"], entry["kinds"]) == ("deleted", ["left_window"])

    move(actor, calendar.remote_id, event.id, days=5)
    await actor.quiesce()
    (back,) = await actor.events(calendar)
    assert back["id"] == shown["id"]
    entry = actor.entries()[-1]
    assert (entry["change"], entry["kinds"]) == ("created", ["entered_window"])


def move(actor: Actor, calendar_id: str, event_id: str, *, days: float) -> None:
    """Put an event so many days from now."""
    start = actor.now() + timedelta(days=days)
    actor.sandbox.world.update_event(calendar_id, event_id, start=start, end=start + timedelta(hours=1))


async def test_a_restored_event_keeps_its_id(actor: Actor) -> None:
    """Hazard 63."""
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar)
    await actor.quiesce()
    (shown,) = await actor.events(calendar)
    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    await actor.quiesce()
    assert await actor.events(calendar) == []
    actor.sandbox.world.restore_event(calendar.remote_id, event.id)
    await actor.quiesce()
    (back,) = await actor.events(calendar)
    assert back["id"] == shown["id"]
    assert [(e["change"], e["kinds"]) for e in actor.entries()] == [
        ("created", []),
        ("deleted", []),
        ("created", ["restored"]),
    ]


async def test_an_endless_series_stays_inside_the_window(actor: Actor) -> None:
    """Hazard 2: a touched series brings hundreds of instances; five of them are ours."""
    await actor.subscribe()
    calendar = await actor.connected()
    series = actor.add_event(calendar, "Weekly", hours=24, recurrence=("RRULE:FREQ=WEEKLY",))
    await actor.quiesce()
    await actor.assert_equal(calendar)
    first = len(await actor.events(calendar))
    assert 4 <= first <= 5
    heard = len(actor.entries())
    actor.sandbox.world.update_event(calendar.remote_id, series.id, title="Weekly, renamed")
    await actor.quiesce()
    assert [e["kinds"] for e in actor.entries()[heard:]] == [["renamed"]] * first
    actor.sandbox.world.delete_event(calendar.remote_id, series.id)
    await actor.quiesce()
    assert await actor.events(calendar) == []


async def test_a_series_deleted_by_its_bare_id_takes_its_occurrences_along(actor: Actor) -> None:
    """Hazard 3."""
    calendar = await actor.connected()
    series = actor.add_event(calendar, "Weekly", recurrence=("RRULE:FREQ=WEEKLY",))
    await actor.quiesce()
    actor.sandbox.faults.add("bare_tombstone", actor.operation("changes"))
    actor.sandbox.world.delete_event(calendar.remote_id, series.id)
    await actor.quiesce()
    assert await actor.events(calendar) == []


async def test_one_occurrence_moved_cancelled_and_split(actor: Actor) -> None:
    """Hazards 5, 8, 11, 12."""
    await actor.subscribe()
    calendar = await actor.connected()
    series = actor.add_event(calendar, "Weekly", hours=24, time_zone="Europe/Berlin", recurrence=("RRULE:FREQ=WEEKLY",))
    await actor.quiesce()
    starts = sorted(
        datetime.fromisoformat(e["original_start_time"]).astimezone(UTC) for e in await actor.events(calendar)
    )
    world = actor.sandbox.world
    world.update_instance(
        calendar.remote_id,
        series.id,
        starts[0],
        start=starts[0] + timedelta(hours=2),
        end=starts[0] + timedelta(hours=3),
    )
    await actor.quiesce()
    entry = actor.entries()[-1]
    assert (entry["change"], entry["kinds"]) == ("updated", ["rescheduled"])
    world.cancel_instance(calendar.remote_id, series.id, starts[1])
    await actor.quiesce()
    assert actor.entries()[-1]["change"] == "deleted"
    await actor.assert_equal(calendar)
    world.split_series(calendar.remote_id, series.id, starts[2], title="Weekly, new series")
    await actor.quiesce()
    await actor.assert_equal(calendar)
    titles = [e["name"] for e in await actor.events(calendar)]
    assert titles.count("Weekly, new series") == len(starts) - 2


async def test_an_expired_cursor_tells_only_what_changed(actor: Actor) -> None:
    """Hazards 17, 18: a full listing after 410, at the first page or a later one, without a delete-and-create storm."""
    await actor.subscribe()
    calendar = await actor.connected()
    events = [actor.add_event(calendar, f"Event {n}", hours=24 + n) for n in range(5)]
    await actor.quiesce()
    heard = len(actor.entries())
    actor.sandbox.world.expire_sync_tokens(calendar.remote_id)
    actor.sandbox.world.delete_event(calendar.remote_id, events[0].id)
    actor.sandbox.world.update_event(calendar.remote_id, events[1].id, title="Renamed")
    await actor.quiesce()
    assert sorted(e["change"] for e in actor.entries()[heard:]) == ["deleted", "updated"]
    await actor.assert_equal(calendar)


async def test_all_day_events_are_dates(actor: Actor) -> None:
    """Hazards 55, 56: dates stay dates, the instants are the calendar's own midnights."""
    calendar = await actor.connected()
    day = (actor.now() + timedelta(days=4)).date()
    actor.add_event(calendar, "Holiday", start=day, end=day + timedelta(days=2))
    await actor.quiesce()
    (shown,) = await actor.events(calendar)
    assert shown["is_all_day"] is True
    assert (shown["start_date"], shown["end_date"]) == (day.isoformat(), (day + timedelta(days=2)).isoformat())
    assert shown["start_time"].startswith((day - timedelta(days=1)).isoformat())  # midnight in Berlin is the eve in UTC
