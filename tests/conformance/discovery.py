"""Google's discovery document as a judge: does an answer have the shape that it gives?

The document is the one that google-api-python-client ships. Unknown properties are failures: a sandbox that invents
fields would let the product rely on them.
"""

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

from googleapiclient import discovery_cache

DOCUMENT: dict[str, Any] = json.loads(
    (Path(discovery_cache.__file__).parent / "documents" / "calendar.v3.json").read_text()
)


def flaws(value: object, schema: str) -> list[str]:
    """Everything in which a value differs from a named schema, by path; nothing is good."""
    return list(_flaws(value, {"$ref": schema}, schema))


def _flaws(value: object, schema: dict[str, Any], at: str) -> list[str]:
    if "$ref" in schema:
        return _flaws(value, DOCUMENT["schemas"][schema["$ref"]], at)
    kind = schema.get("type", "any")
    if kind == "object":
        return _object(value, schema, at)
    if kind == "array":
        if not isinstance(value, list):
            return [f"{at}: no array"]
        return [flaw for n, entry in enumerate(value) for flaw in _flaws(entry, schema["items"], f"{at}[{n}]")]
    return _scalar(value, schema, kind, at)


def _object(value: object, schema: dict[str, Any], at: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at}: no object"]
    found: list[str] = []
    properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
    for name, entry in value.items():
        known = properties.get(name, rest)
        if known is None:
            found.append(f"{at}.{name}: unknown property")
        else:
            found += _flaws(entry, known, f"{at}.{name}")
    return found


def _scalar(value: object, schema: dict[str, Any], kind: str, at: str) -> list[str]:
    types = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "any": object}
    if not isinstance(value, types[kind]) or (kind == "integer" and isinstance(value, bool)):  # type: ignore[arg-type]
        return [f"{at}: {value!r} is no {kind}"]
    if not _has_format(value, schema.get("format")):
        return [f"{at}: {value!r} is no {schema['format']}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at}: {value!r} is none of {schema['enum']}"]
    return []


def _has_format(value: object, name: str | None) -> bool:
    try:
        if name == "date":
            date.fromisoformat(str(value))
        elif name == "date-time":
            return datetime.fromisoformat(str(value)).tzinfo is not None
        elif name == "int64":
            int(str(value))
    except ValueError:
        return False
    return True
