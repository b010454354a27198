"""The JavaScript of docs/receiving.md, run as it is printed, and the library of Standard Webhooks as our judge.

`make conformance` says in CONFORMANCE where Node and the library are.
"""

import base64
import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.crypto import new_webhook_pair, new_webhook_secret
from app.webhooks.signing import signed_headers, signers
from tests.harness import Actor
from tests.receiving import story

HOME = Path(os.environ["CONFORMANCE"])
NODE = HOME / "bin" / "node"
SCHEMES = pytest.mark.parametrize("scheme", ["v1", "v1a"])

JUDGE = """
import { readFileSync } from "node:fs";
import { verified } from "./verified.mjs";
const asked = JSON.parse(readFileSync(0, "utf8"));
const judged = asked.map(({ secret, headers, body }) => verified(secret, headers, Buffer.from(body, "base64")));
console.log(JSON.stringify(judged));
"""


@pytest.fixture
def receiver(tmp_path: Path) -> story.Receiver:
    """The receiver that the page shows."""
    program = tmp_path / "receiver.mjs"
    program.write_text(story.printed("A receiver in JavaScript", "javascript"))
    return story.Receiver([str(NODE), str(program)], tmp_path)


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


def test_the_library_judges_our_signatures(tmp_path: Path) -> None:
    """It knows v1 alone; a signature of v1a beside it does no harm."""
    (tmp_path / "verified.mjs").write_text(story.printed("With a library", "javascript"))
    (tmp_path / "judge.mjs").write_text(JUDGE)
    (tmp_path / "node_modules").symlink_to(HOME / "node_modules")
    secret, other, pair = new_webhook_secret(), new_webhook_secret(), new_webhook_pair()
    now = int(datetime.now(UTC).timestamp())
    body = '{"title": "Besprechung: 会議 🗓"}'.encode()
    cases = [
        ([secret], secret, now, body, True),
        ([other, secret], secret, now, body, True),
        ([pair.private, secret], secret, now, body, True),
        ([other], secret, now, body, False),
        ([pair.private], secret, now, body, False),
        ([secret], secret, now - 301, body, False),
        ([secret], secret, now, body + b" ", False),
    ]
    asked = []
    for keys, known, at, told, _ in cases:
        headers = signed_headers(signers(keys), message_id="msg_1", timestamp=at, body=body)
        asked.append({"secret": known, "headers": headers, "body": base64.b64encode(told).decode()})
    judged = subprocess.run(
        [str(NODE), "judge.mjs"], cwd=tmp_path, input=json.dumps(asked).encode(), capture_output=True, check=True
    )
    expected = [json.loads(body) if is_ours else None for *_, is_ours in cases]
    assert json.loads(judged.stdout) == expected
