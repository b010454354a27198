"""Overrides: what an owner says of an event or a series beats every rule, and is no change of the event."""

from datetime import timedelta
from typing import Any

import pytest

from sandbox.model import Conference
from tests.bots.stage import OTHER, Bots, Json
from tests.bots.test_series import live, places, wanted, weekly
from tests.harness import BOTH, Actor
from tests.hazards.hearing import GOOGLE, by_start, days_pass, original

NONE = {"title_contains": ["no event is called that"]}


async def say(actor: Actor, event: Json, value: str | None, **body: Any) -> Json:
    """Override the rules for an event, or its series."""
    return await actor.call("PATCH", f"/calendar_events/{event['id']}", json={"bot_override": value, **body})


async def shown(actor: Actor, event: Json) -> Json:
    """The event as it is now."""
    return await actor.call("GET", f"/calendar_events/{event['id']}")


@BOTH
async def test_never_ends_the_bots_of_rules_and_null_brings_them_back(actor: Actor, bots: Bots) -> None:
    await bots.rule()
    _, _, event = await bots.event()
    [bot] = await live(actor)
    by_hand = await bots.on(event["id"])
    answer = await say(actor, event, "never")
    assert (answer["bot_override"], [one["state"] for one in answer["bots"]]) == ("never", ["cancelled", "scheduled"])
    gone = await bots.get(bot)
    assert (gone["state"], gone["state_reason"]) == ("cancelled", "overridden")
    assert (await bots.get(by_hand))["state"] == "scheduled"
    assert (await say(actor, event, None))["bot_override"] is None
    back = await bots.get(bot)
    assert (back["state"], back["state_reason"]) == ("scheduled", None)
    await actor.quiesce()
    assert bots.states(bot) == ["scheduled", "cancelled", "scheduled"]


@BOTH
async def test_always_has_the_first_rule_make_a_bot(actor: Actor, bots: Bots) -> None:
    await bots.rule(match=NONE)
    first = await bots.rule(match=NONE, priority=1)
    calendar, event, shown_event = await bots.event()
    assert await live(actor) == []
    await say(actor, shown_event, "always")
    [bot] = await live(actor)
    assert bot["rule_id"] == first["id"]
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=Conference("zoom", OTHER))
    await actor.quiesce()
    [moved] = await live(actor)
    assert (moved["id"], moved["meeting_url"]) == (bot["id"], OTHER)
    await say(actor, shown_event, None)
    assert (await bots.get(bot))["state_reason"] == "no_rule"


@BOTH
async def test_an_override_is_no_change_of_the_event(actor: Actor, bots: Bots) -> None:
    calendar, _, event = await bots.event()
    heard = len(actor.messages())
    answer = await say(actor, event, "never")
    assert answer == {**event, "bot_override": "never"}
    assert await shown(actor, event) == answer
    assert await actor.events(calendar) == [answer]
    await actor.quiesce()
    assert len(actor.messages()) == heard


@BOTH
async def test_a_sync_keeps_an_override(actor: Actor, bots: Bots) -> None:
    await bots.rule()
    calendar, event, shown_event = await bots.event()
    await say(actor, shown_event, "never")
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=Conference("zoom", OTHER))
    await actor.quiesce()
    now = await shown(actor, shown_event)
    assert (now["bot_override"], now["meeting_url"]) == ("never", OTHER)
    assert await live(actor) == []


@BOTH
@pytest.mark.parametrize("value", ["always", None])
async def test_an_override_lets_rules_make_what_was_ended(actor: Actor, bots: Bots, value: str | None) -> None:
    await bots.rule()
    _, _, event = await bots.event()
    [bot] = await live(actor)
    await actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    await say(actor, event, "never")
    assert await live(actor) == []
    await say(actor, event, value)
    [again] = await live(actor)
    assert again["id"] != bot["id"]
    assert (await bots.get(bot))["state_reason"] == "removed"


