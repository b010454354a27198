"""Claims hold whatever becomes of a meeting's copies, in whichever order its calendars are synced."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from sandbox.model import Conference, Event
from tests.bots.meetings import UID, assert_no_doubles, change_rule, copies, live, override, split, the_bot
from tests.bots.stage import MEET, OTHER, Bots
from tests.harness import BOTH, Actor, Connected

SAME: dict[str, list[dict[str, Any]]] = {
    "uid": [{}, {}],
    "link": [{"ical_uid": "one@example.com"}, {"ical_uid": "two@example.com"}],
    "uid, other link": [{}, {"url": OTHER}],
}
ORDERS = pytest.mark.parametrize("order", [(0, 1), (1, 0)])


async def two(actor: Actor, bots: Bots, same: str) -> list[tuple[Connected, Event]]:
    """Two people's copies of one meeting, known to be one by what they have in common."""
    calendars = [await actor.connect() for _ in range(2)]
    found = [
        (calendar, bots.meeting(calendar, **{"ical_uid": UID, **draft}))
        for calendar, draft in zip(calendars, SAME[same], strict=True)
    ]
    await actor.quiesce()
    return found


async def edit(actor: Actor, found: Sequence[tuple[Connected, Event]], order: Sequence[int], **changes: Any) -> None:
    """Change every copy; their calendars are synced in this order, and whatever is due after each."""
    world = actor.sandbox.world
    actor.sandbox.push.mode = "drop"
    for calendar, event in found:
        world.update_event(calendar.remote_id, event.id, **changes)
    for place in order:
        calendar = found[place][0]
        await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
        assert await actor.run(calendar) == "synced"
        await actor.quiesce()
    actor.sandbox.push.mode = "deliver"


@BOTH
@pytest.mark.parametrize("same", SAME)
async def test_copies_of_one_meeting_get_one_bot(actor: Actor, bots: Bots, same: str) -> None:
    await bots.rule()
    await two(actor, bots, same)
    await the_bot(actor)
    await assert_no_doubles(actor)


@pytest.mark.parametrize("same", SAME)
@ORDERS
async def test_a_meeting_that_moves_keeps_one_bot(actor: Actor, bots: Bots, same: str, order: tuple[int, int]) -> None:
    """Whichever calendar is synced first, and back and forth."""
    await bots.rule()
    found = await two(actor, bots, same)
    start = found[0][1].start
    for hours, now in ((2, order), (-3, order[::-1]), (0, order)):
        moved = start + timedelta(hours=hours)
        await edit(actor, found, now, start=moved, end=moved + timedelta(hours=1))
        bot = await the_bot(actor)
        [shown] = [one for c, _ in found if c.id == bot["calendar_id"] for one in await actor.events(c)]
        assert bot["join_at"] == shown["start_time"]
        await assert_no_doubles(actor)


@ORDERS
async def test_a_meeting_with_another_link_keeps_one_bot(actor: Actor, bots: Bots, order: tuple[int, int]) -> None:
    await bots.rule()
    found = await two(actor, bots, "uid")
    first = await the_bot(actor)
    await edit(actor, found, order, conference=Conference("zoom", OTHER))
    bot = await the_bot(actor)
    assert (bot["id"], bot["meeting_url"]) == (first["id"], OTHER)
    await edit(actor, found, order, conference=None)
    assert await live(actor) == []
    await edit(actor, found, order[::-1], conference=Conference("meet", MEET))
    assert (await the_bot(actor))["meeting_url"] == MEET
    await assert_no_doubles(actor)


