"""The database: one engine, two kinds of transaction, one clock.

`transaction()` is the only place that commits. A `Tx` may write, a `ReadTx` may not, and the type checker knows.
While one is open, `in_transaction()` is true for the task that opened it: HTTP clients refuse to work then, because
a provider's pause must never hold a row.
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy
from sqlalchemy import TextClause, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.settings import Settings

_open: ContextVar[int] = ContextVar("open_transactions", default=0)

Params = Mapping[str, Any]
TRANSACTION_SECONDS = 30
"""No transaction lives longer: the feed over all calendars trails by the longest one."""

DATABASE_ERRORS = (
    SQLAlchemyError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of the pool, where a connection is lost while it is given back
    OSError,
)
"""What a statement may raise, whichever door it went through; a timeout is an OSError."""


def is_away(exc: BaseException) -> bool:
    """Whether a statement failed because the server could not be reached, or was going away: no fault of ours."""
    if isinstance(exc, DBAPIError):
        return exc.connection_invalidated or (exc.orig is not None and is_away(exc.orig.__cause__ or exc.orig))
    if isinstance(exc, asyncpg.PostgresError):
        return (exc.sqlstate or "").startswith(("08", "57P"))
    return isinstance(exc, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError)


def in_transaction() -> bool:
    """Whether the current task holds a database transaction open."""
    return _open.get() > 0


class Clock:
    """What time it is for deciding what is due. Tests move it; production's offset is always zero."""

    def __init__(self, *, movable: bool) -> None:
        self.is_movable = movable
        self.offset = timedelta()

    def advance(self, delta: timedelta) -> None:
        """Let time pass; only where ENVIRONMENT=test."""
        if not self.is_movable:
            raise RuntimeError("the clock moves in tests only")
        self.offset += delta

    def now(self) -> datetime:
        """The same instant as `app_now()` in SQL."""
        return datetime.now(UTC) + self.offset


class Row(Protocol):
    """One row of an answer; its columns are attributes."""

    def __getattr__(self, name: str, /) -> Any:
        """A column's value."""
        ...

    def __getitem__(self, index: int | slice, /) -> Any:
        """A column's value, by its place."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """The values, in the order of the columns."""
        ...


class ReadTx(ABC):
    """A connection that reads; every statement sees what was committed when it began (READ COMMITTED)."""

    @abstractmethod
    async def rows(self, statement: str, params: Params | None = None) -> Sequence[Row]:
        """All rows of a query."""

    @abstractmethod
    async def row(self, statement: str, params: Params | None = None) -> Row | None:
        """The first row, or None."""

    @abstractmethod
    async def scalar(self, statement: str, params: Params | None = None) -> Any:
        """The first column of the first row, or None."""


class _Connection(asyncpg.Connection):
    """Knows what time it was told, so that it is told once."""

    _offset = timedelta()

    async def keep_time(self, clock: Clock) -> None:
        """Let `app_now()` be what the clock says. Outside any transaction, whose end could take it back."""
        if self._offset != clock.offset:
            offset = clock.offset
            await self.execute(f"SET punctual.clock_offset = '{offset.total_seconds()}'")
            self._offset = offset


class _Record(asyncpg.Record):
    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


Watcher = Callable[[str], None]


class _Reading(ReadTx):
    """Straight on the driver: a statement through SQLAlchemy's async layer costs the process three times as much."""

    def __init__(self, connection: PoolConnectionProxy[_Record], watchers: Sequence[Watcher]) -> None:
        self._connection = connection
        self._watchers = watchers

    async def rows(self, statement: str, params: Params | None = None) -> Sequence[Row]:
        """All rows of a query."""
        return await self._connection.fetch(*self._call(statement, params))

    async def row(self, statement: str, params: Params | None = None) -> Row | None:
        """The first row, or None."""
        return await self._connection.fetchrow(*self._call(statement, params))

    async def scalar(self, statement: str, params: Params | None = None) -> Any:
        """The first column of the first row, or None."""
        return await self._connection.fetchval(*self._call(statement, params))

    def _call(self, statement: str, params: Params | None) -> tuple[Any, ...]:
        query, names = _numbered(statement)
        for watcher in self._watchers:
            watcher(query)
        return query, *(params[name] for name in names if params is not None)


