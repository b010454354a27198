"""Microsoft Graph behind the port: which requests are made, in which order, and what their answers become.

Three things shape it. A delta link keeps its window for ever, so every anchoring runs a new delta round to its link
first and lists the window second: a change in between comes with the next round. A delta round does not tell everything
(occurrences come sparse, a deleted one not at all), so it only decides whether there is something to do (`rounds`).
And every request repeats the same `Prefer` headers, because links do not remember them.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from app.errors import ChannelExists, ChannelRefused, ProviderContract, RoundTooLarge
from app.meetings import Preferences
from app.providers.base import (
    Access,
    Account,
    AppCredentials,
    ChangePage,
    Channel,
    ChannelRequest,
    Consent,
    Item,
    Known,
    Notification,
    Platform,
    RemoteCalendar,
    TokenAnswer,
    Window,
)
from app.providers.http import Call, Classify, ProviderHttp
from app.providers.microsoft import errors, resources, rounds
from app.providers.microsoft.mapping import FIELDS, map_item
from app.settings import Settings

PAGE_LIMIT = 400
"""Pages of one round."""
LISTINGS_MOST = 3
"""How often a window that changes while it is listed is listed again."""
_PAGE_SIZES = (1_000, 200, 25)
"""Events of a listing's page: a smaller one where Graph cannot put together the larger in time."""
_DELTA_PAGE_SIZES = (200, 50, 10)
_LONGEST_LIFE = timedelta(minutes=10_069)
"""Of a subscription: 10,080 minutes are allowed, and clocks differ."""
_IDS = 'IdType="ImmutableId"'
_PREFER: Final = f'outlook.timezone="UTC", {_IDS}'

_SCOPES: Final = "openid offline_access User.Read Calendars.Read"
"""What hosted connect asks for: who it is, and to read calendars, for as long as it lasts (`offline_access`)."""


