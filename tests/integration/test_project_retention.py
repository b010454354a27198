"""A project that keeps what is over for a shorter time than the server does; and the end of keys and of the log."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.ids import ENDPOINT, new_id, parse
from app.runtime import Runtime
from app.sync import cleanup
from tests.api.rows import Rows, calendar_ref
from tests.harness import Actor, Project
from tests.integration.delivering import rows as read

WEEK = 7


@pytest.fixture
def mine(rt: Runtime, project: Project) -> Rows:
    return Rows(rt, project.id)


async def _purge(rt: Runtime) -> None:
    while await cleanup.purge(rt):
        pass


async def _keep_a_week(api: httpx.AsyncClient, project: Project) -> None:
    answer = await api.patch("/api/v1/project", json={"retention_days": WEEK}, headers=project.headers)
    assert answer.status_code == 200


async def test_events_go_and_the_feed_says_so(
    rt: Runtime, api: httpx.AsyncClient, project: Project, other_project: Project, mine: Rows
) -> None:
    await _keep_a_week(api, project)
    theirs = Rows(rt, other_project.id)
    calendars = [await mine.calendar(), await theirs.calendar()]
    now = rt.clock.now()
    for owner, calendar in zip((mine, theirs), calendars, strict=True):
        await owner.event(calendar, is_deleted=True)
        await owner.event(calendar, start_time=now - timedelta(hours=3))
        await owner.event(calendar, start_time=now + timedelta(days=20))
    rt.clock.advance(timedelta(days=WEEK - 1))
    await _purge(rt)
    assert len(await read(rt, "SELECT id FROM calendar_events")) == 6
    rt.clock.advance(timedelta(days=2))
    await _purge(rt)
    left: Any = await read(rt, "SELECT calendar_id, change_seq FROM calendar_events ORDER BY change_seq")
    assert [row["change_seq"] for row in left if row["calendar_id"] == calendars[0]] == [3]
    assert [row["change_seq"] for row in left if row["calendar_id"] == calendars[1]] == [1, 2, 3]
    for calendar, headers, status in zip(calendars, (project.headers, other_project.headers), (410, 200), strict=True):
        params = {"calendar_id": calendar_ref(calendar), "after_seq": "1"}
        answer = await api.get("/api/v1/calendar_events", params=params, headers=headers)
        assert answer.status_code == status


async def test_what_is_still_in_the_window_stays(actor: Actor) -> None:
    """A listing of the window would bring it back as new."""
    await actor.call("PATCH", "/project", json={"retention_days": 1})
    calendar = await actor.connected()
    actor.add_event(calendar, hours=2)
    await actor.quiesce()
    [before] = await actor.events(calendar)
    async with actor.rt.db.transaction() as tx:  # the calendar's window stands still, as while its provider is away
        await tx.execute("UPDATE sync_state SET not_before = 'infinity'")
    actor.advance(timedelta(days=3))
    await _purge(actor.rt)
    assert [event["id"] for event in await actor.events(calendar)] == [before["id"]]
    async with actor.rt.db.transaction() as tx:
        await tx.execute("UPDATE sync_state SET not_before = '-infinity'")
    await actor.call("POST", f"/calendars/{calendar.id}/sync", json={"full": True}, expect=202)
    await actor.quiesce()
    await _purge(actor.rt)
    assert await actor.events(calendar) == []
    assert [entry["change"] for entry in actor.entries()] == []


async def test_bots_and_messages_go(rt: Runtime, api: httpx.AsyncClient, project: Project, mine: Rows) -> None:
    await _keep_a_week(api, project)
    calendar, endpoint = await mine.calendar(), parse(ENDPOINT, await mine.endpoint())
    event = await mine.event(calendar)
    now = rt.clock.now()
    for days in (8, 6):
        over = {"state": "launched", "join_at": now - timedelta(days=days), "ends_at": now - timedelta(days=days)}
        await mine.bot(calendar, event, **over)
    for days, state in ((8, "succeeded"), (8, "pending"), (8, None), (6, "succeeded"), (6, None)):
        message, at = new_id(), now - timedelta(days=days)
        await mine.sql(
            "INSERT INTO messages (id, project_id, calendar_id, trigger, payload, created_at)"
            " VALUES (:id, :project, :calendar, 'calendar.events_update', CAST('{}' AS bytea), :at)",
            id=message,
            project=project.id,
            calendar=calendar,
            at=at,
        )
        if state:
            await mine.sql(
                "INSERT INTO deliveries (id, project_id, message_id, endpoint_id, calendar_id, trigger, state,"
                "                        next_attempt_at, created_at)"
                " VALUES (:id, :project, :message, :endpoint, :calendar, 'calendar.events_update', :state,"
                "         CASE WHEN :state = 'pending' THEN CAST(:at AS timestamptz) END, CAST(:at AS timestamptz))",
                id=new_id(),
                project=project.id,
                message=message,
                endpoint=endpoint,
                calendar=calendar,
                state=state,
                at=at,
            )
    await _purge(rt)
    assert [row["age"].days for row in await read(rt, "SELECT app_now() - ends_at AS age FROM bots")] == [6]
    left = await read(
        rt,
        "SELECT m.created_at, d.state FROM messages m LEFT JOIN deliveries d ON d.message_id = m.id"
        " ORDER BY m.created_at, d.state",
    )
    ages = [((now - row["created_at"]).days, row["state"]) for row in left]
    assert ages == [(8, "pending"), (6, "succeeded"), (6, None)]


async def test_keys_and_entries_go_by_the_servers_span(
    rt: Runtime, api: httpx.AsyncClient, project: Project, mine: Rows
) -> None:
    """A project that forgets soon keeps its log all the same: who shortens the span does not cover up what was done."""
    await _keep_a_week(api, project)
    expiring = await mine.key(expires_at=rt.clock.now() + timedelta(hours=1))
    await mine.entry("cal_x", key_id=expiring.id)
    rt.clock.advance(timedelta(days=89))
    await _purge(rt)
    assert len(await read(rt, "SELECT id FROM audit_log")) == 2
    assert len(await read(rt, "SELECT id FROM api_keys")) == 2
    rt.clock.advance(timedelta(days=2))
    await _purge(rt)
    assert await read(rt, "SELECT id FROM audit_log") == []
    assert [row["name"] for row in await read(rt, "SELECT name FROM api_keys")] == ["first"]
