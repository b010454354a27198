"""What people read while they connect a calendar. Every text that came from outside is escaped, in one place.

One style sheet, named by its digest in the pages' policy; no script, no picture, no font. Readable from 320 px on,
in light and dark, with the keyboard alone, and by a screen reader: one main landmark, headings in order.
"""

import base64
import hashlib
from html import escape
from typing import Final, NamedTuple

from app.connect.links import Link, Problem
from app.providers.base import Platform

_STYLE: Final = """
:root {
  color-scheme: light dark;
  --ground: #f4f5f7; --sheet: #fff; --ink: #1a1d23; --soft: #4d5562; --line: #d5d9e0;
  --accent: #1f4fbf; --on-accent: #fff; --accent-over: #173e99;
  --yes: #1b6e3c; --note: #fff6dd; --note-line: #c28a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14161a; --sheet: #1d2026; --ink: #eceef2; --soft: #aab2bf; --line: #363b45;
    --accent: #8fb1ff; --on-accent: #0d1a38; --accent-over: #b5ccff;
    --yes: #7fd6a0; --note: #2f2812; --note-line: #d9a520;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 1rem; min-height: 100vh; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: anywhere;
}
main {
  max-width: 35rem; margin: 0 auto; padding: 1.5rem; background: var(--sheet);
  border: 1px solid var(--line); border-radius: .75rem;
}
@media (min-width: 40rem) { body { padding: 3rem 1rem; } main { padding: 2.5rem; } }
.brow { margin: 0 0 .75rem; color: var(--soft); font-size: .875rem; }
h1 { margin: 0 0 .75rem; font-size: 1.625rem; line-height: 1.25; font-weight: 650; text-wrap: balance; }
h2 { margin: 1.75rem 0 .5rem; font-size: 1rem; font-weight: 650; }
p { margin: 0 0 .75rem; }
ul { margin: 0; padding: 0; list-style: none; }
li { position: relative; padding: .25rem 0 .25rem 1.75rem; }
li svg { position: absolute; left: 0; top: .55rem; width: 1.05rem; height: 1.05rem; fill: none; stroke-width: 2; }
.will svg { stroke: var(--yes); }
.wont svg { stroke: var(--soft); }
.note { margin: 0 0 1.25rem; padding: .75rem 1rem; background: var(--note); border-left: .25rem solid var(--note-line);
  border-radius: .25rem; }
.note p { margin: 0; }
.hint { margin: 1.5rem 0 0; padding: .75rem 1rem; border: 1px solid var(--line); border-radius: .5rem; }
.hint p { margin: 0; }
form { margin: 1.75rem 0 0; }
button {
  width: 100%; min-height: 3rem; padding: .625rem 1.25rem; border: 0; border-radius: .5rem; cursor: pointer;
  background: var(--accent); color: var(--on-accent); font: inherit; font-weight: 600;
}
button:hover { background: var(--accent-over); }
a { color: var(--accent); text-underline-offset: .15em; }
a:hover { color: var(--accent-over); }
.back { display: block; margin: .5rem 0 0; padding: .75rem; text-align: center; }
:focus-visible { outline: .1875rem solid var(--accent); outline-offset: .1875rem; border-radius: .25rem; }
.small { margin: 1.5rem 0 0; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .875rem; }
.small p { margin: 0 0 .5rem; }
@media (forced-colors: active) { button { border: 2px solid ButtonText; } main { border-color: CanvasText; } }
"""
STYLE_HASH: Final = f"sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}"
"""The one style sheet in the pages' Content-Security-Policy."""

_DOCUMENT: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
_TICK: Final = '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M2.5 8.5l3.5 3.5 7.5-8"/></svg>'
_CROSS: Final = '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M3.5 3.5l9 9M12.5 3.5l-9 9"/></svg>'


class _Words(NamedTuple):
    """What a provider is called, and where its users take access back."""

    company: str
    calendar: str
    end: str
    advice: str


_WORDS: Final[dict[Platform, _Words]] = {
    "google": _Words(
        "Google",
        "Google calendar",
        "myaccount.google.com/<wbr>connections",
        "Google will ask what may be read, with a box for your calendars. <strong>Please tick it</strong>: without it,"
        " nothing can be connected.",
    ),
    "microsoft": _Words(
        "Microsoft",
        "Outlook calendar",
        "account.live.com/<wbr>consent/<wbr>Manage, or myapps.microsoft.com for a work or school account",
        "With a work or school account your administrator may have to agree first. Microsoft tells you if so.",
    ),
}


