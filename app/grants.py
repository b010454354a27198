"""Access tokens: one refresher at a time over all workers, nothing held open over the call, saved before use.

The lease lives in the grant's row. Whoever finds it taken waits for the holder's answer and uses that. A new refresh
token is kept by compare-and-set on the grant's version, so that an older one never overwrites a newer one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from app import oauth_apps
from app.crypto import Place
from app.db import Row, Tx
from app.errors import GrantRevoked, ProviderUnavailable, SyncSuperseded
from app.oauth_apps import OAuthApp
from app.providers.base import Access, AppCredentials, TokenAnswer
from app.runtime import Runtime

_LEASE_SECONDS = 45.0
"""Longer than a provider call may take."""
_LOOK_AGAIN_SECONDS = 0.1

_LEASE = """
UPDATE grants g
   SET lease_until = clock_timestamp() + make_interval(secs => :lease), lease_fence = g.lease_fence + 1
  FROM calendars c JOIN oauth_apps a ON a.id = c.oauth_app_id
 WHERE g.calendar_id = :id AND c.id = g.calendar_id
   AND (g.lease_until IS NULL OR g.lease_until < clock_timestamp())
   AND NOT (g.access_token_sealed IS NOT NULL AND g.access_token_sealed IS DISTINCT FROM CAST(:seen AS bytea)
            AND g.access_token_expires_at > app_now() + interval '5 minutes')
RETURNING g.refresh_token_sealed, g.version, g.lease_fence, a.client_id, a.id AS oauth_app_id, a.tenant, c.platform
"""

_STORED = """
SELECT g.access_token_sealed, g.version, g.access_token_expires_at > app_now() + interval '5 minutes' AS is_fresh
  FROM grants g WHERE g.calendar_id = :id
"""

# The secret's row first, as everywhere: a PATCH offers its secret before it takes the grant.
_SAVE = f"""
WITH worked AS ({oauth_apps.WORKED} RETURNING id)
UPDATE grants SET access_token_sealed = :access,
       access_token_expires_at = app_now() + make_interval(secs => :lives_for),
       refresh_token_sealed = coalesce(CAST(:refresh AS bytea), refresh_token_sealed),
       version = version + CASE WHEN CAST(:refresh AS bytea) IS NULL THEN 0 ELSE 1 END,
       lease_until = NULL
  FROM (SELECT count(*) AS count FROM worked) w
 WHERE calendar_id = :id AND lease_fence = :fence AND version = :version AND w.count >= 0
RETURNING version
"""  # noqa: S608 - made of constants

_EXTEND = """
UPDATE grants SET lease_until = clock_timestamp() + make_interval(secs => :lease)
 WHERE calendar_id = :id AND lease_fence = :fence AND lease_until IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class _Leased:
    """A grant that is ours to refresh, with its app."""

    calendar_id: UUID
    app: OAuthApp
    refresh_token: str
    version: int
    fence: int


