"""Google's face of the world: OAuth token endpoint, userinfo, and the part of Calendar API v3 that a reader needs.

Behaviour follows the reference and the guides "sync", "push", "errors"; where those are silent, recorded traffic. Every
request passes `_serve`, which notes it, lets faults strike and gates hold, and asks for a bearer token.
"""

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.answers import reply
from sandbox.consent import Consent, is_proven, is_stale
from sandbox.door import Door, Endpoint, RequestLog
from sandbox.faults import Faults
from sandbox.google import errors, render
from sandbox.google.channels import DEFAULT_LIFE, Notification
from sandbox.google.listing import Listing
from sandbox.model import AccessToken, Calendar, Change, Code, Grant
from sandbox.push import Channel, Push
from sandbox.world import UnknownError, World

Handler = Callable[[Request, AccessToken], Awaitable[Response]]
_READING = ("https://www.googleapis.com/auth/calendar",)


class Google:
    """The routes, on one world."""

    def __init__(self, world: World, push: Push, faults: Faults, log: RequestLog) -> None:
        self._world = world
        self._push = push
        self._faults = faults
        self._listing = Listing(world, faults)
        self._door = Door(faults, log, world.clock, errors.ERRORS_ONLY, errors.planted)
        self._consent = Consent(world, faults, "google", operation="authorize")
        world.on_change(self._changed)

    def routes(self) -> list[Route]:
        """Everything that Google answers here."""
        calendar = "/calendar/v3/calendars/{calendar:str}"
        return [
            Route("/o/oauth2/v2/auth", self._door.open(self._consent.endpoint, "authorize"), methods=["GET", "POST"]),
            Route("/token", self._door.open(self._token, "token"), methods=["POST"]),
            Route("/revoke", self._door.open(self._revoke, "revoke"), methods=["POST"]),
            Route("/oauth2/v3/userinfo", self._serve(self._userinfo, "userinfo")),
            Route("/calendar/v3/users/me/calendarList", self._serve(self._calendar_list, "calendarList.list")),
            Route("/calendar/v3/users/me/calendarList/{calendar:str}", self._serve(self._entry, "calendarList.get")),
            Route(calendar, self._serve(self._calendar, "calendars.get")),
            Route(f"{calendar}/events", self._serve(self._events, "events.list")),
            Route(f"{calendar}/events/watch", self._serve(self._watch, "events.watch"), methods=["POST"]),
            Route(f"{calendar}/events/{{event:str}}", self._serve(self._event, "events.get")),
            Route(f"{calendar}/events/{{event:str}}/instances", self._serve(self._instances, "events.instances")),
            Route("/calendar/v3/channels/stop", self._serve(self._stop, "channels.stop"), methods=["POST"]),
        ]

    # --- around every request ---

    def _serve(self, handler: Handler, operation: str) -> Endpoint:
        async def serve(request: Request) -> Response:
            token = self._bearer(request)
            if token is None:
                return errors.failure(401, "authError", "Invalid Credentials", location="Authorization")
            if operation != "userinfo" and not any(s.startswith(_READING) for s in token.scopes):
                return errors.failure(403, "insufficientPermissions", "Insufficient Permission")
            return await handler(request, token)

        return self._door.open(serve, operation)

    def _bearer(self, request: Request) -> AccessToken | None:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        token = self._world.tokens.get(text)
        if scheme.lower() != "bearer" or token is None or token.expires_at <= self._world.clock.now():
            return None
        return token if self._is_here(token.email) else None

    def _is_here(self, email: str) -> bool:
        """Whether this is a Google account."""
        return self._world.accounts[email].provider == "google"

    def _visible(self, request: Request, token: AccessToken) -> Calendar | None:
        calendar_id = request.path_params["calendar"]
        calendar = self._world.calendars.get(token.email if calendar_id == "primary" else calendar_id)
        if calendar is None or calendar.deleted or token.email not in calendar.acl or calendar.provider != "google":
            return None
        return calendar

    # --- OAuth ---

    async def _token(self, request: Request) -> Response:
        values = await _form(request)
        fault = self._faults.strike("oauth_error", "token")
        if fault is not None:
            params = fault.params
            return errors.oauth(
                int(params.get("status", 400)), params["error"], params.get("description"), params.get("subtype")
            )
        kind = values.get("grant_type")
        if kind not in {"refresh_token", "authorization_code"}:
            return errors.oauth(400, "unsupported_grant_type", f"Invalid grant_type: {values.get('grant_type', '')}")
        client = self._world.clients.get(values.get("client_id", ""))
        if client is None:
            return errors.oauth(401, "invalid_client", "The OAuth client was not found.")
        if client.deleted:
            return errors.oauth(401, "deleted_client", "The OAuth client was deleted.")
        if values.get("client_secret") != client.secret:
            return errors.oauth(401, "invalid_client", "Unauthorized")
        if kind == "authorization_code":
            return self._redeemed(values, client.client_id)
        grant = self._world.grants.get(values.get("refresh_token", ""))
        if grant is None or not self._is_here(grant.email):
            return errors.oauth(400, "invalid_grant", "Bad Request")
        if grant.dead is not None:
            return errors.oauth(400, *grant.dead)
        if grant.client_id != client.client_id:
            return errors.oauth(401, "unauthorized_client", "Unauthorized")
        token = self._world.issue_access_token(grant)
        scope = " ".join(token.scopes)
        return reply({"access_token": token.token, "expires_in": 3599, "scope": scope, "token_type": "Bearer"})

    def _redeemed(self, values: dict[str, str], client_id: str) -> Response:
        """A code's tokens. What comes with a refresh token depends on what the code was asked for with."""
        code = self._world.codes.get(values.get("code", ""))
        if code is None or code.client_id != client_id or not self._is_here(code.email):
            return errors.oauth(400, "invalid_grant", "Malformed auth code.")
        if code.redeemed or is_stale(code, self._world.clock.now()):
            return errors.oauth(400, "invalid_grant", "Bad Request")
        if code.redirect_uri != values.get("redirect_uri"):
            return errors.oauth(400, "redirect_uri_mismatch", "Bad Request")
        if not is_proven(code, values.get("code_verifier")):
            return errors.oauth(400, "invalid_grant", "Invalid code verifier.")
        code.redeemed = True
        return reply(self._tokens(code))

    def _tokens(self, code: Code) -> render.Json:
        account = self._world.accounts[code.email]
        refresh_token = None
        grant = Grant("", code.email, code.client_id, code.scopes, self._world.clock.now())
        if code.is_offline:
            refresh_token = self._world.issue_refresh_token(account, client_id=code.client_id, scopes=code.scopes)
            grant = self._world.grants[refresh_token]
        token = self._world.issue_access_token(grant)
        scope = " ".join(token.scopes)
        body: render.Json = {"access_token": token.token, "expires_in": 3599, "scope": scope, "token_type": "Bearer"}
        return body if refresh_token is None else body | {"refresh_token": refresh_token}

    async def _revoke(self, request: Request) -> Response:
        text = (await _form(request)).get("token", "")
        known = self._world.tokens.get(text)
        grant = self._world.grants.get(known.refresh_token if known else text)
        if grant is None or grant.dead is not None or not self._is_here(grant.email):
            return errors.oauth(400, "invalid_token", "Token expired or revoked")
        self._world.revoke(self._world.accounts[grant.email])
        return reply({})

    async def _userinfo(self, _: Request, token: AccessToken) -> Response:
        if not {"openid", "email"} & set(token.scopes):
            return errors.oauth(401, "invalid_request", "Invalid Credentials")
        account = self._world.accounts[token.email]
        return reply({"sub": account.subject, "email": account.email, "email_verified": True})

    # --- calendars ---

    async def _calendar_list(self, request: Request, token: AccessToken) -> Response:
        calendars = (c for c in self._world.calendars.values() if c.provider == "google")
        shown = [c for c in calendars if token.email in c.acl and not c.deleted]
        offset = int(request.query_params.get("pageToken", "0") or 0)
        size = min(250, int(request.query_params.get("maxResults", "100")))
        body: render.Json = {"kind": "calendar#calendarList", "etag": f'"{self._world.seq}"'}
        if offset + size < len(shown):
            body["nextPageToken"] = str(offset + size)
        else:
            body["nextSyncToken"] = f"list-{self._world.seq}"
        body["items"] = [render.list_entry(c, token.email) for c in shown[offset : offset + size]]
        return reply(body)

    async def _entry(self, request: Request, token: AccessToken) -> Response:
        calendar = self._visible(request, token)
        return errors.not_found() if calendar is None else reply(render.list_entry(calendar, token.email))

    async def _calendar(self, request: Request, token: AccessToken) -> Response:
        calendar = self._visible(request, token)
        return errors.not_found() if calendar is None else reply(render.calendar_resource(calendar))

    # --- events ---

    async def _events(self, request: Request, token: AccessToken) -> Response:
        calendar = self._visible(request, token)
        return errors.not_found() if calendar is None else self._listing.page(request, calendar, token.email)

    async def _event(self, request: Request, token: AccessToken) -> Response:
        calendar = self._visible(request, token)
        found = self._listing.find(calendar, request.path_params["event"], token.email) if calendar else None
        return errors.not_found() if found is None else reply(found)

    async def _instances(self, request: Request, token: AccessToken) -> Response:
        calendar = self._visible(request, token)
        if calendar is None:
            return errors.not_found()
        try:
            event = self._world.event(calendar.id, request.path_params["event"])
        except UnknownError:
            return errors.not_found()
        return reply(self._listing.instances(event, calendar, token.email))

    # --- channels ---

    def _changed(self, change: Change) -> None:
        """Notify every live channel of the change's calendar."""
        for channel in list(self._push.channels.values()):
            if channel.calendar_id == change.calendar_id and channel.is_live(self._world.clock.now()):
                channel.message_number += random.randint(1, 5_000)
                self._push.send(Notification(channel, "exists", channel.message_number))

    async def _watch(self, request: Request, token: AccessToken) -> Response:
        calendar = self._visible(request, token)
        if calendar is None:
            return errors.not_found()
        if not calendar.is_watchable or self._faults.strike("push_not_supported", "events.watch", calendar=calendar.id):
            return errors.planted("push_not_supported", {})
        body = await request.json()
        refusal = self._refusal(body)
        if refusal is not None:
            return refusal
        channel = self._make_channel(request, body, calendar, token)
        self._push.channels[channel.id] = channel
        hello = Notification(channel, "sync", 1)
        if self._faults.strike("early_sync_message", "events.watch"):
            await self._push.deliver(hello)
        else:
            self._push.send(hello)
        answer: render.Json = {
            "kind": "api#channel",
            "id": channel.id,
            "resourceId": channel.resource_id,
            "resourceUri": channel.resource_uri,
        }
        if channel.token is not None:
            answer["token"] = channel.token
        answer["expiration"] = str(int(channel.expires_at.timestamp() * 1000))
        return reply(answer)

    def _refusal(self, body: render.Json) -> Response | None:
        address, channel_id = str(body.get("address", "")), str(body.get("id", ""))
        if body.get("type") not in {"web_hook", "webhook"}:
            return errors.failure(400, "push.channelTypeNotSupported", "Channel type not supported")
        if not 0 < len(channel_id) <= 64:
            return errors.failure(400, "push.channelIdInvalid", "Invalid channel id")
        if channel_id in self._push.channels:
            return errors.failure(400, "channelIdNotUnique", f"Channel id {channel_id} not unique")
        is_loopback = address.startswith(("http://127.0.0.1", "http://localhost", "http://[::1]"))
        if not address.startswith("https://") and not is_loopback:
            return errors.failure(400, "push.webhookUrlNotHttps", f"WebHook callback must be HTTPS: {address}")
        return None

    def _make_channel(self, request: Request, body: render.Json, calendar: Calendar, token: AccessToken) -> Channel:
        now = self._world.clock.now()
        life = DEFAULT_LIFE
        asked = (body.get("params") or {}).get("ttl")
        if asked is not None:
            life = min(life, timedelta(seconds=int(asked)))
        if body.get("expiration") is not None:
            life = min(life, datetime.fromtimestamp(int(body["expiration"]) / 1000, UTC) - now)
        short = self._faults.strike("short_expiration", "events.watch", calendar=calendar.id)
        if short is not None:
            life = timedelta(seconds=float(short.params.get("seconds", 3600)))
        named = request.path_params["calendar"]
        return Channel(
            id=str(body["id"]),
            calendar_id=calendar.id,
            email=token.email,
            client_id=token.client_id,
            address=str(body["address"]),
            token=body.get("token"),
            resource_id=sha256(f"{token.email}|{calendar.id}".encode()).hexdigest()[:27],
            resource_uri=f"https://www.googleapis.com/calendar/v3/calendars/{named}/events?alt=json",
            expires_at=now + life,
        )

    async def _stop(self, request: Request, token: AccessToken) -> Response:
        body = await request.json()
        channel = self._push.channels.get(str(body.get("id")))
        is_own = channel is not None and (channel.email, channel.client_id) == (token.email, token.client_id)
        if channel is None or not is_own or not channel.is_live(self._world.clock.now()):
            name = body.get("id")
            return errors.failure(404, "channelUnknown", f"Channel '{name}' not found for project '412345678901'")
        if channel.resource_id != body.get("resourceId"):
            return errors.failure(400, "resourceIdInvalid", "Resource id does not belong to the channel")
        channel.stopped = True
        return Response(status_code=204)


async def _form(request: Request) -> dict[str, str]:
    """An application/x-www-form-urlencoded body."""
    return dict(parse_qsl((await request.body()).decode()))
