"""Why a bot joins an event's meeting, or none: every reason that there is, as the API tells it."""

import re
from datetime import timedelta
from pathlib import Path
from typing import get_args

from app.bots.decisions import Code
from sandbox.model import Conference
from tests.bots.stage import MEET, Bots, Json
from tests.bots.test_overrides import NONE, say
from tests.bots.test_series import live, weekly
from tests.harness import BOTH, Actor, Connected, Project
from tests.hazards.hearing import put
from tests.integration.test_health import fail


async def decision(actor: Actor, event: Json) -> Json:
    """GET /calendar_events/{id}/decision"""
    return await actor.call("GET", f"/calendar_events/{event['id']}/decision")


def codes(found: Json) -> list[str]:
    """The reasons' codes, in their order."""
    return [reason["code"] for reason in found["reasons"]]


def reason(code: str, detail: str, *, rule: Json | None = None, bot: Json | None = None) -> Json:
    """A reason as it is told."""
    return {"code": code, "detail": detail, "rule_id": rule and rule["id"], "bot_id": bot and bot["id"]}


async def copies(actor: Actor, bots: Bots, count: int = 2) -> list[Connected]:
    """Calendars of as many people with a copy of one meeting."""
    found = []
    start = actor.now() + timedelta(hours=24)
    for _ in range(count):
        calendar = await actor.connected()
        bots.meeting(calendar, ical_uid="meeting-1@example.com", start=start, end=start + timedelta(hours=1))
        found.append(calendar)
    await actor.quiesce()
    return found


async def disconnect(actor: Actor, calendar: Connected) -> None:
    """The user's access ends."""
    actor.sandbox.world.revoke(calendar.account)
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()


@BOTH
async def test_a_rule_that_matches_and_one_that_does_not(actor: Actor, bots: Bots) -> None:
    other = await bots.rule(name="Titled", match=NONE, priority=1)
    rule = await bots.rule(name="All")
    later = await bots.rule(name="Later", priority=-1)
    _, _, event = await bots.event()
    [bot] = await live(actor)
    found = await decision(actor, event)
    assert (found["will_join"], found["bots"], found["join_at"]) == (True, [bot["id"]], event["start_time"])
    assert found["reasons"] == [
        reason("rule_does_not_match", "title_contains", rule=other),
        reason("rule_matches", "All", rule=rule),
        reason("outranked", "rule All goes first", rule=later),
    ]
    keys = found["meeting"].pop("keys")
    assert found["meeting"] == {"calendar_event_ids": [event["id"]], "owner_event_id": event["id"]}
    assert [key.split("|")[1] for key in keys] == ["link", "uid"]
    assert keys == sorted(keys)


@BOTH
async def test_without_a_rule_there_is_no_bot_but_one_by_hand(actor: Actor, bots: Bots) -> None:
    _, _, event = await bots.event()
    found = await decision(actor, event)
    assert (found["will_join"], found["join_at"], found["bots"], codes(found)) == (False, None, [], ["no_rule"])
    assert found["meeting"]["owner_event_id"] is None
    bot = await bots.on(event["id"])
    found = await decision(actor, event)
    assert (found["will_join"], found["bots"]) == (True, [bot["id"]])
    assert found["reasons"] == [reason("bot_by_hand", "made by hand", bot=bot)]


@BOTH
async def test_a_rules_bot_that_was_changed_by_hand_stays(actor: Actor, bots: Bots) -> None:
    rule = await bots.rule(dedup_scope="event")
    _, _, event = await bots.event()
    [bot] = await live(actor)
    await actor.call("PATCH", f"/bots/{bot['id']}", json={"bot_name": "Ours"})
    await say(actor, event, "never")
    found = await decision(actor, event)
    assert (found["will_join"], codes(found)) == (True, ["override_never", "rule_matches", "bot_by_hand"])
    assert found["reasons"][-1] == reason("bot_by_hand", "changed by hand", rule=rule, bot=bot)


@BOTH
async def test_overrides(actor: Actor, bots: Bots) -> None:
    _, _, event = await bots.event()
    await say(actor, event, "always")
    found = await decision(actor, event)
    assert (found["will_join"], codes(found)) == (False, ["override_always", "override_without_rule", "no_rule"])
    rule = await bots.rule(match=NONE)
    found = await decision(actor, event)
    assert codes(found) == ["override_always", "rule_by_override", "being_judged"]
    assert found["reasons"][1] == reason("rule_by_override", "title_contains", rule=rule)
    await actor.quiesce()
    found = await decision(actor, event)
    assert (found["will_join"], codes(found)) == (True, ["override_always", "rule_by_override"])
    await say(actor, event, "never")
    found = await decision(actor, event)
    assert (found["will_join"], codes(found)) == (False, ["override_never", "rule_does_not_match"])


