"""bots, and who brings them into meetings

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_NOW = sa.text("clock_timestamp()")
_FALSE = sa.text("false")
_LIVE = "state IN ('scheduled', 'launching', 'launched')"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "launchers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("base_url", sa.Text()),
        sa.Column("api_key_sealed", sa.LargeBinary()),
        sa.Column("hand_over_seconds", sa.Integer(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False, server_default=_FALSE),
        sa.Column("failing_code", sa.Text()),
        sa.Column("failing_detail", sa.Text()),
        sa.Column("created_at", _TIME, nullable=False, server_default=_NOW),
        sa.Column("updated_at", _TIME, nullable=False, server_default=_NOW),
        sa.Column("deleted_at", _TIME),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_launchers_project_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_launchers"),
    )
    op.create_index("ix_launchers_list", "launchers", ["project_id", "created_at", "id"])
    op.create_index(
        "uq_launchers_default",
        "launchers",
        ["project_id"],
        unique=True,
        postgresql_where=sa.text("is_default AND deleted_at IS NULL"),
    )
    op.create_table(
        "bots",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_reason", sa.Text()),
        sa.Column("bot_name", sa.Text(), nullable=False),
        sa.Column("meeting_url", sa.Text(), nullable=False),
        sa.Column("meeting_platform", sa.Text()),
        sa.Column("join_at", _TIME, nullable=False),
        sa.Column("ends_at", _TIME, nullable=False),
        sa.Column("calendar_id", sa.Uuid()),
        sa.Column("calendar_event_id", sa.Uuid()),
        sa.Column("launcher_id", sa.Uuid()),
        sa.Column("deduplication_key", sa.Text()),
        sa.Column("metadata", sa.dialects.postgresql.JSONB()),
        sa.Column("config", sa.dialects.postgresql.JSONB()),
        sa.Column("series_id", sa.Text()),
        sa.Column("is_removed", sa.Boolean(), nullable=False, server_default=_FALSE),
        sa.Column("revision", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("due_at", _TIME),
        sa.Column("checked_at", _TIME),
        sa.Column("checked_seq", sa.BigInteger()),
        sa.Column("lease_until", _TIME),
        sa.Column("fence", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("failure_count", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("starting_since", _TIME),
        sa.Column("start_attempt", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("is_replacement", sa.Boolean(), nullable=False, server_default=_FALSE),
        sa.Column("handed_to", sa.Uuid()),
        sa.Column("handed_revision", sa.Integer()),
        sa.Column("handed", sa.dialects.postgresql.JSONB()),
        sa.Column("external_id", sa.Text()),
        sa.Column("launch_message_id", sa.Uuid()),
        sa.Column("created_at", _TIME, nullable=False, server_default=_NOW),
        sa.Column("updated_at", _TIME, nullable=False, server_default=_NOW),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_bots_project_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["launcher_id"], ["launchers.id"], name="fk_bots_launcher_id"),
        sa.ForeignKeyConstraint(["handed_to"], ["launchers.id"], name="fk_bots_handed_to"),
        sa.PrimaryKeyConstraint("id", name="pk_bots"),
    )
    op.create_index(
        "uq_bots_deduplication_key",
        "bots",
        ["project_id", "deduplication_key"],
        unique=True,
        postgresql_where=sa.text(f"deduplication_key IS NOT NULL AND {_LIVE}"),
    )
    op.create_index("ix_bots_list", "bots", ["project_id", "created_at", "id"])
    op.create_index("ix_bots_join_at", "bots", ["project_id", "join_at", "id"])
    for name, column in (("event", "calendar_event_id"), ("calendar", "calendar_id"), ("due", "due_at")):
        op.create_index(f"ix_bots_{name}", "bots", [column], postgresql_where=sa.text(f"{column} IS NOT NULL"))
    op.create_index("ix_bots_ends_at", "bots", ["ends_at"])
    op.create_table(
        "bot_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("bot_id", sa.Uuid(), nullable=False),
        sa.Column("at", _TIME, nullable=False, server_default=_NOW),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text()),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name="fk_bot_events_bot_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_bot_events"),
    )
    op.create_index("ix_bot_events_bot_id", "bot_events", ["bot_id"])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in ("bot_events", "bots", "launchers"):
        op.drop_table(table)
