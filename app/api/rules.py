"""Rules: which events get which bot, and what one would do before it is made."""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import Field, JsonValue
from starlette.responses import Response

from app.api import bot_queries
from app.api.callers import NEEDS_READ
from app.api.deps import ProjectId, Reading, Rt, Writing
from app.api.idempotency import Idempotent, RefusesKey
from app.api.inputs import QueryOf, key_in_body, key_of
from app.api.operations import IDEMPOTENCY, NO_KEY, TIMES, body_examples, example, problems
from app.api.outputs import EventRef, LauncherRef, NextUrl, Output, PreviousUrl, RuleRef, Timestamp
from app.api.pages import Order, Pager
from app.api.render import JsonObject, answer, embedded
from app.api.route import ApiRoute
from app.api.rule_inputs import DedupScope, DryRun, RuleBot, RuleCreate, RulePage, RuleUpdate, match_text
from app.bots.rules import ruling, trying
from app.bots.rules.ruling import Terms
from app.bots.rules.trying import Span
from app.db import ReadTx, Row
from app.errors import NotFound
from app.ids import CALENDAR, EVENT, LAUNCHER, RULE, public
from app.instants import instant

_ORDER: Final = Order("r.created_at", "r.id", is_descending=True)
_TERMS: Final = (
    "empty_match",
    "invalid_regex",
    "invalid_domain",
    "too_short",
    "out_of_range",
    "unsupported_setting",
    "needs_transcription",
    "reserved",
    "invalid_image",
    "invalid_language",
)

_REASONS: Final[list[JsonValue]] = [*sorted(trying.REASONS)]


class RuleBotShown(Output):
    """The bot that a rule makes."""

    bot_name: str
    config: dict[str, Any] | None
    launcher_id: LauncherRef | None = Field(description="Null: the project's default at the time of the hand-over")


class Rule(Output):
    """A rule: which events get which bot."""

    id: RuleRef
    name: str
    is_enabled: bool
    priority: int
    match: dict[str, Any] = Field(title="Conditions", description="The conditions that were given; docs/rules.md")
    bot: RuleBotShown
    dedup_scope: DedupScope
    created_at: Timestamp
    updated_at: Timestamp


class RuleList(Output):
    """A page of rules."""

    next: NextUrl
    previous: PreviousUrl
    results: list[Rule]


class TrialResult(Output):
    """What would become of the bots of rules on an event."""

    calendar_event_id: EventRef
    effect: Literal["add", "remove", "keep", "none"]
    reason: str = Field(
        description="Why, as far as the tried rule goes: one of the codes, or the condition that does not hold",
        json_schema_extra={"enum": _REASONS},
    )


class Trial(Output):
    """The outcome of a dry run, by the events' starts."""

    results: list[TrialResult]


_BODY: Final[dict[str, Any]] = {
    "name": "Customers",
    "priority": 10,
    "match": {"has_external_attendees": True, "own_response": ["accepted", "tentative"]},
    "bot": {"bot_name": "Notes", "config": {"recording": "speaker_view"}},
    "dedup_scope": "meeting",
}
_EXAMPLE: Final = {
    "id": "rule_01JD4QC5D7F9H1J3K5M7N9P1R3",
    "is_enabled": True,
    **_BODY,
    "bot": {**_BODY["bot"], "launcher_id": None},
    "created_at": "2026-11-20T09:00:00.000000Z",
    "updated_at": "2026-11-20T09:00:00.000000Z",
}
_CREATE: Final = body_examples(
    customers=_BODY,
    every_event={"name": "All", "match": {"is_all_day": False}, "bot": {"bot_name": "Notes"}, "dedup_scope": "event"},
)
_PATCH: Final = body_examples(pause={"is_enabled": False}, other_events={"match": {"title_contains": ["demo"]}})
_TRY: Final = body_examples(
    new={"rule": _BODY},
    changed={
        "rule": {"id": _EXAMPLE["id"], **_BODY, "match": {"title_contains": ["demo"]}},
        "start_time_lte": "2026-11-23T00:00:00Z",
    },
)
_OUTCOME: Final = {
    "results": [
        {"calendar_event_id": "evt_01JD4Q9A7B9D1F3G5H7K9M1N3P", "effect": "add", "reason": "matches"},
        {"calendar_event_id": "evt_01JD4Q9A7B9D1F3G5H7K9M1N3Q", "effect": "remove", "reason": "title_contains"},
    ]
}

router = APIRouter(prefix="/api/v1/rules", tags=["Rules"], route_class=ApiRoute)


def render(row: Row) -> JsonObject:
    """A rule as the API shows it."""
    return {
        "id": public(RULE, row.id),
        "name": row.name,
        "is_enabled": row.is_enabled,
        "priority": row.priority,
        "match": embedded(row.match),
        "bot": {
            "bot_name": row.bot_name,
            "config": embedded(row.config),
            "launcher_id": row.launcher_id and public(LAUNCHER, row.launcher_id),
        },
        "dedup_scope": row.dedup_scope,
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
    }


async def _shown(tx: ReadTx, project_id: UUID, *, rule_id: UUID, status: int = 200) -> Response:
    row = await bot_queries.rule(tx, project_id, rule_id=rule_id)
    if row is None:
        raise NotFound
    return answer(render(row), status=status)


