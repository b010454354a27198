"""Who calls: the key that came along, the project that it belongs to, and what it may do there.

An operation says what it needs in one place, its route: `dependencies=[NEEDS_ADMIN]`. Where nothing is said, GET needs
`read` and everything else `write`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from fastapi import Depends, params
from starlette.requests import Request

from app import projects
from app.allowances import MINUTE, Kind, Standing
from app.crypto import read_api_key, same
from app.db import ReadTx
from app.errors import Forbidden, RateLimited, Unauthenticated
from app.keys import Scope, holds
from app.runtime import Runtime

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="punctual", Token realm="punctual"'}

_KEY = """
SELECT k.project_id, k.secret_hash, k.scope, p.reads_per_minute, p.writes_per_minute,
       k.last_used_at IS NULL OR k.last_used_at <= app_now() - interval '1 minute' AS is_use_due
  FROM api_keys k JOIN projects p ON p.id = k.project_id
 WHERE k.id = :id AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > app_now())
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """A key that is good, as it was looked up for this request."""

    key_id: UUID
    project_id: UUID
    scope: Scope
    limits: Mapping[Kind, int]
    """Requests in a minute; 0: as many as it likes."""


class Needs:
    """A dependency that does nothing: the route reads it when it is made (`needed`), and judges before all else."""

    def __init__(self, scope: Scope) -> None:
        self.scope: Scope = scope

    async def __call__(self) -> None:
        """Judged already."""


NEEDS_READ: Final = Depends(Needs("read"))
"""Of a POST that changes nothing and asks nobody."""
NEEDS_ADMIN: Final = Depends(Needs("admin"))


def needed(dependencies: Sequence[params.Depends], methods: set[str]) -> Scope:
    """The scope that a route asks for."""
    said = [given.dependency.scope for given in dependencies if isinstance(given.dependency, Needs)]
    return said[-1] if said else "read" if methods == {"GET"} else "write"


def presented_key(request: Request) -> tuple[UUID, bytes]:
    """Row id and secret's hash of the key that came along. Unauthenticated where it cannot be one."""
    scheme, _, presented = request.headers.get("authorization", "").partition(" ")
    key = read_api_key(presented.strip()) if scheme.lower() in {"token", "bearer"} else None
    if key is None:
        raise Unauthenticated(headers=_CHALLENGE)
    return key


async def caller_of(runtime: Runtime, tx: ReadTx, key: tuple[UUID, bytes]) -> Caller:
    """Whose key it is. One statement; a wrong secret, an expired and a revoked key read like an unknown one."""
    key_id, secret_hash = key
    row: Any = await tx.row(_KEY, {"id": key_id})
    if row is None or not same(row.secret_hash, secret_hash):
        raise Unauthenticated(headers=_CHALLENGE)
    if row.is_use_due:
        runtime.key_uses.note(key_id)
    limits = projects.limits(runtime.settings, reads=row.reads_per_minute, writes=row.writes_per_minute)
    return Caller(key_id, row.project_id, row.scope, limits)


async def admit(request: Request, caller: Caller, scope: Scope) -> None:
    """Count the request; RateLimited, or Forbidden where the key may not do what needs this scope.

    Whatever a good key asks is counted, refused or not. What every key may ask costs a read, and so does what this one
    may not, so that a key that only reads cannot use up its project's writes.
    """
    runtime: Runtime = request.app.state.runtime
    is_allowed = holds(caller.scope, scope)
    is_read = request.method == "GET" or scope == "read"
    kind: Kind = "reads" if is_read or not is_allowed else "writes"
    standing = await runtime.allowances.take(caller.project_id, kind, limit=caller.limits[kind])
    if standing is not None:
        request.state.more_headers = _headers(standing)
        if standing.retry_after is not None:
            raise RateLimited(
                f"the project's {standing.limit} {kind} a minute are used up",
                headers={"Retry-After": str(standing.retry_after)},
            )
    if not is_allowed:
        raise Forbidden(
            f"this needs a key with the scope {scope}; this one has {caller.scope}",
            code="insufficient_scope",
            extra={"needed_scope": scope},
        )


def _headers(standing: Standing) -> list[tuple[bytes, bytes]]:
    """As draft-ietf-httpapi-ratelimit-headers has them: the policy, and what is left of it until when."""
    wait = standing.full_after if standing.retry_after is None else standing.retry_after
    return [
        (b"ratelimit-policy", f'"{standing.kind}";q={standing.limit};w={MINUTE:.0f}'.encode()),
        (b"ratelimit", f'"{standing.kind}";r={standing.left};t={wait}'.encode()),
    ]
