"""What `bot.launch` says, and which answers name the receiver's own id."""

from datetime import UTC, datetime

import pytest

from app.bots.launchers.webhook import external_id, launch_data


def test_a_launch_says_which_bot_when_and_until_when() -> None:
    at, end = datetime(2026, 12, 1, 9, tzinfo=UTC), datetime(2026, 12, 1, 10, tzinfo=UTC)
    said = launch_data({"id": "bot_1"}, revision=2, join_at=at, expires_at=end)
    assert said == {
        "bot": {"id": "bot_1"},
        "revision": 2,
        "join_at": "2026-12-01T09:00:00.000000Z",
        "expires_at": "2026-12-01T10:00:00.000000Z",
    }


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b'{"external_id": "b-1"}', "b-1"),
        (b'{"external_id": ""}', None),
        (b'{"external_id": 7}', None),
        (b'{"external_id": "a\\u0000b"}', None),
        (b'{"external_id": "' + b"x" * 201 + b'"}', None),
        (b'["external_id"]', None),
        (b'{"external_id": "b-', None),
        (b"ok", None),
        (b"", None),
    ],
)
def test_an_answer_may_name_the_receivers_id(answer: bytes, found: str | None) -> None:
    assert external_id(answer) == found
