"""One bot at its back end, by a call: started, changed or withdrawn, and what the answer means.

An intent stands in the row before any of this; see `launchers.base` for how a launcher is to be called. Whatever is not
known in the end stays open: the next one looks for an earlier start before it makes another.
"""

import asyncio
from dataclasses import replace
from datetime import datetime
from time import monotonic
from typing import Any, Final
from uuid import UUID

import orjson

from app.bots.launchers import Launcher, make_launcher
from app.bots.launchers.base import Changed, MustReplace, Order, Started
from app.bots.outcomes import After, Claim
from app.bots.standing import LIVE
from app.crypto import Place, SealBroken
from app.db import Row
from app.errors import LauncherError, LauncherKeyRefused, LaunchLater, LaunchRefused, LaunchUnknown
from app.ids import BOT, public
from app.runtime import Runtime
from app.telemetry import LAUNCHER_CALLS, log

CALLS_SECONDS: Final = 70.0
"""All calls of one step together: a list of many pages, and a start after it."""
KEY_REFUSED_SECONDS: Final = 60.0
REFUSED_SECONDS: Final = 60.0
"""Until what only a start may refuse for good is asked for again."""
LATE_TRIES: Final = 5
"""How often a change or a withdrawal is tried that fails, once its meeting is over."""


async def carry_out(rt: Runtime, claim: Claim) -> After:
    """The one thing that is to be done for this bot, as far as it can be brought now."""
    as_is, row = claim.as_is, claim.row
    if monotonic() + CALLS_SECONDS > claim.lease_ends:
        return _given_back(claim)
    is_start = row.state in LIVE and row.handed_revision is None
    if claim.is_out_of_reach:
        return _left_behind(rt, claim)
    try:
        async with asyncio.timeout(CALLS_SECONDS):
            launcher, order = _launcher(rt, claim), _order(row)
            if is_start:
                return await _start(rt, claim, launcher, order)
            if row.state in LIVE:
                return await _change(rt, claim, launcher, order)
            return await _withdraw(rt, claim, launcher, order)
    except (LauncherError, SealBroken) as exc:
        return _trouble(rt, claim, as_is, exc)
    except TimeoutError:
        return _trouble(rt, claim, as_is, LaunchUnknown("too many calls", after=5.0))


def crashed(claim: Claim) -> After:
    """The end of a step that a fault of ours broke off: what its back end made of it is not known."""
    return replace(
        claim.as_is,
        wait=REFUSED_SECONDS,
        failures=claim.row.failure_count + 1,
        notes=() if claim.row.failure_count else (("waiting", "internal_error"),),
    )


def _given_back(claim: Claim) -> After:
    """A claim that has waited so long that nothing may be done with it: due again at once."""
    return replace(claim.as_is, wait=0.0, handed=claim.row.handed)


def _left_behind(rt: Runtime, claim: Claim) -> After:
    """A launcher is deleted once the meetings of its bots are over. One that was put off since goes to another."""
    if claim.row.state not in LIVE:
        return replace(claim.as_is.gone(), wait=None, failures=0, notes=(("withdrawal_refused", "launcher_deleted"),))
    return _anew(rt, claim, "launcher_deleted")


def _anew(rt: Runtime, claim: Claim, why: str) -> After:
    """Nobody has the bot any more: it is handed over once more, in its time."""
    ahead = (claim.row.join_at - rt.clock.now()).total_seconds() - claim.hand_over
    return replace(
        claim.as_is.gone(),
        state="scheduled",
        reason=None,
        wait=max(0.0, ahead),
        failures=0,
        is_anew=True,
        is_replacement=True,
        notes=(("replaced", why),),
    )


def _trouble(rt: Runtime, claim: Claim, as_is: After, error: LauncherError | SealBroken) -> After:
    """What an answer that is none of the good ones means. For a meeting that is over, little is tried again."""
    row, kind = claim.row, claim.back_end.kind if claim.back_end else "none"
    LAUNCHER_CALLS.labels(kind, "any", error.code).inc()
    log.warning("bots.back_end", bot=str(row.id), code=error.code)
    is_start = row.state in LIVE and row.handed_revision is None
    failures, wait, why = row.failure_count + 1, KEY_REFUSED_SECONDS, error.code
    left = (row.ends_at - rt.clock.now()).total_seconds()
    if left <= 0 and is_start:
        return missed(as_is)
    if left <= 0 and failures >= LATE_TRIES:
        return _given_up(row, as_is, why)
    key_refused = None
    match error:
        case LaunchLater():
            wait, why = error.after, error.reason
        case LaunchUnknown():
            wait = error.after
        case LaunchRefused():
            wait, why = REFUSED_SECONDS, error.reason
        case _:
            key_refused = (error.code, error.detail)
    wait = min(wait, left) if left > 0 and is_start else wait
    notes = () if row.failure_count else (("waiting", why),)
    return replace(as_is, wait=wait, failures=failures, notes=notes, key_refused=key_refused)


def missed(as_is: After) -> After:
    """Its meeting ended before it could start."""
    return replace(
        as_is.gone(), state="missed", reason="meeting_over", wait=None, failures=0, notes=(("missed", None),)
    )


