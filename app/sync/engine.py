"""`sync_calendar`: one calendar, from claim to commit. Read it top to bottom.

1. claim      a short transaction takes the lease and a fence; nothing is held open
2. fetch      the whole round over HTTP, before anything is written
3. apply      one transaction: lock the calendar's row, diff, write, publish; the cursor moves last, by compare-and-swap
4. settle     where the provider refused: back off, or disconnect on its word; only under the run's own fence

If the process dies before 3 commits, the lease ends and another run starts from the same cursor. If it dies after,
the messages are in the outbox. A run that lost its fence, to a deletion or to a faster one, changes nothing.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from uuid import UUID

from app import scheduling
from app.bots import following
from app.db import Row, Tx
from app.errors import (
    CursorExpired,
    GrantRevoked,
    ProviderContract,
    ProviderError,
    ProviderUnavailable,
    RoundTooLarge,
    SyncSuperseded,
)
from app.grants import GrantTokens, access_for
from app.ids import new_id
from app.providers.base import (
    Access,
    Account,
    Provider,
    RemoteCalendar,
    Window,
)
from app.runtime import Runtime
from app.scheduling import Claim
from app.sync import changes, channels, guard, health, incidents, store
from app.sync.changes import Change
from app.sync.rounds import Round, window_from
from app.sync.settle import settle, settle_crash
from app.telemetry import AUDIT_FOUND, CHANGES, PARKED, RUN_SECONDS, RUNS, SYNC_LAG, log
from app.webhooks import payloads
from app.webhooks.outbox import NewMessage, publish


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose calendar it is, as the provider says."""

    account: Account
    remote: RemoteCalendar


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to: `idle` (not due, or not ours), `synced`, `superseded`, `failed`, `disconnected`; as it is
    counted also `crashed` by a fault of ours, which is raised."""

    result: str
    changes: int = 0
    is_channel_missing: bool = False


async def sync_calendar(rt: Runtime, calendar_id: UUID) -> Outcome:
    """Bring one calendar up to date if it is due.

    Raises where the database cannot be asked, and what a fault of ours raised: the calendar backs off first, alone.
    """
    claim = await scheduling.claim(rt, calendar_id)
    if claim is None:
        return Outcome("idle")
    started = time.monotonic()
    tokens = GrantTokens(
        rt,
        calendar_id,
        sealed=claim.access_token_sealed,
        is_fresh=claim.is_token_fresh,
        version=claim.grant_version,
    )
    kind = "full" if claim.is_full_due or claim.cursor is None else "delta"
    outcome = Outcome("crashed")
    try:
        async with scheduling.held(rt, claim):
            outcome = await _run(rt, claim, tokens)
    except SyncSuperseded:
        outcome = Outcome("superseded")
    except ProviderError as exc:
        outcome = Outcome(await settle(rt, claim, exc, grant_version=tokens.version))
    except asyncio.CancelledError:
        outcome = Outcome("released")
        await scheduling.release(rt, claim)
        raise
    finally:
        if outcome.result == "crashed":
            await settle_crash(rt, claim, grant_version=tokens.version)
        if outcome.result != "released":
            _tell(claim, kind, outcome, seconds=time.monotonic() - started)
    return outcome


def _tell(claim: Claim, kind: str, outcome: Outcome, *, seconds: float) -> None:
    RUNS.labels(claim.platform, kind, outcome.result).inc()
    RUN_SECONDS.labels(claim.platform, kind).observe(seconds)
    log.info(
        "sync.run",
        calendar=str(claim.calendar_id),
        kind=kind,
        outcome=outcome.result,
        changes=outcome.changes,
        ms=round(seconds * 1000),
    )


async def _run(rt: Runtime, claim: Claim, tokens: GrantTokens) -> Outcome:
    identity, fetched = await _fetch_in_time(rt, claim, tokens)
    try:
        async with rt.db.transaction() as tx:
            outcome = await _apply(rt, tx, claim, identity, fetched, tokens=tokens)
    except guard.ListingNeeded:
        delta = fetched
        identity, fetched = await _fetch_in_time(rt, replace(claim, is_full_due=True), tokens)
        fetched.complete(delta)
        async with rt.db.transaction() as tx:
            outcome = await _apply(rt, tx, claim, identity, fetched, tokens=tokens)
    SYNC_LAG.labels(claim.platform).observe(max(0.0, (claim.now - claim.due_at).total_seconds()))
    return outcome


# --- 2 fetch ----------------------------------------------------------------------------------------------------


async def _fetch_in_time(rt: Runtime, claim: Claim, tokens: GrantTokens) -> tuple[Identity | None, Round]:
    try:
        async with asyncio.timeout(rt.settings.sync_deadline_seconds):
            return await _fetch(rt, claim, tokens)
    except TimeoutError as exc:
        raise ProviderUnavailable("the round did not end in time") from exc


async def _fetch(rt: Runtime, claim: Claim, tokens: GrantTokens) -> tuple[Identity | None, Round]:
    """The whole round, and whose it is where that is not known yet for this grant."""
    access = access_for(
        tokens,
        client_id=claim.client_id,
        subject=claim.account_subject,
        calendar_id=claim.calendar_id,
        is_backstop=claim.is_backstop,
    )
    provider = rt.providers[claim.platform]
    identity = None
    if claim.is_identity_due or claim.remote_calendar_id is None:
        identity, access = await _identify(provider, access, claim)
    remote_id = identity.remote.id if identity else claim.remote_calendar_id
    zone = identity.remote.time_zone if identity else claim.time_zone
    owner = identity.account.email if identity else claim.email
    if remote_id is None:
        raise ProviderContract("the provider gave the calendar no id")

    async def read(cursor: str | None, window: Window) -> Round:
        fetched = Round({}, window, is_full=cursor is None, is_anchored=cursor is None)
        pages = provider.fetch_changes(
            access,
            remote_id,
            cursor=cursor,
            window=window,
            time_zone=zone,
            owner=owner,
            known=partial(store.known, rt, claim.calendar_id, window),
            preferences=claim.preferences,
        )
        async for page in pages:
            fetched.add(page)
        return fetched

    if claim.cursor is not None and claim.window is not None and not claim.is_full_due:
        try:
            return identity, await read(claim.cursor, claim.window)
        except (CursorExpired, RoundTooLarge) as exc:  # a delta tells of changes at any time, a listing of the window
            log.info("sync.cursor_given_up", calendar=str(claim.calendar_id), code=exc.code)
    return identity, await read(None, window_from(claim.now))


async def _identify(provider: Provider, access: Access, claim: Claim) -> tuple[Identity, Access]:
    """Whose calendar it is; and access that counts for that account from here on."""
    account = await provider.fetch_account(access)
    if not account.is_the_one(claim.account_subject, claim.email):
        raise GrantRevoked("the grant belongs to another account", reason="wrong_account")
    if account.subject == account.email and claim.account_subject is not None:
        account = Account(claim.account_subject, account.email)  # a stable subject, once known, stays the key
    access = replace(access, user_key=account.subject)
    return Identity(account, await provider.fetch_calendar(access, claim.platform_uuid)), access


def next_anchor(calendar_id: UUID, now: datetime) -> datetime:
    """When this calendar's window rolls next: once a day, at a time of day that its id decides."""
    offset = int.from_bytes(sha256(calendar_id.bytes).digest()[:4], "big") % 86_400
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    slot = midnight + timedelta(seconds=offset)
    return slot if slot > now else slot + timedelta(days=1)


