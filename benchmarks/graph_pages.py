"""The same provider in Graph's shape: pages rendered beforehand for the window, a delta round, one changed event."""

from datetime import UTC, datetime, timedelta

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

DELTA_PAGE = 200
PAGE = 1_000
CALENDAR = "AAMkADbench="
_BODY = "<html><body><div>" + "Agenda: numbers, questions, next steps. " * 8 + "</div></body></html>"


def event(number: int, *, name: str = "Planning") -> dict[str, object]:
    """One timed single event in Graph's shape, about 2 kB, inside the window for any number up to 100,000."""
    start = datetime.now(UTC).replace(microsecond=0, tzinfo=None) + timedelta(hours=1, seconds=20 * number)
    person = {"name": "Owner", "address": "owner@example.com"}
    return {
        "@odata.etag": f'W/"bench{number}=="',
        "id": f"AAkALgbench{number:06d}=",
        "createdDateTime": "2026-03-12T07:26:49.1234567Z",
        "lastModifiedDateTime": "2026-03-12T07:26:49.1464567Z",
        "changeKey": f"bench{number}==",
        "originalStartTimeZone": "W. Europe Standard Time",
        "originalEndTimeZone": "W. Europe Standard Time",
        "iCalUId": f"040000008200E00074C5B7101A82E008{number:06d}",
        "uid": f"040000008200E00074C5B7101A82E008{number:06d}",
        "subject": f"{name} {number}",
        "bodyPreview": "Agenda: numbers, questions, next steps.",
        "importance": "normal",
        "sensitivity": "normal",
        "isAllDay": False,
        "isCancelled": False,
        "isOrganizer": True,
        "seriesMasterId": None,
        "showAs": "busy",
        "type": "singleInstance",
        "webLink": f"https://outlook.office365.com/owa/?itemid=bench{number:06d}",
        "onlineMeetingUrl": None,
        "responseStatus": {"response": "organizer", "time": "0001-01-01T00:00:00Z"},
        "body": {"contentType": "html", "content": _BODY},
        "start": {"dateTime": f"{start.isoformat()}.0000000", "timeZone": "UTC"},
        "end": {"dateTime": f"{(start + timedelta(minutes=30)).isoformat()}.0000000", "timeZone": "UTC"},
        "location": {"displayName": "Room 4", "locationType": "default"},
        "recurrence": None,
        "attendees": [
            {
                "type": "required",
                "status": {"response": "none", "time": "0001-01-01T00:00:00Z"},
                "emailAddress": {"name": f"Guest {n}", "address": f"guest{n}@example.com"},
            }
            for n in range(4)
        ],
        "organizer": {"emailAddress": person},
        "onlineMeeting": {"joinUrl": "https://teams.microsoft.com/l/meetup-join/19%3ameeting_YmVuY2g%40thread.v2/0"},
    }


class Graph:
    """Microsoft's side of the provider."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._events = [event(n) for n in range(count)]
        self._rendered: dict[tuple[int, int], bytes] = {}
        self._renames = 0
        self._was_listed = False

    def routes(self) -> list[Route]:
        """What a client asks for."""
        view = "/v1.0/me/calendars/{calendar}/calendarView"
        return [
            Route("/common/oauth2/v2.0/token", self._token, methods=["POST"]),
            Route("/v1.0/me", self._me),
            Route("/v1.0/me/calendar", self._calendar),
            Route(view, self._view),
            Route(f"{view}/delta", self._delta),
        ]

    async def _token(self, _: Request) -> Response:
        grant = {"access_token": "eyJbench", "expires_in": 3599, "token_type": "Bearer", "scope": "Calendars.Read"}
        return _json({**grant, "refresh_token": "0.AXbench"})

    async def _me(self, _: Request) -> Response:
        return _json({"id": "1", "mail": "owner@example.com", "userPrincipalName": "owner@example.com"})

    async def _calendar(self, _: Request) -> Response:
        return _json({"id": CALENDAR, "name": "Calendar", "isDefaultCalendar": True, "canEdit": True})

    async def _view(self, request: Request) -> Response:
        self._was_listed = self._count > PAGE
        return self._page(request, PAGE, {})

    async def _delta(self, request: Request) -> Response:
        url = str(request.url).partition("?")[0]
        if "$deltatoken" not in request.query_params:
            return self._page(request, DELTA_PAGE, {"@odata.deltaLink": f"{url}?$deltatoken=0"})
        # Directly after a listing of several pages nothing has changed; asked for later, one event has.
        self._renames += 1
        changed = [] if self._was_listed else [event(0, name=f"Renamed {self._renames}")]
        self._was_listed = False
        return _json({"value": changed, "@odata.deltaLink": f"{url}?$deltatoken={self._renames}"})

    def _page(self, request: Request, size: int, last: dict[str, object]) -> Response:
        skip = int(request.query_params.get("$skip", "0"))
        if (size, skip) not in self._rendered:
            following = {"@odata.nextLink": f"{str(request.url).partition('?')[0]}?$skip={skip + size}"}
            more = following if skip + size < self._count else last
            self._rendered[size, skip] = orjson.dumps({"value": self._events[skip : skip + size], **more})
        return Response(self._rendered[size, skip], media_type="application/json")


def first_pages(origin: str, count: int) -> list[str]:
    """The addresses of the pages that a first sync fetches: the delta round, and the window."""
    view = f"{origin}/v1.0/me/calendars/{CALENDAR}/calendarView"
    delta = [f"{view}/delta?$skip={skip}" for skip in range(0, count, DELTA_PAGE)]
    return delta + [f"{view}?$skip={skip}" for skip in range(0, count, PAGE)]


def _json(value: object) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
