"""calendarView/delta tells what is new the way Graph does, oddities included; what it tells adds up to the truth."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox import Sandbox
from sandbox.world import World
from tests.unit.sandbox.graph_client import IMMUTABLE, NOON, WINDOW, GraphClient, Json, bounds, removed
from tests.unit.sandbox.graph_metadata import flaws

SPARSE = {"@odata.type", "@odata.etag", "id", "seriesMasterId", "type", "start", "end"}


@pytest.fixture
async def graph() -> AsyncIterator[GraphClient]:
    """A sandbox in this process."""
    box = Sandbox.create()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(box.app), base_url="http://graph") as http:
        yield GraphClient(box, http)
    await box.close()


def kinds(entries: list[Json]) -> list[str]:
    """The types, sorted; removals by that name."""
    return sorted("removed" if "@removed" in entry else entry["type"] for entry in entries)


async def test_the_first_round(graph: GraphClient) -> None:
    graph.add()
    series = graph.weekly()
    graph.world.update_instance(graph.id, series, NOON + timedelta(days=7), title="Renamed")
    entries, link = await graph.round(size=2)
    assert kinds(entries) == ["exception"] + ["occurrence"] * 3 + ["seriesMaster", "singleInstance"]
    sparse = [entry for entry in entries if entry["type"] == "occurrence"]
    assert all(set(entry) == SPARSE for entry in sparse)
    assert {entry["seriesMasterId"] for entry in sparse} == {series}
    (exception,) = (entry for entry in entries if entry["type"] == "exception")
    assert (exception["subject"], exception["originalStart"]) == ("Renamed", "2026-11-09T12:00:00Z")
    assert flaws(entries, "[event]") == []
    assert link.startswith(f"http://graph{graph.view}/delta?$deltatoken=")
    assert len(link) > 300
    assert (await graph.round(link))[0] == []


async def test_what_is_removed(graph: GraphClient) -> None:
    single, series = graph.add(), graph.weekly()
    far = graph.add("Far away", start=NOON + timedelta(days=90))
    leaving = graph.add("Leaving", start=NOON + timedelta(days=1))
    _, link = await graph.round()
    graph.world.delete_event(graph.id, single)
    graph.world.delete_event(graph.id, series)
    graph.world.update_event(graph.id, far, title="Noise")
    late = NOON + timedelta(days=60)
    graph.world.update_event(graph.id, leaving, start=late, end=late + timedelta(hours=1))
    unseen = graph.add("Made and deleted")
    graph.world.delete_event(graph.id, unseen)
    entries, link = await graph.round(link)
    assert removed(entries) == {single, series, far, leaving, unseen}
    assert kinds(entries) == ["removed"] * 5
    assert set(entries[0]) == {"@odata.type", "id", "@removed"}
    graph.world.restore_event(graph.id, single)
    entries, _ = await graph.round(link)
    assert [(entry["id"], entry["type"]) for entry in entries] == [(single, "singleInstance")]


async def test_a_deleted_occurrence_has_no_entry(graph: GraphClient) -> None:
    series = graph.weekly()
    entries, link = await graph.round()
    before = {entry["id"] for entry in entries}
    graph.world.cancel_instance(graph.id, series, NOON + timedelta(days=7))
    entries, link = await graph.round(link)
    assert kinds(entries) == ["occurrence"] * 3 + ["seriesMaster"]
    assert len(before - {entry["id"] for entry in entries}) == 1
    graph.box.faults.add("silent_cancellation", "graph.delta")
    graph.world.cancel_instance(graph.id, series, NOON + timedelta(days=14))
    assert (await graph.round(link))[0] == []


async def test_an_occurrence_that_leaves_the_window(graph: GraphClient) -> None:
    series = graph.weekly()
    (gone,) = (i.event_id for i in graph.world.instances(graph.id, NOON, NOON + timedelta(days=1)))
    _, link = await graph.round()
    late = NOON + timedelta(days=60)
    graph.world.update_instance(graph.id, series, NOON, start=late, end=late + timedelta(hours=1))
    entries, _ = await graph.round(link)
    assert kinds(entries) == ["occurrence"] * 3 + ["removed", "seriesMaster"]
    assert removed(entries) == {gone}


async def test_moved_to_another_calendar(graph: GraphClient) -> None:
    event = graph.add()
    other = graph.world.add_calendar(graph.account, "Other")
    path = f"/v1.0/me/calendars/{other.id}/calendarView/delta"
    _, link = await graph.round()
    there = (await graph.get(path, IMMUTABLE, **bounds(*WINDOW)))["@odata.deltaLink"]
    graph.world.move_event(graph.id, event, other.id)
    entries, _ = await graph.round(link)
    assert removed(entries) == {event}
    page = await graph.get(there, IMMUTABLE)
    assert [(entry["id"], entry["subject"]) for entry in page["value"]] == [(event, "Planning")]


async def test_preferences_are_not_kept(graph: GraphClient) -> None:
    for number in range(25):
        graph.add(f"Event {number}")
    page = await graph.get(
        f"{graph.view}/delta", "odata.maxpagesize=2", 'outlook.timezone="Tokyo Standard Time"', **bounds(*WINDOW)
    )
    assert len(page["value"]) == 2
    assert page["value"][0]["start"]["timeZone"] == "Tokyo Standard Time"
    page = await graph.get(page["@odata.nextLink"])
    assert len(page["value"]) == 10
    assert page["value"][0]["start"]["timeZone"] == "UTC"


@pytest.mark.parametrize("option", ["select", "filter", "orderby", "expand", "search"])
async def test_options_are_refused(graph: GraphClient, option: str) -> None:
    body = await graph.get(f"{graph.view}/delta", expect=400, **bounds(*WINDOW), **{f"_{option}": "subject"})
    assert body["error"]["code"] == "ErrorInvalidUrlQuery"


async def test_links_that_do_not_work(graph: GraphClient) -> None:
    _, link = await graph.round()
    await graph.get(f"{graph.view}/delta", expect=400)
    mangled = await graph.get(f"{link[:-4]}AAAA", expect=400)
    assert mangled["error"]["code"] == "ErrorInvalidSyncStateData"
    other = graph.world.add_calendar(graph.account, "Other")
    await graph.get(link.replace(graph.id, other.id), expect=400)
    graph.world.expire_sync_tokens(graph.id)
    answer = await graph.http.get(link)
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "SyncStateNotFound")
    assert answer.headers["Location"].endswith("$deltatoken=")
    graph.add()
    assert kinds((await graph.round(answer.headers["Location"]))[0]) == ["singleInstance"]


async def test_faults_of_a_round(graph: GraphClient) -> None:
    faults, event, series = graph.box.faults, graph.add(), graph.weekly()
    _, link = await graph.round()
    faults.add("cursor_expired", "graph.delta", location=False)
    answer = await graph.http.get(link)
    assert (answer.status_code, "Location" in answer.headers) == (410, False)
    graph.world.update_event(graph.id, event, title="Second")
    faults.add("duplicate_ids", "graph.delta")
    entries, _ = await graph.round(link)
    assert [entry["subject"] for entry in entries] == ["Planning", "Second"]
    faults.add("replayed_changes", "graph.delta")
    assert len((await graph.round(link))[0]) == 6
    faults.add("unknown_removals", "graph.delta")
    assert len(removed((await graph.round(link))[0])) == 3
    graph.world.update_event(graph.id, series, title="Renamed")
    faults.add("missing_master", "graph.delta")
    assert kinds((await graph.round(link))[0]) == ["occurrence"] * 4 + ["singleInstance"]
    faults.add("empty_page", "graph.delta")
    page = await graph.get(link)
    assert (page["value"], "@odata.nextLink" in page) == ([], True)
    assert len((await graph.round(page["@odata.nextLink"]))[0]) == 6


async def test_the_state_is_lost_in_the_middle_of_a_round(graph: GraphClient) -> None:
    for number in range(3):
        graph.add(f"Event {number}")
    graph.box.faults.add("cursor_expired", "graph.delta", page=2)
    page = await graph.get(f"{graph.view}/delta", "odata.maxpagesize=2", **bounds(*WINDOW))
    body = await graph.get(page["@odata.nextLink"], expect=410)
    assert body["error"]["code"] == "SyncStateNotFound"
    graph.box.faults.add("bad_page_token", "graph.delta")
    await graph.get(page["@odata.nextLink"], expect=400)
    assert len((await graph.get(page["@odata.nextLink"], "odata.maxpagesize=2"))["value"]) == 1


async def test_endless_pages(graph: GraphClient) -> None:
    for number in range(3):
        graph.add(f"Event {number}")
    graph.box.faults.add("endless_pages", "graph.delta")
    page, links = await graph.get(f"{graph.view}/delta", "odata.maxpagesize=2", **bounds(*WINDOW)), set()
    for _ in range(20):
        links.add(page["@odata.nextLink"])
        page = await graph.get(page["@odata.nextLink"], "odata.maxpagesize=2")
        assert page["value"]
    assert len(links) == 20


async def test_lag_between_replicas(graph: GraphClient) -> None:
    _, link = await graph.round()
    graph.add()
    graph.box.faults.add("replication_lag", "graph.delta", seconds=30)
    entries, link = await graph.round(link)
    assert entries == []
    assert len((await graph.round(link))[0]) == 1


async def test_an_edit_between_pages_is_not_lost(graph: GraphClient) -> None:
    for number in range(4):
        graph.add(f"Event {number}")
    graph.box.faults.add("edit_between_pages", "graph.delta")
    entries, link = await graph.round(size=2)
    assert len(entries) == 4
    assert [entry["subject"] for entry in (await graph.round(link))[0]] == ["Committed between pages"]


class Mirror:
    """A client that follows the documented rules and nothing else."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str | None, str, str | None]] = {}

    def apply(self, entries: list[Json]) -> None:
        """One whole round: the last word on an id counts, a master stands for all of its series."""
        last = {entry["id"]: entry for entry in entries}
        masters = {name: entry for name, entry in last.items() if entry.get("type") == "seriesMaster"}
        gone = set(masters) | removed(list(last.values()))
        self.rows = {n: row for n, row in self.rows.items() if n not in gone and row[0] not in gone}
        for name, entry in last.items():
            if name not in gone:
                master = masters.get(entry.get("seriesMasterId") or "", {})
                subject = entry.get("subject", master.get("subject"))
                self.rows[name] = (entry.get("seriesMasterId"), entry["start"]["dateTime"], subject)

    @property
    def shown(self) -> dict[str, tuple[str, str | None]]:
        """Start and subject by id."""
        return {name: (start, subject) for name, (_, start, subject) in self.rows.items()}


