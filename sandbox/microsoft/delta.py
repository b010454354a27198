"""calendarView/delta: what is new in the window of one calendar, told the way Graph tells it.

The link keeps calendar, window and place for ever; preferences are not kept. Of a series that changed, the master comes
(context, no row), then its whole set of occurrences in the window, sparse, and its exceptions, full. A deleted
occurrence is merely absent from that set. A deleted series is one `@removed` with the master's id. Whatever changes
outside the window comes as `@removed` too. The order means nothing.

A round is worked out when its first page is asked for and kept until its last; each page is written by the preferences
of its own request. Sources: the guides "delta-query-events" and "delta-query-overview", and reports from production.
"""

import base64
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from urllib.parse import quote
from zoneinfo import ZoneInfo

import orjson
from starlette.requests import Request
from starlette.responses import Response

from sandbox import ids, series
from sandbox.faults import Faults
from sandbox.microsoft import errors
from sandbox.microsoft.answers import here, reply
from sandbox.microsoft.errors import Refused
from sandbox.microsoft.preferences import DEFAULT_PAGE, Preferences, preferences
from sandbox.microsoft.render import METADATA, Json, Renderer
from sandbox.microsoft.views import Caller, window
from sandbox.model import Calendar, Event, EventDraft, Instance
from sandbox.world import World

