"""Google Calendar behind the port: which requests are made, in which order, and what their answers become.

The listing follows Google's sync rules to the letter, since breaking them loses changes silently: the same parameters
in every request of a round and of all later ones, both tokens on each later page, never `orderBy`, never
`showDeleted` (with a sync token deletions always come, and stating `false` is an error there).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlencode

from app.errors import AccessLost, AccessTokenRejected, CalendarGone, GrantRevoked, RoundTooLarge
from app.meetings import Preferences
from app.providers.base import (
    Access,
    Account,
    AppCredentials,
    ChangePage,
    Channel,
    ChannelRequest,
    Consent,
    Known,
    Notification,
    Platform,
    RemoteCalendar,
    TokenAnswer,
    Window,
)
from app.providers.google import errors, resources
from app.providers.google.mapping import map_page
from app.providers.http import Call, Classify, ProviderHttp
from app.settings import Settings

PAGE_LIMIT = 200
"""Pages of one round, half a million events; a listing that goes on is broken."""

_EVENT_TYPES = ("birthday", "default", "focusTime", "fromGmail", "outOfOffice", "workingLocation")
_LISTING: Final = (
    ("singleEvents", "true"),
    ("maxResults", "2500"),
    # All of them, said aloud: a customer filters by `event_type`, and a kind that Google adds later cannot come into
    # the incremental listing of a calendar whose full listing did not have it.
    *(("eventTypes", kind) for kind in _EVENT_TYPES),
)

_SCOPES: Final = "openid email https://www.googleapis.com/auth/calendar.readonly"
"""What hosted connect asks for: who it is, and to read calendars. The user may untick the last one."""


class GoogleCalendar:
    """The Provider of Google Calendar API v3. Holds no state: one serves every account."""

    platform: Platform = "google"
    renews_in_place = False

    def __init__(self, http: ProviderHttp, settings: Settings) -> None:
        self._http = http
        self._api = f"{settings.google_api_url}/calendar/v3"
        self._consent_url = settings.google_authorize_url
        self._token_url = settings.google_token_url
        self._userinfo_url = settings.google_userinfo_url

    def consent_url(self, consent: Consent) -> str:
        """Google's consent ("Using OAuth 2.0 for Web Server Applications", "Redirect to Google's OAuth 2.0 server").

        `access_type=offline` asks for a refresh token, which a user who has consented before gets with
        `prompt=consent` alone.
        """
        params = {
            "client_id": consent.client_id,
            "redirect_uri": consent.redirect_uri,
            "response_type": "code",
            "scope": _SCOPES,
            "access_type": "offline",
            "prompt": "consent" if consent.login_hint else "consent select_account",
            "state": consent.state,
            "code_challenge": consent.challenge,
            "code_challenge_method": "S256",
        }
        hint = {"login_hint": consent.login_hint} if consent.login_hint else {}
        return f"{self._consent_url}?{urlencode(params | hint)}"

    async def redeem(self, app: AppCredentials, code: str, consent: Consent) -> TokenAnswer:
        """The tokens behind a code (the same page, "Exchange authorization code for refresh and access tokens")."""
        form = consent.form(app, code)
        call = Call("google", "redeem", self._token_url, errors.classify_redeem, method="POST", form=form)
        return resources.read_token(await self._http.send_anonymous(call))

    async def refresh(self, app: AppCredentials, refresh_token: str) -> TokenAnswer:
        """A new access token ("Using OAuth 2.0 for Web Server Applications", "Refreshing an access token").

        GrantRevoked where the user's grant is over or holds no calendar scope, OAuthAppBroken where the app is refused.
        """
        form = {
            "client_id": app.client_id,
            "client_secret": app.client_secret,
            "refresh_token": refresh_token,
            "grant_type": "refresh_token",
        }
        call = Call("google", "refresh", self._token_url, errors.classify_refresh, method="POST", form=form)
        return resources.read_token(await self._http.send_anonymous(call))

    async def fetch_account(self, access: Access) -> Account:
        """Who the grant belongs to.

        Userinfo needs the scope `openid`, `email` or `profile`, which a grant for calendars alone need not have. Then
        the primary calendar's id stands in: it is the account's e-mail address, which changes rarely, but may.
        GrantRevoked `scope_missing` where neither can be read.
        """
        try:
            return await self._userinfo(access)
        except AccessTokenRejected:
            pass  # without the scope Google answers 401 even to a fresh token; a dead one is refused below as well
        except GrantRevoked as exc:
            if exc.reason != "scope_missing":
                raise
        primary = await self._listed_or_own(access, "primary")
        return Account(subject=primary.id, email=primary.email)

    async def fetch_calendar(self, access: Access, platform_uuid: str | None) -> RemoteCalendar:
        """One calendar under its canonical id ("Calendars: get"): `primary` becomes the account's e-mail address.

        The role, and whether a calendar named by its id is the primary one, stand only in the user's list of calendars,
        where it need not be: asked for once more, and left unknown where that fails.
        """
        if platform_uuid is None or platform_uuid == "primary":
            return await self._named(access, "primary")
        calendar = await self._named(access, platform_uuid)
        try:
            entry = await self._calendar(access, "users/me/calendarList", calendar.id)
        except (CalendarGone, AccessLost, GrantRevoked):
            return calendar
        return entry if entry.id == calendar.id else calendar

    async def list_calendars(self, access: Access) -> list[RemoteCalendar]:
        """Every calendar in the account's list ("CalendarList: list"), hidden ones included."""
        found: list[RemoteCalendar] = []
        params = (("maxResults", "250"), ("showHidden", "true"))
        progress = _Progress()
        page_token: str | None = None
        while True:
            answer = await self._get(
                access,
                "list_calendars",
                "users/me/calendarList",
                params=_paged(params, page_token),
                classify=errors.classify_page if page_token else errors.classify,
            )
            calendars, page_token = resources.read_calendars(answer)
            found += calendars
            if page_token is None:
                return found
            progress.check(page_token)

    async def fetch_changes(
        self,
        access: Access,
        remote_calendar_id: str,
        *,
        cursor: str | None,
        window: Window,
        time_zone: str | None,
        owner: str | None,
        known: Known,
        preferences: Preferences,
    ) -> AsyncIterator[ChangePage]:
        """One round of "Events: list" (guide "Synchronize resources efficiently").

        With a cursor Google reports changes anywhere in time: a sync token keeps no window. CursorExpired may come at
        any page, ProviderContract where the listing does not end as documented. Google says itself who is `self`, and
        its increments tell everything.
        """
        del owner, known
        if cursor is None:
            params = (*_LISTING, ("timeMin", _rfc3339(window.start_at)), ("timeMax", _rfc3339(window.end_at)))
        else:
            params = (*_LISTING, ("syncToken", cursor))
        classify = errors.classify if cursor is None else errors.classify_cursor
        path = f"calendars/{quote(remote_calendar_id, safe='')}/events"
        progress = _Progress()
        page_token: str | None = None
        while True:
            answer = await self._get(
                access,
                "fetch_window" if cursor is None else "fetch_changes",
                path,
                params=_paged(params, page_token),
                classify=errors.classify_page if page_token else classify,
                goes_on=page_token is not None,
            )
            page = map_page(answer, time_zone=time_zone, preferences=preferences)
            yield page.change
            if page.next_page is None:
                return
            progress.check(page.next_page)
            page_token = page.next_page

    async def open_channel(self, access: Access, remote_calendar_id: str, request: ChannelRequest) -> Channel:
        """Ask for pushes ("Events: watch"); Google decides how long. ChannelRefused, else as any request."""
        path = f"calendars/{quote(remote_calendar_id, safe='')}/events/watch"
        payload = {
            "id": request.id,
            "type": "web_hook",
            "address": request.address,
            "token": request.token,
            "params": {"ttl": str(int(request.lives_for))},
        }
        call = Call(
            "google", "open_channel", f"{self._api}/{path}", errors.classify_watch, method="POST", payload=payload
        )
        return resources.read_channel(await self._http.send(access, call))

    async def close_channel(self, access: Access, channel_id: str, resource_id: str) -> None:
        """Stop pushes ("Channels: stop"). 404 means that the channel is over already: what we wanted."""
        call = Call(
            "google",
            "close_channel",
            f"{self._api}/channels/stop",
            errors.classify,
            method="POST",
            payload={"id": channel_id, "resourceId": resource_id},
        )
        try:
            await self._http.send(access, call)
        except CalendarGone:
            return

    async def renew_channel(self, access: Access, resource_id: str, *, lives_for: float) -> Channel | None:
        """None: Google has no way to, its channels are replaced."""
        return None

    def parse_notifications(self, headers: Mapping[str, str], body: bytes) -> Sequence[Notification]:
        """An inbound push (guide "Push notifications"): all of it stands in the headers."""
        del body
        notification = resources.read_notification(headers)
        return [notification] if notification is not None else []

    async def _named(self, access: Access, name: str) -> RemoteCalendar:
        try:
            return await self._listed_or_own(access, name)
        except GrantRevoked as exc:
            if exc.reason != "scope_missing":
                raise
        # `calendar.events.readonly` alone reads events, and with them their calendar's zone, but not what it is called.
        calendar_id = name if name != "primary" else (await self._userinfo(access)).email
        if calendar_id is None:
            raise GrantRevoked("the grant does not say which calendar is its own", reason="scope_missing")
        path = f"calendars/{quote(calendar_id, safe='')}/events"
        listing = await self._get(access, "fetch_calendar", path, params=(("maxResults", "1"),))
        return resources.read_listed_calendar(listing, calendar_id, is_primary=name == "primary")

    async def _listed_or_own(self, access: Access, name: str) -> RemoteCalendar:
        """By "Calendars: get", which knows every calendar; else by the list, for which a narrower scope is enough."""
        try:
            return await self._calendar(access, "calendars", name)
        except GrantRevoked as exc:
            if exc.reason != "scope_missing":
                raise
        return await self._calendar(access, "users/me/calendarList", name)

    async def _userinfo(self, access: Access) -> Account:
        call = Call("google", "fetch_account", self._userinfo_url, errors.classify_identity)
        return resources.read_account(await self._http.send(access, call))

    async def _calendar(self, access: Access, collection: str, name: str) -> RemoteCalendar:
        answer = await self._get(access, "fetch_calendar", f"{collection}/{quote(name, safe='')}")
        return resources.read_calendar(answer, is_primary=name == "primary")

    async def _get(
        self,
        access: Access,
        operation: str,
        path: str,
        *,
        params: tuple[tuple[str, str], ...] = (),
        classify: Classify = errors.classify,
        goes_on: bool = False,
    ) -> object:
        call = Call("google", operation, f"{self._api}/{path}", classify, params=params, goes_on=goes_on)
        return await self._http.send(access, call)


class _Progress:
    """Notices a listing that never ends: too many pages, or a page token for the second time."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def check(self, page_token: str) -> None:
        if page_token in self._seen or len(self._seen) + 1 >= PAGE_LIMIT:
            raise RoundTooLarge("the listing does not come to an end")
        self._seen.add(page_token)


def _paged(params: tuple[tuple[str, str], ...], page_token: str | None) -> tuple[tuple[str, str], ...]:
    return params if page_token is None else (*params, ("pageToken", page_token))


def _rfc3339(moment: datetime) -> str:
    """With an offset, which Google demands; it ignores what is below a second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
