"""Hazard 28: what the provider sends on a channel before it has answered the request for it."""

import asyncio

from tests.harness import BOTH, Actor
from tests.hazards.hearing import announced


@BOTH
async def test_hazard_28_notification_before_the_watch_response(actor: Actor) -> None:
    """The channel's row was committed before the call: the push is believed, and its change told at once, once."""
    await actor.subscribe()
    calendar = await actor.connect()
    actor.sandbox.faults.add("early_sync_message", actor.operation("watch"))  # Google's own first word
    gate = actor.sandbox.faults.gate(actor.operation("watch"))
    opening = asyncio.create_task(actor.quiesce())
    await gate.reached()
    actor.add_event(calendar, "Early")
    await actor.sandbox.push.idle()
    assert {status for _, status in actor.sandbox.push.sent} <= {200, 202}
    assert (await actor.calendar(calendar))["health"]["push"]["active"] is False
    assert await actor.run(calendar) == "synced"
    assert [e["name"] for e in await actor.events(calendar)] == ["Early"]

    gate.release()
    await opening
    await actor.quiesce()
    assert announced(actor) == [("created", [])]
    assert (await actor.calendar(calendar))["health"]["push"]["active"] is True
    assert len(actor.live()) == 1
    await actor.assert_equal(calendar)
