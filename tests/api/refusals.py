"""What tests of refused requests share: the problem's shape, and that nothing was stored."""

import httpx

from app.runtime import Runtime

TABLES = (
    "calendars",
    "grants",
    "sync_state",
    "oauth_apps",
    "oauth_app_secrets",
    "webhook_endpoints",
    "webhook_secrets",
    "messages",
    "deliveries",
    "replays",
    "idempotency_keys",
    "audit_log",
    "bots",
    "bot_events",
    "launchers",
    "rules",
    "rule_evaluations",
    "bot_claims",
    "series_overrides",
    "connect_links",
    "consents",
)


async def counts(rt: Runtime) -> dict[str, int]:
    """The rows of every table that a request can write."""
    async with rt.db.reading() as tx:
        return {table: await tx.scalar(f"SELECT count(*) FROM {table}") for table in TABLES}


def refused(answer: httpx.Response, code: str, *pointers: str, status: int = 422) -> None:
    """Assert that an answer is the problem with this code, about these places."""
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert [error["pointer"] for error in problem["errors"]] == list(pointers), problem
    assert all(error["code"] == code for error in problem["errors"])
    for error in problem["errors"][:5]:
        assert f"{error['pointer'] or 'the body'}: {error['message']}" in problem["detail"]
