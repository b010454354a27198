"""What a delta round of Graph is taken for: applied where it tells everything, completed by a listing where not."""

import asyncio
from datetime import timedelta

import pytest

from app.providers.base import Platform
from app.telemetry import REGISTRY
from sandbox.model import Attendee, EventDraft, Person
from tests.harness import Actor, Connected


@pytest.fixture
def platform() -> Platform:
    """Outlook's calendars."""
    return "microsoft"


def _stalls() -> float:
    """How often Redis took longer to hand out a place than anybody waits."""
    return REGISTRY.get_sample_value("punctual_redis_failures_total", {"use": "places"}) or 0.0


def asked(actor: Actor) -> list[str]:
    """Operations so far, in order."""
    return [seen.operation for seen in actor.sandbox.requests.seen]


async def resync(actor: Actor, calendar: Connected) -> list[str]:
    """One run; what it asked Graph for."""
    before = len(asked(actor))
    await actor.call("POST", f"/calendars/{calendar.id}/sync", expect=202)
    assert await actor.run(calendar) == "synced"
    return asked(actor)[before:]


async def test_a_changed_single_costs_one_request_and_a_series_or_a_removal_two(actor: Actor) -> None:
    calendar = await actor.connected()
    world = actor.sandbox.world
    single = actor.add_event(calendar, "Single")
    series = actor.add_event(calendar, "Series", recurrence=("RRULE:FREQ=DAILY;COUNT=5",))
    await actor.quiesce()
    actor.sandbox.push.mode = "drop"

    world.update_event(calendar.remote_id, single.id, title="Renamed")
    assert await resync(actor, calendar) == ["graph.delta"]
    world.update_event(calendar.remote_id, series.id, title="Renamed series")
    assert await resync(actor, calendar) == ["graph.delta", "graph.calendarView"]
    world.delete_event(calendar.remote_id, single.id)
    assert await resync(actor, calendar) == ["graph.delta", "graph.event"]
    assert await resync(actor, calendar) == ["graph.delta"]
    await actor.assert_equal(calendar)


async def test_anchoring_runs_the_delta_to_its_link_before_it_lists(actor: Actor) -> None:
    """So what changes during the listing is told by the next round."""
    calendar = await actor.connect()
    await actor.quiesce()
    order = [operation for operation in asked(actor) if operation in {"graph.delta", "graph.calendarView"}]
    assert order[:2] == ["graph.delta", "graph.calendarView"]
    gate = actor.sandbox.faults.gate("graph.calendarView")
    actor.sandbox.push.mode = "drop"
    await actor.call("POST", f"/calendars/{calendar.id}/sync", json={"full": True}, expect=202)
    running = asyncio.create_task(actor.run(calendar))
    await gate.reached()
    actor.add_event(calendar, "Meanwhile")
    gate.release()
    assert await running == "synced"
    await resync(actor, calendar)
    assert [e["name"] for e in await actor.events(calendar)] == ["Meanwhile"]


async def test_a_single_that_moved_out_of_the_window_has_left_it(actor: Actor) -> None:
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar)
    await actor.quiesce()
    later = actor.now() + timedelta(days=60)
    actor.sandbox.world.update_event(calendar.remote_id, event.id, start=later, end=later + timedelta(hours=1))
    await actor.quiesce()
    assert [(e["change"], e["kinds"]) for e in actor.entries()][-1] == ("deleted", ["left_window"])
    back = actor.now() + timedelta(days=2)
    actor.sandbox.world.update_event(calendar.remote_id, event.id, start=back, end=back + timedelta(hours=1))
    await actor.quiesce()
    assert [(e["change"], e["kinds"]) for e in actor.entries()][-1] == ("created", ["entered_window"])
    await actor.assert_equal(calendar)


async def test_noise_is_no_deletion(actor: Actor) -> None:
    """Hazards 25 and 27: what was never stored, and what lies outside the window."""
    await actor.subscribe()
    calendar = await actor.connected()
    actor.add_event(calendar, "Stays")
    far = actor.add_event(calendar, "Far away", hours=24 * 90)
    await actor.quiesce()
    heard = len(actor.entries())
    actor.sandbox.faults.add("unknown_removals", "graph.delta")
    actor.sandbox.world.update_event(calendar.remote_id, far.id, title="Still far away")
    brief = actor.add_event(calendar, "Brief")
    actor.sandbox.world.delete_event(calendar.remote_id, brief.id)
    await actor.quiesce()
    assert len(actor.entries()) == heard
    await actor.assert_equal(calendar)


