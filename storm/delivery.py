"""The storm on delivery alone: thousands of messages through the outbox while workers die, and every receipt compared.

Two `punctual work`, a publisher and a receiver of their own, PostgreSQL and Redis that are gone at the end. Every few
seconds a worker is killed and started again; one is frozen for longer than its leases last; Redis loses every key.
Which worker, which transaction and which answer fails is decided by the seed; when exactly, by the machine.
"""

import asyncio
import random
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json import loads
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from app.ids import ENDPOINT, MESSAGE, public
from demo.application import Application
from demo.processes import ROOT, Process, Stack, StackError, free_port, http
from demo.telling import say
from storm import servers
from storm.receipts import Arrival, Published, Receipts, Recorded, judge
from storm.weather import RESTART_SECONDS, Seat

LOGS = ROOT / ".punctual" / "logs" / "storm-delivery"
TIMEOUT_SECONDS = 3
SETTINGS = {
    "RATE_LIMIT_READS_PER_MINUTE": "0",
    "RATE_LIMIT_WRITES_PER_MINUTE": "0",
    # A claim of a dead worker is due again after 13 s instead of 25, a failed attempt within 5 instead of hours.
    "DELIVERY_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
    "DELIVERY_RETRY_SECONDS": ",".join(["1", "2", "3", *["5"] * 40]),
}
WORKERS = 2
PROJECTS = {"north": ("north-1", "north-2"), "south": ("south-1", "south-ordered")}
"""Endpoints by project: each of its messages goes to all of them."""
ORDERED = ("south-ordered",)
"""Those that get the messages of one calendar in order."""
TRIGGER = "calendar.state_change"
PER_SECOND = 250
KILL_EVERY_SECONDS = 3.0
FLUSH_AT, FREEZE_AT = 0.5, 0.3
FREEZE_SECONDS = 16.0
"""Longer than a lease: what a frozen worker held has been delivered by another when it wakes."""
LEAST_SECONDS_TO_FREEZE = 45.0
RECOVERY_SECONDS = 30.0
"""What is promised; waited for is longer, so that a storm that fails can tell what is left."""
PATIENCE_SECONDS = 120.0
PROGRESS_SECONDS = 15.0
SHOWN_FLAWS = 25

_ORDER = "UPDATE webhook_endpoints SET is_ordered = true WHERE url = ANY ($1)"

_RECORDED = """
SELECT d.message_id, d.endpoint_id, d.state, d.attempt_count,
       coalesce(array_agg(a.status) FILTER (WHERE a.id IS NOT NULL), '{}') AS statuses
  FROM deliveries d LEFT JOIN delivery_attempts a ON a.delivery_id = d.id
 GROUP BY d.id
"""


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of the last line."""

    messages: int
    kills: int
    receipts: Receipts
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether every receipt is right, and was in time."""
        return self.receipts.holds and self.seconds <= RECOVERY_SECONDS

    def __str__(self) -> str:
        found = self.receipts
        return (
            f"storm-delivery: {self.messages} messages, {self.kills} kills, lost {len(found.lost)},"
            f" forged {len(found.forged)}, duplicates {found.duplicates}, recovered in {self.seconds:.0f} s"
        )


async def storm(*, seed: int, messages: int) -> bool:
    """The whole storm; whether everything was right. Raises StackError and what the servers raise."""
    began = time.monotonic()
    say(f"The storm on delivery: seed {seed}, {messages} messages, {sum(map(len, PROJECTS.values()))} endpoints.")
    for log in LOGS.glob("*.log"):
        log.unlink()
    async with servers.temporary() as place:
        with tempfile.TemporaryDirectory() as scratch:
            async with Stack(
                database_url=place.database_url, redis_url=place.redis_url, logs=LOGS, settings=SETTINGS
            ) as stack:
                async with http() as client:
                    journal = Path(scratch) / "journal"
                    result = await DeliveryStorm(stack, place, client, journal, seed=seed, messages=messages).run()
    for name in ("lost", "forged", "undone", "disordered", "inconsistent"):
        flaws = getattr(result.receipts, name)
        for flaw in flaws[:SHOWN_FLAWS]:
            say(f"  {name.upper()}: {flaw}")
        if len(flaws) > SHOWN_FLAWS:
            say(f"  {name.upper()}: and {len(flaws) - SHOWN_FLAWS} more")
    if result.seconds > RECOVERY_SECONDS:
        say(f"  LATE: {result.seconds:.1f} s, promised are {RECOVERY_SECONDS:.0f}")
    if not result.holds:
        say(f"  logs of every process: {LOGS.relative_to(ROOT)}/")
    say(f"  everything started here is stopped; {time.monotonic() - began:.0f} s in all; again with SEED={seed}")
    say(str(result))
    return result.holds


