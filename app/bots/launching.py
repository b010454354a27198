"""Launching: makes a bot's back end have what its row says, and nothing else.

Rows say when there is something to do. Whoever takes one holds it by a lease, writes down that a start is under way,
and only then calls; what came of it is recorded under the fence of the lease. Who dies in between leaves a row that is
due again by itself, and the next one asks the back end for an earlier start before it makes another.

A launcher that is slow fills its own places and no others. Results are recorded many at a time, while other calls are
still under way; a database that is away delays them, and where it stays away, the leases run out.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Final, Self
from uuid import UUID

from app.bots.calls import carry_out, crashed
from app.bots.due import claim
from app.bots.outcomes import After, Claim, record
from app.db import DATABASE_ERRORS, is_away
from app.runtime import Runtime
from app.telemetry import log

POLL_SECONDS: Final = 1.0
"""Between two looks for bots that are due, where nothing wakes the loop."""
BATCH: Final = 100
LAUNCHERS: Final = 4
"""So many launchers that are slow it takes to hold up the others."""
CLAIM_PAUSE_SECONDS: Final = 0.02
"""While calls are under way, so long passes between claims, so that each brings many."""
RECORD_BATCH: Final = 200
RECORD_PAUSE_SECONDS: Final = 0.02
RECORD_SECONDS: Final = 4.0
"""How long a stop waits for results to be recorded; the leases of the others run out."""

_KEY_REFUSED: Final = """
UPDATE launchers SET failing_code = :code, failing_detail = CAST(:detail AS text), updated_at = app_now()
 WHERE id = :id AND api_key_sealed = :key AND failing_code IS DISTINCT FROM :code
"""
_KEY_WORKS: Final = """
UPDATE launchers SET failing_code = NULL, failing_detail = NULL, updated_at = app_now()
 WHERE id = :id AND api_key_sealed = :key AND failing_code IS NOT NULL
