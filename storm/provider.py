"""The users' side of the storm: two hundred calendars at both providers, and every edit that the sandbox knows."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from demo.provider import Json, Provider, events_path, path_part

ACCOUNTS = 50
"""Per provider; each has two calendars, since one mailbox has its own limits and its own moves."""
_ZONES = ("Europe/Berlin", "America/New_York")
_CREDENTIALS = ("client_id", "client_secret", "refresh_token")


@dataclass(frozen=True, slots=True)
class RemoteCalendar:
    """A calendar at the provider, and what an application sends to connect it."""

    id: str
    email: str
    provider: str
    zone: ZoneInfo
    credentials: dict[str, str]


class Users(Provider):
    """The sandbox's control surface, with what the storm needs beyond the demo."""

    async def add_account(self, provider: str, number: int) -> list[RemoteCalendar]:
        """A person with two calendars. At Microsoft every fifth one is no organisation's."""
        zone = _ZONES[number % len(_ZONES)]
        domain = "storm.example"
        if provider == "microsoft":
            domain = "outlook.com" if number % 5 == 0 else "contoso.example"
        email = f"person{number}@{domain}"
        account = await self._call(
            "POST", "/_sandbox/accounts", {"email": email, "provider": provider, "time_zone": zone}
        )
        other = await self._call("POST", "/_sandbox/calendars", {"email": email, "summary": "Other", "time_zone": zone})
        credentials = {"platform": provider, **{name: account[name] for name in _CREDENTIALS}}
        return [
            RemoteCalendar(id_, email, provider, ZoneInfo(zone), credentials)
            for id_ in (account["calendar_id"], other["id"])
        ]

    async def restore(self, calendar_id: str, event_id: str) -> None:
        """Out of the trash."""
        await self._edit("POST", f"{events_path(calendar_id, event_id)}/restore")

    async def move(self, calendar_id: str, event_id: str, destination: str) -> None:
        """To another calendar."""
        await self._edit("POST", f"{events_path(calendar_id, event_id)}/move", {"destination": destination})

    async def split(self, calendar_id: str, series_id: str, at: str, **changes: object) -> str:
        """«This and following»; the id of the new series."""
        body = {"at": at, **changes}
        return str((await self._edit("POST", f"{events_path(calendar_id, series_id)}/split", body))["id"])

    async def occurrences(self, calendar_id: str, series_id: str, start: datetime, end: datetime) -> list[Json]:
        """What the calendar shows of a series in a span."""
        shown = await self.instances(calendar_id, start, end)
        return [one for one in shown if one["series_id"] == series_id]

    async def lose_pushes(self, part: float, *, seed: int) -> int:
        """This part of all notifications gets lost from now on; how many have been lost so far."""
        return int((await self._call("PUT", "/_sandbox/push", {"lose": part, "seed": seed}))["lost"])

    async def fail(self, part: float, kinds: tuple[tuple[str, Json], ...], *, seed: int) -> None:
        """This part of all requests fails from now on, in one of these ways."""
        for number, (kind, params) in enumerate(kinds):
            body: dict[str, Any] = {"probability": part / len(kinds), "seed": seed + number, "times": None, **params}
            await self._call("POST", "/_sandbox/faults", {"kind": kind, **body})

    async def forget_cursors(self, calendar_id: str) -> None:
        """Every position of this calendar's listings answers 410 from now on."""
        await self._call("POST", f"/_sandbox/calendars/{path_part(calendar_id)}/expire_sync_tokens")

    async def recover(self) -> int:
        """Nothing fails from now on; how many requests have failed."""
        struck = sum(fault["struck"] for fault in (await self._call("GET", "/_sandbox/faults"))["active"])
        await self._call("DELETE", "/_sandbox/faults")
        return int(struck)