# --- 3 apply ----------------------------------------------------------------------------------------------------


async def _apply(
    rt: Runtime, tx: Tx, claim: Claim, identity: Identity | None, fetched: Round, *, tokens: GrantTokens
) -> Outcome:
    row = await store.lock(tx, claim)
    if row is None:
        raise SyncSuperseded
    stored = await store.rows_touched(tx, claim, fetched.items, window=fetched.window, is_full=fetched.is_full)
    found = changes.diff(fetched.items, stored, window=fetched.window, is_full=fetched.is_full)
    await guard.check(rt, tx, claim, row, found, named=fetched.removed, is_full=fetched.is_full)
    await _describe(tx, found)
    first_seq = row.last_change_seq + 1
    updated_at, event_ids = await store.apply(tx, claim, found, first_seq=first_seq, last=row.last_event_updated_at)
    parked = changes.parked(fetched.items)
    if parked or row.has_parked:
        await store.park(tx, claim, fetched.items, parked, is_full=fetched.is_full)
    if found or identity or row.is_greeting_due or row.state != "connected":
        await _update_calendar(tx, claim, row, identity, fetched, count=len(found), updated_at=updated_at)
        if identity:
            await tx.execute(_SEEN, {"id": claim.calendar_id, "version": tokens.version})
    await following.synced(rt, tx, claim.calendar_id, event_ids, is_reconnected=row.state != "connected")
    is_health_told = row.health_status != "healthy" and health.is_time(row.now, row.health_changed_at)
    await _publish(
        rt, tx, claim, row, found, event_ids, first_seq=first_seq, updated_at=updated_at, is_health_told=is_health_told
    )
    await guard.settle(tx, claim, found)
    await incidents.end(tx, claim, is_token_new=tokens.has_refreshed)
    missed = changes.overlapping(found, claim.window) if _is_audit(claim, row) else []
    channel_key = key_of(claim, identity) if identity else row.channel_key
    if row.channel_key is not None and channel_key != row.channel_key:
        await channels.abandon(tx, row.channel_key)
    finished = await store.finish(
        tx,
        claim,
        cursor=fetched.cursor,
        window=fetched.window,
        anchor_due_at=next_anchor(claim.calendar_id, row.now) if fetched.is_anchored else None,
        channel_key=channel_key,
        intervals={
            "poll": rt.settings.poll_interval_seconds,
            "audit": rt.settings.audit_interval_seconds,
            "jitter": random.uniform(0.75, 1.25),  # noqa: S311 - spreads load, guards nothing
        },
        is_empty=not fetched.is_told and not found,
        audit_found=len(missed),
        is_health_told=is_health_told,
    )
    if finished is None:
        raise SyncSuperseded
    if finished.is_again:
        tx.after_commit(lambda: rt.queue.wake_sync(claim.calendar_id, max(0.0, finished.delay)))
    for kind, count in Counter(change.change for change in found).items():
        CHANGES.labels(claim.platform, kind).inc(count)
    for kind, count in Counter(change.change for change in missed).items():
        AUDIT_FOUND.labels(claim.platform, kind).inc(count)
    PARKED.labels(claim.platform).inc(len(parked))
    return Outcome("synced", len(found), finished.is_channel_missing and rt.settings.public_url is not None)


