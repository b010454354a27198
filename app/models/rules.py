"""Rules that decide which events get a bot, and what is to be judged by them anew."""

from sqlalchemy import ARRAY, BigInteger, Boolean, Column, ForeignKey, Identity, Index, Integer, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from app.models.base import NOW, TIME, metadata

rules = Table(
    # A project's rule; or, with a series, what `all_occurrences` made: a rule of that series, which no list shows.
    # A deleted one keeps its row for as long as bots name it.
    "rules",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("is_enabled", Boolean, nullable=False, server_default=text("true")),
    Column("priority", Integer, nullable=False, server_default=text("0")),  # the higher goes first
    Column("match", Text, nullable=False),  # canonical JSON; of a series '{}'
    Column("dedup_scope", Text, nullable=False),  # event | meeting | organization
    Column("bot_name", Text, nullable=False),
    Column("config", JSONB),
    Column("launcher_id", ForeignKey("launchers.id")),
    Column("series_calendar_id", ForeignKey("calendars.id", ondelete="SET NULL")),
    Column("series_id", Text),
    Column("further_series", ARRAY(Text), nullable=False, server_default=text("'{}'")),  # that it was split into
    Column("deduplication_key", Text),  # of a series: that of the first bot, and what those of the others begin with
    Column("metadata", JSONB),  # of a series: its bots'
    Column("version", Integer, nullable=False, server_default=text("1")),  # grows with what its bots have to know
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("updated_at", TIME, nullable=False, server_default=NOW),
    Column("deleted_at", TIME),
    Index("ix_rules_list", "project_id", "created_at", "id"),  # GET /rules, whoever judges events
    Index(  # the series of a calendar
        "ix_rules_series",
        "series_calendar_id",
        postgresql_where=text("series_id IS NOT NULL AND deleted_at IS NULL"),
    ),
    Index("ix_rules_launcher", "launcher_id", postgresql_where=text("launcher_id IS NOT NULL")),  # a launcher's end
    Index(  # whose a series' key is
        "ix_rules_key",
        "project_id",
        "deduplication_key",
        postgresql_where=text("deduplication_key IS NOT NULL AND deleted_at IS NULL"),
    ),
)

rule_evaluations = Table(
    # Events that are to be judged anew: a calendar's, in batches, or these. Only ever inserted, so that nobody waits.
    "rule_evaluations",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("calendar_id", ForeignKey("calendars.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("event_ids", ARRAY(Uuid)),  # null: all that are ahead
    Column("after_event_id", Uuid),  # how far it has come
)
