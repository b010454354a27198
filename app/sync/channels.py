"""Push channels: opened, joined, renewed with overlap, closed.

A channel belongs to (provider, client id, account, remote calendar), not to one of our rows: all rows with its key
share it, and whoever goes last closes it. Its row is committed before the provider is asked, because the first
notification may overtake the answer; a call whose answer is lost leaves a `retiring` row that learns its resource id
from a notification and is stopped then, or dies with its expiry. Every opening asks for one more sync of each row it
serves, so that nothing falls between the listing and the channel.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from app import scheduling
from app.crypto import hash_secret, new_channel_token
from app.db import Row, Tx
from app.errors import ChannelExists, ChannelRefused, GrantRevoked, ProviderThrottled, PunctualError
from app.grants import GrantTokens, access_for
from app.ids import new_id
from app.providers.base import Access, Channel, ChannelRequest, Platform
from app.runtime import Runtime
from app.telemetry import CHANNELS, log

CHANNEL_SECONDS = 7 * 86_400.0
"""Life that is asked for; the provider may grant less. Renewal comes before half of that has passed: spread, so that
channels that were opened together do not stay together."""
_LOST_AFTER = timedelta(minutes=2)
_OVERLAP = timedelta(minutes=1)
_RETRY_SECONDS = 60.0
_RETRY_MOST_SECONDS = 900.0
_REFUSED_MOST_SECONDS = 6 * 3600.0
"""Where the provider said no, and did not just fail to answer."""

_ANY_HOLDER = """
 WHERE c.channel_key = :key OR c.id = (SELECT calendar_id FROM push_channels WHERE id = :id)
 ORDER BY c.state, c.deleted_at IS NOT NULL, c.id LIMIT 5
"""

_RESERVE = """
WITH lost AS (
    UPDATE push_channels SET state = 'retiring', stop_not_before = app_now()
     WHERE channel_key = (SELECT channel_key FROM calendars WHERE id = :calendar) AND state = 'creating'
       AND created_at < app_now() - CAST(:lost_after AS interval)
    RETURNING id
)
INSERT INTO push_channels (id, channel_key, calendar_id, token_hash, state, created_at)
SELECT :id, c.channel_key, c.id, :token_hash, 'creating', app_now()
  FROM calendars c JOIN sync_state s ON s.calendar_id = c.id
 WHERE c.id = :calendar AND c.state = 'connected' AND c.deleted_at IS NULL AND c.channel_key IS NOT NULL
   AND s.watch_not_before <= app_now()
   AND NOT EXISTS (SELECT FROM push_channels p WHERE p.channel_key = c.channel_key AND (
         (p.state = 'active' AND p.renew_at > app_now() AND p.expires_at > app_now())
         OR (p.state = 'creating' AND p.created_at >= app_now() - CAST(:lost_after AS interval))))
   AND NOT EXISTS (SELECT FROM lost)
ON CONFLICT DO NOTHING
RETURNING channel_key
"""

_GRANT = """
SELECT c.id AS calendar_id, c.platform, c.remote_calendar_id, c.account_subject, a.client_id, g.version,
       g.access_token_sealed, g.access_token_expires_at > app_now() + interval '5 minutes' AS is_fresh
  FROM calendars c JOIN grants g ON g.calendar_id = c.id JOIN oauth_apps a ON a.id = c.oauth_app_id
"""

_GRANTED = """
UPDATE push_channels
   SET resource_id = :resource, expires_at = :expires,
       renew_at = app_now() + (CAST(:expires AS timestamptz) - app_now()) * (0.4 + 0.1 * random())
 WHERE id = :id
RETURNING state
"""

_RETIRE = """
UPDATE push_channels SET state = 'retiring', stop_not_before = app_now() + CAST(:overlap AS interval)
 WHERE channel_key = :key AND state = 'active'
RETURNING expires_at > app_now() AS was_live
"""

_RENEWABLE = """
UPDATE push_channels SET renew_at = app_now() + interval '5 minutes'
 WHERE id = (SELECT p.id FROM push_channels p JOIN calendars c ON c.channel_key = p.channel_key
              WHERE c.id = :calendar AND c.platform = ANY(:platforms) AND c.state = 'connected'
                AND c.deleted_at IS NULL AND p.state = 'active' AND p.renew_at <= app_now() AND p.expires_at > app_now()
                FOR UPDATE OF p SKIP LOCKED)
RETURNING id, resource_id
"""

_UNUSED = """NOT EXISTS (SELECT FROM calendars o WHERE o.channel_key = p.channel_key AND o.deleted_at IS NULL
                                                           AND o.state = 'connected')"""

# Until it is watched again, or while that is in doubt, a calendar is asked more often than one that tells by itself.
_SOONER = """
       watch_failure_count = watch_failure_count + 1,
       poll_due_at = least(poll_due_at, app_now() + make_interval(secs => greatest(
           CAST(:poll AS float8), CAST(:audit AS float8) / power(2, least(watch_failure_count + 1, 16)))))
