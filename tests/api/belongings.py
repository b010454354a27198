"""An object of each kind in one project, by the names under which requests refer to it."""

import re
from collections.abc import Iterator
from typing import Any

from app.ids import ENDPOINT, KEY, LAUNCHER, new_id, parse, public
from tests.api.rows import Rows, calendar_ref

Json = dict[str, Any]

ID = re.compile(r"(.*_)?ids?")
"""How a field of a body is named that names a stored object …"""
OF_OTHERS = {"client_id"}
"""… and fields named alike that name what is the provider's."""
ALIASES = {"rule/id": "rule_id"}
"""Fields of bodies that do not say themselves what they name."""
PLAIN = {
    "action",
    "after_seq",
    "all_occurrences",
    "at_gte",
    "at_lte",
    "created_at_gte",
    "created_at_lte",
    "cursor",  # has a walk of its own
    "end_time_gte",
    "end_time_lte",
    "exclude",
    "has_meeting_url",
    "is_deleted",
    "join_at_after",
    "join_at_before",
    "join_at_gte",
    "join_at_lte",
    "limit",
    "meeting_platform",
    "ordering",
    "platform",
    "start_time_gte",
    "start_time_lte",
    "state",
    "states",
    "status",
    "trigger",
    "updated_after",
    "updated_at_gte",
}
"""Query parameters that say nothing of one object. Whoever adds a parameter decides whether it stands here."""


def texts(tag: str) -> dict[str, str]:
    """What the project's objects are called, where they are asked for by something else than an id."""
    return {
        "meeting_url": f"https://meet.google.com/abc-defg-{tag[:3]}",
        "calendar_deduplication_key": tag,
        "deduplication_key": tag,
        "email": f"{tag}@example.com",
        "attendee_email": f"{tag}@example.com",
        "organizer_email": f"{tag}@example.com",
        "ical_uid": tag,
        "series_id": tag,
    }


async def belongings(rows: Rows, tag: str) -> dict[str, str]:
    """One object of each kind. Who adds a kind of object adds its line."""
    names = texts(tag)
    calendar = await rows.calendar(dedup=tag, email=names["email"])
    event = await rows.event(calendar, ical_uid=tag, series_id=tag)
    endpoint, launcher = await rows.endpoint(), await rows.launcher()
    endpoint_key = parse(ENDPOINT, endpoint)
    assert endpoint_key is not None
    app, client_id = await rows.app_of(calendar)
    key = await rows.key()
    await rows.entry(calendar_ref(calendar), key_id=key.id)
    of_bot = {"deduplication_key": tag, "meeting_url": names["meeting_url"], "launcher_id": parse(LAUNCHER, launcher)}
    return names | {
        "calendar_id": calendar_ref(calendar),
        "oauth_app_id": app,
        "client_id": client_id,
        "event_id": event,
        "calendar_event_id": event,
        "webhook_id": endpoint,
        "delivery_id": await rows.delivery(endpoint_key, calendar_id=calendar),
        "replay_id": await rows.replay(endpoint_key),
        "launcher_id": launcher,
        "bot_id": await rows.bot(calendar, event, **of_bot),
        "rule_id": await rows.rule(),
        "key_id": public(KEY, key.id),
        "object_id": calendar_ref(calendar),
    }


def nobodys(theirs: dict[str, str]) -> dict[str, str]:
    """The same names, with ids and texts that no object has."""
    return {name: public(value.partition("_")[0], new_id()) for name, value in theirs.items()} | texts("nobody")


def id_fields(document: Json, schema: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where in a body an object may be named: steps from the body down, "0" for an entry of a list."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for choice in schema.get("anyOf", ()):
        yield from id_fields(document, choice, path)
    if "items" in schema:
        yield from id_fields(document, schema["items"], (*path, "0"))
    for name, part in schema.get("properties", {}).items():
        if ID.fullmatch(name) and name not in OF_OTHERS:
            yield (*path, name, "0") if "items" in part else (*path, name)
        else:
            yield from id_fields(document, part, (*path, name))


def planted(body: Any, path: tuple[str, ...], value: str) -> Any:
    """The body with the value at this place, and no other object named."""
    if not path:
        return value
    step, *rest = path
    if step == "0":
        return [planted({}, tuple(rest), value)]
    kept = {name: part for name, part in (body or {}).items() if not ID.fullmatch(name) or name in OF_OTHERS}
    return kept | {step: planted(kept.get(step), tuple(rest), value)}
