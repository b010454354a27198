"""What Google's refusals mean: three pure tables from status, reason and domain to the ProviderError family.

One place, so that a calendar is disconnected only where Google says that this user's access is over. Judged is always
Google's *reason*, never the words of a message: the ordinary per-user quota answer is a 403 with the status
PERMISSION_DENIED. Whatever is unknown disconnects nobody.

Sources: Calendar API guides "Handle API errors", "Push notifications", "Synchronize resources efficiently"; "Using
OAuth 2.0 to access Google APIs".
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
    OAuthAppBroken,
    ProviderContract,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
)
from app.providers.http import Refusal

_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TRANSIENT = frozenset({408, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class _Complaint:
    """The machine-readable part of an error body; "" where it is absent."""

    status: int
    reason: str
    """`error.errors[0].reason`; where it is absent, that of the ErrorInfo, then the canonical status."""
    domain: str
    info: str
    """The reason of the newer `google.rpc.ErrorInfo`: the most exact one."""
    quota: str
    """Its `quota_limit`, such as `defaultPerMinutePerUser`."""
    retry_after: float | None

    @property
    def detail(self) -> str:
        return f"Google answered {self.status} {self.reason}".rstrip()


_Verdict = Callable[[_Complaint], ProviderError]


def classify(refusal: Refusal) -> ProviderError:
    """The meaning of a refused Calendar API request that concerns one calendar, or the account."""
    complaint = _read(refusal)
    if away := _away(complaint):
        return away
    verdict = _BY_REASON.get(complaint.info) or _BY_REASON.get(complaint.reason)
    if verdict is not None:
        return verdict(complaint)
    if complaint.status == 401:
        return AccessTokenRejected(complaint.detail)
    if complaint.status == 429 or complaint.domain == "usageLimits":
        return _throttled(complaint)
    if not complaint.reason and (complaint.status == 403 or complaint.status < 400):
        # Google's front end, or something else between us and it: HTML, a redirect. Not a word about this user.
        return ProviderUnavailable(complaint.detail)
    return ProviderContract(complaint.detail)


def classify_cursor(refusal: Refusal) -> ProviderError:
    """The first page of an incremental listing: its only part that is not constant is the sync token.

    So whatever of it is refused as a bad request means the token, and a full listing heals it; were it our constant
    parameters, the full listing would be refused as well.
    """
    error = classify(refusal)
    if isinstance(error, ProviderContract) and refusal.status in {400, 410}:
        return CursorExpired(error.detail)
    return error


def classify_page(refusal: Refusal) -> ProviderError:
    """A later page differs from the first by its page token: a bad request means that, and the round begins anew."""
    error = classify(refusal)
    if isinstance(error, ProviderContract) and refusal.status == 400:
        return ProviderUnavailable(error.detail)
    return error


def classify_watch(refusal: Refusal) -> ProviderError:
    """A refused `events.watch` (guide "Push notifications"): the calendar, our address, or as everywhere."""
    complaint = _read(refusal)
    if complaint.reason == "pushNotSupportedForRequestedResource":
        return ChannelRefused(complaint.detail, permanent=True)
    if complaint.reason.startswith("push.webhookUrl"):
        return ChannelRefused(complaint.detail)
    if complaint.reason == "channelIdNotUnique":
        # An earlier answer was lost: the next attempt brings an id of its own.
        return ProviderUnavailable(complaint.detail)
    return classify(refusal)


def classify_identity(refusal: Refusal) -> ProviderError:
    """A refused userinfo request, which knows no calendars: a 403 in JSON that is no quota's means a missing scope."""
    error = classify(refusal)
    if isinstance(error, ProviderThrottled | ProviderUnavailable | OAuthAppBroken | AccessTokenRejected):
        return error
    if refusal.status == 403:
        return GrantRevoked(error.detail, reason="scope_missing")
    return ProviderContract(error.detail)


def classify_refresh(refusal: Refusal) -> ProviderError:
    """A refused refresh, by the `error` of RFC 6749, 5.2 and Google's additions to it."""
    body = refusal.body if isinstance(refusal.body, dict) else {}
    error, subtype = _code(body.get("error")), _code(body.get("error_subtype"))
    detail = f"Google answered {refusal.status} {error}".rstrip()
    if error == "invalid_grant":
        return GrantRevoked(detail, reason=_end_of_grant(subtype, body.get("error_description")), error=error)
    if error == "admin_policy_enforced":
        return GrantRevoked(detail, reason="admin_blocked", error=error)
    if error in _OUR_FAULT:
        return OAuthAppBroken(detail, error=error)
    if error in _MOMENTARY or refusal.status == 429 or refusal.status in _TRANSIENT or not error:
        return _patience(detail, refusal.retry_after) or ProviderUnavailable(detail)
    return ProviderContract(detail)