async def test_two_meetings_in_one_room_that_come_together_and_part(actor: Actor, bots: Bots) -> None:
    """Two at once in a personal room are one meeting to a bot; once they part each gets its own again."""
    await bots.rule()
    one, other = await actor.connect(), await actor.connect()
    first = bots.meeting(one, hours=24, ical_uid="one@example.com")
    second = bots.meeting(other, hours=26, ical_uid="two@example.com")
    await actor.quiesce()
    before = {bot["id"] for bot in await live(actor)}
    assert len(before) == 2
    for _ in range(2):
        actor.sandbox.world.update_event(other.remote_id, second.id, start=first.start, end=first.end)
        await actor.quiesce()
        await the_bot(actor)
        await assert_no_doubles(actor)
        actor.sandbox.world.update_event(one.remote_id, first.id, start=second.start, end=second.end)
        await actor.quiesce()
        assert {bot["id"] for bot in await live(actor)} == before
        await assert_no_doubles(actor)
        actor.sandbox.world.update_event(one.remote_id, first.id, start=first.start, end=first.end)
        actor.sandbox.world.update_event(other.remote_id, second.id, start=second.start, end=second.end)
        await actor.quiesce()
        assert {bot["id"] for bot in await live(actor)} == before


async def test_two_meetings_in_one_room_of_one_calendar(actor: Actor, bots: Bots) -> None:
    """The second waits behind the first, and gets its own bot when that one moves away or loses its link."""
    await bots.rule()
    calendar = await actor.connected()
    first = bots.meeting(calendar)
    second = bots.meeting(calendar, start=first.start, end=first.end)
    await actor.quiesce()
    bot = await the_bot(actor)
    holder = first if bot["calendar_event_id"] == (await shown_of(actor, calendar, first))["id"] else second
    start = first.start + timedelta(hours=2)
    actor.sandbox.world.update_event(calendar.remote_id, holder.id, start=start, end=start + timedelta(hours=1))
    await actor.quiesce()
    assert len(await live(actor)) == 2
    await assert_no_doubles(actor)


async def shown_of(actor: Actor, calendar: Connected, event: Event) -> dict[str, Any]:
    """An event as the API shows it."""
    [shown] = [one for one in await actor.events(calendar) if one["platform_uuid"] == event.id]
    return shown


async def test_one_bot_for_each_organization(actor: Actor, bots: Bots) -> None:
    await bots.rule(dedup_scope="organization")
    world = actor.sandbox.world
    addresses = ["a@one.example", "b@ONE.example", "c@two.example"]
    calendars = [await actor.connect(world.add_account(one, provider="google")) for one in addresses]
    found = await copies(actor, bots, calendars=calendars)
    await actor.quiesce()
    theirs = [bot["calendar_id"] for bot in await live(actor)]
    assert len(theirs) == 2
    assert calendars[2].id in theirs
    alone = found[2]
    world.delete_event(alone[0].remote_id, alone[1].id)
    await actor.quiesce()
    bot = await the_bot(actor)  # nobody else of its organization has the meeting
    assert bot["calendar_id"] in {calendars[0].id, calendars[1].id}


async def test_calendars_of_both_providers(actor: Actor, bots: Bots) -> None:
    await bots.rule()
    world = actor.sandbox.world
    accounts = [world.add_account(f"{one}@example.com", provider=one) for one in ("google", "microsoft")]
    calendars = [await actor.connect(account) for account in accounts]
    found = await copies(actor, bots, calendars=calendars)
    await actor.quiesce()
    bot = await the_bot(actor)
    owner, [other] = split(found, bot)
    world.delete_event(owner[0].remote_id, owner[1].id)
    await actor.quiesce()
    now = await the_bot(actor)
    assert (now["id"], now["calendar_id"]) == (bot["id"], other[0].id)


async def test_occurrences_of_a_series_each_get_one(actor: Actor, bots: Bots) -> None:
    """Two people's copies of a series; one occurrence is moved by its organizer and reaches one calendar first."""
    await bots.rule()
    rule = ("RRULE:FREQ=DAILY;COUNT=4",)
    found = await copies(actor, bots, 2, recurrence=rule, hours=30)
    await actor.quiesce()
    assert len(await live(actor)) == 4
    for calendar, event in reversed(found):
        assert isinstance(event.start, datetime)
        moment = event.start + timedelta(days=2)
        changes = {"start": moment + timedelta(hours=1), "end": moment + timedelta(hours=2)}
        actor.sandbox.world.update_instance(calendar.remote_id, event.id, moment, **changes)
        await actor.quiesce()
        await assert_no_doubles(actor)
        assert len(await live(actor)) == 4