def oracle(world: World, calendar_id: str) -> dict[str, tuple[str, str | None]]:
    """The same of what the calendar shows."""
    return {
        shown.event_id: (f"{shown.start:%Y-%m-%dT%H:%M:%S}.0000000", shown.title)
        for shown in world.instances(calendar_id, *WINDOW)
    }


KINDS = ("single", "series", "rename", "move", "delete", "restore", "cancel", "shift", "split", "away")
EDITS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 20), st.integers(-3, 40)), max_size=25)


def edit(graph: GraphClient, other: str, kind: str, which: int, day: int) -> None:
    """One random edit, if it makes sense."""
    world, start = graph.world, NOON + timedelta(days=day, hours=which % 5)
    times: Json = {"start": start, "end": start + timedelta(hours=1)}
    if kind in {"single", "series"}:
        rule = ("RRULE:FREQ=DAILY;COUNT=9",) if kind == "series" else ()
        graph.add(f"{kind} {which}", start=start, recurrence=rule)
        return
    ids = list(world.versions[graph.id])
    if not ids:
        return
    event = world.event(graph.id, ids[which % len(ids)])
    if kind == "rename":
        world.update_event(graph.id, event.id, title=f"renamed {day}")
    elif kind == "move":
        world.update_event(graph.id, event.id, **times)
    elif kind == "delete":
        world.delete_event(graph.id, event.id)
    elif kind == "restore" and event.moved_to is None:
        world.restore_event(graph.id, event.id)
    elif kind == "away" and event.is_live:
        world.move_event(graph.id, event.id, other)
    elif event.is_series and isinstance(event.start, datetime) and event.is_live:
        edit_series(world, graph.id, event.id, event.start + timedelta(days=1 + which % 8), kind, times)


