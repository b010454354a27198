"""The database: one engine, two kinds of transaction, one clock.

`transaction()` is the only place that commits. A `Tx` may write, a `ReadTx` may not, and the type checker knows.
While one is open, `in_transaction()` is true for the task that opened it: HTTP clients refuse to work then, because
a provider's pause must never hold a row.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import asyncpg
import orjson
from sqlalchemy import Executable, Row, TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.settings import Settings

_open: ContextVar[int] = ContextVar("open_transactions", default=0)

Params = Mapping[str, Any]
TRANSACTION_SECONDS = 30
"""No transaction lives longer: the feed over all calendars trails by the longest one."""


def in_transaction() -> bool:
    """Whether the current task holds a database transaction open."""
    return _open.get() > 0


class Clock:
    """What time it is for deciding what is due. Tests move it; production's offset is always zero."""

    def __init__(self, *, movable: bool) -> None:
        self._movable = movable
        self.offset = timedelta()

    def advance(self, delta: timedelta) -> None:
        """Let time pass; only where ENVIRONMENT=test."""
        if not self._movable:
            raise RuntimeError("the clock moves in tests only")
        self.offset += delta

    def now(self) -> datetime:
        """The same instant as `app_now()` in SQL."""
        return datetime.now(UTC) + self.offset


class ReadTx:
    """A connection that reads; every statement sees what was committed when it began (READ COMMITTED)."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def rows(self, statement: str | Executable, params: Params | None = None) -> Sequence[Row[Any]]:
        """All rows of a query."""
        return (await self._connection.execute(_prepared(statement), params)).all()

    async def row(self, statement: str | Executable, params: Params | None = None) -> Row[Any] | None:
        """The first row, or None."""
        return (await self._connection.execute(_prepared(statement), params)).first()

    async def scalar(self, statement: str | Executable, params: Params | None = None) -> Any:
        """The first column of the first row, or None."""
        return (await self._connection.execute(_prepared(statement), params)).scalar()


class Tx(ReadTx):
    """A transaction that may write."""

    def __init__(self, connection: AsyncConnection) -> None:
        super().__init__(connection)
        self.callbacks: list[Callable[[], None]] = []

    async def execute(self, statement: str | Executable, params: Params | Sequence[Params] | None = None) -> int:
        """Run a writing statement; the number of rows it touched."""
        return (await self._connection.execute(_prepared(statement), params)).rowcount

    async def copy(self, table: str, columns: Sequence[str], records: Iterable[Sequence[Any]]) -> None:
        """COPY new rows in: no conflict may be possible, and something was executed in this transaction before."""
        raw = await self._connection.get_raw_connection()
        driver: asyncpg.Connection[asyncpg.Record] = raw.driver_connection  # type: ignore[assignment]
        await driver.copy_records_to_table(table, columns=list(columns), records=records)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call once the commit is durable (a wake-up: losing it costs time, never data)."""
        self.callbacks.append(callback)


@lru_cache(maxsize=512)
def _text(statement: str) -> TextClause:
    return text(statement)


def _prepared(statement: str | Executable) -> Executable:
    return _text(statement) if isinstance(statement, str) else statement


class Database:
    """The engine, and the doors to it."""

    def __init__(self, settings: Settings, *, clock: Clock, application: str = "punctual") -> None:
        self.clock = clock
        self.engine: AsyncEngine = _engine(settings, application)
        self._reader = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """Commits when the block ends, rolls back when it raises, then runs the after-commit callbacks."""
        async with self._counted(), self.engine.connect() as connection:
            tx = Tx(connection)
            async with connection.begin():
                await self._set_clock(connection)
                yield tx
        for callback in tx.callbacks:
            callback()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[ReadTx]:
        """Statements that only read, each with a snapshot of its own.

        That is what READ COMMITTED gives inside a transaction too; without one, every answer saves two round trips.
        """
        if self.clock.offset:
            async with self._counted(), self.engine.connect() as connection, connection.begin():
                await self._set_clock(connection)
                yield ReadTx(connection)
        else:
            async with self._counted(), self._reader.connect() as connection:
                yield ReadTx(connection)

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        _open.set(_open.get() + 1)
        try:
            yield
        finally:
            _open.set(_open.get() - 1)

    async def _set_clock(self, connection: AsyncConnection) -> None:
        if self.clock.offset:
            seconds = str(self.clock.offset.total_seconds())
            await connection.execute(_text("SELECT set_config('punctual.clock_offset', :s, true)"), {"s": seconds})

    async def close(self) -> None:
        """Give all connections back."""
        await self.engine.dispose()


def _engine(settings: Settings, application: str) -> AsyncEngine:
    async def connect() -> asyncpg.Connection[asyncpg.Record]:
        connection = await asyncpg.connect(
            settings.database_url,
            timeout=10,
            statement_cache_size=512,
            server_settings={
                "application_name": application,
                "jit": "off",
                "timezone": "UTC",
                "idle_in_transaction_session_timeout": str(TRANSACTION_SECONDS * 1000),
                "statement_timeout": str(TRANSACTION_SECONDS * 1000),
            },
        )
        if connection.get_server_version() >= (17, 0):
            await connection.execute(f"SET transaction_timeout = {TRANSACTION_SECONDS * 1000}")
        return connection

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_pool_size,
        pool_pre_ping=False,
        pool_recycle=1_800,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
    )


def is_lock_timeout(error: DBAPIError) -> bool:
    """Whether a statement gave up waiting for a lock, or for its own timeout."""
    return getattr(error.orig, "sqlstate", None) in {"55P03", "57014"}
