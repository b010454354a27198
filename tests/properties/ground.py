"""What all examples of one process stand on: an event loop, a webhook receiver, settings; a database for each."""

import asyncio
import os
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar
from urllib.parse import urlsplit

from app.settings import Settings
from sandbox.sink import Sink
from tests.databases import cloned
from tests.harness import Receiver, listen
from tests.properties.worker import make_task

_T = TypeVar("_T")


class Ground:
    """Made once per process. `run` lets a coroutine run on the one loop; tasks wait in between."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._runner.get_loop().set_task_factory(make_task)
        self._stack = AsyncExitStack()
        self.receiver = self.run(self._listen())

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Until the work is done."""
        return self._runner.run(work)

    async def _listen(self) -> Receiver:
        sink = Sink()
        return Receiver(sink, await self._stack.enter_async_context(listen(sink.app)))

    def close(self) -> None:
        """Nothing is left."""
        self.run(self._stack.aclose())
        self._runner.close()

    async def settings(self, stack: AsyncExitStack) -> Settings:
        """Settings of one example, whose database goes with the stack. No quiet time, no quota of our own."""
        admin, template = os.environ["DATABASE_URL"], os.environ["PUNCTUAL_TEST_TEMPLATE"]
        place = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        return Settings.model_validate(
            {
                "environment": "test",
                "database_url": await stack.enter_async_context(cloned(admin, template)),
                "redis_url": urlsplit(os.environ["REDIS_URL"])._replace(path=f"/{1 + place % 15}").geturl(),
                "public_url": "http://127.0.0.1:1",
                "google_api_url": "http://google.sandbox",
                "google_token_url": "http://google.sandbox/token",
                "microsoft_graph_url": "http://graph.sandbox",
                "microsoft_login_url": "http://graph.sandbox",
                "sync_quiet_seconds": 0,
                "sync_max_wait_seconds": 0,
                "egress_allow": "127.0.0.0/8",
                "webhook_allow_http": True,
                "database_pool_size": 6,
                "google_user_quota_per_minute": 100_000,
                "google_app_quota_per_minute": 100_000,
                "microsoft_mailbox_quota_per_minute": 100_000,
                "rate_limit_reads_per_minute": 0,
                "rate_limit_writes_per_minute": 0,
                "log_level": "ERROR",
            }
        )
