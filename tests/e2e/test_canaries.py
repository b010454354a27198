"""Planted secrets, driven through what succeeds, fails and breaks: they come out in the receiver's hands alone."""

import base64
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.crypto import Cipher, Place
from app.ids import ENDPOINT, parse
from demo.processes import Stack, free_port, http
from tests.harness import listen

RING = b"a ring for canaries, of 32 bytes"
SETTINGS = {
    "LOG_LEVEL": "DEBUG",
    "DELIVERY_RETRY_SECONDS": "1",
    "DELIVERY_TIMEOUT_SECONDS": "2",
    "PUNCTUAL_SECRET_KEYS": f"test:{base64.b64encode(RING).decode()}",
}
HOOK = {"triggers": ["calendar.state_change"]}

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]  # real processes, which have to start


class Scene:
    """One installation, its customer, its database, and the secrets that were planted, by name."""

    def __init__(self, stack: Stack, client: httpx.AsyncClient, database: "asyncpg.Connection[Any]") -> None:
        self.stack, self.client, self.database = stack, client, database
        self.cipher = Cipher({"test": RING})
        self.planted: dict[str, str] = {}
        self.problems: list[str] = []
        self.metrics = f"127.0.0.1:{free_port()}"

    def plant(self, name: str, secret: str | None = None) -> str:
        """Remember a secret, by default a fresh one."""
        self.planted[name] = secret or f"canary-{secrets.token_hex(12)}"
        return self.planted[name]

    def seen_in(self, text: str) -> list[str]:
        """The names of the secrets that a text gives away, plainly or as bytes in hexadecimal."""
        return [name for name, secret in self.planted.items() if any(form in text for form in _forms(secret))]

    async def call(self, method: str, path: str, *, expect: int, **request: Any) -> dict[str, Any]:
        """One request to the API; what is no success is kept."""
        answer = await self.client.request(method, f"{self.stack.api_url}/api/v1{path}", **request)
        assert answer.status_code == expect, answer.text
        if expect >= 400:
            self.problems.append(answer.text)
        return dict(answer.json())

    async def endpoint(self, name: str, url: str, **said: Any) -> str:
        """An endpoint with a secret and a header."""
        headers = {"authorization": f"Bearer {self.plant(f'header of {name}')}"}
        body = HOOK | {"url": url, "headers": headers, **said}
        made = await self.call("POST", "/webhooks", json=body, expect=201)
        self.plant(f"secret of {name}", made["secret"] or await self.stored(made["id"]))
        return str(made["id"])

    async def stored(self, ref: str) -> str:
        """An endpoint's key as it was sealed."""
        query = "SELECT secret_sealed FROM webhook_endpoints WHERE id = $1"
        return self.cipher.open(await self.database.fetchval(query, parse(ENDPOINT, ref)), _place(ref, "secret"))

    async def spoil(self, ref: str, column: str, content: str) -> None:
        """Put something that opens, but is none of what it should be, in an endpoint's row."""
        sealed = self.cipher.seal(content, _place(ref, column))
        await self.database.execute(
            f"UPDATE webhook_endpoints SET {column}_sealed = $1 WHERE id = $2", sealed, parse(ENDPOINT, ref)
        )

    async def attempt(self, ref: str) -> dict[str, Any]:
        """Send a test to an endpoint; how its first attempt went."""
        delivery = (await self.call("POST", f"/webhooks/{ref}/test", expect=202))["delivery_id"]
        found: list[dict[str, Any]] = []

        async def is_tried() -> bool:
            found[:] = (await self.call("GET", f"/webhook_deliveries/{delivery}", expect=200))["attempts"]
            return bool(found)

        await self.stack.until(is_tried, seconds=120, what="an attempt")
        return found[0]

    async def told(self) -> dict[str, str]:
        """Everything that an operator or a customer can see, by where."""
        tables = await self.database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        told = {
            f"table {name}": "\n".join(
                str(row[0]) for row in await self.database.fetch(f"SELECT CAST(t AS text) FROM {name} t")
            )
            for (name,) in tables
        }
        for process in (self.stack.api, *self.stack.workers):
            assert process is not None
            told[f"log of {process.name}"] = process.said()
        for url in (f"{self.stack.api_url}/metrics", f"http://{self.metrics}/metrics"):
            told[url] = (await self.client.get(url)).text
        for path in ("webhooks", "webhook_deliveries", "calendars"):
            told[path] = (await self.client.get(f"{self.stack.api_url}/api/v1/{path}?limit=250")).text
        return told | {"problems": "\n".join(self.problems)}


def _place(ref: str, column: str) -> Place:
    key = parse(ENDPOINT, ref)
    assert key is not None
    return Place("webhook_endpoints", column, key)


