"""The storm's own PostgreSQL and Redis: durable as in production, made to be broken, gone at the end.

Both are the embedded ones, in a temporary directory. A stop here is never a polite one: PostgreSQL's is its immediate
shutdown (every session ends at once, the log is replayed at the next start), Redis's is kill -9.
"""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

from app import embedded
from demo.processes import StackError, free_port

END_SECONDS = 20.0


class Servers:
    """Where they answer, and how they are broken."""

    def __init__(self, home: Path, addresses: embedded.Addresses) -> None:
        self._home = home
        self._addresses = addresses
        self.database_url = addresses.database_url
        self.redis_url = addresses.redis_url

    async def restart_postgres(self) -> float:
        """End every session at once, and start again; how many seconds that took."""
        started = time.monotonic()
        connection = await asyncpg.connect(self.database_url)
        try:
            pid_file = await connection.fetchval("SELECT pg_read_file('postmaster.pid')")
        finally:
            await connection.close()
        await self._end(int(pid_file.split()[0]), signal.SIGQUIT)
        await self._start()
        return time.monotonic() - started

    async def flush_redis(self) -> None:
        """Every key is gone."""
        async with Redis.from_url(self.redis_url) as redis:
            await redis.flushall()

    async def stop_redis(self, seconds: float) -> None:
        """Away for that long, and empty when it is back."""
        async with Redis.from_url(self.redis_url) as redis:
            pid = (await redis.info("server"))["process_id"]
        await self._end(pid, signal.SIGKILL)
        await asyncio.sleep(seconds)
        await self._start()

    async def _end(self, pid: int, number: signal.Signals) -> None:
        os.kill(pid, number)
        deadline = time.monotonic() + END_SECONDS
        while await asyncio.to_thread(embedded.status, self._home) is not None:
            if time.monotonic() > deadline:
                raise StackError(f"a server that was sent {number.name} still answers")
            await asyncio.sleep(0.02)

    async def _start(self) -> None:
        if await asyncio.to_thread(embedded.start, self._home) != self._addresses:
            raise StackError("a server came back at another address: something else has taken its port")


@asynccontextmanager
async def temporary() -> AsyncIterator[Servers]:
    """Empty ones, gone at the end. Raises EmbeddedError."""
    home = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="punctual-storm-"))
    try:
        # Below the ports from which systems take the near end of a connection: nobody gets it while Redis is away.
        remembered = home / ".punctual" / "valkey" / "port"
        remembered.parent.mkdir(mode=0o700, parents=True)
        remembered.write_text(str(free_port()))
        yield Servers(home, await asyncio.to_thread(embedded.start, home))
    finally:
        await asyncio.to_thread(_discard, home)


def _discard(home: Path) -> None:
    embedded.discard(home)
    shutil.rmtree(home, ignore_errors=True)
