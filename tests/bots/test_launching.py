"""A bot is handed over once, in time, whatever its back end answers, and whatever happens to it meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from app.bots.launching import launch_due
from app.db import Row
from sandbox.backends.book import Backend
from tests.bots.stage import EACH_BACKEND, MEET, OTHER, Bots, staged
from tests.harness import Actor, Connected
from tests.integration.delivering import rows
from workers.loops import launching_loop

Json = dict[str, Any]
LIVE = {"scheduled", "settling", "joined"}
HOUR = 3_600


def live(bots: Bots) -> list[str]:
    """The bots at any back end that are to come, or are there."""
    return [one.id for one in bots.there() if bots.actor.sandbox.bots.phase(one) in LIVE]


async def own(bots: Bots, *, seconds: float = 1_800, url: str = MEET, **body: Any) -> Json:
    """A bot of its own."""
    join_at = bots.actor.now() + timedelta(seconds=seconds)
    known = {"bot_name": "Notes", "meeting_url": url, "join_at": join_at.isoformat()}
    return await bots.actor.call("POST", "/bots", json={**known, **body}, expect=201)


async def pass_time(bots: Bots, seconds: float) -> None:
    """Let time pass, and let all happen that is due then."""
    bots.actor.advance(timedelta(seconds=seconds))
    await bots.actor.quiesce()


def creates(bots: Bots, kind: str) -> int:
    """How often a bot was asked for."""
    return bots.actor.sandbox.requests.count(f"{kind}.create")


def fail(bots: Bots, fault: str, operation: str, **params: Any) -> None:
    """Plant a fault at a back end."""
    bots.actor.sandbox.faults.add(fault, operation, **params)


@asynccontextmanager
async def in_call(bots: Bots, operation: str) -> AsyncIterator[None]:
    """What happens in the block happens while the back end, which has done it, has not answered yet."""
    gate = bots.actor.sandbox.faults.gate(operation)
    launching = asyncio.create_task(launch_due(bots.actor.rt))
    await gate.reached()
    try:
        yield
    finally:
        bots.actor.sandbox.faults.gates.clear()
        gate.release()
        await launching
        await bots.actor.quiesce()


@asynccontextmanager
async def looping(bots: Bots, operation: str) -> AsyncIterator[asyncio.Event]:
    """The worker's loop runs, and is in this call; the event stops it."""
    gate, stop = bots.actor.sandbox.faults.gate(operation), asyncio.Event()
    loop = asyncio.create_task(launching_loop(bots.actor.rt, stop))
    try:
        await gate.reached()
        yield stop
    finally:
        bots.actor.sandbox.faults.clear()
        stop.set()
        await loop


async def until_launched(bots: Bots, bot: Json) -> None:
    """Somebody else works at it."""
    async with asyncio.timeout(60):
        while (await bots.get(bot))["state"] != "launched":
            await asyncio.sleep(0.02)


# --- what the back end answers ---


@EACH_BACKEND
@pytest.mark.parametrize("fault", ["lost_answer", "failed_answer", "garbled_answer", "odd_answer"])
@pytest.mark.parametrize("seconds", [1_800, 0])
async def test_a_bot_whose_answer_was_lost_is_found(bots: Bots, kind: Backend, fault: str, seconds: float) -> None:
    await bots.launcher(kind, hand_over_seconds=HOUR)
    fail(bots, fault, f"{kind}.create")
    bot = await own(bots, seconds=seconds)
    await bots.actor.quiesce()
    await pass_time(bots, 6)
    launched = await bots.get(bot)
    assert (launched["state"], [launched["external_id"]]) == ("launched", live(bots))
    assert (len(bots.there()), creates(bots, kind)) == (1, 1)
    assert bots.states(bot) == ["scheduled", "launching", "launched"]


