"""Hosted connect as people meet it: in a browser, without script, on a small screen, with the keyboard alone."""

from datetime import timedelta
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, expect

from sandbox.model import Account
from tests.browser.conftest import Addresses, Open, shoot
from tests.connect.visiting import CALENDAR_SCOPE, Application, answer_of, new_app
from tests.harness import BOTH, Actor, Connected

HOSTILE = (
    'Überlange GmbH & Co. "KG" <script>alert(1)</script> Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen'
)


async def decide(page: Page, account: Account, *, button: str = "Allow", ticks: bool = True) -> None:
    """At the provider: choose an account, tick the box if there is one, and press."""
    await page.get_by_role("radio", name=account.email).check()
    box = page.get_by_role("checkbox", name=CALENDAR_SCOPE)
    if ticks and await box.count():
        await box.check()
    await page.get_by_role("button", name=button).click()


async def set_out(page: Page, url: str) -> None:
    """Open the link and press the button."""
    await page.goto(url)
    await page.get_by_role("button", name="Continue to").click()
    await expect(page.get_by_text("Sandbox: this page plays")).to_be_visible()


def told(page: Page, app: Application) -> dict[str, str]:
    """What the application was told, by the address that the browser is at."""
    assert page.url.startswith(app.return_url), page.url
    return answer_of(page.url)


@BOTH
async def test_a_calendar_is_connected(actor: Actor, app: Application, page: Page) -> None:
    account = actor.new_account()
    url = await app.link(state="opaque & ü", login_hint=account.email)
    await page.goto(url)
    await expect(page.get_by_role("heading", level=1)).to_have_text(
        f"Acme Notes would like to read your {'Google' if actor.platform == 'google' else 'Outlook'} calendar"
    )
    await shoot(page, f"asking-{actor.platform}")
    await set_out(page, url)
    await expect(page.get_by_role("radio", name=account.email)).to_be_checked()
    await shoot(page, f"consent-{actor.platform}")
    await decide(page, account)
    answer = told(page, app)
    assert (answer["state"], set(answer)) == ("opaque & ü", {"calendar_id", "state"})
    calendar = Connected(answer["calendar_id"], account, account.calendar_id)
    actor.add_event(calendar)
    await actor.quiesce()
    await actor.assert_equal(calendar)
    assert (await actor.calendar(calendar))["email"] == account.email
    for cookie in await page.context.cookies():
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
    # Back, to the provider's page, and once more from there; then the link itself.
    await page.go_back()
    await decide(page, account)
    assert told(page, app) == answer | {"error": "already_used"}
    await page.goto(url)
    await expect(page.get_by_role("heading", level=1)).to_have_text("This link has been used")
    await shoot(page, f"used-{actor.platform}")
    await page.get_by_role("link", name="Back to").click()
    assert told(page, app) == answer | {"error": "already_used"}


async def test_who_says_no(actor: Actor, app: Application, page: Page) -> None:
    account = actor.new_account()
    url = await app.link(state="s")
    await set_out(page, url)
    await decide(page, account, button="Cancel")
    assert told(page, app) == {"error": "access_denied", "state": "s"}
    await page.goto(url)
    await expect(page.get_by_role("status")).to_contain_text("was told no")
    await page.get_by_role("link", name="No, back to").click()
    assert told(page, app) == {"error": "access_denied", "state": "s"}
    assert (await actor.call("GET", "/calendars"))["results"] == []


async def test_a_box_that_was_not_ticked(actor: Actor, app: Application, page: Page) -> None:
    account = actor.new_account()
    url = await app.link()
    await set_out(page, url)
    await decide(page, account, ticks=False)
    assert told(page, app) == {"error": "scope_missing"}
    await page.goto(url)
    await expect(page.get_by_role("status")).to_contain_text("was not ticked")
    await shoot(page, "after-an-unticked-box")
    await set_out(page, url)
    await decide(page, account)
    assert set(told(page, app)) == {"calendar_id"}


@BOTH
async def test_another_account_on_reconnect(actor: Actor, app: Application, page: Page) -> None:
    account, other = actor.new_account(), actor.new_account()
    calendar = await actor.connected(account)
    actor.sandbox.world.revoke(account)
    await actor.call("PATCH", f"/calendars/{calendar.id}", json={})
    await actor.quiesce()
    url = await app.link(calendar_id=calendar.id)
    await set_out(page, url)
    await decide(page, other)
    assert told(page, app) == {"error": "wrong_account"}
    await page.goto(url)
    await expect(page.get_by_role("status")).to_contain_text("another account was chosen")
    await expect(page.get_by_text(account.email)).to_be_visible()
    await shoot(page, f"after-another-account-{actor.platform}")
    await set_out(page, url)
    await decide(page, account)
    assert told(page, app) == {"calendar_id": calendar.id}
    await actor.quiesce()
    assert (await actor.calendar(calendar))["state"] == "connected"


