"""Graph's subscriptions: the handshake, limits, renewal, notifications in batches, lifecycle, and slow receivers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sandbox import Sandbox
from sandbox.microsoft.notifications import Batch
from tests.unit.sandbox.graph_client import IMMUTABLE, GraphClient, Json
from tests.unit.sandbox.graph_metadata import flaws

PATH = "/v1.0/subscriptions"
URL = "https://app.example/push"


class Receiver:
    """The application's side of it; `statuses` are answered in turn, then 202."""

    def __init__(self) -> None:
        self.handshakes: list[str] = []
        self.batches: list[Json] = []
        self.statuses: list[int] = []
        self.seconds: float = 0
        self.echo = True
        self.app = Starlette(routes=[Route("/{rest:path}", self._receive, methods=["POST"])])

    @property
    def items(self) -> list[Json]:
        """Everything that came, one by one."""
        return [item for batch in self.batches for item in batch["value"]]

    async def _receive(self, request: Request) -> Response:
        token = request.query_params.get("validationToken")
        if token is not None:
            self.handshakes.append(str(request.url))
            return PlainTextResponse(token if self.echo else "no")
        await asyncio.sleep(self.seconds)
        self.batches.append(orjson.loads(await request.body()))
        return Response(status_code=self.statuses.pop(0) if self.statuses else 202)


class Subscriber(GraphClient):
    """An application that subscribes."""

    receiver: Receiver

    def body(self, **values: Any) -> Json:
        """What asks for a subscription to the default calendar."""
        return {
            "changeType": "created,updated,deleted",
            "notificationUrl": URL,
            "resource": f"/me/calendars/{self.id}/events",
            "expirationDateTime": self.after(minutes=10_069),
            "clientState": "secret",
            **values,
        }

    def after(self, **span: float) -> str:
        """A time from now, as Graph writes it."""
        return f"{self.world.clock.now() + timedelta(**span):%Y-%m-%dT%H:%M:%S.%f}0Z"

    async def subscribe(self, *, expect: int = 201, **values: Any) -> Json:
        """Ask for one; asserts the status."""
        answer = await self.http.post(PATH, json=self.body(**values), headers={"Prefer": IMMUTABLE})
        assert answer.status_code == expect, answer.text
        return dict(answer.json())


@pytest.fixture
async def graph() -> AsyncIterator[Subscriber]:
    """A sandbox in this process, its notifications sent to a receiver in this process."""
    receiver = Receiver()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(receiver.app)) as push:
        box = Sandbox.create(push_client=push)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(box.app), base_url="http://graph") as http:
            made = Subscriber(box, http)
            made.receiver = receiver
            yield made
        await box.close()


async def test_the_handshake_comes_first_for_each_url(graph: Subscriber) -> None:
    made = await graph.subscribe(lifecycleNotificationUrl="https://app.example/lifecycle?a=1")
    assert flaws(made, "subscription") == []
    assert (made["clientState"], made["applicationId"]) == ("secret", graph.account.client_id)
    first, second = graph.receiver.handshakes
    assert first.startswith(f"{URL}?validationToken=Validation")
    assert second.startswith("https://app.example/lifecycle?a=1&validationToken=Validation")
    graph.receiver.echo = False
    body = await graph.subscribe(expect=400, changeType="updated")
    assert body["error"]["code"] == "ValidationError"
    assert (await graph.get(f"{PATH}/{made['id']}"))["clientState"] is None
    assert len((await graph.get(PATH))["value"]) == 1


async def test_what_is_refused(graph: Subscriber) -> None:
    await graph.subscribe(expect=400, expirationDateTime=graph.after(minutes=10_081))
    await graph.subscribe(expect=400, expirationDateTime=graph.after(minutes=-1))
    await graph.subscribe(expect=400, expirationDateTime="soon")
    await graph.subscribe(expect=400, notificationUrl="http://app.example/push")
    await graph.subscribe(expect=400, changeType="created,moved")
    await graph.subscribe(expect=400, clientState="x" * 129)
    await graph.subscribe(expect=400, resource="/me/messages")
    await graph.subscribe(expect=400, resource="")
    gone = await graph.subscribe(expect=400, resource=f"/me/calendars/{graph.id[:-4]}AAAA/events")
    assert gone["error"]["code"] == "ExtensionError"
    assert graph.receiver.handshakes == []
    await graph.subscribe()
    assert (await graph.subscribe(expect=409))["error"]["code"] == "Conflict"
    await graph.subscribe(expect=409, changeType="deleted,updated,created")
    await graph.subscribe(changeType="updated")
    answer = await graph.http.post(PATH, content=b"{")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadRequest")


