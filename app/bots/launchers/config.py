"""What a bot's `config` may say: our common settings, their bounds, and what each back end can do of them. Pure.

A setting that a back end cannot carry out is refused, never left out: who asks for no recording must not be recorded.
`passthrough` goes to the back end as it is, merged last into what we say ourselves, member by member.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import orjson

from app.errors import FieldProblem

Recording = Literal["speaker_view", "gallery_view", "audio_only", "none"]
Image = Literal["url", "png", "jpeg"]
Leave = Literal["waiting_room", "no_one_joined", "everyone_left", "silence", "longest"]
"""Seconds in a waiting room; alone from the beginning; alone since the others left; without a sound; altogether."""

RECORDINGS: tuple[str, ...] = get_args(Recording)
LEAVES: tuple[str, ...] = get_args(Leave)
NAMES = ("recording", "transcription", "bot_image", "entry_message", "language", "leave", "passthrough")

MAX_CONFIG_BYTES = 700_000
MAX_IMAGE_TEXT = 524_288
"""Characters of a base64 image; a back end may repeat it twice in its answer."""
MAX_IMAGE_URL = 2_048
MAX_MESSAGE = 500
MAX_LEAVE_SECONDS = 86_400
MAX_OBJECT_BYTES = 16_384
"""Of `passthrough` and of `transcription`, each, as JSON."""

ALWAYS_RESERVED = frozenset({"meeting_url", "join_at", "bot_name"})
"""What `passthrough` can never say: the event says it, or the bot."""

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""As orjson writes it: the last of an odd number of backslashes begins an escape."""
_MAGIC: tuple[tuple[bytes, Image], ...] = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"))

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Support:
    """What one kind of back end can do of the common settings."""

    recording: frozenset[str] = frozenset(RECORDINGS)
    images: frozenset[Image] = frozenset(get_args(Image))
    can_omit_transcription: bool = True
    leave: Mapping[str, tuple[int, int]] = field(default_factory=lambda: dict.fromkeys(LEAVES, (1, MAX_LEAVE_SECONDS)))
    """Which timeouts there are, and between how many seconds each may be."""
    wide_characters: bool = True
    """Whether an entry message may hold characters beyond the Basic Multilingual Plane, such as emoji."""
    reserved: frozenset[str] = ALWAYS_RESERVED
    """What `passthrough` may not name."""


EVERYTHING = Support()
"""The `webhook` kind: the customer's own back end reads `config` as it is."""


@dataclass(frozen=True, slots=True)
class Common:
    """The common settings of a config in which nothing is wrong; None where nothing is said."""

    recording: str | None = None
    transcription: bool | Mapping[str, Any] | None = None
    bot_image: str | None = None
    entry_message: str | None = None
    language: str | None = None
    leave: Mapping[str, int] = field(default_factory=dict)
    passthrough: Mapping[str, Any] = field(default_factory=dict)

    @property
    def image_kind(self) -> Image | None:
        """What `bot_image` is."""
        return image_kind(self.bot_image) if self.bot_image else None


def common(config: Mapping[str, Any]) -> Common:
    """The settings of a config that was found right."""
    return Common(**{name: config[name] for name in NAMES if config.get(name) is not None})


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> JsonObject:
    """`over` merged into `base`: objects member by member, all else replaced. Neither is changed."""
    result = dict(base)
    for name, value in over.items():
        below = result.get(name)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[name] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def image_kind(text: str) -> Image | None:
    """Whether this is an https URL, or base64 of a PNG or JPEG; None for anything else."""
    if text.startswith("https://"):
        return "url" if len(text) <= MAX_IMAGE_URL and not re.search(r"[\x00-\x20\x7f]", text) else None
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: text that is not ASCII
        return None
    return next((kind for magic, kind in _MAGIC if content.startswith(magic)), None)


def config_problems(config: object, support: Support = EVERYTHING, *, pointer: str = "/config") -> list[FieldProblem]:
    """All that is wrong with a config for a back end of which `support` tells; nothing where it may be stored."""
    if not isinstance(config, Mapping):
        return [FieldProblem(pointer, "wrong_type", "must be an object")]
    try:
        text = orjson.dumps(config)
    except (TypeError, ValueError) as exc:
        code = "invalid_text" if "UTF-8" in str(exc) else "out_of_range"
        return [
            FieldProblem(pointer, code, "holds half a surrogate pair, or a number or a depth that is no plain JSON")
        ]
    if _NUL.search(text):
        return [FieldProblem(pointer, "invalid_text", "holds a NUL character")]
    if len(text) > MAX_CONFIG_BYTES:
        return [FieldProblem(pointer, "too_long", f"at most {MAX_CONFIG_BYTES} bytes as JSON")]
    problems = [
        FieldProblem(f"{pointer}/{_escaped(str(name))}", "unknown_field", "there is no such setting")
        for name in config
        if name not in NAMES
    ]
    for name, judge in _JUDGES.items():
        value = config.get(name)
        if value is not None:
            found = judge(value, support, config)
            problems += [FieldProblem(f"{pointer}/{name}{at}", code, message) for at, code, message in found]
    return problems


