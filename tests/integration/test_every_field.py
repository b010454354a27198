"""Every field of an event as each provider has it, and what readers with fewer rights are shown: less, never more."""

from datetime import date, timedelta
from typing import Any

from sandbox.model import Attendee, Conference, Event, Person, Role
from tests.harness import BOTH, Actor, Connected

_MEETING = {
    "google": "https://meet.google.com/abc-defg-hij",
    "microsoft": "https://teams.microsoft.com/l/meetup-join/1",
}
_SECRETS = ("Salaries", "everybody's", "Room 9", "boss@example.com", "sip@example.com", "abc-defg-hij", "meetup-join")
"""What stands in the details of the event below."""


def _whole(actor: Actor, calendar: Connected) -> Event:
    """An event with something in every field."""
    own = calendar.account.email
    guests = (
        Attendee(own, "Me", "accepted"),
        Attendee("boss@example.com", "Boss", "declined", optional=True),
        Attendee("sip@example.com", None, "tentative"),
        Attendee("nine@example.com", "Room 9", "needsAction", resource=True),
    )
    is_google = actor.platform == "google"
    shows: dict[str, Any] = {"show_as": "oof"}
    if is_google:
        shows = {"event_type": "focusTime", "transparency": "transparent"}
    return actor.add_event(
        calendar,
        "Salaries",
        description="everybody's",
        location="Room 9",
        time_zone="Asia/Tokyo",
        organizer=Person(own, "Me"),
        creator=Person("boss@example.com", "Boss"),
        attendees=guests,
        conference=Conference("meet" if is_google else "teams", _MEETING[actor.platform]),
        visibility="private",
        **shows,
    )


def _guest(email: str, name: str | None, response: str, **more: bool) -> dict[str, Any]:
    flags = {"optional": False, "organizer": False, "self": False, "resource": False} | more
    return {"email": email, "name": name, "response_status": response} | flags


@BOTH
async def test_an_event_shows_every_field(actor: Actor) -> None:
    calendar = await actor.connect()
    made, own = _whole(actor, calendar), calendar.account.email
    await actor.quiesce()
    [shown] = await actor.events(calendar)
    assert isinstance(made.start, type(made.end))
    is_google, url = actor.platform == "google", _MEETING[actor.platform]
    starts, ends = (f"{moment:%Y-%m-%dT%H:%M:%S}.000000Z" for moment in (made.start, made.end))
    raw, stamps = shown["raw"], (shown["created_at"], shown["updated_at"])
    assert stamps[0] == stamps[1]
    assert (raw["iCalUID"] if is_google else raw["uid"]) == made.ical_uid
    candidates = shown["meeting_candidates"]
    assert {(one["url"], one["platform"]) for one in candidates} == {(url, shown["meeting_platform"])}
    assert candidates[0]["source"] == ("conference_data" if is_google else "online_meeting")
    assert shown == {
        "id": shown["id"],
        "calendar_id": calendar.id,
        "platform_uuid": raw["id"],
        "ical_uid": made.ical_uid,
        "name": "Salaries",
        "description": "everybody's",
        "location": "Room 9",
        "start_time": starts,
        "end_time": ends,
        "is_all_day": False,
        "start_date": None,
        "end_date": None,
        "time_zone": "Asia/Tokyo",
        "status": "confirmed",
        "is_deleted": False,
        "visibility": "private",
        "transparency": "transparent" if is_google else "opaque",
        "event_type": "focusTime" if is_google else "outOfOffice",
        "organizer": {"email": own, "name": "Me", "self": True},
        "creator": {"email": "boss@example.com", "name": "Boss", "self": False} if is_google else None,
        "attendees": [
            _guest(own, "Me", "accepted", organizer=True, self=True),
            _guest("boss@example.com", "Boss", "declined", optional=True),
            _guest("sip@example.com", None if is_google else "sip@example.com", "tentative"),
            _guest("nine@example.com", "Room 9", "needs_action", resource=True),
        ],
        "own_response_status": "accepted",
        "series_id": None,
        "original_start_time": None,
        "is_exception": False,
        "meeting_url": url,
        "meeting_platform": "google_meet" if is_google else "microsoft_teams",
        "meeting_candidates": candidates,
        "meeting_choice": "only",
        "html_link": raw["htmlLink" if is_google else "webLink"],
        "change_seq": 1,
        "bot_override": None,
        "raw": raw,
        "is_raw_truncated": False,
        "bots": [],
        "created_at": stamps[0],
        "updated_at": stamps[1],
    }
    document = (await actor.api.get("/openapi.json")).json()
    assert set(shown) == set(document["components"]["schemas"]["CalendarEvent"]["properties"])


