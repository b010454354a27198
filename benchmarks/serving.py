"""The API's two hot answers against the least handlers that do the same work, each in a server process of its own."""

import asyncio
import secrets
import sys
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import orjson

from app.crypto import hash_secret
from app.ids import new_id, new_ids
from app.providers.base import RemoteEvent
from app.providers.google.mapping import map_item
from app.runtime import open_runtime
from app.sync import content
from benchmarks.pages import event
from benchmarks.rig import Bench, Figure, child, free_port, new_project, per_second

SECONDS = 3.0
ROUNDS = 3
CALENDARS = 200


async def run(bench: Bench) -> list[Figure]:
    """Events page and push acknowledgement."""
    async with open_runtime(bench.settings()) as rt:
        project_id, key = await new_project(rt)
    connection = await asyncpg.connect(bench.database_url)
    calendar_ids, channels = await _fill(connection, project_id)
    await connection.execute("ANALYZE")
    ours, bare = free_port(), free_port()
    punctual = str(Path(sys.executable).with_name("punctual"))
    environment = {
        "DATABASE_URL": bench.database_url,
        "REDIS_URL": bench.redis_url,
        "LOG_LEVEL": "ERROR",
        "ENVIRONMENT": "development",
        "RATE_LIMIT_READS_PER_MINUTE": "1000000",  # counted like any other, and never reached
        "RATE_LIMIT_WRITES_PER_MINUTE": "1000000",
    }
    serve = (punctual, "serve", "--port", str(ours))
    async with (
        child(*serve, ready=f"http://127.0.0.1:{ours}/readyz", environment=environment),
        child("-m", "benchmarks.bare", str(bare), ready=f"http://127.0.0.1:{bare}/docs", environment=environment),
        aiohttp.ClientSession() as session,
    ):
        figures = [
            await _page(session, connection, f"http://127.0.0.1:{ours}", f"http://127.0.0.1:{bare}", key),
            await _push(
                "google", session, f"http://127.0.0.1:{ours}", f"http://127.0.0.1:{bare}", calendar_ids, channels
            ),
            await _push(
                "microsoft", session, f"http://127.0.0.1:{ours}", f"http://127.0.0.1:{bare}", calendar_ids, channels
            ),
        ]
    await connection.close()
    return figures


async def _page(
    session: aiohttp.ClientSession, connection: "asyncpg.Connection[asyncpg.Record]", ours: str, bare: str, key: str
) -> Figure:
    headers = {"Authorization": f"Token {key}"}
    async with session.get(f"{ours}/api/v1/calendar_events?limit=100", headers=headers) as answer:
        shown = orjson.loads(await answer.read())["results"]
    bodies = [(number, orjson.dumps(event).decode()) for number, event in enumerate(shown)]
    await connection.execute("CREATE TABLE bench_page (number int PRIMARY KEY, body text NOT NULL)")
    await connection.copy_records_to_table("bench_page", records=bodies)

    async def ask_ours() -> None:
        async with session.get(f"{ours}/api/v1/calendar_events?limit=100", headers=headers) as answer:
            assert len(await answer.read()) > 50_000  # noqa: S101 - else it is another answer

    async def ask_bare() -> None:
        async with session.get(f"{bare}/page") as answer:
            assert len(await answer.read()) > 50_000  # noqa: S101 - else it is another answer

    us, floor = await _paired(ask_ours, ask_bare, concurrency=8)
    ratio = us / floor
    size = sum(len(body) for _, body in bodies) // 1000
    told = f"{us:.0f}/s against {floor:.0f}/s bare ({len(bodies)} events, {size} kB)"
    return Figure("events page of 100", told, ratio, ">= 0.4", ratio >= 0.4)


