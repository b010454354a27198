"""Hazards 17 to 23: cursors that end, rounds that break off in the middle, and pages that are empty or never end."""

import asyncio
from typing import Any
from urllib.parse import parse_qsl

import pytest

from sandbox.model import Event
from tests.harness import BOTH, Actor, Connected
from tests.hazards.hearing import (
    GOOGLE,
    OUTLOOK,
    announced,
    as_stored,
    asked,
    cursor,
    everything,
    run,
)
from tests.integration.test_failures import pass_time

LISTING = {"google": "events.list", "microsoft": "graph.calendarView"}


async def five_events(actor: Actor) -> tuple[Connected, list[Event]]:
    """A calendar with five single events, which from now on is heard of only where a test asks."""
    await actor.subscribe()
    calendar = await actor.connected()
    events = [actor.add_event(calendar, f"Event {n}", hours=24 + n) for n in range(5)]
    await actor.quiesce()
    assert announced(actor) == [("created", [])] * 5
    actor.sandbox.push.mode = "drop"
    return calendar, events


def edit(actor: Actor, calendar: Connected, events: list[Event]) -> None:
    """One deleted, two renamed, one new; the last two stay as they are."""
    world = actor.sandbox.world
    world.delete_event(calendar.remote_id, events[0].id)
    for event in events[1:3]:
        world.update_event(calendar.remote_id, event.id, title=f"{event.title}, renamed")
    actor.add_event(calendar, "New", hours=48)


async def assert_told_once(actor: Actor, calendar: Connected, before: dict[str, tuple[Any, ...]]) -> None:
    """What `edit` did was announced, once, and nothing else was written."""
    assert sorted(announced(actor, since=5)) == [
        ("created", []),
        ("deleted", []),
        ("updated", ["renamed"]),
        ("updated", ["renamed"]),
    ]
    after = await as_stored(actor, calendar)
    assert {key: after[key][0] for key in before} == {key: row[0] for key, row in before.items()}
    assert sum(after[key] == before[key] for key in before) == 2
    await actor.assert_equal(calendar)


def short_pages(actor: Actor) -> None:
    """One entry to a page, so that a round has several."""
    for operation in {actor.operation("changes"), LISTING[actor.platform]}:
        actor.sandbox.faults.add("short_pages", operation, times=None, size=1)


@BOTH
async def test_hazard_17_410_on_the_first_incremental_request(actor: Actor) -> None:
    """A listing, compared by id: what was deleted in the gap is announced, what stayed the same is silent."""
    calendar, events = await five_events(actor)
    before, position = await as_stored(actor, calendar), await cursor(actor, calendar)
    actor.sandbox.world.expire_sync_tokens(calendar.remote_id)
    edit(actor, calendar, events)
    assert await run(actor, calendar) == "synced"
    await actor.quiesce()
    await assert_told_once(actor, calendar, before)
    assert await cursor(actor, calendar) != position
    assert await asked(actor, calendar) == [actor.operation("changes")]  # the new position is good


@BOTH
async def test_hazard_18_410_in_the_middle_of_a_round(actor: Actor) -> None:
    """What three pages told is thrown away: an event that they renamed and that is gone since is deleted, no more."""
    calendar, events = await five_events(actor)
    before = await as_stored(actor, calendar)
    edit(actor, calendar, events)
    short_pages(actor)
    actor.sandbox.faults.add("cursor_expired", actor.operation("changes"), page=4)
    gate = actor.sandbox.faults.gate(actor.operation("changes"))
    running = asyncio.create_task(run(actor, calendar))
    await gate.reached()  # the round is worked out: from here on it is old
    for event in events[1:3]:
        actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    actor.sandbox.faults.gates.clear()
    gate.release()
    assert await running == "synced"
    assert "cursor_expired" not in {fault.kind for fault in actor.sandbox.faults.active}  # it was met
    await actor.quiesce()
    assert sorted(announced(actor, since=5)) == [("created", []), *[("deleted", [])] * 3]
    after = await as_stored(actor, calendar)
    assert sum(after[key] == before[key] for key in before) == 2
    await actor.assert_equal(calendar)


