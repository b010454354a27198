"""What the demo concludes about bots, shown false evidence: it must say so."""

from typing import Any

import pytest

from demo import attendance, telling

FIRST, OTHER, QUIET = (f"https://meet.google.com/{code}" for code in ("aaa-bbbb-ccc", "ddd-eeee-fff", "ggg-hhhh-iii"))
SHARED = {FIRST, OTHER}
SHARED_BOT: dict[str, Any] = {"id": "bot_1", "state": "cancelled", "meeting_url": OTHER}
QUIET_BOT: dict[str, Any] = {"id": "bot_2", "state": "cancelled", "meeting_url": QUIET}
BOTS = [SHARED_BOT, QUIET_BOT]
GIVEN: dict[str, Any] = {"id": "b1", "phase": "withdrawn", "changes": [{"join_at": "…"}, {"meeting_url": OTHER}]}
MEETING: dict[str, Any] = {"meeting_url": OTHER, "joined": 0, "bots": [GIVEN]}


def flaws(bots: list[dict[str, Any]], meetings: list[dict[str, Any]]) -> list[str]:
    """As the demo asks for them."""
    return attendance.flaws(bots, meetings, shared=SHARED, unasked=QUIET)


def test_one_bot_withdrawn_and_one_never_asked_for_is_no_flaw() -> None:
    assert flaws(BOTS, [MEETING]) == []


@pytest.mark.parametrize(
    ("bots", "told"),
    [
        ([SHARED_BOT | {"state": "launched"}, QUIET_BOT], "bot_1 is launched"),
        ([*BOTS, SHARED_BOT | {"id": "bot_3", "meeting_url": FIRST}], "2 bots were made for"),
        ([SHARED_BOT], f"0 bots were made for {QUIET}"),
    ],
)
def test_each_bot_too_many_missing_or_alive_is_told(bots: list[dict[str, Any]], told: str) -> None:
    (found,) = flaws(bots, [MEETING])
    assert told in found


@pytest.mark.parametrize(
    ("meetings", "told"),
    [
        ([], "was given 0 bots"),
        ([MEETING | {"bots": [GIVEN, GIVEN | {"id": "b2"}]}], "was given 2 bots"),
        ([MEETING, MEETING | {"meeting_url": FIRST}], "was given 2 bots"),
        ([MEETING | {"joined": 1}], "a bot came to"),
        ([MEETING | {"bots": [GIVEN | {"phase": "scheduled"}]}], "is still scheduled"),
        ([MEETING, {"meeting_url": QUIET, "joined": 0, "bots": [GIVEN]}], f"was asked for {QUIET}"),
        (
            [MEETING, {"meeting_url": "https://x.example", "joined": 0, "bots": [GIVEN]}],
            "has a bot for https://x.example",
        ),
        ([MEETING | {"bots": [GIVEN | {"changes": [{"meeting_url": QUIET}]}]}], f"was asked for {QUIET}"),
    ],
)
def test_whatever_the_back_end_should_not_have_is_told(meetings: list[dict[str, Any]], told: str) -> None:
    (found,) = flaws(BOTS, meetings)
    assert told in found


@pytest.mark.parametrize("ahead", [0.5, 30, 54])
def test_the_look_finds_it_before_joining(ahead: float) -> None:
    assert attendance.look_flaws(ahead) == []


@pytest.mark.parametrize("ahead", [0, -3, 54.5])
def test_what_comes_too_late_or_earlier_than_any_look_is_told(ahead: float) -> None:
    assert len(attendance.look_flaws(ahead)) == 1


def test_the_time_between_two_things_is_that_of_the_latest_pair() -> None:
    told = [("held", 0), ("released", 1), ("held", 10), ("moved", 11), ("transferred", 12.5), ("transferred", 40)]
    bot = {"events": [{"type": name, "at": f"2026-11-21T20:00:{at:06.3f}Z"} for name, at in told]}
    assert attendance.seconds_between(bot, "held", "transferred") == 2.5
    assert attendance.seconds_between(bot, "transferred", "held") is None
    assert attendance.seconds_between(bot, "launched", "held") is None


def test_a_bot_is_known_by_its_id_at_the_back_end() -> None:
    assert attendance.at_back_end([MEETING], "b1") == GIVEN
    assert attendance.at_back_end([MEETING], None) is None


def test_a_decision_names_its_rules() -> None:
    told = {
        "will_join": True,
        "reasons": [
            {"code": "rule_does_not_match", "detail": "title_contains", "rule_id": "rule_1", "bot_id": None},
            {"code": "rule_matches", "detail": "Demos", "rule_id": "rule_2", "bot_id": None},
            {"code": "bot_by_hand", "detail": "Notes", "rule_id": None, "bot_id": "bot_1"},
        ],
    }
    assert telling.decision(told, {"rule_1": "Sales", "rule_2": "Demos"}) == (
        "yes. Sales: rule does not match (title_contains); Demos: rule matches; bot by hand (Notes)"
    )


def test_a_dry_run_is_told_by_its_reasons() -> None:
    results = [
        {"effect": "none", "reason": "title_contains"},
        {"effect": "add", "reason": "matches"},
        {"effect": "none", "reason": "no_meeting"},
        {"effect": "none", "reason": "title_contains"},
    ]
    told = "stored nothing; of 4 events 1 would get a bot. The others: 2 title contains, 1 no meeting"
    assert telling.trial(results) == told


@pytest.mark.parametrize(("added", "is_flaw"), [("a", False), ("b", False), ("", True), ("ab", True), ("x", True)])
def test_a_dry_run_gives_one_of_the_invitees_a_bot(added: str, is_flaw: bool) -> None:
    results = [{"calendar_event_id": name, "effect": "add" if name in added else "none"} for name in "abx"]
    assert bool(attendance.trial_flaws(results, ["a", "b"])) is is_flaw
