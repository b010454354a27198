"""`make herd`: what a hundred thousand calendars do to their providers' quotas, and to each other, on a virtual clock.

Two hours without an answer from any provider, then every push channel to be opened anew within the hour, while users go
on editing. The decisions are the product's own: the backoff, the meter of quotas with its queue, the shares of the
burst, the intervals and their jitter, what goes first. Storage and network are modelled: rows are objects, an answer
takes a quarter of a second, and the workers' places are one pool. The provider of the model counts on its own, in
sliding windows, whether a quota was exceeded.
"""

import argparse
import heapq
import random
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from app.providers.meter import GRANTED, Meter, Rate
from app.scheduling import BACKSTOP_SECONDS
from app.settings import Settings
from app.sync.settle import backoff
from workers.dispatch import APP_SHARE
from workers.sweeps import AT_ONCE, MINUTE

ANSWER_SECONDS = 0.25
PLACES = 4 * 40
"""Four workers."""
CHANGES_A_DAY = 20
BEGIN, END = 3600.0, 3 * 3600.0
"""Of the outage."""
EXPIRY = (END, END + 3600.0)
"""When every channel ends; half of its life ended during the outage."""
USER_QUOTA, APP_QUOTA = 600, 10_000
"""Requests a minute that the provider of the model (Google) allows."""


@dataclass(slots=True, eq=False)
class _Calendar:
    app: str
    user: str
    expires_at: float
    asked_at: float | None = None
    """Since when a push waits to be served."""
    due_at: float = 0.0
    not_before: float = 0.0
    is_requested: bool = False
    is_running: bool = False
    failures: int = 0
    backstop_at: float = 0.0
    watch_at: float = 0.0
    watch_failures: int = 0


@dataclass(slots=True)
class _Window:
    """Requests of the last minute, and the most there ever were."""

    at: deque[float] = field(default_factory=deque)
    peak: int = 0

    def add(self, now: float) -> None:
        self.at.append(now)
        while self.at[0] <= now - 60:
            self.at.popleft()
        self.peak = max(self.peak, len(self.at))


@dataclass(slots=True)
class Result:
    """What came of it; seconds where the name does not say otherwise."""

    calendars: int
    requests: int
    drained: float
    """From the end of the outage until nothing was due that had been due then, and every channel was open."""
    push_wait: float
    """The longest that a push, from the end of the outage on, waited for its answer."""
    small_app_wait: float
    """The same in apps that are small beside the largest."""
    fresh_wait: float
    """The 99th percentile for calendars that had not failed in the outage."""
    backstop_wait: float
    app_peak: int
    user_peak: int
    exceeded: int


