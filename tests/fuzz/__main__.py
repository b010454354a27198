"""`make fuzz`: invented requests for FUZZ_MINUTES (10); prints what it found, and how often who answered what.

python -m tests.fuzz [--minutes 10] [--seed N]
"""

import argparse
import asyncio
import os
import random
import sys

from tests.fuzz.engine import Report, fuzz
from tests.fuzz.stage import keep_going, staged
from tests.properties.services import services, silence


def main() -> int:
    """The exit status: 0 where nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("FUZZ_MINUTES", "10")))
    parser.add_argument("--seed", type=int, default=int(os.environ.get("FUZZ_SEED", random.randrange(10**6))))
    given = parser.parse_args()
    silence()
    with services():
        report = asyncio.run(_run(given.seed, given.minutes * 60))
    for line, told in report.findings.items():
        say(f"--- {line}\n{told}\n")
    for line in report.problems:
        say(f"--- the engine: {line}\n")
    for (label, status), number in sorted(report.answers.items()):
        say(f"{number:7} {status} {label}")
    failures = len(report.findings) + len(report.problems)
    say(f"fuzz: {report.requests} requests, seed {given.seed}, {failures} findings")
    return 1 if failures else 0


async def _run(seed: int, seconds: float) -> Report:
    async with staged() as stage:
        going = asyncio.create_task(keep_going(stage.rt, seconds=1))
        try:
            return await asyncio.to_thread(fuzz, stage, phases={}, seed=seed, seconds=seconds)
        finally:
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)


def say(line: str) -> None:
    """Print at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