def _forms(secret: str) -> set[str]:
    prefix, _, encoded = secret.partition("_")
    if prefix not in {"whsec", "whsk"}:
        return {secret, secret.encode().hex()}
    return {encoded, encoded.encode().hex(), base64.b64decode(encoded).hex()}


@pytest.fixture
async def echo() -> AsyncIterator[str]:
    """A receiver that tells what it was told."""

    async def answer(request: Request) -> JSONResponse:
        return JSONResponse(dict(request.headers), status_code=500)

    async with listen(Starlette(routes=[Route("/", answer, methods=["POST"])])) as url:
        yield f"{url}/"


@pytest.fixture
async def scene(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    database = await asyncpg.connect(database_url)
    async with (
        Stack(database_url=database_url, redis_url=redis_url, logs=tmp_path, settings=SETTINGS) as stack,
        http() as client,
    ):
        made = Scene(stack, client, database)
        await stack.start(workers=0)
        await stack.start_worker({"METRICS_BIND": made.metrics})
        printed = httpx.Response(200, text=await stack.punctual("projects", "create", "canaries", "--json"))
        client.headers["Authorization"] = f"Token {made.plant('API key', printed.json()['api_key'])}"
        yield made
    await database.close()


async def test_planted_secrets_come_out_nowhere(scene: Scene, echo: str) -> None:
    sink = f"{scene.stack.sink_url}/hooks"
    await scene.client.put(f"{scene.stack.sink_url}/_sink/hooks/bad", json={"statuses": [500]})
    errors = {}
    good = await scene.endpoint("good", f"{sink}/good")
    errors["good"] = (await scene.attempt(good))["error"]
    asymmetric = await scene.endpoint("asymmetric", f"{sink}/asymmetric", signature="v1a")
    errors["asymmetric"] = (await scene.attempt(asymmetric))["error"]
    errors["bad"] = (await scene.attempt(await scene.endpoint("bad", f"{sink}/bad")))["error"]
    away = await scene.endpoint("away", f"http://127.0.0.1:{free_port()}/")
    errors["away"] = (await scene.attempt(away))["error"]
    echoed = await scene.attempt(await scene.endpoint("echo", echo))
    errors["echo"] = echoed["error"]
    assert "webhook-signature" in echoed["response_body"]

    rotated = await scene.call("POST", f"/webhooks/{good}/rotate_secret", headers={"Idempotency-Key": "k"}, expect=200)
    scene.plant("rotated secret", rotated["secret"])
    errors["rotated"] = (await scene.attempt(good))["error"]

    crash = await scene.endpoint("crash", f"{sink}/crash")
    await scene.spoil(crash, "secret", scene.plant("no key at all"))
    errors["crash"] = (await scene.attempt(crash))["error"]
    headers = await scene.endpoint("crash of headers", f"{sink}/crash")
    await scene.spoil(headers, "headers", f'{{"x": "{scene.plant("no headers at all")}"')
    errors["crash of headers"] = (await scene.attempt(headers))["error"]
    moved = await scene.endpoint("moved", f"{sink}/moved")
    await scene.database.execute("UPDATE webhook_endpoints SET secret_sealed = headers_sealed WHERE id = $1",
                                 parse(ENDPOINT, moved))  # fmt: skip
    errors["moved"] = (await scene.attempt(moved))["error"]
    assert errors == {
        "good": None,
        "asymmetric": None,
        "bad": "refused",
        "away": "connect_error",
        "echo": "refused",
        "rotated": None,
        "crash": "internal_error",
        "crash of headers": "internal_error",
        "moved": "secret_unreadable",
    }

    for value in (f"{scene.plant('refused header')}\n", f"{scene.plant('other refused header')}é"):
        await scene.call("PATCH", f"/webhooks/{good}", json={"headers": {"x-key": value}}, expect=422)
    await scene.call("PATCH", f"/webhooks/{good}", json={"secret": scene.plant("refused secret")}, expect=422)
    tokens = {name: scene.plant(name) for name in ("client_secret", "refresh_token")}
    calendar = {"platform": "google", "client_id": "unknown", **tokens}
    await scene.call("POST", "/calendars", json=calendar | {"verify": True}, expect=422)
    await scene.call("POST", "/calendars", json=calendar, expect=201)

    async def has_failed() -> bool:
        return bool(await scene.database.fetchval("SELECT max(failure_count) FROM sync_state"))

    await scene.stack.until(has_failed, seconds=120, what="a sync that is refused")
    told = await scene.told()
    assert [(where, names) for where, text in told.items() if (names := scene.seen_in(text))] == []
    assert "delivery.attempt_crashed" in told["log of worker-1"]
    received = (await scene.client.get(f"{scene.stack.sink_url}/_sink/messages")).text
    assert set(scene.seen_in(received)) == {"header of good", "header of asymmetric", "header of bad"}
