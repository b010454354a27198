"""Hazards 51 to 54: calendars that are taken away, come back, or show less than before."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from sandbox.model import Account, Attendee, Calendar, Event, Person
from tests.harness import BOTH, Actor, Connected
from tests.integration.test_channels import tick
from tests.integration.test_failures import pass_time


def told(actor: Actor, calendar: Connected) -> list[tuple[str, list[str]]]:
    """What was announced of a calendar's events: changes and their kinds, in order."""
    messages = [m for m in actor.messages() if m.body["calendar_id"] == calendar.id]
    return [(entry["change"], entry["kinds"]) for message in messages for entry in message.body["data"]["events"]]


def states_told(actor: Actor) -> list[tuple[str, str]]:
    """Which calendar changed to which state, as announced."""
    return [(m.body["calendar_id"], m.body["data"]["state"]) for m in actor.messages("calendar.state_change")]


def shared_with_reader(actor: Actor) -> tuple[Calendar, Account]:
    """Somebody's second calendar, and the account of a colleague who may read it."""
    owner, reader = actor.new_account(), actor.new_account()
    calendar = actor.sandbox.world.add_calendar(owner, "Team", "Europe/Berlin")
    actor.sandbox.world.share(calendar.id, reader.email, "reader")
    return calendar, reader


# --- 51: taken away ---


@BOTH
@pytest.mark.parametrize("end", ["deleted", "un-shared"])
async def test_hazard_51_calendar_deleted_or_unshared(actor: Actor, redis_url: str, end: str) -> None:
    """Believed when it was said twice, a minute apart; its events stay as they were, and the account's others go on."""
    await actor.subscribe()
    team, reader = shared_with_reader(actor)
    calendar = await actor.connected(reader, platform_uuid=team.id)
    other = await actor.connected(reader)
    for one in (calendar, other):
        actor.add_event(one)
    await actor.quiesce()
    before = await actor.events(calendar)
    if end == "deleted":
        actor.sandbox.world.delete_calendar(team.id)
    else:
        actor.sandbox.world.share(team.id, reader.email, None)
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()
    assert (await actor.calendar(calendar))["state"] == "connected"
    assert states_told(actor) == []

    await pass_time(actor, redis_url, seconds=61)
    shown = await actor.calendar(calendar)
    assert shown["state"] == "disconnected"
    assert shown["connection_failure_data"]["code"] in {"calendar_gone", "access_lost"}
    assert states_told(actor) == [(calendar.id, "disconnected")]
    assert await actor.events(calendar) == before
    assert told(actor, calendar) == [("created", [])]
    assert {channel.calendar_id for channel in actor.live()} == {other.remote_id}

    actor.add_event(other, "Goes on", hours=30)
    await actor.quiesce()
    assert (await actor.calendar(other))["state"] == "connected"
    await actor.assert_equal(other)
    assert told(actor, other) == [("created", []), ("created", [])]


@BOTH
@pytest.mark.parametrize("kind", ["not_found", "forbidden"])
async def test_hazard_51_one_404_is_nothing(actor: Actor, redis_url: str, kind: str) -> None:
    """Said once and not again a minute later: nothing was announced, and the change has arrived."""
    await actor.subscribe()
    calendar = await actor.connected()
    (channel,) = actor.live()
    actor.sandbox.faults.add(kind, actor.operation("changes"))
    actor.add_event(calendar)
    await actor.quiesce()
    await pass_time(actor, redis_url, seconds=61)
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["health"]["status"]) == ("connected", "healthy")
    assert [one.id for one in actor.live()] == [channel.id]
    await actor.assert_equal(calendar)
    assert (told(actor, calendar), states_told(actor)) == ([("created", [])], [])


# --- 52: away and back ---


