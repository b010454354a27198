"""Hazards 13 to 16: one event in two places, and one calendar under two names."""

from datetime import timedelta

import pytest

from sandbox.model import EventDraft
from tests.harness import BOTH, Actor, Connected, Json
from tests.hazards.hearing import GOOGLE, OUTLOOK, announced, days_pass, everything, run


async def two_calendars(actor: Actor) -> tuple[Connected, Connected]:
    """Two connected calendars of one account."""
    account = actor.new_account()
    other = actor.sandbox.world.add_calendar(account, "Other", "Europe/Berlin")
    return await actor.connected(account), await actor.connected(account, platform_uuid=other.id)


def entries_of(actor: Actor, calendar: Connected) -> list[tuple[str, str]]:
    """What was announced for one calendar: the change and the event's id."""
    messages = [m.body["data"] for m in actor.messages() if m.body["calendar_id"] == calendar.id]
    return [(entry["change"], entry["id"]) for data in messages for entry in data["events"]]


async def moved_between(actor: Actor, first: str) -> None:
    """An event moves and both calendars are synced, in this order: deleted here, created there, whichever is first."""
    await actor.subscribe()
    source, destination = await two_calendars(actor)
    event = actor.add_event(source, "Moves")
    actor.add_event(source, "Stays")
    await actor.quiesce()
    (before,) = [e for e in await actor.events(source) if e["name"] == "Moves"]
    actor.sandbox.push.mode = "drop"
    actor.sandbox.world.move_event(source.remote_id, event.id, destination.remote_id)

    order = [source, destination] if first == "source" else [destination, source]
    for calendar in order:
        assert await run(actor, calendar) == "synced"
        await actor.assert_equal(calendar)
    await actor.quiesce()
    (after,) = await actor.events(destination)
    assert (after["platform_uuid"], after["name"]) == (event.id, "Moves")
    assert after["id"] != before["id"]
    assert entries_of(actor, source)[2:] == [("deleted", before["id"])]
    assert entries_of(actor, destination) == [("created", after["id"])]
    assert {e["platform_uuid"]: e["is_deleted"] for e in await everything(actor, source)}[event.id] is True

    heard = len(actor.messages())
    await days_pass(actor)  # both list their window once more
    assert len(actor.messages()) == heard
    for calendar in order:
        await actor.assert_equal(calendar)


ORDERS = pytest.mark.parametrize("first", ["source", "destination"])


@GOOGLE
@ORDERS
async def test_hazard_13_event_moved_to_another_calendar_google(actor: Actor, first: str) -> None:
    """A tombstone here, the same id there: a row belongs to its calendar."""
    await moved_between(actor, first)


@OUTLOOK
@ORDERS
async def test_hazard_14_event_moved_to_another_calendar_graph(actor: Actor, first: str) -> None:
    """An immutable id is the same there: the late deletion here leaves the row there alone."""
    await moved_between(actor, first)


@BOTH
async def test_hazard_15_same_meeting_on_two_calendars(actor: Actor) -> None:
    """Organiser and guest have a row each, with one iCalendar uid; so have all occurrences of a series."""
    await actor.subscribe()
    organiser, guest = await actor.connected(), await actor.connected()
    start = actor.now() + timedelta(days=2)
    common = {"start": start, "end": start + timedelta(hours=1), "ical_uid": "meeting@example.com"}
    world = actor.sandbox.world
    for calendar in (organiser, guest):  # Google gives both the same event id as well
        draft = EventDraft(title="Meeting", **common)  # type: ignore[arg-type]
        event_id = "meeting0same0id" if actor.platform == "google" else None
        world.create_event(calendar.remote_id, draft, event_id=event_id)
    actor.add_event(organiser, "Series", recurrence=("RRULE:FREQ=DAILY;COUNT=3",))
    await actor.quiesce()
    assert announced(actor) == [("created", [])] * 5
    found = await listed(actor, ical_uid="meeting@example.com")
    assert {e["calendar_id"] for e in found} == {organiser.id, guest.id}
    assert len({e["id"] for e in found}) == 2
    series = [e["ical_uid"] for e in await actor.events(organiser) if e["name"] == "Series"]
    assert (len(series), len(set(series))) == (3, 1)

    (of_guest,) = await actor.events(guest)
    world.delete_event(guest.remote_id, of_guest["platform_uuid"])
    await actor.quiesce()
    assert entries_of(actor, guest)[1:] == [("deleted", of_guest["id"])]
    assert len(entries_of(actor, organiser)) == 4
    for calendar in (organiser, guest):
        await actor.assert_equal(calendar)


async def listed(actor: Actor, **filters: str) -> list[Json]:
    """Live events of any calendar."""
    answer = await actor.call("GET", "/calendar_events", params={"is_deleted": "false", **filters})
    found: list[Json] = answer["results"]
    return found


@BOTH
async def test_hazard_16_primary_and_its_id_are_one_calendar(actor: Actor) -> None:
    """Each connection keeps its own rows and messages; at the provider it is one calendar, with one push channel."""
    await actor.subscribe()
    account = actor.new_account()
    names = [None, account.calendar_id, *(["primary"] if actor.platform == "google" else [])]
    connections = [await actor.connected(account, platform_uuid=name) for name in names]
    async with actor.rt.db.reading() as tx:
        canonical = await tx.rows("SELECT DISTINCT remote_calendar_id, channel_key FROM calendars")
    assert [row.remote_calendar_id for row in canonical] == [account.calendar_id]
    (channel,) = actor.live()
    assert channel.calendar_id == account.calendar_id

    first = connections[0]
    event = actor.add_event(Connected(first.id, account, account.calendar_id))
    await actor.quiesce()
    for calendar in connections:
        (shown,) = await actor.events(calendar)
        assert shown["platform_uuid"] == event.id
        assert entries_of(actor, calendar) == [("created", shown["id"])]
    actor.sandbox.world.delete_event(account.calendar_id, event.id)
    await actor.quiesce()
    assert [await actor.events(calendar) for calendar in connections] == [[]] * len(connections)
    assert len(announced(actor)) == 2 * len(connections)
