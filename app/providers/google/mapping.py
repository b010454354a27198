"""Google's event JSON as the port's values: pure, fast, and never raising over what an item holds.

An item becomes an event, a tombstone, or is parked with a reason: no fact that Google did not send is made up, and one
odd item never costs the others. Absent fields take the defaults of the "Events" resource page, which Google leaves out
on the wire; a field of the wrong type parks the item, since reading it as absent would look like a change.

A listing does not say whether an occurrence is an exception: it counts as one when its start differs from its original
start, so one that was merely renamed does not.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from app.errors import ProviderContract
from app.meetings import NO_PREFERENCES, Preferences, find
from app.providers.base import (
    Attendee,
    ChangePage,
    EventStatus,
    Item,
    Person,
    RemoteEvent,
    ResponseStatus,
    Tombstone,
)
from app.providers.google.times import Moment, moment
from app.providers.items import Unreadable, dump, identifier, is_storable, is_too_long, park, read, text
from app.providers.zones import known_zone

_STATUSES: Final[Mapping[str, EventStatus]] = {"confirmed": "confirmed", "tentative": "tentative"}
_RESPONSES: Final[Mapping[str, ResponseStatus]] = {
    "needsAction": "needs_action",
    "declined": "declined",
    "tentative": "tentative",
    "accepted": "accepted",
}


class Page(NamedTuple):
    """One response of "Events: list"; exactly one of `next_page` and the change page's cursor is set."""

    change: ChangePage
    next_page: str | None


def map_page(page: object, *, time_zone: str | None, preferences: Preferences = NO_PREFERENCES) -> Page:
    """A response of "Events: list". `time_zone` is the calendar's as last known; the page's own goes before it.

    ProviderContract where the page itself is not as documented: no list of items, no token to go on with.
    """
    if not isinstance(page, dict):
        raise ProviderContract("a page of events is no object")
    items = page.get("items", [])
    next_page = page.get("nextPageToken")
    cursor = page.get("nextSyncToken") if next_page is None else None
    token = cursor if next_page is None else next_page
    if not isinstance(items, list) or not isinstance(token, str) or not token:
        raise ProviderContract("a page of events has no items, or no token to go on with")
    zone = known_zone(page.get("timeZone")) or known_zone(time_zone)
    name = page.get("summary")
    change = ChangePage(
        items=tuple([map_item(item, time_zone=zone, preferences=preferences) for item in items]),
        cursor=cursor,
        calendar_name=name if isinstance(name, str) and is_storable(name) else None,
        time_zone=zone,
    )
    return Page(change, next_page)


def map_item(item: object, *, time_zone: str | None, preferences: Preferences = NO_PREFERENCES) -> Item:
    """One entry of `items`. `time_zone` is the calendar's known zone: where dates begin and end (None: UTC)."""
    if isinstance(item, dict) and isinstance(key := item.get("id"), str) and not is_storable(key):
        return park(None, "id_invalid", dump(item)[0])
    item, raw, flaw = read(item)
    if not isinstance(item, dict):
        return park(None, "not_an_object", raw)
    event_id = item.get("id")
    if not isinstance(event_id, str) or not event_id or is_too_long(event_id):
        return park(None, "id_missing" if event_id is None else "id_invalid", raw)
    if item.get("status") == "cancelled":
        # The rest may be missing, and no longer counts (guide "Synchronize resources efficiently").
        return Tombstone(event_id)
    if flaw is not None:
        return park(event_id, flaw, raw)
    try:
        return _event(event_id, item, raw=raw, time_zone=time_zone, preferences=preferences)
    except Unreadable as exc:
        return park(event_id, exc.reason, raw)


