"""What tests are written with: an application that uses Punctual, and a way to let everything due happen.

`Actor` speaks HTTP to the API like a customer and edits calendars in the sandbox like a user. `quiesce` runs due
syncs, channels and deliveries through the functions that the worker's loops call, until nothing is due: tests read as
cause and effect, without sleeping.
"""

import asyncio
import contextlib
import copy
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.datastructures import State

from app import keys, scheduling
from app.bots.checking import look_ahead
from app.bots.launching import launch_due
from app.bots.rules.judging import judge_due
from app.bots.transfers import transfer_due
from app.ids import CALENDAR, PROJECT, new_id, parse, public
from app.main import create_app
from app.providers.base import Platform
from app.runtime import Runtime
from app.settings import Settings
from app.sync.health import tell_due
from app.webhooks.delivery import deliver_due
from app.webhooks.payloads import SUBSCRIBABLE
from sandbox import Sandbox
from sandbox.model import Account, Event, EventDraft
from sandbox.sink import Received, Sink
from workers.jobs import run_sync
from workers.sweeps import finish_deletions, keep_channels, retry_failed, warn_of_secrets

Json = dict[str, Any]


class LateTransport(httpx.AsyncBaseTransport):
    """A transport whose inner one is known later: sandbox and application push to each other."""

    inner: httpx.AsyncBaseTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass on; a connection error while there is nobody."""
        if self.inner is None:
            raise httpx.ConnectError("nobody listens yet", request=request)
        return await self.inner.handle_async_request(request)


@dataclass(frozen=True, slots=True)
class Project:
    """A project and its key."""

    id: UUID
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """What authenticates as this project."""
        return {"Authorization": f"Token {self.key}"}

    @property
    def public_id(self) -> str:
        """The id a customer sees."""
        return public(PROJECT, self.id)


async def new_project(rt: Runtime, name: str) -> Project:
    """A project with one key, as `punctual projects create` makes it."""
    project_id = new_id()
    async with rt.db.transaction() as tx:
        await tx.execute("INSERT INTO projects (id, name) VALUES (:id, :name)", {"id": project_id, "name": name})
        made = await keys.make(tx, project_id=project_id, name="first", scope="admin")
    return Project(project_id, made.text)


@cache
def _application(*, docs_enabled: bool) -> FastAPI:
    return create_app(settings=Settings.model_construct(docs_enabled=docs_enabled))


def application(rt: Runtime) -> FastAPI:
    """What `create_app` makes of the runtime. Its routes are those of all: FastAPI takes its time to build them."""
    app = copy.copy(_application(docs_enabled=rt.settings.docs_enabled))
    app.state = State({"runtime": rt})
    return app


async def run_due(rt: Runtime) -> int:
    """One pass over everything that is due now; how much was done."""
    looked = await look_ahead(rt) + await retry_failed(rt)
    due = await scheduling.due_calendars(rt, most=100)
    for calendar_id in due:
        await run_sync(rt, calendar_id)
    done = looked + len(due)
    done += await judge_due(rt) + await transfer_due(rt)
    done += await keep_channels(rt)
    done += await finish_deletions(rt)
    done += await tell_due(rt) + await warn_of_secrets(rt)
    done += await launch_due(rt)
    done += await deliver_due(rt)
    return done


@asynccontextmanager
async def listen(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI application on a free loopback port; its base URL."""
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # asyncio switches Nagle off where it is named: 40 ms an answer
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.on_tick(0)
    await server.startup(sockets=[listener])
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await _shut_down(server)
        listener.close()


async def _shut_down(server: uvicorn.Server) -> None:
    """As uvicorn does, without its ticks and pauses of a tenth of a second: every test would wait for three of them."""
    state = server.server_state
    for each in server.servers:
        each.close()
    for connection in list(state.connections):
        connection.shutdown()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while state.connections or state.tasks:
                await asyncio.sleep(0.002)
    for task in list(state.tasks):
        task.cancel()
    await asyncio.gather(*state.tasks, return_exceptions=True)


BOTH = pytest.mark.parametrize("platform", ["google", "microsoft"])
"""Marks scenarios that have to hold whoever the provider is."""


_OPERATIONS = {
    "google": {
        "token": "token",
        "changes": "events.list",
        "watch": "events.watch",
        "renew": "events.watch",
        "stop": "channels.stop",
    },
    "microsoft": {
        "token": "graph.token",
        "changes": "graph.delta",
        "watch": "graph.subscriptions.create",
        "renew": "graph.subscriptions.update",
        "stop": "graph.subscriptions.delete",
    },
}


