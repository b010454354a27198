"""Two transactions about one meeting at the same moment: each pair is stopped where a bot could be lost or doubled."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.bots import claims
from app.bots.checking import look_ahead
from app.bots.launching import launch_due
from app.bots.rules.judging import judge_due
from app.bots.transfers import transfer_due
from app.db import Tx
from app.ids import BOT, parse
from sandbox.model import Event
from tests.bots.meetings import assert_no_doubles, change_rule, copies, disconnect, live, split, the_bot
from tests.bots.stage import Bots, Json
from tests.harness import Actor, Connected
from tests.integration.delivering import rows
from tests.integration.test_races import elsewhere, until_it_waits

Copy = tuple[Connected, Event]
ORDERS = pytest.mark.parametrize("is_turned", [False, True])


async def shared(bots: Bots, count: int = 2, **draft: Any) -> tuple[Json, Copy, list[Copy]]:
    """A wide rule and a meeting of so many: its bot, the copy that has it, and the others. No push comes any more."""
    await bots.rule()
    found = await copies(bots.actor, bots, count, **draft)
    await bots.actor.quiesce()
    bot = await the_bot(bots.actor)
    owner, others = split(found, bot)
    bots.actor.sandbox.push.mode = "drop"
    return bot, owner, others


async def ask(actor: Actor, *calendars: Connected) -> None:
    """Have these calendars due."""
    for calendar in calendars:
        await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)


def delete(actor: Actor, copy: Copy) -> None:
    """One person's copy goes."""
    actor.sandbox.world.delete_event(copy[0].remote_id, copy[1].id)


@asynccontextmanager
async def at_its_end(actor: Actor, calendar: Connected) -> AsyncIterator[Tx]:
    """A run of this calendar has done and locked everything in the block, and has yet to commit."""
    gate = actor.sandbox.faults.gate(actor.operation("changes"))
    running = elsewhere(actor.run(calendar))
    await gate.reached()
    async with actor.rt.db.transaction() as tx:
        await tx.row("SELECT calendar_id FROM sync_state WHERE calendar_id = :c FOR UPDATE", {"c": calendar.key})
        actor.sandbox.faults.gates.clear()
        gate.release()
        await until_it_waits(tx)
        yield tx
    assert await running in {"synced", "disconnected"}


async def together(actor: Actor, first: Connected, second: Connected) -> None:
    """The second run comes while the first has not committed yet: where both want a key, it waits for it."""
    async with at_its_end(actor, first) as tx:
        running = elsewhere(actor.run(second))
        await until_it_waits(tx, sessions=2)
    assert await running in {"synced", "disconnected"}


@ORDERS
async def test_a_copy_goes_while_another_one_comes(actor: Actor, bots: Bots, is_turned: bool) -> None:
    bot, owner, _ = await shared(bots, 1)
    [new] = await copies(actor, bots, 1, start=owner[1].start, end=owner[1].end)
    delete(actor, owner)
    await ask(actor, owner[0], new[0])
    await together(actor, *((new[0], owner[0]) if is_turned else (owner[0], new[0])))
    await actor.quiesce()
    now = await the_bot(actor)
    assert now["calendar_id"] == new[0].id
    assert not is_turned or now["id"] == bot["id"]
    await assert_no_doubles(actor)


@ORDERS
async def test_both_copies_move(actor: Actor, bots: Bots, is_turned: bool) -> None:
    bot, owner, [other] = await shared(bots)
    assert isinstance(owner[1].start, datetime)
    start = owner[1].start + timedelta(hours=2)
    for calendar, event in (owner, other):
        actor.sandbox.world.update_event(calendar.remote_id, event.id, start=start, end=start + timedelta(hours=1))
    await ask(actor, owner[0], other[0])
    await together(actor, *((other[0], owner[0]) if is_turned else (owner[0], other[0])))
    await actor.quiesce()
    assert (await the_bot(actor))["id"] == bot["id"]
    await assert_no_doubles(actor)


