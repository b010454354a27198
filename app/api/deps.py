"""What an operation is handed: the runtime, the caller's project, the database."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant

from app.api.writes import Write
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


async def get_tx(request: Request) -> Tx:
    """The transaction that the route has opened, and commits before the answer is sent: a failed commit is no 2xx."""
    tx: Tx = request.state.tx
    return tx


async def get_write(request: Request) -> Write:
    """For an operation that does something else before its transaction, or beside it."""
    write: Write = request.state.write
    return write


def takes_tx(dependant: Dependant) -> bool:
    """Whether an operation wants a transaction opened for it."""
    return any(sub.call is get_tx for sub in dependant.dependencies)


Rt = Annotated[Runtime, Depends(get_runtime)]
ProjectId = Annotated[UUID, Depends(get_project)]
Reading = Annotated[ReadTx, Depends(get_read_tx)]
Writing = Annotated[Tx, Depends(get_tx)]
Opening = Annotated[Write, Depends(get_write)]
