"""The Python of docs/clients.md: a client generated from docs/openapi.json, and the program that uses it."""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.harness import Actor, application, listen

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "clients.md").read_text().partition("\n## Python\n")[2].partition("\n## ")[0]


def printed(language: str) -> str:
    """The page's one block of a language under "Python"."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(block)


async def run(where: Path, *command: str, **environment: str) -> tuple[int | None, str]:
    """Exit status, and what was said."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=where,
        env={"PATH": path, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


@pytest.mark.timeout(300)
@pytest.mark.slow  # generates and formats some hundred modules
async def test_a_generated_client_works(actor: Actor, tmp_path: Path) -> None:
    calendar = await actor.connect()
    for title in ("Planning", "Retrospective"):
        actor.add_event(calendar, title)
    await actor.quiesce()
    shutil.copy(ROOT / "docs" / "openapi.json", tmp_path)
    steps = printed("sh").replace("generate ", "generate --fail-on-warning ")
    status, said = await run(tmp_path, "sh", "-ec", steps)
    assert status == 0, said
    (tmp_path / "program.py").write_text(printed("python"))
    account = actor.new_account()
    async with listen(application(actor.rt)) as url:
        status, said = await run(
            tmp_path,
            sys.executable,
            "program.py",
            PUNCTUAL_URL=url,
            PUNCTUAL_API_KEY=actor.project.key,
            REQUEST="first",
            CLIENT_ID=account.client_id,
            CLIENT_SECRET=account.client_secret,
            REFRESH_TOKEN=account.refresh_token,
        )
    lines = said.splitlines()
    assert re.fullmatch(r"connected cal_\w{26} connected", lines[0]), said
    assert {line.split()[1] for line in lines[1:3]} == {"Planning", "Retrospective"}
    assert lines[3] == "changed {'tenant_id': '1'}"
    assert lines[4].startswith("not_found: ")
    assert status == 1
    shown = await actor.call("GET", "/calendars")
    assert [one["id"] for one in shown["results"]] == [calendar.id]
