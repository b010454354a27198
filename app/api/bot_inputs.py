"""What may be said of bots and launchers, judged before anything is stored."""

from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from app.api.inputs import Cursor, Input, Instant, Limit, Metadata, Name, Query, at_most, not_blank, not_null
from app.bots.launchers.base import MAX_HAND_OVER_SECONDS

BotState = Literal["scheduled", "launching", "launched", "failed", "cancelled", "missed"]
LauncherKind = Literal["webhook", "attendee", "recall", "meeting_baas"]

BotName = Annotated[str, Field(max_length=100), AfterValidator(not_blank)]
_LINK_SHAPE: Final = {"type": "string", "maxLength": 4096}
_TIME_SHAPE: Final = {"type": "string", "format": "date-time"}
_NAME_SHAPE: Final = {"type": "string", "minLength": 1, "maxLength": 100}
Link = Annotated[str, Field(max_length=4096)]
Config = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "description": "`recording`, `transcription`, `bot_image`, `entry_message`, `language`, `leave`,"
            " `passthrough`: docs/launchers.md. What the back end cannot do is refused",
        }
    ),
]


class BotCreate(Input):
    """A bot on an event, or with a link and a time of its own."""

    bot_name: BotName
    calendar_event_id: Annotated[str | None, Field(description="The bot follows this event; no link, no time")] = None
    meeting_url: Annotated[Link | None, Field(description="Without an event: where the bot is to go")] = None
    join_at: Annotated[Instant | None, Field(description="Without an event: when. Needs an offset")] = None
    launcher_id: Annotated[str | None, Field(description="Left out: the project's default launcher")] = None
    deduplication_key: Annotated[Name | None, Field(description="Unique among the project's live bots")] = None
    metadata: Metadata | None = None
    config: Config | None = None
    all_occurrences: Annotated[
        bool, Field(description="Bots for the event's whole series; the others' keys are `<key>:<original_start_time>`")
    ] = False


class BotUpdate(Input):
    """What may change; fields that are left out stay as they are."""

    bot_name: Annotated[BotName | None, BeforeValidator(not_null), WithJsonSchema(_NAME_SHAPE)] = None
    meeting_url: Annotated[Link | None, BeforeValidator(not_null), WithJsonSchema(_LINK_SHAPE)] = None
    join_at: Annotated[Instant | None, BeforeValidator(not_null), WithJsonSchema(_TIME_SHAPE)] = None
    metadata: Metadata | None = None
    config: Config | None = None


_States = Annotated[list[BotState] | None, BeforeValidator(at_most(len(get_args(BotState))))]


class OfSeries(Query):
    """Whether a series' bots are meant, or the one that is named."""

    all_occurrences: Annotated[bool, Field(description="All bots of the series that `all_occurrences` made")] = False


class BotFilters(Query):
    """Filters and page of the bots' list."""

    repeatable: ClassVar[frozenset[str]] = frozenset({"state", "states"})

    calendar_event_id: str | None = None
    calendar_id: str | None = None
    state: Annotated[_States, Field(description="May be repeated: bots in any of these states")] = None
    states: Annotated[_States, Field(description="The same as `state`")] = None
    deduplication_key: str | None = None
    join_at_gte: Annotated[Instant | None, Field(description="Inclusive")] = None
    join_at_lte: Annotated[Instant | None, Field(description="Inclusive")] = None
    join_at_after: Annotated[Instant | None, Field(description="Strict")] = None
    join_at_before: Annotated[Instant | None, Field(description="Strict")] = None
    meeting_url: Annotated[str | None, Field(description="Exactly as bots show it")] = None
    launcher_id: Annotated[str | None, Field(description="Bots that name this launcher")] = None
    limit: Limit = 25
    cursor: Cursor = None


_HandOver = Annotated[
    int, Field(ge=0, le=MAX_HAND_OVER_SECONDS, description="Seconds before `join_at` at which a bot is handed over")
]
_ApiKey = Annotated[str, Field(max_length=4096, pattern=r"^[\x21-\x7e]+$", description="Never shown again")]
_BaseUrl = Annotated[str, Field(max_length=2048, description="Of a back end of your own; https")]


class LauncherCreate(Input):
    """A bot back end."""

    kind: LauncherKind
    name: Name
    base_url: Annotated[_BaseUrl | None, Field(description="Left out: the vendor's own")] = None
    api_key: Annotated[_ApiKey | None, Field(description="Needed of all kinds but `webhook`")] = None
    hand_over_seconds: Annotated[_HandOver | None, Field(description="Left out: what is best for the kind")] = None
    is_default: Annotated[bool, Field(description="For bots that name no launcher; the one before is it no longer")] = (
        False
    )


class LauncherUpdate(Input):
    """What may change; fields that are left out stay as they are."""

    kind: Annotated[LauncherKind | None, BeforeValidator(not_null)] = None
    name: Annotated[Name | None, BeforeValidator(not_null), WithJsonSchema({"type": "string", "maxLength": 512})] = None
    base_url: _BaseUrl | None = None
    api_key: Annotated[
        _ApiKey | None, BeforeValidator(not_null), WithJsonSchema({"type": "string", "maxLength": 4096})
    ] = None
    hand_over_seconds: Annotated[
        _HandOver | None,
        BeforeValidator(not_null),
        WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_HAND_OVER_SECONDS}),
    ] = None
    is_default: Annotated[bool | None, BeforeValidator(not_null), WithJsonSchema({"type": "boolean"})] = None


class LauncherPage(Query):
    """A page of launchers."""

    limit: Limit = 25
    cursor: Cursor = None
