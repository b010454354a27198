"""Databases for tests: one migrated template, and clones of it that cost forty milliseconds."""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from alembic import command
from alembic.config import Config

_introspect = asyncpg.Connection._introspect_types  # type: ignore[attr-defined]
_known: dict[tuple[int, ...], Any] = {}
_FIRST_OF_ITS_OWN = 16_384
"""Object ids below are the server's, the same in every database."""


async def _introspect_once(self: Any, oids: Iterable[int], seconds: float | None) -> Any:
    key = tuple(sorted(oids))
    if key[-1] >= _FIRST_OF_ITS_OWN:
        return await _introspect(self, oids, seconds)
    if key not in _known:
        _known[key] = await _introspect(self, oids, seconds)
    return _known[key]


# What uuid[] is each connection asks for itself, and a test has several: a fourth of what PostgreSQL did.
asyncpg.Connection._introspect_types = _introspect_once  # type: ignore[attr-defined]

ROOT = Path(__file__).resolve().parent.parent


async def execute(url: str, statement: str) -> None:
    """One statement on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


class _Admin:
    """One connection that makes and drops the databases of all tests, on a loop that outlives theirs."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="databases", daemon=True).start()
        self._turn = asyncio.Lock()
        self._connecting = asyncio.run_coroutine_threadsafe(asyncpg.connect(url), self._loop)

    async def execute(self, statement: str) -> None:
        """Run it, after those that came before; cancelled or not, it is carried out."""
        await asyncio.shield(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._run(statement), self._loop)))

    async def _run(self, statement: str) -> None:
        async with self._turn:
            await (await asyncio.wrap_future(self._connecting)).execute(statement)


_admin = cache(_Admin)


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def _planned_once(url: str) -> str:
    """A test sends a statement a few times, and PostgreSQL plans the first five each anew."""
    return f"{url}{'&' if urlsplit(url).query else '?'}plan_cache_mode=force_generic_plan"


def make_template(admin: str) -> str:
    """Create and migrate a database to clone from; its name. Outside any event loop."""
    name = f"punctual_template_{secrets.token_hex(4)}"
    asyncio.run(execute(admin, f"CREATE DATABASE {name}"))
    alembic = Config(ROOT / "alembic.ini")
    alembic.set_main_option("script_location", str(ROOT / "migrations"))
    alembic.set_main_option("database_url", with_database(admin, name).replace("%", "%%"))
    command.upgrade(alembic, "head")
    return name


@asynccontextmanager
async def cloned(admin: str, template: str) -> AsyncIterator[str]:
    """The URL of a clone that goes with the block, whoever is still connected to it."""
    name = f"punctual_test_{secrets.token_hex(6)}"
    await _admin(admin).execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    try:
        yield _planned_once(with_database(admin, name))
    finally:
        await _admin(admin).execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
