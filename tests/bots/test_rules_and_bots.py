"""What rules make of one calendar's events: which bots they make, keep, pass on and end, and what they leave alone."""

from datetime import timedelta
from typing import Any

import pytest

from app.ids import LAUNCHER, parse
from sandbox.model import Attendee, Conference, Event, Person
from tests.bots.meetings import change_rule, live, of_event, override, the_bot
from tests.bots.stage import EACH_BACKEND, MEET, OTHER, Bots, Json
from tests.harness import BOTH, Actor, Connected

SALES = {"title_contains": ["sales"]}
WIDE = pytest.mark.parametrize("scope", ["event", "meeting"])


async def ruled(bots: Bots, *, title: str = "Sales call", **rule: Any) -> tuple[Json, Connected, Event, Json]:
    """A rule on titles, a calendar, an event that it wants a bot on, the bot."""
    made = await bots.rule(**{"match": SALES, **rule})
    calendar = await bots.actor.connected()
    event = bots.meeting(calendar, title=title)
    await bots.actor.quiesce()
    return made, calendar, event, await the_bot(bots.actor)


def edit(actor: Actor, calendar: Connected, event: Event, **changes: Any) -> None:
    """The user edits the event."""
    actor.sandbox.world.update_event(calendar.remote_id, event.id, **changes)


@BOTH
@WIDE
async def test_a_bot_goes_when_no_rule_wants_it_and_comes_back(actor: Actor, bots: Bots, scope: str) -> None:
    _, calendar, event, bot = await ruled(bots, dedup_scope=scope)
    edit(actor, calendar, event, title="Lunch")
    await actor.quiesce()
    gone = await bots.get(bot)
    assert (gone["state"], gone["state_reason"]) == ("cancelled", "no_rule")
    start = event.start + timedelta(hours=1)
    edit(actor, calendar, event, title="Sales lunch", start=start, end=start + timedelta(hours=1))
    await actor.quiesce()
    [shown] = await actor.events(calendar)
    back = await the_bot(actor)
    assert (back["id"], back["join_at"], back["state_reason"]) == (bot["id"], shown["start_time"], None)
    assert bots.states(bot) == ["scheduled", "cancelled", "scheduled"]
    assert [one["id"] for one in await of_event(actor, shown["id"])] == [bot["id"]]


@WIDE
async def test_a_bot_that_was_changed_by_hand_is_its_owners(actor: Actor, bots: Bots, scope: str) -> None:
    rule, calendar, event, bot = await ruled(bots, dedup_scope=scope)
    await actor.call("PATCH", f"/bots/{bot['id']}", json={"bot_name": "Mine"})
    await change_rule(actor, rule, "bot_name = 'Theirs'")
    edit(actor, calendar, event, title="Lunch")
    await actor.quiesce()
    now = await the_bot(actor)
    assert (now["id"], now["bot_name"], now["state"]) == (bot["id"], "Mine", "scheduled")
    start = event.start + timedelta(hours=1)
    edit(actor, calendar, event, start=start, end=start + timedelta(hours=1), conference=Conference("zoom", OTHER))
    await actor.quiesce()
    now = await the_bot(actor)
    assert (now["meeting_url"], now["bot_name"]) == (OTHER, "Mine")
    edit(actor, calendar, event, conference=None)
    await actor.quiesce()
    assert (await bots.get(bot))["state_reason"] == "link_gone"
    edit(actor, calendar, event, conference=Conference("meet", MEET), title="Sales again")
    await actor.quiesce()
    back = await the_bot(actor)
    assert (back["id"], back["bot_name"]) == (bot["id"], "Mine")


@WIDE
async def test_a_removed_bot_keeps_its_rule_away_until_that_changes(actor: Actor, bots: Bots, scope: str) -> None:
    rule, calendar, event, bot = await ruled(bots, dedup_scope=scope)
    await actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    start = event.start + timedelta(hours=1)
    for changes in ({"title": "Sales, really"}, {"start": start, "end": start + timedelta(hours=1)}):
        edit(actor, calendar, event, **changes)
        await actor.quiesce()
        assert await live(actor) == []
    await change_rule(actor, rule, "bot_name = 'New'")
    await actor.quiesce()
    new = await the_bot(actor)
    assert new["id"] != bot["id"]
    assert (await bots.get(bot))["state_reason"] == "removed"


