"""One attempt: sign, post, and decide what the answer means.

The message's bytes go out as they were stored, under the same `webhook-id` each time. Only a 2xx is a success,
redirects are none, 410 ends it. Nothing is sent that could not be recorded while the claim is still ours.
"""

from collections.abc import Sequence
from random import SystemRandom
from time import monotonic, time

from app import __version__
from app.crypto import SealBroken
from app.egress import EgressAnswer
from app.ids import MESSAGE, public
from app.runtime import Runtime
from app.telemetry import PROXY_FAILURES, log
from app.webhooks.claims import Claim
from app.webhooks.launches import Launch, wait
from app.webhooks.payloads import EVENTS_UPDATE, TEST
from app.webhooks.secrets import open_headers, open_signers, without_values
from app.webhooks.settle import Outcome, State
from app.webhooks.signing import Signer, signed_headers
from app.webhooks.standing import PAUSE_MAX_SECONDS, RETRY_AFTER_MAX_SECONDS

JITTER = 0.1
"""A wait is up to this part longer than the schedule says, never shorter."""
PROXY_SECONDS = 15.0
"""So long, and up to twice as long, a delivery waits that the egress proxy failed: no attempt of its own is used up."""
USER_AGENT = f"Punctual/{__version__}"

_random = SystemRandom()


async def attempt(rt: Runtime, claim: Claim) -> Outcome:
    """One exchange with the endpoint, signed as of now; without one where its time or its endpoint is over."""
    started, timeout = monotonic(), rt.settings.delivery_timeout_seconds
    if started + timeout > claim.lease_ends:
        return given_back(claim)
    if claim.endpoint_state == "disabled" and claim.trigger == EVENTS_UPDATE:
        return given_back(claim)  # to become part of a digest
    if claim.endpoint_state == "deleted" or (claim.endpoint_state == "disabled" and claim.trigger != TEST):
        error = f"endpoint_{claim.endpoint_state}"
        return Outcome(claim, "failed", wait_seconds=0.0, started=started, error=error)
    if claim.launch is not None and started >= claim.launch.ends_at:
        return Outcome(claim, "failed", wait_seconds=0.0, started=started, error="meeting_over", is_charged=False)
    try:
        signers = open_signers(rt.cipher, claim.secrets)
        customers = open_headers(rt.cipher, claim.endpoint_id, claim.headers_sealed)
    except SealBroken:
        log.error("delivery.secret_unreadable", endpoint_id=str(claim.endpoint_id))
        answer = EgressAnswer(None, "secret_unreadable", None, "", {}, None)
        return decide(claim, answer, waits=_waits(rt, claim), started=started, is_charged=False)
    answer = await rt.egress.post(
        claim.url,
        headers=_headers(claim, signers),
        customer_headers=customers,
        body=claim.payload,
        timeout_seconds=timeout,
    )
    if answer.is_ours:
        log.warning("delivery.proxy_failed", error=answer.error)
        PROXY_FAILURES.inc()
        return given_back(claim)._replace(wait_seconds=_patience(claim, started=started))
    if customers:
        answer = answer._replace(body=without_values(answer.body, customers))
    return decide(claim, answer, waits=_waits(rt, claim), started=started)


def _patience(claim: Claim, *, started: float) -> float:
    """How long to wait for the proxy, in seconds."""
    if claim.launch is not None:
        return wait(claim.launch, started=started, now=monotonic())
    return PROXY_SECONDS * (1 + _random.random())


def _waits(rt: Runtime, claim: Claim) -> Sequence[float]:
    return rt.settings.delivery_retry_seconds if claim.retry_seconds is None else claim.retry_seconds


def crashed(rt: Runtime, claim: Claim, *, started: float) -> Outcome:
    """An attempt that a fault of ours ended: it counts like any that failed, so it ends like any."""
    answer = EgressAnswer(None, "internal_error", None, "", {}, None)
    return decide(claim, answer, waits=_waits(rt, claim), started=started, is_charged=False)


def given_back(claim: Claim) -> Outcome:
    """The end of a claim that was not used: due again at once, and not counted."""
    return Outcome(claim, "pending", wait_seconds=0.0, started=monotonic(), is_attempt=False)


def decide(
    claim: Claim, answer: EgressAnswer, *, waits: Sequence[float], started: float, is_charged: bool = True
) -> Outcome:
    """What an answer means: success, another attempt after one of `waits` (seconds), or the end.

    `Retry-After` is a lower bound of the wait, up to a day. A digest has no last attempt while its endpoint is failing:
    nothing else would tell what it tells. A launch that fails is not charged to its endpoint, unless the answer is 410:
    it comes more often than all else, and would open the breaker, and in time end the endpoint, for the others too.
    """
    error = _failure(answer)
    retry_after = min(answer.retry_after or 0.0, RETRY_AFTER_MAX_SECONDS)
    next_in: float | None = None
    if claim.launch is not None:
        is_charged = is_charged and error in (None, "gone")
        if error not in (None, "gone"):
            next_in = _next_launch(claim.launch, started=started, retry_after=retry_after)
    elif error is not None:
        next_in = _next(claim, waits, is_gone=error == "gone", retry_after=retry_after)
    state: State = "succeeded" if error is None else "failed" if next_in is None else "pending"
    return Outcome(
        claim=claim,
        state=state,
        wait_seconds=next_in or 0.0,
        started=started,
        is_charged=is_charged,
        retry_after=retry_after,
        status=answer.status,
        error=error,
        phases_ms=answer.phases_ms,
        address=answer.address,
        response_body=None if answer.status is None else answer.body,
    )


def _next(claim: Claim, waits: Sequence[float], *, is_gone: bool, retry_after: float) -> float | None:
    """Seconds until the next attempt; None: that was the last."""
    is_owed = claim.is_digest and claim.endpoint_state != "enabled"
    if not is_owed and (is_gone or claim.attempt > len(waits)):
        return None
    seconds = waits[min(claim.attempt, len(waits)) - 1] if waits else 0.0
    seconds = (min(seconds, PAUSE_MAX_SECONDS) if is_owed else seconds) * (1 + JITTER * _random.random())
    return max(seconds, retry_after)


def _next_launch(launch: Launch, *, started: float, retry_after: float) -> float | None:
    """The same of a launch, whose last attempt is the last step before its meeting ends."""
    now = monotonic()
    seconds = wait(launch, started=started, now=now, retry_after=retry_after)
    return seconds if now + seconds < launch.ends_at else None


def _failure(answer: EgressAnswer) -> str | None:
    status = answer.status
    if status is None:
        return answer.error
    if 200 <= status < 300:
        return None
    if status == 410:
        return "gone"
    return "redirect" if 300 <= status < 400 else "refused"


def _headers(claim: Claim, signers: Sequence[Signer]) -> dict[str, str]:
    message_id = public(MESSAGE, claim.message_id)
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        **signed_headers(signers, message_id=message_id, timestamp=int(time()), body=claim.payload),
    }
