"""Sending again to endpoints that fail: what becomes of digests."""

import httpx
import pytest

from app.ids import new_id
from app.runtime import Runtime
from app.webhooks.delivery import deliver_due
from tests.harness import Project
from tests.integration.delivering import Receiver, bodies, deliveries, later, new_endpoint, put, tell, told
from tests.integration.resending import drain, replay, retry


@pytest.fixture
async def client(api: httpx.AsyncClient, project: Project) -> httpx.AsyncClient:
    api.headers.update(project.headers)
    return api


async def test_a_digest_that_was_sent_takes_nothing_in_when_it_is_sent_again(
    rt: Runtime, project: Project, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    """Its receiver may have had it, and drops what comes under that id."""
    endpoint, calendar = await new_endpoint(rt, project, receiver.url), new_id()
    await put(rt, endpoint, "failing")
    receiver.statuses = [500]
    await tell(rt, project, calendar, 1)
    await deliver_due(rt)
    async with rt.db.transaction() as tx:
        await tx.execute(
            "UPDATE deliveries SET state = 'failed', next_attempt_at = NULL, updated_at = clock_timestamp()"
            " WHERE is_digest"
        )
    [sealed] = receiver.requests
    await replay(client, endpoint)
    await drain(rt)
    await tell(rt, project, calendar, 2)
    receiver.statuses = [204]
    while await later(rt, minutes=16):
        pass
    sent = {headers["webhook-id"]: body for _, headers, body in receiver.requests}
    assert len(sent) == 2
    assert all(body == sent[headers["webhook-id"]] for _, headers, body in receiver.requests)
    assert sealed[2] == sent[sealed[1]["webhook-id"]]
    assert told(bodies(receiver)[-1])[:2] == (1, 2)


async def test_a_digest_that_takes_in_what_is_sent_again_keeps_its_lane(
    rt: Runtime, project: Project, client: httpx.AsyncClient, receiver: Receiver
) -> None:
    endpoint, calendar = await new_endpoint(rt, project, receiver.url), new_id()
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE webhook_endpoints SET is_ordered = true")
    await tell(rt, project, calendar, 1)
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE deliveries SET state = 'failed', next_attempt_at = NULL")
    [first] = await deliveries(rt)
    await put(rt, endpoint, "failing")
    await tell(rt, project, calendar, 2)
    await retry(client, first["id"])
    receiver.statuses = [500]
    await deliver_due(rt)
    [digest] = [d for d in await deliveries(rt) if d["is_digest"]]
    assert (digest["lane"], digest["merged_count"]) == (calendar, 2)
