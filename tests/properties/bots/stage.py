"""One example with bots: three people's calendars, launchers, back ends on a socket, and what their owner asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.bots.checking import AHEAD
from app.bots.launchers import Kind
from app.ids import BOT, parse
from app.providers.base import Platform
from sandbox.backends.book import Bot as There
from tests.harness import listen
from tests.properties.bots.worker import BotWorker
from tests.properties.ground import Ground
from tests.properties.stage import Stage
from tests.properties.watching import Watch
from tests.properties.worker import Worker

Json = dict[str, Any]
IDS = ("punctual_bot_id", "punctual_revision")
SOON = timedelta(milliseconds=20)
MOMENTS = 60
"""So many times a worker has a turn while time passes; then it is not there for the rest."""
KEPT_SECONDS = 3.0
"""A hand-over may wait two seconds for the look before it."""

_MOMENT = f"""
SELECT min(t.at) FROM (
    SELECT b.due_at AS at FROM bots b
    UNION ALL SELECT b.lease_until FROM bots b WHERE b.lease_until IS NOT NULL
    UNION ALL SELECT b.due_at - {AHEAD} FROM bots b WHERE b.state = 'scheduled' AND b.calendar_id IS NOT NULL
    UNION ALL SELECT b.join_at - {AHEAD} FROM bots b
               WHERE b.state IN ('scheduled', 'launching', 'launched') AND b.calendar_id IS NOT NULL
    UNION ALL SELECT app_now() + interval '2 seconds' FROM bots b
               WHERE b.due_at <= app_now() AND (b.lease_until IS NULL OR b.lease_until <= app_now())
    UNION ALL SELECT b.transfer_since + interval '30 seconds' FROM bots b
    UNION ALL SELECT greatest(s.due_at, s.not_before) FROM sync_state s
               WHERE s.requested_seq > s.synced_seq AND s.not_before < 'infinity'
    UNION ALL SELECT d.next_attempt_at FROM deliveries d WHERE d.state = 'pending'
) t WHERE t.at > app_now()
"""
_BOTS = """
SELECT b.*, coalesce(l.kind, 'webhook') AS kind, coalesce(l.hand_over_seconds, 60) AS hand_over, app_now() AS now,
       EXISTS (SELECT FROM bot_events e WHERE e.bot_id = b.id
                   AND e.type IN ('withdrawal_refused', 'change_refused')) AS is_given_up,
       (SELECT max(e.at) FROM bot_events e WHERE e.bot_id = b.id
           AND e.type IN ('created', 'changed', 'moved', 'link_changed', 'restored',
                          'transferred', 'released')) AS told_at,
       v.platform_uuid AS cell, v.ical_uid, CAST(v.content AS json) ->> 'original_start_time' AS original_start
  FROM bots b
  LEFT JOIN calendar_events v ON v.id = b.calendar_event_id
  LEFT JOIN launchers d ON d.project_id = b.project_id AND d.is_default AND d.deleted_at IS NULL
  LEFT JOIN launchers l ON l.id = CASE WHEN b.handed_revision IS NOT NULL OR b.starting_since IS NOT NULL
                                       THEN b.handed_to ELSE coalesce(b.launcher_id, d.id) END
 ORDER BY b.created_at, b.id
"""


@dataclass(slots=True)
class Wish:
    """A bot that its owner asked for, by what was answered to them: on an event, or with link and time."""

    id: str
    key: str | None
    watch: Watch | None
    cell: str | None
    """The event's id at the provider."""
    link: str | None = None
    join_at: datetime | None = None
    is_removed: bool = False


