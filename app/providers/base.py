"""The port to a calendar provider, and the frozen values that cross it.

Pure: no I/O library is imported here. A provider maps its JSON to these values inside its own `mapping` module;
`dict[str, Any]` never leaves it. Times are aware UTC instants, dates belong to all-day events, zones are IANA names.
"""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from typing import Literal, Protocol

from app.meetings import Choice, MeetingCandidate, Preferences

Platform = Literal["google", "microsoft"]
EventStatus = Literal["confirmed", "tentative", "cancelled"]
ResponseStatus = Literal["needs_action", "declined", "tentative", "accepted"]

RAW_LIMIT = 64 * 1024
"""Bytes of `raw` kept per event; a larger one is dropped and flagged."""


@dataclass(frozen=True, slots=True)
class Window:
    """The span kept in sync. Exclusive on both sides: an event is inside iff end > start_at and start < end_at."""

    start_at: datetime
    end_at: datetime

    def overlaps(self, start: datetime, end: datetime) -> bool:
        """Whether [start, end) lies at least partly inside."""
        return end > self.start_at and start < self.end_at


@dataclass(frozen=True, slots=True)
class Person:
    """Organizer or creator."""

    email: str | None
    name: str | None
    self: bool


@dataclass(frozen=True, slots=True)
class Attendee:
    """One invited person or room; `self` is the calendar's owner."""

    email: str | None
    name: str | None
    response_status: ResponseStatus
    optional: bool
    organizer: bool
    self: bool
    resource: bool


@dataclass(frozen=True, slots=True)
class RemoteEvent:
    """An event as the provider has it now: a single one, or one occurrence of a series; never a series master."""

    platform_uuid: str
    ical_uid: str | None
    name: str | None
    description: str | None
    location: str | None
    start_time: datetime
    end_time: datetime
    """All-day events: midnight of start_date and end_date (exclusive) in the calendar's zone, as UTC."""
    is_all_day: bool
    start_date: date | None
    end_date: date | None
    time_zone: str | None
    status: EventStatus
    visibility: str | None
    transparency: str | None
    event_type: str | None
    organizer: Person | None
    creator: Person | None
    attendees: tuple[Attendee, ...]
    own_response_status: ResponseStatus | None
    series_id: str | None
    original_start_time: datetime | None
    is_exception: bool
    meeting_url: str | None
    meeting_platform: str | None
    meeting_candidates: tuple[MeetingCandidate, ...]
    html_link: str | None
    raw: str | None
    """The item's JSON as sent; None where it was over RAW_LIMIT."""
    meeting_choice: Choice | None = None
    is_guest_list_cut: bool = False
    """The provider says that `attendees` is not the whole list: who is missing from it need not be gone. Not shown."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The provider's statement that an event (or a whole series, by its id) is gone."""

    platform_uuid: str


@dataclass(frozen=True, slots=True)
class Parked:
    """An item that could not be parsed: kept with its reason, the rest of the page goes on. Never a deletion."""

    platform_uuid: str
    reason: str
    raw: str | None


Item = RemoteEvent | Tombstone | Parked


@dataclass(frozen=True, slots=True)
class ChangePage:
    """One response of a listing. The last page of a round carries the next cursor."""

    items: tuple[Item, ...]
    cursor: str | None
    calendar_name: str | None = None
    time_zone: str | None = None
    starts_listing: bool = False
    """From this page on the round lists the whole window: what came before is void, and absence counts."""
    removed: tuple[str, ...] = ()
    """Of the page that starts a listing: ids that the increment before it had said were gone."""


Stored = Literal["single", "occurrence", "series"]
"""What an id names among the live rows inside the window: an event of its own, one of a series, or their series."""

Known = Callable[[Collection[str]], Awaitable[Mapping[str, Stored]]]
"""Asks what is stored of these ids; what is not among them is not in the answer. Never called with a row locked."""


@dataclass(frozen=True, slots=True)
class AppCredentials:
    """The customer's OAuth app at the provider."""

    client_id: str
    client_secret: str
    tenant: str | None = None
    """Of Microsoft: whose token endpoint is asked; None takes the setting's."""