def _bot(bot: RuleBot, *, pointer: str) -> dict[str, Any]:
    """A bot's part of a rule's terms."""
    launcher_id = key_in_body(LAUNCHER, bot.launcher_id, f"{pointer}/launcher_id")
    return {"bot_name": bot.bot_name, "config": bot.config, "launcher_id": launcher_id}


def _terms(body: RuleCreate, *, pointer: str = "/bot") -> Terms:
    return Terms(
        name=body.name,
        is_enabled=body.is_enabled,
        priority=body.priority,
        match=match_text(body.match),
        scope=body.dedup_scope,
        **_bot(body.bot, pointer=pointer),
    )


@router.post(
    "",
    status_code=201,
    response_model=Rule,
    summary="Make a rule",
    responses=problems("too_many_rules", *_TERMS, *IDEMPOTENCY, takes="body", refers=True) | {201: example(_EXAMPLE)},
    openapi_extra=_CREATE,
)
async def create_rule(body: RuleCreate, tx: Writing, project_id: ProjectId, once: Idempotent) -> Response:
    """Events that a sync brings are judged by it at once, those that are stored already within seconds."""
    terms = _terms(body)

    async def create() -> Response:
        rule_id = await ruling.make(tx, project_id=project_id, terms=terms)
        return await _shown(tx, project_id, rule_id=rule_id, status=201)

    return await once.run(tx, create)


@router.get(
    "",
    response_model=RuleList,
    summary="List rules",
    responses=problems(takes="filters") | {200: example({"next": None, "previous": None, "results": [_EXAMPLE]})},
)
async def list_rules(
    request: Request, part: Annotated[RulePage, Depends(QueryOf(RulePage))], tx: Reading, project_id: ProjectId
) -> Response:
    """The project's rules, newest first; the order in which they are asked is that of `priority`."""
    pager = Pager(request, project_id=project_id, order=_ORDER, limit=part.limit)
    rows = await bot_queries.rules(tx, project_id, part=pager.slice)
    page = pager.page(rows, lambda row: (row.created_at, row.id))
    return answer({"next": page.next, "previous": page.previous, "results": [render(row) for row in page.rows]})


@router.post(
    "/dry_run",
    response_model=Trial,
    summary="Try a rule",
    dependencies=[NEEDS_READ, RefusesKey],
    responses=problems("too_many_events", "end_before_start", *_TERMS, *TIMES, *NO_KEY, takes="body", refers=True)
    | {200: example(_OUTCOME)},
    openapi_extra=_TRY,
)
async def dry_run(body: DryRun, rt: Rt, project_id: ProjectId) -> Response:
    """What the project's rules would do to the events ahead with this one among them. Stores nothing.

    `effect` is about the bots of rules on the event: one is made, goes, stays, or there is none. At most 2,000 events.
    """
    terms = _terms(body.rule, pointer="/rule/bot")
    rule_id = key_in_body(RULE, body.rule.id, "/rule/id")
    calendar_id = key_in_body(CALENDAR, body.calendar_id, "/calendar_id")
    span = Span(calendar_id, body.start_time_gte, body.start_time_lte)
    found = await trying.dry_run(rt, project_id=project_id, rule_id=rule_id, terms=terms, span=span)
    results = [
        {"calendar_event_id": public(EVENT, one.event_id), "effect": one.effect, "reason": one.reason} for one in found
    ]
    return answer({"results": results})


@router.get(
    "/{rule_id}",
    response_model=Rule,
    summary="Get a rule",
    responses=problems("not_found") | {200: example(_EXAMPLE)},
)
async def get_rule(rule_id: str, tx: Reading, project_id: ProjectId) -> Response:
    """One rule."""
    return await _shown(tx, project_id, rule_id=key_of(RULE, rule_id))


@router.patch(
    "/{rule_id}",
    response_model=Rule,
    summary="Change a rule",
    responses=problems("not_found", *_TERMS, takes="body", refers=True) | {200: example(_EXAMPLE)},
    openapi_extra=_PATCH,
)
async def update_rule(rule_id: str, body: RuleUpdate, tx: Writing, project_id: ProjectId) -> Response:
    """`match` and `bot` are replaced as a whole. Bots that the rule made become what it says now, within seconds.

    After a change of anything but `name` and `priority`, the rule makes bots again where its own were ended or failed.
    """
    key = key_of(RULE, rule_id)
    given = body.model_dump(include=body.model_fields_set & {"name", "is_enabled", "priority"})
    if body.match is not None:
        given["match"] = match_text(body.match)
    if body.dedup_scope is not None:
        given["scope"] = body.dedup_scope
    if body.bot is not None:
        given |= _bot(body.bot, pointer="/bot")
    await ruling.change(tx, project_id=project_id, rule_id=key, given=given)
    return await _shown(tx, project_id, rule_id=key)


@router.delete("/{rule_id}", status_code=204, summary="Delete a rule", responses=problems("not_found"))
async def delete_rule(rule_id: str, tx: Writing, project_id: ProjectId) -> Response:
    """Its bots are cancelled (`no_rule`), but for those that another rule wants or that were changed by hand."""
    await ruling.delete(tx, project_id=project_id, rule_id=key_of(RULE, rule_id))
    return Response(status_code=204)
