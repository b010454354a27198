"""`python -m demo`: the demo; with `--serve`, the same services in the foreground until Ctrl-C."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import asyncpg
import httpx

from app.embedded import EmbeddedError
from demo.processes import StackError
from demo.serve import serve
from demo.show import show

FAILURES = (StackError, EmbeddedError, httpx.HTTPError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
"""What can go wrong around us; anything else is a bug and shows its traceback."""


def main() -> int:
    """Parse the command line and run; the exit status tells the truth."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="serve until Ctrl-C, with the sandbox attached")
    options = parser.parse_args()
    try:
        if options.serve:
            asyncio.run(_interruptible(serve()))
            return 0
        return 0 if asyncio.run(_interruptible(show())) else 1
    except asyncio.CancelledError:
        sys.stdout.write("\nstopped\n")
        return 0 if options.serve else 130
    except FAILURES as exc:
        sys.stdout.flush()
        sys.stderr.write(f"{'run' if options.serve else 'demo'}: failed: {_words(exc)}\n")
        return 1


async def _interruptible(work: Coroutine[Any, Any, bool]) -> bool:
    """Ctrl-C and SIGTERM cancel the work, which stops all that it started; a second one stops it less gently."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    return await task


def _words(exc: BaseException) -> str:
    if isinstance(exc, httpx.HTTPStatusError):
        return f"{exc.request.method} {exc.request.url} answered {exc.response.status_code}: {exc.response.text[:500]}"
    return str(exc) or type(exc).__name__


sys.exit(main())
