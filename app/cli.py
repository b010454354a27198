"""`punctual`: the command line. Everything an operator does by hand is here; each command is thin."""

import asyncio
import contextlib
import json
import re
import signal
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import click
import uvicorn
import uvloop
from pydantic import ValidationError

from app import audit, embedded, scheduling
from app import keys as api_keys
from app import projects as projects_
from app.allowances import Kind
from app.db import Tx
from app.errors import NotFound, RequestError
from app.ids import CALENDAR, DELIVERY, ENDPOINT, KEY, PROJECT, REPLAY, new_id, parse, public
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from app.telemetry import configure_logging, serve_metrics
from app.webhooks import payloads, replays
from workers.main import work as run_worker

_T = TypeVar("_T")
_ROOT = Path(__file__).resolve().parent.parent
_KEEP_ALIVE_SECONDS = 75
"""Longer than clients and load balancers keep an idle connection (5 and 60 s), so that none sends into its end."""
_GRACE_SECONDS = 10


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as exc:
        lines = [f"{'.'.join(str(p) for p in e['loc']).upper() or 'settings'}: {e['msg']}" for e in exc.errors()]
        raise click.ClickException("the environment is not usable\n  " + "\n  ".join(lines)) from exc


def _id(prefix: str, text: str) -> UUID:
    key = parse(prefix, text)
    if key is None:
        raise click.ClickException(f"{text} is not an id that starts with {prefix}_")
    return key


