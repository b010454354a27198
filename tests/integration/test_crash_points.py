"""A failure at every await between claim and completion: nothing is lost, nothing is recorded that did not happen.

For each harm the story is told again and again, with the harm at the first point, the second, and so on, until the
worker gets through. Then another worker delivers what is left, and the judge of the story looks. In the end every await
of the files under trial must have been struck. `make test` takes one point in three, and looks at nothing but deaths.
"""

import asyncio
import gc
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import count

import pytest

from app.runtime import Runtime, open_runtime
from app.settings import Settings
from app.webhooks.delivery import deliver_due
from tests.databases import cloned
from tests.harness import LateTransport, listen
from tests.integration.crash_story import Hooks, Picture, Story
from tests.integration.crashing import (
    ALWAYS,
    HARMS,
    IS_WHOLE,
    Harm,
    Site,
    Trail,
    Work,
    Worker,
    awaits,
    points,
    watching,
)
from tests.integration.delivering import rows
from workers.loops import delivery_loop

UNDER_TRIAL = tuple(
    f"app/webhooks/{name}.py" for name in ("delivery", "claims", "due", "attempts", "settle", "standing", "digests")
)
NEVER_WAITS = (
    ("async with asyncio.timeout(", "enter"),
    ("async with asyncio.timeout(", "exit"),
    ("async with Courier(", "enter"),
)
"""What begins so goes on at once: a timer is set, or removed, or a task is started."""
AWAITS = {
    site: text
    for site, text in awaits(UNDER_TRIAL).items()
    if not any(text.startswith(start) and site.role == role for start, role in NEVER_WAITS)
}
LANES = 4
"""Stories told at a time, each in a database of its own: they wait more than they work."""
LEASE = timedelta(seconds=31)
"""Longer than a lease, and than PostgreSQL lets a session keep a transaction open."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scenario:
    """How the worker comes to its awaits."""

    name: str
    overrides: dict[str, object] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds until the first request is answered."""
    then: str = ""
    """When that has come: `stop`, the worker is told to stop; `lose`, its network is away for two seconds."""


SCENARIOS = (
    Scenario("deliver"),
    Scenario("wait for a slot", {"delivery_concurrency": 1}, delay=0.3),
    Scenario("stop", delay=2.5, then="stop"),
    Scenario("lose the database", delay=0.5, then="lose"),
)
"""All points of the first; of the others those at awaits that the ones before do not come to."""


@pytest.mark.slow  # some hundred stories
@pytest.mark.timeout(900)
@pytest.mark.parametrize("harm", HARMS if IS_WHOLE else ALWAYS)
@pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up")  # the dead give nothing back
async def test_a_failure_at_any_await_loses_nothing(settings: Settings, harm: Harm) -> None:
    sweep = Sweep(harm)
    async with AsyncExitStack() as stack:
        benches = [await stack.enter_async_context(bench(settings)) for _ in range(LANES)]
        stack.enter_context(watching())
        again = (*SCENARIOS[1:], *SCENARIOS[1:])  # where a busy machine was in its way
        for scenario in (*SCENARIOS, *again) if IS_WHOLE else SCENARIOS[:1]:
            if sweep.missed():
                await sweep.over(benches, scenario)
    gc.collect()  # what the dead have not given back, while the warning is still expected
    log.info("%s: %d points, %d awaits", harm, sweep.points, len(sweep.sites & AWAITS.keys()))
    assert sweep.points > 20
    assert not IS_WHOLE or not sweep.missed()


