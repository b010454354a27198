"""Calendar events: the list that applications follow, and single events.

A page of 100 events is two or three statements and no object model: the content of each event was rendered when it
changed; here its row's ids, number and stamps are put around that.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from app.api import bot_queries, event_queries
from app.api.bots import Bot
from app.api.bots import render as render_bot
from app.api.calendar_examples import EVENT as EXAMPLE
from app.api.deps import ProjectId, Reading, Rt, Writing
from app.api.event_filters import EventFilters
from app.api.inputs import Input, QueryOf, key_of
from app.api.operations import TIMES, body_examples, example, problems
from app.api.outputs import CalendarRef, EventRef, NextUrl, Output, PreviousUrl, Timestamp
from app.api.pages import Page, Pager
from app.api.render import JsonObject, answer, embedded, page_answer
from app.api.route import ApiRoute
from app.bots.rules import overriding
from app.db import ReadTx, Row
from app.errors import Gone, NotFound
from app.ids import CALENDAR, EVENT, public

BotOverride = Literal["always", "never"]
ResponseStatus = Literal["needs_action", "declined", "tentative", "accepted"]


class Person(Output):
    """Organizer or creator."""

    email: str | None
    name: str | None
    is_self: bool = Field(alias="self", description="Whether this is the calendar's owner")


class Attendee(Output):
    """An invited person or room."""

    email: str | None
    name: str | None
    response_status: ResponseStatus
    optional: bool
    organizer: bool
    is_self: bool = Field(alias="self", description="Whether this is the calendar's owner")
    resource: bool


class MeetingCandidate(Output):
    """A link that may lead to the meeting; the best comes first."""

    url: str
    platform: str = Field(description="A product's name, or `unknown`")
    source: str = Field(
        description="The field it was found in: `conference_data`, `hangout_link`, `online_meeting`, "
        "`online_meeting_url`, `location`, `description` or `name`"
    )
    score: int = Field(description="How far that field is trusted, and how much the project wants the platform")
    passcode: str | None = Field(description="As it stands in the URL, else in the text beside it")
    unwrapped_from: str | None = Field(description="The address as it was found, where something had wrapped it")


class CalendarEvent(Output):
    """An event as the provider has it: a single one, or one occurrence of a series."""

    id: EventRef
    calendar_id: CalendarRef
    platform_uuid: str = Field(description="The provider's id of the event")
    ical_uid: str | None = Field(description="The same for all occurrences of a series")
    name: str | None = Field(description="The title; null where there is none, or none is shown")
    description: str | None
    location: str | None
    start_time: Timestamp = Field(description="All-day: midnight of start_date in the calendar's zone, as UTC")
    end_time: Timestamp = Field(description="All-day: midnight of end_date, likewise")
    is_all_day: bool
    start_date: Annotated[str, Field(json_schema_extra={"format": "date"})] | None = Field(description="If all-day")
    end_date: Annotated[str, Field(json_schema_extra={"format": "date"})] | None = Field(
        description="If all-day: the day after the last"
    )
    time_zone: str | None = Field(description="IANA name")
    status: Literal["confirmed", "tentative", "cancelled"]
    is_deleted: bool = Field(description="No longer in the calendar, or outside the window that is kept")
    visibility: str | None = Field(description="`default`, `public`, `private` or `confidential`")
    transparency: str | None = Field(description="`opaque`: its time is busy. `transparent`: it is free")
    event_type: str | None = Field(
        description="`default`, `focusTime`, `outOfOffice`, `workingLocation`, `birthday`, `fromGmail`, …"
    )
    organizer: Person | None
    creator: Person | None = Field(description="Null of Microsoft, which does not tell")
    attendees: list[Attendee]
    own_response_status: ResponseStatus | None = Field(description="The calendar owner's; null where nobody asked them")
    series_id: str | None = Field(description="The provider's id of the series; null for a single event")
    original_start_time: Timestamp | None = Field(description="When the series has this occurrence; null likewise")
    is_exception: bool = Field(description="An occurrence that was moved (Google) or changed (Microsoft)")
    meeting_url: str | None = Field(description="The best candidate's; null without a link")
    meeting_platform: str | None = Field(description="A product's snake_case name; docs/links.md lists them")
    meeting_candidates: list[MeetingCandidate]
    meeting_choice: Literal["only", "source", "preference", "ambiguous"] | None = Field(
        description="Why the first candidate is the meeting. `only`: there is no other. `source`: it was found in a "
        "field that is trusted more. `preference`: the project wants its platform more. `ambiguous`: another is as "
        "good, and this one stood first. Null without a link"
    )
    html_link: str | None = Field(description="The event in the provider's own calendar")
    change_seq: int = Field(description="The calendar's number for this event's latest change")
    bot_override: BotOverride | None = Field(description="Beats every rule: the event's own, else its series'")
    raw: dict[str, Any] | None = Field(description="As the provider sent it; null over 64 KiB, or if excluded")
    is_raw_truncated: bool = Field(description="Whether `raw` is null because it is over 64 KiB")
    bots: list[Bot] | None = Field(
        description="Oldest first: all that are live, and the latest 10 of the others. Null if excluded"
    )
    created_at: Timestamp = Field(description="Punctual's, not the provider's")
    updated_at: Timestamp = Field(description="Punctual's: when this change became readable here")


class CalendarEventUpdate(Input):
    """The only thing about an event that is not the provider's."""

    bot_override: BotOverride | None = Field(description="Beats every rule; null: rules decide")
    all_occurrences: Annotated[
        bool, Field(description="For the event's whole series; its events say nothing of their own then")
    ] = False


class CalendarEventList(Output):
    """A page of events."""

    next: NextUrl
    previous: PreviousUrl
    results: list[CalendarEvent]
    position: Annotated[int | None, Field(description="With `after_seq` only: the value to go on from")] = None


