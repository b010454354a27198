"""The user's side: edits in the sandbox's calendars through `/_sandbox/…`, and what those calendars really show.

`edited_at` is the time just before the newest edit was sent, so delays counted from it are never flattered.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Account:
    """A person at the provider, their primary calendar, and the grant that an application got for it."""

    provider: str
    email: str
    calendar_id: str
    zone: ZoneInfo
    credentials: dict[str, str]
    """What an application sends to connect it, the platform among it."""


class Provider:
    """The sandbox's control surface."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url
        self.edited_at = 0.0

    async def seed(self, *, count: int) -> list[Account]:
        """One account at each provider, whose calendars have about `count` entries each."""
        made = await self._call("POST", "/_sandbox/seed", {"count": count, "providers": ["google", "microsoft"]})
        firsts = {one["provider"]: one for one in reversed(made["accounts"])}
        return [await self._account(firsts[provider]) for provider in ("google", "microsoft")]

    async def _account(self, made: Json) -> Account:
        now = datetime.now(UTC)
        shown = await self.instances(made["calendar_id"], now, now + timedelta(days=28))
        return _granted(made, ZoneInfo(shown[0]["time_zone"]))

    async def person(self, provider: str, email: str, zone: ZoneInfo) -> Account:
        """One more account, with an empty calendar."""
        draft = {"provider": provider, "email": email, "time_zone": zone.key}
        return _granted(await self._call("POST", "/_sandbox/accounts", draft), zone)

    async def revoke(self, account: Account) -> None:
        """Take back what the account has granted."""
        await self._edit("POST", f"/_sandbox/accounts/{path_part(account.email)}/revoke")

    async def attendance(self) -> list[Json]:
        """Which bots the back ends were given for which meeting, and which of them came."""
        return list((await self._call("GET", "/_sandbox/backends/meetings"))["meetings"])

    async def create(self, calendar_id: str, **draft: object) -> str:
        """A new event or series; its id."""
        return str((await self._edit("POST", events_path(calendar_id), draft))["id"])

    async def update(self, calendar_id: str, event_id: str, **changes: object) -> None:
        """Change an event, or all of a series."""
        await self._edit("PATCH", events_path(calendar_id, event_id), changes)

    async def delete(self, calendar_id: str, event_id: str) -> None:
        """Delete an event or a whole series."""
        await self._edit("DELETE", events_path(calendar_id, event_id))

    async def update_occurrence(self, calendar_id: str, series_id: str, original: str, **changes: object) -> None:
        """Change one occurrence alone; `original` is its start by rule."""
        await self._edit("PATCH", f"{events_path(calendar_id, series_id)}/instances/{path_part(original)}", changes)

    async def cancel_occurrence(self, calendar_id: str, series_id: str, original: str) -> None:
        """Delete one occurrence alone."""
        await self._edit("DELETE", f"{events_path(calendar_id, series_id)}/instances/{path_part(original)}")

    async def pushes(self, mode: str) -> None:
        """`drop`: from now on no notification is sent; `deliver`: they are again."""
        await self._call("PUT", "/_sandbox/push", {"mode": mode})

    async def instances(self, calendar_id: str, start: datetime, end: datetime) -> list[Json]:
        """What the calendar shows in a span, exclusive on both sides: the truth."""
        query = httpx.QueryParams({"from": start.isoformat(), "to": end.isoformat()})
        shown = await self._call("GET", f"/_sandbox/calendars/{path_part(calendar_id)}/instances?{query}")
        return list(shown["instances"])

    async def _edit(self, method: str, path: str, body: Json | None = None) -> Json:
        self.edited_at = time.time()
        return await self._call(method, path, body)

    async def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        answer = await self._client.request(method, self._url + path, json=body)
        answer.raise_for_status()
        return dict(answer.json())


def _granted(made: Json, zone: ZoneInfo) -> Account:
    names = ("client_id", "client_secret", "refresh_token")
    credentials = {"platform": made["provider"], **{name: made[name] for name in names}}
    return Account(made["provider"], made["email"], made["calendar_id"], zone, credentials)


def events_path(calendar_id: str, event_id: str | None = None) -> str:
    """Where a calendar's events are on the control surface, or one of them."""
    path = f"/_sandbox/calendars/{path_part(calendar_id)}/events"
    return path if event_id is None else f"{path}/{path_part(event_id)}"


def path_part(text: str) -> str:
    """An id as one part of a path."""
    return quote(text, safe="")
