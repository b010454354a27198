"""A receiver that costs next to nothing (`python -m benchmarks.echo PORT [SECONDS]`): reads a request, answers 204.

It knows when each `webhook-id` first came: `GET /log` tells, and forgets. Below `/tarpit/` an answer takes so many
seconds.
"""

import asyncio
import json
import sys
import time

_HEAD = b"HTTP/1.1 204 No Content\r\nconnection: keep-alive\r\n\r\n"
_ID = b"webhook-id: "


class Receiver(asyncio.Protocol):
    """HTTP/1.1 as far as a webhook sender goes: headers with a content-length, then that many bytes."""

    def __init__(self, log: dict[str, float], tarpit_seconds: float) -> None:
        self._log = log
        self._tarpit_seconds = tarpit_seconds
        self._transport: asyncio.WriteTransport | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember whom to answer."""
        if isinstance(transport, asyncio.WriteTransport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            length = 0
            if (at := head.find(b"content-length:")) >= 0:
                length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self._data) < end + 4 + length:
                return
            original, self._data = self._data[:end], self._data[end + 4 + length :]
            self._answer(original, head)

    def _answer(self, head: bytes, lowered: bytes) -> None:
        if self._transport is None:
            return
        if lowered.startswith(b"get /log "):
            self._tell(self._transport)
        elif lowered.startswith(b"post /tarpit/"):
            asyncio.get_running_loop().call_later(self._tarpit_seconds, self._transport.write, _HEAD)
        else:
            self._transport.write(_HEAD)
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
