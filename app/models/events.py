"""What calendars contain."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from app.models.base import FALSE, NOW, TIME, metadata

calendar_events = Table(
    "calendar_events",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", Uuid, nullable=False),
    Column("calendar_id", Uuid, nullable=False),  # no foreign key: checked per row, it cost a tenth of a first sync
    Column("platform_uuid", Text, nullable=False),
    Column("ical_uid", Text),
    Column("start_time", TIME, nullable=False),
    Column("end_time", TIME, nullable=False),
    Column("status", Text, nullable=False),
    Column("is_deleted", Boolean, nullable=False, server_default=FALSE),
    Column("deletion_kind", Text),  # left_window, or null for deleted at the provider
    Column("series_id", Text),
    Column("meeting_url", Text),
    Column("meeting_platform", Text),
    Column("change_seq", BigInteger, nullable=False),
    Column("raw", Text),
    Column("is_raw_truncated", Boolean, nullable=False, server_default=FALSE),
    # What the API shows of the provider's event, as JSON text. The columns above repeat what filters and bots look for.
    Column("content", Text, nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("bot_override", Text),  # always | never, for this event alone; no part of what it shows of the provider's
    Column("created_at", TIME, nullable=False),
    Column("updated_at", TIME, nullable=False),
    UniqueConstraint("calendar_id", "platform_uuid"),  # the diff: rows of a round
    Index("ix_calendar_events_calendar_feed", "calendar_id", "updated_at", "id"),  # calendar_id & updated_after
    Index("uq_calendar_events_change_seq", "calendar_id", "change_seq", unique=True),  # after_seq
    Index("ix_calendar_events_project_feed", "project_id", "updated_at", "id"),  # updated_after over all calendars
    Index("ix_calendar_events_start", "project_id", "start_time", "id"),  # start_time and end_time limits
    Index("ix_calendar_events_ical_uid", "project_id", "ical_uid"),  # ical_uid
    Index(  # the diff: a master's tombstone takes its occurrences along
        "ix_calendar_events_series",
        "calendar_id",
        "series_id",
        postgresql_where=text("series_id IS NOT NULL AND NOT is_deleted"),
    ),
    Index("ix_calendar_events_window", "calendar_id", "end_time", postgresql_where=text("NOT is_deleted")),  # reconcile
    Index(  # end_time limits: the few that start long before they end
        "ix_calendar_events_long",
        "project_id",
        "end_time",
        postgresql_where=text("end_time - start_time > interval '48 hours'"),
    ),
)

parked_items = Table(
    # An item of a page that could not be parsed, with the reason. Its row, if there is one, stays as it was.
    "parked_items",
    metadata,
    Column("calendar_id", ForeignKey("calendars.id", ondelete="CASCADE"), primary_key=True),
    Column("platform_uuid", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("raw", Text),
    Column("seen_at", TIME, nullable=False, server_default=NOW),
)

absent_events = Table(
    # What a listing lacked that would have deleted most of a calendar. The next listing decides.
    "absent_events",
    metadata,
    Column("calendar_id", ForeignKey("calendars.id", ondelete="CASCADE"), primary_key=True),
    Column("event_id", Uuid, primary_key=True),
)

series_overrides = Table(
    # What overrides every rule for the occurrences of a series that say nothing of their own.
    "series_overrides",
    metadata,
    Column("calendar_id", ForeignKey("calendars.id", ondelete="CASCADE"), primary_key=True),
    Column("series_id", Text, primary_key=True),
    Column("bot_override", Text, nullable=False),  # always | never
)
