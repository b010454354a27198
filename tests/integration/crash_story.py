"""The story that every crash point is tried on: endpoints of all kinds, a few messages, and what becomes of them."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from app.crypto import Place, new_webhook_secret
from app.ids import MESSAGE, new_id, public
from app.runtime import Runtime
from app.webhooks.delivery import deliver_due
from app.webhooks.payloads import BOT_LAUNCH, EVENTS_UPDATE, STATE_CHANGE
from tests.harness import new_project
from tests.integration.delivering import launch, rows, send, tell

ENDS = {
    "good": {"succeeded"},
    "flaky": {"succeeded"},
    "gone": {"failed"},
    "hopeless": {"failed"},
    "ordered": {"succeeded"},
    "failing": {"merged", "succeeded"},
    "owed": {"merged", "succeeded"},
    "launcher": {"succeeded"},
}
"""The endpoints, and how their deliveries end.

good answers 204. flaky answers 500 to its first request. gone answers 410. hopeless answers 500, and its schedule has
one attempt. ordered wants its messages in order, and answers 500 to its second request. failing is in that state, so
its messages become a digest. owed is too, and has a digest already that takes in what follows. launcher is to launch
a bot.
"""
OF_CALENDAR = ("hopeless", "ordered", "failing", "owed")
"""Those that are told of the changes of one calendar; the others are told of its state, or launch."""
LAST_SEQ = 2
_FINE = {"enabled", "failing"}
STANDING = {"gone": {"disabled"}, "hopeless": _FINE, "failing": {"enabled"}, "owed": {"enabled"}}
"""How an endpoint stands in the end, where it is not as it was."""


_MAKE = """
INSERT INTO webhook_endpoints (
    id, project_id, url, triggers, secret_sealed, is_ordered, retry_seconds, state, failure_count, failing_since
) VALUES (
    :id, :project, :url, :triggers, :secret, :ordered, :schedule, :state, :failures,
    CASE WHEN :failures > 0 THEN app_now() - interval '25 hours' END
)
"""


class Hooks:
    """The receiver of all endpoints of all stories: the path's last part says which kind answers."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, str, int]] = Counter()
        """By path, `webhook-id` and status."""
        self.ranges: dict[str, list[tuple[range, int]]] = {}
        """By path: the numbers that each request told, with the answer's status, in order."""
        self.delay = 0.0
        """Seconds that the next answer takes."""
        self.then: Callable[[], None] | None = None
        """Called once, when the next request has come."""
        self.gate: asyncio.Event | None = None
        """Requests that come while there is one are answered once it is set."""
        self.held: set[tuple[str, str]] = set()
        """Path and `webhook-id` of those that have waited for a gate."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, by ASGI; of one that breaks off nothing is remembered."""
        body = b""
        while (part := await receive())["type"] == "http.request":
            body += part["body"]
            if not part["more_body"]:
                break
        else:
            return
        message_id = dict(scope["headers"])[b"webhook-id"].decode()
        status = self._answer(scope["path"], message_id, orjson.loads(body)["data"])
        if self.gate is not None:
            self.held.add((scope["path"], message_id))
            await self.gate.wait()
        delay, then = self.delay, self.then
        self.delay, self.then = 0.0, None
        if then:
            then()
        await asyncio.sleep(delay)
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def _answer(self, path: str, message_id: str, data: dict[str, Any]) -> int:
        told = self.ranges.setdefault(path, [])
        lame = {"flaky": 0, "ordered": 1}.get(kind := path.rpartition("/")[2])
        status = {"gone": 410, "hopeless": 500}.get(kind, 500 if len(told) == lame else 204)
        self.answered[path, message_id, status] += 1
        numbers = range(data["from_seq"], data["to_seq"] + 1) if "from_seq" in data else range(0)
        told.append((numbers, status))
        return status


@dataclass(frozen=True, slots=True)
class Row:
    """A delivery, and its attempts in order: status and error. `version` is all that may not change once it ended."""

    kind: str
    message: str
    state: str
    counted: int
    attempts: tuple[tuple[int | None, str | None], ...]
    version: tuple[Any, ...]

    @property
    def has_ended(self) -> bool:
        """Whether nothing may change it any more."""
        return self.state != "pending"

    @property
    def unrecorded(self) -> int:
        """Attempts that were begun and of which nothing is known."""
        return self.counted - len(self.attempts)


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is recorded, at one moment."""

    rows: dict[UUID, Row]
    states: dict[str, tuple[Any, ...]]
    """Of the endpoints by kind: state, why it is disabled, and from where it lacks changes.

    Not its count of failures: an answer that was given may count, whoever records the attempt.
    """

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to deliver."""
        return all(row.has_ended for row in self.rows.values())


