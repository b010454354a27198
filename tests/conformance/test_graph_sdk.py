"""Microsoft's own client library works against the sandbox, and its answers have the types of Graph's metadata."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from kiota_abstractions.api_error import APIError
from kiota_abstractions.authentication import AuthenticationProvider
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_abstractions.request_information import RequestInformation
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.models.event import Event
from msgraph.generated.models.event_type import EventType
from msgraph.generated.models.online_meeting_provider_type import OnlineMeetingProviderType
from msgraph.generated.models.subscription import Subscription
from msgraph.generated.users.item.calendars.item.calendar_view.calendar_view_request_builder import (
    CalendarViewRequestBuilder,
)
from msgraph.generated.users.item.calendars.item.calendar_view.delta.delta_request_builder import DeltaRequestBuilder
from msgraph.graph_request_adapter import options
from msgraph_core import GraphClientFactory

from tests.unit.sandbox.graph_metadata import flaws

ViewParameters = CalendarViewRequestBuilder.CalendarViewRequestBuilderGetQueryParameters
DeltaParameters = DeltaRequestBuilder.DeltaRequestBuilderGetQueryParameters


class Bearer(AuthenticationProvider):
    """Puts a token on every request."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def authenticate_request(
        self, request: RequestInformation, additional_authentication_context: dict[str, Any] | None = None
    ) -> None:
        """What the library asks for."""
        del additional_authentication_context
        request.headers.try_add("Authorization", f"Bearer {self._token}")


class Receiver:
    """An address for notifications that answers the handshake and remembers the rest."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.validated: list[str] = []
        self.arrived = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                tokens = parse_qs(urlsplit(self.path).query).get("validationToken", [])
                answer = tokens[0].encode() if tokens else b""
                self.send_response(200 if tokens else 202)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                if tokens:
                    receiver.validated += tokens
                else:
                    receiver.received.append(json.loads(body))
                    receiver.arrived.set()

            def log_message(self, *_: Any) -> None:
                """Be quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/push"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Provider:
    """The sandbox as a process, one Microsoft account in it, and the library's client for that account."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=f"{url}/_sandbox", trust_env=False)
        body = {"email": "person@contoso.example", "provider": "microsoft", "time_zone": "Europe/Berlin"}
        self.account = self.http.post("/accounts", json=body).raise_for_status().json()
        self.calendar_id = str(self.account["calendar_id"])
        self.events = f"/calendars/{self.calendar_id}/events"
        form = {name: self.account[name] for name in ("client_id", "client_secret", "refresh_token")}
        token = httpx.post(
            f"{url}/common/oauth2/v2.0/token", data={"grant_type": "refresh_token", **form}, trust_env=False
        ).raise_for_status()
        self.raw = httpx.Client(
            base_url=f"{url}/v1.0", trust_env=False, headers={"Authorization": f"Bearer {token.json()['access_token']}"}
        )
        self._transport = httpx.AsyncHTTPTransport()  # the library's middleware leaves it open
        inner = GraphClientFactory.create_with_default_middleware(
            options=options, client=httpx.AsyncClient(transport=self._transport)
        )
        adapter = GraphRequestAdapter(Bearer(token.json()["access_token"]), client=inner)
        adapter.base_url = f"{url}/v1.0"
        self.graph = GraphServiceClient(request_adapter=adapter)
        self.calendar = self.graph.me.calendars.by_calendar_id(self.calendar_id)

    def add(self, title: str, *, hours: int = 24, **draft: Any) -> str:
        """A new event; its immutable id."""
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=hours)
        times = {"start": start.isoformat(), "end": (start + timedelta(hours=1)).isoformat()}
        return str(self.http.post(self.events, json={"title": title, **times, **draft}).raise_for_status().json()["id"])

    async def close(self) -> None:
        """Leave no connection open."""
        await self._transport.aclose()
        self.raw.close()
        self.http.close()


@pytest.fixture
async def provider(sandbox_url: str) -> AsyncIterator[Provider]:
    """A fresh sandbox."""
    made = Provider(sandbox_url)
    yield made
    await made.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Where notifications go."""
    made = Receiver()
    yield made
    made.close()