Found = Iterator[tuple[str, str, str]]
"""Where below the setting, code, message."""


def _recording(value: object, support: Support, _: Mapping[str, Any]) -> Found:
    if value not in RECORDINGS:
        yield "", "not_allowed", f"must be one of {', '.join(RECORDINGS)}"
    elif value not in support.recording:
        yield "", "unsupported_setting", f"this back end has no {value}"


def _transcription(value: object, support: Support, _: Mapping[str, Any]) -> Found:
    if isinstance(value, Mapping):
        yield from _object(value)
    elif not isinstance(value, bool):
        yield "", "wrong_type", "must be true, false, or the back end's own settings"
    elif value is False and not support.can_omit_transcription:
        yield "", "unsupported_setting", "this back end always transcribes"


def _bot_image(value: object, support: Support, _: Mapping[str, Any]) -> Found:
    if not isinstance(value, str):
        yield "", "wrong_type", "must be text"
    elif len(value) > MAX_IMAGE_TEXT:
        yield "", "too_long", f"at most {MAX_IMAGE_TEXT} characters"
    elif (kind := image_kind(value)) is None:
        yield "", "invalid_image", "must be an https URL, or base64 of a PNG or JPEG"
    elif kind not in support.images:
        names = {"url": "an https URL", "png": "base64 of a PNG", "jpeg": "base64 of a JPEG"}
        takes = " or ".join(names[one] for one in sorted(support.images))
        yield "", "unsupported_setting", f"this back end takes {takes}"


def _entry_message(value: object, support: Support, _: Mapping[str, Any]) -> Found:
    if not isinstance(value, str):
        yield "", "wrong_type", "must be text"
    elif not value.strip():
        yield "", "blank", "must not be blank"
    elif len(value) > MAX_MESSAGE:
        yield "", "too_long", f"at most {MAX_MESSAGE} characters"
    elif not support.wide_characters and any(ord(c) > 0xFFFF for c in value):
        yield "", "unsupported_setting", "this back end takes no emoji"


def _language(value: object, _: Support, config: Mapping[str, Any]) -> Found:
    if not isinstance(value, str) or not _LANGUAGE.fullmatch(value):
        yield "", "invalid_language", "must be a language tag such as `de` or `en-US`"
    elif config.get("transcription") is not True:
        yield "", "needs_transcription", "is of use with `transcription: true` alone"


def _leave(value: object, support: Support, _: Mapping[str, Any]) -> Found:
    if not isinstance(value, Mapping):
        yield "", "wrong_type", "must be an object"
        return
    for name, seconds in value.items():
        at = f"/{_escaped(str(name))}"
        if name not in LEAVES:
            yield at, "unknown_field", f"must be one of {', '.join(LEAVES)}"
        elif not isinstance(seconds, int) or isinstance(seconds, bool):
            yield at, "wrong_type", "must be a whole number of seconds"
        elif not 1 <= seconds <= MAX_LEAVE_SECONDS:
            yield at, "out_of_range", f"must be between 1 and {MAX_LEAVE_SECONDS}"
        elif name not in support.leave:
            yield at, "unsupported_setting", "this back end has no such timeout"
        elif not support.leave[name][0] <= seconds <= support.leave[name][1]:
            least, most = support.leave[name]
            yield at, "unsupported_setting", f"this back end takes {least} to {most} seconds"


def _passthrough(value: object, support: Support, _: Mapping[str, Any]) -> Found:
    if not isinstance(value, Mapping):
        yield "", "wrong_type", "must be an object"
        return
    yield from _object(value)
    for name in sorted(support.reserved & set(value)):
        yield f"/{name}", "reserved", "cannot be passed through"


def _object(value: Mapping[str, Any]) -> Found:
    if len(orjson.dumps(value)) > MAX_OBJECT_BYTES:
        yield "", "too_long", f"at most {MAX_OBJECT_BYTES} bytes as JSON"


def _escaped(name: str) -> str:
    """One member of a JSON pointer (RFC 6901), not longer than a message should be."""
    return name[:80].replace("~", "~0").replace("/", "~1")


_JUDGES = {
    "recording": _recording,
    "transcription": _transcription,
    "bot_image": _bot_image,
    "entry_message": _entry_message,
    "language": _language,
    "leave": _leave,
    "passthrough": _passthrough,
}
