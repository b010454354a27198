"""Names and their addresses, by the system's resolver in threads of their own.

A resolver may wait for minutes for a name server that does not answer, and its thread cannot be told to stop. So a name
has one question under way at a time, whoever asks for it, and nobody waits for it longer than LOOKUP_SECONDS: two
endpoints with a dead name server take two threads, not all.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

LOOKUP_SECONDS = 5.0
THREADS = 64
"""Names that are asked for at a time."""

Ask = Callable[[str], Sequence[str]]


class Names:
    """Looks names up; safe for concurrent use within one loop."""

    def __init__(self, ask: Ask | None = None, *, seconds: float = LOOKUP_SECONDS) -> None:
        self._ask = ask or _ask_system
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="egress-lookup")
        self._asked: dict[str, asyncio.Future[Sequence[str]]] = {}

    async def look_up(self, host: str) -> Sequence[str]:
        """All addresses of a name, as text. OSError where there are none, or none in time."""
        asked = self._asked.get(host)
        if asked is None:
            asked = asyncio.get_running_loop().run_in_executor(self._threads, self._ask, host)
            self._asked[host] = asked
            asked.add_done_callback(lambda done: self._answered(host, done))
        async with asyncio.timeout(self._seconds):  # its TimeoutError is an OSError
            return await asyncio.shield(asked)

    def _answered(self, host: str, asked: asyncio.Future[Sequence[str]]) -> None:
        self._asked.pop(host, None)
        if not asked.cancelled():
            asked.exception()  # whoever still waits has it too; nobody may be left

    def close(self) -> None:
        """Ask nothing any more; questions under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _ask_system(host: str) -> Sequence[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
