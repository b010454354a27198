"""The rig of the benchmarks: services, a database of its own, child processes, and how figures are written down."""

import asyncio
import os
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
from alembic import command
from alembic.config import Config

from app import keys
from app.ids import new_id
from app.runtime import Runtime
from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report. `ratio` and `bound` are None for figures that are only told."""

    name: str
    value: str
    ratio: float | None = None
    bound: str = ""
    holds: bool | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bench:
    """Addresses of one run."""

    database_url: str
    redis_url: str

    def settings(self, **values: object) -> Settings:
        """Settings on this run's database."""
        return Settings.model_validate(
            {
                "environment": "test",
                "database_url": self.database_url,
                "redis_url": self.redis_url,
                "sync_quiet_seconds": 0,
                "egress_allow": "127.0.0.0/8",
                "webhook_allow_http": True,
                "log_level": "ERROR",
                **values,
            }
        )


def provider_settings(origin: str) -> dict[str, object]:
    """Both providers at the benchmark's own."""
    return {
        "google_api_url": origin,
        "google_token_url": f"{origin}/token",
        "microsoft_graph_url": origin,
        "microsoft_login_url": origin,
        "microsoft_mailbox_quota_per_minute": 100_000,
    }


@asynccontextmanager
async def fresh_database(admin_url: str) -> AsyncIterator[str]:
    """A migrated database that goes with the block."""
    name = f"punctual_bench_{secrets.token_hex(4)}"
    url = urlsplit(admin_url)._replace(path=f"/{name}").geturl()
    await _execute(admin_url, f"CREATE DATABASE {name}")
    alembic = Config(ROOT / "alembic.ini")
    alembic.set_main_option("script_location", str(ROOT / "migrations"))
    alembic.set_main_option("database_url", url.replace("%", "%%"))
    await asyncio.to_thread(command.upgrade, alembic, "head")
    try:
        yield url
    finally:
        await _execute(admin_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def child(*arguments: str, ready: str, environment: dict[str, str] | None = None) -> AsyncIterator[int]:
    """A process (a program, or arguments for Python) until the block ends; waits until `ready` answers. Its pid."""
    program = () if Path(arguments[0]).is_absolute() else (sys.executable,)
    process = await asyncio.create_subprocess_exec(
        *program, *arguments, cwd=ROOT, env={**os.environ, **(environment or {})}
    )
    try:
        await _answers(ready)
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _answers(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(30):
        while True:
            try:
                await client.get(url)
            except httpx.TransportError:
                await asyncio.sleep(0.02)
            else:
                return


async def new_project(rt: Runtime) -> tuple[UUID, str]:
    """A project and its key."""
    project_id = new_id()
    async with rt.db.transaction() as tx:
        await tx.execute("INSERT INTO projects (id, name) VALUES (:id, 'bench')", {"id": project_id})
        made = await keys.make(tx, project_id=project_id, name="bench", scope="admin")
    return project_id, made.text


@contextmanager
def counted_statements(rt: Runtime) -> Iterator[list[str]]:
    """The SQL statements sent while the block runs (BEGIN and COMMIT are not among them)."""
    seen: list[str] = []
    with rt.db.watched(seen.append):
        yield seen


async def per_second(action: Callable[[], Awaitable[object]], *, seconds: float, concurrency: int) -> float:
    """How often an action completes in a second when `concurrency` callers repeat it."""
    end = time.perf_counter() + seconds
    done = 0

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await action()
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return done / (time.perf_counter() - started)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
