"""A push that outran its data is looked at again; a calendar whose channel is in doubt is asked more often."""

from datetime import timedelta

import pytest

from app import scheduling
from tests.harness import BOTH, Actor, Connected


async def pass_time(actor: Actor, delta: timedelta) -> None:
    """Let time pass, and what is due by the clock happen."""
    actor.advance(delta)
    await scheduling.sweep(actor.rt)
    await actor.quiesce()


async def found(actor: Actor, calendar: Connected) -> int:
    """What audits found."""
    health = (await actor.calendar(calendar))["health"]
    return int(health["audit_found_changes"])


def asked(actor: Actor) -> int:
    return actor.sandbox.requests.count(actor.operation("changes"))


async def steps(actor: Actor, calendar: Connected) -> int:
    async with actor.rt.db.reading() as tx:
        return int(await tx.scalar("SELECT lag_step FROM sync_state WHERE calendar_id = :id", {"id": calendar.key}))


async def empty_push(actor: Actor) -> None:
    (channel,) = actor.live()
    await actor.push(channel)
    await actor.quiesce()


@BOTH
async def test_hazard_34_notification_outruns_the_data(actor: Actor) -> None:
    calendar = await actor.connected()
    await empty_push(actor)
    actor.sandbox.push.mode = "drop"
    actor.add_event(calendar, "Late")
    assert await actor.events(calendar) == []
    await pass_time(actor, timedelta(seconds=1))
    assert await actor.events(calendar) == []
    await pass_time(actor, timedelta(seconds=8))
    assert [event["name"] for event in await actor.events(calendar)] == ["Late"]
    assert await found(actor, calendar) == 0  # a push had told of it


@BOTH
async def test_hazard_34_the_second_look_comes_after_a_minute(actor: Actor) -> None:
    calendar = await actor.connected()
    before = asked(actor)
    await empty_push(actor)
    await pass_time(actor, timedelta(seconds=9))
    assert asked(actor) == before + 2
    await pass_time(actor, timedelta(seconds=30))
    assert asked(actor) == before + 2
    actor.sandbox.push.mode = "drop"
    actor.add_event(calendar, "Very late")
    await pass_time(actor, timedelta(seconds=31))
    assert asked(actor) == before + 3
    assert len(await actor.events(calendar)) == 1
    assert await steps(actor, calendar) == 0


@BOTH
async def test_hazard_34_the_chain_ends(actor: Actor) -> None:
    calendar = await actor.connected()
    await empty_push(actor)
    for delta, step in ((9, 2), (61, 0)):
        await pass_time(actor, timedelta(seconds=delta))
        assert await steps(actor, calendar) == step
    async with actor.rt.db.transaction() as tx:  # the window's daily roll is none of the chain's
        await tx.execute("UPDATE sync_state SET anchor_due_at = app_now() + interval '1 day'")
    before = asked(actor)
    await pass_time(actor, timedelta(minutes=10))
    assert asked(actor) == before


@BOTH
async def test_hazard_34_another_push_begins_the_chain_anew(actor: Actor) -> None:
    calendar = await actor.connected()
    await empty_push(actor)
    await pass_time(actor, timedelta(seconds=9))
    assert await steps(actor, calendar) == 2
    await empty_push(actor)
    assert await steps(actor, calendar) == 1
    before = asked(actor)
    await pass_time(actor, timedelta(seconds=9))
    assert asked(actor) == before + 1


@BOTH
async def test_hazard_34_a_request_between_takes_no_look_away(actor: Actor) -> None:
    calendar = await actor.connected()
    await empty_push(actor)
    actor.advance(timedelta(seconds=3))
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()
    assert await steps(actor, calendar) == 1
    before = asked(actor)
    await pass_time(actor, timedelta(seconds=6))
    assert asked(actor) == before + 1
    assert await steps(actor, calendar) == 2


async def poll_in(actor: Actor, calendar: Connected) -> float:
    """Seconds until the calendar is polled."""
    query = "SELECT extract(epoch FROM poll_due_at - app_now()) FROM sync_state WHERE calendar_id = :id"
    async with actor.rt.db.reading() as tx:
        return float(await tx.scalar(query, {"id": calendar.key}))


@BOTH
@pytest.mark.parametrize("overrides", [{"audit_interval_seconds": 20, "poll_interval_seconds": 20}])
async def test_hazard_34_the_chain_postpones_nothing(actor: Actor) -> None:
    calendar = await actor.connected()
    await empty_push(actor)
    await pass_time(actor, timedelta(seconds=9))
    assert await steps(actor, calendar) == 2
    assert await poll_in(actor, calendar) <= 25  # the next look is due as always, give or take a quarter


@BOTH
async def test_hazard_32_the_interval_shrinks_while_a_renewal_fails(actor: Actor) -> None:
    calendar = await actor.connected()
    rested = await poll_in(actor, calendar)
    assert rested > 4 * 3600
    for operation in {actor.operation("renew"), actor.operation("watch")}:
        actor.sandbox.faults.add("unavailable", operation, times=None)
    actor.sandbox.push.mode = "drop"
    waits = []
    for _ in range(40):  # more than the seven days that a channel lives
        await pass_time(actor, timedelta(hours=5))
        if any(channel.expires_at - actor.now() > timedelta(hours=12) for channel in actor.live()):
            waits.append(await poll_in(actor, calendar))
    assert not actor.live()
    assert min(waits) < 3600
    assert await poll_in(actor, calendar) <= 375  # no channel any more: polled
    event = actor.add_event(calendar, "Unannounced")
    await pass_time(actor, timedelta(seconds=400))
    assert [e["platform_uuid"] for e in await actor.events(calendar)] == [event.id]
    actor.sandbox.faults.clear()
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={})
    await actor.quiesce()
    assert actor.live()
    assert await poll_in(actor, calendar) > 4 * 3600
