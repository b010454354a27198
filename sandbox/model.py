"""The neutral values of the sandbox world: accounts, calendars, events, instances, changes.

They carry what a calendar user can see and nothing of any provider's wire format, so that one world can stand
behind several façades. Event values are frozen: each edit makes a new version, which is what lets a listing be
answered "as of" an earlier moment and lets a delta compare two moments.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

Moment = datetime | date
"""An aware datetime, or a plain date for all-day events."""

OriginalStart = datetime | date
"""Where an instance stands in its series by rule: aware UTC datetime, or date. Never changes when it is moved."""

Role = Literal["owner", "writer", "writerWithoutPrivateAccess", "reader", "freeBusyReader"]
CalendarKind = Literal["primary", "secondary", "holiday", "birthday", "resource"]
Provider = Literal["google", "microsoft"]
ZoneNames = Literal["iana", "windows"]
IdStyle = Literal["classic", "opaque", "immutable"]
"""Ids of instances: Google's of today, Google's as announced (nothing can be read from them), Outlook's."""


@dataclass(frozen=True, slots=True)
class Person:
    """Organizer or creator."""

    email: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Attendee:
    """`response` is one of needsAction, declined, tentative, accepted; "self" is computed per calendar."""

    email: str
    name: str | None = None
    response: str = "needsAction"
    optional: bool = False
    organizer: bool = False
    resource: bool = False


@dataclass(frozen=True, slots=True)
class Conference:
    """A structured meeting link. `pending` means the provider is still making it: no link is visible yet."""

    kind: Literal["meet", "zoom", "teams"]
    url: str
    pending: bool = False


@dataclass(frozen=True, kw_only=True)
class EventDraft:
    """What somebody edits. `end` is exclusive; for all-day events start and end are dates.

    Only Outlook knows the following. `show_as` (free, tentative, busy, oof, workingElsewhere, unknown) follows from
    `transparency` and `status` where it is None, `sensitivity` (normal, personal, private, confidential) from
    `visibility`. `called_off` is a meeting that its organiser cancelled and that still stands in the calendar.
    `zone_label` is written in place of the zone's name ("tzone://Microsoft/Custom"), while `time_zone` decides.
    `description_type` is "html" where the description is markup already.

    `raw_extra` is merged verbatim over the provider's JSON and `raw_omit` names keys to leave out of it:
    both exist so that tests can plant poison (a missing end, NUL characters, absurd dates).
    """

    title: str | None = None
    description: str | None = None
    location: str | None = None
    start: Moment
    end: Moment
    time_zone: str | None = None
    recurrence: tuple[str, ...] = ()
    attendees: tuple[Attendee, ...] = ()
    organizer: Person | None = None
    creator: Person | None = None
    status: Literal["confirmed", "tentative", "cancelled"] = "confirmed"
    visibility: str = "default"
    transparency: str = "opaque"
    event_type: str = "default"
    conference: Conference | None = None
    ical_uid: str | None = None
    show_as: str | None = None
    sensitivity: str | None = None
    called_off: bool = False
    zone_label: str | None = None
    description_type: Literal["text", "html"] = "text"
    hide_attendees: bool = False
    raw_extra: Mapping[str, Any] = field(default_factory=dict)
    raw_omit: tuple[str, ...] = ()

    @property
    def is_all_day(self) -> bool:
        """True when the event is held in dates rather than instants."""
        return not isinstance(self.start, datetime)


DRAFT_FIELDS = frozenset(EventDraft.__dataclass_fields__)


@dataclass(frozen=True, kw_only=True)
class Override:
    """A modified or cancelled instance of a series; `seq` and `updated` are those of its own last edit."""

    original_start: OriginalStart
    changes: Mapping[str, Any]
    cancelled: bool
    seq: int
    updated: datetime


