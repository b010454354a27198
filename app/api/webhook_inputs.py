"""What may be said of a webhook endpoint, judged before anything is stored."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from app.api.inputs import POINTER_STEP, Cursor, Input, Limit, Metadata, Query, at_most, not_null
from app.api.problems import escape
from app.egress import header_problem
from app.errors import FieldProblem, refusal, refusals
from app.webhooks import payloads

Trigger = Literal[
    "calendar.events_update",
    "calendar.state_change",
    "calendar.health_change",
    "oauth_app.failing",
    "bot.state_change",
    "bot.launch",
]
"""What an endpoint may listen to: `payloads.SUBSCRIBABLE`, for the type checker."""
Scheme = Literal["v1", "v1a"]
"""`app.webhooks.secrets.Signature`, for the OpenAPI document."""

HEADERS_MOST = 10
WAITS_MOST = 20
WEEK_SECONDS = 604_800
DAY_SECONDS = 86_400
RATE_MOST = 1_000


def _unique(triggers: list[Trigger]) -> list[Trigger]:
    if len(set(triggers)) < len(triggers):
        raise PydanticCustomError("not_unique", "must name each trigger once")
    return triggers


Url = Annotated[str, Field(description="https; may not lead into a private network", max_length=2048)]
Triggers = Annotated[
    list[Trigger],
    Field(min_length=1),
    BeforeValidator(at_most(len(payloads.SUBSCRIBABLE))),
    AfterValidator(_unique),
]
RateLimit = Annotated[
    int | None, Field(ge=1, le=RATE_MOST, description="Attempts a second at most; null: as fast as it answers")
]
Waits = Annotated[
    list[Annotated[float, Field(ge=1, le=WEEK_SECONDS)]] | None,
    Field(max_length=WAITS_MOST),
    BeforeValidator(at_most(WAITS_MOST)),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "array",
                    "maxItems": WAITS_MOST,
                    "items": {"type": "number", "minimum": 1, "maximum": WEEK_SECONDS},
                },
                {"type": "null"},
            ],
            "description": "Seconds between the attempts, so one attempt more than waits; null: the service's schedule",
        }
    ),
]
Headers = Annotated[
    dict[str, str] | None,
    BeforeValidator(at_most(HEADERS_MOST)),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": HEADERS_MOST},
                {"type": "null"},
            ],
            "description": "Sent along with every message, such as `authorization`. The values are never shown again",
        }
    ),
]


class EndpointCreate(Input):
    """An endpoint to be made."""

    url: Url
    triggers: Triggers
    metadata: Metadata | None = None
    rate_limit: RateLimit = None
    ordered: Annotated[
        bool, Field(description="Each calendar's messages one after the other, in the order of its changes")
    ] = False
    signature: Annotated[
        Scheme, Field(description="`v1`: HMAC under a secret. `v1a`: Ed25519; verified with the public key alone")
    ] = "v1"
    retry_seconds: Waits = None
    headers: Headers = None


class EndpointUpdate(Input):
    """What may change; fields that are left out stay as they are."""

    url: Annotated[
        Url | None,
        BeforeValidator(not_null),
        WithJsonSchema(
            {
                "type": "string",
                "maxLength": 2048,
                "description": "Failures of the old one are forgotten",
            }
        ),
    ] = None
    triggers: Annotated[
        Triggers | None,
        BeforeValidator(not_null),
        WithJsonSchema(
            {
                "type": "array",
                "minItems": 1,
                "uniqueItems": True,
                "items": {"type": "string", "enum": list(payloads.SUBSCRIBABLE)},
            }
        ),
    ] = None
    metadata: Metadata | None = None
    rate_limit: RateLimit = None
    ordered: Annotated[bool | None, BeforeValidator(not_null), WithJsonSchema({"type": "boolean"})] = None
    retry_seconds: Waits = None
    headers: Annotated[Headers, Field(description="Takes the place of all that were set; null: none")] = None
    state: Annotated[
        Literal["enabled"] | None,
        BeforeValidator(not_null),
        WithJsonSchema({"type": "string", "enum": ["enabled"]}),
        Field(description="Enables a disabled or failing endpoint again, and ends its pauses"),
    ] = None


class EndpointPage(Query):
    """Page of the list."""

    limit: Limit = 25
    cursor: Cursor = None


class Rotation(Input):
    """How to change the secret over."""

    grace_seconds: Annotated[
        int, Field(ge=0, le=WEEK_SECONDS, description="How long the secret before signs too; 0: not at all")
    ] = DAY_SECONDS


def check_headers(headers: Mapping[str, str] | None) -> None:
    """Invalid (422) unless a customer may have all of these sent; values are never repeated."""
    problems = []
    for name, value in (headers or {}).items():
        problem = header_problem(name, value)
        if problem is not None:
            code, message = problem
            problems.append(FieldProblem(f"/headers/{escape(name)[:POINTER_STEP]}", code, message))
    if problems:
        raise refusals(problems)
    if len({name.lower() for name in headers or ()}) < len(headers or ()):
        raise refusal("/headers", "not_unique", message="must name each header once")