async def _push(
    platform: str,
    session: aiohttp.ClientSession,
    ours: str,
    bare: str,
    calendar_ids: list[Any],
    channels: list[tuple[str, str]],
) -> Figure:
    turn = iter(range(10**9))

    async def ask_ours() -> None:
        channel, token = channels[next(turn) % len(channels)]
        headers, body = {}, None
        if platform == "google":
            headers = {"X-Goog-Channel-ID": channel, "X-Goog-Channel-Token": token, "X-Goog-Resource-State": "exists"}
        else:
            item = {"subscriptionId": "r", "clientState": f"{channel}.{token}", "changeType": "updated"}
            body = {"value": [item]}
        async with session.post(f"{ours}/push/{platform}", headers=headers, json=body) as answer:
            assert answer.ok  # noqa: S101 - else it is not acknowledged

    async def ask_bare() -> None:
        headers = {"x-calendar": str(calendar_ids[next(turn) % len(calendar_ids)])}
        async with session.post(f"{bare}/push", headers=headers) as answer:
            assert answer.status == 200  # noqa: S101 - else it is not acknowledged

    us, floor = await _paired(ask_ours, ask_bare, concurrency=16)
    ratio = us / floor
    return Figure(
        f"{platform}: push acknowledged", f"{us:.0f}/s against {floor:.0f}/s bare", ratio, ">= 0.5", ratio >= 0.5
    )


async def _paired(ours: Any, bare: Any, *, concurrency: int) -> tuple[float, float]:
    """Medians of turns taken one after the other, so that a busy moment hits both."""
    us, floor = [], []
    for _ in range(ROUNDS):
        us.append(await per_second(ours, seconds=SECONDS, concurrency=concurrency))
        floor.append(await per_second(bare, seconds=SECONDS, concurrency=concurrency))
    return sorted(us)[ROUNDS // 2], sorted(floor)[ROUNDS // 2]


_EVENTS = """
INSERT INTO calendar_events (id, project_id, calendar_id, platform_uuid, ical_uid, start_time, end_time, status,
    meeting_url, meeting_platform, content, content_hash, change_seq, raw, created_at, updated_at)
SELECT v.id, $2, $3, 'bench' || v.n, 'bench' || v.n || '@example.com', now() + v.n * interval '20 seconds',
       now() + v.n * interval '20 seconds' + interval '30 minutes', 'confirmed',
       'https://meet.google.com/abc-defg-hij', 'google_meet', $4, '\\x00', v.n,
       '{"kind":"calendar#event","filler":"' || repeat('x', 1200) || '"}', now(),
       now() - interval '1 minute' + v.n * interval '1 millisecond'
  FROM unnest($1::uuid[]) WITH ORDINALITY AS v(id, n)
"""


async def _fill(
    connection: "asyncpg.Connection[asyncpg.Record]",
    project_id: Any,
) -> tuple[list[Any], list[tuple[str, str]]]:
    """Watched calendars, and 5,000 events in the first of them."""
    app_id, calendar_ids = new_id(), new_ids(CALENDARS)
    await connection.execute(
        "INSERT INTO oauth_apps (id, project_id, platform, client_id) VALUES ($1, $2, 'google', 'bench-serving')",
        app_id,
        project_id,
    )
    channels = []
    for number, calendar_id in enumerate(calendar_ids):
        key, channel_id, token = number.to_bytes(4, "big"), new_id(), secrets.token_urlsafe(32)
        await connection.execute(
            "INSERT INTO calendars (id, project_id, oauth_app_id, platform, state, channel_key)"
            " VALUES ($1, $2, $3, 'google', 'connected', $4)",
            calendar_id,
            project_id,
            app_id,
            key,
        )
        await connection.execute(
            "INSERT INTO sync_state (calendar_id, oauth_app_id) VALUES ($1, $2)", calendar_id, app_id
        )
        await connection.execute(
            "INSERT INTO push_channels (id, channel_key, token_hash, resource_id, state, expires_at, renew_at)"
            " VALUES ($1, $2, $3, 'r', 'active', now() + interval '1 day', now() + interval '12 hours')",
            channel_id,
            key,
            hash_secret(token),
        )
        channels.append((str(channel_id), token))
    shown = map_item(event(1), time_zone="Europe/Berlin")
    assert isinstance(shown, RemoteEvent)  # noqa: S101 - else the example is none
    await connection.execute(_EVENTS, new_ids(5_000), project_id, calendar_ids[0], content.render(shown).text)
    await asyncio.sleep(0)
    return calendar_ids, channels
