"""The customer's side: an application that uses the API with its key, and the inbox of its webhook endpoint.

The receiver is the sandbox's sink, a process of its own, which verifies each signature by the specification and
remembers all that came. Nothing is known here but what a customer gets to know.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

Json = dict[str, Any]
HOOK = "demo"
EVENTS_UPDATE = "calendar.events_update"
BOT_STATE_CHANGE = "bot.state_change"


@dataclass(frozen=True, slots=True)
class Message:
    """One attempt of a message, as it reached the receiver at unix time `at`."""

    at: float
    id: str
    is_valid: bool
    is_acknowledged: bool
    trigger: str
    calendar_id: str | None
    data: Json

    @property
    def span(self) -> tuple[int, int] | None:
        """First and last sequence number that it covers; None where it tells of no change."""
        first, last = self.data.get("from_seq"), self.data.get("to_seq")
        return None if first is None or last is None else (first, last)


class Application:
    """Speaks to one installation with one project's key."""

    def __init__(self, client: httpx.AsyncClient, *, api_url: str, sink_url: str, key: str) -> None:
        self._client = client
        self._api_url = api_url
        self._sink_url = sink_url
        self._key = key
        self._read = 0
        self.attempts: list[Message] = []
        """Everything that reached the receiver, refused attempts included."""

    async def call(self, method: str, path: str, *, body: Json | None = None, query: Json | None = None) -> Json:
        """One request to the API, below `/api/v1` or as a whole address. Raises HTTPError, for a refusal too."""
        url = path if path.startswith("http") else f"{self._api_url}/api/v1{path}"
        headers = {"Authorization": f"Token {self._key}"}
        answer = await self._client.request(method, url, headers=headers, json=body, params=query)
        answer.raise_for_status()
        return dict(answer.json()) if answer.content else {}

    async def subscribe(self, hook: str = HOOK, triggers: Sequence[str] = (EVENTS_UPDATE,)) -> Json:
        """A webhook endpoint at the receiver, which is told the secret that signs."""
        url = f"{self._sink_url}/hooks/{hook}"
        endpoint = await self.call("POST", "/webhooks", body={"url": url, "triggers": list(triggers)})
        told = await self._client.put(f"{self._sink_url}/_sink/hooks/{hook}", json={"secrets": [endpoint["secret"]]})
        told.raise_for_status()
        return endpoint

    async def connect(self, credentials: dict[str, str], **fields: object) -> str:
        """Connect an account's primary calendar; its id."""
        return str((await self.call("POST", "/calendars", body={**credentials, **fields}))["id"])

    async def calendar(self, calendar_id: str) -> Json:
        """The calendar with its health."""
        return await self.call("GET", f"/calendars/{calendar_id}")

    async def event(self, event_id: str) -> Json:
        """One event."""
        return await self.call("GET", f"/calendar_events/{event_id}")

    async def events(self, calendar_id: str, **filters: object) -> list[Json]:
        """All pages of a calendar's events, without `raw`."""
        query = {"calendar_id": calendar_id, "limit": 100, "exclude": "raw,bots", **filters}
        return [event async for event in self._pages("/calendar_events", query)]

    async def highest(self, calendar_id: str) -> int:
        """The calendar's highest sequence number, 0 without any event."""
        query = {"calendar_id": calendar_id, "ordering": "-change_seq", "limit": 1, "exclude": "raw,bots"}
        found = (await self.call("GET", "/calendar_events", query=query))["results"]
        return int(found[0]["change_seq"]) if found else 0

    async def bot(self, bot_id: str) -> Json:
        """One bot, with what happened to it."""
        return await self.call("GET", f"/bots/{bot_id}")

    async def bots(self) -> list[Json]:
        """Every bot of the project, ended ones too."""
        return [bot async for bot in self._pages("/bots", {"limit": 100})]

    async def _pages(self, path: str, query: Json) -> AsyncIterator[Json]:
        page = await self.call("GET", path, query=query)
        while True:
            for one in page["results"]:
                yield one
            if page["next"] is None:
                return
            page = await self.call("GET", page["next"])

    async def look(self, *, wait: float = 0) -> None:
        """Read what has come since the last look; waits so many seconds for the first of it."""
        query = {"after": self._read, "wait": wait}
        answer = await self._client.get(f"{self._sink_url}/_sink/messages", params=query)
        answer.raise_for_status()
        for one in answer.json()["messages"]:
            self._read = max(self._read, one["number"])
            self.attempts.append(_message(one))

    def messages(self, calendar_id: str) -> list[Message]:
        """The calendar's events_update messages that were acknowledged, each once, in order of arrival."""
        seen: dict[str, Message] = {}
        for one in self.attempts:
            if one.is_acknowledged and one.trigger == EVENTS_UPDATE and one.calendar_id == calendar_id:
                seen.setdefault(one.id, one)
        return list(seen.values())

    def told_up_to(self, calendar_id: str) -> int:
        """The calendar's highest sequence number that a message has told of."""
        return max((message.span[1] for message in self.messages(calendar_id) if message.span), default=0)

    def transitions(self, state: str) -> list[Message]:
        """The acknowledged messages that tell of a bot's step into this state, in order of arrival."""
        steps = (one for one in self.attempts if one.is_acknowledged and one.trigger == BOT_STATE_CHANGE)
        return [one for one in steps if one.data["new_state"] == state]


def _message(received: Json) -> Message:
    body = received["body"]
    return Message(
        at=received["at"],
        id=received["message_id"],
        is_valid=received["valid"],
        is_acknowledged=received["status"] < 300,
        trigger=str(body.get("trigger")),
        calendar_id=body.get("calendar_id"),
        data=body.get("data") or {},
    )
