"""A re-sync with one changed event: statements and time, in calendars of 200 to 8,000 events."""

import statistics
import time

from app import calendars
from app.providers.base import Platform
from app.runtime import open_runtime
from app.sync import engine
from benchmarks.first_sync import connect
from benchmarks.rig import Bench, Figure, child, counted_statements, free_port, new_project, provider_settings

PLATFORMS: tuple[Platform, ...] = ("google", "microsoft")
SIZES = (200, 2_000, 8_000)
ROUNDS = 15


async def run(bench: Bench) -> list[Figure]:
    """Statements at each size, and how the time grows with the size, for each provider."""
    figures: list[Figure] = []
    for platform in PLATFORMS:
        figures += await _measure(bench, platform)
    return figures


async def _measure(bench: Bench, platform: Platform) -> list[Figure]:
    counts, times = [], []
    for size in SIZES:
        taken = []
        port = free_port()
        origin = f"http://127.0.0.1:{port}"
        async with child("-m", "benchmarks.pages", str(port), str(size), ready=f"{origin}/"):
            async with open_runtime(bench.settings(**provider_settings(origin))) as rt:
                project_id, _ = await new_project(rt)
                calendar_id = await connect(rt, project_id, platform)
                await engine.sync_calendar(rt, calendar_id)

                for _ in range(ROUNDS):
                    async with rt.db.transaction() as tx:
                        await calendars.request_sync(rt, tx, project_id=project_id, calendar_id=calendar_id, full=False)
                    started = time.perf_counter()
                    with counted_statements(rt) as statements:
                        outcome = await engine.sync_calendar(rt, calendar_id)
                    taken.append(time.perf_counter() - started)
                    assert outcome.changes == 1  # noqa: S101 - else there is nothing to measure
                    counts.append(len(statements))
        times.append(statistics.median(taken))
    worst = max(counts)
    growth = times[-1] / times[0]
    told = ", ".join(f"{size:,}: {seconds * 1000:.1f} ms" for size, seconds in zip(SIZES, times, strict=True))
    return [
        Figure(f"{platform}: re-sync, statements", str(worst), None, "<= 8", worst <= 8),
        Figure(f"{platform}: re-sync of one change, by size", told, growth, "flat (<= 1.5)", growth <= 1.5),
    ]
