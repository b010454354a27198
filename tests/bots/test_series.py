"""Bots for all occurrences of a series: those that are there, those to come, and what becomes of exceptions."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.bots.following import AT_ONCE
from app.bots.rules.judging import judge_due
from app.bots.series import SERIES_MOST
from app.sync import cleanup
from sandbox.model import Conference
from tests.api.rows import Rows
from tests.bots.stage import MEET, OTHER, Bots, Json
from tests.harness import BOTH, Actor, Connected
from tests.hazards.hearing import WEEKLY, by_start, days_pass, original
from tests.integration.delivering import rows as stored

DAILY = ("RRULE:FREQ=DAILY",)


async def weekly(
    actor: Actor, bots: Bots, *, recurrence: tuple[str, ...] = WEEKLY
) -> tuple[Connected, str, list[Json]]:
    """A calendar with a series, the series' id at the provider, and its occurrences."""
    calendar = await actor.connected()
    series = bots.meeting(calendar, hours=2, time_zone="Europe/Berlin", recurrence=recurrence)
    await actor.quiesce()
    return calendar, series.id, await by_start(actor, calendar)


async def live(actor: Actor) -> list[Json]:
    """The project's live bots, by their times."""
    found: list[Json] = []
    path = "/bots?states=scheduled&states=launching&states=launched&limit=250"
    found += (await actor.call("GET", path))["results"]
    return sorted(found, key=lambda bot: str(bot["join_at"]))


def places(bots: list[Json]) -> list[Any]:
    """Where bots stand."""
    return [(bot["calendar_event_id"], bot["join_at"]) for bot in bots]


def wanted(events: list[Json]) -> list[Any]:
    """Where bots should stand: one on each of these events."""
    return [(event["id"], event["start_time"]) for event in events]


@BOTH
async def test_each_occurrence_gets_its_bot_in_the_request(actor: Actor, bots: Bots) -> None:
    _, _, occurrences = await weekly(actor, bots)
    given = occurrences[1]
    metadata = {"tenant": "1"}
    bot = await bots.on(given["id"], all_occurrences=True, deduplication_key="k", metadata=metadata)
    made = await live(actor)
    assert places(made) == wanted(occurrences)
    assert bot["id"] == made[1]["id"]
    keys = ["k" if event is given else f"k:{event['original_start_time']}" for event in occurrences]
    assert [one["deduplication_key"] for one in made] == keys
    assert {one["series_id"] for one in made} == {given["series_id"]}
    assert [(one["rule_id"], one["metadata"], one["bot_name"]) for one in made] == [(None, metadata, "Notes")] * len(
        made
    )
    await actor.quiesce()
    assert [one["id"] for one in await live(actor)] == [one["id"] for one in made]
    assert len({one["id"] for one in await live(actor)}) == len(occurrences)


@BOTH
async def test_an_occurrence_that_enters_the_window_gets_its_bot(actor: Actor, bots: Bots) -> None:
    calendar, _, occurrences = await weekly(actor, bots)
    await bots.on(occurrences[0]["id"], all_occurrences=True, deduplication_key="k")
    for _ in range(8):
        await days_pass(actor)
    later = [event for event in await by_start(actor, calendar) if event["start_time"] > occurrences[-1]["start_time"]]
    assert later
    made = [bot for bot in await live(actor) if bot["join_at"] > occurrences[-1]["start_time"]]
    assert places(made) == wanted(later)
    assert [bot["deduplication_key"] for bot in made] == [f"k:{event['original_start_time']}" for event in later]


@BOTH
async def test_a_moved_occurrence_keeps_its_bot(actor: Actor, bots: Bots) -> None:
    calendar, series_id, occurrences = await weekly(actor, bots)
    await bots.on(occurrences[0]["id"], all_occurrences=True)
    before = {bot["calendar_event_id"]: bot["id"] for bot in await live(actor)}
    start = original(occurrences[2]) + timedelta(hours=3)
    actor.sandbox.world.update_instance(
        calendar.remote_id, series_id, original(occurrences[2]), start=start, end=start + timedelta(hours=1)
    )
    await actor.quiesce()
    after = await live(actor)
    assert places(after) == wanted(await by_start(actor, calendar))
    assert {bot["calendar_event_id"]: bot["id"] for bot in after} == before