def _is_audit(claim: Claim, row: Row) -> bool:
    """Whether what this run finds is what no push told of: the calendar is watched, and only the clock asked."""
    is_quiet = not claim.is_asked and not claim.is_second_look and row.requested_seq == claim.requested_seq
    return bool(is_quiet and row.is_watched and claim.cursor is not None)


async def _describe(tx: Tx, found: Sequence[Change]) -> None:
    """Kinds and fields of the updates (and of events that left the window), from the rows as they were."""
    described = [
        (c, c.row, c.content, c.event.is_guest_list_cut)
        for c in found
        if c.row is not None and c.event is not None and c.content and c.change != "created"
    ]
    old = await store.old_contents(tx, [row.id for _, row, *_ in described])
    for change, row, content, is_cut in described:
        kinds, change.fields = changes.describe(old[row.id], content, is_guest_list_cut=is_cut)
        change.kinds = change.kinds or kinds


def key_of(claim: Claim, identity: Identity) -> bytes:
    """What a push channel belongs to: provider, client id, account, remote calendar."""
    parts = (claim.platform, claim.client_id, identity.account.subject, identity.remote.id)
    return sha256("\0".join(parts).encode()).digest()


_UPDATE = """
UPDATE calendars
   SET state = 'connected', failure = NULL, is_greeting_due = false,
       last_change_seq = last_change_seq + :count,
       last_event_updated_at = coalesce(CAST(:updated_at AS timestamptz), last_event_updated_at),
       remote_calendar_id = coalesce(CAST(:remote AS text), remote_calendar_id),
       account_subject = coalesce(CAST(:subject AS text), account_subject),
       email = coalesce(CAST(:email AS text), email), name = coalesce(CAST(:name AS text), name),
       time_zone = coalesce(CAST(:zone AS text), time_zone),
       channel_key = coalesce(CAST(:channel_key AS bytea), channel_key),
       updated_at = CASE WHEN :is_visible THEN app_now() ELSE updated_at END
 WHERE id = :id
"""

