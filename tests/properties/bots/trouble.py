"""What goes wrong at back ends, as data: faults of their stand-ins, none of which refuses a bot for good."""

from dataclasses import dataclass
from typing import Any

from sandbox.backends.book import Backend


@dataclass(frozen=True, slots=True)
class Trouble:
    """One recipe: a fault's kind, the operation that it is for, and its parameters."""

    kind: str
    operation: str
    params: dict[str, Any]
    only: Backend | None = None


def _one(kind: str, operation: str = "create", only: Backend | None = None, **params: Any) -> Trouble:
    return Trouble(kind, operation, params, only)


TROUBLES = (
    _one("lost_answer"),
    _one("lost_answer"),
    _one("lost_answer", "update"),
    _one("lost_answer", "delete"),
    _one("lost_answer", "leave"),
    _one("failed_answer"),
    _one("failed_answer", "update"),
    _one("garbled_answer"),
    _one("odd_answer"),
    _one("unavailable"),
    _one("unavailable", "list"),
    _one("unavailable", "update"),
    _one("unavailable", "delete"),
    _one("too_many_requests", retry_after="45"),
    _one("too_many_requests", "update", retry_after="20"),
    _one("too_many_requests", "delete"),
    _one("drop"),
    _one("garbage"),
    _one("garbage", "list"),
    _one("html"),
    _one("no_machine"),
    _one("no_credits"),
    _one("limit_reached"),
    _one("unfiltered_list", "list"),
    _one("short_pages", "list", size=1),
    _one("conflict", only="recall"),
    _one("conflict", "update", only="recall"),
)


def of(kind: Backend, number: int) -> Trouble:
    """One that this back end can have."""
    possible = [one for one in TROUBLES if one.only in {None, kind}]
    return possible[number % len(possible)]
