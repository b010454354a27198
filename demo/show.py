"""`make demo`: the product doing its job, told line by line, and judged at the end by the provider's own word."""

import asyncio
import time
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from json import loads

from demo import services, telling, verdict
from demo.application import BOT_STATE_CHANGE, EVENTS_UPDATE, Application, Json, Message
from demo.bots import Bots
from demo.connecting import first_sync
from demo.processes import ROOT, Stack, StackError, http
from demo.provider import Provider
from demo.story import Connected, Edit, Story, add_clock_series
from demo.telling import say
from demo.verdict import Verdict

LOGS = ROOT / ".punctual" / "logs" / "demo"
AUDIT_SECONDS = 6
SEEDED = 104
"""Entries per calendar that are asked of the seed, which makes somewhat fewer: about 200 in all."""
WEBHOOK_SECONDS = 20.0
"""How long an edit may take to arrive; where one does not, no more are made and what there is is judged."""


async def show() -> bool:
    """The whole demo; whether all of it was right. Raises StackError and what the services raise."""
    started = time.monotonic()
    say("Punctual, shown on this machine. The sandbox plays Google and Microsoft, this script your application.")
    say()
    async with services.temporary() as place:
        say(f"  services   {place.description}  ({time.monotonic() - started:.1f} s)")
        settings = {"AUDIT_INTERVAL_SECONDS": str(AUDIT_SECONDS)}
        async with Stack(
            database_url=place.database_url, redis_url=place.redis_url, logs=LOGS, settings=settings
        ) as stack:
            key = await _start(stack)
            say(f"  processes  API {stack.api_url}, one worker, sandbox {stack.sandbox_url}, receiver {stack.sink_url}")
            async with http() as client:
                application = Application(client, api_url=stack.api_url, sink_url=stack.sink_url, key=key)
                result = await Demo(stack, Provider(client, stack.sandbox_url), application).run()
    for flaw in result.flaws:
        say(f"  WRONG: {flaw}")
    if not result.holds:
        say(f"  logs of every process: {LOGS.relative_to(ROOT)}/")
    say()
    say(f"  everything started here is stopped; {time.monotonic() - started:.0f} s in all")
    say(str(result))
    return result.holds


async def _start(stack: Stack) -> str:
    """Everything, side by side where it may be; the key of a new project."""
    await asyncio.gather(stack.start_sandbox(), stack.migrate())
    made, *_ = await asyncio.gather(
        stack.punctual("projects", "create", "demo", "--json"), stack.start_api(), stack.start_worker()
    )
    return str(loads(made)["api_key"])


