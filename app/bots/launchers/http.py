"""What every back end that is spoken to over HTTP has in common: one exchange, and what its status means.

An exchange goes through the guarded client: no redirects, a bounded answer, one deadline over all of it. What the back
end says reaches errors only as `told` lets it through.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import orjson

from app import __version__
from app.bots.launchers.base import REVISION, Check, Order
from app.bots.launchers.config import Common, Support, common, config_problems
from app.egress import Egress
from app.errors import LauncherKeyRefused, LaunchLater, LaunchRefused, LaunchUnknown

USER_AGENT = f"Punctual/{__version__}"
TIMEOUT_SECONDS = 20.0
MAX_ANSWER = 2 << 20
"""Bytes of an answer that are read: a bot may come back with its picture, twice."""
MAX_DETAIL = 300
MAX_ID = 200
MAX_PAGES = 20
"""Of a list that is asked for one bot."""

RETRY_SECONDS = 5.0
"""Where a back end that is in trouble names no time."""
THROTTLED_SECONDS = 10.0
MAX_RETRY_SECONDS = 600.0
"""A back end's own wish is heeded up to here: the meeting does not wait."""

_NOT_SENT = frozenset({"dns_error", "connect_error", "tls_error", "proxy_error"})
_NEVER = frozenset({"egress_blocked", "invalid_url"})
_LINK = re.compile(r"[a-z][a-z0-9+.-]{1,9}://[^\s\"'<>]+", re.IGNORECASE)


Body = Callable[[Order, Common], dict[str, Any]]
"""How a back end is told an order."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A back end's answer, whatever it says; `body` is None where it is not JSON or was too long."""

    status: int
    body: Any
    retry_after: float | None

    @property
    def is_success(self) -> bool:
        """2xx."""
        return 200 <= self.status < 300

    def member(self, *path: str) -> Any:
        """What stands at this path of objects; None where there is nothing."""
        found = self.body
        for name in path:
            if not isinstance(found, Mapping):
                return None
            found = found.get(name)
        return found

    def text(self, *path: str) -> str | None:
        """The text at this path; None for anything else."""
        found = self.member(*path)
        return found if isinstance(found, str) else None

    def external_id(self, *path: str) -> str | None:
        """The id at this path, if it can be one."""
        return usable_id(self.member(*path))


def id_of(entry: Answer, name: str) -> str:
    """The id of a list's entry. LaunchLater where it has none: what cannot be read may be what is looked for."""
    found = entry.external_id(name)
    if found is None:
        raise LaunchLater("the back end's list could not be read", after=RETRY_SECONDS)
    return found


def usable_id(value: Any) -> str | None:
    """A back end's id, which becomes part of a path: text without blanks, of bearable length."""
    is_usable = isinstance(value, str) and 0 < len(value) <= MAX_ID and value.isprintable() and " " not in value
    return value if is_usable else None


