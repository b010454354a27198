"""What must not work: other browsers, sites and addresses, hostile texts, answers that come twice or get lost."""

import asyncio
import re
from contextvars import Context
from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.connect.consents import KEPT_MOST
from sandbox import Sandbox
from tests.api.refusals import refused
from tests.connect.visiting import BACK, Application, Visitor, answer_of, browser, new_app
from tests.harness import BOTH, Actor, Project
from tests.integration.test_races import until_it_waits

HOSTILE = "\u202ex\r\nSet-Cookie: a=b\r\n\r\n\"><script>alert(1)</script>&error=none#'"


async def _calendars(actor: Actor) -> list[Any]:
    return list((await actor.call("GET", "/calendars"))["results"])


async def test_only_the_browser_that_set_out_may_come_back(
    actor: Actor, application: Application, visitor: Visitor, sandbox: Sandbox
) -> None:
    account = actor.new_account()
    url = await application.link()
    callback = await visitor.decide(await visitor.set_out(url), account)
    [(name, value)] = visitor.http.cookies.items()
    state = answer_of(callback)["state"]
    async with browser(actor.rt, sandbox) as thief:
        other = await thief.set_out(await application.link())  # with a cookie of their own, for a link of their own
        theirs = answer_of(other)["state"]
        cookies: list[tuple[str, dict[str, str]]] = [
            (callback, {}),
            (callback, {name: value[:-1] + ("A" if value[-1] != "A" else "B")}),
            (callback, {name: ""}),
            (callback, {name + "0": value}),
            (callback.replace(state, theirs), {name: value}),
            (callback.replace(state, state[:-1]), {name: value}),
            (callback.replace(f"state={state}", "x=1"), {name: value}),
            (callback.replace(state, "%00%ff"), {name: value}),
            (callback.replace(state, "s" * 10_000), {name: value}),
        ]
        pages = set()
        for address, given in cookies:
            answer = await thief.http.get(address, headers={"Cookie": "; ".join(f"{n}={v}" for n, v in given.items())})
            assert (answer.status_code, "location" in answer.headers) == (400, False), address
            pages.add(answer.text)
        assert len(pages) == 1
    assert actor.sandbox.requests.count("token") == 0
    assert "calendar_id" in await visitor.come_back(callback)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
async def test_other_sites_cannot_press_the_button(
    actor: Actor, application: Application, visitor: Visitor, headers: dict[str, str]
) -> None:
    answer = await visitor.http.post(await application.link(), headers=headers)
    assert (answer.status_code, answer.headers.get("set-cookie")) == (403, None)
    assert "Another site" in answer.text


async def test_forms_that_are_our_own(application: Application, visitor: Visitor) -> None:
    url = await application.link()
    own: list[dict[str, str]] = [{"Sec-Fetch-Site": "same-origin", "Origin": "null"}, {"Origin": "http://127.0.0.1:1"}]
    for headers in (*own, {"Sec-Fetch-Site": "none"}, {}):
        assert (await visitor.http.post(url, headers=headers)).status_code == 303


async def test_what_pages_and_redirects_carry(application: Application, visitor: Visitor) -> None:
    url = await application.link()
    pages = [await visitor.http.get(url), await visitor.http.get(url + "x"), await visitor.http.post(url)]
    wrong = [
        await visitor.http.get("/connect/callback"),
        await visitor.http.put(url),
        await visitor.http.get(f"{url}/x"),
    ]
    assert [answer.status_code for answer in wrong] == [400, 405, 404]
    for answer in (*pages, *wrong):
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; base-uri 'none'; frame-ancestors 'none'")
        assert "script-src" not in policy
        assert "unsafe" not in policy
    assert pages[0].headers["x-frame-options"] == "DENY"
    [cookie] = pages[2].headers.get_list("set-cookie")
    assert re.fullmatch(r"punctual_[0-9a-f]{16}=[\w-]{43}; HttpOnly; Max-Age=86400; Path=/; SameSite=lax", cookie), (
        cookie
    )
    asked = answer_of(pages[2].headers["location"])
    assert (asked["code_challenge_method"], asked["access_type"], len(asked["state"])) == ("S256", "offline", 43)
    assert asked["redirect_uri"] == "http://127.0.0.1:1/connect/callback"
    assert "openid" in asked["scope"].split()


