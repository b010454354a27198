"""Finds web addresses in a location or a description, which people and their tools write in every way there is.

HTML is not parsed: attributes and text are read alike, so the address of a "Join now" link is seen although its text is
not. A text that names no known host is left at once; work is linear in the text, and only the first TEXT_LIMIT
characters are read.
"""

import html
import re
from collections.abc import Iterator
from itertools import islice

from app.meetings.platforms import HOSTS, URL_LIMIT

TEXT_LIMIT = 64 * 1024
_MOST = 200
"""Addresses looked at per text."""

# Only whole entities: html.unescape alone would read the `&para` of `?a=1&param=2` as one.
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|amp|lt|gt|quot|apos|nbsp);")
_SCHEME = re.compile(r"[hH][tT][tT][pP][sS]?://")
# Up to white space, a quote or a tag, or a comma before the next address. Teams' classic links may carry raw JSON with
# quotes: `?context={"Tid":…}`. No alternative can match what another one can, so there is nothing to backtrack into.
_REST = re.compile(
    r"""(?:[^\s<>"'`\\^|{,;]+|[,;](?![hH][tT][tT][pP][sS]?://)|\{"[^{}<>\s]{1,600}\}|\{(?!"))*""",
)
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-")
_BEFORE_BARE = frozenset("([{:=,;*_>\"'")
_CLOSING = frozenset(")]}")
_PAIRS = {")": "(", "]": "[", "}": "{"}


def addresses(text: str) -> list[str]:
    """Every address in order of appearance, with a scheme, without the punctuation around it."""
    text = text[:TEXT_LIMIT]
    lowered = text.lower()
    # A wrapped address holds its target's host in plain letters as well.
    for host in HOSTS:  # a plain loop: `any` with a generator takes twice as long, and most texts end here
        if host in lowered:
            break
    else:
        return []
    if "&" in text:
        text = _ENTITY.sub(lambda entity: html.unescape(entity.group()), text)
        lowered = text.lower()
    if len(lowered) != len(text):  # a few letters change their length; then only small hosts are found bare
        lowered = text
    starts = [(match.start(), match.end()) for match in islice(_SCHEME.finditer(text), _MOST)]
    starts += ((start, start) for start in islice(_bare(lowered), _MOST))
    starts.sort()
    return [
        _cut(text, start, rest) if rest > start else f"https://{_cut(text, start, rest)}"
        for start, rest in starts[:_MOST]
    ]


def _bare(lowered: str) -> Iterator[int]:
    """Where known hosts begin that have no scheme before them: `zoom.us/j/123`, `acme.zoom.us/my/room`."""
    for host in HOSTS:
        at = lowered.find(f"{host}/")
        while at >= 0:
            start = at
            while start > 0 and at - start < 253 and lowered[start - 1] in _HOST_CHARACTERS:
                start -= 1
            # Not in `https://host`, `user@host` or another address's path.
            before = lowered[start - 1 : start]
            if not before or before.isspace() or before in _BEFORE_BARE:
                yield start
            at = lowered.find(f"{host}/", at + len(host))


def _cut(text: str, start: int, rest: int) -> str:
    """The address that begins at `start`, without what belongs to the sentence around it."""
    match = _REST.match(text, rest, start + URL_LIMIT + 1)
    url = text[start : match.end() if match else rest]
    if not _CLOSING.isdisjoint(url):
        url = url[: _balanced(url)]
    return url.replace("&amp;", "&").rstrip(".,;:!?*_~([{")


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
