"""The whole of it: connect two hundred calendars, edit them under the storm, and compare when it is over."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from json import loads

import httpx

from demo.application import EVENTS_UPDATE, Application, Json, Message
from demo.processes import ROOT, Stack, http
from demo.telling import say
from storm import servers
from storm.edits import Editor, History
from storm.follower import Follower, steadily
from storm.provider import ACCOUNTS, RemoteCalendar, Users
from storm.verdict import Judgement, judge
from storm.weather import Weather

LOGS = ROOT / ".punctual" / "logs" / "storm"
SETTINGS = {
    "RATE_LIMIT_READS_PER_MINUTE": "0",
    "RATE_LIMIT_WRITES_PER_MINUTE": "0",
    # Lost pushes and lost claims are made good within seconds instead of minutes or hours.
    "POLL_INTERVAL_SECONDS": "15",
    "AUDIT_INTERVAL_SECONDS": "15",
    "SYNC_LEASE_SECONDS": "5",
    "DELIVERY_TIMEOUT_SECONDS": "3",
    "DELIVERY_RETRY_SECONDS": ",".join(["1", "2", "3", *["5"] * 40]),
}
WORKERS = 2
EDITORS = 5
EDITS_PER_SECOND = 25
SINGLES = 6
"""Events that each calendar begins with, beside a series."""
CONNECT_SECONDS = 120.0
RECOVERY_SECONDS = 180.0
SETTLED_SECONDS = 20.0
"""How long it must stay right: every calendar is audited once more meanwhile."""
AT_ONCE = 6
PROGRESS_SECONDS = 15.0
SHOWN_FLAWS = 25


@dataclass(frozen=True, slots=True)
class Connected:
    """A calendar on both sides: at the provider, and its id in the API."""

    remote: RemoteCalendar
    id: str


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of the last line."""

    edits: int
    kills: int
    judgement: Judgement
    duplicates: int
    is_delivered: bool
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, stale or invented, and nothing is left to deliver."""
        return self.judgement.holds and self.is_delivered

    def __str__(self) -> str:
        found = self.judgement
        return (
            f"storm: {self.edits} edits, {self.kills} kills, lost {len(found.lost)}, stale {len(found.stale)},"
            f" invented {len(found.invented)}, duplicates {self.duplicates}, recovered in {self.seconds:.0f} s"
        )


async def storm(*, seed: int, seconds: float) -> bool:
    """The whole storm; whether everything was right. Raises StackError and what the servers raise."""
    began = time.monotonic()
    say(f"The storm: seed {seed}, {seconds:.0f} s, {2 * 2 * ACCOUNTS} calendars at two providers.")
    for log in LOGS.glob("*.log"):
        log.unlink()
    async with servers.temporary() as place:
        async with Stack(
            database_url=place.database_url, redis_url=place.redis_url, logs=LOGS, settings=SETTINGS
        ) as stack:
            await stack.start(workers=WORKERS)
            say(f"  processes  API, {WORKERS} workers, PostgreSQL, Redis, sandbox: in {time.monotonic() - began:.0f} s")
            key = str(loads(await stack.punctual("projects", "create", "storm", "--json"))["api_key"])
            async with http() as client:
                application = Application(client, api_url=stack.api_url, sink_url=stack.sink_url, key=key)
                users = Users(client, stack.sandbox_url)
                result = await Storm(stack, place, users, application, client, seed=seed, seconds=seconds).run()
    for name in ("lost", "stale", "invented"):
        flaws = getattr(result.judgement, name)
        for flaw in flaws[:SHOWN_FLAWS]:
            say(f"  {name.upper()}: {flaw}")
        if len(flaws) > SHOWN_FLAWS:
            say(f"  {name.upper()}: and {len(flaws) - SHOWN_FLAWS} more")
    if not result.is_delivered:
        say("  UNDONE: deliveries are left that have not succeeded")
    if not result.holds:
        say(f"  logs of every process: {LOGS.relative_to(ROOT)}/")
    say(f"  everything started here is stopped; {time.monotonic() - began:.0f} s in all; again with SEED={seed}")
    say(str(result))
    return result.holds


class Storm:
    """One storm, on a stack that runs."""

    def __init__(
        self,
        stack: Stack,
        place: servers.Servers,
        users: Users,
        application: Application,
        client: httpx.AsyncClient,
        *,
        seed: int,
        seconds: float,
    ) -> None:
        self._stack = stack
        self._users = users
        self._application = application
        self._client = client
        self._seed = seed
        self._seconds = seconds
        self._place = place
        self._follower = Follower(application)
        self._secret = ""
        self._edits = 0
        self._read = 0
        self._history: History = {}
        self._messages: dict[str, dict[str, Message]] = {}
        """The acknowledged ones by calendar and id."""
        self._acknowledged: Counter[str] = Counter()
        self._truth: dict[str, list[Json]] = {}

    async def run(self) -> Result:
        """Connect, edit, recover, compare."""
        editors, remotes = await self._fill()
        calendars = await self._connect(remotes)
        weather = Weather(
            self._stack,
            self._place,
            self._users,
            calendars=remotes,
            receive=self._receive,
            seconds=self._seconds,
            seed=self._seed,
        )
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(work) for work in (self._follower.follow(), self._tell(weather), self._watch())]
            for editor in editors:
                group.create_task(self._keep_editing(editor))
            await weather.blow()
            calm = time.monotonic()
            for other in others:
                other.cancel()
        rate = self._edits / self._seconds
        kept = "" if rate > 0.97 * EDITS_PER_SECOND else f", {EDITS_PER_SECOND} were meant: the machine was too busy"
        say(f"  edited     {self._edits} edits, {rate:.1f} a second{kept}")
        judgement, is_delivered, recovered = await self._recover(calendars)
        duplicates = sum(count - 1 for count in self._acknowledged.values())
        return Result(self._edits, weather.kills, judgement, duplicates, is_delivered, recovered - calm)

    # --- before ---

    async def _fill(self) -> tuple[list[Editor], list[RemoteCalendar]]:
        """Accounts, and what their calendars have before anybody connects them."""
        began = time.monotonic()
        remotes = [
            calendar
            for provider in ("google", "microsoft")
            for number in range(ACCOUNTS)
            for calendar in await self._users.add_account(provider, number)
        ]
        pairs = [remotes[i : i + 2] for i in range(0, len(remotes), 2)]
        editors = [
            Editor(
                self._users,
                [calendar for pair in pairs[number::EDITORS] for calendar in pair],
                self._history,
                number=number,
                seed=self._seed,
            )
            for number in range(EDITORS)
        ]
        await asyncio.gather(*(editor.fill(singles=SINGLES) for editor in editors))
        say(f"  filled     {len(self._history)} events and series in {time.monotonic() - began:.0f} s")
        return editors, remotes

    async def _connect(self, remotes: Sequence[RemoteCalendar]) -> list[Connected]:
        began = time.monotonic()
        endpoint = await self._application.subscribe()
        self._secret = endpoint["secret"]
        slots = asyncio.Semaphore(AT_ONCE)

        async def connect(remote: RemoteCalendar) -> Connected:
            async with slots:
                return Connected(remote, await self._application.connect(remote.credentials, platform_uuid=remote.id))

        calendars = await asyncio.gather(*(connect(remote) for remote in remotes))

        async def are_followed() -> bool:
            await self._look()
            answers = await self._listing("/calendars")
            watched = sum(bool(one["health"]["push"]["active"]) for one in answers)
            return watched == len(remotes) == sum(bool(self._messages.get(one.id)) for one in calendars)

        await self._stack.until(are_followed, seconds=CONNECT_SECONDS, what="each calendar's first message and channel")
        say(f"  connected  {len(calendars)} calendars, each with a push channel, in {time.monotonic() - began:.0f} s")
        return calendars

    async def _listing(self, path: str) -> list[Json]:
        page = await self._application.call("GET", path, query={"limit": 100})
        found = list(page["results"])
        while page["next"] is not None:
            page = await self._application.call("GET", page["next"])
            found += page["results"]
        return found

    # --- during ---

    async def _keep_editing(self, editor: Editor) -> None:
        """At an even pace; what was missed while the machine was busy is made good."""
        began, done, pause = time.monotonic(), 0, EDITORS / EDITS_PER_SECOND
        while time.monotonic() - began < self._seconds:
            try:
                await editor.edit()
            except httpx.TransportError:
                await asyncio.sleep(1)  # where the sandbox has ended, that is the better answer: `_watch` gives it
                raise
            self._edits += 1
            done += 1
            await asyncio.sleep(max(0.0, began + done * pause - time.monotonic()))

    async def _tell(self, weather: Weather) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            await self._look()
            passed = time.monotonic() - began
            say(
                f"  {passed:5.0f} s    {self._edits} edits ({self._edits / passed:.1f} a second), {weather.kills}"
                f" kills, {len(self._acknowledged)} messages acknowledged"
            )

    async def _watch(self) -> None:
        while True:
            self._stack.check()
            await asyncio.sleep(0.5)

    async def _receive(self, status: int) -> None:
        body = {"secrets": [self._secret], "statuses": [status]}
        url = f"{self._stack.sink_url}/_sink/hooks/demo"
        (await self._client.put(url, json=body)).raise_for_status()

    async def _look(self) -> None:
        await self._application.look()
        attempts = self._application.attempts
        for one in attempts[self._read :]:
            if one.is_acknowledged and one.trigger == EVENTS_UPDATE and one.calendar_id is not None:
                self._acknowledged[one.id] += 1
                self._messages.setdefault(one.calendar_id, {}).setdefault(one.id, one)
        self._read = len(attempts)

    # --- after ---

    async def _recover(self, calendars: Sequence[Connected]) -> tuple[Judgement, bool, float]:
        """Until every calendar is right and every delivery done; then once more, later, for all of them.

        The last judgement, whether everything was delivered, and when all was right for the first time.
        """
        now = datetime.now(UTC)
        span = (now - timedelta(days=1) + timedelta(minutes=10), now + timedelta(days=28))
        deadline = time.monotonic() + RECOVERY_SECONDS
        waiting, told = list(calendars), time.monotonic()
        for one in calendars:
            self._truth[one.id] = await self._users.instances(one.remote.id, *span)
        while True:
            right_at = time.monotonic()
            self._stack.check()
            waiting = [one for one, found in await self._judge(waiting, span) if not found.holds]
            if (not waiting and await self._is_delivered()) or right_at > deadline:
                break
            if right_at - told > PROGRESS_SECONDS:
                told = right_at
                say(f"  waiting    {len(waiting)} of {len(calendars)} calendars are not right yet")
            await asyncio.sleep(0.5)
        if not waiting:
            await asyncio.sleep(SETTLED_SECONDS)
        await steadily(self._follower.look)
        final = Judgement()
        for one, found in await self._judge(calendars, span, is_last=True):
            for flaws in (found.lost, found.stale, found.invented):
                flaws[:] = [f"{one.remote.provider} {one.id}: {flaw}" for flaw in flaws]
            final.add(found)
        for state in await steadily(partial(self._listing, "/calendars")):
            if state["state"] != "connected":
                final.lost.append(f"{state['id']} is {state['state']}: {state['connection_failure_data']}")
        compared = sum(len(shown) for shown in self._truth.values())
        told_changes = sum(len(m.data["events"]) for of in self._messages.values() for m in of.values())
        say(f"  compared   {compared} events, {told_changes} changes in {len(self._acknowledged)} messages")
        return final, await self._is_delivered(), right_at

    async def _judge(
        self, calendars: Sequence[Connected], span: tuple[datetime, datetime], *, is_last: bool = False
    ) -> list[tuple[Connected, Judgement]]:
        await self._look()
        slots = asyncio.Semaphore(AT_ONCE)

        async def one_of(one: Connected) -> tuple[Connected, Judgement]:
            async with slots:
                listed = await steadily(partial(self._application.events, one.id))
            messages = list(self._messages.get(one.id, {}).values())
            shown = self._truth[one.id]
            found = judge(one.remote, listed=listed, shown=shown, span=span, messages=messages, history=self._history)
            if is_last:
                found.lost += self._follower.missed(listed)
            return one, found

        return await asyncio.gather(*(one_of(one) for one in calendars))

    async def _is_delivered(self) -> bool:
        for state in ("pending", "failed"):
            query = {"state": state, "limit": 1}
            call = partial(self._application.call, "GET", "/webhook_deliveries", query=query)
            if (await steadily(call))["results"]:
                return False
        return True
