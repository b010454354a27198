"""Following costs a round the same few statements, however many events and bots it has."""

from datetime import timedelta

from sandbox.model import Conference
from tests.bots.stage import MEET, OTHER
from tests.harness import Actor, Connected
from tests.integration.delivering import rows

_BOTS = """
INSERT INTO bots (id, project_id, state, bot_name, meeting_url, meeting_platform, join_at, ends_at, calendar_id,
                  calendar_event_id, due_at)
SELECT gen_random_uuid(), e.project_id, 'scheduled', 'Notes', e.meeting_url, e.meeting_platform, e.start_time,
       e.end_time, e.calendar_id, e.id, e.start_time
  FROM calendar_events e WHERE e.calendar_id = :calendar ORDER BY e.id LIMIT :count
"""


async def round_with(actor: Actor, *, events: int, bots: int) -> tuple[Connected, list[str]]:
    """A calendar, and the statements of the round in which all its meetings move and have another link."""
    account = actor.new_account()
    calendar = await actor.connect(account)
    link = Conference("meet", MEET)
    made = [actor.add_event(calendar, hours=2 + number / 100, conference=link) for number in range(events)]
    await actor.quiesce()
    async with actor.rt.db.transaction() as tx:
        assert await tx.execute(_BOTS, {"calendar": calendar.key, "count": bots}) == bots
    world = actor.sandbox.world
    for event in made:
        by = timedelta(minutes=7)
        world.update_event(
            calendar.remote_id,
            event.id,
            start=event.start + by,
            end=event.end + by,
            conference=Conference("zoom", OTHER),
        )
    await actor.sandbox.push.idle()
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    statements: list[str] = []
    with actor.rt.db.watched(statements.append):
        await actor.run(calendar)
    return calendar, [one for one in statements if "bot" in one]


async def test_a_round_of_many_bots_costs_what_one_of_few_costs(actor: Actor) -> None:
    _, few = await round_with(actor, events=8, bots=2)
    calendar, many = await round_with(actor, events=600, bots=150)
    assert [one.split()[:3] for one in many] == [one.split()[:3] for one in few]
    assert len(many) <= 6
    found = await rows(
        actor.rt,
        "SELECT count(*) AS n, bool_and(b.meeting_url = e.meeting_url AND b.join_at = e.start_time) AS follow"
        " FROM bots b JOIN calendar_events e ON e.id = b.calendar_event_id WHERE b.calendar_id = :id",
        id=calendar.key,
    )
    assert found == [{"n": 150, "follow": True}]
