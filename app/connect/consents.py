"""A browser's way from a connect link to the provider and back, and what becomes of it.

`state` is bound to the browser by a cookie, the code to us by PKCE (RFC 9700, 2.1). A code is sent to the provider
once: the consent's row is claimed before, so that the same answer arriving twice waits for the first one's end. A
calendar, the end of the link and the consent's outcome commit together; what dies before that leaves the link as good
as it was.
"""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from app.connect import keeping
from app.connect.keeping import Grant, Outcome
from app.connect.links import COLUMNS, TABLES, Link, Problem, of_row
from app.crypto import Place, hash_secret, same
from app.db import Row
from app.errors import GrantRevoked, ProviderContract, ProviderError
from app.ids import new_id
from app.oauth_apps import ask, load
from app.providers.base import Access, AppCredentials, Consent, TokenAnswer
from app.runtime import Runtime
from app.settings import Settings
from app.telemetry import CONSENTS, log

COOKIE_SECONDS: Final = 86_400
"""How long a browser may stay at the provider and still be known here."""
KEPT_MOST: Final = 20
"""Consents of one link, and cookies of one browser: the newest ones. Whoever has a link may begin as often as they
like, and the cookies of a day must not outgrow what a proxy takes for a header."""
EXCHANGE_SECONDS: Final = 45.0
"""For the code, with each secret of the app that has to be tried, and the look whose account it is."""
_LEASE_SECONDS = EXCHANGE_SECONDS + 15
_LOOK_AGAIN_SECONDS = 0.1
_LONGEST = 4_096
"""Characters of a parameter that comes back; codes have some hundreds, Microsoft's up to two thousand."""

_BEGIN = """
INSERT INTO consents (id, link_id, state_hash, cookie_hash, verifier_sealed, created_at)
VALUES (:id, :link, :state, :cookie, :verifier, app_now())
"""

_DROP_SURPLUS = """
DELETE FROM consents WHERE id IN (
    SELECT id FROM consents WHERE link_id = :link ORDER BY created_at DESC, id DESC OFFSET :most)
"""

_ARRIVED = f"""
SELECT n.id, n.state_hash, n.cookie_hash, n.outcome,
       n.redeeming_until > clock_timestamp() AS is_redeeming, {COLUMNS}
  FROM {TABLES} JOIN consents n ON n.link_id = l.id WHERE n.state_hash = :state
"""  # noqa: S608 - made of constants

_CLAIM = """
UPDATE consents SET redeeming_until = clock_timestamp() + make_interval(secs => :lease)
 WHERE id = :id AND redeeming_until IS NULL AND outcome IS NULL
RETURNING verifier_sealed
"""

# What the provider says of a user who went back, or of an administrator who did not agree (RFC 6749, 4.1.2.1; OpenID
# Connect Core, 3.1.2.6). Whatever else it says is no decision of anybody's.
_DENIALS: Final = frozenset({"access_denied", "consent_required", "interaction_required", "login_required"})
_DENYING_REASONS: Final = frozenset({"admin_blocked", "consent_withdrawn"})


@dataclass(frozen=True, slots=True)
class Begun:
    """Where the browser goes, and the cookie that it has to bring back."""

    address: str
    cookie_name: str
    cookie_value: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider sent the browser back with; None is absent."""

    state: str | None
    code: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a browser that came back goes on. `address` None: nowhere, a page of ours says why (`reason`)."""

    address: str | None
    reason: Literal["stranger", "withdrawn"] | None = None


