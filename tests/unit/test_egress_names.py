"""Name servers that do not answer: they delay whoever asked for their names, and nobody else."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from app.egress.names import THREADS, Names


class System:
    """A resolver whose answers for `slow…` wait until they are let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.let_go = threading.Event()

    def ask(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host.startswith("slow"):
            self.let_go.wait(10)
        if host == "nowhere":
            raise OSError("no such name")
        return ["192.0.2.1"]


async def test_a_dead_name_server_takes_one_thread_per_name() -> None:
    system = System()
    asking = Names(system.ask)
    slow = [asyncio.create_task(asking.look_up(f"slow{n % 2}")) for n in range(THREADS * 2)]
    await asyncio.sleep(0)
    assert await asking.look_up("healthy") == ["192.0.2.1"]
    assert sorted(system.asked) == ["healthy", "slow0", "slow1"]
    system.let_go.set()
    assert await asyncio.gather(*slow) == [["192.0.2.1"]] * len(slow)
    await asking.look_up("slow0")
    assert system.asked.count("slow0") == 2  # an answer is not kept: each connect asks anew
    asking.close()


async def test_nobody_waits_for_ever() -> None:
    system = System()
    asking = Names(system.ask, seconds=0.05)
    with pytest.raises(TimeoutError):
        await asking.look_up("slow")
    with pytest.raises(OSError, match="no such name"):
        await asking.look_up("nowhere")
    system.let_go.set()
    asking.close()
