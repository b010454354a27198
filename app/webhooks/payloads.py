"""The public message types, rendered once into the bytes that are stored, signed and sent.

Guarantees: no body is longer than 20 kB, the advice of Standard Webhooks (what does not fit is left out and
`truncated` says so), sequence numbers always describe the whole round, every endpoint gets the same bytes.
The shapes are those of `docs/api.md`, "Webhook endpoints and deliveries".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Literal, NamedTuple
from uuid import UUID

import orjson

from app.ids import CALENDAR, EVENT, MESSAGE, OAUTH_APP, public
from app.instants import instant

EVENTS_UPDATE = "calendar.events_update"
STATE_CHANGE = "calendar.state_change"
HEALTH_CHANGE = "calendar.health_change"
OAUTH_APP_FAILING = "oauth_app.failing"
BOT_STATE_CHANGE = "bot.state_change"
BOT_LAUNCH = "bot.launch"
TEST = "webhook.test"
SUBSCRIBABLE = (EVENTS_UPDATE, STATE_CHANGE, HEALTH_CHANGE, OAUTH_APP_FAILING, BOT_STATE_CHANGE, BOT_LAUNCH)
"""What an endpoint may name; a test always goes to the one endpoint it is asked for."""
TRIGGERS = (*SUBSCRIBABLE, TEST)
"""Every kind of message there is: a closed list."""

MAX_BYTES = 20_000
MAX_EVENTS = 100

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MessageCalendar:
    """The calendar a message is about, as its owner named it."""

    id: UUID
    deduplication_key: str | None
    metadata: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Connection:
    """How the calendar's connection stands when the message is made."""

    state: str
    failure: Mapping[str, Any] | None
    last_successful_sync_at: datetime | None
    last_attempted_sync_at: datetime | None


@dataclass(frozen=True, slots=True)
class EventChange:
    """One entry of the feed; a value of `fields` is `{"from": …, "to": …}`, or None where the name is all."""

    event_id: UUID
    change: Literal["created", "updated", "deleted"]
    change_seq: int
    kinds: tuple[str, ...]
    fields: Mapping[str, Any]


def events_update(
    message_id: UUID,
    *,
    at: datetime,
    calendar: MessageCalendar,
    connection: Connection,
    changes: Sequence[EventChange],
    last_updated_at: datetime | None,
) -> bytes:
    """One committed round (a first message may be empty); `last_updated_at` is its smallest `updated_at`."""
    sequence = [change.change_seq for change in changes]
    data = _connection(connection) | {
        "last_updated_at": instant(last_updated_at),
        "from_seq": min(sequence, default=None),
        "to_seq": max(sequence, default=None),
        "digest_of_count": None,
    }
    head = _message(EVENTS_UPDATE, message_id, at=at, calendar=calendar, data=data)
    entries = (_entry(change) for change in changes)
    return _with_events(head, entries, count=len(changes))


class Digest(NamedTuple):
    """A digest's bytes, and the part of the feed that it covers."""

    payload: bytes
    from_seq: int | None
    to_seq: int | None


def events_digest(
    message_id: UUID, *, at: datetime, messages: Sequence[bytes], count: int, from_seq: int | None
) -> Digest:
    """One message for many of one calendar that an endpoint did not get; `messages` in the order of their making.

    It tells the connection as the last of them does, and repeats their changes as far as they fit. `count` is how many
    messages it stands for; `from_seq` is where the endpoint's knowledge ends, which may lie before all of them.
    """
    bodies = [orjson.loads(message) for message in messages]
    last, parts = bodies[-1], [body["data"] for body in bodies]
    first = [part["from_seq"] for part in parts if part["from_seq"] is not None]
    if first and from_seq is not None:  # messages without changes, first ones, tell of no part of the feed
        first.append(from_seq)
    data = {name: last["data"][name] for name in _CONNECTION} | {
        "last_updated_at": min((part["last_updated_at"] for part in parts if part["last_updated_at"]), default=None),
        "from_seq": min(first, default=None),
        "to_seq": max((part["to_seq"] for part in parts if part["to_seq"] is not None), default=None),
        "digest_of_count": count,
    }
    named = {name: last[name] for name in ("calendar_id", "calendar_deduplication_key", "calendar_metadata")}
    head = _rendered(EVENTS_UPDATE, message_id, at=at, calendar=named, data=data)
    changes = {entry["change_seq"]: entry for part in parts for entry in part["events"]}
    told = (orjson.dumps(changes[seq]) for seq in sorted(changes))  # no more of them than fit
    missing = 0 if data["from_seq"] is None else data["to_seq"] - data["from_seq"] + 1
    payload = _with_events(head, told, count=max(missing, len(changes)))
    return Digest(payload, data["from_seq"], data["to_seq"])