@ORDERS
async def test_two_see_a_meeting_first(actor: Actor, bots: Bots, is_turned: bool) -> None:
    await bots.rule()
    first, second = [calendar for calendar, _ in await copies(actor, bots, 2)]
    await together(actor, *((second, first) if is_turned else (first, second)))
    await actor.quiesce()
    await the_bot(actor)
    await assert_no_doubles(actor)


@ORDERS
async def test_both_owners_disconnect(actor: Actor, bots: Bots, is_turned: bool) -> None:
    """Whoever sees the other's calendar as connected still has no bot left there in the end."""
    bot, owner, [other] = await shared(bots)
    for calendar in (owner[0], other[0]):
        await disconnect(actor, calendar)
    first, second = (other[0], owner[0]) if is_turned else (owner[0], other[0])
    async with actor.rt.db.transaction() as tx:
        await tx.row("SELECT id FROM calendars WHERE id = :c FOR NO KEY UPDATE", {"c": first.key})
        running = elsewhere(actor.run(first))
        await until_it_waits(tx)
        assert await elsewhere(actor.run(second)) == "disconnected"
    assert await running == "disconnected"
    await actor.quiesce()
    ended = await bots.get(bot)
    assert (ended["state"], ended["state_reason"]) == ("cancelled", "calendar_disconnected")
    assert await live(actor) == []


@ORDERS
async def test_a_transfer_and_the_targets_sync(actor: Actor, bots: Bots, is_turned: bool) -> None:
    """The target's copy goes in the moment in which the bot is to be moved to it."""
    bot, owner, [other] = await shared(bots)
    delete(actor, owner)
    await ask(actor, owner[0])
    assert await actor.run(owner[0]) == "synced"
    assert await transfer_due(actor.rt) == 1
    actor.advance(timedelta(seconds=31))
    delete(actor, other)
    await ask(actor, other[0])
    steps: list[Callable[[], Coroutine[Any, Any, Any]]] = [
        lambda: transfer_due(actor.rt),
        lambda: actor.run(other[0]),
    ]
    async with actor.rt.db.transaction() as tx:
        await tx.row("SELECT id FROM calendars WHERE id = :c FOR NO KEY UPDATE", {"c": other[0].key})
        running = []
        for number, step in enumerate(reversed(steps) if is_turned else steps):
            running.append(elsewhere(step()))
            await until_it_waits(tx, sessions=number + 1)
    await asyncio.gather(*running)
    await actor.quiesce()
    assert (await bots.get(bot))["state"] == "cancelled"
    assert await live(actor) == []


@ORDERS
async def test_a_transfer_and_a_deletion(actor: Actor, bots: Bots, is_turned: bool) -> None:
    bot, owner, [other] = await shared(bots)
    delete(actor, owner)
    await ask(actor, owner[0])
    await actor.run(owner[0])
    assert await transfer_due(actor.rt) == 1
    actor.advance(timedelta(seconds=31))

    async def remove() -> None:
        await actor.call("DELETE", f"/bots/{bot['id']}", expect=204)

    steps: list[Callable[[], Coroutine[Any, Any, Any]]] = [lambda: transfer_due(actor.rt), remove]
    async with actor.rt.db.transaction() as tx:
        await tx.row("SELECT id FROM calendars WHERE id = :c FOR NO KEY UPDATE", {"c": owner[0].key})
        running = []
        for number, step in enumerate(reversed(steps) if is_turned else steps):
            running.append(elsewhere(step()))
            await until_it_waits(tx, sessions=number + 1)
    await asyncio.gather(*running)
    await ask(actor, owner[0], other[0])
    await actor.quiesce()
    ended = await bots.get(bot)
    assert (ended["state"], ended["state_reason"], ended["hold_reason"]) == ("cancelled", "removed", None)
    assert await live(actor) == []