async def test_a_mailbox_has_room_for_a_thousand(graph: Subscriber) -> None:
    made = graph.box.push.subscriptions[(await graph.subscribe())["id"]]
    for number in range(999):
        other = replace(made, id=str(number), resource=f"other {number}")
        graph.box.push.subscriptions[other.id] = other
    await graph.subscribe(expect=403, changeType="updated")
    page = await graph.get(PATH)
    assert len(page["value"]) == 100
    assert len((await graph.get(page["@odata.nextLink"]))["value"]) == 100


async def test_how_long_it_lives(graph: Subscriber) -> None:
    made = await graph.subscribe(expirationDateTime=graph.after(minutes=1))
    life = datetime.fromisoformat(made["expirationDateTime"]) - graph.world.clock.now()
    assert timedelta(minutes=44) < life <= timedelta(minutes=45)
    one = f"{PATH}/{made['id']}"
    renewed = await graph.http.patch(one, json={"expirationDateTime": graph.after(days=6)})
    assert renewed.status_code == 200
    assert (await graph.http.patch(one, json={"resource": "/me/events"})).status_code == 400
    assert (await graph.http.post(f"{one}/reauthorize")).status_code == 204
    graph.world.clock.advance(timedelta(days=6, minutes=1))
    graph.sign_in()
    gone = await graph.http.patch(one, json={"expirationDateTime": graph.after(days=6)})
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "ResourceNotFound")
    graph.add()
    await graph.box.push.idle()
    assert graph.receiver.items == []


async def test_others_do_not_see_it(graph: Subscriber) -> None:
    made = await graph.subscribe()
    other = graph.world.add_account("other@contoso.example", provider="microsoft")
    grant = graph.world.grants[other.refresh_token]
    graph.http.headers["Authorization"] = f"Bearer {graph.world.issue_access_token(grant).token}"
    assert (await graph.get(PATH))["value"] == []
    assert (await graph.http.delete(f"{PATH}/{made['id']}")).status_code == 404


async def test_a_notification(graph: Subscriber) -> None:
    made = await graph.subscribe()
    event = graph.add()
    await graph.box.push.idle()
    graph.world.update_event(graph.id, event, title="Renamed")
    await graph.box.push.idle()
    graph.world.delete_event(graph.id, event)
    await graph.box.push.idle()
    assert [flaws(batch, "changeNotificationCollection") for batch in graph.receiver.batches] == [[], [], []]
    assert [item["changeType"] for item in graph.receiver.items] == ["created", "updated", "deleted"]
    (item, *_) = graph.receiver.items
    path = f"Users/{graph.account.subject}/Events/{event}"
    assert (item["resource"], item["resourceData"]["@odata.id"], item["clientState"]) == (path, path, "secret")
    assert (item["subscriptionId"], item["tenantId"]) == (made["id"], graph.account.tenant)
    assert (await graph.http.delete(f"{PATH}/{made['id']}")).status_code == 204
    graph.add()
    await graph.box.push.idle()
    assert len(graph.receiver.items) == 3
    graph.box.faults.add("notify_after_deletion", "graph.notification")
    graph.add()
    await graph.box.push.idle()
    assert len(graph.receiver.items) == 4


async def test_one_post_for_several_subscriptions(graph: Subscriber) -> None:
    other = graph.world.add_calendar(graph.account, "Other")
    ids = {(await graph.subscribe())["id"], (await graph.subscribe(resource=f"me/calendars/{other.id}/events"))["id"]}
    graph.box.faults.add("wrong_client_state", "graph.notification")
    event = graph.add()
    graph.world.move_event(graph.id, event, other.id)
    await graph.box.push.idle()
    (batch,) = graph.receiver.batches
    assert {item["subscriptionId"] for item in batch["value"]} == ids
    assert [item["changeType"] for item in batch["value"]] == ["created", "deleted", "created"]
    assert [item["clientState"] for item in batch["value"]] == ["forged", "secret", "secret"]


