"""Every regular expression of `app/meetings/`, on what would make it go back and forth: none takes too long."""

import re
import time
from collections.abc import Callable
from types import ModuleType
from urllib.parse import urlsplit

import pytest

from app.meetings import candidates, hosts, links, passcodes, platforms, preferences, table, unwrap, verdicts
from tests.unit.meetings.tables import lines

MODULES: tuple[ModuleType, ...] = (
    candidates,
    hosts,
    links,
    passcodes,
    platforms,
    preferences,
    table,
    unwrap,
    verdicts,
)
LENGTH = 4_096


def _patterns() -> dict[str, re.Pattern[str]]:
    named: dict[str, re.Pattern[str]] = {}
    for module in MODULES:
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                named[f"{module.__name__.rpartition('.')[2]}.{name}"] = value
    for index, row in enumerate((*table.PLATFORMS, *table.SELF_HOSTED)):
        for part, pattern in (("path", row.path), ("never", row.never)):
            if pattern is not None:
                named[f"{row.name}.{index}.{part}"] = pattern
    for wrapper in unwrap.WRAPPERS:
        if wrapper.path is not None:
            named[f"{wrapper.hosts}.path"] = wrapper.path
    return named


PATTERNS = _patterns()
_PATHS = sorted({urlsplit(url).path for _, platform, url in lines("urls.txt", 3) if platform != "-"})
"""Paths of every product: what a pattern matches before it meets what it does not."""
UNITS = (
    *(
        "a",
        "1",
        "-",
        ".",
        "/",
        "a/",
        "/a",
        "a.",
        "a-",
        "a1",
        "%25",
        " ",
        "\n",
        "<",
        "<a",
        "{",
        '{"',
        ",",
        "_",
        "*",
        ":",
    ),
    *("://a", "a.us/", "&#1", "Passcode", "Passcode:", "%7d", "msteams:", "zoommtg://", "/v3/__", "https:/"),
)


def _seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def _best(pattern: re.Pattern[str], unit: str, length: int) -> float:
    starts = ["", "/", "/a", *[path for path in _PATHS if pattern.match(path)][:5]]
    texts = [start + unit * (length // len(unit)) + "\x01" for start in starts]
    return min(_seconds(lambda: [(pattern.fullmatch(text), pattern.search(text)) for text in texts]) for _ in range(3))


@pytest.fixture(scope="module")
def benign() -> float:
    """As long as a plain pattern takes for two hundred such texts."""
    plain, text = re.compile("b"), "a" * LENGTH
    return min(_seconds(lambda: [plain.search(text) for _ in range(200)]) for _ in range(3))


def test_there_are_patterns_to_test() -> None:
    assert len(PATTERNS) > 150


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_goes_back_and_forth(name: str, benign: float) -> None:
    pattern = PATTERNS[name]
    for unit in UNITS:
        assert any(_is_linear(pattern, unit, benign) for _ in range(6)), f"{pattern.pattern!r} on {unit!r}"


def _is_linear(pattern: re.Pattern[str], unit: str, benign: float) -> bool:
    """On eight times the text eight times as long, or so; a pattern that goes back and forth takes 64 times as long."""
    eighth, whole = _best(pattern, unit, LENGTH // 8), _best(pattern, unit, LENGTH)
    return whole < 20 * eighth + benign
