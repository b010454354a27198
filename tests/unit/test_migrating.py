"""docs/migrating.md promises names: each that it gives for ours is in the OpenAPI document, and Attendee's are kept."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from demo.processes import ROOT

DOCUMENT: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text())
PAGE = (ROOT / "docs" / "migrating.md").read_text()
PRODUCTS = ("Attendee", "Recall", "Meeting BaaS")
SCHEMAS = {"calendar": "Calendar", "event": "CalendarEvent", "messages": "EventsUpdate"}
TABLES = [
    *((f"{product}: {what}", schema) for product in PRODUCTS for what, schema in SCHEMAS.items()),
    ("Attendee: bot", "Bot"),  # those of the others are in docs/bots.md
]


def rows(heading: str) -> list[tuple[str, str]]:
    """The first two cells of each row of the table below a heading."""
    section = PAGE.partition(f"\n### {heading}\n")[2].partition("\n#")[0]
    table = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return [(cells[0].strip(), cells[1].strip()) for cells in table[2:]]


def names(cell: str) -> list[str]:
    """What is set as code."""
    return re.findall(r"`([^`]+)`", cell)


def promised(heading: str) -> Iterator[str]:
    """Every name of ours that the table gives."""
    for there, here in rows(heading):
        yield from names(there if here == "the same" else here)


def is_known(schema: Any, path: list[str]) -> bool:
    """Whether a schema has a field, and so on along the path."""
    if not path:
        return True
    if "$ref" in schema:
        return is_known(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]], path)
    if path[0] in schema.get("properties", {}):
        return is_known(schema["properties"][path[0]], path[1:])
    return any(is_known(part, path) for part in schema.get("anyOf", []))


def operations(cell: str) -> Iterator[tuple[str, str]]:
    """Method and path of each call: `POST`, `GET /calendars` are two of one path."""
    methods: list[str] = []
    for name in names(cell):
        method, _, path = name.partition(" ")
        if method in {"GET", "POST", "PATCH", "DELETE"}:
            methods.append(method.lower())
        if path.startswith("/"):
            yield from ((one, path) for one in methods)
            methods = []


@pytest.mark.parametrize(("heading", "schema"), TABLES)
def test_each_field_exists(heading: str, schema: str) -> None:
    fields = list(promised(heading))
    assert fields
    shape = DOCUMENT["components"]["schemas"][schema]
    assert [field for field in fields if not is_known(shape, field.split("."))] == []


@pytest.mark.parametrize("product", PRODUCTS)
def test_each_filter_exists(product: str) -> None:
    filters = list(promised(f"{product}: filters of events"))
    assert filters
    parameters = DOCUMENT["paths"]["/api/v1/calendar_events"]["get"]["parameters"]
    assert set(filters) <= {one["name"] for one in parameters}


@pytest.mark.parametrize("product", PRODUCTS)
def test_each_call_exists(product: str) -> None:
    cells = [there if here.startswith("the same") else here for there, here in rows(f"{product}: calls")]
    calls = [call for cell in cells for call in operations(cell)]
    assert calls
    paths = {re.sub(r"\{\w+\}", "{id}", path): methods for path, methods in DOCUMENT["paths"].items()}
    assert [call for call in calls if call[0] not in paths.get(f"/api/v1{call[1]}", {})] == []
