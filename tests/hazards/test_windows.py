"""Hazards 1, 2, 9, 10 and 11: what comes into the window and leaves it, by the clock or by an edit."""

from datetime import timedelta

from tests.harness import BOTH, Actor
from tests.hazards.hearing import (
    WEEKLY,
    announced,
    as_stored,
    at,
    by_start,
    cursor,
    days_pass,
    everything,
    original,
    put,
    put_occurrence,
    request,
)


@BOTH
async def test_hazard_01_time_passes(actor: Actor) -> None:
    """What enters the window with the days is created, what has become old stays as it was and is not announced."""
    await actor.subscribe()
    calendar = await actor.connect()
    old = actor.add_event(calendar, "Yesterday", hours=-20)
    actor.add_event(calendar, "Far ahead", hours=24 * 32)
    actor.add_event(calendar, "Weekly", hours=24 * 4, recurrence=WEEKLY)
    await actor.quiesce()
    before, heard = await as_stored(actor, calendar), len(actor.entries())
    assert len(before) == heard == 1 + 4

    actor.sandbox.push.mode = "drop"
    await days_pass(actor, 3)
    assert announced(actor, since=heard) == [("created", []), ("created", [])]
    after = await as_stored(actor, calendar)
    assert {key: after[key] for key in before} == before
    entered = [e["name"] for e in await actor.events(calendar) if e["platform_uuid"] not in before]
    assert sorted(entered) == ["Far ahead", "Weekly"]
    assert old.id in {e["platform_uuid"] for e in await actor.events(calendar)}
    await actor.assert_equal(calendar)


@BOTH
async def test_hazard_02_endless_series_renamed(actor: Actor) -> None:
    """Occurrences to the end of the rule come over several pages; those inside the window count, the cursor moves."""
    await actor.subscribe()
    calendar = await actor.connected()
    series = actor.add_event(calendar, "Weekly", hours=2, recurrence=WEEKLY)
    await actor.quiesce()
    inside, heard, position = await as_stored(actor, calendar), len(actor.entries()), await cursor(actor, calendar)
    assert len(inside) == heard == 5

    actor.sandbox.faults.add("short_pages", "events.list", times=None, size=100)
    actor.sandbox.faults.add("short_pages", "graph.delta", times=None, size=2)
    pages = actor.sandbox.requests.count(actor.operation("changes"))
    actor.sandbox.world.update_event(calendar.remote_id, series.id, title="Renamed")
    await actor.quiesce()
    assert actor.sandbox.requests.count(actor.operation("changes")) - pages >= 3
    assert announced(actor, since=heard) == [("updated", ["renamed"])] * 5
    assert {e["fields"]["name"]["to"] for e in actor.entries()[heard:]} == {"Renamed"}
    stored = await everything(actor, calendar)
    assert {(e["platform_uuid"], e["id"]) for e in stored} == {(key, row[0]) for key, row in inside.items()}
    assert await cursor(actor, calendar) != position
    await actor.assert_equal(calendar)

    await request(actor, calendar)
    await actor.quiesce()
    assert len(actor.entries()) == heard + 5


@BOTH
async def test_hazard_09_occurrence_moved_out_of_the_window(actor: Actor) -> None:
    """It is deleted, as one that left; back again it is the same event. Its siblings are not touched."""
    await actor.subscribe()
    calendar = await actor.connected()
    series = actor.add_event(calendar, "Weekly", recurrence=WEEKLY)
    await actor.quiesce()
    before, heard = await as_stored(actor, calendar), len(actor.entries())
    leaver = (await by_start(actor, calendar))[1]

    put_occurrence(actor, calendar, series.id, original(leaver), days=90)
    await actor.quiesce()
    assert announced(actor, since=heard) == [("deleted", ["left_window"])]
    assert actor.entries()[-1]["id"] == leaver["id"]
    after = await as_stored(actor, calendar)
    assert {key for key in before if after[key] != before[key]} == {leaver["platform_uuid"]}
    assert leaver["id"] not in {e["id"] for e in await actor.events(calendar)}
    await actor.assert_equal(calendar)

    start = put_occurrence(actor, calendar, series.id, original(leaver), days=3)
    await actor.quiesce()
    assert announced(actor, since=heard + 1) == [("created", ["entered_window"])]
    (back,) = [e for e in await actor.events(calendar) if e["id"] == leaver["id"]]
    assert at(back) == start
    await actor.assert_equal(calendar)


@BOTH
async def test_hazard_09_single_event_moved_out_of_the_window(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar)
    actor.add_event(calendar, "Stays")
    await actor.quiesce()
    (leaver,) = [e for e in await actor.events(calendar) if e["platform_uuid"] == event.id]

    put(actor, calendar, event.id, days=90)
    await actor.quiesce()
    assert announced(actor, since=2) == [("deleted", ["left_window"])]
    assert [e["name"] for e in await actor.events(calendar)] == ["Stays"]
    (gone,) = await actor.events(calendar, is_deleted="true")
    assert gone["id"] == leaver["id"]
    await actor.assert_equal(calendar)


@BOTH
async def test_hazard_09_event_left_while_the_cursor_was_lost(actor: Actor) -> None:
    """A listing shows no more than its absence: plain `deleted`, and `restored` when it is back."""
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar)
    await actor.quiesce()
    actor.sandbox.world.expire_sync_tokens(calendar.remote_id)
    put(actor, calendar, event.id, days=90)
    await actor.quiesce()
    put(actor, calendar, event.id, days=3)
    await actor.quiesce()
    assert announced(actor) == [("created", []), ("deleted", []), ("created", ["restored"])]
    assert len({entry["id"] for entry in actor.entries()}) == 1
    await actor.assert_equal(calendar)


@BOTH
async def test_hazard_10_event_moved_into_the_window(actor: Actor) -> None:
    """An id never seen before, by a normal change: created once, as any other event is."""
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar, "Far ahead", hours=24 * 90)
    await actor.quiesce()
    assert (announced(actor), await everything(actor, calendar)) == ([], [])

    put(actor, calendar, event.id, days=4)
    await actor.quiesce()
    assert announced(actor) == [("created", [])]
    assert [e["platform_uuid"] for e in await actor.events(calendar)] == [event.id]
    await actor.assert_equal(calendar)
    await days_pass(actor)
    assert announced(actor) == [("created", [])]


@BOTH
async def test_hazard_11_occurrence_moved_in_from_an_original_start_outside(actor: Actor) -> None:
    """Where it stands counts, never where its rule put it: in both directions, and again in each listing."""
    await actor.subscribe()
    calendar = await actor.connected()
    ahead = actor.add_event(calendar, "From ahead", hours=24 * 40, recurrence=WEEKLY)
    behind = actor.add_event(calendar, "From behind", hours=-24 * 10, recurrence=("RRULE:FREQ=WEEKLY;COUNT=1",))
    await actor.quiesce()
    assert announced(actor) == []

    by_rule = [event.start for event in (ahead, behind)]
    for event in (ahead, behind):
        put_occurrence(actor, calendar, event.id, event.start, days=5)  # type: ignore[arg-type]
    await actor.quiesce()
    assert announced(actor) == [("created", []), ("created", [])]
    shown = {e["name"]: e for e in await actor.events(calendar)}
    assert [original(shown[name]) for name in ("From ahead", "From behind")] == by_rule
    assert all(abs(at(e) - actor.now() - timedelta(days=5)) < timedelta(minutes=1) for e in shown.values())
    assert all(e["is_exception"] for e in shown.values())
    await actor.assert_equal(calendar)
    await days_pass(actor)
    assert len(announced(actor)) == 2
    await actor.assert_equal(calendar)
