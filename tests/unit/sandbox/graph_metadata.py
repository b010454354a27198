"""What Graph's metadata (v1.0, August 2026) says of calendars, events, subscriptions and notifications, as a judge.

Each type lists its own properties and those it inherits. Unknown properties are flaws, as a sandbox that invents fields
would let the product rely on them; `_REAL` names the few that production answers with although no metadata tells.
"""

import re
from datetime import date, datetime
from uuid import UUID

Type = dict[str, str]

_RECIPIENT = {"emailAddress": "emailAddress"}
_STATUS = {"response": "responseType", "time": "DateTimeOffset"}

TYPES: dict[str, Type] = {
    "calendar": {
        "id": "String",
        "allowedOnlineMeetingProviders": "[onlineMeetingProviderType]",
        "canEdit": "Boolean",
        "canShare": "Boolean",
        "canViewPrivateItems": "Boolean",
        "changeKey": "String",
        "color": "calendarColor",
        "defaultOnlineMeetingProvider": "onlineMeetingProviderType",
        "hexColor": "String",
        "isDefaultCalendar": "Boolean",
        "isRemovable": "Boolean",
        "isTallyingResponses": "Boolean",
        "name": "String",
        "owner": "emailAddress",
    },
    "event": {
        "id": "String",
        "categories": "[String]",
        "changeKey": "String",
        "createdDateTime": "DateTimeOffset",
        "lastModifiedDateTime": "DateTimeOffset",
        "allowNewTimeProposals": "Boolean",
        "attendees": "[attendee]",
        "body": "itemBody",
        "bodyPreview": "String",
        "cancelledOccurrences": "[String]",
        "end": "dateTimeTimeZone",
        "exceptionOccurrences": "[event]",
        "hasAttachments": "Boolean",
        "hideAttendees": "Boolean",
        "iCalUId": "String",
        "importance": "importance",
        "isAllDay": "Boolean",
        "isCancelled": "Boolean",
        "isDraft": "Boolean",
        "isOnlineMeeting": "Boolean",
        "isOrganizer": "Boolean",
        "isReminderOn": "Boolean",
        "location": "location",
        "locations": "[location]",
        "onlineMeeting": "onlineMeetingInfo",
        "onlineMeetingProvider": "onlineMeetingProviderType",
        "onlineMeetingUrl": "String",
        "organizer": "recipient",
        "originalEndTimeZone": "String",
        "originalStart": "DateTimeOffset",
        "originalStartTimeZone": "String",
        "recurrence": "patternedRecurrence",
        "reminderMinutesBeforeStart": "Int32",
        "responseRequested": "Boolean",
        "responseStatus": "responseStatus",
        "sensitivity": "sensitivity",
        "seriesMasterId": "String",
        "showAs": "freeBusyStatus",
        "start": "dateTimeTimeZone",
        "subject": "String",
        "transactionId": "String",
        "type": "eventType",
        "webLink": "String",
    },
    "subscription": {
        "id": "String",
        "applicationId": "String",
        "changeType": "String!",
        "clientState": "String",
        "creatorId": "String",
        "encryptionCertificate": "String",
        "encryptionCertificateId": "String",
        "expirationDateTime": "DateTimeOffset!",
        "includeResourceData": "Boolean",
        "latestSupportedTlsVersion": "String",
        "lifecycleNotificationUrl": "String",
        "notificationQueryOptions": "String",
        "notificationUrl": "String!",
        "notificationUrlAppId": "String",
        "resource": "String!",
    },
    "changeNotificationCollection": {"validationTokens": "[String]", "value": "[changeNotification]"},
    "changeNotification": {
        "id": "String",
        "changeType": "changeType",
        "clientState": "String",
        "lifecycleEvent": "lifecycleEventType",
        "resource": "String!",
        "resourceData": "open",
        "subscriptionExpirationDateTime": "DateTimeOffset!",
        "subscriptionId": "Guid!",
        "tenantId": "Guid!",
    },
    "attendee": {
        **_RECIPIENT,
        "type": "attendeeType",
        "proposedNewTime": "timeSlot",
        "status": "responseStatus",
    },
    "recipient": _RECIPIENT,
    "emailAddress": {"address": "String", "name": "String"},
    "responseStatus": _STATUS,
    "itemBody": {"content": "String", "contentType": "bodyType"},
    "timeSlot": {"start": "dateTimeTimeZone!", "end": "dateTimeTimeZone!"},
    "dateTimeTimeZone": {"dateTime": "WallTime!", "timeZone": "String"},
    "location": {
        "address": "physicalAddress",
        "coordinates": "outlookGeoCoordinates",
        "displayName": "String",
        "locationEmailAddress": "String",
        "locationType": "locationType",
        "locationUri": "String",
        "uniqueId": "String",
        "uniqueIdType": "locationUniqueIdType",
    },
    "physicalAddress": dict.fromkeys(("city", "countryOrRegion", "postalCode", "state", "street"), "String"),
    "outlookGeoCoordinates": dict.fromkeys(("accuracy", "altitude", "latitude", "longitude"), "Double"),
    "onlineMeetingInfo": {
        "conferenceId": "String",
        "joinUrl": "String",
        "phones": "[phone]",
        "quickDial": "String",
        "tollFreeNumbers": "[String]",
        "tollNumber": "String",
    },
    "phone": dict.fromkeys(("language", "number", "region"), "String"),
    "patternedRecurrence": {"pattern": "recurrencePattern", "range": "recurrenceRange"},
    "recurrencePattern": {
        "dayOfMonth": "Int32!",
        "daysOfWeek": "[dayOfWeek]",
        "firstDayOfWeek": "dayOfWeek",
        "index": "weekIndex",
        "interval": "Int32!",
        "month": "Int32!",
        "type": "recurrencePatternType",
    },
    "recurrenceRange": {
        "endDate": "Date",
        "numberOfOccurrences": "Int32!",
        "recurrenceTimeZone": "String",
        "startDate": "Date",
        "type": "recurrenceRangeType",
    },
}
"""Name of a type: its properties, each with a type. `[x]` is a collection of x, `x!` is never null."""

