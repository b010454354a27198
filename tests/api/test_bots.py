"""Bots through HTTP: made, found, changed, ended."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.ids import BOT, EVENT, parse
from app.runtime import Runtime
from tests.api.rows import MEET, Rows, calendar_ref

BOTS, EVENTS, LAUNCHERS = "/api/v1/bots", "/api/v1/calendar_events", "/api/v1/launchers"
Json = dict[str, Any]
LIVE = ("scheduled", "launching", "launched")
ENDED = ("failed", "cancelled", "missed")


def _in(rt: Runtime, **span: float) -> str:
    return (rt.clock.now() + timedelta(**span)).isoformat()


@pytest.fixture
def own(rt: Runtime) -> Json:
    """A bot with a link and a time of its own."""
    return {"bot_name": "Notes", "meeting_url": MEET, "join_at": _in(rt, hours=1)}


async def _event(rows: Rows, *, hours: float = 24, **values: Any) -> tuple[UUID, str]:
    """An event with a link, and its calendar."""
    calendar = await rows.calendar()
    start = rows.rt.clock.now() + timedelta(hours=hours)
    link = {"meeting_url": MEET, "meeting_platform": "google_meet"}
    end = start + timedelta(minutes=30)
    return calendar, await rows.event(calendar, start_time=start, end_time=end, **link | values)


async def _made(client: httpx.AsyncClient, body: Json) -> Json:
    answer = await client.post(BOTS, json=body)
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()
    return made


async def _row(rt: Runtime, bot: str) -> Any:
    async with rt.db.reading() as tx:
        return await tx.row("SELECT * FROM bots WHERE id = :id", {"id": parse(BOT, bot)})


def _refusal(answer: httpx.Response) -> tuple[int, str, list[str]]:
    problem = answer.json()
    return answer.status_code, problem["code"], [error["pointer"] for error in problem["errors"]]


async def test_a_bot_on_an_event_has_its_link_and_time(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar, event = await _event(rows, series_id="weekly")
    said = {"bot_name": "Notes", "deduplication_key": "k", "metadata": {"a": "b"}, "config": {"recording": "none"}}
    made = await _made(client, said | {"calendar_event_id": event})
    shown = (await client.get(f"{EVENTS}/{event}")).json()
    assert {name: made[name] for name in said} == said
    assert (made["join_at"], made["meeting_url"], made["meeting_platform"]) == (
        shown["start_time"],
        MEET,
        "google_meet",
    )
    assert (made["calendar_event_id"], made["calendar_id"]) == (event, calendar_ref(calendar))
    assert (made["series_id"], made["state"], made["state_reason"]) == ("weekly", "scheduled", None)
    for name in ("hold_reason", "rule_id", "external_id", "launcher_id"):
        assert made[name] is None
    assert [entry["type"] for entry in made["events"]] == ["created"]
    assert (await client.get(f"{BOTS}/{made['id']}")).json() == made
    assert shown["bots"] == [made]


async def test_bots_are_no_change_of_their_event(client: httpx.AsyncClient, rows: Rows) -> None:
    _, event = await _event(rows)
    before = (await client.get(f"{EVENTS}/{event}")).json()
    made = [await _made(client, {"bot_name": name, "calendar_event_id": event}) for name in ("one", "two")]
    await client.patch(f"{BOTS}/{made[0]['id']}", json={"bot_name": "other"})
    await client.delete(f"{BOTS}/{made[1]['id']}")
    after = (await client.get(f"{EVENTS}/{event}")).json()
    assert [(bot["bot_name"], bot["state"]) for bot in after["bots"]] == [("other", "scheduled"), ("two", "cancelled")]
    assert after | {"bots": []} == before


async def test_a_link_is_stored_as_what_it_leads_to(client: httpx.AsyncClient, own: Json) -> None:
    wrapped = "https://www.google.com/url?q=https%3A%2F%2Fzoom.us%2Fj%2F95512345678%3Fpwd%3DQm9i"
    made = await _made(client, own | {"meeting_url": wrapped})
    assert (made["meeting_url"], made["meeting_platform"]) == ("https://zoom.us/j/95512345678?pwd=Qm9i", "zoom")
    assert (made["calendar_event_id"], made["calendar_id"], made["series_id"]) == (None, None, None)


async def test_links_are_judged_with_the_projects_own_hosts(client: httpx.AsyncClient, own: Json) -> None:
    mine = own | {"meeting_url": "https://meet.acme.example/Planning"}
    assert _refusal(await client.post(BOTS, json=mine)) == (422, "unknown_platform", ["/meeting_url"])
    prefer = {"meeting_preferences": {"extra_hosts": {"jitsi": ["meet.acme.example"]}}}
    assert (await client.patch("/api/v1/project", json=prefer)).status_code == 200
    made = await _made(client, mine)
    assert made["meeting_platform"] == "jitsi"
    moved = await client.patch(f"{BOTS}/{made['id']}", json={"meeting_url": "https://meet.acme.example/Review"})
    assert moved.json()["meeting_url"] == "https://meet.acme.example/Review"


async def test_events_that_no_bot_can_join(client: httpx.AsyncClient, rows: Rows, rt: Runtime) -> None:
    cases: list[tuple[float, Json, str]] = [
        (-2, {}, "event_over"),
        (24, {"is_deleted": True}, "event_gone"),
        (24, {"status": "cancelled"}, "event_gone"),
        (24, {"meeting_url": None, "meeting_platform": None}, "event_without_link"),
    ]
    for hours, values, code in cases:
        _, event = await _event(rows, hours=hours, **values)
        answer = await client.post(BOTS, json={"bot_name": "Notes", "calendar_event_id": event})
        assert _refusal(answer) == (422, code, ["/calendar_event_id"])
    assert (await client.get(BOTS)).json()["results"] == []


async def test_an_event_of_a_calendar_that_is_gone_or_disconnected(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar, event = await _event(rows)
    body = {"bot_name": "Notes", "calendar_event_id": event}
    await rows.sql("UPDATE calendars SET state = 'disconnected'")
    assert _refusal(await client.post(BOTS, json=body)) == (409, "calendar_disconnected", [])
    await client.delete(f"/api/v1/calendars/{calendar_ref(calendar)}")
    assert _refusal(await client.post(BOTS, json=body)) == (422, "not_found", ["/calendar_event_id"])


async def test_a_meeting_under_way_gets_its_bot_at_once(client: httpx.AsyncClient, rows: Rows, rt: Runtime) -> None:
    _, event = await _event(rows, hours=-0.25)
    made = await _made(client, {"bot_name": "Notes", "calendar_event_id": event})
    row = await _row(rt, made["id"])
    assert row.join_at < row.due_at <= rt.clock.now()


async def test_one_of_many_gets_the_key(client: httpx.AsyncClient, own: Json, rt: Runtime) -> None:
    body = own | {"deduplication_key": "one"}
    answers = await asyncio.gather(*(client.post(BOTS, json=body) for _ in range(50)))
    [made] = [answer.json() for answer in answers if answer.status_code == 201]
    taken = [answer.json() for answer in answers if answer.status_code != 201]
    assert {(problem["code"], problem["existing_id"]) for problem in taken} == {
        ("deduplication_key_in_use", made["id"])
    }
    assert len(taken) == 49
    assert len((await client.get(BOTS)).json()["results"]) == 1


@pytest.mark.parametrize("state", [*LIVE, *ENDED])
async def test_a_key_is_free_again_when_its_bot_has_ended(
    client: httpx.AsyncClient, rows: Rows, own: Json, state: str
) -> None:
    first = await _made(client, own | {"deduplication_key": "k"})
    await rows.sql("UPDATE bots SET state = :state", state=state)
    answer = await client.post(BOTS, json=own | {"deduplication_key": "k"})
    if state in LIVE:
        assert _refusal(answer) == (409, "deduplication_key_in_use", [])
        assert answer.json()["existing_id"] == first["id"]
    else:
        assert answer.status_code == 201


async def test_the_same_request_makes_one_bot(client: httpx.AsyncClient, own: Json) -> None:
    key = {"Idempotency-Key": "bot-1"}
    first, again = [await client.post(BOTS, json=own, headers=key) for _ in range(2)]
    assert (first.status_code, again.content) == (201, first.content)
    other = await client.post(BOTS, json=own | {"bot_name": "Other"}, headers=key)
    assert _refusal(other) == (409, "idempotency_key_reused", [])
    assert len((await client.get(BOTS)).json()["results"]) == 1


async def test_filters(client: httpx.AsyncClient, rows: Rows, rt: Runtime) -> None:
    calendar, event = await _event(rows)
    launcher = await rows.launcher()
    at = [rt.clock.now() + timedelta(hours=hours) for hours in (1, 2)]
    zoom = "https://zoom.us/j/95512345678"
    first = await _made(client, {"bot_name": "a", "calendar_event_id": event, "deduplication_key": "k"})
    early = {"bot_name": "b", "meeting_url": zoom, "join_at": at[0].isoformat(), "launcher_id": launcher}
    second = await _made(client, early)
    third = await _made(client, {"bot_name": "c", "meeting_url": MEET, "join_at": at[1].isoformat()})
    await client.delete(f"{BOTS}/{third['id']}")
    one, two, three = first["id"], second["id"], third["id"]
    cases: list[tuple[Any, list[str]]] = [
        ({}, [one, two, three]),
        ({"calendar_event_id": event}, [one]),
        ({"calendar_event_id": "x"}, []),
        ({"calendar_id": calendar_ref(calendar)}, [one]),
        ({"deduplication_key": "k"}, [one]),
        ({"launcher_id": launcher}, [two]),
        ({"meeting_url": zoom}, [two]),
        ({"state": "scheduled"}, [one, two]),
        ({"states": "cancelled"}, [three]),
        ([("state", "missed"), ("state", "cancelled")], [three]),
        ([("states", "scheduled"), ("states", "cancelled")], [one, two, three]),
        ({"state": "failed", "states": "cancelled"}, [three]),
        ({"join_at_gte": second["join_at"], "join_at_lte": third["join_at"]}, [two, three]),
        ({"join_at_after": second["join_at"], "join_at_lte": third["join_at"]}, [three]),
        ({"join_at_gte": second["join_at"], "join_at_before": third["join_at"]}, [two]),
        ({"join_at_after": second["join_at"], "join_at_before": third["join_at"]}, []),
    ]
    for params, expected in cases:
        results = (await client.get(BOTS, params=params)).json()["results"]
        assert [bot["id"] for bot in results] == expected, params


async def test_pages_keep_every_state_that_was_asked_for(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar, event = await _event(rows)
    made = [await rows.bot(calendar, event, state=state) for state in (*LIVE, *LIVE)]
    url: str | None = f"{BOTS}?limit=1&state=scheduled&state=launched"
    seen: list[str] = []
    while url is not None:
        page = (await client.get(url)).json()
        seen += [bot["id"] for bot in page["results"]]
        assert url != page["next"]
        url = page["next"]
    assert seen == [made[0], made[2], made[3], made[5]]
    cursor = (await client.get(f"{BOTS}?limit=1&state=scheduled&state=launched")).json()["next"]
    other = await client.get(cursor.replace("state=scheduled", "state=launching"))
    assert _refusal(other) == (422, "invalid_cursor", ["cursor"])


async def test_patch_changes_what_it_names(client: httpx.AsyncClient, own: Json, rt: Runtime) -> None:
    made = await _made(client, own | {"metadata": {"a": "b"}, "config": {"recording": "none"}})
    url = f"{BOTS}/{made['id']}"
    assert (await client.patch(url, json={})).json() == made
    later = _in(rt, hours=2)
    changes: list[Json] = [
        {"bot_name": "Minutes"},
        {"metadata": {"c": "d"}},
        {"metadata": None},
        {"config": {"recording": "audio_only"}},
        {"config": None},
        {"meeting_url": "https://zoom.us/j/95512345678"},
    ]
    for change in changes:
        before = (await client.get(url)).json()
        after = (await client.patch(url, json=change)).json()
        assert {name: after[name] for name in change} == change
        moving = {*change, "updated_at", "events"} | ({"meeting_platform"} if "meeting_url" in change else set())
        assert {name for name in after if after[name] != before[name]} == moving
    before_move = await _row(rt, made["id"])
    moved = (await client.patch(url, json={"join_at": later})).json()
    after_move = await _row(rt, made["id"])
    assert after_move.due_at - before_move.due_at == after_move.join_at - before_move.join_at
    assert [entry["type"] for entry in moved["events"]] == ["created", *["changed"] * 7]


async def test_a_bot_on_an_event_takes_link_and_time_from_it(client: httpx.AsyncClient, rows: Rows) -> None:
    _, event = await _event(rows)
    made = await _made(client, {"bot_name": "Notes", "calendar_event_id": event})
    url = f"{BOTS}/{made['id']}"
    body = {"bot_name": "Other", "meeting_url": MEET, "join_at": made["join_at"]}
    assert _refusal(await client.patch(url, json=body)) == (422, "read_only", ["/join_at", "/meeting_url"])
    assert (await client.get(url)).json() == made
    assert (await client.patch(url, json={"bot_name": "Other"})).json()["bot_name"] == "Other"


@pytest.mark.parametrize("state", LIVE)
async def test_until_its_time_a_live_bot_can_be_changed_and_ended(
    client: httpx.AsyncClient, rows: Rows, rt: Runtime, state: str
) -> None:
    calendar, event = await _event(rows)
    url = f"{BOTS}/{await rows.bot(calendar, event, state=state, handed_revision=1)}"
    changed = await client.patch(url, json={"bot_name": "Other"})
    assert (changed.status_code, changed.json()["bot_name"], changed.json()["state"]) == (200, "Other", state)
    row = await _row(rt, changed.json()["id"])
    assert row.revision == 2
    assert row.due_at <= rt.clock.now(), "the back end has to be told at once"
    assert (await client.delete(url)).status_code == 204
    ended = (await client.get(url)).json()
    assert (ended["state"], ended["state_reason"]) == ("cancelled", "removed")
    assert _refusal(await client.patch(url, json={"bot_name": "x"})) == (409, "bot_not_live", [])


@pytest.mark.parametrize("state", LIVE)
async def test_after_its_time_a_bot_can_only_be_ended(
    client: httpx.AsyncClient, rows: Rows, rt: Runtime, state: str
) -> None:
    calendar, event = await _event(rows)
    url = f"{BOTS}/{await rows.bot(calendar, event, state=state, join_at=rt.clock.now())}"
    for body in ({"bot_name": "x"}, {}):
        assert _refusal(await client.patch(url, json=body)) == (409, "bot_joined", [])
    for _ in range(2):
        assert (await client.delete(url)).status_code == 204
    ended = (await client.get(url)).json()
    assert (ended["state"], ended["state_reason"]) == ("cancelled", "left_by_request")


@pytest.mark.parametrize("state", ENDED)
async def test_an_ended_bot_stays_what_it_is(client: httpx.AsyncClient, rows: Rows, state: str) -> None:
    calendar, event = await _event(rows)
    url = f"{BOTS}/{await rows.bot(calendar, event, state=state, state_reason='event_deleted')}"
    before = (await client.get(url)).json()
    assert _refusal(await client.patch(url, json={"bot_name": "x"})) == (409, "bot_not_live", [])
    for _ in range(2):
        assert (await client.delete(url)).status_code == 204
    assert (await client.get(url)).json() == before


async def test_an_end_is_noted_and_told_once(client: httpx.AsyncClient, own: Json, rt: Runtime) -> None:
    made = await _made(client, own)
    answers = await asyncio.gather(*(client.delete(f"{BOTS}/{made['id']}") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {204}
    ended = (await client.get(f"{BOTS}/{made['id']}")).json()
    assert [(entry["type"], entry["detail"]) for entry in ended["events"]] == [
        ("created", None),
        ("cancelled", "removed"),
    ]
    assert (await _row(rt, made["id"])).due_at is None, "no back end knows of it"


async def test_a_deleted_calendars_bots_stay_readable(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar, event = await _event(rows)
    made = await _made(client, {"bot_name": "Notes", "calendar_event_id": event})
    done = await rows.bot(calendar, event, state="failed", state_reason="launch_refused")
    assert (await client.delete(f"/api/v1/calendars/{calendar_ref(calendar)}")).status_code == 204
    for bot, state, reason in ((made["id"], "cancelled", "calendar_deleted"), (done, "failed", "launch_refused")):
        shown = (await client.get(f"{BOTS}/{bot}")).json()
        assert (shown["state"], shown["state_reason"]) == (state, reason)
        assert (shown["calendar_id"], shown["calendar_event_id"]) == (None, None)


async def test_the_history_shows_the_latest_fifty(client: httpx.AsyncClient, own: Json) -> None:
    made = await _made(client, own)
    for number in range(51):
        await client.patch(f"{BOTS}/{made['id']}", json={"bot_name": f"n{number}"})
    [listed] = (await client.get(BOTS)).json()["results"]
    assert [entry["type"] for entry in listed["events"]] == ["changed"] * 50


async def test_a_bot_is_judged_by_its_launchers_back_end(client: httpx.AsyncClient, own: Json) -> None:
    kind = {"kind": "attendee", "name": "Theirs", "api_key": "k"}
    launcher = (await client.post(LAUNCHERS, json=kind)).json()["id"]
    silent = own | {"config": {"transcription": False}}
    refused = (422, "unsupported_setting", ["/config/transcription"])
    assert _refusal(await client.post(BOTS, json=silent | {"launcher_id": launcher})) == refused
    made = await _made(client, own | {"launcher_id": launcher})
    assert made["launcher_id"] == launcher
    patched = await client.patch(f"{BOTS}/{made['id']}", json={"config": {"transcription": False}})
    assert _refusal(patched) == refused
    await _made(client, silent)
    await client.patch(f"{LAUNCHERS}/{launcher}", json={"is_default": True})
    assert _refusal(await client.post(BOTS, json=silent)) == refused


async def test_metadata_and_config_up_to_their_limits(client: httpx.AsyncClient, own: Json) -> None:
    metadata = {str(number): "v" for number in range(50)}
    made = await _made(client, own | {"metadata": metadata, "config": {"passthrough": {"a": "x" * 16_000}}})
    assert made["metadata"] == metadata
    assert made["config"] == {"passthrough": {"a": "x" * 16_000}}


async def test_a_purged_event_leaves_its_bots(client: httpx.AsyncClient, rows: Rows) -> None:
    _, event = await _event(rows)
    made = await _made(client, {"bot_name": "Notes", "calendar_event_id": event})
    await rows.sql("DELETE FROM calendar_events WHERE id = :id", id=parse(EVENT, event))
    assert (await client.get(f"{BOTS}/{made['id']}")).json() == made
    assert (await client.delete(f"{BOTS}/{made['id']}")).status_code == 204