async def test_one_occurrence_that_goes_passes_its_bot_on(actor: Actor, bots: Bots) -> None:
    """Known to be the same by the series' uid and the original start alone: the other copies have another link."""
    await bots.rule()
    first, second = await actor.connected(), await actor.connect()
    recurrence, hours = ("RRULE:FREQ=DAILY;COUNT=3",), 30.0
    event = bots.meeting(first, hours=hours, ical_uid=UID, recurrence=recurrence)
    await actor.quiesce()
    bots.meeting(second, ical_uid=UID, recurrence=recurrence, url=OTHER, start=event.start, end=event.end)
    await actor.quiesce()
    before = await live(actor)
    assert {bot["calendar_id"] for bot in before} == {first.id}
    assert isinstance(event.start, datetime)
    actor.sandbox.world.cancel_instance(first.remote_id, event.id, event.start + timedelta(days=1))
    await actor.quiesce()
    after = await live(actor)
    assert {bot["id"] for bot in after} == {bot["id"] for bot in before}
    [moved] = [bot for bot in after if bot["calendar_id"] == second.id]
    assert datetime.fromisoformat(moved["join_at"]) == event.start + timedelta(days=1)
    await assert_no_doubles(actor)


async def test_a_rule_that_looks_further_leaves_one_bot(actor: Actor, bots: Bots) -> None:
    """From one for each event to one for the meeting, and back."""
    rule = await bots.rule(dedup_scope="event")
    await copies(actor, bots)
    await actor.quiesce()
    assert len(await live(actor)) == 3
    await change_rule(actor, rule, "dedup_scope = 'meeting'")
    await actor.quiesce()
    await the_bot(actor)
    await assert_no_doubles(actor)
    await change_rule(actor, rule, "dedup_scope = 'event'")
    await actor.quiesce()
    assert len(await live(actor)) == 3
    await change_rule(actor, rule, "dedup_scope = 'meeting'")
    await actor.quiesce()
    await the_bot(actor)
    await assert_no_doubles(actor)


async def test_a_bot_that_one_person_removed_stays_away_for_all(actor: Actor, bots: Bots) -> None:
    rule = await bots.rule()
    found = await copies(actor, bots)
    await actor.quiesce()
    bot = await the_bot(actor)
    await actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    start = found[0][1].start + timedelta(hours=1)
    for calendar, event in found:
        actor.sandbox.world.update_event(calendar.remote_id, event.id, start=start, end=start + timedelta(hours=1))
    await copies(actor, bots, 1, start=start, end=start + timedelta(hours=1))  # a fourth one is invited
    await actor.quiesce()
    assert await live(actor) == []
    _, [other, _] = split(found, bot)
    [shown] = await actor.events(other[0])
    await override(actor, shown, "always")
    await actor.quiesce()
    new = await the_bot(actor)
    assert new["calendar_event_id"] == shown["id"]
    await actor.call("DELETE", f"/bots/{new['id']}", expect=204)
    await override(actor, shown, None)
    await change_rule(actor, rule, "name = 'Anew'")
    await actor.quiesce()
    await the_bot(actor)
    await assert_no_doubles(actor)


async def test_a_meeting_that_is_held_once_more_gets_one_bot(actor: Actor, bots: Bots) -> None:
    """Its bot's claims end with the meeting that took place."""
    await bots.launcher("attendee")
    await bots.rule()
    found = await copies(actor, bots, 2, hours=2)
    await actor.quiesce()
    bot = await the_bot(actor)
    actor.advance(timedelta(hours=2))
    await actor.quiesce()
    actor.advance(timedelta(hours=2))
    await actor.quiesce()
    start = actor.now() + timedelta(hours=20)
    _, [other] = split(found, bot)
    for calendar, event in (other, *[one for one in found if one is not other]):
        actor.sandbox.world.update_event(calendar.remote_id, event.id, start=start, end=start + timedelta(hours=1))
        await actor.quiesce()
    ahead = [one for one in await live(actor) if one["state"] == "scheduled"]
    assert len(ahead) == 1
    await assert_no_doubles(actor)
