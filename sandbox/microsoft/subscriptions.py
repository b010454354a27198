"""/v1.0/subscriptions: made only after the receiver has answered the validation handshake, renewed, removed.

Sources: the resource page "subscription" with its methods, "Change notifications overview", and the messages that
production gives.
"""

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_plus, unquote
from uuid import uuid4

import orjson
from starlette.requests import Request
from starlette.responses import Response

from sandbox.faults import Faults
from sandbox.microsoft.answers import here, reply
from sandbox.microsoft.errors import Refused, planted
from sandbox.microsoft.preferences import preferences
from sandbox.microsoft.render import METADATA, Json
from sandbox.microsoft.views import Caller
from sandbox.model import Calendar
from sandbox.push import Post, Push, Subscription
from sandbox.world import World

LONGEST = timedelta(minutes=10_080)
SHORTEST = timedelta(minutes=45)
PER_MAILBOX = 1_000
PAGE = 100
HANDSHAKE_SECONDS = 10
LONGEST_STATE = 128
_RESOURCE = re.compile(r"^/?(me|users/[^/]+)/(?:calendars/([^/]+)/events|(calendar/events|events))/?$", re.IGNORECASE)
_PLANTED_ON_CREATE = ("duplicate_subscription", "endpoint_unreachable", "push_not_supported")