@EACH_BACKEND
@pytest.mark.parametrize("fault", ["unavailable", "too_many_requests", "html", "garbage"])
async def test_a_back_end_in_trouble_is_asked_again(bots: Bots, kind: Backend, fault: str) -> None:
    await bots.launcher(kind, hand_over_seconds=HOUR)
    fail(bots, fault, f"{kind}.create", retry_after="30")
    bot = await own(bots)
    await bots.actor.quiesce()
    if fault in {"unavailable", "too_many_requests"}:
        await pass_time(bots, 25)
        assert creates(bots, kind) == 1
    await pass_time(bots, 31)
    assert (await bots.get(bot))["state"] == "launched"
    assert len(bots.there()) == 1
    noted = [entry["type"] for entry in (await bots.get(bot))["events"]]
    assert noted == ["created", "launching", "waiting", "launched"]


@EACH_BACKEND
async def test_without_a_machine_it_is_tried_until_the_meeting_is_over(bots: Bots, kind: Backend) -> None:
    await bots.launcher(kind, hand_over_seconds=60)
    calendar = await bots.actor.connected()
    event = bots.meeting(calendar, hours=-0.9)  # an hour long
    await bots.actor.quiesce()
    [shown] = await bots.actor.events(calendar)
    fail(bots, "no_machine", f"{kind}.create", times=None)
    bot = await bots.on(shown["id"])
    await bots.actor.quiesce()
    for count in range(1, 5):
        assert creates(bots, kind) == count
        await pass_time(bots, 30.1)
    assert bots.actor.now() < event.end
    await pass_time(bots, 360)
    over, asked = await bots.get(bot), creates(bots, kind)
    assert (over["state"], over["state_reason"]) == ("missed", "meeting_over")
    await pass_time(bots, 60)
    assert creates(bots, kind) == asked
    assert bots.states(bot) == ["scheduled", "launching", "missed"]
    assert not bots.there()


@EACH_BACKEND
async def test_a_machine_that_comes_free_is_used(bots: Bots, kind: Backend) -> None:
    await bots.launcher(kind, hand_over_seconds=60)
    fail(bots, "no_machine", f"{kind}.create", times=2)
    bot = await own(bots, seconds=5)
    for _ in range(3):
        await pass_time(bots, 30.1)
    assert (await bots.get(bot))["external_id"] == live(bots)[0]
    assert len(bots.there()) == 1


@EACH_BACKEND
async def test_a_new_key_launches_what_the_old_one_could_not(bots: Bots, kind: Backend) -> None:
    launcher = await bots.launcher(kind, hand_over_seconds=HOUR)
    bots.actor.sandbox.bots.keys[kind] = {"another"}
    bot = await own(bots)
    await bots.actor.quiesce()
    refused = await bots.actor.call("GET", f"/launchers/{launcher['id']}")
    assert refused["health"]["status"] == "failing"
    assert (await bots.get(bot))["state"] == "launching"
    bots.actor.advance(timedelta(seconds=5))
    await bots.actor.call("PATCH", f"/launchers/{launcher['id']}", json={"api_key": "another"})
    await bots.actor.quiesce()
    assert (await bots.get(bot))["state"] == "launched"
    healthy = await bots.actor.call("GET", f"/launchers/{launcher['id']}")
    assert healthy["health"]["status"] == "healthy"


@EACH_BACKEND
async def test_a_refusal_for_good_ends_the_bot(bots: Bots, kind: Backend) -> None:
    await bots.launcher(kind, hand_over_seconds=HOUR)
    fail(bots, "forbidden", f"{kind}.create")
    bot = await own(bots)
    await bots.actor.quiesce()
    failed = await bots.get(bot)
    assert (failed["state"], failed["state_reason"]) == ("failed", "launch_refused")
    assert bots.states(bot) == ["scheduled", "launching", "failed"]


# --- what happens meanwhile ---


