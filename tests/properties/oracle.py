"""What the API has to show of the sandbox's world: written from the API's documentation, sharing no code with `app`.

`expected` is one cell of a calendar as a customer sees it. `Chronicle` knows what each cell was at any earlier moment,
so that whatever was shown or announced can be held against what really happened.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sandbox import series
from sandbox.model import Account, Event, Instance, Moment, Role
from sandbox.world import World

Json = dict[str, Any]
Span = tuple[datetime, datetime]

_ANSWERS = {"needsAction": "needs_action", "declined": "declined", "tentative": "tentative", "accepted": "accepted"}
_PRIVATE = {"private", "confidential"}
_MARGIN = timedelta(minutes=5)


def shown(row: Json) -> Json:
    """What is compared of an event of the API."""
    compared = {
        name: row[name]
        for name in (
            "name",
            "description",
            "location",
            "status",
            "visibility",
            "transparency",
            "is_all_day",
            "start_time",
            "end_time",
            "start_date",
            "end_date",
            "series_id",
            "own_response_status",
            "meeting_url",
        )
    }
    return compared | {"answers": {one["email"]: one["response_status"] for one in row["attendees"]}}


def expected(cell: Instance, world: World, account: Account, role: Role) -> Json:
    """The same of a cell of the world, for an account with this role."""
    calendar = world.calendar(cell.calendar_id)
    zone = ZoneInfo(calendar.time_zone)
    is_google = account.provider == "google"
    hidden = _hidden_name(cell, role, is_google=is_google)
    is_hidden = hidden is not None
    link = cell.conference
    url = link.url if link is not None and not link.pending and not is_hidden else None
    return {
        "name": (hidden or None) if is_hidden else (cell.title or None),
        "description": None if is_hidden else _description(cell, url, is_google=is_google),
        "location": None if is_hidden else cell.location,
        "status": _status(cell, is_google=is_google),
        "visibility": _visibility(cell, is_google=is_google, is_hidden=is_hidden),
        "transparency": "transparent" if _is_free(cell, is_google=is_google) else "opaque",
        "is_all_day": cell.is_all_day,
        "start_time": _instant(cell.start, zone),
        "end_time": _instant(cell.end, zone),
        "start_date": cell.start.isoformat() if cell.is_all_day else None,
        "end_date": cell.end.isoformat() if cell.is_all_day else None,
        "series_id": cell.series_id,
        "own_response_status": None if is_hidden else _own_answer(cell, world, is_google=is_google),
        "meeting_url": url,
        "answers": {} if is_hidden else {one.email: _ANSWERS[one.response] for one in cell.attendees},
    }


def _description(cell: Instance, url: str | None, *, is_google: bool) -> str | None:
    """Outlook has a field for links to Teams alone; others stand at the end of the text."""
    if is_google or url is None or (cell.conference is not None and cell.conference.kind == "teams"):
        return cell.description
    return f"{cell.description}\n{url}" if cell.description else url


def _hidden_name(cell: Instance, role: Role, *, is_google: bool) -> str | None:
    """What stands for the title where details are hidden; None where they are not."""
    if role == "freeBusyReader":
        return "" if is_google else "Busy"
    if role not in {"reader", "writerWithoutPrivateAccess"}:
        return None
    if is_google:
        return "" if cell.visibility in _PRIVATE else None
    return "Private Appointment" if cell.visibility == "private" else None


def _status(cell: Instance, *, is_google: bool) -> str:
    if is_google:
        return cell.status
    if cell.called_off:
        return "cancelled"
    return "tentative" if cell.status == "tentative" and cell.transparency == "opaque" else "confirmed"


def _visibility(cell: Instance, *, is_google: bool, is_hidden: bool) -> str:
    if is_google:
        return "private" if is_hidden else cell.visibility
    return cell.visibility if cell.visibility in _PRIVATE else "default"


def _is_free(cell: Instance, *, is_google: bool) -> bool:
    return cell.transparency == "transparent" or (not is_google and cell.called_off)


def _own_answer(cell: Instance, world: World, *, is_google: bool) -> str | None:
    calendar = world.calendar(cell.calendar_id)
    mine = calendar.owner if not is_google or calendar.kind == "primary" else calendar.id
    if not is_google and cell.attendees and cell.organizer is not None and cell.organizer.email == mine:
        return "accepted"
    answers = {one.email: _ANSWERS[one.response] for one in cell.attendees}
    return answers.get(mine, None if is_google or not answers else "needs_action")


def _instant(moment: Moment, zone: ZoneInfo) -> str:
    at = moment if isinstance(moment, datetime) else datetime.combine(moment, time(), zone)
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")


class Chronicle:
    """Every state that every cell ever had."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.roles: dict[tuple[str, str], set[Role]] = {}
        """By calendar and e-mail address: every role that somebody ever had."""

    def had(self, calendar_id: str, account: Account, row: Json) -> bool:
        """Whether the calendar once showed the account exactly this."""
        start, end = (datetime.fromisoformat(row[name]) for name in ("start_time", "end_time"))
        span = (start - _MARGIN, end + _MARGIN)
        wanted = shown(row)
        roles = self.roles[calendar_id, account.email]
        for versions in self._world.versions[calendar_id].values():
            if versions[0].id not in {row["platform_uuid"], row["series_id"]}:
                continue
            for version in reversed(versions):
                cell = self._cell(version, row["platform_uuid"], span)
                if cell is not None and any(expected(cell, self._world, account, role) == wanted for role in roles):
                    return True
        return False

    def was(self, calendar_id: str, row: Json, window: Span, seqs: tuple[int, int], *, there: bool) -> bool:
        """Whether the window held (or lacked) this cell at some moment between two numbers of the log, both included.

        Close to the window's edges it may count as either.
        """
        margin = -_MARGIN if there else _MARGIN
        span = (window[0] + margin, window[1] - margin)
        return any(is_there is there for is_there in self._presence(calendar_id, row, span, seqs))

    def _presence(self, calendar_id: str, row: Json, span: Span, seqs: tuple[int, int]) -> Iterator[bool]:
        first, last = seqs
        found = False
        for versions in self._world.versions[calendar_id].values():
            if versions[0].id not in {row["platform_uuid"], row["series_id"]}:
                continue
            found = True
            if versions[0].seq > first:
                yield False
            ends = [version.seq for version in versions[1:]] + [last + 1]
            for version, end in zip(versions, ends, strict=True):
                if version.seq <= last and end > first:
                    yield self._cell(version, row["platform_uuid"], span) is not None
        if not found:
            yield False

    def _cell(self, version: Event, uuid: str, span: Span) -> Instance | None:
        if not version.is_live:
            return None
        zone = ZoneInfo(self._world.calendar(version.calendar_id).time_zone)
        for cell in series.within(version, *span, zone):
            if cell.event_id == uuid and cell.live and cell.status != "cancelled":
                return cell
        return None
