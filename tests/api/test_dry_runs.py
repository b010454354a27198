"""What a dry run says is what happens when its rule is made, and it does nothing itself."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.bots.rules.judging import judge_due
from app.bots.rules.trying import REASONS
from app.bots.transfers import transfer_due
from app.ids import EVENT, parse, public
from app.runtime import Runtime
from tests.api.refusals import counts
from tests.api.rows import MEET, Rows, calendar_ref, write_event

RULES, DRY_RUN, BOTS = "/api/v1/rules", "/api/v1/rules/dry_run", "/api/v1/bots"
Json = dict[str, Any]
ALL: Json = {"is_all_day": False}
RULE_BODY: Json = {"name": "All", "match": ALL, "bot": {"bot_name": "Notes"}, "dedup_scope": "meeting"}


async def _made(client: httpx.AsyncClient, **body: Any) -> Json:
    answer = await client.post(RULES, json=RULE_BODY | body)
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()
    return made


async def _tried(client: httpx.AsyncClient, rule: Json, **span: Any) -> dict[str, tuple[str, str]]:
    """Effect and reason, by event."""
    answer = await client.post(DRY_RUN, json={"rule": rule, **span})
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert {one["reason"] for one in results} <= REASONS
    return {one["calendar_event_id"]: (one["effect"], one["reason"]) for one in results}


async def _settle(rt: Runtime) -> None:
    """Carry out what was asked for; other calendars' syncs are waited for in vain."""
    for _ in range(50):
        if not await judge_due(rt) + await transfer_due(rt):
            async with rt.db.reading() as tx:
                if not await tx.scalar("SELECT count(*) FROM bots WHERE transfer_since IS NOT NULL"):
                    return
            rt.clock.advance(timedelta(seconds=31))
    raise AssertionError("there is always something due")


async def _standing(rt: Runtime) -> dict[str, set[UUID]]:
    """The live bots of rules, by event."""
    async with rt.db.reading() as tx:
        rows = await tx.rows(
            "SELECT calendar_event_id, id FROM bots WHERE rule_id IS NOT NULL"
            " AND state IN ('scheduled', 'launching', 'launched')"
        )
    found: dict[str, set[UUID]] = defaultdict(set)
    for row in rows:
        found[public(EVENT, row.calendar_event_id)].add(row.id)
    return found


def _effects(events: Iterable[str], before: dict[str, set[UUID]], after: dict[str, set[UUID]]) -> dict[str, str]:
    found = {}
    for event in events:
        old, new = before.get(event, set()), after.get(event, set())
        found[event] = "add" if new - old else "remove" if old - new else "keep" if new else "none"
    return found


class World:
    """Calendars of three people in two organizations, and copies of a few meetings in them."""

    def __init__(self, rows: Rows, seed: int) -> None:
        self.rows = rows
        self.chance = random.Random(seed)
        self.calendars: list[UUID] = []

    async def fill(self) -> None:
        chance = self.chance
        for email in ("ada@one.example", "bob@one.example", "eve@two.example"):
            calendar = await self.rows.calendar(email=email)
            self.calendars.append(calendar)
            async with self.rows.rt.db.transaction() as tx:
                for _ in range(chance.randint(8, 20)):
                    event = await write_event(tx, self.rows.project_id, calendar, **self._event())
                    override = chance.choice(["always", "never", *[None] * 18])
                    await tx.execute(
                        "UPDATE calendar_events SET bot_override = :override WHERE id = :id",
                        {"id": parse(EVENT, event), "override": override},
                    )

    def _event(self) -> Json:
        chance = self.chance
        start = self.rows.rt.clock.now().replace(microsecond=0) + timedelta(hours=chance.choice([-0.2, 1, 2, 30]))
        number = chance.randrange(6)
        link = None if chance.random() < 0.15 else f"https://meet.google.com/abc-defg-hi{'jklmno'[number]}"
        is_series = chance.random() < 0.2
        return {
            "name": chance.choice(["Demo", "Review", "Lunch", None]),
            "start_time": start,
            "end_time": start + timedelta(minutes=30),
            "ical_uid": f"uid-{chance.choice([number, number, chance.randrange(6)])}",
            "series_id": "series" if is_series else None,
            "original_start_time": start if is_series else None,
            "is_all_day": chance.random() < 0.1,
            "meeting_url": link,
            "meeting_platform": link and "google_meet",
            "own_response_status": chance.choice(["accepted", "declined", "tentative"]),
        }

    def rule(self) -> Json:
        chance = self.chance
        match = chance.choice(
            [
                ALL,
                {"title_contains": [chance.choice(["demo", "re", "lunch"])]},
                {"own_response": ["accepted"]},
                {"is_recurring": chance.random() < 0.5},
                {"title_regex": "^[DR]"},
                {"own_response": ["declined", "tentative"], "is_recurring": False},
            ]
        )
        return {
            "name": "Tried",
            "is_enabled": chance.random() < 0.9,
            "priority": chance.randint(-2, 2),
            "match": match,
            "bot": {"bot_name": chance.choice(["Notes", "Minutes"])},
            "dedup_scope": chance.choice(["event", "meeting", "meeting", "organization"]),
        }


