"""Inbound notifications. 2xx only once the request for a sync is durable; strangers learn nothing."""

import asyncio
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.deps import Rt
from app.api.operations import only, problems
from app.errors import Malformed, ProviderContract, TooLarge
from app.notifications import Inbox
from app.providers.base import Platform
from app.runtime import Runtime
from app.telemetry import PUSHES

router = APIRouter(tags=["Providers"])

_TOKEN_LIMIT: Final = 2_048
_MICROSOFT: Final[dict[str, Any]] = {
    "security": [],
    "parameters": [
        {
            "name": "validationToken",
            "in": "query",
            "required": False,
            "description": "Of the handshake; there is no body then",
            "schema": {"type": "string", "maxLength": _TOKEN_LIMIT},
        }
    ],
    "requestBody": {
        "description": "A batch as Microsoft Graph sends it",
        "required": False,
        "content": {
            "application/json": {
                "schema": {"description": "Not read in the handshake; else what cannot be read is `malformed`"},
                "examples": {
                    "changed": {
                        "value": {
                            "value": [
                                {
                                    "subscriptionId": "7f105c7d-2dc5-4530-97cd-4e7ae6534c07",
                                    "clientState": "0192f0c1-7a2b-7c3d-8e4f-5a6b7c8d9e0f.secret",
                                    "changeType": "updated",
                                    "resource": "Users/u/Events/e",
                                }
                            ]
                        }
                    }
                },
            }
        },
    },
}


@router.post(
    "/push/google",
    summary="Notification of Google Calendar",
    responses=only(problems("provider_unavailable"), 500, 503)
    | {200: {"description": "Noted, or of no concern: the answer does not tell which"}},
    response_class=Response,
    openapi_extra={"security": []},
)
async def push_google(request: Request, rt: Rt) -> Response:
    """For Google only. It carries no data and its body is not read; the channel's secret says whether it counts."""
    await _accept(request, rt, "google", b"")
    return Response()


@router.post(
    "/push/microsoft",
    summary="Notification of Microsoft Graph",
    status_code=202,
    responses=only(problems("provider_unavailable", "malformed", "too_large"), 400, 413, 500, 503)
    | {
        200: {
            "description": "The validation token that came along: Graph asks whether this address is ours",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        202: {"description": "Noted, or of no concern: the answer does not tell which"},
    },
    response_class=Response,
    openapi_extra=_MICROSOFT,
)
async def push_microsoft(request: Request, rt: Rt) -> Response:
    """For Microsoft Graph only: notifications, lifecycle notifications, and the handshake before a subscription.

    Each notification of a batch counts by its own secret (`clientState`). The handshake needs neither database nor
    Redis, and its token goes back as text, whatever it says.
    """
    token = request.query_params.get("validationToken")
    if token is not None:
        if len(token) > _TOKEN_LIMIT:
            raise Malformed("the validation token is too long")
        return Response(token, media_type="text/plain", headers=_NEVER_HTML)
    body = await _read(request)
    await _accept(request, rt, "microsoft", body)
    return Response(status_code=202)


_BODY_LIMIT = 1024 * 1024
_BODY_SECONDS = 10.0
_NEVER_HTML = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}


async def _read(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _BODY_LIMIT:
                    raise TooLarge
    except TimeoutError as exc:
        raise Malformed("the notification did not arrive in time") from exc
    return bytes(body)


async def _accept(request: Request, rt: Runtime, platform: Platform, body: bytes) -> None:
    """Make every notification durable, each judged by itself. ProviderAway where one is not: all come again."""
    try:
        notifications = rt.providers[platform].parse_notifications(request.headers, body)
    except ProviderContract as exc:
        PUSHES.labels(platform, "unreadable").inc()
        raise Malformed("the notification could not be read") from exc
    if not notifications:
        PUSHES.labels(platform, "unreadable").inc()
        return
    accepting = [inbox(request, rt).accept(notification) for notification in notifications]
    outcomes = await asyncio.gather(*accepting, return_exceptions=True)
    for outcome in outcomes:
        PUSHES.labels(platform, outcome if isinstance(outcome, str) else "not_durable").inc()
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


def inbox(request: Request, rt: Runtime) -> Inbox:
    """The application's one inbox: pushes that come together are written together."""
    state = request.app.state
    if not hasattr(state, "inbox"):
        state.inbox = Inbox(rt)
    made: Inbox = state.inbox
    return made
