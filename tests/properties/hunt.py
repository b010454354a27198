"""`make mutants`: plant each fault in a copy of the service, and see whether the state machine notices.

    python -m tests.properties.hunt [--seconds 240] [--processes 2] [name …]

Exits non-zero where one survives its time. The same examples on the unchanged service have to hold: the first lines.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tests.databases import ROOT
from tests.properties.bots import mutants as bots
from tests.properties.mutants import MUTANTS as CALENDARS
from tests.properties.mutants import Mutant
from tests.properties.services import services, silence

_COPIED = ("app", "workers", "sandbox", "tests", "migrations")


MUTANTS = (*CALENDARS, *bots.MUTANTS)
UNCHANGED = (Mutant("(unchanged)", "nothing", ()), Mutant("(unchanged bots)", "nothing", (), "bots"))


@dataclass(frozen=True, slots=True)
class Found:
    """How a hunt ended. `by` is what noticed the fault; empty where nothing did."""

    mutant: Mutant
    examples: int
    seconds: float
    by: str


def main() -> int:
    """The exit status: the number of survivors."""
    parser = argparse.ArgumentParser(prog="python -m tests.properties.hunt")
    parser.add_argument("--seconds", type=float, default=240, help="for each mutant")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    silence()
    chosen = [*UNCHANGED, *(mutant for mutant in MUTANTS if not given.names or mutant.name in given.names)]
    places: SimpleQueue[int] = SimpleQueue()
    for place in range(given.processes):
        places.put(place)
    survivors = 0
    with services(), ThreadPoolExecutor(given.processes) as pool:
        hunts = [pool.submit(hunt, mutant, places, seconds=given.seconds, seed=given.seed) for mutant in chosen]
        for one in hunts:
            found = one.result()
            survivors += bool(found.by) is (found.mutant in UNCHANGED)
            sys.stdout.write(line(found) + "\n")
            sys.stdout.flush()
    sys.stdout.write(f"mutants: {len(chosen) - len(UNCHANGED)} planted, {survivors} not judged as they should be\n")
    return survivors


def line(found: Found) -> str:
    """One row of the table."""
    outcome = found.by or ("holds" if found.mutant in UNCHANGED else "NOT NOTICED")
    return f"{found.mutant.name:36} {found.examples:4} examples {found.seconds:5.0f} s  {outcome}"


def hunt(mutant: Mutant, places: "SimpleQueue[int]", *, seconds: float, seed: int) -> Found:
    """Play examples on the changed service until one fails or the time is up."""
    place = places.get()
    home = Path(tempfile.mkdtemp(prefix="punctual-mutant-"))
    try:
        plant(mutant, home)
        command = [
            sys.executable,
            "-m",
            "tests.properties",
            "--child",
            "--no-shrinking",
            "--examples",
            "1",
            "--batch",
            "10",
        ]
        command += ["--machine", mutant.machine, "--minutes", str(seconds / 60), "--seed", str(seed)]
        environment = {**os.environ, "PYTHONPATH": str(home), "PYTEST_XDIST_WORKER": f"gw{place}"}
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=seconds + 300
        )
        return Found(mutant, _examples(done.stdout), time.monotonic() - began, noticed(done))
    finally:
        shutil.rmtree(home, ignore_errors=True)
        places.put(place)


def plant(mutant: Mutant, home: Path) -> None:
    """A copy of the tree with the fault in it."""
    for name in _COPIED:
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "alembic.ini", home)
    for file, old, new in mutant.edits:
        path = home / file
        text = path.read_text()
        if text.count(old) != 1:
            raise SystemExit(f"{mutant.name}: its text stands {text.count(old)} times in {file}")
        path.write_text(text.replace(old, new))


def noticed(done: "subprocess.CompletedProcess[str]") -> str:
    """What the first failure was: an invariant in brackets, else the error itself.

    That an example did not fail again is nothing that was noticed: the failure stands beside it.
    """
    if done.returncode == 0:
        return ""
    tags = re.findall(r"^\s*\|?\s*AssertionError: \[(\w+)\]", done.stdout, re.MULTILINE)
    if tags:
        return str(tags[0])
    errors = re.findall(r"^\s*\|?\s*([\w.]+(?:Error|Exception|Inconsistent)\b.*)$", done.stdout, re.MULTILINE)
    errors = [one for one in errors if not one.startswith("hypothesis.errors.")]
    return str(errors[0])[:80] if errors else f"exit status {done.returncode}: {done.stderr[-200:]}"


def _examples(text: str) -> int:
    found = re.findall(r"^(\d+) examples", text, re.MULTILINE)
    return int(found[-1]) if found else 0


if __name__ == "__main__":
    sys.exit(main())
