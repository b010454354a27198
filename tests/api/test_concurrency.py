"""Many at once: one object for a key, no field of a PATCH lost, lists that neither repeat nor skip."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.ids import ENDPOINT, EVENT, parse
from app.runtime import Runtime
from tests.api.rows import MEET, START, Rows, calendar_ref, touch_event

API = "/api/v1"
AT_ONCE = 50


async def test_one_key_makes_one_calendar(client: httpx.AsyncClient, credentials: dict[str, Any]) -> None:
    body = credentials | {"deduplication_key": "one"}
    answers = await asyncio.gather(*(client.post(f"{API}/calendars", json=body) for _ in range(AT_ONCE)))
    [made] = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    refused = [answer.json() for answer in answers if answer.status_code != 201]
    told = Counter((problem["status"], problem["code"], problem["existing_id"]) for problem in refused)
    assert told == {(409, "deduplication_key_in_use", made): AT_ONCE - 1}
    assert [one["id"] for one in (await client.get(f"{API}/calendars")).json()["results"]] == [made]


async def test_patches_at_once_lose_no_field(
    client: httpx.AsyncClient, rt: Runtime, credentials: dict[str, Any], subtests: pytest.Subtests
) -> None:
    """Each request names one field, all go out together, and in the end each field is what was said of it."""
    soon, later = ((rt.clock.now() + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S.000000Z") for hours in (1, 2))
    hook = {"url": "http://127.0.0.1:9/hook", "triggers": ["bot.state_change"]}
    rule = {"name": "r", "match": {"is_all_day": False}, "bot": {"bot_name": "Notes"}}
    objects: list[tuple[str, dict[str, Any] | None, dict[str, Any]]] = [
        ("calendars", credentials, {"metadata": {"a": "b"}, "client_secret": "new", "refresh_token": "newer"}),
        (
            "bots",
            {"bot_name": "Notes", "meeting_url": MEET, "join_at": soon},
            {
                "bot_name": "New",
                "metadata": {"a": "b"},
                "config": {"recording": "none"},
                "join_at": later,
                "meeting_url": "https://meet.google.com/zzz-zzzz-zzz",
            },
        ),
        (
            "webhooks",
            hook,
            {
                "url": "http://127.0.0.1:9/other",
                "triggers": ["bot.launch"],
                "metadata": {"a": "b"},
                "rate_limit": 7,
                "ordered": True,
                "retry_seconds": [5, 50],
            },
        ),
        (
            "launchers",
            {"kind": "webhook", "name": "Ours"},
            {"name": "New", "hand_over_seconds": 99, "is_default": True},
        ),
        (
            "rules",
            rule,
            {
                "name": "new",
                "is_enabled": False,
                "priority": 7,
                "match": {"is_all_day": True},
                "dedup_scope": "event",
                "bot": {"bot_name": "New"},
            },
        ),
        (
            "project",
            None,
            {"internal_domains": ["example.com"], "meeting_preferences": {"platforms": ["zoom"], "extra_hosts": {}}},
        ),
    ]
    for path, body, fields in objects:
        with subtests.test(path=path):
            url = f"{API}/{path}"
            if body is not None:
                made = await client.post(url, json=body)
                assert made.status_code == 201, made.text
                url = f"{url}/{made.json()['id']}"
            patches = [client.patch(url, json={name: value}) for name, value in fields.items()]
            answers = await asyncio.gather(*patches)
            assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
            shown = (await client.get(url)).json()
            kept = {name: value for name, value in fields.items() if name in shown}
            assert {name: _of(shown[name], value) for name, value in kept.items()} == kept
    async with rt.db.reading() as tx:
        assert await tx.scalar("SELECT version FROM grants") == 3


def _of(shown: Any, said: Any) -> Any:
    """What is shown of what was said: defaults beside it do not count."""
    return {name: shown[name] for name in said} if isinstance(said, dict) else shown


class Writers:
    """Make, change and delete objects of every list while somebody reads, and leave alone those that were there."""

    def __init__(self, rt: Runtime, rows: Rows, *, calendar: UUID, others: UUID, endpoint: UUID) -> None:
        self._rt, self._rows = rt, rows
        self._calendar, self._others, self._endpoint = calendar, others, endpoint
        self._rounds = 0

    async def rounds(self, count: int) -> None:
        """So many rounds."""
        for _ in range(count):
            await self._one_round()

    async def _one_round(self) -> None:
        rows, number = self._rows, self._rounds
        self._rounds += 1
        for calendar in (self._calendar, self._others):
            event = await rows.event(calendar, start_time=START + timedelta(hours=number % 9), name="noise")
            await rows.bot(calendar, event)
            await rows.sql(
                "UPDATE calendar_events SET start_time = start_time - interval '3 hours',"
                " end_time = end_time + interval '2 hours' WHERE id = :id",
                id=parse(EVENT, event),
            )
        async with self._rt.db.transaction() as tx:
            await touch_event(tx, self._others)
        await rows.delivery(self._endpoint, calendar_id=self._calendar)
        for make in (rows.calendar, rows.endpoint, rows.launcher, rows.rule):
            await make()
        if number % 2:
            await rows.sql(
                "DELETE FROM calendar_events WHERE id IN"
                " (SELECT id FROM calendar_events WHERE calendar_id = :id ORDER BY id LIMIT 1)",
                id=self._others,
            )


async def _walk(client: httpx.AsyncClient, url: str) -> list[str]:
    found: list[str] = []
    after: str | None = url
    while after is not None:
        page = (await client.get(after)).json()
        found += [item["id"] for item in page["results"]]
        after = page["next"]
    return found


async def test_pages_while_others_write(
    client: httpx.AsyncClient, rt: Runtime, rows: Rows, subtests: pytest.Subtests
) -> None:
    """Each object that stays as it was is found once, in every list and ordering; what moves may be found again."""
    calendar, others, key = await rows.calendar(), await rows.calendar(), parse(ENDPOINT, await rows.endpoint())
    assert key is not None
    writers = Writers(rt, rows, calendar=calendar, others=others, endpoint=key)
    for number in range(7):
        event = await rows.event(calendar, start_time=START + timedelta(hours=number))
        await rows.bot(calendar, event)
        await rows.delivery(key, calendar_id=calendar)
        for make in (rows.calendar, rows.endpoint, rows.launcher, rows.rule):
            await make()
    lists = [
        f"{API}/{name}?limit=3"
        for name in ("calendars", "bots", "webhooks", "launchers", "rules", "webhook_deliveries")
    ]
    lists.append(f"{API}/bots?limit=3&calendar_id={calendar_ref(calendar)}")
    for bound in ("", f"&calendar_id={calendar_ref(calendar)}", "&end_time_gte=2026-11-20T00:00:00Z"):
        orderings = ("updated_at", "start_time", "end_time", "created_at", "change_seq")
        lists += [
            f"{API}/calendar_events?limit=3&exclude=bots&ordering={sign}{name}{bound}"
            for name in orderings
            for sign in ("", "-")
        ]
    lists.append(f"{API}/calendar_events?limit=3&calendar_id={calendar_ref(calendar)}&after_seq=0")
    before = {url: await _walk(client, url) for url in lists}
    writing = asyncio.create_task(writers.rounds(8))
    walked = await asyncio.gather(*(_walk(client, url) for url in lists))
    await writing
    for url, ids in zip(lists, walked, strict=True):
        with subtests.test(url=url):
            found = Counter(ids)
            assert {one: found[one] for one in before[url]} == dict.fromkeys(before[url], 1)
