"""An HTML body as text: what a reader would see, bounded, in one pass over it.

Bodies of Outlook are HTML of mail programs. They are shown as a description, so structure becomes line breaks and the
rest goes; links are found in the HTML itself, elsewhere. Occurrences of a series share their body, so results are kept.
"""

import html
import re
from functools import lru_cache

INPUT_LIMIT = 256 * 1024
TEXT_LIMIT = 32 * 1024
"""Characters; Google's descriptions have at most 8,192."""

_PART = re.compile(r"<!--|<[/!?a-zA-Z][^<>]*>|[^<]+|<")
_NAME = re.compile(r"</?([a-zA-Z][a-zA-Z0-9]*)")
_HIDDEN = frozenset({"style", "script", "head", "title", "template"})
_BREAKING = frozenset(
    {"br", "p", "div", "li", "tr", "table", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "blockquote", "pre"}
)
_SPACES = re.compile(r"[ \t\r\f\v\u00a0]+")
_LINES = re.compile(r" ?\n[ \n]*\n ?| ?\n ?")


@lru_cache(maxsize=256)
def to_text(source: str) -> str:
    """Plain text, at most TEXT_LIMIT characters; lines where blocks end, one empty line between paragraphs at most."""
    source = source[:INPUT_LIMIT]
    parts: list[str] = []
    hidden: str | None = None
    position = 0
    while (match := _PART.match(source, position)) is not None:
        part, position = match[0], match.end()
        if part == "<!--":
            end = source.find("-->", position)
            position = len(source) if end < 0 else end + 3
        elif part[0] != "<" or len(part) == 1:
            if hidden is None:
                parts.append(html.unescape(part).replace("\n", " "))
        else:
            hidden = _step(part, hidden, parts)
    text = _SPACES.sub(" ", "".join(parts))
    text = _LINES.sub(lambda lines: "\n\n" if lines[0].count("\n") > 1 else "\n", text)
    return text.strip()[:TEXT_LIMIT].rstrip()


def _step(tag: str, hidden: str | None, parts: list[str]) -> str | None:
    """What a tag does: hide what follows, show it again, break the line; which element hides from here on."""
    found = _NAME.match(tag)
    name = found[1].lower() if found else ""
    is_end = tag.startswith("</")
    if hidden is not None:
        return None if is_end and name == hidden else hidden
    if name in _HIDDEN and not is_end and not tag.endswith("/>"):
        return name
    if name in _BREAKING:
        parts.append("\n")
    return None