@EACH_BACKEND
@pytest.mark.parametrize("seconds", [1_800, 0])
async def test_a_bot_that_ends_while_it_is_started_is_withdrawn(bots: Bots, kind: Backend, seconds: float) -> None:
    await bots.launcher(kind, hand_over_seconds=HOUR)
    bot = await own(bots, seconds=seconds)
    async with in_call(bots, f"{kind}.create"):
        await bots.actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    assert (await bots.get(bot))["state"] == "cancelled"
    assert (len(bots.there()), live(bots)) == (1, [])
    assert bots.states(bot) == ["scheduled", "launching", "cancelled"]


@EACH_BACKEND
async def test_a_bot_that_ends_while_its_start_is_unknown_is_withdrawn(bots: Bots, kind: Backend) -> None:
    await bots.launcher(kind, hand_over_seconds=HOUR)
    fail(bots, "lost_answer", f"{kind}.create")
    bot = await own(bots)
    await bots.actor.quiesce()
    await bots.actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    await pass_time(bots, 6)
    assert (len(bots.there()), live(bots)) == (1, [])


@EACH_BACKEND
async def test_a_meeting_that_moves_while_its_bot_is_started(bots: Bots, kind: Backend) -> None:
    await bots.launcher(kind, hand_over_seconds=HOUR)
    calendar, event, bot = await bots.scheduled(hours=0.9)
    start = event.start + timedelta(minutes=30)
    async with in_call(bots, f"{kind}.create"):
        world = bots.actor.sandbox.world
        world.update_event(calendar.remote_id, event.id, start=start, end=start + timedelta(hours=1))
        await sync(bots, calendar)
    moved = await bots.get(bot)
    assert [(one.id, one.join_at) for one in bots.there()] == [(moved["external_id"], start)]
    assert (moved["state"], bots.states(bot)) == ("launched", ["scheduled", "launching", "launched"])


@EACH_BACKEND
async def test_a_link_that_changes_while_its_bot_is_changed(bots: Bots, kind: Backend) -> None:
    await bots.launcher(kind, hand_over_seconds=HOUR)
    bot = await own(bots)
    await bots.actor.quiesce()
    await bots.actor.call("PATCH", f"/bots/{bot['id']}", json={"bot_name": "Protokoll"})
    async with in_call(bots, f"{kind}.update"):
        await bots.actor.call("PATCH", f"/bots/{bot['id']}", json={"meeting_url": OTHER})
    now = await bots.get(bot)
    [there] = [one for one in bots.there() if one.id in live(bots)]
    assert (there.id, there.meeting_url, there.bot_name) == (now["external_id"], OTHER, "Protokoll")


@EACH_BACKEND
async def test_a_cancelled_meeting_that_comes_back_while_its_bot_is_withdrawn(bots: Bots, kind: Backend) -> None:
    await bots.launcher(kind, hand_over_seconds=HOUR)
    calendar, event, bot = await bots.scheduled(hours=0.9)
    await bots.actor.quiesce()
    world = bots.actor.sandbox.world
    world.update_event(calendar.remote_id, event.id, conference=None)
    await sync(bots, calendar)
    async with in_call(bots, f"{kind}.delete"):
        bots_link = bots.meeting(calendar, hours=5).conference  # any structured link
        world.update_event(calendar.remote_id, event.id, conference=bots_link)
        await sync(bots, calendar)
    back = await bots.get(bot)
    assert (back["state"], [back["external_id"]]) == ("launched", live(bots))
    there_and_back = ["scheduled", "launching", "launched"]
    assert bots.states(bot) == [*there_and_back, "cancelled", *there_and_back]


async def sync(bots: Bots, calendar: Connected) -> None:
    """Let the service see what changed, and nothing else happen."""
    await bots.actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await bots.actor.sandbox.push.idle()
    await bots.actor.run(calendar)


@EACH_BACKEND
async def test_a_bot_that_cannot_be_withdrawn_now_is_withdrawn_later(bots: Bots, kind: Backend) -> None:
    await bots.launcher(kind, hand_over_seconds=HOUR)
    bot = await own(bots)
    await bots.actor.quiesce()
    fail(bots, "redirect", f"{kind}.delete")
    await bots.actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    await bots.actor.quiesce()
    assert len(live(bots)) == 1
    await pass_time(bots, 61)
    assert live(bots) == []


