"""What the figures of delivery share: a receiver's address, endpoints, messages at an even pace, when they arrived."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from uuid import UUID

import httpx
import orjson

from app.crypto import Place, new_webhook_secret
from app.ids import MESSAGE, new_id, new_ids, public
from app.runtime import Runtime
from app.webhooks.outbox import NewMessage, publish
from benchmarks.rig import child, free_port
from workers.loops import delivery_loop

BODY = orjson.dumps({"trigger": "calendar.events_update", "data": {"events": ["x" * 40] * 12}})
TRIGGER = "calendar.events_update"
ARRIVAL_SECONDS = 30.0

Times = dict[str, float]
"""Unix times by `webhook-id`."""


@asynccontextmanager
async def receiving(*, tarpit_seconds: float = 0.0) -> AsyncIterator[str]:
    """The receiver as a process of its own; its address."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    async with child("-m", "benchmarks.echo", str(port), str(tarpit_seconds), ready=f"{origin}/"):
        yield origin


@asynccontextmanager
async def working(rt: Runtime) -> AsyncIterator[None]:
    """The worker's loop of delivery in this process, as it runs beside the syncs that publish."""
    stop = asyncio.Event()
    loop = asyncio.create_task(delivery_loop(rt, stop))
    try:
        yield
    finally:
        stop.set()
        await loop


async def new_endpoint(rt: Runtime, project_id: UUID, url: str) -> UUID:
    """An endpoint that listens to events_update."""
    endpoint_id = new_id()
    sealed = rt.cipher.seal(new_webhook_secret(), Place("webhook_endpoints", "secret", endpoint_id))
    async with rt.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO webhook_endpoints (id, project_id, url, triggers, secret_sealed, state)"
            " VALUES (:id, :project, :url, :triggers, :sealed, 'enabled')",
            {"id": endpoint_id, "project": project_id, "url": url, "triggers": [TRIGGER], "sealed": sealed},
        )
    return endpoint_id


def messages(project_id: UUID, count: int, *, to: UUID | None = None) -> list[NewMessage]:
    """So many, for one endpoint or for all."""
    return [
        NewMessage(id=id_, project_id=project_id, calendar_id=None, trigger=TRIGGER, payload=BODY, endpoint_id=to)
        for id_ in new_ids(count)
    ]


async def publish_all(rt: Runtime, made: Sequence[NewMessage]) -> Times:
    """In one transaction; when it had committed."""
    async with rt.db.transaction() as tx:
        await publish(tx, rt.queue, made)
    return dict.fromkeys((public(MESSAGE, one.id) for one in made), time.time())


async def publish_evenly(
    rt: Runtime, project_id: UUID, *, to: Sequence[UUID], per_second: float, seconds: float, together: int = 1
) -> Times:
    """Transactions of so many messages at an even pace, however long each takes; to each endpoint in turn."""
    loop = asyncio.get_running_loop()
    began, pause, endpoints = loop.time(), together / per_second, cycle(to)
    tasks = []
    for number in range(round(seconds / pause)):
        await asyncio.sleep(max(0.0, began + number * pause - loop.time()))
        made = [one for _ in range(together) for one in messages(project_id, 1, to=next(endpoints))]
        tasks.append(asyncio.create_task(publish_all(rt, made)))
    committed: Times = {}
    for one in await asyncio.gather(*tasks):
        committed |= one
    return committed


async def arrivals(client: httpx.AsyncClient, origin: str, committed: Times) -> Times:
    """When each of these came. TimeoutError where some do not come."""
    found: Times = {}
    async with asyncio.timeout(ARRIVAL_SECONDS):
        while committed.keys() - found.keys():
            found |= (await client.get(f"{origin}/log")).json()
            await asyncio.sleep(0.05)
    return found


def lags(committed: Times, arrived: Times) -> list[float]:
    """Seconds from each commit to its 2xx. The answer may be out before the publisher knows of its commit: 0 then."""
    return [max(0.0, arrived[id_] - at) for id_, at in committed.items()]
