"""`punctual deliveries`: what an operator sends again by hand."""

import asyncio
import json
from typing import Any

from click.testing import CliRunner

from app.cli import main
from app.ids import DELIVERY, ENDPOINT, new_id, public
from app.runtime import Runtime
from tests.harness import Project
from tests.integration.delivering import deliveries, new_endpoint, rows, send

RANGE = ("--since", "2020-01-01T00:00:00Z", "--until", "2100-01-01T00:00:00+02:00")


async def punctual(rt: Runtime, *arguments: str) -> tuple[int, str, str]:
    """Exit status, what it printed, and its complaint."""
    environment = {"DATABASE_URL": rt.settings.database_url, "REDIS_URL": rt.settings.redis_url}
    answer = await asyncio.to_thread(CliRunner().invoke, main, arguments, prog_name="punctual", env=environment)
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    return answer.exit_code, answer.stdout, answer.stderr


async def punctual_json(rt: Runtime, *arguments: str) -> Any:
    status, said, complaint = await punctual(rt, *arguments, "--json")
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
    assert await punctual_json(rt, *replay, "--dry-run") == {"count": "2"}
    others = ("--state", "merged", "--state", "failed", "--trigger", "webhook.test")
    assert await punctual_json(rt, *replay, "--dry-run", *others) == {"count": "0"}
    assert await rows(rt, "SELECT id FROM replays") == []
    made = await punctual_json(rt, *replay)
    assert made["count"] == "2"
    assert [public("rpl", row["id"]) for row in await rows(rt, "SELECT id FROM replays")] == [made["replay_id"]]
    retried = public(DELIVERY, delivery_id)
    assert await punctual_json(rt, "deliveries", "retry", retried) == {"delivery_id": retried, "state": "pending"}
    assert {d["id"]: d["state"] for d in await deliveries(rt)}[delivery_id] == "pending"


async def test_refusals_say_why(rt: Runtime) -> None:
    unknown = public(ENDPOINT, new_id())
    cases = {
        "is not an id that starts with dlv_": ("retry", "dlv_x"),
        "There is no such object": ("replay", unknown, *RANGE),
        "with an offset": ("replay", unknown, "--since", "2026-11-20T10:00:00", *RANGE[2:]),
        "is before created_at_gte": ("replay", unknown, "--since", RANGE[3], "--until", RANGE[1]),
    }
    for complaint, arguments in cases.items():
        status, said, said_why = await punctual(rt, "deliveries", *arguments)
        assert status > 0
        assert said == ""
        assert complaint in said_why