async def test_a_removed_bot_keeps_no_other_rule_away_of_its_event(actor: Actor, bots: Bots) -> None:
    _, calendar, event, bot = await ruled(bots, dedup_scope="event")
    other = await bots.rule(match=SALES, dedup_scope="event", name="Second")
    await actor.quiesce()
    assert len(await live(actor)) == 2
    await actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    edit(actor, calendar, event, title="Sales 2")
    await actor.quiesce()
    assert (await the_bot(actor))["rule_id"] == other["id"]


@WIDE
async def test_a_bot_that_failed_is_not_made_again(actor: Actor, bots: Bots, scope: str) -> None:
    """Its own event and, in the wider scopes, the other invitees' would fail as well."""
    rule, calendar, event, bot = await ruled(bots, dedup_scope=scope, title="Sales call")
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE bots SET state = 'failed', state_reason = 'launch_refused', due_at = NULL")
    edit(actor, calendar, event, title="Sales, really")
    await actor.quiesce()
    assert await live(actor) == []
    if scope == "meeting":
        other = await actor.connected()
        bots.meeting(other, title="Sales call", start=event.start, end=event.end)
        await actor.quiesce()
        assert await live(actor) == []
    await change_rule(actor, rule, "bot_name = 'New'")
    await actor.quiesce()
    assert len(await live(actor)) == 1
    assert (await bots.get(bot))["state"] == "failed"


async def test_a_rule_that_is_disabled_or_deleted_ends_its_bots(actor: Actor, bots: Bots) -> None:
    rule, _, _, bot = await ruled(bots)
    await change_rule(actor, rule, "is_enabled = false")
    await actor.quiesce()
    assert (await bots.get(bot))["state_reason"] == "no_rule"
    await change_rule(actor, rule, "is_enabled = true")
    await actor.quiesce()
    assert (await the_bot(actor))["id"] == bot["id"]
    await change_rule(actor, rule, "deleted_at = app_now()")
    await actor.quiesce()
    assert (await bots.get(bot))["state_reason"] == "no_rule"


async def test_rules_of_a_wide_scope_share_a_slot_and_others_do_not(actor: Actor, bots: Bots) -> None:
    for name in ("a", "b"):
        for scope in ("event", "meeting", "organization"):
            await bots.rule(name=f"{scope} {name}", dedup_scope=scope, priority=1 if name == "a" else 0)
    calendar = await actor.connected()
    bots.meeting(calendar)
    await actor.quiesce()
    found = await live(actor)
    noted = sorted(bot["events"][0]["detail"] for bot in found)
    assert noted == ["rule event a", "rule event b", "rule meeting a", "rule organization a"]


@EACH_BACKEND
async def test_a_higher_rule_takes_over_and_its_settings_are_passed_on(actor: Actor, bots: Bots, kind: str) -> None:
    launcher = await bots.launcher(kind)
    low = await bots.rule(name="Low")
    calendar = await actor.connected()
    bots.meeting(calendar, hours=2)
    await actor.quiesce()
    bot = await the_bot(actor)
    assert bot["rule_id"] == low["id"]
    actor.advance(timedelta(hours=2) - timedelta(seconds=launcher["hand_over_seconds"] - 1))
    await actor.quiesce()
    assert (await bots.get(bot))["state"] == "launched"
    high = await bots.rule(name="High", priority=5)
    await change_rule(actor, high, "bot_name = 'Scribe'")
    await actor.quiesce()
    now = await the_bot(actor)
    assert (now["id"], now["rule_id"], now["bot_name"]) == (bot["id"], high["id"], "Scribe")
    there = [one for one in bots.there() if one.withdrawn_at is None]
    assert [one.bot_name for one in there] == ["Scribe"]
    assert there[0].id == now["external_id"]