OPERATION = "graph.delta"
KEPT_ROUNDS = 5_000
_REFUSED = ("$orderby", "$filter", "$select", "$expand", "$search")
_MAC = 16
_PADDING = 160


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a round: an item as it was when the round began, or (without `shown`) that an id is gone."""

    item_id: str
    event: Event | None = None
    shown: Instance | None = None

    @property
    def is_master(self) -> bool:
        """Context, no row."""
        return self.shown is not None and bool(self.shown.recurrence) and self.shown.series_id is None


@dataclass(frozen=True, slots=True)
class Place:
    """What a deltaLink stands for: a window of a calendar, as somebody saw it after change `seq`."""

    calendar_id: str
    email: str
    start: datetime
    end: datetime
    seq: int
    epoch: tuple[int, int]


@dataclass(slots=True)
class Round:
    """A round that is being paged through, and the place at its end."""

    entries: list[Entry]
    place: Place
    pages: int = 0
    endless: bool = field(default=False)


class Delta:
    """Answers it for any calendar."""

    def __init__(self, world: World, faults: Faults, renderer: Renderer) -> None:
        self._world = world
        self._faults = faults
        self._render = renderer
        self._key = secrets.token_bytes(16)
        self._rounds: OrderedDict[str, Round] = OrderedDict()

    def page(self, request: Request, calendar: Calendar, caller: Caller) -> Response:
        """One page: of a new round (a window or a `$deltatoken`), or (`$skiptoken`) of one that has begun."""
        query = request.query_params
        used = [name for name in _REFUSED if name in query]
        if used:
            message = (
                "The following parameters are not supported with change tracking over the 'CalendarView' resource: "
                f"'{', '.join(_REFUSED)}'."
            )
            raise Refused(400, "ErrorInvalidUrlQuery", message)
        prefs = preferences(request)
        skip_token = query.get("$skiptoken")
        if skip_token:
            name, offset = self._read_skip_token(skip_token, calendar, caller, request)
        else:
            name, offset = secrets.token_hex(12), 0
            self._rounds[name] = self._begin(request, calendar, caller)
            while len(self._rounds) > KEPT_ROUNDS:
                self._rounds.popitem(last=False)
        current = self._rounds[name]
        current.pages += 1
        self._strike_between(request, current, calendar)
        return self._answer(request, calendar, caller, prefs, current, name, offset)

    def _answer(
        self,
        request: Request,
        calendar: Calendar,
        caller: Caller,
        prefs: Preferences,
        current: Round,
        name: str,
        offset: int,
    ) -> Response:
        body: Json = {"@odata.context": f"{METADATA}#Collection(event)"}
        size = self._faults.page_size(OPERATION, prefs.page_size or DEFAULT_PAGE, calendar=calendar.id)
        if self._faults.strike("empty_page", OPERATION, calendar=calendar.id):
            return reply(body | {"value": [], "@odata.nextLink": self._next(request, name, offset)}, prefs=prefs)
        entries = current.entries[offset : offset + size]
        if current.endless and not entries:
            entries = current.entries[-size:]
        body["value"] = [self._write(entry, calendar, caller, prefs) for entry in entries]
        if offset + size < len(current.entries) or current.endless:
            body["@odata.nextLink"] = self._next(request, name, offset + size)
        else:
            body["@odata.deltaLink"] = f"{here(request)}?$deltatoken={self._delta_token(current.place)}"
        answer = reply(body, prefs=prefs)
        if self._faults.strike("surrogate", OPERATION, calendar=calendar.id) and entries:
            poisoned = orjson.dumps(body | {"value": [body["value"][0] | {"subject": "@@"}, *body["value"][1:]]})
            answer = Response(poisoned.replace(b'"@@"', b'"\\ud83d"'), media_type="application/json")
        return answer

    def _write(self, entry: Entry, calendar: Calendar, caller: Caller, prefs: Preferences) -> Json:
        if entry.shown is None or entry.event is None:
            return self._render.removed(entry.item_id, calendar, prefs)
        if entry.shown.series_id is not None and not entry.shown.is_exception:
            return self._render.sparse(entry.shown, calendar, prefs)
        written = self._render.event(entry.event, entry.shown, calendar, caller.account, prefs)
        return {"@odata.type": "#microsoft.graph.event"} | written

    # --- what a round holds ---

    def _begin(self, request: Request, calendar: Calendar, caller: Caller) -> Round:
        token = request.query_params.get("$deltatoken")
        upto = self._visible_seq(calendar)
        if token:
            place = self._read_delta_token(token, calendar, caller, request)
            upto = max(upto, place.seq)
            entries = list(self._changed(calendar, place, upto))
        else:
            start, end = window(request)
            place = Place(calendar.id, caller.account.email, start, end, 0, self._epoch(calendar, caller))
            entries = list(self._initial(calendar, place, upto))
        Random(f"{calendar.id}|{upto}").shuffle(entries)
        entries = self._distorted(entries, calendar, place, upto)
        after = Place(place.calendar_id, place.email, place.start, place.end, upto, place.epoch)
        endless = self._faults.strike("endless_pages", OPERATION, calendar=calendar.id) is not None
        return Round(entries, after, endless=endless and bool(entries))

    def _visible_seq(self, calendar: Calendar) -> int:
        """The newest change that has reached this replica."""
        lag = self._faults.strike("replication_lag", OPERATION, calendar=calendar.id)
        if lag is None:
            return self._world.seq
        seen = self._world.clock.now() - timedelta(seconds=float(lag.params.get("seconds", 5)))
        return sum(1 for change in self._world.log if change.at <= seen)

    def _initial(self, calendar: Calendar, place: Place, upto: int) -> Iterator[Entry]:
        for versions in self._world.versions[calendar.id].values():
            event = _as_of(versions, upto)
            if event is not None and event.is_live:
                yield from self._standing(event, calendar, place)

    def _standing(self, event: Event, calendar: Calendar, place: Place) -> list[Entry]:
        """What the window shows of a live event; nothing where it lies outside."""
        zone = ZoneInfo(calendar.time_zone)
        shown = [one for one in series.within(event, place.start, place.end, zone) if one.live]
        entries = [Entry(one.event_id, event, one) for one in shown]
        if entries and event.is_series:
            entries.insert(0, Entry(event.id, event, series.single(event)))
        return entries

    def _changed(self, calendar: Calendar, place: Place, upto: int) -> Iterator[Entry]:
        for versions in self._world.versions[calendar.id].values():
            now, before = _as_of(versions, upto), _as_of(versions, place.seq)
            if now is None or now.seq <= place.seq:
                continue
            if now.is_series and now.is_live and self._is_silent(now, before, place, calendar):
                continue
            standing = self._standing(now, calendar, place) if now.is_live else []
            yield from standing or [Entry(now.id)]
            if now.is_series and now.is_live:
                shown = {entry.item_id for entry in standing}
                touched = (o for o in now.overrides.values() if o.seq > place.seq and not o.cancelled)
                moved = (series.instance_id(now, o.original_start) for o in touched)
                yield from (Entry(item_id) for item_id in moved if item_id not in shown)

    def _is_silent(self, now: Event, before: Event | None, place: Place, calendar: Calendar) -> bool:
        """Whether nothing happened but cancelled occurrences, and Graph keeps even the series to itself."""
        touched = [o for o in now.overrides.values() if o.seq > place.seq]
        if before is None or now.base_seq > place.seq or not touched or not all(o.cancelled for o in touched):
            return False
        return self._faults.strike("silent_cancellation", OPERATION, calendar=calendar.id) is not None

    def _distorted(self, entries: list[Entry], calendar: Calendar, place: Place, upto: int) -> list[Entry]:
        """The round as the faults want it."""
        if any(entry.is_master for entry in entries) and self._strike("missing_master", calendar):
            entries = [entry for entry in entries if not entry.is_master]
        if self._strike("unknown_removals", calendar):
            entries = [*entries, *(Entry(ids.immutable(secrets.token_hex(8))) for _ in range(3))]
        if self._strike("replayed_changes", calendar):
            old = [entry for entry in self._initial(calendar, place, upto) if not entry.is_master]
            entries = [*old, *entries]
        if self._strike("duplicate_ids", calendar):
            stale = [self._stale(entry, calendar) for entry in entries if entry.shown is not None]
            entries = [*stale, *reversed(entries)]
        return entries

    def _stale(self, entry: Entry, calendar: Calendar) -> Entry:
        """An earlier version of the same item, or a tombstone where there was none."""
        event = entry.event
        if event is None or event.is_series:
            return Entry(entry.item_id)
        older = [v for v in self._world.versions[calendar.id][event.id] if v.seq < event.seq and v.is_live]
        return Entry(entry.item_id, older[-1], series.single(older[-1])) if older else Entry(entry.item_id)

    def _strike(self, kind: str, calendar: Calendar) -> bool:
        return self._faults.strike(kind, OPERATION, calendar=calendar.id) is not None

    def _strike_between(self, request: Request, current: Round, calendar: Calendar) -> None:
        number = current.pages
        is_first = not request.query_params.get("$skiptoken")
        has_token = bool(request.query_params.get("$deltatoken"))
        if not is_first or has_token:
            fault = self._faults.strike("cursor_expired", OPERATION, calendar=calendar.id, page=number)
            if fault is not None:
                is_told = bool(fault.params.get("location", True))
                raise errors.state_lost(self._start_again(request, current.place) if is_told else None)
        if not is_first and self._strike("bad_page_token", calendar):
            raise errors.mangled_state()
        if self._strike("edit_between_pages", calendar):
            start = current.place.start
            draft = EventDraft(title="Committed between pages", start=start, end=start + timedelta(hours=1))
            self._world.create_event(calendar.id, draft)

    # --- links ---

    def _next(self, request: Request, name: str, offset: int) -> str:
        token = self._seal([name, offset, secrets.token_hex(4)])
        return f"{here(request)}?$skiptoken={token}"

    def _delta_token(self, place: Place) -> str:
        bounds = [place.start.timestamp(), place.end.timestamp()]
        values = [place.calendar_id, place.email, *bounds, place.seq, list(place.epoch)]
        long = self._faults.strike("long_cursor", OPERATION, calendar=place.calendar_id)
        return self._seal(values, padding=_PADDING if long is None else int(long.params.get("bytes", 4_000)))

    def _read_skip_token(self, token: str, calendar: Calendar, caller: Caller, request: Request) -> tuple[str, int]:
        name, offset, _ = self._open(token)
        current = self._rounds.get(str(name))
        if current is None:
            raise errors.state_lost(f"{here(request)}?$deltatoken=")
        self._check(current.place, calendar, caller, request)
        return str(name), int(str(offset))

    def _read_delta_token(self, token: str, calendar: Calendar, caller: Caller, request: Request) -> Place:
        calendar_id, email, start, end, seq, epoch = self._open(token)
        first, last = (datetime.fromtimestamp(float(str(text)), UTC) for text in (start, end))
        if not isinstance(epoch, list):
            raise errors.mangled_state()
        place = Place(str(calendar_id), str(email), first, last, int(str(seq)), (int(epoch[0]), int(epoch[1])))
        self._check(place, calendar, caller, request)
        return place

    def _check(self, place: Place, calendar: Calendar, caller: Caller, request: Request) -> None:
        if (place.calendar_id, place.email) != (calendar.id, caller.account.email):
            raise errors.mangled_state()
        if place.epoch != self._epoch(calendar, caller):
            raise errors.state_lost(self._start_again(request, place))

    @staticmethod
    def _epoch(calendar: Calendar, caller: Caller) -> tuple[int, int]:
        return calendar.token_epoch, calendar.acl_epoch.get(caller.account.email, 0)

    @staticmethod
    def _start_again(request: Request, place: Place) -> str:
        bounds = [quote(moment.isoformat().replace("+00:00", "Z")) for moment in (place.start, place.end)]
        return f"{here(request)}?startDateTime={bounds[0]}&endDateTime={bounds[1]}&$deltatoken="

    def _seal(self, values: list[object], *, padding: int = _PADDING) -> str:
        """An opaque token of several hundred characters, or more."""
        data = orjson.dumps(values)
        padded = len(data).to_bytes(2, "big") + data + secrets.token_bytes(padding)
        return base64.urlsafe_b64encode(hmac.digest(self._key, padded, "sha256")[:_MAC] + padded).decode().rstrip("=")

    def _open(self, token: str) -> list[object]:
        try:
            data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            raise errors.mangled_state() from None
        mac, padded = data[:_MAC], data[_MAC:]
        if not hmac.compare_digest(mac, hmac.digest(self._key, padded, "sha256")[:_MAC]):
            raise errors.mangled_state()
        size = int.from_bytes(padded[:2], "big")
        return list(orjson.loads(padded[2 : 2 + size]))


def _as_of(versions: list[Event], seq: int) -> Event | None:
    """The version that was the newest after that change; None where there was none yet."""
    return next((version for version in reversed(versions) if version.seq <= seq), None)
