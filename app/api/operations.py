"""How an operation describes itself: its problems by status, with the codes, for the OpenAPI document."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, Literal

from app.api.problems import CODES, MEDIA_TYPE
from app.keys import SCOPES, Scope

_NULL: Final = "\0null"
Responses = dict[int | str, dict[str, Any]]

_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
_EVERYWHERE: Final = ("unauthenticated", "rate_limited", "unavailable", "timed_out", "internal_error")
_QUERY: Final = ("unknown_parameter",)
_BODY: Final = (
    "malformed",
    "too_large",
    "wrong_media_type",
    "invalid",
    "missing",
    "unknown_field",
    "wrong_type",
    "blank",
    "too_long",
    "not_allowed",
    "invalid_text",
)
_NO_BODY: Final = ("malformed", "too_large", "wrong_media_type", "unknown_field", "wrong_type", "invalid_text")
_LIST: Final = (
    "invalid",
    "repeated_parameter",
    "wrong_type",
    "out_of_range",
    "not_allowed",
    "invalid_text",
    "invalid_cursor",
)
Kind = Literal["nothing", "body", "no_body", "filters"]
_OF_KIND: Final[Mapping[Kind, tuple[str, ...]]] = {
    "nothing": (),
    "body": _BODY,
    "no_body": _NO_BODY,
    "filters": _LIST,
}
"""What an operation reads beside its path; `no_body`: a POST that refuses fields."""
IDEMPOTENCY: Final = ("idempotency_in_progress", "idempotency_key_reused", "invalid_idempotency_key")
NO_KEY: Final = ("idempotency_key_not_accepted",)
TIMES: Final = ("invalid_time", "naive_time")
URLS: Final = (
    "invalid_url",
    "scheme_not_allowed",
    "userinfo_not_allowed",
    "fragment_not_allowed",
    "host_not_allowed",
    "port_not_allowed",
)
RETURN_URLS: Final = ("invalid_url", "scheme_not_allowed", "userinfo_not_allowed", "fragment_not_allowed", "reserved")
HEADERS: Final = ("invalid_header_name", "invalid_header_value", "header_not_allowed")
GRANT: Final = (
    "user_revoked",
    "reauth_required",
    "consent_withdrawn",
    "admin_blocked",
    "account_gone",
    "mailbox_unavailable",
    "scope_missing",
    "wrong_account",
    "oauth_app_broken",
    "provider_contract",
    "provider_unavailable",
)
REMOTE_CALENDAR: Final = ("calendar_gone", "access_lost")


def problems(*codes: str, takes: Kind = "nothing", refers: bool = False) -> Responses:
    """The `responses` of an operation that can answer with these codes, beside those that its kind can.

    One whose body names other objects (`refers`) answers `not_found` with 422 for those: its own address is right.
    """
    given = [*_EVERYWHERE, *_QUERY, *_OF_KIND[takes], *codes]
    by_status: dict[int, list[str]] = defaultdict(list)
    if refers:
        by_status[422].append("not_found")
    for code in dict.fromkeys(given):
        by_status[CODES[code]].append(code)
    return {status: _response(status, by_status[status]) for status in sorted(by_status)}


def scope_problem(scope: Scope) -> Responses:
    """The 403 of an operation that needs this scope; every key has the least of them."""
    if scope == SCOPES[0]:
        return {}
    return {403: _response(403, ["insufficient_scope"])}


def only(responses: Responses, *statuses: int) -> Responses:
    """Some of them, for operations that take no key."""
    return {status: responses[status] for status in statuses}


def _response(status: int, codes: list[str]) -> dict[str, Any]:
    example = {
        "type": f"urn:punctual:problem:{codes[0]}",
        "title": "For people",
        "status": status,
        "detail": "For people; may change",
        "code": codes[0],
        "request_id": "req_01JD4Q8ZK3V6W8N2M5T7R9B1CX",
        "errors": [],
    }
    return {
        "description": "Problem: " + ", ".join(f"`{code}`" for code in codes),
        "content": {MEDIA_TYPE: {"schema": _PROBLEM, "example": example}},
    }


def example(value: object) -> dict[str, Any]:
    """A success's example, for `responses`."""
    return {"content": {"application/json": {"example": _marked(value)}}}


def body_examples(**examples: object) -> dict[str, Any]:
    """A request body's named examples, for `openapi_extra`."""
    named = {name: {"value": _marked(value)} for name, value in examples.items()}
    return {"requestBody": {"content": {"application/json": {"examples": named}}}}


def _marked(value: object) -> object:
    """FastAPI drops every null from its document, from examples too: they travel as a mark."""
    return _replaced(value, old=None, new=_NULL)


def with_nulls(document: dict[str, Any]) -> dict[str, Any]:
    """The finished document, its examples' nulls put back."""
    return {key: _replaced(value, old=_NULL, new=None) for key, value in document.items()}


def _replaced(value: object, *, old: object, new: object) -> object:
    if isinstance(value, dict):
        return {key: _replaced(part, old=old, new=new) for key, part in value.items()}
    if isinstance(value, list):
        return [_replaced(part, old=old, new=new) for part in value]
    return new if value == old else value
