"""A `bot.launch` is sent at its own times, whatever else waits for its endpoint and however that stands."""

from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from app.ids import MESSAGE, new_id, public
from app.runtime import Runtime
from app.webhooks.delivery import deliver_due
from app.webhooks.lanes import FIRST_SLOTS
from app.webhooks.payloads import BOT_LAUNCH
from app.webhooks.standing import BREAKER_FAILURES
from tests.harness import Project
from tests.integration.delivering import (
    Endpoint,
    Receiver,
    attempts,
    bodies,
    claim_all,
    deliveries,
    eventually,
    later,
    launch,
    looping,
    new_endpoint,
    put,
    rows,
    send,
    tell,
)

STEPS = [0, 2, 5, 10, 20, 50, 80, 110]


def at_their_steps(begun: Iterable[float]) -> bool:
    """Whether each began at its step: not before it, and before the next one, however busy the machine is."""
    return all(step <= at < after for at, (step, after) in zip(begun, pairwise([*STEPS, 140]), strict=False))


async def offsets(rt: Runtime) -> list[float]:
    """When the attempts began, in seconds from the first."""
    begun = [attempt["at"] for attempt in await attempts(rt)]
    return [(at - begun[0]).total_seconds() for at in begun]


async def until_due(rt: Runtime) -> int:
    """Let time pass until the only delivery is due, and deliver it; the number of attempts."""
    [row] = await deliveries(rt)
    rt.clock.advance(max(timedelta(), row["next_attempt_at"] - rt.clock.now()))
    return await deliver_due(rt)


async def change(rt: Runtime, endpoint: Endpoint, assignments: str) -> None:
    async with rt.db.transaction() as tx:
        await tx.execute(f"UPDATE webhook_endpoints SET {assignments} WHERE id = :id", {"id": endpoint.id})


async def standing(rt: Runtime, endpoint: Endpoint) -> dict[str, Any]:
    [row] = await rows(
        rt,
        "SELECT state, disabled_reason, failure_count, failing_since, paused_until FROM webhook_endpoints"
        " WHERE id = :id",
        id=endpoint.id,
    )
    return row


def place(receiver: Receiver, message_id: UUID) -> int:
    """How many requests came before the first one of a message."""
    return receiver.ids.index(public(MESSAGE, message_id))


