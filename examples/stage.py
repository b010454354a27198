"""What surrounds an application in these flows: where Punctual is, and somebody whose calendar is connected.

Nothing here goes into your application. The person's calendar is one of the sandbox's (sandbox/README.md), whose
control surface does what your users do in Google Calendar, in Outlook and on the provider's consent page.
"""

import argparse
import json
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from punctual import Missing, Problem

RUN_FILE = Path(__file__).resolve().parent.parent / ".punctual" / "run.json"
"""What `make run` writes."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a flow plays."""

    base_url: str
    key: str
    sandbox_url: str


class Person:
    """Somebody with an account and an empty calendar at a provider, who has agreed that you read it."""

    def __init__(self, sandbox_url: str, provider: str, domain: str) -> None:
        self._http = httpx.Client(base_url=f"{sandbox_url}/_sandbox", timeout=30, trust_env=False)
        self.email = f"ada-{secrets.token_hex(3)}@{domain}"
        made = self._call("POST", "/accounts", {"email": self.email, "provider": provider})
        self._calendar = quote(made["calendar_id"], safe="")
        self.client_id: str = made["client_id"]
        self.client_secret: str = made["client_secret"]
        self.refresh_token: str = made["refresh_token"]

    def plan(self, title: str, start: datetime, link: str, **more: Any) -> str:
        """Half an hour behind a link; the provider's id of the event."""
        draft = {"title": title, "location": link, **_half_an_hour(start), **more}
        return str(self._call("POST", f"/calendars/{self._calendar}/events", draft)["id"])

    def move(self, event: str, start: datetime, occurrence: datetime | None = None) -> None:
        """To another time; of a series the occurrence that begins then by rule."""
        self.change(event, occurrence, **_half_an_hour(start))

    def change(self, event: str, occurrence: datetime | None = None, **changes: Any) -> None:
        """Anything else about it."""
        self._call("PATCH", self._path(event, occurrence), changes)

    def cancel(self, event: str) -> None:
        """Delete it."""
        self._call("DELETE", self._path(event, None))

    def take_back_consent(self) -> None:
        """In the account's settings: no application reads this calendar any more."""
        self._call("POST", f"/accounts/{quote(self.email)}/revoke", {})

    def consent_again(self) -> str:
        """What your OAuth callback has in the end: a new refresh token."""
        return str(self._call("POST", f"/accounts/{quote(self.email)}/grants", {})["refresh_token"])

    def _path(self, event: str, occurrence: datetime | None) -> str:
        path = f"/calendars/{self._calendar}/events/{quote(event, safe='')}"
        return path if occurrence is None else f"{path}/instances/{quote(occurrence.isoformat(), safe='')}"

    def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        answer = self._http.request(method, path, json=body)
        answer.raise_for_status()
        return dict(answer.json())


def in_days(days: int, hour: int = 9) -> datetime:
    """A full hour so many days ahead."""
    day = datetime.now(UTC) + timedelta(days=days)
    return day.replace(hour=hour, minute=0, second=0, microsecond=0)


def instant(time: datetime) -> str:
    """As the API writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def say(text: str) -> None:
    """To whoever watches."""
    print(text, flush=True)


def check(what: str, *, seen: object, expected: object) -> None:
    """Raise Missing unless it is as expected."""
    if seen != expected:
        raise Missing(f"{what}: {seen!r} instead of {expected!r}")


def play(flow: Callable[[Place], None], title: str) -> None:
    """Run a flow; the exit status tells whether all came as expected."""
    place = _place(title)
    try:
        flow(place)
    except (Missing, Problem, httpx.HTTPError) as exc:
        sys.exit(f"failed: {type(exc).__name__}: {exc}")
    say("done")


def _place(title: str) -> Place:
    parser = argparse.ArgumentParser(description=title, epilog="What is left out is read from what `make run` wrote.")
    parser.add_argument("--base-url", help="Punctual's address, without /api/v1")
    parser.add_argument("--key", help="a key of your project")
    parser.add_argument("--sandbox-url", help="the sandbox that Punctual has for a provider")
    given = parser.parse_args()
    written = json.loads(RUN_FILE.read_text()) if RUN_FILE.exists() else {}
    base_url = given.base_url or written.get("api_url")
    key = given.key or written.get("api_key")
    sandbox_url = given.sandbox_url or written.get("sandbox_url")
    if not (base_url and key and sandbox_url):
        parser.error("name --base-url, --key and --sandbox-url, or start `make run` in another terminal")
    return Place(base_url, key, sandbox_url)


def _half_an_hour(start: datetime) -> Json:
    return {"start": start.isoformat(), "end": (start + timedelta(minutes=30)).isoformat()}