async def _by_hand(world: World, client: httpx.AsyncClient) -> None:
    """Some bots are ended by their owner, some changed, one has failed."""
    listed = (await client.get(BOTS, params={"states": ["scheduled"], "limit": 250})).json()["results"]
    for bot in listed:
        what = world.chance.random()
        if what < 0.15:
            await client.delete(f"{BOTS}/{bot['id']}")
        elif what < 0.25:
            await client.patch(f"{BOTS}/{bot['id']}", json={"bot_name": "Ours"})
    await world.rows.sql(
        "UPDATE bots SET state = 'failed', state_reason = 'launch_refused', due_at = NULL WHERE id IN"
        " (SELECT id FROM bots WHERE state = 'scheduled' AND rule_id IS NOT NULL ORDER BY id LIMIT 1)"
    )


@pytest.mark.parametrize("seed", range(8))
async def test_what_it_says_is_what_happens(client: httpx.AsyncClient, rt: Runtime, rows: Rows, seed: int) -> None:
    world = World(rows, seed)
    await world.fill()
    made = [(await client.post(RULES, json=world.rule())).json() for _ in range(world.chance.randint(0, 3))]
    await _settle(rt)
    await _by_hand(world, client)
    for _ in range(3):
        rule = world.rule()
        old = world.chance.choice([*made, None])
        foretold = await _tried(client, rule | ({"id": old["id"]} if old else {}))
        for calendar in world.calendars:
            own = await _tried(client, rule | ({"id": old["id"]} if old else {}), calendar_id=calendar_ref(calendar))
            assert own.items() <= foretold.items()
        before = await _standing(rt)
        if old:
            answer = await client.patch(f"{RULES}/{old['id']}", json=rule)
        else:
            answer = await client.post(RULES, json=rule)
            made.append(answer.json())
        assert answer.status_code in {200, 201}, answer.text
        await _settle(rt)
        effects = _effects(foretold, before, await _standing(rt))
        assert {event: effect for event, (effect, _) in foretold.items()} == effects
        assert before.keys() <= foretold.keys()
        settled = await _tried(client, rule | {"id": answer.json()["id"]})
        assert {effect for effect, _ in settled.values()} <= {"keep", "none"}


async def _world(rows: Rows, *, hours: float = 5, **values: Any) -> tuple[UUID, str]:
    """A calendar with a meeting in it."""
    calendar = await rows.calendar(email="ada@one.example")
    return calendar, await _meeting(rows, calendar, hours=hours, **values)


async def _meeting(rows: Rows, calendar: UUID, *, hours: float = 5, **values: Any) -> str:
    start = rows.rt.clock.now().replace(microsecond=0) + timedelta(hours=hours)
    usual = {"meeting_url": MEET, "meeting_platform": "google_meet", "ical_uid": "uid-1"}
    return await rows.event(calendar, **usual | {"start_time": start, "end_time": start + timedelta(hours=1)} | values)


async def _say(client: httpx.AsyncClient, event: str, override: str | None) -> None:
    answer = await client.patch(f"/api/v1/calendar_events/{event}", json={"bot_override": override})
    assert answer.status_code == 200, answer.text


