"""`python -m storm`: one storm, or one on delivery alone; the exit status says whether all was right afterwards."""

import argparse
import asyncio
import secrets
import signal
import sys
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from redis.exceptions import RedisError

from app.embedded import EmbeddedError
from demo.processes import ROOT, StackError
from storm import delivery, storm

FAILURES = (
    StackError,
    EmbeddedError,
    httpx.HTTPError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    RedisError,
    OSError,
)
"""What can go wrong around us; anything else is a bug and shows its traceback."""
LEAST_SECONDS = 20.0
LEAST_MESSAGES = 1_000


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m storm", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="decides every edit and mishap; any by default")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long it blows (120)")
    parser.add_argument("--delivery", action="store_true", help="the storm on delivery alone")
    parser.add_argument("--messages", type=int, default=20_000, help="how many it delivers (20,000)")
    options = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    if options.delivery:
        return _run(delivery.storm(seed=seed, messages=max(LEAST_MESSAGES, options.messages)), seed, delivery.LOGS)
    return _run(storm.storm(seed=seed, seconds=max(LEAST_SECONDS, options.seconds)), seed, storm.LOGS)


def _run(work: Coroutine[Any, Any, bool], seed: int, logs: Path) -> int:
    try:
        return 0 if asyncio.run(_interruptible(work)) else 1
    except asyncio.CancelledError:
        sys.stdout.write("\nstopped\n")
        return 130
    except FAILURES as exc:
        return _failed([exc], seed, logs)
    except BaseExceptionGroup as group:
        known, others = group.split(FAILURES)
        if others is not None or known is None:
            sys.stdout.write(f"logs of every process: {logs.relative_to(ROOT)}/\n")
            raise
        return _failed(list(_each(known)), seed, logs)


def _each(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for one in exc.exceptions:
            yield from _each(one)
    else:
        yield exc


def _failed(errors: Sequence[BaseException], seed: int, logs: Path) -> int:
    """A process that is gone explains the requests that failed with it."""
    first = min(errors, key=lambda exc: not isinstance(exc, StackError))
    sys.stdout.flush()
    sys.stderr.write(f"storm: failed with seed {seed}: {str(first) or type(first).__name__}\n")
    sys.stderr.write(f"logs of every process: {logs.relative_to(ROOT)}/\n")
    return 1


async def _interruptible(work: Coroutine[Any, Any, bool]) -> bool:
    """Ctrl-C and SIGTERM cancel the work, which stops all that it started."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    return await task


sys.exit(main())
