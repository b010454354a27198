"""From the commit of a message to its 2xx, on an idle installation: published by the process that delivers, as a sync
in a worker does, and by another one, as a request to the API does."""

import tempfile
from pathlib import Path
from uuid import UUID

import httpx

from app.runtime import Runtime, open_runtime
from benchmarks.delivering import arrivals, lags, new_endpoint, publish_evenly, receiving, working
from benchmarks.rig import Bench, Figure, new_project, percentile
from demo.processes import Stack, http

SECONDS = 10.0
RATES = {50: 1, 200: 1, 1_000: 5}
"""Messages a second, and how many share a transaction: one each would measure the publisher at 1,000 a second."""
ENDPOINTS = 10
ALLOWED = 0.015
ALLOWED_AT = 200
WARM_SECONDS = 2.0


async def run(bench: Bench) -> list[Figure]:
    """A figure for each rate, and one for the way between two processes."""
    async with receiving() as origin, http() as client:
        async with open_runtime(bench.settings()) as rt:
            project_id, _ = await new_project(rt)
            endpoints = [await new_endpoint(rt, project_id, f"{origin}/{number}") for number in range(ENDPOINTS)]
            here = Rig(rt, client, origin, project_id, endpoints)
            figures = []
            async with working(rt):
                await here.lags(per_second=50, seconds=WARM_SECONDS)
                for rate, together in RATES.items():
                    taken = await here.lags(per_second=rate, seconds=SECONDS, together=together)
                    figures.append(_figure(f"commit to 2xx, {rate:,}/s", taken, is_bound=rate == ALLOWED_AT))
            with tempfile.TemporaryDirectory() as logs:
                async with Stack(database_url=bench.database_url, redis_url=bench.redis_url, logs=Path(logs)) as stack:
                    await stack.start_worker()
                    await here.lags(per_second=50, seconds=WARM_SECONDS)
                    taken = await here.lags(per_second=ALLOWED_AT, seconds=SECONDS)
    figures.append(_figure(f"commit to 2xx, {ALLOWED_AT}/s, two processes", taken, is_bound=True))
    return figures


class Rig:
    """A publisher with its endpoints, and the receiver that knows when messages came."""

    def __init__(
        self, rt: Runtime, client: httpx.AsyncClient, origin: str, project_id: UUID, endpoints: list[UUID]
    ) -> None:
        self._rt = rt
        self._client = client
        self._origin = origin
        self._project_id = project_id
        self._endpoints = endpoints

    async def lags(self, *, per_second: float, seconds: float, together: int = 1) -> list[float]:
        """Seconds from each commit to its 2xx."""
        committed = await publish_evenly(
            self._rt,
            self._project_id,
            to=self._endpoints,
            per_second=per_second,
            seconds=seconds,
            together=together,
        )
        return lags(committed, await arrivals(self._client, self._origin, committed))


def _figure(name: str, taken: list[float], *, is_bound: bool) -> Figure:
    p50, p95, p99 = (percentile(taken, share) for share in (0.5, 0.95, 0.99))
    told = f"p50 {p50 * 1000:.1f}, p95 {p95 * 1000:.1f}, p99 {p99 * 1000:.1f} ms ({len(taken)} messages)"
    if not is_bound:
        return Figure(name, told)
    return Figure(name, told, p95 / ALLOWED, f"p95 <= {ALLOWED * 1000:.0f} ms", p95 <= ALLOWED)
