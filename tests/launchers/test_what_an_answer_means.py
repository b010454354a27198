"""Every answer of a back end, and its silence, has one meaning for the bot; none of it tells a secret."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.bots.launchers import make_launcher
from app.bots.launchers.base import Check, Started
from app.egress import Egress
from app.errors import LauncherError, LauncherKeyRefused, LaunchLater, LaunchRefused, LaunchUnknown
from sandbox.backends.book import Backend
from tests.launchers.stage import EACH, KEY, MEETING, Stage, settings, staged

Call = Callable[[Stage], Awaitable[object]]


async def started(stage: Stage) -> object:
    return await stage.launcher.start(stage.order(seconds=0), stage.now)


async def found(stage: Stage) -> object:
    return await stage.launcher.find(stage.order(), stage.now)


async def changed(stage: Stage) -> object:
    order = stage.order(seconds=3_600)
    moved = replace(order, revision=2, join_at=order.join_at + timedelta(hours=1))
    return await stage.launcher.change("some-bot", moved, order, stage.now)


async def withdrawn(stage: Stage) -> object:
    return await stage.launcher.withdraw("some-bot", stage.order(), stage.now)


CALLS: dict[str, Call] = {"create": started, "list": found, "update": changed, "delete": withdrawn}


async def error_of(call: Awaitable[object]) -> LauncherError | None:
    """What a call ends with; None where it does not fail."""
    try:
        await call
    except LauncherError as exc:
        return exc
    return None


def failing(error: LauncherError) -> Iterator[str]:
    """All that an error can tell, its causes included."""
    at: BaseException | None = error
    while at is not None:
        yield from (str(at), repr(at), *(repr(value) for value in vars(at).values()))
        at = at.__cause__ or at.__context__


@EACH
@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize(
    ("asked", "after"), [({"retry_after": 7}, 7), ({"retry_after": 0}, 1), ({"retry_after": 86_400}, 600), ({}, 10)]
)
async def test_a_throttled_request_waits_as_long_as_asked_for_within_reason(
    stage: Stage, operation: str, asked: dict[str, Any], after: float
) -> None:
    stage.fail("too_many_requests", operation, **asked)
    with pytest.raises(LaunchLater) as raised:
        await CALLS[operation](stage)
    assert (raised.value.after, raised.value.reason) == (after, "throttled")


@EACH
async def test_retry_after_may_be_a_date(stage: Stage) -> None:
    stage.fail("too_many_requests", "create", retry_at=90)
    with pytest.raises(LaunchLater) as raised:
        await started(stage)
    assert 60 < raised.value.after <= 90


@EACH
@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("operation", CALLS)
async def test_a_back_end_in_trouble_may_have_made_the_bot_or_not(stage: Stage, operation: str, status: int) -> None:
    """Only of a start this matters: all else may simply be asked for again."""
    stage.fail("unavailable", operation, status=status, retry_after=9)
    with pytest.raises(LaunchUnknown if operation == "create" else LaunchLater) as raised:
        await CALLS[operation](stage)
    assert vars(raised.value)["after"] == 9


@EACH
async def test_without_a_machine_it_is_asked_again_after_half_a_minute(stage: Stage) -> None:
    stage.fail("no_machine", "create")
    order = stage.order(seconds=0)
    with pytest.raises(LaunchLater) as raised:
        await stage.launcher.start(order, stage.now)
    assert (raised.value.after, raised.value.reason) == (30, "no_machine")
    assert isinstance(await stage.launcher.start(replace(order, attempt=2), stage.now), Started)
    assert stage.phases() == ["joined"]


@pytest.mark.parametrize("kind", ["recall"])
async def test_an_attempt_that_was_answered_would_be_answered_so_again(stage: Stage) -> None:
    """Recall repeats a refusal under its key: so the key names the attempt."""
    stage.fail("no_machine", "create")
    order = stage.order(seconds=0)
    for _ in range(2):
        with pytest.raises(LaunchLater):
            await stage.launcher.start(order, stage.now)


@pytest.mark.parametrize("kind", ["recall"])
async def test_a_machine_is_reserved_for_who_comes_early(stage: Stage) -> None:
    stage.box.faults.add("no_machine", "recall.create", times=None)
    assert isinstance(await stage.launcher.start(stage.order(seconds=720), stage.now), Started)


@EACH
async def test_an_empty_balance_is_waited_for(stage: Stage) -> None:
    stage.fail("no_credits", "create")
    with pytest.raises(LaunchLater) as raised:
        await started(stage)
    assert (raised.value.after, raised.value.reason) == (60, "no_credits")


@pytest.mark.parametrize(
    ("kind", "reason"), [("attendee", "limit_reached"), ("recall", "throttled"), ("meeting_baas", "limit_reached")]
)
async def test_too_many_bots_are_waited_for(stage: Stage, reason: str) -> None:
    stage.fail("limit_reached", "create")
    with pytest.raises(LaunchLater) as raised:
        await started(stage)
    assert raised.value.reason == reason


@EACH
async def test_a_link_that_the_back_end_does_not_know_is_refused_for_good(stage: Stage) -> None:
    with pytest.raises(LaunchRefused) as raised:
        await stage.launcher.start(stage.order(meeting_url="ftp://example.com/"), stage.now)
    assert raised.value.reason == "invalid_meeting_url"
    assert stage.bots == []


@pytest.mark.parametrize(
    ("kind", "error"), [("attendee", LaunchRefused), ("recall", LaunchUnknown), ("meeting_baas", LaunchRefused)]
)
async def test_a_conflict_means_what_the_back_end_means(stage: Stage, error: type[LauncherError]) -> None:
    """Recall's is about a twin under way, whose bot there will be."""
    stage.fail("conflict", "create")
    with pytest.raises(error):
        await started(stage)


