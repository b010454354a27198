"""`make bench`: every figure in one run, printed as a ratio and written to benchmarks/results/latest.json.

A figure that misses its bound is named; the exit status stays 0, because a busy machine is no defect. Absolute times
are told for scale and asserted nowhere.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import orjson

from app import embedded
from app.runtime import calm_collector
from app.telemetry import configure_logging
from benchmarks import delivery, drain, first_sync, isolation, latency, launching, resync, serving, volume
from benchmarks.rig import ROOT, Bench, Figure, fresh_database

PARTS: dict[str, Callable[[Bench], Awaitable[list[Figure]]]] = {
    "first_sync": first_sync.run,
    "resync": resync.run,
    "serving": serving.run,
    "drain": drain.run,
    "delivery": delivery.run,
    "isolation": isolation.run,
    "volume": volume.run,
    "latency": latency.run,
    "launching": launching.run,
}


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@asynccontextmanager
async def services() -> AsyncIterator[tuple[str, str]]:
    """DATABASE_URL and REDIS_URL as given, else embedded ones that go with the block."""
    if "DATABASE_URL" in os.environ and "REDIS_URL" in os.environ:
        yield os.environ["DATABASE_URL"], os.environ["REDIS_URL"]
        return
    home = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="punctual-bench-"))
    try:
        addresses = await asyncio.to_thread(embedded.start, home)
        yield addresses.database_url, addresses.redis_url
    finally:
        await asyncio.to_thread(embedded.discard, home)
        shutil.rmtree(home, ignore_errors=True)


async def main(names: list[str]) -> None:
    """Run the named parts, or all."""
    unknown = set(names) - PARTS.keys()
    if unknown:
        raise SystemExit(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    calm_collector()
    figures: list[Figure] = []
    async with services() as (database_url, redis_url):
        for name in names or list(PARTS):
            async with fresh_database(database_url) as fresh:
                bench = Bench(fresh, redis_url)
                configure_logging(bench.settings())
                for figure in await PARTS[name](bench):
                    figures.append(figure)
                    say(_line(figure))
    _keep(figures)
    missed = [figure.name for figure in figures if figure.holds is False]
    say(f"bench: {len(figures)} figures, {len(missed)} missed" + (f": {', '.join(missed)}" if missed else ""))


def _line(figure: Figure) -> str:
    ratio = "" if figure.ratio is None else f"ratio {figure.ratio:.2f}"
    verdict = {True: "holds", False: "MISSED", None: ""}[figure.holds]
    return f"{figure.name:<40} {ratio:<12} {figure.bound:<24} {verdict:<7} {figure.value}"


def _keep(figures: list[Figure]) -> None:
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    document = orjson.dumps([asdict(figure) for figure in figures], option=orjson.OPT_INDENT_2)
    (folder / "latest.json").write_bytes(document)


asyncio.run(main(sys.argv[1:]))
