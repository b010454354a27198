"""A meeting at the provider: in the calendar of everybody who is invited, as an event with one iCalendar uid."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from demo.provider import Json, Provider
from demo.story import Connected

GUEST = {"email": "ana@guests.example", "name": "Ana"}


class Meeting:
    """One meeting, which its organizer changes in all calendars at once."""

    def __init__(self, provider: Provider, title: str, invited: Sequence[Connected], *, url: str) -> None:
        self._provider = provider
        self.title = title
        self.invited = tuple(invited)
        self.url = url
        self.ical_uid = f"{uuid4()}@meetings.example"
        self.remote_ids: Mapping[str, str] = {}
        """The provider's id of the event in each calendar, by the calendar's id in the API."""

    async def create(self, start: datetime) -> None:
        """An hour from `start` on, the link in its location."""
        organizer = self.invited[0]
        draft = {
            "title": self.title,
            "location": self.url,
            "ical_uid": self.ical_uid,
            "organizer": {"email": organizer.account.email, "name": organizer.person},
            **_hour(start),
        }
        self.remote_ids = {
            one.id: await self._provider.create(one.account.calendar_id, attendees=self._guests(one), **draft)
            for one in self.invited
        }

    def _guests(self, calendar: Connected) -> list[Json]:
        """Google's list names the organizer, Outlook's does not."""
        organizer = self.invited[0]
        told = {"email": organizer.account.email, "name": organizer.person, "response": "accepted", "organizer": True}
        others = [{"email": one.account.email, "name": one.person} for one in self.invited[1:]]
        return [*([told] if calendar.account.provider == "google" else []), *others, GUEST]

    async def move(self, start: datetime) -> None:
        """To another hour."""
        await self._update(**_hour(start))

    async def put_elsewhere(self, url: str) -> None:
        """Another link."""
        self.url = url
        await self._update(location=url)

    async def cancel(self, calendars: Sequence[Connected]) -> None:
        """Take it out of these calendars."""
        for one in calendars:
            await self._provider.delete(one.account.calendar_id, self.remote_ids[one.id])

    async def _update(self, **changes: object) -> None:
        for one in self.invited:
            await self._provider.update(one.account.calendar_id, self.remote_ids[one.id], **changes)


def _hour(start: datetime) -> dict[str, str]:
    return {"start": start.isoformat(), "end": (start + timedelta(hours=1)).isoformat()}
