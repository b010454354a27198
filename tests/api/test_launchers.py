"""Launchers through HTTP: made, changed, tried, deleted, and when bots are handed to them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.bots.calls import api_key_place
from app.ids import BOT, LAUNCHER, parse
from app.runtime import Runtime
from sandbox import Sandbox
from tests.api.rows import MEET, Rows
from tests.harness import listen

BOTS, LAUNCHERS = "/api/v1/bots", "/api/v1/launchers"
Json = dict[str, Any]
HOOK: Json = {"kind": "webhook", "name": "Ours"}
KNOWN = {"attendee": 180, "recall": 720, "meeting_baas": 300}
KEY = "sk_canary_51"


async def _made(client: httpx.AsyncClient, body: Json) -> Json:
    answer = await client.post(LAUNCHERS, json=body)
    assert answer.status_code == 201, answer.text
    made: Json = answer.json()
    return made


async def _bot(client: httpx.AsyncClient, rt: Runtime, **body: Any) -> str:
    at = (rt.clock.now() + timedelta(hours=5)).isoformat()
    answer = await client.post(BOTS, json={"bot_name": "Notes", "meeting_url": MEET, "join_at": at, **body})
    assert answer.status_code == 201, answer.text
    made: str = answer.json()["id"]
    return made


async def _lead(rt: Runtime, bot: str) -> float:
    """Seconds before its time at which a bot is due."""
    async with rt.db.reading() as tx:
        row = await tx.row("SELECT join_at, due_at FROM bots WHERE id = :id", {"id": parse(BOT, bot)})
    assert row is not None
    lead: timedelta = row.join_at - row.due_at
    return lead.total_seconds()


async def _row(rt: Runtime, launcher: str) -> Any:
    async with rt.db.reading() as tx:
        return await tx.row("SELECT * FROM launchers WHERE id = :id", {"id": parse(LAUNCHER, launcher)})


def _refusal(answer: httpx.Response) -> tuple[int, str, list[str]]:
    problem = answer.json()
    return answer.status_code, problem["code"], [error["pointer"] for error in problem["errors"]]


@pytest.fixture
async def back_ends(sandbox: Sandbox) -> AsyncIterator[str]:
    """Where the back ends' stand-ins listen."""
    async with listen(sandbox.app) as url:
        yield url


async def test_what_is_left_out_is_the_kinds_own(client: httpx.AsyncClient) -> None:
    for kind, seconds in KNOWN.items():
        made = await _made(client, {"kind": kind, "name": kind, "api_key": KEY})
        assert (made["kind"], made["name"], made["hand_over_seconds"]) == (kind, kind, seconds)
        assert made["base_url"].startswith("https://")
        assert (made["is_default"], made["health"]) == (False, {"status": "healthy", "reason": None})
        assert (await client.get(f"{LAUNCHERS}/{made['id']}")).json() == made
    hook = await _made(client, HOOK | {"hand_over_seconds": 0})
    assert (hook["base_url"], hook["hand_over_seconds"]) == (None, 0)
    listed = (await client.get(LAUNCHERS)).json()["results"]
    assert [one["kind"] for one in listed] == ["webhook", "meeting_baas", "recall", "attendee"]
    page = (await client.get(LAUNCHERS, params={"limit": 3})).json()
    assert [one["kind"] for one in (await client.get(page["next"])).json()["results"]] == ["attendee"]


async def test_the_key_is_sealed_and_never_shown(client: httpx.AsyncClient, rt: Runtime) -> None:
    answer = await client.post(LAUNCHERS, json={"kind": "recall", "name": "r", "api_key": KEY})
    url, row = f"{LAUNCHERS}/{answer.json()['id']}", await _row(rt, answer.json()["id"])
    assert rt.cipher.open(row.api_key_sealed, api_key_place(row.id)) == KEY
    assert KEY.encode() not in row.api_key_sealed
    changed = await client.patch(url, json={"api_key": f"{KEY}-2"})
    for shown in (answer, changed, await client.get(url), await client.get(LAUNCHERS)):
        assert KEY not in shown.text
    row = await _row(rt, answer.json()["id"])
    assert rt.cipher.open(row.api_key_sealed, api_key_place(row.id)) == f"{KEY}-2"
    assert (await client.delete(url)).status_code == 204
    assert (await _row(rt, answer.json()["id"])).api_key_sealed is None


