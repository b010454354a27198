"""A corpus of abuse over every operation of the document: documented problems, nothing stored, nothing in the log.

The answers are held against the document by the client's judge: a status or a code that is not documented fails there.
"""

import json
from collections.abc import Iterator, MutableMapping
from typing import Any

import httpx
import pytest

from app.ids import new_id, public
from app.runtime import Runtime
from tests.api.belongings import belongings
from tests.api.openapi_judge import Judge
from tests.api.refusals import counts
from tests.api.rows import Rows

CANARY = "kanarienvogel"
"""Stands in every value that is sent: no log line may hold it."""
SQL = f"{CANARY}'; DROP TABLE bots; --"
JSON = {"Content-Type": "application/json"}
Operation = tuple[str, str, dict[str, Any]]


def _operations(judge: Judge) -> Iterator[Operation]:
    for path, operations in judge.document["paths"].items():
        if path.startswith("/api/v1/"):
            for method, operation in operations.items():
                yield method.upper(), path, operation


def _example(operation: dict[str, Any]) -> dict[str, Any] | None:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    example: dict[str, Any] | None = next((one["value"] for one in content.get("examples", {}).values()), None)
    return example


@pytest.fixture
async def ids(rows: Rows) -> dict[str, str]:
    """An object of the project for each name in a path."""
    return await belongings(rows, "mine")


NO_BODIES: dict[str, bytes] = {
    "a name twice": b'{"%(name)s": %(value)s, "%(name)s": %(value)s}',
    "a name twice, with space": b'{"%(name)s" \n : 1 , "%(name)s"\t:2}',
    "a name twice, escaped": b'{"x": {"a": 1, "\\u0061": 2}}',
    "a name twice, in a list": b'[{"y": [{"": 1, "": 1}]}]',
    "deep lists": b'{"%(name)s": ' + b"[" * 101 + b"]" * 101 + b"}",
    "deep objects": b'{"a":' * 1_500 + b"1" + b"}" * 1_500,
    "a depth without end": b"[" * 100_000,
    "a number without end": b'{"%(name)s": 1e400}',
    "a number of many digits": b'{"%(name)s": ' + b"9" * 5_000 + b"}",
    "no number": b'{"%(name)s": -Infinity}',
    "a mark at the start": b"\xef\xbb\xbf{}",
    "another encoding": '{"a": "b"}'.encode("utf-16"),
    "half a character": b'{"%(name)s": "\xc3"}',
    "an overlong zero": b'{"%(name)s": "\xc0\x80"}',
    "something behind it": b'{"a": "b"} {"a": "b"}',
    "a comment": b'{"a": "b" /* c */}',
    "a raw line break": b'{"%(name)s": "a\r\nb"}',
}
"""What is no JSON, whatever the call: 400."""


async def test_bodies_that_are_none(
    client: httpx.AsyncClient, rt: Runtime, judge: Judge, ids: dict[str, str], subtests: pytest.Subtests
) -> None:
    before = await counts(rt)
    for method, path, operation in _operations(judge):
        example = _example(operation)
        if example is None:
            continue
        with subtests.test(call=f"{method} {path}"):
            name, value = next(iter(example.items()), ("x", 1))
            told = {b"name": name.encode(), b"value": json.dumps(value).encode()}
            for kind, body in NO_BODIES.items():
                answer = await client.request(method, path.format(**ids), content=body % told, headers=JSON)
                assert (answer.status_code, answer.json()["code"]) == (400, "malformed"), (kind, answer.text)
            many = json.dumps(example | {f"{CANARY}{n}": "v" for n in range(10_000)}).encode()
            answer = await client.request(method, path.format(**ids), content=many, headers=JSON)
            assert (answer.status_code, answer.json()["code"]) == (422, "too_long"), answer.text
    assert await counts(rt) == before


STRANGE: dict[str, Any] = {
    "a number beyond 64 bits": 10**100,
    "no number at all": -0.0,
    "NUL": f"{CANARY}\0",
    "half a pair": f"{CANARY}\ud800",
    "a long text": CANARY * 2_000,
    "many entries": [CANARY] * 1_000,
    "many keys": {f"{CANARY}{n}": "v" for n in range(1_000)},
    "SQL in an object": {SQL: SQL},
    "lines": f"{CANARY}\r\nSet-Cookie: a=b\r\n\r\n",
}
"""Values for every field."""
TEXTS = ("SQL in an object", "lines")
"""Those that some fields may take, as texts like any other. In this order: the first takes the key."""


async def test_strange_values_in_every_field(
    client: httpx.AsyncClient,
    rt: Runtime,
    judge: Judge,
    ids: dict[str, str],
    logs: list[MutableMapping[str, Any]],
    subtests: pytest.Subtests,
) -> None:
    before = await counts(rt)
    calls = [(method, path.format(**ids), _example(operation)) for method, path, operation in _operations(judge)]

    async def send(kind: str) -> None:
        for method, url, example in calls:
            if example is None:
                continue
            with subtests.test(call=f"{method} {url}", value=kind):
                for name in (*example, "no_such_field"):
                    body = json.dumps(example | {name: STRANGE[kind]}).encode()
                    answer = await client.request(method, url, content=body, headers=JSON)
                    is_refused = answer.status_code == 422 and len(answer.content) < 10_000
                    is_taken = (answer.status_code < 300 or answer.status_code == 409) and kind in TEXTS
                    assert is_refused or is_taken, (name, answer.text)

    for kind in STRANGE.keys() - set(TEXTS):
        await send(kind)
    assert await counts(rt) == before
    for kind in TEXTS:
        await send(kind)
    assert CANARY not in str(logs)
    everything = (await client.get("/api/v1/calendars")).text + (await client.get("/api/v1/launchers")).text
    assert SQL in everything


