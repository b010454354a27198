"""What a person sees of a provider: a plain page to choose an account on, to tick scopes, and to allow or deny.

Both providers' authorize endpoints are this page; each says which scopes may be left out and whom it turns away. A code
belongs to one redirect address and one code challenge, is good for ten minutes, and once. Sources: RFC 6749, 4.1; RFC
7636; Google "Using OAuth 2.0 for Web Server Applications"; Microsoft "OAuth 2.0 authorization code flow".
"""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from typing import Final
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from sandbox.faults import Faults
from sandbox.model import Account, Code, Provider
from sandbox.world import World

CODE_LIFE = timedelta(minutes=10)
_SIGN_IN: Final = frozenset({"openid", "email", "profile", "offline_access"})
"""Scopes that nobody is asked about one by one."""

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 32rem; margin: 2rem auto; padding: 0 1rem }}
fieldset {{ border: 1px solid #767676; margin: 0 0 1rem }}
h1 {{ font-size: 1.5rem; line-height: 1.25 }}
label {{ display: flex; gap: .5rem; padding: .35rem 0; overflow-wrap: anywhere }}
button {{ font: inherit; padding: .5rem 1.25rem; margin-right: .5rem }}
</style>
</head>
<body>
<main>
<p><small>Sandbox: this page plays {provider}.</small></p>
{body}
</main>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """An authorization request, as it stands in the address."""

    client_id: str
    redirect_uri: str
    response_type: str
    scopes: tuple[str, ...]
    state: str | None
    challenge: str | None
    method: str
    login_hint: str
    is_offline: bool
    is_consent_forced: bool

    @classmethod
    def of(cls, request: Request) -> "Asked":
        """What the browser brought."""
        query = request.query_params
        return cls(
            client_id=query.get("client_id", ""),
            redirect_uri=query.get("redirect_uri", ""),
            response_type=query.get("response_type", ""),
            scopes=tuple(query.get("scope", "").split()),
            state=query.get("state"),
            challenge=query.get("code_challenge"),
            method=query.get("code_challenge_method", "plain"),
            login_hint=query.get("login_hint", "").lower(),
            is_offline=query.get("access_type") == "offline",
            is_consent_forced="consent" in query.get("prompt", "").split(),
        )


class Consent:
    """One provider's authorize endpoint. `turns_away` says what is wrong with an account here, if anything is."""

    def __init__(
        self,
        world: World,
        faults: Faults,
        provider: Provider,
        *,
        operation: str,
        turns_away: Callable[[Account, Request], str | None] = lambda *_: None,
    ) -> None:
        self._world = world
        self._faults = faults
        self._provider = provider
        self._operation = operation
        self._turns_away = turns_away
        self.granted: set[tuple[str, str]] = set()
        """Accounts and applications between which consent stands: Google gives a refresh token the first time only."""

    async def endpoint(self, request: Request) -> Response:
        """GET shows the page, POST takes the decision; both at the same address."""
        asked = Asked.of(request)
        problem = self._problem(asked)
        if problem is not None:
            return self._shown("Access blocked", f"<h1>Access blocked</h1><p>Error 400: {escape(problem)}</p>", 400)
        fault = self._faults.strike("consent_error", self._operation)
        if fault is not None:
            return _back(asked, {"error": str(fault.params.get("error", "server_error"))})
        if request.method == "POST":
            return await self._decided(request, asked)
        return self._asking(asked)

    def _problem(self, asked: Asked) -> str | None:
        """What is wrong with the request itself; then nobody is sent anywhere."""
        client = self._world.clients.get(asked.client_id)
        if client is None or client.deleted:
            return "invalid_client: the OAuth client was not found"
        if not asked.redirect_uri or (client.redirect_uris and asked.redirect_uri not in client.redirect_uris):
            return "redirect_uri_mismatch"
        if asked.response_type != "code" or not asked.scopes:
            return "invalid_request: response_type must be code, and scope be given"
        if asked.challenge is not None and (asked.method != "S256" or len(asked.challenge) != 43):
            return "invalid_request: the code challenge must be S256"
        return None

    def _asking(self, asked: Asked) -> Response:
        accounts = [one for one in self._world.accounts.values() if one.provider == self._provider and not one.deleted]
        hinted = [one for one in accounts if one.email.lower() == asked.login_hint]
        chosen = next(iter([*hinted, *accounts]), None)
        choices = "".join(
            f'<label><input type="radio" name="account" value="{escape(one.email)}"{_checked(one is chosen)}> '
            f"{escape(one.email)}</label>"
            for one in accounts
        )
        boxes = "".join(self._line(scope) for scope in asked.scopes if scope not in _SIGN_IN)
        body = (
            f"<h1>{escape(asked.client_id)} wants access to your account</h1>"
            f'<form method="post"><fieldset><legend>Account</legend>{choices}</fieldset>'
            f"<fieldset><legend>Access</legend>{boxes}</fieldset>"
            '<button name="decision" value="allow">Allow</button>'
            '<button name="decision" value="deny">Cancel</button></form>'
        )
        return self._shown("Sign in", body)

    def _line(self, scope: str) -> str:
        """Google's boxes come unticked ("Granular OAuth consent"); Microsoft grants all or nothing."""
        if self._provider == "google":
            return f'<label><input type="checkbox" name="scope" value="{escape(scope)}"> {escape(scope)}</label>'
        return f"<p>{escape(scope)}</p>"

    async def _decided(self, request: Request, asked: Asked) -> Response:
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        if form.get("decision") != ["allow"]:
            return _back(asked, {"error": "access_denied"})
        account = self._world.accounts.get(form.get("account", [""])[0])
        if account is None or account.provider != self._provider:
            return self._shown("Sign in", "<h1>No such account</h1>", 400)
        refusal = self._turns_away(account, request)
        if refusal is not None:
            return self._shown("Sign in", f"<h1>You cannot sign in here</h1><p>{escape(refusal)}</p>", 400)
        ticked = set(form.get("scope", ()))
        is_open = self._provider == "microsoft"
        scopes = tuple(scope for scope in asked.scopes if is_open or scope in _SIGN_IN or scope in ticked)
        is_first = (account.email, asked.client_id) not in self.granted
        self.granted.add((account.email, asked.client_id))
        code = self._world.issue_code(
            account,
            asked.redirect_uri,
            client_id=asked.client_id,
            scopes=scopes,
            challenge=asked.challenge,
            is_offline=is_open or (asked.is_offline and (is_first or asked.is_consent_forced)),
        )
        extra = {"scope": " ".join(scopes)} if self._provider == "google" else {"session_state": "sandbox"}
        return _back(asked, {"code": code, **extra})

    def _shown(self, title: str, body: str, status: int = 200) -> Response:
        page = _PAGE.format(title=title, provider=self._provider.capitalize(), body=body)
        return Response(page, status, media_type="text/html; charset=utf-8")


def is_stale(code: Code, now: datetime) -> bool:
    """Whether nobody may redeem it any more."""
    return now - code.issued_at > CODE_LIFE


def is_proven(code: Code, verifier: str | None) -> bool:
    """Whether this is the verifier of the code's challenge (RFC 7636, 4.6); without a challenge there must be none."""
    if code.challenge is None:
        return not verifier
    digest = hashlib.sha256((verifier or "").encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == code.challenge


def _back(asked: Asked, answer: dict[str, str]) -> Response:
    """To the application."""
    state = {} if asked.state is None else {"state": asked.state}
    return RedirectResponse(f"{asked.redirect_uri}?{urlencode(state | answer)}", 302)


def _checked(is_checked: bool) -> str:
    return " checked" if is_checked else ""
