"""Delivery under crashes, lost connections, several workers and slow receivers."""

import asyncio
from datetime import timedelta
from functools import partial

import asyncpg
import httpx
import pytest

from app.ids import ENDPOINT, MESSAGE, public
from app.runtime import Runtime, open_runtime
from app.webhooks.attempts import attempt
from app.webhooks.claims import claim
from app.webhooks.delivery import Courier, deliver_due
from app.webhooks.settle import settle
from tests.harness import Project, application
from tests.integration.delivering import (
    Receiver,
    arrived,
    attempts,
    claim_all,
    deliveries,
    eventually,
    looping,
    new_endpoint,
    put,
    send,
)


async def test_a_worker_dead_between_claim_and_record_loses_nothing(
    rt: Runtime, project: Project, receiver: Receiver
) -> None:
    await new_endpoint(rt, project, receiver.url)
    await send(rt, project)
    [zombie] = await claim_all(rt)
    late = await attempt(rt, zombie)  # it was sent, and then the worker stalled
    assert await deliver_due(rt) == 0  # the lease holds
    rt.clock.advance(timedelta(seconds=26))
    assert await deliver_due(rt) == 1
    assert receiver.ids == [public(MESSAGE, zombie.message_id)] * 2
    assert (await settle(rt.db, [late])).ours == set()  # another fence
    [delivery] = await deliveries(rt)
    assert (delivery["state"], delivery["attempt_count"], len(await attempts(rt))) == ("succeeded", 2, 1)


async def test_a_zombie_may_not_undo(rt: Runtime, project: Project, receiver: Receiver) -> None:
    await new_endpoint(rt, project, receiver.url)
    await send(rt, project)
    receiver.statuses = [500, 204]
    [zombie] = await claim_all(rt)
    failed = await attempt(rt, zombie)
    rt.clock.advance(timedelta(seconds=26))
    [owner] = await claim_all(rt)
    assert owner.fence > zombie.fence
    assert (await settle(rt.db, [failed])).ours == set()
    assert (await settle(rt.db, [await attempt(rt, owner)])).ours == {owner.delivery_id}
    assert [d["state"] for d in await deliveries(rt)] == ["succeeded"]


async def test_recording_twice_changes_nothing(rt: Runtime, project: Project, receiver: Receiver) -> None:
    await new_endpoint(rt, project, receiver.url)
    receiver.statuses = [500]
    await send(rt, project)
    [mine] = await claim_all(rt)
    outcome = await attempt(rt, mine)
    assert (await settle(rt.db, [outcome])).ours == {mine.delivery_id}
    assert (await settle(rt.db, [outcome])).ours == set()
    assert len(await attempts(rt)) == 1


async def test_what_was_claimed_twice_by_one_worker_is_recorded_once(
    rt: Runtime, project: Project, receiver: Receiver
) -> None:
    await new_endpoint(rt, project, receiver.url)
    await send(rt, project)
    receiver.statuses = [500, 204]
    [claimed] = await claim_all(rt)
    late = await attempt(rt, claimed)  # and then the whole worker stalled, outcome and all
    rt.clock.advance(timedelta(seconds=26))
    [again] = await claim_all(rt)
    settled = await settle(rt.db, [await attempt(rt, again), late])
    assert settled.ours == {claimed.delivery_id}
    assert [a["status"] for a in await attempts(rt)] == [204]
    assert [(d["state"], d["attempt_count"]) for d in await deliveries(rt)] == [("succeeded", 2)]


async def test_what_could_not_be_recorded_in_time_is_not_sent(
    rt: Runtime, project: Project, receiver: Receiver
) -> None:
    await new_endpoint(rt, project, receiver.url)
    await send(rt, project)
    [short] = (
        await claim(rt.db, batch=1, lease_seconds=rt.settings.delivery_timeout_seconds - 1, room=1, rooms={})
    ).claims
    await settle(rt.db, [await attempt(rt, short)])
    assert receiver.requests == []
    [delivery] = await deliveries(rt)
    assert (delivery["state"], delivery["attempt_count"]) == ("pending", 0)
    assert await deliver_due(rt) == 1


