"""Rotation: two secrets sign for a while, then one; nothing is ever signed with less, or with another's."""

import asyncio
import base64
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError

from app.crypto import Place
from app.ids import ENDPOINT, parse
from app.runtime import Runtime
from app.sync.cleanup import purge
from app.webhooks.delivery import deliver_due
from tests.harness import Project
from tests.integration.delivering import Endpoint, Receiver, attempts, rows, send

OLD_MOST = 10


class Owner:
    """An endpoint and its owner, through the API."""

    def __init__(self, api: httpx.AsyncClient, project: Project, made: dict[str, Any]) -> None:
        self._api, self._project, self.made = api, project, made
        self.url = f"/api/v1/webhooks/{made['id']}"
        key = parse(ENDPOINT, made["id"])
        assert key is not None
        self.endpoint = Endpoint(key, made["secret"] or "")

    async def ask(self, grace: int | None = None, *, key: str | None = None) -> httpx.Response:
        """POST rotate_secret."""
        headers = self._project.headers | ({"Idempotency-Key": key} if key else {})
        body = None if grace is None else {"grace_seconds": grace}
        return await self._api.post(f"{self.url}/rotate_secret", json=body, headers=headers)

    async def rotate(self, grace: int | None = None) -> dict[str, Any]:
        answer = await self.ask(grace)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def shown(self) -> dict[str, Any]:
        return dict((await self._api.get(self.url, headers=self._project.headers)).json())


async def _owner(api: httpx.AsyncClient, project: Project, receiver: Receiver, **said: Any) -> Owner:
    body = {"url": receiver.url, "triggers": ["calendar.state_change"], **said}
    answer = await api.post("/api/v1/webhooks", json=body, headers=project.headers)
    assert answer.status_code == 201, answer.text
    return Owner(api, project, answer.json())


@pytest.fixture
async def owner(api: httpx.AsyncClient, project: Project, receiver: Receiver) -> Owner:
    return await _owner(api, project, receiver)


async def _signed(rt: Runtime, project: Project, receiver: Receiver, owner: Owner) -> tuple[dict[str, str], bytes]:
    """Headers and body of a message that is sent now."""
    await send(rt, project, endpoint=owner.endpoint)
    assert await deliver_due(rt) == 1
    _, headers, body = receiver.requests[-1]
    return headers, body


def _accepts(secret: str, headers: dict[str, str], body: bytes) -> bool:
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


async def test_both_secrets_verify_until_the_grace_is_over(
    rt: Runtime, project: Project, receiver: Receiver, owner: Owner
) -> None:
    old = owner.made["secret"]
    before = rt.clock.now()
    rotated = await owner.rotate(3600)
    new = rotated["secret"]
    assert new.startswith("whsec_")
    assert (new != old, rotated["public_key"]) == (True, None)
    expires_at = datetime.fromisoformat(rotated["previous_expires_at"])
    assert before + timedelta(hours=1) <= expires_at <= rt.clock.now() + timedelta(hours=1)
    headers, body = await _signed(rt, project, receiver, owner)
    assert [entry.partition(",")[0] for entry in headers["webhook-signature"].split()] == ["v1", "v1"]
    assert (_accepts(new, headers, body), _accepts(old, headers, body)) == (True, True)
    first = headers | {"webhook-signature": headers["webhook-signature"].split()[0]}
    assert (_accepts(new, first, body), _accepts(old, first, body)) == (True, False)
    rt.clock.advance(timedelta(hours=1, seconds=1))
    headers, body = await _signed(rt, project, receiver, owner)
    assert (_accepts(new, headers, body), _accepts(old, headers, body)) == (True, False)


async def test_a_day_is_the_default(rt: Runtime, owner: Owner) -> None:
    before = rt.clock.now()
    for answer in (await owner.rotate(), (await owner.ask(key="k")).json()):
        expires_at = datetime.fromisoformat(answer["previous_expires_at"])
        assert before + timedelta(days=1) <= expires_at <= rt.clock.now() + timedelta(days=1)