_DAYS = {"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}
ENUMS: dict[str, set[str]] = {
    "attendeeType": {"required", "optional", "resource"},
    "bodyType": {"text", "html"},
    "calendarColor": {
        "auto",
        "lightBlue",
        "lightGreen",
        "lightOrange",
        "lightGray",
        "lightYellow",
        "lightTeal",
        "lightPink",
        "lightBrown",
        "lightRed",
        "maxColor",
    },
    "changeType": {"created", "updated", "deleted"},
    "dayOfWeek": _DAYS,
    "eventType": {"singleInstance", "occurrence", "exception", "seriesMaster"},
    "freeBusyStatus": {"unknown", "free", "tentative", "busy", "oof", "workingElsewhere"},
    "importance": {"low", "normal", "high"},
    "lifecycleEventType": {"missed", "subscriptionRemoved", "reauthorizationRequired"},
    "locationType": {"default", "conferenceRoom", "homeAddress", "businessAddress", "geoCoordinates", "streetAddress"},
    "locationUniqueIdType": {"unknown", "locationStore", "directory", "private", "bing"},
    "onlineMeetingProviderType": {"unknown", "skypeForBusiness", "skypeForConsumer", "teamsForBusiness"},
    "recurrencePatternType": {
        "daily",
        "weekly",
        "absoluteMonthly",
        "relativeMonthly",
        "absoluteYearly",
        "relativeYearly",
    },
    "recurrenceRangeType": {"endDate", "noEnd", "numbered"},
    "responseType": {"none", "organizer", "tentativelyAccepted", "accepted", "declined", "notResponded"},
    "sensitivity": {"normal", "personal", "private", "confidential"},
    "weekIndex": {"first", "second", "third", "fourth", "last"},
}

_REAL = {"calendar": {"groupClassId"}, "event": {"uid", "occurrenceId"}}
_PLAIN: dict[str, type | tuple[type, ...]] = {
    "Boolean": bool,
    "Double": (int, float),
    "Int32": int,
    "open": dict,
}


def flaws(value: object, kind: str, at: str = "") -> list[str]:
    """Everything in which a value differs from a type, by path; nothing is good. Annotations (`@`) are not judged."""
    at = at or kind.strip("[]!")
    if value is None:
        return [f"{at}: null"] if kind.endswith("!") else []
    kind = kind.rstrip("!")
    if kind.startswith("["):
        if not isinstance(value, list):
            return [f"{at}: no collection"]
        return [flaw for n, one in enumerate(value) for flaw in flaws(one, kind[1:-1], f"{at}[{n}]")]
    if kind in TYPES:
        return _object(value, kind, at)
    return [] if _is(value, kind) else [f"{at}: {value!r} is no {kind}"]


def _object(value: object, kind: str, at: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at}: no object"]
    found: list[str] = []
    for name, one in value.items():
        if "@" in name or name in _REAL.get(kind, ()):
            continue
        known = TYPES[kind].get(name)
        found += [f"{at}.{name}: unknown property"] if known is None else flaws(one, known, f"{at}.{name}")
    return found


def _is(value: object, kind: str) -> bool:
    if kind in ENUMS:
        return value in ENUMS[kind]
    if kind in _PLAIN:
        return isinstance(value, _PLAIN[kind]) and (kind == "Boolean" or not isinstance(value, bool))
    return isinstance(value, str) and _has_form(value, kind)


def _has_form(text: str, kind: str) -> bool:
    try:
        if kind == "Date":
            date.fromisoformat(text)
        elif kind == "Guid":
            UUID(text)
        elif kind == "DateTimeOffset":
            return datetime.fromisoformat(text).tzinfo is not None
        elif kind == "WallTime":
            return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}", text) is not None
    except ValueError:
        return False
    return kind in {"String", "Date", "Guid"}
