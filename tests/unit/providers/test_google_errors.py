"""Google's refusals, row by row: what each means, and that nothing but Google's word on this user ends a connection."""

from typing import Any

import pytest

from app.errors import (
    AccessLost,
    AccessTokenRejected,
    CalendarGone,
    ChannelRefused,
    CursorExpired,
    GrantRevoked,
    OAuthAppBroken,
    ProviderContract,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
)
from app.providers.google import errors
from app.providers.http import Classify, Refusal


def _refusal(status: int, body: object = None, *, retry_after: float | None = None) -> Refusal:
    return Refusal(status, body, retry_after)


def _api(code: int, reason: str, domain: str = "global", /, **more: Any) -> Refusal:
    error = {"errors": [{"domain": domain, "reason": reason, "message": "words"}], "code": code, "message": "words"}
    return _refusal(code, {"error": error | more})


def _oauth(status: int, error: str, description: str = "", **more: str) -> Refusal:
    return _refusal(status, {"error": error, "error_description": description, **more})


USER_QUOTA = _api(
    403,
    "rateLimitExceeded",
    "usageLimits",
    status="PERMISSION_DENIED",
    details=[
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "RATE_LIMIT_EXCEEDED",
            "domain": "googleapis.com",
            "metadata": {"quota_limit": "defaultPerMinutePerUser", "quota_limit_value": "600"},
        },
        {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
    ],
)
"""Google's ordinary answer to a user's full quota, PERMISSION_DENIED and all."""

SCOPE_INFO = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT"}]


@pytest.mark.parametrize(
    ("refusal", "meaning"),
    [
        (_api(400, "badRequest"), ProviderContract),
        (_api(400, "invalid"), ProviderContract),
        (_api(400, "required"), ProviderContract),
        (_api(400, "timeRangeEmpty", "calendar"), ProviderContract),
        (_api(401, "authError"), AccessTokenRejected),
        (_api(401, "required", status="UNAUTHENTICATED"), AccessTokenRejected),
        (_refusal(401), AccessTokenRejected),
        (_api(403, "userRateLimitExceeded", "usageLimits"), ProviderThrottled),
        (_api(403, "rateLimitExceeded", "usageLimits"), ProviderThrottled),
        (_api(429, "rateLimitExceeded", "usageLimits"), ProviderThrottled),
        (_api(403, "quotaExceeded", "usageLimits"), ProviderThrottled),
        (_api(403, "dailyLimitExceeded", "usageLimits"), ProviderThrottled),
        (_api(403, "aNewLimitExceeded", "usageLimits"), ProviderThrottled),
        (USER_QUOTA, ProviderThrottled),
        (_refusal(429), ProviderThrottled),
        (_api(403, "forbiddenForNonOrganizer", "calendar"), ProviderContract),
        (_api(403, "insufficientPermissions", status="PERMISSION_DENIED"), GrantRevoked),
        (_api(403, "forbidden", details=SCOPE_INFO), GrantRevoked),
        (_refusal(403, {"error": {"code": 403, "status": "PERMISSION_DENIED", "details": SCOPE_INFO}}), GrantRevoked),
        (_api(403, "forbidden", "calendar"), AccessLost),
        (_api(403, "accessNotConfigured", "usageLimits"), OAuthAppBroken),
        (_api(403, "notACalendarUser"), GrantRevoked),
        (_api(404, "notFound"), CalendarGone),
        (_refusal(404, {"error": {"code": 404, "message": "Not Found", "status": "NOT_FOUND"}}), CalendarGone),
        (_api(409, "duplicate"), ProviderContract),
        (_api(410, "fullSyncRequired", "calendar"), CursorExpired),
        (_api(410, "updatedMinTooLongAgo", "calendar"), CursorExpired),
        (_api(410, "deleted"), CalendarGone),
        (_api(412, "conditionNotMet"), ProviderContract),
        (_api(500, "backendError"), ProviderUnavailable),
        (_api(503, "forbidden"), ProviderUnavailable),
        (_refusal(500), ProviderUnavailable),
        (_refusal(502), ProviderUnavailable),
        (_refusal(503), ProviderUnavailable),
        (_refusal(504), ProviderUnavailable),
        # Not Google's word on anything: a front end's HTML, a redirect, prose where a code belongs.
        (_refusal(403), ProviderUnavailable),
        (_refusal(302), ProviderUnavailable),
        (_refusal(404), ProviderContract),
        (_api(403, "The user has been suspended!"), ProviderUnavailable),
        (_api(403, "someNewReason", status="PERMISSION_DENIED"), ProviderContract),
        (_refusal(403, {"error": {"code": 403, "status": "PERMISSION_DENIED"}}), ProviderContract),
        (_refusal(400, {"error": [1], "errors": 2}), ProviderContract),
        (_refusal(400, {"error": {"errors": [3, {"reason": 4}], "details": {}}}), ProviderContract),
    ],
)
def test_the_meaning_of_an_api_refusal(refusal: Refusal, meaning: type[ProviderError]) -> None:
    error = errors.classify(refusal)
    assert type(error) is meaning
    assert "words" not in error.detail


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (_api(403, "insufficientPermissions"), "scope_missing"),
        (_api(403, "notACalendarUser"), "mailbox_unavailable"),
    ],
)
def test_why_a_grant_is_over(refusal: Refusal, reason: str) -> None:
    error = errors.classify(refusal)
    assert isinstance(error, GrantRevoked)
    assert error.reason == reason