router = APIRouter(prefix="/api/v1/calendar_events", tags=["Calendar events"], route_class=ApiRoute)


def render(row: Row, bots: str = "[]") -> str:
    """An event as the API shows it, as JSON text: its ids, its content, and what its row knows beside that."""
    head = f'{{"id":"{public(EVENT, row.id)}","calendar_id":"{_calendar_ref(row.calendar_id)}",'
    return f"{head}{row.content[1:-1]},{row.more}{bots},{row.stamps}"


async def _bots(tx: ReadTx, project_id: UUID, rows: Sequence[Row]) -> dict[UUID, str]:
    """The bots of these events, as JSON text."""
    found: defaultdict[UUID, list[JsonObject]] = defaultdict(list)
    if rows:
        for row in await bot_queries.bots_of_events(tx, project_id, event_ids=[row.id for row in rows]):
            found[row.calendar_event_id].append(render_bot(row))
    return {event_id: orjson.dumps(made, option=orjson.OPT_UTC_Z).decode() for event_id, made in found.items()}


@lru_cache(maxsize=4096)
def _calendar_ref(calendar_id: UUID) -> str:
    return public(CALENDAR, calendar_id)


@router.get(
    "",
    response_model=CalendarEventList,
    summary="List events",
    responses=problems("filter_needs_bound", "missing", "feed_expired", *TIMES, takes="filters")
    | {200: example({"next": None, "previous": None, "results": [EXAMPLE]})},
)
async def list_events(
    request: Request,
    filters: Annotated[EventFilters, Depends(QueryOf(EventFilters))],
    tx: Reading,
    project_id: ProjectId,
) -> Response:
    """Events of the project's calendars, deleted ones included; the latest change comes first.

    A calendar, `event_id`, `ical_uid`, `updated_after` or a limit of start or end bounds a request; other filters need
    one of them beside them. docs/events.md says what a page costs.

    To follow changes, either page with `updated_after` set to the greatest `updated_at` seen in this same list, or
    follow one calendar with `after_seq` set to the last `position`. Neither misses a row, whatever commits meanwhile.
    `after_seq=0` lists the full state; 410 `feed_expired` asks for that.
    """
    pager = Pager(request, project_id=project_id, order=filters.order(), limit=filters.limit)
    conditions = filters.conditions()
    rows: Sequence[Row] = ()
    if conditions is not None:
        if not filters.is_one_calendar:
            conditions["updated_before_h"] = await event_queries.horizon(tx)
        rows = await event_queries.events(
            tx, project_id, filters=conditions, part=pager.slice, without=filters.left_out
        )
    page = pager.page(rows, lambda row: (row.sort_key, row.id))
    if "bots" in filters.left_out:
        results = [render(row, "null") for row in page.rows]
    else:
        made = await _bots(tx, project_id, page.rows)
        results = [render(row, made.get(row.id, "[]")) for row in page.rows]
    position: int | None = None
    if filters.after_seq is not None:
        calendar_id = conditions["calendar_id"] if conditions else None
        position = await _position(
            tx, project_id, calendar_id=calendar_id, after=filters.after_seq, pager=pager, page=page
        )
    return page_answer(results, next_url=page.next, previous_url=page.previous, position=position)


async def _position(
    tx: ReadTx, project_id: UUID, *, calendar_id: UUID | None, after: int, pager: Pager, page: Page
) -> int:
    """Where to go on after this page. Gone where rows that the reader never saw may have been purged."""
    floor = await event_queries.feed_floor(tx, project_id, calendar_id=calendar_id) if calendar_id else None
    start = pager.slice.position
    seen = after
    if start is not None and isinstance(start.value, int) and not start.is_backward:
        seen = start.value
    if floor is not None and after > 0 and seen < floor:
        raise Gone("changes after this number were purged: read the full state with after_seq=0", code="feed_expired")
    if page.rows:
        seen = page.rows[-1].sort_key
    is_end = page.next is None
    return max(seen, floor) if is_end and floor is not None else seen


@router.get(
    "/{event_id}",
    response_model=CalendarEvent,
    summary="Get an event",
    responses=problems("not_found") | {200: example(EXAMPLE)},
)
async def get_event(event_id: str, tx: Reading, project_id: ProjectId) -> Response:
    """One event; a deleted one has `is_deleted: true`."""
    return await _shown(tx, project_id, event_id=key_of(EVENT, event_id))


async def _shown(tx: ReadTx, project_id: UUID, *, event_id: UUID) -> Response:
    row = await event_queries.event(tx, project_id, event_id=event_id)
    if row is None:
        raise NotFound
    made = await _bots(tx, project_id, [row])
    return answer(embedded(render(row, made.get(row.id, "[]"))))


@router.patch(
    "/{event_id}",
    response_model=CalendarEvent,
    summary="Override the rules for an event",
    responses=problems("not_found", "event_gone", "not_a_series", takes="body") | {200: example(EXAMPLE)},
    openapi_extra=body_examples(
        keep_out={"bot_override": "never"}, series={"bot_override": "always", "all_occurrences": True}
    ),
)
async def update_event(
    event_id: str, body: CalendarEventUpdate, rt: Rt, tx: Writing, project_id: ProjectId
) -> Response:
    """Bots come and go in the same transaction. All else of an event is the provider's, and changed there.

    `always` has the first rule make a bot where none matches, `never` ends the bots of rules; what was made or changed
    by hand stays. An override is no change of the event: neither `change_seq` nor `updated_at` moves.
    """
    key = key_of(EVENT, event_id)
    await overriding.override(
        rt, tx, project_id=project_id, event_id=key, value=body.bot_override, is_series=body.all_occurrences
    )
    return await _shown(tx, project_id, event_id=key)
