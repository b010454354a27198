"""Hazards 55 to 59: days without a time, clocks that change, zones that nobody knows, the edges of the window."""

from collections import Counter
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app import scheduling
from sandbox.model import Event, EventDraft
from tests.harness import BOTH, Actor, Connected, Json

OUTLOOK = pytest.mark.parametrize("platform", ["microsoft"])
BERLIN = ZoneInfo("Europe/Berlin")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def at(event: Json, which: str = "start") -> datetime:
    """One of an event's instants."""
    return datetime.fromisoformat(event[f"{which}_time"])


def hours_of(day: date) -> float:
    """How long a day lasts in Berlin."""
    first, after = (datetime.combine(one, time(), BERLIN).timestamp() for one in (day, day + DAY))
    return (after - first) / 3600


def until_days_before(actor: Actor, days: int, *, hours: int) -> date:
    """Go to so many days before the next day in Berlin that lasts so many hours; that day."""
    day = actor.now().date() + DAY * (days + 1)
    while hours_of(day) != hours:
        day += DAY
    actor.advance(day - actor.now().date() - DAY * days)
    return day


def until_half_past(actor: Actor, hour: int) -> None:
    """Go to the next time that it is half past this hour in UTC."""
    now = actor.now()
    then = now.replace(hour=hour, minute=30, second=0)
    actor.advance(then - now if then > now else then + DAY - now)


async def names(actor: Actor, calendar: Connected) -> set[str]:
    """What the live events are called."""
    return {event["name"] for event in await actor.events(calendar)}


async def stored(actor: Actor, calendar: Connected) -> dict[str, tuple[Any, ...]]:
    """Of each event what moves with any write."""
    found = await actor.events(calendar, is_deleted=None)
    return {e["platform_uuid"]: (e["id"], e["is_deleted"], e["change_seq"], e["updated_at"]) for e in found}


async def sync(actor: Actor, calendar: Connected, *, full: bool = False) -> None:
    """One sync, asked for."""
    await actor.call("POST", f"/calendars/{calendar.id}/sync", json={"full": full}, expect=202)
    await actor.quiesce()


async def days_pass(actor: Actor, days: float) -> None:
    """The clock alone."""
    actor.advance(DAY * days)
    await scheduling.sweep(actor.rt)
    await actor.quiesce()


@BOTH
async def test_hazard_55_all_day_event_stays_a_day(actor: Actor) -> None:
    """Dates stay dates, the end is exclusive; a new title moves nothing, a new day is one change."""
    await actor.subscribe()
    calendar = await actor.connected()
    day = (actor.now() + 4 * DAY).date()
    event = actor.add_event(calendar, "Holiday", start=day, end=day + 2 * DAY)
    await actor.quiesce()
    (shown,) = await actor.events(calendar)
    assert (shown["is_all_day"], shown["start_date"], shown["end_date"]) == (True, f"{day}", f"{day + 2 * DAY}")
    midnights = [datetime.combine(one, time(), BERLIN) for one in (day, day + 2 * DAY)]
    assert [at(shown), at(shown, "end")] == midnights

    actor.sandbox.world.update_event(calendar.remote_id, event.id, title="Holidays")
    await actor.quiesce()
    entry = actor.entries()[-1]
    assert (entry["change"], entry["kinds"], set(entry["fields"])) == ("updated", ["renamed"], {"name"})
    actor.sandbox.world.update_event(calendar.remote_id, event.id, start=day + DAY, end=day + 2 * DAY)
    await actor.quiesce()
    entry = actor.entries()[-1]
    assert (entry["change"], entry["kinds"]) == ("updated", ["rescheduled"])
    assert entry["fields"]["start_date"] == {"from": f"{day}", "to": f"{day + DAY}"}
    assert "end_date" not in entry["fields"]
    await actor.assert_equal(calendar)
    assert len(actor.entries()) == 3


@BOTH
@pytest.mark.parametrize("hours", [23, 25])
async def test_hazard_55_day_when_clocks_change(actor: Actor, hours: int) -> None:
    """It lasts as long as it does in the calendar's zone."""
    day = until_days_before(actor, 5, hours=hours)
    await actor.subscribe()
    calendar = await actor.connected()
    actor.add_event(calendar, "Sunday", start=day, end=day + DAY)
    await actor.quiesce()
    (shown,) = await actor.events(calendar)
    assert (shown["start_date"], shown["end_date"]) == (f"{day}", f"{day + DAY}")
    assert at(shown, "end") - at(shown) == hours * HOUR
    await days_pass(actor, 6)
    assert [entry["change"] for entry in actor.entries()] == ["created"]