@pytest.mark.parametrize(
    ("refusal", "scope"),
    [
        (USER_QUOTA, "user"),
        (_api(403, "userRateLimitExceeded", "usageLimits"), "user"),
        (_api(403, "dailyLimitExceeded", "usageLimits"), "app"),
        (
            _api(
                429,
                "rateLimitExceeded",
                "usageLimits",
                details=[{"reason": "RATE_LIMIT_EXCEEDED", "metadata": {"quota_limit": "defaultPerMinutePerProject"}}],
            ),
            "app",
        ),
    ],
)
def test_whose_quota_it_is(refusal: Refusal, scope: str) -> None:
    error = errors.classify(refusal)
    assert isinstance(error, ProviderThrottled)
    assert (error.scope, error.after) == (scope, None)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_kept(status: int) -> None:
    error = errors.classify(_refusal(status, retry_after=17.0))
    assert isinstance(error, ProviderThrottled)
    assert error.after == 17.0


@pytest.mark.parametrize(
    ("classify", "refusal", "meaning"),
    [
        (errors.classify_cursor, _api(400, "invalid"), CursorExpired),
        (errors.classify_cursor, _refusal(410), CursorExpired),
        (errors.classify_cursor, _api(410, "deleted"), CalendarGone),
        (errors.classify_cursor, _api(404, "notFound"), CalendarGone),
        (errors.classify_cursor, USER_QUOTA, ProviderThrottled),
        (errors.classify_page, _api(400, "invalid"), ProviderUnavailable),
        (errors.classify_page, _api(410, "fullSyncRequired", "calendar"), CursorExpired),
        (errors.classify_page, _api(409, "conflict"), ProviderContract),
        (errors.classify_identity, _api(401, "authError"), AccessTokenRejected),
        (errors.classify_identity, _api(403, "insufficientPermissions"), GrantRevoked),
        (errors.classify_identity, _api(403, "forbidden"), GrantRevoked),
        (errors.classify_identity, USER_QUOTA, ProviderThrottled),
        (errors.classify_identity, _refusal(500), ProviderUnavailable),
        (errors.classify_identity, _api(404, "notFound"), ProviderContract),
        (errors.classify_watch, _api(400, "channelIdNotUnique"), ProviderUnavailable),
        (errors.classify_watch, _api(400, "push.channelIdInvalid"), ProviderContract),
        (errors.classify_watch, _api(400, "invalid"), ProviderContract),
        (errors.classify_watch, _api(401, "authError"), AccessTokenRejected),
        (errors.classify_watch, _api(403, "insufficientPermissions"), GrantRevoked),
        (errors.classify_watch, _api(404, "notFound"), CalendarGone),
        (errors.classify_watch, USER_QUOTA, ProviderThrottled),
    ],
)
def test_what_was_asked_changes_the_meaning(classify: Classify, refusal: Refusal, meaning: type[ProviderError]) -> None:
    assert type(classify(refusal)) is meaning


@pytest.mark.parametrize(
    ("refusal", "is_permanent"),
    [
        (_api(400, "pushNotSupportedForRequestedResource", "calendar"), True),
        (_api(400, "push.webhookUrlNotHttps"), False),
        (_api(401, "push.webhookUrlUnauthorized"), False),
    ],
)
def test_a_calendar_or_an_address_that_cannot_have_pushes(refusal: Refusal, is_permanent: bool) -> None:
    error = errors.classify_watch(refusal)
    assert isinstance(error, ChannelRefused)
    assert error.permanent is is_permanent


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (_oauth(400, "invalid_grant", "Token has been expired or revoked."), "user_revoked"),
        (_oauth(400, "invalid_grant", "Bad Request"), "user_revoked"),
        (_oauth(401, "invalid_grant", "Bad Request"), "user_revoked"),
        (_oauth(400, "invalid_grant", "reauth related error", error_subtype="invalid_rapt"), "reauth_required"),
        (_oauth(400, "invalid_grant", "x", error_subtype="rapt_required"), "reauth_required"),
        (_oauth(400, "invalid_grant", "reauth related error (invalid_rapt)"), "reauth_required"),
        (_oauth(400, "invalid_grant", "Account has been deleted"), "account_gone"),
        (_oauth(400, "admin_policy_enforced"), "admin_blocked"),
    ],
)
def test_a_refresh_that_says_the_grant_is_over(refusal: Refusal, reason: str) -> None:
    error = errors.classify_refresh(refusal)
    assert isinstance(error, GrantRevoked)
    assert error.reason == reason
    assert isinstance(refusal.body, dict)
    assert error.error == refusal.body["error"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "invalid_client"),
        (401, "deleted_client"),
        (400, "unauthorized_client"),
        (401, "unauthorized_client"),
        (400, "invalid_request"),
        (400, "unsupported_grant_type"),
        (400, "invalid_scope"),
    ],
)
def test_a_refresh_that_is_refused_for_our_sake_is_about_the_app(status: int, code: str) -> None:
    error = errors.classify_refresh(_oauth(status, code, "Unauthorized"))
    assert isinstance(error, OAuthAppBroken)
    assert error.error == code


@pytest.mark.parametrize(
    ("refusal", "meaning"),
    [
        (_refusal(429), ProviderUnavailable),
        (_refusal(500), ProviderUnavailable),
        (_refusal(502), ProviderUnavailable),
        (_refusal(503), ProviderUnavailable),
        (_refusal(504), ProviderUnavailable),
        (_refusal(400), ProviderUnavailable),
        (_refusal(200, []), ProviderUnavailable),
        (_oauth(400, "internal_failure"), ProviderUnavailable),
        (_oauth(400, "temporarily_unavailable"), ProviderUnavailable),
        (_refusal(503, retry_after=9.0), ProviderThrottled),
        (_oauth(400, "a_new_error"), ProviderContract),
    ],
)
def test_a_refresh_that_failed_for_now(refusal: Refusal, meaning: type[ProviderError]) -> None:
    assert type(errors.classify_refresh(refusal)) is meaning
