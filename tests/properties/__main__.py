"""`make properties`: the long run, on both cores, for a time; prints what failed, and how to see it again.

    python -m tests.properties [--minutes 30] [--seed N] [--examples 1000] [--processes 2] [--machine bots]

Batches of the machines take turns, unless one is named. A process that is given `--child` plays examples itself. It
ends when time and examples are both used up, or at the first failure, which Hypothesis has then reduced.
"""

import argparse
import os
import random
import subprocess
import sys
import time
import traceback

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import Flaky, HypothesisException
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.bots.machine import Bots
from tests.properties.ground import Ground
from tests.properties.machine import Convergence
from tests.properties.services import services, silence

STEPS = 14
MACHINES: dict[str, type[Bots] | type[Convergence]] = {"calendars": Convergence, "bots": Bots}


def main() -> int:
    """The exit status: 0 where nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.properties")
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("PROPERTIES_MINUTES", "30")))
    parser.add_argument("--seed", type=int, default=int(os.environ.get("PROPERTIES_SEED", random.randrange(10**6))))
    parser.add_argument("--examples", type=int, default=1_000, help="at least so many, however long it takes")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=25, help="examples that share a seed")
    parser.add_argument("--machine", choices=MACHINES, help="instead of each in turn")
    parser.add_argument("--no-shrinking", action="store_true")
    parser.add_argument("--child", action="store_true")
    given = parser.parse_args()
    silence()
    if given.child:
        return play(given)
    with services():
        return spread(given)


def spread(given: argparse.Namespace) -> int:
    """Let each process play with a seed of its own, and add up."""
    children = []
    for number in range(given.processes):
        arguments = ["--child", "--seed", str(given.seed + number), "--minutes", str(given.minutes)]
        arguments += ["--examples", str(-(-given.examples // given.processes))]
        arguments += ["--batch", str(given.batch)]
        arguments += ["--machine", given.machine] if given.machine else []
        arguments += ["--no-shrinking"] if given.no_shrinking else []
        environment = {**os.environ, "PYTEST_XDIST_WORKER": f"gw{number}"}
        command = [sys.executable, "-m", "tests.properties", *arguments]
        children.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    totals = [0, 0, 0]
    for child in children:
        text, _ = child.communicate()
        *report, last = text.rstrip("\n").split("\n")
        say("\n".join(report)) if report else None
        numbers = [int(word) for word in last.split() if word.isdigit()]
        totals = [total + number for total, number in zip(totals, numbers or [0, 0, 1], strict=False)]
    examples, steps, failures = totals
    say(f"properties: {examples} examples, {steps} steps, seed {given.seed}, {failures} failures")
    return 1 if failures else 0


def play(given: argparse.Namespace) -> int:
    """Batch after batch, each with a seed that follows from the first."""
    machines = [MACHINES[given.machine]] if given.machine else list(MACHINES.values())
    ground = Ground()
    for machine in machines:
        machine.ground = ground
    until = time.monotonic() + given.minutes * 60
    failures = number = 0
    while not failures and (time.monotonic() < until or sum(one.examples for one in machines) < given.examples):
        batch_seed = given.seed * 1_000_003 + number
        machine = machines[number % len(machines)]
        number += 1
        failures += not batch(machine, batch_seed, is_shrinking=not given.no_shrinking, examples=given.batch)
    ground.close()
    examples, steps = (sum(getattr(one, name) for one in machines) for name in ("examples", "steps"))
    say(f"{examples} examples {steps} steps {failures} failures")
    return 1 if failures else 0


def batch(machine: type[Bots] | type[Convergence], number: int, *, is_shrinking: bool, examples: int) -> bool:
    """Some examples from one seed; whether all held."""
    phases = [Phase.generate, *([Phase.shrink] if is_shrinking else [])]
    chosen = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        report_multiple_bugs=False,
    )
    try:
        run_state_machine_as_test(seed(number)(type("Example", (machine,), {})), settings=chosen)
    except (Exception, HypothesisException, BaseExceptionGroup) as exc:  # noqa: BLE001 - whatever it is, it is a finding
        say(traceback.format_exc())
        if is_flaky(exc):
            return True
        say(f"seed of the batch: {number}, machine: {machine.__name__}")
        return False
    return True


def is_flaky(exc: BaseException) -> bool:
    """Whether nothing was found but that an example went another way when it was played again."""
    if isinstance(exc, BaseExceptionGroup):
        return all(is_flaky(one) for one in exc.exceptions)
    return isinstance(exc, Flaky)


def say(line: str) -> None:
    """Print at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
