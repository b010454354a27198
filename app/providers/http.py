"""One request to a provider, with everything that can go wrong turned into the ProviderError family.

It exists so that no client repeats these rules: one deadline over the whole exchange, a bounded body, one refresh on
401, the shared quota limiter before each request, `Retry-After` understood and shared. What a refusal *means* is the
provider's own table (`Call.classify`). Nothing is retried here but that single 401: the engine owns retrying.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Literal

import aiohttp
import httpx
import orjson

from app.errors import (
    AccessTokenRejected,
    ProviderContract,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
)
from app.providers.base import Access, Platform
from app.providers.limits import Limits
from app.settings import Settings
from app.telemetry import PROVIDER_REQUESTS

BODY_LIMIT = 32 * 1024 * 1024
"""Bytes of one decoded answer; a page of 2,500 events has about 5 MiB."""
LONGEST_DEFERRAL = 86_400.0
"""Seconds; a longer Retry-After is cut, so that a broken header cannot silence a calendar for ever."""
PATIENCE = 30.0
"""Seconds that a round which has begun waits for its user's or app's quota before its next request."""

_HEADERS = {
    "accept": "application/json",
    # Google compresses only for clients whose User-Agent says so (Calendar API guide, "Performance tips").
    "user-agent": "punctual (gzip)",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no 2xx, as a provider's error table sees it."""

    status: int
    body: object
    """The parsed JSON; None where it was no JSON, such as a proxy's HTML."""
    retry_after: float | None
    """Seconds from now, at most LONGEST_DEFERRAL."""


Classify = Callable[[Refusal], ProviderError]


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked. `operation` is a metric's label: constant, never an id."""

    platform: Platform
    operation: str
    url: str
    classify: Classify
    method: Literal["GET", "POST", "PATCH", "DELETE"] = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    params: tuple[tuple[str, str], ...] = ()
    payload: Mapping[str, object] | None = None
    """Sent as JSON."""
    form: Mapping[str, str] | None = None
    goes_on: bool = False
    """Whether a round that has begun goes on with this: it waits for quota rather than begin again."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: httpx.Headers
    body: bytes


class ProviderHttp:
    """Sends calls through one shared client; safe for concurrent use."""

    def __init__(self, client: httpx.AsyncClient, limits: Limits, settings: Settings) -> None:
        # One client serves every user: no cookie of one of them may ride on another's request.
        client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._client = client
        self._limits = limits
        self._deadline = settings.provider_timeout_seconds

    async def send(self, access: Access, call: Call) -> object:
        """The answer's parsed JSON (None for an empty body), asked for on the user's behalf.

        A token refused with 401 is replaced once; a second refusal is AccessTokenRejected. Waits up to two seconds
        for quota, then ProviderThrottled.
        """
        token = await access.tokens.token()
        try:
            return await self._limited(access, call, token=token)
        except AccessTokenRejected:
            pass  # left before asking again, so that the second refusal does not carry the first along
        token = await access.tokens.token(rejected=token)
        return await self._limited(access, call, token=token)

    async def send_anonymous(self, call: Call) -> object:
        """The answer's parsed JSON, without a token and outside the quota: the OAuth token endpoint."""
        return await self._counted(call, {})

    async def _limited(self, access: Access, call: Call, *, token: str) -> object:
        await self._admitted(access, call)
        async with self._limits.slot(
            platform=call.platform, client_id=access.client_id, user_key=access.user_key, seconds=self._deadline
        ):
            try:
                return await self._counted(call, {"authorization": f"Bearer {token}"})
            except ProviderThrottled as exc:
                if exc.after is not None:  # the provider's word, for all workers; a place that we lack is none
                    await self._limits.defer(
                        platform=call.platform,
                        client_id=access.client_id,
                        user_key=access.user_key,
                        scope=exc.scope,
                        seconds=exc.after,
                    )
                raise

    async def _admitted(self, access: Access, call: Call) -> None:
        """Wait for a share of the quota; within a round that has begun for longer than before its first request."""
        end = time.monotonic() + (PATIENCE if call.goes_on else 0.0)
        while True:
            try:
                return await self._limits.acquire(
                    platform=call.platform,
                    client_id=access.client_id,
                    user_key=access.user_key,
                    is_backstop=access.is_backstop,
                )
            except ProviderThrottled as exc:
                if not exc.is_ours or exc.after is None or time.monotonic() + exc.after > end:
                    raise
                await asyncio.sleep(exc.after)

    async def _counted(self, call: Call, headers: dict[str, str]) -> object:
        outcome = "cancelled"
        try:
            answer = await self._exchange(call, headers)
            value = _judge(answer, call.classify)
            outcome = "ok"
            return value
        except ProviderError as exc:
            outcome = exc.code
            raise
        finally:
            PROVIDER_REQUESTS.labels(call.platform, call.operation, outcome).inc()

    async def _exchange(self, call: Call, headers: dict[str, str]) -> _Answer:
        request = self._client.build_request(
            call.method,
            call.url,
            params=call.params or None,
            json=call.payload,
            data=call.form,
            headers=[*_HEADERS.items(), *call.headers, *headers.items()],
        )
        try:
            async with asyncio.timeout(self._deadline):
                return await self._receive(request)
        except TimeoutError as exc:
            raise ProviderUnavailable(f"no answer within {self._deadline:g} s") from exc
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as exc:
            # httpx-aiohttp translates most of aiohttp's errors, not all: a malformed answer comes as aiohttp's own.
            raise ProviderUnavailable(f"the connection failed: {type(exc).__name__}") from exc

    async def _receive(self, request: httpx.Request) -> _Answer:
        response = await self._client.send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > BODY_LIMIT:
                    raise ProviderContract(f"the answer is larger than {BODY_LIMIT} bytes")
            return _Answer(response.status_code, response.headers, bytes(body))
        finally:
            await response.aclose()


def _judge(answer: _Answer, classify: Classify) -> object:
    if 200 <= answer.status < 300:
        return parse_json(answer.body) if answer.body else None
    try:
        body = parse_json(answer.body)
    except ProviderContract:
        body = None
    raise classify(Refusal(answer.status, body, retry_after(answer.headers)))


def parse_json(body: bytes) -> object:
    """The value of a JSON body; ProviderContract where it is none.

    Lone surrogates and stray bytes survive as lone surrogates: one odd title must not make a page unreadable.
    """
    try:
        value: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    else:
        return value
    try:
        value = json.loads(body.decode("utf-8", errors="surrogateescape"))
    except (ValueError, RecursionError) as exc:
        raise ProviderContract("the answer is no JSON") from exc
    return value


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that `Retry-After` asks for (RFC 9110, 10.2.3); None where it is absent, unreadable or no time at all.

    A date is measured from the answer's own `Date`, so that a wrong clock on either side does no harm. "At once" is
    no advice to follow after a refusal: our own backoff decides then.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        seconds = float(value[:20])
    else:
        moment = _http_date(value)
        if moment is None:
            return None
        base = _http_date(headers.get("date", "")) or datetime.now(UTC)
        seconds = (moment - base).total_seconds()
    return min(seconds, LONGEST_DEFERRAL) if seconds > 0 else None


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
