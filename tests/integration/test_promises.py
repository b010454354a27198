"""Promises 1 to 7 of docs/architecture.md, each by its number, through jobs, HTTP, the sandbox and the database."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from redis.asyncio import Redis

from app.db import Tx
from app.providers.base import AppCredentials
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from sandbox import Sandbox
from tests.harness import BOTH, Actor, Connected

pytestmark = BOTH

REFUSE_CURSOR = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.cursor IS DISTINCT FROM OLD.cursor THEN RAISE EXCEPTION 'no'; END IF;
    RETURN NEW;
END $$
"""


async def stored(actor: Actor, calendar: Connected) -> tuple[int, int, str | None]:
    """Events, messages and the cursor as committed."""
    async with actor.rt.db.reading() as tx:
        events = await tx.scalar("SELECT count(*) FROM calendar_events WHERE calendar_id = :c", {"c": calendar.key})
        messages = await tx.scalar("SELECT count(*) FROM messages WHERE calendar_id = :c", {"c": calendar.key})
        cursor = await tx.scalar("SELECT cursor FROM sync_state WHERE calendar_id = :c", {"c": calendar.key})
    return events, messages, cursor


async def push(actor: Actor, calendar: Connected, *, is_patient: bool = True) -> httpx.Response:
    """What the provider sends on the calendar's live channel."""
    channel = next(c for c in actor.live() if c.calendar_id == calendar.remote_id)
    return await actor.push(channel, is_patient=is_patient)