@EACH
@pytest.mark.parametrize(("fault", "reason"), [("forbidden", "refused"), ("not_found", "refused")])
async def test_all_else_is_refused_for_good(stage: Stage, fault: str, reason: str) -> None:
    stage.fail(fault, "create")
    with pytest.raises(LaunchRefused) as raised:
        await started(stage)
    assert raised.value.reason == reason


@EACH
@pytest.mark.parametrize("operation", CALLS)
async def test_no_redirect_is_followed(stage: Stage, operation: str) -> None:
    stage.fail("redirect", operation, location=f"{stage.url}/elsewhere")
    with pytest.raises(LaunchRefused) as raised:
        await CALLS[operation](stage)
    assert raised.value.reason == "not_a_back_end"
    assert len(stage.box.requests.seen) == 1


@EACH
@pytest.mark.parametrize("operation", CALLS)
async def test_a_wrong_key_is_the_launchers_fault(stage: Stage, operation: str) -> None:
    stage.launcher = stage.with_key("wrong")
    with pytest.raises(LauncherKeyRefused):
        await CALLS[operation](stage)


@EACH
async def test_the_key_is_tried_without_starting_anything(stage: Stage) -> None:
    assert await stage.launcher.check() == Check(ok=True, detail="the key works")
    wrong = await stage.with_key("wrong").check()
    assert not wrong.ok
    assert "401" in wrong.detail
    assert stage.bots == []


@EACH
@pytest.mark.parametrize(
    "fault", ["forbidden", "unavailable", "redirect", "garbage", "html", "huge_answer", "too_many_requests", "drop"]
)
async def test_a_check_says_what_is_wrong(stage: Stage, fault: str) -> None:
    stage.fail(fault, "list")
    outcome = await stage.launcher.check()
    assert not outcome.ok
    assert outcome.detail


@EACH
@pytest.mark.parametrize("fault", ["garbage", "html", "garbled_answer", "huge_answer", "odd_answer", "not_found"])
async def test_a_list_that_cannot_be_read_is_no_empty_list(stage: Stage, fault: str) -> None:
    await stage.launcher.start(stage.order(), stage.now)
    stage.fail(fault, "list")
    with pytest.raises(LaunchLater):
        await found(stage)


@EACH
async def test_a_bot_is_found_on_a_later_page(stage: Stage) -> None:
    if stage.kind == "meeting_baas":
        stage.box.faults.add("short_pages", "meeting_baas.list", times=None, size=1)
        for number in range(3):
            await stage.launcher.start(stage.order(bot_id=f"bot_{number}", seconds=0, is_replacement=True), stage.now)
        wanted = stage.order(bot_id="bot_0", seconds=0)
    else:
        wanted = stage.order()
        for revision in (1, 2, 3):
            one = await stage.launcher.start(replace(wanted, revision=revision, join_at=stage.now), stage.now)
            if revision < 3:
                await stage.launcher.withdraw(one.external_id, wanted, stage.now)
        stage.box.faults.add("short_pages", f"{stage.kind}.list", times=None, size=1)
    there = await stage.launcher.find(wanted, stage.now)
    assert there is not None
    assert stage.box.bots.phase(stage.box.bots.bots[there.external_id]) == "joined"


@EACH
async def test_a_list_without_end_is_given_up(stage: Stage) -> None:
    for number in range(25):
        await stage.launcher.start(stage.order(bot_id=f"bot_{number}", key="one", revision=number), stage.now)
        await stage.launcher.withdraw(stage.bots[-1].id, stage.order(), stage.now)
    for bot in stage.bots:  # so that each is still in the list, at its end
        bot.withdrawn_at, bot.left_at = None, stage.now
        bot.options.setdefault("extra", {})["punctual_bot_id"] = "bot_0"
        bot.options.setdefault("metadata", {})["punctual_bot_id"] = "bot_0"
    stage.box.faults.add("short_pages", f"{stage.kind}.list", times=None, size=1)
    with pytest.raises(LaunchLater):
        await stage.launcher.find(stage.order(bot_id="bot_0", key="one"), stage.now)


