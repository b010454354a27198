"""What must not keep an endpoint, or its neighbours, from what they are owed."""

from typing import Any

from app.ids import ENDPOINT, new_id, public
from app.runtime import Runtime
from app.webhooks import payloads
from app.webhooks.delivery import deliver_due
from tests.harness import Project
from tests.integration.delivering import (
    Endpoint,
    Receiver,
    bodies,
    claim_all,
    deliveries,
    eventually,
    later,
    looping,
    new_endpoint,
    put,
    rows,
    send,
    tell,
    told,
)


async def set_endpoint(rt: Runtime, endpoint: Endpoint, what: str) -> None:
    async with rt.db.transaction() as tx:
        await tx.execute(f"UPDATE webhook_endpoints SET {what} WHERE id = :id", {"id": endpoint.id})


async def test_a_message_without_changes_joins_a_gap(rt: Runtime, project: Project, receiver: Receiver) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    await set_endpoint(rt, endpoint, "retry_seconds = '{}'")
    ana = new_id()
    receiver.statuses = [500]
    await tell(rt, project, ana, 5)
    await deliver_due(rt)  # given up: the gap is open
    await put(rt, endpoint, "failing")
    await tell(rt, project, ana)  # reconnected, and nothing had changed
    receiver.statuses = [204]
    await later(rt, seconds=30)
    assert told(bodies(receiver)[-1])[2] == 1


async def test_a_disabled_endpoints_queue_hides_nobodys(rt: Runtime, project: Project, receiver: Receiver) -> None:
    dead = await new_endpoint(rt, project, receiver.url + "/dead", triggers=[payloads.STATE_CHANGE])
    await put(rt, dead, "enabled")
    await set_endpoint(rt, dead, "next_slot_at = app_now() + interval '1 hour'")
    await send(rt, project, count=450)
    await set_endpoint(rt, dead, "state = 'disabled', disabled_reason = 'gone'")
    await new_endpoint(rt, project, receiver.url + "/well", triggers=[payloads.STATE_CHANGE])
    await send(rt, project)
    async with looping(rt):
        await eventually(lambda: any(path == "/well" for path, _, _ in receiver.requests))


async def test_a_gap_stays_open_for_what_was_lost_beyond_the_digest(
    rt: Runtime, project: Project, receiver: Receiver
) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    await set_endpoint(rt, endpoint, "retry_seconds = '{}'")
    ana = new_id()
    await put(rt, endpoint, "failing")
    await tell(rt, project, ana, 5)
    receiver.statuses = [500]
    await deliver_due(rt)  # the digest of 5 is sealed, and failed
    await set_endpoint(rt, endpoint, "state = 'enabled', failure_count = 0, failing_since = NULL, paused_until = NULL")
    await tell(rt, project, ana, 6)
    await deliver_due(rt)
    assert [d["state"] for d in await deliveries(rt)].count("failed") == 1  # 6 is given up
    receiver.statuses = [204]
    await later(rt, minutes=20)  # the digest is acknowledged
    assert told(bodies(receiver)[-1])[:2] == (5, 5)
    await put(rt, endpoint, "failing")
    await tell(rt, project, ana, 7)
    while await later(rt, minutes=1):
        pass
    assert told(bodies(receiver)[-1])[:2] == (6, 7)


async def test_a_success_ends_the_pause_of_what_was_put_off(rt: Runtime, project: Project, receiver: Receiver) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    receiver.statuses, receiver.headers = [429], {"retry-after": "86400"}
    await send(rt, project)
    await deliver_due(rt)
    await send(rt, project, count=3)
    assert await deliver_due(rt) == 0  # put off for a day
    receiver.statuses = [204]
    await send(rt, project, endpoint=endpoint)
    assert await deliver_due(rt) + await later(rt, minutes=20) == 4  # the test makes it well


async def test_a_lane_whose_head_was_merged_goes_on(rt: Runtime, project: Project, receiver: Receiver) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    await set_endpoint(rt, endpoint, "is_ordered = true, retry_seconds = '{86400}'")
    ana = new_id()
    receiver.statuses = [500]
    await tell(rt, project, ana, 1)
    await deliver_due(rt)
    await send(rt, project, calendar_id=ana)
    assert await deliver_due(rt) == 0  # waits for the head, for a day
    await put(rt, endpoint, "failing")
    await tell(rt, project, ana, 2)
    receiver.statuses = [204]
    assert await deliver_due(rt) + await later(rt, minutes=20) + await later(rt, minutes=20) == 2


async def test_a_digest_has_its_schedule_once_its_endpoint_is_back(
    rt: Runtime, project: Project, receiver: Receiver
) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    await put(rt, endpoint, "failing")
    await tell(rt, project, new_id(), 1)
    receiver.statuses = [500]
    for _ in range(15):
        await later(rt, minutes=20)
    await send(rt, project)
    receiver.statuses = [204, 503, 204]
    for _ in range(4):
        await later(rt, minutes=20)
    assert {d["state"] for d in await deliveries(rt) if d["is_digest"]} == {"succeeded"}


async def test_what_a_dead_worker_held_and_is_put_off_is_under_way_no_more(
    rt: Runtime, project: Project, receiver: Receiver
) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    await send(rt, project)
    assert await claim_all(rt)
    await set_endpoint(rt, endpoint, "paused_until = app_now() + interval '1 day'")
    assert await later(rt, seconds=30) == 0
    [row] = await deliveries(rt)
    assert not row["is_claimed"]


async def test_lost_messages_of_the_release_before_leave_a_gap(
    rt: Runtime, project: Project, receiver: Receiver
) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    await set_endpoint(rt, endpoint, "retry_seconds = '{}'")
    receiver.statuses = [500]
    ana = new_id()
    await tell(rt, project, ana, 5)
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE messages SET from_seq = NULL, to_seq = NULL")
    await deliver_due(rt)
    assert await rows(rt, "SELECT from_seq FROM delivery_gaps") == [{"from_seq": 5}]


async def test_a_patch_ends_the_pause_of_what_was_put_off(
    rt: Runtime, project: Project, receiver: Receiver, api: Any
) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    receiver.statuses, receiver.headers = [429], {"retry-after": "86400"}
    await send(rt, project)
    await deliver_due(rt)
    await send(rt, project, count=3)
    assert await deliver_due(rt) == 0  # put off for a day
    receiver.statuses = [204]
    path = f"/api/v1/webhooks/{public(ENDPOINT, endpoint.id)}"
    assert (await api.patch(path, json={"state": "enabled"}, headers=project.headers)).status_code == 200
    assert await later(rt, minutes=20) == 3
