"""The receiver of a storm on delivery (`python -m storm.receiver PORT SEED SECONDS`): verifies, remembers, fails some.

Signatures are judged by the library of Standard Webhooks, which shares no code with the sender. What an attempt meets
is decided by the seed, the endpoint, the message and how often it has come: a 204, a 500, a 204 that comes so many
seconds later than anybody waits, or a connection that is closed without an answer.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from dataclasses import asdict
from hashlib import sha256

import orjson
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from storm.receipts import Arrival

REFUSED, SILENT, CUT = 0.05, 0.005, 0.005
DELAY_SECONDS = 0.15
"""An answer takes up to so long: there are always some under way."""


class Receiver:
    """Endpoints by the name in their URL's path."""

    def __init__(self, *, seed: str, late_seconds: float) -> None:
        self._seed = seed
        self._late_seconds = late_seconds
        self._keys: dict[str, Webhook] = {}
        self._times: Counter[tuple[str, str]] = Counter()
        self._arrivals: list[Arrival] = []
        self.app = web.Application()
        self.app.add_routes(
            [
                web.post("/hooks/{name}", self._receive),
                web.put("/_storm/secrets", self._learn),
                web.get("/_storm/arrivals", self._tell),
            ]
        )

    async def _receive(self, request: web.Request) -> web.Response:
        name, body = request.match_info["name"], await request.read()
        id_ = request.headers.get("webhook-id", "")
        self._times[name, id_] += 1
        chance = random.Random(f"{self._seed}/{name}/{id_}/{self._times[name, id_]}")
        dice = chance.random()
        fails = dice < REFUSED + SILENT + CUT
        # Remembered before it answers: a sender that dies before it has read the answer sends again.
        self._arrivals.append(
            Arrival(
                endpoint=name,
                id=id_,
                at=time.time(),
                is_valid=self._is_valid(name, request, body),
                digest=sha256(body).hexdigest(),
                is_acknowledged=not fails,
            )
        )
        if dice < REFUSED:
            return web.Response(status=500)
        if dice < REFUSED + SILENT:
            await asyncio.sleep(self._late_seconds)
        elif fails and request.transport is not None:
            request.transport.abort()
        else:
            await asyncio.sleep(chance.uniform(0, DELAY_SECONDS))
        return web.Response(status=204)

    def _is_valid(self, name: str, request: web.Request, body: bytes) -> bool:
        key = self._keys.get(name)
        try:
            if key is not None:
                key.verify(body, {name.lower(): value for name, value in request.headers.items()})
        except (WebhookVerificationError, ValueError):  # the latter for an entry that is no base64
            return False
        return key is not None

    async def _learn(self, request: web.Request) -> web.Response:
        self._keys = {name: Webhook(secret) for name, secret in (await request.json()).items()}
        return web.Response(status=204)

    async def _tell(self, _: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps([asdict(one) for one in self._arrivals]), content_type="application/json")


if __name__ == "__main__":
    web.run_app(
        Receiver(seed=sys.argv[2], late_seconds=float(sys.argv[3])).app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        print=None,
        access_log=None,
        shutdown_timeout=0.5,
    )
