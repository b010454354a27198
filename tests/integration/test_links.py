"""Meeting links from the provider to the customer: what a project prefers, and what an upgrade announces."""

import asyncio
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from sandbox.model import Conference
from tests.harness import BOTH, Actor, Connected

ROOT = Path(__file__).resolve().parents[2]
MEET = "https://meet.google.com/abc-defg-hij"
ZOOM = "https://zoom.us/j/95551234567"
TEAMS = "https://teams.microsoft.com/meet/2514589012345?p=Ab3dE"
OWN = "https://meet.acme-corp.example/PlanningRoom"


async def _prefer(actor: Actor, **preferences: object) -> None:
    await actor.call("PATCH", "/project", json={"meeting_preferences": preferences})


async def _listed(actor: Actor, calendar: Connected) -> None:
    await actor.call("POST", f"/calendars/{calendar.id}/sync", json={"full": True}, expect=202)
    await actor.quiesce()


@BOTH
async def test_the_projects_order_beats_structured_fields(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    conference = Conference("meet", MEET) if actor.platform == "google" else Conference("teams", TEAMS)
    url = conference.url
    actor.add_event(calendar, conference=conference, description=f"Really: {ZOOM} (Password: 4711)")
    await actor.quiesce()
    (before,) = await actor.events(calendar)
    assert (before["meeting_url"], before["meeting_choice"]) == (url, "source")
    assert [(c["platform"], c["passcode"]) for c in before["meeting_candidates"]][1] == ("zoom", "4711")

    await _prefer(actor, platforms=["zoom"])
    assert (await actor.events(calendar)) == [before], "what is stored changes when it is read again"
    await _listed(actor, calendar)
    (after,) = await actor.events(calendar)
    assert (after["meeting_url"], after["meeting_platform"]) == (ZOOM, "zoom")
    assert after["meeting_choice"] == "preference"
    told = actor.entries()[-1]
    assert told["kinds"] == ["link_changed"]
    assert told["fields"]["meeting_url"] == {"from": url, "to": ZOOM}
    count = len(actor.entries())
    await _listed(actor, calendar)
    assert len(actor.entries()) == count


@BOTH
async def test_a_host_of_the_projects_own(actor: Actor) -> None:
    calendar = await actor.connected()
    actor.add_event(calendar, location=OWN)
    await actor.quiesce()
    (event,) = await actor.events(calendar)
    assert (event["meeting_url"], event["meeting_candidates"], event["meeting_choice"]) == (None, [], None)
    await _prefer(actor, extra_hosts={"jitsi": ["meet.acme-corp.example"]})
    await _listed(actor, calendar)
    (event,) = await actor.events(calendar)
    assert (event["meeting_url"], event["meeting_platform"]) == (OWN, "jitsi")
    await _prefer(actor)
    await _listed(actor, calendar)
    (event,) = await actor.events(calendar)
    assert event["meeting_url"] is None


@BOTH
@pytest.mark.parametrize("description", ["no link", f"{ZOOM}?pwd=a.1", f"{ZOOM} or {MEET}"])
async def test_an_upgrade_announces_nothing_by_itself(actor: Actor, database_url: str, description: str) -> None:
    """The release before stored no scores, passcodes and choices; the next listing finds everything as it was."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.add_event(calendar, location=f"Room 1, {MEET}", description=description)
    await actor.quiesce()
    before = await actor.events(calendar)
    config = Config(ROOT / "alembic.ini")
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.set_main_option("database_url", database_url.replace("%", "%%"))
    await asyncio.to_thread(command.downgrade, config, "0004")
    await asyncio.to_thread(command.upgrade, config, "head")
    assert await actor.events(calendar) == before
    count = len(actor.entries())
    await _listed(actor, calendar)
    assert await actor.events(calendar) == before
    assert len(actor.entries()) == count
