"""The publisher of a storm on delivery (`python -m storm.publisher`): messages through the outbox, as the service does.

Each transaction holds a few messages of one project, and one in thirty is rolled back after it has published. No two
writers publish for the same calendar: like the service, which holds the calendar's row. What became of a transaction is
told in the journal, a JSON object a line, once that is certain.
"""

import argparse
import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TextIO
from uuid import UUID

import orjson
import uvloop

from app.ids import MESSAGE, PROJECT, new_id, new_ids, parse, public
from app.runtime import Runtime, open_runtime
from app.settings import Settings
from app.webhooks import payloads
from app.webhooks.outbox import NewMessage, publish

MOST = 20
"""Messages of one transaction."""
BURST_SECONDS = 0.4
"""What is due within this time is published at once: there is always something under way when a worker dies."""
MOST_PENDING = 2_000
"""With so many deliveries pending it waits: where kills outrun the machine, the storm lasts longer."""
PATIENCE_SECONDS = 60.0
"""Where none of them gets through for so long, it waits no more: what is stuck shows at the end."""
WRITERS = 8
ROLLED_BACK = 1 / 30
CALENDARS = 200
POLL_SECONDS = 0.1


class RolledBack(Exception):
    """Ends a transaction that is not to commit."""


class Publisher:
    """Publishes so many messages, and writes down what became of them."""

    def __init__(self, rt: Runtime, projects: Sequence[UUID], journal: TextIO, *, seed: str) -> None:
        self._rt = rt
        self._projects = projects
        self._journal = journal
        self._chance = random.Random(f"{seed}/publisher")
        self._calendars = new_ids(CALENDARS)
        self._is_patient = True

    async def publish(self, count: int, *, per_second: int) -> None:
        """In bursts, until so many messages were committed. Raises what the database raises."""
        loop = asyncio.get_running_loop()
        due, done = loop.time(), 0
        burst = max(1, round(per_second * BURST_SECONDS))
        while done < count:
            await self._until_there_is_room()
            most = min(burst, count - done)
            sizes = iter(list(self._sizes(most)))
            async with asyncio.TaskGroup() as group:
                for number in range(WRITERS):
                    group.create_task(self._write(sizes, self._calendars[number::WRITERS]))
            done += most
            due = max(due + most / per_second, loop.time())
            await asyncio.sleep(due - loop.time())

    async def _until_there_is_room(self) -> None:
        """Until few enough deliveries are pending."""
        waited = 0.0
        while self._is_patient and await self._pending() > MOST_PENDING:
            await asyncio.sleep(POLL_SECONDS)
            waited += POLL_SECONDS
            self._is_patient = waited < PATIENCE_SECONDS

    async def _pending(self) -> int:
        async with self._rt.db.reading() as tx:
            return int(await tx.scalar("SELECT count(*) FROM deliveries WHERE state = 'pending'"))

    def _sizes(self, count: int) -> Iterator[int]:
        while count > 0:
            size = min(count, self._chance.randint(1, MOST))
            yield size
            count -= size

    async def _write(self, sizes: Iterator[int], calendars: Sequence[UUID]) -> None:
        for size in sizes:
            while self._chance.random() < ROLLED_BACK:
                await self._transaction(size, calendars, commits=False)
            await self._transaction(size, calendars, commits=True)

    async def _transaction(self, size: int, calendars: Sequence[UUID], *, commits: bool) -> None:
        project = self._chance.choice(self._projects)
        messages = [self._message(project, self._chance.choice(calendars)) for _ in range(size)]
        with suppress(RolledBack):
            async with self._rt.db.transaction() as tx:
                await publish(tx, self._rt.queue, messages)
                if not commits:
                    raise RolledBack
        line = {
            "is_committed": commits,
            "project": public(PROJECT, project),
            "messages": [
                [public(MESSAGE, one.id), str(one.calendar_id), sha256(one.payload).hexdigest()] for one in messages
            ],
        }
        self._journal.write(orjson.dumps(line).decode() + "\n")
        self._journal.flush()

    def _message(self, project: UUID, calendar: UUID) -> NewMessage:
        message_id = new_id()
        about = payloads.MessageCalendar(calendar, None, {"note": "n" * self._chance.randint(0, 2_000)})
        body = payloads.state_change(
            message_id,
            at=self._rt.clock.now(),
            calendar=about,
            connection=payloads.Connection("connected", None, None, None),
            previous_state="disconnected",
        )
        return NewMessage(
            id=message_id, project_id=project, calendar_id=calendar, trigger=payloads.STATE_CHANGE, payload=body
        )


def main() -> None:
    """Publish as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m storm.publisher", description=__doc__)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--per-second", type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("projects", nargs="+")
    options = parser.parse_args()
    with options.journal.open("x") as journal:
        uvloop.run(_publish(options, journal))


async def _publish(options: argparse.Namespace, journal: TextIO) -> None:
    projects = [key for key in (parse(PROJECT, text) for text in options.projects) if key is not None]
    async with open_runtime(Settings(), application="storm publisher") as rt:
        publisher = Publisher(rt, projects, journal, seed=options.seed)
        await publisher.publish(options.messages, per_second=options.per_second)


if __name__ == "__main__":
    main()
