"""Events as they are stored, for matches to look at."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from app.bots.rules.matching import Facts, compiled, facts
from app.providers.base import Attendee, Person, RemoteEvent
from app.sync.content import render

INTERNAL = frozenset({"acme.example"})
EVENT = RemoteEvent(
    platform_uuid="evt-1",
    ical_uid="uid-1",
    name="Weekly Product Review",
    description=None,
    location=None,
    start_time=datetime(2026, 11, 20, 10, tzinfo=UTC),
    end_time=datetime(2026, 11, 20, 10, 30, tzinfo=UTC),
    is_all_day=False,
    start_date=None,
    end_date=None,
    time_zone="Europe/Berlin",
    status="confirmed",
    visibility="default",
    transparency="opaque",
    event_type="default",
    organizer=Person("boss@acme.example", "Boss", self=False),
    creator=None,
    attendees=(),
    own_response_status="accepted",
    series_id=None,
    original_start_time=None,
    is_exception=False,
    meeting_url="https://zoom.us/j/123456789",
    meeting_platform="zoom",
    meeting_candidates=(),
    html_link=None,
    raw=None,
)


def guest(email: str | None, *, is_resource: bool = False) -> Attendee:
    """Somebody invited, or a room."""
    return Attendee(email, None, "needs_action", False, False, False, is_resource)


def looked_at(
    event: RemoteEvent,
    *,
    internal: frozenset[str] = INTERNAL,
    owner: str | None = "ana@acme.example",
    metadata: dict[str, str] | None = None,
) -> Facts:
    """What a match sees of the event, read back from what is stored of it."""
    content = orjson.loads(render(event).text)
    return facts(content, calendar_metadata=metadata or {}, internal_domains=internal, owner_email=owner)


def event_with(**fields: Any) -> RemoteEvent:
    """An ordinary event, but for these fields."""
    return replace(EVENT, **fields)


def failed(match: dict[str, Any], seen: Facts) -> str | None:
    """The first condition of the match that does not hold."""
    return compiled(orjson.dumps(match, option=orjson.OPT_SORT_KEYS).decode()).failed(seen)