class Bench:
    """A database of its own, and a worker that nothing befalls: it delivers what the other one has left."""

    def __init__(self, rt: Runtime, hooks: Hooks, url: str) -> None:
        self._rt = rt
        self._hooks = hooks
        self._url = url
        self._told = count(1)

    async def tell(self, scenario: Scenario, harm: Harm, point: int, counts: Callable[[Trail], bool]) -> Trail | None:
        """One story with one harm; where it struck, or None where the worker never came to that point."""
        number = next(self._told)
        story = Story(self._rt, self._hooks, self._url, number=number)
        await story.begin()
        worker = Worker(f"harmed {number}", harm, point, counts)
        await worker.open(self._rt.settings.model_copy(update=scenario.overrides), clock=self._rt.clock.offset)
        self._hooks.delay = scenario.delay
        try:
            await worker.work(self._work(scenario, worker))
            if worker.is_dead:
                await self._bury(worker)
            left = story.judge(await story.look())
            if harm == "long stall" and worker.is_held:
                await self._end_sessions(worker)
            if harm == "overtaken" and worker.is_held:
                await self._overtake(story, worker)
            await self._deliver_rest(story, worker)
            end = story.judge(await story.look(), left)
            if worker.is_dead:
                _judge_unrecorded(end, left)
            if worker.is_held:
                end = await self._wake(story, worker, end)
            story.judge_end(end)
        finally:
            await worker.close()
        return worker.struck

    def _work(self, scenario: Scenario, worker: Worker) -> Work:
        stop = asyncio.Event()

        def tell_to_stop() -> None:
            stop.set()
            worker.rt.queue.delivery_due.set()

        self._hooks.then = {"": None, "stop": tell_to_stop, "lose": partial(worker.lose_network, 2.0)}[scenario.then]
        return (lambda rt: delivery_loop(rt, stop)) if scenario.then == "stop" else deliver_due

    async def _bury(self, worker: Worker) -> None:
        """What it had sent is carried out, what it had open is rolled back, and that is all that is heard of it."""
        await self._sessions_ended(worker)
        heard = self._hooks.answered.copy()
        await worker.bury()
        await self._sessions_ended(worker)
        assert self._hooks.answered == heard, "the dead have spoken"

    async def _overtake(self, story: Story, worker: Worker) -> None:
        """Another has sent what the worker held, and waits for the answers; then the worker goes on, and ends."""
        self._rt.clock.advance(LEASE)
        self._hooks.gate = gate = asyncio.Event()
        self._hooks.held.clear()
        passing = asyncio.create_task(deliver_due(self._rt))
        try:
            while not self._hooks.held and not passing.done():
                await asyncio.wait([passing], timeout=0.02)
                await self._end_sessions(worker, only_blocking=True)
            self._hooks.gate = None
            before = await story.look()
            worker.rt.clock.advance(self._rt.clock.offset - worker.rt.clock.offset)
            await worker.go_on()
            story.judge_overtaken(await story.look(), before)
        finally:
            gate.set()
            await passing

    async def _wake(self, story: Story, worker: Worker, before: Picture) -> Picture:
        """Let a worker go on that has stalled: of what others have finished it changes nothing."""
        worker.rt.clock.advance(self._rt.clock.offset - worker.rt.clock.offset)
        await worker.go_on()
        after = story.judge(await story.look(), before)
        if before.has_ended:
            assert after.rows.keys() == before.rows.keys(), "a worker without a lease has made a digest"
            assert after.states == before.states, "a worker without a lease has changed an endpoint"
        await self._deliver_rest(story, worker)
        return story.judge(await story.look(), after)

    async def _deliver_rest(self, story: Story, worker: Worker) -> None:
        """Until nothing is pending, or all that is left is locked by a worker that stalls."""
        for factor in (1, 2, 4, 8, 16, 32):
            self._rt.clock.advance(LEASE * factor)
            passing = asyncio.create_task(deliver_due(self._rt))
            while not passing.done():
                await asyncio.wait([passing], timeout=0.1)
                if worker.is_held:
                    await self._end_sessions(worker, only_blocking=True)
            if (worker.is_held and not passing.result()) or (await story.look()).has_ended:
                return

    async def _end_sessions(self, worker: Worker, *, only_blocking: bool = False) -> None:
        """What PostgreSQL does by itself to a session that keeps a transaction open."""
        await rows(
            self._rt,
            "SELECT pg_terminate_backend(s.pid) FROM pg_stat_activity s"
            " WHERE s.application_name = :name AND s.datname = current_database()"
            " AND (NOT CAST(:only_blocking AS bool) OR EXISTS ("
            "  SELECT FROM pg_stat_activity w WHERE s.pid = ANY (pg_blocking_pids(w.pid))))",
            name=worker.name,
            only_blocking=only_blocking,
        )

    async def _sessions_ended(self, worker: Worker) -> None:
        """PostgreSQL has noticed that the worker is dead."""
        async with asyncio.timeout(60):
            while await rows(
                self._rt,
                "SELECT FROM pg_stat_activity WHERE application_name = :name AND datname = current_database()",
                name=worker.name,
            ):
                await asyncio.sleep(0.002)


def _judge_unrecorded(end: Picture, left: Picture) -> None:
    """The worker that nothing befell has recorded every attempt that it began."""
    for key, row in left.rows.items():
        assert end.rows[key].unrecorded == row.unrecorded, f"not recorded: {end.rows[key]}"


@asynccontextmanager
async def bench(settings: Settings) -> AsyncIterator[Bench]:
    """One lane, which shares nothing with the others but the servers."""
    hooks = Hooks()
    async with cloned(os.environ["DATABASE_URL"], os.environ["PUNCTUAL_TEST_TEMPLATE"]) as url:
        own = settings.model_copy(update={"database_url": url, "database_pool_size": 4})
        async with open_runtime(own, transport=LateTransport()) as rt, listen(hooks) as address:
            yield Bench(rt, hooks, address)


class Sweep:
    """One harm at every point, and what was struck."""

    def __init__(self, harm: Harm) -> None:
        self._harm = harm
        self.points = 0
        self.sites: set[Site] = set()

    def missed(self) -> dict[Site, str]:
        """The awaits under trial that were not struck yet, with their text."""
        return {
            site: text
            for site, text in AWAITS.items()
            if site not in self.sites
            # No statement begins these: they wait where the pool has no connection at hand, and only there.
            and not (site.role == "enter" and ("db.direct()" in text or "db.reading()" in text))
        }

    async def over(self, benches: Sequence[Bench], scenario: Scenario) -> None:
        """Point after point, until a worker gets through without having come to its point."""
        known, each, is_through = frozenset(self.sites), points(UNDER_TRIAL), False

        def counts(trail: Trail) -> bool:
            return not known or not known.issuperset(trail)

        async def lane(one: Bench) -> None:
            nonlocal is_through
            while not is_through:
                struck = await one.tell(scenario, self._harm, next(each), counts)
                if struck is None:
                    is_through = True
                else:
                    self.points += 1
                    self.sites.update(struck)

        async with asyncio.TaskGroup() as group:
            for one in benches:
                group.create_task(lane(one))
