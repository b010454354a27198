"""The flows of `examples/`, each run as its reader runs it, against one installation of real processes."""

import asyncio
import sys
from pathlib import Path

import pytest

from app.runtime import Runtime
from demo.processes import ROOT, Stack, running
from tests.harness import new_project

FLOWS = ("attendee_flow.py", "recall_flow.py", "meeting_baas_flow.py")
SETTINGS = {"SYNC_QUIET_SECONDS": "0.1"}

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]  # real processes, which have to start


async def run(flow: str, stack: Stack, key: str) -> tuple[int | None, str]:
    """A flow's exit status, and all that it has said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        ROOT / "examples" / flow,
        *("--base-url", stack.api_url, "--key", key, "--sandbox-url", stack.sandbox_url),
        env={},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, said.decode()


async def test_each_peers_guide_works(rt: Runtime, database_url: str, redis_url: str, tmp_path: Path) -> None:
    """All at once, in one project: what one flow does must not disturb another."""
    project = await new_project(rt, "flows")
    async with running(
        database_url=database_url, redis_url=redis_url, logs=tmp_path, settings=SETTINGS, is_migrated=True
    ) as stack:
        ended = await asyncio.gather(*(run(flow, stack, project.key) for flow in FLOWS))
    for flow, (status, said) in zip(FLOWS, ended, strict=True):
        assert (status, said.splitlines()[-1:]) == (0, ["done"]), f"{flow} said:\n{said}"
