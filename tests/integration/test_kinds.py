"""Every kind of change that a message can name, told alike for both providers, with what was and what is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, get_args

import pytest

from app.api.messages import Kind
from sandbox.model import Attendee, Conference
from tests.harness import BOTH, Actor, Connected, Json

GUEST = Attendee(email="guest@example.org", name="Guest", response="needsAction")
PLACE = {"title": "Planning", "location": "Room 1", "description": "Agenda", "attendees": (GUEST,)}
ZOOM = "https://zoom.us/j/95551234567"


@dataclass(frozen=True)
class Edit:
    """An edit of the event above, the kinds that it makes, and fields that come with both values."""

    kinds: set[str]
    changes: Mapping[str, Any]
    values: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    """Fields that are told by their name alone."""
    besides: set[str] = field(default_factory=set)
    """What Outlook changes along with it."""


EDITS = {
    "renamed": Edit({"renamed"}, {"title": "Plan B"}, {"name": ("Planning", "Plan B")}),
    "relocated": Edit({"relocated"}, {"location": "Room 2"}, named={"location"}),
    "details": Edit({"details_changed"}, {"description": "Another agenda"}, named={"description"}),
    "link": Edit(
        {"link_changed"},
        {"conference": Conference(kind="meet", url="https://meet.google.com/abc-defg-hij")},
        besides={"details_changed"},  # there is no field for Google's links: they stand in the body
    ),
    "responses": Edit(
        {"responses_changed"},
        {"attendees": (Attendee(email=GUEST.email, name=GUEST.name, response="accepted"),)},
        {"attendees": ({GUEST.email: "needs_action"}, {GUEST.email: "accepted"})},
    ),
    "attendees": Edit(
        {"attendees_changed"},
        {"attendees": ()},
        named={"attendees"},
        besides={"responses_changed"},  # an appointment without guests has nobody to answer
    ),
    "visibility": Edit({"visibility_changed"}, {"visibility": "private"}, named={"visibility"}),
    "several": Edit(
        {"renamed", "relocated"}, {"title": "Plan B", "location": "Room 2"}, {"name": ("Planning", "Plan B")}
    ),
}


async def planned(actor: Actor, **draft: Any) -> tuple[Connected, str]:
    await actor.subscribe()
    calendar = await actor.connected()
    event = actor.add_event(calendar, **{**PLACE, **draft})
    await actor.quiesce()
    assert [(e["change"], e["kinds"]) for e in actor.entries()] == [("created", [])]
    return calendar, event.id


def last(actor: Actor) -> Json:
    return actor.entries()[-1]


@BOTH
@pytest.mark.parametrize("name", EDITS)
async def test_an_edit_is_told_by_its_kind(actor: Actor, name: str) -> None:
    edit = EDITS[name]
    calendar, event_id = await planned(actor)
    (before,) = await actor.events(calendar)
    actor.sandbox.world.update_event(calendar.remote_id, event_id, **edit.changes)
    await actor.quiesce()
    (after,) = await actor.events(calendar)
    entry = last(actor)
    assert entry["change"] == "updated"
    assert set(entry["kinds"]) == edit.kinds | (edit.besides if actor.platform == "microsoft" else set())
    for field_name, (old, new) in edit.values.items():
        assert entry["fields"][field_name] == {"from": old, "to": new}
    for field_name in edit.named:
        assert entry["fields"][field_name] is None
    for field_name, told in entry["fields"].items():
        assert before[field_name] != after[field_name]
        if told is not None and field_name != "attendees":
            assert told == {"from": before[field_name], "to": after[field_name]}


@BOTH
async def test_another_time_is_told_with_both(actor: Actor) -> None:
    calendar, event_id = await planned(actor)
    (before,) = await actor.events(calendar)
    start = actor.now() + timedelta(hours=50)
    actor.sandbox.world.update_event(calendar.remote_id, event_id, start=start, end=start + timedelta(hours=2))
    await actor.quiesce()
    (after,) = await actor.events(calendar)
    assert last(actor)["kinds"] == ["rescheduled"]
    for name in ("start_time", "end_time"):
        assert last(actor)["fields"][name] == {"from": before[name], "to": after[name]}


@BOTH
async def test_dates_instead_of_times_are_told_with_both(actor: Actor) -> None:
    calendar, event_id = await planned(actor)
    day = (actor.now() + timedelta(days=3)).date()
    actor.sandbox.world.update_event(calendar.remote_id, event_id, start=day, end=day + timedelta(days=1))
    await actor.quiesce()
    fields = last(actor)["fields"]
    assert last(actor)["kinds"] == ["rescheduled"]
    assert fields["is_all_day"] == {"from": False, "to": True}
    assert fields["start_date"] == {"from": None, "to": day.isoformat()}


@BOTH
async def test_a_link_that_changes_is_told_with_both(actor: Actor) -> None:
    calendar, event_id = await planned(actor, description=f"Join {ZOOM}")
    actor.sandbox.world.update_event(calendar.remote_id, event_id, description=f"Join {ZOOM}?pwd=abc")
    await actor.quiesce()
    assert "link_changed" in last(actor)["kinds"]
    assert last(actor)["fields"]["meeting_url"] == {"from": ZOOM, "to": f"{ZOOM}?pwd=abc"}


@BOTH
async def test_there_and_back_and_away(actor: Actor) -> None:
    """Deleted and restored; out of the window and in again: the same id throughout."""
    calendar, event_id = await planned(actor)
    world, now = actor.sandbox.world, actor.now()
    world.delete_event(calendar.remote_id, event_id)
    await actor.quiesce()
    world.restore_event(calendar.remote_id, event_id)
    await actor.quiesce()
    for days in (200, 3):
        start = now + timedelta(days=days)
        world.update_event(calendar.remote_id, event_id, start=start, end=start + timedelta(hours=1))
        await actor.quiesce()
    assert [(e["change"], e["kinds"]) for e in actor.entries()] == [
        ("created", []),
        ("deleted", []),
        ("created", ["restored"]),
        ("deleted", ["left_window"]),
        ("created", ["entered_window"]),
    ]
    assert len({e["id"] for e in actor.entries()}) == 1


@pytest.mark.parametrize("platform", ["microsoft"])
async def test_a_meeting_that_was_called_off(actor: Actor) -> None:
    """Google deletes it; at Outlook it stays, and says so."""
    calendar, event_id = await planned(actor)
    actor.sandbox.world.update_event(calendar.remote_id, event_id, called_off=True)
    await actor.quiesce()
    assert last(actor)["kinds"] == ["cancelled", "details_changed"]  # its time is free now
    assert last(actor)["fields"]["status"] == {"from": "confirmed", "to": "cancelled"}


def test_every_kind_is_told_in_this_file() -> None:
    told = {kind for edit in EDITS.values() for kind in edit.kinds}
    assert told | {"rescheduled", "restored", "left_window", "entered_window", "cancelled"} == set(get_args(Kind))