"""

_WATCHED = """
UPDATE sync_state SET watch_failure_count = 0
 WHERE watch_failure_count > 0 AND calendar_id IN (
       SELECT c.id FROM calendars c JOIN push_channels p ON p.channel_key = c.channel_key WHERE p.id = :channel)
"""

_NOT_RENEWED = f"UPDATE sync_state SET {_SOONER} WHERE calendar_id = :calendar"  # noqa: S608 - made of constants

_REFUSED = f"""
UPDATE sync_state SET {_SOONER},
       watch_not_before = CASE WHEN :is_permanent THEN 'infinity'
           ELSE app_now() + make_interval(secs => (0.5 + random() / 2)
               * least(:most, :base * power(2, least(watch_failure_count, 20)))) END
 WHERE calendar_id = :calendar
"""  # noqa: S608 - made of constants

_PATIENCE = """
UPDATE sync_state SET watch_not_before = app_now() + make_interval(secs => :seconds) WHERE calendar_id = :calendar
"""

_WANTING = """
SELECT c.id FROM calendars c JOIN sync_state s ON s.calendar_id = c.id
 WHERE c.state = 'connected' AND c.deleted_at IS NULL AND c.channel_key IS NOT NULL
   AND s.watch_not_before <= app_now() AND s.last_successful_sync_at IS NOT NULL
   AND NOT EXISTS (SELECT FROM push_channels p WHERE p.channel_key = c.channel_key AND p.state = 'active'
                     AND p.renew_at > app_now() AND p.expires_at > app_now())
   AND NOT c.id = ANY(CAST(:seen AS uuid[]))
 ORDER BY (SELECT max(p.expires_at) FROM push_channels p WHERE p.channel_key = c.channel_key AND p.state = 'active'),
          c.id
 LIMIT :most
"""

_STOPPABLE = """
UPDATE push_channels SET stop_not_before = app_now() + interval '5 minutes'
 WHERE id IN (SELECT id FROM push_channels WHERE state = 'retiring' AND resource_id IS NOT NULL
                 AND stop_not_before <= app_now() ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED)
RETURNING id, channel_key, resource_id
"""

_LOST = """
UPDATE push_channels SET state = 'retiring', stop_not_before = app_now()
 WHERE state = 'creating' AND created_at < app_now() - interval '1 hour'
"""

_EXPIRED = """
UPDATE push_channels SET state = 'closed'
 WHERE (state IN ('active', 'retiring') AND expires_at < app_now())
    OR (state = 'retiring' AND expires_at IS NULL AND created_at < app_now() - interval '31 days')