@BOTH
async def test_always_makes_no_bot_again_that_was_ended_since(actor: Actor, bots: Bots) -> None:
    """Else nobody could end it: each sync would bring another."""
    await bots.rule()
    calendar, event, shown_event = await bots.event()
    await say(actor, shown_event, "always")
    [bot] = await live(actor)
    await actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=Conference("zoom", OTHER))
    await actor.quiesce()
    assert await live(actor) == []


async def test_always_tries_what_has_failed_once_more_and_not_for_ever(actor: Actor, bots: Bots) -> None:
    await bots.rule()
    calendar, event, shown_event = await bots.event()
    [first] = await live(actor)
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE bots SET state = 'failed', state_reason = 'launch_refused', due_at = NULL")
    await say(actor, shown_event, "always")
    [second] = await live(actor)
    assert second["id"] != first["id"]
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE bots SET state = 'failed', state_reason = 'launch_refused', due_at = NULL")
    actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=Conference("zoom", OTHER))
    await actor.quiesce()
    assert await live(actor) == []


@BOTH
async def test_a_series_is_overridden_as_a_whole(actor: Actor, bots: Bots) -> None:
    await bots.rule()
    calendar, _, occurrences = await weekly(actor, bots)
    assert places(await live(actor)) == wanted(occurrences)
    await say(actor, occurrences[1], "always")
    answer = await say(actor, occurrences[2], "never", all_occurrences=True)
    assert answer["bot_override"] == "never"
    assert await live(actor) == []
    assert {event["bot_override"] for event in await actor.events(calendar)} == {"never"}
    await say(actor, occurrences[1], "always")
    assert places(await live(actor)) == wanted(occurrences[1:2])
    for _ in range(8):
        await days_pass(actor)
    later = [event for event in await by_start(actor, calendar) if event["start_time"] > occurrences[-1]["start_time"]]
    assert [event["bot_override"] for event in later] == ["never"] * len(later) != []
    assert {bot["calendar_event_id"] for bot in await live(actor)} <= {occurrences[1]["id"]}
    await say(actor, occurrences[-1], None, all_occurrences=True)
    ahead = [bot["calendar_event_id"] for bot in await live(actor)]
    assert set(ahead) >= {event["id"] for event in (*occurrences[2:], *later)}
    assert {event["bot_override"] for event in await actor.events(calendar)} == {None}


@BOTH
async def test_the_override_of_a_series_goes_for_both_parts_of_a_split(actor: Actor, bots: Bots) -> None:
    await bots.rule()
    calendar, series_id, occurrences = await weekly(actor, bots)
    await say(actor, occurrences[0], "never", all_occurrences=True)
    await say(actor, occurrences[3], "always")
    actor.sandbox.world.split_series(calendar.remote_id, series_id, original(occurrences[2]), title="From here on")
    await actor.quiesce()
    after = await by_start(actor, calendar)
    assert [(event["name"], event["bot_override"]) for event in after] == [
        ("Planning", "never"),
        ("Planning", "never"),
        ("From here on", "never"),
        ("From here on", "always"),
        ("From here on", "never"),
    ]
    assert places(await live(actor)) == wanted(after[3:4])


@GOOGLE
async def test_a_part_that_was_split_off_far_ahead_is_overridden_as_well(actor: Actor, bots: Bots) -> None:
    """Nothing of what is stored goes: the new part is known by its name alone. Later it is a series of its own."""
    await bots.rule()
    calendar, series_id, occurrences = await weekly(actor, bots)
    await say(actor, occurrences[0], "never", all_occurrences=True)
    at = original(occurrences[-1]) + timedelta(days=7)
    actor.sandbox.world.split_series(calendar.remote_id, series_id, at, title="From there on")
    await actor.quiesce()
    for _ in range(8):
        await days_pass(actor)
    [later] = [event for event in await actor.events(calendar) if event["name"] == "From there on"]
    assert later["bot_override"] == "never"
    await say(actor, later, None, all_occurrences=True)
    for _ in range(7):
        await days_pass(actor)
    after = [event for event in await by_start(actor, calendar) if event["name"] == "From there on"]
    assert [event["bot_override"] for event in after] == [None, None]
    assert places(await live(actor)) == wanted(after)


