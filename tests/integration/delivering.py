"""What the tests of delivery share: a receiver, endpoints, messages, and looks into the tables."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.bots.launchers.webhook import launch_data
from app.crypto import Place, new_webhook_secret
from app.ids import BOT, new_id, new_ids, public
from app.runtime import Runtime
from app.webhooks import payloads
from app.webhooks.claims import Claim, claim
from app.webhooks.delivery import deliver_due
from app.webhooks.outbox import NewMessage, publish
from tests.harness import Project, listen
from workers.loops import delivery_loop


class Receiver:
    """A webhook receiver: answers as told, remembers all, and counts how many it serves at a time."""

    def __init__(self) -> None:
        self.statuses: list[int] = [204]
        self.headers: dict[str, str] = {}
        self.delay: Callable[[str], float] = lambda _: 0.0
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.busy = 0
        self.most_busy = 0
        self._let_go = asyncio.Event()
        self.app = Starlette(routes=[Route("/{path:path}", self._receive, methods=["POST"])])
        self.url = ""

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for _, headers, _ in self.requests]

    async def _receive(self, request: Request) -> Response:
        path, body = request.url.path, await request.body()
        self.requests.append((path, dict(request.headers), body))
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        try:
            await self._wait(self.delay(path))
        finally:
            self.busy -= 1
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return Response(b"so it is" if status != 204 else b"", status_code=status, headers=self.headers)

    async def _wait(self, seconds: float) -> None:
        if seconds:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._let_go.wait()

    def let_go(self) -> None:
        """Answer those that wait, however long they were to."""
        self._let_go.set()
        self._let_go = asyncio.Event()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    made = Receiver()
    async with listen(made.app) as url:
        made.url = url
        yield made


@dataclass(frozen=True, slots=True)
class Endpoint:
    id: UUID
    secret: str


async def new_endpoint(
    rt: Runtime, project: Project, url: str, *, triggers: Sequence[str] = payloads.SUBSCRIBABLE, state: str = "enabled"
) -> Endpoint:
    endpoint = Endpoint(new_id(), new_webhook_secret())
    async with rt.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO webhook_endpoints (id, project_id, url, triggers, secret_sealed, state)"
            " VALUES (:id, :project, :url, :triggers, :secret, :state)",
            {
                "id": endpoint.id,
                "project": project.id,
                "url": url,
                "triggers": list(triggers),
                "secret": rt.cipher.seal(endpoint.secret, Place("webhook_endpoints", "secret", endpoint.id)),
                "state": state,
            },
        )
    return endpoint


async def send(
    rt: Runtime, project: Project, *, count: int = 1, calendar_id: UUID | None = None, endpoint: Endpoint | None = None
) -> list[UUID]:
    """Publish `count` messages as their makers do; the ids of their deliveries."""
    calendar = payloads.MessageCalendar(calendar_id or new_id(), None, None)
    connection = payloads.Connection("connected", None, None, None)
    messages = []
    for message_id in new_ids(count):
        at = rt.clock.now()
        body = payloads.state_change(
            message_id, at=at, calendar=calendar, connection=connection, previous_state="disconnected"
        )
        test = payloads.webhook_test(message_id, at=at)
        trigger, payload = (payloads.TEST, test) if endpoint else (payloads.STATE_CHANGE, body)
        target = endpoint.id if endpoint else None
        messages.append(NewMessage(message_id, project.id, calendar_id, trigger, payload, target))
    async with rt.db.transaction() as tx:
        return await publish(tx, rt.queue, messages)


async def launch(rt: Runtime, project: Project, *, seconds: float = 3_600, calendar_id: UUID | None = None) -> UUID:
    """Publish a `bot.launch` of a meeting that ends in so many seconds; its message's id."""
    message_id, now = new_id(), rt.clock.now()
    calendar = payloads.MessageCalendar(calendar_id, None, None) if calendar_id else None
    bot = {"id": public(BOT, new_id()), "state": "launching"}
    data = launch_data(bot, revision=1, join_at=now, expires_at=now + timedelta(seconds=seconds))
    payload = payloads.bot_launch(message_id, at=now, calendar=calendar, data=data)
    message = NewMessage(message_id, project.id, calendar_id, payloads.BOT_LAUNCH, payload)
    async with rt.db.transaction() as tx:
        await publish(tx, rt.queue, [message])
    return message_id


async def tell(rt: Runtime, project: Project, calendar_id: UUID, *seqs: int) -> None:
    """Publish one round of a calendar's changes, as the engine does."""
    calendar = payloads.MessageCalendar(calendar_id, "mine", {"tenant": "1"})
    connection = payloads.Connection("connected", None, rt.clock.now(), rt.clock.now())
    message_id = new_id()
    changes = [payloads.EventChange(UUID(int=seq), "updated", seq, ("renamed",), {}) for seq in seqs]
    payload = payloads.events_update(
        message_id,
        at=rt.clock.now(),
        calendar=calendar,
        connection=connection,
        changes=changes,
        last_updated_at=rt.clock.now(),
    )
    message = NewMessage(
        message_id,
        project.id,
        calendar_id,
        payloads.EVENTS_UPDATE,
        payload,
        from_seq=min(seqs, default=None),
        to_seq=max(seqs, default=None),
    )
    async with rt.db.transaction() as tx:
        await publish(tx, rt.queue, [message])


async def put(rt: Runtime, endpoint: Endpoint, state: str, *, failures: int = 30) -> None:
    """Have it as if so many attempts had failed since yesterday, and nothing else."""
    async with rt.db.transaction() as tx:
        await tx.execute(
            "UPDATE webhook_endpoints SET state = :state, failure_count = :failures,"
            " failing_since = app_now() - interval '25 hours' WHERE id = :id",
            {"state": state, "failures": failures, "id": endpoint.id},
        )


def bodies(receiver: Receiver) -> list[dict[str, Any]]:
    return [orjson.loads(body) for _, _, body in receiver.requests]


def told(body: dict[str, Any]) -> tuple[Any, ...]:
    """What a `calendar.events_update` says of its range: both ends, of how many messages, whether all of it."""
    data = body["data"]
    seqs = [entry["change_seq"] for entry in data["events"]]
    return data["from_seq"], data["to_seq"], data["digest_of_count"], data["truncated"], seqs


async def later(rt: Runtime, **time: float) -> int:
    """Deliver what is due after so much time; the number of attempts."""
    rt.clock.advance(timedelta(**time))
    return await deliver_due(rt)


async def rows(rt: Runtime, query: str, **params: Any) -> list[dict[str, Any]]:
    async with rt.db.reading() as tx:
        return [dict(row) for row in await tx.rows(query, params)]


async def deliveries(rt: Runtime) -> list[dict[str, Any]]:
    return await rows(rt, "SELECT * FROM deliveries ORDER BY id")


async def attempts(rt: Runtime) -> list[dict[str, Any]]:
    return await rows(rt, "SELECT * FROM delivery_attempts ORDER BY id")


async def claim_all(rt: Runtime) -> list[Claim]:
    """What a worker does that dies right after."""
    return (await claim(rt.db, batch=100, lease_seconds=25, room=100, rooms={})).claims


async def eventually(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


async def arrived(receiver: Receiver, count: int) -> None:
    await eventually(lambda: len(set(receiver.ids)) == count)


@asynccontextmanager
async def looping(rt: Runtime) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(delivery_loop(rt, stop))
    try:
        yield
    finally:
        stop.set()
        await task
