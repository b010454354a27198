"""What is stored of an event: the JSON that a customer is shown, rendered once, when the event changes.

A listing splices it into its answer, a diff compares its digest, a message's `fields` are the difference of two of
them. Whatever the API shows beside it (ids, sequence number, stamps, `raw`) belongs to the row, not to the provider's
event, and stands in columns of its own. Pure.
"""

from hashlib import sha256

import orjson

from app.instants import instant
from app.providers.base import RemoteEvent

DIGEST_BYTES = 16


def render(event: RemoteEvent) -> str:
    """A JSON object with every field of the API that the provider decides; equal events give equal text."""
    return orjson.dumps(
        {
            "platform_uuid": event.platform_uuid,
            "ical_uid": event.ical_uid,
            "name": event.name,
            "description": event.description,
            "location": event.location,
            "start_time": instant(event.start_time),
            "end_time": instant(event.end_time),
            "is_all_day": event.is_all_day,
            "start_date": event.start_date,
            "end_date": event.end_date,
            "time_zone": event.time_zone,
            "status": event.status,
            "visibility": event.visibility,
            "transparency": event.transparency,
            "event_type": event.event_type,
            "organizer": event.organizer,
            "creator": event.creator,
            "attendees": event.attendees,
            "own_response_status": event.own_response_status,
            "series_id": event.series_id,
            "original_start_time": instant(event.original_start_time),
            "is_exception": event.is_exception,
            "meeting_url": event.meeting_url,
            "meeting_platform": event.meeting_platform,
            "meeting_candidates": event.meeting_candidates,
            "html_link": event.html_link,
        },
        option=orjson.OPT_UTC_Z,
    ).decode()


def digest(content: str) -> bytes:
    """16 bytes that differ where the content does. SQL has the same: `substr(sha256(convert_to(…)), 1, 16)`."""
    return sha256(content.encode()).digest()[:DIGEST_BYTES]
