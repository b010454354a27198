"""The outgoing messages, described for the OpenAPI document's `webhooks`: what `app.webhooks.payloads` renders."""

from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import Field

from app.api.bot_inputs import BotState
from app.api.bots import SHAPE_EXAMPLE, BotShape
from app.api.calendars import ConnectionFailure, State
from app.api.outputs import CalendarRef, EventRef, MessageRef, OAuthAppRef, Output, Timestamp
from app.errors import HealthReason, HealthStatus

Kind = Literal[
    "rescheduled",
    "renamed",
    "link_changed",
    "relocated",
    "responses_changed",
    "attendees_changed",
    "cancelled",
    "restored",
    "left_window",
    "entered_window",
    "details_changed",
    "visibility_changed",
]


class _Message(Output):
    idempotency_key: MessageRef = Field(description="Equals the `webhook-id` header, the same for every attempt")
    timestamp: Timestamp


class _CalendarMessage(_Message):
    calendar_id: CalendarRef
    calendar_deduplication_key: str | None
    calendar_metadata: dict[str, str] | None


class Connection(Output):
    """How the calendar's connection stands."""

    state: State
    connection_failure_data: ConnectionFailure | None
    last_successful_sync_at: Timestamp | None
    last_attempted_sync_at: Timestamp | None


class EventChange(Output):
    """One change of the feed."""

    id: EventRef
    change: Literal["created", "updated", "deleted"]
    change_seq: int
    kinds: list[Kind]
    fields: dict[str, Any] = Field(description="By name: `{from, to}`, or null where the name is all that is told")


class EventsUpdateData(Connection):
    """One committed round of a calendar."""

    last_updated_at: Timestamp | None = Field(description="The smallest `updated_at` of the round")
    from_seq: int | None
    to_seq: int | None = Field(description="Inclusive: the next message's `from_seq` is this + 1")
    digest_of_count: int | None = Field(
        description="Of a digest: how many messages it stands for, which this endpoint did not get while it was failing"
        " or disabled. Its `from_seq` is that of the oldest change the endpoint has not acknowledged"
    )
    events: list[EventChange] = Field(max_length=100)
    truncated: bool = Field(description="Whether `events` leaves some out (over 100, or over 20 kB): read the feed")


class EventsUpdate(_CalendarMessage):
    """Events of a calendar changed, or its first sync is done."""

    trigger: Literal["calendar.events_update"]
    data: EventsUpdateData


class StateChangeData(Connection):
    """The transition."""

    previous_state: State


class StateChange(_CalendarMessage):
    """A calendar was disconnected, or works again."""

    trigger: Literal["calendar.state_change"]
    data: StateChangeData


class HealthChangeData(Output):
    """The transition."""

    from_: HealthStatus = Field(alias="from")
    to: HealthStatus
    reason: HealthReason | None = Field(description="Null where it is healthy again")


class HealthChange(_CalendarMessage):
    """A calendar is kept in sync worse than it was, or well again."""

    trigger: Literal["calendar.health_change"]
    data: HealthChangeData


class OAuthAppFailingData(Output):
    """The incident, or the warning."""

    oauth_app_id: OAuthAppRef
    code: str = Field(description="The provider's own, as `invalid_client`; `secret_expires` of a warning")
    detail: str
    since: Timestamp = Field(description="Of a warning: when it was made")
    secret_expires_at: Timestamp | None = Field(description="Of a warning: when; null of an incident")
    calendars_affected: int = Field(description="Connected calendars of this app; they stay connected")


class OAuthAppFailing(_Message):
    """The provider refuses one of your OAuth apps, or will when its secret expires."""

    trigger: Literal["oauth_app.failing"]
    calendar_id: None
    calendar_deduplication_key: None
    calendar_metadata: None
    data: OAuthAppFailingData


class BotStateChangeData(Output):
    """The transition."""

    bot: BotShape = Field(description="As it is now")
    revision: int = Field(description="Counts what `bot.launch` tells; an end below the latest launch is old")
    old_state: BotState | None = Field(description="Null of a bot that was just made")
    new_state: BotState
    reason: str | None = Field(description="Its `state_reason`")
    truncated: bool = Field(description="Whether `bot.config` is left out for its length: read the bot")


class BotStateChange(_Message):
    """A bot was made, or is in another state than before."""

    trigger: Literal["bot.state_change"]
    calendar_id: CalendarRef | None
    calendar_deduplication_key: str | None
    calendar_metadata: dict[str, str] | None
    data: BotStateChangeData


