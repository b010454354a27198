"""A calendar's life as the API tells it, with each provider: chosen, connected, lost, reconnected, deleted."""

from collections import Counter
from typing import Any

from tests.harness import BOTH, Actor


@BOTH
async def test_the_life_of_two_calendars_of_one_account(actor: Actor) -> None:
    world = actor.sandbox.world
    account = actor.new_account()
    team = world.add_calendar(account, "Team", "Asia/Tokyo")
    credentials: dict[str, Any] = {
        "platform": actor.platform,
        "client_id": account.client_id,
        "client_secret": account.client_secret,
        "refresh_token": account.refresh_token,
    }
    choice = (await actor.call("POST", "/calendars/raw", json=credentials))["results"]
    shared = {"platform_uuid", "name", "email", "is_primary", "access_role", "time_zone"}
    assert {frozenset(one) for one in choice} == {frozenset(shared)}
    [primary] = [one for one in choice if one["is_primary"]]
    [other] = [one for one in choice if not one["is_primary"]]
    assert (other["platform_uuid"], other["name"]) == (team.id, "Team")
    assert primary["platform_uuid"] == account.calendar_id
    assert await actor.call("GET", "/calendars") == {"next": None, "previous": None, "results": []}

    body = credentials | {"platform_uuid": primary["platform_uuid"], "deduplication_key": "user", "verify": True}
    first = await actor.connected(account, **{name: body[name] for name in ("platform_uuid", "deduplication_key")})
    second = await actor.connected(account, platform_uuid=other["platform_uuid"], metadata={"room": "1"})
    taken = await actor.call("POST", "/calendars", json=body, expect=409)
    assert (taken["code"], taken["existing_id"]) == ("deduplication_key_in_use", first.id)
    wrong = await actor.call("POST", "/calendars", json=body | {"refresh_token": "1//none"}, expect=422)
    assert (wrong["code"], wrong["errors"]) == ("user_revoked", [])
    for calendar in (first, second):
        actor.add_event(calendar)
    await actor.quiesce()
    shown = [await actor.calendar(calendar) for calendar in (first, second)]
    assert {one["oauth_app_id"] for one in shown} == {shown[0]["oauth_app_id"]}
    assert [one["name"] for one in shown][1] == "Team"
    assert [one["health"]["status"] for one in shown] == ["healthy", "healthy"]
    assert [one["health"]["push"]["active"] for one in shown] == [True, True]
    assert [len(await actor.events(calendar)) for calendar in (first, second)] == [1, 1]

    world.revoke(account)
    await actor.call("POST", f"/calendars/{first.id}/sync", json={"full": True}, expect=202)
    await actor.quiesce()
    lost = await actor.calendar(first)
    told = lost["connection_failure_data"]
    assert (lost["state"], told["code"], lost["health"]["status"]) == ("disconnected", "user_revoked", "failing")
    assert set(told) == {"code", "error", "message", "timestamp"}
    assert (lost["health"]["reason"], lost["health"]["since"]) == ("user_revoked", told["timestamp"])
    for filters, expected in (
        ({"state": "disconnected"}, [first.id]),
        ({"state": "connected", "platform": actor.platform}, [second.id]),
        ({"email": account.email.upper(), "deduplication_key": "user"}, [first.id]),
    ):
        listed = await actor.call("GET", "/calendars", params=filters)
        assert [one["id"] for one in listed["results"]] == expected
    assert (await actor.call("POST", f"/calendars/{first.id}/access_token", expect=409))[
        "code"
    ] == "calendar_disconnected"

    await actor.call("PATCH", f"/calendars/{first.id}", json={})
    await actor.quiesce()
    still = await actor.calendar(first)
    assert still["state"] == "disconnected"
    assert still["last_attempted_sync_at"] > lost["last_attempted_sync_at"]
    assert still["last_successful_sync_at"] == lost["last_successful_sync_at"]
    grant = world.issue_refresh_token(account)
    asked = await actor.call("PATCH", f"/calendars/{first.id}", json={"refresh_token": grant})
    assert asked["state"] == "disconnected"
    await actor.quiesce()
    back = await actor.calendar(first)
    assert (back["state"], back["connection_failure_data"]) == ("connected", None)
    assert back["health"]["status"] == "healthy"
    assert (await actor.call("POST", f"/calendars/{first.id}/access_token"))["token"] in world.tokens

    before = Counter(channel.calendar_id for channel in actor.live())
    await actor.call("DELETE", f"/calendars/{first.id}", expect=204)
    await actor.quiesce()
    assert [one["id"] for one in (await actor.call("GET", "/calendars"))["results"]] == [second.id]
    # One that was open when the grant was revoked could be stopped by nobody.
    after = Counter(channel.calendar_id for channel in actor.live())
    assert before - after == {account.calendar_id: 1}
