"""docs/convergence.md is complete and true: every hazard once, every test that it names, every hazard's test named."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent.parent
TABLE = TESTS.parent / "docs" / "convergence.md"
HAZARDS = range(1, 86)

_ROW = re.compile(r"^\|\s*(\d+)\s*\|(.*)\|\s*$")
_DASHES = {"-", "\u2013", "\u2014"}
_CELL_END = re.compile(r"(?<!\\)\|")
_NAME = re.compile(r"`([^`]+)`")
_HAZARD = re.compile(r"test_hazard_(\d\d)_\w+")


class Row(NamedTuple):
    """One row of the table."""

    number: int
    hazard: str
    tests: str
    decision: str

    @property
    def names(self) -> set[str]:
        """The tests that stand in it."""
        return set(_NAME.findall(self.tests))


def rows() -> list[Row]:
    """The table, in its order."""
    matches = (_ROW.match(line) for line in TABLE.read_text().splitlines())
    return [Row(int(m[1]), *(cell.strip() for cell in _CELL_END.split(m[2]))) for m in matches if m]


def functions_in(folder: Path) -> set[str]:
    """Names of the test functions in a folder's files, also of those in classes."""
    return {
        node.name
        for path in folder.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_hazard_has_one_row_in_order() -> None:
    assert [row.number for row in rows()] == list(HAZARDS)


def test_every_row_says_what_the_hazard_is_and_what_is_decided() -> None:
    assert [row.number for row in rows() if not row.hazard or len(row.decision) < 10] == []


def test_every_row_names_tests_or_has_a_dash() -> None:
    assert [row.number for row in rows() if not row.names and row.tests not in _DASHES] == []


def test_every_test_that_is_named_exists() -> None:
    assert {name for row in rows() for name in row.names} - functions_in(TESTS) == set()


def test_every_test_of_a_hazard_stands_in_its_row() -> None:
    named = {(row.number, name) for row in rows() for name in row.names}
    tests = [name for name in functions_in(TESTS / "hazards") if name.startswith("test_hazard_")]
    numbers = {name: match and int(match[1]) for name in tests for match in [_HAZARD.fullmatch(name)]}
    assert {name for name, number in numbers.items() if (number, name) not in named} == set()
