"""`/_sandbox/…`: everything a test or demo in another process can do to the world, as JSON.

Times in bodies are ISO 8601 with an offset, or plain dates for all-day events. Drafts use the names of `EventDraft`;
attendees are `{email, name?, response?, optional?, resource?}`, a conference is `{kind, url, pending?}`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.answers import reply
from sandbox.door import RequestLog
from sandbox.faults import KINDS, Faults
from sandbox.microsoft.facade import Graph
from sandbox.microsoft.notifications import LifecycleEvent
from sandbox.model import Attendee, Conference, Event, EventDraft, IdStyle, Instance, Moment, Person
from sandbox.push import Push
from sandbox.seed import seed
from sandbox.world import UnknownError, World

Handler = Callable[[Request], Awaitable[object]]
EVENTS = "/_sandbox/calendars/{calendar:str}/events"


class Control:
    """The routes, on one world."""

    def __init__(self, world: World, push: Push, faults: Faults, log: RequestLog, graph: Graph) -> None:
        self._world = world
        self._push = push
        self._faults = faults
        self._log = log
        self._graph = graph

    def routes(self) -> list[Route]:
        """Every control route."""
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/_sandbox/health", self._health),
            ("POST", "/_sandbox/accounts", self._add_account),
            ("POST", "/_sandbox/accounts/{email:str}/revoke", self._revoke),
            ("POST", "/_sandbox/accounts/{email:str}/grants", self._add_grant),
            ("POST", "/_sandbox/accounts/{email:str}/codes", self._add_code),
            ("POST", "/_sandbox/clients/{client:str}/secret", self._set_secret),
            ("PUT", "/_sandbox/clients/{client:str}/redirect_uris", self._set_redirect_uris),
            ("POST", "/_sandbox/calendars", self._add_calendar),
            ("DELETE", "/_sandbox/calendars/{calendar:str}", self._delete_calendar),
            ("POST", "/_sandbox/calendars/{calendar:str}/share", self._share),
            ("POST", "/_sandbox/calendars/{calendar:str}/expire_sync_tokens", self._expire),
            ("GET", "/_sandbox/calendars/{calendar:str}/instances", self._instances),
            ("POST", EVENTS, self._create),
            ("PATCH", EVENTS + "/{event:str}", self._update),
            ("DELETE", EVENTS + "/{event:str}", self._delete),
            ("POST", EVENTS + "/{event:str}/restore", self._restore),
            ("POST", EVENTS + "/{event:str}/move", self._move),
            ("POST", EVENTS + "/{event:str}/split", self._split),
            ("PATCH", EVENTS + "/{event:str}/instances/{original:str}", self._update_instance),
            ("DELETE", EVENTS + "/{event:str}/instances/{original:str}", self._cancel_instance),
            ("POST", "/_sandbox/seed", self._seed),
            ("GET", "/_sandbox/faults", self._list_faults),
            ("POST", "/_sandbox/faults", self._add_fault),
            ("DELETE", "/_sandbox/faults", self._clear_faults),
            ("POST", "/_sandbox/gates/{operation:str}", self._gate),
            ("GET", "/_sandbox/gates/{operation:str}", self._gate_state),
            ("DELETE", "/_sandbox/gates/{operation:str}", self._open_gate),
            ("PUT", "/_sandbox/push", self._set_push),
            ("PUT", "/_sandbox/limits", self._set_limits),
            ("GET", "/_sandbox/channels", self._channels),
            ("GET", "/_sandbox/subscriptions", self._subscriptions),
            ("POST", "/_sandbox/subscriptions/{subscription:str}/lifecycle", self._lifecycle),
            ("GET", "/_sandbox/requests", self._requests),
            ("POST", "/_sandbox/clock", self._advance),
        ]
        return [Route(path, _endpoint(handler), methods=[method]) for method, path, handler in table]

    async def _health(self, _: Request) -> object:
        return {"changes": self._world.seq}

    async def _add_account(self, request: Request) -> object:
        return asdict(self._world.add_account(**_scopes(await request.json())))

    async def _revoke(self, request: Request) -> object:
        body = await _body(request)
        self._world.revoke(self._world.accounts[request.path_params["email"]], **body)
        return {}

    async def _add_grant(self, request: Request) -> object:
        account = self._world.accounts[request.path_params["email"]]
        return {"refresh_token": self._world.issue_refresh_token(account, **_scopes(await _body(request)))}

    async def _add_code(self, request: Request) -> object:
        account = self._world.accounts[request.path_params["email"]]
        return {"code": self._world.issue_code(account, **_scopes(await request.json()))}

    async def _set_secret(self, request: Request) -> object:
        body, client = await request.json(), request.path_params["client"]
        if "secret" in body:
            self._world.set_client_secret(client, body["secret"])
        self._world.clients[client].secret_expired = bool(body.get("expired", False))
        return {}

    async def _set_redirect_uris(self, request: Request) -> object:
        given = (await request.json())["redirect_uris"]
        self._world.clients[request.path_params["client"]].redirect_uris = frozenset(map(str, given))
        return {}

    async def _add_calendar(self, request: Request) -> object:
        body = await request.json()
        account = self._world.accounts[body.pop("email")]
        return asdict(self._world.add_calendar(account, **body))

    async def _delete_calendar(self, request: Request) -> object:
        self._world.delete_calendar(request.path_params["calendar"])
        return {}

    async def _share(self, request: Request) -> object:
        body = await request.json()
        self._world.share(request.path_params["calendar"], body["email"], body["role"])
        return {}

    async def _expire(self, request: Request) -> object:
        self._world.expire_sync_tokens(request.path_params["calendar"])
        return {}

    async def _instances(self, request: Request) -> object:
        start, end = (datetime.fromisoformat(request.query_params[name]) for name in ("from", "to"))
        found = self._world.instances(request.path_params["calendar"], start, end)
        return {"instances": [shown_instance(shown) for shown in found]}

    async def _create(self, request: Request) -> object:
        body = await request.json()
        event_id, id_style = body.pop("id", None), body.pop("id_style", None)
        if id_style not in {None, *get_args(IdStyle)}:
            raise ValueError(f"no such style of ids: {id_style}")
        calendar = request.path_params["calendar"]
        return _event(self._world.create_event(calendar, draft(body), event_id=event_id, id_style=id_style))

    async def _update(self, request: Request) -> object:
        return _event(self._world.update_event(*_names(request), **_changes(await request.json())))

    async def _delete(self, request: Request) -> object:
        return _event(self._world.delete_event(*_names(request)))

    async def _restore(self, request: Request) -> object:
        return _event(self._world.restore_event(*_names(request)))

    async def _move(self, request: Request) -> object:
        return _event(self._world.move_event(*_names(request), (await request.json())["destination"]))

    async def _split(self, request: Request) -> object:
        body = await request.json()
        at = moment(body.pop("at"))
        return _event(self._world.split_series(*_names(request), at, **_changes(body)))

    async def _update_instance(self, request: Request) -> object:
        original = moment(request.path_params["original"])
        return _event(self._world.update_instance(*_names(request), original, **_changes(await request.json())))

    async def _cancel_instance(self, request: Request) -> object:
        return _event(self._world.cancel_instance(*_names(request), moment(request.path_params["original"])))

    async def _seed(self, request: Request) -> object:
        return seed(self._world, **await _body(request))

    async def _list_faults(self, _: Request) -> object:
        return {"kinds": KINDS, "active": [asdict(fault) for fault in self._faults.active]}

    async def _add_fault(self, request: Request) -> object:
        body = await request.json()
        return asdict(self._faults.add(body.pop("kind"), body.pop("operation", None), **body))

    async def _clear_faults(self, _: Request) -> object:
        self._faults.clear()
        return {}

    async def _gate(self, request: Request) -> object:
        self._faults.gate(request.path_params["operation"])
        return {}

    async def _gate_state(self, request: Request) -> object:
        return {"waiting": self._faults.gates[request.path_params["operation"]].waiting}

    async def _open_gate(self, request: Request) -> object:
        self._faults.gates.pop(request.path_params["operation"]).release()
        return {}

    async def _set_push(self, request: Request) -> object:
        body = await request.json()
        self._push.copies = int(body.get("copies", self._push.copies))
        if "lose" in body:
            self._push.lose(float(body["lose"]), seed=int(body.get("seed", 0)))
        notifier = self._graph.notifier
        notifier.batch_seconds = float(body.get("batch_seconds", notifier.batch_seconds))
        if body.get("release"):
            return {"released": self._push.release(reverse=bool(body.get("reverse")))}
        self._push.mode = body.get("mode", self._push.mode)
        return {"mode": self._push.mode, "lose": self._push.loss, "lost": self._push.lost}

    async def _channels(self, _: Request) -> object:
        now = self._world.clock.now()
        return {"channels": [asdict(c) | {"live": c.is_live(now)} for c in self._push.channels.values()]}

    async def _subscriptions(self, _: Request) -> object:
        now = self._world.clock.now()
        return {"subscriptions": [asdict(s) | {"live": s.is_live(now)} for s in self._push.subscriptions.values()]}

    async def _lifecycle(self, request: Request) -> object:
        event = (await request.json())["event"]
        if event not in get_args(LifecycleEvent):
            raise ValueError(f"no such lifecycle event: {event}")
        return {"sent": self._graph.notifier.lifecycle(request.path_params["subscription"], event)}

    async def _set_limits(self, request: Request) -> object:
        limits, receivers = self._graph.limits, self._graph.notifier.receivers
        names = {"concurrency", "retry_after", "slow_seconds", "drop_seconds", "samples"}
        for name, value in (await request.json()).items():
            if name not in names:
                raise ValueError(f"no such limit: {name}")
            setattr(limits if hasattr(limits, name) else receivers, name, value)
        return asdict(limits)

    async def _requests(self, request: Request) -> object:
        operation = request.query_params.get("operation")
        seen = [asdict(entry) for entry in self._log.seen if operation in {None, entry.operation}]
        mailboxes = [
            {"client_id": client_id, "email": email, "now": flight.now, "peak": flight.peak}
            for (client_id, email), flight in self._log.mailboxes.items()
        ]
        return {"requests": seen[-1000:], "count": len(seen), "peak": self._log.peak, "mailboxes": mailboxes}

    async def _advance(self, request: Request) -> object:
        now = self._world.clock.advance(timedelta(seconds=float((await request.json())["seconds"])))
        return {"now": now.isoformat()}


def _endpoint(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            return reply(await handler(request))
        except (UnknownError, KeyError) as exc:
            return reply({"error": f"unknown: {exc}"}, status=404)
        except (TypeError, ValueError) as exc:
            return reply({"error": str(exc)}, status=422)

    return answer


async def _body(request: Request) -> dict[str, Any]:
    return dict(await request.json()) if await request.body() else {}


def _scopes(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"scopes": tuple(body["scopes"])} if body.get("scopes") else body


def _names(request: Request) -> tuple[str, str]:
    return request.path_params["calendar"], request.path_params["event"]


def moment(text: str) -> Moment:
    """An instant with an offset, or a date."""
    if len(text) == 10:
        return date.fromisoformat(text)
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError(f"{text} has no offset")
    return parsed.astimezone(UTC)


def _changes(body: dict[str, Any]) -> dict[str, Any]:
    """JSON as fields of a draft."""
    changed = dict(body)
    for name in ("start", "end"):
        if name in changed:
            changed[name] = moment(changed[name])
    for name in ("organizer", "creator"):
        if changed.get(name) is not None:
            changed[name] = Person(**changed[name])
    if "attendees" in changed:
        changed["attendees"] = tuple(Attendee(**one) for one in changed["attendees"])
    if changed.get("conference") is not None:
        changed["conference"] = Conference(**changed["conference"])
    for name in ("recurrence", "raw_omit"):
        if name in changed:
            changed[name] = tuple(changed[name])
    return changed


def draft(body: dict[str, Any]) -> EventDraft:
    """JSON as a draft; TypeError for a name that no draft has."""
    return EventDraft(**_changes(body))


def _event(event: Event) -> object:
    return {"id": event.id, "calendar_id": event.calendar_id, "seq": event.seq, "ical_uid": event.ical_uid}


def shown_instance(shown: Instance) -> dict[str, Any]:
    """An instance as the oracle tells it."""
    return {
        "event_id": shown.event_id,
        "series_id": shown.series_id,
        "original_start": _text(shown.original_start),
        "title": shown.title,
        "description": shown.description,
        "location": shown.location,
        "start": _text(shown.start),
        "end": _text(shown.end),
        "time_zone": shown.time_zone,
        "status": "cancelled" if shown.called_off else shown.status,
        "visibility": shown.visibility,
        "attendees": [asdict(one) for one in shown.attendees],
        "conference_url": shown.conference.url if shown.conference and not shown.conference.pending else None,
    }


def _text(value: Moment | None) -> str | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return None if value is None else value.isoformat()