async def test_a_bot_at_a_back_end_is_not_taken_to_another_one(actor: Actor, bots: Bots) -> None:
    """It stays as its old rule made it; one that waits goes along."""
    attendee = await bots.launcher("attendee")
    recall = await bots.launcher("recall", is_default=False)
    low = await bots.rule(name="Low")
    calendar = await actor.connected()
    bots.meeting(calendar, hours=2, title="near")
    bots.meeting(calendar, hours=30, title="far")
    await actor.quiesce()
    actor.advance(timedelta(hours=2) - timedelta(seconds=attendee["hand_over_seconds"] - 1))
    await actor.quiesce()
    high = await bots.rule(name="High", priority=5)
    key = parse(LAUNCHER, recall["id"])
    await change_rule(actor, high, "bot_name = 'Scribe', launcher_id = :launcher", launcher=key)
    await actor.quiesce()
    near, far = sorted(await live(actor), key=lambda bot: str(bot["join_at"]))
    assert (near["rule_id"], near["launcher_id"], near["bot_name"]) == (low["id"], None, "Notes")
    assert (far["rule_id"], far["launcher_id"], far["bot_name"]) == (high["id"], recall["id"], "Scribe")
    assert len([one for one in bots.there() if one.withdrawn_at is None]) == 1


@BOTH
async def test_no_bot_where_the_owner_declines_nor_for_a_whole_day(actor: Actor, bots: Bots) -> None:
    await bots.rule()
    calendar = await actor.connected()
    email = calendar.account.email
    declined = (Attendee(email, response="declined"), Attendee("third@example.com"))
    bots.meeting(calendar, attendees=declined, organizer=Person("boss@example.com"))
    day = (actor.now() + timedelta(days=2)).date()
    bots.meeting(calendar, start=day, end=day + timedelta(days=1))
    await actor.quiesce()
    assert len(await actor.events(calendar)) == 2
    assert await live(actor) == []
    await bots.rule(match={"is_all_day": True, "meeting_platforms": ["google_meet"]}, dedup_scope="event")
    await bots.rule(match={"own_response": ["declined"]}, dedup_scope="event")
    await actor.quiesce()
    assert len(await live(actor)) == 2


async def test_a_meeting_under_way_keeps_its_bot_when_its_rule_goes(actor: Actor, bots: Bots) -> None:
    launcher = await bots.launcher("attendee")
    rule, calendar, _, bot = await ruled(bots)
    actor.advance(timedelta(hours=24) - timedelta(seconds=launcher["hand_over_seconds"] - 1))
    await actor.quiesce()
    actor.advance(timedelta(seconds=launcher["hand_over_seconds"] + 60))
    await actor.quiesce()
    await change_rule(actor, rule, "is_enabled = false")
    await actor.quiesce()
    assert (await bots.get(bot))["state"] == "launched"
    assert [one.left_at for one in bots.there()] == [None]
    [shown] = await actor.events(calendar)
    await override(actor, shown, "never")
    await actor.quiesce()
    ended = await bots.get(bot)
    assert (ended["state"], ended["state_reason"]) == ("cancelled", "overridden")
    assert [one.left_at is None for one in bots.there()] == [False]


async def test_an_override_beats_rules_both_ways(actor: Actor, bots: Bots) -> None:
    rule, calendar, event, bot = await ruled(bots)
    [shown] = await actor.events(calendar)
    await override(actor, shown, "never")
    await actor.quiesce()
    assert (await bots.get(bot))["state_reason"] == "overridden"
    await override(actor, shown, "always")
    edit(actor, calendar, event, title="Lunch")
    await actor.quiesce()
    back = await the_bot(actor)
    assert (back["id"], back["rule_id"]) == (bot["id"], rule["id"])
    await override(actor, shown, None)
    await actor.quiesce()
    assert (await bots.get(bot))["state_reason"] == "no_rule"


async def test_always_brings_a_bot_that_was_removed_before(actor: Actor, bots: Bots) -> None:
    _, calendar, _, bot = await ruled(bots)
    await actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    [shown] = await actor.events(calendar)
    await override(actor, shown, "always")
    await actor.quiesce()
    assert (await the_bot(actor))["id"] != bot["id"]