@BOTH
@pytest.mark.parametrize("hours", [0, 3], ids=["as it was", "three hours later"])
async def test_a_series_that_is_split_goes_on(actor: Actor, bots: Bots, hours: int) -> None:
    """Its bots go on with the same ids, and what the new part brings later gets its own."""
    calendar, series_id, occurrences = await weekly(actor, bots)
    first = await bots.on(occurrences[0]["id"], all_occurrences=True, deduplication_key="k")
    before = [bot["id"] for bot in await live(actor)]
    world, at = actor.sandbox.world, original(occurrences[2])
    new = world.split_series(calendar.remote_id, series_id, at, title="From here on")
    if hours:
        by = timedelta(hours=hours)
        world.update_event(calendar.remote_id, new.id, start=new.start + by, end=new.end + by)
    await actor.quiesce()
    shown = await by_start(actor, calendar)
    assert [event["name"] for event in shown] == ["Planning"] * 2 + ["From here on"] * 3
    after = await live(actor)
    assert places(after) == wanted(shown)
    assert [bot["id"] for bot in after] == before
    for _ in range(8):
        await days_pass(actor)
    later = [event for event in await by_start(actor, calendar) if event["start_time"] > shown[-1]["start_time"]]
    assert later
    made = [bot for bot in await live(actor) if bot["join_at"] > shown[-1]["start_time"]]
    assert places(made) == wanted(later)
    await actor.call("PATCH", f"/bots/{first['id']}?all_occurrences=true", json={"bot_name": "Minutes"})
    ahead = [bot for bot in await live(actor) if bot["join_at"] > shown[-1]["start_time"]]
    assert [bot["bot_name"] for bot in ahead] == ["Minutes"] * len(ahead)


@BOTH
async def test_a_series_that_is_split_twice_goes_on(actor: Actor, bots: Bots) -> None:
    calendar, series_id, occurrences = await weekly(actor, bots)
    await bots.on(occurrences[0]["id"], all_occurrences=True)
    before = [bot["id"] for bot in await live(actor)]
    world = actor.sandbox.world
    second = world.split_series(calendar.remote_id, series_id, original(occurrences[1]), title="Second")
    await actor.quiesce()
    world.split_series(calendar.remote_id, second.id, original(occurrences[3]), title="Third")
    await actor.quiesce()
    shown = await by_start(actor, calendar)
    assert [event["name"] for event in shown] == ["Planning", "Second", "Second", "Third", "Third"]
    after = await live(actor)
    assert places(after) == wanted(shown)
    assert [bot["id"] for bot in after] == before


@BOTH
async def test_another_series_with_the_same_link_is_none_of_it(actor: Actor, bots: Bots) -> None:
    """One occurrence is deleted, and another series begins in that room: nobody asked for bots there."""
    calendar, series_id, occurrences = await weekly(actor, bots)
    await bots.on(occurrences[0]["id"], all_occurrences=True)
    world, at = actor.sandbox.world, original(occurrences[1])
    world.cancel_instance(calendar.remote_id, series_id, at)
    hours = (at + timedelta(hours=5) - actor.now()) / timedelta(hours=1)
    bots.meeting(calendar, hours=hours, title="Others", time_zone="Europe/Berlin", recurrence=WEEKLY)
    await actor.quiesce()
    left = [event for event in await by_start(actor, calendar) if event["name"] == "Planning"]
    assert len(left) == len(occurrences) - 1
    assert [place for place in places(await live(actor)) if place[1] > occurrences[1]["start_time"]] == [
        place for place in wanted(left) if place[1] > occurrences[1]["start_time"]
    ]


