"""`make run`: the service in the foreground until Ctrl-C, with a seeded sandbox as its provider.

What Punctual keeps survives a restart, in `.punctual/` or in the database that `DATABASE_URL` names. The sandbox's
world does not: each start makes a new one, whose people have new grants. So the two calendars of the start before are
deleted and those of the new world connected in their place; whatever else was made with the API key stays.
"""

import asyncio
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from demo import services
from demo.application import Application
from demo.processes import ROOT, Stack, StackError, http
from demo.provider import Provider
from demo.telling import say

HOME = ROOT / ".punctual"
RUN_FILE = HOME / "run.json"
LOGS = HOME / "logs" / "run"
SEEDED = 100
LINK_SECONDS = 604_800
RETURN_URLS_MOST = 20

Json = dict[str, Any]


async def serve() -> bool:
    """Until cancelled. Raises StackError, also when a process ends by itself."""
    with _only_one():
        say("Punctual is starting.")
        before = _remembered()
        async with services.lasting() as place:
            async with Stack(
                database_url=place.database_url, redis_url=place.redis_url, logs=LOGS, ports=before.get("ports")
            ) as stack:
                run = await _start(stack, before)
                _remember(run)
                _tell(run, place.description)
                await stack.watch()
    return True


async def _start(stack: Stack, before: Json) -> Json:
    """Start the processes in their order, the worker last, when there is something to work for; what to remember."""
    await asyncio.gather(stack.start_sandbox(), stack.migrate())
    await stack.start_api()
    async with http() as client:
        project = await _project(stack, client, before)
        application = Application(client, api_url=stack.api_url, sink_url=stack.sink_url, key=project["api_key"])
        calendars = await _connect(application, Provider(client, stack.sandbox_url))
        links = await _links(application, calendars, f"{stack.sink_url}/connected")
    await stack.start_worker()
    urls = {"api": stack.api_url, "sandbox": stack.sandbox_url, "sink": stack.sink_url}
    return {
        **project,
        "docs_url": f"{stack.api_url}/docs",
        "curl": f"curl -sH 'Authorization: Token {project['api_key']}' {stack.api_url}/api/v1/calendars",
        "calendars": calendars,
        "connect_urls": links,
        **{f"{name}_url": url for name, url in urls.items()},
        "ports": {name: httpx.URL(url).port for name, url in urls.items()},
    }


async def _project(stack: Stack, client: httpx.AsyncClient, before: Json) -> dict[str, str]:
    """The project of the last start if its key still works on this database, else a new one."""
    if "api_key" in before:
        headers = {"Authorization": f"Token {before['api_key']}"}
        answer = await client.get(f"{stack.api_url}/api/v1/calendars", headers=headers)
        if answer.status_code == httpx.codes.OK:
            return {"project_id": before["project_id"], "api_key": before["api_key"]}
    made: dict[str, str] = json.loads(await stack.punctual("projects", "create", "make run", "--json"))
    return made


async def _connect(application: Application, provider: Provider) -> list[Json]:
    """The new world's calendars in place of the old one's, which carry the same keys."""
    connected: list[Json] = []
    for account in await provider.seed(count=SEEDED):
        key = f"sandbox:{account.email}"
        old = await application.call("GET", "/calendars", query={"deduplication_key": key})
        for calendar in old["results"]:
            await application.call("DELETE", f"/calendars/{calendar['id']}")
        calendar_id = await application.connect(account.credentials, deduplication_key=key)
        connected.append({"id": calendar_id, "email": account.email, "sandbox_calendar_id": account.calendar_id})
    return connected


async def _links(application: Application, calendars: list[Json], back: str) -> dict[str, str]:
    """A connect link at each provider, which lead back to the receiver's page."""
    named = (await application.call("GET", "/project"))["return_urls"]
    if back not in named:
        await application.call("PATCH", "/project", body={"return_urls": [back, *named][:RETURN_URLS_MOST]})
    links: dict[str, str] = {}
    for calendar in calendars:
        shown = await application.call("GET", f"/calendars/{calendar['id']}")
        app_id, platform = shown["oauth_app_id"], shown["platform"]
        await application.call("PATCH", f"/oauth_apps/{app_id}", body={"name": "The sandbox application"})
        wish = {"oauth_app_id": app_id, "return_url": back, "expires_in": LINK_SECONDS}
        links[platform] = (await application.call("POST", "/connect_links", body=wish))["url"]
    return links


def _tell(run: Json, database: str) -> None:
    say()
    say(f"  API       {run['api_url']}/api/v1")
    say(f"  docs      {run['docs_url']}")
    say(f"  key       {run['api_key']}")
    for calendar in run["calendars"]:
        say(f"  calendar  {calendar['id']} of {calendar['email']}")
    for platform, url in run["connect_urls"].items():
        say(f"  connect   {url} (in a browser, once; plays {platform.capitalize()})")
    say(f"  sandbox   {run['sandbox_url']} plays Google and Microsoft, {run['sink_url']} receives webhooks")
    say(f"  data      {database}; logs in {LOGS.relative_to(ROOT)}/")
    say(f"  try       {run['curl']}")
    say()
    say(f"All of this stands in {RUN_FILE.relative_to(ROOT)} too. Ctrl-C stops everything.")


def _remembered() -> Json:
    try:
        return dict(json.loads(RUN_FILE.read_text()))
    except (OSError, TypeError, ValueError):
        return {}


def _remember(run: Json) -> None:
    """For us and for scripts; it holds a key, so nobody else may read it."""
    unfinished = RUN_FILE.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(run, file, indent=2)
        file.write("\n")
    unfinished.rename(RUN_FILE)


@contextmanager
def _only_one() -> Iterator[None]:
    """Two of them would share one database and stop each other's."""
    HOME.mkdir(mode=0o700, exist_ok=True)
    with Path(HOME / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"`make run` runs already in this clone; see {RUN_FILE.relative_to(ROOT)}") from None
        yield