@dataclass(frozen=True, slots=True)
class Consent:
    """What a browser is sent to the provider with, and what the code that it brings back is redeemed with.

    `verifier` never goes along: the address has its digest (RFC 7636, S256). `tenant` is as in `AppCredentials`.
    """

    client_id: str
    tenant: str | None
    redirect_uri: str
    state: str
    verifier: str
    login_hint: str | None = None

    @property
    def challenge(self) -> str:
        """The digest of the verifier."""
        return base64.urlsafe_b64encode(sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()

    def form(self, app: AppCredentials, code: str) -> dict[str, str]:
        """What the code is redeemed with (RFC 6749, 4.1.3; RFC 7636, 4.5)."""
        return {
            "client_id": app.client_id,
            "client_secret": app.client_secret,
            "code": code,
            "code_verifier": self.verifier,
            "redirect_uri": self.redirect_uri,
            "grant_type": "authorization_code",
        }


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """A refresh's outcome. `refresh_token` is None where the provider keeps the old one; `lives_for` is in seconds."""

    access_token: str
    lives_for: float
    refresh_token: str | None
    scope: str | None


class TokenSource(Protocol):
    """Gives access tokens for one grant, refreshing as needed."""

    async def token(self, *, rejected: str | None = None) -> str:
        """A token that should work. `rejected` is one the provider has just refused with 401: never given again."""
        ...


@dataclass(frozen=True, slots=True)
class Access:
    """On whose behalf a call is made: the token, and the keys of the quotas that it uses up."""

    tokens: TokenSource
    client_id: str
    user_key: str
    """The account's subject where it is known, else something unique to the grant."""
    is_backstop: bool = False
    """Whether only the clock asked: such work leaves room in the quota for what a push or a request asked for."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who a grant belongs to. `subject` is stable for ever; an e-mail address is not."""

    subject: str
    email: str | None

    def is_the_one(self, subject: str | None, email: str | None) -> bool:
        """Whether a calendar that was connected with this subject and address is this account's; None: not yet known.

        A grant without the scopes that tell the subject has its e-mail address in its place: then the address decides.
        """
        if subject in {None, self.subject, self.email}:
            return True
        return self.subject == self.email and self.email == email


@dataclass(frozen=True, slots=True)
class RemoteCalendar:
    """A calendar as the provider lists it. `id` is canonical: `primary` and the e-mail id are the same one."""

    id: str
    name: str | None
    email: str | None
    is_primary: bool
    access_role: str | None
    time_zone: str | None


@dataclass(frozen=True, slots=True)
class ChannelRequest:
    """What we ask the provider to push to. `token` is the secret it must repeat; `lives_for` is in seconds."""

    id: str
    token: str
    address: str
    lives_for: float


@dataclass(frozen=True, slots=True)
class Channel:
    """A push channel as the provider granted it."""

    resource_id: str
    expires_at: datetime


NotificationKind = Literal["created", "changed", "missed", "expiring", "removed"]
"""`created` announces the channel itself; `changed` asks for a sync; `missed`: pushes were lost, look at everything;
`expiring`: renew the channel now; `removed`: the provider has ended it."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One inbound push, parsed but not yet believed: `token` must match the channel's."""

    channel_id: str
    token: str
    resource_id: str | None
    kind: NotificationKind


class Provider(Protocol):
    """Five verbs on a calendar, five on a grant. Every method raises the ProviderError family and nothing else."""

    platform: Platform
    renews_in_place: bool
    """Whether a channel can be given a longer life; else it is replaced by another, with overlap."""

    def consent_url(self, consent: Consent) -> str:
        """Where the user is asked for access to calendars, for as long as it lasts."""
        ...

    async def redeem(self, app: AppCredentials, code: str, consent: Consent) -> TokenAnswer:
        """The first tokens for a code that came back from `consent_url`; a code may be sent once.

        GrantRevoked `scope_missing` where the user left calendars out, with any other reason where the code is
        refused; OAuthAppBroken about the app.
        """
        ...

    async def refresh(self, app: AppCredentials, refresh_token: str) -> TokenAnswer:
        """A new access token. GrantRevoked is about the user, OAuthAppBroken about the app."""
        ...

    async def fetch_account(self, access: Access) -> Account:
        """Who the grant belongs to."""
        ...

    async def fetch_calendar(self, access: Access, platform_uuid: str | None) -> RemoteCalendar:
        """One calendar by the customer's name for it (None: the primary one). CalendarGone, AccessLost."""
        ...

    async def list_calendars(self, access: Access) -> list[RemoteCalendar]:
        """Every calendar the account can see."""
        ...

    def fetch_changes(
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
        """A round: without a cursor the window's listing, with one everything since, wherever it lies in time.

        `time_zone` is the calendar's as last known, for all-day events; a page's own zone goes before it. `owner` is
        the account's address, for `self`; `preferences` are the project's, for meeting links. CursorExpired can come at
        any page; what was read until then must be thrown away. A provider whose increments do not tell everything
        lists the window instead (`starts_listing`).
        """
        ...

    async def open_channel(self, access: Access, remote_calendar_id: str, request: ChannelRequest) -> Channel:
        """Ask for pushes. ChannelRefused where this calendar, or our address, cannot have them; ChannelExists where
        the provider holds one for this calendar and our address already."""
        ...

    async def renew_channel(self, access: Access, resource_id: str, *, lives_for: float) -> Channel | None:
        """Give a channel so many seconds more; None where it has to be replaced: gone, or not `renews_in_place`."""
        ...

    async def close_channel(self, access: Access, channel_id: str, resource_id: str) -> None:
        """Stop pushes; a channel that is already gone is a success."""
        ...

    def parse_notifications(self, headers: Mapping[str, str], body: bytes) -> Sequence[Notification]:
        """Read an inbound push (header names in lower case): what it carries, without what is none of ours.

        ProviderContract where it cannot be read at all.
        """
        ...