async def test_a_lost_connection_while_recording_costs_nothing(
    rt: Runtime, project: Project, receiver: Receiver
) -> None:
    await new_endpoint(rt, project, receiver.url)
    await send(rt, project)
    other = await asyncpg.connect(rt.settings.database_url)
    async with Courier(rt) as courier:
        await courier.claim()
        async with other.transaction():
            await other.execute("SELECT id FROM deliveries FOR UPDATE")
            await eventually(lambda: bool(receiver.requests))
            killed = False
            while not killed:  # the recorder, once it waits for the row
                killed = await other.fetchval(
                    "SELECT bool_or(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
        await eventually(lambda: courier.is_idle)
        assert courier.attempts == 1
    await other.close()
    assert ([d["state"] for d in await deliveries(rt)], len(await attempts(rt))) == (["succeeded"], 1)
    assert len(receiver.requests) == 1


async def test_what_another_has_locked_is_not_asked_for_again_at_once(
    rt: Runtime, project: Project, receiver: Receiver
) -> None:
    made = await new_endpoint(rt, project, receiver.url)
    await send(rt, project)
    await put(rt, made, "enabled")  # its breaker is half open: one at a time
    await send(rt, project)
    stalled = await asyncpg.connect(rt.settings.database_url)
    async with stalled.transaction():
        await stalled.execute("SELECT id FROM deliveries FOR UPDATE")
        async with Courier(rt) as courier:
            assert not await courier.claim()
    await stalled.close()
    rt.clock.advance(timedelta(seconds=30))
    assert await deliver_due(rt) == 2


async def test_two_workers_deliver_each_message_once(rt: Runtime, project: Project, receiver: Receiver) -> None:
    await new_endpoint(rt, project, f"{receiver.url}/a")
    await new_endpoint(rt, project, f"{receiver.url}/b")
    async with open_runtime(rt.settings) as other:
        await send(rt, project, count=150)
        done = await asyncio.gather(deliver_due(rt), deliver_due(other))
    assert sum(done) == 300
    assert len(receiver.requests) == 300
    for path in ("/a", "/b"):
        assert len({h["webhook-id"] for p, h, _ in receiver.requests if p == path}) == 150
    assert {(d["state"], d["attempt_count"]) for d in await deliveries(rt)} == {("succeeded", 1)}
    assert len(await attempts(rt)) == 300


async def test_a_long_queue_of_one_endpoint_hides_no_other(rt: Runtime, project: Project, receiver: Receiver) -> None:
    await new_endpoint(rt, project, f"{receiver.url}/long")
    await send(rt, project, count=1_500)
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE webhook_endpoints SET triggers = ARRAY['calendar.events_update']")
    await new_endpoint(rt, project, f"{receiver.url}/short")
    await send(rt, project, count=20)
    assert await deliver_due(rt) == 1_520
    assert [path for path, _, _ in receiver.requests].index("/short") < 800


async def test_a_long_queue_of_a_paused_endpoint_holds_up_no_other(
    rt: Runtime, project: Project, receiver: Receiver
) -> None:
    """At the end of a pause all that waits is due at once, and only a part of it is seen with one look."""
    await new_endpoint(rt, project, f"{receiver.url}/paused")
    await send(rt, project, count=1_000)
    async with rt.db.transaction() as tx:
        await tx.execute(
            "UPDATE webhook_endpoints SET paused_until = app_now() + interval '1 hour', triggers = '{calendar.deleted}'"
        )
    well = await new_endpoint(rt, project, f"{receiver.url}/well")
    await send(rt, project)
    async with Courier(rt) as courier:
        assert await courier.claim()
        assert await courier.claim()
        held = [row for row in await deliveries(rt) if row["is_claimed"] or row["state"] == "succeeded"]
        assert [row["endpoint_id"] for row in held] == [well.id]


class TestSlots:
    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"delivery_endpoint_concurrency": 4, "delivery_concurrency": 12, "delivery_timeout_seconds": 60}

    async def test_an_endpoint_has_so_many_at_a_time(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        await new_endpoint(rt, project, receiver.url)
        await self.deliver(rt, project, receiver, most=4, count=60)

    async def test_all_together_have_so_many(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        for n in range(6):
            await new_endpoint(rt, project, f"{receiver.url}/{n}")
        await self.deliver(rt, project, receiver, most=12, count=10)

    @staticmethod
    async def deliver(rt: Runtime, project: Project, receiver: Receiver, *, most: int, count: int) -> None:
        """So many are under way together, and never more; a busy machine may need slower answers for it."""
        for seconds in (0.02, 0.05, 0.1, 0.2, 0.4):
            receiver.delay = lambda _, seconds=seconds: seconds  # type: ignore[misc]
            await send(rt, project, count=count)
            assert await deliver_due(rt) == 60
            if receiver.most_busy >= most:
                break
        assert receiver.most_busy == most

    async def test_a_tar_pit_holds_its_own_slots_only(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        await new_endpoint(rt, project, f"{receiver.url}/tar")
        receiver.delay = lambda path: 60.0 if path == "/tar" else 0.0
        await send(rt, project, count=1_000)  # more than one look at the queue shows
        await new_endpoint(rt, project, f"{receiver.url}/healthy", triggers=["calendar.events_update"])
        async with rt.db.transaction() as tx:
            await tx.execute("UPDATE webhook_endpoints SET triggers = ARRAY['calendar.state_change']")
        async with looping(rt):
            await eventually(lambda: receiver.busy == 4)
            await send(rt, project, count=50)
            await eventually(lambda: _heard(receiver, "/healthy") == 50)
            await eventually(lambda: receiver.busy == 4)  # the last healthy ones are answered, too
            assert _heard(receiver, "/tar") == 4  # the same four all the while
            receiver.delay = lambda _: 0.0
            receiver.let_go()


async def test_the_loop_delivers_what_is_committed(rt: Runtime, project: Project, receiver: Receiver) -> None:
    await new_endpoint(rt, project, receiver.url)
    async with looping(rt):
        await send(rt, project)
        await arrived(receiver, 1)
        async with open_runtime(rt.settings) as other:  # another process: Redis or the poll tells us
            await send(other, project)
        await arrived(receiver, 2)
    assert {d["state"] for d in await deliveries(rt)} == {"succeeded"}


async def test_the_loop_outlives_its_connections(rt: Runtime, project: Project, receiver: Receiver) -> None:
    await new_endpoint(rt, project, receiver.url)
    other = await asyncpg.connect(rt.settings.database_url)
    async with looping(rt):
        for n in range(1, 4):
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            async with open_runtime(rt.settings) as fresh:
                await send(fresh, project)
            await arrived(receiver, n)
    await other.close()
    assert {d["state"] for d in await deliveries(rt)} == {"succeeded"}


async def test_a_stop_gives_back_what_is_not_finished(rt: Runtime, project: Project, receiver: Receiver) -> None:
    await new_endpoint(rt, project, f"{receiver.url}/slow")
    receiver.delay = lambda _: 30.0
    await send(rt, project, count=30)
    async with Courier(rt) as courier:
        await courier.claim()
        await eventually(lambda: receiver.busy > 0)
        await courier.finish(grace_seconds=0.1)  # of those that it had waited for the attempts would be counted
    for delivery in await deliveries(rt):
        assert (delivery["state"], delivery["attempt_count"]) == ("pending", 0)
        assert delivery["next_attempt_at"] <= rt.clock.now()
    receiver.delay = lambda _: 0.0
    assert await deliver_due(rt) == 30


async def test_a_stop_lets_finish_what_can(rt: Runtime, project: Project, receiver: Receiver) -> None:
    await new_endpoint(rt, project, receiver.url)
    receiver.delay = lambda _: 30.0
    await send(rt, project, count=4)
    async with looping(rt):
        await eventually(lambda: receiver.busy == 4)
        asyncio.get_running_loop().call_later(0.2, receiver.let_go)  # once it has been told to stop
    assert [d["state"] for d in await deliveries(rt)] == ["succeeded"] * 4


def _heard(receiver: Receiver, prefix: str) -> int:
    return sum(path.startswith(prefix) for path, _, _ in receiver.requests)


def _has_heard(receiver: Receiver, count: int) -> bool:
    return _heard(receiver, "/healthy") == count


class TestFairness:
    @pytest.fixture
    def overrides(self, request: pytest.FixtureRequest) -> dict[str, object]:
        """Attempts that time out where the test is about that."""
        seconds = 2 if "once_it_is_known" in request.node.name else 60
        return {"delivery_concurrency": 16, "delivery_endpoint_concurrency": 8, "delivery_timeout_seconds": seconds}

    async def test_a_project_of_tar_pits_starves_no_other(
        self, rt: Runtime, project: Project, other_project: Project, receiver: Receiver
    ) -> None:
        for number in range(30):
            await new_endpoint(rt, project, f"{receiver.url}/tar/{number}")
        await new_endpoint(rt, other_project, f"{receiver.url}/healthy")
        receiver.delay = lambda path: 60.0 if path.startswith("/tar") else 0.0
        await send(rt, project, count=40)
        async with looping(rt):
            await eventually(lambda: receiver.busy >= 8)
            for heard in range(1, 6):
                await send(rt, other_project)
                await eventually(partial(_has_heard, receiver, heard))
            assert _heard(receiver, "/tar") == 8  # the same ones all the while
            receiver.delay = lambda _: 0.0
            receiver.let_go()

    async def test_a_tar_pit_is_tried_one_at_a_time_once_it_is_known(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        await new_endpoint(rt, project, receiver.url)
        receiver.delay = lambda _: 30.0
        await send(rt, project, count=30)
        async with looping(rt):
            await eventually(lambda: receiver.busy == 4)
            await eventually(lambda: len(receiver.requests) > 4)
            assert receiver.busy <= 5  # the receiver does not notice at once that a client has left


class TestWhatWasChangedMeanwhile:
    """Claims that wait for a slot go where the endpoint is now, or nowhere."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"delivery_endpoint_concurrency": 2}

    async def test_a_deleted_endpoint(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        sent = await self._change(rt, project, receiver, f"/webhooks/{public(ENDPOINT, endpoint.id)}", "DELETE")
        assert len(receiver.requests) <= sent + 2

    async def test_a_new_address(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        endpoint = await new_endpoint(rt, project, f"{receiver.url}/old")
        path = f"/webhooks/{public(ENDPOINT, endpoint.id)}"
        sent = await self._change(rt, project, receiver, path, "PATCH", {"url": f"{receiver.url}/new"})
        assert sum(p == "/old" for p, _, _ in receiver.requests) <= sent + 2
        assert {d["state"] for d in await deliveries(rt)} == {"succeeded"}

    async def test_an_endpoint_that_says_it_is_gone(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        await new_endpoint(rt, project, receiver.url)
        receiver.statuses = [410]
        receiver.delay = lambda _: 0.4
        await send(rt, project, count=60)
        await deliver_due(rt)
        assert len(receiver.requests) <= 12  # what was under way, and what was claimed before that was recorded
        assert {d["state"] for d in await deliveries(rt)} == {"failed"}

    async def _change(
        self, rt: Runtime, project: Project, receiver: Receiver, path: str, method: str, body: object = None
    ) -> int:
        """Change it in the middle of a queue; how many had arrived by then."""
        receiver.delay = lambda p: 0.0 if p == "/new" else 0.3  # longer than a look at the endpoint is believed
        transport = httpx.ASGITransport(application(rt))
        async with httpx.AsyncClient(transport=transport, base_url="http://p", headers=project.headers) as client:
            await send(rt, project, count=20)
            async with looping(rt):
                await eventually(lambda: len(receiver.requests) >= 4)
                answer = await client.request(method, f"/api/v1{path}", json=body)
                assert answer.is_success
                sent = len(receiver.requests)
                await eventually_idle(rt)
        return sent


async def eventually_idle(rt: Runtime) -> None:
    """Until nothing is due and nothing is under way."""
    async with asyncio.timeout(60):
        while any(d["state"] == "pending" for d in await deliveries(rt)):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)  # a send that should not have been would arrive by now


@pytest.mark.parametrize(
    "value", ["Fri, 20 Nov 2026 10:00:00 +99999999999999999999", "Fri, 20 Nov 99999999999 10:00:00 GMT"]
)
async def test_a_retry_after_that_is_none_bypasses_no_record(
    rt: Runtime, project: Project, receiver: Receiver, value: str
) -> None:
    await new_endpoint(rt, project, receiver.url)
    receiver.headers["retry-after"] = value
    await send(rt, project)
    assert await deliver_due(rt) == 1
    assert [d["state"] for d in await deliveries(rt)] == ["succeeded"]
    assert len(await attempts(rt)) == 1
