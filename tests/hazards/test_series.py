"""Hazards 3 to 6, 8 and 12: what becomes of a series, of one of its occurrences, and of «this and following»."""

from datetime import timedelta
from typing import Any

import pytest

from tests.harness import BOTH, Actor, Connected, Json
from tests.hazards.hearing import (
    GOOGLE,
    OUTLOOK,
    WEEKLY,
    announced,
    as_stored,
    at,
    by_start,
    days_pass,
    everything,
    original,
    put_occurrence,
)


async def weekly(actor: Actor) -> tuple[Connected, str, list[Json]]:
    """A calendar with a single event and a weekly series; the series' id and its occurrences."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.add_event(calendar, "Single")
    series = actor.add_event(calendar, "Weekly", hours=2, time_zone="Europe/Berlin", recurrence=WEEKLY)
    await actor.quiesce()
    assert len(actor.entries()) == 6
    return calendar, series.id, [e for e in await by_start(actor, calendar) if e["name"] == "Weekly"]


async def assert_gone_once(actor: Actor, calendar: Connected, occurrences: list[Json]) -> None:
    """Exactly these were deleted, each by one entry; the rows stay listable and nothing else was touched."""
    entries = actor.entries()[6:]
    assert sorted(e["id"] for e in entries) == sorted(e["id"] for e in occurrences)
    assert {(e["change"], *e["kinds"]) for e in entries} == {("deleted",)}
    stored = {e["id"]: e["is_deleted"] for e in await everything(actor, calendar)}
    assert {key for key, is_deleted in stored.items() if is_deleted} == {e["id"] for e in occurrences}
    assert len(stored) == 6
    await actor.assert_equal(calendar)


PARTS = [
    pytest.param(None, {}, id="every instance cancelled"),
    pytest.param("partial_cancellation", {"count": 26}, id="half a year of them"),
    pytest.param("bare_tombstone", {}, id="the master alone"),
]


@GOOGLE
@pytest.mark.parametrize(("fault", "params"), PARTS)
async def test_hazard_03_series_deleted_google(actor: Actor, fault: str | None, params: dict[str, Any]) -> None:
    calendar, series_id, occurrences = await weekly(actor)
    if fault is not None:
        actor.sandbox.faults.add(fault, "events.list", **params)
    actor.sandbox.world.delete_event(calendar.remote_id, series_id)
    await actor.quiesce()
    await assert_gone_once(actor, calendar, occurrences)
    await days_pass(actor)
    await assert_gone_once(actor, calendar, occurrences)


@GOOGLE
async def test_hazard_03_series_deleted_and_the_rest_found_by_the_listing(actor: Actor) -> None:
    """Where Google cancels one occurrence only, the rest goes with the day's listing; each is told once."""
    calendar, series_id, occurrences = await weekly(actor)
    actor.sandbox.faults.add("partial_cancellation", "events.list", count=1)
    actor.sandbox.world.delete_event(calendar.remote_id, series_id)
    await actor.quiesce()
    assert [e["id"] for e in actor.entries()[6:]] == [e["id"] for e in occurrences[:1]]
    await days_pass(actor)
    await assert_gone_once(actor, calendar, occurrences)


@GOOGLE
async def test_hazard_03_several_cancellations_are_checked_at_once(actor: Actor) -> None:
    """Two cancelled occurrences of one series may be all of it: the same run lists the window."""
    calendar, series_id, occurrences = await weekly(actor)
    actor.sandbox.faults.add("partial_cancellation", "events.list", count=2)
    actor.sandbox.world.delete_event(calendar.remote_id, series_id)
    await actor.quiesce()
    await assert_gone_once(actor, calendar, occurrences)


@BOTH
async def test_hazard_09_occurrence_left_in_a_round_that_is_listed(actor: Actor) -> None:
    """A listing shows neither who was cancelled nor who moved out of the window; the round before it did."""
    calendar, series_id, occurrences = await weekly(actor)
    actor.sandbox.push.mode = "hold"
    for occurrence in occurrences[1:3]:
        actor.sandbox.world.cancel_instance(calendar.remote_id, series_id, original(occurrence))
    start = actor.now() + timedelta(days=90)
    actor.sandbox.world.update_instance(
        calendar.remote_id, series_id, original(occurrences[3]), start=start, end=start + timedelta(hours=1)
    )
    actor.sandbox.push.release()
    actor.sandbox.push.mode = "deliver"
    await actor.quiesce()
    told = {entry["id"]: (entry["change"], entry["kinds"]) for entry in actor.entries()[6:]}
    assert told == {
        occurrences[1]["id"]: ("deleted", []),
        occurrences[2]["id"]: ("deleted", []),
        occurrences[3]["id"]: ("deleted", ["left_window"]),
    }