async def test_one_link_twice(actor: Actor, app: Application, page: Page, profile: Open) -> None:
    """Two tabs of one browser, an impatient finger, and another browser that got hold of the answer."""
    account = actor.new_account()
    url = await app.link()
    second = await page.context.new_page()
    await set_out(second, url)
    await page.goto(url)
    await page.get_by_role("button", name="Continue to").dblclick()
    await decide(page, account)
    answer = told(page, app)
    assert set(answer) == {"calendar_id"}
    await decide(second, account)
    assert told(second, app) == answer | {"error": "already_used"}
    assert len((await actor.call("GET", "/calendars"))["results"]) == 1

    carried = []
    second.on("request", lambda request: carried.append(request.url))
    await set_out(second, await app.link())
    await decide(second, account)
    callback = next(url for url in carried if "/connect/callback?" in url)
    elsewhere = await (await profile()).new_page()
    await elsewhere.goto(callback)
    await expect(elsewhere.get_by_role("heading", level=1)).to_have_text("Please open your link once more")
    await shoot(elsewhere, "another-browser")


async def test_links_that_are_over(actor: Actor, app: Application, page: Page, addresses: Addresses) -> None:
    account = actor.new_account()
    url = await app.link(state="s")
    await set_out(page, url)
    actor.advance(timedelta(minutes=31))
    await decide(page, account)
    assert told(page, app) == {"error": "expired", "state": "s"}
    await page.goto(url)
    await expect(page.get_by_role("heading", level=1)).to_have_text("This link has expired")
    await shoot(page, "expired")
    await page.get_by_role("link", name="Back to").click()
    assert told(page, app) == {"error": "expired", "state": "s"}
    await page.goto(f"{addresses.punctual}/connect/{'x' * 43}")
    await expect(page.get_by_role("heading", level=1)).to_have_text("This link does not exist")
    await shoot(page, "unknown")


async def test_another_sites_form(app: Application, page: Page, addresses: Addresses) -> None:
    """What the browser itself says of a form's origin: `null` from our page, `cross-site` from another."""
    url = await app.link()
    await page.goto(f"{addresses.trap}?{url}")
    await page.get_by_role("button", name="Win").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("That did not come from this page")
    assert await page.context.cookies() == []
    await shoot(page, "another-site")


async def test_with_the_keyboard_alone(actor: Actor, app: Application, profile: Open) -> None:
    account = actor.new_account()
    page = await (await profile()).new_page()
    await page.goto(await app.link())
    await page.keyboard.press("Tab")
    focused = page.locator(":focus")
    await expect(focused).to_have_text("Continue to Google")
    outline = await focused.evaluate("e => parseFloat(getComputedStyle(e).outlineWidth)")
    assert outline >= 2
    await shoot(page, "focus")
    await page.keyboard.press("Tab")
    await expect(page.locator(":focus")).to_contain_text("No, back to")
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("radio", name=account.email)).to_be_checked()
    for key in ("Tab", "Tab", "Space", "Tab", "Enter"):
        await page.keyboard.press(key)
    await page.wait_for_url(f"{app.return_url}*")
    assert set(told(page, app)) == {"calendar_id"}


_CONTRASTS = """
() => {
  const channel = c => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const numbers = text => text.match(/[0-9.]+/g).map(Number);
  const ground = e => {
    for (; e; e = e.parentElement) {
      const [r, g, b, a = 1] = numbers(getComputedStyle(e).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const shown = [...document.querySelectorAll("main *")].filter(
    e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()));
  return shown.map(e => {
    const [a, b] = [light(numbers(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    return [e.textContent.slice(0, 40), (a + 0.05) / (b + 0.05)];
  });
}
"""


async def _looked_at(context: BrowserContext, url: str, name: str) -> list[Any]:
    """Open a page, keep its picture, and measure: no sideways scrolling, contrast of WCAG 2.2 AA."""
    page = await context.new_page()
    await page.goto(url)
    await shoot(page, name)
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
    assert await page.evaluate("document.scripts.length") == 0
    assert await page.evaluate("document.documentElement.lang") == "en"
    assert await page.get_by_role("main").count() == 1
    assert await page.get_by_role("heading", level=1).count() == 1
    for button in await page.get_by_role("button").all():
        box = await button.bounding_box()
        assert box is not None
        assert box["height"] >= 44, "a finger's width"
    contrasts: list[Any] = await page.evaluate(_CONTRASTS)
    assert len(contrasts) > 1
    assert [(text, ratio) for text, ratio in contrasts if ratio < 4.5] == [], name
    await page.close()
    return contrasts


@pytest.mark.parametrize("width", [320, 360, 1280])
async def test_every_size_and_both_lights(actor: Actor, app: Application, profile: Open, width: int) -> None:
    named = Application(actor, await new_app(actor, name=HOSTILE, client_id="long"), app.return_url)
    pages = {"asking": await app.link(), "long": await named.link(return_url=f"{app.return_url}?{'a' * 200}")}
    gone = await app.link(expires_in=60)
    for light in ("light", "dark"):
        context = await profile(viewport={"width": width, "height": 740}, color_scheme=light)
        for name, url in pages.items():
            await _looked_at(context, url, f"{name}-{width}-{light}")
        await _looked_at(context, gone[:-1], f"end-{width}-{light}")