def _event(
    event_id: str, item: dict[str, Any], *, raw: str | None, time_zone: str | None, preferences: Preferences
) -> RemoteEvent:
    zone = time_zone or "UTC"
    start, end = _span(item, zone)
    series_id = identifier(item, "recurringEventId")
    original = item.get("originalStartTime")
    original = None if original is None else moment(original, zone=zone, what="original_start")
    moved = original is not None and (original.at != start.at or (original.day is None) != (start.day is None))
    attendees, own_response = _attendees(item.get("attendees"))
    name, location, description = text(item, "summary"), text(item, "location"), text(item, "description")
    texts = (("location", location), ("description", description), ("name", name))
    meeting = find(structured=_conference_links(item), texts=texts, preferences=preferences)
    return RemoteEvent(
        platform_uuid=event_id,
        ical_uid=identifier(item, "iCalUID"),
        name=name,
        description=description,
        location=location,
        start_time=start.at,
        end_time=end.at,
        is_all_day=start.day is not None,
        start_date=start.day,
        end_date=end.day,
        time_zone=start.zone or time_zone,
        status=_status(item.get("status")),
        visibility=text(item, "visibility") or "default",
        transparency=text(item, "transparency") or "opaque",
        event_type=text(item, "eventType") or "default",
        organizer=_person(item.get("organizer")),
        creator=_person(item.get("creator")),
        attendees=attendees,
        own_response_status=own_response,
        series_id=series_id,
        original_start_time=original.at if original else None,
        is_exception=series_id is not None and moved,
        meeting_url=meeting.url,
        meeting_platform=meeting.platform,
        meeting_candidates=meeting.candidates,
        meeting_choice=meeting.choice,
        html_link=text(item, "htmlLink"),
        raw=raw,
        is_guest_list_cut=item.get("attendeesOmitted") is True,
    )


def _span(item: dict[str, Any], zone: str) -> tuple[Moment, Moment]:
    if item.get("recurrence") is not None:
        raise Unreadable("series_master")  # singleEvents=true never sends one; its times are not an occurrence's
    start = moment(item.get("start"), zone=zone, what="start")
    end = moment(item.get("end"), zone=zone, what="end")
    if (start.day is None) != (end.day is None):
        raise Unreadable("end_invalid")
    if end.at < start.at:
        raise Unreadable("end_before_start")
    return start, end


def _status(value: object) -> EventStatus:
    status = "confirmed" if value is None else _STATUSES.get(value) if isinstance(value, str) else None
    if status is None:
        raise Unreadable("status_unknown")
    return status


def _person(value: object) -> Person | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Unreadable("field_invalid")
    return Person(text(value, "email"), text(value, "displayName"), value.get("self") is True)


def _attendees(value: object) -> tuple[tuple[Attendee, ...], ResponseStatus | None]:
    """The guests, and the answer of the calendar's owner: None unless the owner is among them."""
    if value is None:
        return (), None
    if not isinstance(value, list):
        raise Unreadable("field_invalid")
    guests = tuple([_attendee(entry) for entry in value])
    return guests, next((guest.response_status for guest in guests if guest.self), None)


def _attendee(value: object) -> Attendee:
    if not isinstance(value, dict):
        raise Unreadable("field_invalid")
    answer = text(value, "responseStatus")
    response = "needs_action" if answer is None else _RESPONSES.get(answer)  # no answer recorded is no answer given
    if response is None:
        raise Unreadable("field_invalid")
    get = value.get
    return Attendee(
        text(value, "email"),
        text(value, "displayName"),
        response,
        get("optional") is True,
        get("organizer") is True,
        get("self") is True,
        get("resource") is True,
    )


def _conference_links(item: dict[str, Any]) -> list[tuple[str, str]]:
    """The structured links: the conference's video entry point, then the hangout link.

    While a conference is being created ("pending") it has no link that holds; it comes as another change.
    """
    links: list[tuple[str, str]] = []
    conference = item.get("conferenceData")
    if conference is not None and not isinstance(conference, dict):
        raise Unreadable("field_invalid")
    if conference and not _is_pending(conference):
        entries = conference.get("entryPoints")
        links += (
            ("conference_data", entry["uri"])
            for entry in (entries if isinstance(entries, list) else ())
            if isinstance(entry, dict) and entry.get("entryPointType") == "video" and text(entry, "uri")
        )
    hangout = text(item, "hangoutLink")
    if hangout:
        links.append(("hangout_link", hangout))
    return links


def _is_pending(conference: dict[str, Any]) -> bool:
    request = conference.get("createRequest")
    status = request.get("status") if isinstance(request, dict) else None
    return isinstance(status, dict) and status.get("statusCode") == "pending"
