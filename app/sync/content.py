"""What is stored of an event: the JSON that a customer is shown, rendered once, when the event changes.

A listing splices it into its answer, a diff compares its digest, a message's `fields` are the difference of two of
them. Whatever the API shows beside it (ids, sequence number, stamps, `raw`) belongs to the row, not to the provider's
event, and stands in columns of its own. Pure.

How a meeting's link was found (score, passcode, wrapper, why it was chosen) is shown and not part of the digest: it
follows from fields that are, and from our own rules. So neither a better rule nor a gateway's new wrapping of the same
link is announced as the user's edit; a link that is found, lost or chosen otherwise is (ADR 11).
"""

from hashlib import sha256
from typing import NamedTuple

import orjson

from app.instants import instant
from app.providers.base import RemoteEvent

DIGEST_BYTES = 16


class Content(NamedTuple):
    """`text`: a JSON object with every field of the API that the provider decides. `digest`: tells events apart."""

    text: str
    digest: bytes


_CANDIDATES, _LINK = b',"meeting_candidates":', b',"html_link":'
"""A quote inside a text is escaped, so these stand where their fields begin, and nowhere else."""


def render(event: RemoteEvent) -> Content:
    """The content of an event; equal events have equal ones."""
    candidates = event.meeting_candidates
    compared = orjson.dumps(
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
            "meeting_candidates": [{"url": c.url, "platform": c.platform, "source": c.source} for c in candidates],
            "html_link": event.html_link,
        },
        option=orjson.OPT_UTC_Z,
    )
    end = compared.rfind(_LINK)
    start = compared.rfind(_CANDIDATES, 0, end) + len(_CANDIDATES)
    shown = b'%b%b,"meeting_choice":%b%b' % (
        compared[:start],
        orjson.dumps(candidates),
        orjson.dumps(event.meeting_choice),
        compared[end:],
    )
    return Content(shown.decode(), sha256(compared).digest()[:DIGEST_BYTES])