class BotStage(Stage):
    """Everything of one example."""

    def __init__(self, ground: Ground, platform: Platform, kinds: tuple[Kind | None, Kind]) -> None:
        super().__init__(ground, platform)
        self.kinds = kinds
        self.wishes: dict[str, Wish] = {}
        self.launchers: list[Json] = []
        self.gone: list[Watch] = []
        """Calendars that were deleted here."""
        self.calm_since: datetime
        """Since when nothing hinders a launch: neither faults nor deaths nor the want of a worker."""
        self.problems: list[str] = []
        """What was seen to be wrong in the middle of a step."""
        self._live: set[str] | None = None
        self._been: set[str] = set()
        self.is_alone = True
        """Whether nobody but the worker that launches changes bots meanwhile."""

    # --- making ---

    def hire(self, name: str) -> Worker:
        """A worker that is not open yet."""
        return BotWorker(name, self._noted, self._launching)

    async def connect(self, *, is_shared: bool) -> None:
        """Three people, a calendar each; two launchers, of which the first is the default."""
        del is_shared
        self.calm_since = self.now()
        url = await self._stack.enter_async_context(listen(self.sandbox.app))
        for place, kind in enumerate(self.kinds):
            if kind is None:
                continue
            known = {} if kind == "webhook" else {"base_url": url, "api_key": f"{kind}-key"}
            body = {"kind": kind, "name": kind, "is_default": place == 0, **known}
            self.launchers.append(await self.actor.call("POST", "/launchers", json=body, expect=201))
        for _ in range(3):
            account = self.actor.new_account()
            connected = await self.actor.connect(account)
            self.watches.append(Watch(connected, "owner"))
            self.chronicle.roles[connected.remote_id, account.email] = {"owner"}

    # --- the bots ---

    async def bots(self) -> list[Any]:
        """Every bot's row, the kind of its launcher and when it is to be handed over."""
        async with self.rt.db.reading() as tx:
            return list(await tx.rows(_BOTS))

    def there(self, bot_id: str) -> list[There]:
        """What the back ends ever made for a bot."""
        return [one for one in self.sandbox.bots.bots.values() if ids_of(one)[0] == bot_id]

    async def _launching(self, worker: BotWorker) -> None:
        """A worker is about to launch: what is not live now must not be started by it."""
        del worker
        self.judge_starts()
        async with self.rt.db.reading() as tx:
            rows = await tx.rows("SELECT id FROM bots WHERE state IN ('scheduled', 'launching', 'launched')")
        self._live = {str(row.id) for row in rows}
        self._been = set(self.sandbox.bots.bots)

    def judge_starts(self) -> None:
        """Nothing was started for a bot that was no longer live when its worker began to launch."""
        if self._live is None:
            return
        for bot in self.sandbox.bots.bots.values():
            if bot.id not in self._been and str(parse(BOT, ids_of(bot)[0])) not in self._live and self.is_alone:
                self.problems.append(f"[launched] {ids_of(bot)} was started, and was not live")
        self._live = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """While another worker changes bots, nobody can say what was live when one began to launch."""
        self.is_alone = False
        yield
        self.judge_starts()
        self.is_alone = True

    # --- workers and time ---

    async def let_do(self, which: int, work: Any, *, fuse: int | None = None) -> int:
        """Something that a worker does."""
        before = self.workers[which]
        done = await super().let_do(which, work, fuse=fuse)
        if self.workers[which] is not before:
            self.is_troubled()
        return done

    def is_troubled(self) -> None:
        """Something may have kept a launch, until now."""
        self.calm_since = self.now() + timedelta(milliseconds=1)

    @property
    def is_calm(self) -> bool:
        """Whether nothing hinders any launch now."""
        keys = self.sandbox.bots.keys
        return not self.sandbox.faults.active and all(f"{kind}-key" in good for kind, good in keys.items())

    async def attend(self, span: timedelta, *, most: int = MOMENTS) -> None:
        """Let time pass with a worker at hand: it has a turn whenever something becomes due."""
        until = self.now() + span
        for _ in range(most):
            if not self.is_calm:
                self.is_troubled()
            async with self.rt.db.reading() as tx:
                at = await tx.scalar(_MOMENT)
            if at is None or at > until:
                break
            await self.pass_time(max(at - self.now(), timedelta()) + SOON)
            await self.quiesce()
        else:
            self.is_troubled()
        await self.pass_time(max(until - self.now(), timedelta()))
        await self.quiesce()

    async def neglect(self, span: timedelta) -> None:
        """Let time pass without any worker."""
        await self.pass_time(span)
        self.is_troubled()

    # --- access ---

    async def revoke_one(self, watch: Watch) -> None:
        """The person's grants end."""
        self.sandbox.world.revoke(watch.connected.account)
        watch.may_disconnect = True

    async def reconnect(self) -> None:
        """A new grant for each calendar that may need one."""
        for watch in self.watches:
            if watch.may_disconnect:
                await self.reconnect_one(watch)

    async def reconnect_one(self, watch: Watch) -> None:
        """A new grant."""
        token = self.sandbox.world.issue_refresh_token(watch.connected.account)
        await self.actor.call("PATCH", f"/calendars/{watch.connected.id}", json={"refresh_token": token})

    async def delete_calendar(self, watch: Watch) -> None:
        """The owner has it no longer connected."""
        await self.actor.call("DELETE", f"/calendars/{watch.connected.id}", expect=204)
        self.watches.remove(watch)
        self.gone.append(watch)

    def keys(self, kind: str, *, are_good: bool) -> None:
        """A back end takes the launcher's key, or does not."""
        good = self.sandbox.bots.keys
        if kind in good:
            good[kind].clear()
            good[kind].update({f"{kind}-key"} if are_good else set())
        self.is_troubled()

    async def repair(self) -> None:
        """Nothing goes wrong any more, and whoever lost access has it again."""
        for kind in self.sandbox.bots.keys:
            self.keys(kind, are_good=True)
        await super().repair()
        self.is_troubled()


STATES = {"scheduled", "launching", "launched"}
"""The live ones of our bots."""
LIVE = {"scheduled", "settling", "joined"}
"""Those of a back end's."""


def ids_of(bot: There) -> tuple[str, int]:
    """Which bot of ours it is, and which revision of it started it."""
    tags = bot.options.get("metadata") or bot.options.get("extra") or {}
    return str(tags.get(IDS[0])), int(tags.get(IDS[1], 0))
