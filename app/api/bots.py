"""Bots: made on events, or with a link and a time of their own."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from app.api import bot_queries, queries
from app.api.bot_inputs import BotCreate, BotFilters, BotState, BotUpdate, OfSeries
from app.api.deps import ProjectId, Reading, Rt, Writing
from app.api.idempotency import Idempotent
from app.api.inputs import QueryOf, key_in_body, key_of, metadata_text
from app.api.operations import IDEMPOTENCY, TIMES, URLS, body_examples, example, problems
from app.api.outputs import BotRef, CalendarRef, EventRef, LauncherRef, NextUrl, Output, PreviousUrl, RuleRef, Timestamp
from app.api.pages import Order, Pager
from app.api.render import JsonObject, answer, embedded
from app.api.route import ApiRoute
from app.bots import making, records, series
from app.bots.making import BotPatch, NewBot
from app.db import ReadTx, Row
from app.errors import FieldProblem, NotFound, refusals
from app.ids import BOT, CALENDAR, EVENT, LAUNCHER, parse
from app.meetings import REASONS, judge
from app.projects import preferences_of

_ORDER: Final = Order("b.created_at", "b.id", is_descending=False)
_CONFIG: Final = ("unsupported_setting", "needs_transcription", "reserved", "invalid_image", "invalid_language")
_LINKS: Final = (*(code for code in URLS if code != "fragment_not_allowed"), "unknown_platform", "not_a_meeting")


class BotEvent(Output):
    """Something that happened to a bot."""

    type: str = Field(description="Such as `moved`, `link_changed`, `cancelled`, `restored`, `launched`, `passed_on`")
    at: Timestamp
    detail: str | None = Field(description="For people; may change")


class BotShape(Output):
    """A bot without its history."""

    id: BotRef
    state: BotState
    state_reason: str | None = Field(description="Why it is `cancelled`, `failed` or `missed`; docs/bots.md")
    hold_reason: str | None = Field(
        description="`transfer`: not launched until it is known which other event takes it. Else what keeps its"
        " calendar from being up to date, while something does: it is launched as last known"
    )
    bot_name: str
    meeting_url: str
    meeting_platform: str | None
    join_at: Timestamp = Field(description="When it is to join: the event's start, if it follows one")
    calendar_event_id: EventRef | None = Field(description="The event that it follows")
    calendar_id: CalendarRef | None = Field(description="That event's calendar")
    deduplication_key: str | None = Field(description="Unique among the project's live bots")
    metadata: dict[str, str] | None
    config: dict[str, Any] | None = Field(description="What the back end is told; docs/launchers.md")
    launcher_id: LauncherRef | None = Field(description="Null: the project's default at the time of the hand-over")
    external_id: str | None = Field(description="The back end's own id, once it has the bot")
    rule_id: RuleRef | None = Field(description="The rule that made it; docs/bots.md")
    series_id: str | None = Field(description="The provider's id of the event's series")
    created_at: Timestamp
    updated_at: Timestamp


class Bot(BotShape):
    """A bot."""

    events: list[BotEvent] = Field(description="What happened to it, at most the latest 50")


class BotList(Output):
    """A page of bots."""

    next: NextUrl
    previous: PreviousUrl
    results: list[Bot]


SHAPE_EXAMPLE: Final[dict[str, Any]] = {
    "id": "bot_01JD4QB7C9E1G3J5M7P9R1T3VX",
    "state": "scheduled",
    "state_reason": None,
    "hold_reason": None,
    "bot_name": "Notes",
    "meeting_url": "https://meet.google.com/abc-defg-hij",
    "meeting_platform": "google_meet",
    "join_at": "2026-11-23T09:00:00.000000Z",
    "calendar_event_id": "evt_01JD4Q9A7B9D1F3G5H7K9M1N3P",
    "calendar_id": "cal_01JD4Q8ZK3V6W8N2M5T7R9B1CX",
    "deduplication_key": "evt-42",
    "metadata": {"tenant_id": "1"},
    "config": {"recording": "speaker_view"},
    "launcher_id": None,
    "external_id": None,
    "rule_id": None,
    "series_id": None,
    "created_at": "2026-11-20T09:00:00.000000Z",
    "updated_at": "2026-11-20T09:00:00.000000Z",
}
_EXAMPLE: Final = SHAPE_EXAMPLE | {"events": [{"type": "created", "at": "2026-11-20T09:00:00.000000Z", "detail": None}]}
_CREATE: Final = body_examples(
    on_an_event={
        "bot_name": "Notes",
        "calendar_event_id": "evt_01JD4Q9A7B9D1F3G5H7K9M1N3P",
        "deduplication_key": "evt-42",
    },
    on_its_own={
        "bot_name": "Notes",
        "meeting_url": "https://meet.google.com/abc-defg-hij",
        "join_at": "2026-11-23T09:00:00Z",
    },
)
_PATCH: Final = body_examples(rename={"bot_name": "Minutes"})

router = APIRouter(prefix="/api/v1/bots", tags=["Bots"], route_class=ApiRoute)


def render(row: Row) -> JsonObject:
    """A bot as the API shows it."""
    return records.picture(row) | {"events": embedded(row.events)}


@router.post(
    "",
    status_code=201,
    response_model=Bot,
    summary="Make a bot",
    responses=problems(
        "deduplication_key_in_use",
        "calendar_disconnected",
        "event_gone",
        "event_over",
        "event_without_link",
        "not_a_series",
        "overridden",
        "too_many_rules",
        "in_the_past",
        "out_of_range",
        *_LINKS,
        *_CONFIG,
        *TIMES,
        *IDEMPOTENCY,
        takes="body",
        refers=True,
    )
    | {201: example(_EXAMPLE)},
    openapi_extra=_CREATE,
)
async def create_bot(body: BotCreate, rt: Rt, tx: Writing, project_id: ProjectId, once: Idempotent) -> Response:
    """On an event the bot follows it: link and time come from there, and change with it.

    A meeting under way gets its bot at once. The back end is told shortly before `join_at` (the launcher's
    `hand_over_seconds`), and of everything that changes after that. With `all_occurrences` the answer is the given
    event's bot; the other occurrences of its series get theirs, those too that enter the window later.
    """
    _one_way(body)
    event_id = key_in_body(EVENT, body.calendar_event_id, "/calendar_event_id")
    launcher_id = key_in_body(LAUNCHER, body.launcher_id, "/launcher_id")

    async def create() -> Response:
        url, platform = await _link(tx, project_id, body.meeting_url)
        new = NewBot(
            bot_name=body.bot_name,
            event_id=event_id,
            meeting_url=url,
            meeting_platform=platform,
            join_at=body.join_at,
            launcher_id=launcher_id,
            deduplication_key=body.deduplication_key,
            metadata=metadata_text(body.metadata),
            config=body.config,
        )
        if body.all_occurrences and event_id is not None:
            bot_id = await series.make(rt, tx, project_id=project_id, event_id=event_id, new=new)
        else:
            bot_id = await making.make(rt, tx, project_id=project_id, new=new)
        return await _shown(tx, project_id, bot_id=bot_id, status=201)

    return await once.run(tx, create)


def _one_way(body: BotCreate) -> None:
    """Either an event, or a link and a time."""
    own = [name for name in ("meeting_url", "join_at") if getattr(body, name) is not None]
    if body.calendar_event_id is not None:
        problems = [FieldProblem(f"/{name}", "not_allowed", "comes from the event") for name in own]
    else:
        lacking = [name for name in ("meeting_url", "join_at") if name not in own]
        problems = [FieldProblem(f"/{name}", "missing", "is needed without an event") for name in lacking]
        if body.all_occurrences:
            problems.append(FieldProblem("/all_occurrences", "not_a_series", "needs an event of a series"))
    if problems:
        raise refusals(problems)


async def _link(tx: ReadTx, project_id: Any, url: str | None) -> tuple[str | None, str | None]:
    if url is None:
        return None, None
    project = await queries.project(tx, project_id)
    verdict = judge(url, preferences_of(project.meeting_preferences if project else None))
    if verdict.refusal is not None or verdict.link is None:
        refusal = verdict.refusal or "unknown_platform"
        raise refusals([FieldProblem("/meeting_url", refusal, REASONS[refusal])])
    return verdict.link.url, verdict.link.platform


async def _shown(tx: ReadTx, project_id: Any, *, bot_id: Any, status: int = 200) -> Response:
    row = await bot_queries.bot(tx, project_id, bot_id=bot_id)
    if row is None:
        raise NotFound
    return answer(render(row), status=status)


@router.get(
    "",
    response_model=BotList,
    summary="List bots",
    responses=problems("too_long", *TIMES, takes="filters")
    | {200: example({"next": None, "previous": None, "results": [_EXAMPLE]})},
)
async def list_bots(
    request: Request, filters: Annotated[BotFilters, Depends(QueryOf(BotFilters))], tx: Reading, project_id: ProjectId
) -> Response:
    """The project's bots, oldest first; ended ones too."""
    pager = Pager(request, project_id=project_id, order=_ORDER, limit=filters.limit)
    given = filters.model_dump(exclude_none=True, exclude={"limit", "cursor", "state", "states"})
    if filters.state or filters.states:
        given["states"] = [*(filters.state or ()), *(filters.states or ())]
    references = {"calendar_event_id": EVENT, "calendar_id": CALENDAR, "launcher_id": LAUNCHER}
    given |= {name: parse(prefix, given[name]) for name, prefix in references.items() if name in given}
    is_none = any(given[name] is None for name in references if name in given)
    rows = [] if is_none else await bot_queries.bots(tx, project_id, filters=given, part=pager.slice)
    page = pager.page(rows, lambda row: (row.created_at, row.id))
    return answer({"next": page.next, "previous": page.previous, "results": [render(row) for row in page.rows]})


