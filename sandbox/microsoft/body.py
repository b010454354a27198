"""Descriptions as Outlook keeps them: a body that is HTML unless text is preferred, and a preview of 255 characters."""

import html
from html.parser import HTMLParser
from typing import Literal

from sandbox.model import Instance

PREVIEW = 255
_HEAD = '<html><head>\r\n<meta http-equiv="Content-Type" content="text/html; charset=utf-8">\r\n</head>\r\n<body>\r\n'


def content(shown: Instance, kind: Literal["html", "text"]) -> str:
    """The body's content; empty where nothing was written. A link that Outlook knows no field for stands in it."""
    link = shown.conference.url if shown.conference and not shown.conference.pending else None
    text = shown.description or ""
    if link is not None and shown.conference is not None and shown.conference.kind != "teams":
        text = f"{text}\n{link}" if text else link
    if not text:
        return ""
    if shown.description_type == "html":
        return text if kind == "html" else plain(text)
    if kind == "text":
        return text.replace("\r\n", "\n").replace("\n", "\r\n")
    lines = "<br>\r\n".join(html.escape(line, quote=False) for line in text.splitlines())
    return f'{_HEAD}<div class="PlainText">{lines}</div>\r\n</body>\r\n</html>\r\n'


def preview(shown: Instance) -> str:
    """The beginning, as text."""
    return content(shown, "text")[:PREVIEW]


def plain(markup: str) -> str:
    """The text of HTML, a line for each block."""
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    lines = (line.strip() for line in "".join(reader.parts).splitlines())
    return "\r\n".join(line for line in lines if line)


class _Reader(HTMLParser):
    _BREAKS = frozenset({"br", "div", "p", "li", "tr", "h1", "h2", "h3", "body"})

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """A block begins a line; style and script show nothing."""
        if tag in {"style", "script", "head"}:
            self._hidden += 1
        if tag in self._BREAKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """A block ends its line."""
        if tag in {"style", "script", "head"}:
            self._hidden = max(0, self._hidden - 1)
        if tag in self._BREAKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        """Text between tags; its own line ends mean nothing."""
        if not self._hidden:
            self.parts.append(" ".join(data.split("\n")).replace("\r", ""))
