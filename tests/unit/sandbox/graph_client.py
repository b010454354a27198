"""An application that talks to the sandbox's Graph, as the tests use it."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx

from sandbox import Sandbox
from sandbox.model import EventDraft

Json = dict[str, Any]
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
WINDOW = (NOON - timedelta(days=1), NOON + timedelta(days=30))
IMMUTABLE = 'IdType="ImmutableId"'
LOGIN = "/common/oauth2/v2.0/token"


class GraphClient:
    """One account's application, with a fresh token."""

    def __init__(self, box: Sandbox, http: httpx.AsyncClient, *, email: str = "person@contoso.example") -> None:
        self.box = box
        self.world = box.world
        self.http = http
        self.account = box.world.add_account(email, provider="microsoft", time_zone="Europe/Berlin")
        self.id = self.account.calendar_id
        self.calendar = f"/v1.0/me/calendars/{self.id}"
        self.view = f"{self.calendar}/calendarView"
        self.sign_in()

    def sign_in(self) -> None:
        """Use a new access token from now on."""
        grant = self.world.grants[self.account.refresh_token]
        self.http.headers["Authorization"] = f"Bearer {self.world.issue_access_token(grant).token}"

    async def get(self, path: str, *prefer: str, expect: int = 200, **params: Any) -> Json:
        """One request; asserts the status."""
        headers = [("Prefer", one) for one in prefer]
        query = {name.replace("_", "$", 1) if name.startswith("_") else name: value for name, value in params.items()}
        answer = await self.http.get(path, params=query or None, headers=headers)
        assert answer.status_code == expect, answer.text
        return dict(answer.json())

    async def listed(self, path: str | None = None, *prefer: str, **params: Any) -> list[Json]:
        """Every page of a list; of the window's view by default."""
        page = await self.get(path or self.view, *prefer, **(bounds(*WINDOW) | params))
        found = list(page["value"])
        while "@odata.nextLink" in page:
            page = await self.get(page["@odata.nextLink"], *prefer)
            found += page["value"]
        return found

    async def round(self, link: str | None = None, *prefer: str, size: int = 50) -> tuple[list[Json], str]:
        """A delta to its end, from the window or a link; with its deltaLink."""
        wanted = (IMMUTABLE, f"odata.maxpagesize={size}", *prefer)
        if link is None:
            page = await self.get(f"{self.view}/delta", *wanted, **bounds(*WINDOW))
        else:
            page = await self.get(link, *wanted)
        found = list(page["value"])
        while "@odata.nextLink" in page:
            assert "@odata.deltaLink" not in page
            page = await self.get(page["@odata.nextLink"], *wanted)
            found += page["value"]
        return found, page["@odata.deltaLink"]

    def add(self, title: str = "Planning", *, start: Any = NOON, hours: float = 1, **draft: Any) -> str:
        """An event; its immutable id."""
        end = start + (timedelta(hours=hours) if isinstance(start, datetime) else timedelta(days=1))
        values = {"title": title, "start": start, "end": end, **draft}
        return self.world.create_event(self.id, EventDraft(**values)).id

    def weekly(self, count: int = 4, **draft: Any) -> str:
        """A series."""
        return self.add("Weekly", recurrence=(f"RRULE:FREQ=WEEKLY;COUNT={count}",), **draft)

    async def refresh(self, *, tenant: str = "common", **form: str) -> httpx.Response:
        """Ask for new tokens."""
        values = {
            "grant_type": "refresh_token",
            "client_id": self.account.client_id,
            "client_secret": self.account.client_secret,
            "refresh_token": self.account.refresh_token,
            **form,
        }
        return await self.http.post(f"/{tenant}/oauth2/v2.0/token", data=values)


def bounds(start: datetime | date, end: datetime | date) -> Json:
    """A window's parameters."""
    return {"startDateTime": start.isoformat(), "endDateTime": end.isoformat()}


def removed(entries: list[Json]) -> set[str]:
    """The ids that a delta calls removed."""
    return {entry["id"] for entry in entries if "@removed" in entry}
