"""Hosted connect from end to end: people follow links, and calendars are there, or stay as they were."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx

from app.connect.links import KEPT_DAYS
from app.sync import cleanup
from sandbox import Sandbox
from tests.connect.visiting import BACK, Application, Visitor, browser, new_app, token_of
from tests.harness import BOTH, Actor, Connected


async def _rows(actor: Actor) -> str:
    """Everything that hosted connect has stored, as text."""
    async with actor.rt.db.reading() as tx:
        found = [
            await tx.scalar(f"SELECT string_agg(CAST(t AS text), '|' ORDER BY t.id) FROM {table} t")
            for table in ("connect_links", "consents")
        ]
    return str(found)


@BOTH
async def test_a_user_connects_a_calendar(actor: Actor, application: Application, visitor: Visitor) -> None:
    account = actor.new_account()
    wish = {"metadata": {"tenant_id": "1"}, "deduplication_key": "user-1"}
    url = await application.link(calendar=wish, login_hint=account.email, state="a&b=c ü")
    before = await _rows(actor)
    assert "Acme Notes would like to read your" in await visitor.read(url)
    assert (await visitor.http.head(url)).status_code == 200
    assert await _rows(actor) == before
    address = await visitor.set_out(url)
    callback = await visitor.decide(address, account)
    stored = await _rows(actor)
    for secret in (token_of(url), *visitor.http.cookies.values(), callback.partition("state=")[2][:43]):
        assert secret not in stored
    told = await visitor.come_back(callback)
    assert (told["state"], set(told)) == ("a&b=c ü", {"calendar_id", "state"})
    calendar = Connected(told["calendar_id"], account, account.calendar_id)
    actor.add_event(calendar)
    await actor.quiesce()
    shown = await actor.calendar(calendar)
    assert (shown["state"], shown["email"], shown["oauth_app_id"]) == (
        "connected",
        account.email,
        application.oauth_app_id,
    )
    assert (shown["metadata"], shown["deduplication_key"]) == (wish["metadata"], "user-1")
    await actor.assert_equal(calendar)
    assert "This link has been used" in await visitor.read(url, status=410)
    assert (await visitor.http.post(url)).status_code == 410
    again = await visitor.come_back(callback)
    assert again == {"calendar_id": told["calendar_id"], "error": "already_used", "state": "a&b=c ü"}
    assert actor.sandbox.requests.count(actor.operation("token")) == 2  # the code, then the first sync's own


async def test_who_says_no_may_try_again(actor: Actor, application: Application, visitor: Visitor) -> None:
    account = actor.new_account()
    url = await application.link(state="s")
    assert await visitor.connect(url, account, allow=False) == {"error": "access_denied", "state": "s"}
    assert "was told no" in await visitor.read(url)
    assert await visitor.connect(url, account, ticks=False) == {"error": "scope_missing", "state": "s"}
    assert "was not ticked" in await visitor.read(url)
    assert (await actor.call("GET", "/calendars"))["results"] == []
    assert "calendar_id" in await visitor.connect(url, account)


@BOTH
async def test_reconnecting_needs_the_same_account(actor: Actor, application: Application, visitor: Visitor) -> None:
    account, other = actor.new_account(), actor.new_account()
    first = await visitor.connect(await application.link(), account)
    calendar = Connected(first["calendar_id"], account, account.calendar_id)
    await actor.quiesce()
    actor.sandbox.world.revoke(account)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={})
    await actor.quiesce()
    assert (await actor.calendar(calendar))["state"] == "disconnected"
    url = await application.link(calendar_id=calendar.id, oauth_app_id=None)
    assert f"choose the account {account.email}" in await visitor.read(url)
    assert await visitor.connect(url, other) == {"error": "wrong_account"}
    assert "another account was chosen" in await visitor.read(url)
    assert (await actor.calendar(calendar))["state"] == "disconnected"
    assert await visitor.connect(url, account) == {"calendar_id": calendar.id}
    await actor.quiesce()
    assert (await actor.calendar(calendar))["state"] == "connected"
    assert len((await actor.call("GET", "/calendars"))["results"]) == 1
    log = await actor.call("GET", "/audit_log", params={"action": "connect_calendar"})
    assert [(one["key_id"], one["ip"], one["object_id"], one["changes"]) for one in log["results"]] == [
        (None, None, calendar.id, ["refresh_token"])
    ] * 2, "the first connection and the reconnection, and nothing of the refusal between"


async def test_a_deduplication_key_finds_its_calendar(actor: Actor, application: Application, visitor: Visitor) -> None:
    account, other = actor.new_account(), actor.new_account()
    wish = {"deduplication_key": "user-1", "metadata": {"n": "1"}}
    first = await visitor.connect(await application.link(calendar=wish), account)
    await actor.quiesce()
    later = wish | {"metadata": {"n": "2"}}
    assert await visitor.connect(await application.link(calendar=later), account) == first
    assert (await actor.call("GET", f"/calendars/{first['calendar_id']}"))["metadata"] == {"n": "2"}
    assert await visitor.connect(await application.link(calendar=wish), other) == {"error": "wrong_account"}
    body = {"oauth_app_id": application.oauth_app_id, "return_url": BACK}
    refused = body | {"calendar": wish | {"platform_uuid": "another"}}
    problem = await actor.call("POST", "/connect_links", json=refused, expect=409)
    assert (problem["code"], problem["existing_id"]) == ("deduplication_key_in_use", first["calendar_id"])


async def test_two_links_for_one_key_at_once(actor: Actor, application: Application, visitor: Visitor) -> None:
    """Also before the first sync has said whose calendar it is."""
    account, other = actor.new_account(), actor.new_account()
    wish = {"deduplication_key": "user-1"}
    ways = [await visitor.set_out(await application.link(calendar=wish)) for _ in range(3)]
    backs = [await visitor.decide(way, who) for way, who in zip(ways, (account, account, other), strict=True)]
    first, second = await asyncio.gather(visitor.come_back(backs[0]), visitor.come_back(backs[1]))
    assert first == second
    assert await visitor.come_back(backs[2]) == {"error": "wrong_account"}
    assert [one["email"] for one in (await actor.call("GET", "/calendars"))["results"]] == [account.email]


async def test_the_first_to_reconnect_a_calendar_of_nobody_known_is_its_user(
    actor: Actor, application: Application, visitor: Visitor
) -> None:
    account, other = actor.new_account(), actor.new_account()
    calendar = await actor.connect(account)  # whose it is, its first sync would find out
    links = [await application.link(calendar_id=calendar.id) for _ in range(2)]
    assert await visitor.connect(links[0], account) == {"calendar_id": calendar.id}
    assert await visitor.connect(links[1], other) == {"error": "wrong_account"}


async def test_a_link_outlives_the_key_that_made_it(
    actor: Actor, application: Application, visitor: Visitor, api: httpx.AsyncClient
) -> None:
    key = await actor.call("POST", "/api_keys", json={"name": "short", "scope": "write"}, expect=201)
    body = {"oauth_app_id": application.oauth_app_id, "return_url": BACK}
    headers = {"Authorization": f"Token {key['key']}"}
    made = (await api.post("/api/v1/connect_links", headers=headers, json=body)).json()
    await actor.call("DELETE", f"/api_keys/{key['id']}", expect=204)
    assert "calendar_id" in await visitor.connect(made["url"], actor.new_account())


async def test_a_key_that_is_taken_meanwhile_by_another_app(
    actor: Actor, application: Application, visitor: Visitor
) -> None:
    url = await application.link(calendar={"deduplication_key": "user-1"})
    other = actor.sandbox.world.add_account("b@example.com", client_id="another-client")
    await actor.connect(other, deduplication_key="user-1")
    assert await visitor.connect(url, actor.new_account()) == {"error": "provider_error"}


async def test_a_link_that_expires(actor: Actor, application: Application, visitor: Visitor) -> None:
    account = actor.new_account()
    url = await application.link(state="s", expires_in=60)
    callback = await visitor.decide(await visitor.set_out(url), account)
    actor.advance(timedelta(seconds=61))
    assert "This link has expired" in await visitor.read(url, status=410)
    assert (await visitor.http.post(url)).status_code == 410
    assert await visitor.come_back(callback) == {"error": "expired", "state": "s"}
    actor.advance(timedelta(days=KEPT_DAYS))
    assert await cleanup.purge(actor.rt) is False
    assert await _rows(actor) == "[None, None]"
    assert "does not exist" in await visitor.read(url, status=404)
    assert (await visitor.http.get(callback)).status_code == 400


async def test_two_tabs_make_one_calendar(
    actor: Actor, application: Application, visitor: Visitor, sandbox: Sandbox
) -> None:
    account = actor.new_account()
    url = await application.link()
    async with browser(actor.rt, sandbox) as elsewhere:
        denied = await visitor.decide(await visitor.set_out(url), account, allow=False)
        assert await visitor.come_back(denied) == {"error": "access_denied"}
        ways = [await tab.decide(await tab.set_out(url), account) for tab in (visitor, visitor, elsewhere)]
        first = await visitor.come_back(ways[0])
        assert await visitor.come_back(denied) == first | {"error": "already_used"}
        assert await visitor.come_back(ways[1]) == first | {"error": "already_used"}
        assert await elsewhere.come_back(ways[2]) == first | {"error": "already_used"}
    assert len((await actor.call("GET", "/calendars"))["results"]) == 1


async def test_what_is_withdrawn_leads_nowhere(actor: Actor, application: Application, visitor: Visitor) -> None:
    account = actor.new_account()
    first = await visitor.connect(await application.link(), account)
    unused = await new_app(actor, client_id="another")
    actor.sandbox.world.clients["another"] = actor.sandbox.world.clients[account.client_id]
    links = [
        (await application.link(calendar_id=first["calendar_id"]), "DELETE", f"/calendars/{first['calendar_id']}", 204),
        (await application.link(oauth_app_id=unused), "DELETE", f"/oauth_apps/{unused}", 204),
        (await application.link(), "PATCH", "/project", 200),
    ]
    for url, method, path, status in links:
        callback = await visitor.decide(await visitor.set_out(url), account)
        body: dict[str, Any] = {"json": {"return_urls": []}} if method == "PATCH" else {}
        await actor.call(method, path, expect=status, **body)
        gone = 404 if path.startswith("/oauth_apps") else 410
        await visitor.read(url, status=gone)
        answer = await visitor.http.get(callback)
        assert answer.status_code in {400, 410}
        assert "location" not in answer.headers


async def test_what_is_withdrawn_while_the_code_is_redeemed(
    actor: Actor, application: Application, visitor: Visitor
) -> None:
    account = actor.new_account()
    first = await visitor.connect(await application.link(), account)
    links: list[tuple[str, str, str, dict[str, Any]]] = [
        (await application.link(calendar_id=first["calendar_id"]), "DELETE", f"/calendars/{first['calendar_id']}", {}),
        (await application.link(), "PATCH", "/project", {"json": {"return_urls": []}}),
    ]
    for url, method, path, body in links:
        callback = await visitor.decide(await visitor.set_out(url), account)
        gate = actor.sandbox.faults.gate("token")
        back = asyncio.create_task(visitor.http.get(callback))
        await gate.reached()
        await actor.call(method, path, expect=204 if method == "DELETE" else 200, **body)
        actor.sandbox.faults.gates.pop("token").release()
        answer = await back
        assert (answer.status_code, "location" in answer.headers) == (410, False), path
    assert (await actor.call("GET", "/calendars"))["results"] == []
