"""Problem documents (RFC 9457): every answer that is no success has this one shape.

`code` is the contract. The list below is closed and equals docs/errors.md, which says what to do about each.
A request with one fault carries that fault's code; one with several different faults is `invalid` and lists them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from app.errors import PROBLEMS_MOST, FieldProblem, Invalid, RequestError, refusals

MEDIA_TYPE: Final = "application/problem+json"

CODES: Final[Mapping[str, int]] = {
    "malformed": 400,
    "unauthenticated": 401,
    "insufficient_scope": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "deduplication_key_in_use": 409,
    "calendar_disconnected": 409,
    "too_many_secrets": 409,
    "endpoint_disabled": 409,
    "bot_not_live": 409,
    "bot_joined": 409,
    "launcher_in_use": 409,
    "too_many_rules": 409,
    "last_admin_key": 409,
    "oauth_app_exists": 409,
    "oauth_app_in_use": 409,
    "no_public_url": 409,
    "idempotency_in_progress": 409,
    "idempotency_key_reused": 409,
    "feed_expired": 410,
    "too_large": 413,
    "wrong_media_type": 415,
    "rate_limited": 429,
    # Something inside a well-formed request
    "invalid": 422,
    "missing": 422,
    "unknown_field": 422,
    "unknown_parameter": 422,
    "repeated_parameter": 422,
    "wrong_type": 422,
    "blank": 422,
    "too_long": 422,
    "too_short": 422,
    "out_of_range": 422,
    "not_allowed": 422,
    "not_unique": 422,
    "invalid_text": 422,
    "invalid_time": 422,
    "naive_time": 422,
    "end_before_start": 422,
    "in_the_future": 422,
    "in_the_past": 422,
    "read_only": 422,
    "invalid_cursor": 422,
    "filter_needs_bound": 422,
    "invalid_idempotency_key": 422,
    "idempotency_key_not_accepted": 422,
    # An address that a webhook may not have
    "invalid_url": 422,
    "scheme_not_allowed": 422,
    "userinfo_not_allowed": 422,
    "fragment_not_allowed": 422,
    "host_not_allowed": 422,
    "port_not_allowed": 422,
    # A header that a webhook may not have
    "invalid_header_name": 422,
    "invalid_header_value": 422,
    "header_not_allowed": 422,
    # A bot that makes no sense
    "event_gone": 422,
    "event_over": 422,
    "event_without_link": 422,
    "not_a_series": 422,
    "overridden": 422,
    "unknown_platform": 422,
    "not_a_meeting": 422,
    # A rule that makes no sense
    "empty_match": 422,
    "invalid_regex": 422,
    "invalid_domain": 422,
    "too_many_events": 422,
    # A bot's config that its back end cannot carry out
    "unsupported_setting": 422,
    "needs_transcription": 422,
    "reserved": 422,
    "invalid_image": 422,
    "invalid_language": 422,
    # An OAuth app that makes no sense
    "platform_mismatch": 422,
    "invalid_tenant": 422,
    # The provider's word about credentials
    "user_revoked": 422,
    "reauth_required": 422,
    "consent_withdrawn": 422,
    "admin_blocked": 422,
    "account_gone": 422,
    "mailbox_unavailable": 422,
    "calendar_gone": 422,
    "access_lost": 422,
    "scope_missing": 422,
    "wrong_account": 422,
    "oauth_app_broken": 422,
    "provider_contract": 422,
    "internal_error": 500,
    "provider_unavailable": 503,
    "unavailable": 503,
    "timed_out": 503,
}
"""Every code there is, with the status it comes with. docs/errors.md has an entry for each."""

_OF_PYDANTIC: Final[Mapping[str, str]] = {
    "missing": "missing",
    "extra_forbidden": "unknown_field",
    "string_too_long": "too_long",
    "string_too_short": "too_short",
    "too_long": "too_long",
    "too_short": "too_short",
    "literal_error": "not_allowed",
    "enum": "not_allowed",
    "greater_than_equal": "out_of_range",
    "less_than_equal": "out_of_range",
    "greater_than": "out_of_range",
    "less_than": "out_of_range",
    "int_parsing_size": "out_of_range",
}

_MESSAGES: Final[Mapping[str, str]] = {
    "missing": "is needed",
    "unknown_field": "is not a field of this request",
    "wrong_type": "has the wrong type",
}


class ProblemError(BaseModel):
    """One wrong place in a request."""

    model_config = ConfigDict(extra="forbid")

    pointer: str = Field(description="JSON pointer into the body, or the name of a query parameter or header")
    code: str = Field(description="What is wrong there, from the same closed list as `code`")
    message: str = Field(description="For people; may change")


class Problem(BaseModel):
    """RFC 9457 problem document."""

    type: str = Field(description="`urn:punctual:problem:` and the code")
    title: str
    status: int
    detail: str = Field(description="For people; may change")
    code: str = Field(description="What went wrong; docs/errors.md lists every code and what to do")
    request_id: str = Field(description="The answer's X-Request-ID, for questions to the operator")
    errors: list[ProblemError] = Field(description="The wrong places, where the request had any")


class Unavailable(RequestError):
    """The database did not answer, or did not get a lock in time."""

    status, code, title = 503, "unavailable", "Punctual cannot answer right now"


class TimedOut(RequestError):
    """The request was cancelled at the end of its time."""

    status, code, title = 503, "timed_out", "The request took too long"


class InternalError(RequestError):
    """A fault of ours; the log has its cause under the request id."""

    status, code, title = 500, "internal_error", "Punctual made a mistake"


def problem_response(error: RequestError, *, request_id: str) -> Response:
    """The answer that says what was wrong."""
    code = error.problem_code
    if isinstance(error, Invalid) and code == Invalid.code and error.errors:
        code = _common_code(error.errors)
    document: dict[str, Any] = {
        "type": f"urn:punctual:problem:{code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": code,
        "request_id": request_id,
        "errors": [{"pointer": e.pointer, "code": e.code, "message": e.message} for e in error.errors],
        **error.extra,
    }
    return Response(
        orjson.dumps(document), status_code=error.status, media_type=MEDIA_TYPE, headers=dict(error.headers)
    )


def _common_code(errors: Sequence[FieldProblem]) -> str:
    codes = {error.code for error in errors}
    return codes.pop() if len(codes) == 1 else Invalid.code


def from_validation(error: RequestValidationError) -> Invalid:
    """FastAPI's complaint in our words; never repeats the customer's values."""
    return refusals([_problem(detail) for detail in error.errors()[:PROBLEMS_MOST]])


def _problem(detail: Mapping[str, Any]) -> FieldProblem:
    kind: str = detail["type"]
    place, *path = detail["loc"]
    code = kind if kind in CODES else _OF_PYDANTIC.get(kind, "wrong_type")
    pointer = "".join(f"/{escape(str(part))}" for part in path) if place == "body" else str(path[0])
    message = _MESSAGES.get(code) or str(detail["msg"])
    return FieldProblem(pointer, code, message)


def escape(part: str) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    return part.replace("~", "~0").replace("/", "~1")
