"""Push channels on the wire, and reading what comes in through them."""

import json
from datetime import UTC, datetime

import httpx
import pytest

from app.errors import ChannelRefused, ProviderContract, ProviderUnavailable
from app.providers.base import Channel, ChannelRequest, Notification
from tests.provider.harness import API, Google, refusal

WATCH = f"{API}/calendars/ana%40example.com/events/watch"
REQUEST = ChannelRequest(
    id="0190-c1", token="t0ken", address="https://punctual.example/push/google", lives_for=604_800.9
)


async def test_a_watch_on_the_wire(google: Google) -> None:
    google.mock.post(WATCH).respond(
        json={"kind": "api#channel", "id": "0190-c1", "resourceId": "r-1", "expiration": "1773905359000"}
    )
    channel = await google.provider.open_channel(google.access, "ana@example.com", REQUEST)
    assert channel == Channel("r-1", datetime(2026, 3, 19, 7, 29, 19, tzinfo=UTC))
    assert json.loads(google.requests[0].content) == {
        "id": "0190-c1",
        "type": "web_hook",
        "address": "https://punctual.example/push/google",
        "token": "t0ken",
        "params": {"ttl": "604800"},
    }


@pytest.mark.parametrize(
    ("answer", "is_permanent"),
    [
        (refusal(400, "pushNotSupportedForRequestedResource", "calendar"), True),
        (refusal(400, "push.webhookUrlNotHttps"), False),
        (refusal(401, "push.webhookUrlUnauthorized"), False),
    ],
)
async def test_a_watch_that_cannot_be(google: Google, answer: httpx.Response, is_permanent: bool) -> None:
    google.mock.post(WATCH).mock(return_value=answer)
    with pytest.raises(ChannelRefused) as raised:
        await google.provider.open_channel(google.access, "ana@example.com", REQUEST)
    assert raised.value.permanent is is_permanent
    assert google.tokens.rejected == []  # a 401 about our address costs no token


async def test_a_channel_id_used_before_is_for_a_next_attempt(google: Google) -> None:
    google.mock.post(WATCH).mock(return_value=refusal(400, "channelIdNotUnique"))
    with pytest.raises(ProviderUnavailable):
        await google.provider.open_channel(google.access, "ana@example.com", REQUEST)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"resourceId": "r-1"},
        {"resourceId": "r-1", "expiration": "never"},
        {"resourceId": "r-1", "expiration": "9" * 30},
        {"expiration": "1773905359000"},
    ],
)
async def test_a_channel_without_an_end_breaks_the_contract(google: Google, answer: dict[str, str]) -> None:
    google.mock.post(WATCH).respond(json=answer)
    with pytest.raises(ProviderContract):
        await google.provider.open_channel(google.access, "ana@example.com", REQUEST)


@pytest.mark.parametrize("answer", [httpx.Response(204), refusal(404, "notFound")])
async def test_a_stop_on_the_wire(google: Google, answer: httpx.Response) -> None:
    google.mock.post(f"{API}/channels/stop").mock(return_value=answer)
    await google.provider.close_channel(google.access, "0190-c1", "r-1")
    assert json.loads(google.requests[0].content) == {"id": "0190-c1", "resourceId": "r-1"}


async def test_a_stop_that_failed_says_so(google: Google) -> None:
    google.mock.post(f"{API}/channels/stop").respond(503)
    with pytest.raises(ProviderUnavailable):
        await google.provider.close_channel(google.access, "0190-c1", "r-1")


PUSH = {
    "x-goog-channel-id": "c",
    "x-goog-channel-token": "t",
    "x-goog-resource-id": "r",
    "x-goog-resource-state": "exists",
    "x-goog-message-number": "12",
}


@pytest.mark.parametrize(("state", "kind"), [("sync", "created"), ("exists", "changed"), ("not_exists", "changed")])
def test_a_push_is_read(google: Google, state: str, kind: str) -> None:
    [notification] = google.provider.parse_notifications(PUSH | {"x-goog-resource-state": state}, b"")
    assert (notification.channel_id, notification.token, notification.kind) == ("c", "t", kind)


def test_a_push_without_its_resource_is_read(google: Google) -> None:
    headers = {name: value for name, value in PUSH.items() if name != "x-goog-resource-id"}
    assert google.provider.parse_notifications(headers, b"") == [Notification("c", "t", None, "changed")]


@pytest.mark.parametrize(
    "change",
    [
        {"x-goog-channel-id": ""},
        {"x-goog-channel-token": ""},
        {"x-goog-resource-state": "other"},
        {"x-goog-resource-state": ""},
        {"x-goog-channel-id": "c" * 2_000},
        {"x-goog-channel-token": "t" * 2_000},
        {"x-goog-resource-id": "r" * 2_000},
    ],
)
def test_what_is_no_push_is_nothing(google: Google, change: dict[str, str]) -> None:
    assert google.provider.parse_notifications(PUSH | change, b"") == []
    assert google.provider.parse_notifications({}, b"") == []