async def test_reasons(client: httpx.AsyncClient, rt: Runtime, rows: Rows, subtests: pytest.Subtests) -> None:
    _, event = await _world(rows)
    first = await _made(client, match={"title_contains": ["plan"]}, priority=1)

    async def says(rule: Json, effect: str, reason: str) -> None:
        with subtests.test(effect=effect, reason=reason):
            assert await _tried(client, rule) == {event: (effect, reason)}

    await says(RULE_BODY, "add", "outranked")
    await _settle(rt)
    again = RULE_BODY | {"match": first["match"], "priority": 1, "id": first["id"]}
    await says(again, "keep", "matches")
    await says(again | {"bot": {"bot_name": "Minutes"}, "dedup_scope": "event"}, "keep", "matches")
    await says(again | {"is_enabled": False}, "remove", "disabled")
    await says(again | {"match": {"title_contains": ["lunch"]}}, "remove", "title_contains")
    await says(again | {"match": {"is_recurring": True}}, "remove", "is_recurring")
    await says(RULE_BODY, "keep", "outranked")
    await says(RULE_BODY | {"priority": 2}, "keep", "matches")
    await says(RULE_BODY | {"dedup_scope": "event"}, "add", "matches")
    await says(RULE_BODY | {"match": {"is_organizer": True}}, "keep", "is_organizer")
    bot = (await client.get(BOTS)).json()["results"][0]["id"]
    await client.delete(f"{BOTS}/{bot}")
    await says(again, "none", "bot_removed")
    await says(again | {"name": "Renamed", "priority": 3}, "none", "bot_removed")
    await says(again | {"bot": {"bot_name": "Minutes"}}, "add", "matches")
    await rows.sql("UPDATE bots SET is_removed = false, state = 'failed', state_reason = 'launch_refused'")
    await says(again, "none", "bot_failed")
    await _say(client, event, "always")
    await says(again, "keep", "matches")
    await says(again | {"match": {"is_recurring": True}}, "keep", "overridden")
    await _say(client, event, "never")
    await says(again, "none", "overridden")
    await _say(client, event, None)
    await rows.sql("UPDATE calendar_events SET meeting_url = NULL WHERE id = :id", id=parse(EVENT, event))
    await says(again, "remove", "no_meeting")


async def test_one_of_several_copies_gets_the_bot(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    calendars = [calendar for calendar, _ in [await _world(rows) for _ in range(3)]]
    outcome = sorted((await _tried(client, RULE_BODY)).values())
    assert outcome == [("add", "matches"), ("none", "held_by_another_bot"), ("none", "held_by_another_bot")]
    for calendar in calendars:  # alone it says the same, though the others are not asked for
        own = await _tried(client, RULE_BODY, calendar_id=calendar_ref(calendar))
        assert len(own) == 1
        assert own.items() <= (await _tried(client, RULE_BODY)).items()
    made = await _made(client)
    await _settle(rt)
    assert sorted(e for e, _ in (await _tried(client, RULE_BODY | {"id": made["id"]})).values()) == [
        "keep",
        "none",
        "none",
    ]


async def test_a_bot_that_another_copy_would_get(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    _, first = await _world(rows)
    _, second = await _world(rows, name="Lunch")
    made = await _made(client, match={"title_contains": ["plan"]})
    await _settle(rt)
    changed = RULE_BODY | {"id": made["id"], "match": {"title_contains": ["lunch"]}}
    assert await _tried(client, changed) == {first: ("remove", "title_contains"), second: ("add", "transferred")}


async def test_which_events_are_looked_at(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    calendar, first = await _world(rows, hours=-0.5)
    last = await _meeting(rows, calendar, hours=7 * 24 - 1, ical_uid="uid-2")
    later = await _meeting(rows, calendar, hours=7 * 24 + 1, ical_uid="uid-3")
    await _meeting(rows, calendar, hours=-2, ical_uid="uid-4")
    await _meeting(rows, calendar, hours=2, ical_uid="uid-5", is_deleted=True)
    away, _ = await _world(rows, hours=3)
    await rows.sql("UPDATE calendars SET state = 'disconnected' WHERE id = :id", id=away)
    now = rt.clock.now()
    tried: list[tuple[Json, list[str]]] = [
        ({}, [first, last]),
        ({"start_time_gte": now.isoformat()}, [last]),
        ({"start_time_gte": (now + timedelta(hours=2)).isoformat()}, [last, later]),
        ({"start_time_lte": (now + timedelta(days=8)).isoformat()}, [first, last, later]),
        ({"calendar_id": calendar_ref(calendar)}, [first, last]),
        ({"calendar_id": calendar_ref(away)}, []),
        ({"start_time_gte": "9999-12-31T23:59:59Z"}, []),
        ({"start_time_lte": "0001-01-01T00:00:00Z"}, []),
    ]
    for span, events in tried:
        assert list(await _tried(client, RULE_BODY, **span)) == events, span


async def test_it_stores_nothing_and_waits_for_nobody(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    _, event = await _world(rows)
    made = await _made(client)
    await _settle(rt)
    before = await counts(rt)
    async with rt.db.transaction() as tx:
        for table in ("projects", "calendars", "calendar_events", "rules", "bots", "bot_claims"):
            await tx.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
        async with asyncio.timeout(25):
            foretold = await _tried(client, RULE_BODY | {"id": made["id"], "is_enabled": False})
    assert foretold == {event: ("remove", "disabled")}
    assert await counts(rt) == before
