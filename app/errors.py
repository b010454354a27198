"""Every error Punctual raises on purpose, and what happens to it.

PunctualError                                 code, title, safe detail
├─ RequestError        -> problem+json        api/ and features
│  └─ Malformed 400 · Unauthenticated 401 · Forbidden 403 · NotFound 404 · MethodNotAllowed 405 · Conflict 409
│     · Gone 410 · TooLarge 413 · WrongMediaType 415 · Invalid 422 · RateLimited 429 · ProviderAway 503
├─ ProviderError       -> the run's outcome   providers/ only, always `from` the cause
│  ├─ ProviderUnavailable    5xx, timeout, DNS              retry with jitter
│  ├─ ProviderThrottled      429 / 403 quota                defer exactly that long, per mailbox or per OAuth app
│  ├─ CursorExpired          410 fullSyncRequired           full sync, once per run
│  ├─ GrantRevoked           invalid_grant family           calendar disconnected, message, stop
│  ├─ OAuthAppBroken         invalid_client family          calendars stay connected, slow retry
│  ├─ CalendarGone · AccessLost   404 / 403 on the calendar itself      confirmed twice, then disconnected
│  ├─ ChannelRefused         the calendar or our address cannot be watched: poll instead
│  ├─ MassDeletion           a listing lacks most of a calendar: the next one decides
│  └─ ProviderContract       unreadable payload             the run fails, the calendar stays connected
├─ DeliveryError       -> an attempt's outcome    webhooks/delivery
├─ LauncherError       -> a bot's launch          bots/launchers/ only
│  ├─ LaunchRefused          the back end will never do that: `reason`
│  ├─ LaunchLater            nothing was done, try again after so long: `reason`
│  ├─ LaunchUnknown          may have been done: look for it before a second try
│  └─ LauncherKeyRefused     the launcher's key: nobody's bot is to blame
└─ SyncSuperseded                             lost the compare-and-swap: drop quietly, count

`detail` never holds a secret, a title or an address: it may be logged and shown to the project's own key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal
from uuid import UUID

FailureCode = Literal[
    "user_revoked",
    "reauth_required",
    "consent_withdrawn",
    "admin_blocked",
    "account_gone",
    "mailbox_unavailable",
    "calendar_gone",
    "access_lost",
    "scope_missing",
    "wrong_account",
]
"""Why a calendar is disconnected: `connection_failure_data.code`, a closed list."""


HealthStatus = Literal["healthy", "degraded", "failing"]
HealthReason = (
    FailureCode
    | Literal[
        "provider_unavailable",
        "provider_throttled",
        "cursor_expired",
        "access_token_rejected",
        "grant_revoked",
        "oauth_app_broken",
        "channel_refused",
        "channel_exists",
        "provider_contract",
        "provider_error",
        "too_large",
        "mass_deletion",
        "internal_error",
    ]
)
"""Why a calendar is not healthy: `health.reason`, a closed list."""


class PunctualError(Exception):
    """Root of the tree."""

    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One wrong place in a request: JSON pointer into the body (`/url`), or the name of a query parameter."""

    pointer: str
    code: str
    message: str


class RequestError(PunctualError):
    """A request that is answered with a problem document; nothing was stored."""

    status: ClassVar[int] = 500

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        errors: tuple[FieldProblem, ...] = (),
        extra: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem_code = code or self.code
        self.errors = errors
        self.extra = extra or {}
        self.headers = headers or {}


class Malformed(RequestError):
    status, code, title = 400, "malformed", "The request could not be read"


class Unauthenticated(RequestError):
    status, code, title = 401, "unauthenticated", "A valid API key is needed"


class Forbidden(RequestError):
    status, code, title = 403, "forbidden", "This key may not do that"


class NotFound(RequestError):
    status, code, title = 404, "not_found", "There is no such object"


class MethodNotAllowed(RequestError):
    status, code, title = 405, "method_not_allowed", "This method is not allowed here"


class Conflict(RequestError):
    status, code, title = 409, "conflict", "The request conflicts with what is stored"


class Gone(RequestError):
    status, code, title = 410, "gone", "That is no longer there"


class TooLarge(RequestError):
    status, code, title = 413, "too_large", "The body is too large"


class WrongMediaType(RequestError):
    status, code, title = 415, "wrong_media_type", "The body must be application/json"


class Invalid(RequestError):
    status, code, title = 422, "invalid", "Something inside the request is not valid"


def refusal(pointer: str, code: str, *, message: str) -> Invalid:
    """A 422 about one place."""
    return refusals([FieldProblem(pointer, code, message)])


PROBLEMS_MOST = 20
"""Wrong places that one answer names."""


def refusals(problems: Sequence[FieldProblem]) -> Invalid:
    """A 422 about these places, or the first of them."""
    problems = problems[:PROBLEMS_MOST]
    return Invalid("; ".join(f"{p.pointer or 'the body'}: {p.message}" for p in problems[:5]), errors=tuple(problems))


class RateLimited(RequestError):
    status, code, title = 429, "rate_limited", "Too many requests"


class ProviderAway(RequestError):
    status, code, title = 503, "provider_unavailable", "The calendar provider did not answer"


class ProviderError(PunctualError):
    """What a provider's answer, or its silence, means for the run that asked."""

    code, title = "provider_error", "The provider refused"


class ProviderUnavailable(ProviderError):
    """5xx, a timeout, a broken connection: retry with jitter."""

    code, title = "provider_unavailable", "The provider did not answer"