class Herd:
    """The model. Everything happens in order of its time; nothing takes real time."""

    def __init__(self, *, calendars: int, seed: int) -> None:
        self._chance = random.Random(seed)
        self._settings = Settings(database_url="postgresql://", redis_url="redis://")
        self.app_quota = APP_QUOTA
        self.now = 0.0
        self._meter = Meter(lambda: self.now)
        self._rates = (
            Rate.per_minute(self._settings.google_user_quota_per_minute),
            Rate.per_minute(self._settings.google_app_quota_per_minute),
        )
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._ready: dict[str, tuple[list[_Entry], list[_Entry]]] = {}
        self._holding: Counter[str] = Counter()
        self._busy = 0
        self._users: defaultdict[str, _Window] = defaultdict(_Window)
        self._apps: defaultdict[str, _Window] = defaultdict(_Window)
        self._requests = 0
        self._push_waits: list[tuple[float, str, bool]] = []
        self._backstop_wait = 0.0
        self._left: set[_Calendar] = set()
        self._unwatched: set[_Calendar] = set()
        self._drained = 0.0
        self._all = [self._make(n, calendars) for n in range(calendars)]
        self._largest = Counter(calendar.app for calendar in self._all).most_common(1)[0][0]

    def _make(self, number: int, count: int) -> _Calendar:
        """Half of all calendars are one app's, the others' are fifty apps'; each hundredth user has fifty."""
        app = "largest" if number < count // 2 else f"app {number % 50}"
        user = f"collector {number // 50}" if number % 5_000 < 50 else f"user {number}"
        made = _Calendar(app, user, expires_at=self._chance.uniform(*EXPIRY))
        if app not in self._ready:
            self._ready[app] = ([], [])
        self._schedule(made, self._chance.uniform(0, self._settings.audit_interval_seconds))
        return made

    def run(self) -> Result:
        """Until an hour after the last channel's end."""
        self._at(0.0, self._push_somebody)
        self._at(END, self._count_left)
        self._at(0.0, self._keep_channels)
        while self._events and self._events[0][0] < EXPIRY[1] + 3600:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        waits = sorted(wait for wait, _, is_fresh in self._push_waits if is_fresh)
        return Result(
            calendars=len(self._all),
            requests=self._requests,
            drained=self._drained - END if not (self._left or self._unwatched) else float("inf"),
            push_wait=max((wait for wait, *_ in self._push_waits), default=0.0),
            small_app_wait=max((w for w, app, _ in self._push_waits if app != self._largest), default=0.0),
            fresh_wait=waits[len(waits) * 99 // 100] if waits else 0.0,
            backstop_wait=self._backstop_wait,
            app_peak=max(window.peak for window in self._apps.values()),
            user_peak=max(window.peak for window in self._users.values()),
            exceeded=sum(w.peak > self.app_quota for w in self._apps.values())
            + sum(w.peak > USER_QUOTA for w in self._users.values()),
        )

    def _at(self, moment: float, happen: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (moment, self._number, happen))

    def _is_away(self) -> bool:
        return BEGIN <= self.now < END

    # --- requests for a sync ---

    def _push_somebody(self) -> None:
        """A user edits; without a live channel nobody is told, and during the outage nobody edits or tells."""
        calendar = self._chance.choice(self._all)
        if not self._is_away() and calendar.expires_at > self.now:
            self._ask(calendar)
        self._at(self.now + self._chance.expovariate(len(self._all) * CHANGES_A_DAY / 86_400), self._push_somebody)

    def _ask(self, calendar: _Calendar) -> None:
        if calendar.asked_at is None:
            calendar.asked_at = self.now
        calendar.is_requested = True
        calendar.due_at = self.now + self._settings.sync_quiet_seconds
        self._enqueue(calendar)

    def _schedule(self, calendar: _Calendar, seconds: float) -> None:
        """The next look that the clock asks for."""
        calendar.backstop_at = due = self.now + seconds

        def ask() -> None:
            if calendar.backstop_at == due and not calendar.is_requested:
                calendar.is_requested = True
                calendar.due_at = self.now
                self._enqueue(calendar)

        self._at(due, ask)

    def _enqueue(self, calendar: _Calendar) -> None:
        if not calendar.is_running:
            self._at(max(self.now, calendar.due_at, calendar.not_before), lambda: self._line_up(calendar))

    def _line_up(self, calendar: _Calendar) -> None:
        ready = max(calendar.due_at, calendar.not_before)
        if calendar.is_requested and not calendar.is_running and ready <= self.now:
            self._number += 1
            which = 0 if calendar.asked_at is not None else 1
            heapq.heappush(self._ready[calendar.app][which], (ready, self._number, calendar))
            self._look()

    # --- runs ---

    def _look(self) -> None:
        """`scheduling.due_calendars`: what is asked for first, the app with the fewest runs first."""
        while self._busy < PLACES:
            best: tuple[bool, int, float] | None = None
            line: list[_Entry] = []
            for app, lines in self._ready.items():
                if self._holding[app] >= PLACES * APP_SHARE:
                    continue
                for which, entries in enumerate(lines):
                    if entries:
                        waits = which == 1 and entries[0][2].due_at > self.now - BACKSTOP_SECONDS
                        turn = (waits, self._holding[app], entries[0][0])
                        if best is None or turn < best:
                            best, line = turn, entries
            if best is None:
                return
            calendar = heapq.heappop(line)[2]
            if calendar.is_requested and not calendar.is_running:
                self._start(calendar)

    def _start(self, calendar: _Calendar) -> None:
        calendar.is_running, calendar.is_requested = True, False
        self._busy += 1
        self._holding[calendar.app] += 1
        asked_at, due_at = calendar.asked_at, calendar.due_at
        self._request(
            calendar,
            is_backstop=asked_at is None and self.now - due_at < BACKSTOP_SECONDS,
            refused=lambda after: self._refused(calendar, after),
            answered=lambda is_ok: self._answered(calendar, is_ok, asked_at, due_at),
        )

    def _request(
        self,
        calendar: _Calendar,
        *,
        is_backstop: bool,
        refused: Callable[[float], None],
        answered: Callable[[bool], None],
    ) -> None:
        keys = (f"{calendar.app} {calendar.user}", calendar.app)
        verdict = self._meter.acquire(keys, self._rates, is_backstop=is_backstop)
        if verdict.outcome != GRANTED:
            self._at(self.now + 0.005, lambda: refused(verdict.wait * self._chance.uniform(1.0, 1.1)))
            return

        def send() -> None:
            self._requests += 1
            self._users[keys[0]].add(self.now)
            self._apps[keys[1]].add(self.now)
            is_ok = not self._is_away()
            self._at(self.now + ANSWER_SECONDS, lambda: answered(is_ok))

        self._at(self.now + verdict.wait, send)

    def _end(self, calendar: _Calendar) -> None:
        calendar.is_running = False
        self._busy -= 1
        self._holding[calendar.app] -= 1
        if calendar.is_requested:
            self._enqueue(calendar)
        self._look()

    def _refused(self, calendar: _Calendar, after: float) -> None:
        calendar.not_before = self.now + after
        calendar.is_requested = True
        self._end(calendar)

    def _answered(self, calendar: _Calendar, is_ok: bool, asked_at: float | None, due_at: float) -> None:
        settings = self._settings
        if not is_ok:
            wait = backoff(calendar.failures, base=settings.retry_base_seconds, most=settings.retry_max_seconds)
            calendar.failures += 1
            calendar.not_before, calendar.is_requested = self.now + wait, True
            self._end(calendar)
            return
        if self.now >= END:
            if asked_at is not None:
                self._push_waits.append((self.now - max(asked_at, END), calendar.app, calendar.failures == 0))
            else:
                self._backstop_wait = max(self._backstop_wait, self.now - max(due_at, END))
        calendar.failures, calendar.not_before = 0, 0.0
        if asked_at is not None and calendar.asked_at == asked_at and not calendar.is_requested:
            calendar.asked_at = None
        self._forget(self._left, calendar)
        self._schedule(calendar, self._regular(calendar))
        self._end(calendar)

    def _regular(self, calendar: _Calendar) -> float:
        settings, jitter = self._settings, self._chance.uniform(0.75, 1.25)
        if calendar.expires_at > self.now:
            return min(jitter * settings.audit_interval_seconds, calendar.expires_at - self.now + 1)
        return jitter * settings.poll_interval_seconds

    # --- channels ---

    def _count_left(self) -> None:
        self._left = {calendar for calendar in self._all if calendar.is_requested or calendar.is_running}
        self._unwatched = {calendar for calendar in self._all if calendar.expires_at <= EXPIRY[1]}

    def _forget(self, which: set[_Calendar], calendar: _Calendar) -> None:
        if self.now >= END and calendar in which:
            which.discard(calendar)
            if not self._left and not self._unwatched:
                self._drained = self.now

    def _keep_channels(self) -> None:
        """`workers.sweeps.keep_channels`: every minute, the soonest end first, ten calls at once in each worker."""
        wanting = [c for c in self._all if c.expires_at <= EXPIRY[1] and c.watch_at <= self.now]
        if self.now < BEGIN:  # half of their life ends during the outage
            wanting = []
        wanting.sort(key=lambda calendar: -calendar.expires_at)
        under_way = 0

        def more() -> None:
            nonlocal under_way
            while wanting and under_way < 4 * AT_ONCE:
                under_way += 1
                self._open(wanting.pop(), ended)
            if not wanting and not under_way:
                self._at(self.now + MINUTE, self._keep_channels)

        def ended() -> None:
            nonlocal under_way
            under_way -= 1
            more()

        more()

    def _open(self, calendar: _Calendar, ended: Callable[[], None]) -> None:
        def refused(after: float) -> None:
            calendar.watch_at = self.now + after
            ended()

        def answered(is_ok: bool) -> None:
            if is_ok:
                was_live = calendar.expires_at > self.now
                calendar.expires_at = self.now + 7 * 86_400
                self._forget(self._unwatched, calendar)
                if was_live:
                    self._schedule(calendar, 0.0)
                else:
                    self._ask(calendar)
            else:
                calendar.watch_at = self.now + backoff(calendar.watch_failures, base=60.0, most=900.0)
                calendar.watch_failures += 1
            ended()

        self._request(calendar, is_backstop=True, refused=refused, answered=answered)


_Entry = tuple[float, int, _Calendar]


def main(arguments: list[str] | None = None) -> None:
    """Print what came of it; exit status 1 where a quota was exceeded or the backlog did not drain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calendars", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    result = Herd(calendars=given.calendars, seed=given.seed).run()
    sys.stdout.write(
        f"herd: {result.calendars:,} calendars, {result.requests:,} requests, seed {given.seed}\n"
        f"  drained                         {result.drained:8.0f} s after the outage, every channel open\n"
        f"  a push waited at most           {result.push_wait:8.1f} s ({result.fresh_wait:.1f} s at p99 where the"
        f" calendar had not failed)\n"
        f"  in a small app at most          {result.small_app_wait:8.1f} s\n"
        f"  backstop work waited at most    {result.backstop_wait:8.1f} s\n"
        f"  requests a minute, peak of app  {result.app_peak:8,} of {APP_QUOTA:,}\n"
        f"  requests a minute, peak of user {result.user_peak:8,} of {USER_QUOTA:,}\n"
        f"  quotas exceeded                 {result.exceeded:8}\n"
    )
    if result.exceeded or result.drained == float("inf"):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