@lru_cache(maxsize=512)
def _numbered(statement: str) -> tuple[str, tuple[str, ...]]:
    """The statement with `$1` for `:name`, and the names in order; like SQLAlchemy's `text`, `\\:` is a colon."""
    names: list[str] = []

    def place(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    return _NAME.sub(place, statement).replace("\\:", ":"), tuple(names)


_NAME = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")


class Tx(ReadTx):
    """A transaction that may write, through SQLAlchemy."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.callbacks: list[Callable[[], None]] = []

    async def rows(self, statement: str, params: Params | None = None) -> Sequence[Row]:
        """All rows of a query."""
        return (await self._connection.execute(_text(statement), params)).all()

    async def row(self, statement: str, params: Params | None = None) -> Row | None:
        """The first row, or None."""
        return (await self._connection.execute(_text(statement), params)).first()

    async def scalar(self, statement: str, params: Params | None = None) -> Any:
        """The first column of the first row, or None."""
        return (await self._connection.execute(_text(statement), params)).scalar()

    async def execute(self, statement: str, params: Params | Sequence[Params] | None = None) -> int:
        """Run a writing statement; the number of rows it touched."""
        return (await self._connection.execute(_text(statement), params)).rowcount

    async def copy(self, table: str, columns: Sequence[str], records: Iterable[Sequence[Any]]) -> None:
        """COPY new rows in: no conflict may be possible, and something was executed in this transaction before."""
        raw = await self._connection.get_raw_connection()
        driver: asyncpg.Connection[asyncpg.Record] = raw.driver_connection  # type: ignore[assignment]
        await driver.copy_records_to_table(table, columns=list(columns), records=records)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call once the commit is durable (a wake-up: losing it costs time, never data)."""
        self.callbacks.append(callback)


class DirectTx(_Reading):
    """A transaction that may write, straight on the driver: for the few statements that run for every message."""

    def __init__(self, connection: PoolConnectionProxy[_Record], watchers: Sequence[Watcher]) -> None:
        super().__init__(connection, watchers)
        self.callbacks: list[Callable[[], None]] = []

    async def execute(self, statement: str, params: Params | None = None) -> int:
        """Run a writing statement; the number of rows it touched."""
        status = await self._connection.execute(*self._call(statement, params))
        return int(status.rpartition(" ")[2])

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call once the commit is durable (a wake-up: losing it costs time, never data)."""
        self.callbacks.append(callback)


@lru_cache(maxsize=512)
def _text(statement: str) -> TextClause:
    return text(statement)


class Database:
    """The engine, and the doors to it."""

    def __init__(self, settings: Settings, *, clock: Clock, application: str = "punctual") -> None:
        self.clock = clock
        self.engine: AsyncEngine = _engine(settings, application)
        self._readers = _pool(settings, application)
        self._watchers: list[Watcher] = []

    async def open(self) -> None:
        """Make the doors ready; connects to nothing yet."""
        _ = await self._readers

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """Commits when the block ends, rolls back when it raises, then runs the after-commit callbacks."""
        async with self._counted(), self.engine.connect() as connection:
            tx = Tx(connection)
            if self.clock.is_movable:
                await self._keep_time((await connection.get_raw_connection()).driver_connection)
            async with connection.begin():
                yield tx
        for callback in tx.callbacks:
            callback()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[ReadTx]:
        """Statements that only read, each with a snapshot of its own.

        That is what READ COMMITTED gives inside a transaction too; without one, every answer saves two round trips.
        """
        async with self._counted(), self._readers.acquire(timeout=_POOL_SECONDS) as connection:
            await self._keep_time(connection)
            yield _Reading(connection, self._watchers)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[DirectTx]:
        """`transaction`, straight on the driver."""
        async with self._counted(), self._readers.acquire(timeout=_POOL_SECONDS) as connection:
            tx = DirectTx(connection, self._watchers)
            await self._keep_time(connection)
            async with connection.transaction():
                yield tx
        for callback in tx.callbacks:
            callback()

    @asynccontextmanager
    async def direct(self) -> AsyncIterator[DirectTx]:
        """Statements that are each a transaction of their own, straight on the driver: two round trips less for each.

        Only where each means something by itself: what was written before an error stays.
        """
        async with self._counted(), self._readers.acquire(timeout=_POOL_SECONDS) as connection:
            await self._keep_time(connection)
            yield DirectTx(connection, self._watchers)

    @contextmanager
    def watched(self, watcher: Watcher) -> Iterator[None]:
        """Tell the watcher each statement that is sent (BEGIN, COMMIT and COPY are not among them)."""

        def note(_: object, __: object, statement: str, *___: object) -> None:
            watcher(statement)

        event.listen(self.engine.sync_engine, "before_cursor_execute", note)
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)
            event.remove(self.engine.sync_engine, "before_cursor_execute", note)

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        _open.set(_open.get() + 1)
        try:
            yield
        finally:
            _open.set(_open.get() - 1)

    async def _keep_time(self, connection: Any) -> None:
        if self.clock.is_movable:
            await connection.keep_time(self.clock)

    async def recycle(self) -> None:
        """Use new connections from now on; those in use end when they are given back."""
        await self.engine.dispose()
        await self._readers.expire_connections()

    async def close(self) -> None:
        """Give all connections back; what is still reading after a while is cut off."""
        await self.engine.dispose()
        try:
            await asyncio.wait_for(self._readers.close(), _CLOSE_SECONDS)
        except TimeoutError:
            self._readers.terminate()


_POOL_SECONDS = 30
_CLOSE_SECONDS = 5


def _connect_options(settings: Settings, application: str) -> dict[str, Any]:
    return {
        "dsn": settings.database_url,
        "connection_class": _Connection,
        "timeout": 10,
        "statement_cache_size": 512,
        "server_settings": {
            "application_name": application,
            "jit": "off",
            "timezone": "UTC",
            "idle_in_transaction_session_timeout": str(TRANSACTION_SECONDS * 1000),
            "statement_timeout": str(TRANSACTION_SECONDS * 1000),
        },
    }


async def _limit(connection: asyncpg.Connection[Any]) -> None:
    if connection.get_server_version() >= (17, 0):
        await connection.execute(f"SET transaction_timeout = {TRANSACTION_SECONDS * 1000}")


def _engine(settings: Settings, application: str) -> AsyncEngine:
    async def connect() -> asyncpg.Connection[asyncpg.Record]:
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            **_connect_options(settings, application)
        )
        try:
            await _limit(connection)
        except BaseException:  # a cancellation too: nobody else knows of the connection yet
            connection.terminate()
            raise
        return connection

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=_POOL_SECONDS,
        pool_use_lifo=True,  # the one used last has its statements prepared; asyncpg's own pool does likewise
        pool_recycle=300,  # none is handed out that may have lain unused for longer: firewalls forget without a word
        pool_pre_ping=False,
        hide_parameters=True,  # titles and addresses: they would stand in every error's text
        json_serializer=_dump,
        json_deserializer=orjson.loads,
    )


def _pool(settings: Settings, application: str) -> asyncpg.Pool[_Record]:
    async def prepare(connection: asyncpg.Connection[_Record]) -> None:
        await _limit(connection)
        for name in ("json", "jsonb"):
            await connection.set_type_codec(name, schema="pg_catalog", encoder=_dump, decoder=orjson.loads)

    async def keep(_: asyncpg.Connection[_Record]) -> None:
        """Reading leaves nothing behind that another reader would have to be kept from."""

    return asyncpg.create_pool(
        **_connect_options(settings, application),
        min_size=0,
        max_size=settings.database_pool_size,
        record_class=_Record,
        init=prepare,
        reset=keep,
    )


def _dump(value: object) -> str:
    return orjson.dumps(value).decode()


def is_lock_timeout(error: DBAPIError) -> bool:
    """Whether a statement gave up waiting for a lock, or for its own timeout."""
    return getattr(error.orig, "sqlstate", None) in {"55P03", "57014"}
