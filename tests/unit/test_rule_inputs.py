"""What may be said of rules: codes and places of what may not, and the text that is stored of what may."""

from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from app.api.problems import from_validation
from app.api.rule_inputs import DryRun, RuleCreate, RuleMatch, RulePage, RuleUpdate, match_text
from app.meetings import NAMES

RULE: dict[str, Any] = {"name": "Sales", "match": {"is_organizer": True}, "bot": {"bot_name": "Notes"}}


def problems(model: type[BaseModel], body: dict[str, Any]) -> list[tuple[str, str]]:
    """Pointer and code of everything that an answer would complain of."""
    with pytest.raises(ValidationError) as refused:
        model.model_validate(body)
    errors = [{**error, "loc": ("body", *error["loc"])} for error in refused.value.errors()]
    return [(problem.pointer, problem.code) for problem in from_validation(RequestValidationError(errors)).errors]


@pytest.mark.parametrize(
    ("match", "pointer", "code"),
    [
        ({}, "", "empty_match"),
        ({"is_all_day": None, "title_contains": None}, "", "empty_match"),
        ({"title_contain": ["x"]}, "/title_contain", "unknown_field"),
        *[
            ({name: []}, f"/{name}", "too_short")
            for name in ("own_response", "attendee_domains", "organizer_domains", "title_contains")
        ],
        *[({name: []}, f"/{name}", "too_short") for name in ("meeting_platforms", "visibility", "event_types")],
        ({"calendar_metadata": {}}, "/calendar_metadata", "too_short"),
        ({"calendar_metadata": {"a": 1}}, "/calendar_metadata/a", "wrong_type"),
        ({"calendar_metadata": dict.fromkeys(map(str, range(51)), "x")}, "/calendar_metadata", "too_long"),
        ({"calendar_metadata": {"a": "x" * 8_192}}, "/calendar_metadata", "too_long"),
        ({"own_response": ["maybe"]}, "/own_response/0", "not_allowed"),
        ({"own_response": "accepted"}, "/own_response", "wrong_type"),
        ({"is_organizer": 1}, "/is_organizer", "wrong_type"),
        ({"has_external_attendees": "true"}, "/has_external_attendees", "wrong_type"),
        ({"attendee_count_gte": -1}, "/attendee_count_gte", "out_of_range"),
        ({"attendee_count_lte": 2**70}, "/attendee_count_lte", "out_of_range"),
        ({"attendee_count_gte": 2.0}, "/attendee_count_gte", "wrong_type"),
        ({"attendee_count_lte": True}, "/attendee_count_lte", "wrong_type"),
        ({"attendee_count_gte": 3, "attendee_count_lte": 2}, "/attendee_count_lte", "out_of_range"),
        ({"duration_seconds_gte": 61, "duration_seconds_lte": 60}, "/duration_seconds_lte", "out_of_range"),
        ({"duration_seconds_gte": -1}, "/duration_seconds_gte", "out_of_range"),
        ({"attendee_domains": ["acme.example", "ana@acme.example"]}, "/attendee_domains/1", "invalid_domain"),
        ({"attendee_domains": ["https://acme.example"]}, "/attendee_domains/0", "invalid_domain"),
        ({"organizer_domains": ["acme"]}, "/organizer_domains/0", "invalid_domain"),
        ({"organizer_domains": ["*.acme.example"]}, "/organizer_domains/0", "invalid_domain"),
        ({"organizer_domains": ["acme.example"] * 51}, "/organizer_domains", "too_long"),
        ({"title_contains": ["x"] * 51}, "/title_contains", "too_long"),
        ({"title_contains": ["x" * 201]}, "/title_contains/0", "too_long"),
        ({"title_contains": ["x", " \t"]}, "/title_contains/1", "blank"),
        ({"title_regex": ""}, "/title_regex", "too_short"),
        ({"title_regex": "é" * 101}, "/title_regex", "too_long"),
        ({"title_regex": "("}, "/title_regex", "invalid_regex"),
        ({"title_regex": "(?=x)"}, "/title_regex", "invalid_regex"),
        ({"title_regex": "((a{1,100}){1,100}){1,100}"}, "/title_regex", "invalid_regex"),
        ({"title_regex": r"(?i)[\pL\pN]{200}"}, "/title_regex", "invalid_regex"),
        ({"title_regex": ["x"]}, "/title_regex", "wrong_type"),
        ({"meeting_platforms": ["zoom", "Zoom"]}, "/meeting_platforms/1", "not_allowed"),
        ({"visibility": ["secret"]}, "/visibility/0", "not_allowed"),
        ({"event_types": ["outofoffice"]}, "/event_types/0", "not_allowed"),
    ],
)
def test_a_match_is_refused(match: dict[str, Any], pointer: str, code: str) -> None:
    assert problems(RuleMatch, match) == [(pointer, code)]
    assert problems(RuleCreate, RULE | {"match": match}) == [(f"/match{pointer}", code)]
    assert problems(RuleUpdate, {"match": match}) == [(f"/match{pointer}", code)]
    assert problems(DryRun, {"rule": RULE | {"match": match}}) == [(f"/rule/match{pointer}", code)]


