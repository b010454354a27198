"""What an attempt may cost, whatever the receiver does: at most 1 MiB, and no longer than its deadline.

Measured in a process of its own that runs what a worker runs. Figures: `pytest tests/egress/test_costs.py -s`.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.egress.receivers import OK, Handler, answering, serving
from tests.egress.test_hostile import (
    BODIES,
    FRAMES,
    HEADS,
    SLACK,
    floods,
    reads_and_is_silent,
    resets_after,
    trickles_a_body,
    trickles_headers,
)

MIB = 1_024 * 1_024
AT_A_TIME = 20
DEADLINE = 1.0
ROOT = Path(__file__).resolve().parents[2]
RECEIVERS: dict[str, Handler] = {
    "answers": answering(OK, times=1_000),
    "silence": reads_and_is_silent,
    "trickled headers": trickles_headers,
    "trickled body": trickles_a_body,
    "reset": resets_after(b""),
    "flood of 1xx": floods(b"", b"HTTP/1.1 100 \r\n\r\n" * 16_384),
    "flood of headers": floods(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 10_000),
    "one endless header": floods(b"HTTP/1.1 200 OK\r\nx: ", b"y" * 65_536),
    "huge headers": answering(HEADS["more in all than each allows"]),
    "redirects": answering(b"HTTP/1.1 302 Go\r\nlocation: /" + b"x" * 8_000 + b"\r\ncontent-length: 0\r\n\r\n"),
    **{f"endless body {name}": handler for name, handler in BODIES.items()},
    **{f"endless {name}": handler for name, handler in FRAMES.items()},
}


@pytest.mark.slow  # waits for the deadline of those that are silent, several times
async def test_an_attempt_costs_little() -> None:
    async with AsyncExitStack() as stack:
        handlers = [answering(OK, times=1_000), *RECEIVERS.values()]
        ports = [(await stack.enter_async_context(serving(handler))).port for handler in handlers]
        costs = dict(zip(RECEIVERS, await _measured(ports), strict=True))
    for name, cost in costs.items():
        sys.stdout.write(
            f"{name:42} {cost['peak'] / 1_024:6.0f} KiB {cost['resident'] / 1_024:6.0f} KiB resident"
            f" {cost['cpu'] * 1_000:6.1f} ms CPU {cost['seconds']:5.2f} s  {', '.join(cost['results'])}\n"
        )
    assert {name: cost["peak"] for name, cost in costs.items() if cost["peak"] > MIB} == {}
    assert {name: cost["resident"] for name, cost in costs.items() if cost["resident"] > MIB} == {}
    assert {name: cost["seconds"] for name, cost in costs.items() if cost["seconds"] > DEADLINE + SLACK} == {}
    assert costs["answers"]["results"] == ["200"]


async def _measured(ports: list[int]) -> list[dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.egress.attempts",
        *(str(value) for value in (AT_A_TIME, DEADLINE, *ports)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    found: list[dict[str, Any]] = json.loads(out)
    return found
