"""Inbound notifications. 2xx only once the request for a sync is durable; strangers learn nothing."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.deps import Rt
from app.api.operations import only, problems
from app.errors import ProviderAway
from app.notifications import Inbox
from app.runtime import Runtime
from app.telemetry import PUSHES

router = APIRouter(tags=["Providers"])


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
    notification = rt.providers["google"].parse_notification(request.headers)
    outcome = "unreadable"
    if notification is not None:
        try:
            outcome = await inbox(request, rt).accept(notification)
        except ProviderAway:
            PUSHES.labels("google", "not_durable").inc()
            raise
    PUSHES.labels("google", outcome).inc()
    return Response()


def inbox(request: Request, rt: Runtime) -> Inbox:
    """The application's one inbox: pushes that come together are written together."""
    state = request.app.state
    if not hasattr(state, "inbox"):
        state.inbox = Inbox(rt)
    made: Inbox = state.inbox
    return made
