"""What a request asks for beside its URL: the `Prefer` header, and the system query options.

Preferences are never remembered from one request to the next, neither in a nextLink nor in a deltaLink.
"""

import re
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

from starlette.requests import Request

from sandbox.microsoft.errors import Refused
from sandbox.microsoft.zones import zone_named

UTC = ZoneInfo("UTC")
DEFAULT_PAGE = 10
LARGEST_PAGE = 1000
_PREFERENCE = re.compile(r'^\s*([A-Za-z.-]+)\s*=\s*"?([^"]*?)"?\s*$')


@dataclass(frozen=True, slots=True)
class Preferences:
    """What was asked for. `zone_name` is the zone's name as the client wrote it; `applied` is for the answer."""

    page_size: int | None = None
    zone: ZoneInfo = UTC
    zone_name: str = "UTC"
    body: Literal["html", "text"] = "html"
    immutable: bool = False
    applied: tuple[str, ...] = ()


def preferences(request: Request) -> Preferences:
    """Read the `Prefer` headers, one or many; unknown ones are ignored. Refused for a zone that nobody knows."""
    given: dict[str, str] = {}
    for header in request.headers.getlist("prefer"):
        for part in header.split(","):
            match = _PREFERENCE.match(part)
            if match is not None:
                given[match[1].lower()] = match[2]
    applied: list[str] = []
    page_size, zone, body = None, UTC, given.get("outlook.body-content-type", "html").lower()
    if given.get("odata.maxpagesize", "").isdigit():
        page_size = max(1, min(LARGEST_PAGE, int(given["odata.maxpagesize"])))
        applied.append(f"odata.maxpagesize={page_size}")
    zone_name = given.get("outlook.timezone", "UTC")
    if "outlook.timezone" in given:
        found = zone_named(zone_name)
        if found is None:
            message = "A valid TimeZone value must be specified. The following TimeZone value is not supported: "
            raise Refused(400, "TimeZoneNotSupportedException", f"{message}'{zone_name}'.")
        zone = found
        applied.append(f'outlook.timezone="{zone_name}"')
    if body in {"html", "text"} and "outlook.body-content-type" in given:
        applied.append(f'outlook.body-content-type="{body}"')
    is_immutable = given.get("idtype", "").lower() == "immutableid"
    if is_immutable:
        applied.append('IdType="ImmutableId"')
    return Preferences(page_size, zone, zone_name, "text" if body == "text" else "html", is_immutable, tuple(applied))


def count_option(request: Request, name: str, default: int, largest: int | None = None) -> int:
    """`$top` or `$skip`; Refused for what is no such number."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isdigit() or (largest is not None and not 1 <= int(text) <= largest):
        span = f" The value must be between 1 and {largest}." if largest is not None else ""
        raise Refused(400, "BadRequest", f"Invalid value '{text}' for {name} query option found.{span}")
    return int(text)


def selected(request: Request, known: frozenset[str]) -> tuple[str, ...] | None:
    """The names in `$select`, or None for everything; Refused for a property that does not exist."""
    text = request.query_params.get("$select")
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in known:
            message = f"Could not find a property named '{name}' on type 'microsoft.graph.event'."
            raise Refused(400, "RequestBroker--ParseUri", message)
    return names


def refuse_options(request: Request, names: tuple[str, ...]) -> None:
    """Options that are not played here; Refused when one is used."""
    for name in names:
        if name in request.query_params:
            raise Refused(400, "ErrorInvalidUrlQuery", f"The query option '{name}' is not supported here.")
