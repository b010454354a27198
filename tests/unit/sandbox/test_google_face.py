"""Google's face of the sandbox behaves as documented: windows, tokens, tombstones, series, channels, faults."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox import Sandbox
from sandbox.faults import KINDS
from sandbox.google.errors import ERRORS_ONLY
from sandbox.model import Conference, EventDraft
from sandbox.world import World

Json = dict[str, Any]
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
EVENTS = "/calendar/v3/calendars/primary/events"


class Client:
    """An application with a fresh token."""

    def __init__(self, box: Sandbox, http: httpx.AsyncClient) -> None:
        self.box = box
        self.http = http
        self.account = box.world.add_account("person@example.com", time_zone="Europe/Berlin")
        self.id = self.account.email
        grant = box.world.grants[self.account.refresh_token]
        http.headers["Authorization"] = f"Bearer {box.world.issue_access_token(grant).token}"

    async def get(self, path: str = EVENTS, *, expect: int = 200, **params: Any) -> Json:
        """One request; asserts the status."""
        answer = await self.http.get(path, params=params)
        assert answer.status_code == expect, answer.text
        return dict(answer.json())

    async def round(self, **params: Any) -> tuple[list[Json], str]:
        """All pages of a listing, and the sync token."""
        items: list[Json] = []
        page: Json = await self.get(singleEvents="true", **params)
        while "nextPageToken" in page:
            items += page["items"]
            page = await self.get(singleEvents="true", **params, pageToken=page["nextPageToken"])
        return [*items, *page["items"]], page["nextSyncToken"]

    def add(self, title: str = "Planning", *, start: Any = NOON, hours: float = 1, **draft: Any) -> str:
        """An event; its id."""
        end = start + (timedelta(hours=hours) if isinstance(start, datetime) else timedelta(days=1))
        return self.box.world.create_event(
            self.id, EventDraft(**{"title": title, "start": start, "end": end, **draft})
        ).id


@pytest.fixture
async def google() -> AsyncIterator[Client]:
    """A sandbox in this process."""
    box = Sandbox.create()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(box.app), base_url="http://google") as http:
        yield Client(box, http)
    await box.close()


def bounds(start: datetime, end: datetime) -> Json:
    """A window."""
    return {"timeMin": start.isoformat(), "timeMax": end.isoformat()}


async def test_windows_are_exclusive_on_both_sides(google: Client) -> None:
    google.add("Ends as it begins", start=NOON - timedelta(hours=1))
    google.add("Begins as it ends", start=NOON + timedelta(hours=3))
    inside = google.add("Inside", start=NOON + timedelta(hours=2, minutes=59))
    items, _ = await google.round(**bounds(NOON, NOON + timedelta(hours=3)))
    assert [item["id"] for item in items] == [inside]


async def test_all_day_events_begin_at_the_calendars_midnight(google: Client) -> None:
    google.add("Holiday", start=date(2026, 11, 3))
    midnight = datetime(2026, 11, 2, 23, tzinfo=UTC)  # in Berlin
    before, _ = await google.round(**bounds(midnight - timedelta(hours=5), midnight))
    after, _ = await google.round(**bounds(midnight, midnight + timedelta(seconds=1)))
    assert (len(before), len(after)) == (0, 1)
    assert after[0]["start"] == {"date": "2026-11-03"}


async def test_a_series_keeps_its_wall_clock_over_a_change(google: Client) -> None:
    start = datetime(2026, 10, 21, 8, tzinfo=UTC)  # ten o'clock in Berlin's summer
    google.add("Weekly", start=start, time_zone="Europe/Berlin", recurrence=("RRULE:FREQ=WEEKLY;COUNT=3",))
    items, _ = await google.round(**bounds(start - timedelta(days=1), start + timedelta(days=30)))
    assert [item["start"]["dateTime"] for item in items] == [
        "2026-10-21T10:00:00+02:00",
        "2026-10-28T10:00:00+01:00",
        "2026-11-04T10:00:00+01:00",
    ]


async def test_a_sync_token_brings_changes_anywhere_in_time(google: Client) -> None:
    series = google.add("Endless", recurrence=("RRULE:FREQ=DAILY",))
    window = bounds(NOON, NOON + timedelta(days=3))
    items, token = await google.round(**window)
    assert len(items) == 3
    google.box.world.update_event(google.id, series, title="Renamed")
    items, _ = await google.round(syncToken=token, maxResults=250)
    assert len(items) == 730
    assert {item["summary"] for item in items} == {"Renamed"}


async def test_tombstones(google: Client) -> None:
    single = google.add()
    series = google.add("Weekly", recurrence=("RRULE:FREQ=WEEKLY;COUNT=4",))
    _, token = await google.round()
    google.box.world.delete_event(google.id, single)
    google.box.world.cancel_instance(google.id, series, NOON + timedelta(days=7))
    items, _ = await google.round(syncToken=token)
    gone = {item["id"]: item for item in items}
    assert set(gone[single]) == {"kind", "etag", "id", "status"}
    occurrence = gone[f"{series}_20261109T120000Z"]
    assert (occurrence["recurringEventId"], occurrence["status"]) == (series, "cancelled")
    assert "originalStartTime" in occurrence
    assert "start" not in occurrence


async def test_a_moved_occurrence_keeps_its_identity(google: Client) -> None:
    series = google.add("Weekly", recurrence=("RRULE:FREQ=WEEKLY;COUNT=4",))
    _, token = await google.round()
    moved = NOON + timedelta(hours=3)
    google.box.world.update_instance(google.id, series, NOON, start=moved, end=moved + timedelta(hours=1))
    (item,), _ = await google.round(syncToken=token)
    assert item["id"] == f"{series}_20261102T120000Z"
    assert item["originalStartTime"]["dateTime"] == "2026-11-02T13:00:00+01:00"
    assert item["start"]["dateTime"] == "2026-11-02T16:00:00+01:00"


async def test_this_and_following(google: Client) -> None:
    series = google.add("Weekly", recurrence=("RRULE:FREQ=WEEKLY;COUNT=4",))
    _, token = await google.round()
    google.box.world.split_series(google.id, series, NOON + timedelta(days=14), title="New")
    items, _ = await google.round(syncToken=token)
    cancelled = {item["id"] for item in items if item["status"] == "cancelled"}
    assert cancelled == {f"{series}_20261116T120000Z", f"{series}_20261123T120000Z"}
    fresh = [item for item in items if item.get("summary") == "New"]
    assert [item["recurringEventId"] for item in fresh] == [f"{series}_R20261116T120000"] * 2


async def test_moved_to_another_calendar(google: Client) -> None:
    event = google.add()
    other = google.box.world.add_calendar(google.account, "Other")
    _, token = await google.round()
    google.box.world.move_event(google.id, event, other.id)
    (item,), _ = await google.round(syncToken=token)
    assert (item["id"], item["status"]) == (event, "cancelled")
    there = await google.get(f"/calendar/v3/calendars/{other.id}/events")
    assert [item["id"] for item in there["items"]] == [event]


async def test_pages_need_both_tokens_and_the_same_parameters(google: Client) -> None:
    for number in range(5):
        google.add(f"Event {number}")
    page = await google.get(singleEvents="true", maxResults=2)
    await google.get(maxResults=2, pageToken=page["nextPageToken"], expect=400)
    _, token = await google.round()
    for number in range(5):
        google.add(f"More {number}")
    page = await google.get(singleEvents="true", maxResults=2, syncToken=token)
    await google.get(singleEvents="true", maxResults=2, pageToken=page["nextPageToken"], expect=400)
    await google.get(syncToken=token, expect=400)
    await google.get(singleEvents="true", syncToken=token, timeMin=NOON.isoformat(), expect=400)


async def test_an_edit_between_pages_is_not_lost(google: Client) -> None:
    for number in range(4):
        google.add(f"Event {number}")
    google.box.faults.add("edit_between_pages", "events.list")
    items, token = await google.round(maxResults=2)
    assert len(items) == 4
    items, _ = await google.round(syncToken=token)
    assert [item["summary"] for item in items] == ["Committed between pages"]


async def test_expired_and_foreign_sync_tokens(google: Client) -> None:
    _, token = await google.round()
    google.box.world.expire_sync_tokens(google.id)
    body = await google.get(singleEvents="true", syncToken=token, expect=410)
    assert body["error"]["errors"][0]["reason"] == "fullSyncRequired"


async def test_access(google: Client) -> None:
    stranger = google.box.world.add_account("stranger@example.com")
    await google.get(f"/calendar/v3/calendars/{stranger.email}/events", expect=404)
    google.box.world.create_event(stranger.email, EventDraft(title="Secret", start=NOON, end=NOON + timedelta(hours=1)))
    google.box.world.share(stranger.email, google.id, "freeBusyReader")
    (item,) = (await google.get(f"/calendar/v3/calendars/{stranger.email}/events"))["items"]
    assert "summary" not in item
    google.http.headers["Authorization"] = "Bearer nonsense"
    await google.get(expect=401)


async def test_a_pending_conference_has_no_link_yet(google: Client) -> None:
    link = "https://meet.google.com/abc-defg-hij"
    event = google.add()
    google.box.world.update_event(google.id, event, conference=Conference("meet", link, pending=True))
    (item,), token = await google.round()
    assert "hangoutLink" not in item
    google.box.world.update_event(google.id, event, conference=Conference("meet", link))
    (item,), _ = await google.round(syncToken=token)
    assert item["hangoutLink"] == link


@pytest.mark.parametrize("kind", ERRORS_ONLY)
async def test_each_error_strikes_once(google: Client, kind: str) -> None:
    google.box.faults.add(kind, "events.list")
    first = await google.http.get(EVENTS)
    assert first.status_code >= 400 or first.content.endswith(b"[")
    assert (await google.http.get(EVENTS)).status_code == 200


def test_every_fault_is_told_of_in_the_readme() -> None:
    told = (Path(__file__).resolve().parents[3] / "sandbox" / "README.md").read_text()
    assert [kind for kind in KINDS if f"`{kind}`" not in told] == []


EDITS = st.lists(
    st.tuples(
        st.sampled_from(("single", "series", "rename", "move", "delete", "restore", "cancel", "shift")),
        st.integers(0, 20),
        st.integers(-3, 40),
    ),
    max_size=25,
)


def apply(world: World, calendar_id: str, kind: str, which: int, day: int) -> None:
    """One random edit, if it makes sense."""
    start = NOON + timedelta(days=day, hours=which % 5)
    times: Json = {"start": start, "end": start + timedelta(hours=1)}
    ids = list(world.versions[calendar_id])
    if kind in {"single", "series"}:
        rule = ("RRULE:FREQ=DAILY;COUNT=9",) if kind == "series" else ()
        world.create_event(calendar_id, EventDraft(title=f"{kind} {which}", recurrence=rule, **times))
        return
    if not ids:
        return
    event = world.event(calendar_id, ids[which % len(ids)])
    if kind == "rename":
        world.update_event(calendar_id, event.id, title=f"renamed {day}")
    elif kind == "move":
        world.update_event(calendar_id, event.id, **times)
    elif kind == "delete":
        world.delete_event(calendar_id, event.id)
    elif kind == "restore":
        world.restore_event(calendar_id, event.id)
    elif event.is_series and isinstance(event.start, datetime):
        original = event.start + timedelta(days=which % 9)
        if kind == "cancel":
            world.cancel_instance(calendar_id, event.id, original)
        else:
            world.update_instance(calendar_id, event.id, original, **times)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(EDITS, min_size=1, max_size=3))
async def test_rounds_replayed_show_what_the_oracle_shows(rounds: list[list[tuple[str, int, int]]]) -> None:
    box = Sandbox.create()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(box.app), base_url="http://google") as http:
        google = Client(box, http)
        window = (NOON - timedelta(days=1), NOON + timedelta(days=30))
        items, token = await google.round()
        shown = {item["id"]: item for item in items}
        for edits in rounds:
            for kind, which, day in edits:
                apply(box.world, google.id, kind, which, day)
            items, token = await google.round(syncToken=token, maxResults=7)
            for item in items:
                shown[item["id"]] = item
            live = {i: e for i, e in shown.items() if e["status"] != "cancelled" and overlaps(e, *window)}
            oracle = {i.event_id: i.title for i in box.world.instances(google.id, *window)}
            assert {i: e["summary"] for i, e in live.items()} == oracle
            listed, _ = await google.round(**bounds(*window))
            assert {item["id"]: item["summary"] for item in listed} == oracle


def overlaps(item: Json, start: datetime, end: datetime) -> bool:
    """Exclusive on both sides."""
    return (
        datetime.fromisoformat(item["end"]["dateTime"]) > start
        and datetime.fromisoformat(item["start"]["dateTime"]) < end
    )