class Demo:
    """One telling, on a stack that runs."""

    def __init__(self, stack: Stack, provider: Provider, application: Application) -> None:
        self._stack = stack
        self._provider = provider
        self._application = application
        self._numbers: dict[str, int] = {}
        """The highest sequence number told so far, by calendar."""
        self._edits: list[tuple[Edit, int]] = []
        """Every edit, with its calendar's number before it."""
        self._flaws: list[str] = []

    async def run(self) -> Verdict:
        """Connect, edit, have bots follow, compare."""
        calendars = await self._connect()
        say()
        say("  Each edit but the last two is announced by a push; a sync follows after a second of quiet.")
        say(
            f"  Some pushes get lost, so there is an audit: every {AUDIT_SECONDS} s (±25 %) here, by default every 6 h."
        )
        say()
        say(telling.row("", "at the provider", "after", "what your application is told"))
        story = Story(self._provider, self._application, calendars)
        async with aclosing(story.edits()) as edits:
            async for edit in edits:
                before = self._numbers[edit.calendar.id]
                self._edits.append((edit, before))
                if not await self._follow(edit, before):
                    break
        say()
        if not self._flaws:  # else the bots' part would show no more than what is wrong already
            bots = Bots(self._stack, self._provider, self._application, calendars)
            await bots.run()
            calendars = bots.calendars
            self._edits += bots.edits
            self._flaws += bots.flaws
            say()
        return await self._judge(calendars)

    # --- connecting ---

    async def _connect(self) -> list[Connected]:
        accounts = await self._provider.seed(count=SEEDED)
        series = [await add_clock_series(self._provider, account) for account in accounts]
        endpoint = await self._application.subscribe(triggers=[EVENTS_UPDATE, BOT_STATE_CHANGE])
        say(f"  endpoint   {endpoint['id']} listens to {', '.join(endpoint['triggers'])}")
        say()
        asked = time.time()
        calendars = [
            Connected(account, await self._application.connect(account.credentials, deduplication_key=account.email))
            for account in accounts
        ]
        for calendar in calendars:
            await first_sync(self._stack, self._application, calendar, asked)
            self._numbers[calendar.id] = self._application.told_up_to(calendar.id)
        coming = {"start_time_gte": datetime.now(UTC).isoformat(), "ordering": "start_time"}
        for calendar, one in zip(calendars, series, strict=True):
            occurrences = await self._application.events(calendar.id, series_id=one.id, **coming)
            say(f"  {calendar.label:<10} {one.told(occurrences[0])}")
        return calendars

    # --- following an edit ---

    async def _follow(self, edit: Edit, before: int) -> bool:
        """Wait for what the edit leads to, and tell it; whether all of it came."""
        edited_at, number = self._provider.edited_at, len(edit.expected)

        async def has_come() -> bool:
            await self._application.look(wait=0.2)
            return sum(last - first + 1 for first, last in self._spans(edit.calendar, before)) >= number

        has_all_come = True
        try:
            await self._stack.until(has_come, seconds=WEBHOOK_SECONDS, what="the webhook")
        except StackError:
            self._stack.check()
            has_all_come = False
            self._flaws.append(f"nothing, or not all, was told within {WEBHOOK_SECONDS:.0f} s of: {edit.what}")
        messages = self._news(edit.calendar, before)
        if not messages:
            say(telling.row(edit.calendar.label, edit.what, "never", "nothing"))
            return False
        self._numbers[edit.calendar.id] = max(last for _, last in self._spans(edit.calendar, before))
        told = await self._told(edit, messages, before)
        if edit.is_push_lost:
            if await self._last_push(edit.calendar) >= edited_at:
                self._flaws.append("a push arrived that was meant to get lost")
            told += " (by the audit)"
        say(telling.row(edit.calendar.label, edit.what, telling.milliseconds(messages[-1].at - edited_at), told))
        return has_all_come

    async def _told(self, edit: Edit, messages: list[Message], before: int) -> str:
        """The messages in words; a flaw for each entry that says something else than was done."""
        entries: list[Json] = [entry for message in messages for entry in message.data["events"]]
        listed = await self._application.events(edit.calendar.id, after_seq=before)
        shown = {event["id"]: event for event in listed}
        flaws = [f"a message tells of {e['id']}, the feed lacks it" for e in entries if e["id"] not in shown]
        entries = [entry for entry in entries if entry["id"] in shown]
        told = [telling.change(entry, shown[entry["id"]], edit.calendar.account.zone) for entry in entries]
        remote_ids = [shown[entry["id"]]["platform_uuid"] for entry in entries]
        for remote_id, entry, words in zip(remote_ids, entries, told, strict=True):
            expected = edit.expected.get(remote_id)
            if expected not in {entry["change"], *entry["kinds"]}:
                flaws.append(f"was told as {words}, expected {expected or 'nothing about that event'}")
        is_truncated = any(message.data["truncated"] for message in messages)
        if not is_truncated:
            flaws += [f"nothing was told about {missing}" for missing in edit.expected.keys() - set(remote_ids)]
        self._flaws += [f"{edit.what}: {flaw}" for flaw in flaws]
        return told[0] if len(told) == 1 else telling.summary(entries, len(messages), is_truncated=is_truncated)

    def _news(self, calendar: Connected, before: int) -> list[Message]:
        """The calendar's messages that tell of changes after this number, in order of arrival."""
        return [m for m in self._application.messages(calendar.id) if m.span is not None and m.span[1] > before]

    def _spans(self, calendar: Connected, before: int) -> list[tuple[int, int]]:
        return [message.span for message in self._news(calendar, before) if message.span is not None]

    async def _last_push(self, calendar: Connected) -> float:
        state = await self._application.calendar(calendar.id)
        return datetime.fromisoformat(state["health"]["push"]["last_notification_at"]).timestamp()

    # --- judging ---

    async def _judge(self, calendars: list[Connected]) -> Verdict:
        await self._application.look()
        changes = delivered = stale = unseen = compared = breaks = 0
        flaws = list(self._flaws)
        for calendar in calendars:
            events = await self._application.events(calendar.id)
            highest = max((event["change_seq"] for event in events), default=0)
            messages = self._application.messages(calendar.id)
            spans = [message.span for message in messages if message.span is not None and message.is_valid]
            changes += highest
            delivered += verdict.covered(highest, spans)
            gaps = verdict.breaks(highest, spans)
            breaks += len(gaps)
            flaws += [f"{calendar.account.email}: {text}" for text in gaps]
            wrong, number = await self._compare(calendar)
            compared += number
            stale += len(wrong)
            flaws += [f"{calendar.account.email}: {text}" for text in wrong]
            unseen += self._unseen(calendar, {event["platform_uuid"]: event["change_seq"] for event in events})
        attempts = self._application.attempts
        bad = sum(not attempt.is_valid for attempt in attempts)
        flaws += [f"message {one.id} came with a signature that does not hold" for one in attempts if not one.is_valid]
        say(f"  compared   {compared} events, yesterday to 28 days ahead, field by field: {stale} differ")
        joined = "join without a gap" if breaks == 0 else f"do not join in {breaks} places"
        say(
            f"  verified   {len(attempts)} signatures: {bad} bad; sequence numbers of each calendar's messages {joined}"
        )
        return Verdict(changes, delivered, changes - delivered + unseen, stale, bad, tuple(flaws))

    async def _compare(self, calendar: Connected) -> tuple[list[str], int]:
        """The API's live events against the provider's instances, over the span that is promised."""
        now = datetime.now(UTC)
        span = (now - timedelta(days=1), now + timedelta(days=28))
        listed = await self._application.events(calendar.id, is_deleted="false")
        shown = await self._provider.instances(calendar.account.calendar_id, *span)
        return verdict.differences(listed, shown, span, calendar.account.zone), len(shown)

    def _unseen(self, calendar: Connected, numbers: dict[str, int]) -> int:
        """Edited events that the API never showed as changed: each takes a number above the one before its edit."""
        return sum(
            numbers.get(remote_id, 0) <= before
            for edit, before in self._edits
            if edit.calendar is calendar
            for remote_id in edit.expected
        )