@BOTH
@pytest.mark.parametrize("is_forgotten", [False, True], ids=["cursor still good", "cursor forgotten"])
async def test_hazard_52_disconnected_then_reconnected(actor: Actor, is_forgotten: bool) -> None:
    """Rows stay as they were; afterwards exactly what changed meanwhile is told, with the same ids, and pushes come."""
    await actor.subscribe()
    calendar, world = await actor.connected(), actor.sandbox.world
    events = {name: actor.add_event(calendar, name, hours=24 + i) for i, name in enumerate(("same", "new", "gone"))}
    series = actor.add_event(calendar, "Series", hours=48, recurrence=("RRULE:FREQ=DAILY;COUNT=3",))
    await actor.quiesce()
    before = {event["platform_uuid"]: event for event in await actor.events(calendar)}
    heard = len(told(actor, calendar))
    world.revoke(calendar.account)
    actor.advance(timedelta(hours=2))
    await tick_until_disconnected(actor, calendar)

    world.update_event(calendar.remote_id, events["new"].id, title="newer")
    world.delete_event(calendar.remote_id, events["gone"].id)
    actor.add_event(calendar, "Meanwhile", hours=72)
    if is_forgotten:
        world.expire_sync_tokens(calendar.remote_id)
    await actor.quiesce()
    assert {event["platform_uuid"]: event for event in await actor.events(calendar)} == before
    assert len(told(actor, calendar)) == heard

    asked = len(actor.sandbox.requests.seen)
    token = world.issue_refresh_token(calendar.account)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": token})
    await actor.quiesce()
    listing = {"google": ("events.list", "timeMin="), "microsoft": ("graph.calendarView", "startDateTime=")}
    operation, bound = listing[actor.platform]
    assert any(s.operation == operation and bound in s.query for s in actor.sandbox.requests.seen[asked:])
    await actor.assert_equal(calendar)
    assert states_told(actor) == [(calendar.id, "disconnected"), (calendar.id, "connected")]
    assert sorted(told(actor, calendar)[heard:]) == [("created", []), ("deleted", []), ("updated", ["renamed"])]
    after = {event["platform_uuid"]: event for event in await actor.events(calendar)}
    assert {after[key]["id"] for key in before.keys() & after.keys()} == {
        before[key]["id"] for key in before if key != events["gone"].id
    }
    untouched = [key for key in before if key == events["same"].id or before[key]["series_id"] == series.id]
    assert len(untouched) == 4
    assert [after[key] for key in untouched] == [before[key] for key in untouched]

    actor.add_event(calendar, "Heard again", hours=73)
    await actor.quiesce()
    await actor.assert_equal(calendar)


async def tick_until_disconnected(actor: Actor, calendar: Connected) -> None:
    """The next sync learns that the grant is revoked."""
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()
    assert (await actor.calendar(calendar))["state"] == "disconnected"


# --- 53, 54: shows less than before ---

SECRET = "Takeover of Initech"
WHO = "banker@initech.example"
HIDDEN_NAME: dict[str, set[str | None]] = {"google": {None}, "microsoft": {"Busy", "Private Appointment"}}


async def secret_event(actor: Actor) -> tuple[Connected, Event]:
    """A reader of a shared calendar that holds an event with details."""
    await actor.subscribe()
    team, reader = shared_with_reader(actor)
    calendar = await actor.connected(reader, platform_uuid=team.id)
    event = actor.add_event(
        calendar,
        SECRET,
        description=f"{SECRET}: https://zoom.us/j/123456789",
        location=f"{SECRET} room",
        attendees=(Attendee(WHO),),
    )
    await actor.quiesce()
    (shown,) = await actor.events(calendar)
    assert SECRET in json.dumps(shown)
    return calendar, event


async def shows_no_details(actor: Actor, calendar: Connected, event: Event) -> None:
    """The same event at the same time; nothing of its details is left in the API, not even in `raw`."""
    (shown,) = await actor.events(calendar)
    assert shown["platform_uuid"] == event.id
    assert shown["name"] in HIDDEN_NAME[actor.platform]
    assert (shown["description"], shown["location"], shown["attendees"]) == (None, None, [])
    assert (shown["meeting_url"], shown["meeting_candidates"]) == (None, [])
    assert SECRET not in json.dumps(shown)
    assert WHO not in json.dumps(shown)
    assert shown["start_time"] == f"{event.start:%Y-%m-%dT%H:%M:%S}.000000Z"
    assert (await actor.calendar(calendar))["state"] == "connected"


