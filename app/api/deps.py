"""What an operation is handed: the runtime, the caller's project, the database."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from app.db import ReadTx, Tx
from app.runtime import Runtime


async def get_runtime(request: Request) -> Runtime:
    """The application's runtime."""
    runtime: Runtime = request.app.state.runtime
    return runtime


async def get_project(request: Request) -> UUID:
    """The project that the key belongs to (checked in `route`)."""
    project_id: UUID = request.state.caller.project_id
    return project_id


async def get_read_tx(request: Request) -> ReadTx:
    """The connection on which the key was checked; of a read only."""
    tx: ReadTx = request.state.tx
    return tx


async def get_tx(request: Request) -> AsyncIterator[Tx]:
    """A transaction that commits before the answer is sent, so a failed commit never answers 2xx.

    That holds with `scope="function"` only: by default FastAPI closes dependencies after the response.
    """
    runtime: Runtime = request.app.state.runtime
    async with runtime.db.transaction() as tx:
        yield tx


Rt = Annotated[Runtime, Depends(get_runtime)]
ProjectId = Annotated[UUID, Depends(get_project)]
Reading = Annotated[ReadTx, Depends(get_read_tx)]
Writing = Annotated[Tx, Depends(get_tx, scope="function")]
