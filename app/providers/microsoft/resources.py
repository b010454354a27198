"""Microsoft's small answers (token, account, calendar, subscription, notifications) as the port's values; pure.

Each function reads what the page it cites documents; ProviderContract where a needed field is missing or of another
type. Texts come out fit to be stored.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from app.errors import ProviderContract
from app.providers import answers
from app.providers.answers import fields_of, needed, text_in
from app.providers.base import Account, Channel, Notification, NotificationKind, RemoteCalendar, TokenAnswer
from app.providers.http import parse_json

_READING_SCOPE = re.compile(
    r"(?:https://graph\.microsoft\.com/)?Calendars\.Read(?:Write|Basic)?(?:\.Shared)?", re.IGNORECASE
)
_NOTIFICATIONS_LIMIT = 1_000
_TEXT_LIMIT = 1_024
_LIFECYCLE: Final[dict[str, NotificationKind]] = {
    "missed": "missed",
    "reauthorizationRequired": "expiring",
    "subscriptionRemoved": "removed",
}


def read_token(answer: object) -> TokenAnswer:
    """A refresh's answer ("Authorization code flow", "Refresh the access token").

    GrantRevoked `scope_missing` where the scopes are stated and none reads calendars.
    """
    return answers.read_token(answer, is_calendar_scope=lambda scope: bool(_READING_SCOPE.fullmatch(scope)))


def read_account(answer: object) -> Account:
    """`/me` ("user resource type"). `mail` is null for many personal accounts: then the name they sign in with."""
    fields = fields_of(answer, "an account")
    mail, name = text_in(fields.get("mail")), text_in(fields.get("userPrincipalName"))
    return Account(
        subject=needed(fields.get("id"), "an account"), email=mail or (name if name and "@" in name else None)
    )


def read_calendar(answer: object) -> RemoteCalendar:
    """A "calendar" resource. Its address is its owner's; what one may do with it comes as three flags."""
    fields = fields_of(answer, "a calendar")
    owner = fields.get("owner")
    return RemoteCalendar(
        id=needed(fields.get("id"), "a calendar"),
        name=text_in(fields.get("name")),
        email=text_in(owner.get("address")) if isinstance(owner, dict) else None,
        is_primary=fields.get("isDefaultCalendar") is True,
        access_role=_role(fields),
        time_zone=None,
    )


def _role(fields: dict[str, Any]) -> str | None:
    if fields.get("canShare") is True:
        return "owner"
    can_edit = fields.get("canEdit")
    return None if not isinstance(can_edit, bool) else "writer" if can_edit else "reader"


def read_page(answer: object) -> tuple[list[Any], str | None, str | None]:
    """An OData collection: its entries, the next page's address, the delta link."""
    fields = fields_of(answer, "a page")
    value, following, delta = fields.get("value"), fields.get("@odata.nextLink"), fields.get("@odata.deltaLink")
    if not isinstance(value, list) or not all(link is None or isinstance(link, str) for link in (following, delta)):
        raise ProviderContract("a page could not be read")
    return value, following, delta


def read_subscription(answer: object) -> Channel:
    """A "subscription" resource; `expirationDateTime` may be sooner than asked for."""
    fields = fields_of(answer, "a subscription")
    stamp = needed(fields.get("expirationDateTime"), "a subscription")
    try:
        expires_at = datetime.fromisoformat(stamp)
    except ValueError as exc:
        raise ProviderContract("a subscription has no expiration") from exc
    expires_at = expires_at if expires_at.tzinfo is not None else expires_at.replace(tzinfo=UTC)
    return Channel(resource_id=needed(fields.get("id"), "a subscription"), expires_at=expires_at.astimezone(UTC))


def is_subscription_of(entry: object, *, resource: str, address: str) -> bool:
    """Whether an entry of the app's subscriptions watches this resource for this address."""
    return isinstance(entry, dict) and entry.get("resource") == resource and entry.get("notificationUrl") == address


def read_notifications(body: bytes) -> Sequence[Notification]:
    """A "changeNotificationCollection": each item by itself, those without our secret's form left out.

    `clientState` holds our channel's id and its token. ProviderContract where the body is no such collection.
    """
    fields = fields_of(parse_json(body), "a notification")
    items = fields.get("value")
    if not isinstance(items, list) or len(items) > _NOTIFICATIONS_LIMIT:
        raise ProviderContract("a notification could not be read")
    return [notification for item in items if (notification := _notification(item)) is not None]


def _notification(item: object) -> Notification | None:
    if not isinstance(item, dict):
        return None
    state, subscription = item.get("clientState"), text_in(item.get("subscriptionId"))
    if not isinstance(state, str) or len(state) > _TEXT_LIMIT or not state.isascii() or subscription is None:
        return None
    channel_id, dot, token = state.partition(".")
    lifecycle = item.get("lifecycleEvent")
    kind = "changed" if lifecycle is None else _LIFECYCLE.get(lifecycle) if isinstance(lifecycle, str) else None
    if not dot or not token or kind is None or len(subscription) > _TEXT_LIMIT:
        return None
    return Notification(channel_id, token, subscription, kind)


def client_state(channel_id: str, token: str) -> str:
    """What a subscription's notifications have to repeat; at most 128 characters ("subscription resource type")."""
    return f"{channel_id}.{token}"
