"""A bot back end that costs next to nothing (`python -m benchmarks.back_end PORT SECONDS`): each answer takes so long.

It speaks as much of Attendee as a start needs: a POST makes a bot. `GET /made` tells how many there are, and how many
of them have a key that another one had; a POST to any other place is answered 204.
"""

import asyncio
import json
import sys

from benchmarks.requests import Requests

_KEY = b'"deduplication_key":"'


class BackEnd(Requests):
    """Makes bots."""

    def __init__(self, keys: dict[bytes, int], seconds: float) -> None:
        super().__init__()
        self._keys = keys
        self._seconds = seconds

    def answer(self, transport: asyncio.WriteTransport, head: bytes, lowered: bytes, body: bytes) -> None:
        """A bot, or how many there are."""
        del head
        if lowered.startswith(b"get /made "):
            twice = sum(count - 1 for count in self._keys.values())
            told = {"made": sum(self._keys.values()), "twice": twice}
            transport.write(_response(b"200 OK", json.dumps(told).encode()))
        elif lowered.startswith(b"post /api/v1/bots "):
            at = body.find(_KEY) + len(_KEY)
            key = body[at : body.find(b'"', at)]
            self._keys[key] = self._keys.get(key, 0) + 1
            answer = _response(b"201 Created", json.dumps({"id": f"bot_{len(self._keys)}"}).encode())
            asyncio.get_running_loop().call_later(self._seconds, transport.write, answer)
        else:
            transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


def _response(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
    return head + body


async def main(port: int, seconds: float) -> None:
    """Serve until the process ends."""
    keys: dict[bytes, int] = {}
    server = await asyncio.get_running_loop().create_server(lambda: BackEnd(keys, seconds), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
