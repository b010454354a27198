"""Recall (https://us-east-1.recall.ai and its other regions): `/api/v1/bot/`.

From its OpenAPI 1.11 and its reference of May and October 2026 ("Creating and scheduling bots", "API errors",
"Idempotency"): a bot whose `join_at` is more than 10 minutes ahead has a machine of its own, others come from a pool
that can be empty (507, again after 30 s). `Idempotency-Key` repeats the first answer, whatever it was, for an hour; a
request that overtakes its twin is a 409. Lists are filtered by `metadata__KEY=VALUE`. Updates are for bots that join in
more than 10 minutes, `DELETE` for those that were not dispatched (405, or 400 `cannot_delete_bot`, after that), then
`leave_call`. 402 is an empty balance. A GET with a body is blocked.

Assumed: a picture is a JPEG, shown while recording and before; `transcript.provider` is `meeting_captions` unless a
language is asked for, else `recallai_streaming` with its `language_code`; `video_mixed_mp4: null` records no video.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from app.bots.launchers.base import (
    BOT_ID,
    CAPABILITIES,
    Changed,
    Check,
    MustReplace,
    Order,
    Started,
    Withdrawn,
)
from app.bots.launchers.config import ALWAYS_RESERVED, MAX_LEAVE_SECONDS, Common, Support, merged
from app.bots.launchers.http import TIMEOUT_SECONDS, Answer, BackEnd, id_of, kept_revision, segment
from app.egress import Egress
from app.errors import LaunchLater, LaunchRefused, LaunchUnknown
from app.instants import instant

NOW_SECONDS = 30
"""Who joins sooner than that is started at once."""
BOTS = "/api/v1/bot/"

SUPPORT = Support(
    images=frozenset({"jpeg"}),
    leave=MappingProxyType(
        {
            "waiting_room": (30, MAX_LEAVE_SECONDS),
            "no_one_joined": (30, MAX_LEAVE_SECONDS),
            "everyone_left": (1, MAX_LEAVE_SECONDS),
            "silence": (1, MAX_LEAVE_SECONDS),
            "longest": (1, MAX_LEAVE_SECONDS),
        }
    ),
    reserved=ALWAYS_RESERVED,
)

RECORDING: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "speaker_view": {"video_mixed_mp4": {}, "video_mixed_layout": "speaker_view"},
        "gallery_view": {"video_mixed_mp4": {}, "video_mixed_layout": "gallery_view_v2"},
        "audio_only": {"video_mixed_mp4": None, "audio_mixed_mp3": {}},
        "none": {"video_mixed_mp4": None},
    }
)

_ENDED = frozenset({"call_ended", "done", "fatal", "media_expired", "recording_done", "analysis_done"})


def body(order: Order, settings: Common) -> dict[str, Any]:
    """The order as Recall's request, `join_at` included."""
    said: dict[str, Any] = {}
    recording: dict[str, Any] = dict(RECORDING[settings.recording]) if settings.recording else {}
    if isinstance(settings.transcription, Mapping):
        recording["transcript"] = settings.transcription
    elif settings.transcription:
        recording["transcript"] = {"provider": _provider(settings.language)}
    if recording:
        said["recording_config"] = recording
    if settings.bot_image:
        picture = {"kind": "jpeg", "b64_data": settings.bot_image}
        said["automatic_video_output"] = {"in_call_recording": picture, "in_call_not_recording": picture}
    if settings.entry_message:
        said["chat"] = {"on_bot_join": {"send_to": "everyone", "message": settings.entry_message}}
    if settings.leave:
        said["automatic_leave"] = _leave(settings.leave)
    said = merged(said, {k: v for k, v in settings.passthrough.items() if k not in SUPPORT.reserved})
    passed = said.get("metadata")
    return said | {
        "meeting_url": order.meeting_url,
        "bot_name": order.bot_name,
        "join_at": instant(order.join_at),
        "metadata": {**(passed if isinstance(passed, Mapping) else {}), **order.tags},
    }


def _provider(language: str | None) -> dict[str, Any]:
    if language is None:
        return {"meeting_captions": {}}
    return {"recallai_streaming": {"language_code": language.partition("-")[0]}}


