"""A Google that answers what a test scripted, and remembers exactly what it was asked."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import respx
from redis.asyncio import Redis

from app.providers.base import Access, Stored
from app.providers.google.client import GoogleCalendar
from app.providers.http import ProviderHttp
from app.providers.limits import Limits
from app.settings import Settings

API = "https://google.test/calendar/v3"
TOKEN = "https://token.google.test/token"
USERINFO = "https://google.test/oauth2/v3/userinfo"

NOBODY = "redis://127.0.0.1:1/0"
"""Nothing listens there: limits are kept in memory."""


@dataclass
class Tokens:
    """A TokenSource that gives `token-1` until it is refused, then `token-2` and so on."""

    rejected: list[str] = field(default_factory=list)

    async def token(self, *, rejected: str | None = None) -> str:
        """The next token after each refused one."""
        if rejected is not None:
            self.rejected.append(rejected)
        return f"token-{len(self.rejected) + 1}"


async def nothing_known(ids: Collection[str]) -> Mapping[str, Stored]:
    """A calendar of which nothing is stored."""
    del ids
    return {}


@dataclass
class Google:
    """The provider under test, and the scripted Google behind it."""

    provider: GoogleCalendar
    mock: respx.MockRouter
    tokens: Tokens
    access: Access

    @property
    def requests(self) -> list[httpx.Request]:
        """Everything asked so far, in order."""
        return [call.request for call in self.mock.calls]


def make_settings(**overrides: Any) -> Settings:
    """Settings of a process that talks to the scripted Google."""
    values: dict[str, Any] = {
        "database_url": "postgresql://nobody/none",
        "redis_url": NOBODY,
        "google_api_url": "https://google.test",
        "google_token_url": TOKEN,
        **overrides,
    }
    return Settings.model_validate(values)


@asynccontextmanager
async def scripted_google(**overrides: Any) -> AsyncIterator[Google]:
    """A provider whose every request goes to `mock`; what is not scripted there fails the test."""
    settings = make_settings(**overrides)
    mock = respx.MockRouter(assert_all_called=False)
    tokens = Tokens()
    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(mock.async_handler)) as client,
        Redis.from_url(settings.redis_url) as redis,
    ):
        provider = GoogleCalendar(ProviderHttp(client, Limits(settings, redis), settings), settings)
        yield Google(provider, mock, tokens, Access(tokens, client_id="client", user_key="user"))


def refusal(code: int, reason: str, domain: str = "global", **headers: str) -> httpx.Response:
    """An error in Google's shape."""
    error = {"errors": [{"domain": domain, "reason": reason, "message": "-"}], "code": code, "message": "-"}
    return httpx.Response(code, json={"error": error}, headers=headers)
