"""Graph's event JSON as the port's values: pure, fast, and never raising over what an item holds.

The same normalised event as Google's, by the same rules: an item becomes an event, a tombstone, or is parked with a
reason; no fact that Graph did not send is made up. What is Graph's own: unset values are null, texts without content
are "", a cancelled event stays and says so, the guest list does not hold the organizer, and only the account's address
tells which guest is the calendar's owner.

Source: Graph "event resource type".
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from app.meetings import NO_PREFERENCES, Preferences, find
from app.providers.base import Attendee, Item, Person, RemoteEvent, ResponseStatus, Tombstone
from app.providers.items import Unreadable, dump, identifier, is_storable, is_too_long, park, read, text
from app.providers.microsoft import times
from app.providers.microsoft.text import to_text
from app.providers.zones import midnight

_RESPONSES: Final[Mapping[str, ResponseStatus]] = {
    "none": "needs_action",
    "notResponded": "needs_action",
    "organizer": "accepted",
    "accepted": "accepted",
    "tentativelyAccepted": "tentative",
    "declined": "declined",
}
_VISIBILITY: Final = {"normal": "default", "personal": "private", "private": "private", "confidential": "confidential"}
_EVENT_TYPES: Final = {"oof": "outOfOffice", "workingElsewhere": "workingLocation"}
_LOCATIONS_MOST = 10
FIELDS: Final = (
    "id,subject,body,bodyPreview,start,end,isAllDay,isCancelled,isOrganizer,showAs,sensitivity,type,seriesMasterId,"
    "originalStart,originalStartTimeZone,originalEndTimeZone,iCalUId,uid,responseStatus,attendees,organizer,location,"
    "locations,onlineMeeting,onlineMeetingUrl,isOnlineMeeting,onlineMeetingProvider,webLink,hideAttendees,importance,"
    "categories,recurrence,createdDateTime,lastModifiedDateTime,changeKey"
)
"""What a listing is asked for."""


class Span(NamedTuple):
    """When: instants, and days where it lasts whole days."""

    start: datetime
    end: datetime
    first: date | None
    after: date | None


def kind_of(item: object) -> str | None:
    """`removed`, or the event's `type`; None where the item says neither (a sparse entry, or none at all)."""
    if not isinstance(item, dict):
        return None
    if "@removed" in item:
        return "removed"
    kind = item.get("type")
    return kind if isinstance(kind, str) else None


def map_item(
    item: object, *, time_zone: str | None, owner: str | None, preferences: Preferences = NO_PREFERENCES
) -> Item:
    """One event of a listing, or an entry of a delta round. `owner` is the account's address, in lower case."""
    if isinstance(item, dict) and isinstance(key := item.get("id"), str) and not is_storable(key):
        return park(None, "id_invalid", dump(item)[0])
    item, raw, flaw = read(item)
    if not isinstance(item, dict):
        return park(None, "not_an_object", raw)
    event_id = item.get("id")
    if not isinstance(event_id, str) or not event_id or is_too_long(event_id):
        return park(None, "id_missing" if event_id is None else "id_invalid", raw)
    if "@removed" in item:
        return Tombstone(event_id)
    if flaw is not None:
        return park(event_id, flaw, raw)
    try:
        return _event(event_id, item, raw=raw, time_zone=time_zone, owner=owner, preferences=preferences)
    except Unreadable as exc:
        return park(event_id, exc.reason, raw)


def _event(
    event_id: str,
    item: dict[str, Any],
    *,
    raw: str | None,
    time_zone: str | None,
    owner: str | None,
    preferences: Preferences,
) -> RemoteEvent:
    if item.get("type") == "seriesMaster":
        raise Unreadable("series_master")  # its times are not an occurrence's
    zone = times.zone_named(item.get("originalStartTimeZone")) or time_zone
    span = _span(item, zone or "UTC")
    series_id = identifier(item, "seriesMasterId") or None
    organizer, is_own = _person(item.get("organizer")), item.get("isOrganizer") is True
    attendees = _attendees(item.get("attendees"), organizer=organizer, owner=owner)
    name, location, body = _filled(item, "subject"), _location(item), _body(item)
    texts = (("location", location), *_more_locations(item), ("description", body), ("name", name))
    meeting = find(structured=_meeting_links(item), texts=texts, preferences=preferences)
    return RemoteEvent(
        platform_uuid=event_id,
        ical_uid=identifier(item, "uid") or (None if series_id else identifier(item, "iCalUId")) or None,
        name=name,
        description=_description(item, body),
        location=location,
        start_time=span.start,
        end_time=span.end,
        is_all_day=span.first is not None,
        start_date=span.first,
        end_date=span.after,
        time_zone=zone,
        status="cancelled" if item.get("isCancelled") is True else _status(item.get("showAs")),
        visibility=_VISIBILITY.get(str(item.get("sensitivity")), "default"),
        transparency="transparent" if item.get("showAs") == "free" else "opaque",
        event_type=_EVENT_TYPES.get(str(item.get("showAs")), "default"),
        organizer=Person(organizer.email, organizer.name, is_own) if organizer else None,
        creator=None,
        attendees=attendees,
        own_response_status=_own_response(item.get("responseStatus"), attendees),
        series_id=series_id,
        original_start_time=_original_start(item, span) if series_id else None,
        is_exception=item.get("type") == "exception",
        meeting_url=meeting.url,
        meeting_platform=meeting.platform,
        meeting_candidates=meeting.candidates,
        meeting_choice=meeting.choice,
        html_link=_filled(item, "webLink"),
        raw=raw,
        is_guest_list_cut=item.get("hideAttendees") is True and not is_own,
    )


