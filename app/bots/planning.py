"""What a round makes of its bots, before anything is known of other calendars. Pure.

A bot by hand follows its event. A rule's bot does as well, for as long as a rule wants it; where none does it goes, and
comes back when one does. A meeting that is under way keeps the bot that has joined it, whatever rules say since.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from app.bots.rules.assigning import Assignment, assign, may_return
from app.bots.rules.rule import Candidate, Rule
from app.bots.splitting import NEAR
from app.bots.standing import LIVE, Meeting, Reason, State, Step, follow
from app.bots.writing import NewBot, standing_of
from app.db import Row
from app.ids import new_ids
from app.meetings import canonical_key


@dataclass(slots=True)
class Plan:
    """What becomes of bots; each by its id."""

    bots: dict[UUID, Row]
    steps: dict[UUID, Step] = field(default_factory=dict)
    attached: dict[UUID, Candidate] = field(default_factory=dict)
    """Those that go on with another event of their calendar."""
    adopted: dict[UUID, Rule] = field(default_factory=dict)
    new: list[NewBot] = field(default_factory=list)
    events: dict[UUID, Candidate] = field(default_factory=dict)
    """The event of each bot that stays or comes back."""
    released: list[UUID] = field(default_factory=list)
    """Those that were held for a transfer, and need none any more."""
    claims_before: dict[UUID, frozenset[str]] = field(default_factory=dict)
    claims_after: dict[UUID, frozenset[str]] = field(default_factory=dict)

    def is_live_after(self, bot: Row) -> bool:
        """Whether it is live once the plan is carried out."""
        step = self.steps.get(bot.id)
        return (bot.state if step is None else step.state) in LIVE

    def is_vain(self, bot_id: UUID) -> bool:
        """Whether a step says what is already so."""
        bot, step = self.bots[bot_id], self.steps[bot_id]
        return step.state not in LIVE and (bot.state, bot.state_reason) == (step.state, step.reason)


def plan(
    bots: Sequence[Row],
    candidates: Sequence[Candidate],
    wants: Mapping[UUID, Sequence[Rule]],
    *,
    now: datetime,
    ended: Reason | None = None,
) -> Plan:
    """What these bots become with these events as they are now; `ended`: their calendar is, whatever its events say.

    `wants`: for each event with a meeting ahead the rules that want a bot on it.
    """
    made = Plan({bot.id: bot for bot in bots})
    if ended is not None:
        for bot in bots:
            _take(made, bot, _follow(bot, ended))
        return made
    made.attached = successors(bots, candidates)
    theirs: dict[UUID, list[Row]] = defaultdict(list)
    for bot in bots:
        event = made.attached.get(bot.id)
        theirs[event.id if event else bot.calendar_event_id].append(bot)
    for candidate in candidates:
        _of_event(made, candidate, theirs.get(candidate.id, []), wants.get(candidate.id, ()), now=now)
    return made


def _of_event(made: Plan, candidate: Candidate, bots: Sequence[Row], wants: Sequence[Rule], *, now: datetime) -> None:
    meeting = candidate.meeting
    owned = [bot for bot in bots if bot.rule_id is not None]
    by_rule: Assignment | None = None
    if (wants or owned) and isinstance(meeting, Meeting) and meeting.ends_at > now:
        by_rule = assign(wants, owned)
        _assigned(made, candidate, meeting, by_rule)
    touched = set() if by_rule is None else {bot.id for bot, _ in by_rule.served} | {b.id for b in by_rule.unwanted}
    for bot in bots:
        if bot.id not in touched and (bot.rule_id is None or bot.is_by_hand or by_rule is None):
            made.events[bot.id] = candidate
            _take(made, bot, _follow(bot, meeting))


def _assigned(made: Plan, candidate: Candidate, meeting: Meeting, found: Assignment) -> None:
    for bot, rule in found.served:
        made.events[bot.id] = candidate
        step = _follow(bot, meeting)
        if bot.state not in LIVE and step is None and may_return(bot):
            step = Step("scheduled", None, meeting)
        if rule is not None:
            made.adopted[bot.id] = rule
            state: State = bot.state if bot.state in LIVE else "scheduled"
            step = replace(step or Step(state, None, meeting), is_adopted=True)
        _take(made, bot, step)
    for bot in found.unwanted:
        made.events[bot.id] = candidate
        is_overridden = candidate.override == "never"
        if is_overridden or bot.state != "launched" or bot.join_at > bot.now:
            reason: Reason = "overridden" if is_overridden else "no_rule"
            _take(made, bot, Step("cancelled", reason, standing_of(bot).meeting))
        else:
            _take(made, bot, _follow(bot, meeting))
    for id_, rule in zip(new_ids(len(found.new)), found.new, strict=True):
        made.new.append(NewBot(id_, rule, candidate, meeting, own_key(rule, candidate)))


def own_key(rule: Rule, candidate: Candidate) -> str | None:
    """The deduplication key of a rule's new bot on an event."""
    if rule.deduplication_key is None or candidate.id == rule.first_event_id:
        return rule.deduplication_key
    return f"{rule.deduplication_key}:{candidate.content.get('original_start_time') or ''}"


