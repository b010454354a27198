"""OpenAPI links: where the ids of an answer go next. Derived from names, so a new operation gets its own.

Ids are known from the request's address, from the answer's own `id` (a list's: that of its first), and from fields
that are named like the last part of an address. They lead to every operation whose address they fill, and to every
list that filters by one of them. Clients read the links, and `make fuzz` walks along them.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

Json = dict[str, Any]

_SUCCESSES: Final = ("200", "201", "202")
_MADE: Final = {"replay_id": "202"}
"""Fields that may be null, and the status with which they never are."""
_PARAMETERS: Final = re.compile(r"\{(\w+)\}")
_ITEM: Final = re.compile(r"(.*)/\{(\w+)\}")


def install(document: Json) -> None:
    """Give every success that tells an id its links."""
    items = {found[1]: found[2] for path in document["paths"] if (found := _ITEM.fullmatch(path))}
    targets = list(_targets(document))
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status in _SUCCESSES:
                answer = operation["responses"].get(status, {})
                known = dict(_known(document, path, items, status, answer))
                links = dict(_links(targets, known, but=operation["operationId"]))
                if links:
                    answer["links"] = links


def _targets(document: Json) -> Iterator[tuple[str, set[str], set[str]]]:
    """Every operation's id, the names in its address, and those that it filters by."""
    for path, operations in document["paths"].items():
        for operation in operations.values():
            filters = {given["name"] for given in operation.get("parameters", ()) if given["in"] == "query"}
            yield operation["operationId"], set(_PARAMETERS.findall(path)), filters


def _known(document: Json, path: str, items: Mapping[str, str], status: str, answer: Json) -> Iterator[tuple[str, str]]:
    """Names of ids and the runtime expressions that find them."""
    fields = _fields(document, answer.get("content", {}).get("application/json", {}).get("schema", {}))
    for name, schema in fields.items():
        if name in items.values() and (schema.get("type") == "string" or _MADE.get(name) == status):
            yield name, f"$response.body#/{name}"
    if path in items:
        results = fields.get("results", {}).get("items", {})
        if "id" in fields:
            yield items[path], "$response.body#/id"
        elif "id" in _fields(document, results):
            yield items[path], "$response.body#/results/0/id"
    for name in _PARAMETERS.findall(path):
        yield name, f"$request.path.{name}"


def _links(
    targets: list[tuple[str, set[str], set[str]]], known: Mapping[str, str], *, but: str
) -> Iterator[tuple[str, Json]]:
    for operation_id, needed, filters in targets:
        names = needed if needed and needed <= set(known) else set() if needed else filters & set(known)
        if names and operation_id != but:
            given = {name: known[name] for name in sorted(names)}
            yield operation_id, {"operationId": operation_id, "parameters": given}


def _fields(document: Json, schema: Json) -> Json:
    named = schema.get("$ref", "").rpartition("/")[2]
    found: Json = (document["components"]["schemas"][named] if named else schema).get("properties", {})
    return found