@OUTLOOK
async def test_hazard_04_series_deleted_graph(actor: Actor) -> None:
    """One `@removed` with an id that no row has: the rows know their series."""
    calendar, series_id, occurrences = await weekly(actor)
    assert {e["series_id"] for e in occurrences} == {series_id}
    actor.sandbox.world.delete_event(calendar.remote_id, series_id)
    await actor.quiesce()
    await assert_gone_once(actor, calendar, occurrences)


@GOOGLE
async def test_hazard_05_one_occurrence_deleted_google(actor: Actor) -> None:
    """A cancelled exception has neither start nor end: it is read before anybody asks for the window."""
    calendar, series_id, occurrences = await weekly(actor)
    before = await as_stored(actor, calendar)
    actor.sandbox.world.cancel_instance(calendar.remote_id, series_id, original(occurrences[2]))
    await actor.quiesce()
    await assert_gone_once(actor, calendar, occurrences[2:3])
    after = await as_stored(actor, calendar)
    assert {key for key in before if before[key] != after[key]} == {occurrences[2]["platform_uuid"]}


@OUTLOOK
@pytest.mark.parametrize("is_silent", [False, True], ids=["its series comes without it", "not a word"])
async def test_hazard_06_one_occurrence_deleted_graph(actor: Actor, is_silent: bool) -> None:
    """It has no entry of its own: the window's listing lacks it, at once or with the day."""
    calendar, series_id, occurrences = await weekly(actor)
    before = await as_stored(actor, calendar)
    if is_silent:
        actor.sandbox.faults.add("silent_cancellation", "graph.delta", times=None)
    actor.sandbox.world.cancel_instance(calendar.remote_id, series_id, original(occurrences[2]))
    await actor.quiesce()
    if is_silent:
        assert await as_stored(actor, calendar) == before
        await days_pass(actor)
    await assert_gone_once(actor, calendar, occurrences[2:3])
    after = await as_stored(actor, calendar)
    assert {key for key in before if before[key] != after[key]} == {occurrences[2]["platform_uuid"]}


@BOTH
async def test_hazard_08_occurrence_moved_inside_the_window(actor: Actor) -> None:
    """One update of the same event, which still says where it stood by rule; no deletion, no creation."""
    calendar, series_id, occurrences = await weekly(actor)
    before = await as_stored(actor, calendar)
    mover = occurrences[1]
    start = put_occurrence(actor, calendar, series_id, original(mover), days=3)
    await actor.quiesce()
    assert announced(actor, since=6) == [("updated", ["rescheduled"])]
    entry = actor.entries()[-1]
    (moved,) = [e for e in await actor.events(calendar) if e["id"] == mover["id"]]
    assert entry["id"] == moved["id"]
    assert entry["fields"]["start_time"] == {"from": mover["start_time"], "to": moved["start_time"]}
    assert entry["fields"]["end_time"] == {"from": mover["end_time"], "to": moved["end_time"]}
    assert (at(moved), original(moved), moved["is_exception"]) == (start, original(mover), True)
    after = await as_stored(actor, calendar)
    assert after.keys() == before.keys()
    assert {key for key in before if before[key] != after[key]} == {mover["platform_uuid"]}
    await actor.assert_equal(calendar)


@BOTH
async def test_hazard_12_this_and_following(actor: Actor) -> None:
    """The old ids go in the transaction, and the message, that brings the new ones: no time is ever shown twice."""
    calendar, series_id, occurrences = await weekly(actor)
    heard = len(actor.messages())
    actor.sandbox.world.split_series(calendar.remote_id, series_id, original(occurrences[2]), title="From here on")
    await actor.quiesce()
    assert announced(actor, since=6) == [("deleted", [])] * 3 + [("created", [])] * 3
    (message,) = actor.messages()[heard:]
    assert len(message.body["data"]["events"]) == 6

    stored = await everything(actor, calendar)
    assert len({e["updated_at"] for e in stored if int(e["change_seq"]) > 6}) == 1
    assert {e["id"] for e in stored if e["is_deleted"]} == {e["id"] for e in occurrences[2:]}
    shown = [e for e in await by_start(actor, calendar) if e["name"] != "Single"]
    assert [e["start_time"] for e in shown] == [e["start_time"] for e in occurrences]
    assert [e["name"] for e in shown] == ["Weekly"] * 2 + ["From here on"] * 3
    assert not {e["platform_uuid"] for e in shown[2:]} & {e["platform_uuid"] for e in occurrences}
    await actor.assert_equal(calendar)