async def test_patch_changes_what_it_names(client: httpx.AsyncClient, back_ends: str) -> None:
    made = await _made(client, {"kind": "attendee", "name": "a", "api_key": KEY})
    url = f"{LAUNCHERS}/{made['id']}"
    changes: list[Json] = [
        {},
        {"name": "b"},
        {"hand_over_seconds": 3_600},
        {"is_default": True},
        {"is_default": False},
        {"base_url": back_ends, "api_key": KEY},
        {"kind": "recall", "api_key": KEY},
    ]
    for change in changes:
        before = (await client.get(url)).json()
        answer = await client.patch(url, json=change)
        assert answer.status_code == 200, answer.text
        assert answer.json()["updated_at"] > before["updated_at"]
        shown = {name: value for name, value in change.items() if name != "api_key"}
        assert answer.json() == before | shown | {"updated_at": answer.json()["updated_at"]}


async def test_another_address_or_kind_never_gets_the_old_key(
    client: httpx.AsyncClient, rt: Runtime, back_ends: str
) -> None:
    made = await _made(client, {"kind": "attendee", "name": "a", "api_key": KEY, "base_url": back_ends})
    url, before = f"{LAUNCHERS}/{made['id']}", tuple(await _row(rt, made["id"]))
    for change in ({"base_url": "http://127.0.0.1:9"}, {"base_url": None}, {"kind": "recall"}):
        assert _refusal(await client.patch(url, json=change)) == (422, "missing", ["/api_key"])
    assert _refusal(await client.patch(url, json={"kind": "webhook"})) == (422, "not_allowed", ["/base_url"])
    assert tuple(await _row(rt, made["id"])) == before
    assert (await client.patch(url, json={"base_url": back_ends, "name": "b"})).json()["name"] == "b"
    hook = await client.patch(url, json={"kind": "webhook", "base_url": None})
    assert (hook.status_code, hook.json()["base_url"]) == (200, None)
    assert (await _row(rt, made["id"])).api_key_sealed is None


async def test_a_refused_change_changes_nothing(client: httpx.AsyncClient, rt: Runtime) -> None:
    made = await _made(client, {"kind": "attendee", "name": "a", "api_key": KEY})
    url, before = f"{LAUNCHERS}/{made['id']}", tuple(await _row(rt, made["id"]))
    cases: list[tuple[Json, str]] = [
        ({"name": None}, "wrong_type"),
        ({"name": " "}, "blank"),
        ({"kind": None}, "wrong_type"),
        ({"api_key": None}, "wrong_type"),
        ({"hand_over_seconds": 3_601}, "out_of_range"),
        ({"hand_over_seconds": -1}, "out_of_range"),
        ({"hand_over_seconds": None}, "wrong_type"),
        ({"is_default": None}, "wrong_type"),
        ({"base_url": "https://10.0.0.1", "api_key": KEY}, "host_not_allowed"),
        ({"health": {}}, "unknown_field"),
    ]
    for change, code in cases:
        answer = await client.patch(url, json={"name": "b", **change})
        assert (answer.status_code, answer.json()["code"]) == (422, code), change
    assert tuple(await _row(rt, made["id"])) == before