def _leave(leave: Mapping[str, int]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name, seconds in leave.items():
        match name:
            case "waiting_room":
                said["waiting_room_timeout"] = seconds
            case "no_one_joined":
                said["noone_joined_timeout"] = seconds
            case "everyone_left":
                said["everyone_left_timeout"] = {"timeout": seconds}
            case "silence":
                said["silence_detection"] = {"timeout": seconds}
            case "longest":
                said["in_call_recording_timeout"] = seconds
    return said


class Recall:
    """A launcher that speaks to Recall."""

    def __init__(self, egress: Egress, base_url: str, api_key: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        header = "authorization", f"Token {api_key}"
        self._http = BackEnd(egress, base_url, header, api_key, SUPPORT, timeout_seconds)

    async def start(self, order: Order, now: datetime) -> Started:
        """See `Launcher.start`. The key names the attempt too: an answer that was a refusal would be repeated."""
        said = body(order, self._http.settings(order))
        if order.join_at <= now + timedelta(seconds=NOW_SECONDS):
            del said["join_at"]
        key = f"{order.once}.{order.revision}.{order.attempt}"
        answer = await self._http.ask(
            "POST", BOTS, order=order, body=said, headers={"idempotency-key": key}, makes=True
        )
        if answer.is_success:
            made = answer.external_id("id")
            if made is None:
                raise LaunchUnknown("the back end's answer could not be read", after=1.0)
            return Started(made, order.revision)
        if answer.status == 409:
            raise LaunchUnknown(self._http.told(answer, order), after=5.0)
        raise self._refusal(answer, order)

    async def find(self, order: Order, since: datetime) -> Started | None:
        """See `Launcher.find`. The list is asked by our metadata."""
        del since
        entries = await self._http.entries(BOTS, {f"metadata__{BOT_ID}": order.bot_id}, order, at="results")
        live = [found for entry in entries if (found := _ours(entry, order)) is not None]
        return max(live, key=lambda one: one.revision or 0, default=None)

    async def change(
        self, external_id: str, order: Order, before: Order | None, now: datetime
    ) -> Changed | MustReplace:
        """See `Launcher.change`. Near the start, before or after the change, Recall may let it pass without effect."""
        new, names, said = self._http.difference(body, order, before)
        if before is not None and not said:
            return Changed()
        if names - new.keys():
            return MustReplace("not_changeable")
        limit = now + timedelta(seconds=CAPABILITIES["recall"].change_until_seconds)
        if order.join_at <= limit or (before is not None and before.join_at <= limit):
            return MustReplace("too_late")
        told = {name: new[name] for name in said | {"metadata"}}
        answer = await self._http.ask("PATCH", f"{BOTS}{segment(external_id)}/", order=order, body=told)
        if answer.is_success:
            return Changed()
        if answer.status == 404:
            return MustReplace("gone")
        if answer.status == 409:
            raise LaunchLater(self._http.told(answer, order), after=5.0)
        if answer.status == 400:
            return MustReplace("too_late" if answer.member("code") == "update_bot_failed" else "refused")
        raise self._refusal(answer, order)

    async def withdraw(self, external_id: str, order: Order, now: datetime) -> Withdrawn:
        """See `Launcher.withdraw`."""
        del now
        path = f"{BOTS}{segment(external_id)}/"
        answer = await self._http.ask("DELETE", path, order=order)
        if answer.is_success:
            return Withdrawn("cancelled")
        if answer.status in {400, 405}:
            answer = await self._http.ask("POST", f"{path}leave_call/", order=order, body={})
            if answer.is_success:
                return Withdrawn("left")
        if answer.status == 400:
            answer = await self._http.ask("GET", path, order=order)
            if answer.is_success and _last_status(answer) in _ENDED:
                return Withdrawn("was_gone")
        if answer.status == 404:
            return Withdrawn("was_gone")
        raise LaunchLater(self._http.told(answer, order), after=5.0, reason="not_yet")

    async def check(self) -> Check:
        """See `Launcher.check`: a list that has nothing in it."""
        return await self._http.checked(BOTS, {f"metadata__{BOT_ID}": "punctual-check"})

    def _refusal(self, answer: Answer, order: Order) -> LaunchRefused | LaunchLater:
        detail = self._http.told(answer, order)
        if answer.status == 402:
            return LaunchLater(detail, after=60.0, reason="no_credits")
        return LaunchRefused(detail, reason="invalid_meeting_url" if answer.member("meeting_url") else "refused")


def _ours(found: Answer, order: Order) -> Started | None:
    """An entry of the list, if it is this bot, alive."""
    made = id_of(found, "id")
    if found.member("metadata", BOT_ID) != order.bot_id or _last_status(found) in _ENDED:
        return None
    return Started(made, kept_revision(found.member("metadata")))


def _last_status(found: Answer) -> str | None:
    changes = found.member("status_changes")
    code = changes[-1].get("code") if isinstance(changes, list) and changes and isinstance(changes[-1], dict) else None
    return code if isinstance(code, str) else None
