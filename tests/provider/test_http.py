"""What holds for every request: one refresh on 401, one deadline, a bounded answer, errors of the family alone."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from app.errors import AccessTokenRejected, ProviderContract, ProviderThrottled, ProviderUnavailable
from app.providers import http
from app.providers.base import Access
from app.telemetry import REGISTRY
from tests.provider.harness import API, USERINFO, Google, refusal, scripted_google

PRIMARY = f"{API}/calendars/primary"
CALENDAR = {"id": "ana@example.com"}


async def test_a_refused_token_is_replaced_once(google: Google) -> None:
    google.mock.get(PRIMARY).mock(side_effect=[refusal(401, "authError"), httpx.Response(200, json=CALENDAR)])
    await google.provider.fetch_calendar(google.access, None)
    assert [request.headers["authorization"] for request in google.requests] == ["Bearer token-1", "Bearer token-2"]
    assert google.tokens.rejected == ["token-1"]


async def test_a_second_refusal_counts(google: Google) -> None:
    google.mock.get(PRIMARY).mock(return_value=refusal(401, "authError"))
    with pytest.raises(AccessTokenRejected):
        await google.provider.fetch_calendar(google.access, None)
    assert len(google.requests) == 2
    assert google.tokens.rejected == ["token-1"]


@pytest.mark.parametrize("status", [500, 503])
async def test_nothing_else_is_retried_here(google: Google, status: int) -> None:
    google.mock.get(PRIMARY).respond(status)
    with pytest.raises(ProviderUnavailable):
        await google.provider.fetch_calendar(google.access, None)
    assert len(google.requests) == 1


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("x"), httpx.ReadTimeout("x"), httpx.RemoteProtocolError("x"), ConnectionResetError("x")],
)
async def test_a_broken_connection_is_an_outage_with_its_cause(google: Google, error: Exception) -> None:
    google.mock.get(PRIMARY).mock(side_effect=error)
    with pytest.raises(ProviderUnavailable) as raised:
        await google.provider.fetch_calendar(google.access, None)
    assert raised.value.__cause__ is error


async def test_the_deadline_covers_the_whole_answer() -> None:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    async with scripted_google(provider_timeout_seconds=0.2) as google:
        google.mock.get(PRIMARY).mock(side_effect=lambda _: httpx.Response(200, content=drip()))
        with pytest.raises(ProviderUnavailable, match=r"within 0\.2 s"):
            await google.provider.fetch_calendar(google.access, None)


async def test_an_answer_without_end_is_cut_off(google: Google) -> None:
    async def flood() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)

    google.mock.get(PRIMARY).mock(side_effect=lambda _: httpx.Response(200, content=flood()))
    with pytest.raises(ProviderContract):
        await google.provider.fetch_calendar(google.access, None)


async def test_a_small_answer_that_unpacks_to_a_huge_one_is_cut_off(google: Google) -> None:
    packed = gzip.compress(bytes(http.BODY_LIMIT + 1), compresslevel=1)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(packed), 4096):
            yield packed[start : start + 4096]

    google.mock.get(PRIMARY).mock(
        side_effect=lambda _: httpx.Response(200, content=chunks(), headers={"content-encoding": "gzip"})
    )
    with pytest.raises(ProviderContract):
        await google.provider.fetch_calendar(google.access, None)


async def test_retry_after_holds_back_the_user_and_nobody_else(google: Google) -> None:
    headers = {"retry-after": "30"}
    google.mock.get(PRIMARY).mock(
        side_effect=[
            refusal(403, "userRateLimitExceeded", "usageLimits", **headers),
            httpx.Response(200, json=CALENDAR),
        ]
    )
    with pytest.raises(ProviderThrottled) as first:
        await google.provider.fetch_calendar(google.access, None)
    assert (first.value.after, first.value.scope) == (30.0, "user")
    with pytest.raises(ProviderThrottled) as second:
        await google.provider.fetch_calendar(google.access, None)
    assert second.value.after == pytest.approx(30, abs=1)
    assert len(google.requests) == 1
    other = Access(google.tokens, client_id="client", user_key="somebody else")
    assert (await google.provider.fetch_calendar(other, None)).id == "ana@example.com"


async def test_a_quota_answer_without_retry_after_leaves_the_wait_to_the_engine(google: Google) -> None:
    google.mock.get(PRIMARY).mock(return_value=refusal(403, "rateLimitExceeded", "usageLimits"))
    for _ in range(2):
        with pytest.raises(ProviderThrottled) as raised:
            await google.provider.fetch_calendar(google.access, None)
        assert raised.value.after is None
    assert len(google.requests) == 2


async def test_no_cookie_of_one_user_rides_on_anothers_request(google: Google) -> None:
    google.mock.get(PRIMARY).respond(json=CALENDAR, headers={"set-cookie": "who=ana; Path=/"})
    for _ in range(2):
        await google.provider.fetch_calendar(google.access, None)
    assert "cookie" not in google.requests[1].headers


async def test_requests_are_counted_by_what_became_of_them(google: Google) -> None:
    def count(outcome: str) -> float:
        labels = {"platform": "google", "operation": "fetch_account", "outcome": outcome}
        return REGISTRY.get_sample_value("punctual_provider_requests_total", labels) or 0.0

    ok, away = count("ok"), count("provider_unavailable")
    google.mock.get(USERINFO).mock(side_effect=[httpx.Response(200, json={"sub": "1"}), httpx.Response(500)])
    await google.provider.fetch_account(google.access)
    with pytest.raises(ProviderUnavailable):
        await google.provider.fetch_account(google.access)
    assert (count("ok"), count("provider_unavailable")) == (ok + 1, away + 1)
