"""What happens at the provider in the demo: each kind of edit once, a burst, and an edit whose push gets lost.

`edits()` makes them one after the other; whoever iterates waits for what an edit leads to before the next one.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic_ns

from demo.application import Application, Json
from demo.provider import Account, Provider

BURST = 40
_BURST_KINDS = ("renamed", "rescheduled", "relocated", "deleted")
CLOCK_SERIES = "Sailing club"


@dataclass(frozen=True, slots=True)
class Connected:
    """A calendar on both sides: the account at the provider, and its id in the API."""

    account: Account
    id: str

    @property
    def label(self) -> str:
        """Where the calendar is."""
        return self.account.provider

    @property
    def person(self) -> str:
        """Whose calendar."""
        return self.account.email.partition("@")[0]


@dataclass(frozen=True, slots=True)
class Edit:
    """One or several edits that belong together: what was done, and what has to be told about each provider's id.

    An expectation is `created`, `deleted`, or the kind that an update must have.
    """

    calendar: Connected
    what: str
    expected: dict[str, str]
    is_push_lost: bool = False


@dataclass(frozen=True, slots=True)
class ClockSeries:
    """A weekly series that began before the last change of its zone's clocks."""

    id: str
    first: datetime

    def told(self, event: Json) -> str:
        """A line about it and one of its occurrences in the API."""
        before, now = self.first.astimezone(UTC), datetime.fromisoformat(event["start_time"])
        return (
            f'"{CLOCK_SERIES}", weekly at {self.first:%H:%M} {event["time_zone"]} since {_on(self.first)}:'
            f" then {before:%H:%M} UTC, since the clocks changed {now:%H:%M} UTC"
        )


async def add_clock_series(provider: Provider, account: Account) -> ClockSeries:
    """A series across the last change of clocks, with one occurrence renamed."""
    zone, now = account.zone, datetime.now(UTC)
    today = now.astimezone(zone).date()
    changed_on = today
    while _offset(changed_on - timedelta(days=1), account) == _offset(today, account):
        changed_on -= timedelta(days=1)
    first = datetime.combine(changed_on - timedelta(days=10), time(9), zone)
    series_id = await provider.create(
        account.calendar_id,
        title=CLOCK_SERIES,
        start=first.isoformat(),
        end=(first + timedelta(minutes=90)).isoformat(),
        time_zone=zone.key,
        recurrence=["RRULE:FREQ=WEEKLY"],
    )
    coming = [i for i in await _coming(provider, account) if i["series_id"] == series_id]
    original = coming[-1]["original_start"]
    await provider.update_occurrence(account.calendar_id, series_id, original, title=f"{CLOCK_SERIES}, with guests")
    return ClockSeries(series_id, first)


