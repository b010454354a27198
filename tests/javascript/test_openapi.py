"""docs/openapi.json before others' judges: Spectral's rules and ours, and TypeScript's compiler."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from app.runtime import Runtime
from sandbox import Sandbox
from tests.harness import Project, application, listen

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ["CONFORMANCE"])
MODULES = HOME / "node_modules"
DOCUMENT = ROOT / "docs" / "openapi.json"
RULES = Path(__file__).with_name("spectral.yaml")

pytestmark = pytest.mark.timeout(300)
"""The compilers read libraries before they read us."""


def node(script: str, *arguments: str, where: Path, **environment: str) -> str:
    """What a program of the pinned packages says; AssertionError with all of it where it fails."""
    command = [str(HOME / "bin" / "node"), str(MODULES / script), *arguments]
    done = subprocess.run(
        command, cwd=where, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lint(document: Path) -> str:
    """What Spectral has against a document."""
    script = "@stoplight/spectral-cli/dist/index.js"
    return node(
        script, "lint", str(document), "--ruleset", str(RULES), "--fail-severity", "hint", where=document.parent
    )


def test_the_linter_finds_nothing() -> None:
    assert "No results" in lint(DOCUMENT)


def test_the_linter_finds_each_fault(tmp_path: Path) -> None:
    document = json.loads(DOCUMENT.read_bytes())
    calls = document["paths"]["/api/v1/project"]
    calls["get"]["operationId"] = "getProject"
    calls["get"]["summary"] = "Get the project."
    calls["get"]["tags"] = []
    calls["get"]["responses"]["401"]["description"] = "No key"
    calls["get"]["responses"]["503"]["content"] = {"application/json": {}}
    del calls["get"]["responses"]["200"]["content"]["application/json"]["example"]
    del calls["patch"]["requestBody"]["content"]["application/json"]["examples"]
    for operation in document["webhooks"]["webhook.test"].values():
        del operation["requestBody"]["content"]["application/json"]["example"]
    broken = tmp_path / "openapi.json"
    broken.write_text(json.dumps(document))
    with pytest.raises(AssertionError) as found:
        lint(broken)
    ours = set(re.findall(r"^  ([a-z-]+):$", RULES.read_text(), re.MULTILINE))
    assert ours == {rule for rule in ours if f" {rule} " in str(found.value)}


async def test_typescript(tmp_path: Path, rt: Runtime, project: Project, sandbox: Sandbox) -> None:
    """The page's program compiles as strictly as can be, and does what it says."""
    page = (ROOT / "docs" / "clients.md").read_text()
    program = re.findall(r"^```typescript\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "main.ts").write_text(program)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to(MODULES)
    shutil.copy(DOCUMENT, tmp_path)
    command = re.findall(r"^openapi-typescript (.*)$", page, re.MULTILINE)[0]
    node("openapi-typescript/bin/cli.js", *command.split(), where=tmp_path)
    strict = ["--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes", "--types", "node"]
    node("typescript/bin/tsc", *strict, "--module", "nodenext", "--target", "es2022", "main.ts", where=tmp_path)
    account = sandbox.world.add_account("ada@example.com")
    async with listen(application(rt)) as url:
        environment = {
            "PUNCTUAL_URL": url,
            "PUNCTUAL_API_KEY": project.key,
            "CLIENT_ID": account.client_id,
            "CLIENT_SECRET": account.client_secret,
            "REFRESH_TOKEN": account.refresh_token,
        }
        process = await asyncio.create_subprocess_exec(
            str(HOME / "bin" / "node"), "main.js", cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
    assert re.fullmatch(r"connected cal_\w{26}\nnot_found\n", said.decode())
