"""Google's small answers (token, account, calendar, channel, notification) as the port's values; pure.

Each function reads what the page it cites documents; ProviderContract where a needed field is missing or of another
type. Texts come out fit to be stored.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from app.errors import ProviderContract
from app.providers import answers
from app.providers.answers import fields_of, needed, text_in
from app.providers.base import Account, Channel, Notification, RemoteCalendar, TokenAnswer
from app.providers.zones import known_zone

_SCOPE = "https://www.googleapis.com/auth/"
_READING_SCOPES = frozenset(
    # Each lets `events.list` and `events.watch` answer ("Events: list", "Authorization").
    {
        f"{_SCOPE}calendar",
        f"{_SCOPE}calendar.readonly",
        f"{_SCOPE}calendar.events",
        f"{_SCOPE}calendar.events.readonly",
        f"{_SCOPE}calendar.events.freebusy",
        f"{_SCOPE}calendar.events.owned",
        f"{_SCOPE}calendar.events.owned.readonly",
        f"{_SCOPE}calendar.events.public.readonly",
        f"{_SCOPE}calendar.app.created",
        "https://www.google.com/calendar/feeds",  # the oldest name of the full scope, in grants made long ago
    }
)
_LONGEST_HEADER = 1024


def read_token(answer: object) -> TokenAnswer:
    """A refresh's answer ("Using OAuth 2.0 for Web Server Applications", "Refreshing an access token").

    GrantRevoked `scope_missing` where the scopes are stated and none reads calendars: the user unticked the box.
    """
    return answers.read_token(answer, is_calendar_scope=_READING_SCOPES.__contains__)


def read_account(answer: object) -> Account:
    """Userinfo ("OpenID Connect", "Obtaining user profile information")."""
    fields = fields_of(answer, "an account")
    return Account(subject=needed(fields.get("sub"), "an account"), email=text_in(fields.get("email")))


def read_calendar(answer: object, *, is_primary: bool = False) -> RemoteCalendar:
    """A "Calendars" or "CalendarList" resource. Only a primary calendar's id is its owner's e-mail address."""
    fields = fields_of(answer, "a calendar")
    calendar_id = needed(fields.get("id"), "a calendar")
    is_primary = is_primary or fields.get("primary") is True
    return RemoteCalendar(
        id=calendar_id,
        name=text_in(fields.get("summaryOverride")) or text_in(fields.get("summary")),
        email=calendar_id if is_primary and "@" in calendar_id else None,
        is_primary=is_primary,
        access_role=text_in(fields.get("accessRole")),
        time_zone=known_zone(fields.get("timeZone")),
    )


def read_listed_calendar(listing: object, calendar_id: str, *, is_primary: bool) -> RemoteCalendar:
    """What a page of "Events: list" says about its calendar, which is not its id."""
    fields = fields_of(listing, "a page of events")
    return RemoteCalendar(
        id=calendar_id,
        name=text_in(fields.get("summary")),
        email=calendar_id if is_primary else None,
        is_primary=is_primary,
        access_role=text_in(fields.get("accessRole")),
        time_zone=known_zone(fields.get("timeZone")),
    )


def read_calendars(answer: object) -> tuple[list[RemoteCalendar], str | None]:
    """A page of "CalendarList: list" and the next page's token. Deleted entries are left out."""
    fields = fields_of(answer, "a list of calendars")
    items, next_page = fields.get("items", []), fields.get("nextPageToken")
    if not isinstance(items, list) or not (next_page is None or isinstance(next_page, str)):
        raise ProviderContract("a list of calendars could not be read")
    entries = [item for item in items if not (isinstance(item, dict) and item.get("deleted") is True)]
    return [read_calendar(entry) for entry in entries], next_page or None


def read_channel(answer: object) -> Channel:
    """ "Events: watch": `expiration` is a text of milliseconds, and may be sooner than asked for."""
    fields = fields_of(answer, "a channel")
    try:
        expires_at = datetime.fromtimestamp(int(needed(fields.get("expiration"), "a channel")) / 1000, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise ProviderContract("a channel has no expiration") from exc
    return Channel(resource_id=needed(fields.get("resourceId"), "a channel"), expires_at=expires_at)


def read_notification(headers: Mapping[str, str]) -> Notification | None:
    """The headers of a push (guide "Push notifications", "Understanding the notification message format").

    None without a channel, a token (we always set one) or a state that we know, and for absurdly long values.
    """
    channel_id, token = headers.get("x-goog-channel-id"), headers.get("x-goog-channel-token")
    resource_id = headers.get("x-goog-resource-id")
    state = headers.get("x-goog-resource-state")
    if not channel_id or not token or any(len(v) > _LONGEST_HEADER for v in (channel_id, token, resource_id or "")):
        return None
    if state == "sync":
        return Notification(channel_id, token, resource_id, "created")
    if state in {"exists", "not_exists"}:
        return Notification(channel_id, token, resource_id, "changed")
    return None