@BOTH
async def test_a_series_that_came_before_is_not_what_another_was_split_into(actor: Actor, bots: Bots) -> None:
    """The series is deleted as a whole, while its bots' calendar has another of that room."""
    calendar, series_id, occurrences = await weekly(actor, bots)
    bots.meeting(calendar, hours=4, title="Others", time_zone="Europe/Berlin", recurrence=WEEKLY)
    await actor.quiesce()
    await bots.on(occurrences[0]["id"], all_occurrences=True)
    world = actor.sandbox.world
    world.delete_event(calendar.remote_id, series_id)
    await actor.quiesce()
    assert await live(actor) == []
    world.revoke(calendar.account)
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()
    token = world.issue_refresh_token(calendar.account)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": token})
    await actor.quiesce()
    assert await live(actor) == []


@BOTH
async def test_a_change_goes_for_all_but_exceptions(actor: Actor, bots: Bots) -> None:
    _, _, occurrences = await weekly(actor, bots)
    await bots.on(occurrences[0]["id"], all_occurrences=True, deduplication_key="k", metadata={"a": "1"})
    first, second, third, fourth, *_ = await live(actor)
    await actor.call("PATCH", f"/bots/{second['id']}", json={"bot_name": "By hand"})
    await actor.call("PATCH", f"/bots/{third['id']}", json={"bot_name": "By hand, too"})
    await actor.call("DELETE", f"/bots/{fourth['id']}", expect=204)
    body = {"bot_name": "Minutes", "metadata": {"a": "2"}, "config": {"recording": "audio_only"}}
    answer = await actor.call("PATCH", f"/bots/{third['id']}?all_occurrences=true", json=body)
    assert (answer["id"], answer["bot_name"]) == (third["id"], "Minutes")
    await actor.quiesce()
    now = await live(actor)
    assert [bot["bot_name"] for bot in now] == ["Minutes", "By hand", "Minutes", "Minutes"]
    assert [bot["metadata"] for bot in now] == [{"a": "2"}, {"a": "1"}, {"a": "2"}, {"a": "2"}]
    assert [bot["deduplication_key"] for bot in now][:2] == [first["deduplication_key"], second["deduplication_key"]]
    assert (await bots.get(fourth))["state_reason"] == "removed"
    assert fourth["calendar_event_id"] not in {bot["calendar_event_id"] for bot in now}


@BOTH
async def test_an_end_goes_for_all_and_for_those_to_come(actor: Actor, bots: Bots) -> None:
    calendar, series_id, occurrences = await weekly(actor, bots)
    await bots.on(occurrences[0]["id"], all_occurrences=True, deduplication_key="k")
    made = await live(actor)
    await actor.call("PATCH", f"/bots/{made[1]['id']}", json={"bot_name": "By hand"})
    world = actor.sandbox.world
    world.update_instance(calendar.remote_id, series_id, original(occurrences[2]), conference=None)
    await actor.quiesce()
    assert (await bots.get(made[2]))["state_reason"] == "link_gone"
    await actor.call("DELETE", f"/bots/{made[3]['id']}?all_occurrences=true", expect=204)
    await actor.call("DELETE", f"/bots/{made[0]['id']}?all_occurrences=true", expect=204)
    world.update_instance(calendar.remote_id, series_id, original(occurrences[2]), conference=Conference("meet", MEET))
    for _ in range(8):
        await days_pass(actor)
    assert await live(actor) == []
    ended = [(await bots.get(bot))["state_reason"] for bot in made]
    assert ended == ["removed", "removed", "link_gone", "removed", "removed"]
    assert bots.states(made[4]) == ["scheduled", "cancelled"]
    body = {"bot_name": "Again"}
    await actor.call("PATCH", f"/bots/{made[0]['id']}?all_occurrences=true", json=body, expect=409)


