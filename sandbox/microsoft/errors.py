"""Graph's error bodies, as documented ("Microsoft Graph error responses") and reported from production."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson
from starlette.requests import Request
from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class Mark:
    """What names one request: Graph's id for it, the client's, and when it came."""

    request_id: str
    client_request_id: str
    at: datetime


class Refused(Exception):
    """The request gets this error. `headers` go with it."""

    def __init__(self, status: int, code: str, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}

    def answer(self, request: Request) -> Response:
        """As Graph writes it."""
        return failure(request, self.status, self.code, self.message, headers=self.headers)


def mark_of(request: Request, now: datetime | None = None) -> Mark:
    """The request's mark, made when it is first asked for."""
    known = getattr(request.state, "mark", None)
    if not isinstance(known, Mark):
        own = str(uuid4())
        known = Mark(own, request.headers.get("client-request-id", own), now or datetime.now(UTC))
        request.state.mark = known
    return known


def failure(
    request: Request, status: int, code: str, message: str, *, headers: dict[str, str] | None = None
) -> Response:
    """The error document; clients branch on `code`, and on the status where they do not know it."""
    mark = mark_of(request)
    inner = {
        "date": f"{mark.at:%Y-%m-%dT%H:%M:%S}",
        "request-id": mark.request_id,
        "client-request-id": mark.client_request_id,
    }
    body = {"error": {"code": code, "message": message, "innerError": inner}}
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def not_found() -> Refused:
    """No such item, or none that this user may see."""
    return Refused(404, "ErrorItemNotFound", "The specified object was not found in the store.")


def malformed_id() -> Refused:
    """Text that is no id."""
    return Refused(400, "ErrorInvalidIdMalformed", "Id is malformed.")


def denied() -> Refused:
    """No permission."""
    return Refused(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")


def state_lost(location: str | None) -> Refused:
    """Start again, from `location` where it is given."""
    return Refused(
        410,
        "SyncStateNotFound",
        "The sync state generation is not found; generation=149;[highest=157][157][155][156].",
        headers={"Location": location} if location is not None else {},
    )


def mangled_state() -> Refused:
    """A token that was never handed out."""
    return Refused(400, "ErrorInvalidSyncStateData", "The sync state data is invalid.")


_OVER_LIMIT = "Application is over its MailboxConcurrency limit."

_PLANTED: dict[str, tuple[int, str, str]] = {
    "cursor_expired": (410, "SyncStateNotFound", ""),
    "rate_limited": (429, "TooManyRequests", "Too many requests."),
    "too_many_requests": (429, "ApplicationThrottled", _OVER_LIMIT),
    "unavailable": (503, "serviceNotAvailable", "The service is temporarily unavailable. Please try again later."),
    "gateway_timeout": (504, "UnknownError", ""),
    "unauthorized": (401, "InvalidAuthenticationToken", "Access token has expired or is not yet valid."),
    "forbidden": (403, "ErrorAccessDenied", "Access is denied. Check credentials and try again."),
    "insufficient_scope": (403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation."),
    "not_found": (404, "ErrorItemNotFound", "The specified object was not found in the store."),
    "mailbox_not_enabled": (
        404,
        "MailboxNotEnabledForRESTAPI",
        "The mailbox is either inactive, soft-deleted, or is hosted on-premise.",
    ),
    "user_gone": (404, "Request_ResourceNotFound", "Resource does not exist or one of its queried references is gone."),
    "endpoint_unreachable": (
        400,
        "InvalidRequest",
        "The underlying connection was closed: An unexpected error occurred on a send.",
    ),
    "push_not_supported": (400, "ExtensionError", "Operation: Create; the mailbox is currently on backend 'Unknown'."),
    "duplicate_subscription": (
        409,
        "Conflict",
        "Subscription Id <> already exists for the requested combination of application and resource.",
    ),
    "bad_page_token": (400, "ErrorInvalidSyncStateData", "The sync state data is invalid."),
}

ERRORS_ONLY = (
    "rate_limited",
    "too_many_requests",
    "unavailable",
    "html",
    "unauthorized",
    "forbidden",
    "insufficient_scope",
    "not_found",
    "user_gone",
    "garbage",
)
"""Faults that any operation can have. Each takes `status`, `code` and `message` in place of its own."""


def planted(kind: str, params: dict[str, Any], request: Request) -> Response:
    """The answer of a fault that is nothing but an error; `retry_after` becomes its header."""
    if kind == "html":
        answer = Response("<html><title>Error</title></html>", int(params.get("status", 502)), media_type="text/html")
    elif kind == "garbage":
        answer = Response(
            b'{"@odata.context":"https://graph.microsoft.com/v1.0/$metadata#', media_type="application/json"
        )
    else:
        status, code, message = _PLANTED[kind]
        if kind == "not_found" and request.url.path.startswith("/v1.0/subscriptions"):
            code, message = "ResourceNotFound", "The object was not found."
        answer = failure(
            request,
            int(params.get("status", status)),
            str(params.get("code", code)),
            str(params.get("message", message)),
        )
    if "retry_after" in params:
        answer.headers["Retry-After"] = str(params["retry_after"])
    return answer
