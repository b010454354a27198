"""Finds web addresses in a text that people and their tools write in every way there is.

HTML is not parsed: attributes and text are read alike, so the address of a "Join now" link is seen although its text is
not. An address counts where a known host stands right behind `://`, or bare right before a slash; all else is left at
once. Work is linear in the text, of which the first TEXT_LIMIT characters are read.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from app.meetings import unwrap
from app.meetings.platforms import URL_LIMIT, rows_of
from app.meetings.preferences import ExtraHosts

TEXT_LIMIT = 256 * 1024
_MOST = 200
"""Addresses looked at per text."""
_LINES_MOST = 16
"""Over which a link may have been broken."""

# Only whole entities: html.unescape alone would read the `&para` of `?a=1&param=2` as one.
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|amp|lt|gt|quot|apos|nbsp);")
_SCHEMES = ("https", "http", "zoommtg", "zoomus", "msteams")
_APP = "msteams:/l/"
_AUTHORITY = re.compile(r"://([A-Za-z0-9.-]{1,253})(?![A-Za-z0-9.:/-])")
_HOST_END = re.compile(r"(\.[A-Za-z]{2,9}\.?)(?::[0-9]{2,5})?/")
"""Where a host may end: with a last label of letters, before a slash."""
_HOST_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-"
_NOT_BEFORE_BARE = frozenset("/@\\%#~+&?$!^|")
"""Before these a host belongs to something else: a path, a user name, an escape."""
# Up to white space, a quote, a tag or a bracket that no URL holds, or a comma before the next address. Teams' classic
# links may carry raw JSON with quotes: `?context={"Tid":…}`. No alternative can match what another one can, so there is
# nothing to backtrack into.
_ENDS = (
    r"\s<>\"'`\\^|"
    r"\u200b-\u200f\u2018-\u201f\u2028-\u202e\u2039\u203a\u2060\ufeff\u00ab\u00bb"  # zero width, quotes
    r"\u3001\u3002\u3008-\u3011\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f"  # punctuation of Chinese and Japanese
)
_REST = re.compile(rf"""(?:[^{_ENDS}{{,;]+|[,;](?!https?://)|\{{"[^{{}}<>\s]{{1,600}}\}}|\{{(?!"))*""", re.IGNORECASE)
_CLOSING = frozenset(")]}")
_PAIRS = {")": "(", "]": "[", "}": "{"}
_MARKUP = frozenset("*_~")
_BREAK = re.compile(r"[ \t]{0,3}\r?\n[ \t>]{0,4}(?=[^\s<>])")
_BROKEN = re.compile(r"https?://(?:[a-z0-9.-]{0,60}teams\.[a-z.]{2,24}/l/|[a-z0-9-]{1,40}\.safelinks\.)", re.IGNORECASE)
"""Links so long that mail programs break them."""
_WHOLE = re.compile(r"(?:%7d|\}|reserved=0)\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """An address in a text, without the punctuation around it; `start` and `end` are places in `readable` text."""

    url: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Scan:
    """A text's addresses at known hosts in order of appearance, and the text that they were found in."""

    text: str
    found: tuple[Found, ...]


_NOTHING = Scan("", ())


def may_hold(text: str) -> bool:
    """Whether there can be an address at all. Most texts have no slash, and need not be scanned."""
    return "/" in text or "&#" in text


def scan(text: str, extra_hosts: ExtraHosts = ()) -> Scan:
    """Every address at a known host, with a scheme."""
    text = text[:TEXT_LIMIT]
    starts = _starts(text, extra_hosts)
    if "&" in text and (starts or "&#" in text):  # numeric entities may hide what addresses are found by
        text = _ENTITY.sub(_character, text)
        starts = _starts(text, extra_hosts)
    return Scan(text, tuple(_cut(text, start, rest) for start, rest in starts)) if starts else _NOTHING


def _character(entity: re.Match[str]) -> str:
    return html.unescape(entity.group())


def _starts(text: str, extra_hosts: ExtraHosts) -> list[tuple[int, int]]:
    """(start, start of the host); both are one where there is no scheme."""
    starts = list(islice(_before_paths(text, extra_hosts), _MOST))
    starts += islice(_without_paths(text, extra_hosts), _MOST)
    starts.sort()
    return starts[:_MOST]


@lru_cache(maxsize=4096)
def _is_known(host: str, extra_hosts: ExtraHosts) -> bool:
    host = host.lower().removesuffix(".")
    return bool(rows_of(host, extra_hosts)) or bool(unwrap.HOSTS.of(host))


def _before_paths(text: str, extra_hosts: ExtraHosts) -> Iterator[tuple[int, int]]:
    """Known hosts before a slash, with a scheme or without: `https://zoom.us/j/123`, `acme.zoom.us/my/room`."""
    for ending in _HOST_END.finditer(text):
        end = ending.end(1)
        window = text[max(0, end - 253) : end]
        host = window[len(window.rstrip(_HOST_CHARACTERS)) :].lstrip("-.")
        if _is_known(host, extra_hosts):
            start = end - len(host)
            before = text[start - 1 : start]
            if start >= 3 and text.startswith("://", start - 3):
                scheme = _scheme(text, start - 3)
                if scheme is not None:
                    yield start - 3 - len(scheme), start
            elif not before or not (before.isalnum() or before in _NOT_BEFORE_BARE):
                yield start, start


def _without_paths(text: str, extra_hosts: ExtraHosts) -> Iterator[tuple[int, int]]:
    """Known hosts behind a scheme that no slash follows: `https://eu.protection.sophos.com?d=…`; and apps' links."""
    for place in _AUTHORITY.finditer(text):
        if _is_known(place[1], extra_hosts):
            scheme = _scheme(text, place.start())
            if scheme is not None:
                yield place.start() - len(scheme), place.start() + 3
    at = text.find(_APP)
    while at >= 0:
        yield at, at + len(_APP)
        at = text.find(_APP, at + len(_APP))


def _scheme(text: str, end: int) -> str | None:
    before = text[max(0, end - 7) : end].lower()
    return next((name for name in _SCHEMES if before.endswith(name)), None)


def _cut(text: str, start: int, rest: int) -> Found:
    """The address that begins at `start`, without what belongs to the sentence around it."""
    end = _end(text, rest, start + URL_LIMIT + 1)
    before, after = text[start - 1 : start], text[end : end + 1]
    url = text[start:end]
    if _BROKEN.match(url) and not _WHOLE.search(url):
        url, end = _joined(text, start, end)
    if before not in {'"', "'"} or after != before:  # in quotes it is whole
        url = _stripped(url, before)
    url = url.replace("&amp;", "&")
    return Found(url if rest > start else f"https://{url}", start, end)


def _end(text: str, position: int, limit: int) -> int:
    match = _REST.match(text, position, limit)
    return match.end() if match else position


def _stripped(url: str, before: str) -> str:
    """Without brackets that were opened before it, marks that end a sentence, and the markup that it stands in."""
    if not _CLOSING.isdisjoint(url):
        url = url[: _balanced(url)]
    url = url.rstrip(".,;:!?([{")
    return url.rstrip("*_~").rstrip(".,;:!?([{") if before in _MARKUP else url


def _joined(text: str, start: int, end: int) -> tuple[str, int]:
    """A link that a mail program broke over lines; as it was, where its end does not come on the next lines."""
    url, position = text[start:end], end
    for _ in range(_LINES_MOST):
        gap = _BREAK.match(text, position)
        if gap is None:
            break
        position = _end(text, gap.end(), start + URL_LIMIT + 1)
        piece = text[gap.end() : position]
        if not piece or piece[:4].lower() == "http":
            break
        url += piece
        if _WHOLE.search(url):
            return url, position
    return text[start:end], end


def _balanced(url: str) -> int:
    """The index of the first closing bracket that was never opened, else the length."""
    depth = dict.fromkeys("([{", 0)
    for index, character in enumerate(url):
        if character in depth:
            depth[character] += 1
        elif character in _PAIRS:
            opening = _PAIRS[character]
            if depth[opening] == 0:
                return index
            depth[opening] -= 1
    return len(url)
