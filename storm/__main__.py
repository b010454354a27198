"""`python -m storm`: one storm; the exit status says whether everything was right afterwards."""

import argparse
import asyncio
import secrets
import signal
import sys
from collections.abc import Iterator, Sequence

import asyncpg
import httpx
from redis.exceptions import RedisError

from app.embedded import EmbeddedError
from demo.processes import ROOT, StackError
from storm.storm import LOGS, storm

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


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m storm", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="decides every edit and mishap; any by default")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long it blows (120)")
    options = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    try:
        return 0 if asyncio.run(_interruptible(seed, max(LEAST_SECONDS, options.seconds))) else 1
    except asyncio.CancelledError:
        sys.stdout.write("\nstopped\n")
        return 130
    except FAILURES as exc:
        return _failed([exc], seed)
    except BaseExceptionGroup as group:
        known, others = group.split(FAILURES)
        if others is not None or known is None:
            sys.stdout.write(f"logs of every process: {LOGS.relative_to(ROOT)}/\n")
            raise
        return _failed(list(_each(known)), seed)


def _each(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for one in exc.exceptions:
            yield from _each(one)
    else:
        yield exc


def _failed(errors: Sequence[BaseException], seed: int) -> int:
    """A process that is gone explains the requests that failed with it."""
    first = min(errors, key=lambda exc: not isinstance(exc, StackError))
    sys.stdout.flush()
    sys.stderr.write(f"storm: failed with seed {seed}: {str(first) or type(first).__name__}\n")
    sys.stderr.write(f"logs of every process: {LOGS.relative_to(ROOT)}/\n")
    return 1


async def _interruptible(seed: int, seconds: float) -> bool:
    """Ctrl-C and SIGTERM cancel the work, which stops all that it started."""
    task = asyncio.ensure_future(storm(seed=seed, seconds=seconds))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    return await task


sys.exit(main())
