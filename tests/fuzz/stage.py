"""What the fuzz runs against: the application on a socket, its database and Redis, the sandbox as every provider.

Requests come from a thread of their own (schemathesis is synchronous); the application and what is due in it run on
the caller's event loop.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

import httpx
from redis.asyncio import Redis

from app.runtime import Runtime, open_runtime
from app.settings import Settings
from sandbox import Sandbox
from sandbox.model import Account, EventDraft
from tests.databases import cloned
from tests.harness import Project, application, listen, new_project, run_due

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stage:
    """A served application and what is known about it."""

    rt: Runtime
    url: str
    project: Project
    accounts: Iterator[Account]
    """People at the providers, whose credentials work; again and again."""

    def credentials(self) -> Json:
        """What connects the next person's calendar."""
        account = next(self.accounts)
        return {
            "platform": account.provider,
            "client_id": account.client_id,
            "client_secret": account.client_secret,
            "refresh_token": account.refresh_token,
        }


@asynccontextmanager
async def staged(**more: object) -> AsyncIterator[Stage]:
    """A stage with a calendar that is in sync, an event with a link, a bot; `more` are settings."""
    async with AsyncExitStack() as stack:
        settings = await _settings(stack, more)
        sandbox = Sandbox.create()
        stack.push_async_callback(sandbox.close)
        transport = httpx.ASGITransport(sandbox.app)
        rt = await stack.enter_async_context(open_runtime(settings, transport=transport))
        url = await stack.enter_async_context(listen(application(rt)))
        stage = Stage(rt, url, await new_project(rt, "fuzzed"), cycle(_people(sandbox)))
        await _furnish(stage)
        yield stage


async def _settings(stack: AsyncExitStack, more: Json) -> Settings:
    place = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    redis_url = urlsplit(os.environ["REDIS_URL"])._replace(path=f"/{1 + place % 15}").geturl()
    async with Redis.from_url(redis_url) as redis:
        await redis.flushdb()
    values: Json = {
        "environment": "test",
        "database_url": await stack.enter_async_context(
            cloned(os.environ["DATABASE_URL"], os.environ["PUNCTUAL_TEST_TEMPLATE"])
        ),
        "redis_url": redis_url,
        "rate_limit_reads_per_minute": 0,
        "rate_limit_writes_per_minute": 0,
        "google_api_url": "http://google.sandbox",
        "google_token_url": "http://google.sandbox/token",
        "microsoft_graph_url": "http://graph.sandbox",
        "microsoft_login_url": "http://graph.sandbox",
        "sync_quiet_seconds": 0,
        "sync_max_wait_seconds": 0,
        "google_user_quota_per_minute": 1_000_000,
        "google_app_quota_per_minute": 1_000_000,
        "microsoft_mailbox_quota_per_minute": 1_000_000,
        "egress_proxy": "http://127.0.0.1:9",  # nothing leaves the machine
        "log_level": "ERROR",
    }
    return Settings.model_validate(values | more)


def _people(sandbox: Sandbox) -> list[Account]:
    """One at each provider, with a meeting tomorrow and one every day."""
    people = []
    for provider in ("google", "microsoft"):
        account = sandbox.world.add_account(f"ada@{provider}.example", provider=provider)
        start = sandbox.world.clock.now().replace(microsecond=0) + timedelta(days=1)
        for title, recurrence in (("Planning", ()), ("Stand-up", ("RRULE:FREQ=DAILY;COUNT=5",))):
            draft = EventDraft(
                title=title,
                start=start,
                end=start + timedelta(hours=1),
                location="https://meet.google.com/abc-defg-hij",
                recurrence=recurrence,
            )
            sandbox.world.create_event(account.calendar_id, draft)
        people.append(account)
    return people


async def _furnish(stage: Stage) -> None:
    """Something of most kinds, so that ids lead somewhere from the start."""
    async with httpx.AsyncClient(base_url=f"{stage.url}/api/v1", headers=stage.project.headers) as client:
        for _ in range(2):
            answer = await client.post("/calendars", json=stage.credentials())
            assert answer.status_code == 201, answer.text
        await run_due(stage.rt)
        events = (await client.get("/calendar_events")).json()["results"]
        assert {event["is_deleted"] for event in events} == {False}
        answer = await client.post("/bots", json={"bot_name": "Notes", "calendar_event_id": events[0]["id"]})
        assert answer.status_code == 201, answer.text


async def keep_going(rt: Runtime, *, seconds: float) -> None:
    """Let what is due happen every so often, as the worker would. Ends by cancellation."""
    while True:
        await run_due(rt)
        await asyncio.sleep(seconds)
