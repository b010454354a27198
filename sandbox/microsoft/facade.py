"""Microsoft's face of the world: routes, bearer tokens, and the limits of a mailbox.

What is read of a mailbox is limited to four requests at once for each application ("Microsoft Graph service-specific
throttling limits", Outlook service); the fifth gets 429. Everything under /me is also under /users/{own id or address}.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.consent import Consent
from sandbox.door import Door, Endpoint, RequestLog
from sandbox.faults import Faults
from sandbox.microsoft import errors
from sandbox.microsoft.answers import reply, stamp
from sandbox.microsoft.book import Book, Found
from sandbox.microsoft.delta import Delta
from sandbox.microsoft.errors import Refused
from sandbox.microsoft.login import Login
from sandbox.microsoft.notifications import Notifier
from sandbox.microsoft.preferences import preferences
from sandbox.microsoft.render import METADATA, Renderer, name_of
from sandbox.microsoft.subscriptions import Subscriptions
from sandbox.microsoft.views import Caller, Views
from sandbox.model import AccessToken, Calendar
from sandbox.push import Push
from sandbox.world import World

Handler = Callable[[Request, Caller], Awaitable[Response]]

MAILBOX = ("graph.calendar", "graph.delta", "graph.event", "graph.instances")
"""Operations (by their beginning) that count against a mailbox."""


@dataclass(slots=True)
class Limits:
    """How much of one mailbox an application may ask for at once (None: anything), and how long it waits after that."""

    concurrency: int | None = 4
    retry_after: int = 1


class Graph:
    """The routes, on one world."""

    def __init__(self, world: World, push: Push, faults: Faults, log: RequestLog) -> None:
        self._world = world
        self._faults = faults
        self._log = log
        self._door = Door(faults, log, world.clock, errors.ERRORS_ONLY, errors.planted, self._guard)
        self._book = Book(world)
        renderer = Renderer(world, self._book)
        self._views = Views(world, faults, self._book, renderer)
        self._delta = Delta(world, faults, renderer)
        self._login = Login(world, faults)
        self._subscriptions = Subscriptions(world, push, faults, self._views.one)
        self._consent = Consent(
            world, faults, "microsoft", operation="graph.authorize", turns_away=self._login.turns_away
        )
        self._not_ready: dict[str, datetime] = {}
        self.notifier = Notifier(world, push, faults, self._book)
        self.limits = Limits()

    def routes(self) -> list[Route]:
        """Everything that Microsoft answers here."""
        token = self._open(self._login.token, "graph.token")
        consent = self._open(self._consent.endpoint, "graph.authorize")
        routes = [
            Route("/{tenant:str}/oauth2/v2.0/token", token, methods=["POST"]),
            Route("/{tenant:str}/oauth2/v2.0/authorize", consent, methods=["GET", "POST"]),
        ]
        for root in ("/v1.0/me", "/v1.0/users/{user:str}"):
            routes += self._mailbox_routes(root)
        one = "/v1.0/subscriptions/{subscription:str}"
        table: list[tuple[str, str, Handler, str]] = [
            ("POST", "/v1.0/subscriptions", self._subscriptions.create, "create"),
            ("GET", "/v1.0/subscriptions", _later(self._subscriptions.listed), "list"),
            ("GET", one, _later(self._subscriptions.get), "get"),
            ("PATCH", one, self._subscriptions.update, "update"),
            ("DELETE", one, _later(self._subscriptions.delete), "delete"),
            ("POST", f"{one}/reauthorize", _later(self._subscriptions.reauthorize), "reauthorize"),
        ]
        routes += [
            Route(path, self._serve(handler, f"graph.subscriptions.{name}"), methods=[method])
            for method, path, handler, name in table
        ]
        return [*routes, Route("/v1.0/{rest:path}", self._open(self._unknown, "graph.unknown"))]

    def _mailbox_routes(self, root: str) -> list[Route]:
        table: list[tuple[str, Handler, str]] = [
            (root, self._me, "graph.me"),
            (f"{root}/calendars", _later(self._views.calendars), "graph.calendars.list"),
        ]
        for calendar in (f"{root}/calendars/{{calendar:str}}", f"{root}/calendar"):
            table += [(calendar, self._calendar, "graph.calendars.get")]
        for place in (f"{root}/calendars/{{calendar:str}}", f"{root}/calendar", root):
            table += [
                (f"{place}/calendarView", self._view, "graph.calendarView"),
                (f"{place}/calendarView/delta", self._delta_page, "graph.delta"),
                (f"{place}/calendarView/delta()", self._delta_page, "graph.delta"),
                (f"{place}/events", self._events, "graph.events.list"),
                (f"{place}/events/{{event:str}}", self._event, "graph.event"),
                (f"{place}/events/{{event:str}}/instances", self._instances, "graph.instances"),
            ]
        return [Route(path, self._serve(handler, operation)) for path, handler, operation in table]

    # --- around every request ---

    def _open(self, endpoint: Endpoint, operation: str) -> Endpoint:
        inner = self._door.open(endpoint, operation)

        async def serve(request: Request) -> Response:
            errors.mark_of(request, self._world.clock.now())
            return stamp(await inner(request), request)

        return serve

    def _serve(self, handler: Handler, operation: str) -> Endpoint:
        async def serve(request: Request) -> Response:
            try:
                caller = self._caller(request)
                self._check(request, caller, operation)
                return await handler(request, caller)
            except Refused as refused:
                return refused.answer(request)

        return self._open(serve, operation)

    @contextmanager
    def _guard(self, request: Request, operation: str) -> Iterator[Response | None]:
        token = self._token(request)
        if token is None or not operation.startswith(MAILBOX):
            yield None
            return
        flight = self._log.mailbox(token.client_id, token.email)
        with flight.aboard():
            limit = self.limits.concurrency
            is_over = limit is not None and flight.now > limit
            retry_after = {"retry_after": self.limits.retry_after}
            yield errors.planted("too_many_requests", retry_after, request) if is_over else None

    def _token(self, request: Request) -> AccessToken | None:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        return self._world.tokens.get(text) if scheme.lower() == "bearer" else None

    def _caller(self, request: Request) -> Caller:
        token = self._token(request)
        if "authorization" not in request.headers:
            raise Refused(401, "InvalidAuthenticationToken", "Access token is empty.")
        account = self._world.accounts.get(token.email) if token is not None else None
        if token is None or account is None or account.provider != "microsoft":
            raise Refused(401, "InvalidAuthenticationToken", "Access token validation failure. Invalid audience.")
        if token.expires_at <= self._world.clock.now():
            raise Refused(401, "InvalidAuthenticationToken", "Lifetime validation failed, the token is expired.")
        return Caller(account, token.client_id, token.scopes)

    def _check(self, request: Request, caller: Caller, operation: str) -> None:
        """Permissions, whose mailbox it is, and the faults that depend on what is asked."""
        scopes = {scope.rpartition("/")[2].lower() for scope in caller.scopes}
        if operation == "graph.me":
            if "user.read" not in scopes:
                message = "Insufficient privileges to complete the operation."
                raise Refused(403, "Authorization_RequestDenied", message)
        elif not any(scope.startswith("calendars.read") for scope in scopes):
            raise errors.denied()
        user = request.path_params.get("user")
        if user is not None and user.lower() not in {caller.account.subject, caller.account.email.lower()}:
            raise errors.denied()
        calendar = request.path_params.get("calendar")
        if operation.startswith(MAILBOX):
            self._check_mailbox(caller, operation, calendar)
        slow = self._faults.strike("gateway_timeout", operation, calendar=calendar) if self._is_big(request) else None
        if slow is not None:
            raise Refused(504, "UnknownError", "")

    def _check_mailbox(self, caller: Caller, operation: str, calendar: str | None) -> None:
        """A mailbox that is still being made: for good, or for so many seconds since it was first asked for."""
        fault = next((f for f in self._faults.active if f.kind == "mailbox_not_enabled"), None)
        now, email = self._world.clock.now(), caller.account.email
        if fault is not None and "seconds" in fault.params:
            ready = self._not_ready.setdefault(email, now + timedelta(seconds=float(fault.params["seconds"])))
            if ready <= now:
                return
        if self._faults.strike("mailbox_not_enabled", operation, calendar=calendar):
            message = "The mailbox is either inactive, soft-deleted, or is hosted on-premise."
            raise Refused(404, "MailboxNotEnabledForRESTAPI", message)

    def _is_big(self, request: Request) -> bool:
        """Whether the page that is asked for is larger than the fault lets pass."""
        fault = next((f for f in self._faults.active if f.kind == "gateway_timeout"), None)
        if fault is None:
            return False
        top = request.query_params.get("$top", "")
        size = int(top) if top.isdigit() else preferences(request).page_size or 10
        return size > int(fault.params.get("above", 0))

    def _place(self, request: Request, caller: Caller) -> Calendar:
        """The calendar in the path, or the default one; Refused where there is none that the caller may see."""
        name = request.path_params.get("calendar", caller.account.calendar_id)
        found = self._views.one(caller, name)
        if found is None:
            raise errors.not_found() if len(name) > 20 else errors.malformed_id()
        return found

    @staticmethod
    def _path(request: Request, calendar: Calendar, name: str) -> str:
        return f"calendars('{calendar.id}')/{name}" if "calendar" in request.path_params else name

    @staticmethod
    async def _unknown(request: Request) -> Response:
        segment = request.path_params["rest"].rpartition("/")[2]
        return errors.failure(request, 400, "BadRequest", f"Resource not found for the segment '{segment}'.")

    # --- mailboxes ---

    async def _me(self, _: Request, caller: Caller) -> Response:
        account = caller.account
        name = name_of(account)
        first, *rest = name.split(" ", 1)
        return reply(
            {
                "@odata.context": f"{METADATA}#users/$entity",
                "businessPhones": [],
                "displayName": name,
                "givenName": first,
                "jobTitle": None,
                "mail": None if account.personal else account.email,
                "mobilePhone": None,
                "officeLocation": None,
                "preferredLanguage": None,
                "surname": rest[0] if rest else None,
                "userPrincipalName": account.email,
                "id": account.subject,
            }
        )

    async def _calendar(self, request: Request, caller: Caller) -> Response:
        return self._views.calendar(self._place(request, caller), caller)

    async def _view(self, request: Request, caller: Caller) -> Response:
        calendar = self._place(request, caller)
        return self._views.view(request, calendar, caller, self._path(request, calendar, "calendarView"))

    async def _delta_page(self, request: Request, caller: Caller) -> Response:
        return self._delta.page(request, self._place(request, caller), caller)

    async def _events(self, request: Request, caller: Caller) -> Response:
        calendar = self._place(request, caller)
        return self._views.events(request, calendar, caller, self._path(request, calendar, "events"))

    async def _event(self, request: Request, caller: Caller) -> Response:
        return self._views.event(request, self._found(request, caller), caller)

    async def _instances(self, request: Request, caller: Caller) -> Response:
        return self._views.instances(request, self._found(request, caller), caller)

    def _found(self, request: Request, caller: Caller) -> Found:
        """The event in the path: in the calendar that is named there, or anywhere in the caller's own mailbox."""
        own = [one for one in self._views.visible(caller) if one.owner == caller.account.email]
        calendars = [self._place(request, caller)] if "calendar" in request.path_params else own
        text = request.path_params["event"]
        found = self._book.find(text, calendars)
        if found is None:
            raise errors.not_found() if len(text) > 20 else errors.malformed_id()
        return found


def _later(handler: Callable[[Request, Caller], Response]) -> Handler:
    """A handler that has nothing to wait for."""

    async def answer(request: Request, caller: Caller) -> Response:
        return handler(request, caller)

    return answer
