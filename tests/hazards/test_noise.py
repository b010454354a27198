"""Hazards 7 and 24 to 27: a deletion is announced once, and what changed nothing is not announced at all."""

import pytest

from tests.harness import BOTH, Actor
from tests.hazards.hearing import (
    OUTLOOK,
    WEEKLY,
    announced,
    as_stored,
    asked,
    cursor,
    everything,
    put,
    request,
)


@BOTH
async def test_hazard_07_single_event_deleted(actor: Actor) -> None:
    """One entry; the row stays listable as deleted, with what was last known of it."""
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar, "Planning", location="Room 4")
    actor.add_event(calendar, "Stays")
    await actor.quiesce()
    (known,) = [e for e in await actor.events(calendar) if e["name"] == "Planning"]
    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    await actor.quiesce()
    entry = actor.entries()[-1]
    assert announced(actor, since=2) == [("deleted", [])]
    assert (entry["id"], entry["fields"]) == (known["id"], {})
    (gone,) = await actor.events(calendar, is_deleted="true")
    moved = {"is_deleted": True, "change_seq": entry["change_seq"], "updated_at": gone["updated_at"]}
    assert gone == known | moved
    await actor.assert_equal(calendar)
    await request(actor, calendar, full=True)
    await actor.quiesce()
    assert len(actor.entries()) == 3


@BOTH
@pytest.mark.parametrize("size", [1_000, 1], ids=["on one page", "on different pages"])
async def test_hazard_24_same_id_several_times_in_a_round(actor: Actor, size: int) -> None:
    """First as it was, or as gone, then as it is: the last word counts, and makes one change."""
    await actor.subscribe()
    calendar = await actor.connected()
    single = actor.add_event(calendar, "Single")
    series = actor.add_event(calendar, "Series", recurrence=("RRULE:FREQ=DAILY;COUNT=3",))
    await actor.quiesce()
    ids = {e["platform_uuid"]: e["id"] for e in await actor.events(calendar)}
    heard = len(actor.entries())
    for kind, values in (("duplicate_ids", {}), ("short_pages", {"size": size})):
        actor.sandbox.faults.add(kind, actor.operation("changes"), times=None, **values)

    actor.sandbox.world.update_event(calendar.remote_id, single.id, title="Renamed")
    await actor.quiesce()
    assert announced(actor, since=heard) == [("updated", ["renamed"])]
    actor.sandbox.world.update_event(calendar.remote_id, series.id, title="Renamed series")
    await actor.quiesce()
    assert announced(actor, since=heard + 1) == [("updated", ["renamed"])] * 3
    assert {e["platform_uuid"]: e["id"] for e in await actor.events(calendar)} == ids
    actor.add_event(calendar, "New")
    await actor.quiesce()
    assert announced(actor, since=heard + 4) == [("created", [])]
    await actor.assert_equal(calendar)


@BOTH
async def test_hazard_25_created_and_deleted_between_two_syncs(actor: Actor) -> None:
    """A tombstone of something that was never stored: no row, not even a deleted one, and no message."""
    await actor.subscribe()
    calendar = await actor.connected()
    before = await cursor(actor, calendar)
    brief = [actor.add_event(calendar, "Brief"), actor.add_event(calendar, "Brief series", recurrence=WEEKLY)]
    for event in brief:
        actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    heard = len(actor.messages())
    await actor.quiesce()
    assert await cursor(actor, calendar) != before
    assert await everything(actor, calendar) == []
    assert len(actor.messages()) == heard
    await actor.assert_equal(calendar)


@BOTH
async def test_hazard_25_moved_in_and_deleted_between_two_syncs(actor: Actor) -> None:
    """Known to the provider for long, to us never: its deletion is none of ours."""
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar, "Far ahead", hours=24 * 60)
    await actor.quiesce()
    put(actor, calendar, event.id, days=3)
    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    await actor.quiesce()
    assert (announced(actor), await everything(actor, calendar)) == ([], [])
    await actor.assert_equal(calendar)


@BOTH
async def test_hazard_26_changed_and_changed_back_between_two_syncs(actor: Actor) -> None:
    """The provider's etag and update time moved, what can be seen did not: nothing is written."""
    await actor.subscribe()
    calendar = await actor.connected()
    single = actor.add_event(calendar, "Single", location="Room 4")
    series = actor.add_event(calendar, "Series", recurrence=WEEKLY)
    await actor.quiesce()
    before, position, heard = await as_stored(actor, calendar), await cursor(actor, calendar), len(actor.messages())
    world = actor.sandbox.world
    for event in (single, series):
        world.update_event(calendar.remote_id, event.id, title="Renamed", location="Elsewhere")
        world.update_event(calendar.remote_id, event.id, title=event.title, location=event.location)
    put(actor, calendar, single.id, days=9)
    world.update_event(calendar.remote_id, single.id, start=single.start, end=single.end)
    await actor.quiesce()
    assert await cursor(actor, calendar) != position
    assert await as_stored(actor, calendar) == before
    assert len(actor.messages()) == heard
    await actor.assert_equal(calendar)


@OUTLOOK
async def test_hazard_26_old_changes_replayed(actor: Actor) -> None:
    """Graph may send the whole window once more before what is new: only what is new is announced."""
    await actor.subscribe()
    calendar = await actor.connected()
    single = actor.add_event(calendar, "Single")
    actor.add_event(calendar, "Other")
    await actor.quiesce()
    before = await as_stored(actor, calendar)
    actor.sandbox.faults.add("replayed_changes", "graph.delta", times=None)
    actor.sandbox.world.update_event(calendar.remote_id, single.id, title="Renamed")
    await actor.quiesce()
    assert announced(actor, since=2) == [("updated", ["renamed"])]
    after = await as_stored(actor, calendar)
    assert {key for key in before if before[key] != after[key]} == {single.id}


@BOTH
async def test_hazard_27_activity_outside_the_window(actor: Actor) -> None:
    """Google sends the event or its tombstone, Graph `@removed` for whatever happens there: no row, no message."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.add_event(calendar, "Stays")
    far = [actor.add_event(calendar, "Far ahead", hours=24 * days) for days in (60, 90)]
    await actor.quiesce()
    before, heard = await as_stored(actor, calendar), len(actor.messages())
    assert len(before) == 1
    actor.sandbox.push.mode = "drop"
    actor.sandbox.faults.add("unknown_removals", "graph.delta")  # ids that nobody ever saw
    put(actor, calendar, far[0].id, days=61)
    actor.sandbox.world.delete_event(calendar.remote_id, far[1].id)
    assert await asked(actor, calendar) == [actor.operation("changes")]  # noise costs no listing
    await actor.quiesce()
    assert await as_stored(actor, calendar) == before
    assert len(actor.messages()) == heard
    await actor.assert_equal(calendar)