async def test_a_meeting_under_way_is_left_and_one_that_is_over_stays(actor: Actor, bots: Bots) -> None:
    await bots.launcher("attendee")
    _, _, occurrences = await weekly(actor, bots, recurrence=DAILY)
    await bots.on(occurrences[0]["id"], all_occurrences=True)
    past, now, *ahead = await live(actor)
    for hours in (2, 24):
        actor.advance(timedelta(hours=hours, minutes=10 if hours == 2 else 0))
        await actor.quiesce()
    assert (await bots.get(now))["state"] == "launched"
    await actor.call("PATCH", f"/bots/{ahead[0]['id']}?all_occurrences=true", json={"bot_name": "Minutes"})
    assert (await bots.get(now))["bot_name"] == "Notes"
    assert (await bots.get(ahead[3]))["bot_name"] == "Minutes"
    await actor.call("DELETE", f"/bots/{past['id']}?all_occurrences=true", expect=204)
    reasons = [((one := await bots.get(bot))["state"], one["state_reason"]) for bot in (past, now, ahead[0])]
    assert reasons == [("launched", None), ("cancelled", "left_by_request"), ("cancelled", "removed")]


@BOTH
async def test_a_single_end_keeps_the_occurrence_free(actor: Actor, bots: Bots) -> None:
    calendar, series_id, occurrences = await weekly(actor, bots)
    await bots.on(occurrences[0]["id"], all_occurrences=True)
    _, second, *_ = await live(actor)
    await actor.call("DELETE", f"/bots/{second['id']}", expect=204)
    actor.sandbox.world.update_event(calendar.remote_id, series_id, conference=Conference("zoom", OTHER))
    await actor.quiesce()
    now = await live(actor)
    assert [bot["meeting_url"] for bot in now] == [OTHER] * (len(occurrences) - 1)
    assert second["calendar_event_id"] not in {bot["calendar_event_id"] for bot in now}


async def test_the_key_of_a_series_is_taken_while_it_goes_on(actor: Actor, bots: Bots) -> None:
    _, _, occurrences = await weekly(actor, bots)
    bot = await bots.on(occurrences[0]["id"], all_occurrences=True, deduplication_key="k")
    body: Json = {"bot_name": "Second", "calendar_event_id": occurrences[1]["id"], "all_occurrences": True}
    refused = await actor.call("POST", "/bots", json={**body, "deduplication_key": "k"}, expect=409)
    assert (refused["code"], refused["existing_id"]) == ("deduplication_key_in_use", bot["id"])
    await actor.call("DELETE", f"/bots/{bot['id']}", expect=204)
    refused = await actor.call("POST", "/bots", json={**body, "deduplication_key": "k"}, expect=409)
    left = await live(actor)
    assert (refused["code"], refused["existing_id"]) == ("deduplication_key_in_use", left[-1]["id"])
    assert len(left) == len(occurrences) - 1
    await actor.call("POST", "/bots", json={**body, "deduplication_key": "other"}, expect=201)
    assert len(await live(actor)) == 2 * len(occurrences) - 1
    await actor.call("DELETE", f"/bots/{bot['id']}?all_occurrences=true", expect=204)
    await actor.call("POST", "/bots", json={**body, "deduplication_key": "k"}, expect=201)


async def test_a_series_that_nobody_has_ended_keeps_the_bot_that_it_is_ended_by(actor: Actor, bots: Bots) -> None:
    """However long ago its last meeting was: it may be held once a year. Else nobody could free its key or launcher."""
    launcher = await bots.launcher("webhook", is_default=False)
    _, _, occurrences = await weekly(actor, bots, recurrence=("RRULE:FREQ=WEEKLY;COUNT=3",))
    body = {"all_occurrences": True, "deduplication_key": "k", "launcher_id": launcher["id"]}
    first = await bots.on(occurrences[0]["id"], **body)
    last = (await live(actor))[-1]
    actor.advance(timedelta(days=200))
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE bots SET due_at = NULL")
    while await cleanup.purge(actor.rt):
        pass
    await actor.call("GET", f"/bots/{first['id']}", expect=404)
    refused = await actor.call("DELETE", f"/launchers/{launcher['id']}", expect=409)
    assert refused["code"] == "launcher_in_use"
    await actor.call("DELETE", f"/bots/{last['id']}?all_occurrences=true", expect=204)
    await actor.call("DELETE", f"/launchers/{launcher['id']}", expect=204)
    actor.advance(timedelta(days=100))
    while await cleanup.purge(actor.rt):
        pass
    assert (await stored(actor.rt, "SELECT id FROM bots"), await stored(actor.rt, "SELECT id FROM rules")) == ([], [])