class Story:
    """The edits, on calendars of both providers."""

    def __init__(self, provider: Provider, application: Application, calendars: Sequence[Connected]) -> None:
        self._provider = provider
        self._application = application
        self._calendars = calendars
        self._spare: dict[str, list[Json]] = {}

    async def edits(self) -> AsyncGenerator[Edit, None]:
        """Every edit of the demo, at one provider and then at the other; each is made when it is asked for."""
        for calendar in self._calendars:
            coming = await _coming(self._provider, calendar.account)
            self._spare[calendar.id] = [i for i in coming if i["series_id"] is None and "T" in i["start"]]
        for edit in (
            self._create,
            self._rename,
            self._move,
            self._move_occurrence,
            self._cancel_occurrence,
            self._cancel,
            self._delete_series,
            self._burst,
        ):
            for calendar in self._calendars:
                yield await edit(calendar)
        for calendar in self._calendars:
            try:
                yield await self._lose_a_push(calendar)
            finally:
                await self._provider.pushes("deliver")

    async def _create(self, calendar: Connected) -> Edit:
        account = calendar.account
        start = datetime.combine(datetime.now(account.zone).date() + timedelta(days=2), time(15), account.zone)
        made = await self._provider.create(
            account.calendar_id,
            title="Kick-off",
            start=start.isoformat(),
            end=(start + timedelta(hours=1)).isoformat(),
            attendees=[{"email": "ana@guests.example", "name": "Ana"}],
            conference=_CONFERENCES[account.provider],
        )
        return Edit(calendar, f'create "Kick-off", {_at(start)}', {made: "created"})

    async def _rename(self, calendar: Connected) -> Edit:
        event = self._spare[calendar.id].pop()
        await self._provider.update(calendar.account.calendar_id, event["event_id"], title="Renamed in passing")
        return Edit(calendar, f'rename "{event["title"]}"', {event["event_id"]: "renamed"})

    async def _move(self, calendar: Connected) -> Edit:
        event = self._spare[calendar.id].pop()
        await self._provider.update(calendar.account.calendar_id, event["event_id"], **_later(event, hours=2))
        return Edit(calendar, f'move "{event["title"]}" by 2 h', {event["event_id"]: "rescheduled"})

    async def _move_occurrence(self, calendar: Connected) -> Edit:
        account = calendar.account
        one = next(i for i in await _coming(self._provider, account) if i["title"] == CLOCK_SERIES)
        moved = _later(one, hours=4)
        await self._provider.update_occurrence(account.calendar_id, one["series_id"], one["original_start"], **moved)
        on = _on(datetime.fromisoformat(one["start"]))
        return Edit(calendar, f'move one "{one["title"]}" ({on}) by 4 h', {one["event_id"]: "rescheduled"})

    async def _cancel_occurrence(self, calendar: Connected) -> Edit:
        account = calendar.account
        one = [i for i in await _coming(self._provider, account) if i["title"] == CLOCK_SERIES][1]
        await self._provider.cancel_occurrence(account.calendar_id, one["series_id"], one["original_start"])
        on = _on(datetime.fromisoformat(one["start"]))
        return Edit(calendar, f'cancel one "{one["title"]}" ({on})', {one["event_id"]: "deleted"})

    async def _cancel(self, calendar: Connected) -> Edit:
        event = self._spare[calendar.id].pop()
        await self._provider.delete(calendar.account.calendar_id, event["event_id"])
        return Edit(calendar, f'cancel "{event["title"]}"', {event["event_id"]: "deleted"})

    async def _delete_series(self, calendar: Connected) -> Edit:
        account = calendar.account
        coming = await _coming(self._provider, account)
        series = next(i for i in coming if i["series_id"] is not None and not i["title"].startswith(CLOCK_SERIES))
        # Punctual keeps more than the four weeks that it promises: all that it shows of the series must go.
        listed = await self._application.events(calendar.id, series_id=series["series_id"], is_deleted="false")
        await self._provider.delete(account.calendar_id, series["series_id"])
        expected = {event["platform_uuid"]: "deleted" for event in listed}
        return Edit(calendar, f'delete the series "{series["title"]}"', expected)

    async def _burst(self, calendar: Connected) -> Edit:
        calendar_id = calendar.account.calendar_id
        expected: dict[str, str] = {}
        started = monotonic_ns()
        for number in range(BURST):
            event, kind = self._spare[calendar.id].pop(), _BURST_KINDS[number % len(_BURST_KINDS)]
            event_id = event["event_id"]
            expected[event_id] = kind
            if kind == "renamed":
                await self._provider.update(calendar_id, event_id, title=f"{event['title']}, take two")
            elif kind == "rescheduled":
                await self._provider.update(calendar_id, event_id, **_later(event, hours=1))
            elif kind == "relocated":
                await self._provider.update(calendar_id, event_id, location="Room 7")
            else:
                await self._provider.delete(calendar_id, event_id)
        within = (monotonic_ns() - started) / 1e9
        return Edit(calendar, f"{BURST} edits of {BURST} events within {within:.1f} s", expected)

    async def _lose_a_push(self, calendar: Connected) -> Edit:
        account = calendar.account
        event = self._spare[calendar.id].pop()
        await self._provider.pushes("drop")
        await self._provider.update(account.calendar_id, event["event_id"], title="Quiet change")
        what = f'rename "{event["title"]}"; its push gets lost'
        return Edit(calendar, what, {event["event_id"]: "renamed"}, is_push_lost=True)


_CONFERENCES = {
    "google": {"kind": "meet", "url": "https://meet.google.com/kic-koff-now"},
    "microsoft": {
        "kind": "teams",
        "url": "https://teams.microsoft.com/l/meetup-join/19%3ameeting_a2ljay1vZmY%40thread.v2/0",
    },
}


async def _coming(provider: Provider, account: Account) -> list[Json]:
    """What lies between three hours and four weeks ahead, earliest first: far enough that nothing begins meanwhile."""
    now = datetime.now(UTC)
    shown = await provider.instances(account.calendar_id, now + timedelta(hours=3), now + timedelta(days=27))
    return sorted(shown, key=lambda instance: (str(instance["start"]), str(instance["event_id"])))


def _later(event: Json, *, hours: int) -> Json:
    return {
        name: (datetime.fromisoformat(event[name]) + timedelta(hours=hours)).isoformat() for name in ("start", "end")
    }


def _offset(day: date, account: Account) -> timedelta | None:
    return datetime.combine(day, time(12), account.zone).utcoffset()


def _at(moment: datetime) -> str:
    return f"{_on(moment)} {moment:%H:%M}"


def _on(moment: datetime) -> str:
    return _day(moment.date())


def _day(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b}"
