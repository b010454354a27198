"""The common settings: their bounds, what each back end makes of them, and who has the last word."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from app.bots.launchers import CAPABILITIES, SUPPORT, attendee, meeting_baas, problems_of, recall
from app.bots.launchers.base import Kind, Order
from app.bots.launchers.config import MAX_IMAGE_TEXT, NAMES, common, merged

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()
JPEG = base64.b64encode(b"\xff\xd8\xff" + bytes(20)).decode()
JOIN_AT = datetime(2026, 12, 1, 9, tzinfo=UTC)
BODIES = {"attendee": attendee.body, "recall": recall.body, "meeting_baas": meeting_baas.body}


def body(kind: Kind, config: dict[str, Any], **values: Any) -> dict[str, Any]:
    """What is sent; the config has to be one that this back end can carry out."""
    assert problems_of(config, kind) == []
    known: dict[str, Any] = {
        "bot_id": "bot_1",
        "revision": 3,
        "meeting_url": "https://meet.google.com/abc-defg-hij",
        "platform": "google_meet",
        "join_at": JOIN_AT,
        "bot_name": "Protokoll",
        "config": config,
    }
    order = Order(**(known | values))
    return BODIES[kind](order, common(order.config))


@pytest.mark.parametrize(
    ("kind", "config", "name", "said"),
    [
        ("attendee", {"recording": "speaker_view"}, "recording_settings", {"format": "mp4", "view": "speaker_view"}),
        ("attendee", {"recording": "gallery_view"}, "recording_settings", {"format": "mp4", "view": "gallery_view"}),
        ("attendee", {"recording": "audio_only"}, "recording_settings", {"format": "mp3"}),
        ("attendee", {"recording": "none"}, "recording_settings", {"format": "none"}),
        ("attendee", {"transcription": True}, "transcription_settings", {"meeting_closed_captions": {}}),
        (
            "attendee",
            {"transcription": True, "language": "de-DE"},
            "transcription_settings",
            {"meeting_closed_captions": {"google_meet_language": "de-DE"}},
        ),
        ("attendee", {"transcription": {"deepgram": {}}}, "transcription_settings", {"deepgram": {}}),
        ("attendee", {"bot_image": PNG}, "bot_image", {"type": "image/png", "data": PNG}),
        ("attendee", {"entry_message": "Hi"}, "bot_chat_message", {"to": "everyone", "message": "Hi"}),
        (
            "attendee",
            {"leave": {"waiting_room": 60, "everyone_left": 5, "silence": 9, "longest": 100}},
            "automatic_leave_settings",
            {
                "waiting_room_timeout_seconds": 60,
                "only_participant_in_meeting_timeout_seconds": 5,
                "silence_timeout_seconds": 9,
                "max_uptime_seconds": 100,
            },
        ),
        (
            "recall",
            {"recording": "speaker_view"},
            "recording_config",
            {"video_mixed_mp4": {}, "video_mixed_layout": "speaker_view"},
        ),
        (
            "recall",
            {"recording": "gallery_view"},
            "recording_config",
            {"video_mixed_mp4": {}, "video_mixed_layout": "gallery_view_v2"},
        ),
        ("recall", {"recording": "audio_only"}, "recording_config", {"video_mixed_mp4": None, "audio_mixed_mp3": {}}),
        ("recall", {"recording": "none"}, "recording_config", {"video_mixed_mp4": None}),
        ("recall", {"transcription": True}, "recording_config", {"transcript": {"provider": {"meeting_captions": {}}}}),
        (
            "recall",
            {"transcription": True, "language": "de-DE", "recording": "none"},
            "recording_config",
            {"video_mixed_mp4": None, "transcript": {"provider": {"recallai_streaming": {"language_code": "de"}}}},
        ),
        (
            "recall",
            {"transcription": {"provider": {"gladia": {}}}},
            "recording_config",
            {"transcript": {"provider": {"gladia": {}}}},
        ),
        (
            "recall",
            {"bot_image": JPEG},
            "automatic_video_output",
            {
                "in_call_recording": {"kind": "jpeg", "b64_data": JPEG},
                "in_call_not_recording": {"kind": "jpeg", "b64_data": JPEG},
            },
        ),
        (
            "recall",
            {"entry_message": "Hi \U0001f44b"},
            "chat",
            {"on_bot_join": {"send_to": "everyone", "message": "Hi \U0001f44b"}},
        ),
        (
            "recall",
            {"leave": {"waiting_room": 60, "no_one_joined": 61, "everyone_left": 5, "silence": 9, "longest": 100}},
            "automatic_leave",
            {
                "waiting_room_timeout": 60,
                "noone_joined_timeout": 61,
                "everyone_left_timeout": {"timeout": 5},
                "silence_detection": {"timeout": 9},
                "in_call_recording_timeout": 100,
            },
        ),
        ("meeting_baas", {"recording": "speaker_view"}, "recording_mode", "speaker_view"),
        ("meeting_baas", {"recording": "gallery_view"}, "recording_mode", "gallery_view"),
        ("meeting_baas", {"recording": "audio_only"}, "recording_mode", "audio_only"),
        ("meeting_baas", {"transcription": True}, "transcription_enabled", True),
        ("meeting_baas", {"transcription": False}, "transcription_enabled", False),
        ("meeting_baas", {"transcription": {"provider": "gladia"}}, "transcription_config", {"provider": "gladia"}),
        (
            "meeting_baas",
            {"transcription": True, "language": "de"},
            "transcription_config",
            {"provider": "gladia", "custom_params": {"language_config": {"languages": ["de"]}}},
        ),
        ("meeting_baas", {"bot_image": "https://example.com/b.png"}, "bot_image", "https://example.com/b.png"),
        ("meeting_baas", {"entry_message": "Hi"}, "entry_message", "Hi"),
        (
            "meeting_baas",
            {"leave": {"waiting_room": 120, "no_one_joined": 1_800, "silence": 300, "longest": 7_200}},
            "timeout_config",
            {
                "waiting_room_timeout": 120,
                "no_one_joined_timeout": 1_800,
                "silence_timeout": 300,
                "max_recording_duration": 7_200,
            },
        ),
    ],
)
def test_each_setting_in_each_back_ends_words(kind: Kind, config: dict[str, Any], name: str, said: object) -> None:
    assert body(kind, config)[name] == said


@pytest.mark.parametrize("kind", BODIES)
def test_what_is_not_asked_for_is_left_to_the_back_end(kind: Kind) -> None:
    said = body(kind, {})
    always = {"meeting_url", "join_at", "bot_name"}
    own = {
        "attendee": {"deduplication_key", "metadata"},
        "recall": {"metadata"},
        "meeting_baas": {"extra", "allow_multiple_bots"},
    }
    assert set(said) == always | own[kind]
    assert said["join_at"] == "2026-12-01T09:00:00.000000Z"


def test_captions_at_zoom_need_another_sdk_and_name_no_language() -> None:
    said = body("attendee", {"transcription": True, "language": "de-DE"}, platform="zoom")
    assert said["zoom_settings"] == {"sdk": "web"}
    assert said["transcription_settings"] == {"meeting_closed_captions": {}}
    teams = body("attendee", {"transcription": True, "language": "de-DE"}, platform="microsoft_teams")
    assert teams["transcription_settings"] == {"meeting_closed_captions": {"teams_language": "de-de"}}


def test_a_replacement_may_come_to_where_its_predecessor_was() -> None:
    assert body("meeting_baas", {})["allow_multiple_bots"] is False
    assert body("meeting_baas", {}, is_replacement=True)["allow_multiple_bots"] is True


@pytest.mark.parametrize(
    ("kind", "config", "name", "said"),
    [
        (
            "recall",
            {"recording": "speaker_view", "passthrough": {"recording_config": {"retention": {"type": "timed"}}}},
            "recording_config",
            {"video_mixed_mp4": {}, "video_mixed_layout": "speaker_view", "retention": {"type": "timed"}},
        ),
        (
            "recall",
            {"recording": "speaker_view", "passthrough": {"recording_config": {"video_mixed_layout": "audio_only"}}},
            "recording_config",
            {"video_mixed_mp4": {}, "video_mixed_layout": "audio_only"},
        ),
        (
            "attendee",
            {"leave": {"silence": 5}, "passthrough": {"automatic_leave_settings": None}},
            "automatic_leave_settings",
            None,
        ),
        ("meeting_baas", {"passthrough": {"allow_multiple_bots": True}}, "allow_multiple_bots", True),
        ("meeting_baas", {"passthrough": {"streaming_enabled": True}}, "streaming_enabled", True),
    ],
)
def test_what_is_passed_through_has_the_last_word(kind: Kind, config: dict[str, Any], name: str, said: object) -> None:
    assert body(kind, config)[name] == said


@pytest.mark.parametrize("kind", BODIES)
def test_nothing_passed_through_changes_where_when_and_who(kind: Kind) -> None:
    """Neither in the API nor, were it stored all the same, at the back end."""
    sly = {
        "meeting_url": "https://evil.example/",
        "join_at": "2030-01-01T00:00:00Z",
        "bot_name": "Spy",
        "metadata": {"punctual_bot_id": "bot_2", "mine": "1"},
        "extra": {"punctual_bot_id": "bot_2", "mine": "1"},
    }
    pointers = {problem.pointer for problem in problems_of({"passthrough": sly}, kind)}
    assert pointers == {
        "/config/passthrough/meeting_url",
        "/config/passthrough/join_at",
        "/config/passthrough/bot_name",
    }
    plain = body(kind, {})
    order = Order("bot_1", 3, plain["meeting_url"], "google_meet", JOIN_AT, "Protokoll", {"passthrough": sly})
    said = BODIES[kind](order, common(order.config))
    assert {name: said[name] for name in ("meeting_url", "join_at", "bot_name")} == {
        name: plain[name] for name in ("meeting_url", "join_at", "bot_name")
    }
    kept = said["extra" if kind == "meeting_baas" else "metadata"]
    assert kept == {"mine": "1", "punctual_bot_id": "bot_1", "punctual_revision": "3"}


@pytest.mark.parametrize(
    ("config", "pointer", "code"),
    [
        ([], "/config", "wrong_type"),
        ({"recordin": "none"}, "/config/recordin", "unknown_field"),
        ({"a/b~": 1}, "/config/a~1b~0", "unknown_field"),
        ({"recording": "best"}, "/config/recording", "not_allowed"),
        ({"recording": ["none"]}, "/config/recording", "not_allowed"),
        ({"transcription": "yes"}, "/config/transcription", "wrong_type"),
        ({"transcription": {"a": "x" * 17_000}}, "/config/transcription", "too_long"),
        ({"bot_image": 7}, "/config/bot_image", "wrong_type"),
        ({"bot_image": "http://example.com/a.png"}, "/config/bot_image", "invalid_image"),
        ({"bot_image": "https://example.com/a b.png"}, "/config/bot_image", "invalid_image"),
        ({"bot_image": "bild"}, "/config/bot_image", "invalid_image"),
        ({"bot_image": "ä"}, "/config/bot_image", "invalid_image"),
        ({"bot_image": "A" * (MAX_IMAGE_TEXT + 1)}, "/config/bot_image", "too_long"),
        ({"entry_message": " "}, "/config/entry_message", "blank"),
        ({"entry_message": 7}, "/config/entry_message", "wrong_type"),
        ({"entry_message": "x" * 501}, "/config/entry_message", "too_long"),
        ({"language": "de"}, "/config/language", "needs_transcription"),
        ({"language": "German", "transcription": True}, "/config/language", "invalid_language"),
        ({"leave": 5}, "/config/leave", "wrong_type"),
        ({"leave": {"soon": 5}}, "/config/leave/soon", "unknown_field"),
        ({"leave": {"silence": True}}, "/config/leave/silence", "wrong_type"),
        ({"leave": {"silence": 0}}, "/config/leave/silence", "out_of_range"),
        ({"leave": {"silence": 86_401}}, "/config/leave/silence", "out_of_range"),
        ({"passthrough": []}, "/config/passthrough", "wrong_type"),
        ({"passthrough": {"a": "x" * 17_000}}, "/config/passthrough", "too_long"),
        ({"passthrough": {"join_at": 1}}, "/config/passthrough/join_at", "reserved"),
        ({"entry_message": "\ud800"}, "/config", "invalid_text"),
        ({"entry_message": "a\0"}, "/config", "invalid_text"),
        ({"passthrough": {"a": ["\\\0"]}}, "/config", "invalid_text"),
        ({"passthrough": {"n": 10**400}}, "/config", "out_of_range"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(config: object, pointer: str, code: str) -> None:
    assert (pointer, code) in [(problem.pointer, problem.code) for problem in problems_of(config, "webhook")]


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("attendee", {"transcription": False}),
        ("attendee", {"bot_image": "https://example.com/a.png"}),
        ("attendee", {"bot_image": JPEG}),
        ("attendee", {"entry_message": "\U0001f44b"}),
        ("attendee", {"leave": {"no_one_joined": 60}}),
        ("recall", {"bot_image": PNG}),
        ("recall", {"leave": {"no_one_joined": 29}}),
        ("meeting_baas", {"recording": "none"}),
        ("meeting_baas", {"bot_image": PNG}),
        ("meeting_baas", {"leave": {"everyone_left": 60}}),
        ("meeting_baas", {"leave": {"silence": 60}}),
    ],
)
def test_what_a_back_end_cannot_do_is_refused_for_it_alone(kind: Kind, config: dict[str, Any]) -> None:
    assert [problem.code for problem in problems_of(config, kind)] == ["unsupported_setting"]
    assert problems_of(config, "webhook") == []


def test_nothing_said_is_nothing_wrong() -> None:
    assert problems_of({"entry_message": "not a NUL: \\u0000"}, "webhook") == []
    for kind in CAPABILITIES:
        assert problems_of({}, kind) == []
        assert problems_of(dict.fromkeys(NAMES), kind) == []
    assert set(SUPPORT) == set(CAPABILITIES)


def test_merging_changes_neither_side() -> None:
    base: dict[str, Any] = {"a": {"b": 1, "c": [1]}, "d": 1}
    over: dict[str, Any] = {"a": {"c": [2]}, "d": {"e": 1}}
    assert merged(base, over) == {"a": {"b": 1, "c": [2]}, "d": {"e": 1}}
    assert base == {"a": {"b": 1, "c": [1]}, "d": 1}
    assert over == {"a": {"c": [2]}, "d": {"e": 1}}
