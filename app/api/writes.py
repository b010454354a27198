"""A write's transaction, and its entry in the audit log, which no operation can forget.

The route opens the transaction of an operation that takes one (`Writing`), as it opens the connection of a read. An
operation that has to ask a provider first takes the `Write` itself (`Opening`) and runs its transaction when it has
been told. Either way the entry is the transaction's last statement. An operation that needs neither (it hands out a
token, or asks a provider) has its entry before it is answered.
"""

import ipaddress
from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app import audit
from app.audit import Actor
from app.db import Tx
from app.runtime import Runtime

REPLAYED = "Idempotency-Replayed"
"""The header of an answer that was given before: nothing was done for it."""


class Write:
    """One writing request. `action` is the operation's id in the OpenAPI document."""

    def __init__(self, runtime: Runtime, request: Request, *, action: str) -> None:
        self._runtime = runtime
        self._request = request
        self._action = action
        self._is_recorded = False

    async def run(self, operation: Callable[[Tx], Awaitable[Response]]) -> Response:
        """The operation in a transaction, which is committed when this returns, with its entry."""
        async with self._runtime.db.transaction() as tx:
            response = await operation(tx)
            await self._record(tx, response)
        return response

    async def finish(self, response: Response) -> None:
        """The entry of an operation that ran no transaction."""
        if not self._is_recorded and _is_news(response):
            async with self._runtime.db.transaction() as tx:
                await self._record(tx, response)

    async def _record(self, tx: Tx, response: Response) -> None:
        if self._is_recorded:
            raise RuntimeError(f"{self._action} ran two transactions: which one does the entry belong to?")
        self._is_recorded = True
        if not _is_news(response):
            return
        caller, given = self._request.state.caller, self._request.state.parsed
        await audit.record(
            tx,
            project_id=caller.project_id,
            actor=Actor(caller.key_id, _address(self._request)),
            action=self._action,
            object_id=_object_of(self._request, response),
            changes=given if isinstance(given, dict) else (),
        )


def _is_news(response: Response) -> bool:
    return response.status_code < 400 and REPLAYED not in response.headers


def _object_of(request: Request, response: Response) -> str | None:
    """The object that the path names, or the one that the answer shows."""
    if request.path_params:
        named: str = list(request.path_params.values())[-1]
        return named
    shown = orjson.loads(response.body) if response.body else None
    found = shown.get("id") if isinstance(shown, dict) else None
    return found if isinstance(found, str) else None


def _address(request: Request) -> str | None:
    """The peer's, or the client's that a trusted proxy has named; None where that is no address."""
    host = request.client.host if request.client else ""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return str((found.version == 6 and found.ipv4_mapped) or found)
