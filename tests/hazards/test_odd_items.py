"""Hazards 76 to 81: kinds of events, ids of every form and length, characters and dates that nobody expects."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from sandbox.model import Event, EventDraft
from tests.harness import BOTH, Actor, Connected
from tests.integration.test_failures import parked

GOOGLE = pytest.mark.parametrize("platform", ["google"])
OUTLOOK = pytest.mark.parametrize("platform", ["microsoft"])
HOUR = timedelta(hours=1)


def announced(actor: Actor, *, since: int = 0) -> list[tuple[str, list[str]]]:
    """Changes with their kinds, after the first `since` entries."""
    return [(entry["change"], entry["kinds"]) for entry in actor.entries()[since:]]


async def names(actor: Actor, calendar: Connected) -> list[str]:
    """What the live events are called."""
    return sorted(event["name"] for event in await actor.events(calendar))


async def sync(actor: Actor, calendar: Connected, *, full: bool = False) -> None:
    """One sync, asked for."""
    await actor.call("POST", f"/calendars/{calendar.id}/sync", json={"full": full}, expect=202)
    await actor.quiesce()


def create(
    actor: Actor, calendar: Connected, title: str, event_id: str | None, *, hours: float = 24, **more: Any
) -> Event:
    """An event with an id of this choice."""
    start = actor.now() + HOUR * hours
    draft = EventDraft(title=title, start=start, end=start + HOUR, recurrence=more.pop("recurrence", ()))
    return actor.sandbox.world.create_event(calendar.remote_id, draft, event_id=event_id, **more)


@GOOGLE
async def test_hazard_76_kinds_of_events(actor: Actor) -> None:
    """All that Google documents are there and say which they are, in a listing and in an increment; a kind that it adds
    later is in neither, so that a full sync does not undo an increment."""
    await actor.subscribe()
    calendar = await actor.connect()
    kinds = ("birthday", "default", "focusTime", "fromGmail", "outOfOffice", "workingLocation")
    for kind in (*kinds, "hologram"):
        actor.add_event(calendar, f"Listed {kind}", event_type=kind)
    await actor.quiesce()
    for kind in (*kinds, "hologram"):
        actor.add_event(calendar, f"Told {kind}", event_type=kind)
    await actor.quiesce()
    shown = {event["name"]: event["event_type"] for event in await actor.events(calendar)}
    assert shown == {f"{how} {kind}": kind for how in ("Listed", "Told") for kind in kinds}
    heard = len(actor.entries())
    await sync(actor, calendar, full=True)
    assert len(actor.entries()) == heard == len(shown)
    assert announced(actor) == [("created", [])] * heard


@BOTH
async def test_hazard_77_ids_of_instances_tell_nothing(actor: Actor) -> None:
    """A series whose instances have opaque ids is moved, cut, split and deleted like any other."""
    await actor.subscribe()
    calendar = await actor.connected()
    style = "opaque" if actor.platform == "google" else "immutable"
    series = create(actor, calendar, "Weekly", None, hours=2, recurrence=("RRULE:FREQ=WEEKLY",), id_style=style)
    await actor.quiesce()
    shown = sorted(await actor.events(calendar), key=lambda event: str(event["start_time"]))
    assert len(shown) == 5
    assert not any(event["platform_uuid"].startswith(series.id) for event in shown)
    assert {event["series_id"] for event in shown} == {series.id}
    world, place = actor.sandbox.world, calendar.remote_id
    originals = [datetime.fromisoformat(event["original_start_time"]) for event in shown]

    heard = len(actor.entries())
    world.update_instance(place, series.id, originals[0], start=originals[0] + HOUR, end=originals[0] + 2 * HOUR)
    await actor.quiesce()
    world.cancel_instance(place, series.id, originals[1])
    await actor.quiesce()
    assert announced(actor, since=heard) == [("updated", ["rescheduled"]), ("deleted", [])]
    await actor.assert_equal(calendar)

    heard = len(actor.entries())
    rest = world.split_series(place, series.id, originals[3], title="Weekly from here")
    await actor.quiesce()
    assert announced(actor, since=heard) == [("deleted", [])] * 2 + [("created", [])] * 2
    await actor.assert_equal(calendar)
    for one in (series, rest):
        world.delete_event(place, one.id)
    await actor.quiesce()
    assert await actor.events(calendar) == []
    assert [change for change, _ in announced(actor)].count("deleted") == 1 + 2 + 4


@OUTLOOK
async def test_hazard_78_ids_that_differ_by_case(actor: Actor) -> None:
    """They are two events: each is renamed and deleted alone."""
    await actor.subscribe()
    calendar = await actor.connected()
    upper, lower = (create(actor, calendar, one, one) for one in ("AAkALg" + "CaseA" * 20, "AAkALg" + "casea" * 20))
    await actor.quiesce()
    rows = {event["platform_uuid"]: event["id"] for event in await actor.events(calendar)}
    assert set(rows) == {upper.id, lower.id}
    actor.sandbox.world.update_event(calendar.remote_id, upper.id, title="Renamed")
    await actor.quiesce()
    assert await names(actor, calendar) == [lower.id, "Renamed"]
    actor.sandbox.world.delete_event(calendar.remote_id, lower.id)
    await actor.quiesce()
    assert await names(actor, calendar) == ["Renamed"]
    told = [(entry["change"], entry["id"]) for entry in actor.entries()[2:]]
    assert told == [("updated", rows[upper.id]), ("deleted", rows[lower.id])]
    await actor.assert_equal(calendar)


@BOTH
async def test_hazard_79_very_long_ids_and_cursors(actor: Actor) -> None:
    """Ids of 1,024 characters, what is made of them, and cursors of 4,000 are kept as they are; such an event changes
    like any other."""
    await actor.subscribe()
    calendar = await actor.connect()
    actor.sandbox.faults.add("long_cursor", actor.operation("changes"), times=None, bytes=4_000)
    single = create(actor, calendar, "Single", ("0123456789abcdefghijklmnopqrstuv" * 32)[:1024])
    series = create(actor, calendar, "Daily", "a" * 1024, recurrence=("RRULE:FREQ=DAILY;COUNT=3",))
    await actor.quiesce()
    assert len(single.id) == 1024
    shown = {event["platform_uuid"]: event for event in await actor.events(calendar)}
    assert shown[single.id]["ical_uid"] == single.ical_uid
    assert len(shown) == 4
    async with actor.rt.db.reading() as tx:
        assert await tx.scalar("SELECT length(cursor) FROM sync_state") >= 4_000
    await actor.assert_equal(calendar)

    actor.sandbox.world.update_event(calendar.remote_id, single.id, title="Renamed")
    await actor.quiesce()
    actor.sandbox.world.delete_event(calendar.remote_id, series.id)
    await actor.quiesce()
    assert announced(actor) == [("created", [])] * 4 + [("updated", ["renamed"])] + [("deleted", [])] * 3
    await actor.assert_equal(calendar)


@BOTH
async def test_hazard_80_control_characters(actor: Actor) -> None:
    """What PostgreSQL can hold is shown as it was sent; a NUL is taken out of its text, and nothing else is touched."""
    await actor.subscribe()
    calendar = await actor.connected()
    odd = "bell \x07 escape \x1b[31m override \u202e end \uffff flag \U0001f3f4\U000e0067"
    event = actor.add_event(calendar, odd, description="tab\tline\r\nend \x7f")
    await actor.quiesce()
    (shown,) = await actor.events(calendar)
    assert shown["name"] == odd
    await actor.assert_equal(calendar)

    key = "summary" if actor.platform == "google" else "subject"
    actor.sandbox.world.update_event(calendar.remote_id, event.id, raw_extra={key: "now with\x00 NUL"})
    actor.add_event(calendar, "Fresh", raw_extra={key: "\x00fresh"})
    actor.add_event(calendar, "Good")
    await actor.quiesce()
    assert await names(actor, calendar) == ["Good", "fresh", "now with NUL"]
    assert await parked(actor) == []
    await sync(actor, calendar, full=True)
    assert sorted(announced(actor, since=1)) == [("created", []), ("created", []), ("updated", ["renamed"])]


ABSURD = {"google": {"dateTime": "0001-01-01T00:00:00Z"}, "microsoft": {"dateTime": "0001-01-01T00:00:00"}}


@BOTH
@pytest.mark.parametrize("poison", ["absurd date", "no end", "wrong type"])
async def test_hazard_81_poisonous_event(actor: Actor, poison: str) -> None:
    """One that was there and one that is new are parked; the round commits, nothing counts as deleted, the good one
    comes. Once readable again the new one is told; a deletion is one, readable or not."""
    poisons: dict[str, dict[str, Any]] = {
        "absurd date": {"raw_extra": {"start": ABSURD[actor.platform] | {"timeZone": "UTC"}}},
        "no end": {"raw_omit": ("end",)},
        "wrong type": {"raw_extra": {"attendees": "everybody"}},
    }
    spoilt = poisons[poison]
    await actor.subscribe()
    calendar = await actor.connected()
    known = actor.add_event(calendar, "Known")
    await actor.quiesce()
    actor.sandbox.world.update_event(calendar.remote_id, known.id, title="Unreadable", **spoilt)
    fresh = actor.add_event(calendar, "Fresh", **spoilt)
    actor.add_event(calendar, "Good")
    await actor.quiesce()
    for full in (False, True):
        await sync(actor, calendar, full=full)
        assert await names(actor, calendar) == ["Good", "Known"]
        assert sorted(await parked(actor)) == sorted([known.id, fresh.id])
    assert announced(actor) == [("created", [])] * 2
    assert (await actor.calendar(calendar))["health"]["status"] == "healthy"

    actor.sandbox.world.update_event(calendar.remote_id, fresh.id, raw_extra={}, raw_omit=())
    actor.sandbox.world.delete_event(calendar.remote_id, known.id)
    await actor.quiesce()
    assert await parked(actor) == []
    assert announced(actor, since=2) == [("deleted", []), ("created", [])]
    await actor.assert_equal(calendar)
