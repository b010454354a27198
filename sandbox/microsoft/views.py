"""Reads that are true now: calendars, one event, and the lists calendarView, events and instances.

Lists are paged by offset (`$top`, `$skip`), worked out anew for each page: what changes in between moves rows to
another page, as it does at Graph.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from sandbox import series
from sandbox.faults import Faults
from sandbox.microsoft.answers import context, here, reply
from sandbox.microsoft.book import Book, Found
from sandbox.microsoft.errors import Refused
from sandbox.microsoft.preferences import (
    DEFAULT_PAGE,
    LARGEST_PAGE,
    Preferences,
    count_option,
    preferences,
    refuse_options,
    selected,
)
from sandbox.microsoft.render import EVENT_PROPERTIES, Json, Renderer, calendar_entry
from sandbox.model import Account, Calendar, EventDraft, Instance
from sandbox.world import World

LONGEST_VIEW = timedelta(days=1825)
_NEVER_SELECTED = {"createdDateTime", "lastModifiedDateTime"}
_ALWAYS = ("@odata.etag", "id")


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf, and by which application, a request is made."""

    account: Account
    client_id: str
    scopes: tuple[str, ...]


def window(request: Request) -> tuple[datetime, datetime]:
    """The span that calendarView asks for; times without an offset are UTC. Refused where it is no span."""
    bounds = []
    for name in ("startDateTime", "endDateTime"):
        text = request.query_params.get(name)
        if not text:
            message = (
                "This request requires a time window specified by the query string parameters "
                "StartDateTime and EndDateTime."
            )
            raise Refused(400, "ErrorInvalidParameter", message)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            message = f"The value '{text}' of parameter '{name}' is invalid."
            raise Refused(400, "ErrorInvalidParameter", message) from None
        bounds.append(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))
    start, end = bounds
    if end <= start:
        raise Refused(400, "ErrorInvalidParameter", "The end of the time window must be later than its start.")
    if end - start > LONGEST_VIEW:
        message = "The requested time duration specified for the calendar view is too long. Allowed limit is 1825 days."
        raise Refused(400, "ErrorCalendarViewRangeTooBig", message)
    return start, end