class GrantTokens:
    """The access tokens of one calendar's grant (a TokenSource)."""

    def __init__(
        self,
        rt: Runtime,
        calendar_id: UUID,
        *,
        sealed: bytes | None = None,
        is_fresh: bool = False,
        version: int = 0,
    ) -> None:
        self._rt = rt
        self._id = calendar_id
        self._sealed = sealed
        self._is_fresh = is_fresh
        self.version = version
        """Version of the grant that the last token came from: a failure counts only against it."""
        self.has_refreshed = False
        """Whether the provider gave these tokens a new one: the OAuth app's secret works."""

    async def token(self, *, rejected: str | None = None) -> str:
        """A token with at least five minutes left; refreshed where there is none, or the last one was rejected.

        ProviderUnavailable where another refresher does not come to an end.
        """
        if self._sealed is not None and self._is_fresh:
            token = self._open(self._sealed)
            if token != rejected:
                return token
        patience = time.monotonic() + _LEASE_SECONDS
        while time.monotonic() < patience:
            leased = await self._lease()
            if leased is not None:
                refreshed = await self._refresh(leased)
                if refreshed is not None:
                    return refreshed
                continue
            stored = await self._stored()
            if stored.is_fresh and stored.access_token_sealed != self._sealed:
                self._sealed, self._is_fresh, self.version = stored.access_token_sealed, True, stored.version
                return self._open(stored.access_token_sealed)
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        raise ProviderUnavailable("another refresh of this grant did not come to an end")

    def _open(self, sealed: bytes) -> str:
        return self._rt.cipher.open(sealed, Place("grants", "access_token", self._id))

    async def _lease(self) -> _Leased | None:
        cipher = self._rt.cipher
        async with self._rt.db.transaction() as tx:
            row = await tx.row(_LEASE, {"id": self._id, "lease": _LEASE_SECONDS, "seen": self._sealed})
            if row is None:
                return None
            # Opened before the commit: what does not open takes no lease with it.
            secrets = await oauth_apps.secrets_of(self._rt, tx, row.oauth_app_id)
            leased = _Leased(
                calendar_id=self._id,
                app=OAuthApp(row.oauth_app_id, row.platform, row.client_id, row.tenant, secrets),
                refresh_token=cipher.open(row.refresh_token_sealed, Place("grants", "refresh_token", self._id)),
                version=row.version,
                fence=row.lease_fence,
            )
        self.version = leased.version
        return leased

    async def _stored(self) -> Row:
        async with self._rt.db.reading() as tx:
            row = await tx.row(_STORED, {"id": self._id})
        if row is None:
            raise SyncSuperseded("the calendar was deleted")
        return row

    async def _refresh(self, leased: _Leased) -> str | None:
        """Ask, save, then use. None: a newer grant came in meanwhile, look again."""
        try:
            secret_id, answer = await self._ask(leased)
        except GrantRevoked:
            if await self._give_back(leased) != leased.version:
                return None
            raise
        except BaseException:
            await self._give_back(leased)
            raise
        saving = asyncio.create_task(self._save(leased, secret_id, answer))
        try:
            return await asyncio.shield(saving)
        except asyncio.CancelledError:
            await asyncio.wait([saving])  # a provider that rotates gives its new token once
            raise

    async def _save(self, leased: _Leased, secret_id: UUID, answer: TokenAnswer) -> str | None:
        access = self._rt.cipher.seal(answer.access_token, Place("grants", "access_token", self._id))
        refresh = None
        if answer.refresh_token is not None and answer.refresh_token != leased.refresh_token:
            refresh = self._rt.cipher.seal(answer.refresh_token, Place("grants", "refresh_token", self._id))
        async with self._rt.db.transaction() as tx:
            version = await tx.scalar(
                _SAVE,
                {
                    "id": self._id,
                    "access": access,
                    "lives_for": answer.lives_for,
                    "refresh": refresh,
                    "fence": leased.fence,
                    "version": leased.version,
                    "secret": secret_id,
                },
            )
        if version is None:
            return None
        self._sealed, self._is_fresh, self.version = access, True, version
        self.has_refreshed = True
        return answer.access_token

    async def _ask(self, leased: _Leased) -> tuple[UUID, TokenAnswer]:
        provider = self._rt.providers[leased.app.platform]

        async def refresh(app: AppCredentials) -> TokenAnswer:
            return await provider.refresh(app, leased.refresh_token)

        async def extend(tx: Tx) -> None:  # the next secret takes its time too
            await tx.execute(_EXTEND, {"id": self._id, "fence": leased.fence, "lease": _LEASE_SECONDS})

        return await oauth_apps.ask(self._rt, leased.app, refresh, meanwhile=extend)

    async def _give_back(self, leased: _Leased) -> int | None:
        async with self._rt.db.transaction() as tx:
            version: int | None = await tx.scalar(
                "WITH freed AS (UPDATE grants SET lease_until = NULL WHERE calendar_id = :id AND lease_fence = :fence)"
                " SELECT version FROM grants WHERE calendar_id = :id",
                {"id": leased.calendar_id, "fence": leased.fence},
            )
        return version


class OneOffTokens:
    """Access tokens for credentials that are not stored (a TokenSource): raw listings and checks."""

    def __init__(self, refresh: Callable[[], Awaitable[TokenAnswer]]) -> None:
        self._refresh = refresh
        self._token: str | None = None

    async def token(self, *, rejected: str | None = None) -> str:
        """The token of the first refresh; a new one where it was rejected."""
        if self._token is None or self._token == rejected:
            self._token = (await self._refresh()).access_token
        return self._token


def access_for(
    tokens: GrantTokens, *, client_id: str, subject: str | None, calendar_id: UUID, is_backstop: bool = False
) -> Access:
    """Provider access for one stored grant; before the account is known the calendar stands in as the quota's user."""
    return Access(tokens=tokens, client_id=client_id, user_key=subject or str(calendar_id), is_backstop=is_backstop)