def _given_up(row: Row, as_is: After, detail: str) -> After:
    if row.state in LIVE:
        return replace(as_is, wait=None, failures=0, handed_revision=row.revision, notes=(("change_refused", detail),))
    return replace(as_is.gone(), wait=None, failures=0, notes=(("withdrawal_refused", detail),))


async def _start(rt: Runtime, claim: Claim, launcher: Launcher, order: Order) -> After:
    as_is, row = claim.as_is, claim.row
    started: Started | None = None
    if claim.is_sought and as_is.since is not None:
        started = await launcher.find(order, as_is.since)
        if started is None and row.ends_at <= rt.clock.now():
            return missed(as_is)
    # Where an earlier start was open once, it is looked for before every other.
    nothing_made = as_is if claim.is_sought else replace(as_is, since=None, handed_to=None)
    try:
        started = started or await launcher.start(order, rt.clock.now())
    except LaunchLater as exc:
        return _trouble(rt, claim, replace(nothing_made, attempt=as_is.attempt + 1), exc)
    except LauncherKeyRefused as exc:
        return _trouble(rt, claim, nothing_made, exc)
    except LaunchRefused as exc:
        detail = f"{exc.reason}: {exc.detail}"
        LAUNCHER_CALLS.labels(_kind(claim), "start", "refused").inc()
        return replace(
            as_is.gone(), state="failed", reason="launch_refused", wait=None, failures=0, notes=(("failed", detail),)
        )
    LAUNCHER_CALLS.labels(_kind(claim), "start", "started").inc()
    has = order.revision if started.revision is None else started.revision
    return replace(
        as_is,
        state="launched",
        reason=None,
        wait=0.0 if has < order.revision else None,
        failures=0,
        since=None,
        handed_revision=has,
        handed=_stored(order) if has == order.revision else None,
        external_id=started.external_id,
        notes=(("launched", started.external_id),),
    )


async def _change(rt: Runtime, claim: Claim, launcher: Launcher, order: Order) -> After:
    """In place if that is possible, else by another bot: one that stayed as it was would be in the wrong place."""
    as_is, row = claim.as_is, claim.row
    if row.handed_revision >= row.revision:
        return replace(as_is, state="launched", wait=None, failures=0)
    before = None if row.handed is None else _told(orjson.loads(row.handed))
    outcome: Changed | MustReplace
    try:
        outcome = await launcher.change(row.external_id, order, before, rt.clock.now())
    except LaunchRefused:
        outcome = MustReplace("refused")
    if isinstance(outcome, Changed):
        LAUNCHER_CALLS.labels(_kind(claim), "change", "changed").inc()
        return replace(
            as_is,
            state="launched",
            reason=None,
            wait=None,
            failures=0,
            handed_revision=order.revision,
            handed=_stored(order),
            notes=(("passed_on", None),),
        )
    LAUNCHER_CALLS.labels(_kind(claim), "change", "replace").inc()
    await launcher.withdraw(row.external_id, order, rt.clock.now())
    return _anew(rt, claim, outcome.reason)


async def _withdraw(rt: Runtime, claim: Claim, launcher: Launcher, order: Order) -> After:
    """Keep the bot out, or have it leave; one that an unanswered start may have made, too."""
    as_is, row = claim.as_is, claim.row
    bot = row.external_id
    if row.handed_revision is None and as_is.since is not None:
        found = await launcher.find(order, as_is.since)
        bot = found.external_id if found else None
    if bot is None:
        return replace(as_is.gone(), wait=None, failures=0)
    outcome = await launcher.withdraw(bot, order, rt.clock.now())
    LAUNCHER_CALLS.labels(_kind(claim), "withdraw", outcome.how).inc()
    return replace(as_is.gone(), wait=None, failures=0, is_replacement=True, notes=(("withdrawn", outcome.how),))


def _kind(claim: Claim) -> str:
    return claim.back_end.kind if claim.back_end else "none"


def _launcher(rt: Runtime, claim: Claim) -> Launcher:
    back_end = claim.back_end
    if back_end is None or back_end.api_key_sealed is None:
        raise LaunchLater("its launcher has no key", after=KEY_REFUSED_SECONDS)
    key = rt.cipher.open(back_end.api_key_sealed, api_key_place(back_end.id))
    return make_launcher(back_end.kind, egress=rt.launches, base_url=back_end.base_url, api_key=key)


def api_key_place(launcher_id: UUID) -> Place:
    """Where a launcher's key is sealed."""
    return Place("launchers", "api_key", launcher_id)


def _order(row: Row) -> Order:
    return Order(
        bot_id=public(BOT, row.id),
        revision=row.revision,
        meeting_url=row.meeting_url,
        platform=row.meeting_platform,
        join_at=row.join_at,
        bot_name=row.bot_name,
        config=orjson.loads(row.config or "{}"),
        metadata=orjson.loads(row.metadata or "{}"),
        is_replacement=row.is_replacement,
        attempt=row.start_attempt,
    )


def _stored(order: Order) -> str:
    """An order as it is remembered, for the difference to the next one; its config is the bot's own."""
    return orjson.dumps(order, default=str).decode()


def doubted(stored: str) -> str:
    """A remembered order of which it is not known any more whether the back end has it as it was told."""
    return orjson.dumps(orjson.loads(stored) | {"is_certain": False}).decode()


def _told(stored: dict[str, Any]) -> Order:
    return Order(**stored | {"join_at": datetime.fromisoformat(stored["join_at"])})
