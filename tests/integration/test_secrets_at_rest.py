"""Sealed secrets in the wrong row: nothing goes out unsigned, or signed with another's."""

from datetime import timedelta

import pytest

from app.crypto import Cipher, Place
from app.runtime import Runtime
from app.webhooks.delivery import deliver_due
from app.webhooks.secrets import rotate, seal_headers
from tests.harness import Project
from tests.integration.delivering import Endpoint, Receiver, attempts, deliveries, new_endpoint, rows, send

SWAPS = {
    "the secrets of two endpoints": """
        UPDATE webhook_endpoints e SET secret_sealed = o.secret_sealed FROM webhook_endpoints o WHERE o.id <> e.id""",
    "the headers of two endpoints": """
        UPDATE webhook_endpoints e SET headers_sealed = o.headers_sealed FROM webhook_endpoints o WHERE o.id <> e.id""",
    "an endpoint's headers and its secret": """
        UPDATE webhook_endpoints SET secret_sealed = headers_sealed, headers_sealed = secret_sealed""",
    "two old secrets of one endpoint": """
        UPDATE webhook_secrets s SET secret_sealed = o.secret_sealed
          FROM webhook_secrets o WHERE o.endpoint_id = s.endpoint_id AND o.id <> s.id""",
    "old secrets of two endpoints": """
        UPDATE webhook_secrets s SET secret_sealed = (
            SELECT o.secret_sealed FROM webhook_secrets o WHERE o.endpoint_id <> s.endpoint_id LIMIT 1)""",
    "an old secret for a current one": """
        UPDATE webhook_endpoints e SET secret_sealed = (
            SELECT s.secret_sealed FROM webhook_secrets s WHERE s.endpoint_id = e.id LIMIT 1)""",
    "a current secret for an old one": """
        UPDATE webhook_secrets s SET secret_sealed = (
            SELECT e.secret_sealed FROM webhook_endpoints e WHERE e.id = s.endpoint_id)""",
    "a byte of each secret": "UPDATE webhook_endpoints SET secret_sealed = set_byte(secret_sealed, 20, 0) || '\\x00'",
    "no ciphertext at all": "UPDATE webhook_endpoints SET secret_sealed = ''",
}


@pytest.fixture
async def endpoints(rt: Runtime, project: Project, receiver: Receiver) -> list[Endpoint]:
    """Two, with two old secrets and a header each."""
    made = [await new_endpoint(rt, project, f"{receiver.url}/{name}") for name in "ab"]
    for endpoint in made:
        async with rt.db.transaction() as tx:
            for _ in range(2):
                await rotate(tx, rt.cipher, project_id=project.id, endpoint_id=endpoint.id, grace_seconds=3_600)
            sealed = seal_headers(rt.cipher, endpoint.id, {"x-key": str(endpoint.id)})
            statement = "UPDATE webhook_endpoints SET headers_sealed = :sealed WHERE id = :id"
            await tx.execute(statement, {"sealed": sealed, "id": endpoint.id})
    return made


async def _swap(rt: Runtime, statement: str) -> None:
    async with rt.db.transaction() as tx:
        assert await tx.execute(statement) >= 2


@pytest.mark.parametrize("what", sorted(SWAPS))
@pytest.mark.usefixtures("endpoints")
async def test_what_was_swapped_signs_nothing(rt: Runtime, project: Project, receiver: Receiver, what: str) -> None:
    await send(rt, project)
    assert await deliver_due(rt) == 2
    assert [len(headers["webhook-signature"].split()) for _, headers, _ in receiver.requests] == [3, 3]
    await _swap(rt, SWAPS[what])
    await send(rt, project)
    assert await deliver_due(rt) == 2
    assert len(receiver.requests) == 2
    assert [a["error"] for a in await attempts(rt)][2:] == ["secret_unreadable"] * 2
    assert {a["address"] for a in (await attempts(rt))[2:]} == {None}
    assert [d["state"] for d in await deliveries(rt)].count("pending") == 2
    # Nobody is charged for a fault of ours: it would disable the endpoint in the end.
    assert await rows(rt, "SELECT DISTINCT failure_count, state FROM webhook_endpoints") == [
        {"failure_count": 0, "state": "enabled"}
    ]


async def test_what_was_put_right_again_goes_out(
    rt: Runtime, project: Project, receiver: Receiver, endpoints: list[Endpoint]
) -> None:
    del endpoints
    await _swap(rt, SWAPS["the secrets of two endpoints"])
    await send(rt, project)
    await deliver_due(rt)
    await _swap(rt, SWAPS["the secrets of two endpoints"])
    rt.clock.advance(timedelta(seconds=6))
    assert await deliver_due(rt) == 2
    assert [d["state"] for d in await deliveries(rt)] == ["succeeded"] * 2
    assert len(receiver.requests) == 2


async def test_an_unreadable_secret_can_be_replaced_without_grace(
    rt: Runtime, project: Project, receiver: Receiver
) -> None:
    endpoint = await new_endpoint(rt, project, receiver.url)
    foreign = Cipher({"lost": b"k" * 32}).seal(endpoint.secret, Place("webhook_endpoints", "secret", endpoint.id))
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE webhook_endpoints SET secret_sealed = :sealed", {"sealed": foreign})
    await send(rt, project)
    await deliver_due(rt)
    async with rt.db.transaction() as tx:
        await rotate(tx, rt.cipher, project_id=project.id, endpoint_id=endpoint.id, grace_seconds=0)
    rt.clock.advance(timedelta(seconds=6))
    await deliver_due(rt)
    assert [a["error"] for a in await attempts(rt)] == ["secret_unreadable", None]
    assert await rows(rt, "SELECT id FROM webhook_secrets") == []
