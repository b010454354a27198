"""What Microsoft's refusals mean: pure tables from status and code to the ProviderError family.

Judged is `error.code` of Graph, at any depth (`innerError` may hold a more exact one), and `error` of the token
endpoint; never the words of a message. AADSTS numbers only choose between labels: Microsoft says that they may change.
Whatever is unknown disconnects nobody.

Sources: Graph "Microsoft Graph error responses and resource types", "Throttling"; Entra "Authorization code flow",
"Microsoft Entra authentication and authorization error codes".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.errors import (
    AccessLost,
    AccessTokenRejected,
    CalendarGone,
    ChannelRefused,
    CursorExpired,
    FailureCode,
    GrantRevoked,
    MailboxUnavailable,
    OAuthAppBroken,
    ProviderContract,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
)
from app.providers.http import Refusal

_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NUMBER = re.compile(r"AADSTS(\d{4,9})\b")
_TRANSIENT = frozenset({408, 423, 500, 502, 503, 504, 509})


class PageTooHeavy(ProviderUnavailable):
    """504 on a listing: Graph could not put together a page of this size in time."""


class ConflictingSubscription(ProviderError):
    """409: the app has a subscription of this kind for this resource already. Stays inside the client."""


class NotThere(ProviderError):
    """404 on something that is no calendar: an event, a subscription. Stays inside the client."""


@dataclass(frozen=True, slots=True)
class _Complaint:
    status: int
    codes: tuple[str, ...]
    """`error.code` and those inside of it, the most exact one first."""
    retry_after: float | None

    @property
    def detail(self) -> str:
        return f"Microsoft answered {self.status} {self.codes[-1] if self.codes else ''}".rstrip()


def classify(refusal: Refusal) -> ProviderError:
    """The meaning of a refused Graph request that concerns one calendar, or the account."""
    complaint = _read(refusal)
    for code in complaint.codes:
        verdict = _BY_CODE.get(code)
        if verdict is not None:
            return verdict(complaint)
    if complaint.status == 401:
        return AccessTokenRejected(complaint.detail)
    if complaint.status == 429:
        return _throttled(complaint)
    if complaint.status in _TRANSIENT or complaint.status > 500:
        return _away(complaint)
    if complaint.codes and complaint.status == 403:
        return AccessLost(complaint.detail)
    if complaint.codes and complaint.status == 404:
        return CalendarGone(complaint.detail)
    if complaint.status == 410:
        return CursorExpired(complaint.detail)
    if not complaint.codes and (complaint.status in {403, 404} or complaint.status < 400):
        # Something between us and Graph: HTML, a redirect. Not a word about this user.
        return ProviderUnavailable(complaint.detail)
    return ProviderContract(complaint.detail)


def classify_page(refusal: Refusal) -> ProviderError:
    """A page of a listing: 504 asks for a smaller one."""
    if refusal.status == 504:
        return PageTooHeavy(_read(refusal).detail)
    return classify(refusal)


def classify_link(refusal: Refusal) -> ProviderError:
    """A delta link, or a next link of a delta round: whatever is refused as a bad request means its token."""
    error = classify(refusal)
    if isinstance(error, ProviderContract) and refusal.status == 400:
        return CursorExpired(error.detail)
    return error


def classify_item(refusal: Refusal) -> ProviderError:
    """One event by its id: 404 is about the event."""
    if refusal.status == 404 and "ErrorItemNotFound" in _read(refusal).codes:
        return NotThere(f"Microsoft answered {refusal.status}")
    return classify(refusal)


def classify_identity(refusal: Refusal) -> ProviderError:
    """`/me` knows no calendars: a 403 there means a missing scope."""
    error = classify(refusal)
    if isinstance(error, AccessLost):
        return GrantRevoked(error.detail, reason="scope_missing")
    if isinstance(error, CalendarGone):
        return GrantRevoked(error.detail, reason="account_gone")
    return error


def classify_subscription(refusal: Refusal) -> ProviderError:
    """A refused subscription: ours is there already, our address, the calendar, or as everywhere."""
    complaint = _read(refusal)
    if complaint.status == 409:
        return ConflictingSubscription(complaint.detail)
    if complaint.status == 404:
        return NotThere(complaint.detail)
    if "ValidationError" in complaint.codes:
        return ChannelRefused(complaint.detail)
    if "ExtensionError" in complaint.codes:
        # The mailbox cannot be subscribed to, or not now: polled, and tried again with backoff.
        return ChannelRefused(complaint.detail)
    error = classify(refusal)
    if isinstance(error, ProviderContract) and complaint.status in {400, 403}:
        return ChannelRefused(complaint.detail)
    return error


def classify_refresh(refusal: Refusal) -> ProviderError:
    """A refused refresh, by the `error` of RFC 6749, 5.2 and Entra's additions to it."""
    body = refusal.body if isinstance(refusal.body, dict) else {}
    error, number = _code(body.get("error")), _number(body)
    detail = f"Microsoft answered {refusal.status} {error} {f'AADSTS{number}' if number else ''}".rstrip()
    if number in _MOMENTARY_NUMBERS or error in _MOMENTARY:
        return _patience(detail, refusal.retry_after)
    if number in _OUR_NUMBERS or error in _OUR_FAULT:
        return OAuthAppBroken(detail, error=error or "invalid_client")
    if error in _USER_MUST_ACT:
        return GrantRevoked(detail, reason=_label(body, number), error=error)
    if refusal.status == 429 or refusal.status in _TRANSIENT or not error:
        return _patience(detail, refusal.retry_after)
    return ProviderContract(detail)