@BOTH
async def test_what_rules_an_event_out(actor: Actor, bots: Bots) -> None:
    await bots.rule()
    calendar, event, shown = await bots.event()
    world = actor.sandbox.world
    world.update_event(calendar.remote_id, event.id, conference=None)
    await actor.quiesce()
    found = await decision(actor, shown)
    assert (found["will_join"], codes(found)[0], found["meeting"]["keys"]) == (False, "no_link", [])
    assert found["meeting"]["calendar_event_ids"] == [shown["id"]]
    world.update_event(calendar.remote_id, event.id, conference=Conference("meet", MEET))
    put(actor, calendar, event.id, days=60)
    await actor.quiesce()
    assert codes(await decision(actor, shown))[0] == "left_window"
    put(actor, calendar, event.id, days=2)
    await actor.quiesce()
    assert codes(await decision(actor, shown)) == ["rule_matches"]
    world.delete_event(calendar.remote_id, event.id)
    await actor.quiesce()
    found = await decision(actor, shown)
    assert (found["will_join"], codes(found)[0]) == (False, "event_deleted")


@BOTH
async def test_a_cancelled_event_gets_none(actor: Actor, bots: Bots) -> None:
    await bots.rule()
    _, _, shown = await bots.event()
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE calendar_events SET status = 'cancelled'")
    assert codes(await decision(actor, shown))[0] == "event_cancelled"


@BOTH
async def test_a_disconnected_calendar_gets_none(actor: Actor, bots: Bots) -> None:
    await bots.rule()
    calendar, _, event = await bots.event()
    await disconnect(actor, calendar)
    found = await decision(actor, event)
    assert (found["will_join"], codes(found)) == (False, ["calendar_disconnected", "rule_matches"])


@BOTH
async def test_a_meeting_under_way_and_one_that_is_over(actor: Actor, bots: Bots) -> None:
    await bots.launcher("attendee")
    rule = await bots.rule()
    _, _, event = await bots.event()
    [bot] = await live(actor)
    actor.advance(timedelta(hours=23, minutes=58))
    await actor.quiesce()
    actor.advance(timedelta(minutes=10))
    await actor.quiesce()
    found = await decision(actor, event)
    assert (found["will_join"], codes(found)) == (True, ["rule_matches", "under_way"])
    assert found["reasons"][1] == reason("under_way", "the meeting is under way", rule=rule, bot=bot)
    actor.advance(timedelta(hours=1))
    await actor.quiesce()
    found = await decision(actor, event)
    assert (found["will_join"], codes(found)[0]) == (False, "event_over")


@BOTH
async def test_a_bot_that_came_too_late(actor: Actor, bots: Bots) -> None:
    rule = await bots.rule()
    _, _, event = await bots.event()
    [bot] = await live(actor)
    actor.advance(timedelta(hours=26))
    await actor.quiesce()
    found = await decision(actor, event)
    assert (found["will_join"], codes(found)) == (False, ["event_over", "rule_matches", "missed"])
    assert (found["reasons"][2]["bot_id"], found["reasons"][2]["rule_id"]) == (bot["id"], rule["id"])


@BOTH
async def test_another_copy_has_the_bot(actor: Actor, bots: Bots) -> None:
    rule = await bots.rule()
    calendars = await copies(actor, bots, 3)
    events = [event for calendar in calendars for event in await actor.events(calendar)]
    [bot] = await live(actor)
    for event in events:
        found = await decision(actor, event)
        assert (found["will_join"], found["bots"], found["join_at"]) == (True, [bot["id"]], event["start_time"])
        meeting = found["meeting"]
        assert meeting["owner_event_id"] == bot["calendar_event_id"]
        assert meeting["calendar_event_ids"][0] == event["id"]
        assert set(meeting["calendar_event_ids"]) == {each["id"] for each in events}
        if event["id"] == bot["calendar_event_id"]:
            assert codes(found) == ["rule_matches"]
        else:
            assert codes(found) == ["rule_matches", "held_by_bot"]
            assert found["reasons"][1] == reason("held_by_bot", f"on {bot['calendar_event_id']}", rule=rule, bot=bot)


@BOTH
async def test_a_bot_that_was_ended_keeps_its_rule_from_another(actor: Actor, bots: Bots) -> None:
    rule = await bots.rule()
    calendars = await copies(actor, bots)
    [bot] = await live(actor)
    await actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    await actor.quiesce()
    events = [event for calendar in calendars for event in await actor.events(calendar)]
    for event in events:
        found = await decision(actor, event)
        detail = "removed" if event["id"] == bot["calendar_event_id"] else f"on {bot['calendar_event_id']}"
        assert (found["will_join"], found["meeting"]["owner_event_id"]) == (False, None)
        assert found["reasons"] == [
            reason("rule_matches", "All", rule=rule),
            reason("ended_by_owner", detail, rule=rule, bot=bot),
        ]


@BOTH
async def test_a_bot_that_failed_keeps_its_rule_from_another(actor: Actor, bots: Bots) -> None:
    rule = await bots.rule()
    _, _, event = await bots.event()
    [bot] = await live(actor)
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE bots SET state = 'failed', state_reason = 'launch_refused', due_at = NULL")
    found = await decision(actor, event)
    assert (found["will_join"], codes(found)) == (False, ["rule_matches", "bot_failed"])
    assert found["reasons"][1] == reason("bot_failed", "launch_refused", rule=rule, bot=bot)


