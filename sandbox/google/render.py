"""Neutral values as Google's JSON: recorded key order, defaults and empty fields omitted, times as Google writes them.

`created` ends in .000Z, `updated` has milliseconds; an event's etag is twice its update time in microseconds; start and
end are shown with the calendar's offset while `timeZone` names the event's own zone (Calendar API, "Events" reference).
"""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sandbox.model import Attendee, Calendar, Conference, Event, Instance, Moment, Person

Json = dict[str, Any]

_SOLUTIONS = {
    "meet": ("hangoutsMeet", "Google Meet"),
    "zoom": ("addOn", "Zoom Meeting"),
    "teams": ("addOn", "Microsoft Teams"),
}


def etag(moment: datetime, *, factor: int = 2) -> str:
    """Quoted microseconds times `factor` (2 for events, 1 for calendars), as recorded."""
    return f'"{factor * int(moment.timestamp() * 1_000_000)}"'


def millis(moment: datetime) -> str:
    """2026-03-12T07:26:49.146Z"""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def seconds(moment: datetime) -> str:
    """2026-03-12T07:26:49.000Z"""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.000Z"


def item(shown: Instance, calendar: Calendar, viewer: str, *, recurrence: tuple[str, ...] = ()) -> Json:
    """One entry of a listing, for one viewer."""
    role = calendar.acl.get(viewer, "reader")
    is_hidden = role == "freeBusyReader" or (
        role in {"reader", "writerWithoutPrivateAccess"} and shown.visibility in {"private", "confidential"}
    )
    zone = ZoneInfo(calendar.time_zone)
    body: Json = {
        "kind": "calendar#event",
        "etag": etag(shown.updated),
        "id": shown.event_id,
        "status": shown.status,
        "htmlLink": f"https://www.google.com/calendar/event?eid={shown.event_id}",
        "created": seconds(shown.created),
        "updated": millis(shown.updated),
    }
    if not is_hidden:
        _put(body, "summary", shown.title)
        _put(body, "description", shown.description)
        _put(body, "location", shown.location)
        _put(body, "creator", _person(shown.creator, calendar))
    _put(body, "organizer", _person(shown.organizer, calendar))
    body["start"] = _moment(shown.start, zone, shown.time_zone)
    body["end"] = _moment(shown.end, zone, shown.time_zone)
    if recurrence:
        body["recurrence"] = list(recurrence)
    if shown.series_id is not None and shown.original_start is not None:
        body["recurringEventId"] = shown.series_id
        body["originalStartTime"] = _moment(shown.original_start, zone, shown.time_zone)
    if shown.transparency != "opaque":
        body["transparency"] = shown.transparency
    if is_hidden or shown.visibility != "default":
        body["visibility"] = "private" if is_hidden else shown.visibility
    body["iCalUID"] = shown.ical_uid
    body["sequence"] = shown.sequence
    if not is_hidden:
        if shown.attendees:
            body["attendees"] = [_attendee(a, calendar, shown.organizer) for a in shown.attendees]
        if shown.conference is not None:
            body |= _conference(shown.conference, shown.event_id)
    body["reminders"] = {"useDefault": True}
    body["eventType"] = shown.event_type
    body |= shown.raw_extra
    for name in shown.raw_omit:
        body.pop(name, None)
    return body


def master(event: Event, shown: Instance, calendar: Calendar, viewer: str) -> Json:
    """A series as singleEvents=false shows it."""
    return item(shown, calendar, viewer, recurrence=event.recurrence)


def tombstone(event_id: str, updated: datetime) -> Json:
    """What is left of a deleted event: its id."""
    return {"kind": "calendar#event", "etag": etag(updated), "id": event_id, "status": "cancelled"}


def cancelled_occurrence(shown: Instance, calendar: Calendar) -> Json:
    """A cancelled exception of a series that lives on."""
    body = tombstone(shown.event_id, shown.updated)
    if shown.series_id is not None and shown.original_start is not None:
        body["recurringEventId"] = shown.series_id
        body["originalStartTime"] = _moment(shown.original_start, ZoneInfo(calendar.time_zone), shown.time_zone)
    return body


def list_entry(calendar: Calendar, viewer: str) -> Json:
    """An entry of the calendar list."""
    body: Json = {
        "kind": "calendar#calendarListEntry",
        "etag": etag(calendar.updated, factor=1),
        "id": calendar.id,
        "summary": calendar.summary,
        "timeZone": calendar.time_zone,
        "colorId": "14",
        "backgroundColor": "#9fe1e7",
        "foregroundColor": "#000000",
        "selected": True,
        "accessRole": calendar.acl.get(viewer, "reader"),
        "defaultReminders": [],
    }
    if calendar.kind == "primary" and calendar.owner == viewer:
        body["primary"] = True
    body["conferenceProperties"] = {"allowedConferenceSolutionTypes": ["hangoutsMeet"]}
    return body


def calendar_resource(calendar: Calendar) -> Json:
    """calendars.get"""
    return {
        "kind": "calendar#calendar",
        "etag": etag(calendar.updated, factor=1),
        "id": calendar.id,
        "summary": calendar.summary,
        "timeZone": calendar.time_zone,
        "conferenceProperties": {"allowedConferenceSolutionTypes": ["hangoutsMeet"]},
    }


def _put(body: Json, name: str, value: object) -> None:
    if value is not None and value != "":
        body[name] = value


def _moment(moment: Moment, zone: ZoneInfo, event_zone: str | None) -> Json:
    if isinstance(moment, datetime):
        text = moment.astimezone(zone).isoformat(timespec="seconds").replace("+00:00", "Z")
        return {"dateTime": text, "timeZone": event_zone or zone.key}
    return {"date": moment.isoformat()}


def _person(person: Person | None, calendar: Calendar) -> Json | None:
    if person is None:
        return None
    body: Json = {"email": person.email}
    _put(body, "displayName", person.name)
    if _is_self(person.email, calendar):
        body["self"] = True
    return body


def _is_self(email: str, calendar: Calendar) -> bool:
    return email == (calendar.owner if calendar.kind == "primary" else calendar.id)


def _attendee(attendee: Attendee, calendar: Calendar, organizer: Person | None) -> Json:
    body: Json = {"email": attendee.email}
    _put(body, "displayName", attendee.name)
    if attendee.organizer or (organizer is not None and organizer.email == attendee.email):
        body["organizer"] = True
    if _is_self(attendee.email, calendar):
        body["self"] = True
    if attendee.resource:
        body["resource"] = True
    if attendee.optional:
        body["optional"] = True
    body["responseStatus"] = attendee.response
    return body


def _conference(conference: Conference, event_id: str) -> Json:
    kind, name = _SOLUTIONS[conference.kind]
    solution = {"key": {"type": kind}, "name": name, "iconUri": "https://fonts.gstatic.com/s/i/video.svg"}
    request = {"requestId": f"{event_id}-1", "conferenceSolutionKey": {"type": kind}}
    if conference.pending:
        return {"conferenceData": {"createRequest": {**request, "status": {"statusCode": "pending"}}}}
    label = conference.url.removeprefix("https://")
    entry = {"entryPointType": "video", "uri": conference.url, "label": label}
    data: Json = {
        "entryPoints": [entry],
        "conferenceSolution": solution,
        "conferenceId": label.rpartition("/")[2].partition("?")[0],
    }
    if conference.kind != "meet":
        return {"conferenceData": data}
    data = {"createRequest": {**request, "status": {"statusCode": "success"}}, **data}
    return {"hangoutLink": conference.url, "conferenceData": data}