PLACES = [SQL, "a%2Fb", "..%2f..%2fetc", "%00", "%FF%FE", "%ED%A0%80", "%0d%0aX-Evil:%201", "%", CANARY * 500, "\u0661"]
"""For an id in a path: none is one."""


async def test_strange_ids_in_every_path(
    client: httpx.AsyncClient, rt: Runtime, judge: Judge, ids: dict[str, str], subtests: pytest.Subtests
) -> None:
    before = await counts(rt)
    for method, path, operation in _operations(judge):
        for name, known in ids.items():
            if f"{{{name}}}" not in path:
                continue
            with subtests.test(call=f"{method} {path}", id=name):
                for value in (*PLACES, f"{known}0", known[:-1], known.lower(), f"{known}%20", public("key", new_id())):
                    url = path.replace(f"{{{name}}}", value).format(**ids)
                    answer = await client.request(method, url, json=_example(operation))
                    assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), answer.text
    assert await counts(rt) == before


PARAMETERS = [SQL, "\0", CANARY * 200, "%ff%fe", "9" * 400]


async def test_strange_values_in_every_parameter(
    client: httpx.AsyncClient,
    rt: Runtime,
    judge: Judge,
    ids: dict[str, str],
    logs: list[MutableMapping[str, Any]],
    subtests: pytest.Subtests,
) -> None:
    """A filter finds nothing by them, or refuses them."""
    before = await counts(rt)
    for method, path, operation in _operations(judge):
        parameters = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]
        for name in (*parameters, "no_such_parameter"):
            bound = {"event_id": ids["event_id"]} if "event_id" in parameters and name != "event_id" else {}
            with subtests.test(call=f"{method} {path}", parameter=name):
                for value in PARAMETERS:
                    answer = await client.request(method, path.format(**ids), params=bound | {name: value})
                    if answer.status_code == 200 and method == "GET":
                        assert answer.json()["results"] == []
                    else:
                        assert answer.status_code == 422, answer.text
                        assert {error["pointer"] for error in answer.json()["errors"]} & {name, "calendar_id"}
    assert CANARY not in str(logs)
    assert await counts(rt) == before


HEADERS: list[list[tuple[bytes, bytes]]] = [
    [(b"x-request-id", b"a\r\nX-Evil: 1")],
    [(b"x-request-id", CANARY.encode() * 100)],
    [(b"x-request-id", b"\xff\x00")],
    [(b"host", b"evil\r\n" + CANARY.encode())],
    [(b"host", b"\xff" * 300)],
    [(b"idempotency-key", b"a"), (b"idempotency-key", b"b")],
    [(b"idempotency-key", b"a\r\nb")],
    [(b"idempotency-key", CANARY.encode() * 1_000)],
    [(b"content-type", b"application/json"), (b"content-type", b"text/plain")],
    [(b"content-type", b"application/json; charset=utf-16")],
    [(b"content-type", b"application/xml")],
    [(b"content-type", b"\xff")],
    [(b"content-length", b"-1")],
    [(b"content-length", b"\xb2")],
    [(b"content-length", b"9" * 5_000)],
    [(b"content-encoding", b"gzip")],
    [(b"accept", b"text/html")],
    [(b"x-forwarded-for", b"a" * 60_000)],
    [(b"transfer-encoding", b"chunked"), (b"content-length", b"2")],
    [(CANARY.encode() + b"%d" % n, b"v") for n in range(2_000)],
]


async def test_strange_headers(
    client: httpx.AsyncClient, rt: Runtime, logs: list[MutableMapping[str, Any]], subtests: pytest.Subtests
) -> None:
    for headers in HEADERS:
        with subtests.test(headers=str(headers)[:60]):
            for method, url, body in (("GET", "/api/v1/bots", None), ("POST", "/api/v1/rules", b'{"name": 1}')):
                given = [*JSON.items()] if body is not None and headers[0][0] != b"content-type" else []
                request = client.build_request(method, url, content=body)
                raw = [pair for pair in request.headers.raw if pair[0].lower() not in {name for name, _ in headers}]
                request.headers = httpx.Headers([*raw, *((k.encode(), v.encode()) for k, v in given), *headers])
                answer = await client.send(request)
                assert answer.status_code in ({200} if method == "GET" else {413, 415, 422}), answer.text
                assert "x-evil" not in answer.headers
                assert CANARY not in answer.headers["x-request-id"] or len(answer.headers["x-request-id"]) <= 128
    assert all("\n" not in str(value) for line in logs for value in line.values())
    assert await counts(rt) == dict.fromkeys(await counts(rt), 0)


AUTHORIZATION = [
    b"Token ",
    b"Token \xff\xfe",
    b"Token " + b"a" * 50_000,
    b"Token a_b_c_d",
    b"Token punctual_" + b"0" * 26 + b"_\xc3\xa9",
    b"Basic YTpi",
    b"Bearer\tx",
    b"Token x\r\nX-Evil: 1",
    b"",
]


async def test_strange_keys(client: httpx.AsyncClient, logs: list[MutableMapping[str, Any]]) -> None:
    mine = client.headers["authorization"].encode()
    for value in (*AUTHORIZATION, mine + b"0", mine[:-1], mine.replace(b"punctual", b"PUNCTUAL"), mine + b", " + mine):
        request = client.build_request("GET", "/api/v1/bots")
        request.headers = httpx.Headers([(b"host", b"punctual.test"), (b"authorization", value)])
        answer = await client.send(request)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), value
    assert mine.decode().split("_")[-1] not in str(logs)