class Subscriptions:
    """Answers them. `visible` finds a calendar that a caller may see by its id."""

    def __init__(
        self, world: World, push: Push, faults: Faults, visible: Callable[[Caller, str], Calendar | None]
    ) -> None:
        self._world = world
        self._push = push
        self._faults = faults
        self._visible = visible

    async def create(self, request: Request, caller: Caller) -> Response:
        """201 with the subscription, after one handshake for each URL."""
        body = await _json(request)
        subscription = self._drafted(body, request, caller)
        for kind in _PLANTED_ON_CREATE:
            fault = self._faults.strike(kind, "graph.subscriptions.create", calendar=subscription.calendar_id)
            if fault is not None:
                return planted(kind, fault.params, request)
        self._refuse_duplicate(subscription)
        slow = self._faults.strike("slow_validation", "graph.subscriptions.create", calendar=subscription.calendar_id)
        if slow is not None:
            await asyncio.sleep(float(slow.params.get("seconds", 1)))
        for url in (subscription.notification_url, subscription.lifecycle_url):
            if url is not None:
                await self._shake_hands(url)
        self._refuse_duplicate(subscription)
        self._push.subscriptions[subscription.id] = subscription
        shown = self._shown(subscription) | {"clientState": subscription.client_state}
        return reply({"@odata.context": f"{METADATA}#subscriptions/$entity"} | shown, status=201)

    def listed(self, request: Request, caller: Caller) -> Response:
        """The application's own ones for this user."""
        found = [self._shown(one) for one in self._live() if self._is_own(one, caller)]
        text = request.query_params.get("$skiptoken", "0")
        offset = int(text) if text.isdigit() else 0
        body: Json = {"@odata.context": f"{METADATA}#subscriptions", "value": found[offset : offset + PAGE]}
        if offset + PAGE < len(found):
            body["@odata.nextLink"] = f"{here(request)}?$skiptoken={offset + PAGE}"
        return reply(body)

    def get(self, request: Request, caller: Caller) -> Response:
        """One of them."""
        head = {"@odata.context": f"{METADATA}#subscriptions/$entity"}
        return reply(head | self._shown(self._own(request, caller)))

    async def update(self, request: Request, caller: Caller) -> Response:
        """Renew it, which also reauthorises; a new notificationUrl is validated first."""
        subscription, body = self._own(request, caller), await _json(request)
        unknown = set(body) - {"expirationDateTime", "notificationUrl"} - {n for n in body if n.startswith("@")}
        if unknown:
            raise _invalid(f"The properties {', '.join(sorted(unknown))} cannot be updated.")
        url = body.get("notificationUrl")
        expires = self._expiry(body["expirationDateTime"], subscription) if "expirationDateTime" in body else None
        if url is not None and url != subscription.notification_url:
            await self._shake_hands(_address(url, "notificationUrl"))
            subscription.notification_url = str(url)
        if expires is not None:
            subscription.expires_at = expires
        head = {"@odata.context": f"{METADATA}#subscriptions/$entity"}
        return reply(head | self._shown(subscription))

    def delete(self, request: Request, caller: Caller) -> Response:
        """204; nothing is sent any more."""
        self._own(request, caller).removed = True
        return Response(status_code=204)

    def reauthorize(self, request: Request, caller: Caller) -> Response:
        """204; its life is not longer for that."""
        self._own(request, caller)
        return Response(status_code=204)

    # --- inside ---

    def _live(self) -> list[Subscription]:
        now = self._world.clock.now()
        return [one for one in self._push.subscriptions.values() if one.is_live(now)]

    @staticmethod
    def _is_own(subscription: Subscription, caller: Caller) -> bool:
        return (subscription.client_id, subscription.email) == (caller.client_id, caller.account.email)

    def _own(self, request: Request, caller: Caller) -> Subscription:
        found = self._push.subscriptions.get(request.path_params["subscription"])
        if found is None or not found.is_live(self._world.clock.now()) or not self._is_own(found, caller):
            raise Refused(404, "ResourceNotFound", "The object was not found.")
        return found

    def _drafted(self, body: Json, request: Request, caller: Caller) -> Subscription:
        for name in ("changeType", "notificationUrl", "resource", "expirationDateTime"):
            if not body.get(name):
                raise _invalid(f"The property '{name}' is required.")
        change_type = str(body["changeType"])
        kinds = {name.strip().lower() for name in change_type.split(",")}
        if not kinds <= {"created", "updated", "deleted"}:
            raise _invalid(f"Invalid 'changeType' attribute: '{change_type}'.")
        state = body.get("clientState")
        if state is not None and len(str(state)) > LONGEST_STATE:
            raise _invalid(f"The clientState property exceeds the maximum length of {LONGEST_STATE} characters.")
        lifecycle = body.get("lifecycleNotificationUrl")
        subscription = Subscription(
            id=str(uuid4()),
            calendar_id=self._calendar(str(body["resource"]), caller).id,
            email=caller.account.email,
            client_id=caller.client_id,
            resource=str(body["resource"]),
            change_type=change_type,
            notification_url=_address(body["notificationUrl"], "notificationUrl"),
            lifecycle_url=None if lifecycle is None else _address(lifecycle, "lifecycleNotificationUrl"),
            client_state=None if state is None else str(state),
            expires_at=self._world.clock.now(),
            immutable=preferences(request).immutable,
            tls=str(body.get("latestSupportedTlsVersion") or "v1_2"),
        )
        subscription.expires_at = self._expiry(body["expirationDateTime"], subscription)
        return subscription

    def _calendar(self, resource: str, caller: Caller) -> Calendar:
        match = _RESOURCE.match(resource)
        who = match[1].lower() if match is not None else ""
        own = {"me", f"users/{caller.account.subject}", f"users/{caller.account.email.lower()}"}
        if match is None or who not in own:
            raise _invalid(f"Unsupported resource '{resource}'.")
        name = unquote(match[2]) if match[2] is not None else caller.account.calendar_id
        calendar = self._visible(caller, name)
        if calendar is None:
            raise Refused(
                400,
                "ExtensionError",
                "Operation: Create; Exception: [Status Code: NotFound; Reason: 'Resource' is invalid].",
            )
        if not calendar.is_watchable:
            raise Refused(400, "ExtensionError", "Operation: Create; the mailbox is currently on backend 'Unknown'.")
        return calendar

    def _expiry(self, value: object, subscription: Subscription) -> datetime:
        """When it ends: at most seven days away, at least 45 minutes; Refused for more."""
        now = self._world.clock.now()
        try:
            asked = datetime.fromisoformat(str(value))
        except ValueError:
            raise _invalid("Subscription expiration is not a valid date and time.") from None
        asked = asked.replace(tzinfo=UTC) if asked.tzinfo is None else asked.astimezone(UTC)
        if asked <= now:
            raise _invalid("Subscription expiration can only be in the future.")
        if asked - now > LONGEST:
            raise _invalid(
                f"Subscription expiration can only be {int(LONGEST.total_seconds() // 60)} minutes in the future."
            )
        short = self._faults.strike("short_expiration", "graph.subscriptions.create", calendar=subscription.calendar_id)
        if short is not None:
            return now + timedelta(seconds=float(short.params.get("seconds", 3600)))
        return max(asked, now + SHORTEST)

    def _refuse_duplicate(self, subscription: Subscription) -> None:
        """One for each combination of application, user, change types and resource; so many for each mailbox."""

        def combination(one: Subscription) -> tuple[object, ...]:
            kinds = frozenset(name.strip().lower() for name in one.change_type.split(","))
            return one.client_id, one.email, kinds, unquote(one.resource.strip("/"))

        live = self._live()
        same = next((one for one in live if combination(one) == combination(subscription)), None)
        if same is not None:
            raise Refused(409, "Conflict", f"Subscription Id {same.id} already exists for the requested combination.")
        if sum(1 for one in live if one.email == subscription.email) >= PER_MAILBOX:
            raise Refused(
                403, "ErrorAccessDenied", f"The limit of {PER_MAILBOX} active subscriptions has been reached."
            )

    async def _shake_hands(self, url: str) -> None:
        """The receiver must echo a token as plain text within ten seconds. Without a way out nobody is asked."""
        if not self._push.is_connected:
            return
        token = f"Validation: Testing client application reachability for subscription Request-Id: {uuid4()}"
        target = f"{url}{'&' if '?' in url else '?'}validationToken={quote_plus(token)}"
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        answer = await self._push.post(Post(target, headers, seconds=HANDSHAKE_SECONDS))
        if answer is None:
            raise _unvalidated("The request timed out or the endpoint could not be reached.")
        if answer.status_code != 200:
            raise _unvalidated(
                f"Notification endpoint must respond with 200 OK to validation request, not {answer.status_code}."
            )
        is_plain = answer.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/plain"
        if not is_plain or answer.text != token:
            raise _unvalidated("Validation request must return the validation token as text/plain.")

    def _shown(self, subscription: Subscription) -> Json:
        """As reads show it; the client state stays a secret."""
        account = self._world.accounts[subscription.email]
        return {
            "id": subscription.id,
            "resource": subscription.resource,
            "applicationId": subscription.client_id,
            "changeType": subscription.change_type,
            "clientState": None,
            "notificationUrl": subscription.notification_url,
            "notificationQueryOptions": None,
            "lifecycleNotificationUrl": subscription.lifecycle_url,
            "expirationDateTime": f"{subscription.expires_at:%Y-%m-%dT%H:%M:%S.%f}0Z",
            "creatorId": account.subject,
            "includeResourceData": None,
            "latestSupportedTlsVersion": subscription.tls,
            "encryptionCertificate": None,
            "encryptionCertificateId": None,
            "notificationUrlAppId": None,
        }


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.body())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused(400, "BadRequest", "Unable to read JSON request payload.")
    return body


def _address(value: object, name: str) -> str:
    url = str(value)
    is_loopback = url.startswith(("http://127.0.0.1", "http://localhost", "http://[::1]"))
    if not url.startswith("https://") and not is_loopback:
        raise _invalid(f"The {name} must be a valid HTTPS URL.")
    return url


def _invalid(message: str) -> Refused:
    return Refused(400, "InvalidRequest", message)


def _unvalidated(reason: str) -> Refused:
    return Refused(400, "ValidationError", f"Subscription validation request failed. {reason}")
