"""Endpoints and deliveries through HTTP."""

from typing import Any

import httpx

from app.crypto import Place
from app.ids import ENDPOINT, MESSAGE, parse
from app.runtime import Runtime
from app.webhooks import payloads
from tests.api.rows import Rows, calendar_ref

URL, DELIVERIES = "/api/v1/webhooks", "/api/v1/webhook_deliveries"
HOOK: dict[str, Any] = {"url": "http://127.0.0.1:9/hook", "triggers": ["calendar.state_change"]}


def _key(ref: str) -> Any:
    return parse(ENDPOINT, ref)


async def test_the_secret_is_shown_once_and_sealed(client: httpx.AsyncClient, rt: Runtime) -> None:
    made = (await client.post(URL, json=HOOK | {"metadata": {"env": "test"}})).json()
    secret = made.pop("secret")
    assert (made["url"], made["triggers"], made["metadata"]) == (HOOK["url"], HOOK["triggers"], {"env": "test"})
    assert (made["state"], made["disabled_reason"]) == ("enabled", None)
    assert (await client.get(f"{URL}/{made['id']}")).json() == made
    for answer in (await client.get(URL), await client.patch(f"{URL}/{made['id']}", json={})):
        assert secret not in answer.text
        assert "secret" not in answer.text
    async with rt.db.reading() as tx:
        sealed = await tx.scalar("SELECT secret_sealed FROM webhook_endpoints")
    assert rt.cipher.open(sealed, Place("webhook_endpoints", "secret", _key(made["id"]))) == secret


async def test_what_can_be_listened_to(client: httpx.AsyncClient) -> None:
    made = (await client.post(URL, json=HOOK | {"triggers": list(payloads.SUBSCRIBABLE)})).json()
    assert made["triggers"] == list(payloads.SUBSCRIBABLE)


async def test_patch_changes_what_it_names(client: httpx.AsyncClient, rows: Rows) -> None:
    made = (await client.post(URL, json=HOOK | {"metadata": {"a": "b"}})).json()
    del made["secret"]
    url = f"{URL}/{made['id']}"
    unchanged = (await client.patch(url, json={})).json()
    assert unchanged["updated_at"] > made["updated_at"]
    assert unchanged | {"updated_at": 0} == made | {"updated_at": 0}
    for field, value in (
        ("url", "http://127.0.0.1:10/"),
        ("triggers", ["calendar.events_update"]),
        ("metadata", {"c": "d"}),
        ("metadata", None),
    ):
        assert (await client.patch(url, json={field: value})).json()[field] == value
    await rows.sql("UPDATE webhook_endpoints SET state = 'disabled', disabled_reason = 'gone'")
    assert (await client.patch(url, json={"metadata": None})).json()["disabled_reason"] == "gone"
    enabled = (await client.patch(url, json={"state": "enabled"})).json()
    assert (enabled["state"], enabled["disabled_reason"]) == ("enabled", None)


async def test_patch_refuses_what_is_not_allowed(client: httpx.AsyncClient, rows: Rows) -> None:
    url = f"{URL}/{await rows.endpoint()}"
    before = (await client.get(url)).json()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"url": None}, "wrong_type"),
        ({"url": "http://10.1.2.3/"}, "host_not_allowed"),
        ({"triggers": None}, "wrong_type"),
        ({"triggers": []}, "too_short"),
        ({"state": "disabled"}, "not_allowed"),
        ({"state": None}, "wrong_type"),
        ({"secret": "whsec_mine"}, "unknown_field"),
    ]
    for body, code in cases:
        answer = await client.patch(url, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, code), body
    assert (await client.get(url)).json() == before


async def test_delete(client: httpx.AsyncClient, rt: Runtime) -> None:
    made = (await client.post(URL, json=HOOK)).json()["id"]
    await client.post(f"{URL}/{made}/test")
    assert (await client.delete(f"{URL}/{made}")).status_code == 204
    for answer in (
        await client.get(f"{URL}/{made}"),
        await client.patch(f"{URL}/{made}", json={}),
        await client.delete(f"{URL}/{made}"),
        await client.post(f"{URL}/{made}/test"),
    ):
        assert answer.status_code == 404
    assert (await client.get(URL)).json()["results"] == []
    async with rt.db.reading() as tx:
        assert await tx.scalar("SELECT count(*) FROM deliveries WHERE state = 'pending'") == 0


async def test_a_test_goes_to_its_endpoint_only(client: httpx.AsyncClient) -> None:
    made = (await client.post(URL, json=HOOK)).json()["id"]
    await client.post(URL, json=HOOK)
    accepted = await client.post(f"{URL}/{made}/test")
    listed = (await client.get(DELIVERIES)).json()["results"]
    assert (accepted.status_code, [item["id"] for item in listed]) == (202, [accepted.json()["delivery_id"]])
    delivery = listed[0]
    assert (delivery["webhook_id"], delivery["trigger"], delivery["state"]) == (made, "webhook.test", "pending")
    assert delivery["payload"]["idempotency_key"] == delivery["message_id"]
    assert delivery["message_id"].startswith(MESSAGE)
    assert delivery["next_attempt_at"] is not None
    assert (await client.get(f"{DELIVERIES}/{delivery['id']}")).json() == delivery


async def test_deliveries_and_their_filters(client: httpx.AsyncClient, rows: Rows) -> None:
    calendar = await rows.calendar()
    one, two = await rows.endpoint(), await rows.endpoint()
    first = await rows.delivery(_key(one), calendar_id=calendar)
    second = await rows.delivery(_key(two))
    shown = (await client.get(f"{DELIVERIES}/{first}")).json()
    attempt = shown["attempts"][0]
    assert attempt.pop("at").endswith("Z")
    assert attempt == {
        "status": 500,
        "error": None,
        "phases_ms": {"total": 1.5},
        "address": "192.0.2.1",
        "response_body": "no",
    }
    assert (shown["calendar_id"], shown["next_attempt_at"]) == (calendar_ref(calendar), None)
    cases: list[tuple[dict[str, str], list[str]]] = [
        ({}, [second, first]),
        ({"webhook_id": one}, [first]),
        ({"webhook_id": "x"}, []),
        ({"calendar_id": calendar_ref(calendar)}, [first]),
        ({"calendar_id": "x"}, []),
        ({"state": "failed"}, [second, first]),
        ({"state": "succeeded"}, []),
        ({"trigger": "calendar.events_update"}, [second, first]),
        ({"trigger": "webhook.test"}, []),
        ({"created_at_gte": shown["created_at"]}, [second, first]),
        ({"created_at_lte": shown["created_at"]}, [first]),
    ]
    for params, expected in cases:
        results = (await client.get(DELIVERIES, params=params)).json()["results"]
        assert [item["id"] for item in results] == expected, params
    page = (await client.get(DELIVERIES, params={"limit": 1})).json()
    assert [item["id"] for item in (await client.get(page["next"])).json()["results"]] == [first]
