"""The judgement: what has to hold whenever everything is quiet, and what has to hold in the end."""

from datetime import datetime, timedelta
from typing import Any

from tests.properties import customer
from tests.properties.customer import Inconsistent, Reader, Told
from tests.properties.oracle import expected, shown
from tests.properties.stage import Stage
from tests.properties.watching import Run, Watch

Json = dict[str, Any]

OLDEST_START = timedelta(days=2, minutes=10)
"""A window begins a day before its anchor, and rolls once a day."""


class Judge:
    """Holds one stage against the promises."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    # --- whenever it is quiet ---

    async def settled(self) -> list[Watch]:
        """Every calendar that nothing hinders shows what its provider shows: at once, not after the next audit."""
        state = await self._stage.state()
        judged = []
        for watch in self._stage.watches:
            sync = state[watch.connected.key]
            if sync.state == "disconnected" and not watch.may_disconnect:
                raise AssertionError(f"[disconnected] {watch.connected.remote_id}: nobody said that access is over")
            is_hindered = sync.state == "disconnected" or sync.is_due or sync.is_failing
            if is_hindered or watch.unheard >= 0 or watch.is_lied_to or self._stage.sandbox.push.held:
                continue
            await self.equal(watch)
            judged.append(watch)
        return judged

    async def equal(self, watch: Watch) -> None:
        """a. The API shows the world inside the window, field by field."""
        stage, calendar = self._stage, watch.connected
        window = await stage.actor.window(calendar)
        if (age := stage.now() - window[0]) > OLDEST_START:
            raise AssertionError(f"[window] {calendar.remote_id} is kept in sync from {age} ago only")
        world = stage.sandbox.world
        cells = world.instances(calendar.remote_id, *window)
        wanted = {cell.event_id: expected(cell, world, calendar.account, watch.role) for cell in cells}
        listed = await stage.actor.events(calendar)
        found = {
            row["platform_uuid"]: shown(row)
            for row in listed
            if _instant(row["end_time"]) > window[0] and _instant(row["start_time"]) < window[1]
        }
        if len(found) != sum(1 for row in listed if row["platform_uuid"] in found):
            raise AssertionError(f"[equal] one event, several rows in {calendar.remote_id}")
        if late := [row["name"] for row in listed if _instant(row["start_time"]) >= window[1]]:
            raise AssertionError(f"[window] {calendar.remote_id} shows what lies behind its window: {late}")
        if found != wanted:
            raise AssertionError(f"[equal] {calendar.remote_id}\n{_difference(found, wanted)}")

    def read(self, reader: Reader) -> None:
        """d. Whatever a reader was shown was true at some moment."""
        while reader.news:
            row = reader.news.pop()
            watch = next(one for one in self._stage.watches if one.connected.id == row["calendar_id"])
            if row["is_deleted"] or self._stage.chronicle.had(watch.connected.remote_id, self._stage.account, row):
                continue
            raise AssertionError(f"[history] {watch.connected.remote_id} never had {shown(row)}")

    # --- in the end ---

    async def end(self) -> None:
        """Everything, once nothing is due any more and nothing hinders any calendar."""
        state = await self._stage.state()
        for watch in self._stage.watches:
            sync = state[watch.connected.key]
            if (sync.state, sync.is_due, sync.is_failing) != ("connected", False, False):
                raise AssertionError(f"[quiet] {watch.connected.remote_id} is {sync}")
            await self.equal(watch)
        for reader in self._stage.readers:
            await reader.read(limit=50)
            self.read(reader)
        try:
            await self._messages()
        except Inconsistent as exc:
            raise AssertionError(f"[messages] {exc}") from exc

    async def _messages(self) -> None:
        messages = customer.unique(self._stage.sink.received)
        for watch in self._stage.watches:
            calendar = watch.connected
            told = customer.replay(messages, calendar.id)
            rows = {row["id"]: row for row in await self._stage.actor.events(calendar, is_deleted=None)}
            self._believed(watch, told, rows)
            self._true(watch, told, rows)
            self._transitions(calendar.id, customer.states(messages, calendar.id))

    def _believed(self, watch: Watch, told: Told, rows: dict[str, Json]) -> None:
        """b, c, e. Every picture that a customer can make is the same, and nothing changed unannounced."""
        live = {key: row for key, row in rows.items() if not row["is_deleted"]}
        newest = max((row["change_seq"] for row in rows.values()), default=0)
        if told.last != newest:
            raise AssertionError(f"[announced] rows up to {newest}, messages up to {told.last}")
        if not told.holes and told.live != live.keys():
            raise AssertionError(f"[announced] by the messages there are {told.live ^ live.keys()} more or less")
        for key, values in told.values.items():
            row = live.get(key)
            for name, value in values.items() if row is not None and not told.holes else ():
                if name != "attendees" and row is not None and row[name] != value:
                    raise AssertionError(f"[announced] {name} of {key} is {row[name]!r}, last told was {value!r}")
        for reader in self._stage.readers:
            if reader.calendar_id in {None, watch.connected.id} and reader.live(watch.connected.id) != live:
                how = "after_seq" if reader.by_number else f"updated_after of {reader.calendar_id or 'all'}"
                raise AssertionError(f"[read] by {how}\n{_difference(reader.live(watch.connected.id), live)}")

    def _true(self, watch: Watch, told: Told, rows: dict[str, Json]) -> None:
        """d. What was announced as made or gone was there, or not, at a moment that the run can have seen."""
        seen: dict[str, int] = {}
        chronicle, remote_id = self._stage.chronicle, watch.connected.remote_id
        for entry, body in told.entries:
            runs = self._runs_of(watch, body)
            row, key = rows[entry["id"]], entry["id"]
            first = min((run.first for run in runs), default=0)
            if entry["change"] != "updated" and runs:
                is_made = entry["change"] == "created"
                seqs = (0 if is_made else seen.get(key, 0), max(run.last for run in runs))
                windows = [run.window for run in runs if run.window is not None]
                is_true = any(chronicle.was(remote_id, row, w, seqs, there=is_made) for w in windows)
                if not is_made:  # what has merely become old is not announced
                    ever = (0, seqs[1])
                    is_true = is_true and any(chronicle.was(remote_id, row, w, ever, there=True) for w in windows)
                if windows and not is_true:
                    raise AssertionError(f"[invented] {entry['change']} {row['platform_uuid']} ({row['name']}): {seqs}")
            if entry["change"] != "deleted":
                seen[key] = first

    def _runs_of(self, watch: Watch, body: Json) -> list[Run]:
        """The runs that can have written a message, by when it was made; of a digest nothing tells."""
        if customer.is_digest(body):
            return []
        at = _instant(body["timestamp"])
        return [
            run
            for run in self._stage.runs
            if run.calendar_id == watch.connected.key
            and run.result in {"synced", "killed"}
            and run.began <= at
            and (run.ended is None or at <= run.ended)
        ]

    @staticmethod
    def _transitions(calendar_id: str, transitions: list[tuple[str, str]]) -> None:
        state = "connected"
        for before, after in transitions:
            if before != state or after == state:
                raise AssertionError(f"[transitions] of {calendar_id}: {transitions}")
            state = after
        if state != "connected":
            raise AssertionError(f"[transitions] of {calendar_id} end with {state}")


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _difference(found: dict[str, Json], wanted: dict[str, Json]) -> str:
    """Only what differs, a line each."""
    lines = []
    for key in sorted(found.keys() | wanted.keys()):
        have, want = found.get(key), wanted.get(key)
        if have == want:
            continue
        if have is None or want is None:
            lines.append(f"  {key}: {'missing' if have is None else 'too much'}: {want or have}")
        else:
            fields = {name: (have.get(name), want.get(name)) for name in want if have.get(name) != want.get(name)}
            lines.append(f"  {key}: shown, expected: {fields}")
    return "\n".join(lines)
