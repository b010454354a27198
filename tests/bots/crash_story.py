"""The story that every crash point of launching is tried on: one bot, what is to be done with it, what came of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Literal, get_args
from uuid import UUID

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.bots import back_ends, making
from app.bots.launchers import Kind
from app.bots.launching import launch_due
from app.crypto import Place, new_webhook_secret
from app.ids import BOT, new_id, public
from app.runtime import Runtime
from app.webhooks.delivery import deliver_due
from sandbox import Sandbox
from sandbox.backends.book import Bot
from tests.harness import new_project
from tests.integration.delivering import rows

Act = Literal["start", "start now", "find", "change", "replace", "withdraw", "leave", "withdraw found"]
ACTS: tuple[Act, ...] = get_args(Act)
"""What is to be done when the worker comes: in a meeting that is ahead, or (`now`, `leave`) under way. Of what is to be
found the answer was lost when it was started. Before `start now` the launcher's key was refused."""
_ENDS = {"withdraw", "leave", "withdraw found"}
LIVE = {"scheduled", "settling", "joined"}
_ENDPOINT = """
INSERT INTO webhook_endpoints (id, project_id, url, triggers, secret_sealed, state)
VALUES (:id, :project, :url, '{bot.launch}', :secret, 'enabled')
"""


class Hooks:
    """The customer's own back end, of all stories."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.app = Starlette(routes=[Route("/launch", self._receive, methods=["POST"])])

    async def _receive(self, request: Request) -> Response:
        data = orjson.loads(await request.body())["data"]
        self.told.append(data)
        return Response(orjson.dumps({"external_id": f"own-{data['bot']['id']}"}), media_type="application/json")


@dataclass(frozen=True, slots=True)
class Stands:
    """What stands beside the service."""

    box: Sandbox
    box_url: str
    hooks: Hooks
    hooks_url: str


class Story:
    """One telling, with a project of its own."""

    def __init__(self, rt: Runtime, stands: Stands, kind: Kind, act: Act, *, number: int) -> None:
        self._rt = rt
        self._stands = stands
        self._kind: Kind = kind
        self._act = act
        self._url = f"https://meet.google.com/crash-{number}"
        self._project_id: UUID
        self._bot_id: UUID

    async def begin(self) -> None:
        """A bot that is due, with the one thing to be done that this story is about."""
        project = await new_project(self._rt, self._url)
        self._project_id = project.id
        has_key = self._kind != "webhook"
        launcher = back_ends.NewLauncher(
            kind=self._kind,
            name=self._kind,
            base_url=self._stands.box_url if has_key else None,
            api_key=f"{self._kind}-key" if has_key else None,
            hand_over_seconds=3_600,
            is_default=True,
        )
        secret, key = new_webhook_secret(), new_id()
        async with self._rt.db.transaction() as tx:
            sealed = self._rt.cipher.seal(secret, Place("webhook_endpoints", "secret", key))
            url = f"{self._stands.hooks_url}/launch"
            await tx.execute(_ENDPOINT, {"id": key, "project": project.id, "url": url, "secret": sealed})
            await back_ends.make(self._rt, tx, project_id=project.id, new=launcher)
        is_now = self._act in {"start now", "leave"}
        join_at = self._rt.clock.now() + (timedelta() if is_now else timedelta(minutes=50))
        async with self._rt.db.transaction() as tx:
            self._bot_id = await making.make(self._rt, tx, project_id=project.id, new=self._bot(join_at))
        if self._act == "start now":
            async with self._rt.db.transaction() as tx:
                await tx.execute("UPDATE launchers SET failing_code = 'launcher_key_refused'")
        if "found" in self._act or self._act == "find":
            self._stands.box.faults.add("lost_answer", f"{self._kind}.create")
            await launch_due(self._rt)
            self._stands.box.faults.clear()
        elif not self._act.startswith("start"):
            await self.let_work()
        await self._give_order(join_at)
        self.pass_time(timedelta(seconds=6))

    def _bot(self, join_at: datetime) -> making.NewBot:
        return making.NewBot(
            bot_name="Notes",
            event_id=None,
            meeting_url=self._url,
            meeting_platform="google_meet",
            join_at=join_at,
            launcher_id=None,
            deduplication_key=None,
            metadata=None,
            config={"recording": "speaker_view"},
        )

    async def _give_order(self, join_at: datetime) -> None:
        if self._act in _ENDS:
            await self.remove()
            return
        if self._act not in {"change", "replace"}:
            return
        patch = making.BotPatch(frozenset({"join_at"}), join_at=join_at + timedelta(minutes=5))
        if self._act == "replace":  # what was given goes away, which only a new bot can do
            patch = making.BotPatch(frozenset({"config"}), config=None)
        async with self._rt.db.transaction() as tx:
            await making.change(self._rt, tx, project_id=self._project_id, bot_id=self._bot_id, patch=patch)

    async def remove(self) -> None:
        """The bot's owner ends it."""
        async with self._rt.db.transaction() as tx:
            await making.remove(self._rt, tx, project_id=self._project_id, bot_id=self._bot_id)

    async def let_work(self) -> None:
        """A worker that nothing befalls, until nothing is due."""
        for _ in range(8):
            self.pass_time(timedelta(seconds=9))
            await launch_due(self._rt)
            await deliver_due(self._rt)

    def pass_time(self, by: timedelta) -> None:
        """For service and stand-ins alike."""
        self._rt.clock.advance(by)
        self._stands.box.world.clock.advance(by)

    # --- what must hold ---

    def there(self) -> list[Bot]:
        """Every bot that the back end ever made for this meeting."""
        self._stands.box.bots.settle()
        return self._stands.box.bots.of_meeting(self._url)

    def live(self) -> list[str]:
        """Those that are to come, or are there."""
        return [bot.id for bot in self.there() if self._stands.box.bots.phase(bot) in LIVE]

    async def judge_end(self, *, is_removed: bool = False) -> None:
        """The meeting has its one bot, or none, and each transition was told once, in order."""
        [row] = await rows(self._rt, "SELECT * FROM bots WHERE id = :id", id=self._bot_id)
        is_over = is_removed or self._act in _ENDS
        assert row["state"] == ("cancelled" if is_over else "launched"), row
        assert (row["lease_until"], row["due_at"], row["starting_since"]) == (None, None, None), row
        if self._kind == "webhook":
            self._judge_messages(row, is_over=is_over)
        else:
            assert self.live() == ([] if is_over else [row["external_id"]]), (self.there(), row)
            most = 2 if self._act == "replace" else 1
            least = 0 if is_removed else most
            assert least <= len(self.there()) <= most, f"not started once: {self.there()}"
            if not is_over:
                assert row["handed_revision"] == row["revision"], row
        await self._judge_told(row)

    def _judge_messages(self, row: dict[str, Any], *, is_over: bool) -> None:
        told = [one for one in self._stands.hooks.told if one["bot"]["id"] == public(BOT, self._bot_id)]
        revisions = [one["revision"] for one in told]
        assert revisions == sorted(revisions), revisions
        if not is_over:
            assert revisions[-1] == row["revision"], (revisions, row)
            assert row["external_id"] == f"own-{public(BOT, self._bot_id)}"

    async def _judge_told(self, row: dict[str, Any]) -> None:
        found = await rows(
            self._rt,
            "SELECT payload FROM messages WHERE project_id = :id AND trigger = 'bot.state_change'"
            " ORDER BY created_at, id",
            id=self._project_id,
        )
        told = [orjson.loads(one["payload"])["data"] for one in found]
        steps = [(one["old_state"], one["bot"]["state"]) for one in told]
        assert steps[0][0] is None, steps
        assert all(before != after for before, after in steps), steps
        assert all(one[1] == two[0] for one, two in pairwise(steps)), steps
        assert steps[-1][1] == row["state"], steps
