"""A backlog of deliveries: claim, sign, post and record, against aiohttp posting the same bodies and no more."""

import asyncio
import time

import aiohttp
import orjson

from app.crypto import Place, new_webhook_secret
from app.db import Tx
from app.ids import new_id
from app.runtime import Runtime, open_runtime
from app.webhooks.delivery import deliver_due
from app.webhooks.outbox import NewMessage, publish
from benchmarks.rig import Bench, Figure, child, free_port, new_project

COUNT = 4_000
ENDPOINTS = 10
CONCURRENCY = 100
ROUNDS = 3
BODY = orjson.dumps({"trigger": "calendar.events_update", "data": {"events": ["x" * 40] * 12}})


async def run(bench: Bench) -> list[Figure]:
    """One figure."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    async with child("-m", "benchmarks.echo", str(port), ready=f"{origin}/"):
        settings = bench.settings(delivery_concurrency=CONCURRENCY, delivery_endpoint_concurrency=CONCURRENCY)
        async with open_runtime(settings) as rt:
            project_id, _ = await new_project(rt)
            for number in range(ENDPOINTS):
                await _endpoint(rt, project_id, f"{origin}/{number}")
            ours, bare = [], []
            for _ in range(ROUNDS):
                ours.append(await _ours(rt, project_id))
                bare.append(await _bare(origin))
    us, floor = sorted(ours)[ROUNDS // 2], sorted(bare)[ROUNDS // 2]
    ratio = us / floor
    told = f"{us:.0f}/s with attempt rows against {floor:.0f}/s for raw aiohttp"
    return [Figure("delivery drain", told, ratio, ">= 0.4", ratio >= 0.4)]


async def _endpoint(rt: Runtime, project_id: object, url: str) -> None:
    endpoint_id = new_id()
    sealed = rt.cipher.seal(new_webhook_secret(), Place("webhook_endpoints", "secret", endpoint_id))
    async with rt.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO webhook_endpoints (id, project_id, url, triggers, secret_sealed, state)"
            " VALUES (:id, :project, :url, ARRAY['calendar.events_update'], :sealed, 'enabled')",
            {"id": endpoint_id, "project": project_id, "url": url, "sealed": sealed},
        )


async def _ours(rt: Runtime, project_id: object) -> float:
    async with rt.db.transaction() as tx:
        await _publish(rt, tx, project_id)
    started = time.perf_counter()
    delivered = await deliver_due(rt)
    taken = time.perf_counter() - started
    assert delivered == COUNT, delivered  # noqa: S101 - else the figure means nothing
    return COUNT / taken


async def _publish(rt: Runtime, tx: Tx, project_id: object) -> None:
    messages = [
        NewMessage(new_id(), project_id, None, "calendar.events_update", BODY)  # type: ignore[arg-type]
        for _ in range(COUNT // ENDPOINTS)
    ]
    await publish(tx, rt.queue, messages)


async def _bare(origin: str) -> float:
    headers = {
        "content-type": "application/json",
        "webhook-id": "msg",
        "webhook-timestamp": "1",
        "webhook-signature": "v1,",
    }
    left = iter(range(COUNT))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session:

        async def sender() -> None:
            for number in left:
                async with session.post(f"{origin}/{number % ENDPOINTS}", data=BODY, headers=headers) as answer:
                    await answer.read()

        started = time.perf_counter()
        await asyncio.gather(*(sender() for _ in range(CONCURRENCY)))
        return COUNT / (time.perf_counter() - started)
