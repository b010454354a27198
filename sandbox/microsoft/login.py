"""The v2.0 token endpoint: refreshing (a new refresh token each time, the old one stays good) and redeeming a code.

Errors have the recorded shape; clients are told to branch on `error` alone, the AADSTS number is for people. Sources:
"OAuth 2.0 authorization code flow", "Refresh tokens", "Microsoft Entra authentication and authorization error codes".
"""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID, uuid4

import orjson
from starlette.requests import Request
from starlette.responses import Response

from sandbox import ids
from sandbox.consent import is_proven, is_stale
from sandbox.faults import Faults
from sandbox.microsoft.errors import mark_of
from sandbox.microsoft.reasons import REASONS, UNKNOWN
from sandbox.model import Account, Grant, OAuthClient
from sandbox.world import World

IDLE_LIFE = timedelta(days=90)
_OPEN_TENANTS = ("common", "organizations", "consumers")


class Denied(Exception):
    """The token endpoint refuses, for the reason with this number."""

    def __init__(self, code: int, **words: str) -> None:
        super().__init__(code)
        self.code = code
        self.words = words


class Login:
    """Answers POST /{tenant}/oauth2/v2.0/token."""

    def __init__(self, world: World, faults: Faults) -> None:
        self._world = world
        self._faults = faults

    async def token(self, request: Request) -> Response:
        """A new pair of tokens, or an AADSTS error."""
        values = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        tenant = request.path_params["tenant"]
        words = {"client": values.get("client_id", ""), "tenant": tenant}
        fault = self._faults.strike("oauth_error", "graph.token")
        if fault is not None:
            return self._planted(request, fault.params, words)
        try:
            client = self._client(values, tenant)
            grant = self._grant(values, client, tenant)
            scopes = self._narrowed(values.get("scope"), grant)
            return self._answer(grant, scopes, self._rotated(grant, client))
        except Denied as denied:
            return self._refusal(request, denied.code, words | denied.words)

    def turns_away(self, account: Account, request: Request) -> str | None:
        """What the consent page of a tenant says to an account that has no place there."""
        words = {"client": "", "tenant": request.path_params["tenant"]}
        try:
            self._check_tenant(account, words["tenant"])
        except Denied as denied:
            known = {"user": "", "issuer": "", "detail": "", "issued": ""} | words | denied.words
            return f"AADSTS{denied.code}: {REASONS[denied.code].text.format(**known)}"
        return None

    # --- who asks ---

    def _client(self, values: dict[str, str], tenant: str) -> OAuthClient:
        domains = {ids.tenant_of(one.email): one for one in self._world.accounts.values() if one.tenant is not None}
        names = {email.rpartition("@")[2] for email in self._world.accounts}
        is_known = tenant in _OPEN_TENANTS or tenant in names or tenant == ids.CONSUMERS or tenant in domains
        if not is_known:
            raise Denied(90002)
        for name in ("client_id", "grant_type"):
            if not values.get(name):
                raise Denied(900144, detail=name)
        client = self._world.clients.get(values["client_id"])
        if client is None or client.deleted:
            raise Denied(700016)
        if not values.get("client_secret"):
            raise Denied(7000218)
        if values["client_secret"] != client.secret:
            raise Denied(7000215)
        if client.secret_expired:
            raise Denied(7000222)
        return client

    def _grant(self, values: dict[str, str], client: OAuthClient, tenant: str) -> Grant:
        kind = values["grant_type"]
        if kind == "authorization_code":
            return self._redeemed(values, client, tenant)
        if kind != "refresh_token":
            raise Denied(70003, detail=kind)
        if not values.get("refresh_token"):
            raise Denied(900144, detail="refresh_token")
        used = self._world.grants.get(values["refresh_token"])
        account = self._world.accounts[used.email] if used is not None else None
        if used is None or account is None or account.provider != "microsoft" or used.client_id != client.client_id:
            raise Denied(70000)
        if used.dead is not None:
            raise Denied(used.code or 70000)
        now = self._world.clock.now()
        if now - (used.used_at or used.issued_at) > IDLE_LIFE:
            raise Denied(700082, issued=_ticks(used.issued_at))
        self._check_tenant(account, tenant)
        return used

    def _rotated(self, used: Grant, client: OAuthClient) -> str | None:
        """The refresh token of the answer; None without offline access."""
        is_silent = self._faults.strike("no_refresh_token", "graph.token") is not None
        if "offline_access" not in used.scopes or is_silent:
            return None
        account = self._world.accounts[used.email]
        token = self._world.issue_refresh_token(account, client_id=client.client_id, scopes=used.scopes)
        if self._faults.strike("strict_rotation", "graph.token"):
            used.dead, used.code = ("invalid_grant", "already used", "bad_token"), 70000
        return token

    def _redeemed(self, values: dict[str, str], client: OAuthClient, tenant: str) -> Grant:
        for name in ("code", "redirect_uri"):
            if not values.get(name):
                raise Denied(900144, detail=name)
        code = self._world.codes.get(values["code"])
        if code is None or code.client_id != client.client_id:
            raise Denied(9002313)
        if code.redeemed:
            raise Denied(54005)
        if is_stale(code, self._world.clock.now()):
            raise Denied(70008)
        if code.redirect_uri != values["redirect_uri"]:
            raise Denied(70000)
        if not is_proven(code, values.get("code_verifier")):
            raise Denied(501481)
        account = self._world.accounts[code.email]
        self._check_tenant(account, tenant)
        code.redeemed = True
        return Grant("", account.email, client.client_id, code.scopes, self._world.clock.now())

    def _check_tenant(self, account: Account, tenant: str) -> None:
        """`common` is for all, `organizations` and `consumers` for one kind, an organisation for its own people."""
        own = {account.tenant, "consumers" if account.personal else "organizations", "common"}
        if not account.personal:
            own.add(account.email.rpartition("@")[2])
        if tenant not in own:
            issuer = "live.com" if account.personal else f"https://sts.windows.net/{account.tenant}/"
            raise Denied(50020, user=account.email, issuer=issuer)

    @staticmethod
    def _narrowed(asked: str | None, grant: Grant) -> tuple[str, ...]:
        """The scopes that are asked for, which must have been granted; all of them where none is named."""
        granted = {scope.rpartition("/")[2].lower(): scope for scope in grant.scopes}
        names = [name.rpartition("/")[2] for name in (asked or "").split()]
        if not names or ".default" in names:
            return grant.scopes
        missing = [name for name in names if name.lower() not in granted and name.lower() not in {"profile", "email"}]
        if missing:
            raise Denied(65001)
        return tuple(granted[name.lower()] for name in names if name.lower() in granted)

    # --- answers ---

    def _answer(self, grant: Grant, scopes: tuple[str, ...], refresh_token: str | None) -> Response:
        body: dict[str, Any] = {
            "token_type": "Bearer",
            "scope": " ".join(scope for scope in scopes if scope not in {"offline_access", "openid"}),
            "expires_in": 3599,
            "ext_expires_in": 3599,
            "access_token": self._world.issue_access_token(grant, scopes=scopes).token,
        }
        if refresh_token is not None:
            body["refresh_token"] = refresh_token
        headers = {"Cache-Control": "no-store, no-cache"}
        return Response(orjson.dumps(body), headers=headers, media_type="application/json; charset=utf-8")

    def _planted(self, request: Request, params: dict[str, Any], words: dict[str, str]) -> Response:
        """A fault's error: by AADSTS number (`code`), or spelled out (`status`, `error`, `description`, `suberror`)."""
        if "code" in params and "error" not in params:
            return self._refusal(request, int(params["code"]), words, params)
        return self._document(
            request,
            int(params.get("status", 400)),
            str(params.get("error", "invalid_grant")),
            int(params.get("code", 70000)),
            str(params.get("description", "")),
            params.get("suberror", params.get("subtype")),
            params.get("retry_after"),
        )

    def _refusal(
        self, request: Request, code: int, words: dict[str, str], params: dict[str, Any] | None = None
    ) -> Response:
        status, error, suberror, text = REASONS.get(code, UNKNOWN)
        known = {"user": "", "issuer": "", "detail": "", "issued": _ticks(self._world.clock.now())} | words
        given = params or {}
        status = int(given.get("status", status))
        return self._document(request, status, error, code, text.format(**known), suberror, given.get("retry_after"))

    def _document(
        self, request: Request, status: int, error: str, code: int, text: str, suberror: str | None, retry_after: object
    ) -> Response:
        stamp = f"{self._world.clock.now():%Y-%m-%d %H:%M:%SZ}"
        trace, correlation = str(uuid4()), _guid(mark_of(request).client_request_id)
        body: dict[str, Any] = {
            "error": error,
            "error_description": (
                f"AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}"
            ),
            "error_codes": [code],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={code}",
        }
        if suberror is not None:
            body["suberror"] = suberror
        headers = {"x-ms-request-id": trace, "Cache-Control": "no-store, no-cache"}
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        return Response(orjson.dumps(body), status, headers, media_type="application/json; charset=utf-8")


def _ticks(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}0Z"


def _guid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        return str(uuid4())