class BackEnd:
    """Requests to one back end with one key; the key stands in one header."""

    def __init__(
        self,
        egress: Egress,
        base_url: str,
        header: tuple[str, str],
        api_key: str,
        support: Support,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._egress = egress
        self._base_url = base_url.rstrip("/")
        self._header = header
        self._api_key = api_key
        self._support = support
        self._timeout_seconds = timeout_seconds

    def settings(self, order: Order) -> Common:
        """The order's common settings; LaunchRefused where this back end cannot carry one out."""
        problems = config_problems(order.config, self._support)
        if problems:
            first = problems[0]
            raise LaunchRefused(f"{first.pointer}: {first.message}", reason="unsupported_setting")
        return common(order.config)

    def difference(self, body: Body, order: Order, before: Order | None) -> tuple[dict[str, Any], set[str], set[str]]:
        """The body that says `order`, the names under which it differs from what was said `before`, those to be said.

        Without `before` all differ; where the back end may not have that, all are to be said.
        """
        new = body(order, self.settings(order))
        old = body(replace(before, revision=order.revision), self.settings(before)) if before else {}
        names = {name for name in old.keys() | new.keys() if name not in old or name not in new}
        names |= {name for name in old.keys() & new.keys() if old[name] != new[name]}
        return new, names, names if before is None or before.is_certain else names | new.keys()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        order: Order | None = None,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        makes: bool = False,
    ) -> Answer:
        """One exchange, whose status is the caller's to judge except where it means the same everywhere.

        `makes`: the request makes a bot, so that silence and 5xx are LaunchUnknown; else they are LaunchLater.
        429 and 507 are LaunchLater, 401 is LauncherKeyRefused, a redirect LaunchRefused.
        """
        name, value = self._header
        sent = {name: value, "accept": "application/json", "user-agent": USER_AGENT, **(headers or {})}
        if body is not None:
            sent["content-type"] = "application/json"
        url = f"{self._base_url}{path}{'?' + urlencode(query) if query else ''}"
        answer = await self._egress.request(
            method,
            url,
            headers=sent,
            body=None if body is None else orjson.dumps(body),
            timeout_seconds=self._timeout_seconds,
            may_repeat=method == "GET",
            max_read=MAX_ANSWER,
            may_be_plain=True,
        )
        if answer.status is None:
            raise _silence(answer.error or "protocol_error", makes=makes)
        content = _json(answer.content)
        read = Answer(answer.status, content, _asked(answer.retry_after, content))
        self._judge(read, order, makes=makes)
        return read

    async def entries(self, path: str, query: Mapping[str, str], order: Order, *, at: str) -> list[Answer]:
        """A list's entries, each as an answer of its own, over all its pages. LaunchLater unless all can be read.

        `at` is the member that holds them; the next page stands in `next`, an address, or in `cursor`.
        """
        found: list[Answer] = []
        asked = dict(query)
        for _ in range(MAX_PAGES):
            answer = await self.ask("GET", path, order=order, query=asked)
            entries = answer.member(at)
            if not answer.is_success or not isinstance(entries, list):
                raise LaunchLater(self.told(answer, order), after=RETRY_SECONDS)
            found += [Answer(200, one, None) for one in entries]
            following, cursor = answer.member("next"), answer.member("cursor")
            if isinstance(following, str):
                asked |= dict(parse_qsl(urlsplit(following).query))
            elif isinstance(cursor, str):
                asked["cursor"] = cursor
            else:
                return found
        raise LaunchLater(f"a list of more than {MAX_PAGES} pages", after=RETRY_SECONDS)

    def _judge(self, answer: Answer, order: Order | None, *, makes: bool) -> None:
        status, detail = answer.status, self.told(answer, order)
        if status == 401:
            raise LauncherKeyRefused(detail)
        if status == 429:
            is_cap = "DAILY" in str(answer.member("code"))  # Meeting BaaS: so many bots a day
            after = _wait(answer.retry_after, 60.0 if is_cap else THROTTLED_SECONDS)
            raise LaunchLater(detail, after=after, reason="limit_reached" if is_cap else "throttled")
        if status == 507:
            raise LaunchLater(detail, after=_wait(answer.retry_after, 30.0), reason="no_machine")
        if status >= 500:
            after = _wait(answer.retry_after, RETRY_SECONDS)
            raise LaunchUnknown(detail, after=after) if makes else LaunchLater(detail, after=after)
        if 300 <= status < 400 or status < 200:
            raise LaunchRefused(f"{detail}: not the address of a back end", reason="not_a_back_end")

    def told(self, answer: Answer, order: Order | None) -> str:
        """The status and what the back end said about it, without key, links and the bot's name."""
        said = _sentence(answer.body)
        secrets = [self._api_key, *((order.meeting_url, order.bot_name) if order else ())]
        for secret in sorted((s for s in secrets if s), key=len, reverse=True):
            said = said.replace(secret, "…")
        said = _LINK.sub("…", said)
        text = "".join(c if c.isprintable() else " " for c in said)
        return f"{answer.status} {text}".strip()[:MAX_DETAIL]

    async def checked(self, path: str, query: Mapping[str, str]) -> Check:
        """`Launcher.check` by one read."""
        try:
            answer = await self.ask("GET", path, query=query)
        except LauncherKeyRefused as exc:
            return Check(ok=False, detail=f"the back end refuses the key: {exc.detail}")
        except LaunchRefused as exc:
            return Check(ok=False, detail=exc.detail)
        except LaunchLater as exc:
            return Check(ok=False, detail=f"the back end cannot be asked now: {exc.detail}")
        if answer.status == 403:
            return Check(ok=False, detail=f"the back end refuses the key: {self.told(answer, None)}")
        if not answer.is_success or not isinstance(answer.body, Mapping):
            return Check(ok=False, detail=f"not the answer of such a back end: {self.told(answer, None)}")
        return Check(ok=True, detail="the key works")


def kept_revision(metadata: Any) -> int | None:
    """Which revision of ours a bot's metadata at the back end tells of."""
    text = metadata.get(REVISION) if isinstance(metadata, Mapping) else None
    return int(text[:18]) if isinstance(text, str) and text.isascii() and text.isdigit() else None


def segment(external_id: str) -> str:
    """An id as one segment of a path, whatever a back end chose."""
    return quote(external_id, safe="")


def _silence(error: str, *, makes: bool) -> LaunchRefused | LaunchLater | LaunchUnknown:
    if error in _NEVER:
        return LaunchRefused(f"{error}: this address may not be reached", reason="address_not_allowed")
    if makes and error not in _NOT_SENT:
        return LaunchUnknown(error, after=RETRY_SECONDS)
    return LaunchLater(error, after=RETRY_SECONDS)


def _asked(header: float | None, body: Any) -> float | None:
    """When to come back, in seconds: as the header says, else as Meeting BaaS' body does."""
    said = body.get("retryAfter") if isinstance(body, Mapping) else None
    if header is None and isinstance(said, int | float) and not isinstance(said, bool):
        return float(said)
    return header


def _wait(asked: float | None, usual: float) -> float:
    return usual if asked is None else min(max(asked, 1.0), MAX_RETRY_SECONDS)


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


_MAX_SAID = 20_000
"""Characters of one member that are looked at: far more than is kept, so that no secret is cut before it is found."""
_SAID = ("code", "error", "message", "detail", "details")


def _sentence(body: Any) -> str:
    """What a refusal says: the members that the back ends use for it, or the fields it names."""
    if not isinstance(body, Mapping):
        return ""
    said = [body[name] for name in _SAID if isinstance(body.get(name), str)]
    if not said:
        fields = ((str(name), value) for name, value in list(body.items())[:10])
        said = [f"{name}: {_first(value)}" for name, value in fields if _first(value)]
    return ", ".join(part[:_MAX_SAID] for part in said)


def _first(value: Any) -> str:
    """A field's first error."""
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else ""