def _span(item: dict[str, Any], zone: str) -> Span:
    if item.get("isAllDay") is True:
        first, after = times.day(item.get("start"), "start"), times.day(item.get("end"), "end")
        span = Span(midnight(first, zone), midnight(after, zone), first, after)
    else:
        span = Span(times.instant(item.get("start"), "start"), times.instant(item.get("end"), "end"), None, None)
    if span.end < span.start:
        raise Unreadable("end_before_start")
    return span


def _original_start(item: dict[str, Any], span: Span) -> datetime | None:
    """Where it stands in its series by rule; an occurrence that was not touched stands there."""
    original = item.get("originalStart")
    if original is not None:
        return times.moment(original, "original_start")
    return span.start if item.get("type") == "occurrence" else None


def _filled(fields: dict[str, Any], key: str) -> str | None:
    return text(fields, key) or None


def _status(show_as: object) -> Any:
    return "tentative" if show_as == "tentative" else "confirmed"


def _location(item: dict[str, Any]) -> str | None:
    location = item.get("location")
    if location is None:
        return None
    if not isinstance(location, dict):
        raise Unreadable("field_invalid")
    return _filled(location, "displayName")


def _more_locations(item: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Texts of `locations` beside the first, and the addresses of all; what is odd about them is left out."""
    locations = item.get("locations")
    if not isinstance(locations, list):
        return []
    named = [place for place in locations[:_LOCATIONS_MOST] if isinstance(place, dict)]
    texts = [place.get("displayName") for place in named[1:]] + [place.get("locationUri") for place in named]
    return [("location", value) for value in texts if isinstance(value, str) and value]


def _body(item: dict[str, Any]) -> str | None:
    body = item.get("body")
    if body is None:
        return None
    if not isinstance(body, dict):
        raise Unreadable("field_invalid")
    return _filled(body, "content")


def _description(item: dict[str, Any], body: str | None) -> str | None:
    if body is None:
        return _filled(item, "bodyPreview")
    return (to_text(body) if item["body"].get("contentType") == "html" else body.strip()) or None


def _person(value: object) -> Person | None:
    address = _address(value)
    return Person(*address, False) if address is not None and any(address) else None


def _address(value: object) -> tuple[str | None, str | None] | None:
    """E-mail and name of a `recipient`."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Unreadable("field_invalid")
    inner = value.get("emailAddress")
    if inner is None:
        return None
    if not isinstance(inner, dict):
        raise Unreadable("field_invalid")
    return _filled(inner, "address"), _filled(inner, "name")


def _attendees(value: object, *, organizer: Person | None, owner: str | None) -> tuple[Attendee, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Unreadable("field_invalid")
    inviter = organizer.email.lower() if organizer is not None and organizer.email else None
    return tuple([_attendee(entry, inviter, owner) for entry in value])


def _attendee(value: object, inviter: str | None, owner: str | None) -> Attendee:
    email, name = _address(value) or (None, None)
    fields = value if isinstance(value, dict) else {}
    kind = fields.get("type")
    answer = _response(fields.get("status"))
    key = email.lower() if email else None
    return Attendee(
        email,
        name,
        _RESPONSES[answer],
        kind == "optional",
        answer == "organizer" or (key is not None and key == inviter),
        key is not None and key == owner,
        kind == "resource",
    )


def _response(value: object) -> str:
    """`responseStatus.response`; no answer recorded is no answer given."""
    if value is None:
        return "none"
    answer = value.get("response") if isinstance(value, dict) else value
    if answer is None:
        return "none"
    if not isinstance(answer, str) or answer not in _RESPONSES:
        raise Unreadable("field_invalid")
    return answer


def _own_response(value: object, attendees: tuple[Attendee, ...]) -> ResponseStatus | None:
    """The answer of the calendar's owner; None where nobody was invited, so nobody has to answer."""
    return _RESPONSES[_response(value)] if attendees and value is not None else None


def _meeting_links(item: dict[str, Any]) -> list[tuple[str, str]]:
    """The structured links: the online meeting's, and the older field for it."""
    links: list[tuple[str, str]] = []
    meeting = item.get("onlineMeeting")
    if meeting is not None and not isinstance(meeting, dict):
        raise Unreadable("field_invalid")
    if meeting and _filled(meeting, "joinUrl"):
        links.append(("online_meeting", meeting["joinUrl"]))
    address = _filled(item, "onlineMeetingUrl")
    if address:
        links.append(("online_meeting_url", address))
    return links
