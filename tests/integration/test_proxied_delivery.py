"""Deliveries while the egress proxy is away: nobody is charged, nothing is lost."""

import pytest

from app.runtime import Runtime
from app.telemetry import REGISTRY
from app.webhooks.delivery import deliver_due
from tests.harness import Project
from tests.integration.delivering import attempts, deliveries, later, new_endpoint, receiving, rows, send


@pytest.fixture
def overrides() -> dict[str, object]:
    """Nothing listens at the discard port."""
    return {"egress_proxy": "http://127.0.0.1:9"}


async def test_a_proxy_that_is_away_uses_no_attempt_up(rt: Runtime, project: Project) -> None:
    def failures() -> float:
        return REGISTRY.get_sample_value("punctual_egress_proxy_failures_total") or 0.0

    before = failures()
    async with receiving() as receiver:
        await new_endpoint(rt, project, receiver.url)
        await send(rt, project, count=3)
        assert await deliver_due(rt) == 0
        assert failures() == before + 3
        assert await later(rt, seconds=14) == 0
        assert failures() == before + 3
        for _ in range(20):
            await later(rt, seconds=31)
        assert failures() >= before + 30
        assert receiver.requests == []
    assert [(d["state"], d["attempt_count"], d["priority"]) for d in await deliveries(rt)] == [("pending", 0, 0)] * 3
    assert await attempts(rt) == []
    assert await rows(rt, "SELECT state, failure_count FROM webhook_endpoints") == [
        {"state": "enabled", "failure_count": 0}
    ]
