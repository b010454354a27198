"""Rules through HTTP: made, changed, deleted, and what of that their bots have to know."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.bots.rules.judging import judge_due
from app.ids import CALENDAR, RULE, new_id, parse, public
from app.runtime import Runtime
from tests.api.rows import MEET, Rows, calendar_ref

BOTS, LAUNCHERS, RULES = "/api/v1/bots", "/api/v1/launchers", "/api/v1/rules"
Json = dict[str, Any]
BODY: Json = {
    "name": "Customers",
    "match": {"title_contains": ["plan"], "is_recurring": False},
    "bot": {"bot_name": "Notes"},
}


async def _made(client: httpx.AsyncClient, **body: Any) -> Json:
    answer = await client.post(RULES, json=BODY | body)
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()
    return made


async def _event(rows: Rows, calendar: Any, *, hours: float = 5, **values: Any) -> str:
    start = rows.rt.clock.now().replace(microsecond=0) + timedelta(hours=hours)
    link = {"meeting_url": MEET, "meeting_platform": "google_meet"}
    return await rows.event(
        calendar, **{"start_time": start, "end_time": start + timedelta(minutes=30), **link, **values}
    )


async def _judged(rt: Runtime) -> None:
    while await judge_due(rt):
        pass


async def _live(client: httpx.AsyncClient) -> list[Json]:
    answer = await client.get(BOTS, params={"states": ["scheduled", "launching", "launched"]})
    found: list[Json] = answer.json()["results"]
    return found


async def _version(rt: Runtime, rule: Json) -> int:
    async with rt.db.reading() as tx:
        version: int = await tx.scalar("SELECT version FROM rules WHERE id = :id", {"id": parse(RULE, rule["id"])})
        return version


async def _asked(rt: Runtime) -> set[str]:
    """The calendars that are to be judged anew; asked once."""
    async with rt.db.transaction() as tx:
        rows = await tx.rows("SELECT calendar_id FROM rule_evaluations WHERE event_ids IS NULL")
        await tx.execute("DELETE FROM rule_evaluations")
    return {public(CALENDAR, row.calendar_id) for row in rows}


def _refusal(answer: httpx.Response) -> tuple[int, str, list[str]]:
    problem = answer.json()
    return answer.status_code, problem["code"], [error["pointer"] for error in problem["errors"]]


async def test_what_is_left_out_has_a_default(client: httpx.AsyncClient) -> None:
    made = await _made(client)
    shown = {name: made[name] for name in ("name", "is_enabled", "priority", "match", "bot", "dedup_scope")}
    assert shown == BODY | {
        "is_enabled": True,
        "priority": 0,
        "bot": {"bot_name": "Notes", "config": None, "launcher_id": None},
        "dedup_scope": "meeting",
    }
    assert (await client.get(f"{RULES}/{made['id']}")).json() == made


async def test_lists_are_newest_first_and_in_pages(client: httpx.AsyncClient) -> None:
    made = [(await _made(client, name=f"rule {number}"))["id"] for number in range(5)][::-1]
    page = (await client.get(RULES, params={"limit": 3})).json()
    following = (await client.get(page["next"])).json()
    assert [one["id"] for one in page["results"] + following["results"]] == made
    assert (await client.get(following["previous"])).json()["results"] == page["results"]


async def test_a_config_comes_back_as_a_bots_does(client: httpx.AsyncClient, rt: Runtime) -> None:
    config = {"transcription": True, "recording": "speaker_view", "passthrough": {"z": {"b": 1.5, "a": None}, "a": []}}
    made = await _made(client, bot={"bot_name": "Nötes", "config": config})
    soon = (rt.clock.now() + timedelta(hours=1)).isoformat()
    bot = {"bot_name": "Notes", "meeting_url": MEET, "join_at": soon, "config": config}
    own = (await client.post(BOTS, json=bot)).json()["config"]
    assert made["bot"]["config"] == own == config
    assert list(made["bot"]["config"]) == list(own)


async def test_a_match_reads_the_same_in_whatever_order_it_came(client: httpx.AsyncClient, rt: Runtime) -> None:
    made = await _made(client)
    same = {"is_recurring": False, "title_contains": ["plan"]}
    changed = (await client.patch(f"{RULES}/{made['id']}", json={"match": same})).json()
    assert changed == made
    assert await _version(rt, made) == 1


async def test_the_same_request_makes_one_rule(client: httpx.AsyncClient, rt: Runtime) -> None:
    answers = [await client.post(RULES, json=BODY, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0].content == answers[1].content
    async with rt.db.reading() as tx:
        assert await tx.scalar("SELECT count(*) FROM rules") == 1


CHANGES: list[tuple[Json, bool, bool]] = [
    ({}, False, False),
    ({"name": "Others"}, False, False),
    ({"priority": 5}, False, True),
    ({"match": {"is_recurring": True}}, True, True),
    ({"bot": {"bot_name": "Minutes"}}, True, True),
    ({"bot": {"bot_name": "Minutes", "config": {"recording": "audio_only"}}}, True, True),
    ({"dedup_scope": "organization"}, True, True),
    ({"is_enabled": False}, True, True),
    ({"match": {"is_recurring": False}}, True, False),
    ({"is_enabled": True}, True, True),
]


async def test_what_bots_have_to_know_counts_up_and_what_events_have_to_is_asked_for(
    client: httpx.AsyncClient, rt: Runtime, rows: Rows
) -> None:
    calendar = calendar_ref(await rows.calendar())
    made = await _made(client)
    assert await _asked(rt) == {calendar}
    shown = made
    for change, is_version_new, is_judged_anew in CHANGES:
        version = await _version(rt, made)
        answer = await client.patch(f"{RULES}/{made['id']}", json=change)
        assert answer.status_code == 200, answer.text
        bot = shown["bot"] | {"config": None} | change.get("bot", {})
        expected = shown | change | {"bot": bot if "bot" in change else shown["bot"]}
        assert answer.json() | {"updated_at": ""} == expected | {"updated_at": ""}
        assert (answer.json()["updated_at"] > shown["updated_at"]) == bool(change)
        shown = answer.json()
        assert await _version(rt, made) == version + is_version_new, change
        assert await _asked(rt) == ({calendar} if is_judged_anew else set()), change
        again = await client.patch(f"{RULES}/{made['id']}", json=change)
        assert again.json() == shown, "said once more it is nothing new"
        assert await _asked(rt) == set()
    assert (await client.delete(f"{RULES}/{made['id']}")).status_code == 204
    assert await _asked(rt) == {calendar}


async def test_a_rule_that_is_not_enabled_asks_for_nothing(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    await rows.calendar()
    made = await _made(client, is_enabled=False)
    assert (await client.delete(f"{RULES}/{made['id']}")).status_code == 204
    assert await _asked(rt) == set()


async def test_a_deleted_rule_is_gone_and_so_are_its_bots(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    calendar = await rows.calendar()
    event = await _event(rows, calendar)
    made = await _made(client)
    await _judged(rt)
    [bot] = await _live(client)
    assert (bot["calendar_event_id"], bot["rule_id"]) == (event, made["id"])
    url = f"{RULES}/{made['id']}"
    assert (await client.delete(url)).status_code == 204
    await _judged(rt)
    assert await _live(client) == []
    ended = (await client.get(f"{BOTS}/{bot['id']}")).json()
    assert (ended["state"], ended["state_reason"], ended["rule_id"]) == ("cancelled", "no_rule", made["id"])
    for answer in (await client.get(url), await client.patch(url, json={}), await client.delete(url)):
        assert _refusal(answer) == (404, "not_found", [])
    assert (await client.get(RULES)).json()["results"] == []


async def test_a_changed_rule_changes_its_bots(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    await _event(rows, await rows.calendar())
    made = await _made(client)
    await _judged(rt)
    [bot] = await _live(client)
    body = {"bot_name": "Minutes", "config": {"recording": "audio_only"}}
    await client.patch(f"{RULES}/{made['id']}", json={"bot": body})
    await _judged(rt)
    [changed] = await _live(client)
    assert (changed["id"], changed["bot_name"], changed["config"]) == (bot["id"], "Minutes", body["config"])


async def test_a_bot_that_was_ended_stays_so_until_the_rule_changes(
    client: httpx.AsyncClient, rt: Runtime, rows: Rows
) -> None:
    await _event(rows, await rows.calendar())
    made = await _made(client)
    await _judged(rt)
    [bot] = await _live(client)
    await client.delete(f"{BOTS}/{bot['id']}")
    for change, count in (({"name": "a"}, 0), ({"priority": 1}, 0), ({"bot": {"bot_name": "Minutes"}}, 1)):
        await client.patch(f"{RULES}/{made['id']}", json=change)
        await _judged(rt)
        assert len(await _live(client)) == count, change


async def test_a_wider_scope_leaves_one_bot_for_each_meeting_and_a_narrower_one_frees_the_others(
    client: httpx.AsyncClient, rt: Runtime, rows: Rows
) -> None:
    for email in ("ada@one.example", "bob@one.example", "eve@two.example"):
        await _event(rows, await rows.calendar(email=email), ical_uid="uid-1")
    made = await _made(client, dedup_scope="event")
    for scope, count in (("event", 3), ("meeting", 1), ("organization", 2), ("event", 3), ("organization", 2)):
        await client.patch(f"{RULES}/{made['id']}", json={"dedup_scope": scope})
        await _judged(rt)
        assert len(await _live(client)) == count, scope


async def test_two_rules_of_events_whose_scope_narrows_each_keep_their_bot(
    client: httpx.AsyncClient, rt: Runtime, rows: Rows
) -> None:
    await _event(rows, await rows.calendar(email="ada@one.example"), ical_uid="uid-1")
    made = [await _made(client, dedup_scope=scope) for scope in ("meeting", "organization")]
    await _judged(rt)
    for rule in made:
        await client.patch(f"{RULES}/{rule['id']}", json={"dedup_scope": "event"})
        await _judged(rt)
        assert len(await _live(client)) == 2


async def test_the_rule_of_a_series_is_nobodys_to_see(client: httpx.AsyncClient, rows: Rows) -> None:
    rule_id = new_id()
    await rows.sql(
        "INSERT INTO rules (id, project_id, name, match, dedup_scope, bot_name, series_id)"
        " VALUES (:id, :project, 'series', '{}', 'event', 'Notes', 's')",
        id=rule_id,
        project=rows.project_id,
    )
    url = f"{RULES}/{public(RULE, rule_id)}"
    assert (await client.get(RULES)).json()["results"] == []
    for answer in (await client.get(url), await client.patch(url, json={"name": "x"}), await client.delete(url)):
        assert _refusal(answer) == (404, "not_found", [])


async def test_a_project_has_a_hundred_rules(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    await rows.sql(
        "INSERT INTO rules (id, project_id, name, match, dedup_scope, bot_name, series_id, deleted_at)"
        " SELECT gen_random_uuid(), :project, 'r', '{}', 'event', 'Notes',"
        " CASE WHEN n > 150 THEN 's' END, CASE WHEN n BETWEEN 99 AND 150 THEN app_now() END"
        " FROM generate_series(1, 300) n",
        project=rows.project_id,
    )
    answers = await asyncio.gather(*(client.post(RULES, json=BODY) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert _refusal(refused) == (409, "too_many_rules", [])
    made = next(answer for answer in answers if answer.status_code == 201).json()
    assert (await client.patch(f"{RULES}/{made['id']}", json={"name": "x"})).status_code == 200
    await client.delete(f"{RULES}/{made['id']}")
    assert (await client.post(RULES, json=BODY)).status_code == 201


async def test_a_launcher_that_a_rule_names_is_in_use(client: httpx.AsyncClient) -> None:
    body = {"kind": "attendee", "name": "a", "api_key": "k"}
    launcher = (await client.post(LAUNCHERS, json=body)).json()["id"]
    made = await _made(client, bot={"bot_name": "Notes", "launcher_id": launcher}, is_enabled=False)
    url = f"{LAUNCHERS}/{launcher}"
    used: tuple[int, str, list[str]] = (409, "launcher_in_use", [])
    assert made["bot"]["launcher_id"] == launcher
    assert _refusal(await client.delete(url)) == used
    assert _refusal(await client.patch(url, json={"kind": "recall", "api_key": "k"})) == used
    assert (await client.patch(url, json={"name": "b"})).status_code == 200
    await client.patch(f"{RULES}/{made['id']}", json={"bot": {"bot_name": "Notes"}})
    assert (await client.delete(url)).status_code == 204


async def test_no_rule_is_made_for_a_launcher_that_goes(client: httpx.AsyncClient) -> None:
    for _ in range(10):
        launcher = (await client.post(LAUNCHERS, json={"kind": "webhook", "name": "w"})).json()["id"]
        made, deleted = await asyncio.gather(
            client.post(RULES, json=BODY | {"bot": {"bot_name": "Notes", "launcher_id": launcher}}),
            client.delete(f"{LAUNCHERS}/{launcher}"),
        )
        assert (made.status_code, deleted.status_code) in {(201, 409), (422, 204)}


@pytest.mark.parametrize("change", [{"a": "2"}, None])
async def test_a_calendars_metadata_is_judged_when_it_changes(
    client: httpx.AsyncClient, rt: Runtime, rows: Rows, change: Any
) -> None:
    calendar = await rows.calendar()
    url = f"/api/v1/calendars/{calendar_ref(calendar)}"
    await client.patch(url, json={"metadata": {"a": "1", "b": "1"}})
    assert await _asked(rt) == set(), "without rules there is nothing to judge"
    await _event(rows, calendar)
    await _made(client, match={"calendar_metadata": {"a": "1"}})
    await _judged(rt)
    assert len(await _live(client)) == 1
    await client.patch(url, json={"metadata": {"b": "1", "a": "1"}})
    assert await _asked(rt) == set()
    await client.patch(url, json={"metadata": change})
    await _judged(rt)
    assert await _live(client) == []


async def test_internal_domains_are_judged_when_they_change(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    calendar = await rows.calendar(email="ada@example.com")
    attendee = {"email": "bob@partner.example", "name": None, "response_status": "accepted"}
    flags = {"optional": False, "organizer": False, "self": False, "resource": False}
    await _event(rows, calendar, attendees=(attendee | flags,))
    await _made(client, match={"has_external_attendees": True})
    await _judged(rt)
    assert len(await _live(client)) == 1
    for domains, count in ((["example.com", "Partner.example"], 0), (["other.example"], 1), ([], 1), (None, 1)):
        answer = await client.patch("/api/v1/project", json={"internal_domains": domains})
        shown = [domain.lower() for domain in domains or ()]
        assert answer.json()["internal_domains"] == shown
        assert (await client.get("/api/v1/project")).json()["internal_domains"] == shown
        await _judged(rt)
        assert len(await _live(client)) == count, domains
    for domains, asked in ((["example.com"], {calendar_ref(calendar)}), (["EXAMPLE.com"], set())):
        await client.patch("/api/v1/project", json={"internal_domains": domains})
        assert await _asked(rt) == asked
    await client.patch("/api/v1/project", json={"meeting_preferences": None})
    assert await _asked(rt) == set()