async def test_notifications_held_doubled_and_dropped(graph: Subscriber) -> None:
    await graph.subscribe()
    push = graph.box.push
    push.mode = "hold"
    first, second = graph.add("First"), graph.add("Second")
    push.release(reverse=True)
    await push.idle()
    assert [item["resourceData"]["id"] for item in graph.receiver.items] == [second, first]
    push.mode = "drop"
    graph.add("Lost")
    push.mode, push.copies = "deliver", 2
    graph.add("Twice")
    await push.idle()
    assert len(graph.receiver.items) == 4


async def test_only_2xx_ends_the_attempts(graph: Subscriber) -> None:
    await graph.subscribe()
    graph.receiver.statuses = [500, 404]
    graph.add()
    await graph.box.push.idle()
    assert len(graph.receiver.batches) == 3
    assert [status for _, status in graph.box.push.sent] == [202]


async def test_lifecycle(graph: Subscriber) -> None:
    quiet = await graph.subscribe(changeType="updated")
    made = await graph.subscribe(lifecycleNotificationUrl=f"{URL}/lifecycle")
    told = []
    for event in ("reauthorizationRequired", "missed", "subscriptionRemoved"):
        path = f"/_sandbox/subscriptions/{made['id']}/lifecycle"
        assert (await graph.http.post(path, json={"event": event})).json() == {"sent": True}
        await graph.box.push.idle()
        told.append(event)
    assert [item["lifecycleEvent"] for item in graph.receiver.items] == told
    assert {item["clientState"] for item in graph.receiver.items} == {"secret"}
    assert flaws(graph.receiver.batches, "[changeNotificationCollection]") == []
    assert not any("resourceData" in item for item in graph.receiver.items)
    await graph.get(f"{PATH}/{made['id']}", expect=404)
    assert not graph.box.graph.notifier.lifecycle(quiet["id"], "missed")
    live = (await graph.get("/_sandbox/subscriptions"))["subscriptions"]
    assert [one["live"] for one in live] == [True, False]


async def test_slow_receivers_wait_and_slower_ones_lose(graph: Subscriber) -> None:
    await graph.subscribe()
    notifier, push = graph.box.graph.notifier, graph.box.push
    notifier.receivers.slow_seconds, graph.receiver.seconds = 0.01, 0.02
    for number in range(10):
        graph.add(f"Event {number}")
        await push.idle()
    graph.receiver.seconds = 0
    graph.add("Late")
    await push.idle()
    assert len(graph.receiver.items) == 10
    graph.world.clock.advance(timedelta(minutes=11))
    await push.idle()
    assert len(graph.receiver.items) == 11
    notifier.receivers.drop_seconds, graph.receiver.seconds = 0.01, 0.02
    for number in range(9):
        graph.add(f"Event {number}")
        await push.idle()
    graph.add("Lost")
    await push.idle()
    assert len(graph.receiver.items) == 20
    assert [len(batch.items) for batch in notifier.lost] == [1]
    assert isinstance(notifier.lost[0], Batch)


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("duplicate_subscription", 409, "Conflict"),
        ("endpoint_unreachable", 400, "InvalidRequest"),
        ("push_not_supported", 400, "ExtensionError"),
        ("forbidden", 403, "ErrorAccessDenied"),
    ],
)
async def test_planted_refusals(graph: Subscriber, kind: str, status: int, code: str) -> None:
    graph.box.faults.add(kind, "graph.subscriptions.create")
    assert (await graph.subscribe(expect=status))["error"]["code"] == code
    graph.box.faults.add("short_expiration", "graph.subscriptions.create", seconds=60)
    graph.box.faults.add("slow_validation", "graph.subscriptions.create", seconds=0.01)
    made = await graph.subscribe()
    assert datetime.fromisoformat(made["expirationDateTime"]) - graph.world.clock.now() < timedelta(seconds=61)


async def test_a_lost_answer_leaves_an_orphan(graph: Subscriber) -> None:
    graph.box.faults.add("lost_answer", "graph.subscriptions.create")
    with pytest.raises(httpx.RemoteProtocolError):
        await graph.subscribe()
    await graph.subscribe(expect=409)
    (orphan,) = (await graph.get(PATH))["value"]
    assert (await graph.http.delete(f"{PATH}/{orphan['id']}")).status_code == 204
    await graph.subscribe()
