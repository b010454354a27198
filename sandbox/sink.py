"""A webhook receiver that verifies signatures and remembers everything: the customer's side of a test or demo.

The signature check is written from the Standard Webhooks specification and shares no code with the sender. How a hook
answers is data: statuses in turn, a delay, a Retry-After, or silence.
"""

import asyncio
import base64
import contextlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from html import escape
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

TOLERANCE_SECONDS = 300


@dataclass(slots=True)
class Hook:
    """How one address behaves. `statuses` are answered in turn, the last one for ever."""

    secrets: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=lambda: [204])
    delay_seconds: float = 0
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """One request. `at` is unix time; `valid` says whether signature and timestamp hold."""

    number: int
    hook: str
    at: float
    message_id: str
    valid: bool
    status: int
    body: dict[str, Any]
    headers: dict[str, str]


def verify(secrets: list[str], headers: Mapping[str, str], body: bytes, *, now: float) -> bool:
    """Standard Webhooks, symmetric: HMAC-SHA256 over `id.timestamp.body`, one of several signatures is enough."""
    message_id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or not stamp.isdigit() or abs(now - int(stamp)) > TOLERANCE_SECONDS:
        return False
    content = f"{message_id}.{stamp}.".encode() + body
    given = [part.partition(",")[2] for part in headers.get("webhook-signature", "").split() if part.startswith("v1,")]
    for secret in secrets:
        digest = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), content, sha256).digest()
        expected = base64.b64encode(digest).decode()
        if any(hmac.compare_digest(expected, one) for one in given):
            return True
    return False


async def _connected(request: Request) -> Response:
    """Where people come back to from hosted connect: what the application was told."""
    told = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in request.query_params.items())
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Back</title>'
    page = f'<!doctype html><html lang="en">{head}<h1>Back at the application</h1><dl>{told}</dl>'
    return Response(page, media_type="text/html")


class Sink:
    """The receiver, as an ASGI application and as an object to ask."""

    def __init__(self) -> None:
        self.hooks: dict[str, Hook] = {}
        self.received: list[Received] = []
        self._arrived = asyncio.Condition()
        self.app = Starlette(
            routes=[
                Route("/hooks/{name:str}", self._receive, methods=["POST"]),
                Route("/_sink/hooks/{name:str}", self._configure, methods=["PUT"]),
                Route("/_sink/messages", self._list),
                Route("/connected", _connected),
            ]
        )

    def hook(self, name: str = "default") -> Hook:
        """The behaviour of one address, made where it is new."""
        return self.hooks.setdefault(name, Hook())

    def messages(self, name: str | None = None, *, trigger: str | None = None) -> list[Received]:
        """What arrived and was acknowledged, each message once, in order of arrival."""
        seen: dict[tuple[str, str], Received] = {}
        for one in self.received:
            if one.status < 300 and name in {None, one.hook} and trigger in {None, one.body.get("trigger")}:
                seen.setdefault((one.hook, one.message_id), one)
        return list(seen.values())

    async def wait_for(self, predicate: Callable[["Sink"], bool], *, seconds: float = 10) -> None:
        """Until the predicate holds; TimeoutError."""
        async with asyncio.timeout(seconds), self._arrived:
            await self._arrived.wait_for(lambda: predicate(self))

    async def _receive(self, request: Request) -> Response:
        name = request.path_params["name"]
        hook, body = self.hook(name), await request.body()
        at = time.time()
        if hook.delay_seconds:
            await asyncio.sleep(hook.delay_seconds)
        status = hook.statuses.pop(0) if len(hook.statuses) > 1 else hook.statuses[0]
        headers = dict(request.headers)
        received = Received(
            number=len(self.received) + 1,
            hook=name,
            at=at,
            message_id=headers.get("webhook-id", ""),
            valid=verify(hook.secrets, headers, body, now=at),
            status=status,
            body=orjson.loads(body) if body else {},
            headers=headers,
        )
        async with self._arrived:
            self.received.append(received)
            self._arrived.notify_all()
        extra = {"Retry-After": hook.retry_after} if hook.retry_after is not None and status >= 300 else None
        return Response(status_code=status, headers=extra)

    async def _configure(self, request: Request) -> Response:
        self.hooks[request.path_params["name"]] = Hook(**await request.json())
        return Response(status_code=204)

    async def _list(self, request: Request) -> Response:
        after = int(request.query_params.get("after", "0"))
        name = request.query_params.get("name")
        wait = min(30.0, float(request.query_params.get("wait", "0")))

        def news() -> list[Received]:
            return [one for one in self.received[after:] if name in {None, one.hook}]

        if wait and not news():
            with contextlib.suppress(TimeoutError):
                await self.wait_for(lambda _: bool(news()), seconds=wait)
        return Response(orjson.dumps({"messages": [asdict(one) for one in news()]}), media_type="application/json")
