"""Faults put into what launches bots, as data: the machine on bots has to notice each."""

from tests.properties.mutants import Mutant

ASSIGNING = "app/bots/rules/assigning.py"
CALLS = "app/bots/calls.py"
CLAIMS = "app/bots/claims.py"
DUE = "app/bots/due.py"
OVERRIDING = "app/bots/rules/overriding.py"
RESOLVING = "app/bots/resolving.py"
WRITING = "app/bots/writing.py"


def _one(name: str, breaks: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(name, breaks, ((file, old, new),), "bots")


_KNOWN = "WHEN b.handed_revision IS NOT NULL OR b.starting_since IS NOT NULL THEN app_now()\n           WHEN n.state"

MUTANTS = (
    _one(
        "a-move-is-no-revision",
        "a back end is told of a move",
        WRITING,
        "revision = b.revision + CASE WHEN n.is_new THEN 1 ELSE 0 END",
        "revision = b.revision + CASE WHEN n.is_new AND n.join_at = b.join_at THEN 1 ELSE 0 END",
    ),
    _one(
        "an-end-is-not-passed-on",
        "a back end is told of an end",
        WRITING,
        _KNOWN,
        _KNOWN.replace("WHEN b.", "WHEN n.state <> 'cancelled' AND (b.", 1).replace("NULL THEN", "NULL) THEN"),
    ),
    _one(
        "no-look-for-an-earlier-start",
        "each meeting is started once",
        CALLS,
        "if claim.is_sought and as_is.since is not None:",
        "if claim.is_sought and as_is.since is None:",
    ),
    _one(
        "no-intent-before-a-start",
        "each meeting is started once",
        DUE,
        "settled.append((each, replace(intended, is_held=True, notes=notes)))",
        "settled.append((each, replace(each.as_is, is_held=True, notes=notes)))",
    ),
    _one(
        "an-unknown-start-is-not-withdrawn",
        "what has ended is not there",
        CALLS,
        "if row.handed_revision is None and as_is.since is not None:\n        found",
        "if row.handed_revision is None and as_is.since is None:\n        found",
    ),
    _one(
        "a-withdrawal-without-an-answer-was-none",
        "what has come back is there",
        DUE,
        "intended = replace(as_is, handed=doubted(as_is.handed))",
        "intended = as_is",
    ),
    _one(
        "claims-bind-nobody",
        "one bot for one meeting",
        CLAIMS,
        "        return self.is_failed and not self.is_removed and self.rule != rule",
        "        return True",
    ),
    Mutant(
        "what-was-ended-is-made-anew",
        "what its owner has ended stays away",
        (
            (
                ASSIGNING,
                "return bool(is_ended and bot.rule_id == rule.id and",
                "return bool(is_ended and bot.rule_id is None and",
            ),
            (CLAIMS, "OR (b.is_removed OR b.state = 'failed') AND", "OR b.is_removed AND b.state <> 'cancelled' AND"),
        ),
        "bots",
    ),
    _one(
        "what-is-left-behind-is-nobodys",
        "one bot for one meeting",
        RESOLVING,
        "    if left:\n        others",
        "    if left and not but and but:\n        others",
    ),
    _one(
        "an-override-waits-for-a-sync",
        "an override goes for bots at once",
        OVERRIDING,
        "    if not is_changed:\n        return\n    if value",
        "    if not is_changed or value:\n        return\n    if value",
    ),
)
