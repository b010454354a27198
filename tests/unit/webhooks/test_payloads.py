"""Message bodies: exact shapes, and never more than the limits."""

from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ids import CALENDAR, EVENT, MESSAGE, new_id, public
from app.webhooks.payloads import (
    MAX_BYTES,
    MAX_EVENTS,
    SUBSCRIBABLE,
    TRIGGERS,
    Connection,
    EventChange,
    MessageCalendar,
    events_update,
    state_change,
    webhook_test,
)

AT = datetime(2026, 11, 20, 10, 0, 1, tzinfo=UTC)
TEXT = "2026-11-20T10:00:01.000000Z"
CALENDAR_ROW = MessageCalendar(new_id(), "user-abcd", {"tenant_id": "1"})
CONNECTED = Connection("connected", None, AT, AT)


def change(seq: int, *, size: int = 0, **fields: Any) -> EventChange:
    named = {"name": {"from": "a" * size, "to": "b"}} if size else fields
    return EventChange(new_id(), "updated", seq, ("renamed",), named)


def update(changes: list[EventChange], *, message_id: UUID | None = None, **over: Any) -> bytes:
    values: dict[str, Any] = {
        "at": AT,
        "calendar": CALENDAR_ROW,
        "connection": CONNECTED,
        "last_updated_at": AT if changes else None,
    }
    return events_update(message_id or new_id(), changes=changes, **values | over)


def test_events_update_is_the_documented_message() -> None:
    message_id, one = (
        new_id(),
        EventChange(
            new_id(),
            "updated",
            41,
            ("rescheduled",),
            {"start_time": {"from": TEXT, "to": None}, "description": None},
        ),
    )
    assert update([one], message_id=message_id) == orjson.dumps(
        {
            "trigger": "calendar.events_update",
            "idempotency_key": public(MESSAGE, message_id),
            "timestamp": TEXT,
            "calendar_id": public(CALENDAR, CALENDAR_ROW.id),
            "calendar_deduplication_key": "user-abcd",
            "calendar_metadata": {"tenant_id": "1"},
            "data": {
                "state": "connected",
                "connection_failure_data": None,
                "last_successful_sync_at": TEXT,
                "last_attempted_sync_at": TEXT,
                "last_updated_at": TEXT,
                "from_seq": 41,
                "to_seq": 41,
                "digest_of_count": None,
                "events": [
                    {
                        "id": public(EVENT, one.event_id),
                        "change": "updated",
                        "change_seq": 41,
                        "kinds": ["rescheduled"],
                        "fields": {"start_time": {"from": TEXT, "to": None}, "description": None},
                    }
                ],
                "truncated": False,
            },
        }
    )


def test_first_message_of_an_empty_calendar() -> None:
    data = orjson.loads(update([]))["data"]
    assert (data["from_seq"], data["to_seq"], data["last_updated_at"]) == (None, None, None)
    assert (data["events"], data["truncated"]) == ([], False)


def test_at_most_a_hundred_events_but_the_sequence_of_all() -> None:
    data = orjson.loads(update([change(seq) for seq in range(7, 7 + MAX_EVENTS + 1)]))["data"]
    assert [e["change_seq"] for e in data["events"]] == list(range(7, 7 + MAX_EVENTS))
    assert (data["from_seq"], data["to_seq"], data["truncated"]) == (7, 7 + MAX_EVENTS, True)
    exactly = orjson.loads(update([change(seq) for seq in range(MAX_EVENTS)]))["data"]
    assert (len(exactly["events"]), exactly["truncated"]) == (MAX_EVENTS, False)


def test_the_last_byte_is_used_and_not_one_more() -> None:
    room = MAX_BYTES - len(update([change(1, size=1)])) + 1
    assert len(update([change(1, size=room)])) == MAX_BYTES
    over = update([change(1, size=room + 1)])
    assert orjson.loads(over)["data"]["truncated"] is True


@settings(max_examples=50)
@given(sizes=st.lists(st.integers(1, 9_000), max_size=130))
def test_never_more_than_20_kb_and_truncated_tells_the_truth(sizes: list[int]) -> None:
    body = update([change(seq, size=size) for seq, size in enumerate(sizes)])
    data = orjson.loads(body)["data"]
    assert len(body) <= MAX_BYTES
    assert len(data["events"]) <= MAX_EVENTS
    assert data["truncated"] == (len(data["events"]) < len(sizes))
    assert [e["change_seq"] for e in data["events"]] == list(range(len(data["events"])))


def test_state_change() -> None:
    failure = MappingProxyType({"code": "user_revoked", "detail": "x"})
    gone = Connection("disconnected", failure, None, AT)
    body = orjson.loads(
        state_change(new_id(), at=AT, calendar=CALENDAR_ROW, connection=gone, previous_state="connected")
    )
    assert body["trigger"] == "calendar.state_change"
    assert body["data"] == {
        "state": "disconnected",
        "connection_failure_data": {"code": "user_revoked", "detail": "x"},
        "last_successful_sync_at": None,
        "last_attempted_sync_at": TEXT,
        "previous_state": "connected",
    }


def test_webhook_test_names_no_calendar() -> None:
    body = orjson.loads(webhook_test(new_id(), at=AT))
    assert [body[f"calendar_{name}"] for name in ("id", "deduplication_key", "metadata")] == [None] * 3
    assert list(body["data"]) == ["message"]


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=2))), "2026-02-28T22:30:00.000000Z"),
        (datetime(2026, 3, 1, 0, 30, 0, 7, tzinfo=UTC), "2026-03-01T00:30:00.000007Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_times_are_utc_with_six_digits(at: datetime, text: str) -> None:
    assert orjson.loads(webhook_test(new_id(), at=at))["timestamp"] == text


def test_triggers_are_a_closed_list() -> None:
    assert TRIGGERS == (
        "calendar.events_update",
        "calendar.state_change",
        "calendar.health_change",
        "oauth_app.failing",
        "bot.state_change",
        "bot.launch",
        "webhook.test",
    )
    assert TRIGGERS[:6] == SUBSCRIBABLE