async def test_of_many_requests_at_once_one_makes_the_series_bots(actor: Actor, bots: Bots) -> None:
    first, second = [(await weekly(actor, bots))[2] for _ in range(2)]
    path, headers = "/api/v1/bots", actor.project.headers

    def ask(event: Json) -> Any:
        body = {"bot_name": "N", "calendar_event_id": event["id"], "all_occurrences": True, "deduplication_key": "k"}
        return actor.api.post(path, json=body, headers=headers)

    answers: list[httpx.Response] = await asyncio.gather(*(ask(event) for event in (*first, *second)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * (len(answers) - 1)
    assert len(await live(actor)) == len(first)


@BOTH
async def test_a_series_comes_back_with_its_calendar_as_it_was_changed_meanwhile(actor: Actor, bots: Bots) -> None:
    calendar, _, occurrences = await weekly(actor, bots)
    bot = await bots.on(occurrences[0]["id"], all_occurrences=True)
    made = await live(actor)
    actor.sandbox.world.revoke(calendar.account)
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()
    await actor.call("PATCH", f"/bots/{bot['id']}?all_occurrences=true", json={"bot_name": "Minutes"})
    assert await live(actor) == []
    token = actor.sandbox.world.issue_refresh_token(calendar.account)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": token})
    await actor.quiesce()
    assert [(b["id"], b["bot_name"]) for b in await live(actor)] == [(b["id"], "Minutes") for b in made]


async def test_the_series_ends_with_its_calendar(actor: Actor, bots: Bots) -> None:
    calendar, _, occurrences = await weekly(actor, bots)
    bot = await bots.on(occurrences[0]["id"], all_occurrences=True, deduplication_key="k")
    await actor.call("DELETE", f"/calendars/{calendar.id}", expect=204)
    await actor.quiesce()
    assert await live(actor) == []
    await actor.call("PATCH", f"/bots/{bot['id']}?all_occurrences=true", json={"bot_name": "M"}, expect=409)
    await actor.call("DELETE", f"/bots/{bot['id']}?all_occurrences=true", expect=204)
    _, _, others = await weekly(actor, bots)
    await bots.on(others[0]["id"], all_occurrences=True, deduplication_key="k")


async def test_a_launcher_that_a_series_names_stays(actor: Actor, bots: Bots) -> None:
    launcher = await bots.launcher("attendee", is_default=False)
    _, _, occurrences = await weekly(actor, bots)
    bot = await bots.on(occurrences[0]["id"], all_occurrences=True, launcher_id=launcher["id"])
    for each in await live(actor):
        await actor.call("DELETE", f"/bots/{each['id']}", expect=204)
    refused = await actor.call("DELETE", f"/launchers/{launcher['id']}", expect=409)
    assert refused["code"] == "launcher_in_use"
    await actor.call("DELETE", f"/bots/{bot['id']}?all_occurrences=true", expect=204)
    await actor.call("DELETE", f"/launchers/{launcher['id']}", expect=204)


async def test_of_a_long_series_the_rest_gets_its_bots_soon(actor: Actor, bots: Bots) -> None:
    """So many as nobody has; the request is not to take longer for them."""
    rows, count = Rows(actor.rt, actor.project.id), AT_ONCE + 10
    calendar = await rows.calendar()
    start = actor.now() + timedelta(hours=2)
    link = {"meeting_url": MEET, "meeting_platform": "google_meet", "series_id": "long"}
    times = [start + timedelta(minutes=n) for n in range(count)]
    events = [await rows.event(calendar, start_time=at, original_start_time=at, **link) for at in times]
    body: Json = {"bot_name": "Notes", "calendar_event_id": events[-1], "all_occurrences": True}
    bot = await actor.call("POST", "/bots", json=body | {"deduplication_key": "k"}, expect=201)
    assert (bot["calendar_event_id"], bot["deduplication_key"]) == (events[-1], "k")
    assert await _count(actor, "Notes") == AT_ONCE
    await judge_due(actor.rt)
    assert await _count(actor, "Notes") == count
    await actor.call("PATCH", f"/bots/{bot['id']}?all_occurrences=true", json={"bot_name": "Minutes"})
    assert await _count(actor, "Minutes") == AT_ONCE
    await judge_due(actor.rt)
    assert await _count(actor, "Minutes") == count
    await actor.call("PATCH", f"/calendar_events/{events[0]}", json={"bot_override": "never", "all_occurrences": True})
    assert await _count(actor, "Minutes") == 10
    await judge_due(actor.rt)
    assert await _count(actor, "Minutes") == 0


async def _count(actor: Actor, name: str) -> int:
    query = "SELECT count(*) AS n FROM bots WHERE bot_name = :name AND state = 'scheduled'"
    [row] = await stored(actor.rt, query, name=name)
    return int(row["n"])


async def test_what_is_no_series_is_refused(actor: Actor, bots: Bots) -> None:
    _, _, bot = await bots.scheduled()
    body: Json = {"bot_name": "Notes", "calendar_event_id": bot["calendar_event_id"], "all_occurrences": True}
    refused = await actor.call("POST", "/bots", json=body, expect=422)
    assert (refused["code"], refused["errors"][0]["pointer"]) == ("not_a_series", "/all_occurrences")
    at = (actor.now() + timedelta(hours=1)).isoformat()
    own: Json = {"bot_name": "Notes", "meeting_url": MEET, "join_at": at, "all_occurrences": True}
    assert (await actor.call("POST", "/bots", json=own, expect=422))["code"] == "not_a_series"
    path = f"/bots/{bot['id']}?all_occurrences=true"
    assert (await actor.call("PATCH", path, json={"bot_name": "M"}, expect=422))["code"] == "not_a_series"
    assert (await actor.call("DELETE", path, expect=422))["code"] == "not_a_series"
    assert len(await live(actor)) == 1


async def test_what_all_occurrences_cannot_change_is_refused(actor: Actor, bots: Bots) -> None:
    _, _, occurrences = await weekly(actor, bots)
    bot = await bots.on(occurrences[0]["id"], all_occurrences=True)
    path = f"/bots/{bot['id']}?all_occurrences=true"
    refused = await actor.call("PATCH", path, json={"meeting_url": OTHER}, expect=422)
    assert refused["code"] == "read_only"
    refused = await actor.call("PATCH", path, json={"config": {"language": "de"}}, expect=422)
    assert refused["code"] == "needs_transcription"
    await actor.call("PATCH", f"/bots/{bot['id']}?all_occurrences=perhaps", json={}, expect=422)
    assert {each["bot_name"] for each in await live(actor)} == {"Notes"}


async def test_a_calendar_has_bots_for_so_many_series(actor: Actor, bots: Bots) -> None:
    calendar, _, occurrences = await weekly(actor, bots)
    async with actor.rt.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO rules (id, project_id, name, match, dedup_scope, bot_name, series_calendar_id, series_id)"
            " SELECT gen_random_uuid(), :project, 's', '{}', 'event', 's', :calendar, 's' || n"
            " FROM generate_series(1, :most) n",
            {"project": actor.project.id, "calendar": calendar.key, "most": SERIES_MOST},
        )
    body = {"bot_name": "Notes", "calendar_event_id": occurrences[0]["id"], "all_occurrences": True}
    refused = await actor.call("POST", "/bots", json=body, expect=409)
    assert refused["code"] == "too_many_rules"
    assert await live(actor) == []
