"""Meeting BaaS v2 (https://api.meetingbaas.com, or self-hosted): `/v2/bots` and `/v2/bots/scheduled`.

From its OpenAPI v2 of May 2026 and its guides "Deduplication & rate limiting", "Removing a bot": answers are
`{success, data}` or `{success: false, error, code, statusCode, message, details, retryAfter?}`. A scheduled bot can be
changed while it joins in 4 minutes or more (409 later); deleting it cancels it or makes it leave, and is a 409 at its
end; `leave` is a 409 for a bot that is queued or at its end. With `allow_multiple_bots: false`, which is ours but for
replacements and unless `passthrough` says otherwise, a second bot for a meeting URL within 5 minutes is a 409, of
scheduled ones when they join. Lists of scheduled bots are filtered by `extra=key:value`; reading costs no quota. There
is no idempotency key.

Assumed: the list of `/v2/bots` takes the same filter, or shows `extra`, or its details do; a scheduled bot that has
joined is still in its list; `transcription_config.custom_params.language_config.languages` sets a language (Gladia).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from app.bots.launchers.base import (
    BOT_ID,
    CAPABILITIES,
    MAX_HAND_OVER_SECONDS,
    Changed,
    Check,
    MustReplace,
    Order,
    Started,
    Withdrawn,
)
from app.bots.launchers.config import ALWAYS_RESERVED, Common, Support, merged
from app.bots.launchers.http import TIMEOUT_SECONDS, Answer, BackEnd, id_of, kept_revision, segment
from app.egress import Egress
from app.errors import LaunchLater, LaunchRefused, LaunchUnknown
from app.instants import instant

NOW_SECONDS = 60
"""Who joins sooner than that is started at once: a schedule begins a minute ahead."""
BOTS, SCHEDULED = "/v2/bots", "/v2/bots/scheduled"
CLOCKS_APART = timedelta(minutes=5)
"""So much the back end's clock may be behind ours."""

SUPPORT = Support(
    recording=frozenset({"speaker_view", "gallery_view", "audio_only"}),
    images=frozenset({"url"}),
    leave=MappingProxyType(
        {
            "waiting_room": (120, 1_800),
            "no_one_joined": (120, 1_800),
            "silence": (300, 1_800),
            "longest": (7_200, 43_200),
        }
    ),
    reserved=ALWAYS_RESERVED,
)
LEAVE: Mapping[str, str] = MappingProxyType(
    {
        "waiting_room": "waiting_room_timeout",
        "no_one_joined": "no_one_joined_timeout",
        "silence": "silence_timeout",
        "longest": "max_recording_duration",
    }
)

_ENDED = frozenset({"cancelled", "completed", "failed", "transcribing"})
"""Of a bot, not of a schedule: a schedule is `completed` once its bot was made."""
_SCHEDULE_ENDED = frozenset({"cancelled", "failed"})


def body(order: Order, settings: Common) -> dict[str, Any]:
    """The order as Meeting BaaS' request, `join_at` included."""
    said: dict[str, Any] = {"allow_multiple_bots": order.is_replacement}
    if settings.recording:
        said["recording_mode"] = settings.recording
    if settings.transcription is not None:
        said["transcription_enabled"] = settings.transcription is not False
    if isinstance(settings.transcription, Mapping):
        said["transcription_config"] = settings.transcription
    elif settings.transcription and settings.language:
        languages = {"language_config": {"languages": [settings.language.partition("-")[0]]}}
        said["transcription_config"] = {"provider": "gladia", "custom_params": languages}
    if settings.bot_image:
        said["bot_image"] = settings.bot_image
    if settings.entry_message:
        said["entry_message"] = settings.entry_message
    if settings.leave:
        said["timeout_config"] = {LEAVE[name]: seconds for name, seconds in settings.leave.items()}
    said = merged(said, {k: v for k, v in settings.passthrough.items() if k not in SUPPORT.reserved})
    passed = said.get("extra")
    return said | {
        "meeting_url": order.meeting_url,
        "bot_name": order.bot_name,
        "join_at": instant(order.join_at),
        "extra": {**(passed if isinstance(passed, Mapping) else {}), **order.tags},
    }