class _Given:
    """The one access token that there is (a TokenSource)."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def token(self, *, rejected: str | None = None) -> str:
        """The token. ProviderContract where the provider has refused its own."""
        if rejected is not None:
            raise ProviderContract("the provider refused a token that it had just given")
        return self._token


def cookie_name(settings: Settings, state: str) -> str:
    """A consent's own cookie, so that two tabs do not take each other's."""
    prefix = "__Host-" if is_secure(settings) else ""
    return f"{prefix}punctual_{hash_secret(state).hex()[:16]}"


def is_secure(settings: Settings) -> bool:
    """Whether browsers reach us by https alone."""
    return (settings.public_url or "").startswith("https://")


async def begin(rt: Runtime, link: Link) -> Begun:
    """Note a browser that goes to the provider."""
    consent_id, state, cookie = new_id(), secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    consent = _consent(rt, link, state=state, verifier=secrets.token_urlsafe(48))
    async with rt.db.transaction() as tx:
        await tx.execute(
            _BEGIN,
            {
                "id": consent_id,
                "link": link.id,
                "state": hash_secret(state),
                "cookie": hash_secret(cookie),
                "verifier": rt.cipher.seal(consent.verifier, _place(consent_id)),
            },
        )
        await tx.execute(_DROP_SURPLUS, {"link": link.id, "most": KEPT_MOST})
    address = rt.providers[link.platform].consent_url(consent)
    return Begun(address, cookie_name(rt.settings, state), cookie)


async def come_back(rt: Runtime, answer: Answer, cookies: Mapping[str, str]) -> Arrival:
    """Take what the provider sent: connect the calendar, or say why not. Once; later it says what was said before."""
    row = await _arrived(rt, answer, cookies)
    if row is None:
        return Arrival(None, "stranger")
    link = of_row(row)
    if link.standing == "withdrawn":
        return Arrival(None, "withdrawn")
    if row.outcome is not None:
        return Arrival(_again(row))
    if link.standing == "open" and answer.error is None and _is_sound(answer.code):
        return await _redeemed(rt, row, link, str(answer.code))
    return await _settled(rt, row.id, link, _problem_of(link, answer))


async def _arrived(rt: Runtime, answer: Answer, cookies: Mapping[str, str]) -> Row | None:
    """The consent that this browser was sent off with; None for any other browser, which learns nothing."""
    if answer.state is None or not _is_sound(answer.state):
        return None
    row = await _look(rt, answer.state)
    cookie = cookies.get(cookie_name(rt.settings, answer.state), "")
    if row is None or not same(row.cookie_hash, hash_secret(cookie)):
        return None
    return row


async def _look(rt: Runtime, state: str) -> Row | None:
    async with rt.db.reading() as tx:
        return await tx.row(_ARRIVED, {"state": hash_secret(state)})


def _is_sound(text: str | None) -> bool:
    return text is not None and 0 < len(text) <= _LONGEST and text.isascii() and text.isprintable()


def _problem_of(link: Link, answer: Answer) -> Problem:
    if link.standing == "used":
        return "already_used"
    if link.standing == "expired":
        return "expired"
    return "access_denied" if answer.error in _DENIALS else "provider_error"


def _again(row: Row) -> str:
    """What was said before, unless the link has led to a calendar by now: that is the news."""
    problem: Problem = "already_used" if row.is_used else row.outcome
    return of_row(row).answer(problem)


async def _redeemed(rt: Runtime, row: Row, link: Link, code: str) -> Arrival:
    async with rt.db.transaction() as tx:
        sealed = await tx.scalar(_CLAIM, {"id": row.id, "lease": _LEASE_SECONDS})
    if sealed is None:
        return await _first_ones(rt, row)
    verifier = rt.cipher.open(sealed, _place(row.id))
    try:
        grant = await _exchange(rt, link, code, verifier)
    except (ProviderError, TimeoutError) as exc:
        problem = _meaning(exc)
        log.info("connect.refused", link=str(link.id), problem=problem, code=getattr(exc, "code", "timeout"))
        return await _settled(rt, row.id, link, problem)
    if grant is None:
        return await _settled(rt, row.id, link, "provider_error")
    return _arrival(link, await keeping.keep(rt, consent_id=row.id, link=link, grant=grant))


async def _first_ones(rt: Runtime, row: Row) -> Arrival:
    """What becomes of the same answer, which arrived before: its code is being redeemed, or whoever did it has died."""
    while True:
        async with rt.db.reading() as tx:
            now = await tx.row(_ARRIVED, {"state": row.state_hash})
        if now is None:
            return Arrival(None, "withdrawn")
        if now.outcome is not None:
            return Arrival(_again(now))
        if not now.is_redeeming:
            return await _settled(rt, now.id, of_row(now), "provider_error")
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


async def _exchange(rt: Runtime, link: Link, code: str, verifier: str) -> Grant | None:
    """The user's grant, and whose it is where that decides; None where the provider gave nothing that lasts."""
    provider = rt.providers[link.platform]
    consent = _consent(rt, link, state="", verifier=verifier)
    async with rt.db.reading() as tx:
        app = await load(rt, tx, project_id=link.project_id, app_id=link.oauth_app_id)
    if app is None:
        return None

    async def redeem(credentials: AppCredentials) -> TokenAnswer:
        return await provider.redeem(credentials, code, consent)

    async with asyncio.timeout(EXCHANGE_SECONDS):
        secret_id, tokens = await ask(rt, app, redeem)
        if tokens.refresh_token is None:
            log.warning("connect.no_refresh_token", link=str(link.id))
            return None
        account = None
        if link.calendar_id is not None or link.deduplication_key is not None:
            access = Access(tokens=_Given(tokens.access_token), client_id=app.client_id, user_key=str(link.id))
            account = await provider.fetch_account(access)
    return Grant(secret_id, tokens.refresh_token, account)


def _meaning(exc: ProviderError | TimeoutError) -> Problem:
    reason = exc.reason if isinstance(exc, GrantRevoked) else None
    if reason == "scope_missing":
        return "scope_missing"
    return "access_denied" if reason in _DENYING_REASONS else "provider_error"


async def _settled(rt: Runtime, consent_id: UUID, link: Link, problem: Problem) -> Arrival:
    async with rt.db.transaction() as tx:
        await keeping.note(tx, consent_id=consent_id, link=link, problem=problem)
    return _arrival(link, Outcome(None, problem))


def _arrival(link: Link, outcome: Outcome) -> Arrival:
    CONSENTS.labels(link.platform, outcome.problem or "connected").inc()
    if outcome.problem == "withdrawn":
        return Arrival(None, "withdrawn")
    return Arrival(link.answer(outcome.problem, connected_id=outcome.calendar_id))


def _consent(rt: Runtime, link: Link, *, state: str, verifier: str) -> Consent:
    return Consent(
        client_id=link.client_id,
        tenant=link.tenant,
        redirect_uri=f"{rt.settings.public_url}/connect/callback",
        state=state,
        verifier=verifier,
        login_hint=link.login_hint,
    )


def _place(consent_id: UUID) -> Place:
    return Place("consents", "verifier", consent_id)