class TestBehindHttps:
    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"public_url": "https://calendars.example.com/"}

    async def test_the_cookie_is_of_this_host_alone(
        self, actor: Actor, application: Application, visitor: Visitor
    ) -> None:
        url = await application.link()
        assert url.startswith("https://calendars.example.com/connect/")
        answer = await visitor.http.post(url, headers={"Origin": "https://calendars.example.com"})
        [cookie] = answer.headers.get_list("set-cookie")
        assert re.fullmatch(
            r"__Host-punctual_[0-9a-f]{16}=[\w-]{43}; HttpOnly; Max-Age=86400; Path=/; SameSite=lax; Secure", cookie
        ), cookie
        account = actor.new_account()
        callback = await visitor.decide(answer.headers["location"], account)
        assert callback.startswith("https://calendars.example.com/connect/callback?")
        value = cookie.partition(";")[0].encode()
        visitor.http.cookies.clear()
        for tossed in (b"\xa0" + value, b"\x85" + value, value.removeprefix(b"__Host-"), value.replace(b"=", b" =", 1)):
            # A sibling host may set these for the whole domain; the first two read like ours once they are trimmed.
            refused = await visitor.http.get(callback, headers=[(b"Cookie", b"a=b; " + tossed)])
            assert (refused.status_code, "location" in refused.headers) == (400, False), tossed
        visitor.http.headers["Cookie"] = f"a; {value.decode()}; b=c"
        assert "calendar_id" in await visitor.come_back(callback)


class TestWithoutAnAddress:
    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"public_url": None}

    async def test_there_are_no_links(self, actor: Actor, application: Application) -> None:
        body = {"oauth_app_id": application.oauth_app_id, "return_url": BACK}
        problem = await actor.call("POST", "/connect_links", json=body, expect=409)
        assert problem["code"] == "no_public_url"


async def test_hostile_texts_stay_texts(actor: Actor, visitor: Visitor) -> None:
    await actor.call("PATCH", "/project", json={"return_urls": [BACK]})
    app = Application(actor, await new_app(actor, name=HOSTILE))
    url = await app.link(state=HOSTILE, login_hint=HOSTILE, return_url=f"{BACK}?own=1&a=%22%3E")
    page = (await visitor.http.get(url)).text
    assert "<script" not in page
    assert page.count("\u202e") == page.count("<bdi>\u202e") > 0
    assert HOSTILE.splitlines()[-1].replace('"><', "&quot;&gt;&lt;")[:12] in page
    address = await visitor.set_out(url)
    assert answer_of(address)["login_hint"] == HOSTILE
    callback = await visitor.decide(address, actor.new_account())
    answer = await visitor.http.get(callback)
    assert "set-cookie" not in answer.headers
    location = answer.headers["location"]
    assert location.startswith(f"{BACK}?own=1&a=%22%3E&calendar_id=cal_")
    assert answer_of(location)["state"] == HOSTILE
    assert not re.search(r"[\s<>\"#]", location)


ADDRESSES = [
    ("https://evil.example/connected", "not_allowed"),
    ("http://127.0.0.1:7778/connected", "not_allowed"),
    ("http://127.0.0.1:7777/connected/", "not_allowed"),
    ("http://127.0.0.1:7777/Connected", "not_allowed"),
    ("http://127.0.0.1:7777/", "not_allowed"),
    ("https://127.0.0.1:7777/connected", "not_allowed"),
    ("http://localhost:7777/connected", "not_allowed"),
    ("http://127.0.0.1:7777/connected/../evil", "not_allowed"),
    ("http://127.0.0.1:7777.evil.example/connected", "invalid_url"),
    ("http://127.0.0.1:7777@evil.example/connected", "scheme_not_allowed"),
    ("https://127.0.0.1:7777@evil.example/connected", "userinfo_not_allowed"),
    ("http://127.0.0.1:7777\\@evil.example/connected", "invalid_url"),
    ("http://evil.example/connected", "scheme_not_allowed"),
    ("javascript:alert(1)//127.0.0.1:7777/connected", "invalid_url"),
    ("//evil.example", "invalid_url"),
    ("/connected", "invalid_url"),
    ("", "invalid_url"),
    ("http://127.0.0.1:7777/connected#", "fragment_not_allowed"),
    ("http://127.0.0.1:7777/connected?error=x", "reserved"),
    ("http://127.0.0.1:7777/connected?a=1&%73tate=x", "reserved"),
    ("http://127.0.0.1:7777/connected\r\nX: y", "invalid_url"),
    ("http://127.0.0.1:7777/connected?" + "a" * 2_048, "too_long"),
]


