"""The project that a key belongs to: what it prefers, what it may not, and what that does to events."""

from typing import Any

import httpx
import pytest

from tests.api.conftest import URL
from tests.api.refusals import refused
from tests.harness import Project

PROJECT = "/api/v1/project"
NONE: dict[str, Any] = {"platforms": [], "extra_hosts": {}}


async def test_a_project_prefers_nothing_at_first(client: httpx.AsyncClient, project: Project) -> None:
    answer = await client.get(PROJECT)
    shown = answer.json()
    assert (answer.status_code, shown["id"], shown["meeting_preferences"]) == (200, project.public_id, NONE)
    assert shown["name"]


async def test_preferences_are_set_as_a_whole(client: httpx.AsyncClient) -> None:
    hosts = {"jitsi": ["a.example.com", "meet.example.com"], "bigbluebutton": ["bbb.example.org"]}
    given = {"platforms": ["zoom", "google_meet"], "extra_hosts": hosts}
    answer = await client.patch(PROJECT, json={"meeting_preferences": given})
    assert (answer.status_code, answer.json()["meeting_preferences"]) == (200, given)
    assert (await client.patch(PROJECT, json={})).json()["meeting_preferences"] == given
    assert (await client.get(PROJECT)).json()["meeting_preferences"] == given
    fewer = await client.patch(PROJECT, json={"meeting_preferences": {"platforms": ["webex"]}})
    assert fewer.json()["meeting_preferences"] == {"platforms": ["webex"], "extra_hosts": {}}
    nothings: list[Any] = [None, {}, NONE, {"extra_hosts": {"jitsi": []}}]
    for nothing in nothings:
        answer = await client.patch(PROJECT, json={"meeting_preferences": nothing})
        assert answer.json()["meeting_preferences"] == NONE


async def test_another_projects_preferences_are_its_own(
    client: httpx.AsyncClient, api: httpx.AsyncClient, other_project: Project
) -> None:
    await client.patch(PROJECT, json={"meeting_preferences": {"platforms": ["zoom"]}})
    theirs = (await api.get(f"{URL}{PROJECT}", headers=other_project.headers)).json()
    assert (theirs["id"], theirs["meeting_preferences"]) == (other_project.public_id, NONE)


_HOSTS = "/meeting_preferences/extra_hosts"
REFUSED: list[tuple[Any, str, str]] = [
    ({"platforms": ["skypish"]}, "not_allowed", "/meeting_preferences/platforms/0"),
    ({"platforms": ["zoom", "unknown"]}, "not_allowed", "/meeting_preferences/platforms/1"),
    ({"platforms": ["zoom", "zoom"]}, "not_unique", "/meeting_preferences/platforms"),
    ({"platforms": ["zoom"] * 21}, "too_long", "/meeting_preferences/platforms"),
    ({"platforms": "zoom"}, "wrong_type", "/meeting_preferences/platforms"),
    ({"platforms": [1]}, "wrong_type", "/meeting_preferences/platforms/0"),
    ({"platforms": None}, "wrong_type", "/meeting_preferences/platforms"),
    ({"hosts": {}}, "unknown_field", "/meeting_preferences/hosts"),
    ({"extra_hosts": {"zoom": ["meet.example.com"]}}, "not_allowed", f"{_HOSTS}/zoom"),
    ({"extra_hosts": {"a/b": ["meet.example.com"]}}, "not_allowed", f"{_HOSTS}/a~1b"),
    ({"extra_hosts": {"jitsi": ["a.example", "a.example"]}}, "not_unique", _HOSTS),
    ({"extra_hosts": {"jitsi": ["a.example"], "pexip": ["a.example"]}}, "not_unique", _HOSTS),
    ({"extra_hosts": {"jitsi": [f"a{n}.example" for n in range(51)]}}, "too_long", f"{_HOSTS}/jitsi"),
    (
        {"extra_hosts": {"jitsi": [f"a{n}.example" for n in range(30)], "pexip": [f"b{n}.example" for n in range(30)]}},
        "too_long",
        _HOSTS,
    ),
    ({"extra_hosts": {"jitsi": "a.example"}}, "wrong_type", f"{_HOSTS}/jitsi"),
    ({"extra_hosts": {"jitsi": [None]}}, "wrong_type", f"{_HOSTS}/jitsi/0"),
    *(
        ({"extra_hosts": {"jitsi": [host]}}, "host_not_allowed", f"{_HOSTS}/jitsi/0")
        for host in (
            "",
            "localhost",
            "meet",
            "meet.internal",
            "meet.local",
            "10.0.0.1",
            "1.2.3.4",
            "[::1]",
            "Meet.example.com",
            "meet.example.com.",
            "*.example.com",
            "meet.example.com:8443",
            "https://meet.example.com",
            "meet.example.com/room",
            "user@meet.example.com",
            "meet..example.com",
            "-meet.example.com",
            "meet_x.example.com",
            "mêet.example.com",
            f"{'a' * 64}.example.com",
            f"{'a.' * 130}example.com",
            # what belongs to a product or a gateway is not the project's
            "zoom.us",
            "acme.zoom.us",
            "teams.microsoft.com",
            "nam02.safelinks.protection.outlook.com",
            "urldefense.com",
        )
    ),
]


async def test_what_is_no_preference_is_refused(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for given, code, pointer in REFUSED:
        with subtests.test(given=str(given)[:80]):
            answer = await client.patch(PROJECT, json={"meeting_preferences": given})
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (422, code), problem
            assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert (await client.get(PROJECT)).json()["meeting_preferences"] == NONE


DOMAINS: list[tuple[Any, str, str]] = [
    ("example.com", "wrong_type", ""),
    ([1], "wrong_type", "/0"),
    ([None], "wrong_type", "/0"),
    (["example.com", "EXAMPLE.com"], "not_unique", ""),
    ([f"a{n}.example" for n in range(101)], "too_long", ""),
    *(
        ([domain], "invalid_domain", "/0")
        for domain in ("", "localhost", "ada@example.com", "https://example.com", "*.example.com", "10.0.0.1", "a b.c")
    ),
]


async def test_what_is_no_domain_is_refused(client: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for given, code, place in DOMAINS:
        with subtests.test(given=str(given)[:80]):
            answer = await client.patch(PROJECT, json={"internal_domains": given})
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (422, code), problem
            assert [error["pointer"] for error in problem["errors"]] == [f"/internal_domains{place}"]
    assert (await client.get(PROJECT)).json()["internal_domains"] == []


async def test_fields_that_nobody_may_set(client: httpx.AsyncClient) -> None:
    for name in ("id", "name", "created_at"):
        answer = await client.patch(PROJECT, json={name: "x"})
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_field")


async def test_how_long_what_is_over_is_kept(client: httpx.AsyncClient) -> None:
    assert (await client.get(PROJECT)).json()["retention_days"] is None
    for days in (90, 1, None, 7):
        assert (await client.patch(PROJECT, json={"retention_days": days})).json()["retention_days"] == days
    assert (await client.patch(PROJECT, json={})).json()["retention_days"] == 7
    for given, code in ((91, "out_of_range"), (0, "out_of_range"), (10**12, "out_of_range"), ("7", "wrong_type")):
        refused(await client.patch(PROJECT, json={"retention_days": given}), code, "/retention_days")
    assert (await client.patch(PROJECT, json={"limits": {}})).json()["code"] == "unknown_field"
