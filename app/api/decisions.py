"""Why a bot joins an event's meeting, or none."""

from typing import Any, Final

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from app.api.deps import ProjectId, Reading
from app.api.inputs import key_of
from app.api.operations import example, problems
from app.api.outputs import BotRef, EventRef, Output, RuleRef, Timestamp
from app.api.render import JsonObject, answer
from app.api.route import ApiRoute
from app.bots import decisions
from app.bots.decisions import Because, Code
from app.ids import BOT, EVENT, RULE, public
from app.instants import instant


class Reason(Output):
    """One of the reasons, as they follow from each other."""

    code: Code
    detail: str = Field(
        description="For people; of `rule_does_not_match` and `rule_by_override` the condition, of `calendar_behind` "
        "what is wrong, of `key_in_use` the key"
    )
    rule_id: RuleRef | None = Field(description="Where it is about a rule; null of what `all_occurrences` made")
    bot_id: BotRef | None = Field(description="Where it is about a bot")


class RealMeeting(Output):
    """The meeting, whichever calendars it stands in."""

    keys: list[str] = Field(description="What makes it the same as another event's; none without a link")
    calendar_event_ids: list[EventRef] = Field(description="This event, then others ahead with one of the keys; <= 100")
    owner_event_id: EventRef | None = Field(description="The event of the bot that is the meeting's one")


class Decision(Output):
    """What is to be expected of an event."""

    will_join: bool = Field(description="Whether a bot on this event, or one on another of its meeting, joins")
    join_at: Timestamp | None
    bots: list[BotRef] = Field(description="Those bots")
    reasons: list[Reason]
    meeting: RealMeeting


_EXAMPLE: Final[dict[str, Any]] = {
    "will_join": True,
    "join_at": "2026-11-23T09:00:00.000000Z",
    "bots": ["bot_01JD4QB7C9E1G3J5M7P9R1T3VX"],
    "reasons": [
        {
            "code": "rule_matches",
            "detail": "External meetings",
            "rule_id": "rule_01JD4QC1D3F5H7K9N1Q3S5V7X9",
            "bot_id": None,
        },
        {
            "code": "held_by_bot",
            "detail": "on evt_01JD4Q9A7B9D1F3G5H7K9M1N4Q",
            "rule_id": "rule_01JD4QC1D3F5H7K9N1Q3S5V7X9",
            "bot_id": "bot_01JD4QB7C9E1G3J5M7P9R1T3VX",
        },
    ],
    "meeting": {
        "keys": [
            "meeting|link|google_meet:abc-defg-hij|2026-11-23T09:00:00.000000Z",
            "meeting|uid|4q2nl7c1d6a5fj3k@google.com|",
        ],
        "calendar_event_ids": ["evt_01JD4Q9A7B9D1F3G5H7K9M1N3P", "evt_01JD4Q9A7B9D1F3G5H7K9M1N4Q"],
        "owner_event_id": "evt_01JD4Q9A7B9D1F3G5H7K9M1N4Q",
    },
}

router = APIRouter(prefix="/api/v1/calendar_events", tags=["Calendar events"], route_class=ApiRoute)


def _reason(because: Because) -> JsonObject:
    return {
        "code": because.code,
        "detail": because.detail,
        "rule_id": because.rule_id and public(RULE, because.rule_id),
        "bot_id": because.bot_id and public(BOT, because.bot_id),
    }


@router.get(
    "/{event_id}/decision",
    response_model=Decision,
    summary="Will a bot join, and why",
    responses=problems("not_found") | {200: example(_EXAMPLE)},
)
async def get_decision(event_id: str, tx: Reading, project_id: ProjectId) -> Response:
    """Every rule with what it comes to, the override, and what other bots have to do with it; docs/bots.md."""
    found = await decisions.decide(tx, project_id=project_id, event_id=key_of(EVENT, event_id))
    owner = found.owner_event_id
    return answer(
        {
            "will_join": bool(found.bots),
            "join_at": found.join_at and instant(found.join_at),
            "bots": [public(BOT, bot.id) for bot in found.bots],
            "reasons": [_reason(because) for because in found.reasons],
            "meeting": {
                "keys": found.keys,
                "calendar_event_ids": [public(EVENT, other) for other in found.event_ids],
                "owner_event_id": owner and public(EVENT, owner),
            },
        }
    )
