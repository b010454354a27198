"""Edit at the provider to webhook at the receiver, on an idle installation of real processes."""

import asyncio
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx

from benchmarks.rig import Bench, Figure, percentile
from demo.processes import Stack, http, running

SAMPLES = 30
QUIET = 1.0
ALLOWED = 0.150


async def run(bench: Bench) -> list[Figure]:
    """One figure: p95 beyond the quiet time."""
    with tempfile.TemporaryDirectory() as logs:
        async with (
            running(
                database_url=bench.database_url,
                redis_url=bench.redis_url,
                logs=Path(logs),
                settings={"SYNC_QUIET_SECONDS": str(QUIET)},
            ) as stack,
            http() as client,
        ):
            await _subscribe(stack, client)
            taken = {platform: await _samples(stack, client, platform) for platform in ("google", "microsoft")}
    return [_figure(platform, seconds) for platform, seconds in taken.items()]


def _figure(platform: str, taken: list[float]) -> Figure:
    beyond = [seconds - QUIET for seconds in taken]
    p50, p95 = percentile(beyond, 0.5), percentile(beyond, 0.95)
    told = f"quiet time {QUIET:.0f} s + p50 {p50 * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms ({len(taken)} edits)"
    return Figure(f"{platform}: edit to webhook, idle", told, p95 / ALLOWED, "p95 <= quiet + 150 ms", p95 <= ALLOWED)


async def _subscribe(stack: Stack, client: httpx.AsyncClient) -> None:
    made = httpx.Response(200, text=await stack.punctual("projects", "create", "bench", "--json")).json()
    client.headers["Authorization"] = f"Token {made['api_key']}"
    hook = {"url": f"{stack.sink_url}/hooks/bench", "triggers": ["calendar.events_update"]}
    endpoint = (await client.post(f"{stack.api_url}/api/v1/webhooks", json=hook)).raise_for_status().json()
    await client.put(f"{stack.sink_url}/_sink/hooks/bench", json={"secrets": [endpoint["secret"]]})


async def _samples(stack: Stack, client: httpx.AsyncClient, platform: str) -> list[float]:
    account = {"email": f"bench@{platform}.example", "provider": platform}
    account = (await client.post(f"{stack.sandbox_url}/_sandbox/accounts", json=account)).raise_for_status().json()
    credentials = {name: account[name] for name in ("client_id", "client_secret", "refresh_token")}
    calendar = await client.post(f"{stack.api_url}/api/v1/calendars", json={"platform": platform, **credentials})
    address = f"{stack.api_url}/api/v1/calendars/{calendar.raise_for_status().json()['id']}"

    async def is_watched() -> bool:
        return bool((await client.get(address)).json()["health"]["push"]["active"])

    await stack.until(is_watched, seconds=30, what="a push channel")
    taken = []
    await asyncio.sleep(3)
    seen = len(await _messages(client, stack, after=0, wait=0))
    for number in range(SAMPLES):
        await asyncio.sleep(0.05 * (number % 5))
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
        body = {"title": f"Edit {number}", "start": start.isoformat(), "end": (start + timedelta(hours=1)).isoformat()}
        edited = time.time()
        await client.post(
            f"{stack.sandbox_url}/_sandbox/calendars/{quote(account['calendar_id'], safe='')}/events", json=body
        )
        arrived = await _messages(client, stack, after=seen, wait=15)
        taken.append(arrived[0] - edited)
        seen += len(arrived)
    return taken


async def _messages(client: httpx.AsyncClient, stack: Stack, *, after: int, wait: int) -> list[float]:
    """When each message after the given number of them arrived, unix time."""
    answer = await client.get(f"{stack.sink_url}/_sink/messages", params={"after": after, "wait": wait})
    return [float(message["at"]) for message in answer.json()["messages"]]