def edit_series(world: World, calendar_id: str, series: str, original: datetime, kind: str, times: Json) -> None:
    """One of its instances, or all from there on; a rule that ended earlier has no such instance."""
    span = (original, original + timedelta(minutes=1))
    shown = {one.original_start for one in world.instances(calendar_id, *span) if one.series_id == series}
    if original not in shown:
        return
    if kind == "cancel":
        world.cancel_instance(calendar_id, series, original)
    elif kind == "shift":
        world.update_instance(calendar_id, series, original, **times)
    elif kind == "split":
        world.split_series(calendar_id, series, original, title="Split")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(EDITS, min_size=1, max_size=3))
async def test_rounds_replayed_show_what_the_oracle_shows(rounds: list[list[tuple[str, int, int]]]) -> None:
    box = Sandbox.create()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(box.app), base_url="http://graph") as http:
        graph, mirror = GraphClient(box, http), Mirror()
        other = graph.world.add_calendar(graph.account, "Other").id
        entries, link = await graph.round()
        mirror.apply(entries)
        for edits in rounds:
            for kind, which, day in edits:
                edit(graph, other, kind, which, day)
            entries, link = await graph.round(link, size=7)
            mirror.apply(entries)
            truth = oracle(box.world, graph.id)
            assert mirror.shown == truth
            listed = await graph.listed(None, IMMUTABLE, _top="7")
            assert {event["id"]: (event["start"]["dateTime"], event["subject"]) for event in listed} == truth
            assert not {event["type"] for event in listed} & {"seriesMaster"}