async def test_a_worker_that_dies_in_a_transfer_leaves_it_to_the_next(actor: Actor, bots: Bots) -> None:
    bot, owner, [other] = await shared(bots)
    delete(actor, owner)
    await ask(actor, owner[0])
    await actor.run(owner[0])
    assert await transfer_due(actor.rt) == 1
    await actor.run(other[0])
    async with actor.rt.db.transaction() as tx:  # the claim's keys come last
        await claims.lock_keys(tx, project=actor.project.id, keys=await _keys(tx, bot))
        running = asyncio.create_task(transfer_due(actor.rt), context=Context())
        await until_it_waits(tx)
        running.cancel()
        await asyncio.wait([running])
    assert (await bots.get(bot))["hold_reason"] == "transfer"
    assert await transfer_due(actor.rt) == 1
    now = await the_bot(actor)
    assert (now["id"], now["calendar_id"]) == (bot["id"], other[0].id)
    await actor.quiesce()
    assert bots.states(bot) == ["scheduled"]
    await assert_no_doubles(actor)


async def _keys(tx: Tx, bot: Json) -> list[str]:
    """What a bot claims."""
    key = parse(BOT, bot["id"])
    return [row.key for row in await tx.rows("SELECT key FROM bot_claims WHERE bot_id = :bot", {"bot": key})]


async def test_a_copy_goes_while_its_bot_is_being_started(actor: Actor, bots: Bots) -> None:
    """What the start led to is recorded of the held bot; nobody starts another."""
    launcher = await bots.launcher("attendee")
    bot, owner, [other] = await shared(bots, hours=2)
    actor.advance(timedelta(hours=2) - timedelta(seconds=launcher["hand_over_seconds"] - 1))
    gate = actor.sandbox.faults.gate("attendee.create")
    launching = asyncio.create_task(launch_due(actor.rt))
    await gate.reached()
    delete(actor, owner)
    await ask(actor, owner[0])
    await actor.run(owner[0])
    assert (await bots.get(bot))["hold_reason"] == "transfer"
    while await transfer_due(actor.rt):
        await actor.run(other[0])
    actor.sandbox.faults.gates.clear()
    gate.release()
    await launching
    await actor.quiesce()
    now = await the_bot(actor)
    [there] = bots.there()
    assert (now["state"], now["external_id"], now["calendar_id"]) == ("launched", there.id, other[0].id)
    assert there.withdrawn_at is None


async def test_a_transfer_and_the_look_ahead_take_their_locks_in_one_order(actor: Actor, bots: Bots) -> None:
    """Bots before the state of syncs: the other way round each would wait for the other."""
    bot, owner, [other] = await shared(bots)
    delete(actor, owner)
    await ask(actor, owner[0])
    await actor.run(owner[0])
    async with actor.rt.db.transaction() as tx:
        await tx.row("SELECT id FROM bots WHERE id = :b FOR NO KEY UPDATE", {"b": parse(BOT, bot["id"])})
        running = asyncio.create_task(transfer_due(actor.rt), context=Context())
        await until_it_waits(tx)
        await tx.row("SELECT calendar_id FROM sync_state WHERE calendar_id = :c FOR UPDATE", {"c": other[0].key})
    assert await running == 1


async def test_a_launcher_changes_while_a_round_makes_bots_for_it(actor: Actor, bots: Bots) -> None:
    """The round has bots, and then refers to the launcher; the change has the launcher, and then wants the bots."""
    launcher = await bots.launcher("attendee")
    _, _, bot = await bots.scheduled()
    async with actor.rt.db.transaction() as tx:
        key = {"b": parse(BOT, bot["id"])}
        await tx.row("SELECT id FROM bots WHERE id = :b FOR NO KEY UPDATE", key)
        body = {"hand_over_seconds": 300}
        change = elsewhere(actor.call("PATCH", f"/launchers/{launcher['id']}", json=body))  # type: ignore[arg-type]
        await until_it_waits(tx)
        await tx.execute("UPDATE bots SET launcher_id = (SELECT id FROM launchers) WHERE id = :b", key)
    await change


