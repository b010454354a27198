"""The filters of the event list, and the rules that tie them together.

What no index bounds is refused (`filter_needs_bound`), `after_seq` belongs to one calendar, and an id that is none
matches nothing, like one of somebody else's.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from app.api.inputs import Cursor, Instant, Limit, Query
from app.api.pages import Order
from app.errors import FieldProblem, refusal, refusals
from app.ids import CALENDAR, EVENT, parse

_ORDERINGS: Final = ("updated_at", "start_time", "end_time", "created_at", "change_seq")
_BOUNDS: Final = frozenset(
    {
        "event_id",
        "ical_uid",
        "calendar_id",
        "calendar_deduplication_key",
        "updated_after",
        "updated_at_gte",
        "start_time_gte",
        "start_time_lte",
        "end_time_gte",
        "end_time_lte",
    }
)
_NOT_FILTERS: Final = {"ordering", "exclude", "limit", "cursor"}


def _parts(value: str) -> str:
    if not set(value.split(",")) <= {"raw", "bots"}:
        raise PydanticCustomError("not_allowed", "must be raw, bots or raw,bots")
    return value


def _ordering(value: str) -> str:
    if value.removeprefix("-") not in _ORDERINGS:
        raise PydanticCustomError("not_allowed", "must be one of " + ", ".join(_ORDERINGS) + ", or - and one of them")
    return value


class EventFilters(Query):
    """Filters, order and page of the event list."""

    calendar_id: str | None = None
    calendar_deduplication_key: str | None = None
    event_id: Annotated[str | None, Field(description="Punctual's id of one event")] = None
    updated_after: Annotated[Instant | None, Field(description="Inclusive: `updated_at` at or after this")] = None
    updated_at_gte: Annotated[Instant | None, Field(description="The same as `updated_after`")] = None
    after_seq: Annotated[
        int | None,
        Field(
            ge=0,
            lt=2**63,
            description="Exclusive: changes of one calendar since this number, in order. Needs `calendar_id`",
        ),
    ] = None
    start_time_gte: Annotated[Instant | None, Field(description="Inclusive: begins at or after this")] = None
    start_time_lte: Annotated[Instant | None, Field(description="Inclusive: begins at or before this")] = None
    end_time_gte: Annotated[Instant | None, Field(description="Inclusive: ends at or after this")] = None
    end_time_lte: Annotated[Instant | None, Field(description="Inclusive: ends at or before this")] = None
    is_deleted: Annotated[bool | None, Field(description="Left out, deleted events are listed too")] = None
    has_meeting_url: bool | None = None
    meeting_platform: Annotated[str | None, Field(description="A product's snake_case name")] = None
    ical_uid: Annotated[str | None, Field(description="The whole of it")] = None
    series_id: Annotated[str | None, Field(description="The provider's id of the series")] = None
    attendee_email: Annotated[str | None, Field(description="Case does not matter")] = None
    organizer_email: Annotated[str | None, Field(description="Case does not matter")] = None
    status: Literal["confirmed", "tentative", "cancelled"] | None = None
    ordering: Annotated[
        str | None,
        AfterValidator(_ordering),
        Field(
            description="Default `-updated_at`; with `after_seq` always `change_seq`",
            json_schema_extra={"enum": [sign + name for name in _ORDERINGS for sign in ("", "-")]},
        ),
    ] = None
    exclude: Annotated[
        str | None,
        AfterValidator(_parts),
        Field(
            description="Parts to leave out (they are null then): `raw`, `bots` or `raw,bots`",
            json_schema_extra={"pattern": "^(raw|bots)(,(raw|bots))*$"},
        ),
    ] = None
    limit: Limit = 100
    cursor: Cursor = None

    def given(self) -> dict[str, Any]:
        """The filters that were given, by name."""
        return self.model_dump(exclude_none=True, exclude=_NOT_FILTERS)

    @property
    def is_one_calendar(self) -> bool:
        """Whether all rows are one calendar's: its writers take turns, so its feed needs no horizon."""
        return any(name is not None for name in (self.calendar_id, self.calendar_deduplication_key, self.event_id))

    @property
    def left_out(self) -> frozenset[str]:
        """The parts that are not wanted."""
        return frozenset(self.exclude.split(",") if self.exclude else ())

    def order(self) -> Order:
        """The order asked for."""
        text = self.ordering or ("-updated_at" if self.after_seq is None else "change_seq")
        column = text.removeprefix("-")
        is_seq = column == "change_seq"
        is_unique = is_seq and self.is_one_calendar
        return Order(f"e.{column}", "e.id", text.startswith("-"), is_time=not is_seq, is_unique=is_unique)

    def conditions(self) -> dict[str, Any] | None:
        """Parameters of `queries.EVENT_FILTERS`, ids as keys; None where an id is none, so nothing matches.

        Invalid where the filters do not go together.
        """
        given = self.given()
        self._judge(given)
        for name, prefix in (("calendar_id", CALENDAR), ("event_id", EVENT)):
            if name in given:
                given[name] = parse(prefix, given[name])
                if given[name] is None:
                    return None
        return given

    def _judge(self, given: dict[str, Any]) -> None:
        if self.after_seq is not None and self.calendar_id is None:
            raise refusal("calendar_id", "missing", message="is needed with after_seq")
        if self.after_seq is not None and self.ordering not in {None, "change_seq"}:
            raise refusal("ordering", "not_allowed", message="must be change_seq with after_seq")
        if given and _BOUNDS.isdisjoint(given):
            message = "needs a calendar, event_id, ical_uid, updated_after or a start or end limit beside it"
            raise refusals([FieldProblem(name, "filter_needs_bound", message) for name in given])
