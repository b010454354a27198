"""A provider whose pages are rendered beforehand: what is measured is Punctual, not the sandbox.

Runs as a process of its own (`python -m benchmarks.pages PORT COUNT`), so that its work is not charged to ours.
Every listing of the window answers the same `COUNT` events in one page, one with a sync token a single renamed event.
"""

import sys
from datetime import UTC, datetime, timedelta

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks import graph_pages

SCOPE = "https://www.googleapis.com/auth/calendar.readonly"


def event(number: int, *, name: str = "Planning") -> dict[str, object]:
    """One timed event in Google's shape, about 1.5 kB, inside the window for any number up to 100,000."""
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1, seconds=20 * number)
    return {
        "kind": "calendar#event",
        "etag": f'"{3546600818292318 + number}"',
        "id": f"bench{number:06d}",
        "status": "confirmed",
        "htmlLink": f"https://www.google.com/calendar/event?eid=bench{number:06d}",
        "created": "2026-03-12T07:26:49.000Z",
        "updated": "2026-03-12T07:26:49.146Z",
        "summary": f"{name} {number}",
        "description": "Agenda: numbers, questions, next steps. " * 8,
        "location": "Room 4",
        "creator": {"email": "owner@example.com", "self": True},
        "organizer": {"email": "owner@example.com", "self": True},
        "start": {"dateTime": start.isoformat(), "timeZone": "Europe/Berlin"},
        "end": {"dateTime": (start + timedelta(minutes=30)).isoformat(), "timeZone": "Europe/Berlin"},
        "iCalUID": f"bench{number:06d}@google.com",
        "sequence": 0,
        "attendees": [
            {"email": f"guest{n}@example.com", "displayName": f"Guest {n}", "responseStatus": "needsAction"}
            for n in range(4)
        ],
        "hangoutLink": "https://meet.google.com/abc-defg-hij",
        "reminders": {"useDefault": True},
        "eventType": "default",
    }


def listing(items: list[dict[str, object]], token: str) -> bytes:
    """A last page."""
    page = {"kind": "calendar#events", "summary": "Bench", "timeZone": "Europe/Berlin", "accessRole": "owner"}
    return orjson.dumps({**page, "items": items, "nextSyncToken": token})


def app(count: int) -> Starlette:
    """The provider."""
    window = listing([event(n) for n in range(count)], "token-0")
    renames = 0

    async def token(_: Request) -> Response:
        return _json({"access_token": "ya29.bench", "expires_in": 3599, "token_type": "Bearer", "scope": SCOPE})

    async def userinfo(_: Request) -> Response:
        return _json({"sub": "1", "email": "owner@example.com", "email_verified": True})

    async def calendar(_: Request) -> Response:
        return _json({"kind": "calendar#calendar", "id": "owner@example.com", "timeZone": "Europe/Berlin"})

    async def events(request: Request) -> Response:
        nonlocal renames
        if "syncToken" not in request.query_params:
            return Response(window, media_type="application/json")
        renames += 1
        item = event(0, name=f"Renamed {renames}")
        return Response(listing([item], f"token-{renames}"), media_type="application/json")

    return Starlette(
        routes=[
            Route("/token", token, methods=["POST"]),
            Route("/oauth2/v3/userinfo", userinfo),
            Route("/calendar/v3/calendars/{calendar}", calendar),
            Route("/calendar/v3/calendars/{calendar}/events", events),
            *graph_pages.Graph(count).routes(),
        ]
    )


def _json(value: object) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(app(int(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
