"""Google's own client library works against the sandbox, and every answer validates against its discovery document."""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httplib2
import httpx
import pytest
from google.auth.transport.requests import Request
from google.oauth2.credentials import Credentials
from google_auth_httplib2 import AuthorizedHttp
from googleapiclient.discovery import Resource, build_from_document
from googleapiclient.errors import HttpError

sys.path.insert(0, str(Path(__file__).parent))

from discovery import DOCUMENT, flaws


class Provider:
    """The sandbox as a process, and one account in it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=f"{url}/_sandbox", trust_env=False)
        self.account = self.http.post("/accounts", json={"email": "person@example.com"}).raise_for_status().json()
        self.events = "/calendars/person@example.com/events"
        self._services: list[Resource] = []

    def add(self, title: str, *, hours: int = 24, **draft: Any) -> str:
        """A new event; its id."""
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=hours)
        times = {"start": start.isoformat(), "end": (start + timedelta(hours=1)).isoformat()}
        body = {"title": title, **times, **draft}
        return str(self.http.post(self.events, json=body).raise_for_status().json()["id"])

    def credentials(self) -> Credentials:
        """As an application holds them: a refresh token, and no access token yet."""
        return Credentials(
            None,
            refresh_token=self.account["refresh_token"],
            client_id=self.account["client_id"],
            client_secret=self.account["client_secret"],
            token_uri=f"{self.url}/token",
        )

    def service(self) -> Resource:
        """The library's client, its root moved to the sandbox."""
        document = {**DOCUMENT, "rootUrl": f"{self.url}/", "mtlsRootUrl": f"{self.url}/", "baseUrl": ""}
        service = build_from_document(document, http=AuthorizedHttp(self.credentials(), http=httplib2.Http()))
        self._services.append(service)
        return service

    def close(self) -> None:
        """Leave no connection open."""
        for service in self._services:
            service.close()
        self.http.close()


@pytest.fixture
def provider(sandbox_url: str) -> Iterator[Provider]:
    """A fresh sandbox."""
    made = Provider(sandbox_url)
    yield made
    made.close()


def checked(answer: dict[str, Any], schema: str) -> dict[str, Any]:
    """The answer, once it validates."""
    assert flaws(answer, schema) == []
    return answer


def window() -> dict[str, str]:
    """The parameters of a window's listing."""
    now = datetime.now(UTC).replace(microsecond=0)
    return {"timeMin": (now - timedelta(days=1)).isoformat(), "timeMax": (now + timedelta(days=30)).isoformat()}


def test_the_judge_finds_flaws() -> None:
    """A check that cannot fail would prove nothing."""
    assert flaws(
        {"kind": "calendar#event", "start": {"date": "2026-13-01"}, "invented": 1, "sequence": "x"}, "Event"
    ) == [
        "Event.start.date: '2026-13-01' is no date",
        "Event.invented: unknown property",
        "Event.sequence: 'x' is no integer",
    ]


def test_refreshing_a_token(provider: Provider) -> None:
    credentials = provider.credentials()
    credentials.refresh(Request())
    assert credentials.valid


def test_calendars(provider: Provider) -> None:
    service = provider.service()
    listed = checked(service.calendarList().list().execute(), "CalendarList")
    assert [entry["id"] for entry in listed["items"]] == ["person@example.com"]
    checked(service.calendarList().get(calendarId="primary").execute(), "CalendarListEntry")
    assert checked(service.calendars().get(calendarId="primary").execute(), "Calendar")["id"] == "person@example.com"


def test_listing_with_paging_and_a_round_with_the_sync_token(provider: Provider) -> None:
    service = provider.service()
    ids = {provider.add(f"Event {n}", hours=24 + n) for n in range(5)}
    guests = [{"email": "guest@example.com", "response": "accepted"}]
    rich = provider.add(
        "Rich", attendees=guests, conference={"kind": "meet", "url": "https://meet.google.com/abc-defg-hij"}
    )
    series = provider.add("Weekly", recurrence=["RRULE:FREQ=WEEKLY;COUNT=4"])

    request = service.events().list(calendarId="primary", singleEvents=True, maxResults=3, **window())
    seen, pages, token = set(), 0, ""
    while request is not None:
        page = checked(request.execute(), "Events")
        pages += 1
        seen |= {item["id"] for item in page["items"]}
        token = page.get("nextSyncToken", "")
        request = service.events().list_next(request, page)
    assert ids | {rich} < seen
    assert len([event for event in seen if event.startswith(f"{series}_")]) == 4
    assert pages == 4
    assert token

    (gone, renamed, *_) = ids
    provider.http.delete(f"{provider.events}/{gone}").raise_for_status()
    provider.http.patch(f"{provider.events}/{renamed}", json={"title": "Renamed"}).raise_for_status()
    created = provider.add("Created")
    page = checked(service.events().list(calendarId="primary", singleEvents=True, syncToken=token).execute(), "Events")
    assert {item["id"]: item["status"] for item in page["items"]} == {
        gone: "cancelled",
        renamed: "confirmed",
        created: "confirmed",
    }
    empty = service.events().list(calendarId="primary", singleEvents=True, syncToken=page["nextSyncToken"]).execute()
    assert checked(empty, "Events")["items"] == []


def test_an_expired_sync_token(provider: Provider) -> None:
    service = provider.service()
    token = service.events().list(calendarId="primary", **window()).execute()["nextSyncToken"]
    provider.http.post("/calendars/person@example.com/expire_sync_tokens").raise_for_status()
    with pytest.raises(HttpError) as caught:
        service.events().list(calendarId="primary", syncToken=token).execute()
    assert caught.value.status_code == 410
    assert json.loads(caught.value.content)["error"]["errors"][0]["reason"] == "fullSyncRequired"


def test_one_event_and_its_instances(provider: Provider) -> None:
    service = provider.service()
    series = provider.add("Weekly", recurrence=["RRULE:FREQ=WEEKLY;COUNT=3"])
    checked(service.events().get(calendarId="primary", eventId=series).execute(), "Event")
    found = checked(service.events().instances(calendarId="primary", eventId=series).execute(), "Events")
    assert len(found["items"]) == 3
    with pytest.raises(HttpError) as caught:
        service.events().get(calendarId="primary", eventId="unknown").execute()
    assert caught.value.status_code == 404


def test_watch_and_stop(provider: Provider) -> None:
    service = provider.service()
    body = {"id": "channel-1", "type": "web_hook", "address": "http://127.0.0.1:9/push", "token": "secret"}
    channel = checked(service.events().watch(calendarId="primary", body=body).execute(), "Channel")
    assert channel["token"] == "secret"
    with pytest.raises(HttpError) as caught:
        service.events().watch(calendarId="primary", body=body).execute()
    assert caught.value.status_code == 400
    stop = {"id": channel["id"], "resourceId": channel["resourceId"]}
    assert service.channels().stop(body=stop).execute() == ""
    with pytest.raises(HttpError) as caught:
        service.channels().stop(body=stop).execute()
    assert caught.value.status_code == 404


def test_a_quota_answer_is_understood(provider: Provider) -> None:
    provider.http.post("/faults", json={"kind": "rate_limited", "operation": "events.list"}).raise_for_status()
    with pytest.raises(HttpError) as caught:
        provider.service().events().list(calendarId="primary").execute()
    assert caught.value.status_code == 403
    assert "RATE_LIMIT_EXCEEDED" in str(caught.value.content)
