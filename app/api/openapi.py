"""The OpenAPI 3.1 document: FastAPI's, with the security scheme, the problem schema and the outgoing messages."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from app.api import headers, links
from app.api.messages import MESSAGES
from app.api.operations import with_nulls
from app.api.problems import Problem

_DESCRIPTION: Final = """\
Punctual keeps calendars in sync and tells an application about every change.

- **Lists** come in pages: follow `next` until it is null. `limit` is 1 to 250.
- **Problems** are `application/problem+json`; `code` is the contract, docs/errors.md lists each with what to do.
- **Ids** are opaque. An id of another project reads like one that does not exist.
- **Times** come as RFC 3339 in UTC with six digits; any offset may be sent, none may be missing.
- **Scopes** of a key: `read`, `write`, `admin`, each with those before it. An operation's `security` names its own.
- **Limits**: so many reads and writes a minute; `RateLimit` and `RateLimit-Policy` on every answer say what is left.
- **Unknown** fields and parameters are refused.
- **`Idempotency-Key`** makes a POST safe to repeat for 24 hours.
- **Messages** to webhook endpoints are described under `webhooks`.
"""
_SCHEMES: Final[dict[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`Authorization: Bearer <key>`, or `Authorization: Token <key>`. Each operation names the scope"
        " that the key needs: `read`, `write` or `admin`; each holds those before it",
    }
}
_TAGS: Final = [
    {"name": "Calendars", "description": "Your users' calendars: connected, kept in sync, disconnected."},
    {"name": "Hosted connect", "description": "Links on which your users connect calendars by themselves."},
    {"name": "Calendar events", "description": "What is in them: lists that miss nothing, single events."},
    {"name": "Bots", "description": "Bots that follow events, or go where and when you say."},
    {"name": "Rules", "description": "Which events get a bot by themselves, and which bot."},
    {"name": "Launchers", "description": "The back ends that bring bots into meetings."},
    {"name": "OAuth apps", "description": "Your client ids at the providers, with their secrets."},
    {"name": "Webhooks", "description": "Endpoints that hear of changes, and the log of deliveries."},
    {"name": "Project", "description": "What the key belongs to, and what it prefers."},
    {"name": "Keys", "description": "The project's keys, and what was done with them."},
    {"name": "Providers", "description": "What providers call."},
    {"name": "Operations", "description": "What operators and load balancers call."},
    {"name": "Messages", "description": "What Punctual sends to webhook endpoints."},
]


_REF: Final = "#/components/schemas/{model}"


def install(app: FastAPI) -> None:
    """Have the application describe itself with this document."""
    app.openapi = lambda: _document(app)  # type: ignore[method-assign] # FastAPI's documented way to extend it


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        description=_DESCRIPTION,
        routes=app.routes,
        tags=_TAGS,
        servers=[{"url": "/", "description": "The installation that serves this document"}],
        contact={"name": "Whoever runs this installation"},
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    for operations in document["paths"].values():
        for operation in operations.values():
            _without_null(operation)
    document["webhooks"] = {message.trigger: message.operation() for message in MESSAGES}
    document["security"] = [{"bearer": []}]
    document["components"]["securitySchemes"] = _SCHEMES
    _, more = models_json_schema(
        [(Problem, "serialization"), *((message.model, "serialization") for message in MESSAGES)], ref_template=_REF
    )
    document["components"]["schemas"] |= more["$defs"]
    headers.install(document)
    links.install(document)
    app.openapi_schema = with_nulls(document)
    return app.openapi_schema


def _without_null(operation: dict[str, Any]) -> None:
    """What may be left out is not null: neither a query parameter nor a body."""
    places = [*operation.get("parameters", ()), *operation.get("requestBody", {}).get("content", {}).values()]
    for place in places:
        schema = place["schema"]
        given = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
        if len(given) == 1:
            rest = {key: value for key, value in schema.items() if key != "anyOf"}
            place["schema"] = given[0] | rest
        place["schema"].pop("title", None)
        place["schema"].pop("description", None)