@BOTH
async def test_a_bot_whose_meeting_may_go_on_elsewhere_is_held(actor: Actor, bots: Bots) -> None:
    rule = await bots.rule()
    await copies(actor, bots)
    [bot] = await live(actor)
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE bots SET transfer_since = app_now(), transfer_reason = 'event_deleted'")
    found = await decision(actor, {"id": bot["calendar_event_id"]})
    assert codes(found) == ["rule_matches", "transfer"]
    assert (found["reasons"][1]["rule_id"], found["reasons"][1]["bot_id"]) == (rule["id"], bot["id"])


@BOTH
async def test_a_calendar_that_is_behind_keeps_its_bots(actor: Actor, bots: Bots) -> None:
    rule = await bots.rule()
    calendar, _, event = await bots.event()
    [bot] = await live(actor)
    actor.sandbox.faults.add("unavailable", actor.operation("changes"), times=None)
    await fail(actor, calendar, times=2)
    found = await decision(actor, event)
    assert (found["will_join"], codes(found)) == (True, ["rule_matches", "calendar_behind"])
    held = (await bots.get(bot))["hold_reason"]
    assert found["reasons"][1] == reason("calendar_behind", held, rule=rule, bot=bot)


@BOTH
async def test_a_series_of_bots(actor: Actor, bots: Bots) -> None:
    """The rule behind it has no id; keys that others took are told."""
    calendar, _, occurrences = await weekly(actor, bots)
    taken = f"k:{occurrences[2]['original_start_time']}"
    other = await bots.on(occurrences[3]["id"], deduplication_key=taken)
    await bots.on(occurrences[0]["id"], all_occurrences=True, deduplication_key="k")
    found = await decision(actor, occurrences[1])
    assert (found["will_join"], found["reasons"]) == (True, [reason("rule_matches", "all_occurrences")])
    found = await decision(actor, occurrences[2])
    assert (found["will_join"], found["reasons"]) == (
        False,
        [reason("rule_matches", "all_occurrences"), reason("key_in_use", taken, bot=other)],
    )
    bots.meeting(calendar, hours=5)
    await actor.quiesce()
    [event] = [e for e in await actor.events(calendar) if e["series_id"] is None]
    assert codes(await decision(actor, event)) == ["no_rule"]


@BOTH
async def test_a_bot_whose_key_was_taken_meanwhile(actor: Actor, bots: Bots) -> None:
    calendar, event, shown = await bots.event()
    bot = await bots.on(shown["id"], deduplication_key="k")
    world = actor.sandbox.world
    world.update_event(calendar.remote_id, event.id, conference=None)
    await actor.quiesce()
    at = (actor.now() + timedelta(hours=1)).isoformat()
    body: Json = {"bot_name": "Notes", "meeting_url": MEET, "join_at": at, "deduplication_key": "k"}
    other = await actor.call("POST", "/bots", json=body, expect=201)
    world.update_event(calendar.remote_id, event.id, conference=Conference("meet", MEET))
    await actor.quiesce()
    assert (await bots.get(bot))["state_reason"] == "superseded"
    found = await decision(actor, shown)
    assert (found["will_join"], codes(found)) == (False, ["no_rule", "key_in_use"])
    assert found["reasons"][1] == reason("key_in_use", "k", bot=other)


async def test_nobody_elses_events_are_told(actor: Actor, bots: Bots, other_project: Project) -> None:
    """Of another project with the same meeting nothing shows."""
    await bots.rule()
    _, _, event = await bots.event(ical_uid="meeting-1@example.com")
    ours, actor.project = actor.project, other_project
    calendar = await actor.connected()
    bots.meeting(calendar, ical_uid="meeting-1@example.com")
    await actor.quiesce()
    [theirs] = await actor.events(calendar)
    await actor.call("GET", f"/calendar_events/{event['id']}/decision", expect=404)
    await actor.call("PATCH", f"/calendar_events/{event['id']}", json={"bot_override": "never"}, expect=404)
    found = await decision(actor, theirs)
    assert (found["will_join"], codes(found), found["meeting"]["owner_event_id"]) == (False, ["no_rule"], None)
    assert found["meeting"]["calendar_event_ids"] == [theirs["id"]]
    actor.project = ours
    assert (await decision(actor, event))["meeting"]["calendar_event_ids"] == [event["id"]]


async def test_a_decision_costs_few_statements(actor: Actor, bots: Bots) -> None:
    for number in range(3):
        await bots.rule(name=str(number))
    calendars = await copies(actor, bots, 3)
    [event] = await actor.events(calendars[-1])
    asked: list[str] = []
    with actor.rt.db.watched(asked.append):
        await decision(actor, event)
    assert len(asked) <= 9, asked


def test_the_guide_explains_every_reason() -> None:
    table = Path("docs/bots.md").read_text().partition("## Will a bot join")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)[1:] == list(get_args(Code))  # the first is the header
