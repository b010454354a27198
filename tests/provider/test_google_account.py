"""Refreshing, and learning whose grant it is and which calendars it reaches, with more and with fewer scopes."""

from urllib.parse import parse_qsl

import httpx
import pytest

from app.errors import (
    AccessTokenRejected,
    CalendarGone,
    GrantRevoked,
    OAuthAppBroken,
    ProviderContract,
    ProviderError,
    ProviderUnavailable,
)
from app.providers.base import Account, AppCredentials, RemoteCalendar, TokenAnswer
from tests.provider.harness import API, TOKEN, USERINFO, Google, refusal

APP = AppCredentials("client-1", "s3cr&t")
READ = "https://www.googleapis.com/auth/calendar.readonly"
PRIMARY = {"id": "ana@example.com", "summary": "Ana", "timeZone": "Europe/Berlin"}
SCOPE_MISSING = refusal(403, "insufficientPermissions")


async def test_a_refresh_on_the_wire(google: Google) -> None:
    google.mock.post(TOKEN).respond(json={"access_token": "ya29.x", "expires_in": 3599, "scope": READ})
    answer = await google.provider.refresh(APP, "1//r+")
    assert answer == TokenAnswer("ya29.x", 3599.0, None, READ)
    request = google.requests[0]
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in request.headers
    assert dict(parse_qsl(request.content.decode())) == {
        "client_id": "client-1",
        "client_secret": "s3cr&t",
        "refresh_token": "1//r+",
        "grant_type": "refresh_token",
    }


async def test_a_new_refresh_token_is_handed_on(google: Google) -> None:
    google.mock.post(TOKEN).respond(json={"access_token": "a", "expires_in": 3599, "refresh_token": "new"})
    answer = await google.provider.refresh(APP, "old")
    assert (answer.refresh_token, answer.scope) == ("new", None)


@pytest.mark.parametrize(
    "scope",
    [
        "openid https://www.googleapis.com/auth/calendar",
        "https://www.googleapis.com/auth/calendar.events",
        "https://www.googleapis.com/auth/calendar.events.readonly email",
        "https://www.google.com/calendar/feeds",
    ],
)
async def test_scopes_that_read_calendars(google: Google, scope: str) -> None:
    google.mock.post(TOKEN).respond(json={"access_token": "a", "expires_in": 3599, "scope": scope})
    assert (await google.provider.refresh(APP, "r")).scope == scope


@pytest.mark.parametrize(
    "scope", ["", "openid email", "https://www.googleapis.com/auth/calendar.calendarlist.readonly"]
)
async def test_an_unticked_box_is_seen_in_the_token_answer(google: Google, scope: str) -> None:
    google.mock.post(TOKEN).respond(json={"access_token": "a", "expires_in": 3599, "scope": scope})
    with pytest.raises(GrantRevoked) as raised:
        await google.provider.refresh(APP, "r")
    assert raised.value.reason == "scope_missing"


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (httpx.Response(400, json={"error": "invalid_grant", "error_description": "Bad Request"}), GrantRevoked),
        (httpx.Response(401, json={"error": "invalid_client", "error_description": "Unauthorized"}), OAuthAppBroken),
        (httpx.Response(429), ProviderUnavailable),
        (httpx.Response(502, text="<html>Bad Gateway</html>"), ProviderUnavailable),
        (httpx.Response(200, text="<html>"), ProviderContract),
        (httpx.Response(200, json={"expires_in": 3599}), ProviderContract),
        (httpx.Response(200, json={"access_token": "a\u00e9", "expires_in": 3599}), ProviderContract),
        (httpx.Response(200, json={"access_token": "a", "expires_in": "soon"}), ProviderContract),
        (httpx.Response(200, json={"access_token": "a", "expires_in": -1}), ProviderContract),
    ],
)
async def test_a_refresh_that_fails_is_asked_once(
    google: Google, answer: httpx.Response, meaning: type[ProviderError]
) -> None:
    google.mock.post(TOKEN).mock(return_value=answer)
    with pytest.raises(meaning) as raised:
        await google.provider.refresh(APP, "r")
    assert type(raised.value) is meaning
    assert len(google.requests) == 1


async def test_userinfo_says_who_it_is(google: Google) -> None:
    google.mock.get(USERINFO).respond(json={"sub": "1184", "email": "ana@example.com"})
    assert await google.provider.fetch_account(google.access) == Account("1184", "ana@example.com")


@pytest.mark.parametrize("answer", [SCOPE_MISSING, refusal(401, "authError")])
async def test_without_userinfo_the_primary_calendars_id_stands_in(google: Google, answer: httpx.Response) -> None:
    google.mock.get(USERINFO).mock(return_value=answer)
    google.mock.get(f"{API}/calendars/primary").respond(json=PRIMARY)
    assert await google.provider.fetch_account(google.access) == Account("ana@example.com", "ana@example.com")


