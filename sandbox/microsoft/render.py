"""Neutral values as Graph's JSON: recorded key order, null where nothing is set, times with seven digits and no offset.

Sources: the resource pages "event" and "calendar" of Graph v1.0, and recorded answers of work and personal mailboxes.
"""

import base64
from datetime import UTC, datetime, time
from hashlib import sha256
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from sandbox.microsoft import body
from sandbox.microsoft.book import Book
from sandbox.microsoft.preferences import Preferences
from sandbox.microsoft.recurrence import patterned
from sandbox.microsoft.zones import windows_name
from sandbox.model import Account, Attendee, Calendar, Event, Instance, Moment, Person
from sandbox.world import World

Json = dict[str, Any]

METADATA = "https://graph.microsoft.com/v1.0/$metadata"
NEVER = "0001-01-01T00:00:00Z"

_RESPONSES = {
    "needsAction": "none",
    "accepted": "accepted",
    "tentative": "tentativelyAccepted",
    "declined": "declined",
}
_SENSITIVITIES = {"default": "normal", "public": "normal", "private": "private", "confidential": "confidential"}
_NO_DETAILS = {"freeBusyReader"}
_NO_PRIVATE_DETAILS = {"reader", "writerWithoutPrivateAccess", "freeBusyReader"}


def change_key(calendar: Calendar, seq: int) -> str:
    """What is new with each change of an item: the mailbox and a counter, in base64."""
    mailbox = sha256(calendar.owner.encode()).digest()[:16]
    return base64.b64encode(mailbox + seq.to_bytes(6, "big")).decode()


def utc(moment: datetime) -> str:
    """2026-05-04T09:24:01.1263863Z, trailing zeros cut, as recorded."""
    text = f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}".rstrip("0").rstrip(".")
    return f"{text}Z"


def instant(moment: Moment, prefs: Preferences) -> Json:
    """A start or an end in the preferred zone. Of an all-day event the date stays, whatever the zone."""
    if isinstance(moment, datetime):
        wall = moment.astimezone(prefs.zone)
        return {"dateTime": f"{wall:%Y-%m-%dT%H:%M:%S}.{wall.microsecond:06d}0", "timeZone": prefs.zone_name}
    return {"dateTime": f"{moment.isoformat()}T00:00:00.0000000", "timeZone": prefs.zone_name}


def kind_of(shown: Instance) -> str:
    """singleInstance, seriesMaster, occurrence or exception."""
    if shown.series_id is not None:
        return "exception" if shown.is_exception else "occurrence"
    return "seriesMaster" if shown.recurrence else "singleInstance"


def calendar_entry(calendar: Calendar, viewer: Account, owner: Account) -> Json:
    """A calendar of the viewer's mailbox, their own or one that was shared with them."""
    role = calendar.acl.get(viewer.email, "reader")
    is_own, is_default = calendar.owner == viewer.email, calendar.kind == "primary"
    is_fixed = calendar.kind in {"holiday", "birthday"}
    providers = ["unknown"] if viewer.personal else ["teamsForBusiness"]
    return {
        "id": calendar.id,
        "name": calendar.summary,
        "color": "auto",
        "hexColor": "",
        "groupClassId": "0006f0b7-0000-0000-c000-000000000046",
        "isDefaultCalendar": is_default and is_own,
        "changeKey": change_key(calendar, calendar.acl_seq.get(viewer.email, 0)),
        "canShare": is_own and not is_fixed,
        "canViewPrivateItems": is_own or role in {"owner", "writer"},
        "canEdit": role in {"owner", "writer", "writerWithoutPrivateAccess"} and not is_fixed,
        "allowedOnlineMeetingProviders": [] if is_fixed else providers,
        "defaultOnlineMeetingProvider": "unknown" if is_fixed else providers[0],
        "isTallyingResponses": is_default,
        "isRemovable": not (is_default and is_own),
        "owner": {"name": name_of(owner), "address": owner.email},
    }


def name_of(account: Account) -> str:
    """The display name; made from the address where none is known."""
    return account.name or account.email.partition("@")[0].replace(".", " ").title()


