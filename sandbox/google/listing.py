"""events.list: windows, sync tokens and pages.

A round is worked out when its first page is asked for and kept until its last, so that pages agree; the sync token at
its end stands for the moment the round began. A token belongs to one calendar, one user and one set of parameters. What
a token brings is not bounded by the window of the listing that made it: a touched series comes with all its instances.
"""

import base64
import hmac
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from zoneinfo import ZoneInfo

import orjson
from starlette.requests import Request
from starlette.responses import Response

from sandbox import series
from sandbox.answers import reply
from sandbox.faults import Faults
from sandbox.google import errors, render
from sandbox.model import Calendar, Event, EventDraft, Instance, OriginalStart
from sandbox.world import UnknownError, World

FORBIDDEN_WITH_TOKEN = (
    "iCalUID",
    "orderBy",
    "privateExtendedProperty",
    "q",
    "sharedExtendedProperty",
    "timeMin",
    "timeMax",
    "updatedMin",
)
_NOT_COUNTED = {"pageToken", "syncToken", "maxResults", "alt", "timeMin", "timeMax", "prettyPrint"}
_BAD_VALUE = "Invalid value for: "


class Refused(Exception):
    """The request gets this answer."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.answer = answer


@dataclass(slots=True)
class Round:
    """A listing that is being paged through."""

    items: list[render.Json]
    token: str | None
    parameters: str
    sync_token: str | None
    pages: int = 0


class Listing:
    """Answers events.list for any calendar."""

    def __init__(self, world: World, faults: Faults) -> None:
        self._world = world
        self._faults = faults
        self._key = secrets.token_bytes(16)
        self._rounds: dict[str, Round] = {}

    def page(self, request: Request, calendar: Calendar, viewer: str) -> Response:
        """One page."""
        try:
            return self._page(request, calendar, viewer)
        except Refused as refused:
            return refused.answer

    def _page(self, request: Request, calendar: Calendar, viewer: str) -> Response:
        query = request.query_params
        page_token = query.get("pageToken")
        if page_token is None:
            if (
                self._faults.strike("cursor_expired", "events.list", calendar=calendar.id, page=1)
                and "syncToken" in query
            ):
                return errors.cursor_expired()
            name, offset = secrets.token_hex(8), 0
            self._rounds[name] = self._round(request, calendar, viewer)
        else:
            name, _, text = page_token.partition(".")
            offset = int(text) if text.isdigit() else 0
        current = self._rounds.get(name)
        if (
            current is None
            or current.parameters != _parameters(request)
            or current.sync_token != query.get("syncToken")
        ):
            raise Refused(errors.failure(400, "invalid", "Invalid page token value.", location="pageToken"))
        current.pages += 1
        self._strike_between(current, calendar)
        body = self._envelope(calendar, viewer)
        size = self._faults.page_size("events.list", _size(query.get("maxResults")), calendar=calendar.id)
        if self._faults.strike("empty_page", "events.list", calendar=calendar.id):
            return reply(body | {"nextPageToken": f"{name}.{offset}", "items": []})
        items = current.items[offset : offset + size]
        if offset + size < len(current.items):
            body["nextPageToken"] = f"{name}.{offset + size}"
        elif current.token is not None:
            body["nextSyncToken"] = current.token
        if self._faults.strike("surrogate", "events.list", calendar=calendar.id) and items:
            poisoned = orjson.dumps(body | {"items": [items[0] | {"summary": "@@"}, *items[1:]]})
            return Response(poisoned.replace(b'"@@"', b'"\\ud83d"'), media_type="application/json; charset=UTF-8")
        return reply(body | {"items": items})

    def _strike_between(self, current: Round, calendar: Calendar) -> None:
        number = current.pages
        if number > 1 and self._faults.strike("cursor_expired", "events.list", calendar=calendar.id, page=number):
            raise Refused(errors.cursor_expired())
        if number > 1 and self._faults.strike("bad_page_token", "events.list", calendar=calendar.id):
            raise Refused(errors.planted("bad_page_token", {}))
        if self._faults.strike("edit_between_pages", "events.list", calendar=calendar.id):
            now = self._world.clock.now()
            draft = EventDraft(title="Committed between pages", start=now, end=now.replace(microsecond=0))
            self._world.create_event(calendar.id, draft)

    def _envelope(self, calendar: Calendar, viewer: str) -> render.Json:
        return {
            "kind": "calendar#events",
            "etag": f'"{sha256(f"{calendar.id}{self._world.seq}".encode()).hexdigest()[:16]}"',
            "summary": calendar.summary,
            "updated": render.millis(self._world.clock.now()),
            "timeZone": calendar.time_zone,
            "accessRole": calendar.acl.get(viewer, "reader"),
            "defaultReminders": [],
        }

    def _round(self, request: Request, calendar: Calendar, viewer: str) -> Round:
        query = request.query_params
        parameters, sync_token, seq = _parameters(request), query.get("syncToken"), self._world.seq
        types = set(query.getlist("eventTypes"))
        is_single = query.get("singleEvents", "false").lower() == "true"
        if sync_token is not None:
            for name in FORBIDDEN_WITH_TOKEN:
                if name in query:
                    message = f"The parameter {name} cannot be used together with syncToken."
                    raise Refused(errors.failure(400, "badRequest", message, location=name))
            since = self._read_token(sync_token, calendar, viewer, parameters)
            shown = self._changed(calendar, viewer, since=since, is_single=is_single)
            if self._faults.strike("duplicate_ids", "events.list", calendar=calendar.id):
                shown = [*(self._stale(item, calendar, viewer) for item in shown), *shown]
        else:
            start, end = _bound(query.get("timeMin")), _bound(query.get("timeMax"))
            if start is not None and end is not None and end <= start:
                message = "The specified time range is empty."
                raise Refused(errors.failure(400, "timeRangeEmpty", message, domain="calendar", location="timeMax"))
            shown = self._window(calendar, viewer, start, end, is_single=is_single)
            if query.get("showDeleted", "false").lower() == "true":
                shown = [*shown, *self._deleted(calendar)]
        items = [i for i in shown if not types or i.get("eventType", "default") in types or "eventType" not in i]
        token: str | None = self._make_token(calendar, viewer, parameters, seq)
        if query.get("orderBy") == "startTime":
            if not is_single:
                message = "The requested ordering is not available for the particular query."
                raise Refused(errors.failure(400, "invalid", message, location="orderBy"))
            items.sort(key=lambda i: str(i["start"].get("dateTime") or i["start"].get("date")))
            token = None
        return Round(items, token, parameters, sync_token)

    def _window(
        self, calendar: Calendar, viewer: str, start: datetime | None, end: datetime | None, *, is_single: bool
    ) -> list[render.Json]:
        zone = ZoneInfo(calendar.time_zone)
        first = start or datetime(1970, 1, 2, tzinfo=UTC)
        last = end or datetime(2099, 1, 1, tzinfo=UTC)
        items = []
        for versions in self._world.versions[calendar.id].values():
            event = versions[-1]
            if not event.is_live:
                continue
            found: Iterator[Instance] = islice(series.within(event, first, last, zone), series.ENDLESS)
            if is_single or not event.is_series:
                items += [render.item(shown, calendar, viewer) for shown in found if shown.live]
            elif next(found, None) is not None:
                items.append(render.master(event, series.single(event), calendar, viewer))
                items += [i for key in event.overrides for i in self._exception(event, key, calendar, viewer)]
        return items

    def _exception(self, event: Event, original: OriginalStart, calendar: Calendar, viewer: str) -> list[render.Json]:
        shown = series.occurrence(event, original)
        return [render.item(shown, calendar, viewer) if shown.live else render.cancelled_occurrence(shown, calendar)]

    def _deleted(self, calendar: Calendar) -> list[render.Json]:
        newest = (versions[-1] for versions in self._world.versions[calendar.id].values())
        return [render.tombstone(e.id, e.updated) for e in newest if not e.is_live and not e.is_series]

    def _changed(self, calendar: Calendar, viewer: str, *, since: int, is_single: bool) -> list[render.Json]:
        items: list[render.Json] = []
        for versions in self._world.versions[calendar.id].values():
            event = versions[-1]
            if event.seq <= since:
                continue
            before = next((v for v in reversed(versions) if v.seq <= since), None)
            if not is_single and event.is_series and event.is_live:
                items.append(render.master(event, series.single(event), calendar, viewer))
                items += [i for key in event.overrides for i in self._exception(event, key, calendar, viewer)]
            elif event.is_series or (before is not None and before.is_series):
                items += self._changed_series(before, event, calendar, viewer, since=since)
            elif event.is_live:
                items.append(render.item(series.single(event), calendar, viewer))
            else:
                items.append(render.tombstone(event.id, event.updated))
        return items

    def _stale(self, item: render.Json, calendar: Calendar, viewer: str) -> render.Json:
        """An earlier version of the same item, or a tombstone where there was none."""
        versions = self._world.versions[calendar.id].get(item["id"], [])
        older = [version for version in versions[:-1] if version.is_live and not version.is_series]
        if not older:
            return render.tombstone(item["id"], self._world.clock.now())
        return render.item(series.single(older[-1]), calendar, viewer)

    def _changed_series(
        self, before: Event | None, event: Event, calendar: Calendar, viewer: str, *, since: int
    ) -> list[render.Json]:
        if not event.is_live:
            return self._deleted_series(before or event, event, calendar)
        if event.base_seq <= since:
            touched = [o.original_start for o in event.overrides.values() if o.seq > since]
            return [i for key in touched for i in self._exception(event, key, calendar, viewer)]
        now = {shown.event_id: shown for shown in series.instances(event)}
        items = [
            render.item(shown, calendar, viewer) if shown.live else render.cancelled_occurrence(shown, calendar)
            for shown in now.values()
        ]
        if before is not None:
            gone = (shown for shown in series.instances(before) if shown.event_id not in now)
            items += [render.tombstone(shown.event_id, event.updated) for shown in gone]
        return items

    def _deleted_series(self, before: Event, event: Event, calendar: Calendar) -> list[render.Json]:
        if self._faults.strike("bare_tombstone", "events.list", calendar=calendar.id):
            return [render.tombstone(event.id, event.updated)]
        gone = [render.tombstone(shown.event_id, event.updated) for shown in series.instances(before)]
        partial = self._faults.strike("partial_cancellation", "events.list", calendar=calendar.id)
        return gone[: int(partial.params.get("count", 26))] if partial is not None else gone

    def find(self, calendar: Calendar, event_id: str, viewer: str) -> render.Json | None:
        """events.get: a master, a single event or an instance; deleted ones are shown as cancelled for a while."""
        try:
            event = self._world.event(calendar.id, event_id)
        except UnknownError:
            for versions in self._world.versions[calendar.id].values():
                if versions[-1].is_series:
                    for shown in series.instances(versions[-1]):
                        if shown.event_id == event_id:
                            return render.item(shown, calendar, viewer) | (
                                {} if shown.live else {"status": "cancelled"}
                            )
            return None
        body = render.master(event, series.single(event), calendar, viewer)
        return body if event.is_live else body | {"status": "cancelled"}

    def instances(self, event: Event, calendar: Calendar, viewer: str) -> render.Json:
        """events.instances, in one page."""
        shown = [render.item(i, calendar, viewer) for i in series.instances(event) if i.live]
        return self._envelope(calendar, viewer) | {"items": shown}

    # --- tokens ---

    def _make_token(self, calendar: Calendar, viewer: str, parameters: str, seq: int) -> str:
        body = orjson.dumps([seq, self._epoch(calendar, viewer), _short(f"{calendar.id}|{viewer}|{parameters}")])
        token = base64.urlsafe_b64encode(hmac.digest(self._key, body, "sha256")[:6] + body).decode()
        long = self._faults.strike("long_cursor", "events.list", calendar=calendar.id)
        return token if long is None else token + "." * (int(long.params.get("bytes", 4_000)) - len(token))

    def _read_token(self, token: str, calendar: Calendar, viewer: str, parameters: str) -> int:
        try:
            data = base64.urlsafe_b64decode(token.rstrip("."))
            seq, epoch, scope = orjson.loads(data[6:])
        except ValueError:
            raise Refused(errors.failure(400, "invalid", f"{_BAD_VALUE}syncToken", location="syncToken")) from None
        is_ours = hmac.compare_digest(data[:6], hmac.digest(self._key, data[6:], "sha256")[:6])
        if not is_ours or epoch != self._epoch(calendar, viewer):
            raise Refused(errors.cursor_expired())
        if scope != _short(f"{calendar.id}|{viewer}|{parameters}"):
            message = "Sync token does not match the request's parameters."
            raise Refused(errors.failure(400, "badRequest", message, location="syncToken"))
        return int(seq)

    @staticmethod
    def _epoch(calendar: Calendar, viewer: str) -> list[int]:
        return [calendar.token_epoch, calendar.acl_epoch.get(viewer, 0)]


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:10]


def _parameters(request: Request) -> str:
    """The parameters that must be the same in every request of a token's life."""
    return repr(sorted((n, v) for n, v in request.query_params.multi_items() if n not in _NOT_COUNTED))


def _size(text: str | None) -> int:
    if text is None:
        return 250
    if not text.isdigit() or int(text) < 1:
        raise Refused(errors.failure(400, "invalidParameter", f"{_BAD_VALUE}maxResults", location="maxResults"))
    return min(2500, int(text))


def _bound(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Refused(errors.failure(400, "badRequest", "Bad Request", location="timeMin"))
    return moment.replace(microsecond=0)