def classify_redeem(refusal: Refusal) -> ProviderError:
    """A refused code, as a refused refresh but for `invalid_request`: a browser brought the code, so it may be odd.

    Were it our request, it would be the same with every secret of the app: no reason to try the next one.
    """
    error = classify_refresh(refusal)
    if isinstance(error, OAuthAppBroken) and error.error == "invalid_request":
        return ProviderContract(error.detail)
    return error


_OUR_FAULT = frozenset(
    {
        "invalid_client",
        "deleted_client",
        "unauthorized_client",
        "invalid_request",
        "unsupported_grant_type",
        "invalid_scope",
    }
)
_MOMENTARY = frozenset({"internal_failure", "server_error", "temporarily_unavailable"})
_REAUTH = ("invalid_rapt", "rapt_required")


def _end_of_grant(subtype: str, description: object) -> FailureCode:
    """Why a grant ended. That it ended is said by `error`; the description only chooses between the labels for it."""
    words = description.lower() if isinstance(description, str) else ""
    if subtype in _REAUTH or any(code in words for code in _REAUTH):
        return "reauth_required"
    if "account has been deleted" in words:
        return "account_gone"
    return "user_revoked"


def _throttled(complaint: _Complaint) -> ProviderError:
    # `quota_limit` names whose limit it is; the plain reasons are about the user, but for the daily one.
    is_app = complaint.reason == "dailyLimitExceeded" or complaint.quota.endswith("PerProject")
    return ProviderThrottled(complaint.detail, after=complaint.retry_after, scope="app" if is_app else "user")


def _away(complaint: _Complaint) -> ProviderError | None:
    if complaint.status in _TRANSIENT or complaint.status > 500:
        return _patience(complaint.detail, complaint.retry_after) or ProviderUnavailable(complaint.detail)
    return None


def _patience(detail: str, after: float | None) -> ProviderThrottled | None:
    """An outage that says how long it lasts (RFC 9110, 10.2.3: 503 with Retry-After) is deferred exactly that long."""
    return None if after is None else ProviderThrottled(detail, after=after)


def _revoked(reason: FailureCode) -> _Verdict:
    return lambda complaint: GrantRevoked(complaint.detail, reason=reason, error=complaint.reason)


_BY_REASON: Mapping[str, _Verdict] = {
    "authError": lambda c: AccessTokenRejected(c.detail),
    "userRateLimitExceeded": _throttled,
    "rateLimitExceeded": _throttled,
    "quotaExceeded": _throttled,
    "dailyLimitExceeded": _throttled,
    "RATE_LIMIT_EXCEEDED": _throttled,
    "accessNotConfigured": lambda c: OAuthAppBroken(c.detail, error=c.reason),
    "SERVICE_DISABLED": lambda c: OAuthAppBroken(c.detail, error=c.reason),
    "insufficientPermissions": _revoked("scope_missing"),
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": _revoked("scope_missing"),
    "notACalendarUser": _revoked("mailbox_unavailable"),
    "forbidden": lambda c: AccessLost(c.detail),
    "notFound": lambda c: CalendarGone(c.detail),
    "deleted": lambda c: CalendarGone(c.detail),
    "fullSyncRequired": lambda c: CursorExpired(c.detail),
    "updatedMinTooLongAgo": lambda c: CursorExpired(c.detail),
    # Canonical statuses, for an answer without a reason. PERMISSION_DENIED says too little to be among them.
    "NOT_FOUND": lambda c: CalendarGone(c.detail),
    "RESOURCE_EXHAUSTED": _throttled,
    "backendError": lambda c: ProviderUnavailable(c.detail),
}


def _read(refusal: Refusal) -> _Complaint:
    error = refusal.body.get("error") if isinstance(refusal.body, dict) else None
    error = error if isinstance(error, dict) else {}
    first = _first(error.get("errors"), lambda _: True)
    info = _first(error.get("details"), lambda entry: "reason" in entry)
    metadata = info.get("metadata")
    return _Complaint(
        status=refusal.status,
        reason=_code(first.get("reason")) or _code(info.get("reason")) or _code(error.get("status")),
        domain=_code(first.get("domain")),
        info=_code(info.get("reason")),
        quota=_code(metadata.get("quota_limit")) if isinstance(metadata, dict) else "",
        retry_after=refusal.retry_after,
    )


def _first(entries: object, is_wanted: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    if isinstance(entries, list):
        for entry in entries:
            if isinstance(entry, dict) and is_wanted(entry):
                return entry
    return {}


def _code(value: object) -> str:
    """A code of Google's, fit for a log and for the API; anything else, such as prose, is dropped."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else ""