async def test_without_grace_the_one_before_ends_at_once(
    rt: Runtime, project: Project, receiver: Receiver, owner: Owner
) -> None:
    kept = owner.made["secret"]
    leaked = (await owner.rotate(3600))["secret"]
    rotated = await owner.rotate(0)
    assert datetime.fromisoformat(rotated["previous_expires_at"]) <= rt.clock.now()
    headers, body = await _signed(rt, project, receiver, owner)
    told = [_accepts(secret, headers, body) for secret in (rotated["secret"], leaked, kept)]
    assert told == [True, False, True]


async def test_ten_old_secrets_and_no_more(rt: Runtime, project: Project, receiver: Receiver, owner: Owner) -> None:
    secrets = [owner.made["secret"]]
    secrets += [(await owner.rotate(3600))["secret"] for _ in range(OLD_MOST)]
    before = await rows(rt, "SELECT * FROM webhook_endpoints"), await rows(rt, "SELECT * FROM webhook_secrets")
    answer = await owner.ask(60)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_secrets")
    after = await rows(rt, "SELECT * FROM webhook_endpoints"), await rows(rt, "SELECT * FROM webhook_secrets")
    assert after == before
    headers, body = await _signed(rt, project, receiver, owner)
    assert all(_accepts(secret, headers, body) for secret in secrets)
    newest_first = headers["webhook-signature"].split()
    for place, secret in enumerate(reversed(secrets)):
        assert _accepts(secret, headers | {"webhook-signature": newest_first[place]}, body)
    assert (await owner.ask(0)).status_code == 200  # keeps none, so there is room
    rt.clock.advance(timedelta(hours=1, seconds=1))
    assert (await owner.ask(60)).status_code == 200


async def test_a_message_on_its_way_is_signed_anew(
    rt: Runtime, project: Project, receiver: Receiver, owner: Owner
) -> None:
    receiver.statuses = [503, 204]
    await send(rt, project, endpoint=owner.endpoint)
    await deliver_due(rt)
    new = (await owner.rotate(0))["secret"]
    rt.clock.advance(timedelta(seconds=6))
    await deliver_due(rt)
    (_, first, body), (_, second, again) = receiver.requests
    assert (first["webhook-id"], body) == (second["webhook-id"], again)
    assert _accepts(owner.made["secret"], first, body)
    assert _accepts(new, second, body)
    assert not _accepts(owner.made["secret"], second, body)


async def test_a_pair_of_keys_rotates_too(
    rt: Runtime, api: httpx.AsyncClient, project: Project, receiver: Receiver
) -> None:
    owner = await _owner(api, project, receiver, signature="v1a")
    rotated = await owner.rotate(3600)
    assert rotated["secret"] is None
    assert rotated["public_key"] == (await owner.shown())["public_key"] != owner.made["public_key"]
    headers, body = await _signed(rt, project, receiver, owner)
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    given = headers["webhook-signature"].split()
    assert [entry.partition(",")[0] for entry in given] == ["v1a", "v1a"]
    for entry, public in zip(given, (rotated["public_key"], owner.made["public_key"]), strict=True):
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
        signature = base64.b64decode(entry.partition(",")[2])
        key.verify(signature, content)
        with pytest.raises(InvalidSignature):
            key.verify(signature, content + b" ")


async def test_rotations_at_once_leave_one_current_and_the_others_old(
    rt: Runtime, project: Project, receiver: Receiver, owner: Owner
) -> None:
    answers = await asyncio.gather(*(owner.ask(3600) for _ in range(OLD_MOST + 4)))
    made = [answer.json()["secret"] for answer in answers if answer.status_code == 200]
    refused = [answer.json()["code"] for answer in answers if answer.status_code != 200]
    assert (len(set(made)), refused) == (OLD_MOST, ["too_many_secrets"] * 4)
    headers, body = await _signed(rt, project, receiver, owner)
    assert len(headers["webhook-signature"].split()) == OLD_MOST + 1
    assert all(_accepts(secret, headers, body) for secret in [owner.made["secret"], *made])


