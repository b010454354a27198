"""Attendee (https://app.attendee.dev, or self-hosted): `/api/v1/bots`.

From its source and openapi.yml of August 2026: `deduplication_key` is unique among a project's bots that are not at
their end, a second one is a 400 that says so; the list can be asked by it. `join_at`, `meeting_url`, `bot_name`,
`bot_image` and `recording_settings` can be patched while the bot is `scheduled`, `metadata` always. `DELETE` removes a
bot that is `scheduled`; later ones take `leave`. Out of credits and too many bots at once are 400s with a sentence.

Assumed: the sentences keep their wording; an image is a PNG; `transcription_settings` cannot say "none".
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from app.bots.launchers.base import BOT_ID, Changed, Check, MustReplace, Order, Started, Withdrawn
from app.bots.launchers.config import ALWAYS_RESERVED, MAX_LEAVE_SECONDS, Common, Support, merged
from app.bots.launchers.http import TIMEOUT_SECONDS, Answer, BackEnd, id_of, kept_revision, segment
from app.egress import Egress
from app.errors import LaunchLater, LaunchRefused, LaunchUnknown
from app.instants import instant

NOW_SECONDS = 30
"""Who joins sooner than that is started at once: a time that is over when the request arrives would be refused."""
BOTS = "/api/v1/bots"

SUPPORT = Support(
    images=frozenset({"png"}),
    can_omit_transcription=False,
    leave=MappingProxyType(
        dict.fromkeys(("waiting_room", "everyone_left", "silence", "longest"), (1, MAX_LEAVE_SECONDS))
    ),
    wide_characters=False,
    reserved=ALWAYS_RESERVED | {"deduplication_key", "calendar_event_id"},
)

RECORDING: Mapping[str, dict[str, str]] = MappingProxyType(
    {
        "speaker_view": {"format": "mp4", "view": "speaker_view"},
        "gallery_view": {"format": "mp4", "view": "gallery_view"},
        "audio_only": {"format": "mp3"},
        "none": {"format": "none"},
    }
)
LEAVE: Mapping[str, str] = MappingProxyType(
    {
        "waiting_room": "waiting_room_timeout_seconds",
        "everyone_left": "only_participant_in_meeting_timeout_seconds",
        "silence": "silence_timeout_seconds",
        "longest": "max_uptime_seconds",
    }
)

_PATCHABLE = frozenset({"meeting_url", "join_at", "bot_name", "bot_image", "recording_settings", "metadata"})
_ENDED = frozenset({"ended", "fatal_error", "data_deleted"})
_LEAVING = _ENDED | {"leaving", "post_processing"}


def body(order: Order, settings: Common) -> dict[str, Any]:
    """The order as Attendee's request, `join_at` included."""
    said: dict[str, Any] = {}
    if settings.recording:
        said["recording_settings"] = RECORDING[settings.recording]
    if isinstance(settings.transcription, Mapping):
        said["transcription_settings"] = settings.transcription
    elif settings.transcription:
        said["transcription_settings"] = {"meeting_closed_captions": _captions(order.platform, settings.language)}
        if order.platform in {"zoom", "zoom_gov"}:
            said["zoom_settings"] = {"sdk": "web"}  # the other SDK has no captions
    if settings.bot_image:
        said["bot_image"] = {"type": "image/png", "data": settings.bot_image}
    if settings.entry_message:
        said["bot_chat_message"] = {"to": "everyone", "message": settings.entry_message}
    if settings.leave:
        said["automatic_leave_settings"] = {LEAVE[name]: seconds for name, seconds in settings.leave.items()}
    said = merged(said, {k: v for k, v in settings.passthrough.items() if k not in SUPPORT.reserved})
    passed = said.get("metadata")
    return said | {
        "meeting_url": order.meeting_url,
        "bot_name": order.bot_name,
        "join_at": instant(order.join_at),
        "deduplication_key": order.once,
        "metadata": {**(passed if isinstance(passed, Mapping) else {}), **order.tags},
    }


def _captions(platform: str | None, language: str | None) -> dict[str, str]:
    """Attendee names a language per platform; of Zoom it wants an English word, which we do not have."""
    if language and platform == "google_meet":
        return {"google_meet_language": language}
    if language and platform == "microsoft_teams":
        return {"teams_language": language.lower()}
    return {}