def test_why_a_pattern_is_refused_is_said() -> None:
    with pytest.raises(ValidationError, match=r"is refused by RE2: invalid repetition size: \{1,100\}"):
        RuleMatch.model_validate({"title_regex": "((a{1,100}){1,100}){1,100}"})


@pytest.mark.parametrize(
    ("match", "text"),
    [
        ({"is_all_day": False}, '{"is_all_day":false}'),
        ({"title_regex": "é" * 100, "is_organizer": None}, '{"title_regex":"' + "é" * 100 + '"}'),
        (
            {"visibility": ["public"], "attendee_domains": ["ACME.example.", "Bücher.example"]},
            '{"attendee_domains":["acme.example","xn--bcher-kva.example"],"visibility":["public"]}',
        ),
        (
            {"attendee_count_lte": 2, "attendee_count_gte": 2, "calendar_metadata": {"b": "2", "a": "1"}},
            '{"attendee_count_gte":2,"attendee_count_lte":2,"calendar_metadata":{"a":"1","b":"2"}}',
        ),
        ({"duration_seconds_gte": 0, "title_contains": [" x"]}, '{"duration_seconds_gte":0,"title_contains":[" x"]}'),
    ],
)
def test_what_is_stored_of_a_match(match: dict[str, Any], text: str) -> None:
    assert match_text(RuleMatch.model_validate(match)) == text


def test_every_platform_that_links_are_known_of_can_be_asked_for() -> None:
    for start in range(0, len(NAMES), 50):
        RuleMatch.model_validate({"meeting_platforms": sorted(NAMES)[start : start + 50]})


def test_a_rule_needs_little() -> None:
    rule = RuleCreate.model_validate(RULE)
    assert (rule.is_enabled, rule.priority, rule.dedup_scope) == (True, 0, "meeting")
    assert (rule.bot.config, rule.bot.launcher_id) == (None, None)


@pytest.mark.parametrize(
    ("fields", "pointer", "code"),
    [
        ({"name": " "}, "/name", "blank"),
        ({"name": "x" * 513}, "/name", "too_long"),
        ({"is_enabled": "yes"}, "/is_enabled", "wrong_type"),
        ({"priority": 1_001}, "/priority", "out_of_range"),
        ({"priority": -1_001}, "/priority", "out_of_range"),
        ({"priority": 1.5}, "/priority", "wrong_type"),
        ({"dedup_scope": "project"}, "/dedup_scope", "not_allowed"),
        ({"match": None}, "/match", "wrong_type"),
        ({"bot": {}}, "/bot/bot_name", "missing"),
        ({"bot": {"bot_name": ""}}, "/bot/bot_name", "blank"),
        ({"bot": {"bot_name": "x" * 101}}, "/bot/bot_name", "too_long"),
        ({"bot": {"bot_name": "N", "meeting_url": "https://zoom.us/j/1"}}, "/bot/meeting_url", "unknown_field"),
        ({"bot": {"bot_name": "N", "config": []}}, "/bot/config", "wrong_type"),
        ({"id": "rule_1"}, "/id", "unknown_field"),
    ],
)
def test_a_rule_is_refused(fields: dict[str, Any], pointer: str, code: str) -> None:
    assert problems(RuleCreate, RULE | fields) == [(pointer, code)]
    assert problems(RuleUpdate, fields) == [(pointer, code)]


@pytest.mark.parametrize("field", ["name", "match", "bot"])
def test_a_rule_needs_its_parts(field: str) -> None:
    assert problems(RuleCreate, {name: RULE[name] for name in RULE if name != field}) == [(f"/{field}", "missing")]


@pytest.mark.parametrize("field", list(RuleUpdate.model_fields))
def test_nothing_of_a_rule_becomes_null(field: str) -> None:
    assert problems(RuleUpdate, {field: None}) == [(f"/{field}", "wrong_type")]
    assert RuleUpdate.model_json_schema()["properties"][field].keys().isdisjoint({"anyOf", "oneOf"})


def test_a_change_names_what_changes() -> None:
    assert RuleUpdate.model_validate({}).model_fields_set == set()
    assert RuleUpdate.model_validate({"priority": -5}).model_fields_set == {"priority"}


def test_the_span_of_a_dry_run() -> None:
    ends = {"start_time_gte": "2026-11-20T10:00:00+01:00", "start_time_lte": "2026-11-20T09:00:00Z"}
    run = DryRun.model_validate({"rule": RULE, **ends})
    assert run.start_time_gte == run.start_time_lte
    later = ends | {"start_time_gte": "2026-11-20T09:00:01Z"}
    assert problems(DryRun, {"rule": RULE, **later}) == [("/start_time_lte", "end_before_start")]
    assert problems(DryRun, {"rule": RULE, "start_time_gte": "2026-11-20T09:00:00"}) == [
        ("/start_time_gte", "naive_time")
    ]
    assert problems(DryRun, {}) == [("/rule", "missing")]


def test_a_page_of_rules() -> None:
    assert RulePage.model_validate({"limit": "250"}).limit == 250
    for given in ({"limit": "251"}, {"name": "x"}):
        with pytest.raises(ValidationError):
            RulePage.model_validate(given)
