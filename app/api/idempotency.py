"""`Idempotency-Key`: the same request within a day gets the first answer.

Scoped to project, method, path and key. A concurrent twin does not wait: the key's hash is an advisory lock of the
transaction. The answer is written in the request's own transaction, sealed, and only if it is a success; so what
was stored and what was answered cannot differ, and a failed request may be sent again.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

import orjson
from fastapi import Depends, Header, Request
from starlette.responses import Response

from app.api.render import NOT_KEPT
from app.api.writes import REPLAYED
from app.crypto import Place
from app.db import ReadTx, Tx
from app.errors import Conflict, refusal
from app.ids import new_id
from app.runtime import Runtime

HEADER: Final = "Idempotency-Key"
_KEY = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?")

_LOCK = "SELECT pg_try_advisory_xact_lock(:lock)"

_STORED = """
SELECT id, body_hash, status, response_sealed FROM idempotency_keys
 WHERE project_id = :project AND scope_hash = :scope AND created_at > app_now() - interval '24 hours'
"""

_STORE = """
INSERT INTO idempotency_keys (id, project_id, scope_hash, body_hash, status, response_sealed, created_at)
VALUES (:id, :project, :scope, :body, :status, :sealed, app_now())
ON CONFLICT (project_id, scope_hash) DO UPDATE
   SET id = excluded.id, body_hash = excluded.body_hash, status = excluded.status,
       response_sealed = excluded.response_sealed, created_at = excluded.created_at
"""


@dataclass(frozen=True, slots=True)
class Once:
    """One request that may be sent again. Without the header it just runs."""

    runtime: Runtime
    project_id: UUID
    scope_hash: bytes | None
    body_hash: bytes

    async def stored(self, tx: ReadTx) -> Response | None:
        """The first answer, if there is one. Conflict where it was to another body."""
        if self.scope_hash is None:
            return None
        row = await tx.row(_STORED, {"project": self.project_id, "scope": self.scope_hash})
        if row is None:
            return None
        if row.body_hash != self.body_hash:
            raise Conflict("this Idempotency-Key came with another body before", code="idempotency_key_reused")
        body = self.runtime.cipher.open_bytes(row.response_sealed, _place(row.id))
        headers = {REPLAYED: "true", **NOT_KEPT}  # it may be one that shows a secret
        return Response(body, status_code=row.status, media_type="application/json", headers=headers)

    async def run(self, tx: Tx, operation: Callable[[], Awaitable[Response]]) -> Response:
        """Answer as the first time, or run the operation and keep its answer. Conflict beside a running twin."""
        if self.scope_hash is None:
            return await operation()
        lock = hashlib.sha256(self.project_id.bytes + self.scope_hash).digest()[:8]
        if not await tx.scalar(_LOCK, {"lock": int.from_bytes(lock, "big", signed=True)}):
            raise Conflict("the first request with this key is still running", code="idempotency_in_progress")
        first = await self.stored(tx)
        if first is not None:
            return first
        response = await operation()
        await self._store(tx, response)
        return response

    async def _store(self, tx: Tx, response: Response) -> None:
        row_id = new_id()
        await tx.execute(
            _STORE,
            {
                "id": row_id,
                "project": self.project_id,
                "scope": self.scope_hash,
                "body": self.body_hash,
                "status": response.status_code,
                "sealed": self.runtime.cipher.seal(bytes(response.body), _place(row_id)),
            },
        )


def _place(row_id: UUID) -> Place:
    return Place("idempotency_keys", "response", row_id)


async def accept_key(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias=HEADER,
            json_schema_extra={"minLength": 1, "maxLength": 255},
            description="The same key and body within 24 hours get the first answer. Printable ASCII, up to 255",
        ),
    ] = None,
) -> Once:
    """For operations that may be sent again."""
    scope_hash: bytes | None = None
    body_hash = b""
    if idempotency_key is not None:
        if not _KEY.fullmatch(idempotency_key):
            raise refusal(HEADER, "invalid_idempotency_key", message="must be 1 to 255 printable ASCII characters")
        scope = f"{request.method}\0{request.scope['path']}\0{idempotency_key}"
        scope_hash = hashlib.sha256(scope.encode()).digest()
        body_hash = hashlib.sha256(orjson.dumps(request.state.parsed, option=orjson.OPT_SORT_KEYS)).digest()
    return Once(request.app.state.runtime, request.state.caller.project_id, scope_hash, body_hash)


async def refuse_key(request: Request) -> None:
    """For POSTs whose answer must not be kept: an ignored key would promise what is not held."""
    if HEADER in request.headers:
        raise refusal(HEADER, "idempotency_key_not_accepted", message="is not accepted by this call")


Idempotent = Annotated[Once, Depends(accept_key)]
RefusesKey = Depends(refuse_key)