class Attendee:
    """A launcher that speaks to Attendee."""

    def __init__(self, egress: Egress, base_url: str, api_key: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        header = "authorization", f"Token {api_key}"
        self._http = BackEnd(egress, base_url, header, api_key, SUPPORT, timeout_seconds)

    async def start(self, order: Order, now: datetime) -> Started:
        """See `Launcher.start`. A live bot with our key is the one that was to be started."""
        said = body(order, self._http.settings(order))
        if order.join_at <= now + timedelta(seconds=NOW_SECONDS):
            del said["join_at"]
        answer = await self._http.ask("POST", BOTS, order=order, body=said, makes=True)
        if answer.is_success:
            made = answer.external_id("id")
            if made is None:
                raise LaunchUnknown("the back end's answer could not be read", after=1.0)
            return Started(made, order.revision)
        if answer.status == 400 and "deduplication key" in _said(answer):
            found = await self.find(order, now)
            if found is None:
                raise LaunchLater("the key is in use, by a bot that cannot be found", after=5.0, reason="not_yet")
            return found
        raise self._refusal(answer, order)

    async def find(self, order: Order, since: datetime) -> Started | None:
        """See `Launcher.find`. The list is asked by our key; bots that are at their end keep theirs."""
        del since
        for entry in await self._http.entries(BOTS, {"deduplication_key": order.once}, order, at="results"):
            made = id_of(entry, "id")
            is_ours = order.once == entry.text("deduplication_key") or order.bot_id == entry.text("metadata", BOT_ID)
            if is_ours and entry.text("state") not in _ENDED:
                return Started(made, kept_revision(entry.member("metadata")))
        return None

    async def change(
        self, external_id: str, order: Order, before: Order | None, now: datetime
    ) -> Changed | MustReplace:
        """See `Launcher.change`. What cannot be patched, or is to go away, needs another bot."""
        new, names, said = self._http.difference(body, order, before)
        names -= {"deduplication_key"}
        said -= {"deduplication_key"}
        if before is not None and (not names <= _PATCHABLE or names - new.keys()):
            return MustReplace("not_changeable")
        if order.join_at <= now + timedelta(seconds=NOW_SECONDS) and "join_at" in names:
            return MustReplace("too_late")
        if before is not None and not said:
            return Changed()
        told = {name: new[name] for name in (said | {"metadata"}) & _PATCHABLE & new.keys()}
        answer = await self._http.ask("PATCH", f"{BOTS}/{segment(external_id)}", order=order, body=told)
        if answer.is_success:
            return Changed()
        if answer.status == 404:
            return MustReplace("gone")
        if answer.status == 400:
            return MustReplace("too_late" if "scheduled" in _said(answer) else "refused")
        raise self._refusal(answer, order)

    async def withdraw(self, external_id: str, order: Order, now: datetime) -> Withdrawn:
        """See `Launcher.withdraw`. Between `scheduled` and `joining` a bot is `staged`, and has to be waited for."""
        del now
        path = f"{BOTS}/{segment(external_id)}"
        answer = await self._http.ask("DELETE", path, order=order)
        if answer.is_success:
            return Withdrawn("cancelled")
        if answer.status == 400:
            answer = await self._http.ask("POST", f"{path}/leave", order=order, body={})
            if answer.is_success:
                return Withdrawn("left")
        if answer.status == 400:
            answer = await self._http.ask("GET", path, order=order)
            if answer.is_success and answer.text("state") in _LEAVING:
                return Withdrawn("was_gone")
        if answer.status == 404:
            return Withdrawn("was_gone")
        raise LaunchLater(self._http.told(answer, order), after=5.0, reason="not_yet")

    async def check(self) -> Check:
        """See `Launcher.check`: a list that has nothing in it."""
        return await self._http.checked(BOTS, {"deduplication_key": "punctual-check"})

    def _refusal(self, answer: Answer, order: Order) -> LaunchRefused | LaunchLater:
        detail, said = self._http.told(answer, order), _said(answer)
        if "credits" in said:
            return LaunchLater(detail, after=60.0, reason="no_credits")
        if "maximum number of concurrent" in said:
            return LaunchLater(detail, after=30.0, reason="limit_reached")
        return LaunchRefused(detail, reason="invalid_meeting_url" if answer.member("meeting_url") else "refused")


def _said(answer: Answer) -> str:
    error = answer.member("error")
    return error.lower() if isinstance(error, str) else ""
