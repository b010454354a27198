"""What PostgreSQL does for a list: the statements that the API sends, and what running them reads.

A statement is explained as it is sent, parameters and all, in both ways in which PostgreSQL may plan it: for these
values, and for any (a prepared statement that has run a few times). What counts is rows and pages read, not the
names of nodes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import orjson
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from app.db import Database, Params, ReadTx, Row
from app.runtime import Runtime

Sent = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one execution has read of a table."""

    rows: int
    """Fetched from the table, those that a filter then refused among them."""
    pages: int
    """Buffers of any kind: of indexes too."""
    is_whole: bool
    """Whether the table was read from end to end."""
    is_spilt: bool
    """Whether something was sorted on disk."""


class _Recording(ReadTx):
    def __init__(self, inner: ReadTx, sent: list[Sent]) -> None:
        self._inner, self._sent = inner, sent

    async def rows(self, statement: str, params: Params | None = None) -> Sequence[Row]:
        """All rows of a query."""
        self._sent.append((statement, dict(params or {})))
        return await self._inner.rows(statement, params)

    async def row(self, statement: str, params: Params | None = None) -> Row | None:
        """The first row, or None."""
        return await self._inner.row(statement, params)

    async def scalar(self, statement: str, params: Params | None = None) -> Any:
        """The first column of the first row, or None."""
        return await self._inner.scalar(statement, params)


class RecordingDatabase(Database):
    """Reads through another database's connections, and remembers the lists that were asked for."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self.sent: list[Sent] = []

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[ReadTx]:
        """Statements that only read."""
        async with self._inner.reading() as tx:
            yield _Recording(tx, self.sent)


def recording(rt: Runtime) -> tuple[Runtime, list[Sent]]:
    """The runtime with a database that remembers; and what it remembers, as statements and parameters."""
    database = RecordingDatabase(rt.db)
    return replace(rt, db=database), database.sent


async def explain(connection: asyncpg.Connection[Any], sent: Sent, *, table: str) -> list[Cost]:
    """What the statement reads, planned for its values and for any."""
    statement, params = sent
    compiled = text(statement).compile(dialect=PGDialect_asyncpg())  # type: ignore[no-untyped-call]
    values = ", ".join(_literal(params[name]) for name in compiled.positiontup or ())
    costs = []
    for mode in ("custom", "generic"):
        await connection.execute(f"SET plan_cache_mode = force_{mode}_plan; PREPARE page AS {compiled.string}")
        plan = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE page ({values})")
        await connection.execute("DEALLOCATE page")
        costs.append(_cost(orjson.loads(plan)[0]["Plan"], table))
    return costs


def _literal(value: object) -> str:
    if isinstance(value, list):
        return f"ARRAY[{', '.join(map(_literal, value))}]"
    return "'" + str(value).replace("'", "''") + "'"


def _cost(plan: dict[str, Any], table: str) -> Cost:
    nodes = list(_nodes(plan))
    scans = [node for node in nodes if node.get("Relation Name") == table]
    assert scans, plan
    refused = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    rows = sum(
        (node["Actual Rows"] + sum(node.get(name, 0) for name in refused)) * node["Actual Loops"] for node in scans
    )
    return Cost(
        rows=round(rows),
        pages=plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
        is_whole=any(node["Node Type"] == "Seq Scan" for node in scans),
        is_spilt=any(node.get("Sort Space Type") == "Disk" for node in nodes),
    )


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for part in plan.get("Plans", ()) for node in _nodes(part))]
