"""A backlog of deliveries: claim, sign, post and record, against aiohttp posting the same signed bodies and no more."""

import asyncio
import time
from datetime import UTC, datetime
from uuid import UUID

import aiohttp
from standardwebhooks import Webhook

from app.crypto import new_webhook_secret
from app.ids import MESSAGE, new_id, public
from app.runtime import Runtime, open_runtime
from app.webhooks.delivery import deliver_due
from benchmarks.delivering import BODY, messages, new_endpoint, publish_all, receiving
from benchmarks.rig import Bench, Figure, new_project

COUNT = 20_000
ENDPOINTS = 10
CONCURRENCY = 100
ROUNDS = 3


async def run(bench: Bench) -> list[Figure]:
    """One figure."""
    async with receiving() as origin:
        settings = bench.settings(delivery_concurrency=CONCURRENCY, delivery_endpoint_concurrency=CONCURRENCY)
        async with open_runtime(settings) as rt:
            project_id, _ = await new_project(rt)
            for number in range(ENDPOINTS):
                await new_endpoint(rt, project_id, f"{origin}/{number}")
            ours, bare = [], []
            for _ in range(ROUNDS):
                ours.append(await _ours(rt, project_id))
                bare.append(await _bare(origin))
    us, floor = sorted(ours)[ROUNDS // 2], sorted(bare)[ROUNDS // 2]
    ratio = us / floor
    told = f"{us:.0f}/s with attempt rows against {floor:.0f}/s for raw aiohttp"
    return [Figure("delivery drain", told, ratio, ">= 0.5", ratio >= 0.5)]


async def _ours(rt: Runtime, project_id: UUID) -> float:
    await publish_all(rt, messages(project_id, COUNT // ENDPOINTS))
    started = time.perf_counter()
    delivered = await deliver_due(rt)
    taken = time.perf_counter() - started
    assert delivered == COUNT, delivered  # noqa: S101 - else the figure means nothing
    return COUNT / taken


async def _bare(origin: str) -> float:
    """Signed before the clock starts: what is measured is the posting."""
    secret = new_webhook_secret()
    requests = iter(
        [
            (
                f"{origin}/{number % ENDPOINTS}",
                {"content-type": "application/json", "user-agent": "bare", **_signed(secret)},
            )
            for number in range(COUNT)
        ]
    )
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session:

        async def sender() -> None:
            for url, headers in requests:
                async with session.post(url, data=BODY, headers=headers) as answer:
                    await answer.read()

        started = time.perf_counter()
        await asyncio.gather(*(sender() for _ in range(CONCURRENCY)))
        return COUNT / (time.perf_counter() - started)


def _signed(secret: str) -> dict[str, str]:
    message_id, now = public(MESSAGE, new_id()), datetime.now(UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, BODY.decode()),
    }
