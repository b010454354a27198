"""Every operation of the published document under invented requests; `make fuzz` is the long run of the same."""

import asyncio
import json

import pytest
import structlog

from tests.fuzz.engine import PUBLISHED, fuzz
from tests.fuzz.stage import staged

PHASES = {
    "examples": {"enabled": True},
    "coverage": {"enabled": False},
    "fuzzing": {"enabled": True, "generation": {"max-examples": 2}},
    "stateful": {"enabled": True, "max-steps": 5, "generation": {"max-examples": 5}},
}


@pytest.mark.timeout(300)
@pytest.mark.slow  # some hundred requests, each invented with Hypothesis
async def test_answers_are_as_documented() -> None:
    """The same requests each time, apart from the ids that were answered."""
    with structlog.testing.capture_logs():
        async with staged() as stage:
            report = await asyncio.to_thread(fuzz, stage, phases=PHASES, seed=1)
    assert not report.findings, "\n".join(report.findings.values())
    assert not report.problems
    document = json.loads(PUBLISHED.read_bytes())
    labels = {f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations}
    assert {label for label, _ in report.answers} == labels