@BOTH
@pytest.mark.parametrize(("zone", "hour"), [("Pacific/Auckland", 18), ("America/Los_Angeles", 3)])
async def test_hazard_55_all_day_at_the_edges(actor: Actor, zone: str, hour: int) -> None:
    """At this hour the calendar has another date than UTC: the calendar's decides what is inside the window."""
    until_half_past(actor, hour)
    await actor.subscribe()
    account = actor.sandbox.world.add_account("far@example.com", provider=actor.platform, time_zone=zone)
    calendar = await actor.connect(account)
    today = actor.now().date()
    days = [today + DAY * offset for offset in (-3, -2, -1, 0, 1, 28, 29, 30, 31, 32)]
    for day in days[::2]:
        actor.add_event(calendar, f"{day}", start=day, end=day + DAY)
    await actor.quiesce()  # the listing tells of these, the increment of the others
    for day in days[1::2]:
        actor.add_event(calendar, f"{day}", start=day, end=day + DAY)
    await actor.quiesce()

    first, last = (moment.astimezone(ZoneInfo(zone)).date() for moment in await actor.window(calendar))
    assert await names(actor, calendar) == {f"{day}" for day in days if first <= day <= last}
    await actor.assert_equal(calendar)
    before, heard = await stored(actor, calendar), len(actor.entries())
    await sync(actor, calendar, full=True)
    assert await stored(actor, calendar) == before
    assert [entry["change"] for entry in actor.entries()] == ["created"] * heard


@BOTH
@pytest.mark.parametrize("hours", [23, 25])
async def test_hazard_56_clocks_change_before_the_event(actor: Actor, hours: int) -> None:
    """A weekly meeting is at nine on the wall before and after; the day itself announces nothing."""
    until_days_before(actor, 10, hours=hours)
    await actor.subscribe()
    calendar = await actor.connected()
    nine = datetime.combine(actor.now().astimezone(BERLIN).date() + DAY, time(9), BERLIN)
    draft = EventDraft(
        title="Weekly", start=nine, end=nine + HOUR, time_zone=BERLIN.key, recurrence=("RRULE:FREQ=WEEKLY",)
    )
    actor.sandbox.world.create_event(calendar.remote_id, draft)
    await actor.quiesce()
    shown = await actor.events(calendar)
    assert {at(event).astimezone(BERLIN).time() for event in shown} == {time(9)}
    assert len({at(event).time() for event in shown}) == 2
    assert {at(event, "end") - at(event) for event in shown} == {HOUR}
    await actor.assert_equal(calendar)

    before, heard = await stored(actor, calendar), len(actor.entries())
    for _ in range(3):
        await days_pass(actor, 4)
        start, end = await actor.window(calendar)
        assert end - start == 31 * DAY
        await actor.assert_equal(calendar)
    after = await stored(actor, calendar)
    assert {key: after[key] for key in before} == before
    assert [entry["change"] for entry in actor.entries()[heard:]] == ["created"] * (len(after) - len(before))


@OUTLOOK
async def test_hazard_57_zone_names_of_windows(actor: Actor) -> None:
    """A Windows name is shown as its IANA name, one that is no zone's as none; times never depend on it."""
    calendar = await actor.connected()
    labels = {
        "Pacific Standard Time": "America/Los_Angeles",
        "tzone://Microsoft/Utc": "UTC",
        "tzone://Microsoft/Custom": None,
        "Customized Time Zone": None,
        "Mars Standard Time": None,
    }
    for hours, label in enumerate(labels):
        actor.add_event(calendar, label, hours=24 + hours, zone_label=label)
    await actor.quiesce()
    assert {e["name"]: e["time_zone"] for e in await actor.events(calendar)} == labels
    listed = {at(e) for e in await actor.events(calendar)}
    world = actor.sandbox.world.instances(calendar.remote_id, *await actor.window(calendar))
    assert listed == {one.start for one in world}


@BOTH
async def test_hazard_57_unknown_zone(actor: Actor) -> None:
    """It costs neither the event nor the sync, and does not come back as a change; a day is then one of UTC."""
    await actor.subscribe()
    calendar = await actor.connect()
    day = (actor.now() + 4 * DAY).date()
    listed = in_no_zone(actor, calendar, "Listed")
    actor.add_event(calendar, "Day", start=day, end=day + DAY, zone_label="tzone://Microsoft/Custom")
    await actor.quiesce()
    in_no_zone(actor, calendar, "Told")
    await actor.quiesce()
    await actor.assert_equal(calendar)
    zones = {event["name"]: event["time_zone"] for event in await actor.events(calendar)}
    known = None if actor.platform == "microsoft" else "Europe/Berlin"  # Google tells the calendar's in each listing
    assert zones == {"Listed": known, "Day": known, "Told": known}
    assert (await actor.calendar(calendar))["health"]["status"] == "healthy"
    heard, before = len(actor.entries()), await stored(actor, calendar)
    actor.sandbox.world.touch(calendar.remote_id, listed.id)
    await actor.quiesce()
    await sync(actor, calendar, full=True)
    assert (len(actor.entries()), await stored(actor, calendar)) == (heard, before)


