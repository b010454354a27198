"""What the tests of retries and replays share."""

from collections import Counter
from typing import Any
from uuid import UUID

import httpx

from app.ids import DELIVERY, ENDPOINT, MESSAGE, public
from app.runtime import Runtime
from app.webhooks import replays
from app.webhooks.delivery import deliver_due
from tests.harness import Project
from tests.integration.delivering import Endpoint, Receiver, deliveries, rows, send

ALWAYS = {"created_at_gte": "2020-01-01T00:00:00Z", "created_at_lte": "2100-01-01T00:00:00Z"}


async def retry(client: httpx.AsyncClient, delivery_id: UUID) -> Any:
    answer = await client.post(f"/api/v1/webhook_deliveries/{public(DELIVERY, delivery_id)}/retry")
    assert answer.status_code == 202, answer.text
    return answer.json()


async def replay(client: httpx.AsyncClient, endpoint: Endpoint, **body: Any) -> str:
    url = f"/api/v1/webhooks/{public(ENDPOINT, endpoint.id)}"
    answer = await client.post(f"{url}/replay", json=ALWAYS | body)
    assert answer.status_code == 202, answer.text
    return f"{url}/replays/{answer.json()['replay_id']}"


async def give_up(rt: Runtime, project: Project, receiver: Receiver, *, count: int) -> list[str]:
    """Messages that an endpoint has refused for good: their ids, in the order in which they were published."""
    receiver.statuses = [500]
    for _ in range(count):
        await send(rt, project)
    await deliver_due(rt)
    async with rt.db.transaction() as tx:
        await tx.execute(
            "UPDATE deliveries SET state = 'failed', next_attempt_at = NULL, attempt_count = 10,"
            " updated_at = clock_timestamp() WHERE state = 'pending'"
        )
    found = await rows(rt, "SELECT message_id FROM deliveries ORDER BY created_at")
    receiver.requests.clear()
    receiver.statuses = [204]
    return [public(MESSAGE, row["message_id"]) for row in found]


async def write_log(rt: Runtime, project: Project, endpoint: Endpoint, *, count: int, state: str = "failed") -> None:
    """A long log, a millisecond apart."""
    async with rt.db.transaction() as tx:
        await tx.execute(
            "WITH made AS (SELECT gen_random_uuid() AS id, n FROM generate_series(1, :count) n),"
            " stored AS (INSERT INTO messages (id, project_id, trigger, payload)"
            "            SELECT id, :project, 'calendar.state_change', CAST('{}' AS bytea) FROM made)"
            " INSERT INTO deliveries (id, project_id, message_id, endpoint_id, trigger, state, attempt_count,"
            "                         created_at, updated_at)"
            " SELECT gen_random_uuid(), :project, id, :endpoint, 'calendar.state_change', :state, 10,"
            "        at, at FROM made, LATERAL (SELECT app_now() - interval '1 hour' + n * interval '1 ms' AS at) t",
            {"count": count, "project": project.id, "endpoint": endpoint.id, "state": state},
        )


async def drain(rt: Runtime) -> int:
    """Batch after batch; how many."""
    count = 0
    while await replays.run_due(rt):
        count += 1
    return count


async def sent_again(rt: Runtime) -> Counter[int]:
    """How often deliveries were made pending: nothing else raises the fence of one that is never claimed."""
    return Counter(delivery["fence"] for delivery in await deliveries(rt))
