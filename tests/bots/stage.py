"""What tests of bots share: an application with bots on its users' events, and the back ends they are handed to."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, get_args

import pytest

from app.bots.rules import evaluations
from app.ids import RULE, new_id, public
from sandbox.backends.book import Backend, Bot
from sandbox.model import Conference, Event
from tests.harness import Actor, Connected, listen

Json = dict[str, Any]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
EACH_BACKEND = pytest.mark.parametrize("kind", BACKENDS)
MEET = "https://meet.google.com/abc-defg-hij"
OTHER = "https://zoom.us/j/95512345678?pwd=Qm9i"


@dataclass
class Bots:
    """An actor whose application puts bots on events."""

    actor: Actor
    url: str
    """Where the back ends' stand-ins listen."""

    async def launcher(self, kind: str, **body: Any) -> Json:
        """The project's default launcher."""
        known = {} if kind == "webhook" else {"base_url": self.url, "api_key": f"{kind}-key"}
        body = {"kind": kind, "name": kind, "is_default": True, **known, **body}
        return await self.actor.call("POST", "/launchers", json=body, expect=201)

    def meeting(self, calendar: Connected, *, hours: float = 24, url: str = MEET, **draft: Any) -> Event:
        """An event with a structured link."""
        link = Conference(kind="meet" if "google" in url else "zoom" if "zoom" in url else "teams", url=url)
        return self.actor.add_event(calendar, hours=hours, **{"conference": link, **draft})

    async def on(self, event_id: str, **body: Any) -> Json:
        """A bot on an event."""
        body = {"bot_name": "Notes", "calendar_event_id": event_id, **body}
        return await self.actor.call("POST", "/bots", json=body, expect=201)

    async def event(self, **draft: Any) -> tuple[Connected, Event, Json]:
        """A calendar, an event with a link in it, the event as the API shows it."""
        calendar = await self.actor.connected()
        event = self.meeting(calendar, **draft)
        await self.actor.quiesce()
        [shown] = await self.actor.events(calendar)
        return calendar, event, shown

    async def scheduled(self, **draft: Any) -> tuple[Connected, Event, Json]:
        """A calendar, an event with a link in it, a bot on that."""
        calendar, event, shown = await self.event(**draft)
        return calendar, event, await self.on(shown["id"])

    async def get(self, bot: Json) -> Json:
        """The bot as it is now."""
        return await self.actor.call("GET", f"/bots/{bot['id']}")

    async def until_hand_over(self, bot: Json, *, seconds: float) -> Json:
        """Let time pass until the bot is due, and let it be handed over."""
        ahead = timedelta(seconds=seconds) + timedelta(seconds=1)
        self.actor.advance(ahead)
        await self.actor.quiesce()
        return await self.get(bot)

    def there(self) -> list[Bot]:
        """Every bot that any back end ever made."""
        self.actor.sandbox.bots.settle()
        return list(self.actor.sandbox.bots.bots.values())

    async def rule(self, **body: Any) -> Json:
        """A rule that wants a bot on every event with a link, unless it says otherwise."""
        platforms = {"meeting_platforms": ["google_meet", "zoom", "microsoft_teams"]}
        values = {"name": "All", "match": platforms, "dedup_scope": "meeting", "priority": 0, **body}
        id_ = new_id()
        async with self.actor.rt.db.transaction() as tx:
            await tx.execute(
                "INSERT INTO rules (id, project_id, name, match, dedup_scope, bot_name, priority)"
                " VALUES (:id, :project, :name, :match, :dedup_scope, 'Notes', :priority)",
                {"id": id_, "project": self.actor.project.id} | values | {"match": json.dumps(values["match"])},
            )
            await evaluations.request_project(tx, self.actor.project.id)
        return {"id": public(RULE, id_)}

    def states(self, bot: Json) -> list[str]:
        """The states that were told of a bot, in order."""
        told = [
            m.body["data"] for m in self.actor.messages("bot.state_change") if m.body["data"]["bot"]["id"] == bot["id"]
        ]
        return [data["bot"]["state"] for data in told]


@asynccontextmanager
async def staged(actor: Actor) -> AsyncIterator[Bots]:
    """The back ends on a socket."""
    async with listen(actor.sandbox.app) as url:
        yield Bots(actor, url)
