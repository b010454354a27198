"""The providers' consent pages: codes that belong to one address and one verifier, and what comes with them."""

import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from sandbox import Sandbox
from sandbox.model import Account

BACK = "https://app.example/back"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
CALENDARS = "https://www.googleapis.com/auth/calendar.readonly"
PLACES = {
    "google": ("/o/oauth2/v2/auth", "/token", f"openid email {CALENDARS}"),
    "microsoft": (
        "/common/oauth2/v2.0/authorize",
        "/common/oauth2/v2.0/token",
        "openid offline_access User.Read Calendars.Read",
    ),
}


class Browser:
    """Goes to one provider for one application."""

    def __init__(self, box: Sandbox, http: httpx.AsyncClient, account: Account) -> None:
        self.box, self.http, self.account = box, http, account
        self.page, self.token, scope = PLACES[account.provider]
        self.asked = {
            "client_id": account.client_id,
            "redirect_uri": BACK,
            "response_type": "code",
            "scope": scope,
            "state": "s",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "access_type": "offline",
            "prompt": "consent",
        }

    def address(self, **asked: str) -> str:
        """The page's."""
        return f"{self.page}?{urlencode({k: v for k, v in (self.asked | asked).items() if v})}"

    async def decided(self, *, allow: bool = True, ticked: str = CALENDARS, **asked: str) -> dict[str, str]:
        """What the browser brings back."""
        form = {"account": self.account.email, "decision": "allow" if allow else "deny", "scope": ticked}
        answer = await self.http.post(self.address(**asked), data=form)
        assert answer.status_code == 302, answer.text
        location = urlsplit(answer.headers["location"])
        assert location._replace(query="").geturl() == BACK
        return {name: values[0] for name, values in parse_qs(location.query).items()}

    async def redeemed(self, code: str, /, **form: str) -> tuple[int, Any]:
        """What the token endpoint says."""
        values = {
            "client_id": self.account.client_id,
            "client_secret": self.account.client_secret,
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": VERIFIER,
            "redirect_uri": BACK,
        }
        answer = await self.http.post(self.token, data=values | form)
        return answer.status_code, answer.json()


@pytest.fixture(params=["google", "microsoft"])
async def browser(request: pytest.FixtureRequest) -> AsyncIterator[Browser]:
    """At either provider."""
    box = Sandbox.create()
    account = box.world.add_account("ada@example.com", provider=request.param)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(box.app), base_url="http://provider") as http:
        yield Browser(box, http, account)
    await box.close()


async def test_a_code_is_good_for_its_address_and_verifier_once(browser: Browser) -> None:
    answer = await browser.decided()
    assert answer["state"] == "s"
    code = answer["code"]
    for wrong in ({"redirect_uri": BACK + "/"}, {"code_verifier": "w" * 64}, {"code_verifier": ""}, {"code": "x"}):
        status, body = await browser.redeemed(code, **wrong)
        assert (status, "access_token" in body) == (400, False), wrong
    status, body = await browser.redeemed(code)
    assert (status, "refresh_token" in body) == (200, True)
    assert "alendar" in body["scope"]
    assert (await browser.redeemed(code))[0] == 400, "once"
    late = (await browser.decided())["code"]
    browser.box.world.clock.advance(timedelta(minutes=11))
    assert (await browser.redeemed(late))[0] == 400, "ten minutes"


async def test_who_says_no_sends_back_an_error(browser: Browser) -> None:
    assert await browser.decided(allow=False) == {"error": "access_denied", "state": "s"}


async def test_a_request_that_makes_no_sense_sends_nobody_anywhere(browser: Browser) -> None:
    page = (await browser.http.get(browser.address(login_hint="ADA@example.com"))).text
    assert 'value="ada@example.com" checked' in page
    path = f"/_sandbox/clients/{browser.account.client_id}/redirect_uris"
    await browser.http.put(path, json={"redirect_uris": [BACK]})
    assert (await browser.http.get(browser.address())).status_code == 200
    for wrong in (
        {"client_id": "<b>"},
        {"redirect_uri": BACK + "/"},
        {"redirect_uri": ""},
        {"response_type": "token"},
        {"scope": ""},
        {"code_challenge_method": "plain"},
        {"code_challenge": "short"},
    ):
        for method in ("GET", "POST"):
            answer = await browser.http.request(method, browser.address(**wrong))
            assert (answer.status_code, "location" in answer.headers, "<b>" in answer.text) == (400, False, False), (
                wrong
            )


@pytest.mark.parametrize("browser", ["google"], indirect=True)
async def test_googles_boxes_and_refresh_tokens(browser: Browser) -> None:
    unticked = await browser.decided(ticked="")
    assert unticked["scope"] == "openid email"
    assert (await browser.redeemed(unticked["code"]))[1]["scope"] == "openid email"
    for access, prompt, has_one in (("online", "consent", False), ("offline", "", False), ("offline", "consent", True)):
        body = (await browser.redeemed((await browser.decided(access_type=access, prompt=prompt))["code"]))[1]
        assert ("refresh_token" in body) is has_one, (access, prompt)


@pytest.mark.parametrize("browser", ["microsoft"], indirect=True)
async def test_microsofts_tenants_and_offline_access(browser: Browser) -> None:
    for scope, has_one in (("openid Calendars.Read", False), ("openid offline_access Calendars.Read", True)):
        body = (await browser.redeemed((await browser.decided(scope=scope, ticked="", prompt=""))["code"]))[1]
        assert ("refresh_token" in body, "Calendars.Read" in body["scope"]) == (has_one, True)
    browser.page = "/consumers/oauth2/v2.0/authorize"
    answer = await browser.http.post(browser.address(), data={"account": "ada@example.com", "decision": "allow"})
    assert (answer.status_code, "AADSTS50020" in answer.text) == (400, True)
