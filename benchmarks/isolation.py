"""A tar-pit and a dead endpoint among a hundred: what the other 98 notice, in turns with and without the two."""

import asyncio
import statistics
from uuid import UUID

import httpx

from app.runtime import Runtime, open_runtime
from app.webhooks.outbox import drop_undelivered_to
from benchmarks.delivering import arrivals, lags, new_endpoint, publish_evenly, receiving, working
from benchmarks.rig import Bench, Figure, free_port, new_project, percentile
from demo.processes import http

HEALTHY = 98
PER_ENDPOINT = 2.0
"""Messages a second for each healthy endpoint."""
WORSE = 10
"""How much more each of the two gets."""
TIMEOUT_SECONDS = 2.0
SECONDS = 6.0
ROUNDS = 4
RETRY_SECONDS = (1.0,) * 20
"""They come back soon, so that their retries pile up within a turn."""
ALLOWED = 1.2


async def run(bench: Bench) -> list[Figure]:
    """One figure: the p95 from commit to 2xx of the healthy ones, with the two against without."""
    settings = bench.settings(delivery_timeout_seconds=TIMEOUT_SECONDS, delivery_retry_seconds=RETRY_SECONDS)
    without, with_two = [], []
    async with receiving(tarpit_seconds=TIMEOUT_SECONDS + 1) as origin, http() as client, open_runtime(settings) as rt:
        project_id, _ = await new_project(rt)
        healthy = [await new_endpoint(rt, project_id, f"{origin}/{number}") for number in range(HEALTHY)]
        turns = Turns(rt, client, origin, project_id, healthy)
        async with working(rt):
            await turns.healthy_p95()  # connections, plans and caches: not counted
            for _ in range(ROUNDS):
                without.append(await turns.healthy_p95())
                with_two.append(await turns.p95_beside_two())
    base, beside = statistics.median(without), statistics.median(with_two)
    told = (
        f"p95 {beside * 1000:.1f} ms beside the two, {base * 1000:.1f} without ({ROUNDS} turns of {SECONDS:.0f} s each)"
    )
    ratio = beside / base
    return [Figure(f"isolation: {HEALTHY} healthy of 100", told, ratio, f"<= {ALLOWED}", ratio <= ALLOWED)]


class Turns:
    """The same messages for the healthy ones in each turn."""

    def __init__(
        self, rt: Runtime, client: httpx.AsyncClient, origin: str, project_id: UUID, healthy: list[UUID]
    ) -> None:
        self._rt = rt
        self._client = client
        self._origin = origin
        self._project_id = project_id
        self._healthy = healthy

    async def healthy_p95(self) -> float:
        """Seconds from commit to 2xx."""
        committed = await publish_evenly(
            self._rt,
            self._project_id,
            to=self._healthy,
            per_second=HEALTHY * PER_ENDPOINT,
            seconds=SECONDS,
        )
        return percentile(lags(committed, await arrivals(self._client, self._origin, committed)), 0.95)

    async def p95_beside_two(self) -> float:
        """The same beside a tar-pit and a dead endpoint, new ones each time; nothing is left of them afterwards."""
        two = [
            await new_endpoint(self._rt, self._project_id, f"{self._origin}/tarpit/"),
            await new_endpoint(self._rt, self._project_id, f"http://127.0.0.1:{free_port()}/"),
        ]
        worse = publish_evenly(self._rt, self._project_id, to=two, per_second=2 * WORSE * PER_ENDPOINT, seconds=SECONDS)
        p95, _ = await asyncio.gather(self.healthy_p95(), worse)
        async with self._rt.db.transaction() as tx:
            for endpoint_id in two:
                await tx.execute(
                    "UPDATE webhook_endpoints SET deleted_at = app_now() WHERE id = :id", {"id": endpoint_id}
                )
                await drop_undelivered_to(tx, endpoint_id)
        await asyncio.sleep(TIMEOUT_SECONDS)  # what is under way ends
        return p95