@router.get(
    "/{bot_id}",
    response_model=Bot,
    summary="Get a bot",
    responses=problems("not_found") | {200: example(_EXAMPLE)},
)
async def get_bot(bot_id: str, tx: Reading, project_id: ProjectId) -> Response:
    """One bot with what happened to it."""
    return await _shown(tx, project_id, bot_id=key_of(BOT, bot_id))


@router.patch(
    "/{bot_id}",
    response_model=Bot,
    summary="Change a bot",
    responses=problems(
        "not_found",
        "bot_not_live",
        "bot_joined",
        "not_a_series",
        "repeated_parameter",
        "read_only",
        "in_the_past",
        "out_of_range",
        *_LINKS,
        *_CONFIG,
        *TIMES,
        takes="body",
    )
    | {200: example(_EXAMPLE)},
    openapi_extra=_PATCH,
)
async def update_bot(
    bot_id: str,
    body: BotUpdate,
    scope: Annotated[OfSeries, Depends(QueryOf(OfSeries))],
    rt: Rt,
    tx: Writing,
    project_id: ProjectId,
) -> Response:
    """Until the bot joins; a back end that has it already is told. Link and time of a bot on an event are read-only.

    With `all_occurrences` the bots of its series that are ahead change, and those to come; what was changed of a single
    one before stays as it is.
    """
    key = key_of(BOT, bot_id)
    url, platform = await _link(tx, project_id, body.meeting_url)
    patch = BotPatch(
        given=frozenset(body.model_fields_set),
        bot_name=body.bot_name,
        meeting_url=url,
        meeting_platform=platform,
        join_at=body.join_at,
        metadata=metadata_text(body.metadata),
        config=body.config,
    )
    change = series.change if scope.all_occurrences else making.change
    await change(rt, tx, project_id=project_id, bot_id=key, patch=patch)
    return await _shown(tx, project_id, bot_id=key)


@router.delete(
    "/{bot_id}",
    status_code=204,
    summary="End a bot",
    responses=problems("not_found", "not_a_series", "repeated_parameter", "wrong_type", "invalid_text", "invalid"),
)
async def delete_bot(
    bot_id: str,
    scope: Annotated[OfSeries, Depends(QueryOf(OfSeries))],
    rt: Rt,
    tx: Writing,
    project_id: ProjectId,
) -> Response:
    """It does not join; one that has joined is asked to leave. It stays readable, and is never restored.

    With `all_occurrences` the bots of its series end that are ahead or in their meetings, and no others are made.
    """
    remove = series.remove if scope.all_occurrences else making.remove
    await remove(rt, tx, project_id=project_id, bot_id=key_of(BOT, bot_id))
    return Response(status_code=204)
