"""What may be said of rules, judged before anything is stored."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

import orjson
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.api.bot_inputs import BotName, Config
from app.api.inputs import Cursor, Input, Instant, Limit, Metadata, Name, Query, at_most, not_blank, not_null
from app.bots.rules.matching import PATTERN_BYTES, normal_domain, pattern
from app.meetings import NAMES
from app.providers.base import ResponseStatus

DedupScope = Literal["event", "meeting", "organization"]
Visibility = Literal["default", "public", "private", "confidential"]
EventType = Literal["birthday", "default", "focusTime", "fromGmail", "outOfOffice", "workingLocation"]

ENTRIES_MOST: Final = 50
"""Of each list of a match."""
TEXT_MOST: Final = 200
GUESTS_MOST: Final = 100_000
SECONDS_MOST: Final = 366 * 86_400
PRIORITY_MOST: Final = 1_000


def _platform(value: str) -> str:
    if value not in NAMES:
        raise PydanticCustomError("not_allowed", "is no platform that links are known of")
    return value


def domain(value: str) -> str:
    """A domain as it is stored and compared."""
    found = normal_domain(value)
    if found is None:
        raise PydanticCustomError("invalid_domain", "must be a domain such as example.com, without @ or https://")
    return found


def _pattern(value: str) -> str:
    if len(value.encode(errors="replace")) > PATTERN_BYTES:
        raise PydanticCustomError("too_long", "at most {count} bytes of UTF-8", {"count": PATTERN_BYTES})
    try:
        pattern(value)
    except ValueError as exc:
        raise PydanticCustomError("invalid_regex", "is refused by RE2: {reason}", {"reason": str(exc)}) from None
    return value


_Few = BeforeValidator(at_most(ENTRIES_MOST))
_Some = Field(min_length=1, json_schema_extra={"maxItems": ENTRIES_MOST})
_Text = Annotated[str, Field(max_length=TEXT_MOST), AfterValidator(not_blank)]
_Platform = Annotated[str, AfterValidator(_platform), WithJsonSchema({"type": "string", "enum": sorted(NAMES)})]
_Regex = Annotated[
    str,
    Field(min_length=1),
    AfterValidator(_pattern),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": PATTERN_BYTES}),
]
Domain = Annotated[str, AfterValidator(domain), WithJsonSchema({"type": "string", "maxLength": 253})]
_Domains = Annotated[list[Domain], _Few, _Some]
_Guests = Annotated[int, Field(ge=0, le=GUESTS_MOST)]
_Seconds = Annotated[int, Field(ge=0, le=SECONDS_MOST)]


class RuleMatch(Input):
    """Which events get the rule's bot: all conditions that are given have to hold, and there is at least one.

    Where an event does not say what a condition asks, the condition does not hold.
    """

    calendar_metadata: Annotated[
        Annotated[Metadata, Field(min_length=1)] | None,
        Field(description="The calendar's `metadata` has all these pairs"),
    ] = None
    own_response: Annotated[
        Annotated[list[ResponseStatus], _Few, _Some] | None,
        Field(description="The calendar's owner answered one of these. Left out: anything but `declined`"),
    ] = None
    is_organizer: Annotated[bool | None, Field(description="Whether the calendar's owner invited")] = None
    has_external_attendees: Annotated[
        bool | None,
        Field(
            description="Whether a guest's or the organizer's domain is none of the project's `internal_domains`"
            " (or, where it has none, not the owner's own)"
        ),
    ] = None
    attendee_count_gte: Annotated[_Guests | None, Field(description="People on the guest list, at least")] = None
    attendee_count_lte: Annotated[_Guests | None, Field(description="People on the guest list, at most")] = None
    attendee_domains: Annotated[
        _Domains | None, Field(description="A guest's domain is one of these, or below one of them")
    ] = None
    organizer_domains: Annotated[
        _Domains | None, Field(description="The organizer's domain is one of these, or below one of them")
    ] = None
    title_contains: Annotated[
        Annotated[list[_Text], _Few, _Some] | None,
        Field(description="The title has one of these texts in it; case does not matter"),
    ] = None
    title_regex: Annotated[
        _Regex | None,
        Field(description=f"RE2 finds this in the title; at most {PATTERN_BYTES} bytes. `(?i)` ignores case"),
    ] = None
    meeting_platforms: Annotated[
        Annotated[list[_Platform], _Few, _Some] | None, Field(description="The meeting's platform is one of these")
    ] = None
    is_recurring: Annotated[bool | None, Field(description="Whether the event belongs to a series")] = None
    is_all_day: Annotated[
        bool | None, Field(description="Whether the event lasts whole days. Left out: it must not")
    ] = None
    visibility: Annotated[
        Annotated[list[Visibility], _Few, _Some] | None, Field(description="The event's visibility is one of these")
    ] = None
    event_types: Annotated[
        Annotated[list[EventType], _Few, _Some] | None, Field(description="The event's type is one of these")
    ] = None
    duration_seconds_gte: Annotated[_Seconds | None, Field(description="The event lasts at least this long")] = None
    duration_seconds_lte: Annotated[_Seconds | None, Field(description="The event lasts at most this long")] = None

    @field_validator("attendee_count_lte", "duration_seconds_lte")
    @classmethod
    def _from_least_to_most(cls, value: int | None, info: ValidationInfo) -> int | None:
        name = str(info.field_name)
        least = info.data.get(f"{name.removesuffix('lte')}gte")
        if value is not None and least is not None and value < least:
            raise PydanticCustomError("out_of_range", "is less than what is asked at least, so no event matches")
        return value

    @model_validator(mode="after")
    def _has_a_condition(self) -> Self:
        if not any(value is not None for _, value in self):
            raise PydanticCustomError("empty_match", "needs at least one condition")
        return self


def match_text(match: RuleMatch) -> str:
    """A match as it is stored and compiled: what was given, and the same text whatever the order it came in."""
    return orjson.dumps(match.model_dump(exclude_none=True), option=orjson.OPT_SORT_KEYS).decode()


class RuleBot(Input):
    """The bot that a rule makes."""

    bot_name: BotName
    config: Config | None = None
    launcher_id: Annotated[str | None, Field(description="Left out: the project's default launcher")] = None


_Priority = Annotated[
    int, Field(ge=-PRIORITY_MOST, le=PRIORITY_MOST, description="Of several rules for a meeting the highest goes first")
]
_Scope = Annotated[
    DedupScope,
    Field(
        description="One bot of the rule per `event`; or one per `meeting`, over all calendars of the project;"
        " or per `organization`: the same among calendars whose owners share a domain"
    ),
]


class RuleCreate(Input):
    """A rule: which events get which bot."""

    name: Name
    is_enabled: bool = True
    priority: _Priority = 0
    match: RuleMatch
    bot: RuleBot
    dedup_scope: _Scope = "meeting"


def _without_null(schema: dict[str, Any]) -> None:
    schema.update(schema.pop("anyOf")[0])


_Kept = Field(json_schema_extra=_without_null)
"""Left out it stays as it is; so null, which is none of its values, is not said to be one."""


class RuleUpdate(Input):
    """What may change; fields that are left out stay as they are. `match` and `bot` are replaced as a whole."""

    name: Annotated[Name | None, BeforeValidator(not_null), _Kept] = None
    is_enabled: Annotated[bool | None, BeforeValidator(not_null), _Kept] = None
    priority: Annotated[_Priority | None, BeforeValidator(not_null), _Kept] = None
    match: Annotated[RuleMatch | None, BeforeValidator(not_null), _Kept] = None
    bot: Annotated[RuleBot | None, BeforeValidator(not_null), _Kept] = None
    dedup_scope: Annotated[_Scope | None, BeforeValidator(not_null), _Kept] = None


class TriedRule(RuleCreate):
    """A rule as it would be made, or, with its id, as it would be changed."""

    id: Annotated[str | None, Field(description="Of a rule that is there: as if it were changed to this")] = None


class DryRun(Input):
    """A rule, and the events on which to try it."""

    rule: TriedRule
    calendar_id: Annotated[str | None, Field(description="Left out: all calendars of the project")] = None
    start_time_gte: Annotated[
        Instant | None, Field(description="Left out: events that are not over, begun a day ago or later")
    ] = None
    start_time_lte: Annotated[Instant | None, Field(description="Left out: seven days after the former, or now")] = None

    @field_validator("start_time_lte")
    @classmethod
    def _after_its_start(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        start = info.data.get("start_time_gte")
        if value is not None and start is not None and value < start:
            raise PydanticCustomError("end_before_start", "is before start_time_gte")
        return value


class RulePage(Query):
    """A page of rules."""

    limit: Limit = 25
    cursor: Cursor = None