async def test_the_same_key_rotates_once(rt: Runtime, owner: Owner) -> None:
    first, again = await owner.ask(60, key="once"), await owner.ask(60, key="once")
    assert first.content == again.content
    assert len(await rows(rt, "SELECT id FROM webhook_secrets")) == 1
    other = await owner.ask(61, key="once")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    [kept] = await rows(rt, "SELECT response_sealed FROM idempotency_keys")
    assert first.json()["secret"].encode() not in kept["response_sealed"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"grace_seconds": -1}, "out_of_range"),
        ({"grace_seconds": 604_801}, "out_of_range"),
        ({"grace_seconds": None}, "wrong_type"),
        ({"grace_seconds": "60"}, "wrong_type"),
        ({"grace_seconds": 1.5}, "wrong_type"),
        ({"grace_seconds": True}, "wrong_type"),
        ({"grace": 60}, "unknown_field"),
        ([], "wrong_type"),
    ],
)
async def test_a_grace_out_of_range_changes_nothing(
    rt: Runtime, api: httpx.AsyncClient, project: Project, owner: Owner, body: Any, code: str
) -> None:
    before = await rows(rt, "SELECT * FROM webhook_endpoints")
    answer = await api.post(f"{owner.url}/rotate_secret", json=body, headers=project.headers)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert await rows(rt, "SELECT * FROM webhook_endpoints") == before
    assert await rows(rt, "SELECT * FROM webhook_secrets") == []


async def test_what_is_not_there_has_no_secret(
    rt: Runtime, api: httpx.AsyncClient, project: Project, other_project: Project, owner: Owner
) -> None:
    before = await rows(rt, "SELECT * FROM webhook_endpoints")
    for url in ("/api/v1/webhooks/x", "/api/v1/webhooks/ep_01JD4Q8ZK3V6W8N2M5T7R9B1CX"):
        answer = await api.post(f"{url}/rotate_secret", headers=project.headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    foreign = await api.post(f"{owner.url}/rotate_secret", headers=other_project.headers)
    assert foreign.status_code == 404
    assert await rows(rt, "SELECT * FROM webhook_endpoints") == before
    await api.delete(owner.url, headers=project.headers)
    assert (await owner.ask()).status_code == 404


async def test_retention_removes_what_signs_no_more(rt: Runtime, owner: Owner) -> None:
    await owner.rotate(60)
    await owner.rotate(3600)
    await purge(rt)
    assert len(await rows(rt, "SELECT id FROM webhook_secrets")) == 2
    rt.clock.advance(timedelta(seconds=61))
    await purge(rt)
    assert len(await rows(rt, "SELECT id FROM webhook_secrets")) == 1


async def test_own_headers_go_along_and_ours_stay_ours(
    rt: Runtime, api: httpx.AsyncClient, project: Project, receiver: Receiver
) -> None:
    owner = await _owner(api, project, receiver, headers={"Authorization": "Bearer hello", "x-tenant": "7"})
    headers, body = await _signed(rt, project, receiver, owner)
    assert (headers["authorization"], headers["x-tenant"]) == ("Bearer hello", "7")
    assert _accepts(owner.made["secret"], headers, body)
    async with rt.db.transaction() as tx:  # stored before a name was refused, say
        theirs = b'{"Webhook_Id": "theirs", "webhook-signature": "v1,x", "User-Agent": "x"}'
        sealed = rt.cipher.seal(theirs, Place("webhook_endpoints", "headers", owner.endpoint.id))
        await tx.execute("UPDATE webhook_endpoints SET headers_sealed = :sealed", {"sealed": sealed})
    headers, body = await _signed(rt, project, receiver, owner)
    assert "webhook_id" not in headers
    assert headers["user-agent"].startswith("Punctual/")
    assert _accepts(owner.made["secret"], headers, body)
    assert {a["error"] for a in await attempts(rt)} == {None}
