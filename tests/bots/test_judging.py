"""Rules that change are applied to all events ahead, whatever comes in between, and at a cost that does not grow."""

import asyncio
import re
import sys
from contextvars import Context
from datetime import UTC, datetime, timedelta
from types import FrameType, SimpleNamespace
from typing import Any, cast
from uuid import UUID

import structlog

from app.bots import planning
from app.bots.rules import evaluations
from app.bots.rules.judging import BATCH, CALENDARS, judge_due
from app.bots.rules.rule import Candidate, Ground
from app.bots.standing import Event as Standing
from app.db import Row
from app.ids import new_id
from app.meetings import Preferences
from sandbox.model import Conference
from tests.api.rows import Rows
from tests.bots.meetings import change_rule
from tests.bots.stage import MEET, OTHER, Bots, Json
from tests.harness import Actor, Connected
from tests.integration.delivering import rows
from tests.integration.test_races import until_it_waits
from workers.sweeps import apply_rules

_COUNT = "SELECT bot_name, count(*) AS n FROM bots WHERE state = 'scheduled' GROUP BY 1 ORDER BY 1"


async def many(actor: Actor, count: int) -> Connected:
    """A calendar with so many meetings."""
    calendar = await actor.connect()
    link = Conference("meet", MEET)
    for number in range(count):
        actor.add_event(calendar, hours=2 + number / 10, conference=link)
    await actor.quiesce()
    return calendar


async def counted(actor: Actor) -> dict[str, int]:
    """How many live bots there are of each name."""
    return {row["bot_name"]: row["n"] for row in await rows(actor.rt, _COUNT)}


async def test_a_walk_is_resumed_and_a_change_during_it_is_applied_to_all(actor: Actor, bots: Bots) -> None:
    """Batch by batch; a worker that dies leaves the rest, and a rule that changes meanwhile is applied anew."""
    count = BATCH + 120
    calendar = await many(actor, count)
    rule = await bots.rule()
    assert await judge_due(actor.rt) == BATCH
    assert await counted(actor) == {"Notes": BATCH}
    await change_rule(actor, rule, "bot_name = 'Scribe'")
    async with actor.rt.db.transaction() as tx:  # the second batch comes to a bot that somebody holds, and dies there
        held = "SELECT id FROM bots ORDER BY id FOR NO KEY UPDATE"
        await tx.rows(held)
        await judge_due_until_it_waits(actor, tx)
    while await judge_due(actor.rt):
        pass
    assert await counted(actor) == {"Scribe": count}
    assert await rows(actor.rt, "SELECT id FROM rule_evaluations") == []
    shown = await rows(actor.rt, "SELECT count(DISTINCT calendar_event_id) AS n FROM bots")
    assert shown == [{"n": count}]
    await change_rule(actor, rule, "is_enabled = false")
    while await judge_due(actor.rt):
        pass
    await change_rule(actor, rule, "is_enabled = true, bot_name = 'Third'")
    async with actor.rt.db.transaction() as tx:  # named events as well come in batches
        await tx.execute("DELETE FROM rule_evaluations")
        all_ = [row.id for row in await tx.rows("SELECT id FROM calendar_events")]
        await evaluations.request_events(tx, {calendar.key: all_})
    assert await judge_due(actor.rt) == BATCH
    assert await judge_due(actor.rt) == count - BATCH
    assert await counted(actor) == {"Third": count}


async def judge_due_until_it_waits(actor: Actor, tx: Any) -> None:
    """Steps of judging until one waits for a lock; that one is broken off."""
    running = asyncio.create_task(_judge_all(actor), context=Context())
    await until_it_waits(tx)
    running.cancel()
    await asyncio.wait([running])


async def _judge_all(actor: Actor) -> None:
    while await judge_due(actor.rt):
        pass