def classify_redeem(refusal: Refusal) -> ProviderError:
    """A refused code, as a refused refresh but for `invalid_request`: a browser brought the code, so it may be odd.

    Were it our request, it would be the same with every secret of the app: no reason to try the next one.
    """
    error = classify_refresh(refusal)
    number = _number(refusal.body if isinstance(refusal.body, dict) else {})
    if isinstance(error, OAuthAppBroken) and error.error == "invalid_request" and number not in _OUR_NUMBERS:
        return ProviderContract(error.detail)
    return error


_USER_MUST_ACT = frozenset({"invalid_grant", "interaction_required", "login_required", "consent_required"})
_OUR_FAULT = frozenset(
    {
        "invalid_client",
        "unauthorized_client",
        "invalid_request",
        "invalid_scope",
        "invalid_resource",
        "unsupported_grant_type",
    }
)
_OUR_NUMBERS = frozenset({7000215, 7000222, 7000218, 700016, 700025, 7000112, 500014, 90002, 50194})
_MOMENTARY = frozenset({"temporarily_unavailable", "server_error"})
_MOMENTARY_NUMBERS = frozenset({90033, 70012, 50196})
_LABELS: Mapping[int, FailureCode] = {
    65001: "consent_withdrawn",
    53000: "admin_blocked",
    53001: "admin_blocked",
    53003: "admin_blocked",
    50034: "account_gone",
    50057: "account_gone",
    50076: "reauth_required",
    50078: "reauth_required",
    50079: "reauth_required",
    70043: "reauth_required",
    70044: "reauth_required",
    700082: "reauth_required",
    700084: "reauth_required",
}


def _label(body: Mapping[str, object], number: int) -> FailureCode:
    if body.get("error") == "consent_required" or body.get("suberror") == "consent_required":
        return "consent_withdrawn"
    if number in _LABELS:
        return _LABELS[number]
    return "user_revoked" if body.get("error") == "invalid_grant" else "reauth_required"


def _number(body: Mapping[str, object]) -> int:
    codes = body.get("error_codes")
    if isinstance(codes, list) and codes and isinstance(codes[0], int):
        return codes[0]
    description = body.get("error_description")
    match = _NUMBER.search(description[:200]) if isinstance(description, str) else None
    return int(match[1]) if match else 0


def _patience(detail: str, after: float | None) -> ProviderError:
    return ProviderUnavailable(detail) if after is None else ProviderThrottled(detail, after=after)


def _away(complaint: _Complaint) -> ProviderError:
    """An outage that says how long it lasts is deferred exactly that long."""
    return _patience(complaint.detail, complaint.retry_after)


def _throttled(complaint: _Complaint) -> ProviderError:
    return ProviderThrottled(complaint.detail, after=complaint.retry_after)


def _revoked(reason: FailureCode) -> Callable[[_Complaint], ProviderError]:
    return lambda complaint: GrantRevoked(complaint.detail, reason=reason, error=complaint.codes[-1])


_BY_CODE: Mapping[str, Callable[[_Complaint], ProviderError]] = {
    "InvalidAuthenticationToken": lambda c: AccessTokenRejected(c.detail),
    "Authorization_RequestDenied": _revoked("scope_missing"),
    "ErrorAccessDenied": lambda c: AccessLost(c.detail),
    "AccessDenied": lambda c: AccessLost(c.detail),
    "ErrorInvalidIdMalformed": lambda c: CalendarGone(c.detail),  # the calendar's: nobody else writes an id
    "ErrorItemNotFound": lambda c: CalendarGone(c.detail),
    "ErrorInvalidUser": _revoked("account_gone"),
    "Request_ResourceNotFound": _revoked("account_gone"),
    "ErrorNonExistentMailbox": _revoked("mailbox_unavailable"),
    "MailboxNotEnabledForRESTAPI": lambda c: MailboxUnavailable(c.detail),
    "ApplicationThrottled": _throttled,
    "TooManyRequests": _throttled,
    "activityLimitReached": _throttled,
    "SyncStateNotFound": lambda c: CursorExpired(c.detail),
    "SyncStateInvalid": lambda c: CursorExpired(c.detail),
    "resyncRequired": lambda c: CursorExpired(c.detail),
    "ErrorSyncFolderNotFound": lambda c: CursorExpired(c.detail),
    "ErrorInvalidSyncStateData": lambda c: CursorExpired(c.detail),
    "ErrorServerBusy": _away,
    "ErrorMailboxStoreUnavailable": _away,
    "serviceNotAvailable": _away,
}


def _read(refusal: Refusal) -> _Complaint:
    error = refusal.body.get("error") if isinstance(refusal.body, dict) else None
    codes: list[str] = []
    while isinstance(error, dict) and len(codes) < 5:
        code = _code(error.get("code"))
        if code:
            codes.insert(0, code)
        error = error.get("innerError") or error.get("innererror")
    return _Complaint(refusal.status, tuple(codes), refusal.retry_after)


def _code(value: object) -> str:
    """A code of Microsoft's, fit for a log and for the API; anything else, such as prose, is dropped."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else ""