class Story:
    """One telling, with a project of its own."""

    def __init__(self, rt: Runtime, hooks: Hooks, url: str, *, number: int) -> None:
        self._rt = rt
        self._hooks = hooks
        self._url = url
        self._path = f"/{number}"
        self._project_id: UUID

    async def begin(self) -> None:
        """Make the endpoints, and publish what they are to be told."""
        project = await new_project(self._rt, self._path)
        self._project_id, calendar_id = project.id, new_id()
        await self._make("owed")
        await self._pause("owed", is_paused=True)
        await tell(self._rt, project, calendar_id, 1)
        assert await deliver_due(self._rt) == 0  # it is merged, and has to wait
        await self._make(*(ENDS.keys() - {"owed"}))
        await self._pause("owed", is_paused=False)
        for seq in range(2, LAST_SEQ + 2):
            await tell(self._rt, project, calendar_id, seq)
        await send(self._rt, project)
        await launch(self._rt, project, seconds=86_400)

    async def _make(self, *kinds: str) -> None:
        made = []
        for kind in kinds:
            key, is_failing = new_id(), kind in {"failing", "owed"}
            made.append(
                {
                    "id": key,
                    "project": self._project_id,
                    "url": f"{self._url}{self._path}/{kind}",
                    "triggers": [_trigger(kind)],
                    "secret": self._rt.cipher.seal(new_webhook_secret(), Place("webhook_endpoints", "secret", key)),
                    "ordered": kind in {"ordered", "owed"},
                    "schedule": [] if kind == "hopeless" else None,
                    "state": "failing" if is_failing else "enabled",
                    "failures": 6 if is_failing else 0,
                }
            )
        async with self._rt.db.transaction() as tx:
            await tx.execute(_MAKE, made)

    async def _pause(self, kind: str, *, is_paused: bool) -> None:
        async with self._rt.db.transaction() as tx:
            await tx.execute(
                "UPDATE webhook_endpoints"
                " SET paused_until = CASE WHEN :is_paused THEN app_now() + interval '1 hour' END"
                " WHERE project_id = :project AND url LIKE '%/' || :kind",
                {"is_paused": is_paused, "project": self._project_id, "kind": kind},
            )

    async def look(self) -> Picture:
        """What is recorded now."""
        found = await rows(
            self._rt,
            "SELECT d.*, e.url, (SELECT json_agg(json_build_array(a.status, a.error) ORDER BY a.id)"
            "  FROM delivery_attempts a WHERE a.delivery_id = d.id) AS attempts"
            " FROM deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint_id WHERE d.project_id = :project",
            project=self._project_id,
        )
        states = await rows(
            self._rt,
            "SELECT e.url, e.state, e.disabled_reason,"
            " (SELECT min(g.from_seq) FROM delivery_gaps g WHERE g.endpoint_id = e.id) AS gap"
            " FROM webhook_endpoints e WHERE e.project_id = :project",
            project=self._project_id,
        )
        return Picture({row["id"]: _row(row) for row in found}, {_kind(s): tuple(s.values())[1:] for s in states})

    # --- what must hold ---

    def judge(self, now: Picture, before: Picture | None = None) -> Picture:
        """What holds at any moment: nothing is gone, nothing is recorded that did not happen, what has ended stays."""
        for row in now.rows.values():
            recorded = Counter(status for status, _ in row.attempts if status is not None)
            for status, count in recorded.items():
                assert count <= self._answered(row, status), f"recorded, and never answered: {row}"
            successes = [status is not None and status < 300 for status, _ in row.attempts]
            assert sum(successes) == (row.state == "succeeded"), f"state and attempts contradict each other: {row}"
            assert not any(successes[:-1]), f"tried again after a success: {row}"
            assert 0 <= row.unrecorded <= 1, f"counted otherwise than recorded: {row}"
        if before is not None:
            assert before.rows.keys() <= now.rows.keys(), "a delivery is gone"
            changed = [row for key, row in before.rows.items() if row.has_ended and now.rows[key] != row]
            assert not changed, f"changed after their end: {changed}"
        return now

    def judge_overtaken(self, now: Picture, before: Picture) -> None:
        """What is under way by another worker is left to it: only its own record may change a row."""
        for key, row in before.rows.items():
            if (f"{self._path}/{row.kind}", row.message) in self._hooks.held:
                assert now.rows[key] == row, f"settled by a worker whose lease was over: {now.rows[key]}"

    def judge_end(self, end: Picture) -> None:
        """What holds in the end: each message has come to what its endpoint makes of it, and nobody lacks a number."""
        for row in end.rows.values():
            assert row.state in ENDS[row.kind], f"not delivered: {row}"
            if row.state == "succeeded":
                assert self._answered(row, 204), f"never received: {row}"
            elif row.state == "failed":
                assert row.attempts, f"given up without an attempt: {row}"
        for kind in ("ordered", "failing", "owed"):
            told = self._hooks.ranges.get(f"{self._path}/{kind}", [])
            known = {number for numbers, status in told for number in numbers if status == 204}
            lacking = set(range(1 if kind == "owed" else 2, LAST_SEQ + 2)) - known
            assert not lacking, f"{kind} lacks {lacking}: {told}"
        for kind, states in STANDING.items():
            assert end.states[kind][0] in states, f"{kind} is {end.states[kind]}"
        self._judge_order()

    def _judge_order(self) -> None:
        """No number is told to `ordered` before the one ahead of it was acknowledged."""
        acknowledged = {1}
        for numbers, status in self._hooks.ranges[f"{self._path}/ordered"]:
            assert numbers.start - 1 in acknowledged, f"{numbers} came too early"
            if status == 204:
                acknowledged.update(numbers)

    def _answered(self, row: Row, status: int) -> int:
        return self._hooks.answered[f"{self._path}/{row.kind}", row.message, status]


def _trigger(kind: str) -> str:
    if kind == "launcher":
        return BOT_LAUNCH
    return EVENTS_UPDATE if kind in OF_CALENDAR else STATE_CHANGE


def _kind(row: dict[str, Any]) -> str:
    return str(row["url"]).rpartition("/")[2]


def _row(row: dict[str, Any]) -> Row:
    return Row(
        kind=_kind(row),
        message=public(MESSAGE, row["message_id"]),
        state=row["state"],
        counted=row["attempt_count"],
        attempts=tuple((status, error) for status, error in row["attempts"] or ()),
        version=(row["fence"], row["updated_at"], row["next_attempt_at"]),
    )
