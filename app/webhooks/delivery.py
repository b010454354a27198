"""Delivery: claims what is due, keeps attempts under way, records how they went.

Guarantees: at least once. No transaction is open during an exchange. An endpoint that is slow fills its own slots
and no others, and a project its share and no more (`lanes`). What was changed, deleted or dropped is not sent to the
old place later than FRESH_SECONDS. Results are recorded in batches while others are still under way; a database that is
away delays them, and loses none.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from types import TracebackType
from typing import Self
from uuid import UUID

from app.db import DATABASE_ERRORS
from app.runtime import Runtime
from app.telemetry import DELIVERIES, DELIVERY_LAG, log
from app.webhooks.attempts import attempt, crashed, given_back
from app.webhooks.claims import Claim, claim, look_again, per_endpoint
from app.webhooks.digests import merge
from app.webhooks.lanes import Lane, Turn, Turns
from app.webhooks.settle import Outcome, settle

POLL_SECONDS = 0.25
BATCH = 200
HELD_FACTOR = 8
"""Claims held for each that may be under way: some wait for a slot, some to be recorded."""
LEASE_MARGIN_SECONDS = 5.0
"""How much longer than an attempt a claim lasts: the time to wait for a slot, and to record."""
LOOK_PAST_SECONDS = 0.05
MERGED_AT_ONCE = 20
"""Calendars that are merged after one claim, for one endpoint each; the rest come with the next ones."""
FRESH_SECONDS = 0.25
"""A claim that has waited longer is looked at again before it is sent: its endpoint may be another by now."""
CLAIM_PAUSE_SECONDS = 0.015
"""While more is in hand than can be under way, so long passes between claims, so that each brings many."""
RECORD_BATCH = 500
RECORD_AT_ONCE = 250
RECORD_PAUSE_SECONDS = 0.02
RECORD_SECONDS = 4.0
"""How long a stop waits for results to be recorded; the leases of the others run out."""


class Courier:
    """Holds claims and has them delivered, bounded in all and for each endpoint. An async context manager.

    `wake` is set when there is room again or nothing is left to do: look for work then.
    """

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._limit = rt.settings.delivery_concurrency
        self._most = HELD_FACTOR * self._limit
        self._turns = Turns(
            most_active=self._limit,
            most_held=self._most,
            most_of_endpoint=rt.settings.delivery_endpoint_concurrency,
        )
        self._lease = rt.settings.delivery_timeout_seconds + LEASE_MARGIN_SECONDS
        self._active = 0
        self._held = 0
        self._looked_past = 0.0
        self._put_off: set[UUID] = set()
        self._claimed_at = 0.0
        self._is_crowded = False
        self._is_closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._results: list[Outcome] = []
        self._recordable = asyncio.Event()
        self._settled = asyncio.Event()
        self._recorder: asyncio.Task[None] | None = None
        self.wake = rt.queue.delivery_due
        self.attempts = 0

    async def __aenter__(self) -> Self:
        self._recorder = asyncio.create_task(self._record())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.finish(grace_seconds=0)

    async def rest(self) -> None:
        """Until there may be something to do, and never long: whatever should have woken us may be lost."""
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self.wake.wait()

    @property
    def is_idle(self) -> bool:
        """Whether everything claimed was recorded."""
        return self._held == 0

    async def claim(self) -> bool:
        """Claim what is due and there is room for, and start on it. True: claim again, there may be more."""
        if self._recorder is not None and self._recorder.done():
            self._recorder.result()  # a mistake of ours ended it: nothing more may be sent
        batch = min(BATCH, self._most - self._held)
        if batch <= 0 or self._is_crowded or self._must_wait():
            return False
        room, rooms = self._turns.first_room, self._turns.rooms()
        urgent_rooms = self._turns.urgent_rooms()
        rooms |= dict.fromkeys(self._put_off, 0)
        claimed = await claim(
            self._rt.db,
            batch=batch,
            lease_seconds=self._lease,
            room=room,
            rooms=rooms,
            share=self._turns.share,
            shares=self._turns.shares(),
            urgent_rooms=urgent_rooms,
        )
        claims = claimed.claims
        is_every_one = not self._put_off
        self._put_off = claimed.put_off if is_every_one else set()
        self._held += len(claims)
        self._is_crowded = self._held >= self._most
        lanes = {each.endpoint_id: self._turns.take_in(each) for each in claims}
        filled = {
            *_filled((each for each in claims if each.is_urgent), room, urgent_rooms),
            *_filled((each for each in claims if not each.is_urgent), room, rooms),
        }
        for endpoint, lane in lanes.items():
            lane.is_full = lane.is_full or endpoint in filled
            self._turns.queue(lane)
        self._start()
        part = sorted(claimed.merge)[:MERGED_AT_ONCE]
        merged = await merge(self._rt, part) if part else 0
        return claimed.is_more or not is_every_one or merged > 0 or (bool(filled) and self._may_look_past())

    def _must_wait(self) -> bool:
        """Whether a claim now would be one of many small ones; then `wake` is set as soon as it is not."""
        rest = self._claimed_at + CLAIM_PAUSE_SECONDS - monotonic()
        if self._held <= self._limit or rest <= 0:
            self._claimed_at = monotonic()
            return False
        asyncio.get_running_loop().call_later(rest, self.wake.set)
        return True

    def _may_look_past(self) -> bool:
        """Whether to look at once for what is due behind a long queue of one endpoint: costly, so not always."""
        now = monotonic()
        if now - self._looked_past < LOOK_PAST_SECONDS:
            return False
        self._looked_past = now
        return True

    def _next(self) -> Turn | None:
        return None if self._is_closing else self._turns.next()

    def _start(self) -> None:
        while self._active < self._limit and (chosen := self._next()):
            self._active += 1
            task = asyncio.create_task(self._work(chosen))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def _work(self, turn: Turn) -> None:
        """Attempt after attempt, whosever turn it is."""
        chosen: Turn | None = turn
        try:
            while chosen:
                await self._deliver(chosen)
                self._start()  # an answer may have opened more slots
                chosen = self._next()
        finally:
            self._active -= 1
            self._start()

    async def _deliver(self, turn: Turn) -> None:
        lane, claim = turn.lane, turn.claim
        started, is_over = monotonic(), False
        outcome: Outcome | None = None
        try:
            outcome, is_over = await self._attempt(lane, claim), True
        except asyncio.CancelledError:
            outcome, is_over = given_back(claim), True
            raise
        finally:
            if not is_over:  # a fault of ours: told where the task ends, and it must not escape the schedule
                log.error("delivery.attempt_crashed", delivery=str(claim.delivery_id))
                outcome = crashed(self._rt, claim, started=started)
            if self._turns.done(turn):
                self.wake.set()
            self._ended_turn(claim)
            if outcome is None:
                self._let_go(1)
            else:
                self._results.append(outcome)
                self._recordable.set()
                if outcome.error == "gone":
                    self._give_back(lane)

    async def _attempt(self, lane: Lane, claim: Claim) -> Outcome | None:
        """None where the delivery was dropped while it waited."""
        started = monotonic()
        if started - claim.seen_at > FRESH_SECONDS:
            fresh = await self._look_again(lane, claim)
            if fresh is None:
                return None
            claim, started = fresh, monotonic()
        outcome = await attempt(self._rt, claim)
        self._turns.answered(lane, monotonic() - started, in_time=outcome.error != "timeout")
        return outcome

    async def _look_again(self, lane: Lane, claim: Claim) -> Claim | None:
        asked = [claim] if lane.is_looked_at else [claim, *(each for queue in lane.queues for each in queue)]
        is_first, lane.is_looked_at = not lane.is_looked_at, True
        try:
            fresh = await look_again(self._rt.db, asked)
        except DATABASE_ERRORS:
            return claim  # nothing can be recorded then either: its lease decides
        finally:
            lane.is_looked_at = lane.is_looked_at and not is_first
        ids = {each.delivery_id for each in asked}
        for queue in lane.queues:
            held = list(queue)
            queue.clear()
            dropped = [each for each in held if each.delivery_id in ids and each.delivery_id not in fresh]
            queue.extend(fresh.get(each.delivery_id, each) for each in held if each not in dropped)
            for each in dropped:
                self._ended_turn(each)
            self._let_go(len(dropped))
        return fresh.get(claim.delivery_id)

    def _give_back(self, lane: Lane) -> None:
        """What waits in a lane whose endpoint is over: due again at once, and judged anew."""
        for queue in lane.queues:
            for each in queue:
                self._results.append(given_back(each))
                self._ended_turn(each)
            queue.clear()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("delivery.task_crashed", exc_info=error)

    def _ended_turn(self, claim: Claim) -> None:
        """Its project may hold another."""
        if self._turns.let_go(claim.project_id):
            self.wake.set()

    def _let_go(self, count: int) -> None:
        self._held -= count
        if self._is_crowded and self._held <= self._most * 3 // 4:
            self._is_crowded = False
            self.wake.set()
        if self._held == 0:
            self._settled.set()
            self.wake.set()

    async def _record(self) -> None:
        failures = 0
        while await self._recordable.wait():
            if len(self._results) < RECORD_AT_ONCE:
                await asyncio.sleep(RECORD_PAUSE_SECONDS)
            batch = self._results[:RECORD_BATCH]
            try:
                settled = await settle(self._rt.db, batch)
            except DATABASE_ERRORS as exc:
                log.warning("delivery.not_recorded", error=type(exc).__name__, results=len(self._results))
                failures += 1
                self._forget(result for result in batch if result.claim.lease_ends < monotonic())
                await asyncio.sleep(min(2.0, 0.1 * 2 ** min(failures, 6)))
            else:
                failures = 0
                self.attempts += _count(batch, settled.ours)
                self._forget(batch)
                if settled.is_more:
                    self.wake.set()
                if settled.are_bots_due:
                    self._rt.queue.wake_launching()

    def _forget(self, results: Iterable[Outcome]) -> None:
        """Recorded, or too late for it: their lease is over, so that the deliveries are due again."""
        gone = {id(result) for result in results}
        self._results = [result for result in self._results if id(result) not in gone]
        if not self._results:
            self._recordable.clear()
        self._let_go(len(gone))

    async def finish(self, *, grace_seconds: float) -> None:
        """Let attempts under way end, give the rest back, record it all: within the grace and RECORD_SECONDS."""
        if self._recorder is None:
            return
        self._is_closing = True
        for lane in self._turns.lanes:
            self._give_back(lane)
        if self._results:
            self._recordable.set()
        if self._tasks and grace_seconds:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        for task in self._tasks:
            task.cancel()
        self._settled.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(RECORD_SECONDS):
                if self._held:
                    await self._settled.wait()
        self._recorder.cancel()
        await asyncio.wait([self._recorder])
        self._recorder = None


def _filled(claims: Iterable[Claim], room: int, rooms: Mapping[UUID, int]) -> set[UUID]:
    """Endpoints that got as much as they had room for: more may be due."""
    return {endpoint for endpoint, count in per_endpoint(claims).items() if count >= rooms.get(endpoint, room)}


def _count(outcomes: Sequence[Outcome], ours: set[UUID]) -> int:
    """Count attempts that were recorded, in metrics too."""
    now = datetime.now(UTC)
    recorded = [o for o in outcomes if o.is_attempt and o.claim.delivery_id in ours]
    kinds = Counter((o.claim.trigger, "retry" if o.state == "pending" else o.state) for o in recorded)
    lags = {trigger: DELIVERY_LAG.labels(trigger) for trigger, _ in kinds}
    for (trigger, kind), count in kinds.items():
        DELIVERIES.labels(trigger, kind).inc(count)
    for outcome in recorded:
        claim = outcome.claim
        is_sent_again = claim.attempt == 1 and not claim.is_first
        if outcome.state == "succeeded" and not is_sent_again:
            lags[claim.trigger].observe(max(0.0, (now - claim.created_at).total_seconds()))
    return len(recorded)


async def deliver_due(rt: Runtime) -> int:
    """Deliver until nothing is due any more; the number of attempts that were recorded."""
    async with Courier(rt) as courier:
        while True:
            courier.wake.clear()
            if await courier.claim():
                continue
            if courier.is_idle:
                return courier.attempts
            await courier.rest()
