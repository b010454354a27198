"""What an application needs to speak with Punctual: calls with a key, problems, and webhooks that are verified.

The three flows share it. httpx and the standard library are all it takes.
"""

import base64
import hmac
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self

import httpx

Json = dict[str, Any]

TOLERANCE_SECONDS = 300
"""A message that is older was recorded and is played again."""
PATIENCE_SECONDS = 90.0
"""How long what is expected may take; it takes a second or two, on a busy machine more."""
MAX_BODY = 100_000


class Problem(Exception):
    """The API refused. `code` says why: it is the contract, the text is for people (docs/errors.md)."""

    def __init__(self, request: str, status: int, document: Json) -> None:
        super().__init__(f"{request} answered {status} {document.get('code')}: {document.get('detail')}")
        self.code: str = document.get("code", "")
        self.existing_id: str | None = document.get("existing_id")
        """Of `deduplication_key_in_use`: whose key it is."""


class Missing(Exception):
    """What was expected did not come."""


class Api:
    """Calls below one base URL with one key. Raises Problem, and httpx's errors where nothing answers."""

    def __init__(self, base_url: str, key: str) -> None:
        headers = {"Authorization": f"Token {key}"}
        self._http = httpx.Client(base_url=f"{base_url.rstrip('/')}/api/v1/", headers=headers, timeout=30)

    def get(self, path: str, **query: str | int) -> Json:
        """An object or a page; `path` may be the whole address that `next` of a page is."""
        return self._call("GET", path, params=query or None)

    def post(self, path: str, body: Json) -> Json:
        """Make something."""
        return self._call("POST", path, json=body)

    def patch(self, path: str, body: Json) -> Json:
        """Change something."""
        return self._call("PATCH", path, json=body)

    def delete(self, path: str) -> None:
        """End something."""
        self._call("DELETE", path)

    def list_all(self, path: str, **query: str | int) -> list[Json]:
        """What a list has on all its pages."""
        page = self.get(path, **query)
        found: list[Json] = page["results"]
        while page["next"] is not None:
            page = self.get(page["next"])
            found += page["results"]
        return found

    def _call(self, method: str, path: str, **request: Any) -> Json:
        answer = self._http.request(method, path.removeprefix("/"), **request)
        if answer.is_error:
            is_problem = answer.headers.get("content-type", "").startswith("application/problem+json")
            raise Problem(f"{method} {path}", answer.status_code, answer.json() if is_problem else {})
        return dict(answer.json()) if answer.content else {}


def is_genuine(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a message is Punctual's, and not a recorded one: Standard Webhooks, over the body's very bytes.

    It takes the place of Attendee's `X-Webhook-Signature` and of the `svix-*` headers of Recall and Meeting BaaS.
    """
    stamp = headers.get("webhook-timestamp", "")
    if not (stamp.isascii() and stamp.isdecimal()) or abs(time.time() - int(stamp)) > TOLERANCE_SECONDS:
        return False
    content = f"{headers.get('webhook-id', '')}.{stamp}.".encode() + body
    digest = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), content, sha256)
    expected = "v1," + base64.b64encode(digest).decode()
    given = headers.get("webhook-signature", "").split()  # several while a secret is changed over
    return any(hmac.compare_digest(expected.encode(), one.encode()) for one in given)


class Inbox:
    """A webhook endpoint of yours: verifies, puts the message by, answers; `handle_until` works on what came.

    Use as a context manager. It keeps what came in memory: yours belongs into a database (docs/receiving.md).
    """

    def __init__(self) -> None:
        self.secret = ""
        """What POST /webhooks showed; whatever comes before that is refused, and comes again."""
        self._messages = queue.Queue[Json]()
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}/webhooks"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def receive(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Put a message by, unless it came before; False where it is not genuine."""
        if not self.secret or not is_genuine(self.secret, headers, body):
            return False
        with self._lock:
            if headers["webhook-id"] not in self._seen:
                self._seen.add(headers["webhook-id"])
                self._messages.put(json.loads(body))
        return True

    def handle_until(self, handle: Callable[[Json], None], condition: Callable[[], bool], what: str) -> None:
        """Hand over messages in the order in which they came until the condition holds. Raises Missing."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            try:
                message = self._messages.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Missing(f"{what}: no message told of it within {PATIENCE_SECONDS:.0f} s") from None
            handle(message)


def _handler(inbox: Inbox) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout: ClassVar[float | None] = 10

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length) if 0 <= length <= MAX_BODY else b""
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(204 if inbox.receive(headers, body) else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """The flow says what happens."""

    return Handler