async def test_a_token_that_died_early_does_not_change_who_it_is(google: Google) -> None:
    google.mock.get(USERINFO).mock(
        side_effect=[refusal(401, "authError"), httpx.Response(200, json={"sub": "1184", "email": "ana@example.com"})]
    )
    assert (await google.provider.fetch_account(google.access)).subject == "1184"
    assert google.tokens.rejected == ["token-1"]


async def test_a_dead_token_is_no_missing_scope(google: Google) -> None:
    google.mock.get(url__startswith="https://google.test").mock(return_value=refusal(401, "authError"))
    with pytest.raises(AccessTokenRejected):
        await google.provider.fetch_account(google.access)


async def test_an_outage_of_userinfo_does_not_change_who_it_is(google: Google) -> None:
    google.mock.get(USERINFO).respond(503)
    with pytest.raises(ProviderUnavailable):
        await google.provider.fetch_account(google.access)


async def test_nothing_that_names_the_account_is_a_missing_scope(google: Google) -> None:
    google.mock.get(url__startswith="https://google.test").mock(return_value=SCOPE_MISSING)
    with pytest.raises(GrantRevoked) as raised:
        await google.provider.fetch_account(google.access)
    assert raised.value.reason == "scope_missing"


@pytest.mark.parametrize("name", [None, "primary"])
async def test_primary_becomes_its_canonical_id_in_one_request(google: Google, name: str | None) -> None:
    google.mock.get(f"{API}/calendars/primary").respond(json=PRIMARY)
    assert await google.provider.fetch_calendar(google.access, name) == RemoteCalendar(
        "ana@example.com", "Ana", "ana@example.com", is_primary=True, access_role=None, time_zone="Europe/Berlin"
    )
    assert len(google.requests) == 1


async def test_a_calendar_by_its_id_takes_role_and_rank_from_the_list(google: Google) -> None:
    google.mock.get(f"{API}/calendars/ana%40example.com").respond(json=PRIMARY)
    google.mock.get(f"{API}/users/me/calendarList/ana%40example.com").respond(
        json=PRIMARY | {"accessRole": "owner", "primary": True, "summaryOverride": "Me"}
    )
    calendar = await google.provider.fetch_calendar(google.access, "ana@example.com")
    assert (calendar.is_primary, calendar.access_role, calendar.name) == (True, "owner", "Me")


async def test_a_calendar_that_stands_in_no_list_is_a_calendar_all_the_same(google: Google) -> None:
    google.mock.get(f"{API}/calendars/team%40group.calendar.google.com").respond(
        json={"id": "team@group.calendar.google.com", "timeZone": "Nowhere/X"}
    )
    google.mock.get(url__startswith=f"{API}/users/me/calendarList/").mock(return_value=refusal(404, "notFound"))
    calendar = await google.provider.fetch_calendar(google.access, "team@group.calendar.google.com")
    assert calendar == RemoteCalendar("team@group.calendar.google.com", None, None, False, None, None)


async def test_a_grant_for_events_alone_reaches_its_calendar(google: Google) -> None:
    google.mock.get(USERINFO).respond(json={"sub": "1184", "email": "ana@example.com"})
    google.mock.get(f"{API}/calendars/ana%40example.com/events", params={"maxResults": "1"}).respond(
        json={"summary": "Ana", "timeZone": "Europe/Berlin", "accessRole": "owner", "items": [], "nextPageToken": "p"}
    )
    google.mock.get(url__startswith=API).mock(return_value=SCOPE_MISSING)
    assert await google.provider.fetch_calendar(google.access, None) == RemoteCalendar(
        "ana@example.com", "Ana", "ana@example.com", is_primary=True, access_role="owner", time_zone="Europe/Berlin"
    )


async def test_an_unknown_calendar(google: Google) -> None:
    google.mock.get(url__startswith=API).mock(return_value=refusal(404, "notFound"))
    with pytest.raises(CalendarGone):
        await google.provider.fetch_calendar(google.access, "gone@example.com")


async def test_the_list_of_calendars_is_read_to_its_end(google: Google) -> None:
    google.mock.get(f"{API}/users/me/calendarList").mock(
        side_effect=[
            httpx.Response(200, json={"items": [PRIMARY | {"primary": True}], "nextPageToken": "p2"}),
            httpx.Response(
                200, json={"items": [{"id": "old", "deleted": True}, {"id": "t@x", "accessRole": "reader"}]}
            ),
        ]
    )
    calendars = await google.provider.list_calendars(google.access)
    assert [(c.id, c.email, c.is_primary, c.access_role) for c in calendars] == [
        ("ana@example.com", "ana@example.com", True, None),
        ("t@x", None, False, "reader"),
    ]
    asked = [dict(request.url.params) for request in google.requests]
    assert asked == [
        {"maxResults": "250", "showHidden": "true"},
        {"maxResults": "250", "showHidden": "true", "pageToken": "p2"},
    ]


async def test_a_list_of_calendars_without_end_is_given_up(google: Google) -> None:
    google.mock.get(f"{API}/users/me/calendarList").respond(json={"items": [], "nextPageToken": "again"})
    with pytest.raises(ProviderContract):
        await google.provider.list_calendars(google.access)
