"""What goes wrong at the providers, as data: each recipe is some faults of the sandbox, and what they may lead to."""

from dataclasses import dataclass
from typing import Any

from app.providers.base import Platform

CHANGES = {"google": "events.list", "microsoft": "graph.delta"}
LISTING = {"google": "events.list", "microsoft": "graph.calendarView"}
TOKEN = {"google": "token", "microsoft": "graph.token"}
WATCH = {"google": "events.watch", "microsoft": "graph.subscriptions.create"}


@dataclass(frozen=True, slots=True)
class Trouble:
    """One recipe. `faults` are kinds with their operation (a key of the tables above) and parameters."""

    name: str
    faults: tuple[tuple[str, dict[str, str], dict[str, Any]], ...]
    only: Platform | None = None
    is_lie: bool = False
    """Whether a delta keeps something back without a word: the next full listing sees it."""
    is_deferral: bool = False
    """Whether the provider asks to be left alone, which workers remember by the real clock."""
    may_disconnect: bool = False
    """Whether it is the provider's word that access is over, where it is said twice."""


def _one(name: str, kind: str, where: dict[str, str] = CHANGES, **params: Any) -> Trouble:
    return Trouble(name, ((kind, where, params),))


TROUBLES = (
    _one("the cursor has expired", "cursor_expired", page=1),
    Trouble("expired at the second page", (("empty_page", CHANGES, {}), ("cursor_expired", CHANGES, {"page": 2}))),
    Trouble("the page token is refused", (("empty_page", CHANGES, {}), ("bad_page_token", CHANGES, {}))),
    _one("an empty page", "empty_page"),
    _one("an empty page in the listing", "empty_page", LISTING),
    Trouble("the quota answer", (("rate_limited", CHANGES, {"retry_after": 90}),), is_deferral=True),
    Trouble("too many requests", (("too_many_requests", LISTING, {"retry_after": 240}),), is_deferral=True),
    Trouble("too many token requests", (("too_many_requests", TOKEN, {"retry_after": 30}),), is_deferral=True),
    _one("unavailable", "unavailable"),
    _one("unavailable in the listing", "unavailable", LISTING),
    _one("html", "html"),
    _one("html for a token", "html", TOKEN),
    _one("no answer", "drop"),
    _one("no answer in the listing", "drop", LISTING),
    _one("a lost answer", "lost_answer"),
    _one("a lost token", "lost_answer", TOKEN),
    _one("a lost channel", "lost_answer", WATCH),
    _one("no channel", "unavailable", WATCH),
    _one("garbage", "garbage"),
    _one("a token refused", "unauthorized"),
    Trouble("forbidden", (("forbidden", CHANGES, {}),), may_disconnect=True),
    Trouble("not found", (("not_found", CHANGES, {}),), may_disconnect=True),
    _one("an edit between pages", "edit_between_pages"),
    _one("an edit while the window is listed", "edit_between_pages", LISTING),
    Trouble("a deleted series half told", (("partial_cancellation", CHANGES, {"count": 2}),), "google", is_lie=True),
    Trouble("a series deleted by its bare id", (("bare_tombstone", CHANGES, {}),), "google"),
    Trouble("endless pages", (("endless_pages", CHANGES, {}),), "microsoft"),
    Trouble("ids that come twice", (("duplicate_ids", CHANGES, {}),), "microsoft"),
    Trouble("changes that come again", (("replayed_changes", CHANGES, {}),), "microsoft"),
    Trouble("removals of what nobody knows", (("unknown_removals", CHANGES, {}),), "microsoft"),
    Trouble("a series without its master", (("missing_master", CHANGES, {}),), "microsoft"),
    Trouble("a silent cancellation", (("silent_cancellation", CHANGES, {}),), "microsoft", is_lie=True),
    Trouble("replication lag", (("replication_lag", CHANGES, {"seconds": 30}),), "microsoft", is_lie=True),
    Trouble("pages too large", (("gateway_timeout", CHANGES, {"above": 10}),), "microsoft"),
    Trouble("no new refresh token", (("no_refresh_token", TOKEN, {}),), "microsoft"),
    Trouble("a subscription that exists", (("duplicate_subscription", WATCH, {}),), "microsoft"),
    Trouble("our address out of reach", (("endpoint_unreachable", WATCH, {}),), "microsoft"),
)


def of(platform: Platform, number: int) -> Trouble:
    """One that this provider can have."""
    possible = [one for one in TROUBLES if one.only in {None, platform}]
    return possible[number % len(possible)]