@BOTH
async def test_series_days_and_what_is_too_long(actor: Actor) -> None:
    calendar = await actor.connect()
    weekly = actor.add_event(calendar, "Weekly", recurrence=("RRULE:FREQ=WEEKLY;COUNT=3",))
    day = (actor.now() + timedelta(days=3)).date()
    actor.sandbox.world.update_instance(
        calendar.remote_id,
        weekly.id,
        weekly.start,
        title="Moved",
        start=weekly.start + timedelta(hours=2),
        end=weekly.end + timedelta(hours=2),
    )
    actor.add_event(calendar, "Holiday", start=day, end=day + timedelta(days=2))
    actor.add_event(calendar, "Long", hours=50, raw_extra={"categories": ["y" * 65_536]})
    actor.add_event(calendar, "Perhaps", hours=51, status="tentative")
    if actor.platform == "microsoft":
        actor.add_event(calendar, "Off", hours=52, called_off=True)
    await actor.quiesce()
    found = {event["name"]: event for event in await actor.events(calendar, ordering="-start_time")}
    moved, later = found["Moved"], found["Weekly"]
    assert isinstance(weekly.start, type(weekly.end))
    by_rule = f"{weekly.start:%Y-%m-%dT%H:%M:%S}.000000Z"
    assert (moved["is_exception"], moved["original_start_time"]) == (True, by_rule)
    assert moved["start_time"] > by_rule
    assert (later["is_exception"], later["original_start_time"]) == (False, later["start_time"])
    assert moved["series_id"] == later["series_id"] is not None
    assert moved["ical_uid"] == later["ical_uid"] == weekly.ical_uid
    holiday, too_long = found["Holiday"], found["Long"]
    assert (holiday["is_all_day"], holiday["start_date"]) == (True, day.isoformat())
    assert holiday["end_date"] == (day + timedelta(days=2)).isoformat()
    assert date.fromisoformat(holiday["start_time"][:10]) == day - timedelta(days=1)  # Berlin is ahead of UTC
    assert (too_long["raw"], too_long["is_raw_truncated"]) == (None, True)
    assert (found["Perhaps"]["status"], moved["status"]) == ("tentative", "confirmed")
    if actor.platform == "microsoft":
        assert (found["Off"]["status"], found["Off"]["is_deleted"]) == ("cancelled", False)


@BOTH
async def test_readers_are_shown_less(actor: Actor) -> None:
    """Who may read no private details, and who may see no more than when: by fields, by `raw` and by filters."""
    owner = await actor.connect()
    made = _whole(actor, owner)
    roles: tuple[Role, ...] = ("reader", "freeBusyReader")
    for role in roles:
        viewer = actor.new_account()
        actor.sandbox.world.share(owner.remote_id, viewer.email, role)
        calendar = await actor.connected(viewer, platform_uuid=owner.remote_id)
        [shown] = await actor.events(calendar)
        assert not [secret for secret in _SECRETS if secret in str(shown)], role
        assert shown["name"] in {None, "Busy", "Private Appointment"}
        assert (shown["attendees"], shown["description"], shown["location"]) == ([], None, None)
        assert (shown["meeting_url"], shown["meeting_candidates"], shown["creator"]) == (None, [], None)
        assert shown["own_response_status"] is None
        assert shown["visibility"] == "private"
        assert shown["end_time"] == f"{made.end:%Y-%m-%dT%H:%M:%S}.000000Z"
        assert await actor.events(calendar, attendee_email="boss@example.com") == []
        assert len(await actor.events(owner, attendee_email="boss@example.com")) == 1
