"""Runs migrations on DATABASE_URL, one at a time: a second runner waits on an advisory lock."""

import asyncio
import os

import asyncpg
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.models import metadata

_LOCK = 0x70756E6374


def _run(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
    connection.commit()
    context.configure(
        connection=connection, target_metadata=metadata, compare_type=True, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


async def _online() -> None:
    url = context.config.get_main_option("database_url") or os.environ["DATABASE_URL"]  # noqa: TID251 - alembic is started by hand too
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url))
    async with engine.connect() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


def _go() -> None:
    provided: Connection | None = context.config.attributes.get("connection")
    if provided is not None:
        _run(provided)
    else:
        asyncio.run(_online())


_go()
