"""A process of its own that makes attempts as a worker does, on uvloop, and says what they cost it.

`python -m tests.egress.attempts AT_A_TIME SECONDS WARM_UP_PORT PORT…`: a JSON list on stdout, one object for each port.
It is apart from the receivers, whose memory is none of an attempt's.
"""

import asyncio
import gc
import json
import resource
import sys
import tracemalloc
from pathlib import Path
from time import process_time

import uvloop

from app.egress import Egress
from app.telemetry import configure_logging
from tests.egress.receivers import client, post, settings


async def main(at_a_time: int, seconds: float, warm_up: int, *ports: int) -> list[dict[str, object]]:
    async with client() as egress:
        for _ in range(20):
            await asyncio.gather(*(post(egress, f"http://127.0.0.1:{warm_up}/") for _ in range(at_a_time)))
        return [await measured(egress, f"http://127.0.0.1:{port}/", at_a_time, seconds) for port in ports]


async def measured(egress: Egress, url: str, at_a_time: int, seconds: float) -> dict[str, object]:
    """Growth of the process and CPU seconds for each of so many attempts at a time; then Python's own peak for one."""
    gc.collect()
    cpu, before = process_time(), _resident()
    answers = await asyncio.gather(*(post(egress, url, seconds=seconds) for _ in range(at_a_time)))
    cpu, resident = process_time() - cpu, _most_resident() - before
    tracemalloc.start()
    base, _ = tracemalloc.get_traced_memory()
    answers.append(await post(egress, url, seconds=seconds))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "results": sorted({str(a.error or a.status) for a in answers}),
        "seconds": max((a.phases_ms["total"] or 0) / 1_000 for a in answers),
        "peak": peak - base,
        "resident": max(0, resident) / at_a_time,
        "cpu": cpu / at_a_time,
    }


def _resident() -> int:
    """Bytes in memory now; from here on the most is counted anew (Linux alone can do that)."""
    if sys.platform != "linux":
        return _most_resident()
    Path("/proc/self/clear_refs").write_text("5")
    return _most_resident()


def _most_resident() -> int:
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    [line] = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM:")]
    return int(line.split()[1]) * 1_024


if __name__ == "__main__":
    configure_logging(settings())
    at_a_time, seconds, *ports = sys.argv[1:]
    sys.stdout.write(json.dumps(uvloop.run(main(int(at_a_time), float(seconds), *map(int, ports)))))
