"""Graph's change and lifecycle notifications: JSON batches, retried until something answers 2xx in time.

One POST carries everything that is due for one URL, so it may name several subscriptions. A receiver that is slow too
often is put into a state of its own, by host: first its notifications come late, then they are dropped ("Set up
notifications for changes in resource data through webhooks").
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import urlsplit

import orjson

from sandbox.clock import Clock
from sandbox.faults import Faults
from sandbox.microsoft.book import Book
from sandbox.microsoft.preferences import Preferences
from sandbox.microsoft.render import Json, change_key
from sandbox.model import Change
from sandbox.push import Post, Push, Subscription
from sandbox.world import World

OPERATION = "graph.notification"
FIRST_SECONDS = 3
LATER_SECONDS = 10

State = Literal["fast", "slow", "drop"]
LifecycleEvent = Literal["reauthorizationRequired", "subscriptionRemoved", "missed"]

_CHANGE_TYPES = {
    "created": "created",
    "moved_in": "created",
    "restored": "created",
    "updated": "updated",
    "instance": "updated",
    "deleted": "deleted",
    "moved_out": "deleted",
}


@dataclass(slots=True)
class Receivers:
    """How fast each host answers, and what that means for it. Numbers as documented in April 2026."""

    clock: Clock
    slow_seconds: float = 3
    drop_seconds: float = 10
    slow_share: float = 0.10
    drop_share: float = 0.15
    samples: int = 10
    span: timedelta = timedelta(minutes=10)
    seen: dict[str, list[tuple[datetime, float]]] = field(default_factory=dict)
    states: dict[str, tuple[State, datetime]] = field(default_factory=dict)

    def note(self, host: str, seconds: float) -> None:
        """One answer, or the lack of one. A host with fewer than `samples` of them is not judged."""
        now = self.clock.now()
        recent = [entry for entry in self.seen.get(host, []) if entry[0] > now - self.span]
        recent.append((now, seconds))
        self.seen[host] = recent
        if len(recent) < self.samples:
            return
        if sum(1 for _, took in recent if took >= self.drop_seconds) > self.drop_share * len(recent):
            self.states[host] = ("drop", now + self.span)
        elif sum(1 for _, took in recent if took >= self.slow_seconds) > self.slow_share * len(recent):
            self.states[host] = ("slow", now + self.span)

    def state(self, host: str) -> State:
        """What a host is at present."""
        state, until = self.states.get(host, ("fast", self.clock.now()))
        return state if until > self.clock.now() else "fast"


@dataclass(frozen=True, slots=True)
class Batch:
    """One POST."""

    url: str
    items: tuple[Json, ...]
    receivers: Receivers = field(compare=False, repr=False)

    def post(self, attempt: int) -> Post:
        """What goes over the wire. The first answer has three seconds, later ones ten."""
        body = orjson.dumps({"value": list(self.items)})
        seconds = FIRST_SECONDS if attempt == 0 else LATER_SECONDS
        return Post(self.url, {"Content-Type": "application/json; charset=utf-8"}, body, seconds)

    def is_final(self, status: int) -> bool:
        """Only 2xx ends the attempts."""
        return 200 <= status < 300

    def answered(self, _status: int, seconds: float) -> None:
        """Slowness is held against the host."""
        self.receivers.note(urlsplit(self.url).netloc, seconds)


class Notifier:
    """Makes notifications of changes and hands them to the sender."""

    def __init__(self, world: World, push: Push, faults: Faults, book: Book) -> None:
        self._world = world
        self._push = push
        self._faults = faults
        self._book = book
        self._pending: dict[str, list[Json]] = {}
        self._postponed: list[tuple[datetime, Batch]] = []
        self.receivers = Receivers(world.clock)
        self.batch_seconds: float = 0
        """How long items for one URL are collected. 0: what happens without a pause between goes out together."""
        self.lost: list[Batch] = []
        """What was dropped because its receiver had been too slow."""
        world.on_change(self._changed)
        world.clock.on_advance(self.send_due)

    def lifecycle(self, subscription_id: str, event: LifecycleEvent) -> bool:
        """Tell the receiver of a subscription; False where it has no URL for that. KeyError for an unknown one.

        `subscriptionRemoved` removes it, too.
        """
        subscription = self._push.subscriptions[subscription_id]
        if event == "subscriptionRemoved":
            subscription.removed = True
        if subscription.lifecycle_url is None:
            return False
        account = self._world.accounts[subscription.email]
        item = self._head(subscription) | {
            "resource": f"Users/{account.subject}/Events",
            "lifecycleEvent": event,
        }
        self._collect(subscription.lifecycle_url, item)
        return True

    def send_due(self) -> None:
        """Send what a slow receiver has been kept waiting for long enough."""
        now = self._world.clock.now()
        due = [batch for at, batch in self._postponed if at <= now]
        self._postponed = [(at, batch) for at, batch in self._postponed if at > now]
        for batch in due:
            self._push.send(batch)

    def _changed(self, change: Change) -> None:
        kind, now = _CHANGE_TYPES[change.kind], self._world.clock.now()
        for subscription in list(self._push.subscriptions.values()):
            if subscription.calendar_id != change.calendar_id or not subscription.wants(kind):
                continue
            is_live = subscription.is_live(now) and self._may_see(subscription)
            if is_live or self._faults.strike("notify_after_deletion", OPERATION, calendar=change.calendar_id):
                self._collect(subscription.notification_url, self._item(subscription, change, kind))

    def _may_see(self, subscription: Subscription) -> bool:
        calendar = self._world.calendars[subscription.calendar_id]
        return not calendar.deleted and subscription.email in calendar.acl

    def _item(self, subscription: Subscription, change: Change, kind: str) -> Json:
        calendar = self._world.calendars[change.calendar_id]
        prefs = Preferences(immutable=subscription.immutable)
        name = self._book.name(calendar, change.event_id, prefs)
        path = f"Users/{self._world.accounts[subscription.email].subject}/Events/{name}"
        item = self._head(subscription)
        item |= {
            "changeType": kind,
            "resource": path,
            "resourceData": {
                "@odata.type": "#Microsoft.Graph.Event",
                "@odata.id": path,
                "@odata.etag": f'W/"{change_key(calendar, change.seq)}"',
                "id": name,
            },
            "clientState": item.pop("clientState"),
        }
        forged = self._faults.strike("wrong_client_state", OPERATION, calendar=change.calendar_id)
        if forged is not None:
            item["clientState"] = str(forged.params.get("client_state", "forged"))
        return item

    def _head(self, subscription: Subscription) -> Json:
        return {
            "subscriptionId": subscription.id,
            "subscriptionExpirationDateTime": f"{subscription.expires_at:%Y-%m-%dT%H:%M:%S}+00:00",
            "tenantId": self._world.accounts[subscription.email].tenant,
            "clientState": subscription.client_state,
        }

    # --- on their way ---

    def _collect(self, url: str, item: Json) -> None:
        if not self._push.is_connected or self._push.mode == "drop":
            return
        if self._push.mode == "hold":
            self._push.send(Batch(url, (item,), self.receivers))
            return
        waiting = self._pending.setdefault(url, [])
        waiting.append(item)
        if len(waiting) == 1:
            self._push.later(self.batch_seconds, self._flush(url))

    def _flush(self, url: str) -> Callable[[], None]:
        def flush() -> None:
            batch = Batch(url, tuple(self._pending.pop(url, ())), self.receivers)
            state = self.receivers.state(urlsplit(url).netloc)
            if state == "drop":
                self.lost.append(batch)
            elif state == "slow":
                self._postponed.append((self._world.clock.now() + self.receivers.span, batch))
                asyncio.get_running_loop().call_later(self.receivers.span.total_seconds() + 1, self.send_due)
            else:
                self._push.send(batch)
            self.send_due()

        return flush