@EACH
@pytest.mark.parametrize("operation", CALLS)
async def test_a_slow_back_end_is_not_waited_for(stage: Stage, operation: str) -> None:
    stage.launcher = make_launcher(
        stage.kind, egress=stage.egress, base_url=stage.url, api_key=KEY, timeout_seconds=0.3
    )
    stage.fail("delay", operation, seconds=5)
    with pytest.raises(LaunchUnknown if operation == "create" else LaunchLater):
        await CALLS[operation](stage)


@EACH
async def test_where_nobody_listens_nothing_was_started(stage: Stage) -> None:
    away = make_launcher(stage.kind, egress=stage.egress, base_url="http://127.0.0.1:9", api_key=KEY)
    with pytest.raises(LaunchLater) as raised:
        await away.start(stage.order(), stage.now)
    assert raised.value.reason == "unavailable"


@pytest.mark.parametrize("kind", ["attendee"])
async def test_a_connection_that_is_reset_may_have_made_a_bot(stage: Stage) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        launcher = make_launcher(stage.kind, egress=stage.egress, base_url=url, api_key=KEY)
        with pytest.raises(LaunchUnknown):
            await launcher.start(stage.order(), stage.now)


@EACH
async def test_a_start_is_never_repeated_behind_the_callers_back(stage: Stage) -> None:
    """A connection from the pool may turn out to be closed, by a back end that has read the request."""
    posted = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal posted
        while not (head := await reader.readuntil(b"\r\n\r\n")).startswith(b"POST"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        posted += head.startswith(b"POST")
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        launcher = make_launcher(stage.kind, egress=stage.egress, base_url=url, api_key=KEY)
        assert (await launcher.check()).ok
        with pytest.raises(LaunchUnknown):
            await launcher.start(stage.order(), stage.now)
    assert posted == 1


@pytest.mark.parametrize("kind", ["meeting_baas"])
async def test_bots_from_before_the_first_try_are_not_looked_at(stage: Stage) -> None:
    for number in range(3):
        await stage.launcher.start(stage.order(bot_id=f"bot_{number}", seconds=0, is_replacement=True), stage.now)
    stage.pass_time(3_600)
    assert await stage.launcher.find(stage.order(), stage.now) is None
    assert stage.count("get") == 0
    assert await stage.launcher.find(stage.order(), stage.now - timedelta(hours=1)) is None
    assert stage.count("get") == 3


@EACH
async def test_a_back_end_in_an_opened_network_needs_no_https(kind: Backend) -> None:
    egress = Egress(settings(webhook_allow_http=False))
    try:
        async with staged(kind) as stage:
            launcher = make_launcher(kind, egress=egress, base_url=stage.url, api_key=KEY)
            assert (await launcher.check()).ok
    finally:
        await egress.close()


@EACH
async def test_a_private_address_is_never_asked(kind: Backend) -> None:
    egress = Egress(settings(egress_allow=""))
    try:
        async with staged(kind) as stage:
            launcher = make_launcher(kind, egress=egress, base_url=stage.url, api_key=KEY)
            with pytest.raises(LaunchRefused) as raised:
                await launcher.start(stage.order(), stage.now)
            assert raised.value.reason == "address_not_allowed"
            assert not (await launcher.check()).ok
            assert stage.box.requests.seen == []
    finally:
        await egress.close()


@EACH
async def test_no_error_tells_the_key_or_the_link(
    stage: Stage, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    about = f"{MEETING} Protokoll {'x' * 1_000} {KEY}"
    for status in (400, 401, 403, 404, 409, 422, 429, 500, 507):
        stage.box.faults.clear()
        for operation in ("create", "list", "update", "delete", "leave", "get"):
            stage.box.faults.add("echo", f"{stage.kind}.{operation}", times=None, status=status, about=about)
        checked = await stage.launcher.check()
        assert not any(secret in checked.detail for secret in (KEY, "geheim"))
        for call in CALLS.values():
            error = await error_of(call(stage))
            if error is not None:
                assert str(status) in error.detail
                assert len(error.detail) <= 300
                told = [*failing(error), *capsys.readouterr(), caplog.text]
                assert not [text for text in told for secret in (KEY, "geheim", "Protokoll") if secret in text]


@EACH
async def test_a_setting_that_the_back_end_lacks_is_never_left_out(stage: Stage) -> None:
    """A config may be older than its launcher."""
    config = {"recording": "none"} if stage.kind == "meeting_baas" else {"bot_image": "https://example.com/a.png"}
    with pytest.raises(LaunchRefused) as raised:
        await stage.launcher.start(stage.order(config=config), stage.now)
    assert raised.value.reason == "unsupported_setting"
    assert stage.box.requests.seen == []


@EACH
async def test_an_id_cannot_lead_elsewhere(stage: Stage) -> None:
    order = stage.order(seconds=3_600)
    await stage.launcher.start(order, stage.now)
    for sly in ("../../../_sandbox/clock", "a/b", "?x=1", "%2e%2e"):
        await stage.launcher.withdraw(sly, order, stage.now + timedelta(0))
    assert all(seen.operation.startswith(stage.kind) for seen in stage.box.requests.seen)
    assert stage.phases() == ["scheduled"]
