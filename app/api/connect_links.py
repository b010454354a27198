"""Connect links: an address for one of your users, to connect a calendar or to reconnect it."""

from typing import Annotated, Final

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from app.api.deps import ProjectId, Rt, Writing
from app.api.idempotency import Idempotent
from app.api.inputs import Input, Metadata, Name, key_in_body, metadata_text
from app.api.operations import IDEMPOTENCY, RETURN_URLS, body_examples, example, problems
from app.api.outputs import ConnectLinkRef, Output, Timestamp
from app.api.render import NOT_KEPT, answer
from app.api.route import ApiRoute
from app.connect import links
from app.connect.links import NewLink
from app.errors import refusal
from app.ids import CALENDAR, CONNECT_LINK, OAUTH_APP, public
from app.instants import instant

LIFE_LEAST, LIFE, LIFE_MOST = 60, 1_800, 604_800
"""Seconds."""
STATE_MOST = 1_024


class LinkedCalendar(Input):
    """The calendar that a link makes."""

    platform_uuid: Annotated[
        Name | None, Field(description="The provider's id of the calendar; null: the user's primary one")
    ] = None
    metadata: Annotated[Metadata | None, Field(description="Yours; comes with every message about this calendar")] = (
        None
    )
    deduplication_key: Annotated[
        Name | None,
        Field(
            description="Unique among the project's calendars. One of the same OAuth app that has it already is"
            " reconnected instead, if the user's account is the same"
        ),
    ] = None


class ConnectLinkCreate(Input):
    """A link for one user and one calendar."""

    oauth_app_id: Annotated[
        str | None,
        Field(description="Your OAuth app, whose consent the user sees; needed without `calendar_id`"),
    ] = None
    return_url: Annotated[
        str,
        Field(
            max_length=2_048,
            description="Where the user comes back to: one of the project's `return_urls` by scheme, host, port and"
            " path. A query of its own is kept",
        ),
    ]
    calendar: Annotated[LinkedCalendar | None, Field(description="What the new calendar is to have")] = None
    calendar_id: Annotated[
        str | None, Field(description="A calendar to reconnect, in place of a new one; needs the same account")
    ] = None
    login_hint: Annotated[Name | None, Field(description="An e-mail address that the provider offers the user")] = None
    state: Annotated[
        str | None,
        Field(max_length=STATE_MOST, description="Yours; comes back in the query of `return_url` as it is"),
    ] = None
    expires_in: Annotated[
        int,
        Field(ge=LIFE_LEAST, le=LIFE_MOST, description="Seconds until the user has to be back from the provider"),
    ] = LIFE


class ConnectLink(Output):
    """A link. Its address is shown this once."""

    id: ConnectLinkRef
    url: str = Field(description="For the user's browser. Whoever has it can connect a calendar with it: one")
    expires_at: Timestamp


_EXAMPLE: Final = {
    "id": "lnk_01JD4QCC2D4F6H8K0N2Q4S6V8X",
    "url": "https://calendars.example.com/connect/Q2vV0nJm9cY3kS7tX1bW5eR8uI4oP6aL0dF2gH7jK9M",
    "expires_at": "2026-11-20T10:30:00.000000Z",
}
_APP: Final = "oapp_01JD4Q8M4P6R8T0V2X4Z6B8D0F"
_BACK: Final = "https://app.example.com/calendars/connected"
_CREATE: Final = body_examples(
    connect={
        "oauth_app_id": _APP,
        "return_url": _BACK,
        "calendar": {"metadata": {"tenant_id": "1"}, "deduplication_key": "user-abcd"},
        "login_hint": "ada@example.com",
        "state": "an-opaque-value",
    },
    reconnect={"return_url": _BACK, "calendar_id": "cal_01JD4Q8ZK3V6W8N2M5T7R9B1CX"},
)

router = APIRouter(prefix="/api/v1/connect_links", tags=["Hosted connect"], route_class=ApiRoute)


@router.post(
    "",
    status_code=201,
    response_model=ConnectLink,
    summary="Make a connect link",
    responses=problems(
        "deduplication_key_in_use",
        "no_public_url",
        "out_of_range",
        *RETURN_URLS,
        *IDEMPOTENCY,
        takes="body",
        refers=True,
    )
    | {201: example(_EXAMPLE)},
    openapi_extra=_CREATE,
)
async def create_connect_link(
    body: ConnectLinkCreate, rt: Rt, tx: Writing, project_id: ProjectId, once: Idempotent
) -> Response:
    """An address on which one user connects one calendar, without your application seeing any token.

    The user's browser comes back to `return_url` with `calendar_id` and `state`, or with `error` and `state`: one of
    `access_denied`, `scope_missing`, `wrong_account`, `expired`, `already_used`, `provider_error`. The link is used up
    once a calendar is connected; until then, and until it expires, the user may try again.
    """
    new = _new(body)

    async def make() -> Response:
        made = await links.make(rt, tx, project_id=project_id, new=new)
        shown = {"id": public(CONNECT_LINK, made.id), "url": made.url, "expires_at": instant(made.expires_at)}
        return answer(shown, status=201, headers=NOT_KEPT)

    return await once.run(tx, make)


def _new(body: ConnectLinkCreate) -> NewLink:
    """The same, for the feature. Invalid (422)."""
    app_id = key_in_body(OAUTH_APP, body.oauth_app_id, "/oauth_app_id")
    calendar_id = key_in_body(CALENDAR, body.calendar_id, "/calendar_id")
    if calendar_id is not None and body.calendar is not None:
        raise refusal("/calendar", "not_allowed", message="describes a new calendar, and calendar_id is given")
    calendar = body.calendar or LinkedCalendar()
    return NewLink(
        oauth_app_id=app_id,
        return_url=body.return_url,
        calendar_id=calendar_id,
        platform_uuid=calendar.platform_uuid,
        metadata=metadata_text(calendar.metadata),
        deduplication_key=calendar.deduplication_key,
        login_hint=body.login_hint,
        state=body.state,
        expires_in=body.expires_in,
    )
