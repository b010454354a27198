"""What a receiver of docs/receiving.md is put through: the same for every language, with real deliveries."""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from app.webhooks.delivery import deliver_due
from app.webhooks.signing import signed_headers, signers
from demo.processes import free_port
from tests.harness import Actor, Connected, application, listen

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "receiving.md"
SECONDS = 120
ENDPOINT = "/webhooks"


def printed(heading: str, language: str) -> str:
    """The code block under a heading of docs/receiving.md, exactly as it stands there."""
    section = DOCUMENT.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"{heading}: {len(blocks)} blocks of {language}"
    return str(blocks[0])


class Receiver:
    """A receiver as a process of its own, and what it has said."""

    def __init__(self, command: Sequence[str], home: Path) -> None:
        self._command = command
        self._home = home
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._spoken = asyncio.Condition()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.changes: list[dict[str, Any]] = []

    async def start(self, *, keys: Sequence[str], api_url: str, api_key: str) -> None:
        """Start it, as its documentation says; it accepts connections when this returns."""
        environment = {
            "PATH": os.environ["PATH"],
            "WEBHOOK_KEYS": " ".join(keys),
            "PUNCTUAL_URL": api_url,
            "PUNCTUAL_API_KEY": api_key,
            "PORT": str(self.port),
            "DATABASE": str(self._home / "receiver.db"),
        }
        with (self._home / "receiver.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=environment, cwd=self._home, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        self._reader = asyncio.create_task(self._read(self._process))
        async with asyncio.timeout(SECONDS):
            while not await self._listens():
                assert self._process.returncode is None, self.log()
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End it, wherever it is."""
        if self._process is not None and self._reader is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.wait()
            await self._reader
            self._process = None

    async def knows(self, seq: int) -> None:
        """Wait until it has told of this change."""
        async with asyncio.timeout(SECONDS), self._spoken:
            await self._spoken.wait_for(lambda: any(change["seq"] >= seq for change in self.changes))

    def log(self) -> str:
        """What it complained about."""
        return (self._home / "receiver.log").read_text()

    @property
    def numbers(self) -> list[int]:
        """The changes it told of, by number, in the order of telling."""
        return [change["seq"] for change in self.changes]

    @property
    def distinct(self) -> list[int]:
        """The same, each once: who was ended between telling and remembering tells again."""
        return list(dict.fromkeys(self.numbers))

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            async with self._spoken:
                if line.startswith(b"{"):
                    self.changes.append(json.loads(line))
                self._spoken.notify_all()


class Story:
    """An application whose webhooks the receiver gets."""

    def __init__(self, actor: Actor, receiver: Receiver, api_url: str) -> None:
        self.actor, self.receiver, self._api_url = actor, receiver, api_url
        self.endpoint: dict[str, Any] = {}
        self.seq = 0

    async def begin(self, scheme: str) -> Connected:
        """A connected calendar with an endpoint at the receiver, which runs."""
        body = {"url": self.receiver.url, "triggers": ["calendar.events_update"], "signature": scheme}
        self.endpoint = await self.actor.call("POST", ENDPOINT, json=body, expect=201)
        await self.restart([self.endpoint["secret"] or self.endpoint["public_key"]])
        return await self.actor.connected()

    async def restart(self, keys: Sequence[str]) -> None:
        """The receiver once more, with these keys."""
        await self.receiver.stop()
        await self.receiver.start(keys=keys, api_url=self._api_url, api_key=self.actor.project.key)

    async def edit(self, calendar: Connected, *titles: str) -> None:
        """So many new events, and everything due done."""
        for title in titles:
            self.actor.add_event(calendar, title)
            await self.actor.quiesce()
            self.seq += 1

    async def deliveries(self) -> list[dict[str, Any]]:
        """The endpoint's log, the latest first."""
        return list((await self.actor.call("GET", "/webhook_deliveries"))["results"])

    async def patch(self, **changes: Any) -> None:
        """Change the endpoint."""
        await self.actor.call("PATCH", f"{ENDPOINT}/{self.endpoint['id']}", json=changes)

    async def again(self) -> None:
        """Deliver once more what was delivered, as after an answer that was lost."""
        async with self.actor.rt.db.transaction() as tx:
            await tx.execute("UPDATE deliveries SET state = 'pending', next_attempt_at = app_now()")
        count = len(await self.deliveries())
        assert await deliver_due(self.actor.rt) == count > 0


@asynccontextmanager
async def telling(actor: Actor, receiver: Receiver) -> AsyncIterator[Story]:
    """The API on a port, and an end to the receiver."""
    async with listen(application(actor.rt)) as api_url:
        try:
            yield Story(actor, receiver, api_url)
        finally:
            await receiver.stop()


async def deduplicates_and_catches_up(story: Story, scheme: str) -> None:
    """Every change once, whatever comes twice or not at all."""
    receiver = story.receiver
    calendar = await story.begin(scheme)
    await story.edit(calendar, "One", "Two")
    await receiver.knows(2)
    assert receiver.numbers == [1, 2]
    await story.again()
    await story.edit(calendar, "Three")
    await receiver.knows(3)
    assert receiver.numbers == [1, 2, 3]
    assert {d["state"] for d in await story.deliveries()} == {"succeeded"}

    # Two that never come: the next message says so by its numbers, and the API has them.
    await story.patch(triggers=["calendar.state_change"])
    await story.edit(calendar, "Four", "Five")
    await story.patch(triggers=["calendar.events_update"])
    await story.edit(calendar, "Six")
    await receiver.knows(6)
    assert receiver.numbers == [1, 2, 3, 4, 5, 6]
    assert [change["change"] for change in receiver.changes] == ["created"] * 3 + ["updated"] * 3
    latest = (await story.deliveries())[0]["payload"]["data"]
    assert (latest["from_seq"], latest["to_seq"]) == (6, 6)

    # It was away while messages came, and starts again with what it knew.
    await receiver.stop()
    await story.edit(calendar, "Seven")
    assert (await story.deliveries())[0]["attempts"][0]["error"] == "connect_error"
    await story.restart([story.endpoint["secret"] or story.endpoint["public_key"]])
    story.actor.advance(timedelta(seconds=6))
    await story.actor.quiesce()
    await receiver.knows(7)
    assert receiver.distinct == [1, 2, 3, 4, 5, 6, 7]
    events = {event["id"] for event in await story.actor.events(calendar)}
    assert {change["event"] for change in receiver.changes} == events
    assert "Error" not in receiver.log()


async def understands_a_digest(story: Story) -> None:
    """What it missed while its endpoint was disabled comes as one message, and is told as if it had come in time."""
    receiver = story.receiver
    calendar = await story.begin("v1")
    await story.edit(calendar, "One")
    await receiver.knows(1)
    async with story.actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE webhook_endpoints SET state = 'disabled', disabled_reason = 'failed_for_days'")
    await story.edit(calendar, "Two", "Three", "Four")
    await story.patch(state="enabled")
    await story.actor.quiesce()
    await receiver.knows(4)
    assert receiver.numbers == [1, 2, 3, 4]
    log = await story.deliveries()
    [digest] = [d["payload"]["data"] for d in log if d["payload"]["data"]["digest_of_count"] is not None]
    told = (digest["digest_of_count"], digest["from_seq"], digest["to_seq"], digest["truncated"])
    assert told == (3, 2, 4, False)
    assert [d["state"] for d in log].count("merged") == 3


async def follows_a_rotation(story: Story, scheme: str) -> None:
    """With the old key during the grace, with both, with the new one after it."""
    receiver = story.receiver
    calendar = await story.begin(scheme)
    old = story.endpoint["secret"] or story.endpoint["public_key"]
    path = f"{ENDPOINT}/{story.endpoint['id']}/rotate_secret"
    rotated = await story.actor.call("POST", path, json={"grace_seconds": 60})
    new = rotated["secret"] or rotated["public_key"]
    for seq, keys in enumerate(([old], [old, new], [new]), start=1):
        await story.restart(keys)
        await story.edit(calendar, f"Event {seq}")
        await receiver.knows(seq)
    story.actor.advance(timedelta(seconds=61))
    await story.edit(calendar, "After the grace")
    await receiver.knows(4)
    await story.restart([old])
    await story.edit(calendar, "Too late")
    [attempt] = (await story.deliveries())[0]["attempts"]
    assert (attempt["status"], attempt["error"]) == (401, "refused")
    assert receiver.distinct == [1, 2, 3, 4]


async def refuses_what_is_not_ours(story: Story) -> None:
    """A body, id, time or key that was changed; no signature; an old recording."""
    receiver = story.receiver
    calendar = await story.begin("v1")
    await story.edit(calendar, "One")
    await receiver.knows(1)
    body = json.dumps((await story.deliveries())[0]["payload"] | {"idempotency_key": "msg_forged"}).encode()
    now, secret = int(datetime.now(UTC).timestamp()), story.endpoint["secret"]
    good = signed_headers(signers([secret]), message_id="msg_x", timestamp=now, body=body)
    other = signed_headers(
        signers(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]), message_id="msg_x", timestamp=now, body=body
    )
    forged: list[dict[str, str]] = [
        {},
        other,
        good | {"webhook-id": "msg_y"},
        good | {"webhook-timestamp": str(now + 1)},
        good | {"webhook-timestamp": "soon"},
        good | {"webhook-signature": ""},
        good | {"webhook-signature": "v1"},
        good | {"webhook-signature": "v1,%% v1a,%% v2,AAAA"},
        good | {"webhook-signature": good["webhook-signature"].replace("v1,", "v1a,")},
        signed_headers(signers([secret]), message_id="msg_x", timestamp=now - 301, body=body),
        signed_headers(signers([secret]), message_id="msg_x", timestamp=now + 3_600, body=body),
        signed_headers(signers([secret]), message_id="msg_x", timestamp=now, body=body + b" "),
    ]
    async with httpx.AsyncClient(trust_env=False) as client:
        for headers in forged:
            answer = await client.post(receiver.url, content=body, headers=headers)
            assert answer.status_code == 401, headers
        mixed = good | {"webhook-signature": f"v1,AAAA {good['webhook-signature']} v2,x"}
        assert (await client.post(receiver.url, content=body, headers=mixed)).status_code == 204
    await story.edit(calendar, "Two")
    await receiver.knows(2)
    assert receiver.numbers == [1, 2]