class ProviderThrottled(ProviderError):
    """A quota answer. `after` is in seconds; `scope` says who has to wait.

    `is_ours`: not the provider said so, our own limiter holds back. That is no failure of the calendar's.
    """

    code, title = "provider_throttled", "The provider asks for patience"

    def __init__(
        self,
        detail: str = "",
        *,
        after: float | None = None,
        scope: Literal["user", "app"] = "user",
        is_ours: bool = False,
    ) -> None:
        super().__init__(detail)
        self.after = after
        self.scope = scope
        self.is_ours = is_ours


class CursorExpired(ProviderError):
    """The provider no longer knows the cursor: list the window anew."""

    code, title = "cursor_expired", "The provider asks for a full sync"


class AccessTokenRejected(ProviderError):
    """401 on a token that should live: refresh once, then it counts as a revoked grant."""

    code, title = "access_token_rejected", "The provider rejected the access token"


class GrantRevoked(ProviderError):
    """The user's grant is over. `reason` becomes the calendar's failure code."""

    code, title = "grant_revoked", "The provider says that access was withdrawn"

    def __init__(self, detail: str = "", *, reason: FailureCode = "user_revoked", error: str = "") -> None:
        super().__init__(detail)
        self.reason: FailureCode = reason
        self.error = error or reason


class OAuthAppBroken(ProviderError):
    """Our client id, secret or API configuration is refused: nobody's calendar is disconnected for it."""

    code, title = "oauth_app_broken", "The provider refuses the OAuth app"

    def __init__(self, detail: str = "", *, error: str = "invalid_client") -> None:
        super().__init__(detail)
        self.error = error


class MassDeletion(ProviderError):
    """A round would delete most of a calendar, and nothing but absence says so: the next listing decides."""

    code, title = "mass_deletion", "Most of the calendar's events were gone from the listing"

    def __init__(self, event_ids: Sequence[UUID]) -> None:
        super().__init__(f"{len(event_ids)} events were gone from the listing")
        self.event_ids = event_ids


class CalendarGone(ProviderError):
    """404 on the calendar itself; counts once it is confirmed."""

    code, title = "calendar_gone", "The provider no longer knows this calendar"


class MailboxUnavailable(CalendarGone):
    """There is no mailbox that could be asked: never licensed, gone, or still being made. Counts once it lasts."""

    code, title = "mailbox_unavailable", "The account has no usable mailbox"


class AccessLost(ProviderError):
    """403 on the calendar itself; counts once it is confirmed."""

    code, title = "access_lost", "The account no longer has access to this calendar"


class ChannelRefused(ProviderError):
    """No push for this calendar. `permanent`: the resource cannot be watched at all; else our address was refused."""

    code, title = "channel_refused", "The provider refuses to push changes of this calendar"

    def __init__(self, detail: str = "", *, permanent: bool = False) -> None:
        super().__init__(detail)
        self.permanent = permanent


class ChannelExists(ProviderError):
    """The provider holds channels for this calendar and our address already: `resource_ids`."""

    code, title = "channel_exists", "The provider pushes changes of this calendar already"

    def __init__(self, detail: str = "", *, resource_ids: tuple[str, ...] = ()) -> None:
        super().__init__(detail)
        self.resource_ids = resource_ids


class ProviderContract(ProviderError):
    """An answer that cannot be read as the provider documents it."""

    code, title = "provider_contract", "The provider's answer could not be read"


class RoundTooLarge(ProviderContract):
    """A round that does not come to an end, or has more entries than a calendar can have."""

    code, title = "too_large", "The provider's listing is too large"


class DeliveryError(PunctualError):
    """Why an attempt did not succeed; `code` stands in the attempt's `error`."""

    code, title = "delivery_failed", "The message was not delivered"


class EgressBlocked(DeliveryError):
    """The address is one that customers' URLs must not reach."""

    code, title = "egress_blocked", "The address is not allowed"


class LauncherError(PunctualError):
    """What a back end's answer, or its silence, means for the bot.

    `detail` is at most 300 characters of what the back end said, without the launcher's key, links and the bot's name.
    """

    code, title = "launcher_error", "The bot back end refused"


LaunchRefusal = Literal[
    "refused",
    "invalid_meeting_url",
    "bot_exists",
    "unsupported_setting",
    "address_not_allowed",
    "not_a_back_end",
]
"""Why a back end will never do what was asked, a closed list. `bot_exists`: another bot is in that meeting."""

LaunchDelay = Literal["unavailable", "throttled", "no_machine", "no_credits", "limit_reached", "not_yet"]
"""Why a back end did not do now what was asked, a closed list. `not_yet`: the bot is between two states."""


class LaunchRefused(LauncherError):
    """The back end says no, for good."""

    code, title = "launch_refused", "The bot back end refused"

    def __init__(self, detail: str = "", *, reason: LaunchRefusal = "refused") -> None:
        super().__init__(detail)
        self.reason: LaunchRefusal = reason


class LaunchLater(LauncherError):
    """Nothing was done, or it may be asked for again without harm, after `after` seconds."""

    code, title = "launch_later", "The bot back end asks for patience"

    def __init__(self, detail: str = "", *, after: float, reason: LaunchDelay = "unavailable") -> None:
        super().__init__(detail)
        self.after = after
        self.reason: LaunchDelay = reason


class LaunchUnknown(LauncherError):
    """A bot may have been made: look for it, after `after` seconds, before a second try."""

    code, title = "launch_unknown", "The bot back end's answer was lost"

    def __init__(self, detail: str = "", *, after: float) -> None:
        super().__init__(detail)
        self.after = after


class LauncherKeyRefused(LauncherError):
    """401, or 403 about the key: the launcher is at fault, not the bot."""

    code, title = "launcher_key_refused", "The bot back end refuses the launcher's key"


class SyncSuperseded(PunctualError):
    """Another run, a deletion or a newer credential took over: this one changes nothing."""

    code, title = "sync_superseded", "Another run took over"
