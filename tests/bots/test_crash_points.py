"""A worker that launches fails at any await: the next one brings the bot where it is to be, once.

For each kind of back end, and each thing that is to be done there, the story is told again and again, with the harm at
the first point, the second, and so on, until the worker gets through. Then another worker comes, once the lease is
over, and the judge of the story looks. In the end every await of the files under trial must have been struck.
`make test` takes one point in three, of deaths while a bot is started at one of them.
"""

import asyncio
import gc
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import count
from typing import get_args

import pytest

from app.bots.launchers import Kind
from app.bots.launching import launch_due
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from sandbox import Sandbox
from tests.bots.crash_story import ACTS, Act, Hooks, Stands, Story
from tests.harness import LateTransport, listen
from tests.integration.crashing import ALWAYS, IS_WHOLE, Harm, Site, Trail, Worker, awaits, points, watching
from tests.integration.delivering import rows

HARMS: tuple[Harm, ...] = ("death", "stall", "cut", "cancelled")
"""What `make crash-points` does."""
CALLED, TOLD = ("launching", "due", "calls", "outcomes"), ("due", "messages", "outcomes")
UNDER_TRIAL = {kind: TOLD if kind == "webhook" else CALLED for kind in get_args(Kind)}
ELSEWHERE = (
    "async with asyncio.timeout(",  # sets a timer, or removes it
    "async with Launching(",  # starts a task
    # what is come to only while the database is away, or at a stop: test_launching.py
    "await self._store_each(batch)",
    "await self._store([one])",
    "await asyncio.sleep(min(",
    "await asyncio.wait(self._tasks, timeout=grace_seconds)",
    "await asyncio.wait(broken_off)",
    "await self._settled.wait()",
)
BY_MESSAGE = ("await messages.settle(", "await messages.send(")
"""What back ends that are called do not come to."""
LEASE = timedelta(seconds=91)

log = logging.getLogger(__name__)


@pytest.mark.slow  # some hundred stories
@pytest.mark.timeout(900)
@pytest.mark.parametrize("harm", HARMS if IS_WHOLE else ALWAYS)
@pytest.mark.parametrize("kind", get_args(Kind) if IS_WHOLE else ("attendee",))
@pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up")  # the dead give nothing back
async def test_a_worker_that_fails_anywhere_leaves_one_bot(settings: Settings, kind: Kind, harm: Harm) -> None:
    sites: set[Site] = set()
    told = 0
    async with AsyncExitStack() as stack:
        box, hooks = Sandbox.create(on_socket=True), Hooks()
        stack.push_async_callback(box.close)
        box_url = await stack.enter_async_context(listen(box.app))
        hooks_url = await stack.enter_async_context(listen(hooks.app))
        rt = await stack.enter_async_context(open_runtime(settings, transport=LateTransport()))
        stack.enter_context(watching())
        stage = Stage(rt, Stands(box, box_url, hooks, hooks_url), kind, harm)
        for _ in range(3 if IS_WHOLE else 1):  # again where a busy machine was in its way
            told += await over(stage, ACTS if IS_WHOLE else ACTS[:1], sites)
            if not missed(kind, sites):
                break
    gc.collect()  # what the dead have not given back, while the warning is still expected
    log.info("%s, %s: %d points", kind, harm, told)
    left = "\n".join(f"{s.path}:{s.line} {s.role} {text}" for s, text in missed(kind, sites).items())
    assert told > 10
    assert not IS_WHOLE or not left, left


async def over(stage: "Stage", acts: Sequence[Act], sites: set[Site]) -> int:
    """One harm after the other at all points of these acts; how many there were. Adds where they struck."""
    told = 0
    for act in acts:
        # Who stalls within a transaction keeps its bot locked, until the server ends that and the request that waits.
        for is_removed in (False, True) if act == "start" and stage.harm != "stall" else (False,):
            for point in points(paths(stage.kind)):
                struck = await stage.tell(act, point, is_removed=is_removed)
                if struck is None:
                    break
                told += 1
                sites.update(struck)
    return told


def paths(kind: Kind) -> tuple[str, ...]:
    """The files under trial."""
    return tuple(f"app/bots/{name}.py" for name in UNDER_TRIAL[kind])


def missed(kind: Kind, sites: set[Site]) -> dict[Site, str]:
    """The awaits under trial that were not struck, with their text."""
    every = awaits(paths(kind))
    others = () if kind == "webhook" else BY_MESSAGE
    return {
        site: text
        for site, text in every.items()
        if site not in sites
        and not text.startswith((*ELSEWHERE, *others))
        and not (
            site.role == "enter" and ".db." in text
        )  # waits where the pool has no connection at hand, and only there
    }


class Stage:
    """The service, and a worker that nothing befalls."""

    def __init__(self, rt: Runtime, stands: Stands, kind: Kind, harm: Harm) -> None:
        self._rt = rt
        self._stands = stands
        self.kind: Kind = kind
        self.harm: Harm = harm
        self._told = count(1)

    async def tell(self, act: Act, point: int, *, is_removed: bool) -> Trail | None:
        """One story with one harm; where it struck, or None where the worker never came to that point."""
        number = next(self._told)
        story = Story(self._rt, self._stands, self.kind, act, number=number)
        await story.begin()
        worker = Worker(f"harmed {number}", self.harm, point, lambda _: True)
        await worker.open(self._rt.settings, clock=self._rt.clock.offset)
        try:
            await worker.work(launch_due)
            if worker.is_dead:
                await self._sessions_ended(worker)
                await worker.bury()
                await self._sessions_ended(worker)
            if is_removed:
                await story.remove()
            story.pass_time(LEASE)
            await story.let_work()
            if worker.is_held:
                worker.rt.clock.advance(self._rt.clock.offset - worker.rt.clock.offset)
                await worker.go_on()
                await story.let_work()
            await story.judge_end(is_removed=is_removed)
        finally:
            await worker.close()
        return worker.struck

    async def _sessions_ended(self, worker: Worker) -> None:
        """PostgreSQL has noticed that the worker is dead."""
        async with asyncio.timeout(60):
            while await rows(
                self._rt,
                "SELECT FROM pg_stat_activity WHERE application_name = :name AND datname = current_database()",
                name=worker.name,
            ):
                await asyncio.sleep(0.002)