def _with_events(head: bytes, entries: Iterator[bytes], *, count: int) -> bytes:
    # `head` ends in "}}": the entries go before that, so each is rendered once and none beyond the limit.
    fitting = _fitting(entries, MAX_BYTES - len(head) - len(b',"events":[],"truncated":false'))
    truncated = b"true" if len(fitting) < count else b"false"
    return b"".join((head[:-2], b',"events":[', b",".join(fitting), b'],"truncated":', truncated, b"}}"))


def state_change(
    message_id: UUID, *, at: datetime, calendar: MessageCalendar, connection: Connection, previous_state: str
) -> bytes:
    """One transition of a calendar's state, a reconnection too."""
    data = _connection(connection) | {"previous_state": previous_state}
    return _message(STATE_CHANGE, message_id, at=at, calendar=calendar, data=data)


def health_change(
    message_id: UUID, *, at: datetime, calendar: MessageCalendar, before: str, after: str, reason: str | None
) -> bytes:
    """One transition of a calendar's health; no reason where it is healthy again."""
    data = {"from": before, "to": after, "reason": reason}
    return _message(HEALTH_CHANGE, message_id, at=at, calendar=calendar, data=data)


def oauth_app_failing(
    message_id: UUID,
    *,
    at: datetime,
    oauth_app_id: UUID,
    code: str,
    detail: str,
    since: datetime,
    secret_expires_at: datetime | None,
    calendars_affected: int,
) -> bytes:
    """One incident of an OAuth app (`code` is the provider's), or a warning that its secret will expire."""
    data = {
        "oauth_app_id": public(OAUTH_APP, oauth_app_id),
        "code": code,
        "detail": detail,
        "since": instant(since),
        "secret_expires_at": instant(secret_expires_at),
        "calendars_affected": calendars_affected,
    }
    return _message(OAUTH_APP_FAILING, message_id, at=at, calendar=None, data=data)


def bot_state_change(
    message_id: UUID,
    *,
    at: datetime,
    calendar: MessageCalendar | None,
    bot: JsonObject,
    revision: int,
    old_state: str | None,
    truncated: bool,
) -> bytes:
    """One transition of a bot; `bot` as it is now, `truncated` where its config is left out."""
    data = {
        "bot": bot,
        "revision": revision,
        "old_state": old_state,
        "new_state": bot["state"],
        "reason": bot["state_reason"],
        "truncated": truncated,
    }
    return _message(BOT_STATE_CHANGE, message_id, at=at, calendar=calendar, data=data)


def bot_launch(message_id: UUID, *, at: datetime, calendar: MessageCalendar | None, data: JsonObject) -> bytes:
    """A bot that is to be brought into its meeting, or what has changed about it since."""
    return _message(BOT_LAUNCH, message_id, at=at, calendar=calendar, data=data)


def webhook_test(message_id: UUID, *, at: datetime) -> bytes:
    """What an endpoint gets when its owner asks for a test."""
    data = {"message": "This is a test. The endpoint works if its answer is a 2xx."}
    return _message(TEST, message_id, at=at, calendar=None, data=data)


def _entry(change: EventChange) -> bytes:
    return orjson.dumps(
        {
            "id": public(EVENT, change.event_id),
            "change": change.change,
            "change_seq": change.change_seq,
            "kinds": change.kinds,
            "fields": change.fields,
        },
        default=dict,
    )


def _fitting(changes: Iterator[bytes], room: int) -> list[bytes]:
    entries: list[bytes] = []
    for entry in islice(changes, MAX_EVENTS):
        room -= len(entry) + 1
        if room < -1:  # the last entry has no comma
            break
        entries.append(entry)
    return entries


_CONNECTION = ("state", "connection_failure_data", "last_successful_sync_at", "last_attempted_sync_at")


def _connection(connection: Connection) -> JsonObject:
    return {
        "state": connection.state,
        "connection_failure_data": connection.failure,
        "last_successful_sync_at": instant(connection.last_successful_sync_at),
        "last_attempted_sync_at": instant(connection.last_attempted_sync_at),
    }


def _message(
    trigger: str, message_id: UUID, *, at: datetime, calendar: MessageCalendar | None, data: JsonObject
) -> bytes:
    named = {
        "calendar_id": public(CALENDAR, calendar.id) if calendar else None,
        "calendar_deduplication_key": calendar.deduplication_key if calendar else None,
        "calendar_metadata": calendar.metadata if calendar else None,
    }
    return _rendered(trigger, message_id, at=at, calendar=named, data=data)


def _rendered(trigger: str, message_id: UUID, *, at: datetime, calendar: JsonObject, data: JsonObject) -> bytes:
    head = {"trigger": trigger, "idempotency_key": public(MESSAGE, message_id), "timestamp": instant(at)}
    return orjson.dumps(head | calendar | {"data": data}, default=dict, option=orjson.OPT_UTC_Z)
