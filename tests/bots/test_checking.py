"""The look before joining: what no push has told is known in time, and nothing keeps a hand-over waiting for long."""

from datetime import timedelta

import pytest

from app.bots.checking import look_ahead
from app.bots.launching import launch_due
from sandbox.model import Conference, Event
from tests.bots.stage import OTHER, Bots, Json
from tests.harness import BOTH, Actor, Connected

MINUTE = timedelta(minutes=1)


async def near(actor: Actor, bots: Bots) -> tuple[Connected, Event, Json]:
    """A bot that is handed over in two minutes, and whose calendar no push reaches any more."""
    await bots.launcher("attendee")
    calendar, event, bot = await bots.scheduled()
    actor.sandbox.push.mode = "drop"
    actor.advance(timedelta(hours=24) - timedelta(seconds=180) - 2 * MINUTE)
    await actor.quiesce()
    return calendar, event, bot


@BOTH
async def test_a_cancellation_that_no_push_told_is_found_before_the_hand_over(actor: Actor, bots: Bots) -> None:
    calendar, event, bot = await near(actor, bots)
    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    await actor.quiesce()
    assert (await bots.get(bot))["state"] == "scheduled"  # nobody has told
    actor.advance(2 * MINUTE - timedelta(seconds=3))
    await actor.quiesce()
    assert (await bots.get(bot))["state"] == "cancelled"
    actor.advance(timedelta(minutes=5))
    await actor.quiesce()
    assert bots.there() == []


@BOTH
async def test_a_new_link_that_no_push_told_is_found_before_joining(actor: Actor, bots: Bots) -> None:
    """After the hand-over there is another look, right before the meeting."""
    calendar, event, bot = await near(actor, bots)
    actor.advance(2 * MINUTE + timedelta(seconds=1))
    await actor.quiesce()
    launched = await bots.get(bot)
    assert launched["state"] == "launched"
    assert "checked" in [entry["type"] for entry in launched["events"]]
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=Conference("zoom", OTHER))
    await actor.quiesce()
    ahead = 5 + calendar.key.bytes[15] % 50  # as long before joining it is the calendar's turn
    actor.advance(timedelta(seconds=180 - ahead))
    await actor.quiesce()
    assert (await bots.get(bot))["meeting_url"] == OTHER
    alive = [one for one in bots.there() if one.withdrawn_at is None]
    assert [one.meeting_url for one in alive] == [OTHER]


async def test_one_look_serves_all_bots_of_a_calendar(actor: Actor, bots: Bots) -> None:
    calendar, *_ = await near(actor, bots)
    [shown] = await actor.events(calendar)
    await bots.on(shown["id"])
    asked = actor.sandbox.requests.count(actor.operation("changes"))
    actor.advance(2 * MINUTE - timedelta(seconds=3))
    await actor.quiesce()
    assert actor.sandbox.requests.count(actor.operation("changes")) == asked + 1
    assert await look_ahead(actor.rt) == 0


async def test_a_hand_over_waits_for_the_look_and_not_for_long(actor: Actor, bots: Bots) -> None:
    _, _, bot = await near(actor, bots)
    async with actor.rt.db.reading() as tx:
        due = await tx.scalar("SELECT due_at FROM bots")
    for seconds, looks, launches in ((-3.0, 1, 0), (0.1, 0, 0), (2.1, 0, 1)):  # nobody serves the look
        actor.advance(due + timedelta(seconds=seconds) - actor.rt.clock.now())
        assert (await look_ahead(actor.rt), await launch_due(actor.rt)) == (looks, launches)
    launched = await bots.get(bot)
    assert launched["state"] == "launched"
    skipped = [entry for entry in launched["events"] if entry["type"] == "check_skipped"]
    assert [entry["detail"] for entry in skipped] == ["not served in time"]


async def test_an_outage_of_the_provider_delays_no_hand_over(actor: Actor, bots: Bots) -> None:
    _, _, bot = await near(actor, bots)
    actor.sandbox.faults.add("unavailable", actor.operation("changes"), times=None)
    actor.advance(2 * MINUTE - timedelta(seconds=3))
    await actor.quiesce()
    actor.advance(timedelta(seconds=4))
    await actor.quiesce()
    launched = await bots.get(bot)
    assert launched["state"] == "launched"
    assert "check_skipped" in [entry["type"] for entry in launched["events"]]


@pytest.mark.parametrize("kind", ["webhook"])
async def test_a_look_is_asked_for_without_a_launcher_too(actor: Actor, bots: Bots, kind: str) -> None:
    calendar, event, bot = await bots.scheduled()
    actor.sandbox.push.mode = "drop"
    actor.advance(timedelta(hours=24) - timedelta(seconds=60) - 2 * MINUTE)
    await actor.quiesce()
    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    actor.advance(2 * MINUTE - timedelta(seconds=3))
    await actor.quiesce()
    assert (await bots.get(bot))["state"] == "cancelled"
    assert actor.messages("bot.launch") == []


async def test_a_bot_of_a_calendar_that_is_not_up_to_date_says_so_and_goes(actor: Actor, bots: Bots) -> None:
    calendar, _, bot = await near(actor, bots)
    actor.sandbox.faults.add("unavailable", actor.operation("changes"), times=None)
    for _ in range(8):
        await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
        await actor.quiesce()
        actor.advance(timedelta(seconds=20))
    assert (await actor.calendar(calendar))["health"]["status"] != "healthy"
    assert (await bots.get(bot))["hold_reason"] == "provider_unavailable"
    await actor.quiesce()
    launched = await bots.get(bot)
    assert launched["state"] == "launched"
