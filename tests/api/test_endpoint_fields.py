"""What an endpoint is told about itself: its schedule, rate, order, headers and standing."""

from typing import Any

import httpx
import pytest

from app.crypto import Place
from app.runtime import Runtime
from tests.api.rows import Rows

URL = "/api/v1/webhooks"
HOOK: dict[str, Any] = {"url": "http://127.0.0.1:9/hook", "triggers": ["calendar.state_change"]}
UNSAID: dict[str, Any] = {
    "rate_limit": None,
    "ordered": False,
    "signature": "v1",
    "public_key": None,
    "retry_seconds": None,
    "header_names": [],
}
SAID: dict[str, Any] = {"rate_limit": 1_000, "ordered": True, "retry_seconds": [1, 604_800, 2.5]}


async def _row(rt: Runtime) -> Any:
    async with rt.db.reading() as tx:
        return await tx.row("SELECT * FROM webhook_endpoints")


async def test_what_is_left_out_is_the_services_choice(client: httpx.AsyncClient) -> None:
    made = (await client.post(URL, json=HOOK)).json()
    assert {name: made[name] for name in UNSAID} == UNSAID
    assert made["secret"].startswith("whsec_")


async def test_what_is_said_is_shown(client: httpx.AsyncClient) -> None:
    made = (await client.post(URL, json=HOOK | SAID)).json()
    assert {name: made[name] for name in SAID} == SAID
    del made["secret"]
    assert (await client.get(f"{URL}/{made['id']}")).json() == made
    assert (await client.get(URL)).json()["results"] == [made]


async def test_patch_changes_one_field_and_puts_it_back(client: httpx.AsyncClient) -> None:
    made = (await client.post(URL, json=HOOK)).json()
    del made["secret"]
    url = f"{URL}/{made['id']}"
    for name, value in [*SAID.items(), ("retry_seconds", []), ("rate_limit", 1)]:
        changed = (await client.patch(url, json={name: value})).json()
        assert changed == made | {name: value, "updated_at": changed["updated_at"]}
        assert (await client.patch(url, json={name: UNSAID[name]})).json()[name] == UNSAID[name]


async def test_the_scheme_is_for_life(client: httpx.AsyncClient) -> None:
    made = (await client.post(URL, json=HOOK)).json()
    for field in ("signature", "public_key", "secret", "header_names"):
        answer = await client.patch(f"{URL}/{made['id']}", json={field: "v1a"})
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_field")


async def test_an_asymmetric_endpoint_shows_its_public_key_alone(client: httpx.AsyncClient, rt: Runtime) -> None:
    made = (await client.post(URL, json=HOOK | {"signature": "v1a"})).json()
    assert made.pop("secret") is None
    assert made["public_key"].startswith("whpk_")
    assert (await client.get(f"{URL}/{made['id']}")).json() == made
    row = await _row(rt)
    private = rt.cipher.open(row.secret_sealed, Place("webhook_endpoints", "secret", row.id))
    assert private.startswith("whsk_")
    assert private not in str(made)


async def test_headers_are_sealed_and_their_names_shown(client: httpx.AsyncClient, rt: Runtime) -> None:
    headers = {"X-Tenant": "canary-1", "authorization": "Bearer canary-2"}
    answer = await client.post(URL, json=HOOK | {"headers": headers})
    assert answer.json()["header_names"] == ["X-Tenant", "authorization"]
    row = await _row(rt)
    assert rt.cipher.open(row.headers_sealed, Place("webhook_endpoints", "headers", row.id)).startswith("{")
    url = f"{URL}/{answer.json()['id']}"
    for shown in (answer, await client.get(url), await client.get(URL)):
        assert "canary" not in shown.text
    assert b"canary" not in row.headers_sealed
    changed = await client.patch(url, json={"headers": {"x-other": "canary-3"}})
    assert changed.json()["header_names"] == ["x-other"]
    assert (await client.patch(url, json={"rate_limit": 3})).json()["header_names"] == ["x-other"]
    nothing: list[dict[str, str] | None] = [{}, None]
    for headers_now in nothing:
        assert (await client.patch(url, json={"headers": headers_now})).json()["header_names"] == []
        assert (await _row(rt)).headers_sealed is None


@pytest.mark.parametrize(
    ("state", "change", "after"),
    [
        ("failing", {"state": "enabled"}, "enabled"),
        ("disabled", {"state": "enabled"}, "enabled"),
        ("failing", {"url": "http://127.0.0.1:10/"}, "enabled"),
        ("disabled", {"url": "http://127.0.0.1:10/"}, "disabled"),
        ("disabled", {"url": "http://127.0.0.1:10/", "state": "enabled"}, "enabled"),
        ("enabled", {"url": "http://127.0.0.1:10/"}, "enabled"),
    ],
)
async def test_a_new_address_or_the_owners_word_ends_what_was_known_of_failures(
    client: httpx.AsyncClient, rt: Runtime, rows: Rows, state: str, change: dict[str, Any], after: str
) -> None:
    url = f"{URL}/{(await client.post(URL, json=HOOK)).json()['id']}"
    reason = "failed_for_days" if state == "disabled" else None
    await rows.sql(
        "UPDATE webhook_endpoints SET state = :state, disabled_reason = :reason, failure_count = 7,"
        " failing_since = app_now(), paused_until = app_now(), pause_count = 3",
        state=state,
        reason=reason,
    )
    assert (await client.patch(url, json={"rate_limit": 2})).json()["state"] == state
    assert (await _row(rt)).failure_count == 7
    shown = (await client.patch(url, json=change)).json()
    assert (shown["state"], shown["disabled_reason"]) == (after, reason if after == "disabled" else None)
    row = await _row(rt)
    assert (row.failure_count, row.failing_since, row.paused_until, row.pause_count) == (0, None, None, 0)


async def test_a_refused_change_changes_nothing(client: httpx.AsyncClient, rt: Runtime) -> None:
    made = (await client.post(URL, json=HOOK | SAID | {"headers": {"x-key": "1"}})).json()
    url, before = f"{URL}/{made['id']}", tuple(await _row(rt))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"rate_limit": 0}, "out_of_range"),
        ({"rate_limit": 1_001}, "out_of_range"),
        ({"ordered": None}, "wrong_type"),
        ({"retry_seconds": [0]}, "out_of_range"),
        ({"retry_seconds": [5] * 21}, "too_long"),
        ({"headers": {"host": "x"}}, "header_not_allowed"),
        ({"headers": {"x-a": "1", "X-A": "2"}}, "not_unique"),
        ({"state": "failing"}, "not_allowed"),
        ({"rate_limit": 5, "url": "http://10.0.0.1/"}, "host_not_allowed"),
        ({"rate_limit": 5, "url": "https://u:p@example.com/"}, "userinfo_not_allowed"),
        ({"rate_limit": 5, "triggers": ["bot.lunch"]}, "not_allowed"),
        ({"rate_limit": 5, "triggers": ["calendar.state_change"] * 2}, "not_unique"),
    ]
    for change, code in cases:
        answer = await client.patch(url, json=change)
        assert (answer.status_code, answer.json()["code"]) == (422, code), change
    assert tuple(await _row(rt)) == before
