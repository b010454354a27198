"""What a bot's owner says by hand reaches its back end, before the bot joins and after."""

from datetime import timedelta
from typing import Any

import pytest

from app.sync import cleanup
from tests.bots.stage import BACKENDS, EACH_BACKEND, MEET, OTHER, Bots
from tests.harness import Actor

Json = dict[str, Any]


async def _handed_over(bots: Bots, kind: str) -> tuple[Json, Json]:
    """A launcher and a bot that its back end has."""
    launcher = await bots.launcher(kind)
    at = bots.actor.now() + timedelta(hours=2)
    body = {"bot_name": "Notes", "meeting_url": MEET, "join_at": at.isoformat()}
    bot = await bots.actor.call("POST", "/bots", json=body, expect=201)
    bots.actor.advance(timedelta(hours=2) - timedelta(seconds=launcher["hand_over_seconds"] - 1))
    await bots.actor.quiesce()
    bots.actor.advance(timedelta(seconds=2))
    await bots.actor.quiesce()
    bot = await bots.get(bot)
    assert bot["state"] == "launched", bot
    return launcher, bot


@pytest.mark.parametrize("kind", [*BACKENDS, "webhook"])
async def test_a_change_is_passed_on(actor: Actor, bots: Bots, kind: str) -> None:
    _, bot = await _handed_over(bots, kind)
    later = actor.now() + timedelta(hours=3)
    await actor.call("PATCH", f"/bots/{bot['id']}", json={"join_at": later.isoformat(), "meeting_url": OTHER})
    await actor.quiesce()
    moved = await bots.get(bot)
    assert (moved["meeting_url"], moved["meeting_platform"]) == (OTHER, "zoom")
    if kind == "webhook":
        first, last = (message.body["data"] for message in actor.messages("bot.launch"))
        assert (first["revision"], last["revision"]) == (1, 2)
        assert (last["join_at"], last["bot"]["meeting_url"]) == (moved["join_at"], OTHER)
        return
    actor.advance(timedelta(hours=3))
    await actor.quiesce()
    alive = [one for one in bots.there() if one.withdrawn_at is None]
    assert [(one.meeting_url, one.join_at) for one in alive] == [(OTHER, later)]


@pytest.mark.parametrize("kind", [*BACKENDS, "webhook"])
async def test_a_deleted_bot_is_withdrawn(actor: Actor, bots: Bots, kind: str) -> None:
    _, bot = await _handed_over(bots, kind)
    await actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    await actor.quiesce()
    ended = await bots.get(bot)
    assert (ended["state"], ended["state_reason"]) == ("cancelled", "removed")
    assert bots.states(bot)[-2:] == ["launched", "cancelled"]
    told = actor.messages("bot.state_change")[-1].body["data"]
    assert (told["old_state"], told["new_state"], told["reason"]) == ("launched", "cancelled", "removed")
    assert all(one.withdrawn_at is not None for one in bots.there())


@EACH_BACKEND
async def test_a_bot_in_its_meeting_is_asked_to_leave(actor: Actor, bots: Bots, kind: str) -> None:
    launcher, bot = await _handed_over(bots, kind)
    actor.advance(timedelta(seconds=launcher["hand_over_seconds"] + 60))
    await actor.quiesce()
    assert [one.joined_at is not None for one in bots.there()] == [True]
    await actor.call("PATCH", f"/bots/{bot['id']}", json={"bot_name": "x"}, expect=409)
    await actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    await actor.quiesce()
    assert [one.left_at is not None for one in bots.there()] == [True]
    ended = await bots.get(bot)
    assert (ended["state"], ended["state_reason"]) == ("cancelled", "left_by_request")


@EACH_BACKEND
async def test_a_deleted_calendars_bots_are_withdrawn(actor: Actor, bots: Bots, kind: str) -> None:
    launcher = await bots.launcher(kind)
    calendar, _, bot = await bots.scheduled()
    actor.advance(timedelta(hours=24) - timedelta(seconds=launcher["hand_over_seconds"] - 1))
    await actor.quiesce()
    assert (await bots.get(bot))["state"] == "launched"
    await actor.call("DELETE", f"/calendars/{calendar.id}", expect=204)
    await actor.quiesce()
    ended = await bots.get(bot)
    assert (ended["state"], ended["state_reason"]) == ("cancelled", "calendar_deleted")
    assert (ended["calendar_id"], ended["calendar_event_id"]) == (None, None)
    assert all(one.withdrawn_at is not None for one in bots.there())
    told = actor.messages("bot.state_change")[-1].body
    assert (told["calendar_id"], told["data"]["bot"]["calendar_id"]) == (None, None)
    assert told["data"]["reason"] == "calendar_deleted"


async def test_a_bot_outlives_its_event_and_is_forgotten_with_its_messages(actor: Actor, bots: Bots) -> None:
    calendar, event, bot = await bots.scheduled()
    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    await actor.quiesce()
    own = {"bot_name": "Notes", "meeting_url": MEET, "join_at": (actor.now() + timedelta(days=400)).isoformat()}
    ahead = await actor.call("POST", "/bots", json=own, expect=201)
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE calendar_events SET updated_at = updated_at - interval '100 days'")
    while await cleanup.purge(actor.rt):
        pass
    await actor.call("GET", f"/calendar_events/{bot['calendar_event_id']}", expect=404)
    assert (await bots.get(bot))["calendar_event_id"] == bot["calendar_event_id"]
    actor.advance(timedelta(days=92))
    while await cleanup.purge(actor.rt):
        pass
    await actor.call("GET", f"/bots/{bot['id']}", expect=404)
    assert (await bots.get(ahead))["state"] == "scheduled"
    async with actor.rt.db.reading() as tx:
        assert await tx.scalar("SELECT count(DISTINCT bot_id) FROM bot_events") == 1