class MicrosoftCalendar:
    """The Provider of Microsoft Graph v1.0. Holds no state: one serves every account."""

    platform: Platform = "microsoft"
    renews_in_place = True

    def __init__(self, http: ProviderHttp, settings: Settings, *, now: Callable[[], datetime]) -> None:
        self._http = http
        self._origin = settings.microsoft_graph_url
        self._api = f"{self._origin}/v1.0"
        self._login, self._tenant = settings.microsoft_login_url, settings.microsoft_tenant
        self._now = now

    def consent_url(self, consent: Consent) -> str:
        """Microsoft's consent ("OAuth 2.0 authorization code flow", "Request an authorization code").

        Without a hint the user chooses an account: else the one that the browser is signed in with would be taken.
        """
        params = {
            "client_id": consent.client_id,
            "redirect_uri": consent.redirect_uri,
            "response_type": "code",
            "response_mode": "query",
            "scope": _SCOPES,
            "state": consent.state,
            "code_challenge": consent.challenge,
            "code_challenge_method": "S256",
        }
        params |= {"login_hint": consent.login_hint} if consent.login_hint else {"prompt": "select_account"}
        return f"{self._login}/{consent.tenant or self._tenant}/oauth2/v2.0/authorize?{urlencode(params)}"

    async def redeem(self, app: AppCredentials, code: str, consent: Consent) -> TokenAnswer:
        """The tokens behind a code (the same page, "Redeem a code for an access token")."""
        form = consent.form(app, code)
        url = f"{self._login}/{app.tenant or self._tenant}/oauth2/v2.0/token"
        call = Call("microsoft", "redeem", url, errors.classify_redeem, method="POST", form=form)
        return resources.read_token(await self._http.send_anonymous(call))

    async def refresh(self, app: AppCredentials, refresh_token: str) -> TokenAnswer:
        """A new access token, and with nearly every answer a new refresh token; the old one goes on working."""
        form = {
            "client_id": app.client_id,
            "client_secret": app.client_secret,
            "refresh_token": refresh_token,
            "grant_type": "refresh_token",
        }
        url = f"{self._login}/{app.tenant or self._tenant}/oauth2/v2.0/token"
        call = Call("microsoft", "refresh", url, errors.classify_refresh, method="POST", form=form)
        return resources.read_token(await self._http.send_anonymous(call))

    async def fetch_account(self, access: Access) -> Account:
        """Who the grant belongs to (`/me`, scope User.Read). GrantRevoked `scope_missing` without that scope."""
        url = f"{self._api}/me?$select=id,mail,userPrincipalName,displayName"
        return resources.read_account(await self._get(access, "fetch_account", url, errors.classify_identity))

    async def fetch_calendar(self, access: Access, platform_uuid: str | None) -> RemoteCalendar:
        """One calendar, the default one for None; its id is canonical already."""
        path = "me/calendar" if platform_uuid is None else f"me/calendars/{quote(platform_uuid, safe='')}"
        answer = await self._get(access, "fetch_calendar", f"{self._api}/{path}", errors.classify)
        return resources.read_calendar(answer)

    async def list_calendars(self, access: Access) -> list[RemoteCalendar]:
        """Every calendar in the mailbox, and those that others share with it."""
        return [resources.read_calendar(e) for e in await self._all(access, "list_calendars", "me/calendars?$top=100")]

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
        """A round of "calendarView: delta", and the window's listing where that does not say enough.

        CursorExpired may come at any page.
        """
        read = partial(map_item, time_zone=time_zone, owner=owner.lower() if owner else None, preferences=preferences)
        entries: list[object] | None = None
        link: str | None = None
        left: tuple[Item, ...] = ()
        with suppress(RoundTooLarge):  # then the listing is all there is, and the next round begins anew
            entries, link = await self._delta_round(access, remote_calendar_id, cursor=cursor, window=window)
        if cursor is not None and entries is not None:
            look_up = partial(self._event, access, remote_calendar_id)
            verdict = await rounds.judge(entries, known)
            told = await rounds.complete(verdict, look_up, read, window=window)
            if told.is_enough:
                yield ChangePage(told.items, link)
                return
            left = told.items
        removed = rounds.removed_ids(entries or ())
        async for page in self._listing(access, remote_calendar_id, link, window=window):
            mapped = tuple([read(item) for item in page.entries])
            if page.is_first:  # before what is listed: an event that has come back meanwhile is told by the listing
                yield ChangePage((*left, *mapped), page.cursor, starts_listing=True, removed=removed)
            else:
                yield ChangePage(mapped, page.cursor)

    async def open_channel(self, access: Access, remote_calendar_id: str, request: ChannelRequest) -> Channel:
        """A subscription. Graph asks our address with a token first, while this request waits for the answer."""
        resource = f"/me/calendars/{remote_calendar_id}/events"
        payload = {
            "changeType": "created,updated,deleted",
            "notificationUrl": request.address,
            "lifecycleNotificationUrl": request.address,
            "resource": resource,
            "expirationDateTime": self._expiry(request.lives_for),
            "clientState": resources.client_state(request.id, request.token),
            "latestSupportedTlsVersion": "v1_2",
        }
        url = f"{self._api}/subscriptions"
        call = Call(
            "microsoft",
            "open_channel",
            url,
            errors.classify_subscription,
            method="POST",
            payload=payload,
            headers=(("prefer", _IDS),),
        )
        try:
            return resources.read_subscription(await self._http.send(access, call))
        except errors.ConflictingSubscription as exc:
            existing = await self._all(access, "list_channels", "subscriptions")
            ours = [e for e in existing if resources.is_subscription_of(e, resource=resource, address=request.address)]
            ids = tuple(resources.read_subscription(entry).resource_id for entry in ours)
            if not ids:
                raise ChannelRefused(exc.detail) from exc
            raise ChannelExists(exc.detail, resource_ids=ids) from exc

    async def renew_channel(self, access: Access, resource_id: str, *, lives_for: float) -> Channel | None:
        """A longer life for a subscription, which also renews its authorisation; None where it is gone."""
        call = Call(
            "microsoft",
            "renew_channel",
            self._subscription(resource_id),
            errors.classify_subscription,
            method="PATCH",
            payload={"expirationDateTime": self._expiry(lives_for)},
        )
        try:
            return resources.read_subscription(await self._http.send(access, call))
        except errors.NotThere:
            return None

    async def close_channel(self, access: Access, channel_id: str, resource_id: str) -> None:
        """End a subscription; one that is gone is what we wanted."""
        del channel_id
        call = Call(
            "microsoft",
            "close_channel",
            self._subscription(resource_id),
            errors.classify_subscription,
            method="DELETE",
        )
        try:
            await self._http.send(access, call)
        except errors.NotThere:
            return

    def parse_notifications(self, headers: Mapping[str, str], body: bytes) -> Sequence[Notification]:
        """An inbound push: a batch, of several subscriptions perhaps."""
        del headers
        return resources.read_notifications(body)

    # --- listing ---

    async def _delta_round(
        self, access: Access, calendar_id: str, *, cursor: str | None, window: Window
    ) -> tuple[list[object], str]:
        """All entries of a delta round and its link. RoundTooLarge where it goes round in circles."""
        start = f"{self._view(calendar_id)}/delta?{_bounds(window)}"
        entries: list[object] = []
        progress = rounds.Progress(PAGE_LIMIT)
        url, classify = (start, errors.classify_page) if cursor is None else (cursor, errors.classify_link)
        sizes = iter(_DELTA_PAGE_SIZES)
        size = next(sizes)
        while True:
            try:
                is_first = url in {start, cursor}
                answer = await self._get(
                    access, "fetch_delta", url, classify, prefer=_paged(size), goes_on=not is_first
                )
            except errors.PageTooHeavy:
                size = _smaller(sizes)
                continue
            page, following, link = resources.read_page(answer)
            entries += page
            if link is not None:
                return entries, self._own(link)
            if following is None:
                raise ProviderContract("a delta round has no link to go on with")
            progress.check(page)
            url, classify = self._own(following), errors.classify_link

    async def _listing(
        self, access: Access, calendar_id: str, link: str | None, *, window: Window
    ) -> AsyncIterator[rounds.ListedPage]:
        """The window as it is, and the delta link from before.

        Pages are counted off, so a change between two of them can hide an event: a listing of several pages is made
        again where the delta says that something changed meanwhile. One that never stands still hides nothing either:
        what an earlier listing had is kept, and the next round, from the older link, tells what became of it.
        """
        pages: list[list[object]] = []
        earlier: dict[object, object] = {}
        for attempt in range(LISTINGS_MOST):
            pages = [page async for page in self._pages(access, calendar_id, window=window)]
            if len(pages) == 1 or link is None:
                break
            if attempt == LISTINGS_MOST - 1:
                ids = {rounds.id_of(entry) for page in pages for entry in page}
                pages[-1] += [entry for key, entry in earlier.items() if key not in ids]
                break
            entries, following = await self._delta_round(access, calendar_id, cursor=link, window=window)
            if not entries:
                break
            earlier |= {rounds.id_of(entry): entry for page in pages for entry in page}
            link = following
        for number, page in enumerate(pages):
            yield rounds.ListedPage(page, link if number == len(pages) - 1 else None, is_first=number == 0)

    async def _pages(self, access: Access, calendar_id: str, *, window: Window) -> AsyncIterator[list[object]]:
        sizes = iter(_PAGE_SIZES)
        size = next(sizes)
        start = f"{self._view(calendar_id)}?{_bounds(window)}&$select={FIELDS}"
        url = f"{start}&$top={size}"
        progress = rounds.Progress(PAGE_LIMIT)
        is_first = True
        while True:
            try:
                answer = await self._get(access, "fetch_window", url, errors.classify_page, goes_on=True)
            except errors.PageTooHeavy:
                if not is_first:
                    raise
                size = _smaller(sizes)
                url = f"{start}&$top={size}"
                continue
            entries, following, _ = resources.read_page(answer)
            yield entries
            if following is None:
                return
            progress.check(entries)
            url, is_first = self._own(following), False

    async def _event(self, access: Access, calendar_id: str, event_id: str) -> object:
        """One event of this calendar; None where it is not there."""
        calendar, event = quote(calendar_id, safe=""), quote(event_id, safe="")
        url = f"{self._api}/me/calendars/{calendar}/events/{event}?$select={FIELDS}"
        try:
            return await self._get(access, "fetch_event", url, errors.classify_item, goes_on=True)
        except errors.NotThere:
            return None

    async def _all(self, access: Access, operation: str, path: str) -> list[object]:
        found: list[object] = []
        url = f"{self._api}/{path}"
        progress = rounds.Progress(PAGE_LIMIT)
        while True:
            entries, following, _ = resources.read_page(await self._get(access, operation, url, errors.classify))
            found += entries
            if following is None:
                return found
            progress.check(entries)
            url = self._own(following)

    async def _get(
        self,
        access: Access,
        operation: str,
        url: str,
        classify: Classify,
        *,
        prefer: str = _PREFER,
        goes_on: bool = False,
    ) -> object:
        call = Call("microsoft", operation, url, classify, headers=(("prefer", prefer),), goes_on=goes_on)
        return await self._http.send(access, call)

    def _view(self, calendar_id: str) -> str:
        return f"{self._api}/me/calendars/{quote(calendar_id, safe='')}/calendarView"

    def _subscription(self, resource_id: str) -> str:
        return f"{self._api}/subscriptions/{quote(resource_id, safe='')}"

    def _own(self, link: str) -> str:
        """A link is followed as it is, but never to another host: the request carries the user's token."""
        asked, given = urlsplit(self._origin), urlsplit(link)
        if (asked.scheme, asked.netloc) != (given.scheme, given.netloc):
            raise ProviderContract("a link leads to another host")
        return link

    def _expiry(self, lives_for: float) -> str:
        until = self._now() + min(timedelta(seconds=lives_for), _LONGEST_LIFE)
        return until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.0000000Z")


def _bounds(window: Window) -> str:
    return f"startDateTime={_utc(window.start_at)}&endDateTime={_utc(window.end_at)}"


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _paged(size: int) -> str:
    return f"{_PREFER}, odata.maxpagesize={size}"


def _smaller(sizes: Iterator[int]) -> int:
    size = next(sizes, None)
    if size is None:
        raise errors.PageTooHeavy("even a small page does not come in time")
    return size
