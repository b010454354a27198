"""Exactly what Graph is asked, in which order, and what is never sent anywhere else."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest
import respx
from redis.asyncio import Redis

from app.errors import ChannelExists, ChannelRefused, CursorExpired, ProviderContract, ProviderThrottled
from app.meetings import NO_PREFERENCES
from app.providers.base import Access, AppCredentials, ChangePage, ChannelRequest, Stored, Window
from app.providers.http import ProviderHttp
from app.providers.limits import Limits
from app.providers.microsoft.client import MicrosoftCalendar
from tests.provider.harness import Tokens, make_settings, nothing_known

ORIGIN, LOGIN = "https://graph.test", "https://login.test"
VIEW = f"{ORIGIN}/v1.0/me/calendars/cal%2F1/calendarView"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WINDOW = Window(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
PREFER = 'outlook.timezone="UTC", IdType="ImmutableId"'


@dataclass
class Graph:
    """The provider under test, and the scripted Graph behind it."""

    provider: MicrosoftCalendar
    mock: respx.MockRouter
    access: Access

    @property
    def requests(self) -> list[httpx.Request]:
        return [call.request for call in self.mock.calls]

    async def round(self, cursor: str | None, known: Mapping[str, Stored] | None = None) -> list[ChangePage]:
        async def look(ids: Collection[str]) -> Mapping[str, Stored]:
            return {key: what for key, what in (known or {}).items() if key in ids}

        pages = self.provider.fetch_changes(
            self.access,
            "cal/1",
            cursor=cursor,
            window=WINDOW,
            time_zone=None,
            owner="ana@example.com",
            known=look if known else nothing_known,
            preferences=NO_PREFERENCES,
        )
        return [page async for page in pages]


@pytest.fixture
async def graph() -> AsyncIterator[Graph]:
    async with scripted() as made:
        yield made


@asynccontextmanager
async def scripted() -> AsyncIterator[Graph]:
    settings = make_settings(microsoft_graph_url=ORIGIN, microsoft_login_url=LOGIN)
    mock = respx.MockRouter(assert_all_called=False)
    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(mock.async_handler)) as client,
        Redis.from_url(settings.redis_url) as redis,
    ):
        http = ProviderHttp(client, Limits(settings, redis), settings)
        provider = MicrosoftCalendar(http, settings, now=lambda: NOW)
        yield Graph(provider, mock, Access(Tokens(), client_id="client", user_key="user"))


def page(*entries: object, following: str | None = None, delta: str | None = None) -> httpx.Response:
    links = {"@odata.nextLink": following, "@odata.deltaLink": delta}
    return httpx.Response(200, json={"value": list(entries), **{k: v for k, v in links.items() if v}})


def single(key: str) -> dict[str, object]:
    at = {"dateTime": "2026-03-05T10:00:00.0000000", "timeZone": "UTC"}
    return {"id": key, "type": "singleInstance", "start": at, "end": at}


async def test_an_anchoring(graph: Graph) -> None:
    """The delta to its link, links as they are, the same preferences each time; then the listing."""
    odd = f"{ORIGIN}/v1.0/me/calendarView/delta?$skiptoken=a%2Bb"
    graph.mock.get(f"{VIEW}/delta").mock(return_value=page(single("a"), following=odd))
    graph.mock.get(odd).mock(return_value=page(delta=f"{ORIGIN}/d?$deltatoken=x"))
    graph.mock.get(VIEW).mock(return_value=page(single("a"), single("b")))
    (listed,) = await graph.round(None)
    assert (len(listed.items), listed.cursor, listed.starts_listing) == (2, f"{ORIGIN}/d?$deltatoken=x", True)
    first, second, third = graph.requests
    assert first.url.params["startDateTime"] == "2026-03-01T00:00:00Z"
    assert first.url.params["endDateTime"] == "2026-04-01T00:00:00Z"
    assert "$select" not in first.url.params
    assert str(second.url) == odd
    assert first.headers["prefer"] == second.headers["prefer"] == f"{PREFER}, odata.maxpagesize=200"
    assert (third.url.params["$top"], third.headers["prefer"]) == ("1000", PREFER)
    assert "uid" in third.url.params["$select"].split(",")


async def test_a_link_to_another_host_gets_no_token(graph: Graph) -> None:
    graph.mock.get(f"{VIEW}/delta").mock(return_value=page(following="https://graph.test.evil.example/next"))
    with pytest.raises(ProviderContract):
        await graph.round(None)
    assert len(graph.requests) == 1


async def test_a_listing_that_changed_under_its_pages_is_made_again(graph: Graph) -> None:
    link = f"{ORIGIN}/v1.0/delta?$deltatoken=1"
    graph.mock.get(f"{VIEW}/delta").mock(return_value=page(delta=link))
    graph.mock.get(link).mock(side_effect=[page(single("b"), delta=f"{link}2"), page(delta=f"{link}3")])
    graph.mock.get(f"{link}2").mock(return_value=page(delta=f"{link}3"))
    following = f"{ORIGIN}/v1.0/next?$skip=1"
    graph.mock.get(following).mock(return_value=page(single("b")))
    graph.mock.get(VIEW).mock(return_value=page(single("a"), following=following))
    pages = await graph.round(None)
    assert [len(p.items) for p in pages] == [1, 1]
    assert (pages[0].starts_listing, pages[1].starts_listing, pages[1].cursor) == (True, False, f"{link}2")
    assert sum(str(request.url).startswith(VIEW + "?") for request in graph.requests) == 2


async def test_a_window_that_never_stands_still_hides_nothing(graph: Graph) -> None:
    """`c` slips over the border of two pages in the last listing: it was in an earlier one, so it is not gone."""
    links = [f"{ORIGIN}/v1.0/delta?$deltatoken={n}" for n in range(3)]
    graph.mock.get(f"{VIEW}/delta").mock(return_value=page(delta=links[0]))
    graph.mock.get(links[0]).mock(return_value=page(single("x"), delta=links[1]))
    graph.mock.get(links[1]).mock(return_value=page(single("x"), delta=links[2]))
    following = f"{ORIGIN}/v1.0/next?$skip=1"
    graph.mock.get(following).mock(side_effect=[page(single("b"), single("c")), page(single("b")), page(single("b"))])
    graph.mock.get(VIEW).mock(return_value=page(single("a"), following=following))
    pages = await graph.round(None)
    assert [item.platform_uuid for p in pages for item in p.items] == ["a", "b", "c"]
    assert pages[-1].cursor == links[2]


async def test_a_tombstone_that_a_look_up_contradicts_makes_a_listing(graph: Graph) -> None:
    link = f"{ORIGIN}/v1.0/delta?$deltatoken=1"
    gone = {"id": "a", "@removed": {"reason": "deleted"}}
    graph.mock.get(link).mock(return_value=page(gone, delta=f"{link}2"))
    graph.mock.get(url__startswith=f"{ORIGIN}/v1.0/me/calendars/cal%2F1/events/a").respond(json=single("a"))
    graph.mock.get(VIEW).mock(return_value=page(single("a")))
    (listed,) = await graph.round(link, {"a": "single"})
    assert (listed.starts_listing, len(listed.items), listed.cursor) == (True, 1, f"{link}2")


@pytest.mark.parametrize(
    ("status", "code"), [(410, "SyncStateNotFound"), (400, "ErrorInvalidSyncStateData"), (400, "BadRequest")]
)
async def test_a_link_that_is_no_longer_known(graph: Graph, status: int, code: str) -> None:
    link = f"{ORIGIN}/v1.0/delta?$deltatoken=1"
    graph.mock.get(link).respond(status, json={"error": {"code": code, "message": "m"}})
    with pytest.raises(CursorExpired):
        await graph.round(link)


async def test_a_refresh(graph: Graph) -> None:
    answer = {"access_token": "a", "expires_in": 3599, "refresh_token": "new", "scope": "Calendars.Read User.Read"}
    graph.mock.post(f"{LOGIN}/common/oauth2/v2.0/token").respond(json=answer)
    token = await graph.provider.refresh(AppCredentials("id", "s&cret"), "old")
    assert (token.access_token, token.refresh_token, token.lives_for) == ("a", "new", 3599)
    assert (
        graph.requests[0].content == b"client_id=id&client_secret=s%26cret&refresh_token=old&grant_type=refresh_token"
    )


def _request() -> ChannelRequest:
    return ChannelRequest("1b4e28ba-2fa1-11d2-883f-0016d3cca427", "t" * 43, "https://app.test/push/microsoft", 604_800)


async def test_a_subscription(graph: Graph) -> None:
    granted = {"id": "sub", "expirationDateTime": "2026-03-08T11:48:00.1234567Z"}
    graph.mock.post(f"{ORIGIN}/v1.0/subscriptions").respond(201, json=granted)
    channel = await graph.provider.open_channel(graph.access, "cal/1", _request())
    assert channel.resource_id == "sub"
    asked = json.loads(graph.requests[0].content)
    assert asked["resource"] == "/me/calendars/cal/1/events"
    assert asked["notificationUrl"] == asked["lifecycleNotificationUrl"] == "https://app.test/push/microsoft"
    assert asked["expirationDateTime"] == "2026-03-08T11:49:00.0000000Z"
    assert len(asked["clientState"]) <= 128


async def test_a_subscription_that_is_there_already(graph: Graph) -> None:
    """Ours is named, so that it can be removed; another installation's is left alone."""
    entry = {
        "id": "old",
        "resource": "/me/calendars/cal/1/events",
        "notificationUrl": "https://app.test/push/microsoft",
        "expirationDateTime": "2026-03-08T11:48:00Z",
    }
    other = entry | {"id": "other", "notificationUrl": "https://staging.test/push/microsoft"}
    graph.mock.post(f"{ORIGIN}/v1.0/subscriptions").respond(409, json={"error": {"code": "Conflict", "message": "m"}})
    listing = graph.mock.get(f"{ORIGIN}/v1.0/subscriptions")
    listing.mock(return_value=page(other, entry))
    with pytest.raises(ChannelExists) as raised:
        await graph.provider.open_channel(graph.access, "cal/1", _request())
    assert raised.value.resource_ids == ("old",)
    listing.mock(return_value=page(other))
    with pytest.raises(ChannelRefused):
        await graph.provider.open_channel(graph.access, "cal/1", _request())


async def test_without_redis_a_worker_asks_a_mailbox_one_thing_at_a_time(graph: Graph) -> None:
    under_way, most = 0, 0

    async def answer(_: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return page()

    graph.mock.get(url__startswith=f"{ORIGIN}/v1.0/me/calendars").mock(side_effect=answer)

    async def listed() -> None:
        with suppress(ProviderThrottled):  # so it may end on a busy machine
            await graph.provider.list_calendars(graph.access)

    await asyncio.gather(*(listed() for _ in range(5)))
    assert most == 1


async def test_a_place_that_does_not_come_free_is_throttling(graph: Graph) -> None:
    is_taken = asyncio.Event()

    async def never(_: httpx.Request) -> httpx.Response:
        is_taken.set()
        await asyncio.Event().wait()
        return page()

    graph.mock.get(url__startswith=f"{ORIGIN}/v1.0/me/calendars").mock(side_effect=never)
    first = asyncio.create_task(graph.provider.list_calendars(graph.access))
    await is_taken.wait()
    with pytest.raises(ProviderThrottled):
        await graph.provider.list_calendars(graph.access)
    first.cancel()
