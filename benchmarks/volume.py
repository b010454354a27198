"""100,000 deliveries through one `punctual work`: what each costs it, and whether it grows."""

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from app.runtime import Runtime, open_runtime
from benchmarks.delivering import messages, new_endpoint, publish_all, receiving
from benchmarks.rig import Bench, Figure, new_project
from demo.processes import Stack

COUNT, EARLY = 100_000, 20_000
"""Compared is its size after so many of them with its size after all."""
ENDPOINTS = 10
CHUNK = 4_000
"""Published at once, and not before there are fewer left: there is always something to do, and never much."""
GROWTH = 1.10
SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A process after so many deliveries."""

    delivered: int
    at: float
    cpu_seconds: float
    resident_bytes: int


async def run(bench: Bench) -> list[Figure]:
    """Processor time for each delivery, and memory after all against memory after the first of them."""
    with tempfile.TemporaryDirectory() as logs:
        async with (
            receiving() as origin,
            open_runtime(bench.settings()) as rt,
            Stack(database_url=bench.database_url, redis_url=bench.redis_url, logs=Path(logs)) as stack,
        ):
            project_id, _ = await new_project(rt)
            for number in range(ENDPOINTS):
                await new_endpoint(rt, project_id, f"{origin}/{number}")
            worker = await stack.start_worker()
            readings: dict[int, Reading] = {}
            async with asyncio.timeout(SECONDS):
                for published in range(CHUNK, COUNT + 1, CHUNK):
                    await publish_all(rt, messages(project_id, CHUNK // ENDPOINTS))
                    await _until_pending(rt, 0 if published in {EARLY, COUNT} else CHUNK)
                    if published in {EARLY, COUNT}:
                        readings[published] = Reading(published, time.monotonic(), *await _size(worker.pid))
            early, late = readings[EARLY], readings[COUNT]
    done = late.delivered - early.delivered
    cost = (late.cpu_seconds - early.cpu_seconds) / done * 1_000_000
    growth = late.resident_bytes / early.resident_bytes
    told = f"{early.resident_bytes / 1e6:.0f} MB after {early.delivered:,}, {late.resident_bytes / 1e6:.0f} after all"
    rate = done / (late.at - early.at)
    return [
        Figure("processor time of a delivery", f"{cost:.0f} µs of the worker, at {rate:.0f}/s, attempt rows included"),
        Figure(f"memory over {COUNT:,} deliveries", told, growth, f"flat (<= {GROWTH:.2f})", growth <= GROWTH),
    ]


async def _until_pending(rt: Runtime, most: int) -> None:
    while await _pending(rt) > most:
        await asyncio.sleep(0.02)


async def _pending(rt: Runtime) -> int:
    """Few at any time, and told by an index: counting what has succeeded would cost more each time."""
    async with rt.db.reading() as tx:
        return int(await tx.scalar("SELECT count(*) FROM deliveries WHERE state = 'pending'"))


async def _size(pid: int) -> tuple[float, int]:
    """Seconds of processor time, and bytes in memory, by `ps`: the same question on Linux and macOS."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("ps", "-o", "time=,rss=", "-p", str(pid), stdout=pipe)
    printed, _ = await process.communicate()
    spent, resident = printed.decode().split()
    days, _, clock = spent.rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds + 86_400 * int(days or 0), int(resident) * 1024
