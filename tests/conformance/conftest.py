"""The sandbox as a process of its own, fresh for each test."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, but for those that a client library gives itself."""
    for text in ("GetQueryParameters is deprecated", "This class is deprecated"):
        config.addinivalue_line("filterwarnings", f"ignore:{text}:DeprecationWarning")


@pytest.fixture
def sandbox_url() -> Iterator[str]:
    """Where it listens."""
    command = [sys.executable, "-m", "sandbox"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        try:
            yield str(ready["url"])
        finally:
            process.terminate()
            process.wait(timeout=10)
