"""Addresses that must not be reached, at both doors: no connect is made, and the interpreter itself is the witness."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import httpx
import pytest
from yarl import URL

from app.egress import Egress
from app.runtime import Runtime
from app.webhooks.delivery import deliver_due
from tests.egress.corpus import Case, cases
from tests.egress.receivers import OK, Handler, answering, client, post, read_request, serving
from tests.egress.watching import connects
from tests.harness import Project
from tests.integration.delivering import new_endpoint, rows, send

CORPUS = list(cases())


@pytest.fixture
def overrides() -> dict[str, object]:
    """As an operator has it who opened nothing."""
    return {"egress_allow": "", "webhook_allow_http": False}


def test_the_corpus_is_large_and_says_each_thing_once() -> None:
    assert len(CORPUS) >= 400
    assert len({case.url for case in CORPUS}) == len(CORPUS)
    assert sum(case.code is None for case in CORPUS) >= 50


async def test_creation_refuses_what_the_text_gives_away(rt: Runtime, api: httpx.AsyncClient, project: Project) -> None:
    said: dict[str, str | None] = {}
    with connects(rt.settings) as seen:
        for case in CORPUS:
            body = {"url": case.url, "triggers": ["calendar.state_change"]}
            answer = await api.post("/api/v1/webhooks", json=body, headers=project.headers)
            assert answer.status_code == (422 if case.code else 201), case
            said[case.url] = answer.json()["errors"][0]["code"] if case.code else None
    assert said == {case.url: case.code for case in CORPUS}
    assert seen == []
    stored = await rows(rt, "SELECT url FROM webhook_endpoints")
    assert {row["url"] for row in stored} == {case.url for case in CORPUS if case.code is None}


async def test_an_attempt_connects_to_none(rt: Runtime, project: Project) -> None:
    answers = {URL(case.url).raw_host: case.answers for case in CORPUS if case.answers}
    answers["receiver.example.com"] = ("8.8.8.8",)  # for the ports, which are judged with the address
    asked: list[str] = []

    async def look_up(host: str) -> Sequence[str]:
        asked.append(host)
        return answers[host]

    guarded = replace(rt, egress=Egress(rt.settings, lookup=look_up))
    for case in CORPUS:  # past the first door, as what was stored by another rule
        await new_endpoint(rt, project, case.url)
    await send(rt, project)
    with connects(rt.settings) as seen:
        assert await deliver_due(guarded) == len(CORPUS)
    await guarded.egress.close()
    assert seen == []
    found = await rows(
        rt,
        "SELECT e.url, a.error, a.status FROM delivery_attempts a JOIN deliveries d ON d.id = a.delivery_id"
        " JOIN webhook_endpoints e ON e.id = d.endpoint_id",
    )
    assert {row["url"]: (row["error"], row["status"]) for row in found} == {
        case.url: (case.error, None) for case in CORPUS
    }
    assert set(asked) == set(answers)  # the text of the others was enough


async def test_the_witness_sees_what_is_allowed() -> None:
    async with serving(answering(OK, times=2)) as server, client() as egress:
        with connects() as seen:
            assert (await post(egress, f"http://127.0.0.1:{server.port}/")).status == 200
        assert seen == [("127.0.0.1", server.port)]
        with connects() as seen:
            assert (await post(egress, f"http://127.0.0.1:{server.port}/")).status == 200
        assert seen == []  # the connection was kept


@pytest.mark.parametrize("case", [case for case in CORPUS if case.answers == ("127.0.0.1",)], ids=lambda case: case.url)
async def test_the_guard_alone_is_what_keeps_it_from_connecting(case: Case) -> None:
    async def look_up(_: str) -> Sequence[str]:
        return case.answers

    async with client(look_up) as egress:  # which opens 127.0.0.0/8
        with connects() as seen:
            await post(egress, case.url)
    assert {address[0] for address in seen} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "evil", ["127.0.0.9", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"]
)
async def test_a_name_that_turns_between_two_lookups(evil: str) -> None:
    """Whatever a second lookup would say, the address that was judged is the one that is dialled."""
    asked: list[str] = []

    async def rebinding(host: str) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) % 2 else [evil]

    close = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    async with serving(answering(close)) as server, client(rebinding, allow="127.0.0.1/32") as egress:
        url = f"http://receiver.example.com:{server.port}/"
        with connects() as seen:
            results = [await post(egress, url) for _ in range(6)]
    assert [r.status for r in results] == [200, None] * 3
    assert {r.error for r in results} == {None, "egress_blocked"}
    assert seen == [("127.0.0.1", server.port)] * 3
    assert len(asked) == 6  # one lookup for each connect, none between judging and dialling


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.2:{port}/",
        "//169.254.169.254/",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "file:///etc/passwd",
        "/again",
    ],
)
async def test_a_redirect_leads_nowhere(location: str) -> None:
    statuses = [300, 301, 302, 303, 307, 308]

    async def nothing(host: str) -> Sequence[str]:
        raise AssertionError(f"{host} was looked up")

    def to(port: int) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for status in statuses:
                await read_request(reader)
                target = location.format(port=port)
                head = f"HTTP/1.1 {status} Go\r\nlocation: {target}\r\nrefresh: 0;url={target}\r\n"
                writer.write(f"{head}content-length: 0\r\n\r\n".encode())

        return handle

    async with serving(answering(OK)) as other, serving(to(other.port)) as server:
        async with client(nothing) as egress:
            with connects() as seen:
                answers = [await post(egress, f"http://127.0.0.1:{server.port}/") for _ in statuses]
    assert [(a.status, a.error) for a in answers] == [(status, None) for status in statuses]
    assert seen == [("127.0.0.1", server.port)]
    assert other.connections == 0