class TestSteps:
    async def test_it_is_sent_at_each_step_until_the_meeting_ends(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        await new_endpoint(rt, project, receiver.url)
        receiver.statuses = [500]
        await launch(rt, project, seconds=STEPS[-1] + 29)
        assert await deliver_due(rt) == 1
        for _ in STEPS[1:]:
            assert await until_due(rt) == 1
        begun = await offsets(rt)
        assert len(begun) == len(STEPS)
        assert at_their_steps(begun)
        [row] = await deliveries(rt)
        assert (row["state"], row["next_attempt_at"]) == ("failed", None)

    async def test_neither_the_settings_nor_the_endpoint_s_own_schedule_count(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        await change(rt, endpoint, "retry_seconds = '{}'")
        receiver.statuses = [500]
        await launch(rt, project)
        await deliver_due(rt)
        for _ in range(3):
            assert await until_due(rt) == 1

    async def test_once_the_meeting_is_over_nothing_is_sent(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        await new_endpoint(rt, project, receiver.url)
        await launch(rt, project, seconds=60)
        await later(rt, seconds=61)
        assert receiver.requests == []
        assert [d["state"] for d in await deliveries(rt)] == ["failed"]
        assert [a["error"] for a in await attempts(rt)] == ["meeting_over"]

    async def test_a_worker_that_dies_uses_up_no_step(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        await new_endpoint(rt, project, receiver.url)
        receiver.statuses = [500]
        await launch(rt, project)
        assert len(await claim_all(rt)) == 1
        rt.clock.advance(timedelta(seconds=26))  # its lease
        assert await deliver_due(rt) == 1
        for _ in STEPS[1:5]:
            assert await until_due(rt) == 1
        assert at_their_steps(await offsets(rt))

    @pytest.mark.parametrize(("asked", "step"), [(4, 5), (3_600, 20)])
    async def test_retry_after_leaves_out_steps(
        self, rt: Runtime, project: Project, receiver: Receiver, asked: int, step: int
    ) -> None:
        await new_endpoint(rt, project, receiver.url)
        receiver.statuses, receiver.headers = [429, 204], {"retry-after": str(asked)}
        await launch(rt, project)
        await deliver_due(rt)
        assert await until_due(rt) == 1
        [_, second] = await offsets(rt)
        assert step <= second < step + 5  # the next one is later
        assert [d["state"] for d in await deliveries(rt)] == ["succeeded"]

    async def test_sent_again_it_keeps_to_its_schedule_and_its_end(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        await new_endpoint(rt, project, receiver.url)
        await launch(rt, project, seconds=60)
        await deliver_due(rt)
        rt.clock.advance(timedelta(seconds=6))
        async with rt.db.transaction() as tx:  # as a replay does
            await tx.execute(
                "UPDATE deliveries SET state = 'pending', priority = 1, attempt_count = 0, lane = NULL,"
                " fence = fence + 1, next_attempt_at = app_now()"
            )
        receiver.statuses = [500]
        await deliver_due(rt)
        for _ in STEPS[1:3]:
            assert await until_due(rt) == 1
        _, *begun = await offsets(rt)
        assert at_their_steps(at - begun[0] for at in begun)
        await later(rt, seconds=61)
        assert len(receiver.requests) == 4


class TestStanding:
    @pytest.mark.parametrize("trouble", ["paused", "breaker", "failing", "rate limit"])
    async def test_it_waits_for_nothing_that_holds_up_others(
        self, rt: Runtime, project: Project, receiver: Receiver, trouble: str
    ) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        if trouble in {"breaker", "failing"}:
            await put(rt, endpoint, "failing" if trouble == "failing" else "enabled")
        if trouble != "failing":
            await change(rt, endpoint, "next_slot_at = app_now() + interval '1 hour', rate_limit = 1")
        if trouble in {"paused", "breaker"}:
            await change(rt, endpoint, "paused_until = app_now() + interval '1 hour'")
        if trouble == "failing":
            await change(rt, endpoint, "next_slot_at = app_now() + interval '1 hour'")
        receiver.statuses = [500]
        await send(rt, project, count=3)
        await launch(rt, project)
        before = await standing(rt, endpoint)
        assert await deliver_due(rt) == 1
        rt.clock.advance(timedelta(seconds=2.1))
        assert await deliver_due(rt) == 1
        assert {body["trigger"] for body in bodies(receiver)} == {BOT_LAUNCH}
        assert await standing(rt, endpoint) == before

    async def test_its_failures_are_not_held_against_the_endpoint(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        receiver.statuses = [503, 429, 500]
        for _ in range(2 * BREAKER_FAILURES):
            await launch(rt, project)
        assert await deliver_due(rt) == 2 * BREAKER_FAILURES
        now = await standing(rt, endpoint)
        assert (now["state"], now["failure_count"], now["paused_until"]) == ("enabled", 0, None)
        receiver.statuses = [204]
        await send(rt, project)
        assert await deliver_due(rt) == 1

    async def test_one_that_is_taken_makes_the_endpoint_well(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        await put(rt, endpoint, "failing")
        await launch(rt, project)
        await deliver_due(rt)
        now = await standing(rt, endpoint)
        assert (now["state"], now["failure_count"]) == ("enabled", 0)

    async def test_410_disables_the_endpoint_at_once(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        receiver.statuses = [410]
        await launch(rt, project)
        await deliver_due(rt)
        now = await standing(rt, endpoint)
        assert (now["state"], now["disabled_reason"]) == ("disabled", "gone")
        assert [d["state"] for d in await deliveries(rt)] == ["failed"]

    async def test_a_disabled_endpoint_gets_none(self, rt: Runtime, project: Project, receiver: Receiver) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        await launch(rt, project)
        await change(rt, endpoint, "state = 'disabled'")
        await launch(rt, project)
        await deliver_due(rt)
        assert receiver.requests == []
        assert [d["state"] for d in await deliveries(rt)] == ["failed", "failed"]


class TestPlace:
    async def test_it_does_not_wait_in_a_lane_and_holds_up_none(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        await change(rt, endpoint, "is_ordered = true")
        calendar_id = new_id()
        await tell(rt, project, calendar_id, 1)
        receiver.statuses = [500, 500, 204]
        await deliver_due(rt)
        await tell(rt, project, calendar_id, 2)
        message_id = await launch(rt, project, calendar_id=calendar_id)
        assert await deliver_due(rt) == 1
        assert place(receiver, message_id) == 1
        assert await later(rt, seconds=6) == 3  # the head, what waits behind it, and the launch once more
        triggers = [(body["trigger"], body["data"].get("from_seq")) for body in bodies(receiver)]
        lane = [seq for trigger, seq in triggers if trigger != BOT_LAUNCH]
        assert lane == [1, 1, 2]

    async def test_a_launch_that_fails_holds_up_no_lane(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        await change(rt, endpoint, "is_ordered = true")
        calendar_id = new_id()
        receiver.statuses = [500, 204]
        await launch(rt, project, calendar_id=calendar_id)
        await deliver_due(rt)
        await tell(rt, project, calendar_id, 1)
        assert await deliver_due(rt) == 1
        assert [d["state"] for d in await deliveries(rt)] == ["pending", "succeeded"]

    async def test_it_goes_before_what_waits_for_its_endpoint(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        """And within the slots that an endpoint may have."""
        await new_endpoint(rt, project, receiver.url)
        receiver.delay = lambda _: 0.05
        await send(rt, project, count=600)
        async with looping(rt):
            await eventually(lambda: len(receiver.requests) >= 50)
            before = len(receiver.requests)
            message_id = await launch(rt, project)
            await eventually(lambda: public(MESSAGE, message_id) in receiver.ids)
            passed = place(receiver, message_id) - before
            await eventually(lambda: len(set(receiver.ids)) == 601)
        assert passed < 200  # of 550 that waited
        assert receiver.most_busy <= rt.settings.delivery_endpoint_concurrency

    async def test_it_goes_first_however_often_it_was_sent(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        await new_endpoint(rt, project, receiver.url)
        receiver.statuses = [500]
        await launch(rt, project)
        await send(rt, project, count=3)
        for _ in range(3):
            await deliver_due(rt)
            rt.clock.advance(timedelta(seconds=31))
            await send(rt, project, count=3)
            first, *others = await claim_all(rt)
            assert (first.trigger, {each.trigger == BOT_LAUNCH for each in others}) == (BOT_LAUNCH, {False})
            rt.clock.advance(timedelta(seconds=26))  # its lease

    async def test_it_does_not_wait_for_slots_that_slow_answers_hold(
        self, rt: Runtime, project: Project, receiver: Receiver
    ) -> None:
        await new_endpoint(rt, project, receiver.url)
        delays = iter([30.0] * FIRST_SLOTS)
        receiver.delay = lambda _: next(delays, 0.0)
        await send(rt, project, count=30)
        async with looping(rt):
            await eventually(lambda: receiver.busy == FIRST_SLOTS)
            message_id = await launch(rt, project)
            await eventually(lambda: public(MESSAGE, message_id) in receiver.ids)
            assert (place(receiver, message_id), receiver.busy >= FIRST_SLOTS) == (FIRST_SLOTS, True)
            receiver.let_go()