class Renderer:
    """Writes events of any calendar for any viewer."""

    def __init__(self, world: World, book: Book) -> None:
        self._world = world
        self._book = book

    def sparse(self, shown: Instance, calendar: Calendar, prefs: Preferences) -> Json:
        """An occurrence in a delta: enough to place it, nothing to show."""
        self._book.note(shown)
        entry: Json = {
            "@odata.type": "#microsoft.graph.event",
            "@odata.etag": f'W/"{change_key(calendar, shown.seq)}"',
            "id": self._book.name(calendar, shown.event_id, prefs),
            "seriesMasterId": self._book.name(calendar, shown.series_id or "", prefs),
            "type": kind_of(shown),
            "start": instant(shown.start, prefs),
            "end": instant(shown.end, prefs),
        }
        return _spoilt(entry, shown)

    def removed(self, item_id: str, calendar: Calendar, prefs: Preferences) -> Json:
        """What a delta says of something that is no longer in its window."""
        return {
            "@odata.type": "#microsoft.graph.event",
            "id": self._book.name(calendar, item_id, prefs),
            "@removed": {"reason": "deleted"},
        }

    def event(self, event: Event, shown: Instance, calendar: Calendar, viewer: Account, prefs: Preferences) -> Json:
        """Everything about one item; `event` is the single event or the master behind it."""
        self._book.note(shown)
        owner, is_instance = self._world.accounts[calendar.owner], shown.series_id is not None
        hidden = self._hidden(shown, calendar, viewer)
        key, name = change_key(calendar, shown.seq), self._book.name(calendar, shown.event_id, prefs)
        zone = event.zone_label or self.zone_name(event, owner)
        entry: Json = {
            "@odata.etag": f'W/"{key}"',
            "id": name,
            "createdDateTime": utc(shown.created),
            "lastModifiedDateTime": utc(shown.updated),
            "changeKey": key,
            "categories": [],
            "transactionId": None,
            "originalStartTimeZone": zone,
            "originalEndTimeZone": zone,
            "iCalUId": instance_uid(event, shown),
            "uid": shown.ical_uid,
            "reminderMinutesBeforeStart": 15,
            "isReminderOn": True,
            "hasAttachments": False,
            "subject": hidden or (shown.title or ""),
            "bodyPreview": "" if hidden else body.preview(shown),
            "importance": "normal",
            "sensitivity": sensitivity(shown),
            "isAllDay": shown.is_all_day,
            "isCancelled": shown.called_off,
            "isOrganizer": shown.organizer is not None and shown.organizer.email == owner.email,
            "responseRequested": True,
            "seriesMasterId": self._book.name(calendar, shown.series_id, prefs) if shown.series_id else None,
            "showAs": show_as(shown),
            "type": kind_of(shown),
            "webLink": _web_link(name, owner),
            "onlineMeetingUrl": None,
            "isOnlineMeeting": not hidden and _join_url(shown) is not None,
            "onlineMeetingProvider": _online_provider(shown, owner) if not hidden else "unknown",
            "allowNewTimeProposals": True,
            "occurrenceId": self.occurrence_id(event, shown, calendar, prefs) if is_instance else None,
            "isDraft": False,
            "hideAttendees": shown.hide_attendees,
        }
        if is_instance and shown.original_start is not None:
            entry["originalStart"] = _original(shown)
        entry |= {
            "responseStatus": _own_response(shown, owner),
            "body": {"contentType": prefs.body, "content": "" if hidden else body.content(shown, prefs.body)},
            "start": instant(shown.start, prefs),
            "end": instant(shown.end, prefs),
            "location": _location(None if hidden else shown.location),
            "locations": [_location(shown.location)] if shown.location and not hidden else [],
            "recurrence": None if is_instance else patterned(event, zone),
            "attendees": [] if hidden else [_attendee(one) for one in self._guests(shown, owner)],
            "organizer": _recipient(shown.organizer or Person(owner.email), self._world.accounts),
            "onlineMeeting": _meeting(shown) if not hidden else None,
        }
        return _spoilt(entry, shown)

    def occurrence_id(self, event: Event, shown: Instance, calendar: Calendar, prefs: Preferences) -> str:
        """`OID.<master>.<day>`, the day in the zone of the series."""
        day = shown.original_start
        if isinstance(day, datetime):
            day = day.astimezone(ZoneInfo(event.time_zone or "UTC")).date()
        return f"OID.{self._book.name(calendar, event.id, prefs)}.{day}"

    def zone_name(self, event: Event, owner: Account) -> str:
        """The zone of an event as its mailbox calls it."""
        iana = event.time_zone or "UTC"
        return windows_name(iana) if owner.zone_names == "windows" else iana

    @staticmethod
    def _guests(shown: Instance, owner: Account) -> tuple[Attendee, ...]:
        """Whoever is invited; where the list is hidden, a guest sees only themselves."""
        is_organizer = shown.organizer is not None and shown.organizer.email == owner.email
        if not shown.hide_attendees or is_organizer:
            return shown.attendees
        return tuple(one for one in shown.attendees if one.email == owner.email)

    @staticmethod
    def _hidden(shown: Instance, calendar: Calendar, viewer: Account) -> str | None:
        """The subject that stands for one that this viewer may not read; None when they may."""
        role = calendar.acl.get(viewer.email, "reader")
        if role in _NO_DETAILS:
            return "Busy"
        return "Private Appointment" if role in _NO_PRIVATE_DETAILS and sensitivity(shown) == "private" else None