async def test_a_calendar_that_is_held_or_gone_keeps_no_other_from_its_turn(actor: Actor, bots: Bots) -> None:
    """Deleted ones wait to be wiped, with their requests, for as long as their provider is away."""
    await bots.rule()
    calendar = await actor.connected()
    bots.meeting(calendar)
    copies = (
        "INSERT INTO calendars SELECT (jsonb_populate_record(c, jsonb_build_object('id', gen_random_uuid(),"
        " 'deleted_at', app_now(), 'wipe_not_before', 'infinity'))).*"
        " FROM calendars c, generate_series(1, :count) RETURNING id"
    )
    async with actor.rt.db.transaction() as tx:
        gone = [row.id for row in await tx.rows(copies, {"count": CALENDARS + 5})]
        await evaluations.request(tx, gone)
    await actor.quiesce()
    await bots.rule(dedup_scope="event", name="Second")
    async with actor.rt.db.transaction() as tx:
        await tx.row("SELECT id FROM calendars WHERE id = :c FOR NO KEY UPDATE", {"c": calendar.key})
        running = asyncio.create_task(judge_due(actor.rt), context=Context())
        assert await running == 0  # it does not wait, and does not forget
    assert await judge_due(actor.rt) > 0
    assert await counted(actor) == {"Notes": 2}


async def test_a_calendar_that_cannot_be_judged_stops_nobody_else(actor: Actor, bots: Bots) -> None:
    """Nor the worker: a fault of ours in one project's rules would end it again and again."""
    rule = await bots.rule()
    calendars = [await actor.connected() for _ in range(2)]
    for calendar in calendars:
        bots.meeting(calendar)
    await actor.quiesce()
    [broken] = await rows(actor.rt, "SELECT calendar_id FROM bots WHERE state = 'scheduled'")
    assert len(await counted(actor)) == 1
    await change_rule(actor, rule, "dedup_scope = 'event'")
    async with actor.rt.db.transaction() as tx:
        poison = "UPDATE calendars SET metadata = '[1]' WHERE id = :id"
        assert await tx.execute(poison, {"id": broken["calendar_id"]}) == 1
        await tx.execute("UPDATE rules SET match = :match", {"match": '{"calendar_metadata": {}}'})
    failed: set[UUID] = set()
    while await apply_rules(actor.rt, failed):
        pass
    assert await counted(actor) == {"Notes": 2}
    left = await rows(actor.rt, "SELECT DISTINCT calendar_id FROM rule_evaluations")
    assert left == [broken]
    assert failed == {broken["calendar_id"]}


async def test_nor_do_more_of_them_than_have_their_turn_at_once(actor: Actor, bots: Bots) -> None:
    written = Rows(actor.rt, actor.project.id)
    await bots.rule(match={"calendar_metadata": {}})
    broken = [await written.calendar() for _ in range(CALENDARS + 1)]
    await written.sql("UPDATE calendars SET metadata = '[1]'")
    start = actor.now() + timedelta(hours=1)
    link = {"meeting_url": MEET, "meeting_platform": "google_meet", "start_time": start}
    for calendar_id in broken:
        await written.event(calendar_id, end_time=start + timedelta(hours=1), **link)
    well = await written.calendar()
    await written.event(well, end_time=start + timedelta(hours=1), **link)
    async with actor.rt.db.transaction() as tx:
        for calendar_id in (*broken, well):
            await evaluations.request(tx, [calendar_id])
    failed: set[UUID] = set()
    with structlog.testing.capture_logs():  # to show as many tracebacks would take half a minute
        while await apply_rules(actor.rt, failed):
            pass
    assert await counted(actor) == {"Notes": 1}
    assert failed == set(broken)


async def test_a_disconnected_calendar_is_judged_when_it_works_again(actor: Actor, bots: Bots) -> None:
    rule = await bots.rule()
    calendar = await actor.connected()
    event = bots.meeting(calendar)
    await actor.quiesce()
    actor.sandbox.world.revoke(calendar.account)
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()
    assert await counted(actor) == {}
    await change_rule(actor, rule, "bot_name = 'Scribe'")
    await bots.rule(dedup_scope="event", name="Second")
    await actor.quiesce()
    token = actor.sandbox.world.issue_refresh_token(calendar.account)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": token})
    await actor.quiesce()
    assert await counted(actor) == {"Notes": 1, "Scribe": 1}
    assert event.id