def window() -> dict[str, str]:
    """The bounds of a view."""
    now = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
    bounds = (now - timedelta(days=1), now + timedelta(days=30))
    return dict(zip(("start_date_time", "end_date_time"), (f"{b.isoformat()}Z" for b in bounds), strict=True))


def preferring(*preferences: str, parameters: Any = None) -> RequestConfiguration[Any]:
    """A request's configuration with `Prefer` headers."""
    configuration: RequestConfiguration[Any] = RequestConfiguration(query_parameters=parameters)
    for preference in ('IdType="ImmutableId"', *preferences):
        configuration.headers.add("Prefer", preference)
    return configuration


async def rounds(provider: Provider, link: str | None = None) -> tuple[list[Event], str]:
    """A delta to its end; from a window, or from a link."""
    delta, found = provider.calendar.calendar_view.delta, []
    prefer = "odata.maxpagesize=3"
    if link is None:
        page = await delta.get(preferring(prefer, parameters=DeltaParameters(**window())))
    else:
        page = await delta.with_url(link).get(preferring(prefer))
    while page.odata_next_link:
        found += page.value or []
        page = await delta.with_url(page.odata_next_link).get(preferring(prefer))
    assert page.odata_delta_link
    return [*found, *(page.value or [])], page.odata_delta_link


def test_the_judge_finds_flaws() -> None:
    """A check that cannot fail would prove nothing."""
    event = {"id": 1, "showAs": "sleeping", "start": {"dateTime": "2026-11-02T12:00:00Z"}, "invented": True}
    assert flaws(event, "event") == [
        "event.id: 1 is no String",
        "event.showAs: 'sleeping' is no freeBusyStatus",
        "event.start.dateTime: '2026-11-02T12:00:00Z' is no WallTime",
        "event.invented: unknown property",
    ]


async def test_calendars(provider: Provider) -> None:
    for number in range(12):
        body = {"email": "person@contoso.example", "summary": f"Calendar {number}"}
        provider.http.post("/calendars", json=body).raise_for_status()
    page = await provider.graph.me.calendars.get()
    assert page is not None
    assert page.odata_next_link is not None
    rest = await provider.graph.me.calendars.with_url(page.odata_next_link).get()
    assert [len(page.value), len(rest.value)] == [10, 3]
    (first, *_) = page.value
    assert (first.id, first.name, first.is_default_calendar) == (provider.calendar_id, "Calendar", True)
    assert first.default_online_meeting_provider == OnlineMeetingProviderType.TeamsForBusiness
    assert flaws(provider.raw.get("/me/calendars").json()["value"], "[calendar]") == []
    me = await provider.graph.me.get()
    assert (me.id, me.mail) == (provider.account["subject"], "person@contoso.example")


async def test_a_view_with_paging(provider: Provider) -> None:
    ids = {provider.add(f"Event {n}", hours=24 + n) for n in range(5)}
    guests = [{"email": "guest@example.com", "response": "accepted"}]
    link = "https://teams.microsoft.com/meet/123?p=x"
    rich = provider.add("Rich", attendees=guests, conference={"kind": "teams", "url": link}, location="Room 4")
    series = provider.add("Weekly", recurrence=["RRULE:FREQ=WEEKLY;COUNT=4"])
    parameters = ViewParameters(**window(), top=3, orderby=["start/dateTime"])
    page = await provider.calendar.calendar_view.get(preferring(parameters=parameters))
    found: list[Event] = []
    while page.odata_next_link:
        found += page.value
        page = await provider.calendar.calendar_view.with_url(page.odata_next_link).get(preferring())
    found += page.value
    shown = {event.id: event for event in found}
    assert ids | {rich} < set(shown)
    assert shown[rich].online_meeting.join_url == link
    assert [e.series_master_id for e in found if e.type == EventType.Occurrence] == [series] * 4
    bounds = {"startDateTime": window()["start_date_time"], "endDateTime": window()["end_date_time"], "$top": "100"}
    raw = provider.raw.get(f"/me/calendars/{provider.calendar_id}/calendarView", params=bounds).json()
    assert flaws(raw["value"], "[event]") == []
    master = await provider.graph.me.events.by_event_id(series).get()
    assert master.type == EventType.SeriesMaster
    assert master.recurrence.range.number_of_occurrences == 4
    assert flaws(provider.raw.get(f"/me/events/{series}").json(), "event") == []


