"""One bot for each real meeting, whichever calendars it stands in, and where it goes when its event goes."""

from typing import Any

from sandbox.model import Event
from tests.bots.stage import Bots, Json
from tests.harness import BOTH, Actor, Connected


async def copies(actor: Actor, bots: Bots, count: int = 3, **draft: Any) -> list[tuple[Connected, Event]]:
    """Calendars of as many people, and each one's copy of one meeting."""
    found = []
    for _ in range(count):
        calendar = await actor.connected()
        found.append((calendar, bots.meeting(calendar, ical_uid="meeting-1@example.com", **draft)))
    return found


async def live(actor: Actor) -> list[Json]:
    """The project's live bots."""
    params = {"states": ["scheduled", "launching", "launched"]}
    return list((await actor.call("GET", "/bots", params=params))["results"])


@BOTH
async def test_three_invitees_get_one_bot(actor: Actor, bots: Bots) -> None:
    rule = await bots.rule(dedup_scope="meeting")
    await copies(actor, bots)
    await actor.quiesce()
    [bot] = await live(actor)
    assert bot["rule_id"] == rule["id"]


@BOTH
async def test_each_event_gets_one_where_the_scope_is_the_event(actor: Actor, bots: Bots) -> None:
    await bots.rule(dedup_scope="event")
    await copies(actor, bots)
    await actor.quiesce()
    assert len(await live(actor)) == 3


@BOTH
async def test_the_bot_goes_on_with_another_copy_when_its_owner_disconnects(actor: Actor, bots: Bots) -> None:
    await bots.rule()
    calendars = await copies(actor, bots)
    await actor.quiesce()
    [bot] = await live(actor)
    owner = next(c for c, _ in calendars if c.id == bot["calendar_id"])
    actor.sandbox.world.revoke(owner.account)
    await actor.call("POST", f"/calendars/{owner.id}/sync", expect=202)
    await actor.quiesce()
    [now] = await live(actor)
    assert now["id"] == bot["id"]
    assert now["calendar_id"] != owner.id
    assert now["hold_reason"] is None
    assert "transferred" in [event["type"] for event in now["events"]]
    assert bots.states(bot) == ["scheduled"]  # nobody was told of an end
