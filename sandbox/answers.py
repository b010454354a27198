"""JSON answers."""

import orjson
from starlette.responses import Response


def reply(body: object, *, status: int = 200) -> Response:
    """A JSON answer as Google sends it."""
    return Response(orjson.dumps(body), status, media_type="application/json; charset=UTF-8")