async def test_promise_1_change_message_and_cursor_commit_together_or_not_at_all(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    before = await stored(actor, calendar)
    async with actor.rt.db.transaction() as tx:
        await tx.execute(REFUSE_CURSOR)
        await tx.execute("CREATE TRIGGER refuse BEFORE UPDATE ON sync_state FOR EACH ROW EXECUTE FUNCTION refuse()")
    actor.add_event(calendar)
    await actor.sandbox.push.idle()
    assert await actor.run(calendar) == "crashed"
    assert await stored(actor, calendar) == before

    async with actor.rt.db.transaction() as tx:
        await tx.execute("DROP TRIGGER refuse ON sync_state")
        state = await tx.row("SELECT failure_code, failure_count, lease_until FROM sync_state")
    assert state is not None
    assert (state.failure_code, state.failure_count, state.lease_until) == ("internal_error", 1, None)
    actor.advance(timedelta(minutes=1))
    await actor.quiesce()
    after = await stored(actor, calendar)
    assert (after[0], after[1]) == (before[0] + 1, before[1] + 1)
    assert after[2] != before[2]
    assert [e["change"] for e in actor.entries()] == ["created"]


@pytest.fixture
async def second(settings: Settings, rt: Runtime, sandbox: Sandbox) -> AsyncIterator[Runtime]:
    """Another worker on the same database; its lease is short, as is the first one's."""
    async with open_runtime(settings, transport=httpx.ASGITransport(sandbox.app)) as other:
        yield other


async def test_promise_2_a_run_that_lost_its_lease_changes_nothing(actor: Actor, second: Runtime) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    actor.add_event(calendar, "Old")
    await actor.sandbox.push.idle()
    gate = actor.sandbox.faults.gate(actor.operation("changes"))
    zombie = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    # The zombie has read its pages and sleeps past its lease; the calendar changes and another worker takes over.
    actor.sandbox.faults.gates.clear()
    actor.add_event(calendar, "New")
    async with second.db.transaction() as tx:
        await tx.execute("UPDATE sync_state SET lease_until = clock_timestamp() - interval '1 second'")
    assert await actor.run(calendar, second) == "synced"
    after = await stored(actor, calendar)
    gate.release()
    assert await zombie == "superseded"
    assert await stored(actor, calendar) == after
    await actor.quiesce()
    assert sorted(e["name"] for e in await actor.events(calendar)) == ["New", "Old"]
    assert [e["change_seq"] for e in actor.entries()] == [1, 2]


async def test_promise_3_every_redis_key_deleted_in_a_burst_loses_nothing(actor: Actor, redis_url: str) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    async with Redis.from_url(redis_url) as redis:
        for number in range(20):
            actor.add_event(calendar, f"Burst {number}")
            if number % 5 == 0:
                await actor.sandbox.push.idle()
                await redis.flushdb()
        await redis.flushdb()
    await actor.quiesce()
    assert len(await actor.events(calendar)) == 20
    assert [e["change_seq"] for e in actor.entries()] == list(range(1, 21))


async def test_promise_3_without_any_redis_everything_still_happens(
    settings: Settings, actor: Actor, sandbox: Sandbox
) -> None:
    gone = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    async with open_runtime(gone, transport=httpx.ASGITransport(sandbox.app)) as rt:
        actor.rt = rt
        await actor.subscribe()
        calendar = await actor.connected()
        actor.add_event(calendar)
        await actor.quiesce()
        assert len(await actor.events(calendar)) == 1
        assert [e["change"] for e in actor.entries()] == ["created"]


async def test_promise_4_a_push_during_a_run_causes_another_run(actor: Actor) -> None:
    calendar = await actor.connected()
    actor.add_event(calendar, "Before")
    await actor.sandbox.push.idle()
    gate = actor.sandbox.faults.gate(actor.operation("changes"))
    running = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    actor.add_event(calendar, "During")  # the pages are read: this run cannot see it
    await actor.sandbox.push.idle()
    actor.sandbox.faults.gates.clear()
    gate.release()
    assert await running == "synced"
    assert [e["name"] for e in await actor.events(calendar)] == ["Before"]
    await actor.quiesce()
    assert sorted(e["name"] for e in await actor.events(calendar)) == ["Before", "During"]


async def test_promise_4_a_push_never_waits_for_an_apply(actor: Actor) -> None:
    calendar = await actor.connected()
    async with actor.rt.db.transaction() as tx:
        await hold_like_an_apply(tx, calendar)
        answer = await asyncio.wait_for(push(actor, calendar), timeout=25)
        assert answer.is_success
    async with actor.rt.db.reading() as tx:
        assert await tx.scalar(
            "SELECT requested_seq > synced_seq FROM sync_state WHERE calendar_id = :c", {"c": calendar.key}
        )


async def hold_like_an_apply(tx: Tx, calendar: Connected) -> None:
    """The locks that a run holds until its last statement."""
    await tx.row("SELECT id FROM calendars WHERE id = :c FOR NO KEY UPDATE", {"c": calendar.key})
    await tx.execute("UPDATE calendars SET last_change_seq = last_change_seq WHERE id = :c", {"c": calendar.key})


async def test_promise_4_a_push_that_cannot_be_stored_in_a_second_is_sent_again(actor: Actor) -> None:
    calendar = await actor.connected()
    async with actor.rt.db.transaction() as tx:
        await tx.row("SELECT 1 FROM sync_state WHERE calendar_id = :c FOR UPDATE", {"c": calendar.key})
        answer = await push(actor, calendar, is_patient=False)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert (await push(actor, calendar)).is_success


async def test_promise_5_the_same_page_twice_emits_nothing(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    for number in range(3):
        actor.add_event(calendar, f"Event {number}", hours=24 + number)
    await actor.quiesce()
    heard, events = len(actor.messages()), await actor.events(calendar)
    for path in ({"full": True}, {}):
        await actor.call("POST", f"/calendars/{calendar.id}/sync", json=path, expect=202)
        await actor.quiesce()
    # A touch moves etag and update time at the provider, and nothing that anybody can see.
    actor.sandbox.world.touch(calendar.remote_id, events[0]["platform_uuid"])
    await actor.quiesce()
    assert len(actor.messages()) == heard
    again = await actor.events(calendar)
    assert [(e["id"], e["updated_at"], e["change_seq"]) for e in again] == [
        (e["id"], e["updated_at"], e["change_seq"]) for e in events
    ]


async def test_promise_6_no_provider_is_called_inside_a_transaction(actor: Actor) -> None:
    calendar = await actor.connected()
    async with actor.rt.db.reading():
        with pytest.raises(RuntimeError, match="inside a transaction"):
            await actor.rt.providers["google"].refresh(_app(calendar), calendar.account.refresh_token)
        with pytest.raises(RuntimeError, match="inside a transaction"):
            await actor.rt.egress.post("http://127.0.0.1:9/", headers={}, body=b"", timeout_seconds=1)


def _app(calendar: Connected) -> AppCredentials:
    return AppCredentials(calendar.account.client_id, calendar.account.client_secret)


async def test_promise_7_a_message_keeps_its_id_until_it_is_acknowledged(actor: Actor) -> None:
    await actor.subscribe()
    actor.sink.hook().statuses = [500, 503, 204]
    calendar = await actor.connect()
    for _ in range(3):
        await actor.quiesce()
        actor.rt.clock.advance(timedelta(minutes=10))
    await actor.quiesce()
    seen = [one for one in actor.sink.received if one.body["calendar_id"] == calendar.id]
    assert [one.status for one in seen[:3]] == [500, 503, 204]
    assert len({one.message_id for one in seen[:3]}) == 1
    assert seen[0].body == seen[2].body
    assert all(one.valid for one in seen)


async def test_forty_pushes_make_at_most_two_runs(actor: Actor) -> None:
    calendar = await actor.connected()
    before = actor.sandbox.requests.count(actor.operation("changes"))
    answers = await asyncio.gather(*(push(actor, calendar) for _ in range(40)))
    assert {a.is_success for a in answers} == {True}
    await actor.quiesce()
    assert 1 <= actor.sandbox.requests.count(actor.operation("changes")) - before <= 2


async def test_a_push_never_shortens_what_the_provider_asked_for(actor: Actor, second: Runtime, redis_url: str) -> None:
    calendar = await actor.connected()
    actor.sandbox.faults.add("too_many_requests", actor.operation("changes"), retry_after=120)
    actor.add_event(calendar)
    await actor.quiesce()
    before = actor.sandbox.requests.count(actor.operation("changes"))
    await push(actor, calendar)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={})
    await actor.quiesce()
    actor.advance(timedelta(seconds=110))
    await push(actor, calendar)
    await actor.quiesce()
    assert actor.sandbox.requests.count(actor.operation("changes")) == before
    assert (await actor.calendar(calendar))["state"] == "connected"
    actor.advance(timedelta(seconds=15))
    async with Redis.from_url(redis_url) as redis:
        await redis.flushdb()
    # The first worker remembers the provider's word in real time, which the test does not wait for.
    second.clock.advance(actor.rt.clock.offset)
    actor.rt = second
    await actor.quiesce()
    assert len(await actor.events(calendar)) == 1
