"""Google's error bodies, as documented ("Handle API errors", "OAuth 2.0 for web server applications") and recorded."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sandbox.answers import reply


def failure(status: int, reason: str, message: str, *, domain: str = "global", location: str | None = None) -> Response:
    """The ordinary error document; clients branch on `reason`."""
    error: dict[str, Any] = {"domain": domain, "reason": reason, "message": message}
    if location is not None:
        kind = "header" if location == "Authorization" else "parameter"
        error |= {"locationType": kind, "location": location}
    return reply({"error": {"errors": [error], "code": status, "message": message}}, status=status)


def cursor_expired() -> Response:
    """The order to list anew."""
    message = "Sync token is no longer valid, a full sync is required."
    return failure(410, "fullSyncRequired", message, domain="calendar", location="syncToken")


def not_found() -> Response:
    """Unknown, or not visible to this user: Google does not tell which."""
    return failure(404, "notFound", "Not Found")


def rate_limited(project: str = "412345678901") -> Response:
    """The per-user quota answer as it really comes: 403, and status PERMISSION_DENIED."""
    message = (
        "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute per user' of service"
        f" 'calendar-json.googleapis.com' for consumer 'project_number:{project}'."
    )
    metadata = {
        "quota_limit": "defaultPerMinutePerUser",
        "service": "calendar-json.googleapis.com",
        "consumer": f"projects/{project}",
        "quota_location": "global",
        "quota_metric": "calendar-json.googleapis.com/default",
        "quota_limit_value": "600",
    }
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "RATE_LIMIT_EXCEEDED",
        "domain": "googleapis.com",
        "metadata": metadata,
    }
    error = {"message": message, "domain": "usageLimits", "reason": "rateLimitExceeded"}
    return reply(
        {
            "error": {
                "code": 403,
                "message": message,
                "errors": [error],
                "status": "PERMISSION_DENIED",
                "details": [info],
            }
        },
        status=403,
    )


def oauth(status: int, error: str, description: str | None = None, subtype: str | None = None) -> Response:
    """The flat OAuth error document."""
    body = {"error": error}
    if description is not None:
        body["error_description"] = description
    if subtype is not None:
        body["error_subtype"] = subtype
    return reply(body, status=status)


_PLANTED: dict[str, tuple[int, str, str, str]] = {
    "deleted_410": (410, "deleted", "Resource has been deleted", "global"),
    "too_many_requests": (429, "rateLimitExceeded", "Rate Limit Exceeded", "usageLimits"),
    "unavailable": (503, "backendError", "Backend Error", "global"),
    "unauthorized": (401, "authError", "Invalid Credentials", "global"),
    "forbidden": (403, "forbidden", "Forbidden", "calendar"),
    "insufficient_scope": (403, "insufficientPermissions", "Insufficient Permission", "global"),
    "not_configured": (403, "accessNotConfigured", "Calendar API has not been used", "usageLimits"),
    "not_found": (404, "notFound", "Not Found", "global"),
    "bad_page_token": (400, "invalid", "Invalid page token value.", "global"),
    "push_not_supported": (
        400,
        "pushNotSupportedForRequestedResource",
        "Push notifications are not supported by this resource.",
        "calendar",
    ),
}


def planted(kind: str, params: dict[str, Any], _: Request | None = None) -> Response:
    """The answer of a fault that is nothing but an error; `params` may give status and Retry-After."""
    if kind == "rate_limited":
        answer = rate_limited()
    elif kind == "html":
        answer = Response("<html><title>Error</title></html>", int(params.get("status", 502)), media_type="text/html")
    elif kind == "garbage":
        answer = Response(b'{"kind": "calendar#events", "items": [', media_type="application/json")
    else:
        status, reason, message, domain = _PLANTED[kind]
        answer = failure(int(params.get("status", status)), reason, message, domain=domain)
    if "retry_after" in params:
        answer.headers["Retry-After"] = str(params["retry_after"])
    return answer


ERRORS_ONLY = (
    "deleted_410",
    "rate_limited",
    "too_many_requests",
    "unavailable",
    "html",
    "unauthorized",
    "forbidden",
    "insufficient_scope",
    "not_configured",
    "not_found",
    "garbage",
)
"""Faults that any operation can have."""
