"""Graph's successful answers: JSON with its content type and the headers that every answer carries."""

from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response

from sandbox.microsoft.errors import mark_of
from sandbox.microsoft.preferences import Preferences
from sandbox.microsoft.render import METADATA, Json

JSON = "application/json; odata.metadata=minimal; odata.streaming=true; IEEE754Compatible=false; charset=utf-8"
_DIAGNOSTIC = (
    '{"ServerInfo":{"DataCenter":"Germany West Central","Slice":"E","Ring":"5","ScaleUnit":"001",'
    '"RoleInstance":"FR1PEPF000013BA8"}}'
)


def reply(body: Json, *, status: int = 200, prefs: Preferences | None = None) -> Response:
    """A JSON answer, with the preferences that were honoured."""
    headers = {"Cache-Control": "private"}
    if prefs is not None and prefs.applied:
        headers["Preference-Applied"] = ", ".join(prefs.applied)
    return Response(orjson.dumps(body), status, headers, media_type=JSON)


def stamp(answer: Response, request: Request) -> Response:
    """Put the request's ids on an answer, whatever it is."""
    mark = mark_of(request)
    answer.headers["request-id"] = mark.request_id
    answer.headers["client-request-id"] = mark.client_request_id
    answer.headers["x-ms-ags-diagnostic"] = _DIAGNOSTIC
    return answer


def context(email: str, path: str) -> str:
    """`@odata.context` of something in a user's mailbox."""
    return f"{METADATA}#users('{quote(email, safe='')}')/{path}"


def here(request: Request) -> str:
    """The URL of the request without its query, on the origin that the client used."""
    return str(request.url.replace(query=None, fragment=None))
