"""Bots, who brings them into meetings, and what has become of them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.models.base import FALSE, NOW, TIME, ZERO, metadata

launchers = Table(
    # A bot back end with its key. A deleted one keeps its row for as long as bots are to be withdrawn there.
    "launchers",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),  # webhook | attendee | recall | meeting_baas
    Column("name", Text, nullable=False),
    Column("base_url", Text),  # null: the vendor's own
    Column("api_key_sealed", LargeBinary),
    Column("hand_over_seconds", Integer, nullable=False),
    Column("is_default", Boolean, nullable=False, server_default=FALSE),
    Column("failing_code", Text),  # the back end refuses the key; over with the first call that it serves
    Column("failing_detail", Text),
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("updated_at", TIME, nullable=False, server_default=NOW),
    Column("deleted_at", TIME),
    Index("ix_launchers_list", "project_id", "created_at", "id"),  # GET /launchers, whoever needs the default
    Index(
        "uq_launchers_default",
        "project_id",
        unique=True,
        postgresql_where=text("is_default AND deleted_at IS NULL"),
    ),
)

bots = Table(
    # What a bot should be, and what its back end was last told. The launching loop makes the second equal the first.
    "bots",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("state", Text, nullable=False),  # scheduled | launching | launched | failed | cancelled | missed
    Column("state_reason", Text),
    Column("bot_name", Text, nullable=False),
    Column("meeting_url", Text, nullable=False),
    Column("meeting_platform", Text),
    Column("join_at", TIME, nullable=False),
    Column("ends_at", TIME, nullable=False),  # of its meeting; where nothing says so, some hours after join_at
    Column("calendar_id", Uuid),
    Column("calendar_event_id", Uuid),  # null of a bot of its own, and once its calendar is deleted
    Column("launcher_id", ForeignKey("launchers.id")),  # null: the project's default, or a message
    Column("deduplication_key", Text),
    Column("metadata", JSONB),
    Column("config", JSONB),
    Column("series_id", Text),
    Column("is_removed", Boolean, nullable=False, server_default=FALSE),  # by DELETE: never restored
    # Of a rule's bot: whose it is, as of which version, what it is one of, and whether its owner has changed it since.
    Column("rule_id", ForeignKey("rules.id")),
    Column("rule_version", Integer),
    Column("dedup_scope", Text),  # event | meeting | organization
    Column("is_by_hand", Boolean, nullable=False, server_default=FALSE),
    # Another calendar's event may take it: since when it is held for that, and what becomes of it if none does.
    Column("transfer_since", TIME),
    Column("transfer_reason", Text),
    Column("transfer_calendar_id", Uuid),  # whose sync is awaited
    Column("transfer_seq", BigInteger),  # the request that serves it
    Column("revision", Integer, nullable=False, server_default=text("1")),
    Column("due_at", TIME),  # when there is something to do at its back end; null: nothing
    Column("checked_at", TIME),  # when a sync was asked for ahead of the hand-over, or of joining
    Column("checked_seq", BigInteger),  # the request that serves it
    Column("lease_until", TIME),  # somebody is at it until then, under the fence
    Column("fence", BigInteger, nullable=False, server_default=ZERO),
    Column("failure_count", Integer, nullable=False, server_default=ZERO),
    # The back end's side. `starting_since` stands from before the first call that may have made one until it is known.
    Column("starting_since", TIME),
    Column("start_attempt", Integer, nullable=False, server_default=text("1")),
    Column("is_replacement", Boolean, nullable=False, server_default=FALSE),
    Column("handed_to", ForeignKey("launchers.id")),  # null with a revision: by message
    Column("handed_revision", Integer),  # what the back end has; null: nothing
    Column("handed", JSONB),  # the order that it was last told
    Column("external_id", Text),
    Column("launch_message_id", Uuid),  # of a `bot.launch` whose answer is awaited
    Column("created_at", TIME, nullable=False, server_default=NOW),
    Column("updated_at", TIME, nullable=False, server_default=NOW),
    Index(
        "uq_bots_deduplication_key",
        "project_id",
        "deduplication_key",
        unique=True,
        postgresql_where=text("deduplication_key IS NOT NULL AND state IN ('scheduled', 'launching', 'launched')"),
    ),
    Index("ix_bots_list", "project_id", "created_at", "id"),  # GET /bots
    Index("ix_bots_join_at", "project_id", "join_at", "id"),  # join_at limits
    Index("ix_bots_state", "project_id", "state"),  # state filter
    Index("ix_bots_meeting_url", "meeting_url", postgresql_using="hash"),  # its filter; too long for a tree
    Index(  # deduplication_key filter, ended ones too
        "ix_bots_key",
        "project_id",
        "deduplication_key",
        postgresql_where=text("deduplication_key IS NOT NULL"),
    ),
    Index(  # launcher_id filter, what a launcher's end waits for
        "ix_bots_launcher",
        "launcher_id",
        "created_at",
        "id",
        postgresql_where=text("launcher_id IS NOT NULL"),
    ),
    Index("ix_bots_handed_to", "handed_to", postgresql_where=text("handed_to IS NOT NULL")),  # the same
    Index(  # following, the latest of an event
        "ix_bots_event",
        "calendar_event_id",
        "created_at",
        "id",
        postgresql_where=text("calendar_event_id IS NOT NULL"),
    ),
    Index("ix_bots_calendar", "calendar_id", postgresql_where=text("calendar_id IS NOT NULL")),  # its connection ends
    Index("ix_bots_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),  # launching
    Index(  # looks ahead of hand-overs
        "ix_bots_near",
        "join_at",
        postgresql_where=text("calendar_id IS NOT NULL AND state IN ('scheduled', 'launching', 'launched')"),
    ),
    Index("ix_bots_ends_at", "ends_at"),  # retention
    Index(  # one live bot per rule and event; a rule's bots
        "uq_bots_rule_event",
        "rule_id",
        "calendar_event_id",
        unique=True,
        postgresql_where=text("rule_id IS NOT NULL AND state IN ('scheduled', 'launching', 'launched')"),
    ),
    Index("ix_bots_rule", "rule_id", postgresql_where=text("rule_id IS NOT NULL")),  # retention of rules
    Index("ix_bots_transfer", "transfer_since", postgresql_where=text("transfer_since IS NOT NULL")),  # transfers
)

bot_claims = Table(
    # What makes two bots the same meeting's. A claim counts for as long as its bot is live, or was ended by its owner.
    "bot_claims",
    metadata,
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("bot_id", ForeignKey("bots.id", ondelete="CASCADE"), nullable=False, index=True),
)

bot_events = Table(
    # What has happened to a bot, for its owner.
    "bot_events",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("bot_id", ForeignKey("bots.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("at", TIME, nullable=False, server_default=NOW),
    Column("type", Text, nullable=False),
    Column("detail", Text),
)
