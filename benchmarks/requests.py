"""What servers of the benchmarks share: HTTP/1.1 as far as our clients go, headers with a content-length and a body."""

import asyncio
from abc import abstractmethod


class Requests(asyncio.Protocol):
    """A connection; each complete request is handed to `answer`, which writes to `transport`."""

    def __init__(self) -> None:
        self.transport: asyncio.WriteTransport | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember whom to answer."""
        if isinstance(transport, asyncio.WriteTransport):
            self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand on what is complete."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head, length = self._data[:end], 0
            lowered = head.lower()
            if (at := lowered.find(b"content-length:")) >= 0:
                length = int(lowered[at + 15 :].split(b"\r\n", 1)[0])
            if len(self._data) < end + 4 + length:
                return
            body, self._data = self._data[end + 4 : end + 4 + length], self._data[end + 4 + length :]
            if self.transport is not None:
                self.answer(self.transport, head, lowered, body)

    @abstractmethod
    def answer(self, transport: asyncio.WriteTransport, head: bytes, lowered: bytes, body: bytes) -> None:
        """One request: its head as it came and in lower case, its body."""