@dataclass(frozen=True, kw_only=True)
class Event(EventDraft):
    """One version of a single event or of a series' master.

    `seq` is the change that made this version; `base_seq` the last change of the event or master itself, as
    opposed to one of its instances. `sequence` is iCalendar's SEQUENCE and grows when times change.
    """

    id: str
    calendar_id: str
    created: datetime
    updated: datetime
    seq: int
    base_seq: int
    sequence: int = 0
    deleted: bool = False
    moved_to: str | None = None
    overrides: Mapping[OriginalStart, Override] = field(default_factory=dict)
    id_style: IdStyle = "classic"

    @property
    def is_series(self) -> bool:
        """True for masters."""
        return bool(self.recurrence)

    @property
    def is_live(self) -> bool:
        """False once deleted, moved away or cancelled."""
        return not self.deleted and self.status != "cancelled"


@dataclass(frozen=True, kw_only=True)
class Instance(EventDraft):
    """What one cell of a calendar shows: a single event, or one occurrence of a series.

    `event_id` is the id the provider gives it. `seq` and `updated` belong to the newer of the master and the
    instance's own edit. `live` is false for cancelled occurrences and everything of a deleted series.
    """

    event_id: str
    calendar_id: str
    series_id: str | None
    original_start: OriginalStart | None
    created: datetime
    updated: datetime
    seq: int
    sequence: int
    live: bool
    is_exception: bool = False


@dataclass(slots=True)
class Calendar:
    """One calendar. `acl` maps e-mail to role; `acl_seq` says when each person's access last changed."""

    id: str
    owner: str
    summary: str
    time_zone: str
    kind: CalendarKind
    created: datetime
    updated: datetime
    acl: dict[str, Role]
    acl_seq: dict[str, int]
    acl_updated: dict[str, datetime]
    provider: Provider = "google"
    description: str | None = None
    location: str | None = None
    deleted: bool = False
    token_epoch: int = 0
    acl_epoch: dict[str, int] = field(default_factory=dict)

    @property
    def is_watchable(self) -> bool:
        """Calendars owned by the system take no push channels (guide "push", limits of watchable resources)."""
        return self.kind in ("primary", "secondary")


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the append-only change log. `original_start` is set when only that instance changed."""

    seq: int
    at: datetime
    calendar_id: str
    event_id: str
    kind: Literal["created", "updated", "deleted", "restored", "moved_in", "moved_out", "instance"]
    original_start: OriginalStart | None = None


@dataclass(slots=True)
class Account:
    """A person at a provider, with the newest credentials that an application would hold for them.

    `calendar_id` is their primary (default) calendar. Of Microsoft accounts: `tenant` is a GUID, `personal` means
    outlook.com rather than an organisation, `zone_names` says whether Outlook writes Windows names of zones.
    """

    email: str
    subject: str
    provider: Provider
    client_id: str
    client_secret: str
    refresh_token: str
    scopes: tuple[str, ...]
    name: str | None = None
    deleted: bool = False
    calendar_id: str = ""
    tenant: str | None = None
    personal: bool = False
    zone_names: ZoneNames = "iana"


@dataclass(slots=True)
class OAuthClient:
    """An application registered at the provider: what `client_id` and `client_secret` belong to."""

    client_id: str
    secret: str
    deleted: bool = False
    secret_expired: bool = False
    redirect_uris: frozenset[str] = frozenset()
    """Where consent may lead back to, compared as text; none given: anywhere, which no real provider allows."""


@dataclass(slots=True)
class Grant:
    """One refresh token. `dead` holds the OAuth error (code, description, subtype) once it no longer works.

    `code` is the number that Microsoft gives the reason. `used_at` is when it was last good for something.
    """

    refresh_token: str
    email: str
    client_id: str
    scopes: tuple[str, ...]
    issued_at: datetime
    dead: tuple[str, str, str | None] | None = None
    code: int | None = None
    used_at: datetime | None = None


@dataclass(slots=True)
class Code:
    """An authorization code: good for ten minutes, once. `challenge` is the S256 digest that a verifier must have.

    `is_offline`: a refresh token comes with it.
    """

    code: str
    email: str
    client_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    issued_at: datetime
    challenge: str | None = None
    is_offline: bool = True
    redeemed: bool = False


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A bearer token as the provider remembers it."""

    token: str
    email: str
    client_id: str
    scopes: tuple[str, ...]
    expires_at: datetime
    refresh_token: str
