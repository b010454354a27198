"""What no push told of is found all the same, and counted."""

from datetime import timedelta

from app import scheduling
from app.telemetry import REGISTRY
from tests.harness import BOTH, Actor, Connected


def missed(actor: Actor, change: str) -> float:
    labels = {"platform": actor.platform, "change": change}
    return REGISTRY.get_sample_value("punctual_audit_found_changes_total", labels) or 0.0


async def pass_time(actor: Actor, delta: timedelta) -> None:
    """Let time pass, and what is due by the clock happen."""
    actor.advance(delta)
    await scheduling.sweep(actor.rt)
    await actor.quiesce()


async def found(actor: Actor, calendar: Connected) -> int:
    health = (await actor.calendar(calendar))["health"]
    return int(health["audit_found_changes"])


@BOTH
async def test_what_a_lost_push_would_have_told_is_counted(actor: Actor) -> None:
    calendar = await actor.connected()
    gone = actor.add_event(calendar, "Gone")
    changed = actor.add_event(calendar, "Changed")
    await actor.quiesce()
    before = {change: missed(actor, change) for change in ("created", "updated", "deleted")}
    actor.sandbox.push.mode = "drop"
    actor.add_event(calendar, "New")
    actor.sandbox.world.update_event(calendar.remote_id, changed.id, title="Changed again")
    actor.sandbox.world.delete_event(calendar.remote_id, gone.id)
    await pass_time(actor, timedelta(hours=8))
    await actor.assert_equal(calendar)
    assert await found(actor, calendar) == 3
    for change, count in before.items():
        assert missed(actor, change) == count + 1


@BOTH
async def test_what_a_push_told_is_not_counted(actor: Actor) -> None:
    calendar = await actor.connected()
    actor.add_event(calendar)
    await actor.quiesce()
    actor.sandbox.push.mode = "drop"
    actor.add_event(calendar, "Told by a request")
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    await actor.quiesce()
    assert await found(actor, calendar) == 0


@BOTH
async def test_what_enters_with_the_window_is_not_counted(actor: Actor) -> None:
    calendar = await actor.connected()
    actor.add_event(calendar, "Far ahead", hours=24 * 30 + 12)
    await actor.quiesce()
    assert await actor.events(calendar) == []
    await pass_time(actor, timedelta(days=1))
    await pass_time(actor, timedelta(hours=6))
    assert [event["name"] for event in await actor.events(calendar)] == ["Far ahead"]
    assert await found(actor, calendar) == 0


async def test_a_calendar_without_a_channel_has_nothing_to_miss(actor: Actor) -> None:
    actor.sandbox.faults.add("push_not_supported", times=None)
    calendar = await actor.connected()
    actor.add_event(calendar)
    await pass_time(actor, timedelta(minutes=10))
    await actor.assert_equal(calendar)
    assert len(await actor.events(calendar)) == 1
    assert await found(actor, calendar) == 0
