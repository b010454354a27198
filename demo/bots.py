"""The demo's second part: bots. Rules put them on meetings, and each follows its meeting to the end of it.

The back end is the sandbox's stand-in of Attendee. Two launchers lead to it: one hands bots over an hour ahead, so that
everything that happens to their meeting has to be passed on; the other at the last moment, so that a bot whose meeting
is cancelled in time is never spoken of. All meetings are cancelled in the end: no bot may have joined.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from demo import attendance, telling
from demo.application import Application, Json, Message
from demo.connecting import first_sync
from demo.meeting import Meeting
from demo.processes import Condition, Stack, StackError
from demo.provider import Provider
from demo.story import Connected, Edit
from demo.telling import milliseconds, say

BOT_SECONDS = 20.0
"""How long a step may take to show; where one does not, no more are made and what there is is judged."""
QUIET = timedelta(seconds=66)
"""From making the meeting whose cancellation no push tells until it begins."""
CANCELLED_BEFORE = timedelta(seconds=58)
"""So long before it begins it is cancelled at the latest: the look before joining is up to 54 s ahead."""
AHEAD = timedelta(minutes=50)
FOUR_WEEKS = timedelta(days=28)
FIRST_LINK = "https://us02web.zoom.us/j/84512345678?pwd=Rb4cZ1"
OTHER_LINK = "https://us02web.zoom.us/j/86098765432?pwd=Tn9wK7"
QUIET_LINK = "https://meet.google.com/qui-etca-ncl"
_KEY = "attendee-key"  # the stand-in's
_FIELD = {"team": "field"}
_AUDITS = {"AUDIT_INTERVAL_SECONDS": "21600"}

Step = Callable[[], Awaitable[None]]


class Bots:
    """One telling, on a stack that runs and two calendars that are connected."""

    def __init__(self, stack: Stack, provider: Provider, application: Application, calendars: list[Connected]) -> None:
        self._stack = stack
        self._provider = provider
        self._application = application
        self._begun_at = time.monotonic()
        self._rules: dict[str, str] = {}
        """Their names, by their ids."""
        self._events: dict[str, str] = {}
        """The API's event of the meeting of several, in each calendar."""
        self.calendars = list(calendars)
        """With those that this part connects."""
        self.edits: list[tuple[Edit, int]] = []
        """Every edit in a calendar, with the calendar's number before it."""
        self.flaws: list[str] = []

    async def run(self) -> None:
        """The whole part; what was wrong is in `flaws`. Raises StackError if a process has ended."""
        try:
            await self._tell()
        except StackError as exc:
            self._stack.check()
            self.flaws.append(f"bots: {exc}")
        finally:
            await self._provider.pushes("deliver")

    async def _tell(self) -> None:
        say(
            "  Bots go where the meeting is. A new worker has audits every 6 h, as by default: none will find anything."
        )
        await self._begin()
        say()
        say(telling.row("", "what happens", "after", "what becomes of the bots"))
        steps: tuple[Step, ...] = (
            self._start_quietly,
            self._invite,
            self._make_rule,
            self._explain,
            self._move,
            self._change_link,
            self._revoke,
            self._cancel,
            self._await_look,
        )
        for step in steps:
            await step()
        await self._settle(self.calendars)
        bots, meetings = await self._application.bots(), await self._provider.attendance()
        self.flaws += attendance.flaws(bots, meetings, shared={FIRST_LINK, OTHER_LINK}, unasked=QUIET_LINK)
        came = sum(meeting["joined"] for meeting in meetings)
        lasted = time.monotonic() - self._begun_at
        say()
        say(f"  bots       {len(bots)} for 2 meetings in 4 calendars; {came} came to a cancelled one; {lasted:.0f} s")

    # --- what it takes ---

    async def _begin(self) -> None:
        """Another worker, launchers, and two more people: one who is invited with others, one who is alone."""
        await asyncio.gather(self._stack.stop(*self._stack.workers), self._stack.start_worker(_AUDITS))
        self._early = await self._launcher("An hour ahead", hand_over_seconds=3600)
        self._late = await self._launcher("At the last moment", hand_over_seconds=0)
        zone = self.calendars[0].account.zone
        asked = time.time()
        self._otto, self._grace = [
            Connected(account, await self._application.connect(account.credentials, metadata=metadata))
            for account, metadata in (
                (await self._provider.person("microsoft", "otto@outlook.com", zone), {"team": "office"}),
                (await self._provider.person("google", "grace@sandbox.example", zone), _FIELD),
            )
        ]
        for calendar in (self._otto, self._grace):
            await first_sync(self._stack, self._application, calendar, asked)
        self.calendars += [self._otto, self._grace]

    async def _launcher(self, name: str, *, hand_over_seconds: int) -> str:
        body = {"kind": "attendee", "name": name, "base_url": self._stack.sandbox_url, "api_key": _KEY}
        made = await self._application.call("POST", "/launchers", body=body | {"hand_over_seconds": hand_over_seconds})
        return str(made["id"])

    async def _add(self, rule: Json) -> None:
        made = await self._application.call("POST", "/rules", body=rule)
        self._rules[made["id"]] = rule["name"]

    # --- a cancellation that no push tells, which the look before joining finds ---

    async def _start_quietly(self) -> None:
        """A bot for a meeting that begins soon, and is cancelled; what becomes of it is seen at the end."""
        await self._add(_rule("Field team", {"calendar_metadata": _FIELD}, scope="event", launcher=self._late))
        self._quiet = Meeting(self._provider, "Doorstep call", [self._grace], url=QUIET_LINK)
        start = datetime.now(UTC).replace(microsecond=0) + QUIET
        edited_at = await self._edit(self._quiet, self._quiet.create(start), "created")
        made = await self._transition("scheduled", self._quiet)
        told = "one bot, by a rule for calendars of the field team; handed over at the last moment"
        self._row(self._grace, f'invite to "{self._quiet.title}", in {QUIET.seconds} s', made.at - edited_at, told)
        await self._settle([self._grace])
        while datetime.now(UTC) > start - CANCELLED_BEFORE:  # a slow machine: the look may have been already
            start += QUIET
            await self._edit(self._quiet, self._quiet.move(start), "rescheduled")
            await self._settle([self._grace])
        await self._provider.pushes("drop")
        self._quiet_at = await self._edit(self._quiet, self._quiet.cancel([self._grace]), "deleted")
        await self._provider.pushes("deliver")
        say(
            telling.row(self._grace.person, "cancel it; the push gets lost", "", "nobody here knows: see the last line")
        )
        self._quiet_start = start

    async def _await_look(self) -> None:
        """The look before joining has found the cancellation."""
        left = (self._quiet_start - datetime.now(UTC)).total_seconds()
        made = await self._transition("cancelled", self._quiet, seconds=max(0.0, left) + BOT_SECONDS)
        state = await self._application.calendar(self._grace.id)
        if datetime.fromisoformat(state["health"]["push"]["last_notification_at"]).timestamp() >= self._quiet_at:
            self.flaws.append("a push arrived that was meant to get lost")
        ahead = self._quiet_start.timestamp() - made.at
        self.flaws += attendance.look_flaws(ahead)
        told = f"{made.data['reason']}: found {ahead:.0f} s before joining; the back end was never asked for a bot"
        self._row(self._grace, "the look before joining", made.at - self._quiet_at, told)

    # --- one meeting of three ---

    async def _invite(self) -> None:
        """The meeting, in three calendars at both providers."""
        invited = [*self.calendars[:2], self._otto]
        self._meeting = Meeting(self._provider, "Rollout with Ana", invited, url=FIRST_LINK)
        self._start = datetime.now(UTC).replace(microsecond=0) + AHEAD
        await self._edit(self._meeting, self._meeting.create(self._start), "created")
        await self._settle(invited)
        for one in invited:
            (event,) = await self._application.events(one.id, ical_uid=self._meeting.ical_uid)
            self._events[one.id] = event["id"]

    async def _make_rule(self) -> None:
        """A rule, tried first, makes one bot for a meeting that stands in three calendars."""
        match = {"title_contains": ["rollout"], "attendee_domains": ["guests.example"]}
        rule = _rule("Rollouts", match, scope="meeting", launcher=self._early)
        asked = time.time()
        span = {"start_time_gte": _iso(datetime.now(UTC)), "start_time_lte": _iso(datetime.now(UTC) + FOUR_WEEKS)}
        tried = await self._application.call("POST", "/rules/dry_run", body={"rule": rule, **span})
        self.flaws += attendance.trial_flaws(tried["results"], self._events.values())
        told = telling.trial(tried["results"])
        self._row("your app", "try a rule: rollouts with guests.example", time.time() - asked, told)
        asked = time.time()
        await self._add(rule)
        made = await self._transition("scheduled", self._meeting)
        self._bot_id = str(made.data["bot"]["id"])
        self._owner = self._calendar(made.data["bot"]["calendar_id"])
        told = f"one bot for {len(self._events)} invitees, on {self._owner.person}'s event"
        self._row("your app", "add the rule", made.at - asked, told)
        launched = await self._transition("launched", self._meeting)
        self._external_id = str(launched.data["bot"]["external_id"])
        await self._at_back_end(lambda there: there["meeting_url"] == FIRST_LINK, "the bot")
        told = f"launched: the back end has it, as {self._external_id}"
        self._row("Punctual", "hand it over, an hour ahead", launched.at - asked, told)

    async def _explain(self) -> None:
        """Why another invitee has no bot of their own."""
        other = next(one for one in self._meeting.invited if one is not self._owner)
        decision = await self._application.call("GET", f"/calendar_events/{self._events[other.id]}/decision")
        if not decision["will_join"] or decision["meeting"]["owner_event_id"] != self._events[self._owner.id]:
            self.flaws.append(f"the decision on {other.person}'s event is {decision}")
        told = telling.decision(decision, self._rules)
        for calendar_id, event_id in self._events.items():
            told = told.replace(event_id, f"{self._calendar(calendar_id).person}'s event")
        say(telling.row(other.person, "will a bot join, and why?", "", told))

    async def _move(self) -> None:
        before, self._start = self._start, self._start + timedelta(hours=1)
        edited_at = await self._edit(self._meeting, self._meeting.move(self._start), "rescheduled")
        shown_at = await self._shows("join_at", lambda at: datetime.fromisoformat(at) == self._start)
        await self._at_back_end(lambda there: datetime.fromisoformat(there["join_at"]) == self._start, "the new time")
        told = f"joins at {self._clock(self._start)}, was {self._clock(before)}; the back end knows after"
        self._row(self._owner, "move it by an hour", shown_at - edited_at, f"{told} {_since(edited_at)}")

    async def _change_link(self) -> None:
        edited_at = await self._edit(self._meeting, self._meeting.put_elsewhere(OTHER_LINK), "link_changed")
        shown_at = await self._shows("meeting_url", lambda url: url == OTHER_LINK)
        await self._at_back_end(lambda there: there["meeting_url"] == OTHER_LINK, "the new link")
        told = f"joins {OTHER_LINK.partition('?')[0]}; the back end knows after"
        self._row(self._owner, "give it another link", shown_at - edited_at, f"{told} {_since(edited_at)}")

    async def _revoke(self) -> None:
        """The owner of the bot's event takes back their access; the same bot goes on with another's."""
        former = self._owner
        await self._settle(self._meeting.invited)  # what was edited before is told, or would never be
        await self._provider.revoke(former.account)
        edited_at = self._provider.edited_at
        await self._application.call("POST", f"/calendars/{former.id}/sync", body={})
        shown_at = await self._shows("calendar_id", lambda calendar_id: calendar_id != former.id)
        bot = await self._application.bot(self._bot_id)
        self._owner = self._calendar(bot["calendar_id"])
        held = attendance.seconds_between(bot, "held", "transferred")
        if held is None:
            self.flaws.append(f"the bot went from {former.person}'s event to {self._owner.person}'s without a hold")
        number = sum(one["meeting_url"] == self._meeting.url for one in await self._application.bots())
        told = (
            f"held for {milliseconds(held or 0)} while {self._owner.person}'s calendar was synced, then the same bot,"
            f" on {self._owner.person}'s event; {number} bot for the meeting"
        )
        self._row(former, "take back the access; ask for a sync", shown_at - edited_at, told)

    async def _cancel(self) -> None:
        """In every calendar that is still connected: nothing that happens in the other one can be known."""
        connected = [
            one for one in self._meeting.invited if (await self._application.calendar(one.id))["state"] == "connected"
        ]
        if len(connected) != len(self._meeting.invited) - 1:
            self.flaws.append(f"{len(connected)} of {len(self._meeting.invited)} calendars are connected, not one less")
        edited_at = await self._edit(self._meeting, self._meeting.cancel(connected), "deleted", connected)
        made = await self._transition("cancelled", self._meeting)
        await self._at_back_end(lambda there: there["phase"] == "withdrawn", "the bot's withdrawal")
        told = f"{made.data['reason']}; withdrawn at the back end after {_since(edited_at)}"
        self._row(self._owner, "cancel it", made.at - edited_at, told)

    # --- doing and seeing ---

    async def _edit(
        self, meeting: Meeting, work: Awaitable[None], kind: str, calendars: Sequence[Connected] | None = None
    ) -> float:
        """Edit a meeting in these calendars, or all that it is in, when all before has been told; when it began."""
        calendars = calendars or meeting.invited
        await self._settle(calendars)
        before = {one.id: self._application.told_up_to(one.id) for one in calendars}
        edited_at = time.time()
        await work
        for one in calendars:
            edit = Edit(one, f'"{meeting.title}" {kind}', {meeting.remote_ids[one.id]: kind})
            self.edits.append((edit, before[one.id]))
        return edited_at

    async def _settle(self, calendars: Sequence[Connected]) -> None:
        """Until every edit in these calendars has been told."""
        ids = {one.id for one in calendars}

        async def is_told() -> bool:
            await self._application.look()
            edits = (one for one in self.edits if one[0].calendar.id in ids)
            if any(self._application.told_up_to(edit.calendar.id) <= before for edit, before in edits):
                return False
            highest = [await self._application.highest(id_) for id_ in ids]
            return highest == [self._application.told_up_to(id_) for id_ in ids]

        await self._until(is_told, "every edit to be told")

    async def _transition(self, state: str, meeting: Meeting, *, seconds: float = BOT_SECONDS) -> Message:
        """The message of a step of the meeting's bot."""
        found: list[Message] = []

        async def has_come() -> bool:
            await self._application.look(wait=0.2)
            steps = self._application.transitions(state)
            found.extend(one for one in steps if one.data["bot"]["meeting_url"] == meeting.url)
            return bool(found)

        await self._until(has_come, f'the bot of "{meeting.title}" to be {state}', seconds=seconds)
        return found[0]

    async def _shows(self, name: str, holds: Callable[[str], bool]) -> float:
        """When the API shows this of the bot."""

        async def is_shown() -> bool:
            return holds((await self._application.bot(self._bot_id))[name])

        await self._until(is_shown, f"the bot's {name} to follow")
        return time.time()

    async def _at_back_end(self, holds: Callable[[Json], bool], what: str) -> Json:
        """The bot as the back end has it, when this holds of it."""
        found: list[Json] = []

        async def is_there() -> bool:
            there = attendance.at_back_end(await self._provider.attendance(), self._external_id)
            found.extend([there] if there is not None and holds(there) else [])
            return bool(found)

        await self._until(is_there, f"the back end to have {what}")
        return found[0]

    async def _until(self, condition: Condition, what: str, *, seconds: float = BOT_SECONDS) -> None:
        await self._stack.until(condition, seconds=seconds, what=what)

    # --- telling ---

    def _calendar(self, calendar_id: str) -> Connected:
        return next(one for one in self.calendars if one.id == calendar_id)

    def _clock(self, at: datetime) -> str:
        return f"{at.astimezone(self.calendars[0].account.zone):%H:%M}"

    def _row(self, who: Connected | str, what: str, after: float, told: str) -> None:
        name = who if isinstance(who, str) else who.person
        say(telling.row(name, what, milliseconds(after), told))


def _rule(name: str, match: Json, *, scope: str, launcher: str) -> Json:
    bot = {"bot_name": "Notes", "launcher_id": launcher}
    return {"name": name, "match": match, "bot": bot, "dedup_scope": scope}


def _iso(at: datetime) -> str:
    return at.isoformat()


def _since(edited_at: float) -> str:
    return milliseconds(time.time() - edited_at)