class BotLaunchData(Output):
    """The bot that is to be brought into its meeting."""

    bot: BotShape
    revision: int = Field(description="A message with a higher one replaces those before")
    join_at: Timestamp
    expires_at: Timestamp = Field(description="The end of its meeting: later there is no use in starting it")
    truncated: bool = Field(description="Whether `bot.config` is left out for its length: read the bot")


class BotLaunch(_Message):
    """Start this bot, or change the one that was started with this bot's id.

    Sent 0, 2, 5, 10 and 20 s after the first attempt, then every 30 s until `expires_at`, ahead of other messages and
    whatever the endpoint's own schedule, rate limit and order.
    """

    trigger: Literal["bot.launch"]
    calendar_id: CalendarRef | None
    calendar_deduplication_key: str | None
    calendar_metadata: dict[str, str] | None
    data: BotLaunchData


class TestData(Output):
    """A greeting."""

    message: str


class WebhookTest(_Message):
    """A test that the endpoint's owner asked for."""

    trigger: Literal["webhook.test"]
    calendar_id: None
    calendar_deduplication_key: None
    calendar_metadata: None
    data: TestData


_HEAD: Final = {
    "idempotency_key": "msg_01JD4QAA5B7D9F1H3K5N7Q9S1V",
    "timestamp": "2026-11-20T10:00:01.000000Z",
    "calendar_id": "cal_01JD4Q8ZK3V6W8N2M5T7R9B1CX",
    "calendar_deduplication_key": "user-abcd",
    "calendar_metadata": {"tenant_id": "1"},
}
EVENTS_UPDATE_EXAMPLE: Final[dict[str, Any]] = _HEAD | {
    "trigger": "calendar.events_update",
    "data": {
        "state": "connected",
        "connection_failure_data": None,
        "last_successful_sync_at": "2026-11-20T10:00:00.990000Z",
        "last_attempted_sync_at": "2026-11-20T10:00:00.600000Z",
        "last_updated_at": "2026-11-20T10:00:00.985000Z",
        "from_seq": 41,
        "to_seq": 41,
        "digest_of_count": None,
        "events": [
            {
                "id": "evt_01JD4Q9A7B9D1F3G5H7K9M1N3P",
                "change": "updated",
                "change_seq": 41,
                "kinds": ["rescheduled"],
                "fields": {
                    "start_time": {"from": "2026-11-23T08:00:00.000000Z", "to": "2026-11-23T09:00:00.000000Z"},
                    "end_time": {"from": "2026-11-23T08:30:00.000000Z", "to": "2026-11-23T09:30:00.000000Z"},
                },
            }
        ],
        "truncated": False,
    },
}
STATE_CHANGE_EXAMPLE: Final[dict[str, Any]] = _HEAD | {
    "trigger": "calendar.state_change",
    "data": {
        "state": "disconnected",
        "connection_failure_data": {
            "code": "user_revoked",
            "error": "invalid_grant",
            "message": "Token has been expired or revoked.",
            "timestamp": "2026-11-20T10:00:00.990000Z",
        },
        "last_successful_sync_at": "2026-11-20T09:00:00.000000Z",
        "last_attempted_sync_at": "2026-11-20T10:00:00.600000Z",
        "previous_state": "connected",
    },
}
HEALTH_CHANGE_EXAMPLE: Final[dict[str, Any]] = _HEAD | {
    "trigger": "calendar.health_change",
    "data": {"from": "healthy", "to": "degraded", "reason": "provider_unavailable"},
}
_NO_CALENDAR: Final = {"calendar_id": None, "calendar_deduplication_key": None, "calendar_metadata": None}
OAUTH_APP_FAILING_EXAMPLE: Final[dict[str, Any]] = (
    _HEAD
    | _NO_CALENDAR
    | {
        "trigger": "oauth_app.failing",
        "data": {
            "oauth_app_id": "oapp_01JD4Q8ZK3X0C2F4H6K8M0P2R4",
            "code": "invalid_client",
            "detail": "Google answered 401 invalid_client",
            "since": "2026-11-20T10:00:00.990000Z",
            "secret_expires_at": None,
            "calendars_affected": 1204,
        },
    }
)
BOT_STATE_CHANGE_EXAMPLE: Final[dict[str, Any]] = _HEAD | {
    "trigger": "bot.state_change",
    "data": {
        "bot": SHAPE_EXAMPLE | {"state": "cancelled", "state_reason": "link_gone"},
        "revision": 2,
        "old_state": "scheduled",
        "new_state": "cancelled",
        "reason": "link_gone",
        "truncated": False,
    },
}
BOT_LAUNCH_EXAMPLE: Final[dict[str, Any]] = _HEAD | {
    "trigger": "bot.launch",
    "data": {
        "bot": SHAPE_EXAMPLE,
        "revision": 1,
        "join_at": "2026-11-23T09:00:00.000000Z",
        "expires_at": "2026-11-23T09:30:00.000000Z",
        "truncated": False,
    },
}
TEST_EXAMPLE: Final[dict[str, Any]] = {
    "trigger": "webhook.test",
    "idempotency_key": "msg_01JD4QAA5B7D9F1H3K5N7Q9S1V",
    "timestamp": "2026-11-20T10:00:01.000000Z",
    "calendar_id": None,
    "calendar_deduplication_key": None,
    "calendar_metadata": None,
    "data": {"message": "This is a test. The endpoint works if its answer is a 2xx."},
}