_SEEN = "UPDATE grants SET is_identity_due = false WHERE calendar_id = :id AND version = :version"


async def _update_calendar(
    tx: Tx,
    claim: Claim,
    row: Row,
    identity: Identity | None,
    fetched: Round,
    *,
    count: int,
    updated_at: datetime | None,
) -> None:
    remote = identity.remote if identity else None
    await tx.execute(
        _UPDATE,
        {
            "id": claim.calendar_id,
            "count": count,
            "updated_at": updated_at,
            "remote": remote.id if remote else None,
            "subject": identity.account.subject if identity else None,
            "email": (identity.account.email or identity.remote.email) if identity else None,
            "name": (remote.name if remote else None) or fetched.name,
            "zone": fetched.time_zone or (remote.time_zone if remote else None),
            "channel_key": key_of(claim, identity) if identity else None,
            "is_visible": identity is not None or row.state != "connected",
        },
    )


async def _publish(
    rt: Runtime,
    tx: Tx,
    claim: Claim,
    row: Row,
    found: Sequence[Change],
    event_ids: Sequence[UUID],
    *,
    first_seq: int,
    updated_at: datetime | None,
    is_health_told: bool,
) -> None:
    """The round's messages, in the round's transaction."""
    calendar = payloads.MessageCalendar(claim.calendar_id, row.deduplication_key, row.metadata)
    connection = payloads.Connection("connected", None, row.now, row.now)
    messages: list[NewMessage] = []

    if row.state != "connected":
        message_id = new_id()
        payload = payloads.state_change(
            message_id, at=row.now, calendar=calendar, connection=connection, previous_state=row.state
        )
        messages.append(NewMessage(message_id, claim.project_id, claim.calendar_id, payloads.STATE_CHANGE, payload))
    if found or row.is_greeting_due or row.state != "connected":
        message_id = new_id()
        entries = [
            payloads.EventChange(id_, change.change, first_seq + i, change.kinds, change.fields)
            for i, (change, id_) in enumerate(zip(found, event_ids, strict=True))
        ]
        payload = payloads.events_update(
            message_id,
            at=row.now,
            calendar=calendar,
            connection=connection,
            changes=entries,
            last_updated_at=updated_at,
        )
        messages.append(
            NewMessage(
                message_id,
                claim.project_id,
                claim.calendar_id,
                payloads.EVENTS_UPDATE,
                payload,
                from_seq=first_seq if found else None,
                to_seq=first_seq + len(found) - 1 if found else None,
            )
        )
    if is_health_told:
        messages.append(
            health.change(
                row,
                calendar_id=claim.calendar_id,
                project_id=claim.project_id,
                before=row.health_status,
                after="healthy",
                reason=None,
            )
        )
    if messages:
        await publish(tx, rt.queue, messages)
