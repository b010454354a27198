"""The v2.0 token endpoint: rotation, tenants, codes, and errors as AADSTS documents them."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest

from sandbox import Sandbox
from sandbox.microsoft.reasons import REASONS
from tests.unit.sandbox.graph_client import GraphClient


@pytest.fixture
async def graph() -> AsyncIterator[GraphClient]:
    """A sandbox in this process."""
    box = Sandbox.create()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(box.app), base_url="http://login") as http:
        yield GraphClient(box, http)
    await box.close()


async def refused(graph: GraphClient, number: int, *, tenant: str = "common", **form: str) -> httpx.Response:
    """A refresh that fails for the reason with this number."""
    answer = await graph.refresh(tenant=tenant, **form)
    body = answer.json()
    assert (answer.status_code, body["error"]) == (REASONS[number].status, REASONS[number].error), body
    assert body["error_codes"] == [number]
    assert body["error_description"].startswith(f"AADSTS{number}: ")
    assert body.get("suberror") == REASONS[number].suberror
    assert {"timestamp", "trace_id", "correlation_id", "error_uri"} <= set(body)
    return answer


async def test_refreshing_brings_a_new_token_and_keeps_the_old_one(graph: GraphClient) -> None:
    old = graph.account.refresh_token
    first, second = await graph.refresh(), await graph.refresh(refresh_token=old)
    assert (first.status_code, second.status_code) == (200, 200)
    body = first.json()
    assert list(body) == ["token_type", "scope", "expires_in", "ext_expires_in", "access_token", "refresh_token"]
    assert (body["expires_in"], body["scope"]) == (3599, "Calendars.Read User.Read")
    assert len({old, body["refresh_token"], second.json()["refresh_token"]}) == 3
    graph.http.headers["Authorization"] = f"Bearer {body['access_token']}"
    await graph.get("/v1.0/me")
    graph.world.clock.advance(timedelta(seconds=3600))
    assert "expired" in (await graph.get("/v1.0/me", expect=401))["error"]["message"]


async def test_rotation_can_be_strict_or_absent(graph: GraphClient) -> None:
    old = graph.account.refresh_token
    graph.box.faults.add("no_refresh_token", "graph.token")
    assert "refresh_token" not in (await graph.refresh()).json()
    graph.box.faults.add("strict_rotation", "graph.token")
    new = (await graph.refresh(refresh_token=old)).json()["refresh_token"]
    await refused(graph, 70000, refresh_token=old)
    assert (await graph.refresh(refresh_token=new)).status_code == 200
    graph.account.refresh_token = graph.world.issue_refresh_token(graph.account, scopes=("Calendars.Read",))
    assert "refresh_token" not in (await graph.refresh()).json()


async def test_who_may_ask(graph: GraphClient) -> None:
    await refused(graph, 7000215, client_secret="wrong")
    await refused(graph, 7000218, client_secret="")
    await refused(graph, 700016, client_id="unknown")
    await refused(graph, 900144, grant_type="")
    await refused(graph, 70003, grant_type="password")
    await refused(graph, 70000, refresh_token="nonsense")
    graph.world.clients[graph.account.client_id].secret_expired = True
    await refused(graph, 7000222)


async def test_tenants(graph: GraphClient) -> None:
    personal = graph.world.add_account("somebody@hotmail.com", provider="microsoft")
    graph.world.add_account("other@fabrikam.example", provider="microsoft")
    for tenant in ("common", "organizations", "contoso.example", str(graph.account.tenant)):
        assert (await graph.refresh(tenant=tenant)).status_code == 200
    for tenant in ("common", "consumers", str(personal.tenant)):
        assert (await graph.refresh(tenant=tenant, refresh_token=personal.refresh_token)).status_code == 200
    await refused(graph, 50020, tenant="consumers")
    await refused(graph, 50020, tenant="fabrikam.example")
    await refused(graph, 50020, tenant="organizations", refresh_token=personal.refresh_token)
    await refused(graph, 90002, tenant="nowhere.example")


async def test_grants_end(graph: GraphClient) -> None:
    graph.world.clock.advance(timedelta(days=91))
    await refused(graph, 700082)
    graph.world.issue_refresh_token(graph.account)
    graph.world.revoke(graph.account)
    await refused(graph, 50173)
    graph.world.issue_refresh_token(graph.account)
    answer = await graph.http.post(f"/_sandbox/accounts/{graph.account.email}/revoke", json={"code": 65001})
    assert answer.status_code == 200
    await refused(graph, 65001)


async def test_scopes_can_be_fewer_but_not_more(graph: GraphClient) -> None:
    body = (await graph.refresh(scope="https://graph.microsoft.com/User.Read offline_access")).json()
    assert body["scope"] == "User.Read"
    graph.http.headers["Authorization"] = f"Bearer {body['access_token']}"
    await graph.get("/v1.0/me")
    await graph.get("/v1.0/me/calendars", expect=403)
    await refused(graph, 65001, scope="Mail.Read")


async def test_a_code_is_good_once(graph: GraphClient) -> None:
    redirect = "https://app.example/back"
    path = f"/_sandbox/accounts/{graph.account.email}/codes"
    code = (await graph.http.post(path, json={"redirect_uri": redirect})).json()["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect}
    await refused(graph, 70000, **(form | {"redirect_uri": "https://elsewhere.example"}))
    assert "refresh_token" in (await graph.refresh(**form)).json()
    await refused(graph, 54005, **form)
    late = graph.world.issue_code(graph.account, redirect)
    graph.world.clock.advance(timedelta(minutes=11))
    await refused(graph, 70008, **(form | {"code": late}))


@pytest.mark.parametrize("code", sorted(REASONS))
async def test_every_reason_can_be_planted(graph: GraphClient, code: int) -> None:
    graph.box.faults.add("oauth_error", "graph.token", code=code, retry_after=3)
    assert (await refused(graph, code)).headers["Retry-After"] == "3"
    assert (await graph.refresh()).status_code == 200


async def test_an_error_can_be_spelled_out(graph: GraphClient) -> None:
    graph.box.faults.add("oauth_error", "graph.token", status=400, error="login_required", description="Sign in again.")
    answer = await graph.refresh()
    assert (answer.status_code, answer.json()["error"]) == (400, "login_required")