async def test_many_removals_are_listed_not_looked_up(actor: Actor) -> None:
    calendar = await actor.connected()
    events = [actor.add_event(calendar, f"Event {n}", hours=24 + n) for n in range(30)]
    await actor.quiesce()
    actor.sandbox.push.mode = "drop"
    for event in events[:25]:
        actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    assert await resync(actor, calendar) == ["graph.delta", "graph.calendarView"]
    await actor.assert_equal(calendar)


async def test_a_deleted_occurrence_without_a_trace_is_found_by_the_next_listing(actor: Actor) -> None:
    """Hazard 6."""
    calendar = await actor.connected()
    series = actor.add_event(calendar, "Series", recurrence=("RRULE:FREQ=DAILY;COUNT=5",))
    await actor.quiesce()
    actor.sandbox.faults.add("silent_cancellation", "graph.delta", times=None)
    original = actor.sandbox.world.instances(calendar.remote_id, *await actor.window(calendar))[2].original_start
    assert original is not None
    actor.sandbox.world.cancel_instance(calendar.remote_id, series.id, original)
    await actor.quiesce()
    await actor.call("POST", f"/calendars/{calendar.id}/sync", json={"full": True}, expect=202)
    await actor.quiesce()
    assert len(await actor.events(calendar)) == 4
    await actor.assert_equal(calendar)


@pytest.mark.parametrize("kind", ["duplicate_ids", "replayed_changes", "missing_master"])
async def test_oddities_of_a_delta_change_nothing(actor: Actor, kind: str) -> None:
    """Hazards 24 and 26, and a round without its masters."""
    await actor.subscribe()
    calendar = await actor.connected()
    single = actor.add_event(calendar, "Single")
    series = actor.add_event(calendar, "Series", recurrence=("RRULE:FREQ=DAILY;COUNT=3",))
    await actor.quiesce()
    heard = len(actor.entries())
    actor.sandbox.faults.add(kind, "graph.delta", times=None)
    actor.sandbox.world.update_event(calendar.remote_id, single.id, title="Renamed")
    await actor.quiesce()
    assert len(actor.entries()) == heard + 1
    actor.sandbox.world.update_event(calendar.remote_id, series.id, title="Renamed series")
    await actor.quiesce()
    assert len(actor.entries()) == heard + 4
    await actor.assert_equal(calendar)


async def test_an_event_that_moves_to_another_calendar_keeps_its_id_there(actor: Actor) -> None:
    """Hazard 14: a late deletion here must not kill the row there."""
    await actor.subscribe()
    account = actor.new_account()
    other = actor.sandbox.world.add_calendar(account, "Other")
    first = await actor.connected(account=account)
    second = await actor.connected(account=account, platform_uuid=other.id)
    event = actor.add_event(first, "Moves")
    await actor.quiesce()
    actor.sandbox.world.move_event(first.remote_id, event.id, second.remote_id)
    await actor.quiesce()
    assert await actor.events(first) == []
    assert [e["platform_uuid"] for e in await actor.events(second)] == [event.id]


async def test_a_cancelled_meeting_stays_and_says_so(actor: Actor) -> None:
    """Hazard 61."""
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar)
    await actor.quiesce()
    actor.sandbox.world.update_event(calendar.remote_id, event.id, called_off=True)
    await actor.quiesce()
    (shown,) = await actor.events(calendar)
    assert (shown["status"], shown["is_deleted"]) == ("cancelled", False)
    assert "cancelled" in actor.entries()[-1]["kinds"]
    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    await actor.quiesce()
    assert actor.entries()[-1]["change"] == "deleted"


async def test_a_page_too_heavy_for_graph_is_asked_for_in_smaller_ones(actor: Actor) -> None:
    calendar = await actor.connect()
    for number in range(60):
        actor.add_event(calendar, f"Event {number}", hours=24 + number)
    actor.sandbox.faults.add("gateway_timeout", "graph.calendarView", times=None, above=200)
    actor.sandbox.faults.add("gateway_timeout", "graph.delta", times=None, above=50)
    await actor.quiesce()
    assert len(await actor.events(calendar)) == 60


async def test_windows_zones_and_odd_ones(actor: Actor) -> None:
    """Hazard 57."""
    calendar = await actor.connected()
    actor.add_event(calendar, "Berlin", time_zone="Europe/Berlin")
    actor.add_event(calendar, "Custom", hours=30, time_zone="Europe/Berlin", zone_label="tzone://Microsoft/Custom")
    await actor.quiesce()
    zones = {e["name"]: e["time_zone"] for e in await actor.events(calendar)}
    assert zones == {"Berlin": "Europe/Berlin", "Custom": None}
    await actor.assert_equal(calendar)


