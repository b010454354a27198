"""Answers as bytes: embedded JSON and responses without a second pass over the data."""

from collections.abc import Mapping, Sequence
from typing import Final

import orjson
from starlette.responses import Response

JsonObject = dict[str, object]

NOT_KEPT: Final = {"Cache-Control": "no-store"}
"""Headers of an answer that holds a secret."""


def embedded(text: str | bytes | None) -> orjson.Fragment | None:
    """JSON text of the database as part of an answer, without parsing it."""
    return orjson.Fragment(text) if text is not None else None


def answer(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(
        orjson.dumps(content, option=orjson.OPT_UTC_Z),
        status_code=status,
        media_type="application/json",
        headers=headers,
    )


def page_answer(
    results: Sequence[str], *, next_url: str | None, previous_url: str | None, position: int | None = None
) -> Response:
    """A page of objects that are JSON text already."""
    links = orjson.dumps({"next": next_url, "previous": previous_url}).decode()
    more = "" if position is None else f',"position":{position}'
    content = f'{links[:-1]},"results":[{",".join(results)}]{more}}}'
    return Response(content.encode(), media_type="application/json")
