"""Inbound pushes: judged, and durable before they are acknowledged.

Notifications that arrive while others are being written wait for the next transaction and share it, so that a storm
costs one commit per turn instead of one per push. A shared transaction that fails is taken apart: one row that is
locked must not make the provider repeat the others.
"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from app import scheduling
from app.crypto import hash_secret, same
from app.db import DATABASE_ERRORS, Row, Tx
from app.errors import ProviderAway
from app.providers.base import Notification
from app.runtime import Runtime
from app.telemetry import log

PUSH_SECONDS = 1.0
"""A push is durable within this time, or the provider is told to come again."""

TOGETHER = 200
"""Notifications that share a transaction, at most."""

_CHANNELS = """
SELECT set_config('lock_timeout', :lock_timeout, true), id, token_hash, channel_key, resource_id
  FROM push_channels WHERE id = ANY(:ids) AND state <> 'closed'
"""

_LEARN = """
UPDATE push_channels SET resource_id = v.resource_id
  FROM unnest(CAST(:ids AS uuid[]), CAST(:resources AS text[])) AS v(id, resource_id)
 WHERE push_channels.id = v.id AND push_channels.resource_id IS NULL
"""


_ENDED = "UPDATE push_channels SET state = 'closed' WHERE id = ANY(:ids)"
_RENEW_NOW = "UPDATE push_channels SET renew_at = app_now() WHERE id = ANY(:ids) AND state = 'active'"


class Inbox:
    """Takes notifications of one process."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._waiting: list[tuple[Notification, asyncio.Future[str]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def accept(self, notification: Notification) -> str:
        """Make it durable: `accepted`, its kind where that is another, or `unknown`, `forged`.

        ProviderAway where that takes longer than a second: the provider comes again.
        """
        outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((notification, outcome))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        try:
            async with asyncio.timeout(PUSH_SECONDS):
                return await outcome
        except DATABASE_ERRORS as exc:
            log.warning("push.not_durable", error=type(exc).__name__)
            raise ProviderAway("the notification could not be stored in time", headers={"Retry-After": "1"}) from exc

    async def _write(self) -> None:
        while self._waiting:
            turn, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
            if not await self._store(turn) and len(turn) > 1:
                await asyncio.gather(*(self._store([one]) for one in turn))

    async def _store(self, turn: Sequence[tuple[Notification, asyncio.Future[str]]]) -> bool:
        """One transaction for all; False where it failed and each has to be tried by itself."""
        try:
            async with self._rt.db.transaction() as tx:
                outcomes = await _judge(self._rt, tx, [notification for notification, _ in turn])
        except DATABASE_ERRORS as exc:
            if len(turn) == 1 and not turn[0][1].done():
                turn[0][1].set_exception(exc)
            return False
        for (_, outcome), result in zip(turn, outcomes, strict=True):
            if not outcome.done():  # its request may have given up waiting
                outcome.set_result(result)
        return True


async def _judge(rt: Runtime, tx: Tx, turn: Sequence[Notification]) -> list[str]:
    """Believe those that know their channel's secret, each by itself, and request what they ask for."""
    ids = [_channel_id(notification) for notification in turn]
    lock_timeout = f"{int(PUSH_SECONDS * 900)}ms"
    rows = await tx.rows(_CHANNELS, {"ids": [i for i in ids if i is not None], "lock_timeout": lock_timeout})
    channels = {row.id: row for row in rows}
    outcomes: list[str] = []
    believed: list[tuple[Row, Notification]] = []
    for notification, channel_id in zip(turn, ids, strict=True):
        channel = channels.get(channel_id)
        if channel is None:
            outcomes.append("unknown")
        elif not same(channel.token_hash, hash_secret(notification.token)):
            outcomes.append("forged")
        else:
            outcomes.append("accepted" if notification.kind == "changed" else notification.kind)
            believed.append((channel, notification))
    await _note(tx, believed)
    for is_full, kinds in ((False, {"changed"}), (True, {"missed", "removed"})):
        keys = {channel.channel_key for channel, notification in believed if notification.kind in kinds}
        if keys:
            await scheduling.request_served(rt, tx, sorted(keys), is_full=is_full)
    return outcomes


async def _note(tx: Tx, believed: Sequence[tuple[Row, Notification]]) -> None:
    """What notifications say about their channels."""
    learned = {c.id: n.resource_id for c, n in believed if c.resource_id is None and n.resource_id is not None}
    if learned:
        await tx.execute(_LEARN, {"ids": list(learned), "resources": list(learned.values())})
    for kind, statement in (("removed", _ENDED), ("expiring", _RENEW_NOW)):
        ids = [channel.id for channel, notification in believed if notification.kind == kind]
        if ids:
            await tx.execute(statement, {"ids": ids})


def _channel_id(notification: Notification) -> UUID | None:
    try:
        return UUID(notification.channel_id)
    except ValueError:
        return None
