"""`punctual deliveries`: what an operator sends again by hand."""

import asyncio
import json
import os
import sys
from typing import Any

from app.ids import DELIVERY, ENDPOINT, new_id, public
from app.runtime import Runtime
from tests.databases import ROOT
from tests.harness import Project
from tests.integration.delivering import deliveries, new_endpoint, rows, send

_RUN = "from app.cli import main; main(prog_name='punctual')"
RANGE = ("--since", "2020-01-01T00:00:00Z", "--until", "2100-01-01T00:00:00+02:00")


async def _punctual(rt: Runtime, *arguments: str) -> tuple[int, str, str]:
    """Exit status, what it printed, and its complaint."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _RUN,
        *arguments,
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": rt.settings.database_url, "REDIS_URL": rt.settings.redis_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaint = await process.communicate()
    return process.returncode or 0, said.decode(), complaint.decode()


async def _json(rt: Runtime, *arguments: str) -> Any:
    status, said, complaint = await _punctual(rt, *arguments, "--json")
    assert status == 0, complaint
    return json.loads(said)


async def _end(rt: Runtime) -> None:
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE deliveries SET state = 'failed', next_attempt_at = NULL")


async def test_retry_and_replay(rt: Runtime, project: Project) -> None:
    endpoint = public(ENDPOINT, (await new_endpoint(rt, project, "http://127.0.0.1:9/")).id)
    [delivery_id, _] = await send(rt, project, count=2)
    await _end(rt)
    replay = ("deliveries", "replay", endpoint, *RANGE)
    counted = await asyncio.gather(
        _json(rt, *replay, "--dry-run"),
        _json(rt, *replay, "--dry-run", "--state", "merged", "--state", "failed", "--trigger", "webhook.test"),
    )
    assert list(counted) == [{"count": "2"}, {"count": "0"}]
    assert await rows(rt, "SELECT id FROM replays") == []
    made = await _json(rt, *replay)
    assert made["count"] == "2"
    assert [public("rpl", row["id"]) for row in await rows(rt, "SELECT id FROM replays")] == [made["replay_id"]]
    retried = public(DELIVERY, delivery_id)
    assert await _json(rt, "deliveries", "retry", retried) == {"delivery_id": retried, "state": "pending"}
    assert {d["id"]: d["state"] for d in await deliveries(rt)}[delivery_id] == "pending"


async def test_refusals_say_why(rt: Runtime) -> None:
    unknown = public(ENDPOINT, new_id())
    cases = {
        "is not an id that starts with dlv_": ("retry", "dlv_x"),
        "There is no such object": ("replay", unknown, *RANGE),
        "with an offset": ("replay", unknown, "--since", "2026-11-20T10:00:00", *RANGE[2:]),
        "is before created_at_gte": ("replay", unknown, "--since", RANGE[3], "--until", RANGE[1]),
    }
    answers = await asyncio.gather(*(_punctual(rt, "deliveries", *arguments) for arguments in cases.values()))
    for (status, said, said_why), complaint in zip(answers, cases, strict=True):
        assert status > 0
        assert said == ""
        assert complaint in said_why
        assert "Traceback" not in said_why