class DeliveryStorm:
    """One storm, on a stack that it starts."""

    def __init__(
        self,
        stack: Stack,
        place: servers.Servers,
        client: httpx.AsyncClient,
        journal: Path,
        *,
        seed: int,
        messages: int,
    ) -> None:
        self._stack = stack
        self._place = place
        self._client = client
        self._journal = journal
        self._seed = seed
        self._messages = messages
        self._seconds = messages / PER_SECOND
        self._chance = random.Random(f"{seed}/weather")
        self._receiver_url = f"http://127.0.0.1:{free_port()}"
        self._endpoints: dict[str, str] = {}
        """Names by id."""
        self._listeners: dict[str, tuple[str, ...]] = {}
        """Names of endpoints by their project's id."""
        self._seats: list[Seat] = []
        self._began = 0.0
        self._killed_at = 0.0
        self._kills = 0

    async def run(self) -> Result:
        """Subscribe, publish, kill, wait until all is delivered, compare."""
        await self._prepare()
        publisher = await self._publisher()
        self._began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(work) for work in (self._watch(), self._tell())]
            if self._seconds >= LEAST_SECONDS_TO_FREEZE:
                group.create_task(self._freeze())
            group.create_task(self._flush())
            await self._kill_until(publisher, group)
            for other in others:
                other.cancel()
        if publisher.returncode != 0:
            raise publisher.failure(f"ended with status {publisher.returncode}")
        self._say(f"calm: {self._kills} kills, all is published")
        delivered_at = await self._delivered()
        return Result(self._messages, self._kills, await self._judge(), delivered_at - self._killed_at)

    # --- before ---

    async def _prepare(self) -> None:
        began = time.monotonic()
        stack = self._stack
        address = httpx.URL(self._receiver_url)
        late = str(TIMEOUT_SECONDS + 1)
        await asyncio.gather(
            stack.migrate(),
            stack.start_module("receiver", "storm.receiver", str(address.port), str(self._seed), late),
        )
        api = await stack.start_api()
        keys: dict[str, str] = {}
        for project, names in PROJECTS.items():
            made = loads(await stack.punctual("projects", "create", project, "--json"))
            self._listeners[made["project_id"]] = names
            application = Application(self._client, api_url=stack.api_url, sink_url="", key=made["api_key"])
            for name in names:
                body = {"url": f"{self._receiver_url}/hooks/{name}", "triggers": [TRIGGER]}
                endpoint = await application.call("POST", "/webhooks", body=body)
                self._endpoints[endpoint["id"]] = name
                keys[name] = endpoint["secret"]
        await stack.stop(api)
        await self._fetch(_ORDER, [f"{self._receiver_url}/hooks/{name}" for name in ORDERED])
        (await self._client.put(f"{self._receiver_url}/_storm/secrets", json=keys)).raise_for_status()
        workers = await asyncio.gather(*(stack.start_worker() for _ in range(WORKERS)))
        self._seats = [Seat(f"worker {n}", stack.start_worker, one) for n, one in enumerate(workers, start=1)]
        say(f"  processes  {WORKERS} workers, receiver, PostgreSQL, Redis: in {time.monotonic() - began:.0f} s")

    async def _publisher(self) -> Process:
        """Its end is no surprise: it has a status."""
        options = {"seed": self._seed, "messages": self._messages, "per-second": PER_SECOND, "journal": self._journal}
        arguments = [f"--{name}={value}" for name, value in options.items()]
        process = await self._stack.start_module("publisher", "storm.publisher", *arguments, *self._listeners)
        self._stack.forget(process)
        return process

    # --- during ---

    async def _kill_until(self, publisher: Process, group: asyncio.TaskGroup) -> None:
        """A worker every few seconds, until everything is published; one at least."""
        ended = asyncio.create_task(publisher.process.wait())
        while True:
            await asyncio.wait([ended], timeout=KILL_EVERY_SECONDS)
            if ended.done() and self._kills:
                return
            await self._kill(group)

    async def _kill(self, group: asyncio.TaskGroup) -> None:
        running = [seat for seat in self._seats if seat.process is not None]
        if not running:
            return
        seat = self._chance.choice(running)
        process, seat.process = seat.process, None
        if process is not None:
            await self._stack.kill(process)
            self._kills, self._killed_at = self._kills + 1, time.monotonic()
            group.create_task(self._restart(seat))

    async def _restart(self, seat: Seat) -> None:
        await asyncio.sleep(self._chance.uniform(*RESTART_SECONDS))
        seat.process = await seat.start()

    async def _freeze(self) -> None:
        """One worker, so that it goes on with claims that are no longer its own."""
        await self._until(FREEZE_AT * self._seconds)
        while not (running := [seat for seat in self._seats if seat.process is not None]):
            await asyncio.sleep(0.05)
        seat = self._chance.choice(running)
        process, seat.process = seat.process, None  # nobody kills it meanwhile
        if process is None:
            return
        self._say(f"{seat.name}: frozen for {FREEZE_SECONDS:.0f} s")
        process.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(FREEZE_SECONDS)
        finally:
            process.signal(signal.SIGCONT)
        seat.process = process

    async def _flush(self) -> None:
        await self._until(FLUSH_AT * self._seconds)
        self._say("Redis: every key deleted")
        await self._place.flush_redis()

    async def _watch(self) -> None:
        while True:
            self._stack.check()
            await asyncio.sleep(0.5)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            counts = await self._counts()
            self._say(f"{self._kills} kills, {counts['succeeded']} of {sum(counts.values())} deliveries have succeeded")

    # --- after ---

    async def _delivered(self) -> float:
        """When no delivery was pending any more; or when waiting for it has lasted too long."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            at, counts = time.monotonic(), await self._counts()
            self._stack.check()
            if not counts["pending"] or at > deadline:
                return at
            await asyncio.sleep(0.2)

    async def _counts(self) -> Mapping[str, int]:
        rows = await self._fetch("SELECT state, count(*) AS count FROM deliveries GROUP BY state")
        return defaultdict(int, {row["state"]: row["count"] for row in rows})

    async def _fetch(self, query: str, *arguments: object) -> Sequence[Any]:
        connection = await asyncpg.connect(self._place.database_url)
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    async def _judge(self) -> Receipts:
        published = await asyncio.to_thread(read_journal, self._journal)
        if len(published) != self._messages:
            raise StackError(f"the journal tells of {len(published)} committed messages, not {self._messages}")
        answer = await self._client.get(f"{self._receiver_url}/_storm/arrivals")
        arrivals = [Arrival(**one) for one in answer.raise_for_status().json()]
        recorded = [
            Recorded(
                endpoint=self._endpoints[public(ENDPOINT, row["endpoint_id"])],
                id=public(MESSAGE, row["message_id"]),
                state=row["state"],
                attempt_count=row["attempt_count"],
                statuses=tuple(row["statuses"]),
            )
            for row in await self._fetch(_RECORDED)
        ]
        found = judge(published, self._listeners, arrivals, recorded, ordered=ORDERED)
        failed = sum(not one.is_acknowledged for one in arrivals)
        say(f"  compared   {len(recorded)} deliveries, {len(arrivals)} requests, {failed} of which the receiver failed")
        return found

    # --- saying and waiting ---

    def _say(self, what: str) -> None:
        say(f"  {time.monotonic() - self._began:5.0f} s    {what}")

    async def _until(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, self._began + moment - time.monotonic()))


def read_journal(journal: Path) -> dict[str, Published]:
    """What the publisher knows to be committed."""
    published: dict[str, Published] = {}
    for line in journal.read_text().splitlines():
        told = loads(line)
        if told["is_committed"]:
            for id_, calendar, digest in told["messages"]:
                published[id_] = Published(told["project"], calendar, digest)
    return published