async def test_a_link_leads_back_to_a_named_address_alone(actor: Actor, application: Application) -> None:
    for url, code in ADDRESSES:
        body = {"oauth_app_id": application.oauth_app_id, "return_url": url}
        problem = await actor.call("POST", "/connect_links", json=body, expect=422)
        assert (problem["code"], problem["errors"][0]["pointer"]) == (code, "/return_url"), url
    assert (await actor.call("PATCH", "/project", json={}))["return_urls"] == [BACK]


FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"expires_in": 59}, "out_of_range", "/expires_in"),
    ({"expires_in": 604_801}, "out_of_range", "/expires_in"),
    ({"expires_in": "60"}, "wrong_type", "/expires_in"),
    ({"state": "s" * 1_025}, "too_long", "/state"),
    ({"login_hint": " "}, "blank", "/login_hint"),
    ({"oauth_app_id": "oapp_x"}, "not_found", "/oauth_app_id"),
    ({"oauth_app_id": None}, "missing", "/oauth_app_id"),
    ({"calendar_id": "cal_x"}, "not_found", "/calendar_id"),
    ({"calendar": {"surprise": 1}}, "unknown_field", "/calendar/surprise"),
    ({"calendar": {"metadata": {"a": 1}}}, "wrong_type", "/calendar/metadata/a"),
    ({"url": "x"}, "unknown_field", "/url"),
]


async def test_what_a_links_body_may_not_say(
    actor: Actor, application: Application, visitor: Visitor, other_project: Project
) -> None:
    made = await visitor.connect(await application.link(), actor.new_account())
    own = {"oauth_app_id": await new_app(actor, client_id="b")}
    foreign = {"oauth_app_id": await new_app(actor, other_project)}
    calendar = {"calendar_id": made["calendar_id"]}
    cases = [
        *FIELDS,
        (foreign, "not_found", "/oauth_app_id"),
        (calendar | own, "not_allowed", "/oauth_app_id"),
        (calendar | {"calendar": {}}, "not_allowed", "/calendar"),
    ]
    for change, code, pointer in cases:
        body = {"oauth_app_id": application.oauth_app_id, "return_url": BACK} | change
        answer = await actor.api.post("/api/v1/connect_links", headers=actor.project.headers, json=body)
        refused(answer, code, pointer)


RETURN_URLS: list[tuple[Any, str, str]] = [
    (["http://app.example.com/"], "scheme_not_allowed", "/return_urls/0"),
    *(([f"https://{host}/"], "invalid_url", "/return_urls/0") for host in ("a;sandbox", "a,b", "*.a.example", "a%2fb")),
    (["https://app.example.com/?a=1"], "not_allowed", "/return_urls/0"),
    (["https://a.example/", "https://A.example:443"], "not_unique", "/return_urls"),
    ([f"https://a{n}.example/" for n in range(21)], "too_long", "/return_urls"),
    ("https://a.example/", "wrong_type", "/return_urls"),
]


async def test_which_addresses_a_project_may_name(actor: Actor, api: httpx.AsyncClient) -> None:
    for given, code, pointer in RETURN_URLS:
        body = {"return_urls": given}
        refused(await api.patch("/api/v1/project", headers=actor.project.headers, json=body), code, pointer)
    odd = ["HTTPS://App.Example.com:443", "http://[::1]:3000/x", "http://localhost/%7ea"]
    shown = await actor.call("PATCH", "/project", json={"return_urls": odd})
    assert shown["return_urls"] == ["https://app.example.com/", "http://[::1]:3000/x", "http://localhost/~a"]
    assert (await actor.call("PATCH", "/project", json={"return_urls": None}))["return_urls"] == []