@EACH_BACKEND
@pytest.mark.parametrize("seconds", [1_800, 0])
async def test_a_call_that_outlives_its_lease_changes_nothing(bots: Bots, kind: Backend, seconds: float) -> None:
    await bots.launcher(kind, hand_over_seconds=HOUR)
    bot = await own(bots, seconds=seconds)
    async with in_call(bots, f"{kind}.create"):
        bots.actor.advance(timedelta(seconds=91))
        await launch_due(bots.actor.rt)  # another worker, unless the first one has just looked again
        await until_launched(bots, bot)
        [before] = await rows(bots.actor.rt, "SELECT * FROM bots")
    [after] = await rows(bots.actor.rt, "SELECT * FROM bots")
    assert after == before
    noted = [entry["type"] for entry in (await bots.get(bot))["events"]]
    assert noted == ["created", "launching", "launched"]
    assert (len(bots.there()), creates(bots, kind)) == (1, 1)
    assert bots.states(bot) == ["scheduled", "launching", "launched"]


async def test_a_database_that_goes_away_during_a_call_delays_the_record(bots: Bots) -> None:
    await bots.launcher("meeting_baas", hand_over_seconds=HOUR)
    bot = await own(bots)
    async with looping(bots, "meeting_baas.create"):
        await rows(
            bots.actor.rt,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        bots.actor.sandbox.faults.clear()
        await until_launched(bots, bot)
    assert (len(bots.there()), creates(bots, "meeting_baas")) == (1, 1)


@EACH_BACKEND
async def test_a_bot_whose_new_link_is_refused_is_replaced(bots: Bots, kind: Backend) -> None:
    await bots.launcher(kind, hand_over_seconds=HOUR)
    bot = await own(bots)
    await bots.actor.quiesce()
    fail(bots, "redirect", f"{kind}.update")
    await bots.actor.call("PATCH", f"/bots/{bot['id']}", json={"meeting_url": OTHER})
    await bots.actor.quiesce()
    now = await bots.get(bot)
    [there] = [one for one in bots.there() if one.id in live(bots)]
    assert (there.id, there.meeting_url) == (now["external_id"], OTHER)


# --- when ---


@pytest.mark.parametrize(
    ("kind", "seconds"), [("webhook", 60), ("attendee", 180), ("meeting_baas", 300), ("recall", 720)]
)
async def test_each_kind_has_its_own_hand_over(bots: Bots, kind: str, seconds: int) -> None:
    assert (await bots.launcher(kind))["hand_over_seconds"] == seconds
    bot = await own(bots, seconds=seconds + 100)
    await pass_time(bots, 60)
    assert (await bots.get(bot))["state"] == "scheduled"
    await pass_time(bots, 41)
    await pass_time(bots, 2)
    assert (await bots.get(bot))["state"] == "launched"


@EACH_BACKEND
async def test_a_meeting_under_way_gets_its_bot_at_once(bots: Bots, kind: Backend) -> None:
    await bots.launcher(kind)
    _, _, bot = await bots.scheduled(hours=-0.5)
    await bots.actor.quiesce()
    [there] = bots.there()
    assert ((await bots.get(bot))["state"], bots.actor.sandbox.bots.phase(there)) == ("launched", "joined")


# --- by message ---


async def test_without_a_launcher_a_message_launches(bots: Bots) -> None:
    bot = await own(bots, seconds=150)
    await pass_time(bots, 50)
    assert bots.actor.messages("bot.launch") == []
    await pass_time(bots, 41)
    [message] = bots.actor.messages("bot.launch")
    data = message.body["data"]
    assert (data["bot"]["id"], data["bot"]["state"], data["revision"]) == (bot["id"], "launching", 1)
    await pass_time(bots, 2)
    assert (await bots.get(bot))["state"] == "launched"
    assert bots.states(bot) == ["scheduled", "launching", "launched"]


async def test_nobody_listens_to_launches(actor: Actor) -> None:
    async with staged(actor) as bots:
        bot = await own(bots, seconds=30)
        await actor.quiesce()
        failed = await bots.get(bot)
    assert (failed["state"], failed["state_reason"]) == ("failed", "no_receiver")


async def test_a_change_is_told_while_the_first_message_is_not_taken(bots: Bots) -> None:
    bots.actor.sink.hook().statuses[:] = [500]
    bot = await own(bots, seconds=50)
    await bots.actor.quiesce()
    await bots.actor.call("PATCH", f"/bots/{bot['id']}", json={"meeting_url": OTHER})
    await bots.actor.quiesce()
    bots.actor.sink.hook().statuses[:] = [204]
    for _ in range(4):
        await pass_time(bots, 30)
    told = [m.body["data"] for m in bots.actor.messages("bot.launch")]
    assert [(data["revision"], data["bot"]["meeting_url"]) for data in told] == [(2, OTHER)]
    assert (await bots.get(bot))["state"] == "launched"


async def test_a_bot_that_ended_is_not_launched_by_an_old_message(bots: Bots) -> None:
    bots.actor.sink.hook().statuses[:] = [500]
    bot = await own(bots, seconds=50)
    await bots.actor.quiesce()
    await bots.actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    await bots.actor.quiesce()
    bots.actor.sink.hook().statuses[:] = [204]
    for _ in range(4):
        await pass_time(bots, 30)
    assert bots.actor.messages("bot.launch") == []
    assert set(bots.states(bot)) == {"scheduled", "launching", "cancelled"}


# --- the loop ---


async def test_a_slow_launcher_does_not_hold_up_the_others(bots: Bots) -> None:
    await bots.launcher("recall", hand_over_seconds=HOUR)
    quick = await bots.launcher("attendee", hand_over_seconds=HOUR, is_default=False)
    most = bots.actor.rt.settings.delivery_concurrency  # calls at a time
    await asyncio.gather(*(own(bots, url=f"https://zoom.us/j/95512340{number:03}") for number in range(most + 5)))
    async with in_call(bots, "recall.create"):
        bot = await own(bots, launcher_id=quick["id"])
        bots.actor.rt.queue.wake_launching()
        await until_launched(bots, bot)
        assert not any(one.state == "launched" for one in await slow(bots))
    assert {one.state for one in await slow(bots)} == {"launched"}


async def slow(bots: Bots) -> Sequence[Row]:
    """The bots of the project's default launcher."""
    async with bots.actor.rt.db.reading() as tx:
        return await tx.rows("SELECT state FROM bots WHERE launcher_id IS NULL")


async def test_a_mistake_with_one_bot_does_not_keep_the_others(bots: Bots) -> None:
    launcher = await bots.launcher("attendee", hand_over_seconds=HOUR)
    await own(bots)
    whole = await own(bots, url=OTHER)
    async with bots.actor.rt.db.transaction() as tx:  # nothing that the API would store
        await tx.execute("UPDATE bots SET metadata = '[1]' WHERE meeting_url = :url", {"url": MEET})
    await bots.actor.quiesce()
    assert (await bots.get(whole))["state"] == "launched"
    [broken] = await rows(bots.actor.rt, "SELECT state, lease_until FROM bots WHERE meeting_url = :url", url=MEET)
    assert (broken["state"], broken["lease_until"]) == ("launching", None)
    assert (await bots.actor.call("GET", f"/launchers/{launcher['id']}"))["health"]["status"] == "healthy"


async def test_a_stop_records_the_calls_that_end_in_time(bots: Bots) -> None:
    await bots.launcher("attendee", hand_over_seconds=HOUR)
    bot = await own(bots)
    async with looping(bots, "attendee.create") as stop:
        stop.set()
    assert (await bots.get(bot))["state"] == "launched"
    [row] = await rows(bots.actor.rt, "SELECT lease_until FROM bots")
    assert row["lease_until"] is None
