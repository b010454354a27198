"""Sending again under crashes, beside attempts under way, and with several workers."""

import asyncio
from collections import Counter
from datetime import timedelta
from time import monotonic

import httpx
import pytest

from app.db import DATABASE_ERRORS
from app.ids import MESSAGE, public
from app.runtime import Runtime, open_runtime
from app.webhooks import replays
from app.webhooks.attempts import attempt
from app.webhooks.delivery import Courier, deliver_due
from app.webhooks.settle import settle
from tests.harness import Project
from tests.integration.delivering import (
    Receiver,
    attempts,
    claim_all,
    deliveries,
    eventually,
    looping,
    new_endpoint,
    rows,
    send,
)
from tests.integration.resending import drain, give_up, replay, retry, sent_again, write_log
from workers import sweeps

FAST = {"replay_per_second": 1e9}
"""All of a batch at once."""


@pytest.fixture
async def client(api: httpx.AsyncClient, project: Project) -> httpx.AsyncClient:
    api.headers.update(project.headers)
    return api


@pytest.fixture
def overrides() -> dict[str, object]:
    return dict(FAST)


async def test_a_retry_is_the_same_message_and_keeps_its_attempts(
    rt: Runtime, project: Project, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await new_endpoint(rt, project, receiver.url)
    [message] = await give_up(rt, project, receiver, count=1)
    [delivery] = await deliveries(rt)
    await retry(client, delivery["id"])
    assert await deliver_due(rt) == 1
    assert receiver.ids == [message]
    [delivery] = await deliveries(rt)
    assert (delivery["state"], delivery["attempt_count"]) == ("succeeded", 1)
    assert [row["status"] for row in await attempts(rt)] == [500, 204]
    await retry(client, delivery["id"])  # once more, though it arrived
    assert await deliver_due(rt) == 1
    assert receiver.ids == [message] * 2


async def test_a_retry_that_fails_has_the_whole_schedule_again(
    rt: Runtime, project: Project, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await new_endpoint(rt, project, receiver.url)
    await give_up(rt, project, receiver, count=1)
    receiver.statuses = [500]
    [delivery] = await deliveries(rt)
    await retry(client, delivery["id"])
    for _ in range(9):
        assert await deliver_due(rt) == 1
        [delivery] = await deliveries(rt)
        assert delivery["state"] == "pending"
        rt.clock.advance(timedelta(days=2))
    assert await deliver_due(rt) == 1
    assert [d["state"] for d in await deliveries(rt)] == ["failed"]


async def test_what_waits_after_a_failure_has_its_next_attempt_at_once(
    rt: Runtime, project: Project, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await new_endpoint(rt, project, receiver.url)
    receiver.statuses = [500, 204]
    [delivery_id] = await send(rt, project)
    assert await deliver_due(rt) == 1
    assert await deliver_due(rt) == 0  # five seconds of the schedule
    await retry(client, delivery_id)
    assert await deliver_due(rt) == 1
    assert [(d["state"], d["attempt_count"]) for d in await deliveries(rt)] == [("succeeded", 2)]


async def test_a_retry_beside_an_attempt_under_way_sends_nothing_twice(
    rt: Runtime, project: Project, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await new_endpoint(rt, project, receiver.url)
    receiver.delay = lambda _: 0.5
    [delivery_id] = await send(rt, project)
    async with open_runtime(rt.settings) as other, Courier(rt) as courier:
        await courier.claim()
        await eventually(lambda: receiver.busy == 1)
        shown = await retry(client, delivery_id)
        assert (shown["state"], shown["attempts"]) == ("pending", [])
        assert await deliver_due(other) == 0
        await eventually(lambda: courier.is_idle)
        assert courier.attempts == 1  # and it could be recorded: its fence is the same
    assert len(receiver.requests) == 1
    assert [d["state"] for d in await deliveries(rt)] == ["succeeded"]


async def test_a_retry_of_what_a_dead_worker_holds_waits_for_the_lease(
    rt: Runtime, project: Project, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await new_endpoint(rt, project, receiver.url)
    [delivery_id] = await send(rt, project)
    [dead] = await claim_all(rt)
    await retry(client, delivery_id)
    assert await deliver_due(rt) == 0
    rt.clock.advance(timedelta(seconds=26))
    assert await deliver_due(rt) == 1
    assert receiver.ids == [public(MESSAGE, dead.message_id)]


async def test_who_comes_too_late_changes_nothing_of_a_retry(
    rt: Runtime, project: Project, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await new_endpoint(rt, project, receiver.url)
    receiver.statuses = [204, 500, 410]
    [delivery_id] = await send(rt, project)
    [zombie] = await claim_all(rt)
    late = await attempt(rt, zombie)
    rt.clock.advance(timedelta(seconds=26))
    await deliver_due(rt)
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE deliveries SET state = 'failed', next_attempt_at = NULL")
    await retry(client, delivery_id)
    assert (await settle(rt.db, [late])).ours == set()
    assert [d["state"] for d in await deliveries(rt)] == ["pending"]


async def test_a_replay_sends_what_failed_once_more_oldest_first(
    rt: Runtime, project: Project, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    messages = await give_up(rt, project, receiver, count=5)
    await send(rt, project)
    await deliver_due(rt)  # a sixth, that arrives
    receiver.requests.clear()
    url = await replay(client, endpoint)
    assert await drain(rt) == 1
    due = await rows(
        rt, "SELECT message_id FROM deliveries WHERE state = 'pending' ORDER BY next_attempt_at, created_at"
    )
    assert [public(MESSAGE, row["message_id"]) for row in due] == messages
    assert await deliver_due(rt) == 5
    assert sorted(receiver.ids) == sorted(messages)
    tried = Counter(Counter(row["delivery_id"] for row in await attempts(rt)).values())
    assert tried == {2: 5, 1: 1}
    shown = (await client.get(url)).json()
    assert (shown["count"], shown["done_count"]) == (5, 5)


async def test_only_what_had_ended_by_then(
    rt: Runtime, project: Project, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    await give_up(rt, project, receiver, count=2)
    receiver.statuses = [500]
    [pending] = await send(rt, project)
    url = await replay(client, endpoint)
    await send(rt, project)
    async with rt.db.transaction() as tx:  # both fail for good before the replay begins
        await tx.execute(
            "UPDATE deliveries SET state = 'failed', next_attempt_at = NULL, updated_at = clock_timestamp()"
            " WHERE state = 'pending'"
        )
    await drain(rt)
    shown = (await client.get(url)).json()
    assert (shown["count"], shown["done_count"]) == (2, 2)
    states = {d["id"]: d["state"] for d in await deliveries(rt)}
    assert states[pending] == "failed"
    assert Counter(states.values()) == {"failed": 2, "pending": 2}


async def test_a_worker_that_dies_between_batches_loses_and_doubles_nothing(
    rt: Runtime, project: Project, client: httpx.AsyncClient
) -> None:
    endpoint = await new_endpoint(rt, project, "http://127.0.0.1:9/")
    await write_log(rt, project, endpoint, count=1_803)
    await write_log(rt, project, endpoint, count=200, state="succeeded")
    url = await replay(client, endpoint)
    async with rt.db.transaction() as tx:
        # The server refuses each second commit, after all statements have succeeded.
        await tx.execute("CREATE SEQUENCE commits")
        await tx.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN IF nextval('commits') % 2 = 1 THEN RAISE 'not now'; END IF; RETURN NULL; END $$"
        )
        await tx.execute(
            "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON replays DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    refused: list[str] = []
    async with open_runtime(rt.settings) as other:
        is_more, workers = True, [rt, other]
        while is_more:
            workers.reverse()
            try:
                is_more = await replays.run_due(workers[0])
            except DATABASE_ERRORS as exc:
                refused.append(str(exc))
    assert len(refused) == 4
    assert all("not now" in text for text in refused)
    assert await sent_again(rt) == {1: 1_803, 0: 200}
    shown = (await client.get(url)).json()
    assert (shown["count"], shown["done_count"]) == (1_803, 1_803)
    assert shown["finished_at"] is not None


async def test_two_workers_and_two_replays_of_one_range(
    rt: Runtime, project: Project, client: httpx.AsyncClient
) -> None:
    endpoint = await new_endpoint(rt, project, "http://127.0.0.1:9/")
    await write_log(rt, project, endpoint, count=2_600)
    urls = [await replay(client, endpoint) for _ in range(2)]
    async with open_runtime(rt.settings) as other:
        await asyncio.gather(*(drain(each) for each in (rt, other, rt, other)))
    assert await sent_again(rt) == {1: 2_600}  # what one has made pending is nothing for the other
    done = [(await client.get(url)).json() for url in urls]
    assert sum(each["done_count"] for each in done) == 2_600
    assert all(each["finished_at"] for each in done)


async def test_a_replay_of_a_replay_sends_again(rt: Runtime, project: Project, client: httpx.AsyncClient) -> None:
    endpoint = await new_endpoint(rt, project, "http://127.0.0.1:9/")
    await write_log(rt, project, endpoint, count=3)
    for fence in (1, 2):
        await replay(client, endpoint)
        await drain(rt)
        assert await sent_again(rt) == {fence: 3}
        async with rt.db.transaction() as tx:
            await tx.execute(
                "UPDATE deliveries SET state = 'failed', next_attempt_at = NULL, updated_at = clock_timestamp()"
            )


async def test_few_in_a_long_log_take_several_short_transactions(
    rt: Runtime, project: Project, client: httpx.AsyncClient
) -> None:
    endpoint = await new_endpoint(rt, project, "http://127.0.0.1:9/")
    await write_log(rt, project, endpoint, count=replays.SCAN + 100, state="succeeded")
    async with rt.db.transaction() as tx:
        await tx.execute(
            "UPDATE deliveries SET state = 'failed' WHERE id IN"
            " ((SELECT id FROM deliveries ORDER BY created_at LIMIT 1) UNION ALL"
            "  (SELECT id FROM deliveries ORDER BY created_at DESC LIMIT 2))"
        )
    url = await replay(client, endpoint)
    assert await drain(rt) == 2
    assert (await client.get(url)).json()["done_count"] == 3
    assert await sent_again(rt) == {0: replays.SCAN + 97, 1: 3}


@pytest.mark.parametrize("end", ["disabled", "deleted"])
async def test_it_ends_with_its_endpoint(rt: Runtime, project: Project, client: httpx.AsyncClient, end: str) -> None:
    endpoint = await new_endpoint(rt, project, "http://127.0.0.1:9/")
    await write_log(rt, project, endpoint, count=700)
    url = await replay(client, endpoint)
    assert await replays.run_due(rt)
    async with rt.db.transaction() as tx:
        if end == "deleted":
            await tx.execute("UPDATE webhook_endpoints SET deleted_at = app_now()")
        else:
            await tx.execute("UPDATE webhook_endpoints SET state = 'disabled'")
    assert await drain(rt) == 1
    assert await sent_again(rt) == {1: 500, 0: 200}
    [row] = await rows(rt, "SELECT done_count, finished_at IS NOT NULL AS is_finished FROM replays")
    assert (row["done_count"], row["is_finished"]) == (500, True)
    assert (await client.get(url)).status_code == (404 if end == "deleted" else 200)


class TestPace:
    """Batches that join: 500 deliveries at 100 a second are five seconds."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"replay_per_second": 100}

    @pytest.mark.parametrize("rate_limit", [None, 20])
    async def test_deliveries_are_spread(
        self, rt: Runtime, project: Project, client: httpx.AsyncClient, rate_limit: int | None
    ) -> None:
        rate = rate_limit or 100
        endpoint = await new_endpoint(rt, project, "http://127.0.0.1:9/")
        async with rt.db.transaction() as tx:
            await tx.execute("UPDATE webhook_endpoints SET rate_limit = :rate", {"rate": rate_limit})
        await write_log(rt, project, endpoint, count=1_100)
        began = monotonic()
        await replay(client, endpoint)
        batches = await drain(rt)
        [first] = await rows(rt, "SELECT min(next_attempt_at) AS at FROM deliveries")
        assert first["at"] <= rt.clock.now()
        while batches < 3:
            rt.clock.advance(timedelta(seconds=500 / rate) - timedelta(seconds=replays.AHEAD_SECONDS / 2))
            batches += await drain(rt)
        due = await rows(
            rt,
            "SELECT CAST(extract(epoch FROM next_attempt_at - lag(next_attempt_at) OVER (ORDER BY created_at))"
            "            AS float8) AS gap FROM deliveries ORDER BY created_at",
        )
        gaps = [row["gap"] for row in due[1:]]
        assert len(gaps) == 1_099
        late = [gap - 1 / rate for gap in gaps if abs(gap - 1 / rate) >= 1e-4]
        assert len(late) < batches
        assert all(0 < gap < monotonic() - began for gap in late)  # a batch that a busy machine has made too late

    async def test_what_is_sent_again_waits_behind_what_is_new_and_in_no_lane(
        self, rt: Runtime, project: Project, client: httpx.AsyncClient, receiver: Receiver
    ) -> None:
        endpoint = await new_endpoint(rt, project, receiver.url)
        await write_log(rt, project, endpoint, count=3)
        async with rt.db.transaction() as tx:
            await tx.execute("UPDATE deliveries SET lane = gen_random_uuid()")
        await replay(client, endpoint)
        await drain(rt)
        assert {(d["state"], d["priority"], d["attempt_count"], d["lane"]) for d in await deliveries(rt)} == {
            ("pending", 1, 0, None)
        }


async def test_the_loops_of_a_worker_do_it_all(
    rt: Runtime, project: Project, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    await write_log(rt, project, endpoint, count=1_200)
    stop = asyncio.Event()
    loop = asyncio.create_task(sweeps.replays_loop(rt, stop))
    async with looping(rt):
        url = await replay(client, endpoint)
        await eventually(lambda: len(receiver.requests) == 1_200, seconds=120)
        stop.set()
        await loop
        async with asyncio.timeout(60):
            while any(d["state"] == "pending" for d in await deliveries(rt)):
                await asyncio.sleep(0.02)
    assert len(set(receiver.ids)) == 1_200
    assert (await client.get(url)).json()["done_count"] == 1_200