class _Time(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """An RFC 3339 time; one without an offset would mean another instant on another machine."""
        at: datetime | None = None
        with contextlib.suppress(ValueError):
            at = datetime.fromisoformat(str(value))
        if at is None or at.tzinfo is None:
            self.fail("needs to be a time with an offset, such as 2026-11-20T10:00:00Z", param, ctx)
        return at


class _Span(click.ParamType[timedelta]):
    name = "span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """A whole number of days, hours or minutes; not so many that no date is that far."""
        match = re.fullmatch(r"(\d{1,5})([dhm])", str(value))
        if match is None:
            self.fail("needs to be a number and d, h or m, such as 90d", param, ctx)
        return timedelta(**{{"d": "days", "h": "hours", "m": "minutes"}[match[2]]: int(match[1])})


class _Limit(click.ParamType["int | str"]):
    name = "limit"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """A number of requests, or the word that gives up a project's own."""
        text = str(value)
        if text == "default":
            return text
        if not re.fullmatch(r"\d{1,9}", text):
            self.fail("needs to be a number of requests, or default", param, ctx)
        return int(text)


_TIME, _SPAN, _LIMIT = _Time(), _Span(), _Limit()

_KEY_TIMES = ("created_at", "expires_at", "revoked_at", "last_used_at")
_KEYS = """
SELECT id, name, scope, created_at, expires_at, revoked_at, last_used_at
  FROM api_keys WHERE project_id = :id ORDER BY created_at, id
"""


@click.group()
@click.version_option(package_name="punctual")
def main() -> None:
    """Punctual keeps calendars in sync."""


@main.command()
def migrate() -> None:
    """Bring the database's schema up to date; a second one at the same time waits."""
    # A fifth of what all other commands would take to start, `serve` and `work` among them.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    settings = _settings()
    config = Config(_ROOT / "alembic.ini")
    config.set_main_option("script_location", str(_ROOT / "migrations"))
    config.set_main_option("database_url", settings.database_url.replace("%", "%%"))
    command.upgrade(config, "head")


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True)
def serve(host: str, port: int) -> None:
    """Answer the API and the providers' pushes."""
    from app.main import create_app  # noqa: PLC0415 - a third of what `work` would take to start

    settings = _settings()
    configure_logging(settings)
    serve_metrics(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn stops, then raises the signal again: a stop that was asked for is no failure.
        signal.signal(number, lambda *_: None)
    uvicorn.run(
        create_app(settings=settings),
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # TRUSTED_PROXIES decides whose are believed (app.main)
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


@main.command()
def work() -> None:
    """Sync calendars and deliver webhooks; any number of these may run."""
    uvloop.run(run_worker(_settings()))


@main.group()
def projects() -> None:
    """Workspaces of API customers."""


@projects.command("create")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True)
def create_project(name: str, *, as_json: bool) -> None:
    """Make a project and its first API key, which may do everything; the key is shown this once."""

    async def make(tx: Tx) -> dict[str, str]:
        project_id = new_id()
        await tx.execute("INSERT INTO projects (id, name) VALUES (:id, :name)", {"id": project_id, "name": name})
        made = await api_keys.make(tx, project_id=project_id, name="first", scope="admin")
        await _note(tx, "create_project", project_id, public(PROJECT, project_id), ("name",))
        return {"project_id": public(PROJECT, project_id), "api_key": made.text}

    _say(asyncio.run(_in_transaction(make)), as_json=as_json)


@projects.command("limits")
@click.argument("project_id")
@click.option("--reads", type=_LIMIT, help="Reads in a minute; 0: no limit; default: the server's.")
@click.option("--writes", type=_LIMIT, help="Everything else in a minute; likewise.")
@click.option("--json", "as_json", is_flag=True)
def limit_project(project_id: str, reads: int | str | None, writes: int | str | None, *, as_json: bool) -> None:
    """Set how much a project may ask of the API, or show it; counts at once."""
    key = _id(PROJECT, project_id)
    wanted: dict[Kind, int | str | None] = {"reads": reads, "writes": writes}
    given = {kind: value if isinstance(value, int) else None for kind, value in wanted.items() if value is not None}

    async def limit(rt: Runtime, tx: Tx) -> dict[str, str]:
        for kind, most in given.items():
            await projects_.limit(tx, key, kind=kind, most=most)
        if given:
            changes = [f"{kind}_per_minute" for kind in given]
            await _note(tx, "limit_project", key, project_id, changes)
        row = await tx.row("SELECT reads_per_minute, writes_per_minute FROM projects WHERE id = :id", {"id": key})
        if row is None:
            raise NotFound
        limits = projects_.limits(rt.settings, reads=row.reads_per_minute, writes=row.writes_per_minute)
        return {f"{kind}_per_minute": str(most) for kind, most in limits.items()}

    _say(asyncio.run(_with_runtime(limit)), as_json=as_json)


@main.group()
def keys() -> None:
    """API keys: several per project, each shown once."""


@keys.command("create")
@click.argument("project_id")
@click.option("--name", required=True, help="For people: who uses it.")
@click.option("--scope", type=click.Choice(api_keys.SCOPES), required=True, help="Each holds those before it.")
@click.option("--expires-in", type=_SPAN, help="How long it is good, such as 90d, 12h or 30m.")
@click.option("--expires-at", type=_TIME, help="… or until when, RFC 3339.")
@click.option("--json", "as_json", is_flag=True)
def create_key(
    project_id: str,
    name: str,
    scope: api_keys.Scope,
    expires_in: timedelta | None,
    expires_at: datetime | None,
    *,
    as_json: bool,
) -> None:
    """Make another key for a project; good until it is revoked, unless told otherwise."""
    key = _id(PROJECT, project_id)
    if expires_in is not None and expires_at is not None:
        raise click.UsageError("either --expires-in or --expires-at")

    async def make(rt: Runtime, tx: Tx) -> dict[str, str]:
        if await tx.scalar("SELECT id FROM projects WHERE id = :id", {"id": key}) is None:
            raise NotFound
        until = expires_at if expires_in is None else rt.clock.now() + expires_in
        if until is not None and until <= rt.clock.now():
            raise click.ClickException("the key would never be good")
        made = await api_keys.make(tx, project_id=key, name=name, scope=scope, expires_at=until)
        changes = ["name", "scope", *(["expires_at"] if until else [])]
        await _note(tx, "create_api_key", key, public(KEY, made.id), changes)
        return {"project_id": project_id, "key_id": public(KEY, made.id), "api_key": made.text}

    _say(asyncio.run(_with_runtime(make)), as_json=as_json)


@keys.command("list")
@click.argument("project_id")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def list_keys(project_id: str, *, as_json: bool) -> None:
    """A project's keys, oldest first, without their texts."""
    key = _id(PROJECT, project_id)

    async def read(tx: Tx) -> list[dict[str, str]]:
        if await tx.scalar("SELECT id FROM projects WHERE id = :id", {"id": key}) is None:
            raise NotFound
        rows = await tx.rows(_KEYS, {"id": key})
        return [
            {"key_id": public(KEY, row.id), "name": row.name, "scope": row.scope}
            | {name: getattr(row, name).isoformat() for name in _KEY_TIMES if getattr(row, name)}
            for row in rows
        ]

    for shown in asyncio.run(_in_transaction(read)):
        click.echo(json.dumps(shown) if as_json else " ".join(f"{name}={value}" for name, value in shown.items()))


@keys.command("revoke")
@click.argument("key_id")
@click.option("--json", "as_json", is_flag=True)
def revoke_key(key_id: str, *, as_json: bool) -> None:
    """Refuse a key from now on, the last one of a project too."""
    key = _id(KEY, key_id)

    async def revoke(tx: Tx) -> dict[str, str]:
        project_id = await tx.scalar("SELECT project_id FROM api_keys WHERE id = :id", {"id": key})
        await api_keys.revoke(tx, project_id=project_id, key_id=key, is_last_too=True)
        await _note(tx, "revoke_api_key", project_id, key_id)
        return {"key_id": key_id, "state": "revoked"}

    _say(asyncio.run(_in_transaction(revoke)), as_json=as_json)


@main.command()
@click.argument("calendar_id")
@click.option("--full", is_flag=True, help="List the whole window anew.")
def sync(calendar_id: str, *, full: bool) -> None:
    """Ask for a sync of one calendar now."""
    key = _id(CALENDAR, calendar_id)

    async def request() -> dict[str, str]:
        async with open_runtime(_settings(), application="punctual cli") as rt:
            async with rt.db.transaction() as tx:
                requested = await scheduling.request_syncs(rt, tx, [key], is_priority=True, is_full=full)
            await rt.queue.drain()
        if key not in requested:
            raise click.ClickException("there is no such calendar")
        return {"calendar_id": calendar_id, "requested_seq": str(requested[key])}

    _say(asyncio.run(request()), as_json=False)


@main.group()
def deliveries() -> None:
    """What was sent to webhook endpoints: send it again."""


@deliveries.command("retry")
@click.argument("delivery_id")
@click.option("--json", "as_json", is_flag=True)
def retry_delivery(delivery_id: str, *, as_json: bool) -> None:
    """Send one delivery again."""
    key = _id(DELIVERY, delivery_id)

    async def retry(rt: Runtime, tx: Tx) -> dict[str, str]:
        project_id = await tx.scalar("SELECT project_id FROM deliveries WHERE id = :id", {"id": key})
        await replays.retry(tx, rt.queue, key, project_id=project_id)
        return {"delivery_id": delivery_id, "state": "pending"}

    _say(asyncio.run(_with_runtime(retry)), as_json=as_json)


@deliveries.command("replay")
@click.argument("webhook_id")
@click.option("--since", type=_TIME, required=True, help="Deliveries made at this time or later, RFC 3339.")
@click.option("--until", type=_TIME, required=True, help="… and at this time or before.")
@click.option("--state", "states", type=click.Choice(replays.STATES), multiple=True, default=("failed",))
@click.option("--trigger", "triggers", type=click.Choice(payloads.TRIGGERS), multiple=True, help="Default: all.")
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only count.")
@click.option("--json", "as_json", is_flag=True)
def replay_deliveries(
    webhook_id: str,
    since: datetime,
    until: datetime,
    states: tuple[str, ...],
    triggers: tuple[str, ...],
    *,
    is_dry_run: bool,
    as_json: bool,
) -> None:
    """Send a range of an endpoint's log again, at the endpoint's pace; `punctual work` does it."""
    key = _id(ENDPOINT, webhook_id)
    wanted = replays.Range(since, until, states, triggers or None)

    async def request(rt: Runtime, tx: Tx) -> dict[str, str]:
        project_id = await tx.scalar("SELECT project_id FROM webhook_endpoints WHERE id = :id", {"id": key})
        made = await replays.request(tx, key, wanted, project_id=project_id, now=rt.clock.now(), is_dry_run=is_dry_run)
        given = {} if made.replay_id is None else {"replay_id": public(REPLAY, made.replay_id)}
        return {"count": str(made.count), **given}

    _say(asyncio.run(_with_runtime(request)), as_json=as_json)


@main.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from app.main import create_app  # noqa: PLC0415 - as above

    settings = Settings.model_construct(docs_enabled=True)
    click.echo(json.dumps(create_app(settings=settings).openapi(), indent=2))


@main.group()
def services() -> None:
    """The embedded PostgreSQL and Redis of development; production brings its own."""


@services.command("start")
@click.option("--json", "as_json", is_flag=True)
def start_services(*, as_json: bool) -> None:
    """Start them, or say where they already are."""
    try:
        addresses = embedded.start(_ROOT)
    except embedded.EmbeddedError as exc:
        raise click.ClickException(str(exc)) from exc
    _say({"DATABASE_URL": addresses.database_url, "REDIS_URL": addresses.redis_url}, as_json=as_json)


@services.command("stop")
def stop_services() -> None:
    """Stop them; their data stays."""
    try:
        embedded.stop(_ROOT)
    except embedded.EmbeddedError as exc:
        raise click.ClickException(str(exc)) from exc


@services.command("status")
@click.option("--json", "as_json", is_flag=True)
def service_status(*, as_json: bool) -> None:
    """Say where they are; exit status 3 where they do not run."""
    addresses = embedded.status(_ROOT)
    if addresses is None:
        _say({"state": "stopped"}, as_json=as_json)
        raise SystemExit(3)
    _say({"DATABASE_URL": addresses.database_url, "REDIS_URL": addresses.redis_url}, as_json=as_json)


async def _note(tx: Tx, action: str, project_id: UUID, object_id: str, changes: Iterable[str] = ()) -> None:
    await audit.record(
        tx, project_id=project_id, actor=audit.COMMAND_LINE, action=action, object_id=object_id, changes=changes
    )


async def _in_transaction(action: Callable[[Tx], Awaitable[_T]]) -> _T:
    return await _with_runtime(lambda _, tx: action(tx))


async def _with_runtime(action: Callable[[Runtime, Tx], Awaitable[_T]]) -> _T:
    try:
        async with open_runtime(_settings(), application="punctual cli") as rt, rt.db.transaction() as tx:
            return await action(rt, tx)
    except RequestError as exc:
        raise click.ClickException(exc.detail) from exc


def _say(values: dict[str, str], *, as_json: bool) -> None:
    click.echo(json.dumps(values) if as_json else "\n".join(f"{name}={value}" for name, value in values.items()))
