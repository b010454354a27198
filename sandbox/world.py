"""The world: accounts, calendars and events, provider-neutral, with an append-only change log. The oracle of tests.

Every edit makes a new version of one event and one entry of the log; versions are kept, so a façade can say what was
true at an earlier moment. What a calendar shows in a span is `instances()`: whatever a façade answers, and whatever
Punctual's API says, is compared with that. Nothing here knows a provider's wire format.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sandbox import ids, series
from sandbox.clock import Clock
from sandbox.model import (
    DRAFT_FIELDS,
    AccessToken,
    Account,
    Calendar,
    CalendarKind,
    Change,
    Code,
    Event,
    EventDraft,
    Grant,
    IdStyle,
    Instance,
    OAuthClient,
    OriginalStart,
    Override,
    Person,
    Provider,
    Role,
    ZoneNames,
)

CALENDAR_SCOPES = ("openid", "email", "https://www.googleapis.com/auth/calendar.readonly")
GRAPH_SCOPES = ("openid", "offline_access", "Calendars.Read", "User.Read")
CLIENTS: dict[Provider, str] = {
    "google": "sandbox-client",
    "microsoft": "3a5e0c1d-7b52-4c7e-9d0a-5a9db0c5e001",
}
"""The OAuth application that accounts have granted access to, where no other is named."""
ACCESS_TOKEN_SECONDS = 3599


class UnknownError(LookupError):
    """No such account, calendar or event."""


class World:
    """Everything that exists at the providers. Edits are synchronous and take effect at once."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.accounts: dict[str, Account] = {}
        self.clients: dict[str, OAuthClient] = {}
        self.grants: dict[str, Grant] = {}
        self.codes: dict[str, Code] = {}
        self.tokens: dict[str, AccessToken] = {}
        self.calendars: dict[str, Calendar] = {}
        self.versions: dict[str, dict[str, list[Event]]] = {}
        self.log: list[Change] = []
        self._listeners: list[Callable[[Change], None]] = []

    @property
    def seq(self) -> int:
        """The number of the newest change."""
        return len(self.log)

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """Call with each change after it took effect."""
        self._listeners.append(listener)

    # --- accounts and grants ---

    def add_account(
        self,
        email: str,
        *,
        provider: Provider = "google",
        client_id: str | None = None,
        client_secret: str = "sandbox-secret",  # noqa: S107 - of the sandbox
        scopes: tuple[str, ...] | None = None,
        time_zone: str = "UTC",
        name: str | None = None,
        personal: bool | None = None,
        zone_names: ZoneNames = "windows",
    ) -> Account:
        """A person with a primary calendar and a grant for one OAuth client.

        At Google the calendar's id is the e-mail. At Microsoft it is opaque (`Account.calendar_id`) and its name is
        "Calendar"; `personal` follows from the mail domain where it is not given, and `zone_names` counts there only.
        """
        if email in self.accounts:
            raise ValueError(f"{email} exists")
        is_microsoft = provider == "microsoft"
        client_id = client_id or CLIENTS[provider]
        self.clients.setdefault(client_id, OAuthClient(client_id, client_secret))
        if personal is None:
            personal = is_microsoft and email.rpartition("@")[2] in ids.PERSONAL_DOMAINS
        account = Account(
            email=email,
            subject=ids.subject(provider, len(self.accounts) + 1),
            provider=provider,
            client_id=client_id,
            client_secret=self.clients[client_id].secret,
            refresh_token="",
            scopes=scopes or (GRAPH_SCOPES if is_microsoft else CALENDAR_SCOPES),
            name=name,
            personal=personal,
            zone_names=zone_names if is_microsoft else "iana",
        )
        if is_microsoft:
            account.tenant = ids.CONSUMERS if personal else ids.tenant_of(email)
        self.accounts[email] = account
        summary, calendar_id = ("Calendar", None) if is_microsoft else (email, email)
        account.calendar_id = self.add_calendar(account, summary, time_zone, calendar_id=calendar_id, kind="primary").id
        self.issue_refresh_token(account)
        return account

    def issue_refresh_token(
        self, account: Account, *, client_id: str | None = None, scopes: tuple[str, ...] | None = None
    ) -> str:
        """A new grant beside the old ones; the account remembers the newest."""
        token = ids.refresh_token(account.provider, personal=account.personal)
        client = client_id or account.client_id
        self.grants[token] = Grant(token, account.email, client, scopes or account.scopes, self.clock.now())
        account.refresh_token = token
        return token

    def issue_code(
        self,
        account: Account,
        redirect_uri: str,
        *,
        client_id: str | None = None,
        scopes: tuple[str, ...] | None = None,
        challenge: str | None = None,
        is_offline: bool = True,
    ) -> str:
        """What the browser would bring back to `redirect_uri` once the user has consented."""
        code = Code(
            secrets.token_urlsafe(60),
            account.email,
            client_id or account.client_id,
            redirect_uri,
            scopes or account.scopes,
            self.clock.now(),
            challenge,
            is_offline,
        )
        self.codes[code.code] = code
        return code.code

    def revoke(
        self,
        account: Account,
        *,
        error: str = "invalid_grant",
        description: str = "Token has been expired or revoked.",
        subtype: str | None = None,
        code: int = 50173,
    ) -> None:
        """End every grant of the account; refreshing answers with this error from now on.

        Google tells `error`, `description` and `subtype`; Microsoft tells what belongs to the AADSTS number `code`.
        """
        for grant in self.grants.values():
            if grant.email == account.email and grant.dead is None:
                grant.dead, grant.code = (error, description, subtype), code
        self.tokens = {key: token for key, token in self.tokens.items() if token.email != account.email}

    def set_client_secret(self, client_id: str, secret: str) -> None:
        """What the OAuth client's owner does in the provider's console."""
        self.clients[client_id].secret = secret

    def issue_access_token(self, grant: Grant, *, scopes: tuple[str, ...] | None = None) -> AccessToken:
        """A bearer token of an hour, for all scopes of the grant or for some."""
        account = self.accounts[grant.email]
        grant.used_at = self.clock.now()
        expires = self.clock.now() + timedelta(seconds=ACCESS_TOKEN_SECONDS)
        token = AccessToken(
            ids.access_token(account.provider, personal=account.personal),
            grant.email,
            grant.client_id,
            scopes or grant.scopes,
            expires,
            grant.refresh_token,
        )
        self.tokens[token.token] = token
        return token

    def expire_access_tokens(self) -> None:
        """Every bearer token is refused from now on."""
        self.tokens.clear()

    # --- calendars ---

    def add_calendar(
        self,
        account: Account,
        summary: str,
        time_zone: str = "UTC",
        *,
        calendar_id: str | None = None,
        kind: CalendarKind = "secondary",
    ) -> Calendar:
        """A calendar that the account owns."""
        now = self.clock.now()
        calendar_id = calendar_id or ids.calendar(account.provider, personal=account.personal)
        calendar = Calendar(
            id=calendar_id,
            owner=account.email,
            summary=summary,
            time_zone=time_zone,
            kind=kind,
            created=now,
            updated=now,
            acl={account.email: "owner"},
            acl_seq={account.email: self.seq},
            acl_updated={account.email: now},
            provider=account.provider,
        )
        self.calendars[calendar_id] = calendar
        self.versions[calendar_id] = {}
        return calendar

    def share(self, calendar_id: str, email: str, role: Role | None) -> None:
        """Give somebody access, change it, or (None) take it away; sync tokens of that person end."""
        calendar = self.calendar(calendar_id)
        if role is None:
            calendar.acl.pop(email, None)
        else:
            calendar.acl[email] = role
        calendar.acl_epoch[email] = calendar.acl_epoch.get(email, 0) + 1

    def expire_sync_tokens(self, calendar_id: str) -> None:
        """The provider forgets: every sync token handed out so far answers 410."""
        self.calendar(calendar_id).token_epoch += 1

    def delete_calendar(self, calendar_id: str) -> None:
        """Nobody can see it any more."""
        self.calendar(calendar_id).deleted = True

    def calendar(self, calendar_id: str) -> Calendar:
        """By id; UnknownError."""
        try:
            return self.calendars[calendar_id]
        except KeyError:
            raise UnknownError(calendar_id) from None

    # --- events ---

    def create_event(
        self, calendar_id: str, draft: EventDraft, *, event_id: str | None = None, id_style: IdStyle | None = None
    ) -> Event:
        """A single event, or a series where the draft recurs. `id_style` is that of the ids of its instances."""
        calendar = self.calendar(calendar_id)
        now, seq = self.clock.now(), self.seq + 1
        event_id = event_id or ids.event(calendar.provider)
        owner = Person(calendar.owner, self.accounts[calendar.owner].name)
        values = {name: getattr(draft, name) for name in DRAFT_FIELDS}
        values["time_zone"] = draft.time_zone or calendar.time_zone
        values["organizer"] = draft.organizer or owner
        values["creator"] = draft.creator or owner
        values["ical_uid"] = draft.ical_uid or ids.ical_uid(calendar.provider, event_id, now)
        event = Event(
            **values,
            id=event_id,
            calendar_id=calendar_id,
            created=now,
            updated=now,
            seq=seq,
            base_seq=seq,
            id_style=id_style or ("classic" if calendar.provider == "google" else "immutable"),
        )
        return self._store(event, "created")

    def event(self, calendar_id: str, event_id: str) -> Event:
        """The newest version; UnknownError."""
        found = self.versions.get(calendar_id, {}).get(event_id)
        if not found:
            raise UnknownError(event_id)
        return found[-1]

    def update_event(self, calendar_id: str, event_id: str, **changes: Any) -> Event:
        """Change a single event, or all of a series; changed times of a series drop its exceptions, as at Google."""
        event = self.event(calendar_id, event_id)
        retimed = "start" in changes or "end" in changes
        overrides = {} if event.is_series and (retimed or "recurrence" in changes) else event.overrides
        return self._next(
            event, "updated", **changes, overrides=overrides, sequence=event.sequence + (1 if retimed else 0)
        )

    def touch(self, calendar_id: str, event_id: str) -> Event:
        """A change that nobody can see: a new version with the same content."""
        return self._next(self.event(calendar_id, event_id), "updated")

    def delete_event(self, calendar_id: str, event_id: str) -> Event:
        """Delete a single event or a whole series."""
        return self._next(self.event(calendar_id, event_id), "deleted", deleted=True)

    def restore_event(self, calendar_id: str, event_id: str) -> Event:
        """Bring it back from the trash, same id."""
        return self._next(self.event(calendar_id, event_id), "restored", deleted=False)

    def move_event(self, calendar_id: str, event_id: str, destination: str) -> Event:
        """Move to another calendar, with the same id."""
        event = self.event(calendar_id, event_id)
        self._next(event, "moved_out", deleted=True, moved_to=destination)
        seq, now = self.seq + 1, self.clock.now()
        moved = replace(event, calendar_id=destination, seq=seq, base_seq=seq, updated=now, deleted=False)
        return self._store(moved, "moved_in")

    def update_instance(
        self,
        calendar_id: str,
        event_id: str,
        original_start: OriginalStart,
        **changes: Any,
    ) -> Event:
        """Change one occurrence alone."""
        return self._override(calendar_id, event_id, original_start, changes, cancelled=False)

    def cancel_instance(self, calendar_id: str, event_id: str, original_start: OriginalStart) -> Event:
        """Delete one occurrence alone."""
        return self._override(calendar_id, event_id, original_start, {}, cancelled=True)

    def split_series(self, calendar_id: str, event_id: str, at: OriginalStart, **changes: Any) -> Event:
        """«This and following»: the old series ends before `at`, a new one with ids of its own goes on from there."""
        event = self.event(calendar_id, event_id)
        passed = series.count_before(event, at)
        stamp = f"{at:%Y%m%dT%H%M%S}" if isinstance(at, datetime) else f"{at:%Y%m%d}"
        self._next(
            event,
            "updated",
            recurrence=tuple(_ending_before(line, at) for line in event.recurrence),
            overrides={key: value for key, value in event.overrides.items() if str(key) < str(at)},
        )
        values = {name: getattr(event, name) for name in DRAFT_FIELDS}
        # As long as the rule says: the occurrence that stood here may have been moved by itself.
        values |= {"start": at, "end": at + (event.end - event.start), "ical_uid": None}
        values["recurrence"] = tuple(_after(line, passed) for line in event.recurrence)
        draft = EventDraft(**(values | changes))
        is_google = self.calendar(calendar_id).provider == "google"
        new_id = f"{event_id}_R{stamp}" if is_google else None
        return self.create_event(calendar_id, draft, event_id=new_id, id_style=event.id_style)

    def instances(self, calendar_id: str, start: datetime, end: datetime) -> list[Instance]:
        """What the calendar shows in the span, exclusive on both sides: the truth that everything is compared with."""
        zone = ZoneInfo(self.calendar(calendar_id).time_zone)
        return [
            shown
            for versions in self.versions[calendar_id].values()
            if versions[-1].is_live
            for shown in series.within(versions[-1], start, end, zone)
            if shown.live and shown.status != "cancelled"
        ]

    # --- inside ---

    def _override(
        self, calendar_id: str, event_id: str, original: OriginalStart, changes: dict[str, Any], *, cancelled: bool
    ) -> Event:
        event = self.event(calendar_id, event_id)
        original = original.astimezone(UTC) if isinstance(original, datetime) else original
        if not event.is_series or not series.is_original(event, original):
            raise UnknownError(f"{event_id} has no occurrence at {original}")
        before = event.overrides.get(original)
        merged = {**(before.changes if before else {}), **changes}
        now, seq = self.clock.now(), self.seq + 1
        override = Override(original_start=original, changes=merged, cancelled=cancelled, seq=seq, updated=now)
        version = replace(event, overrides={**event.overrides, original: override}, seq=seq)
        return self._store(version, "instance", original)

    def _next(self, event: Event, kind: Any, **changes: Any) -> Event:
        seq = self.seq + 1
        return self._store(
            replace(event, **{"updated": self.clock.now(), "seq": seq, "base_seq": seq, **changes}), kind
        )

    def _store(self, event: Event, kind: Any, original: OriginalStart | None = None) -> Event:
        self.versions[event.calendar_id].setdefault(event.id, []).append(event)
        change = Change(event.seq, self.clock.now(), event.calendar_id, event.id, kind, original)
        self.log.append(change)
        for listener in self._listeners:
            listener(change)
        return event


def _after(line: str, passed: int) -> str:
    """A rule with a COUNT has that many fewer left."""
    parts = [
        f"COUNT={int(part[6:]) - passed}" if part.upper().startswith("COUNT=") else part
        for part in line.replace("RRULE:", "RRULE:;", 1).split(";")
    ]
    return ";".join(parts).replace("RRULE:;", "RRULE:", 1)


def _ending_before(line: str, at: OriginalStart) -> str:
    if not line.upper().startswith("RRULE"):
        return line
    last = at - timedelta(seconds=1) if isinstance(at, datetime) else at - timedelta(days=1)
    until = f"{last.astimezone(UTC):%Y%m%dT%H%M%SZ}" if isinstance(last, datetime) else f"{last:%Y%m%d}"
    kept = [part for part in line.split(";") if not part.upper().startswith(("UNTIL=", "COUNT="))]
    return ";".join([*kept, f"UNTIL={until}"])
