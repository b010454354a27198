"""An application that gives out connect links, and people who follow them with a browser that draws nothing."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from app.runtime import Runtime
from sandbox import Sandbox
from sandbox.model import Account
from sandbox.world import CLIENTS
from tests.harness import Actor, Project, application

BACK = "http://127.0.0.1:7777/connected"
"""Where the application has its users sent back to."""
CALENDAR_SCOPE = "https://www.googleapis.com/auth/calendar.readonly"
_TOKEN = re.compile(r"/connect/([A-Za-z0-9_-]{43})$")


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        """What is shown, the style sheet left out by who asks."""
        self.parts.append(data)


def text_of(page: str) -> str:
    """What a person reads, in one line."""
    parser = _Text()
    parser.feed(page.partition("</style>")[2])
    return " ".join("".join(parser.parts).split())


def answer_of(location: str) -> dict[str, str]:
    """The query of the address that a browser came back to."""
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query, keep_blank_values=True).items()}


@dataclass(slots=True)
class Visitor:
    """One browser: keeps its cookies, and goes only where it is told."""

    http: httpx.AsyncClient
    """At Punctual."""
    provider: httpx.AsyncClient
    headers: dict[str, str] = field(default_factory=lambda: {"Sec-Fetch-Site": "same-origin"})

    async def read(self, url: str, *, status: int = 200) -> str:
        """The page of a link, as text."""
        answer = await self.http.get(url)
        assert answer.status_code == status, answer.text
        return text_of(answer.text)

    async def set_out(self, url: str) -> str:
        """Press the button; the provider's address."""
        answer = await self.http.post(url, headers=self.headers)
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    async def decide(self, address: str, account: Account, *, allow: bool = True, ticks: bool = True) -> str:
        """Decide at the provider; the address it sends the browser to."""
        assert (await self.provider.get(address)).status_code == 200
        form = {"account": account.email, "decision": "allow" if allow else "deny"}
        boxes = {"scope": CALENDAR_SCOPE} if ticks else {}
        answer = await self.provider.post(address, data=form | boxes)
        assert answer.status_code == 302, answer.text
        return str(answer.headers["location"])

    async def come_back(self, address: str) -> dict[str, str]:
        """Follow the provider; what the application is told."""
        answer = await self.http.get(address)
        assert answer.status_code == 303, answer.text
        assert answer.headers["location"].startswith(BACK), answer.headers["location"]
        return answer_of(answer.headers["location"])

    async def connect(self, url: str, account: Account, **decision: Any) -> dict[str, str]:
        """All of it."""
        return await self.come_back(await self.decide(await self.set_out(url), account, **decision))


@dataclass(frozen=True, slots=True)
class Application:
    """The customer's side: an OAuth app and links."""

    actor: Actor
    oauth_app_id: str
    return_url: str = BACK

    async def link(self, **body: Any) -> str:
        """A link's address."""
        given = {"oauth_app_id": self.oauth_app_id, "return_url": self.return_url, **body}
        made = await self.actor.call("POST", "/connect_links", json=given, expect=201)
        return str(made["url"])


async def new_app(actor: Actor, project: Project | None = None, **fields: Any) -> str:
    """An OAuth app as the sandbox knows it, of the actor's project unless another is named."""
    body = {"client_id": CLIENTS[actor.platform], "client_secret": "sandbox-secret", "name": "Acme Notes", **fields}
    headers = (project or actor.project).headers
    answer = await actor.api.post("/api/v1/oauth_apps", headers=headers, json={"platform": actor.platform, **body})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@asynccontextmanager
async def browser(rt: Runtime, sandbox: Sandbox) -> AsyncIterator[Visitor]:
    """A browser without cookies."""
    ours, theirs = httpx.ASGITransport(application(rt)), httpx.ASGITransport(sandbox.app)
    base = str(rt.settings.public_url)
    async with (
        httpx.AsyncClient(transport=ours, base_url=base) as http,
        httpx.AsyncClient(transport=theirs) as provider,
    ):
        yield Visitor(http, provider)


def token_of(url: str) -> str:
    """The token in a link's address."""
    found = _TOKEN.search(url)
    assert found is not None, url
    return found[1]