def sensitivity(shown: Instance) -> str:
    """normal, personal, private or confidential."""
    return shown.sensitivity or _SENSITIVITIES.get(shown.visibility, "normal")


def show_as(shown: Instance) -> str:
    """free, tentative, busy, oof, workingElsewhere or unknown."""
    if shown.show_as is not None:
        return shown.show_as
    if shown.called_off or shown.transparency == "transparent":
        return "free"
    return "tentative" if shown.status == "tentative" else "busy"


def instance_uid(event: Event, shown: Instance) -> str:
    """`iCalUId`: an occurrence has its own, with the day of its original start in it; `uid` is that of the series."""
    uid, day = shown.ical_uid or "", shown.original_start
    if day is None:
        return uid
    if isinstance(day, datetime):
        day = day.astimezone(ZoneInfo(event.time_zone or "UTC")).date()
    if uid.startswith("040000008200E00074C5B7101A82E008"):
        return f"{uid[:32]}{day.year:04X}{day.month:02X}{day.day:02X}{uid[40:]}"
    return f"{uid}_{day:%Y%m%d}"


def _original(shown: Instance) -> str:
    start = shown.original_start
    if isinstance(start, datetime):
        return f"{start.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z"
    return f"{datetime.combine(start or shown.created.date(), time(), UTC):%Y-%m-%dT%H:%M:%S}Z"


def _own_response(shown: Instance, owner: Account) -> Json:
    if shown.organizer is not None and shown.organizer.email == owner.email:
        return {"response": "organizer", "time": NEVER}
    mine = next((one for one in shown.attendees if one.email == owner.email), None)
    answer = _RESPONSES[mine.response] if mine is not None else "none"
    if answer == "none":
        return {"response": "notResponded" if mine is not None else "none", "time": NEVER}
    return {"response": answer, "time": utc(shown.updated)}


def _attendee(attendee: Attendee) -> Json:
    kind = "resource" if attendee.resource else "optional" if attendee.optional else "required"
    response = "organizer" if attendee.organizer else _RESPONSES[attendee.response]
    return {
        "type": kind,
        "status": {"response": response, "time": NEVER},
        "emailAddress": {"name": attendee.name or attendee.email, "address": attendee.email},
    }


def _recipient(person: Person, accounts: dict[str, Account]) -> Json:
    known = accounts.get(person.email)
    name = person.name or (name_of(known) if known is not None else person.email)
    return {"emailAddress": {"name": name, "address": person.email}}


def _location(name: str | None) -> Json:
    if not name:
        return {
            "displayName": "",
            "locationType": "default",
            "uniqueIdType": "unknown",
            "address": {},
            "coordinates": {},
        }
    return {"displayName": name, "locationType": "default", "uniqueId": name, "uniqueIdType": "private"}


def _join_url(shown: Instance) -> str | None:
    conference = shown.conference
    return conference.url if conference and conference.kind == "teams" and not conference.pending else None


def _online_provider(shown: Instance, owner: Account) -> str:
    if _join_url(shown) is None:
        return "unknown"
    return "skypeForConsumer" if owner.personal else "teamsForBusiness"


def _meeting(shown: Instance) -> Json | None:
    url = _join_url(shown)
    return None if url is None else {"joinUrl": url}


def _web_link(name: str, owner: Account) -> str:
    host = "outlook.live.com" if owner.personal else "outlook.office365.com"
    return f"https://{host}/owa/?itemid={quote(name, safe='')}&exvsurl=1&path=/calendar/item"


def _spoilt(entry: Json, shown: Instance) -> Json:
    entry |= shown.raw_extra
    for name in shown.raw_omit:
        entry.pop(name, None)
    return entry


EVENT_PROPERTIES = frozenset(
    {
        "createdDateTime", "lastModifiedDateTime", "changeKey", "categories", "transactionId", "originalStartTimeZone",
        "originalEndTimeZone", "iCalUId", "uid", "reminderMinutesBeforeStart", "isReminderOn", "hasAttachments",
        "subject", "bodyPreview", "importance", "sensitivity", "isAllDay", "isCancelled", "isOrganizer",
        "responseRequested", "seriesMasterId", "showAs", "type", "webLink", "onlineMeetingUrl", "isOnlineMeeting",
        "onlineMeetingProvider", "allowNewTimeProposals", "occurrenceId", "isDraft", "hideAttendees", "originalStart",
        "responseStatus", "body", "start", "end", "location", "locations", "recurrence", "attendees", "organizer",
        "onlineMeeting", "id", "cancelledOccurrences",
    }
)  # fmt: skip
"""What `$select` knows of an event."""
