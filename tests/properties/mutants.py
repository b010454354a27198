"""Faults put into the service on purpose, as data: each breaks a promise, and the state machine has to notice.

A fault names a file and the exact text that is replaced in it; a test sees to it that each text still stands there
exactly once, so that the list stays true as the code moves.
"""

from dataclasses import dataclass

ENGINE = "app/sync/engine.py"
CHANGES = "app/sync/changes.py"
STORE = "app/sync/store.py"
SETTLE = "app/sync/settle.py"
SCHEDULING = "app/scheduling.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault. Each of `edits` is a file, the old text and the new one."""

    name: str
    breaks: str
    edits: tuple[tuple[str, str, str], ...]
    machine: str = "calendars"
    """Which machine has to notice."""


def _one(name: str, breaks: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(name, breaks, ((file, old, new),))


_OUTSIDE = "        if row.is_deleted or not window.overlaps(row.start_time, row.end_time):"
_IN_WINDOW = """AND NOT is_deleted AND end_time > :window_start AND start_time < :window_end
\"\"\"

_COLUMNS"""

MUTANTS = (
    _one(
        "served-as-of-the-end",
        "4: a request that comes during a run causes another",
        STORE,
        "synced_seq = greatest(synced_seq, :seq)",
        "synced_seq = greatest(requested_seq, :seq)",
    ),
    _one(
        "request-dropped-while-a-run-is-on",
        "4: a request that comes during a run causes another",
        SCHEDULING,
        "   SET requested_seq = s.requested_seq + 1,\n       asked_seq",
        "   SET requested_seq = s.requested_seq + CASE WHEN s.lease_until > clock_timestamp() THEN 0 ELSE 1 END,\n"
        "       asked_seq",
    ),
    _one(
        "cursor-before-the-changes",
        "1: change, message and cursor commit together",
        ENGINE,
        "    try:\n        async with rt.db.transaction() as tx:\n            outcome = await _apply(",
        "    async with rt.db.transaction() as tx:\n"
        '        await tx.execute("UPDATE sync_state SET cursor = :c WHERE calendar_id = :i AND fence = :f",\n'
        '                         {"c": fetched.cursor, "i": claim.calendar_id, "f": claim.fence})\n'
        "    try:\n        async with rt.db.transaction() as tx:\n            outcome = await _apply(",
    ),
    Mutant(
        "fence-not-compared",
        "2: a run that lost the race changes nothing",
        (
            (
                STORE,
                "    if row.fence != claim.fence or row.cursor_version != claim.cursor_version:\n        return None\n",
                "",
            ),
            (
                STORE,
                " WHERE calendar_id = :id AND fence = :fence AND cursor_version = :cursor_version",
                " WHERE calendar_id = :id AND CAST(:fence AS bigint) + CAST(:cursor_version AS bigint) > 0",
            ),
        ),
    ),
    _one(
        "message-in-a-transaction-of-its-own",
        "1: change, message and cursor commit together",
        ENGINE,
        "    if messages:\n        await publish(tx, rt.queue, messages)",
        "    if messages:\n        async with rt.db.transaction() as own:\n"
        "            await publish(own, rt.queue, messages)",
    ),
    _one(
        "no-message-for-deletions",
        "each change is announced",
        ENGINE,
        '    if found or row.is_greeting_due or row.state != "connected":\n        message_id',
        '    if any(c.change != "deleted" for c in found) or row.is_greeting_due or row.state != "connected":\n'
        "        message_id",
    ),
    _one(
        "numbers-not-advanced",
        "change numbers have no gap and come once",
        ENGINE,
        "       last_change_seq = last_change_seq + :count,",
        "       last_change_seq = last_change_seq + :count - :count,",
    ),
    _one(
        "absence-counts-in-a-delta",
        "deletions by absence only from a full listing",
        ENGINE,
        "fetched = Round({}, window, is_full=cursor is None,",
        "fetched = Round({}, window, is_full=True,",
    ),
    _one(
        "window-rolls-too-rarely",
        "the window rolls once a day",
        ENGINE,
        "anchor_due_at=next_anchor(claim.calendar_id, row.now) if",
        "anchor_due_at=next_anchor(claim.calendar_id, row.now) + timedelta(days=1) if",
    ),
    _one(
        "tombstone-of-what-is-outside",
        "what has become old is frozen",
        CHANGES,
        _OUTSIDE,
        "        if row.is_deleted:",
    ),
    Mutant(
        "old-rows-deleted",
        "what has become old is frozen",
        (
            (CHANGES, _OUTSIDE, "        if row.is_deleted:"),
            (STORE, _IN_WINDOW, _IN_WINDOW.replace("end_time >", "end_time + interval '9 years' >")),
        ),
    ),
    _one(
        "series-tombstone-ignored",
        "a deleted series takes its occurrences along",
        CHANGES,
        "row.platform_uuid in gone or (item_of_row is None and row.series_id in gone)",
        "row.platform_uuid in gone",
    ),
    _one(
        "window-not-asked-in-a-delta",
        "only what overlaps the window is kept",
        CHANGES,
        '        return _change("created", row, event) if is_inside else None',
        '        return _change("created", row, event)',
    ),
    _one(
        "moved-out-is-kept",
        "what was moved out of the window is deleted",
        CHANGES,
        "    if window.overlaps(row.start_time, row.end_time):\n        return _change(",
        "    if window.overlaps(row.start_time, row.end_time) and row.is_deleted:\n        return _change(",
    ),
    _one(
        "restored-is-ignored",
        "a restored event is there again",
        CHANGES,
        "        if not is_inside:\n            return None\n",
        "        if not is_inside or row.deletion_kind is None:\n            return None\n",
    ),
    _one(
        "every-touch-is-announced",
        "5: what nobody can see is not announced",
        CHANGES,
        "        return None if change.content_hash == row.content_hash else change",
        "        return change",
    ),
    _one(
        "first-version-wins",
        "of an id that comes twice the last one counts",
        "app/providers/microsoft/rounds.py",
        "        last.pop(key, None)\n        last[key] = entry",
        "        last.setdefault(key, entry)",
    ),
    _one(
        "quota-answer-disconnects",
        "9: only the provider's word about this user disconnects",
        SETTLE,
        "    try:\n        if isinstance(error, GrantRevoked):",
        "    try:\n        if isinstance(error, ProviderThrottled):\n"
        "            return await _disconnect(rt, claim, error.code, error.code, error.detail, version=grant_version)\n"
        "        if isinstance(error, GrantRevoked):",
    ),
    _one(
        "one-refusal-disconnects",
        "9: a missing calendar is confirmed by a second run",
        SETTLE,
        "isinstance(error, CalendarGone | AccessLost) and claim.suspect_code == error.code:",
        "isinstance(error, CalendarGone | AccessLost):",
    ),
    _one(
        "any-answer-is-a-receipt",
        "7: webhooks are delivered at least once",
        "app/webhooks/attempts.py",
        "    if 200 <= status < 300:",
        "    if 200 <= status < 600:",
    ),
    _one(
        "retry-under-a-new-id",
        "7: a message keeps its id",
        "app/webhooks/attempts.py",
        "    message_id = public(MESSAGE, claim.message_id)",
        "    message_id = public(MESSAGE, claim.message_id if claim.attempt == 1 else claim.delivery_id)",
    ),
    _one(
        "lease-of-a-dead-sender-never-ends",
        "7: webhooks are delivered at least once",
        "app/webhooks/claims.py",
        "    SET next_attempt_at = (SELECT app_now()) + make_interval(secs => :lease),",
        "    SET next_attempt_at = (SELECT app_now()) + make_interval(secs => :lease) + interval '100 years',",
    ),
    _one(
        "watermark-is-exclusive",
        "8: a reader never misses a row",
        "app/api/event_queries.py",
        '"updated_after": "e.updated_at >= :updated_after"',
        '"updated_after": "e.updated_at > :updated_after"',
    ),
    _one(
        "no-horizon",
        "8: a reader never misses a row",
        "app/api/event_queries.py",
        "SELECT least(clock.at, writers.oldest)",
        "SELECT greatest(clock.at, writers.oldest)",
    ),
)
