"""Series that were split ("this and following"): what was said of the old one goes for the new one as well.

Google names the new series after the old one. Graph gives it an id that says nothing: there it is the one that begins
in the round in which the rest of the old one goes, with the same link, within a day of where that stood.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from app.bots.rules.rule import Candidate, Rule
from app.db import Tx
from app.meetings import canonical_key

NEAR: Final = timedelta(days=1)
"""How far from the old one an occurrence may be to be the same."""

# A series that still has occurrences there has merely lost some; one that was there before is none that was split off.
_TRUE: Final = """
SELECT n.old, n.new FROM unnest(CAST(:olds AS text[]), CAST(:news AS text[]), CAST(:starts AS timestamptz[]),
                                CAST(:firsts AS uuid[])) AS n (old, new, start, first)
  JOIN calendar_events f ON f.id = n.first
 WHERE NOT EXISTS (SELECT FROM calendar_events e
                    WHERE e.calendar_id = :calendar AND e.series_id = n.new AND NOT e.is_deleted
                      AND e.created_at < f.created_at)
   AND NOT EXISTS (SELECT FROM calendar_events e
                    WHERE e.calendar_id = :calendar AND e.series_id = n.old AND NOT e.is_deleted
                      AND e.start_time >= n.start)
"""

_EXTEND: Final = "UPDATE rules SET further_series = array_append(further_series, :series) WHERE id = :rule"

_OVERRIDE_SERIES: Final = """
INSERT INTO series_overrides (calendar_id, series_id, bot_override)
SELECT DISTINCT ON (n.new) o.calendar_id, n.new, o.bot_override
  FROM unnest(CAST(:olds AS text[]), CAST(:news AS text[])) WITH ORDINALITY AS n (old, new, place)
  JOIN series_overrides o ON o.calendar_id = :calendar AND o.series_id = n.old
 ORDER BY n.new, n.place
ON CONFLICT (calendar_id, series_id) DO NOTHING RETURNING series_id, bot_override
"""

_OVERRIDE_EVENTS: Final = """
UPDATE calendar_events e SET bot_override = o.bot_override
  FROM unnest(CAST(:olds AS uuid[]), CAST(:news AS uuid[])) AS n (old, new)
  JOIN calendar_events o ON o.id = n.old AND o.bot_override IS NOT NULL
 WHERE e.id = n.new RETURNING e.id, e.bot_override
"""


@dataclass(frozen=True, slots=True)
class Split:
    """A series that goes on as another one."""

    old: str
    gone: Sequence[Candidate]
    """The occurrences that are gone, by their starts; none where it was split further ahead."""
    new: str
    fresh: Sequence[Candidate]


def splits(candidates: Sequence[Candidate]) -> list[Split]:
    """Which series may have been split, by the events of one round."""
    fresh = _by_series(c for c in candidates if c.is_new and not c.event.is_deleted)
    if not fresh:
        return []
    gone = _by_series(c for c in candidates if c.event.is_deleted and c.event.deletion_kind is None)
    by_link: dict[str | None, list[str]] = defaultdict(list)
    for old, before in gone.items():
        by_link[_link(before[0])].append(old)
    found: list[Split] = []
    for new, after in fresh.items():
        link = _link(after[0])
        near = [Split(old, gone[old], new, after) for old in by_link[link] if link is not None and old != new]
        near = sorted(near, key=lambda split: (_apart(split), split.old))[:1]
        near = [split for split in near if _apart(split) <= NEAR]
        name = new.rpartition("_R")[0]
        if name and all(split.old != name for split in near):
            near.append(Split(name, gone.get(name, []), new, after))
        found += near
    return found


def _by_series(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    found: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.series_id is not None:
            found[candidate.series_id].append(candidate)
    return {series: sorted(each, key=lambda c: (c.event.start_time, c.id)) for series, each in found.items()}


def _apart(split: Split) -> timedelta:
    return abs(split.gone[0].event.start_time - split.fresh[0].event.start_time)


def _link(candidate: Candidate) -> str | None:
    url = candidate.event.meeting_url
    return url and (canonical_key(url, candidate.ground.preferences, is_trusted=True) or url)


async def carry_over(
    tx: Tx, calendar_id: UUID, candidates: Sequence[Candidate], rules: Sequence[Rule], *, touched: Collection[UUID]
) -> tuple[Sequence[Candidate], Sequence[Rule]]:
    """Let rules and overrides of a series that was split go for both parts. The calendar's row is locked.

    `touched`: the events that this round has stored, of the candidates.
    """
    found = await _true(tx, calendar_id, splits([c for c in candidates if c.id in touched]))
    if not found:
        return candidates, rules
    extended = [await _extended(tx, rule, found) for rule in rules]
    params = {"calendar": calendar_id, "olds": [s.old for s in found], "news": [s.new for s in found]}
    of_series = {row.series_id: row.bot_override for row in await tx.rows(_OVERRIDE_SERIES, params)}
    pairs = [pair for split in found for pair in _pairs(split)]
    olds, news = [old.id for old, _ in pairs], [new.id for _, new in pairs]
    rows = await tx.rows(_OVERRIDE_EVENTS, {"olds": olds, "news": news}) if pairs else []
    of_events = {row.id: row.bot_override for row in rows}
    overridden = [
        replace(c, override=of_events.get(c.id) or c.override or of_series.get(c.series_id)) for c in candidates
    ]
    return overridden, extended


async def _true(tx: Tx, calendar_id: UUID, found: Sequence[Split]) -> list[Split]:
    if not found:
        return []
    starts = [None if split.new.startswith(f"{split.old}_R") else split.gone[0].event.start_time for split in found]
    params = {
        "calendar": calendar_id,
        "olds": [split.old for split in found],
        "news": [split.new for split in found],
        "starts": starts,  # null: its name says what it is
        "firsts": [split.fresh[0].id for split in found],
    }
    true = {(row.old, row.new) for row in await tx.rows(_TRUE, params)}
    return [split for split in found if (split.old, split.new) in true]


async def _extended(tx: Tx, rule: Rule, found: Sequence[Split]) -> Rule:
    for split in found:
        if rule.covers_series(split.old) and not rule.covers_series(split.new):
            await tx.execute(_EXTEND, {"rule": rule.id, "series": split.new})
            rule = replace(rule, further_series=rule.further_series | {split.new})
    return rule


def _pairs(split: Split) -> list[tuple[Candidate, Candidate]]:
    """The occurrences that stand where one of the old series stood."""
    stood = {old.event.start_time: old for old in split.gone}
    return [(stood[new.event.start_time], new) for new in split.fresh if new.event.start_time in stood]