_HEADERS: Final = (
    ("webhook-id", "The message's id, the same for every attempt"),
    ("webhook-timestamp", "Seconds since the epoch, of this attempt"),
    ("webhook-signature", "Standard Webhooks: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`"),
)
_PARAMETERS: Final = [
    {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
    for name, text in _HEADERS
]
_ANSWERS: Final = {
    "2XX": {"description": "Received. Anything else is tried again"},
    "410": {"description": "Stop: the endpoint becomes `disabled`"},
}


@dataclass(frozen=True, slots=True)
class Message:
    """One kind of message, as the document describes it."""

    trigger: str
    model: type[Output]
    summary: str
    description: str
    example: dict[str, Any]

    def operation(self) -> dict[str, Any]:
        """Its entry under `webhooks`."""
        schema = {"$ref": f"#/components/schemas/{self.model.__name__}"}
        return {
            "post": {
                "tags": ["Messages"],
                "operationId": self.trigger.replace(".", "_"),
                "summary": self.summary,
                "description": self.description,
                "security": [],
                "parameters": _PARAMETERS,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": schema, "example": self.example}},
                },
                "responses": _ANSWERS,
            }
        }


MESSAGES: Final = (
    Message(
        "calendar.events_update",
        EventsUpdate,
        "Events changed",
        "One per committed round with changes, and one after the first sync of a connection, even if empty. "
        "Order is not promised: go by `from_seq` and `to_seq`.",
        EVENTS_UPDATE_EXAMPLE,
    ),
    Message(
        "calendar.state_change",
        StateChange,
        "A calendar's connection changed",
        "Once per transition, reconnection too.",
        STATE_CHANGE_EXAMPLE,
    ),
    Message(
        "calendar.health_change",
        HealthChange,
        "A calendar's health changed",
        "Once per transition that lasts, and at least 60 s apart. A refused OAuth app is told by `oauth_app.failing`.",
        HEALTH_CHANGE_EXAMPLE,
    ),
    Message(
        "oauth_app.failing",
        OAuthAppFailing,
        "An OAuth app is refused",
        "Once per incident: its calendars stay connected and are tried again slowly. And as a warning, with the code"
        " `secret_expires`, 30, 7 and 1 days before a secret's `secret_expires_at`, each once.",
        OAUTH_APP_FAILING_EXAMPLE,
    ),
    Message(
        "bot.state_change",
        BotStateChange,
        "A bot's state changed",
        "Once per transition, and once for a new bot; `bot.state_reason` says why.",
        BOT_STATE_CHANGE_EXAMPLE,
    ),
    Message(
        "bot.launch",
        BotLaunch,
        "Bring a bot into its meeting",
        "For launchers of kind `webhook`, and projects without any. A 2xx takes the bot; its JSON body may name an"
        " `external_id`. Sent again, with a higher `revision`, when the meeting moves or its link changes; an end is"
        " told by `bot.state_change`.",
        BOT_LAUNCH_EXAMPLE,
    ),
    Message("webhook.test", WebhookTest, "A test", "Sent when the endpoint's owner asks for it.", TEST_EXAMPLE),
)
"""Every message there is: `payloads.TRIGGERS`."""