async def test_a_delta_to_its_end_and_again(provider: Provider) -> None:
    ids = {provider.add(f"Event {n}", hours=24 + n) for n in range(5)}
    series = provider.add("Weekly", recurrence=["RRULE:FREQ=WEEKLY;COUNT=4"])
    found, link = await rounds(provider)
    kinds = sorted(event.type.value for event in found)
    assert kinds == ["occurrence"] * 4 + ["seriesMaster"] + ["singleInstance"] * 5
    assert {event.subject for event in found if event.type == EventType.Occurrence} == {None}

    assert (await rounds(provider, link))[0] == []
    (gone, renamed, *_) = ids
    provider.http.delete(f"{provider.events}/{gone}").raise_for_status()
    provider.http.patch(f"{provider.events}/{renamed}", json={"title": "Renamed"}).raise_for_status()
    provider.http.delete(f"{provider.events}/{series}").raise_for_status()
    found, link = await rounds(provider, link)
    removed = {event.id for event in found if "@removed" in event.additional_data}
    assert removed == {gone, series}
    assert {event.id: event.subject for event in found if event.id not in removed} == {renamed: "Renamed"}

    provider.http.post(f"/calendars/{provider.calendar_id}/expire_sync_tokens").raise_for_status()
    with pytest.raises(APIError) as caught:
        await rounds(provider, link)
    assert caught.value.response_status_code == 410
    assert caught.value.error.code == "SyncStateNotFound"  # type: ignore[attr-defined]


async def test_a_subscription(provider: Provider, receiver: Receiver) -> None:
    subscriptions = provider.graph.subscriptions
    body = Subscription(
        change_type="created,updated,deleted",
        notification_url=receiver.url,
        lifecycle_notification_url=f"{receiver.url}?lifecycle=1",
        resource=f"/me/calendars/{provider.calendar_id}/events",
        expiration_date_time=datetime.now(UTC) + timedelta(hours=2),
        client_state="secret",
    )
    made = await subscriptions.post(body, preferring())
    assert len(receiver.validated) == 2
    with pytest.raises(APIError) as caught:
        await subscriptions.post(body)
    assert caught.value.response_status_code == 409

    event = provider.add("Planning")
    assert receiver.arrived.wait(10)
    (batch,) = receiver.received
    assert flaws(batch, "changeNotificationCollection") == []
    assert batch["value"][0]["resourceData"]["id"] == event
    assert batch["value"][0]["clientState"] == "secret"

    one = subscriptions.by_subscription_id(made.id)
    longer = datetime.now(UTC) + timedelta(days=6)
    renewed = await one.patch(Subscription(expiration_date_time=longer))
    assert renewed.expiration_date_time == longer
    assert (await one.get()).client_state is None
    assert [s.id for s in (await subscriptions.get()).value] == [made.id]
    assert flaws(provider.raw.get(f"/subscriptions/{made.id}").json(), "subscription") == []
    await one.reauthorize.post()
    await one.delete()
    with pytest.raises(APIError) as caught:
        await one.get()
    assert caught.value.response_status_code == 404


async def test_throttling_is_understood(provider: Provider) -> None:
    fault = {"kind": "too_many_requests", "operation": "graph.calendars.list", "retry_after": 1}
    provider.http.post("/faults", json=fault).raise_for_status()
    page = await provider.graph.me.calendars.get()
    assert [calendar.id for calendar in page.value] == [provider.calendar_id]
    seen = provider.http.get("/requests", params={"operation": "graph.calendars.list"}).json()["requests"]
    assert [entry["status"] for entry in seen] == [429, 200]