@dataclass(frozen=True, slots=True)
class Receiver:
    """A sink and where it listens."""

    sink: Sink
    url: str


@dataclass(frozen=True, slots=True)
class Connected:
    """A calendar as the application knows it, and the account behind it at the provider."""

    id: str
    account: Account
    remote_id: str

    @property
    def key(self) -> UUID:
        """The row's key."""
        key = parse(CALENDAR, self.id)
        assert key is not None
        return key


@dataclass(frozen=True, slots=True)
class LiveChannel:
    """A push channel as the provider has it. `id` is the provider's; `channel_id` and `token` came from us."""

    id: str
    calendar_id: str
    expires_at: datetime
    channel_id: str
    token: str


class Actor:
    """An application that uses Punctual, and its users who edit their calendars at the provider."""

    def __init__(
        self,
        rt: Runtime,
        api: httpx.AsyncClient,
        project: Project,
        sandbox: Sandbox,
        receiver: Receiver,
        *,
        platform: Platform = "google",
    ) -> None:
        self.platform: Platform = platform
        self.rt = rt
        self.api = api
        self.project = project
        self.sandbox = sandbox
        self.sink = receiver.sink
        self._receiver = receiver
        self._accounts = 0

    def operation(self, name: str) -> str:
        """What the sandbox calls this request of the actor's provider: `token`, `changes`, `watch`, `renew`, `stop`."""
        return _OPERATIONS[self.platform][name]

    # --- the application ---

    async def call(self, method: str, path: str, *, expect: int = 200, **request: Any) -> Json:
        """One API request with the project's key; asserts the status."""
        answer = await self.api.request(method, f"/api/v1{path}", headers=self.project.headers, **request)
        assert answer.status_code == expect, answer.text
        return dict(answer.json()) if answer.content else {}

    async def subscribe(self, *, hook: str = "default") -> Json:
        """A webhook endpoint at the sink, for every trigger."""
        body = {"url": f"{self._receiver.url}/hooks/{hook}", "triggers": list(SUBSCRIBABLE)}
        endpoint = await self.call("POST", "/webhooks", json=body, expect=201)
        self.sink.hook(hook).secrets.append(endpoint["secret"])
        return endpoint

    async def connect(self, account: Account | None = None, **body: Any) -> Connected:
        """Connect an account's calendar (the primary one unless `platform_uuid` says otherwise)."""
        account = account or self.new_account()
        credentials = {
            "platform": account.provider,
            "client_id": account.client_id,
            "client_secret": account.client_secret,
            "refresh_token": account.refresh_token,
        }
        calendar = await self.call("POST", "/calendars", json={**credentials, **body}, expect=201)
        return Connected(calendar["id"], account, body.get("platform_uuid") or account.calendar_id)

    async def connected(self, account: Account | None = None, **body: Any) -> Connected:
        """A calendar after its first sync, with its channel open and nothing left to do."""
        calendar = await self.connect(account, **body)
        await self.quiesce()
        return calendar

    async def calendar(self, calendar: Connected) -> Json:
        """GET /calendars/{id}"""
        return await self.call("GET", f"/calendars/{calendar.id}")

    async def events(self, calendar: Connected, **filters: Any) -> list[Json]:
        """All pages of the calendar's events; deleted ones only where asked for."""
        params: Json = {"calendar_id": calendar.id, "is_deleted": "false", "limit": 250, **filters}
        found: list[Json] = []
        answer = await self.call("GET", "/calendar_events", params={k: v for k, v in params.items() if v is not None})
        while True:
            found += answer["results"]
            if answer["next"] is None:
                return found
            path = answer["next"].partition("/api/v1")[2]
            answer = await self.call("GET", path)

    def messages(self, trigger: str = "calendar.events_update") -> list[Received]:
        """What arrived, each message once."""
        return self.sink.messages(trigger=trigger)

    def entries(self) -> list[Json]:
        """The change entries of everything that arrived, in order of their sequence."""
        found = [entry for message in self.messages() for entry in message.body["data"]["events"]]
        return sorted(found, key=lambda entry: int(entry["change_seq"]))

    # --- the users ---

    def new_account(self) -> Account:
        """A person at the provider."""
        self._accounts += 1
        email = f"person{self._accounts}@example.com"
        return self.sandbox.world.add_account(email, provider=self.platform, time_zone="Europe/Berlin")

    def add_event(self, calendar: Connected, title: str = "Planning", *, hours: float = 24, **draft: Any) -> Event:
        """An hour-long event, so many hours from now."""
        start = self.now() + timedelta(hours=hours)
        values = {"start": start, "end": start + timedelta(hours=1), **draft}
        return self.sandbox.world.create_event(calendar.remote_id, EventDraft(title=title, **values))

    def now(self) -> datetime:
        """What time it is at the provider, to the second."""
        return self.sandbox.world.clock.now().replace(microsecond=0)

    def advance(self, delta: timedelta) -> None:
        """Let time pass, here and at the provider."""
        self.rt.clock.advance(delta)
        self.sandbox.world.clock.advance(delta)

    def live(self) -> list[LiveChannel]:
        """What the provider would push to now."""
        now, push = self.sandbox.world.clock.now(), self.sandbox.push
        found = [
            LiveChannel(c.id, c.calendar_id, c.expires_at, c.id, c.token or "")
            for c in push.channels.values()
            if c.is_live(now)
        ]
        for one in push.subscriptions.values():
            if one.is_live(now):
                channel_id, _, token = (one.client_state or "").partition(".")
                found.append(LiveChannel(one.id, one.calendar_id, one.expires_at, channel_id, token))
        return found

    async def push(self, channel: LiveChannel, *, is_change: bool = True, is_patient: bool = True) -> httpx.Response:
        """What the provider would send on this channel: a change, or something that asks for nothing.

        As a provider does, again while it is asked to come again, as a busy machine may do, unless told otherwise.
        """
        while (answer := await self._push_once(channel, is_change=is_change)).status_code == 503 and is_patient:
            pass
        return answer

    async def _push_once(self, channel: LiveChannel, *, is_change: bool) -> httpx.Response:
        if self.platform == "google":
            headers = {
                "X-Goog-Channel-ID": channel.channel_id,
                "X-Goog-Channel-Token": channel.token,
                "X-Goog-Resource-ID": channel.id,
                "X-Goog-Resource-State": "exists" if is_change else "sync",
            }
            return await self.api.post("/push/google", headers=headers)
        item: Json = {
            "subscriptionId": channel.id,
            "clientState": f"{channel.channel_id}.{channel.token}",
            "resource": "Users/u/Events/e",
        }
        item |= {"changeType": "updated"} if is_change else {"lifecycleEvent": "reauthorizationRequired"}
        return await self.api.post("/push/microsoft", json={"value": [item]})

    # --- what is due ---

    async def run(self, calendar: Connected, rt: Runtime | None = None) -> str:
        """One run of this calendar, by this worker if one is named, once every push was heard; how it ended.

        A push on its way holds the calendar's row for a moment, and a run that meets it leaves the calendar alone.
        """
        await self.sandbox.push.idle()
        return await run_sync(rt or self.rt, calendar.key)

    async def quiesce(self) -> None:
        """Deliver pushes, run what is due, until nothing is."""
        for _ in range(50):
            await self.sandbox.push.idle()
            await self.rt.queue.drain()
            if not await run_due(self.rt):
                return
        raise AssertionError("there is always something due")

    async def assert_equal(self, calendar: Connected) -> None:
        """The API shows exactly what the provider shows in the window."""
        state = await self.window(calendar)
        world = self.sandbox.world.instances(calendar.remote_id, *state)
        expected = {i.event_id: (i.title, _instant(i.start), _instant(i.end)) for i in world}
        listed = await self.events(calendar)
        shown = {
            e["platform_uuid"]: (e["name"], _shown(e, "start"), _shown(e, "end"))
            for e in listed
            if _overlaps(e, *state)
        }
        assert shown == expected

    async def window(self, calendar: Connected) -> tuple[datetime, datetime]:
        """The stored window of a calendar."""
        async with self.rt.db.reading() as tx:
            row = await tx.row(
                "SELECT window_start, window_end FROM sync_state WHERE calendar_id = :id", {"id": calendar.key}
            )
        assert row is not None
        return row.window_start, row.window_end


def _instant(moment: Any) -> str:
    if isinstance(moment, datetime):
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    return str(moment.isoformat())


def _shown(event: Json, which: str) -> str:
    return str(event[f"{which}_date"] if event["is_all_day"] else event[f"{which}_time"])


def _overlaps(event: Json, start: datetime, end: datetime) -> bool:
    return datetime.fromisoformat(event["end_time"]) > start and datetime.fromisoformat(event["start_time"]) < end