async def test_an_answer_that_arrives_twice_at_once(actor: Actor, application: Application, visitor: Visitor) -> None:
    callback = await visitor.decide(await visitor.set_out(await application.link()), actor.new_account())
    gate = actor.sandbox.faults.gate("token")
    first = asyncio.create_task(visitor.come_back(callback))
    await gate.reached()
    second = asyncio.create_task(visitor.come_back(callback))
    done, _ = await asyncio.wait([second], timeout=0.3)
    assert not done, "it waits for the first one's end"
    actor.sandbox.faults.gates.pop("token").release()
    told = await first
    assert await second == told | {"error": "already_used"}
    assert actor.sandbox.requests.count("token") == 1
    assert len(await _calendars(actor)) == 1


async def test_two_ways_that_end_in_one_moment(actor: Actor, application: Application, visitor: Visitor) -> None:
    """Both were open when their codes were sent: the link's row decides."""
    account = actor.new_account()
    url = await application.link()
    backs = [await visitor.decide(await visitor.set_out(url), account) for _ in range(2)]
    gate = actor.sandbox.faults.gate("token")
    ends = [asyncio.create_task(visitor.come_back(back)) for back in backs]
    async with asyncio.timeout(10):
        while gate.waiting < 2:
            await asyncio.sleep(0.01)
    actor.sandbox.faults.gates.pop("token").release()
    told = sorted(await asyncio.gather(*ends), key=len)
    assert told[1] == told[0] | {"error": "already_used"}
    assert len(await _calendars(actor)) == 1


async def test_a_way_that_ends_while_its_app_is_deleted(
    actor: Actor, application: Application, visitor: Visitor
) -> None:
    """Both take the app before the link: they do not wait for each other in a circle."""
    callback = await visitor.decide(await visitor.set_out(await application.link()), actor.new_account())
    gate = actor.sandbox.faults.gate("token")
    end = asyncio.create_task(visitor.http.get(callback))
    await gate.reached()
    async with actor.rt.db.transaction() as tx:  # as DELETE does it
        await tx.row("SELECT id FROM oauth_apps FOR UPDATE")
        actor.sandbox.faults.gates.pop("token").release()
        await until_it_waits(tx)
        await tx.execute("DELETE FROM oauth_apps")
    assert (await end).status_code == 410


async def test_a_refusal_while_its_link_is_forgotten(actor: Actor, application: Application, visitor: Visitor) -> None:
    callback = await visitor.decide(await visitor.set_out(await application.link()), actor.new_account(), allow=False)
    async with actor.rt.db.transaction() as tx:  # as whatever takes a link with it
        await tx.row("SELECT id FROM connect_links FOR UPDATE")
        end = asyncio.create_task(visitor.come_back(callback), context=Context())
        await until_it_waits(tx)
        await tx.execute("DELETE FROM connect_links")
    assert await end == {"error": "access_denied"}


async def test_who_dies_over_it_leaves_the_link_as_it_was(
    actor: Actor, application: Application, visitor: Visitor
) -> None:
    account = actor.new_account()
    url = await application.link()
    callback = await visitor.decide(await visitor.set_out(url), account)
    gate = actor.sandbox.faults.gate("token")
    dying = asyncio.create_task(visitor.come_back(callback))
    await gate.reached()
    dying.cancel()
    actor.sandbox.faults.gates.pop("token").release()
    with pytest.raises(asyncio.CancelledError):
        await dying
    async with actor.rt.db.transaction() as tx:  # the lease, which nobody here waits for
        await tx.execute("UPDATE consents SET redeeming_until = clock_timestamp()")
    assert await visitor.come_back(callback) == {"error": "provider_error"}
    assert actor.sandbox.requests.count("token") == 1, "a code is sent once"
    assert "something went wrong" in await visitor.read(url)
    assert "calendar_id" in await visitor.connect(url, account)


async def test_a_page_that_takes_too_long_is_a_page(actor: Actor, application: Application, sandbox: Sandbox) -> None:
    url = await application.link()
    hasty = replace(actor.rt, settings=actor.rt.settings.model_copy(update={"request_timeout_seconds": 0.2}))
    async with actor.rt.db.transaction() as tx, browser(hasty, sandbox) as visitor:
        await tx.execute("LOCK TABLE connect_links IN ACCESS EXCLUSIVE MODE")
        assert "Something went wrong on our side" in await visitor.read(url, status=503)


