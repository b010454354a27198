"""Where the demo's database and Redis come from: servers that the environment names, else the embedded ones.

`temporary()` leaves nothing behind: a PostgreSQL and a Valkey of its own in a temporary directory, or a database of
its own on the given server, dropped at the end. `lasting()` is what `make run` keeps: `.punctual/` in the clone, or
the given database itself.
"""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from app import embedded
from demo.processes import ROOT


@dataclass(frozen=True, slots=True)
class Services:
    """Where they answer, and what they are, for people."""

    database_url: str
    redis_url: str
    description: str


@asynccontextmanager
async def temporary() -> AsyncIterator[Services]:
    """Empty ones, gone at the end. Raises EmbeddedError or what asyncpg raises."""
    database_url, redis_url = _given("DATABASE_URL"), _given("REDIS_URL")
    async with AsyncExitStack() as stack:
        addresses = None
        if database_url is None or redis_url is None:
            addresses = await stack.enter_async_context(_discarded_servers())
        if database_url is None and addresses is not None:
            database_url, database = addresses.database_url, "PostgreSQL in a temporary directory"
        else:
            database_url = await stack.enter_async_context(_own_database(str(database_url)))
            database = "a new database on DATABASE_URL's server"
        if redis_url is None and addresses is not None:
            redis_url, redis = addresses.redis_url, "Valkey"
        else:
            redis = "REDIS_URL's Redis"
        yield Services(database_url, str(redis_url), f"{database}, {redis}")


@asynccontextmanager
async def lasting() -> AsyncIterator[Services]:
    """Those of the clone; the embedded ones are stopped at the end if they were started here. Raises EmbeddedError."""
    database_url, redis_url = _given("DATABASE_URL"), _given("REDIS_URL")
    if database_url is not None and redis_url is not None:
        yield Services(database_url, redis_url, "DATABASE_URL and REDIS_URL as given")
        return
    was_running = await asyncio.to_thread(embedded.status, ROOT) is not None
    try:
        addresses = await asyncio.to_thread(embedded.start, ROOT)
        yield Services(
            database_url or addresses.database_url,
            redis_url or addresses.redis_url,
            "PostgreSQL and Valkey with their data in .punctual/",
        )
    finally:
        if not was_running:
            await asyncio.to_thread(embedded.stop, ROOT)


def _given(name: str) -> str | None:
    return os.environ.get(name) or None


@asynccontextmanager
async def _discarded_servers() -> AsyncIterator[embedded.Addresses]:
    home = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="punctual-demo-"))
    try:
        yield await asyncio.to_thread(embedded.start, home, durable=False)
    finally:
        await asyncio.to_thread(_discard, home)


def _discard(home: Path) -> None:
    embedded.discard(home)
    shutil.rmtree(home, ignore_errors=True)


@asynccontextmanager
async def _own_database(server_url: str) -> AsyncIterator[str]:
    name = f"punctual_demo_{secrets.token_hex(4)}"
    await _execute(server_url, f"CREATE DATABASE {name}")
    try:
        yield _with_database(server_url, name)
    finally:
        await _execute(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _with_database(url: str, name: str) -> str:
    scheme, _, rest = url.partition("://")
    address, mark, options = rest.partition("?")
    return f"{scheme}://{address.partition('/')[0]}/{name}{mark}{options}"