@BOTH
async def test_hazard_53_access_drops_to_free_busy(actor: Actor) -> None:
    """The row is updated, not deleted; with the access the details come back."""
    calendar, event = await secret_event(actor)
    actor.sandbox.world.share(calendar.remote_id, calendar.account.email, "freeBusyReader")
    actor.advance(timedelta(hours=8))
    await tick(actor)
    await shows_no_details(actor, calendar, event)
    assert [change for change, _ in told(actor, calendar)] == ["created", "updated"]
    assert {"renamed", "relocated", "link_changed"} <= set(told(actor, calendar)[-1][1])

    actor.sandbox.world.share(calendar.remote_id, calendar.account.email, "reader")
    actor.advance(timedelta(hours=8))
    await tick(actor)
    await actor.assert_equal(calendar)
    assert [change for change, _ in told(actor, calendar)] == ["created", "updated", "updated"]


@BOTH
async def test_hazard_53_event_turned_private(actor: Actor) -> None:
    """The same for one event, told by a push."""
    calendar, event = await secret_event(actor)
    actor.sandbox.world.update_event(calendar.remote_id, event.id, visibility="private")
    await actor.quiesce()
    await shows_no_details(actor, calendar, event)
    (shown,) = await actor.events(calendar)
    assert shown["visibility"] == "private"
    assert [change for change, _ in told(actor, calendar)] == ["created", "updated"]
    assert {"renamed", "relocated", "visibility_changed"} <= set(told(actor, calendar)[-1][1])


@BOTH
async def test_hazard_54_guest_list_cut(actor: Actor) -> None:
    """The row shows who is still named, `raw` says that this is not all, and nobody is said to have been removed."""
    await actor.subscribe()
    calendar = await actor.connected()
    me, boss = Attendee(calendar.account.email, response="accepted"), Person("boss@example.com", "Boss")
    others = tuple(Attendee(f"guest{number}@example.com") for number in range(3))
    event = actor.add_event(calendar, organizer=boss, attendees=(me, *others))
    await actor.quiesce()
    await shows_guests(actor, calendar, 4)

    cut: dict[str, object] = {"hide_attendees": True}
    if actor.platform == "google":
        cut = {"attendees": (me,), "raw_extra": {"attendeesOmitted": True}}
    actor.sandbox.world.update_event(calendar.remote_id, event.id, **cut)
    await actor.quiesce()
    raw = await shows_guests(actor, calendar, 1)
    assert raw["attendeesOmitted" if actor.platform == "google" else "hideAttendees"] is True
    assert told(actor, calendar) == [("created", []), ("updated", ["details_changed"])]
    assert actor.entries()[-1]["fields"] == {"attendees": None}

    # What is said of those who are still named counts as ever.
    declined = (replace(me, response="declined"), *(others if actor.platform == "microsoft" else ()))
    actor.sandbox.world.update_event(calendar.remote_id, event.id, attendees=declined)
    await actor.quiesce()
    assert told(actor, calendar)[2:] == [("updated", ["responses_changed"])]

    # A whole list from which somebody is missing does say so.
    whole: dict[str, object] = {"attendees": (declined[0], *others), "hide_attendees": False, "raw_extra": {}}
    actor.sandbox.world.update_event(calendar.remote_id, event.id, **whole)
    await actor.quiesce()
    actor.sandbox.world.update_event(calendar.remote_id, event.id, attendees=(declined[0], *others[:2]))
    await actor.quiesce()
    await shows_guests(actor, calendar, 3)
    assert told(actor, calendar)[3:] == [("updated", ["attendees_changed"])] * 2
    await actor.assert_equal(calendar)


async def shows_guests(actor: Actor, calendar: Connected, count: int) -> dict[str, object]:
    """So many guests are shown; what the provider sent."""
    (shown,) = await actor.events(calendar)
    assert len(shown["attendees"]) == count
    return dict(shown["raw"])
