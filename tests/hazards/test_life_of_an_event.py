"""Hazards 60 to 63: a link that comes later, a meeting called off, a guest who declines, an event from the trash."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from sandbox.model import Attendee, Conference, Person
from tests.harness import BOTH, Actor, Connected

OUTLOOK = pytest.mark.parametrize("platform", ["microsoft"])
WEEKLY = ("RRULE:FREQ=WEEKLY",)


def announced(actor: Actor, *, since: int = 0) -> list[tuple[str, list[str]]]:
    """Changes with their kinds, after the first `since` entries."""
    return [(entry["change"], entry["kinds"]) for entry in actor.entries()[since:]]


async def ids(actor: Actor, calendar: Connected) -> dict[str, str]:
    """Of each live event the provider's id, and ours."""
    return {event["platform_uuid"]: event["id"] for event in await actor.events(calendar)}


@BOTH
async def test_hazard_60_link_comes_later(actor: Actor) -> None:
    """While the conference is being made there is no link; then the event is updated, with the link."""
    await actor.subscribe()
    calendar = await actor.connected()
    link = Conference("meet", "https://meet.google.com/abc-defg-hij", pending=True)
    if actor.platform == "microsoft":
        link = Conference("teams", "https://teams.microsoft.com/l/meetup-join/19%3ameeting_x%40thread.v2/0", True)
    event = actor.add_event(calendar, conference=link)
    await actor.quiesce()
    (shown,) = await actor.events(calendar)
    assert (shown["meeting_url"], shown["meeting_platform"]) == (None, None)
    assert await actor.events(calendar, has_meeting_url="true") == []

    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=replace(link, pending=False))
    await actor.quiesce()
    (found,) = await actor.events(calendar, has_meeting_url="true")
    assert (found["id"], found["meeting_url"]) == (shown["id"], link.url)
    assert found["meeting_platform"] == ("google_meet" if actor.platform == "google" else "microsoft_teams")
    assert announced(actor) == [("created", []), ("updated", ["link_changed"])]
    assert actor.entries()[1]["fields"]["meeting_url"] == {"from": None, "to": link.url}
    await actor.assert_equal(calendar)


@OUTLOOK
async def test_hazard_61_called_off_and_still_there(actor: Actor) -> None:
    """A meeting that its organiser cancelled says so and stays; only its own deletion deletes it."""
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar)
    await actor.quiesce()
    (before,) = await actor.events(calendar)
    actor.sandbox.world.update_event(calendar.remote_id, event.id, called_off=True)
    await actor.quiesce()
    (shown,) = await actor.events(calendar)
    assert (shown["id"], shown["status"], shown["is_deleted"]) == (before["id"], "cancelled", False)
    assert "cancelled" in announced(actor)[-1][1]
    assert actor.entries()[-1]["fields"]["status"] == {"from": "confirmed", "to": "cancelled"}
    await actor.call("POST", f"/calendars/{calendar.id}/sync", json={"full": True}, expect=202)
    await actor.quiesce()
    await actor.assert_equal(calendar)

    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    await actor.quiesce()
    assert [change for change, _ in announced(actor)] == ["created", "updated", "deleted"]
    assert await actor.events(calendar) == []


@BOTH
async def test_hazard_62_guest_declines(actor: Actor) -> None:
    """A declined event stays as long as the provider shows it; once it vanishes there it is deleted."""
    await actor.subscribe()
    calendar = await actor.connected()
    me, boss = calendar.account.email, Person("boss@example.com", "Boss")

    def answered(response: str) -> dict[str, Any]:
        return {"attendees": (Attendee(me, "Me", response), Attendee("third@example.com", "Third", "accepted"))}

    event = actor.add_event(calendar, organizer=boss, **answered("accepted"))
    await actor.quiesce()
    actor.sandbox.world.update_event(calendar.remote_id, event.id, **answered("declined"))
    await actor.quiesce()
    (shown,) = await actor.events(calendar)
    assert (shown["own_response_status"], shown["status"], shown["is_deleted"]) == ("declined", "confirmed", False)
    assert len(shown["attendees"]) == 2
    entry = actor.entries()[-1]
    assert (entry["change"], entry["kinds"]) == ("updated", ["responses_changed"])
    assert entry["fields"]["own_response_status"] == {"from": "accepted", "to": "declined"}
    await actor.assert_equal(calendar)

    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    await actor.quiesce()
    assert await actor.events(calendar) == []
    assert announced(actor) == [("created", []), ("updated", ["responses_changed"]), ("deleted", [])]


@BOTH
async def test_hazard_63_undeleted(actor: Actor) -> None:
    """An event that comes back from the trash is created again, as restored, with the same id; as often as it does."""
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar)
    await actor.quiesce()
    before = await ids(actor, calendar)
    for _ in range(2):
        actor.sandbox.world.delete_event(calendar.remote_id, event.id)
        await actor.quiesce()
        assert await actor.events(calendar) == []
        actor.sandbox.world.restore_event(calendar.remote_id, event.id)
        await actor.quiesce()
        assert await ids(actor, calendar) == before
        await actor.assert_equal(calendar)
    again = [("deleted", []), ("created", ["restored"])]
    assert announced(actor) == [("created", []), *again, *again]


@BOTH
async def test_hazard_63_undeleted_between_two_syncs(actor: Actor) -> None:
    """Nobody saw it gone, so nothing is announced."""
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar)
    await actor.quiesce()
    actor.sandbox.push.mode = "drop"
    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    actor.sandbox.world.restore_event(calendar.remote_id, event.id)
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()
    await actor.assert_equal(calendar)
    assert announced(actor) == [("created", [])]


@BOTH
async def test_hazard_63_series_and_occurrence_undeleted(actor: Actor) -> None:
    """Each occurrence has its own id back, whether it was deleted alone or with all of its series."""
    await actor.subscribe()
    calendar = await actor.connected()
    series = actor.add_event(calendar, "Weekly", hours=2, recurrence=WEEKLY)
    await actor.quiesce()
    before = await ids(actor, calendar)
    heard = len(before)
    actor.sandbox.world.delete_event(calendar.remote_id, series.id)
    await actor.quiesce()
    assert await actor.events(calendar) == []
    actor.sandbox.world.restore_event(calendar.remote_id, series.id)
    await actor.quiesce()
    assert await ids(actor, calendar) == before
    assert announced(actor, since=heard) == [("deleted", [])] * heard + [("created", ["restored"])] * heard

    heard = len(actor.entries())
    second = sorted(e["original_start_time"] for e in await actor.events(calendar))[1]
    original = datetime.fromisoformat(second)
    actor.sandbox.world.cancel_instance(calendar.remote_id, series.id, original)
    await actor.quiesce()
    assert len(await actor.events(calendar)) == len(before) - 1
    actor.sandbox.world.update_instance(calendar.remote_id, series.id, original)
    await actor.quiesce()
    assert await ids(actor, calendar) == before
    assert announced(actor, since=heard) == [("deleted", []), ("created", ["restored"])]
    await actor.assert_equal(calendar)
