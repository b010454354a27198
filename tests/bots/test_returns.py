"""Which bots come back with their meeting, and which stay away."""

import asyncio
from contextvars import Context
from datetime import timedelta

from app.bots import making
from app.bots.making import NewBot
from sandbox.backends.book import Backend
from sandbox.model import Conference
from tests.bots.stage import EACH_BACKEND, MEET, Bots
from tests.harness import BOTH, Actor, Connected
from tests.integration.test_races import until_it_waits


async def _disconnect(actor: Actor, calendar: Connected) -> None:
    actor.sandbox.world.revoke(calendar.account)
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()
    assert (await actor.calendar(calendar))["state"] == "disconnected"


async def _reconnect(actor: Actor, calendar: Connected) -> None:
    token = actor.sandbox.world.issue_refresh_token(calendar.account)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": token})
    await actor.quiesce()
    assert (await actor.calendar(calendar))["state"] == "connected"


async def test_a_removed_bot_does_not_come_back_with_its_meeting(actor: Actor, bots: Bots) -> None:
    calendar, event, bot = await bots.scheduled()
    await actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    actor.sandbox.world.update_event(calendar.remote_id, event.id, start=event.start + timedelta(hours=1))
    await actor.quiesce()
    assert (await bots.get(bot))["state_reason"] == "removed"
    again = await bots.on(bot["calendar_event_id"])
    assert again["id"] != bot["id"]


async def test_a_bot_that_was_ended_after_its_meeting_went_stays_away(actor: Actor, bots: Bots) -> None:
    calendar, event, bot = await bots.scheduled()
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=None)
    await actor.quiesce()
    assert (await bots.get(bot))["state_reason"] == "link_gone"
    await actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=Conference("meet", MEET))
    await actor.quiesce()
    assert (await bots.get(bot))["state"] == "cancelled"


async def test_a_bot_whose_launcher_was_deleted_meanwhile_goes_to_the_default(actor: Actor, bots: Bots) -> None:
    """It kept the launcher's id once, waited for its key until its meeting was over, and could not be changed."""
    theirs = await bots.launcher("attendee", is_default=False)
    calendar, event, shown = await bots.event()
    bot = await bots.on(shown["id"], launcher_id=theirs["id"])
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=None)
    await actor.quiesce()
    assert (await bots.get(bot))["state_reason"] == "link_gone"
    await actor.call("DELETE", f"/launchers/{theirs['id']}", expect=204)
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=Conference("meet", MEET))
    await actor.quiesce()
    back = await actor.call("PATCH", f"/bots/{bot['id']}", json={"bot_name": "Minutes"})
    assert (back["state"], back["launcher_id"]) == ("scheduled", None)
    launched = await bots.until_hand_over(bot, seconds=24 * 3_600 - 60)
    assert launched["state"] == "launched", launched["events"]


async def test_a_bot_whose_launcher_was_deleted_after_the_meeting_that_was_put_off_then(
    actor: Actor, bots: Bots
) -> None:
    """Nobody can reach the one that has it; it waited for that one's key until the new meeting was over."""
    theirs = await bots.launcher("attendee", is_default=False)
    calendar, event, shown = await bots.event()
    bot = await bots.on(shown["id"], launcher_id=theirs["id"])
    launched = await bots.until_hand_over(bot, seconds=24 * 3_600 - 60)
    assert launched["state"] == "launched", launched["events"]
    actor.advance(timedelta(hours=3))
    await actor.call("DELETE", f"/launchers/{theirs['id']}", expect=204)
    start = actor.now() + timedelta(hours=3)
    actor.sandbox.world.update_event(calendar.remote_id, event.id, start=start, end=start + timedelta(hours=1))
    await actor.quiesce()
    assert (await bots.until_hand_over(bot, seconds=60))["state"] == "scheduled"
    launched = await bots.until_hand_over(bot, seconds=3 * 3_600)
    assert launched["state"] == "launched", launched["events"]
    assert [note["type"] for note in launched["events"]][-3:] == ["replaced", "launching", "launched"]


async def test_a_bot_whose_key_was_taken_meanwhile_is_superseded(actor: Actor, bots: Bots) -> None:
    calendar, event, shown = await bots.event()
    first = await bots.on(shown["id"], deduplication_key="k")
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=None)
    await actor.quiesce()
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=Conference("meet", MEET))
    at = (actor.now() + timedelta(hours=1)).isoformat()
    body = {"bot_name": "Notes", "meeting_url": MEET, "join_at": at, "deduplication_key": "k"}
    await actor.call("POST", "/bots", json=body, expect=201)
    await actor.quiesce()
    stays = await bots.get(first)
    assert (stays["state"], stays["state_reason"]) == ("cancelled", "superseded")


async def test_a_key_that_is_being_taken_is_waited_for(actor: Actor, bots: Bots) -> None:
    """Else the sync that brings the other bot back would fail as a whole."""
    calendar, event, shown = await bots.event()
    first = await bots.on(shown["id"], deduplication_key="k")
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=None)
    await actor.quiesce()
    new = NewBot(
        bot_name="Notes",
        event_id=None,
        meeting_url=MEET,
        meeting_platform="google_meet",
        join_at=actor.now() + timedelta(hours=1),
        launcher_id=None,
        deduplication_key="k",
        metadata=None,
        config=None,
    )
    async with actor.rt.db.transaction() as tx:
        await making.make(actor.rt, tx, project_id=actor.project.id, new=new)
        actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=Conference("meet", MEET))
        await actor.sandbox.push.idle()
        running = asyncio.create_task(actor.run(calendar), context=Context())
        await until_it_waits(tx)
    assert await running == "synced"
    assert (await bots.get(first))["state_reason"] == "superseded"


@BOTH
async def test_a_meeting_that_was_put_off_while_its_calendar_was_disconnected(actor: Actor, bots: Bots) -> None:
    """The bot's old time is over when the calendar works again; its meeting is not."""
    calendar, event, bot = await bots.scheduled(hours=24)
    await _disconnect(actor, calendar)
    start = event.start + timedelta(days=4)
    actor.sandbox.world.update_event(calendar.remote_id, event.id, start=start, end=start + timedelta(hours=1))
    actor.advance(timedelta(days=2))
    await _reconnect(actor, calendar)
    [shown] = await actor.events(calendar)
    back = await bots.get(bot)
    assert (back["state"], back["join_at"]) == ("scheduled", shown["start_time"])


@EACH_BACKEND
async def test_a_bot_that_comes_back_while_its_withdrawal_is_unanswered_is_there(bots: Bots, kind: Backend) -> None:
    await bots.launcher(kind, hand_over_seconds=3_600)
    calendar, event, bot = await bots.scheduled(hours=0.9)
    await bots.actor.quiesce()
    world, faults = bots.actor.sandbox.world, bots.actor.sandbox.faults
    world.delete_event(calendar.remote_id, event.id)
    faults.add("lost_answer", f"{kind}.delete")  # the back end has ended the bot, and we do not know
    await bots.actor.quiesce()
    assert not faults.active
    world.restore_event(calendar.remote_id, event.id)
    await bots.actor.quiesce()
    bots.actor.advance(timedelta(seconds=11))
    await bots.actor.quiesce()
    now = await bots.get(bot)
    live = [one.id for one in bots.there() if bots.actor.sandbox.bots.phase(one) == "scheduled"]
    assert (now["state"], live) == ("launched", [now["external_id"]])
