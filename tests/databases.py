"""Databases for tests: one migrated template, and clones of it that cost forty milliseconds.

Most tests leave nothing behind but rows, so that the next one of the same process can have their database.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from alembic import command
from alembic.config import Config

ROOT = Path(__file__).resolve().parent.parent
BYTES = 4 << 20
"""What the tables of a database may take before it is given up: what was deleted still takes its place."""

_CATALOG = """
SELECT array_agg((n, newest) ORDER BY n)::text FROM (
    SELECT count(*) AS n, max(xmin::text::bigint) AS newest FROM pg_class WHERE oid >= 16384
    UNION ALL SELECT count(*), max(xmin::text::bigint) FROM pg_attribute WHERE attrelid >= 16384
    UNION ALL SELECT count(*), max(xmin::text::bigint) FROM pg_constraint WHERE oid >= 16384
    UNION ALL SELECT count(*), max(xmin::text::bigint) FROM pg_trigger WHERE oid >= 16384
    UNION ALL SELECT count(*), max(xmin::text::bigint) FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT count(*), max(s.xmin::text::bigint) FROM pg_db_role_setting s
       JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database()
) AS objects
"""
_END_OTHERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_TABLES = """
SELECT relname, pg_relation_size(oid) AS bytes FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
"""
_SEQUENCES = "SELECT setval(oid, 1, false) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'"

_catalogs: dict[str, str] = {}
"""By template: the objects of a clone that nobody has used."""
_emptied: dict[str, list[str]] = {}
"""By template: this process's databases whose test is over."""


async def execute(url: str, statement: str) -> None:
    """One statement on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


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
    await execute(admin, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    try:
        yield with_database(admin, name)
    finally:
        await execute(admin, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@asynccontextmanager
async def emptied(admin: str, template: str) -> AsyncIterator[str]:
    """The URL of a database as the template is: a clone, or one that an earlier test has left so but for its rows."""
    waiting = _emptied.setdefault(template, [])
    if waiting:
        name = waiting.pop()
    else:
        name = f"punctual_test_{secrets.token_hex(6)}"
        await execute(admin, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    try:
        if template not in _catalogs:
            _catalogs[template] = await _catalog(with_database(admin, name))
        yield with_database(admin, name)
    finally:
        if await _is_emptied(with_database(admin, name), _catalogs.get(template)):
            waiting.append(name)
        else:
            await execute(admin, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def _catalog(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval(_CATALOG))
    finally:
        await connection.close()


async def _is_emptied(url: str, catalog: str | None) -> bool:
    """End what still works in it and delete all rows; False where more has changed than rows, or it became large."""
    try:
        connection = await asyncpg.connect(url)
    except (asyncpg.PostgresError, OSError):  # a test may take its database away
        return False
    try:
        await connection.execute(_END_OTHERS)
        tables = await connection.fetch(_TABLES)
        if await connection.fetchval(_CATALOG) != catalog or sum(table["bytes"] for table in tables) > BYTES:
            return False
        deletions = "; ".join(f"DELETE FROM {table['relname']}" for table in tables if table["bytes"])
        await connection.execute(f"BEGIN; SET LOCAL session_replication_role = replica; {deletions}; COMMIT")
        await connection.execute(_SEQUENCES)
    except asyncpg.PostgresError:  # a server of one's own, whose user may not do that
        return False
    finally:
        await connection.close()
    return True