@dataclass
class _Users:
    """People who move, delete and restore their copies of some meetings, mostly all of a meeting at once."""

    actor: Actor
    chance: random.Random
    found: dict[str, list[Copy]]
    gone: set[str] = field(default_factory=set)

    def edit(self) -> None:
        """A turn of everybody."""
        for held in self.found.values():
            start = self.actor.now() + timedelta(hours=self.chance.randrange(3, 60))
            is_move, is_end, is_back = (self.chance.random() < part for part in (0.6, 0.3, 0.5))
            for calendar, event in held:
                if is_move and event.id not in self.gone:
                    end = start + timedelta(hours=1)
                    self.actor.sandbox.world.update_event(calendar.remote_id, event.id, start=start, end=end)
                if event.id in self.gone and is_back:
                    self.actor.sandbox.world.restore_event(calendar.remote_id, event.id)
                    self.gone.discard(event.id)
                elif is_end and event.id not in self.gone and self.chance.random() < 0.5:
                    self.actor.sandbox.world.delete_event(calendar.remote_id, event.id)
                    self.gone.add(event.id)

    def expected(self) -> list[str]:
        """The meetings that somebody still has."""
        return sorted(uid for uid, held in self.found.items() if any(event.id not in self.gone for _, event in held))


async def _work(actor: Actor) -> None:
    """What a worker's loops do besides runs."""
    for _ in range(3):
        await judge_due(actor.rt)
        await transfer_due(actor.rt)
        await look_ahead(actor.rt)
        await launch_due(actor.rt)


async def _by_hand(actor: Actor, calendar: Connected) -> None:
    """Bots by hand come and go on events that have others; an event may be gone by then."""
    for event in (await actor.events(calendar))[:2]:
        body = {"bot_name": "x", "calendar_event_id": event["id"]}
        answer = await actor.api.post("/api/v1/bots", headers=actor.project.headers, json=body)
        assert answer.status_code in {201, 422}
        if answer.status_code == 201:
            made = answer.json()["id"]
            path, changed = f"/api/v1/bots/{made}", {"bot_name": "y"}
            answer = await actor.api.patch(path, headers=actor.project.headers, json=changed)
            assert answer.status_code in {200, 409}
            await actor.call("DELETE", f"/bots/{made}", expect=204)


@pytest.mark.parametrize("seed", [1, 2])
async def test_everything_at_once(actor: Actor, bots: Bots, seed: int) -> None:
    """Edits, runs, bots by hand, and two workers that judge, move and launch, all of it in parallel.

    Nothing fails meanwhile, and in the end each meeting that somebody has, has one bot, which is where it is.
    """
    rule = await bots.rule()
    calendars = [await actor.connected() for _ in range(4)]
    users = _Users(actor, random.Random(seed), {})
    for number in range(5):
        uid, url = f"meeting-{number}@example.com", f"https://zoom.us/j/9551234567{number}"
        invited = calendars[: 2 + number % 3]
        users.found[uid] = await copies(actor, bots, calendars=invited, ical_uid=uid, hours=20.0 + number, url=url)
    await actor.quiesce()
    for number in range(5):
        users.edit()
        if number == 2:
            await change_rule(actor, rule, "bot_name = 'Anew'")
        await actor.sandbox.push.idle()
        await ask(actor, *calendars)
        runs = [actor.run(calendar) for calendar in calendars]
        outcomes = await asyncio.gather(*runs, _by_hand(actor, calendars[0]), _work(actor), _work(actor))
        assert set(outcomes[: len(runs)]) <= {"synced", "idle"}
    await actor.quiesce()
    await assert_no_doubles(actor)
    query = (
        "SELECT e.ical_uid FROM bots b JOIN calendar_events e ON e.id = b.calendar_event_id AND NOT e.is_deleted"
        " AND e.start_time = b.join_at WHERE b.state IN ('scheduled', 'launching', 'launched') ORDER BY 1"
    )
    assert [row["ical_uid"] for row in await rows(actor.rt, query)] == users.expected()
