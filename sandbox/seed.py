"""Plausible calendars, two at Google and two at Microsoft: what the demo and `make run` begin with.

The same number gives the same calendars.
"""

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sandbox.model import Account, Attendee, Calendar, Conference, EventDraft, Provider
from sandbox.world import World

_TITLES = ("Planning", "Review", "Interview", "Design", "Budget", "1:1", "Retrospective", "Workshop", "Demo", "Triage")
_PEOPLE = ("ana", "ben", "chloe", "dmitri", "elif", "farah", "george", "hana")
_ZONES = ("Europe/Berlin", "America/New_York")
_DOMAINS: dict[Provider, tuple[str, str]] = {
    "google": ("sandbox.example", "sandbox.example"),
    "microsoft": ("contoso.example", "outlook.com"),
}


def seed(
    world: World, *, count: int = 100, number: int = 1, providers: Sequence[Provider] = ("google",)
) -> dict[str, Any]:
    """Two accounts at each provider, each with a calendar of about `count` entries between yesterday and four weeks on.

    At Microsoft one of them works for an organisation, the other is personal.
    """
    accounts = []
    for provider in providers:
        chance = random.Random(number)
        accounts += [_account(world, provider, index, chance, count=count) for index in range(len(_ZONES))]
    return {"accounts": accounts}


def _account(world: World, provider: Provider, index: int, chance: random.Random, *, count: int) -> dict[str, Any]:
    email = f"user{len(world.accounts) + 1}@{_DOMAINS[provider][index]}"
    account = world.add_account(email, provider=provider, time_zone=_ZONES[index])
    calendar = world.calendar(account.calendar_id)
    _fill(world, account, calendar, chance, count=count - 10 * (1 + index))
    return {
        "email": account.email,
        "provider": account.provider,
        "calendar_id": calendar.id,
        "client_id": account.client_id,
        "client_secret": account.client_secret,
        "refresh_token": account.refresh_token,
    }


def _fill(world: World, account: Account, calendar: Calendar, chance: random.Random, *, count: int) -> None:
    zone = ZoneInfo(calendar.time_zone)
    today = world.clock.now().astimezone(zone).date()
    for number in range(count):
        day = today + timedelta(days=chance.randint(0, 27))
        start = _at(day, 8 + chance.randint(0, 9), zone)
        world.create_event(
            calendar.id,
            EventDraft(
                title=f"{chance.choice(_TITLES)} {number + 1}",
                start=start,
                end=start + timedelta(minutes=chance.choice((15, 30, 45, 60, 90))),
                attendees=_guests(account, chance),
                **_link(chance, account),
            ),
        )
    for number in range(4):
        day = today + timedelta(days=chance.randint(0, 25))
        world.create_event(
            calendar.id, EventDraft(title=f"Out of office {number + 1}", start=day, end=day + timedelta(days=1))
        )
    _weekly(world, account, calendar, today, zone)


def _weekly(world: World, account: Account, calendar: Calendar, today: date, zone: ZoneInfo) -> None:
    """A series that has run since before the last change of clocks, with one occurrence moved and one cancelled."""
    first = _at(today - timedelta(days=240), 10, zone)
    team = world.create_event(
        calendar.id,
        EventDraft(
            title="Team weekly",
            start=first,
            end=first + timedelta(minutes=45),
            time_zone=zone.key,
            recurrence=("RRULE:FREQ=WEEKLY",),
            conference=_meeting(account, "abc-defg-hij", 2_345_678_901),
        ),
    )
    coming = world.instances(calendar.id, world.clock.now(), world.clock.now() + timedelta(days=28))
    starts = sorted(
        i.original_start for i in coming if i.series_id == team.id and isinstance(i.original_start, datetime)
    )
    moved = starts[1] + timedelta(hours=3)
    world.update_instance(calendar.id, team.id, starts[1], start=moved, end=moved + timedelta(minutes=45))
    world.cancel_instance(calendar.id, team.id, starts[2])


def _at(day: date, hour: int, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(hour), zone).astimezone(UTC)


def _guests(account: Account, chance: random.Random) -> tuple[Attendee, ...]:
    names = chance.sample(_PEOPLE, chance.randint(0, 4))
    if not names:
        return ()
    answers = ("accepted", "needsAction", "tentative", "declined")
    guests = [Attendee(f"{name}@guests.example", name.title(), chance.choice(answers)) for name in names]
    if account.provider == "microsoft":  # whose lists do not name the organiser
        return tuple(guests)
    return (Attendee(account.email, None, "accepted", organizer=True), *guests)


def _meeting(account: Account, code: str, number: int) -> Conference:
    """A meeting of the provider's own kind."""
    if account.provider == "microsoft":
        return Conference("teams", f"https://teams.microsoft.com/meet/{number}?p=Zq{number % 9973}")
    return Conference("meet", f"https://meet.google.com/{code}")


def _link(chance: random.Random, account: Account) -> dict[str, Any]:
    number = chance.randint(10**9, 10**10 - 1)
    match chance.randint(0, 4):
        case 0:
            letters = "".join(chance.choice("abcdefghijkmnpqrstuvwxyz") for _ in range(10))
            code = f"{letters[:3]}-{letters[3:7]}-{letters[7:]}"
            return {"conference": _meeting(account, code, number)}
        case 1 if account.provider == "google":
            return {"conference": Conference("zoom", f"https://us02web.zoom.us/j/{number}?pwd=abc{number % 997}")}
        case 2:
            return {"location": f"https://teams.microsoft.com/meet/{number}?p=Zq{number % 9973}"}
        case 3:
            return {"description": f"Join Zoom Meeting\nhttps://us06web.zoom.us/j/{number}?pwd=x{number % 991}"}
        case _:
            return {"location": "Room 4"}
