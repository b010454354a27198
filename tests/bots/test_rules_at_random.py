"""Random days of three people who share four meetings in three rooms, with two workers: none lost, none doubled.

They move, delete and restore copies, change links so that meetings fall together and part, take their access away and
give it back; the rule goes and comes, bots are deleted. After each turn, once all is quiet, every claim has to be what
its bot's event says, and each meeting without a bot has to have a reason for it.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from app.bots.checking import look_ahead
from app.bots.launching import launch_due
from app.bots.rules import rulebook
from app.bots.rules.judging import judge_due
from app.bots.transfers import transfer_due
from sandbox.model import Conference, Event
from tests.bots.meetings import assert_no_doubles, change_rule, live, reconnect
from tests.bots.stage import Bots, Json
from tests.harness import Actor, Connected
from tests.integration.delivering import rows

ROOMS = [f"https://zoom.us/j/9551234567{number}" for number in range(3)]
TURNS = 6
_LIVE = "b.state IN ('scheduled', 'launching', 'launched')"
_CLAIMS = f"SELECT c.key, c.bot_id, {_LIVE} AS is_live, b.is_removed FROM bot_claims c JOIN bots b ON b.id = c.bot_id"
_BOTS = f"SELECT b.id, b.calendar_event_id, b.meeting_url, b.join_at FROM bots b WHERE {_LIVE}"
_EVENTS = """
SELECT e.id FROM calendar_events e JOIN calendars c ON c.id = e.calendar_id AND c.state = 'connected'
 WHERE NOT e.is_deleted AND e.end_time > app_now()
"""


@dataclass
class _Copy:
    calendar: Connected
    event: Event
    is_gone: bool = False


@dataclass
class _Day:
    """What people, and the project, do."""

    bots: Bots
    chance: random.Random
    rule: Json
    calendars: list[Connected]
    copies: list[_Copy]
    base: datetime
    away: set[str] = field(default_factory=set)
    is_on: bool = True

    def edit(self) -> None:
        """A turn of everybody who has not taken the access away."""
        for copy in self.copies:
            if copy.calendar.id not in self.away:
                self._edit(copy)

    def _edit(self, copy: _Copy) -> None:
        world, of, luck = self.bots.actor.sandbox.world, (copy.calendar.remote_id, copy.event.id), self.chance.random()
        if copy.is_gone:
            if luck < 0.4:
                world.restore_event(*of)
                copy.is_gone = False
        elif luck < 0.3:
            start = self.base + timedelta(hours=self.chance.randrange(4))
            world.update_event(*of, start=start, end=start + timedelta(hours=1))
        elif luck < 0.45:
            world.update_event(*of, conference=Conference("zoom", self.chance.choice(ROOMS)))
        elif luck < 0.5:
            world.update_event(*of, conference=None)
        elif luck < 0.65:
            world.delete_event(*of)
            copy.is_gone = True

    async def administrate(self) -> None:
        """Now and then access, the rule, or a bot goes or comes."""
        actor, calendar = self.bots.actor, self.chance.choice(self.calendars)
        if self.chance.random() < 0.3:
            if calendar.id in self.away:
                await reconnect(actor, calendar)
            else:
                actor.sandbox.world.revoke(calendar.account)
            self.away ^= {calendar.id}
        if self.chance.random() < 0.25:
            self.is_on = not self.is_on
            await change_rule(actor, self.rule, f"is_enabled = {self.is_on}")
        there = await live(actor) if self.chance.random() < 0.2 else []
        if there:
            await actor.call("DELETE", f"/bots/{self.chance.choice(there)['id']}", expect=204)

    async def work(self) -> None:
        """All runs and two workers' loops at once."""
        actor = self.bots.actor
        await actor.sandbox.push.idle()
        for calendar in self.calendars:
            await actor.api.post(f"/api/v1/calendars/{calendar.id}/sync", headers=actor.project.headers)
        runs = [actor.run(calendar) for calendar in self.calendars]
        outcomes = await asyncio.gather(*runs, _work(actor), _work(actor))
        assert "crashed" not in outcomes
        await actor.quiesce()

    async def judge(self) -> None:
        """Everything is as the events say."""
        actor = self.bots.actor
        await assert_no_doubles(actor)
        there = {bot["calendar_event_id"]: bot for bot in await rows(actor.rt, _BOTS)}
        claimed = await rows(actor.rt, _CLAIMS)
        in_force = {claim["key"] for claim in claimed if claim["is_live"] or claim["is_removed"]}
        assert self.is_on or not there
        keys = await self._keys()
        assert set(there) <= set(keys), "a bot on nothing"
        for event, (own, place) in keys.items():
            if event not in there:
                assert not self.is_on or own & in_force, "a meeting without a bot, for no reason"
                continue
            bot = there[event]
            assert {claim["key"] for claim in claimed if claim["bot_id"] == bot["id"]} == own
            assert (bot["meeting_url"], bot["join_at"]) == place

    async def _keys(self) -> Mapping[UUID, tuple[frozenset[str], tuple[str | None, datetime]]]:
        async with self.bots.actor.rt.db.reading() as tx:
            found = await rulebook.events(tx, [row.id for row in await tx.rows(_EVENTS)])
        asked = ((one.id, one.keys("meeting"), one.event) for one in found)
        return {id_: (keys, (event.meeting_url, event.start_time)) for id_, keys, event in asked if keys}


async def _work(actor: Actor) -> None:
    for _ in range(2):
        await judge_due(actor.rt)
        await transfer_due(actor.rt)
        await look_ahead(actor.rt)
        await launch_due(actor.rt)


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_people_do_each_meeting_has_its_bot(actor: Actor, bots: Bots, seed: int) -> None:
    chance = random.Random(seed)
    rule = await bots.rule()
    calendars = [await actor.connected() for _ in range(3)]
    copies = []
    for number in range(4):
        for calendar in chance.sample(calendars, chance.randint(1, 3)):
            draft = {"ical_uid": f"m{number}@example.com", "url": ROOMS[number % 3]}
            copies.append(_Copy(calendar, bots.meeting(calendar, hours=20.0 + number, **draft)))
    day = _Day(bots, chance, rule, calendars, copies, actor.now() + timedelta(hours=20))
    await actor.quiesce()
    await day.judge()
    for _ in range(TURNS):
        day.edit()
        await day.administrate()
        await day.work()
        await day.judge()
