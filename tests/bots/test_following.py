"""A bot is where its meeting is: before it is handed over, and after."""

from datetime import timedelta

import pytest

from sandbox.model import Conference
from tests.bots.stage import BACKENDS, EACH_BACKEND, MEET, OTHER, Bots
from tests.harness import BOTH, Actor


@BOTH
async def test_a_bot_moves_with_its_meeting(actor: Actor, bots: Bots) -> None:
    calendar, event, bot = await bots.scheduled()
    now = bot
    for hours in (1, -2):
        by = timedelta(hours=hours)
        actor.sandbox.world.update_event(calendar.remote_id, event.id, start=event.start + by, end=event.end + by)
        await actor.quiesce()
        [shown] = await actor.events(calendar)
        now = await bots.get(bot)
        assert (now["join_at"], now["state"]) == (shown["start_time"], "scheduled")
    assert [entry["type"] for entry in (await bots.get(bot))["events"]] == ["created", "moved", "moved"]
    assert bots.states(bot) == ["scheduled"]


@BOTH
async def test_another_link_is_the_bots_link(actor: Actor, bots: Bots) -> None:
    calendar, event, bot = await bots.scheduled()
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=Conference("zoom", OTHER))
    await actor.quiesce()
    now = await bots.get(bot)
    assert (now["meeting_url"], now["meeting_platform"]) == (OTHER, "zoom")


@BOTH
async def test_a_bot_goes_with_the_link_and_comes_back_with_it(actor: Actor, bots: Bots) -> None:
    calendar, event, bot = await bots.scheduled()
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=None)
    await actor.quiesce()
    gone = await bots.get(bot)
    assert (gone["state"], gone["state_reason"]) == ("cancelled", "link_gone")
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=Conference("meet", MEET))
    await actor.quiesce()
    back = await bots.get(bot)
    assert (back["state"], back["state_reason"], back["id"]) == ("scheduled", None, bot["id"])
    assert bots.states(bot) == ["scheduled", "cancelled", "scheduled"]


@BOTH
async def test_a_bot_goes_with_its_event(actor: Actor, bots: Bots) -> None:
    calendar, event, bot = await bots.scheduled()
    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    await actor.quiesce()
    gone = await bots.get(bot)
    assert gone["state"] == "cancelled"
    assert gone["state_reason"] in {"event_deleted", "event_cancelled"}


@BOTH
async def test_a_disconnect_ends_bots_and_a_reconnect_restores_them(actor: Actor, bots: Bots) -> None:
    calendar, _, bot = await bots.scheduled()
    actor.sandbox.world.revoke(calendar.account)
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()
    assert (await actor.calendar(calendar))["state"] == "disconnected"
    gone = await bots.get(bot)
    assert (gone["state"], gone["state_reason"]) == ("cancelled", "calendar_disconnected")
    token = actor.sandbox.world.issue_refresh_token(calendar.account)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": token})
    await actor.quiesce()
    back = await bots.get(bot)
    assert (back["state"], back["id"]) == ("scheduled", bot["id"])


@pytest.mark.parametrize("kind", [*BACKENDS, "webhook"])
async def test_a_bot_is_handed_over_once_and_before_its_time(actor: Actor, bots: Bots, kind: str) -> None:
    launcher = await bots.launcher(kind)
    _, event, bot = await bots.scheduled()
    lead = launcher["hand_over_seconds"]
    actor.advance(timedelta(hours=24) - timedelta(seconds=lead + 120))
    await actor.quiesce()
    assert (await bots.get(bot))["state"] == "scheduled"
    actor.advance(timedelta(seconds=121))
    await actor.quiesce()
    actor.advance(timedelta(seconds=2))
    await actor.quiesce()
    launched = await bots.get(bot)
    assert launched["state"] == "launched", launched
    assert bots.states(bot) == ["scheduled", "launching", "launched"]
    if kind == "webhook":
        [message] = actor.messages("bot.launch")
        assert message.body["data"]["bot"]["id"] == bot["id"]
        assert message.body["data"]["bot"]["meeting_url"] == MEET
    else:
        [there] = bots.there()
        assert (there.id, there.meeting_url, there.bot_name) == (launched["external_id"], MEET, "Notes")
        assert there.join_at == event.start


@EACH_BACKEND
async def test_a_bot_that_was_handed_over_follows(actor: Actor, bots: Bots, kind: str) -> None:
    launcher = await bots.launcher(kind)
    calendar, event, bot = await bots.scheduled()
    actor.advance(timedelta(hours=24) - timedelta(seconds=launcher["hand_over_seconds"] - 1))
    await actor.quiesce()
    assert (await bots.get(bot))["state"] == "launched"
    start = event.start + timedelta(hours=3)
    actor.sandbox.world.update_event(calendar.remote_id, event.id, start=start, end=start + timedelta(hours=1))
    await actor.quiesce()
    moved = await bots.get(bot)
    alive = [one for one in bots.there() if one.withdrawn_at is None]
    if moved["state"] == "launched":
        assert [(one.join_at, one.id) for one in alive] == [(start, moved["external_id"])]
    else:
        assert (moved["state"], alive) == ("scheduled", [])
        actor.advance(timedelta(hours=3))
        await actor.quiesce()
        alive = [one for one in bots.there() if one.withdrawn_at is None]
        assert [one.join_at for one in alive] == [start]
    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    await actor.quiesce()
    assert (await bots.get(bot))["state"] == "cancelled"
    assert all(one.withdrawn_at is not None or one.left_at is not None for one in bots.there())