def _follow(bot: Row, meeting: Meeting | Reason) -> Step | None:
    return follow(standing_of(bot), meeting, now=bot.now)


def _take(made: Plan, bot: Row, step: Step | None) -> None:
    """Note a step. One that is held for a transfer stays held while its event is gone, and is released if not."""
    if bot.transfer_since is not None:
        if step is not None and step.state not in LIVE:
            return
        if step is None:
            made.released.append(bot.id)
    if step is not None:
        made.steps[bot.id] = step


def successors(bots: Sequence[Row], candidates: Sequence[Candidate]) -> dict[UUID, Candidate]:
    """The events that take the places of those that are gone, by the bots that go on with them.

    An occurrence of a series that was split is deleted, and one with another id is there in the same round; a tool that
    writes a calendar anew does the same to every event. It is the same meeting if it has the same link and the same
    start; of two series, also if it is the one that starts nearest, within a day.
    """
    gone = {c.id: c for c in candidates if c.event.is_deleted and c.event.deletion_kind is None}
    fresh = [c for c in candidates if c.is_new and not c.event.is_deleted and isinstance(c.meeting, Meeting)]
    orphans = [bot for bot in bots if bot.calendar_event_id in gone and bot.state in LIVE and not bot.is_removed]
    if not fresh or not orphans:
        return {}
    free = _Fresh(fresh)
    found: dict[UUID, Candidate] = {}
    heirs: dict[UUID, Candidate] = {}
    for take in (free.take_exact, free.take_nearest):
        for bot in sorted(orphans, key=lambda bot: (bot.join_at, bot.id)):
            event_id = bot.calendar_event_id
            if event_id not in heirs:
                heir = take(bot)
                if heir is None:
                    continue
                heirs[event_id] = heir
            found[bot.id] = heirs[event_id]
    return found


class _Fresh:
    """New events that nobody goes on with yet, found by their links: a calendar may be written anew as a whole."""

    def __init__(self, fresh: Sequence[Candidate]) -> None:
        self._preferences = fresh[0].ground.preferences
        self._exact: dict[tuple[str, datetime], list[Candidate]] = defaultdict(list)
        self._of_series: dict[str, list[tuple[datetime, UUID, Candidate]]] = defaultdict(list)
        self._used: set[UUID] = set()
        for candidate in reversed(fresh):
            if isinstance(candidate.meeting, Meeting):
                link, start = self._link(candidate.meeting.url), candidate.meeting.join_at
                self._exact[link, start].append(candidate)
                if candidate.series_id:
                    self._of_series[link].append((start, candidate.id, candidate))
        for occurrences in self._of_series.values():
            occurrences.sort(key=lambda one: one[:2])

    def take_exact(self, bot: Row) -> Candidate | None:
        """One with the bot's link and start."""
        found = self._exact.get((self._link(bot.meeting_url), bot.join_at))
        return self._taken(found.pop()) if found else None

    def take_nearest(self, bot: Row) -> Candidate | None:
        """Of another series, the one that starts nearest, within a day."""
        occurrences = self._of_series.get(self._link(bot.meeting_url), []) if bot.series_id else []
        first = bisect_left(occurrences, bot.join_at - NEAR, key=lambda one: one[0])
        last = bisect_right(occurrences, bot.join_at + NEAR, key=lambda one: one[0])
        near = [one for one in occurrences[first:last] if one[1] not in self._used]
        found = min(near, key=lambda one: abs(one[0] - bot.join_at), default=None)
        return None if found is None else self._taken(found[2])

    def _taken(self, candidate: Candidate) -> Candidate:
        self._used.add(candidate.id)
        return candidate

    def _link(self, url: str) -> str:
        return canonical_key(url, self._preferences, is_trusted=True) or url
