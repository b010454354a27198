"""The Python of docs/receiving.md, run as it is printed."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.crypto import new_webhook_secret
from app.webhooks.signing import signed_headers, signers
from tests.harness import Actor
from tests.receiving import story

SCHEMES = pytest.mark.parametrize("scheme", ["v1", "v1a"])


@pytest.fixture
def receiver(tmp_path: Path) -> story.Receiver:
    """The receiver that the page shows."""
    program = tmp_path / "receiver.py"
    program.write_text(story.printed("A receiver in Python", "python"))
    return story.Receiver([sys.executable, "-W", "error", str(program)], tmp_path)


@SCHEMES
async def test_it_deduplicates_and_catches_up(actor: Actor, receiver: story.Receiver, scheme: str) -> None:
    async with story.telling(actor, receiver) as told:
        await story.deduplicates_and_catches_up(told, scheme)


@SCHEMES
async def test_it_follows_a_rotation(actor: Actor, receiver: story.Receiver, scheme: str) -> None:
    async with story.telling(actor, receiver) as told:
        await story.follows_a_rotation(told, scheme)


async def test_it_understands_a_digest(actor: Actor, receiver: story.Receiver) -> None:
    async with story.telling(actor, receiver) as told:
        await story.understands_a_digest(told)


async def test_it_refuses_what_is_not_ours(actor: Actor, receiver: story.Receiver) -> None:
    async with story.telling(actor, receiver) as told:
        await story.refuses_what_is_not_ours(told)


def test_the_library_verifies_as_the_page_says() -> None:
    named: dict[str, Any] = {}
    exec(story.printed("With a library", "python"), named)  # noqa: S102 - our own page
    secret, now = new_webhook_secret(), int(datetime.now(UTC).timestamp())
    headers = signed_headers(
        signers([new_webhook_secret(), secret]), message_id="msg_1", timestamp=now, body=b'{"a": 1}'
    )
    assert named["verified"](secret, headers, b'{"a": 1}') == {"a": 1}
    assert named["verified"](secret, headers, b'{"a": 2}') is None
    assert named["verified"](secret, headers | {"webhook-signature": "v1,%"}, b'{"a": 1}') is None
