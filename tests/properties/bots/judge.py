"""The judgement on bots: by the provider's world and what their owner asked for, at the API and at the back ends."""

from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import orjson

from app.ids import BOT, public
from sandbox.backends.book import Bot as There
from tests.properties.bots.receiver import Picture, played
from tests.properties.bots.rules import RuleJudge
from tests.properties.bots.stage import KEPT_SECONDS, LIVE, STATES, BotStage, Wish, ids_of
from tests.properties.judge import Judge
from tests.properties.oracle import expected
from tests.properties.watching import Watch

Json = dict[str, Any]
Place = tuple[str, datetime, datetime]
"""A meeting's link, beginning and end."""
LOOKED = timedelta(seconds=56)
"""So long before it joins, a bot's calendar was looked at, at the latest."""
AT_ONCE = timedelta(seconds=61)
"""Who is handed over so late may be there at once (docs/launchers.md)."""
MESSAGE_SECONDS = 12.0
"""So long it may take to see that a `bot.launch` was taken."""


class BotJudge:
    """Holds one stage against what is promised of bots."""

    def __init__(self, stage: BotStage, rules: RuleJudge) -> None:
        self._stage = stage
        self._rules = rules
        self._calendars = Judge(stage)
        self._started: dict[str, tuple[str, int]] = {}

    # --- after every step ---

    async def always(self) -> None:
        """What holds whatever goes wrong: one live bot per key, nothing forgotten, no bot twice at its back end."""
        stage = self._stage
        stage.judge_starts()
        if stage.problems:
            raise AssertionError("\n".join(stage.problems))
        rows = await stage.bots()
        keys = Counter(row.deduplication_key for row in rows if row.state in STATES and row.deduplication_key)
        if twice := [key for key, times in keys.items() if times > 1]:
            raise AssertionError(f"[keys] two live bots for {twice}")
        for row in rows:
            self._remembered(row)
        self._rules.always(rows)
        self._once()

    @staticmethod
    def _remembered(row: Any) -> None:
        """Of each difference between a bot and what its back end has, the row says when it is seen to."""
        due, now = row.due_at, row.now
        is_known = row.handed_revision is not None or row.starting_since is not None
        if row.state not in STATES:
            wanted = now if is_known else None
        elif row.handed_revision is None and row.starting_since is None:
            wanted = max(now, row.join_at - timedelta(seconds=row.hand_over))
        else:
            wanted = now if (row.handed_revision or 0) < row.revision else None
        patience = 610 if row.failure_count else 10 if row.launch_message_id else 1
        latest = wanted and wanted + timedelta(seconds=patience)
        if latest is not None and (due is None or due > latest):
            raise AssertionError(f"[forgotten] due at {due}, not by {latest}: {_row(row)}")

    def _once(self) -> None:
        book = self._stage.sandbox.bots
        book.settle()
        live = Counter(ids_of(bot)[0] for bot in book.bots.values() if book.phase(bot) in LIVE)
        if twice := [bot_id for bot_id, times in live.items() if times > 1]:
            raise AssertionError(f"[twice] at its back end: {[_there(one) for one in self._stage.there(twice[0])]}")
        for bot in book.bots.values():
            self._started.setdefault(bot.id, ids_of(bot))
        starts = Counter(self._started[bot.id] for bot in book.bots.values() if book.phase(bot) != "failed")
        if again := [one for one, times in starts.items() if times > 1]:
            raise AssertionError(f"[again] started more than once: {again}")

    # --- whenever it is quiet ---

    async def settled(self, *, may_be_late: bool = False) -> int:
        """Bots are with their events as they are, and their back ends have just them; how many bots there are.

        Of a calendar that something hinders, nothing can be said, and nothing of a back end that is in trouble.
        """
        stage = self._stage
        stage.sandbox.bots.settle()
        judged = await self._calendars.settled()
        rows = {public(BOT, row.id): row for row in await stage.bots()}
        for watch in judged:
            meetings = await self._meetings(watch)
            for wish in stage.wishes.values():
                if wish.watch is not watch or wish.cell is None:
                    continue
                row = rows[wish.id]
                if row.cell != wish.cell and wish.cell not in meetings:  # split off, or written anew
                    wish.cell = row.cell
                self._followed(wish, row, meetings.get(wish.cell))
        state = await stage.state()
        for wish in stage.wishes.values():
            row = rows[wish.id]
            if wish.watch is None:
                self._own(wish, row)
            elif wish.watch in stage.gone or state[wish.watch.connected.key].state == "disconnected":
                self._of_nobody(wish, row)
            if wish.is_removed and row.state in STATES:
                raise AssertionError(f"[removed] by its owner, and live: {_row(row)}")
        await self._rules.settled(judged, list(rows.values()))
        pictures = played(stage.sink.received)
        for row in rows.values():
            self._at_back_end(row, pictures, may_be_late=may_be_late)
        self._unheard(rows)
        return len(rows)

    async def _meetings(self, watch: Watch) -> dict[str, Place | None]:
        """What the provider shows, by event: where bots are to be, None where there is no place for them."""
        stage, calendar = self._stage, watch.connected
        world = stage.sandbox.world
        found: dict[str, Place | None] = {}
        for cell in world.instances(calendar.remote_id, *await stage.actor.window(calendar)):
            shown = expected(cell, world, calendar.account, watch.role)
            is_held = shown["meeting_url"] is not None and shown["status"] != "cancelled"
            start, end = (datetime.fromisoformat(shown[name]) for name in ("start_time", "end_time"))
            found[cell.event_id] = (shown["meeting_url"], start, end) if is_held else None
        return found

    def _followed(self, wish: Wish, row: Any, place: Place | None) -> None:
        now = row.now
        if row.state in STATES and row.ends_at > now and (row.meeting_url, row.join_at, row.ends_at) != place:
            raise AssertionError(f"[followed] the event has {place}: {_row(row)}")
        may_be_out = wish.is_removed or row.state == "failed" or row.state_reason == "superseded"
        if place is not None and place[2] > now and row.state not in STATES and not may_be_out:
            raise AssertionError(f"[restored] the event has {place}: {_row(row)}")
        self._failed(row)

    @staticmethod
    def _of_nobody(wish: Wish, row: Any) -> None:
        """Its calendar is disconnected, or deleted."""
        if row.state in STATES and row.ends_at > row.now:
            raise AssertionError(f"[disconnected] {wish}: {_row(row)}")

    def _own(self, wish: Wish, row: Any) -> None:
        if row.state in STATES and (row.meeting_url, row.join_at) != (wish.link, wish.join_at):
            raise AssertionError(f"[own] {wish}: {_row(row)}")
        if row.state not in STATES and row.ends_at > row.now and not wish.is_removed and row.state != "failed":
            raise AssertionError(f"[own] {wish}: {_row(row)}")
        self._failed(row)

    def _failed(self, row: Any) -> None:
        """Nothing here refuses a bot for good, but for Meeting BaaS where it has another one in the meeting."""
        others = [one for one in self._stage.sandbox.bots.bots.values() if ids_of(one)[0] != public(BOT, row.id)]
        is_taken = row.kind == "meeting_baas" or any(
            one.backend == "meeting_baas" and one.meeting_url == row.meeting_url for one in others
        )
        if row.state == "failed" and not is_taken:
            raise AssertionError(f"[failed] {_row(row)}")

    def _at_back_end(self, row: Any, pictures: dict[str, Picture], *, may_be_late: bool) -> None:
        stage, bot_id = self._stage, public(BOT, row.id)
        since = row.now - stage.calm_since
        if row.failure_count or row.is_given_up or not stage.is_calm or row.lease_until or row.transfer_since:
            return
        hand_over = row.join_at - timedelta(seconds=row.hand_over)
        is_live = row.state in STATES and row.ends_at > row.now
        slack = timedelta(seconds=MESSAGE_SECONDS if row.kind == "webhook" else KEPT_SECONDS)
        begun = max(hand_over, row.told_at)
        is_late = is_live and begun + slack < row.now and since > slack
        if is_late and row.state != "launched" and not may_be_late:
            raise AssertionError(f"[late] not launched: {_row(row)}")
        if row.state == "missed" and stage.calm_since < begun < row.ends_at - slack:
            raise AssertionError(f"[missed] with nothing in the way: {_row(row)}")
        if row.kind == "webhook":
            self._told(row, pictures.get(bot_id, Picture()), is_live=is_live)
            return
        there = [one for one in stage.there(bot_id) if stage.sandbox.bots.phase(one) in LIVE]
        if row.state not in STATES and there and row.ends_at > row.now:
            raise AssertionError(f"[withdrawn] {_row(row)} is there: {[_there(one) for one in there]}")
        if is_live and row.state == "launched" and row.handed_revision == row.revision:
            self._same(row, there)

    def _same(self, row: Any, there: list[There]) -> None:
        if [one.id for one in there] != [row.external_id]:
            failed = [one for one in self._stage.there(public(BOT, row.id)) if one.failure]
            if failed and not there:  # Meeting BaaS lets nobody in where somebody of ours was, and tells nobody
                return
            raise AssertionError(f"[there] {_row(row)}: {[_there(one) for one in there]}")
        [bot] = there
        is_in_time = bot.joined_at is not None or not bot.is_scheduled or bot.join_at == row.join_at
        if bot.meeting_url != row.meeting_url or bot.bot_name != row.bot_name or not is_in_time:
            raise AssertionError(f"[there] {_row(row)}: {_there(bot)}")

    @staticmethod
    def _told(row: Any, picture: Picture, *, is_live: bool) -> None:
        """A receiver that does as docs/bots.md says has what the row says."""
        if is_live and row.state == "launched":
            told = (picture.is_live, picture.revision, picture.url, picture.join_at)
            if told != (True, row.revision, row.meeting_url, row.join_at):
                raise AssertionError(f"[told] {picture}: {_row(row)}")
        if row.state not in STATES and row.ends_at > row.now and picture.is_live:
            raise AssertionError(f"[told] {picture}: {_row(row)}")

    def _unheard(self, rows: dict[str, Any]) -> None:
        """Nobody joined a meeting that had been gone, or elsewhere, for a minute, pushes or not."""
        stage = self._stage
        state_of = {wish.id: wish for wish in stage.wishes.values()}
        for bot in stage.sandbox.bots.bots.values():
            wish = state_of.get(ids_of(bot)[0])
            if wish is None or wish.watch is None or wish.cell is None or wish.watch not in stage.watches:
                continue
            joined, calendar = bot.joined_at, wish.watch.connected.remote_id
            if joined is None or bot.left_at is not None or wish.watch.may_disconnect or rows[wish.id].failure_count:
                continue
            if max(bot.created_at, stage.calm_since) > joined - LOOKED:
                continue
            changes = stage.sandbox.world.versions[calendar].get(wish.cell)
            if changes is None or any(one.updated > joined - LOOKED for one in changes):
                continue
            place = changes[-1]
            link = place.conference.url if place.conference else None
            if not place.is_live or place.called_off or link != bot.meeting_url or place.start != bot.join_at:
                raise AssertionError(f"[unheard] {_there(bot)} joined, of {place.start} {link} {place.is_live}")

    # --- in the end ---

    async def end(self, waiting: list[Any]) -> None:
        """Each of these bots, which waited when nothing was in the way any more, came to its meeting, once."""
        self._stage.sandbox.bots.settle()
        rows = {row.id: row for row in await self._stage.bots()}
        pictures = played(self._stage.sink.received)
        for before in waiting:
            row, bot_id = rows[before.id], public(BOT, before.id)
            if row.state == "cancelled" or row.join_at != before.join_at:
                continue  # no push had told of that; whether it is right was judged when it was quiet
            if row.kind == "webhook":
                picture = pictures.get(bot_id, Picture())
                if (picture.is_live, picture.revision, picture.join_at) != (True, row.revision, before.join_at):
                    raise AssertionError(f"[came] {picture}: {_row(row)}")
                continue
            there = self._stage.there(bot_id)
            came = [one for one in there if one.joined_at and one.joined_at >= before.join_at - AT_ONCE]
            failed = [one for one in there if one.failure]
            if len(came) != 1 and not failed and row.state != "failed":
                raise AssertionError(f"[came] {len(came)} times: {_row(row)}: {[_there(one) for one in there]}")
            if any(abs(one.joined_at - before.join_at) > AT_ONCE for one in came if one.joined_at):
                raise AssertionError(f"[came] late: {_row(row)}: {[_there(one) for one in came]}")
            self._failed(row)
        await self._transitions({public(BOT, row.id): row for row in rows.values()})

    async def _transitions(self, rows: dict[str, Any]) -> None:
        """Each transition was told once, in order, and the last one is the state."""
        async with self._stage.rt.db.reading() as tx:
            found = await tx.rows(
                "SELECT payload FROM messages WHERE trigger = 'bot.state_change' ORDER BY created_at, id"
            )
        told: dict[str, list[tuple[str | None, str]]] = {bot_id: [] for bot_id in rows}
        for message in found:
            data = orjson.loads(message.payload)["data"]
            told[data["bot"]["id"]].append((data["old_state"], data["new_state"]))
        for bot_id, steps in told.items():
            is_chain = all(one[1] == two[0] and two[0] != two[1] for one, two in pairwise(steps))
            is_begun = bool(self._stage.gone) or (steps and steps[0][0] is None)  # messages go with calendars
            if not is_begun or not is_chain or (steps and steps[-1][1] != rows[bot_id].state):
                raise AssertionError(f"[transitions] {steps}: {_row(rows[bot_id])}")


def _row(row: Any) -> str:
    names = (
        "state",
        "state_reason",
        "meeting_url",
        "join_at",
        "ends_at",
        "kind",
        "revision",
        "handed_revision",
        "starting_since",
        "due_at",
        "lease_until",
        "failure_count",
        "external_id",
        "now",
    )
    return f"{public(BOT, row.id)} " + ", ".join(f"{name}={getattr(row, name)}" for name in names)


def _there(bot: There) -> str:
    times = f"join_at={bot.join_at} joined={bot.joined_at} left={bot.left_at} withdrawn={bot.withdrawn_at}"
    return f"{bot.backend} {bot.id} {ids_of(bot)} {bot.meeting_url} created={bot.created_at} {times} {bot.failure}"