"""


class Launching:
    """Takes due bots and calls for them, bounded in all and for each launcher. An async context manager.

    `wake` is set when there is room again or nothing is left to do: look for work then.
    """

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._most = rt.settings.delivery_concurrency  # as many connections there are
        self._room = max(1, self._most // LAUNCHERS)
        self._called: Counter[UUID] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._results: list[tuple[Claim, After]] = []
        self._recordable = asyncio.Event()
        self._settled = asyncio.Event()
        self._recorder: asyncio.Task[None] | None = None
        self._claimed_at = 0.0
        self.wake = rt.queue.launching_due
        self.taken = 0

    async def __aenter__(self) -> Self:
        self._recorder = asyncio.create_task(self._record())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.finish(grace_seconds=0)

    @property
    def is_idle(self) -> bool:
        """Whether everything taken was recorded."""
        return not self._tasks and not self._results

    async def claim(self) -> bool:
        """Take what is due and there is room for, and start on it. True: look again, there may be more."""
        if self._recorder is not None and self._recorder.done():
            self._recorder.result()  # a mistake of ours ended it: nothing more may be called for
        most = min(BATCH, self._most - len(self._tasks))
        if most <= 0 or self._must_wait():
            return False
        rooms = {launcher: self._room - count for launcher, count in self._called.items()}
        taken, calls = await claim(self._rt, most=most, room=self._room, rooms=rooms)
        self.taken += taken
        for one in calls:
            self._start(one)
        return taken > 0

    def _must_wait(self) -> bool:
        """Whether a claim now would be one of many small ones; then `wake` is set as soon as it is not."""
        rest = self._claimed_at + CLAIM_PAUSE_SECONDS - monotonic()
        if not self._tasks or rest <= 0:
            self._claimed_at = monotonic()
            return False
        asyncio.get_running_loop().call_later(rest, self.wake.set)
        return True

    def _start(self, claim_: Claim) -> None:
        if claim_.back_end is not None:
            self._called[claim_.back_end.id] += 1
        task = asyncio.create_task(self._call(claim_))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _call(self, claim_: Claim) -> None:
        """What comes of a call; one that is broken off leaves a lease that runs out."""
        after: After | None = crashed(claim_)  # unless it ends otherwise: a fault of ours must not keep the others
        try:
            after = await carry_out(self._rt, claim_)
        except asyncio.CancelledError:
            after = None
            raise
        finally:
            if after is not None:
                self._results.append((claim_, after))
                self._recordable.set()
            if claim_.back_end is not None:
                self._called[claim_.back_end.id] -= 1
                if not self._called[claim_.back_end.id]:
                    del self._called[claim_.back_end.id]
            self.wake.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("bots.step_crashed", exc_info=error)

    # --- the record ---

    async def _record(self) -> None:
        failures = 0
        while await self._recordable.wait():
            if len(self._results) < RECORD_BATCH:
                await asyncio.sleep(RECORD_PAUSE_SECONDS)
            batch = self._results[:RECORD_BATCH]
            try:
                await self._store(batch)
            except DATABASE_ERRORS as exc:
                failures += 1
                log.warning("bots.not_recorded", error=type(exc).__name__, results=len(self._results))
                self._forget([one for one in batch if one[0].lease_ends < monotonic()])
                if not is_away(exc) and len(batch) > 1:
                    await self._store_each(batch)
                await asyncio.sleep(min(2.0, 0.1 * 2 ** min(failures, 6)))
            else:
                failures = 0
                self._forget(batch)

    async def _store(self, batch: Sequence[tuple[Claim, After]]) -> None:
        async with self._rt.db.transaction() as tx:
            await record(tx, self._rt.queue, batch)
        await self._mark_launchers(batch)

    async def _store_each(self, batch: Sequence[tuple[Claim, After]]) -> None:
        """One that cannot be recorded keeps none of the others from it: its lease runs out."""
        for one in batch:
            try:
                await self._store([one])
            except DATABASE_ERRORS as exc:
                if is_away(exc):
                    return
                log.error("bots.not_recordable", bot=str(one[0].row.id), error=type(exc).__name__)
            self._forget([one])

    async def _mark_launchers(self, batch: Sequence[tuple[Claim, After]]) -> None:
        """Whose key is refused, or works again; that of another key than it has now counts for nothing."""
        marks: dict[UUID, tuple[str, dict[str, object]]] = {}
        for claim_, after in batch:
            back_end = claim_.back_end
            if back_end is None:
                continue
            key: dict[str, object] = {"id": back_end.id, "key": back_end.api_key_sealed}
            if after.key_refused is not None:
                code, detail = after.key_refused
                marks[back_end.id] = _KEY_REFUSED, key | {"code": code, "detail": detail}
            elif back_end.failing_code is not None and not after.failures:
                marks[back_end.id] = _KEY_WORKS, key
        if marks:
            async with self._rt.db.transaction() as tx:
                for _, (statement, params) in sorted(marks.items()):
                    await tx.execute(statement, params)

    def _forget(self, batch: Sequence[tuple[Claim, After]]) -> None:
        """Recorded, or too late for it: their leases are over, so that the bots are due again."""
        gone = {id(one) for one in batch}
        self._results = [one for one in self._results if id(one) not in gone]
        if not self._results:
            self._recordable.clear()
            self._settled.set()
        self.wake.set()

    async def finish(self, *, grace_seconds: float) -> None:
        """Let calls under way end and record them: within the grace and RECORD_SECONDS; break the others off."""
        if self._recorder is None:
            return
        if self._tasks and grace_seconds:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        broken_off = list(self._tasks)
        for task in broken_off:
            task.cancel()
        if broken_off:
            await asyncio.wait(broken_off)
        self._settled.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(RECORD_SECONDS):
                if self._results:
                    await self._settled.wait()
        self._recorder.cancel()
        await asyncio.wait([self._recorder])
        self._recorder = None


async def launch_due(rt: Runtime) -> int:
    """Launch until nothing is due any more; the number of bots that were taken."""
    async with Launching(rt) as launching:
        while True:
            launching.wake.clear()
            if await launching.claim():
                continue
            if launching.is_idle:
                return launching.taken
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await launching.wake.wait()
