"""Edits of every kind in an order that nobody thought of: afterwards the API equals the calendar, and was told why."""

import random
from datetime import timedelta
from typing import Any

import pytest

from sandbox.model import Event
from tests.harness import BOTH, Actor, Connected

STEPS = 40


@BOTH
@pytest.mark.parametrize("seed", range(4))
async def test_the_api_equals_the_calendar(actor: Actor, seed: int) -> None:
    chance = random.Random(seed)
    await actor.subscribe()
    account = actor.new_account()
    other = actor.sandbox.world.add_calendar(account, "Other", "Europe/Berlin")
    calendars = [await actor.connected(account), await actor.connected(account, platform_uuid=other.id)]
    for _ in range(STEPS):
        edit(actor, chance, chance.choice(calendars), calendars)
        if chance.random() < 0.05:
            actor.sandbox.world.expire_sync_tokens(chance.choice(calendars).remote_id)
        if chance.random() < 0.3:
            await actor.quiesce()
    await actor.quiesce()
    for calendar in calendars:
        await actor.assert_equal(calendar)
        await assert_told(actor, calendar)


def quarter(chance: random.Random, least: int, most: int) -> float:
    """So many hours, to the quarter."""
    return chance.randrange(least * 4, most * 4) / 4


def edit(actor: Actor, chance: random.Random, calendar: Connected, calendars: list[Connected]) -> None:
    """One edit; a new event where the dice ask for what is not there."""
    events = [versions[-1] for versions in actor.sandbox.world.versions[calendar.remote_id].values()]
    live = [event for event in events if event.is_live]
    kind = chance.choice(["create", "series", *_OF_AN_EVENT, *_OF_A_SERIES, "restore"])
    if kind == "series":
        rule = chance.choice(["FREQ=DAILY;COUNT=9", "FREQ=WEEKLY", "FREQ=WEEKLY;BYDAY=MO,TH;COUNT=12"])
        hours = quarter(chance, -200, 300)
        actor.add_event(calendar, "Series", hours=hours, recurrence=(f"RRULE:{rule}",))
    elif kind == "restore":
        gone = [event for event in events if event.deleted and event.moved_to is None]
        if gone:
            actor.sandbox.world.restore_event(calendar.remote_id, chance.choice(gone).id)
    elif kind == "create" or not live:
        actor.add_event(calendar, f"Event {chance.random()}", hours=quarter(chance, -60, 800))
    elif kind in _OF_AN_EVENT:
        _of_an_event(actor, chance, chance.choice(live), kind, chance.choice(calendars).remote_id)
    elif series := [event for event in live if event.is_series]:
        _of_a_series(actor, chance, chance.choice(series), kind)


_OF_AN_EVENT = ("update", "move", "delete", "leave")
_OF_A_SERIES = ("instance", "cancel", "split")


def _of_an_event(actor: Actor, chance: random.Random, event: Event, kind: str, destination: str) -> None:
    world = actor.sandbox.world
    if kind == "update":
        edits: list[dict[str, Any]] = [{"title": f"Renamed {chance.random()}"}, {"location": "Room 4"}]
        world.update_event(event.calendar_id, event.id, **chance.choice(edits))
    elif kind == "move":
        _retime(actor, chance, event)
    elif kind == "delete":
        world.delete_event(event.calendar_id, event.id)
    elif event.id not in world.versions[destination]:
        world.move_event(event.calendar_id, event.id, destination)


def _retime(actor: Actor, chance: random.Random, event: Event) -> None:
    start = actor.now() + timedelta(hours=quarter(chance, -60, 900))
    actor.sandbox.world.update_event(event.calendar_id, event.id, start=start, end=start + timedelta(hours=1))


def _of_a_series(actor: Actor, chance: random.Random, event: Event, kind: str) -> None:
    world, now = actor.sandbox.world, actor.now()
    shown = world.instances(event.calendar_id, now - timedelta(days=1), now + timedelta(days=25))
    originals = [i.original_start for i in shown if i.series_id == event.id and i.original_start is not None]
    if not originals:
        return
    original = chance.choice(originals)
    if kind == "cancel":
        world.cancel_instance(event.calendar_id, event.id, original)
    elif kind == "split":
        world.split_series(event.calendar_id, event.id, original, title="Split")
    elif chance.random() < 0.5:
        world.update_instance(event.calendar_id, event.id, original, title="Exception")
    else:
        start = now + timedelta(hours=quarter(chance, 5, 900))
        world.update_instance(event.calendar_id, event.id, original, start=start, end=start + timedelta(hours=1))


async def assert_told(actor: Actor, calendar: Connected) -> None:
    """Who follows the messages knows which events there are, and no number is missing."""
    messages = [m.body["data"] for m in actor.messages() if m.body["calendar_id"] == calendar.id]
    entries = sorted((e for data in messages for e in data["events"]), key=lambda e: int(e["change_seq"]))
    assert not any(data["truncated"] for data in messages)
    assert [e["change_seq"] for e in entries] == list(range(1, len(entries) + 1))
    known: set[str] = set()
    for entry in entries:
        assert (entry["id"] in known) is (entry["change"] != "created"), entry
        if entry["change"] == "deleted":
            known.remove(entry["id"])
        else:
            known.add(entry["id"])
    assert known == {event["id"] for event in await actor.events(calendar)}
