"""Which of an event's bots serve the rules that want one. Pure.

A rule finds the bot that it made before, live or ended by what has passed, before it gets another. What its owner has
changed by hand stays as it is; what its owner has ended, and what has failed, keeps the rule from making another until
the rule is changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.bots.rules.rule import WIDE, Rule
from app.bots.standing import BY_RULES, LIVE, RESTORABLE
from app.db import Row


@dataclass(slots=True)
class Assignment:
    """What an event's rules come to."""

    served: list[tuple[Row, Rule | None]] = field(default_factory=list)
    """Bots that stay or come back; with the rule that they are to be adopted by, if they do not know it as it is."""
    unwanted: list[Row] = field(default_factory=list)
    """Live bots that no rule wants any more."""
    new: list[Rule] = field(default_factory=list)
    """Rules that have no bot."""


def assign(wanted: Sequence[Rule], bots: Sequence[Row]) -> Assignment:
    """Share an event's bots of rules out between the rules that want one.

    `bots`: all of the event with a rule, ended ones too.
    """
    result, left = Assignment(), list(bots)
    unserved = []
    for rule in wanted:  # its own bot first, so that no other rule takes it
        own = next((bot for bot in left if bot.rule_id == rule.id and bot.state in LIVE), None)
        if own is None:
            unserved.append(rule)
        else:
            left.remove(own)
            result.served.append((own, _adoption(own, rule)))
    for rule in unserved:
        bot = _heir(rule, left) or _returning(rule, left)
        if bot is not None:
            left.remove(bot)
            result.served.append((bot, _adoption(bot, rule)))
        elif not any(blocks(each, rule) for each in left):
            result.new.append(rule)
    result.unwanted = [bot for bot in left if bot.state in LIVE and not bot.is_by_hand]
    return result


def _adoption(bot: Row, rule: Rule) -> Rule | None:
    """Its rule, where the bot is not yet what that makes it. What is at another back end already stays there.

    One that is in its meeting stays what it is.
    """
    if bot.is_by_hand or (bot.rule_id, bot.rule_version) == (rule.id, rule.version):
        return None
    if bot.state in LIVE and bot.is_at_back_end and bot.join_at <= bot.now:
        return None
    is_elsewhere = (bot.is_at_back_end and bot.launcher_id != rule.launcher_id) if bot.state in LIVE else False
    return None if is_elsewhere else rule


def _heir(rule: Rule, bots: Sequence[Row]) -> Row | None:
    """Another rule's live bot for the same meeting: there is to be one, and it is there."""
    if rule.scope not in WIDE:
        return None
    return next((bot for bot in bots if bot.dedup_scope == rule.scope and bot.state in LIVE), None)


def _returning(rule: Rule, bots: Sequence[Row]) -> Row | None:
    back = [bot for bot in bots if bot.rule_id == rule.id and not bot.is_removed and may_return(bot)]
    return max(back, key=lambda bot: (bot.created_at, bot.id), default=None)


def may_return(bot: Row) -> bool:
    """Whether an ended bot of a rule comes back when it is wanted again."""
    return bool(bot.state == "missed" or (bot.state == "cancelled" and bot.state_reason in RESTORABLE | BY_RULES))


def blocks(bot: Row, rule: Rule) -> bool:
    """Whether an ended bot keeps a rule from making another on its event."""
    is_ended = bot.is_removed or bot.state == "failed"
    return bool(is_ended and bot.rule_id == rule.id and bot.rule_version == rule.version)