@BOTH
async def test_hazard_18_410_in_the_middle_of_the_listing(actor: Actor, redis_url: str) -> None:
    """The second 410 ends the run: rows and position stay, the next try comes with backoff and tells all of it."""
    calendar, events = await five_events(actor)
    before, position = await as_stored(actor, calendar), await cursor(actor, calendar)
    actor.sandbox.world.expire_sync_tokens(calendar.remote_id)
    edit(actor, calendar, events)
    short_pages(actor)
    actor.sandbox.faults.add("cursor_expired", actor.operation("changes"), page=2)
    assert await run(actor, calendar) == "failed"
    assert await actor.run(calendar) == "idle"
    assert (await as_stored(actor, calendar), await cursor(actor, calendar)) == (before, position)
    assert len(actor.entries()) == 5
    await pass_time(actor, redis_url, minutes=5)
    await assert_told_once(actor, calendar, before)
    assert (await actor.calendar(calendar))["health"]["status"] == "healthy"


@BOTH
async def test_hazard_19_410_again_at_once_each_position_is_refused(actor: Actor) -> None:
    """Each run costs one refused request more and lists the window: right all the same, and no loop."""
    calendar, events = await five_events(actor)
    before = await as_stored(actor, calendar)
    actor.sandbox.faults.add("cursor_expired", actor.operation("changes"), page=1, times=None)
    edit(actor, calendar, events)
    requests = await asked(actor, calendar)
    assert requests.count(actor.operation("changes")) == 2
    assert len(requests) == {"google": 2, "microsoft": 3}[actor.platform]
    await actor.quiesce()
    await assert_told_once(actor, calendar, before)
    assert await asked(actor, calendar) == requests
    seen = len(actor.sandbox.requests.seen)
    await actor.quiesce()  # nobody asks for more
    assert len(actor.sandbox.requests.seen) == seen
    assert len(actor.entries()) == 9
    assert (await actor.calendar(calendar))["state"] == "connected"


@BOTH
async def test_hazard_19_410_again_at_once_listings_are_refused_too(actor: Actor, redis_url: str) -> None:
    """Backoff and a degraded calendar, no hot loop; with the first good answer everything is told, once."""
    calendar, events = await five_events(actor)
    before = await as_stored(actor, calendar)
    short_pages(actor)
    for page in (1, 2):
        actor.sandbox.faults.add("cursor_expired", actor.operation("changes"), page=page, times=None)
    edit(actor, calendar, events)
    assert await run(actor, calendar) == "failed"
    seen = len(actor.sandbox.requests.seen)
    for _ in range(3):
        assert await run(actor, calendar) == "idle"
        await actor.quiesce()
    assert len(actor.sandbox.requests.seen) == seen
    await pass_time(actor, redis_url, minutes=5)
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["health"]["status"], shown["health"]["reason"]) == (
        "connected",
        "degraded",
        "cursor_expired",
    )
    assert await as_stored(actor, calendar) == before
    actor.sandbox.faults.clear()
    await pass_time(actor, redis_url, hours=2)
    await assert_told_once(actor, calendar, before)
    assert (await actor.calendar(calendar))["health"]["status"] == "healthy"
    assert actor.messages("calendar.state_change") == []


BREAKS = [
    pytest.param("bad_page_token", {}, id="400 for the page token"),
    pytest.param("unavailable", {"status": 500, "after": 2}, id="500"),
    pytest.param("html", {"status": 502, "after": 2}, id="502 in HTML"),
    pytest.param("drop", {"after": 2}, id="no answer"),
    pytest.param("garbage", {"after": 2}, id="no JSON"),
]


@BOTH
@pytest.mark.parametrize(("kind", "params"), BREAKS)
async def test_hazard_20_round_breaks_off_between_pages(
    actor: Actor, redis_url: str, kind: str, params: dict[str, int]
) -> None:
    """The position stays and nothing is half applied; the next run reads the round again, with its deletion."""
    calendar, events = await five_events(actor)
    before, position = await as_stored(actor, calendar), await cursor(actor, calendar)
    edit(actor, calendar, events)
    short_pages(actor)
    actor.sandbox.faults.add(kind, actor.operation("changes"), **params)
    # A link that Graph cannot read is as good as an old one: that run lists the window at once.
    is_listed = (actor.platform, kind) == ("microsoft", "bad_page_token")
    assert await run(actor, calendar) == ("synced" if is_listed else "failed")
    if not is_listed:
        assert (await as_stored(actor, calendar), await cursor(actor, calendar)) == (before, position)
        assert len(actor.entries()) == 5
    await pass_time(actor, redis_url, minutes=5)
    await assert_told_once(actor, calendar, before)