def in_no_zone(actor: Actor, calendar: Connected, title: str) -> Event:
    """An event whose zone has a name that means nothing."""
    start = actor.now() + 2 * DAY
    if actor.platform == "microsoft":
        return actor.add_event(calendar, title, start=start, end=start + HOUR, zone_label="Mars/Phobos")
    both = {
        which: {"dateTime": moment.isoformat(), "timeZone": "Mars/Phobos"}
        for which, moment in (("start", start), ("end", start + HOUR))
    }
    return actor.add_event(calendar, title, start=start, end=start + HOUR, raw_extra=both)


@BOTH
async def test_hazard_58_edges_of_the_window_in_a_listing(actor: Actor) -> None:
    """Events at each second around both edges: the listing, the API and the next listing agree on each of them."""
    await actor.subscribe()
    calendar = await actor.connect()
    now = actor.now()
    for seconds in range(-2, 15):
        first, last = (now + DAY * days + timedelta(seconds=seconds) for days in (-1, 30))
        actor.add_event(calendar, f"ends {first}", start=first - HOUR, end=first)
        actor.add_event(calendar, f"is at {first}", start=first, end=first)
        actor.add_event(calendar, f"starts {last}", start=last, end=last + HOUR)
    await actor.quiesce()
    start, end = await actor.window(calendar)
    shown = await names(actor, calendar)
    second = timedelta(seconds=1)
    for inside in (f"ends {start + second}", f"is at {start + second}", f"starts {end - second}"):
        assert inside in shown
    for outside in (f"ends {start}", f"is at {start}", f"starts {end}"):
        assert outside not in shown
    await actor.assert_equal(calendar)

    await sync(actor, calendar)
    await sync(actor, calendar, full=True)  # of a window that begins a little later
    told = Counter((entry["id"], entry["change"]) for entry in actor.entries())
    assert set(told.values()) == {1}
    assert {change for _, change in told} == {"created"}
    await actor.assert_equal(calendar)


@BOTH
async def test_hazard_58_edges_of_the_window_in_an_increment(actor: Actor) -> None:
    """What only touches the window is outside, without length or with; a touch of any of them announces nothing."""
    await actor.subscribe()
    calendar = await actor.connected()
    start, end = await actor.window(calendar)
    second, noon = timedelta(seconds=1), start + 10 * DAY
    inside = {"first second": (start - HOUR, start + second), "last": (end - second, end + HOUR), "zero": (noon, noon)}
    outside = {"before": (start - HOUR, start), "after": (end, end + HOUR), "at": (start, start), "to": (end, end)}
    events = {
        title: actor.add_event(calendar, title, start=span[0], end=span[1])
        for title, span in (inside | outside).items()
    }
    await actor.quiesce()
    assert await names(actor, calendar) == set(inside)
    for event in events.values():
        actor.sandbox.world.touch(calendar.remote_id, event.id)
    await actor.quiesce()
    assert [entry["change"] for entry in actor.entries()] == ["created"] * len(inside)
    await actor.assert_equal(calendar)

    actor.sandbox.world.update_event(calendar.remote_id, events["before"].id, end=start + second)
    actor.sandbox.world.update_event(calendar.remote_id, events["last"].id, start=end)
    await actor.quiesce()
    told = {(entry["change"], *entry["kinds"]) for entry in actor.entries()[len(inside) :]}
    assert told == {("created",), ("deleted", "left_window")}
    await actor.assert_equal(calendar)


@BOTH
async def test_hazard_59_longer_than_the_window(actor: Actor) -> None:
    """A leave that began long before the window and ends long after: shown once, day after day, until it is deleted."""
    await actor.subscribe()
    calendar = await actor.connect()
    began, ends = actor.now() - 40 * DAY, actor.now() + 90 * DAY
    leave = actor.add_event(calendar, "Leave", start=began.date(), end=ends.date())
    await actor.quiesce()
    project = actor.add_event(calendar, "Project", start=began, end=ends)
    await actor.quiesce()
    before = await stored(actor, calendar)
    assert set(before) == {leave.id, project.id}
    for _ in range(3):
        await days_pass(actor, 9)
        await actor.assert_equal(calendar)
    assert await stored(actor, calendar) == before
    assert [entry["change"] for entry in actor.entries()] == ["created", "created"]
    for event in (leave, project):
        actor.sandbox.world.delete_event(calendar.remote_id, event.id)
        await actor.quiesce()
    assert [(entry["change"], entry["kinds"]) for entry in actor.entries()[2:]] == [("deleted", [])] * 2
    assert await actor.events(calendar) == []
