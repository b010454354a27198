"""Endpoints with wishes: order, a rate, a schedule of their own."""

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID

from app.ids import CALENDAR, new_id, public
from app.runtime import Runtime
from app.webhooks.attempts import attempt
from app.webhooks.delivery import deliver_due
from app.webhooks.settle import settle
from tests.harness import Project
from tests.integration.delivering import (
    Endpoint,
    Receiver,
    bodies,
    claim_all,
    deliveries,
    later,
    new_endpoint,
    rows,
    send,
    tell,
)

_WAITING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


class TestOrder:
    @staticmethod
    async def ordered(rt: Runtime, project: Project, url: str) -> Endpoint:
        endpoint = await new_endpoint(rt, project, url)
        async with rt.db.transaction() as tx:
            await tx.execute("UPDATE webhook_endpoints SET is_ordered = true WHERE id = :id", {"id": endpoint.id})
        return endpoint

    @staticmethod
    def seqs(receiver: Receiver, calendar: UUID) -> Sequence[int]:
        mine = [body for body in bodies(receiver) if body["calendar_id"] == public(CALENDAR, calendar)]
        return [body["data"]["from_seq"] for body in mine]

    async def test_a_calendars_messages_go_one_at_a_time_in_order(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        await self.ordered(rt, project, receiver.url)
        calendars = [new_id() for _ in range(3)]
        for seq in range(1, 11):
            for calendar in calendars:
                await tell(rt, project, calendar, seq)
        receiver.delay = lambda _: 0.03
        assert await deliver_due(rt) == 30
        for calendar in calendars:
            assert self.seqs(receiver, calendar) == list(range(1, 11))
        assert 1 < receiver.most_busy <= 3

    async def test_a_failing_head_holds_up_its_own_lane_only(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        await self.ordered(rt, project, receiver.url)
        blocked, free = new_id(), new_id()
        await tell(rt, project, blocked, 1)
        receiver.statuses = [500, 204]
        assert await deliver_due(rt) == 1
        for seq in range(2, 6):
            await tell(rt, project, blocked, seq)
            await tell(rt, project, free, seq)
        assert await deliver_due(rt) == 4
        assert self.seqs(receiver, free) == [2, 3, 4, 5]
        assert self.seqs(receiver, blocked) == [1]
        assert await later(rt, seconds=6) == 5
        assert self.seqs(receiver, blocked) == [1, 1, 2, 3, 4, 5]

    async def test_what_is_published_while_its_head_is_recorded_is_due_at_once(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        """It was seen to wait behind a head that was done a moment later."""
        await self.ordered(rt, project, receiver.url)
        calendar = new_id()
        await tell(rt, project, calendar, 1)
        [head] = await claim_all(rt)
        outcome = await attempt(rt, head)
        async with rt.db.transaction() as tx:
            await tx.execute("SELECT FROM deliveries WHERE id = :id FOR UPDATE", {"id": head.delivery_id})
            recording = asyncio.create_task(settle(rt.db, [outcome]))
            while not await rows(rt, _WAITING):
                assert not recording.done()
            await tell(rt, project, calendar, 2)
            assert await claim_all(rt) == []
        await recording
        assert await deliver_due(rt) == 1
        assert self.seqs(receiver, calendar) == [1, 2]

    async def test_a_long_lane_whose_head_comes_later_holds_up_nobody(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        await self.ordered(rt, project, f"{receiver.url}/ordered")
        calendar = new_id()
        for seq in range(1, 451):
            await tell(rt, project, calendar, seq)
        async with rt.db.transaction() as tx:  # as any head that was tried before: behind those that follow it
            await tx.execute("UPDATE deliveries SET next_attempt_at = app_now() - interval '1 minute'")
            await tx.execute(
                "UPDATE deliveries SET next_attempt_at = app_now() - interval '1 second', priority = 1"
                " WHERE seq = (SELECT min(seq) FROM deliveries)"
            )
        other = await new_endpoint(rt, project, f"{receiver.url}/other")
        await send(rt, project, endpoint=other)
        await deliver_due(rt)
        assert self.seqs(receiver, calendar) == list(range(1, 451))
        assert len(set(receiver.ids)) == 451

    async def test_a_head_that_is_given_up_lets_the_next_one_go(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        await self.ordered(rt, project, receiver.url)
        calendar = new_id()
        receiver.statuses = [500]
        await tell(rt, project, calendar, 1)
        await tell(rt, project, calendar, 2)
        async with rt.db.transaction() as tx:
            await tx.execute("UPDATE webhook_endpoints SET retry_seconds = '{1}'")
        await deliver_due(rt)
        receiver.statuses = [500, 204]
        assert await later(rt, seconds=2) == 2
        assert self.seqs(receiver, calendar) == [1, 1, 2]

    async def test_two_workers_keep_the_order(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        await self.ordered(rt, project, receiver.url)
        calendars = [new_id() for _ in range(4)]
        for seq in range(1, 16):
            for calendar in calendars:
                await tell(rt, project, calendar, seq)
        done = 0
        async with asyncio.timeout(120):
            while done < 60:
                done += sum(await asyncio.gather(deliver_due(rt), deliver_due(rt)))
        for calendar in calendars:
            assert self.seqs(receiver, calendar) == list(range(1, 16))


class TestRateLimit:
    async def test_no_more_than_so_many_a_second(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        async with rt.db.transaction() as tx:
            await tx.execute("UPDATE webhook_endpoints SET rate_limit = 8 WHERE id = :id", {"id": endpoint.id})
        await send(rt, project, count=30)
        started = time.monotonic()
        sent = await deliver_due(rt)
        assert sent <= 2 + 8 * (
            time.monotonic() - started
        )  # a quarter of a second's worth, and what fell due meanwhile
        while len(receiver.requests) < 30:
            started, before = time.monotonic(), len(receiver.requests)
            await later(rt, seconds=1)
            assert len(receiver.requests) - before <= 2 + 8 * (1 + time.monotonic() - started)
        assert len(set(receiver.ids)) == 30

    async def test_others_do_not_wait_for_it(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        slow = await new_endpoint(rt, project, f"{receiver.url}/slow")
        async with rt.db.transaction() as tx:
            await tx.execute("UPDATE webhook_endpoints SET rate_limit = 1 WHERE id = :id", {"id": slow.id})
        await send(rt, project, count=500)
        await new_endpoint(rt, project, f"{receiver.url}/quick")
        await send(rt, project, count=5)
        started = time.monotonic()
        await deliver_due(rt)
        assert sum(path == "/quick" for path, _, _ in receiver.requests) == 5
        assert sum(path == "/slow" for path, _, _ in receiver.requests) <= 5 + time.monotonic() - started


async def test_an_endpoint_may_have_its_own_schedule(rt: Runtime, project: Project, receiver: Receiver) -> None:
    await new_endpoint(rt, project, receiver.url)
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE webhook_endpoints SET retry_seconds = '{60, 120}'")
    receiver.statuses = [500]
    await send(rt, project)
    assert await deliver_due(rt) == 1
    assert await later(rt, seconds=40) == 0
    assert await later(rt, seconds=27) == 1
    assert await later(rt, seconds=100) == 0
    assert await later(rt, seconds=33) == 1
    assert [d["state"] for d in await deliveries(rt)] == ["failed"]
