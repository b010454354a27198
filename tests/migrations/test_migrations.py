"""The schema's way up, down and up again; models and migrations agree; what the schema promises about clocks."""

import asyncio
import sys
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(database_url: str) -> Config:
    """alembic on a fresh database."""
    config = Config(ROOT / "alembic.ini")
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.set_main_option("database_url", database_url.replace("%", "%%"))
    return config


async def test_down_to_nothing_and_up_again(config: Config, database_url: str) -> None:
    await asyncio.to_thread(command.downgrade, config, "base")
    assert await names(database_url) == {"alembic_version"}
    await asyncio.to_thread(command.upgrade, config, "head")
    assert "sync_state" in await names(database_url)


async def test_models_and_migrations_agree(config: Config) -> None:
    await asyncio.to_thread(command.check, config)


async def test_two_migrations_at_once(config: Config, database_url: str, redis_url: str) -> None:
    await asyncio.to_thread(command.downgrade, config, "base")
    environment = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "PATH": ""}
    punctual = Path(sys.executable).with_name("punctual")
    migrations = [await asyncio.create_subprocess_exec(punctual, "migrate", env=environment) for _ in range(2)]
    assert [await one.wait() for one in migrations] == [0, 0]
    assert "calendar_events" in await names(database_url)


async def names(url: str) -> set[str]:
    """The tables that exist."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    return {row["tablename"] for row in rows}


async def test_app_now_is_the_clock_unless_it_is_moved(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute("SELECT set_config('punctual.clock_offset', '3600', true)")
        ahead = await connection.fetchval("SELECT extract(epoch FROM app_now() - clock_timestamp())")
    # After a SET LOCAL the setting is empty, not null.
    after = await connection.fetchval("SELECT extract(epoch FROM app_now() - clock_timestamp())")
    await connection.close()
    assert round(float(ahead)) == 3600
    assert abs(float(after)) < 1
