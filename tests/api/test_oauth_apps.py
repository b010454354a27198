"""OAuth apps as objects: made, taken over, changed, forgotten; what refuses to be, and calendars that name one."""

import asyncio
from typing import Any

import httpx
import pytest

from app.crypto import Place
from app.ids import CALENDAR, OAUTH_APP, new_id, parse, public
from app.oauth_apps import SECRETS_MOST
from app.runtime import Runtime
from app.sync import cleanup
from sandbox import Sandbox
from tests.api.refusals import counts, refused
from tests.api.rows import Rows
from tests.api.test_idempotency import KEY

APPS, CALENDARS = "/api/v1/oauth_apps", "/api/v1/calendars"
APP: dict[str, Any] = {"platform": "microsoft", "client_id": "1111-2222", "client_secret": "first-secret"}
LATER = "2126-11-20T10:00:00Z"
SHOWN = "2126-11-20T10:00:00.000000Z"


async def _made(client: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await client.post(APPS, json=APP | more)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def _patched(client: httpx.AsyncClient, app: dict[str, Any], **patch: Any) -> dict[str, Any]:
    answer = await client.patch(f"{APPS}/{app['id']}", json=patch)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def _of(app: dict[str, Any]) -> dict[str, Any]:
    """What a calendar of the app sends."""
    return {"platform": app["platform"], "oauth_app_id": app["id"], "refresh_token": "token"}


# --- the object ---


async def test_an_app_is_shown_without_its_secret(client: httpx.AsyncClient, rt: Runtime) -> None:
    made = await _made(client, name="Live", tenant="organizations", secret_expires_at=LATER)
    (secret,) = made["secrets"]
    assert (made["id"][:5], secret["id"][:4]) == ("oapp_", "oas_")
    assert (made["name"], made["tenant"], made["client_id"]) == ("Live", "organizations", "1111-2222")
    assert (made["secret_expires_at"], secret["expires_at"]) == (SHOWN, SHOWN)
    assert (made["is_implicit"], made["incident"], secret["last_worked_at"]) == (False, None, None)
    shown = await client.get(f"{APPS}/{made['id']}")
    assert shown.json() == made
    assert "first-secret" not in shown.text
    async with rt.db.reading() as tx:
        row = await tx.row("SELECT id, secret_sealed FROM oauth_app_secrets")
    assert row is not None
    assert b"first-secret" not in row.secret_sealed
    assert rt.cipher.open(row.secret_sealed, Place("oauth_app_secrets", "secret", row.id)) == "first-secret"


async def test_a_tenant_is_the_servers_unless_it_is_given(client: httpx.AsyncClient) -> None:
    made = await _made(client)
    google = await _made(client, platform="google")
    assert (made["tenant"], google["tenant"]) == ("common", None)
    assert (await _patched(client, made, tenant="contoso.com"))["tenant"] == "contoso.com"
    assert (await _patched(client, made, tenant=None))["tenant"] == "common"
    assert (await _patched(client, google, tenant=None))["tenant"] is None


async def test_a_list_is_filtered_and_paged(client: httpx.AsyncClient) -> None:
    made = [await _made(client, client_id=f"client-{n}", platform=p) for n in range(2) for p in ("google", "microsoft")]
    ids = [app["id"] for app in reversed(made)]

    async def listed(query: str) -> list[str]:
        found, url = [], f"{APPS}?limit=3&{query}"
        while url:
            page = (await client.get(url)).json()
            found += [app["id"] for app in page["results"]]
            url = page["next"]
        return found

    assert await listed("") == ids
    assert await listed("platform=google") == ids[1::2]
    assert await listed("client_id=client-1") == ids[:2]
    assert await listed("client_id=client-1&platform=google") == [ids[1]]
    assert await listed("client_id=nobody") == []


async def test_a_patch_changes_what_it_names(client: httpx.AsyncClient) -> None:
    made = await _made(client, name="Live")
    assert (await _patched(client, made, name="Live 2"))["name"] == "Live 2"
    same = await _patched(client, made)
    assert (same["name"], same["secrets"]) == ("Live 2", made["secrets"])
    assert same["updated_at"] > same["created_at"]
    assert (await _patched(client, made, name=None))["name"] is None


async def test_a_date_belongs_to_its_secret(client: httpx.AsyncClient) -> None:
    made = await _made(client)
    dated = await _patched(client, made, secret_expires_at=LATER)
    assert dated["secret_expires_at"] == SHOWN
    assert (await _patched(client, made, client_secret="first-secret"))["secret_expires_at"] == SHOWN
    rotated = await _patched(client, made, client_secret="second-secret")
    assert rotated["secret_expires_at"] is None
    assert [secret["expires_at"] for secret in rotated["secrets"]] == [None, SHOWN]
    both = await _patched(client, made, client_secret="third-secret", secret_expires_at=LATER)
    assert (both["secret_expires_at"], len(both["secrets"])) == (SHOWN, 3)
    assert (await _patched(client, made, secret_expires_at=None))["secret_expires_at"] is None


async def test_a_secret_that_is_given_again_goes_first(client: httpx.AsyncClient, credentials: dict[str, Any]) -> None:
    """While calendars alone bring secrets, the last one counts; once the app is an object, its owner's word does."""

    async def brought(secret: str) -> list[str]:
        calendar = (await client.post(CALENDARS, json=credentials | {"client_secret": secret})).json()
        app = (await client.get(f"{APPS}/{calendar['oauth_app_id']}")).json()
        return [secret["id"] for secret in app["secrets"]]

    (old,) = await brought("old")
    new, *_ = await brought("new")
    assert await brought("old") == [old, new]
    body = {"platform": "google", "client_id": credentials["client_id"], "client_secret": "new"}
    app = (await client.post(APPS, json=body)).json()
    assert [secret["id"] for secret in app["secrets"]] == [new, old]
    assert await brought("old") == [new, old]
    shown = await _patched(client, app, client_secret="old")
    assert [secret["id"] for secret in shown["secrets"]] == [old, new]


async def test_the_number_of_secrets_is_bounded(client: httpx.AsyncClient, rt: Runtime) -> None:
    made = await _made(client)
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE oauth_app_secrets SET last_worked_at = app_now()")
    shown = [await _patched(client, made, client_secret=f"wrong {number}") for number in range(SECRETS_MOST + 2)]
    kept = [secret["id"] for secret in shown[-1]["secrets"]]
    assert len(kept) == SECRETS_MOST
    assert kept[-1] == made["secrets"][0]["id"]  # the one that works


# --- implicit apps ---


async def test_a_brought_app_is_taken_over_once(client: httpx.AsyncClient, credentials: dict[str, Any]) -> None:
    calendar = (await client.post(CALENDARS, json=credentials)).json()
    url = f"{APPS}/{calendar['oauth_app_id']}"
    assert (await client.get(url)).json()["is_implicit"] is True
    body = {name: credentials[name] for name in ("platform", "client_id")} | {"client_secret": "newer", "name": "Ours"}
    taken = await client.post(APPS, json=body)
    assert (taken.status_code, taken.json()["id"]) == (201, calendar["oauth_app_id"])
    assert (taken.json()["is_implicit"], taken.json()["name"], len(taken.json()["secrets"])) == (False, "Ours", 2)
    again = await client.post(APPS, json=body)
    refused(again, "oauth_app_exists", status=409)
    assert again.json()["existing_id"] == calendar["oauth_app_id"]
    inline = (await client.post(CALENDARS, json=credentials)).json()
    assert inline["oauth_app_id"] == calendar["oauth_app_id"]
    shown = (await client.get(url)).json()
    assert (shown["is_implicit"], shown["name"], shown["secrets"]) == (False, "Ours", taken.json()["secrets"])


async def test_parallel_requests_make_one_app(client: httpx.AsyncClient, rt: Runtime) -> None:
    inline = {**APP, "refresh_token": "token"}
    asked = [client.post(APPS, json=APP) for _ in range(20)]
    answers = await asyncio.gather(*asked, *(client.post(CALENDARS, json=inline) for _ in range(5)))
    made, brought = answers[:20], answers[20:]
    assert sorted(answer.status_code for answer in made) == [201] + [409] * 19
    (first,) = [answer.json() for answer in made if answer.status_code == 201]
    assert {answer.json()["existing_id"] for answer in made if answer.status_code == 409} == {first["id"]}
    assert {answer.json()["oauth_app_id"] for answer in brought} == {first["id"]}
    tables = await counts(rt)
    assert (tables["oauth_apps"], tables["oauth_app_secrets"]) == (1, 1)


async def test_a_repeated_request_gets_the_first_answer(client: httpx.AsyncClient) -> None:
    first, again = [await client.post(APPS, json=APP, headers=KEY) for _ in range(2)]
    assert (again.status_code, again.json()) == (201, first.json())


# --- the end of an app ---


async def test_an_app_is_kept_while_calendars_use_it(client: httpx.AsyncClient, rt: Runtime) -> None:
    made = await _made(client)
    url = f"{APPS}/{made['id']}"
    calendar = (await client.post(CALENDARS, json=_of(made))).json()
    refused(await client.delete(url), "oauth_app_in_use", status=409)
    await client.delete(f"{CALENDARS}/{calendar['id']}")
    assert (await client.delete(url)).status_code == 204
    for answer in (await client.get(url), await client.patch(url, json={}), await client.delete(url)):
        refused(answer, "not_found", status=404)
    assert (await client.get(APPS)).json()["results"] == []
    refused(await client.post(CALENDARS, json=_of(made)), "not_found", "/oauth_app_id")
    key = parse(CALENDAR, calendar["id"])
    assert key is not None
    assert await cleanup.clean_up(rt, key)  # until then its channels may have to be stopped
    await cleanup.purge(rt)
    assert (await counts(rt))["oauth_app_secrets"] == 0


async def test_an_app_that_is_made_again_begins_anew(client: httpx.AsyncClient) -> None:
    made = await _made(client, name="Old")
    calendar = (await client.post(CALENDARS, json=_of(made))).json()
    await client.delete(f"{CALENDARS}/{calendar['id']}")
    await client.delete(f"{APPS}/{made['id']}")
    again = await _made(client, client_secret="another")
    assert (again["name"], again["is_implicit"]) == (None, False)
    [secret] = again["secrets"]  # those of before were given up, perhaps because somebody else knows them
    assert secret["id"] != made["secrets"][0]["id"]
    assert again["created_at"] > made["created_at"]


async def test_an_unused_app_goes_at_once(client: httpx.AsyncClient, rt: Runtime) -> None:
    made = await _made(client)
    assert (await client.delete(f"{APPS}/{made['id']}")).status_code == 204
    tables = await counts(rt)
    assert (tables["oauth_apps"], tables["oauth_app_secrets"]) == (0, 0)


# --- what refuses to be ---

WRONG: list[Any] = [
    ({"tenant": "a b"}, "invalid_tenant", "/tenant"),
    ({"tenant": ".."}, "invalid_tenant", "/tenant"),
    ({"tenant": "x/../y"}, "invalid_tenant", "/tenant"),
    ({"tenant": ""}, "invalid_tenant", "/tenant"),
    ({"tenant": "t" * 254}, "invalid_tenant", "/tenant"),
    ({"tenant": 1}, "wrong_type", "/tenant"),
    ({"secret_expires_at": "2126-11-20T10:00:00"}, "naive_time", "/secret_expires_at"),
    ({"secret_expires_at": "soon"}, "invalid_time", "/secret_expires_at"),
    ({"secret_expires_at": "0001-01-01T00:00:00Z"}, "in_the_past", "/secret_expires_at"),
    ({"client_secret": None}, "wrong_type", "/client_secret"),
    ({"client_secret": " "}, "blank", "/client_secret"),
    ({"client_secret": "s" * 4097}, "too_long", "/client_secret"),
    ({"name": ""}, "blank", "/name"),
    ({"id": "oapp_x"}, "unknown_field", "/id"),
]
WRONG_AT_FIRST: list[Any] = [
    ({"platform": "caldav"}, "not_allowed", "/platform"),
    ({"platform": "google", "tenant": "common"}, "not_allowed", "/tenant"),
    ({"client_id": ""}, "blank", "/client_id"),
    ({"client_id": None}, "wrong_type", "/client_id"),
]


async def test_what_makes_no_sense_is_refused(
    client: httpx.AsyncClient, rt: Runtime, subtests: pytest.Subtests
) -> None:
    app = await _made(client)
    google = await _made(client, platform="google")
    before = await counts(rt), (await client.get(APPS)).json()
    for change, code, pointer in WRONG + WRONG_AT_FIRST:
        with subtests.test(case=str(change)[:80]):
            refused(await client.post(APPS, json=APP | {"client_id": "other"} | change), code, pointer)
    for change, code, pointer in [*WRONG, ({"platform": "google"}, "unknown_field", "/platform")]:
        with subtests.test(patch=str(change)[:80]):
            refused(await client.patch(f"{APPS}/{app['id']}", json=change), code, pointer)
    refused(await client.patch(f"{APPS}/{google['id']}", json={"tenant": "common"}), "not_allowed", "/tenant")
    for name in APP:
        refused(await client.post(APPS, json={k: v for k, v in APP.items() if k != name}), "missing", f"/{name}")
    refused(await client.get(f"{APPS}?platform=caldav"), "not_allowed", "platform")
    assert (await counts(rt), (await client.get(APPS)).json()) == before


# --- calendars of an app ---


async def test_a_calendar_names_its_app(client: httpx.AsyncClient, credentials: dict[str, Any]) -> None:
    app = await _made(client, **{name: credentials[name] for name in ("platform", "client_id", "client_secret")})
    body = _of(app) | {"refresh_token": credentials["refresh_token"]}
    calendar = (await client.post(CALENDARS, json=body | {"verify": True})).json()
    assert (calendar["oauth_app_id"], calendar["client_id"]) == (app["id"], app["client_id"])
    (remote,) = (await client.post(f"{CALENDARS}/raw", json=body)).json()["results"]
    assert remote["email"] == "ada@example.com"
    (secret,) = (await client.get(f"{APPS}/{app['id']}")).json()["secrets"]
    assert secret["last_worked_at"] is not None  # `verify` has tried it
    await client.post(CALENDARS, json=credentials | {"client_id": "another"})
    for query, found in ((app["id"], [calendar["id"]]), (public(OAUTH_APP, new_id()), []), ("x", [])):
        listed = (await client.get(f"{CALENDARS}?oauth_app_id={query}")).json()["results"]
        assert [one["id"] for one in listed] == found


async def test_verify_tries_every_secret(
    client: httpx.AsyncClient, credentials: dict[str, Any], sandbox: Sandbox
) -> None:
    app = await _made(client, **{name: credentials[name] for name in ("platform", "client_id")})
    body = _of(app) | {"refresh_token": credentials["refresh_token"], "verify": True}
    refused(await client.post(CALENDARS, json=body), "oauth_app_broken")
    shown = await _patched(client, app, client_secret=credentials["client_secret"])
    assert shown["secrets"][1]["refused_at"] is not None
    await _patched(client, app, client_secret="a typo")
    assert (await client.post(CALENDARS, json=body)).status_code == 201
    assert sandbox.requests.count("token") == 3


async def test_a_calendars_app_is_given_in_one_way(
    client: httpx.AsyncClient, rt: Runtime, foreign: Rows, subtests: pytest.Subtests
) -> None:
    app = await _made(client)
    theirs, _ = await foreign.app_of(await foreign.calendar())
    good = _of(app)
    before = await counts(rt)
    cases: list[Any] = [
        (good | {"client_id": "1111-2222"}, "not_allowed", ["/client_id"]),
        (good | {"client_id": "c", "client_secret": "s"}, "not_allowed", ["/client_id", "/client_secret"]),
        ({"platform": "google", "refresh_token": "t"}, "missing", ["/client_id", "/client_secret"]),
        (good | {"platform": "google"}, "platform_mismatch", ["/platform"]),
        (good | {"oauth_app_id": public(OAUTH_APP, new_id())}, "not_found", ["/oauth_app_id"]),
        (good | {"oauth_app_id": theirs, "platform": "google"}, "not_found", ["/oauth_app_id"]),
        (good | {"oauth_app_id": ""}, "not_found", ["/oauth_app_id"]),
        (good | {"oauth_app_id": None}, "wrong_type", ["/oauth_app_id"]),
    ]
    for body, code, pointers in cases:
        for url, more in ((CALENDARS, {}), (CALENDARS, {"verify": True}), (f"{CALENDARS}/raw", {})):
            with subtests.test(case=str(body)[:80], url=url):
                refused(await client.post(url, json=body | more), code, *pointers)
    assert await counts(rt) == before