class Views:
    """Answers them for any mailbox."""

    def __init__(self, world: World, faults: Faults, book: Book, renderer: Renderer) -> None:
        self._world = world
        self._faults = faults
        self._book = book
        self._render = renderer

    # --- calendars ---

    def visible(self, caller: Caller) -> list[Calendar]:
        """The mailbox's own calendars, the default one first, then those that others have shared."""
        email = caller.account.email
        found = [one for one in self._world.calendars.values() if _may_see(email, one)]
        return sorted(found, key=lambda c: (c.owner != email, c.kind != "primary"))

    def one(self, caller: Caller, calendar_id: str) -> Calendar | None:
        """The one with this id, if it is visible."""
        found = self._world.calendars.get(calendar_id)
        return found if found is not None and _may_see(caller.account.email, found) else None

    def calendars(self, request: Request, caller: Caller) -> Response:
        """The list; ten to a page unless `$top` says otherwise."""
        refuse_options(request, ("$filter", "$search", "$expand"))
        entries = [self._calendar(calendar, caller) for calendar in self.visible(caller)]
        top, skip = count_option(request, "$top", DEFAULT_PAGE, LARGEST_PAGE), count_option(request, "$skip", 0)
        body: Json = {"@odata.context": context(caller.account.email, "calendars")}
        body["value"] = entries[skip : skip + top]
        if skip + top < len(entries):
            body["@odata.nextLink"] = _next(request, skip + top)
        return reply(body)

    def calendar(self, calendar: Calendar, caller: Caller) -> Response:
        """One of them."""
        head = {"@odata.context": context(caller.account.email, "calendars/$entity")}
        return reply(head | self._calendar(calendar, caller))

    def _calendar(self, calendar: Calendar, caller: Caller) -> Json:
        return calendar_entry(calendar, caller.account, self._world.accounts[calendar.owner])

    # --- one event ---

    def event(self, request: Request, found: Found, caller: Caller) -> Response:
        """A single event, a master, or an occurrence, with everything that is known of it."""
        prefs, names = preferences(request), selected(request, EVENT_PROPERTIES)
        body = self._render.event(found.event, found.shown, found.calendar, caller.account, prefs)
        if names is not None and "cancelledOccurrences" in names:
            body["cancelledOccurrences"] = self._cancelled(found, prefs)
        if request.query_params.get("$expand") == "exceptionOccurrences":
            body["exceptionOccurrences"] = [
                self._render.event(found.event, shown, found.calendar, caller.account, prefs)
                for shown in (series.occurrence(found.event, key) for key in found.event.overrides)
                if shown.live
            ]
        fields = f"({','.join(names)})" if names else ""
        head = {"@odata.context": context(caller.account.email, f"events{fields}/$entity")}
        if names is None:
            origin = here(request).partition("/v1.0/")[0]
            owner, name = quote(caller.account.email), found.calendar.id
            link = f"{origin}/v1.0/users('{owner}')/calendars('{name}')"
            body |= {"calendar@odata.associationLink": f"{link}/$ref", "calendar@odata.navigationLink": link}
        return reply(head | _only(body, names, never=frozenset()), prefs=prefs)

    def _cancelled(self, found: Found, prefs: Preferences) -> list[str]:
        gone = (series.occurrence(found.event, o.original_start) for o in found.event.overrides.values() if o.cancelled)
        return [self._render.occurrence_id(found.event, shown, found.calendar, prefs) for shown in gone]

    # --- lists of events ---

    def view(self, request: Request, calendar: Calendar, caller: Caller, path: str) -> Response:
        """calendarView: singles, occurrences and exceptions that overlap the window; no masters."""
        start, end = window(request)
        refuse_options(request, ("$filter", "$search", "$expand"))
        shown = self._world.instances(calendar.id, start, end)
        answer = self._page(request, shown, calendar, caller, path)
        if self._faults.strike("edit_between_pages", "graph.calendarView", calendar=calendar.id):
            draft = EventDraft(title="Committed between pages", start=start, end=start + timedelta(hours=1))
            self._world.create_event(calendar.id, draft)
        return answer

    def events(self, request: Request, calendar: Calendar, caller: Caller, path: str) -> Response:
        """Single events and masters."""
        refuse_options(request, ("$filter", "$search", "$expand"))
        newest = (versions[-1] for versions in self._world.versions[calendar.id].values())
        return self._page(request, [series.single(e) for e in newest if e.is_live], calendar, caller, path)

    def instances(self, request: Request, found: Found, caller: Caller) -> Response:
        """The occurrences of one series in a window."""
        start, end = window(request)
        zone = ZoneInfo(found.calendar.time_zone)
        shown = [one for one in series.within(found.event, start, end, zone) if one.live]
        name = self._book.name(found.calendar, found.event.id, preferences(request))
        return self._page(request, shown, found.calendar, caller, f"events('{quote(name)}')/instances")

    def _page(self, request: Request, shown: list[Instance], calendar: Calendar, caller: Caller, path: str) -> Response:
        prefs, names = preferences(request), selected(request, EVENT_PROPERTIES)
        top = count_option(request, "$top", prefs.page_size or DEFAULT_PAGE, LARGEST_PAGE)
        top = self._faults.page_size("graph.calendarView", top, calendar=calendar.id)
        skip = count_option(request, "$skip", 0)
        shown = _ordered(shown, request.query_params.get("$orderby"), ZoneInfo(calendar.time_zone))
        fields = f"({','.join(names)})" if names else ""
        body: Json = {"@odata.context": context(caller.account.email, path + fields)}
        if self._faults.strike("empty_page", "graph.calendarView", calendar=calendar.id):
            return reply(body | {"value": [], "@odata.nextLink": _next(request, skip)}, prefs=prefs)
        entries = []
        for one in shown[skip : skip + top]:
            event = self._world.event(calendar.id, one.series_id or one.event_id)
            entry = self._render.event(event, one, calendar, caller.account, prefs)
            entries.append(_only(entry, names, never=frozenset(_NEVER_SELECTED)))
        body["value"] = entries
        if skip + top < len(shown):
            body["@odata.nextLink"] = _next(request, skip + top)
        return reply(body, prefs=prefs)


def _may_see(email: str, calendar: Calendar) -> bool:
    return calendar.provider == "microsoft" and email in calendar.acl and not calendar.deleted


def _next(request: Request, skip: int) -> str:
    """The same request, further on."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "$skip"]
    return f"{here(request)}?{urlencode([*kept, ('$skip', str(skip))], safe='$')}"


def _only(entry: Json, names: tuple[str, ...] | None, *, never: frozenset[str]) -> Json:
    if names is None:
        return entry
    wanted = set(names) - never | set(_ALWAYS)
    return {name: value for name, value in entry.items() if name in wanted}


def _ordered(shown: list[Instance], order: str | None, zone: ZoneInfo) -> list[Instance]:
    if not order:
        return shown
    name, _, direction = order.strip().partition(" ")
    keys: dict[str, Callable[[Instance], object]] = {
        "start/dateTime": lambda one: _instant(one.start, zone),
        "end/dateTime": lambda one: _instant(one.end, zone),
        "subject": lambda one: one.title or "",
        "createdDateTime": lambda one: one.created,
        "lastModifiedDateTime": lambda one: one.updated,
    }
    if name not in keys or direction.strip() not in {"", "asc", "desc"}:
        raise Refused(400, "ErrorInvalidUrlQueryFilter", f"The order '{order}' is not supported.")
    return sorted(shown, key=keys[name], reverse=direction.strip() == "desc")  # type: ignore[arg-type]


def _instant(moment: datetime | date, zone: ZoneInfo) -> datetime:
    if isinstance(moment, datetime):
        return moment
    return datetime(moment.year, moment.month, moment.day, tzinfo=zone)
