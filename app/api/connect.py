"""The pages of hosted connect. People see them, so they answer in HTML; no script, no other host, nothing cached.

A GET consumes nothing: mail scanners and chat previews open links too. The form's POST sends the browser to the
provider; forms on other sites are refused. No page says more about a link than its token proves.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from app.api import connect_pages
from app.api.deps import Rt
from app.connect import consents, links
from app.connect.consents import Answer
from app.connect.links import Link
from app.errors import RequestError
from app.runtime import Runtime

_BARE: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
_NO_STRANGERS: Final = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
_COOKIE: Final = re.compile(r"((?:__Host-)?punctual_[0-9a-f]{16})=([A-Za-z0-9_-]{43})")

PREFIX: Final = "/connect/"
"""Everything below is for people, what goes wrong there too."""

router = APIRouter(prefix="/connect", include_in_schema=False)


def failure(error: RequestError) -> Response:
    """A problem, as a page: who gets it is about to connect a calendar."""
    content = connect_pages.unknown() if error.status < 500 else connect_pages.failed()
    response = _page(content, error.status)
    response.headers.update(error.headers)
    return response


@router.api_route("/callback", methods=["GET"])
async def callback(request: Request, rt: Rt) -> Response:
    """Where the provider sends the browser back to. Needs the cookie of the browser that set out."""
    query = request.query_params
    answer = Answer(state=query.get("state"), code=query.get("code"), error=query.get("error"))
    arrival = await consents.come_back(rt, answer, _cookies(request))
    if arrival.address is not None:
        return _redirect(arrival.address)
    if arrival.reason == "withdrawn":
        return _page(connect_pages.withdrawn(), 410)
    return _page(connect_pages.stranger(), 400)


@router.api_route("/{token}", methods=["GET", "HEAD"])
async def page(token: str, rt: Rt) -> Response:
    """What will be read, and by whom."""
    link = await _link(rt, token)
    refusal = _refusal(link)
    if link is None or refusal is not None:
        return refusal or _unknown()
    return _page(connect_pages.asking(link, host=_host(rt)), 200, forms=_form_targets(rt, link))


@router.post("/{token}")
async def begin(token: str, request: Request, rt: Rt) -> Response:
    """Send the browser to the provider, with a cookie to come back with."""
    if not _is_own_form(request, rt):
        return _page(connect_pages.foreign_form(), 403)
    link = await _link(rt, token)
    refusal = _refusal(link)
    if link is None or refusal is not None:
        return refusal or _unknown()
    begun = await consents.begin(rt, link)
    response = _redirect(begun.address)
    known = [*_cookies(request), begun.cookie_name]  # browsers send the oldest first (RFC 6265, 5.4)
    for name in known[: -consents.KEPT_MOST]:
        _set_cookie(response, rt, name, "", seconds=0)
    _set_cookie(response, rt, begun.cookie_name, begun.cookie_value, seconds=consents.COOKIE_SECONDS)
    return response


def _set_cookie(response: Response, rt: Runtime, name: str, value: str, *, seconds: int) -> None:
    is_secure = consents.is_secure(rt.settings)
    response.set_cookie(name, value, max_age=seconds, path="/", secure=is_secure, httponly=True, samesite="lax")


def _cookies(request: Request) -> dict[str, str]:
    """Our cookies, by name, as they were sent to the letter.

    `Request.cookies` trims names of what counts as blank in Latin-1. A sibling host may set one that starts with such a
    byte for the whole domain, and only after the trimming does it have the prefix that browsers keep for us.
    """
    pairs = (part.strip(" ") for header in request.headers.getlist("cookie") for part in header.split(";"))
    return {found[1]: found[2] for found in map(_COOKIE.fullmatch, pairs) if found}


async def _link(rt: Runtime, token: str) -> Link | None:
    async with rt.db.reading() as tx:
        return await links.find(tx, token)


def _refusal(link: Link | None) -> Response | None:
    """The page of a link that leads nowhere; None for one that is open."""
    if link is None:
        return _unknown()
    if link.standing == "open":
        return None
    pages = {"used": connect_pages.used, "expired": connect_pages.expired}
    return _page(connect_pages.withdrawn() if link.standing == "withdrawn" else pages[link.standing](link), 410)


def _unknown() -> Response:
    return _page(connect_pages.unknown(), 404)


def _is_own_form(request: Request, rt: Runtime) -> bool:
    """Whether the form was one of our pages'.

    Browsers say so in `Sec-Fetch-Site`. `Origin` cannot: it is `null` from a page without a referrer (Fetch, "append a
    request Origin header"); so it counts where the other is absent, from a client that is no browser or an old one.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    return origin is None or origin == _origin_of(str(rt.settings.public_url))


def _form_targets(rt: Runtime, link: Link) -> tuple[str, ...]:
    """Where the form's answer may lead, which browsers check at each redirect: to the provider, which may send the
    browser on to an organisation's own sign-in at any https address, or straight back to the application."""
    urls = (rt.settings.google_authorize_url, rt.settings.microsoft_login_url)
    provider = _origin_of(urls[0] if link.platform == "google" else urls[1])
    return tuple(dict.fromkeys(("'self'", "https:", provider, link.return_url.origin)))


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _host(rt: Runtime) -> str:
    return urlsplit(str(rt.settings.public_url)).netloc


def _page(content: str, status: int, *, forms: tuple[str, ...] = ("'none'",)) -> Response:
    policy = f"{_NO_STRANGERS}; style-src '{connect_pages.STYLE_HASH}'; img-src data:; form-action {' '.join(forms)}"
    headers = _BARE | {"Content-Security-Policy": policy, "X-Frame-Options": "DENY"}
    return Response(content, status, headers, media_type="text/html; charset=utf-8")


def _redirect(address: str) -> Response:
    """303: whatever was sent here, the next request is a GET."""
    headers = _BARE | {"Content-Security-Policy": _NO_STRANGERS}
    return RedirectResponse(address, 303, headers)