"""


@dataclass(frozen=True, slots=True)
class _Keyholder:
    """A calendar row whose grant can act for a channel."""

    calendar_id: UUID
    platform: Platform
    remote_calendar_id: str
    access: Access


async def ensure(rt: Runtime, calendar_id: UUID) -> str:
    """See that this calendar has a live channel.

    `opened`, `renewed` (in place), `joined` (there is one, or one is being made), `refused`.
    """
    if rt.settings.public_url is None:
        return "refused"
    renewal = await _renew(rt, calendar_id)
    if renewal == "renewed":
        return "renewed"
    channel_id, token = new_id(), new_channel_token()
    async with rt.db.transaction() as tx:
        key = await tx.scalar(
            _RESERVE,
            {
                "calendar": calendar_id,
                "id": channel_id,
                "token_hash": hash_secret(token),
                "lost_after": _LOST_AFTER,
            },
        )
        holder = await _holder(rt, tx, "WHERE c.id = :id", {"id": calendar_id}) if key is not None else None
    if key is None or holder is None:
        return "joined"
    request = ChannelRequest(
        id=str(channel_id),
        token=token,
        address=f"{rt.settings.public_url}/push/{holder.platform}",
        lives_for=CHANNEL_SECONDS,
    )
    try:
        channel = await _ask(rt, holder, request)
    except PunctualError as exc:
        await _not_opened(rt, channel_id, calendar_id, exc)
        CHANNELS.labels(holder.platform, "refused").inc()
        return "refused"
    await _opened(rt, channel_id, key, channel, is_full=renewal == "gone")
    CHANNELS.labels(holder.platform, "opened").inc()
    log.info("channel.opened", calendar=str(calendar_id), channel=str(channel_id))
    return "opened"


async def _ask(rt: Runtime, holder: _Keyholder, request: ChannelRequest) -> Channel:
    """A new channel. One that the provider has for this calendar and our address goes first: its secret is lost."""
    provider = rt.providers[holder.platform]
    try:
        return await provider.open_channel(holder.access, holder.remote_calendar_id, request)
    except ChannelExists as exc:
        for resource_id in exc.resource_ids:
            await provider.close_channel(holder.access, request.id, resource_id)
            log.info("channel.stale_removed", calendar=str(holder.calendar_id))
    return await provider.open_channel(holder.access, holder.remote_calendar_id, request)


async def _renew(rt: Runtime, calendar_id: UUID) -> Literal["renewed", "gone", "none"]:
    """Give the calendar's channel a longer life where its provider can. `renewed` also where that has to be tried
    again; `gone`: the provider has ended it, who knows when; `none`: there is none to renew."""
    in_place = [platform for platform, provider in rt.providers.items() if provider.renews_in_place]
    async with rt.db.transaction() as tx:
        row = await tx.row(_RENEWABLE, {"calendar": calendar_id, "platforms": in_place})
        holder = await _holder(rt, tx, "WHERE c.id = :id", {"id": calendar_id}) if row is not None else None
    if row is None or holder is None:
        return "none"
    provider = rt.providers[holder.platform]
    try:
        channel = await provider.renew_channel(holder.access, row.resource_id, lives_for=CHANNEL_SECONDS)
    except PunctualError as exc:  # tried again before it expires; then it is replaced
        if not isinstance(exc, ProviderThrottled):
            async with rt.db.transaction() as tx:
                await tx.execute(_NOT_RENEWED, {"calendar": calendar_id, **_intervals(rt)})
        log.warning("channel.not_renewed", calendar=str(calendar_id), error=type(exc).__name__)
        CHANNELS.labels(holder.platform, "not_renewed").inc()
        return "renewed"
    if channel is None:
        await _closed(rt, row.id)
        return "gone"
    async with rt.db.transaction() as tx:
        params = {"id": row.id, "resource": channel.resource_id, "expires": channel.expires_at}
        await tx.scalar(_GRANTED, params)
        await tx.execute(_WATCHED, {"channel": row.id})
    CHANNELS.labels(holder.platform, "renewed").inc()
    log.info("channel.renewed", calendar=str(calendar_id), channel=str(row.id))
    return "renewed"


async def _opened(rt: Runtime, channel_id: UUID, key: bytes, channel: Channel, *, is_full: bool) -> None:
    """Make the new channel current, retire the one it replaces, and look once more at every row it serves: at the whole
    window (`is_full`) where the old one had been ended behind our back."""
    async with rt.db.transaction() as tx:
        params = {"id": channel_id, "resource": channel.resource_id, "expires": channel.expires_at}
        state = await tx.scalar(_GRANTED, params)
        if state != "creating":  # given up meanwhile, by a deletion or a later opening: it can be stopped now
            return
        retired = await tx.rows(_RETIRE, {"key": key, "overlap": _OVERLAP})
        await tx.execute("UPDATE push_channels SET state = 'active' WHERE id = :id", {"id": channel_id})
        served = await tx.rows(
            "SELECT id FROM calendars WHERE channel_key = :key AND state = 'connected' AND deleted_at IS NULL",
            {"key": key},
        )
        ids = [row.id for row in served]
        was_watched = any(row.was_live for row in retired)  # then nothing can have been missed: no hurry
        await scheduling.request_syncs(rt, tx, ids, is_full=is_full, is_backstop=was_watched)
        await tx.execute(_WATCHED, {"channel": channel_id})


async def _not_opened(rt: Runtime, channel_id: UUID, calendar_id: UUID, error: Exception) -> None:
    """Remember the refusal. Without a clear no, the provider may have made the channel: its row stays recognisable.

    A quota's answer is none: then the next try comes when it may.
    """
    throttled = error if isinstance(error, ProviderThrottled) else None
    is_clear = isinstance(error, ChannelRefused) or throttled is not None
    async with rt.db.transaction() as tx:
        await tx.execute(
            "UPDATE push_channels SET state = :state, stop_not_before = app_now()"
            " WHERE id = :id AND state = 'creating'",
            {"id": channel_id, "state": "closed" if is_clear else "retiring"},
        )
        if throttled is not None and throttled.after is not None:
            await tx.execute(_PATIENCE, {"calendar": calendar_id, "seconds": throttled.after})
            return
        await tx.execute(
            _REFUSED,
            {
                "calendar": calendar_id,
                "is_permanent": isinstance(error, ChannelRefused) and error.permanent,
                "base": _RETRY_SECONDS,
                "most": _REFUSED_MOST_SECONDS if is_clear else _RETRY_MOST_SECONDS,
                **_intervals(rt),
            },
        )
    log.warning("channel.refused", calendar=str(calendar_id), error=type(error).__name__)


def _intervals(rt: Runtime) -> dict[str, float]:
    return {"poll": rt.settings.poll_interval_seconds, "audit": rt.settings.audit_interval_seconds}


async def _holder(rt: Runtime, tx: Tx, where: str, params: dict[str, Any]) -> _Keyholder | None:
    row = await tx.row(f"{_GRANT} {where}", params)
    return None if row is None else _keyholder(rt, row)


def _keyholder(rt: Runtime, row: Row) -> _Keyholder:
    tokens = GrantTokens(
        rt, row.calendar_id, sealed=row.access_token_sealed, is_fresh=bool(row.is_fresh), version=row.version
    )
    access = access_for(
        tokens, client_id=row.client_id, subject=row.account_subject, calendar_id=row.calendar_id, is_backstop=True
    )
    return _Keyholder(row.calendar_id, row.platform, row.remote_calendar_id, access)


@dataclass(frozen=True, slots=True)
class Stoppable:
    """A channel that was replaced, or is no longer used."""

    id: UUID
    channel_key: bytes
    resource_id: str


async def due(rt: Runtime, *, seen: Collection[UUID] = (), most: int = 500) -> tuple[list[UUID], list[Stoppable]]:
    """Calendars that want a channel (`ensure`), but those `seen`, the soonest end first; and channels to `stop`.

    What has expired is forgotten on the way.
    """
    async with rt.db.direct() as tx:
        await tx.execute(_LOST)
        await tx.execute(_EXPIRED)
        wanting: list[UUID] = []
        if rt.settings.public_url:
            wanting = [row.id for row in await tx.rows(_WANTING, {"most": most, "seen": list(seen)})]
        rows = await tx.rows(_STOPPABLE, {"most": most})
    return wanting, [Stoppable(row.id, row.channel_key, row.resource_id) for row in rows]


async def abandon(tx: Tx, channel_key: bytes) -> None:
    """A calendar has left this key: its channels are stopped unless another one uses them."""
    await tx.execute(
        "UPDATE push_channels p SET state = 'retiring', stop_not_before = app_now()"  # noqa: S608 - a constant
        f" WHERE p.channel_key = :key AND p.state IN ('creating', 'active') AND {_UNUSED}",
        {"key": channel_key},
    )


async def stop(rt: Runtime, channel: Stoppable) -> bool:
    """Stop one channel with the grant of any row of its key that still works; whether that has an end.

    Where every grant is revoked nobody can stop it any more: it dies with its expiry.
    """
    async with rt.db.reading() as tx:
        rows = await tx.rows(
            f"{_GRANT} {_ANY_HOLDER}",
            {"key": channel.channel_key, "id": channel.id},
        )
    is_out_of_reach = True
    for row in rows:
        holder = _keyholder(rt, row)
        try:
            await rt.providers[holder.platform].close_channel(holder.access, str(channel.id), channel.resource_id)
        except PunctualError as exc:
            log.info("channel.not_stopped", channel=str(channel.id), error=type(exc).__name__)
            is_out_of_reach = is_out_of_reach and isinstance(exc, GrantRevoked)
            continue
        CHANNELS.labels(holder.platform, "stopped").inc()
        is_out_of_reach = True
        break
    if is_out_of_reach:
        await _closed(rt, channel.id)
    return is_out_of_reach


async def _closed(rt: Runtime, channel_id: UUID) -> None:
    async with rt.db.transaction() as tx:
        await tx.execute("UPDATE push_channels SET state = 'closed' WHERE id = :id", {"id": channel_id})


async def leave(rt: Runtime, calendar_id: UUID) -> bool:
    """Stop the channels of a deleted calendar unless another row uses them. Whether nothing is left to stop.

    A channel that is just being opened is waited for: only its answer tells how it is stopped.
    """
    async with rt.db.transaction() as tx:
        rows = await tx.rows(
            "UPDATE push_channels p SET state = 'retiring', stop_not_before = app_now() + interval '5 minutes'"  # noqa: S608 - a constant
            " FROM calendars c WHERE c.id = :id AND p.channel_key = c.channel_key AND p.state <> 'closed'"
            f" AND {_UNUSED}"
            " RETURNING p.id, p.channel_key, p.resource_id,"
            " p.created_at > app_now() - CAST(:lost_after AS interval) AS is_fresh",
            {"id": calendar_id, "lost_after": _LOST_AFTER},
        )
    done = True
    for row in rows:
        if row.resource_id is not None:
            done = await stop(rt, Stoppable(row.id, row.channel_key, row.resource_id)) and done
        elif row.is_fresh:
            done = False
    return done
