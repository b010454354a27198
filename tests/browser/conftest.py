"""A Chromium without a screen before three servers: Punctual, the sandbox's consent pages, and an application.

The provider is another site to the browser than Punctual is, as in life (`localhost` and `127.0.0.1`), and so is who
sets a trap. Nothing is loaded from anywhere else, and what the browser complains about in its console fails the test.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from app.runtime import Runtime
from sandbox import Sandbox
from tests.browser import chromium
from tests.connect.visiting import Application, new_app
from tests.harness import Actor, application, listen

SHOTS = Path(__file__).resolve().parents[2] / "build" / "browser"
"""Where a run leaves its screenshots."""
Scope = MutableMapping[str, Any]


def pytest_sessionstart() -> None:
    """Find the browser before anything is started, and forget the last run's screenshots."""

    async def look() -> str | None:
        async with async_playwright() as playwright:
            return chromium.find(playwright)

    if asyncio.run(look()) is None:
        pytest.exit(chromium.HOW, returncode=1)
    shutil.rmtree(SHOTS, ignore_errors=True)
    SHOTS.mkdir(parents=True)


class _Later:
    """An application that listens before it is there: its address is among the settings that it is made from."""

    inner: Callable[..., Awaitable[None]] | None = None

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        assert self.inner is not None
        await self.inner(scope, receive, send)


async def _back(scope: Scope, receive: Any, send: Any) -> None:
    """The application's own page, which says what it was told; at /trap a form that posts to wherever it is told."""
    del receive
    target = scope["query_string"].decode() if scope["path"] == "/trap" else None
    form = f'<form method="post" action="{target}"><button>Win</button></form>' if target else "<p>Welcome back</p>"
    page = f'<!doctype html><html lang="en"><title>App</title><link rel="icon" href="data:,">{form}</html>'
    headers = [(b"content-type", b"text/html")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": page.encode()})


@dataclass(slots=True)
class Addresses:
    """Where they are. `own` is Punctual's, to be filled in once it is there."""

    punctual: str
    provider: str
    back: str
    trap: str
    own: _Later = field(default_factory=_Later)

    def allowed(self) -> set[str]:
        """The only hosts that the browser has any business with."""
        return {urlsplit(url).netloc for url in (self.punctual, self.provider, self.back, self.trap)}


@pytest.fixture
async def addresses(sandbox: Sandbox) -> AsyncIterator[Addresses]:
    """All of them listen."""
    own = _Later()
    async with listen(own) as punctual, listen(sandbox.app) as provider, listen(_back) as back:
        provider, trap = (url.replace("127.0.0.1", "localhost") for url in (provider, back))
        yield Addresses(punctual, provider, f"{back}/connected", f"{trap}/trap", own)


@pytest.fixture
def overrides(addresses: Addresses) -> dict[str, object]:
    """Browsers go to real addresses; what Punctual itself asks the provider stays in this process."""
    return {
        "public_url": addresses.punctual,
        "google_authorize_url": f"{addresses.provider}/o/oauth2/v2/auth",
        "microsoft_login_url": addresses.provider,
    }


@pytest.fixture
async def app(actor: Actor, rt: Runtime, addresses: Addresses) -> Application:
    """An application with an OAuth app and a return address."""
    addresses.own.inner = application(rt)
    await actor.call("PATCH", "/project", json={"return_urls": [addresses.back]})
    return Application(actor, await new_app(actor), addresses.back)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """The Chromium."""
    async with async_playwright() as playwright:
        path = chromium.find(playwright)
        launched = await playwright.chromium.launch(executable_path=path, args=list(chromium.OPTIONS))
        yield launched
        await launched.close()


Open = Callable[..., Awaitable[BrowserContext]]


@pytest.fixture
async def profile(browser: Browser, addresses: Addresses) -> AsyncIterator[Open]:
    """Makes profiles (`java_script_enabled`, `viewport`, `color_scheme`, …) of people who have never been here."""
    strangers: list[str] = []
    complaints: list[str] = []

    async def make(**options: Any) -> BrowserContext:
        context = await browser.new_context(**options)
        context.on("request", lambda request: _judge(request.url))
        context.on("console", lambda message: complaints.append(message.text))
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        return context

    def _judge(url: str) -> None:
        if urlsplit(url).scheme != "data" and urlsplit(url).netloc not in addresses.allowed():
            strangers.append(url)

    yield make
    assert strangers == []
    assert [text for text in complaints if not _is_a_status(text)] == []


def _is_a_status(text: str) -> bool:
    """Chromium's line about each page that is no 2xx, which ours for used and expired links are not."""
    return text.startswith("Failed to load resource: the server responded with a status of 4")


@pytest.fixture
async def page(profile: Open) -> Page:
    """One tab without script: nothing here needs any."""
    context = await profile(java_script_enabled=False)
    return await context.new_page()


async def shoot(page: Page, name: str) -> None:
    """Keep what the page looks like."""
    await page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
