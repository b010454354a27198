"""The cases as data: `cases/` holds one table per question; the tests ask the code."""

import tomllib
from pathlib import Path
from typing import Any

_CASES = Path(__file__).parent / "cases"


def lines(name: str, columns: int) -> list[tuple[str, ...]]:
    """The rows of a text table: columns by white space, the last one to the end of the line."""
    text = (_CASES / name).read_text(encoding="utf-8")
    rows = [tuple(line.split(None, columns - 1)) for line in text.splitlines() if line and not line.startswith("#")]
    assert all(len(row) == columns for row in rows), name
    return rows


def pairs(name: str) -> list[tuple[str, str, str]]:
    """(id, expected, given) of a table whose cases take two lines."""
    text = (_CASES / name).read_text(encoding="utf-8")
    given = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return [(first, expected, second) for (first, expected), (second,) in zip(given[::2], given[1::2], strict=True)]


def toml(name: str) -> list[dict[str, Any]]:
    """The cases of a TOML file."""
    cases: list[dict[str, Any]] = tomllib.loads((_CASES / name).read_text(encoding="utf-8"))["case"]
    return cases
