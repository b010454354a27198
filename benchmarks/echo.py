"""A receiver that costs next to nothing (`python -m benchmarks.echo PORT [SECONDS]`): reads a request, answers 204.

It knows when each `webhook-id` first came: `GET /log` tells, and forgets. Below `/tarpit/` an answer takes so many
seconds.
"""

import asyncio
import json
import sys
import time

from benchmarks.requests import Requests

_HEAD = b"HTTP/1.1 204 No Content\r\nconnection: keep-alive\r\n\r\n"
_ID = b"webhook-id: "


class Receiver(Requests):
    """Answers 204 and remembers."""

    def __init__(self, log: dict[str, float], tarpit_seconds: float) -> None:
        super().__init__()
        self._log = log
        self._tarpit_seconds = tarpit_seconds

    def answer(self, transport: asyncio.WriteTransport, head: bytes, lowered: bytes, body: bytes) -> None:
        """A message, or what came."""
        del body
        if lowered.startswith(b"get /log "):
            self._tell(transport)
        elif lowered.startswith(b"post /tarpit/"):
            asyncio.get_running_loop().call_later(self._tarpit_seconds, transport.write, _HEAD)
        else:
            transport.write(_HEAD)
            if (at := lowered.find(_ID)) >= 0:
                begin = at + len(_ID)
                self._log.setdefault(head[begin : begin + 30].decode(), time.time())

    def _tell(self, transport: asyncio.WriteTransport) -> None:
        body = json.dumps(self._log).encode()
        self._log.clear()
        transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


async def main(port: int, tarpit_seconds: float) -> None:
    """Serve until the process ends."""
    log: dict[str, float] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Receiver(log, tarpit_seconds), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
