"""The harness: real PostgreSQL and Redis, a database of its own per test, the sandbox where Google would stand.

The controlling process starts the embedded services unless DATABASE_URL and REDIS_URL name others, and migrates one
template; each test clones it. Tests drive the product through its doors: HTTP (`api`), jobs (`quiesce`), the sandbox,
the database. Nothing here replaces a function of ours.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import hypothesis
import pytest

from app import embedded
from app.providers.base import Platform
from app.runtime import Runtime, calm_collector, open_runtime
from app.settings import Settings
from sandbox import Sandbox
from sandbox.sink import Sink
from tests.databases import cloned, execute, make_template
from tests.harness import Actor, LateTransport, Project, Receiver, application, listen, new_project

# The same examples in every run, in whatever time a busy machine takes; `--hypothesis-profile=default` tries others.
hypothesis.settings.register_profile(
    "suite", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")

PUBLIC_URL = "http://127.0.0.1:1"
"""Where the sandbox pushes to: never dialled, the push client's transport is the application itself."""

_started = pytest.StashKey[Path]()
_template = pytest.StashKey[tuple[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Start services and make the template, once, in the process that controls the run."""
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    if "DATABASE_URL" not in os.environ or "REDIS_URL" not in os.environ:
        home = Path(tempfile.mkdtemp(prefix="punctual-test-"))
        addresses = embedded.start(home, durable=False)
        config.stash[_started] = home
        os.environ["DATABASE_URL"] = addresses.database_url
        os.environ["REDIS_URL"] = addresses.redis_url
    admin = os.environ["DATABASE_URL"]
    name = make_template(admin)
    config.stash[_template] = (admin, name)
    os.environ["PUNCTUAL_TEST_TEMPLATE"] = name


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long: each process with its share, of the parts in which xdist deals the rest out."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.get_closest_marker("slow")]
    rest = [item for item in items if not item.get_closest_marker("slow")]
    count, items[:] = len(items), []
    for number in range(processes):
        mine = long[number::processes]
        share = (count - len(items)) // (processes - number) - len(mine)
        items += [*mine, *rest[: max(0, share)]]
        del rest[: max(0, share)]
    items += rest


def pytest_collection_finish() -> None:
    """Collect garbage as seldom as the service does, and never look again at what was imported."""
    calm_collector()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    if _started in config.stash:
        embedded.stop(config.stash[_started])
        embedded.discard(config.stash[_started])
        shutil.rmtree(config.stash[_started], ignore_errors=True)
    elif _template in config.stash:
        admin, name = config.stash[_template]
        asyncio.run(execute(admin, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@pytest.fixture
async def database_url() -> AsyncIterator[str]:
    """A fresh, migrated database."""
    async with cloned(os.environ["DATABASE_URL"], os.environ["PUNCTUAL_TEST_TEMPLATE"]) as url:
        yield url


@pytest.fixture
async def redis_url() -> str:
    """An empty Redis database; each test process has one of its own."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    url = urlsplit(os.environ["REDIS_URL"])._replace(path=f"/{1 + int(worker) % 15}").geturl()
    from redis.asyncio import Redis  # noqa: PLC0415 - the one place tests speak Redis themselves

    async with Redis.from_url(url) as redis:
        await redis.flushdb()
    return url


@pytest.fixture
def overrides() -> dict[str, object]:
    """Settings that a test wants otherwise: override this fixture."""
    return {}


@pytest.fixture
def settings(database_url: str, redis_url: str, overrides: dict[str, object]) -> Settings:
    """Settings of a test: no quiet time, webhooks to loopback, the sandbox's addresses."""
    values: dict[str, object] = {
        "environment": "test",
        "database_url": database_url,
        "redis_url": redis_url,
        "public_url": PUBLIC_URL,
        "google_api_url": "http://google.sandbox",
        "google_token_url": "http://google.sandbox/token",
        "google_authorize_url": "http://google.sandbox/o/oauth2/v2/auth",
        "microsoft_graph_url": "http://graph.sandbox",
        "microsoft_login_url": "http://graph.sandbox",
        "sync_quiet_seconds": 0,
        "sync_max_wait_seconds": 0,
        "egress_allow": "127.0.0.0/8",
        "webhook_allow_http": True,
        "database_pool_size": 10,
        "google_user_quota_per_minute": 100_000,
        "google_app_quota_per_minute": 100_000,
        "microsoft_mailbox_quota_per_minute": 100_000,
        "rate_limit_reads_per_minute": 0,
        "rate_limit_writes_per_minute": 0,
        **overrides,
    }
    return Settings.model_validate(values)


@pytest.fixture
async def push_transport() -> LateTransport:
    """How the sandbox's pushes reach the application under test."""
    return LateTransport()


@pytest.fixture
async def sandbox(push_transport: LateTransport) -> AsyncIterator[Sandbox]:
    """A Google of our own, in this process."""
    async with httpx.AsyncClient(transport=push_transport) as client:
        box = Sandbox.create(push_client=client)
        yield box
        await box.close()


@pytest.fixture
async def rt(settings: Settings, sandbox: Sandbox, push_transport: LateTransport) -> AsyncIterator[Runtime]:
    """The runtime under test, its providers answered by the sandbox."""
    transport = httpx.ASGITransport(sandbox.app)
    async with open_runtime(settings, transport=transport) as runtime:
        push_transport.inner = httpx.ASGITransport(application(runtime))
        yield runtime


@pytest.fixture
async def api(rt: Runtime, push_transport: LateTransport) -> AsyncIterator[httpx.AsyncClient]:
    """The API without a key: the application that the sandbox pushes to."""
    assert push_transport.inner is not None
    async with httpx.AsyncClient(transport=push_transport.inner, base_url="http://punctual.test") as client:
        yield client


@pytest.fixture
async def project(rt: Runtime) -> Project:
    """A project with one key."""
    return await new_project(rt, "first")


@pytest.fixture
async def other_project(rt: Runtime) -> Project:
    """A project that must never see the first one's objects."""
    return await new_project(rt, "second")


@pytest.fixture
async def sink() -> AsyncIterator[Receiver]:
    """A webhook receiver on a loopback port that verifies and remembers."""
    inner = Sink()
    async with listen(inner.app) as url:
        yield Receiver(inner, url)


@pytest.fixture
def platform() -> Platform:
    """Whose calendars: a scenario that must hold at both providers is parametrized by this."""
    return "google"


@pytest.fixture
def actor(
    rt: Runtime, api: httpx.AsyncClient, project: Project, sandbox: Sandbox, sink: Receiver, platform: Platform
) -> Actor:
    """An application that uses Punctual: connects calendars, receives webhooks, reads the API."""
    return Actor(rt, api, project, sandbox, sink, platform=platform)


@pytest.fixture(autouse=True)
def _no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who speaks TLS here brings certificates; every runtime would read the machine's for 25 ms."""
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("SSL_CERT_DIR", os.devnull)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