LOST: list[tuple[str, dict[str, Any], str]] = [
    ("lost_answer", {}, "provider_error"),
    ("unavailable", {"status": 503}, "provider_error"),
    ("garbage", {}, "provider_error"),
    ("oauth_error", {"error": "invalid_grant", "description": "Bad Request"}, "provider_error"),
    ("oauth_error", {"error": "admin_policy_enforced"}, "access_denied"),
    ("oauth_error", {"error": "invalid_client", "status": 401}, "provider_error"),
]


async def test_a_token_endpoint_that_fails(actor: Actor, application: Application, visitor: Visitor) -> None:
    account = actor.new_account()
    url = await application.link()
    for kind, params, problem in LOST:
        actor.sandbox.faults.add(kind, "token", **params)
        callback = await visitor.decide(await visitor.set_out(url), account)
        before = actor.sandbox.requests.count("token")
        assert await visitor.come_back(callback) == {"error": problem}, kind
        assert await visitor.come_back(callback) == {"error": problem}, "told again, not tried again"
        assert actor.sandbox.requests.count("token") == before + 1
    assert await _calendars(actor) == []
    assert "calendar_id" in await visitor.connect(url, account)


async def test_a_provider_that_sends_people_back(actor: Actor, application: Application, visitor: Visitor) -> None:
    actor.new_account()
    url = await application.link()
    for error, problem in (("server_error", "provider_error"), ("consent_required", "access_denied")):
        actor.sandbox.faults.add("consent_error", "authorize", error=error)
        back = await visitor.provider.get(await visitor.set_out(url))
        assert await visitor.come_back(back.headers["location"]) == {"error": problem}
    address = await visitor.set_out(url)
    state = answer_of(address)["state"]
    assert await visitor.come_back(f"http://127.0.0.1:1/connect/callback?state={state}") == {"error": "provider_error"}


async def test_the_secret_that_works_is_found(actor: Actor, application: Application, visitor: Visitor) -> None:
    """A wrong candidate is tried first, noted as refused, and does not cost the user anything."""
    await visitor.connect(await application.link(), actor.new_account())
    path = f"/oauth_apps/{application.oauth_app_id}"
    await actor.call("PATCH", path, json={"client_secret": "wrong"})
    assert "calendar_id" in await visitor.connect(await application.link(), actor.new_account())
    assert actor.sandbox.requests.count("token") == 3


@BOTH
async def test_a_made_up_code_blames_nobody(actor: Actor, application: Application, visitor: Visitor) -> None:
    """Whoever has a link may bring any code: no secret of the app is held to be refused for it."""
    actor.new_account()
    url = await application.link()
    for code in ("made-up", "x" * 3_000):
        state = answer_of(await visitor.set_out(url))["state"]
        back = f"http://127.0.0.1:1/connect/callback?code={code}&state={state}"
        assert await visitor.come_back(back) == {"error": "provider_error"}
    async with actor.rt.db.reading() as tx:
        assert await tx.scalar("SELECT count(*) FROM oauth_app_secrets WHERE refused_at IS NOT NULL") == 0
    assert actor.sandbox.requests.count(actor.operation("token")) == 2
    for code in ("x" * 5_000, "%00", ""):
        state = answer_of(await visitor.set_out(url))["state"]
        back = f"http://127.0.0.1:1/connect/callback?code={code}&state={state}"
        assert await visitor.come_back(back) == {"error": "provider_error"}
    assert actor.sandbox.requests.count(actor.operation("token")) == 2, "what can be no code is not sent"


async def test_the_newest_ways_are_kept(actor: Actor, application: Application, visitor: Visitor) -> None:
    account = actor.new_account()
    url = await application.link()
    ways = [await visitor.set_out(url) for _ in range(21)]
    assert len(visitor.http.cookies) == KEPT_MOST, "or the header outgrows what proxies let through"
    answer = await visitor.http.get(await visitor.decide(ways[0], account))
    assert answer.status_code == 400
    assert "calendar_id" in await visitor.come_back(await visitor.decide(ways[1], account))