def asking(link: Link, *, host: str) -> str:
    """The page of an open link. `host` is where this server answers."""
    words, reader = _WORDS[link.platform], _name(link.reader)
    verb = "go on reading" if link.calendar_id is not None else "read"
    body = [
        f'<p class="brow">{"Reconnect" if link.calendar_id is not None else "Connect"} your {words.calendar}</p>',
        f"<h1>{reader} would like to {verb} your {words.calendar}</h1>",
        _notice(link, words),
        f"<p>You will sign in at {words.company}, where you can still say no. Your password stays there.</p>",
        _account(link),
        '<h2>What will be read</h2><ul class="will">',
        _item(_TICK, "Your events from yesterday to a month ahead: title, time, place, description, guests and links"),
        _item(_TICK, "The calendar's name and time zone"),
        _item(_TICK, "Your e-mail address, to tell whose calendar it is"),
        '</ul><h2>What will not happen</h2><ul class="wont">',
        _item(_CROSS, "No event is changed, added or deleted"),
        _item(_CROSS, "No e-mail, no contacts and no files are read"),
        "</ul>",
        f'<div class="hint"><p>{words.advice}</p></div>',
        f'<form method="post"><button>Continue to {words.company}</button></form>',
        f'<a class="back" href="{escape(link.answer("access_denied"))}">No, back to {_host(link)}</a>',
        _small(link, words, host),
    ]
    return _document(f"Connect your {words.calendar}", "\n".join(part for part in body if part))


def _small(link: Link, words: _Words, host: str) -> str:
    which = "one of your calendars" if link.platform_uuid is not None else "your main calendar"
    reader, back = _name(link.reader), _host(link)
    first = (
        f"{reader} reads {which} through this server, {escape(host)}. The permission that {words.company} grants is for"
        " all your calendars."
    )
    texts = (
        first,
        f"You can end the access at any time: {words.end}.",
        f"From {words.company} you come back to {back}.",
    )
    return f'<div class="small">{"".join(f"<p>{text}</p>" for text in texts)}</div>'


def _account(link: Link) -> str:
    if link.calendar_id is None or link.calendar_email is None:
        return ""
    return f"<p>Please choose the account <strong>{_name(link.calendar_email)}</strong>: this is its calendar.</p>"


def _notice(link: Link, words: _Words) -> str:
    """What went wrong the last time."""
    texts: dict[Problem, str] = {
        "access_denied": (
            f"Last time, {words.company} was told no, or an administrator has to agree first. You can try again."
        ),
        "scope_missing": (
            f"Last time, the box for your calendars was not ticked on {words.company}'s page, so there was nothing"
            " to read. Please try again and tick it."
        ),
        "wrong_account": "Last time, another account was chosen than the one that this calendar belongs to. Nothing"
        " was changed. Please try again with the right one.",
        "provider_error": f"Last time, something went wrong at {words.company}. Please try again.",
    }
    text = texts.get(link.last_error) if link.last_error is not None else None
    return "" if text is None else f'<div class="note" role="status"><p>{text}</p></div>'


def unknown() -> str:
    """No such link."""
    return _end(
        "This link does not exist",
        "It may have been cut short when it was copied. Please open it again where you got it, or ask for another.",
    )


def used(link: Link) -> str:
    """A calendar has been connected with it."""
    text = "A calendar was connected with it. There is nothing left to do; for another calendar, ask for a new link."
    return _end("This link has been used", text, link, "already_used")


def expired(link: Link) -> str:
    """Its time is over."""
    text = "Links work for a limited time. Please ask for a new one where you got this one."
    return _end("This link has expired", text, link, "expired")


def withdrawn() -> str:
    """What it was made for is gone."""
    text = "The application that gave it to you has changed since. Please ask there for a new one."
    return _end("This link is no longer valid", text)


def stranger() -> str:
    """A browser came back from a provider that was not sent there, or not by us."""
    return _end(
        "Please open your link once more",
        "You came back from your calendar's provider in another browser than you went there with, or your browser keeps"
        " no cookies. Nothing was connected this time. Open the link again, and stay in one browser to the end.",
    )


def failed() -> str:
    """Our own fault, or the database's."""
    return _end("Something went wrong on our side", "Please open your link once more in a minute. It works still.")


def foreign_form() -> str:
    """The form was not ours."""
    return _end(
        "That did not come from this page",
        "Another site tried to begin this for you, so it was stopped. To connect a calendar, open your link itself.",
    )


def _end(title: str, text: str, link: Link | None = None, problem: Problem | None = None) -> str:
    body = f"<h1>{title}</h1><p>{text}</p>"
    if link is not None:
        body += f'<a class="back" href="{escape(link.answer(problem))}">Back to {_host(link)}</a>'
    return _document(title, body)


def _name(text: str) -> str:
    """Somebody else's text within ours: whichever way it is written, it does not turn what follows it."""
    return f"<bdi>{escape(text)}</bdi>"


def _host(link: Link) -> str:
    return escape(link.return_url.host)


def _item(mark: str, text: str) -> str:
    return f"<li>{mark}{text}</li>"


def _document(title: str, body: str) -> str:
    return _DOCUMENT.format(title=title, style=_STYLE, body=body)
