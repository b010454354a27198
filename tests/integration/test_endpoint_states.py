"""Endpoints that fail: paused, probed, failing, disabled, and told everything once they are back."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from app.ids import CALENDAR, ENDPOINT, EVENT, MESSAGE, new_id, parse, public
from app.runtime import Runtime
from app.webhooks import payloads
from app.webhooks.delivery import deliver_due
from app.webhooks.standing import BREAKER_FAILURES, PAUSE_SECONDS
from tests.harness import Project
from tests.integration.delivering import (
    Endpoint,
    Receiver,
    attempts,
    bodies,
    deliveries,
    later,
    new_endpoint,
    put,
    rows,
    send,
    tell,
    told,
)


async def standing(rt: Runtime, endpoint: Endpoint) -> dict[str, Any]:
    [row] = await rows(
        rt,
        "SELECT state, disabled_reason, failure_count, pause_count, failing_since, paused_until"
        " FROM webhook_endpoints WHERE id = :id",
        id=endpoint.id,
    )
    return row


class TestBreaker:
    async def test_it_opens_after_ten_failures_and_then_lets_one_through(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        receiver.statuses = [500]
        await send(rt, project, count=BREAKER_FAILURES)
        assert await deliver_due(rt) == BREAKER_FAILURES
        assert (await standing(rt, endpoint))["pause_count"] == 1
        await send(rt, project, count=5)
        assert await deliver_due(rt) == 0
        waiting = [d for d in await deliveries(rt) if d["attempt_count"] == 0]
        assert len(waiting) == 5
        assert all(d["next_attempt_at"] > rt.clock.now() for d in waiting)
        assert await later(rt, seconds=PAUSE_SECONDS + 0.1) == 1
        assert receiver.most_busy <= 4
        assert (await standing(rt, endpoint))["pause_count"] == 2
        receiver.statuses = [204]
        assert await later(rt, seconds=2 * PAUSE_SECONDS + 0.1) >= 4  # the probe, and then what was put off
        assert (await standing(rt, endpoint))["failure_count"] == 0

    @pytest.mark.parametrize("status", [429, 502, 504])
    async def test_a_throttling_answer_pauses_the_whole_endpoint(
        self, rt: Runtime, project: Project, receiver: Receiver, status: int
    ) -> None:
        await new_endpoint(rt, project, receiver.url)
        receiver.statuses, receiver.headers = [status], {"retry-after": "60"}
        await send(rt, project)
        assert await deliver_due(rt) == 1
        receiver.statuses = [204]
        await send(rt, project, count=3)
        assert await later(rt, seconds=40) == 0
        assert await later(rt, seconds=21) == 4

    async def test_other_failures_pause_nobody(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        await new_endpoint(rt, project, receiver.url)
        receiver.statuses, receiver.headers = [503, 204], {"retry-after": "60"}
        await send(rt, project)
        await deliver_due(rt)
        await send(rt, project, count=3)
        assert await deliver_due(rt) == 3

    async def test_a_test_goes_out_all_the_same(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        receiver.statuses = [429]
        await send(rt, project)
        await deliver_due(rt)
        receiver.statuses = [204]
        await send(rt, project, endpoint=endpoint)
        assert await deliver_due(rt) == 1
        assert (await standing(rt, endpoint))["paused_until"] is None  # a success makes well

    async def test_what_was_put_off_goes_out_as_soon_as_one_attempt_has_succeeded(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        await new_endpoint(rt, project, receiver.url)
        receiver.statuses = [500]
        await send(rt, project, count=BREAKER_FAILURES)
        await deliver_due(rt)
        receiver.statuses = [204]
        await send(rt, project, count=300)
        assert await deliver_due(rt) == 0
        assert await later(rt, seconds=PAUSE_SECONDS + 0.1) >= 300
        assert {d["attempt_count"] for d in await deliveries(rt) if d["state"] == "pending"} <= {1}


class TestStates:
    async def test_a_day_of_failures_then_five(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        receiver.statuses = [500]
        seen: list[tuple[int, str]] = []
        for hour in range(130):
            await send(rt, project)
            await later(rt, hours=1)
            state = (await standing(rt, endpoint))["state"]
            if not seen or seen[-1][1] != state:
                seen.append((hour, state))
        assert [state for _, state in seen] == ["enabled", "failing", "disabled"]
        assert 23 <= seen[1][0] <= 26
        assert 119 <= seen[2][0] <= 122
        assert (await standing(rt, endpoint))["disabled_reason"] == "failed_for_days"
        count = len(receiver.requests)
        await send(rt, project)
        await later(rt, hours=1)
        assert len(receiver.requests) == count

    async def test_one_success_brings_it_back(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        await put(rt, endpoint, "failing")
        await send(rt, project, count=3)
        assert await deliver_due(rt) == 3  # the probe, and then what was put off
        row = await standing(rt, endpoint)
        assert (row["state"], row["failure_count"], row["failing_since"]) == ("enabled", 0, None)

    async def test_two_workers_send_one_probe(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        await put(rt, endpoint, "failing")
        receiver.statuses, receiver.delay = [500], lambda _: 0.2
        await send(rt, project, count=10)
        done = await asyncio.gather(deliver_due(rt), deliver_due(rt))
        assert sum(done) == len(receiver.requests) == 1

    async def test_the_answer_of_a_former_url_counts_for_nothing(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        await put(rt, endpoint, "failing", failures=4)
        receiver.statuses, receiver.delay = [500], lambda _: 30.0
        await send(rt, project)
        async with rt.db.transaction() as tx:
            await tx.execute("UPDATE webhook_endpoints SET state = 'enabled', failure_count = 0, failing_since = NULL")

        async def move() -> None:
            while not receiver.busy:
                await asyncio.sleep(0.005)
            async with rt.db.transaction() as tx:
                await tx.execute("UPDATE webhook_endpoints SET url = url || '/new'")
            receiver.let_go()

        await asyncio.gather(deliver_due(rt), move())
        assert (await standing(rt, endpoint))["failure_count"] == 0


class TestDigests:
    async def test_one_message_per_calendar_takes_the_place_of_many(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        await put(rt, endpoint, "failing")
        receiver.statuses = [500]
        ana, bo = new_id(), new_id()
        await tell(rt, project, ana, 1, 2)
        await deliver_due(rt)  # the probe: sealed, and failed
        for seq in range(3, 20):
            await tell(rt, project, ana, seq)
            await tell(rt, project, bo, seq)
            await deliver_due(rt)
        receiver.statuses = [204]
        receiver.requests.clear()
        while await later(rt, minutes=16):
            pass
        assert sorted(map(told, bodies(receiver))) == [
            (1, 19, 18, False, list(range(1, 20))),
            (3, 19, 17, False, list(range(3, 20))),
        ]
        assert {body["calendar_id"] for body in bodies(receiver)} == {public(CALENDAR, ana), public(CALENDAR, bo)}
        states = [d["state"] for d in await deliveries(rt)]
        assert states.count("succeeded") == 2
        assert set(states) == {"succeeded", "merged"}
        assert await rows(rt, "SELECT * FROM delivery_gaps") == []

    async def test_a_digest_is_sealed_by_its_first_attempt(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        await put(rt, endpoint, "failing")
        receiver.statuses = [500]
        calendar = new_id()
        await tell(rt, project, calendar, 1)
        await deliver_due(rt)
        await later(rt, minutes=16)
        first, again = receiver.requests
        assert (first[1]["webhook-id"], first[2]) == (again[1]["webhook-id"], again[2])
        await tell(rt, project, calendar, 2)
        await later(rt, minutes=16)
        assert receiver.ids[2] != receiver.ids[0]
        assert told(bodies(receiver)[2]) == (1, 2, 2, False, [1, 2])

    async def test_it_begins_with_what_was_given_up(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        async with rt.db.transaction() as tx:
            await tx.execute("UPDATE webhook_endpoints SET retry_seconds = '{1}'")
        receiver.statuses = [500]
        calendar = new_id()
        await tell(rt, project, calendar, 5, 6)
        await deliver_due(rt)
        await later(rt, seconds=2)
        assert [d["state"] for d in await deliveries(rt)] == ["failed"]
        await put(rt, endpoint, "failing")
        await tell(rt, project, calendar, 9)
        receiver.statuses = [204]
        await later(rt, minutes=16)
        assert told(bodies(receiver)[-1]) == (5, 9, 1, True, [9])
        assert await rows(rt, "SELECT * FROM delivery_gaps") == []

    async def test_what_waits_for_its_next_attempt_is_merged_when_the_endpoint_begins_to_fail(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        receiver.statuses = [500]
        calendar = new_id()
        for seq in range(1, 9):
            await tell(rt, project, calendar, seq)
            await later(rt, hours=4)
        assert (await standing(rt, endpoint))["state"] == "failing"
        await deliver_due(rt)
        pending = [d for d in await deliveries(rt) if d["state"] == "pending"]
        assert [d["is_digest"] for d in pending] == [True]

    async def test_a_disabled_endpoint_is_owed_until_it_is_enabled(
        self, rt: Runtime, project: Project, receiver: Receiver, api: Any
    ) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url, state="disabled")
        calendar = new_id()
        for seq in range(1, 300):
            await tell(rt, project, calendar, seq)
            if seq % 50 == 0:
                await deliver_due(rt)
        await deliver_due(rt)
        assert receiver.requests == []
        answer = await api.patch(
            f"/api/v1/webhooks/{public(ENDPOINT, endpoint.id)}", json={"state": "enabled"}, headers=project.headers
        )
        assert answer.status_code == 200
        await deliver_due(rt)
        [body] = bodies(receiver)
        assert told(body) == (1, 299, 299, True, list(range(1, 101)))
        assert len(receiver.requests[0][2]) <= payloads.MAX_BYTES
        assert body["idempotency_key"] == receiver.ids[0]
        assert parse(MESSAGE, body["idempotency_key"]) is not None
        assert body["data"]["events"][0]["id"] == public(EVENT, UUID(int=1))

    async def test_other_triggers_keep_their_schedule(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        await put(rt, endpoint, "failing")
        receiver.statuses = [500]
        await send(rt, project, count=2)
        for _ in range(40):
            await later(rt, minutes=16)
        assert {d["state"] for d in await deliveries(rt)} == {"pending"}
        assert {a["status"] for a in await attempts(rt)} == {500}
        assert all(d["attempt_count"] > 1 for d in await deliveries(rt))

    async def test_an_empty_first_message_is_merged_too(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        await put(rt, endpoint, "failing")
        await tell(rt, project, new_id())
        assert await deliver_due(rt) == 1
        assert told(bodies(receiver)[0]) == (None, None, 1, False, [])
