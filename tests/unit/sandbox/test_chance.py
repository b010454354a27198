"""What goes wrong at the sandbox's providers now and then: by seed, as often as was asked for, and no longer."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from sandbox import Sandbox
from sandbox.sink import Sink
from tests.harness import listen

CALENDAR = "person@example.com"
REQUESTS = 400


class Box:
    """A sandbox with one Google calendar whose pushes go to a sink, through its control surface."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def call(self, method: str, path: str, *, expect: int = 200, **body: Any) -> dict[str, Any]:
        """One control request."""
        answer = await self._client.request(method, f"/_sandbox{path}", json=body)
        assert answer.status_code == expect, answer.text
        return dict(answer.json())

    async def watch(self, address: str) -> None:
        """Have changes told to this address."""
        body = {"id": "channel-1", "type": "web_hook", "address": address}
        answer = await self._client.post(f"/calendar/v3/calendars/{CALENDAR}/events/watch", json=body)
        assert answer.status_code == 200, answer.text

    async def lists(self, count: int = REQUESTS) -> list[int]:
        """The statuses of so many requests at Google's door; 0 is a connection that was closed."""
        found = []
        for _ in range(count):
            try:
                answer = await self._client.get(f"/calendar/v3/calendars/{CALENDAR}/events")
            except httpx.RemoteProtocolError:
                found.append(0)
            else:
                found.append(answer.status_code)
        return found


@pytest.fixture
async def receiver() -> Sink:
    return Sink()


@pytest.fixture
async def sandbox_under_test(receiver: Sink) -> AsyncIterator[Sandbox]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(receiver.app)) as push:
        box = Sandbox.create(push_client=push)
        yield box
        await box.close()


@pytest.fixture
async def box(sandbox_under_test: Sandbox) -> AsyncIterator[Box]:
    transport = httpx.ASGITransport(sandbox_under_test.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as client:
        made = Box(client)
        account = await made.call("POST", "/accounts", email=CALENDAR)
        grant = sandbox_under_test.world.grants[account["refresh_token"]]
        token = sandbox_under_test.world.issue_access_token(grant).token
        client.headers["Authorization"] = f"Bearer {token}"
        yield made


async def test_a_fault_strikes_the_part_that_was_asked_for(box: Box) -> None:
    async def storm(seed: int) -> list[int]:
        await box.call("POST", "/faults", kind="unavailable", times=None, probability=0.1, seed=seed)
        await box.call("POST", "/faults", kind="drop", times=None, probability=0.1, seed=seed + 1)
        found = await box.lists()
        struck = {fault["kind"]: fault["struck"] for fault in (await box.call("GET", "/faults"))["active"]}
        assert struck == {"unavailable": found.count(503), "drop": found.count(0)}
        await box.call("DELETE", "/faults")
        return found

    first, again, other = await storm(1), await storm(1), await storm(7)
    assert first == again != other
    seen = Counter(first)
    assert seen.keys() == {200, 503, 0}
    assert all(20 <= seen[status] <= 70 for status in (503, 0)), seen
    assert set(await box.lists(50)) == {200}


@pytest.mark.parametrize("kind", ["drop", "lost_answer"])
async def test_on_a_socket_a_dropped_connection_is_one(kind: str) -> None:
    box = Sandbox.create(on_socket=True)
    box.faults.add(kind, "token")
    async with listen(box.app) as url, httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(f"{url}/token", data={"grant_type": "refresh_token"})
        assert (await client.post(f"{url}/token", data={"grant_type": "refresh_token"})).is_client_error


async def test_what_is_certain_strikes_at_once(box: Box) -> None:
    await box.call("POST", "/faults", kind="unavailable")
    assert await box.lists(2) == [503, 200]


@pytest.mark.parametrize("part", [-0.1, 1.1])
async def test_no_part_is_beyond_the_whole(box: Box, part: float) -> None:
    await box.call("POST", "/faults", expect=422, kind="unavailable", probability=part)
    await box.call("PUT", "/push", expect=422, lose=part)


async def test_a_part_of_the_pushes_gets_lost(box: Box, sandbox_under_test: Sandbox, receiver: Sink) -> None:
    await box.watch("https://sink.example/hooks/push")
    await sandbox_under_test.push.idle()

    async def pushed(**setting: Any) -> list[int]:
        """The edits whose push arrived."""
        await box.call("PUT", "/push", **setting)
        found, before = [], len(receiver.received)
        for number in range(REQUESTS // 4):
            await box.call(
                "POST",
                f"/calendars/{CALENDAR}/events",
                title="Planning",
                start="2026-12-01T09:00:00Z",
                end="2026-12-01T10:00:00Z",
            )
            await sandbox_under_test.push.idle()
            if len(receiver.received) > before:
                found.append(number)
            before = len(receiver.received)
        return found

    first, again = await pushed(lose=0.2, seed=3), await pushed(lose=0.2, seed=3)
    assert first == again
    assert 65 <= len(first) <= 92
    assert (await box.call("PUT", "/push"))["lost"] == 2 * (REQUESTS // 4 - len(first))
    assert len(await pushed(lose=0)) == REQUESTS // 4