class TestPlainHttp:
    """As in production: WEBHOOK_ALLOW_HTTP is not set, EGRESS_ALLOW opens the loopback network."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"webhook_allow_http": False}

    async def test_it_is_for_networks_that_the_operator_opened(self, client: httpx.AsyncClient) -> None:
        body = {"kind": "attendee", "name": "a", "api_key": KEY}
        plain = await client.post(LAUNCHERS, json=body | {"base_url": "http://bots.example.com"})
        assert _refusal(plain) == (422, "scheme_not_allowed", ["/base_url"])
        assert (await client.post(LAUNCHERS, json=body | {"base_url": "http://127.0.0.1:9"})).status_code == 201


async def test_a_project_has_one_default_whoever_asks_at_once(client: httpx.AsyncClient) -> None:
    made = [await _made(client, HOOK | {"is_default": True}) for _ in range(3)]
    assert [one["is_default"] for one in (await client.get(LAUNCHERS)).json()["results"]] == [True, False, False]
    answers = await asyncio.gather(
        *(client.patch(f"{LAUNCHERS}/{one['id']}", json={"is_default": True}) for one in made * 6),
        *(client.post(LAUNCHERS, json=HOOK | {"is_default": True}) for _ in range(6)),
    )
    assert {answer.status_code for answer in answers} == {200, 201}
    listed = (await client.get(LAUNCHERS)).json()["results"]
    assert sum(one["is_default"] for one in listed) == 1


async def test_bots_wait_for_their_launchers_time(client: httpx.AsyncClient, rt: Runtime) -> None:
    free = await _bot(client, rt)
    assert await _lead(rt, free) == 60
    one = await _made(client, HOOK | {"hand_over_seconds": 100, "is_default": True})
    two = await _made(client, HOOK | {"hand_over_seconds": 200})
    bound = await _bot(client, rt, launcher_id=two["id"])
    assert [await _lead(rt, bot) for bot in (free, bound)] == [100, 200]
    await client.patch(f"{LAUNCHERS}/{one['id']}", json={"hand_over_seconds": 110})
    await client.patch(f"{LAUNCHERS}/{two['id']}", json={"hand_over_seconds": 210})
    assert [await _lead(rt, bot) for bot in (free, bound)] == [110, 210]
    await client.patch(f"{LAUNCHERS}/{two['id']}", json={"is_default": True})
    assert [await _lead(rt, bot) for bot in (free, bound)] == [210, 210]
    await client.patch(f"{LAUNCHERS}/{two['id']}", json={"is_default": False})
    assert [await _lead(rt, bot) for bot in (free, bound)] == [60, 210]


async def test_what_a_back_end_was_told_is_not_put_off(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    made = await _made(client, HOOK | {"is_default": True})
    bot = await _bot(client, rt)
    await rows.sql("UPDATE bots SET state = 'launching', due_at = app_now() + interval '1 second'")
    before = await _lead(rt, bot)
    await client.patch(f"{LAUNCHERS}/{made['id']}", json={"hand_over_seconds": 0})
    assert await _lead(rt, bot) == before


async def test_a_launcher_that_bots_need_stays(client: httpx.AsyncClient, rt: Runtime, rows: Rows) -> None:
    made = await _made(client, {"kind": "attendee", "name": "a", "api_key": KEY})
    url = f"{LAUNCHERS}/{made['id']}"
    used: tuple[int, str, list[str]] = (409, "launcher_in_use", [])
    bot = await _bot(client, rt, launcher_id=made["id"])
    assert _refusal(await client.delete(url)) == used
    assert _refusal(await client.patch(url, json={"kind": "recall", "api_key": KEY})) == used
    elsewhere = {"base_url": "https://bots.example.com", "api_key": KEY}
    assert _refusal(await client.patch(url, json=elsewhere)) == used
    assert (await client.patch(url, json={"api_key": KEY})).status_code == 200
    await client.delete(f"{BOTS}/{bot}")
    await rows.sql("UPDATE bots SET handed_to = launcher_id, handed_revision = 1, due_at = app_now()")
    assert _refusal(await client.delete(url)) == used, "the bot has still to be withdrawn there"
    await rows.sql("UPDATE bots SET due_at = NULL")
    assert (await client.delete(url)).status_code == 204
    for answer in (await client.get(url), await client.patch(url, json={}), await client.delete(url)):
        assert answer.status_code == 404
    assert (await client.get(f"{BOTS}/{bot}")).json()["launcher_id"] == made["id"]
    again = {"bot_name": "Notes", "meeting_url": MEET, "join_at": (rt.clock.now() + timedelta(hours=1)).isoformat()}
    answer = await client.post(BOTS, json=again | {"launcher_id": made["id"]})
    assert _refusal(answer) == (422, "not_found", ["/launcher_id"])


async def test_the_default_is_needed_by_bots_that_name_none(client: httpx.AsyncClient, rt: Runtime) -> None:
    made = await _made(client, HOOK | {"is_default": True})
    url = f"{LAUNCHERS}/{made['id']}"
    await _bot(client, rt)
    assert _refusal(await client.delete(url)) == (409, "launcher_in_use", [])
    await _made(client, HOOK | {"is_default": True})
    assert (await client.delete(url)).status_code == 204


async def test_no_bot_is_made_for_a_launcher_that_goes(client: httpx.AsyncClient, rt: Runtime) -> None:
    for _ in range(10):
        launcher = (await _made(client, HOOK))["id"]
        made, deleted = await asyncio.gather(
            client.post(
                BOTS,
                json={
                    "bot_name": "Notes",
                    "meeting_url": MEET,
                    "join_at": (rt.clock.now() + timedelta(hours=1)).isoformat(),
                    "launcher_id": launcher,
                },
            ),
            client.delete(f"{LAUNCHERS}/{launcher}"),
        )
        assert (made.status_code, deleted.status_code) in {(201, 409), (422, 204)}


@pytest.mark.parametrize("kind", KNOWN)
async def test_a_check_tells_whether_the_key_is_taken(client: httpx.AsyncClient, back_ends: str, kind: str) -> None:
    good = await _made(client, {"kind": kind, "name": "good", "api_key": f"{kind}-key", "base_url": back_ends})
    bad = await _made(client, {"kind": kind, "name": "bad", "api_key": KEY, "base_url": back_ends})
    away = await _made(client, {"kind": kind, "name": "away", "api_key": KEY, "base_url": "http://127.0.0.1:9"})
    for launcher, is_ok in ((good, True), (bad, False), (away, False)):
        answer = await client.post(f"{LAUNCHERS}/{launcher['id']}/check")
        assert (answer.status_code, answer.json()["ok"]) == (200, is_ok), answer.text
        assert answer.json()["detail"]
        assert KEY not in answer.text


async def test_a_key_from_another_launchers_row_is_not_used(
    client: httpx.AsyncClient, rows: Rows, back_ends: str
) -> None:
    body = {"kind": "attendee", "name": "a", "base_url": back_ends}
    mine = await _made(client, body | {"api_key": "attendee-key"})
    await _made(client, body | {"api_key": "attendee-key"})
    await rows.sql("UPDATE launchers l SET api_key_sealed = o.api_key_sealed FROM launchers o WHERE o.id <> l.id")
    url = f"{LAUNCHERS}/{mine['id']}"
    assert (await client.post(f"{url}/check")).json()["ok"] is False
    await client.patch(url, json={"api_key": "attendee-key"})
    assert (await client.post(f"{url}/check")).json()["ok"] is True


async def test_a_check_of_a_webhook_looks_for_a_listener(client: httpx.AsyncClient, back_ends: str) -> None:
    url = f"{LAUNCHERS}/{(await _made(client, HOOK))['id']}/check"
    assert (await client.post(url)).json()["ok"] is False
    endpoint = {"url": f"{back_ends}/hook", "triggers": ["bot.launch"]}
    assert (await client.post("/api/v1/webhooks", json=endpoint)).status_code == 201
    assert (await client.post(url)).json()["ok"] is True


async def test_a_check_keeps_no_answer(client: httpx.AsyncClient) -> None:
    url = f"{LAUNCHERS}/{(await _made(client, HOOK))['id']}/check"
    answer = await client.post(url, headers={"Idempotency-Key": "k"})
    assert _refusal(answer) == (422, "idempotency_key_not_accepted", ["Idempotency-Key"])
    assert _refusal(await client.post(url, json={"a": 1})) == (422, "unknown_field", ["/a"])


async def test_the_same_request_makes_one_launcher(client: httpx.AsyncClient, rt: Runtime) -> None:
    body = {"kind": "attendee", "name": "a", "api_key": KEY}
    answers = [await client.post(LAUNCHERS, json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0].content == answers[1].content
    async with rt.db.reading() as tx:
        assert await tx.scalar("SELECT count(*) FROM launchers") == 1
        assert KEY.encode() not in await tx.scalar("SELECT response_sealed FROM idempotency_keys")