@BOTH
async def test_never_hands_the_meeting_to_another_copy(actor: Actor, bots: Bots) -> None:
    await bots.rule()
    for _ in range(2):
        calendar = await actor.connected()
        bots.meeting(calendar, ical_uid="meeting-1@example.com")
    await actor.quiesce()
    [bot] = await live(actor)
    await say(actor, {"id": bot["calendar_event_id"]}, "never")
    await actor.quiesce()
    [moved] = await live(actor)
    assert moved["id"] == bot["id"]
    assert moved["calendar_event_id"] != bot["calendar_event_id"]


@BOTH
async def test_what_was_ended_for_a_meeting_waits_for_an_override_of_its_copy(actor: Actor, bots: Bots) -> None:
    await bots.rule()
    for _ in range(2):
        calendar = await actor.connected()
        bots.meeting(calendar, ical_uid="meeting-1@example.com")
    await actor.quiesce()
    [bot] = await live(actor)
    await actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    await actor.quiesce()
    assert await live(actor) == []
    [other] = [
        event
        for event in (await actor.call("GET", "/calendar_events"))["results"]
        if event["id"] != bot["calendar_event_id"]
    ]
    await say(actor, other, "always")
    [again] = await live(actor)
    assert again["calendar_event_id"] == other["id"]


@BOTH
async def test_an_override_of_a_disconnected_calendar_counts_when_it_is_back(actor: Actor, bots: Bots) -> None:
    await bots.rule()
    calendar, _, event = await bots.event()
    actor.sandbox.world.revoke(calendar.account)
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()
    await say(actor, event, "always")
    assert await live(actor) == []
    await say(actor, event, "never")
    token = actor.sandbox.world.issue_refresh_token(calendar.account)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": token})
    await actor.quiesce()
    assert await live(actor) == []
    await say(actor, event, None)
    assert len(await live(actor)) == 1


async def test_never_keeps_a_series_bots_out(actor: Actor, bots: Bots) -> None:
    _, _, occurrences = await weekly(actor, bots)
    await say(actor, occurrences[1], "never")
    body: Json = {"bot_name": "Notes", "calendar_event_id": occurrences[1]["id"], "all_occurrences": True}
    refused = await actor.call("POST", "/bots", json=body, expect=422)
    assert (refused["code"], refused["errors"][0]["pointer"]) == ("overridden", "/calendar_event_id")
    await bots.on(occurrences[0]["id"], all_occurrences=True)
    assert places(await live(actor)) == wanted([occurrences[0], *occurrences[2:]])
    await bots.on(occurrences[1]["id"])


async def test_what_cannot_be_overridden_is_refused(actor: Actor, bots: Bots) -> None:
    calendar, event, found = await bots.event()
    path = f"/calendar_events/{found['id']}"
    series: Json = {"bot_override": "never", "all_occurrences": True}
    refused = await actor.call("PATCH", path, json=series, expect=422)
    assert (refused["code"], refused["errors"][0]["pointer"]) == ("not_a_series", "/all_occurrences")
    for body, code in (
        ({}, "missing"),
        ({"bot_override": "sometimes"}, "not_allowed"),
        ({"bot_override": "never", "name": "Other"}, "unknown_field"),
        ({"bot_override": "never", "all_occurrences": 1}, "wrong_type"),
    ):
        assert (await actor.call("PATCH", path, json=body, expect=422))["code"] == code
    unknown = "/calendar_events/evt_01JD4Q9A7B9D1F3G5H7K9M1N3P"
    await actor.call("PATCH", unknown, json={"bot_override": "never"}, expect=404)
    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    await actor.quiesce()
    assert (await actor.call("PATCH", path, json={"bot_override": "never"}, expect=422))["code"] == "event_gone"
    assert (await shown(actor, found))["bot_override"] is None