class MeetingBaas:
    """A launcher that speaks to Meeting BaaS."""

    def __init__(self, egress: Egress, base_url: str, api_key: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        header = "x-meeting-baas-api-key", api_key
        self._http = BackEnd(egress, base_url, header, api_key, SUPPORT, timeout_seconds)

    async def start(self, order: Order, now: datetime) -> Started:
        """See `Launcher.start`. Where the meeting has a bot already, it may be the one that was to be started."""
        said, path = body(order, self._http.settings(order)), SCHEDULED
        if order.join_at <= now + timedelta(seconds=NOW_SECONDS):
            del said["join_at"]
            path = BOTS
        answer = await self._http.ask("POST", path, order=order, body=said, makes=True)
        if answer.is_success:
            made = answer.external_id("data", "bot_id")
            if made is None:
                raise LaunchUnknown("the back end's answer could not be read", after=1.0)
            return Started(made, order.revision)
        if answer.status == 409:
            found = await self.find(order, now - timedelta(seconds=MAX_HAND_OVER_SECONDS))
            if found is None:
                raise LaunchRefused(self._http.told(answer, order), reason="bot_exists")
            return found
        raise self._refusal(answer, order)

    async def find(self, order: Order, since: datetime) -> Started | None:
        """See `Launcher.find`. First among the scheduled ones, then among those that were started at once."""
        query = {"extra": f"{BOT_ID}:{order.bot_id}"}
        live: list[Started] = []
        for entry in await self._http.entries(SCHEDULED, query, order, at="data"):
            is_over = entry.text("status") in _SCHEDULE_ENDED
            if not is_over and entry.text("status") == "completed":
                is_over = await self._has_ended(id_of(entry, "bot_id"), order)
            if not is_over:
                live += await self._if_ours(SCHEDULED, entry, order)
        query["created_after"] = str(instant(since - CLOCKS_APART))
        for entry in await self._http.entries(BOTS, query, order, at="data"):
            if entry.text("status") not in _ENDED:
                live += await self._if_ours(BOTS, entry, order)
        return max(live, key=lambda one: one.revision or 0, default=None)

    async def change(
        self, external_id: str, order: Order, before: Order | None, now: datetime
    ) -> Changed | MustReplace:
        """See `Launcher.change`. Within 4 minutes the old bot would join too, so it is withdrawn first."""
        new, names, said = self._http.difference(body, order, before)
        if before is not None and not said:
            return Changed()
        if names - new.keys():
            return MustReplace("not_changeable")
        limit = now + timedelta(seconds=CAPABILITIES["meeting_baas"].change_until_seconds)
        if order.join_at < limit or (before is not None and before.join_at < limit):
            return MustReplace("too_late")
        told = {name: new[name] for name in said | {"extra"}}
        answer = await self._http.ask("PATCH", f"{SCHEDULED}/{segment(external_id)}", order=order, body=told)
        if answer.is_success:
            return Changed()
        if answer.status in {404, 409}:
            return MustReplace("gone" if answer.status == 404 else "too_late")
        if answer.status == 400:
            return MustReplace("refused")
        raise self._refusal(answer, order)

    async def withdraw(self, external_id: str, order: Order, now: datetime) -> Withdrawn:
        """See `Launcher.withdraw`. A bot that was started at once is no scheduled one; a queued one is waited for."""
        bot = segment(external_id)
        answer = await self._http.ask("DELETE", f"{SCHEDULED}/{bot}", order=order)
        if answer.is_success:
            return Withdrawn("cancelled" if order.join_at > now else "left")
        if answer.status in {404, 409}:
            is_schedule = answer.status == 409
            answer = await self._http.ask("POST", f"{BOTS}/{bot}/leave", order=order, body={})
            if answer.is_success:
                return Withdrawn("left")
            if await self._is_over(external_id, answer, order, is_schedule=is_schedule):
                return Withdrawn("was_gone")
        raise LaunchLater(self._http.told(answer, order), after=5.0, reason="not_yet")

    async def _is_over(self, external_id: str, refused: Answer, order: Order, *, is_schedule: bool) -> bool:
        """Whether a bot that could not be made leave is at its end, rather than before its beginning."""
        if refused.status == 404 and not is_schedule:
            return True
        if refused.status == 409:
            return await self._has_ended(external_id, order)
        answer = await self._http.ask("GET", f"{SCHEDULED}/{segment(external_id)}", order=order)
        return answer.status == 404 or answer.text("data", "status") in _SCHEDULE_ENDED

    async def _has_ended(self, external_id: str, order: Order) -> bool:
        """Whether a bot that was launched is over, by its status."""
        answer = await self._http.ask("GET", f"{BOTS}/{segment(external_id)}/status", order=order)
        return answer.is_success and answer.text("data", "status") in _ENDED

    async def check(self) -> Check:
        """See `Launcher.check`: the shortest list there is; reading costs no quota."""
        return await self._http.checked(BOTS, {"limit": "1"})

    async def _if_ours(self, path: str, entry: Answer, order: Order) -> list[Started]:
        """The entry, if it is this bot; one that does not show its `extra`, be it null, is asked for it."""
        made, shown = id_of(entry, "bot_id"), entry.body
        if "extra" not in shown:
            details = await self._http.ask("GET", f"{path}/{segment(made)}", order=order)
            if details.status == 404:
                return []
            shown = details.member("data")
            if not isinstance(shown, Mapping) or "extra" not in shown:
                raise LaunchLater("the back end does not show what it was told", after=5.0)
        extra = shown["extra"]
        is_ours = isinstance(extra, Mapping) and extra.get(BOT_ID) == order.bot_id
        return [Started(made, kept_revision(extra))] if is_ours else []

    def _refusal(self, answer: Answer, order: Order) -> LaunchRefused | LaunchLater:
        detail, code = self._http.told(answer, order), str(answer.member("code") or "").upper()
        if answer.status == 402 or "INSUFFICIENT" in code:
            return LaunchLater(detail, after=60.0, reason="no_credits")
        return LaunchRefused(detail, reason="invalid_meeting_url" if "MEETING_URL" in code else "refused")