async def test_a_personal_account(actor: Actor) -> None:
    """Its `mail` is null, its tokens are opaque, its ids of another form."""
    account = actor.sandbox.world.add_account("ana@outlook.com", provider="microsoft", time_zone="Europe/Berlin")
    calendar = await actor.connected(account)
    actor.add_event(calendar)
    await actor.quiesce()
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["email"], shown["name"]) == ("connected", "ana@outlook.com", "Calendar")
    await actor.assert_equal(calendar)


async def test_the_raw_listing_names_every_calendar_shared_ones_too(actor: Actor) -> None:
    account, colleague = actor.new_account(), actor.new_account()
    own = actor.sandbox.world.add_calendar(account, "Second")
    shared = actor.sandbox.world.add_calendar(colleague, "Team")
    actor.sandbox.world.share(shared.id, account.email, "reader")
    for number in range(12):  # more than a page
        actor.sandbox.world.add_calendar(account, f"More {number}")
    body = {
        "platform": "microsoft",
        "client_id": account.client_id,
        "client_secret": account.client_secret,
        "refresh_token": account.refresh_token,
    }
    listed = (await actor.call("POST", "/calendars/raw", json=body))["results"]
    by_id = {one["platform_uuid"]: one for one in listed}
    assert len(by_id) == 15
    assert (by_id[account.calendar_id]["is_primary"], by_id[account.calendar_id]["access_role"]) == (True, "owner")
    assert by_id[own.id]["name"] == "Second"
    assert (by_id[shared.id]["access_role"], by_id[shared.id]["is_primary"]) == ("reader", False)
    calendar = await actor.connected(account, platform_uuid=shared.id)
    actor.add_event(calendar, "Of the team")
    await actor.quiesce()
    assert [e["name"] for e in await actor.events(calendar)] == ["Of the team"]


async def test_ids_that_differ_by_case_alone_are_two_events(actor: Actor) -> None:
    """Hazard 78."""
    calendar = await actor.connected()
    for event_id in ("AAkALgCaseA=", "AAkALgcasea="):
        draft = EventDraft(title=event_id, start=actor.now() + timedelta(hours=3), end=actor.now() + timedelta(hours=4))
        actor.sandbox.world.create_event(calendar.remote_id, draft, event_id=event_id)
    await actor.quiesce()
    assert sorted(e["platform_uuid"] for e in await actor.events(calendar)) == ["AAkALgCaseA=", "AAkALgcasea="]


async def test_a_guest_who_declines(actor: Actor) -> None:
    """Hazard 62: the row follows the provider, which keeps the event until it is gone."""
    await actor.subscribe()
    calendar = await actor.connected()
    me = calendar.account.email
    boss = Person("boss@example.com", "Boss")
    event = actor.add_event(calendar, organizer=boss, attendees=(Attendee(me, "Me", "accepted"),))
    await actor.quiesce()
    (shown,) = await actor.events(calendar)
    assert (shown["own_response_status"], shown["attendees"][0]["self"]) == ("accepted", True)
    declined = (Attendee(me, "Me", "declined"),)
    actor.sandbox.world.update_event(calendar.remote_id, event.id, attendees=declined)
    await actor.quiesce()
    (shown,) = await actor.events(calendar)
    assert (shown["own_response_status"], shown["is_deleted"]) == ("declined", False)
    assert "responses_changed" in actor.entries()[-1]["kinds"]
    actor.sandbox.world.delete_event(calendar.remote_id, event.id)
    await actor.quiesce()
    assert await actor.events(calendar) == []


async def test_a_mailbox_never_sees_a_fifth_request_at_once(actor: Actor) -> None:
    stalls = _stalls()
    account = actor.new_account()
    calendars = [await actor.connect(account)]
    for number in range(12):
        extra = actor.sandbox.world.add_calendar(account, f"Extra {number}")
        calendars.append(await actor.connect(account, platform_uuid=extra.id))
    await actor.quiesce()
    for calendar in calendars:
        actor.sandbox.world.create_event(
            calendar.remote_id,
            EventDraft(title="x", start=actor.now() + timedelta(hours=3), end=actor.now() + timedelta(hours=4)),
        )
    await actor.sandbox.push.idle()
    actor.sandbox.faults.add("delay", "graph.delta", times=None, seconds=0.05)
    await asyncio.gather(*(actor.run(calendar) for calendar in calendars))
    await actor.quiesce()
    for _ in range(20):  # who was kept waiting too long comes again
        actor.advance(timedelta(seconds=10))
        await actor.quiesce()
    most = 4 if _stalls() == stalls else 5  # a process that Redis keeps waiting has one place of its own
    assert 2 <= actor.sandbox.requests.mailbox_peak(account.email) <= most
    for calendar in calendars:
        assert len(await actor.events(calendar)) == 1
