"""The stand-ins of bot back ends as another process sees them: the control surface tells the truth about bots."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from sandbox import Sandbox

MEETING = "https://zoom.us/j/1"


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    made = Sandbox.create()
    yield made
    await made.close()


@pytest.fixture
async def client(box: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(box.app), base_url="http://sandbox") as made:
        yield made


async def start(box: Sandbox, client: httpx.AsyncClient, *, minutes: float) -> str:
    at = box.world.clock.now() + timedelta(minutes=minutes)
    body = {"meeting_url": MEETING, "bot_name": "Notes", "join_at": at.isoformat(), "metadata": {"a": "1"}}
    answer = await client.post("/api/v1/bots", json=body, headers={"Authorization": "Token attendee-key"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def meetings(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    answer = await client.get("/_sandbox/backends/meetings")
    return list(answer.json()["meetings"])


async def test_who_came_to_which_meeting(box: Sandbox, client: httpx.AsyncClient) -> None:
    first, second = await start(box, client, minutes=5), await start(box, client, minutes=10)
    withdrawn = await client.delete(f"/api/v1/bots/{second}", headers={"Authorization": "Token attendee-key"})
    assert withdrawn.status_code == 200
    assert [(m["meeting_url"], m["joined"]) for m in await meetings(client)] == [(MEETING, 0)]
    await client.post("/_sandbox/clock", json={"seconds": 900})
    (meeting,) = await meetings(client)
    assert meeting["joined"] == 1
    assert {bot["id"]: bot["phase"] for bot in meeting["bots"]} == {first: "joined", second: "withdrawn"}
    assert meeting["bots"][0]["options"]["metadata"] == {"a": "1"}
    assert meeting["bots"][0]["joined_at"] == meeting["bots"][0]["join_at"]
    await client.post(f"/_sandbox/backends/bots/{first}/end")
    ((bot, _),) = [meeting["bots"] for meeting in await meetings(client)]
    assert bot["phase"] == "left"


async def test_keys_are_taken_and_given(box: Sandbox, client: httpx.AsyncClient) -> None:
    mine, theirs = {"Authorization": "Token attendee-key"}, {"Authorization": "Token another"}
    await start(box, client, minutes=5)
    assert (await client.get("/api/v1/bots", headers=theirs)).status_code == 401
    keys = await client.put("/_sandbox/backends/attendee/keys", json={"keys": ["another"]})
    assert keys.json() == {"keys": ["another"]}
    assert (await client.get("/api/v1/bots", headers=mine)).status_code == 401
    assert (await client.get("/api/v1/bots", headers=theirs)).json()["results"] == []


async def test_a_time_in_which_nothing_can_be_done(box: Sandbox, client: httpx.AsyncClient) -> None:
    bot, headers = await start(box, client, minutes=5), {"Authorization": "Token attendee-key"}
    await client.put("/_sandbox/backends", json={"settling_seconds": 600})
    assert (await client.delete(f"/api/v1/bots/{bot}", headers=headers)).status_code == 400
    assert (await client.post(f"/api/v1/bots/{bot}/leave", headers=headers)).status_code == 400
    assert (await client.get(f"/api/v1/bots/{bot}", headers=headers)).json()["state"] == "staged"


async def test_what_the_control_surface_does_not_know(client: httpx.AsyncClient) -> None:
    assert (await client.put("/_sandbox/backends/zoom/keys", json={"keys": []})).status_code == 404
    assert (await client.post("/_sandbox/backends/bots/none/end")).status_code == 404
    assert (await client.put("/_sandbox/backends", json={"work_seconds": "soon"})).status_code == 422