@BOTH
async def test_hazard_20_process_dies_between_pages(actor: Actor) -> None:
    """Nothing was written; once the lease is over, another run reads the round from its first page."""
    calendar, events = await five_events(actor)
    before, position = await as_stored(actor, calendar), await cursor(actor, calendar)
    edit(actor, calendar, events)
    short_pages(actor)
    first = actor.sandbox.faults.gate(actor.operation("changes"))
    dying = asyncio.create_task(run(actor, calendar))
    await first.reached()
    second = actor.sandbox.faults.gate(actor.operation("changes"))
    first.release()
    await second.reached()  # the first page was read, the second never comes
    assert (await as_stored(actor, calendar), await cursor(actor, calendar)) == (before, position)
    actor.sandbox.faults.gates.clear()
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE sync_state SET lease_until = clock_timestamp() - interval '1 second'")
    assert await actor.run(calendar) == "synced"
    await actor.quiesce()
    await assert_told_once(actor, calendar, before)
    second.release()
    assert await dying == "superseded"
    await assert_told_once(actor, calendar, before)


@GOOGLE
async def test_hazard_21_sync_token_on_every_page(actor: Actor) -> None:
    """Both tokens stand in each later request; the sandbox refuses a page that is asked for without."""
    calendar, events = await five_events(actor)
    before = await as_stored(actor, calendar)
    edit(actor, calendar, events)
    short_pages(actor)
    seen = len(actor.sandbox.requests.seen)
    assert await run(actor, calendar) == "synced"
    await actor.quiesce()
    queries = [parameters(one.query) for one in actor.sandbox.requests.seen[seen:]]
    assert len(queries) == 4
    assert len({query["syncToken"] for query in queries}) == 1
    assert ["pageToken" in query for query in queries] == [False, True, True, True]
    await assert_told_once(actor, calendar, before)


def parameters(query: str) -> dict[str, str]:
    """A request's parameters."""
    return dict(parse_qsl(query))


@BOTH
async def test_hazard_22_empty_page_with_a_next_link(actor: Actor) -> None:
    """In an increment and in a listing: the pages go on."""
    calendar, events = await five_events(actor)
    before = await as_stored(actor, calendar)
    edit(actor, calendar, events)
    for operation in {actor.operation("changes"), LISTING[actor.platform]}:
        actor.sandbox.faults.add("empty_page", operation)
    requests = await asked(actor, calendar)
    assert requests.count(actor.operation("changes")) == 2
    await actor.quiesce()
    await assert_told_once(actor, calendar, before)

    actor.sandbox.faults.add("empty_page", LISTING[actor.platform])
    await actor.call("POST", f"/calendars/{calendar.id}/sync", json={"full": True}, expect=202)
    await actor.quiesce()
    await assert_told_once(actor, calendar, before)


@OUTLOOK
async def test_hazard_23_endless_next_link(actor: Actor) -> None:
    """Given up after a few pages that bring nothing new: calendarView tells the window, each time until it ends."""
    calendar, events = await five_events(actor)
    before = await as_stored(actor, calendar)
    edit(actor, calendar, events)
    actor.sandbox.faults.add("endless_pages", "graph.delta", times=None)
    requests = await asked(actor, calendar)
    assert requests.count("graph.calendarView") == 1
    assert requests.count("graph.delta") <= 10
    await actor.quiesce()
    await assert_told_once(actor, calendar, before)

    actor.sandbox.world.update_event(calendar.remote_id, events[4].id, title="Later")
    assert (await asked(actor, calendar)).count("graph.calendarView") == 1
    await actor.quiesce()
    assert announced(actor, since=9) == [("updated", ["renamed"])]
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["health"]["status"]) == ("connected", "healthy")
    actor.sandbox.faults.clear()
    await run(actor, calendar)
    assert await asked(actor, calendar) == ["graph.delta"]
    assert len(await everything(actor, calendar)) == 6
    assert len(actor.entries()) == 10
    await actor.assert_equal(calendar)
