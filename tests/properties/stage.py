"""One example: a world, an installation of API and two workers on a fresh database, and everything that is known of it.

The stage does what a rule asks for and keeps the record that the judgement needs: which run saw how much of the world,
what may have gone unheard, which calendars had a reason to disconnect.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from contextvars import Context
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import httpx
from redis.asyncio import Redis

from app import scheduling
from app.providers.base import Platform
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from sandbox import Sandbox
from sandbox.faults import Gate
from sandbox.model import Account, Change, Role
from tests.harness import Actor, LateTransport, application, new_project
from tests.properties.customer import Reader
from tests.properties.ground import Ground
from tests.properties.oracle import Chronicle
from tests.properties.trouble import CHANGES, Trouble
from tests.properties.watching import Run, Sync, Watch
from tests.properties.worker import Worker

LONGEST_RETRY = timedelta(days=2)
UNUSED = timedelta(days=80)
"""A grant of Microsoft that nobody used for ninety days is over."""


class Stage:
    """Everything of one example."""

    def __init__(self, ground: Ground, platform: Platform) -> None:
        self.ground = ground
        self.platform: Platform = platform
        self.sink = ground.receiver.sink
        self.watches: list[Watch] = []
        self.runs: list[Run] = []
        self.readers: list[Reader] = []
        self.tick = 0
        """Counts changes of the world, those too that its log does not know."""
        self.has_deferral = False
        self.journal: list[str] = []
        self.workers: list[Worker] = []
        self._made = 0
        self._refusals = 0
        self._bearable = len(Settings.model_fields["delivery_retry_seconds"].default)
        self._passed = timedelta()
        self._begun: dict[tuple[str, UUID], Run] = {}
        self._stack = AsyncExitStack()
        self.settings: Settings
        self.rt: Runtime
        self.actor: Actor
        self.chronicle: Chronicle

    async def open(self, *, start: timedelta, is_shared: bool) -> None:
        """Make all of it, connect the calendars, and let the first syncs happen."""
        enter = self._stack.enter_async_context
        self.settings = await self.ground.settings(self._stack)
        self.sink.received.clear()
        self.sink.hooks.clear()
        await self.wipe_redis()
        push = LateTransport()
        self.sandbox = Sandbox.create(push_client=await enter(httpx.AsyncClient(transport=push)))
        self._stack.push_async_callback(self.sandbox.close)
        self._providers = httpx.ASGITransport(self.sandbox.app)
        self.rt = await enter(open_runtime(self.settings, transport=self._providers))
        served = httpx.ASGITransport(application(self.rt))
        push.inner = served
        api = await enter(httpx.AsyncClient(transport=served, base_url="http://punctual.test"))
        project = await new_project(self.rt, "first")
        self.actor = Actor(self.rt, api, project, self.sandbox, self.ground.receiver, platform=self.platform)
        self.actor.advance(start)
        self.chronicle = Chronicle(self.sandbox.world)
        self.sandbox.world.on_change(self._changed)
        self.workers = [await self._new_worker(), await self._new_worker()]
        await self.actor.subscribe()
        await self.connect(is_shared=is_shared)
        await self.quiesce()

    async def connect(self, *, is_shared: bool) -> None:
        """Connect the calendars of this example."""
        world = self.sandbox.world
        account = self.actor.new_account()
        remote = [None, world.add_calendar(account, "Other", "Europe/Berlin").id]
        if is_shared:
            colleague = self.actor.new_account()
            # Days begin where the event was made (Outlook), or where the calendar is (Google): the latter can differ.
            zone = "America/New_York" if self.platform == "google" else "Europe/Berlin"
            remote.append(world.add_calendar(colleague, "Shared", zone).id)
            world.share(remote[-1] or "", account.email, "writer")
        for remote_id in remote:
            body = {} if remote_id is None else {"platform_uuid": remote_id}
            connected = await self.actor.connect(account, **body)
            role = world.calendar(connected.remote_id).acl[account.email]
            self.watches.append(Watch(connected, role))
            self.chronicle.roles[connected.remote_id, account.email] = {role}
            self.readers.append(Reader(self.actor, connected.id))
            self.readers.append(Reader(self.actor, connected.id, by_number=True))
        self.readers.append(Reader(self.actor, None))

    @property
    def account(self) -> Account:
        """The person whose calendars are connected."""
        return self.watches[0].connected.account

    async def close(self) -> None:
        """Give everything back."""
        for worker in self.workers:
            if not worker.is_dead:
                await worker.close()
        await self._stack.aclose()

    # --- the record ---

    def watch(self, remote_id: str) -> Watch | None:
        """The connected calendar of this id."""
        return next((one for one in self.watches if one.connected.remote_id == remote_id), None)

    def _changed(self, change: Change) -> None:
        self.tick += 1
        watch = self.watch(change.calendar_id)
        if watch is None:
            return
        is_live = any(channel.calendar_id == change.calendar_id for channel in self.actor.live())
        if not watch.is_watched or not is_live or self.sandbox.push.mode == "drop":
            watch.unheard = self.tick

    def changed_silently(self, watch: Watch) -> None:
        """Something changed that no provider pushes."""
        self.tick += 1
        watch.unheard = self.tick

    def _noted(self, worker: Worker, calendar_id: UUID, result: str) -> None:
        key = (worker.name, calendar_id)
        if result == "begun":
            run = Run(calendar_id, worker.rt.clock.now(), self.sandbox.world.seq, self.tick)
            self._begun[key] = run
            self.runs.append(run)
            return
        run = self._begun.pop(key)
        run.ended, run.last, run.result = worker.rt.clock.now(), self.sandbox.world.seq, result
        watch = next((one for one in self.watches if one.connected.key == calendar_id), None)
        if watch is not None and result == "synced" and run.first_tick >= watch.unheard:
            watch.unheard = -1

    async def state(self) -> dict[UUID, Sync]:
        """How the connected calendars stand in the database; notes the windows of the runs since."""
        async with self.rt.db.reading() as tx:
            rows = await tx.rows(
                "SELECT c.id, c.state, s.requested_seq > s.synced_seq AS is_due, s.failure_count > 0 AS is_failing,"
                " s.window_start, s.window_end, EXISTS (SELECT FROM push_channels p WHERE p.state = 'active'"
                " AND p.channel_key = c.channel_key AND p.expires_at > app_now()) AS has_channel"
                " FROM calendars c JOIN sync_state s ON s.calendar_id = c.id"
            )
        found = {
            row.id: Sync(
                row.state,
                bool(row.is_due),
                bool(row.is_failing),
                None if row.window_start is None else (row.window_start, row.window_end),
                bool(row.has_channel),
            )
            for row in rows
        }
        for run in self.runs:
            if run.window is None and run.ended is not None:
                run.window = found[run.calendar_id].window if run.calendar_id in found else None
        return found

    async def note_channels(self) -> None:
        """Remember who is told of changes, now that everything is quiet."""
        state = await self.state()
        live = {channel.calendar_id for channel in self.actor.live()}
        for watch in self.watches:
            sync = state[watch.connected.key]
            is_told = sync.has_channel and sync.state == "connected"
            watch.is_watched = is_told and watch.connected.remote_id in live

    # --- workers ---

    def hire(self, name: str) -> Worker:
        """A worker that is not open yet."""
        return Worker(name, self._noted)

    async def _new_worker(self) -> Worker:
        self._made += 1
        worker = self.hire(f"worker-{self._made}")
        await worker.open(self.settings, self._providers)
        worker.rt.clock.advance(self.rt.clock.offset)
        return worker

    async def let_work(self, which: int, *, fuse: int | None = None) -> int:
        """One pass of a worker; where its fuse burns down, another takes its place and finds its leases over."""
        return await self.let_do(which, self.workers[which].work, fuse=fuse)

    async def let_do(self, which: int, work: Any, *, fuse: int | None = None) -> int:
        """Something that a worker does."""
        worker = self.workers[which]
        done = await worker.do(work, fuse=fuse)
        if worker.is_dead:
            self.journal.append(f"  {worker.name} died")
            await self.replace(which)
        await self.state()
        return done

    async def replace(self, which: int) -> None:
        """A new worker where the old one died. The time that its leases take to end has passed, on the real clock."""
        old, self.workers[which] = self.workers[which], await self._new_worker()
        async with self.rt.db.transaction() as tx:
            await tx.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = :name AND datname = current_database()",
                {"name": old.name},
            )
        await self.end_leases()

    async def end_leases(self) -> None:
        """Leases of runs and of refreshes are over: those are told by the real clock."""
        async with self.rt.db.transaction() as tx:
            past = "clock_timestamp() - interval '1 second'"
            await tx.execute(f"UPDATE grants SET lease_until = {past} WHERE lease_until IS NOT NULL")
            await tx.execute(f"UPDATE sync_state SET lease_until = {past} WHERE lease_until IS NOT NULL")

    async def fresh_workers(self) -> None:
        """Restart both: what they kept in memory by the real clock (a provider's Retry-After) is over."""
        for which, worker in enumerate(self.workers):
            await worker.close()
            self.workers[which] = await self._new_worker()
        await self.wipe_redis()
        self.has_deferral = False

    async def wipe_redis(self) -> None:
        """FLUSHDB."""
        async with Redis.from_url(self.settings.redis_url) as redis:
            await redis.flushdb()

    # --- time ---

    async def pass_time(self, delta: timedelta) -> None:
        """Let time pass everywhere, and what is due by the clock be requested."""
        self.actor.advance(delta)
        self._passed += delta
        for watch in self.watches:
            watch.may_disconnect = watch.may_disconnect or self._passed > UNUSED
        for worker in self.workers:
            worker.rt.clock.advance(delta)
        if self.has_deferral:
            await self.fresh_workers()
        await self.end_leases()
        await scheduling.sweep(self.rt)

    async def quiesce(self) -> None:
        """Everything due is done, by both workers in turn."""
        for turn in range(80):
            await self.sandbox.push.idle()
            if not await self.let_work(turn % 2) and turn % 2:
                await self.note_channels()
                return
        raise AssertionError("there is always something due")

    def now(self) -> datetime:
        """What time it is."""
        return datetime.now(UTC) + self.rt.clock.offset

    async def at_once(self, *works: Any) -> list[Any]:
        """Several things at the same time."""
        return list(await asyncio.gather(*works))

    async def drain(self) -> None:
        """Let the time pass that deliveries wait for."""
        for _ in range(12):
            async with self.rt.db.reading() as tx:
                seconds = await tx.scalar(
                    "SELECT extract(epoch FROM max(next_attempt_at) - app_now()) FROM deliveries"
                    " WHERE state = 'pending'"
                )
            if seconds is None:
                return
            if seconds > LONGEST_RETRY.total_seconds():
                raise AssertionError(f"[delivery] one is due in {seconds} seconds only")
            await self.pass_time(timedelta(seconds=max(0.0, float(seconds)) + 1))
            await self.quiesce()
        raise AssertionError("[delivery] there is always one that waits")

    # --- what rules do ---

    async def share(self, watch: Watch, role: Role | None) -> None:
        """Change the person's role in a calendar; None ends the access."""
        calendar = watch.connected
        self.sandbox.world.share(calendar.remote_id, self.account.email, role)
        self.changed_silently(watch)
        if role is None:
            watch.may_disconnect = True
        else:
            watch.role = role
            self.chronicle.roles[calendar.remote_id, self.account.email].add(role)

    async def trouble(self, trouble: Trouble, times: int, after: int) -> None:
        """Switch its faults on."""
        for kind, where, params in trouble.faults:
            self.sandbox.faults.add(kind, where[self.platform], times=times, after=after, **params)
        self.has_deferral = self.has_deferral or trouble.is_deferral
        self._refusals += times if trouble.may_disconnect else 0
        for watch in self.watches:
            watch.is_lied_to = watch.is_lied_to or trouble.is_lie
            watch.may_disconnect = watch.may_disconnect or self._refusals > 1

    async def push_mode(self, mode: str, copies: int) -> None:
        """How notifications travel from now on; what was held stays held until it is released, in either order."""
        push = self.sandbox.push
        push.copies = copies
        if mode in {"release", "reverse"}:
            push.release(reverse=mode == "reverse")
        else:
            push.mode = "hold" if mode == "hold" else "drop" if mode == "drop" else "deliver"

    async def expire(self, watch: Watch) -> None:
        """The provider forgets its cursors."""
        self.sandbox.world.expire_sync_tokens(watch.connected.remote_id)

    async def refuse(self, status: int, *, times: int) -> None:
        """The receiver answers so, some times; in all fewer than a message is tried, so that none is given up."""
        times = min(times, self._bearable)
        self._bearable -= times
        self.sink.hook().statuses = [*([status] * times), 204]

    async def ask(self, watch: Watch, *, is_full: bool) -> None:
        """The customer asks for a sync."""
        body = {"full": True} if is_full else {}
        await self.actor.call("POST", f"/calendars/{watch.connected.id}/sync", json=body, expect=202)

    async def revoke(self) -> None:
        """Every grant of the person ends."""
        self.sandbox.world.revoke(self.account)
        for watch in self.watches:
            watch.may_disconnect = True

    async def reconnect(self) -> None:
        """A new grant for each calendar, and access to what was shared."""
        world = self.sandbox.world
        token = world.issue_refresh_token(self.account)
        for watch in self.watches:
            calendar = watch.connected
            if self.account.email not in world.calendar(calendar.remote_id).acl:
                await self.share(watch, "writer")
            await self.actor.call("PATCH", f"/calendars/{calendar.id}", json={"refresh_token": token})

    async def repair(self) -> None:
        """Nothing goes wrong any more, and whoever lost access has it again."""
        self.sandbox.faults.clear()
        self.sandbox.push.copies = 1
        self.sandbox.push.release()
        self.sink.hook().statuses = [204]
        await self.fresh_workers()
        if any(watch.may_disconnect for watch in self.watches):
            await self.reconnect()

    async def stray(self, which: int, calendar_id: UUID) -> int:
        """A job for a calendar, due or not."""
        await self.workers[which].sync(calendar_id)
        return 0

    async def _begin_run(self, watch: Watch) -> "tuple[asyncio.Task[int], Gate]":
        """A run of the first worker that stands still with its pages read, unless it did not come to that."""
        operation = CHANGES[self.platform]
        await self.ask(watch, is_full=False)
        gate = self.sandbox.faults.gate(operation)
        run = asyncio.create_task(self.let_do(0, partial(self.stray, 0, watch.connected.key)))
        reached = asyncio.create_task(gate.reached())
        await asyncio.wait([run, reached], return_when=asyncio.FIRST_COMPLETED)
        self.sandbox.faults.gates.pop(operation, None)
        reached.cancel()
        await asyncio.wait([reached])
        return run, gate

    async def hold_run(self, watch: Watch, edit: Callable[[], None], *, is_late: bool) -> None:
        """Stop a run when its pages are read, let something happen, perhaps another run too, and let it go on."""
        run, gate = await self._begin_run(watch)
        edit()
        await self.sandbox.push.idle()
        if is_late:
            await self.end_leases()
            await self.let_work(1)
        gate.release()
        await run

    async def hold_row(self, watch: Watch, read: Callable[[], Coroutine[Any, Any, None]], *, is_late: bool) -> None:
        """Stop an apply at its first lock or (late) at its last, while the others' runs commit and somebody reads."""
        mine = "pg_stat_activity WHERE datname = current_database()"
        waiting = f"SELECT count(*) FROM {mine} AND wait_event_type = 'Lock'"
        locked = "sync_state WHERE calendar_id" if is_late else "calendars WHERE id"
        run, gate = await self._begin_run(watch)
        async with self.rt.db.transaction() as tx:
            await tx.row(f"SELECT 1 FROM {locked} = :id FOR NO KEY UPDATE", {"id": watch.connected.key})
            gate.release()
            while not run.done() and not await tx.scalar(waiting):
                await tx.row("SELECT pg_stat_clear_snapshot()")
                await asyncio.sleep(0.005)
            for other in (one.connected.key for one in self.watches if one is not watch):
                await asyncio.create_task(self.let_do(1, partial(self.stray, 1, other)), context=Context())
            await asyncio.create_task(read(), context=Context())
        await run
