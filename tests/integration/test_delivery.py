"""Delivery against a real database and a real receiver: what is published arrives, and how often it is tried."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from standardwebhooks import Webhook

from app.ids import MESSAGE, new_id, public
from app.runtime import Runtime
from app.webhooks import payloads
from app.webhooks.attempts import attempt
from app.webhooks.claims import claim
from app.webhooks.delivery import deliver_due
from app.webhooks.outbox import NewMessage, drop_undelivered, drop_undelivered_to, publish
from app.webhooks.settle import settle
from tests.harness import Project
from tests.integration.delivering import (
    Receiver,
    attempts,
    claim_all,
    deliveries,
    new_endpoint,
    rows,
    send,
)


async def test_a_message_arrives_once_signed_and_is_recorded(rt: Runtime, project: Project, receiver: Receiver) -> None:
    endpoint = await new_endpoint(rt, project, f"{receiver.url}/hook?x=1")
    [delivery_id] = await send(rt, project)
    assert await deliver_due(rt) == 1
    assert await deliver_due(rt) == 0
    [(_, headers, body)] = receiver.requests
    Webhook(endpoint.secret).verify(body, headers)
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("Punctual/")
    [delivery], [tried] = await deliveries(rt), await attempts(rt)
    assert (delivery["id"], delivery["state"], delivery["attempt_count"]) == (delivery_id, "succeeded", 1)
    assert delivery["next_attempt_at"] is None
    assert headers["webhook-id"] == public(MESSAGE, delivery["message_id"])
    assert (tried["status"], tried["error"], tried["address"]) == (204, None, "127.0.0.1")
    assert set(tried["phases_ms"]) == {"dns", "connect", "tls", "first_byte", "total"}
    assert delivery["created_at"] <= tried["at"] <= delivery["updated_at"]


async def test_keys_of_deliveries_are_ordered_by_time(rt: Runtime, project: Project, receiver: Receiver) -> None:
    await new_endpoint(rt, project, receiver.url)
    await new_endpoint(rt, project, receiver.url)
    made: list[list[UUID]] = []
    for _ in range(3):
        made.append(await send(rt, project))
        await asyncio.sleep(0.005)
    assert [len(ids) for ids in made] == [2, 2, 2]
    assert all(key.version == 7 for ids in made for key in ids)
    assert max(made[0]) < min(made[1])
    assert max(made[1]) < min(made[2])


async def test_who_is_told(rt: Runtime, project: Project, other_project: Project, receiver: Receiver) -> None:
    await new_endpoint(rt, other_project, f"{receiver.url}/other-project")
    await new_endpoint(rt, project, f"{receiver.url}/other-trigger", triggers=["calendar.events_update"])
    off = await new_endpoint(rt, project, f"{receiver.url}/disabled", state="disabled")
    gone = await new_endpoint(rt, project, f"{receiver.url}/deleted")
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE webhook_endpoints SET deleted_at = app_now() WHERE id = :id", {"id": gone.id})
    rt.queue.delivery_due.clear()
    assert await send(rt, project) == []
    assert not rt.queue.delivery_due.is_set()
    assert [(row["endpoint_id"], row["state"]) for row in await deliveries(rt)] == [
        (off.id, "failed")
    ]  # to be replayed
    listening = await new_endpoint(rt, project, f"{receiver.url}/listening")
    for endpoint in (None, listening, off):
        assert len(await send(rt, project, endpoint=endpoint)) == 1
    assert await send(rt, project, endpoint=gone) == []
    assert await send(rt, other_project, endpoint=listening) == []
    assert await deliver_due(rt) == 3
    assert sorted(path for path, _, _ in receiver.requests) == ["/disabled", "/listening", "/listening"]


async def test_what_is_rolled_back_was_never_said(rt: Runtime, project: Project, receiver: Receiver) -> None:
    await new_endpoint(rt, project, receiver.url)
    rt.queue.delivery_due.clear()
    message = NewMessage(new_id(), project.id, None, payloads.STATE_CHANGE, b"{}")

    async def change_and_fail() -> None:
        async with rt.db.transaction() as tx:
            assert len(await publish(tx, rt.queue, [message])) == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await change_and_fail()
    assert not rt.queue.delivery_due.is_set()
    assert await deliver_due(rt) == 0
    assert await rows(rt, "SELECT id FROM messages") == []


async def test_a_failure_is_tried_again_when_its_time_has_come(
    rt: Runtime, project: Project, receiver: Receiver
) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    receiver.statuses = [500, 302, 200]
    await send(rt, project)
    assert await deliver_due(rt) == 1
    rt.clock.advance(timedelta(seconds=1))
    assert await deliver_due(rt) == 0
    rt.clock.advance(timedelta(seconds=4.6))
    assert await deliver_due(rt) == 1
    rt.clock.advance(timedelta(seconds=280))
    assert await deliver_due(rt) == 0
    rt.clock.advance(timedelta(seconds=51))
    assert await deliver_due(rt) == 1
    assert [a["error"] for a in await attempts(rt)] == ["refused", "redirect", None]
    assert [a["response_body"] for a in await attempts(rt)] == ["so it is"] * 3
    [delivery] = await deliveries(rt)
    assert (delivery["state"], delivery["attempt_count"]) == ("succeeded", 3)
    assert len(set(receiver.ids)) == 1
    for _, headers, body in receiver.requests:
        Webhook(endpoint.secret).verify(body, headers)  # the timestamp is that of the attempt


async def test_ten_attempts_over_three_days_and_then_it_failed(
    rt: Runtime, project: Project, receiver: Receiver
) -> None:
    await new_endpoint(rt, project, receiver.url)
    receiver.statuses = [503]
    await send(rt, project)
    started = rt.clock.now()
    [delivery] = await deliveries(rt)
    while await deliver_due(rt):
        [delivery] = await deliveries(rt)
        if delivery["next_attempt_at"] is not None:
            rt.clock.advance(delivery["next_attempt_at"] - rt.clock.now() + timedelta(milliseconds=1))
    assert (delivery["state"], delivery["attempt_count"], len(receiver.requests)) == ("failed", 10, 10)
    assert timedelta(hours=75, minutes=35) <= rt.clock.now() - started <= timedelta(hours=84)
    rt.clock.advance(timedelta(days=30))
    assert await deliver_due(rt) == 0


async def test_retry_after_postpones(rt: Runtime, project: Project, receiver: Receiver) -> None:
    await new_endpoint(rt, project, receiver.url)
    receiver.statuses, receiver.headers = [429, 204], {"retry-after": "3600"}
    await send(rt, project)
    assert await deliver_due(rt) == 1
    rt.clock.advance(timedelta(seconds=3_570))
    assert await deliver_due(rt) == 0
    rt.clock.advance(timedelta(seconds=31))
    assert await deliver_due(rt) == 1


async def test_nobody_listens(rt: Runtime, project: Project) -> None:
    await new_endpoint(rt, project, "http://127.0.0.1:9")
    await new_endpoint(rt, project, "https://10.0.0.1/")  # stored while EGRESS_ALLOW was wider
    await send(rt, project)
    assert await deliver_due(rt) == 2
    assert {a["error"] for a in await attempts(rt)} == {"connect_error", "egress_blocked"}
    assert {d["state"] for d in await deliveries(rt)} == {"pending"}


async def test_a_secret_of_another_row_signs_nothing(rt: Runtime, project: Project, receiver: Receiver) -> None:
    first = await new_endpoint(rt, project, receiver.url)
    second = await new_endpoint(rt, project, receiver.url, triggers=["calendar.events_update"])
    async with rt.db.transaction() as tx:
        await tx.execute(
            "UPDATE webhook_endpoints SET secret_sealed ="
            " (SELECT secret_sealed FROM webhook_endpoints WHERE id = :second) WHERE id = :first",
            {"first": first.id, "second": second.id},
        )
    await send(rt, project)
    assert await deliver_due(rt) == 1
    assert [a["error"] for a in await attempts(rt)] == ["secret_unreadable"]
    assert receiver.requests == []


async def test_gone_disables_and_ends_what_waits(rt: Runtime, project: Project, receiver: Receiver) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    receiver.statuses = [500, 410]
    await send(rt, project)
    await deliver_due(rt)
    await send(rt, project)
    await deliver_due(rt)
    [row] = await rows(rt, "SELECT state, disabled_reason FROM webhook_endpoints WHERE id = :id", id=endpoint.id)
    assert row == {"state": "disabled", "disabled_reason": "gone"}
    rt.clock.advance(timedelta(seconds=6))
    await deliver_due(rt)
    assert [a["error"] for a in await attempts(rt)] == ["refused", "gone", "endpoint_disabled"]
    assert [d["state"] for d in await deliveries(rt)] == ["failed", "failed"]
    assert await send(rt, project) == []
    assert [d["state"] for d in await deliveries(rt)] == ["failed"] * 3
    receiver.statuses = [204]
    await send(rt, project, endpoint=endpoint)  # a test goes out all the same
    assert await deliver_due(rt) == 1
    assert len(receiver.requests) == 3


async def test_gone_says_nothing_about_an_url_put_in_its_place(
    rt: Runtime, project: Project, receiver: Receiver
) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    receiver.statuses = [410]
    await send(rt, project)
    [mine] = await claim_all(rt)
    outcome = await attempt(rt, mine)
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE webhook_endpoints SET url = url || '/new' WHERE id = :id", {"id": endpoint.id})
    await settle(rt.db, [outcome])
    [row] = await rows(rt, "SELECT state FROM webhook_endpoints WHERE id = :id", id=endpoint.id)
    assert row == {"state": "enabled"}


async def test_a_deleted_calendar_tells_nothing_more(rt: Runtime, project: Project, receiver: Receiver) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    calendar_id, other_calendar = new_id(), new_id()
    await send(rt, project, calendar_id=calendar_id)
    await deliver_due(rt)
    await send(rt, project, calendar_id=calendar_id, count=3)
    await send(rt, project, calendar_id=other_calendar)
    await send(rt, project, endpoint=endpoint)
    [in_flight] = (await claim(rt.db, batch=1, lease_seconds=25, room=1, rooms={})).claims
    outcome = await attempt(rt, in_flight)
    async with rt.db.transaction() as tx:
        assert await drop_undelivered(tx, calendar_id) == 3
    assert (await settle(rt.db, [outcome])).ours == set()
    assert await deliver_due(rt) == 2
    left = [(d["calendar_id"], d["state"]) for d in await deliveries(rt)]
    assert left == [(calendar_id, "succeeded"), (other_calendar, "succeeded"), (None, "succeeded")]


async def test_a_deleted_endpoint_is_told_nothing_more(rt: Runtime, project: Project, receiver: Receiver) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    await send(rt, project, count=2)
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE webhook_endpoints SET deleted_at = app_now() WHERE id = :id", {"id": endpoint.id})
        assert await drop_undelivered_to(tx, endpoint.id) == 2
    assert await deliver_due(rt) == 0
    assert receiver.requests == []


async def test_projects_do_not_hear_each_other(
    rt: Runtime, project: Project, other_project: Project, receiver: Receiver
) -> None:
    await new_endpoint(rt, project, f"{receiver.url}/first")
    await new_endpoint(rt, other_project, f"{receiver.url}/second")
    await send(rt, other_project)
    assert await deliver_due(rt) == 1
    assert [path for path, _, _ in receiver.requests] == ["/second"]