# --- what it costs ---


async def _round(actor: Actor, bots: Bots, *, events: int, rules: int) -> list[str]:
    """The statements of a round in which every meeting of a calendar moves and has another link."""
    for number in range(rules):
        await bots.rule(priority=number, match={"title_contains": [f"x{number}"] if number else ["Planning"]})
    account = actor.new_account()
    calendar = await actor.connect(account)
    link = Conference("meet", MEET)
    day = 24 * (events // 100)  # two rounds' meetings have one link: at one start they would be one meeting
    made = [actor.add_event(calendar, hours=2 + day + number / 10, conference=link) for number in range(events)]
    await actor.quiesce()
    by, other = timedelta(minutes=7), Conference("zoom", OTHER)
    for event in made:
        times: dict[str, Any] = {"start": event.start + by, "end": event.end + by}
        actor.sandbox.world.update_event(calendar.remote_id, event.id, conference=other, **times)
    await actor.sandbox.push.idle()
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    statements: list[str] = []
    with actor.rt.db.watched(statements.append):
        assert await actor.run(calendar) == "synced"
    return statements


def _of_bots(statements: list[str]) -> list[str]:
    about = re.compile(r"\b(bots|rules|bot_claims|bot_events|rule_evaluations|pg_advisory_xact_lock)\b")
    return [" ".join(one.split())[:60] for one in statements if about.search(one)]


async def test_a_round_of_many_events_and_rules_costs_what_one_of_few_costs(actor: Actor, bots: Bots) -> None:
    few = _of_bots(await _round(actor, bots, events=4, rules=2))
    many_ = _of_bots(await _round(actor, bots, events=400, rules=12))
    assert many_ == few
    assert len(few) <= 16
    assert await rows(actor.rt, "SELECT count(*) AS n FROM bots WHERE state = 'scheduled'") == [{"n": 404}]


async def test_a_project_without_rules_and_bots_asks_for_them_and_no_more(actor: Actor, bots: Bots) -> None:
    assert len(_of_bots(await _round(actor, bots, events=4, rules=0))) <= 2


def _rewritten(count: int) -> tuple[list[Row], list[Candidate]]:
    """A calendar whose every meeting, each with a bot, was deleted and is there anew, a minute later."""
    ground = Ground(new_id(), new_id(), None, {}, frozenset(), Preferences())
    found: list[Row] = []
    candidates: list[Candidate] = []
    for number in range(count):
        start = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(minutes=5 * number)
        url, old = f"https://meet.example.com/room{number % 7}", new_id()
        for id_, at, is_deleted in ((old, start, True), (new_id(), start + timedelta(minutes=1), False)):
            kind = Standing(is_deleted, None, "confirmed", url, None, at, at + timedelta(hours=1))
            candidates.append(Candidate(id_, ground, kind, "s", None, None, not is_deleted, "{}"))
        bot: Json = {"id": new_id(), "calendar_event_id": old, "state": "scheduled", "is_removed": False}
        bot |= {"join_at": start, "meeting_url": url, "series_id": "r"}
        found.append(cast(Row, SimpleNamespace(**bot)))
    return found, candidates


def test_successors_cost_no_more_than_there_are_events() -> None:
    def lines(count: int) -> int:
        """How many lines of `app` run, those of loops each time."""
        held, candidates = _rewritten(count)
        ran = 0

        def line(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal ran
            ran += event == "line"
            return line if frame.f_globals.get("__name__", "").startswith("app.") else None

        before = sys.gettrace()
        sys.settrace(line)
        try:
            found = planning.successors(held, candidates)
        finally:
            sys.settrace(before)
        assert len(found) == count
        return ran

    lines(10)
    assert lines(3_200) < 6 * lines(800)  # from two days on, as many are near as ever
