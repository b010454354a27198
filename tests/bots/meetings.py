"""Meetings that stand in several calendars, rules that change, and what has to hold of their bots whatever happens."""

from typing import Any

from app.bots.rules import evaluations
from app.ids import RULE, parse
from sandbox.model import Event
from tests.bots.stage import Bots, Json
from tests.harness import Actor, Connected
from tests.integration.delivering import rows

UID = "meeting-1@example.com"
LIVE = ["scheduled", "launching", "launched"]

# By the events themselves, not by claims: two live bots of wide rules, whose events are one meeting.
_DOUBLES = """
SELECT a.id, b.id FROM bots a JOIN bots b ON a.id < b.id AND a.project_id = b.project_id
  JOIN calendar_events x ON x.id = a.calendar_event_id JOIN calendar_events y ON y.id = b.calendar_event_id
 WHERE a.state IN ('scheduled', 'launching', 'launched') AND b.state IN ('scheduled', 'launching', 'launched')
   AND a.dedup_scope = 'meeting' AND b.dedup_scope = 'meeting' AND a.ends_at > app_now() AND b.ends_at > app_now()
   AND (x.meeting_url = y.meeting_url AND x.start_time = y.start_time
        OR x.ical_uid = y.ical_uid AND CAST(x.content AS jsonb) -> 'original_start_time'
                                       IS NOT DISTINCT FROM CAST(y.content AS jsonb) -> 'original_start_time')
"""


async def copies(
    actor: Actor, bots: Bots, count: int = 3, *, calendars: list[Connected] | None = None, **draft: Any
) -> list[tuple[Connected, Event]]:
    """Calendars of as many people, and each one's copy of one meeting; not synced yet."""
    of = calendars or [await actor.connect() for _ in range(count)]
    return [(calendar, bots.meeting(calendar, **{"ical_uid": UID, **draft})) for calendar in of]


async def live(actor: Actor) -> list[Json]:
    """The project's live bots."""
    return list((await actor.call("GET", "/bots", params={"states": LIVE}))["results"])


async def the_bot(actor: Actor) -> Json:
    """The one that is live."""
    found = await live(actor)
    assert len(found) == 1, found
    return found[0]


async def of_event(actor: Actor, event: str) -> list[Json]:
    """Every bot that an event ever had, the newest first."""
    return list((await actor.call("GET", "/bots", params={"calendar_event_id": event}))["results"])


def split(found: list[tuple[Connected, Event]], bot: Json) -> tuple[tuple[Connected, Event], list[Any]]:
    """The copy that has the bot, and the others."""
    owner = next(one for one in found if one[0].id == bot["calendar_id"])
    return owner, [one for one in found if one is not owner]


async def change_rule(actor: Actor, rule: Json, sets: str, **params: Any) -> None:
    """Change a rule, and have the project's events judged anew."""
    async with actor.rt.db.transaction() as tx:
        id_ = parse(RULE, rule["id"])
        assert await tx.execute(f"UPDATE rules SET {sets}, version = version + 1 WHERE id = :id", {"id": id_, **params})
        await evaluations.request_project(tx, actor.project.id)


async def override(actor: Actor, event: Json, value: str | None) -> None:
    """Override the rules for an event."""
    await actor.call("PATCH", f"/calendar_events/{event['id']}", json={"bot_override": value})


async def disconnect(actor: Actor, calendar: Connected) -> None:
    """The user takes the access away; noticed at the next run."""
    actor.sandbox.world.revoke(calendar.account)
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)


async def reconnect(actor: Actor, calendar: Connected) -> None:
    """The user gives access again."""
    token = actor.sandbox.world.issue_refresh_token(calendar.account)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": token})


async def assert_no_doubles(actor: Actor) -> None:
    """No meeting ahead has two live bots, every live bot owns all that it claims, and none is held for ever."""
    assert await rows(actor.rt, _DOUBLES) == []
    held = "SELECT id FROM bots WHERE transfer_since IS NOT NULL"
    assert await rows(actor.rt, held) == []
    bare = (
        "SELECT id FROM bots b WHERE dedup_scope <> 'event' AND state IN ('scheduled', 'launching', 'launched')"
        " AND NOT EXISTS (SELECT FROM bot_claims c WHERE c.bot_id = b.id)"
    )
    assert await rows(actor.rt, bare) == []
