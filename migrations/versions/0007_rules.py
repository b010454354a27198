"""rules, claims, transfers, overrides

Revision: 0007, after 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_NOW = sa.text("clock_timestamp()")
_LIVE = "state IN ('scheduled', 'launching', 'launched')"
_BOT_COLUMNS = (
    "rule_id",
    "rule_version",
    "dedup_scope",
    "is_by_hand",
    "transfer_since",
    "transfer_reason",
    "transfer_calendar_id",
    "transfer_seq",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column(
        "projects", sa.Column("internal_domains", sa.ARRAY(sa.Text()), nullable=False, server_default=sa.text("'{}'"))
    )
    op.add_column("calendar_events", sa.Column("bot_override", sa.Text()))
    op.create_table(
        "series_overrides",
        sa.Column("calendar_id", sa.Uuid(), nullable=False),
        sa.Column("series_id", sa.Text(), nullable=False),
        sa.Column("bot_override", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["calendar_id"], ["calendars.id"], name="fk_series_overrides_calendar_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("calendar_id", "series_id", name="pk_series_overrides"),
    )
    op.create_table(
        "rules",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False, server_default=sa.text("true")),
        sa.Column("priority", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("match", sa.Text(), nullable=False),
        sa.Column("dedup_scope", sa.Text(), nullable=False),
        sa.Column("bot_name", sa.Text(), nullable=False),
        sa.Column("config", sa.dialects.postgresql.JSONB()),
        sa.Column("launcher_id", sa.Uuid()),
        sa.Column("series_calendar_id", sa.Uuid()),
        sa.Column("series_id", sa.Text()),
        sa.Column("further_series", sa.ARRAY(sa.Text()), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("deduplication_key", sa.Text()),
        sa.Column("metadata", sa.dialects.postgresql.JSONB()),
        sa.Column("version", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("created_at", _TIME, nullable=False, server_default=_NOW),
        sa.Column("updated_at", _TIME, nullable=False, server_default=_NOW),
        sa.Column("deleted_at", _TIME),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_rules_project_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["launcher_id"], ["launchers.id"], name="fk_rules_launcher_id"),
        sa.ForeignKeyConstraint(
            ["series_calendar_id"], ["calendars.id"], name="fk_rules_series_calendar_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_rules"),
    )
    op.create_index("ix_rules_list", "rules", ["project_id", "created_at", "id"])
    op.create_index(
        "ix_rules_series",
        "rules",
        ["series_calendar_id"],
        postgresql_where=sa.text("series_id IS NOT NULL AND deleted_at IS NULL"),
    )
    op.create_index(
        "ix_rules_key",
        "rules",
        ["project_id", "deduplication_key"],
        postgresql_where=sa.text("deduplication_key IS NOT NULL AND deleted_at IS NULL"),
    )
    op.create_table(
        "rule_evaluations",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("calendar_id", sa.Uuid(), nullable=False),
        sa.Column("event_ids", sa.ARRAY(sa.Uuid())),
        sa.Column("after_event_id", sa.Uuid()),
        sa.ForeignKeyConstraint(
            ["calendar_id"], ["calendars.id"], name="fk_rule_evaluations_calendar_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_rule_evaluations"),
    )
    op.create_index("ix_rule_evaluations_calendar_id", "rule_evaluations", ["calendar_id"])
    op.add_column("bots", sa.Column("rule_id", sa.Uuid()))
    op.add_column("bots", sa.Column("rule_version", sa.Integer()))
    op.add_column("bots", sa.Column("dedup_scope", sa.Text()))
    op.add_column("bots", sa.Column("is_by_hand", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.add_column("bots", sa.Column("transfer_since", _TIME))
    op.add_column("bots", sa.Column("transfer_reason", sa.Text()))
    op.add_column("bots", sa.Column("transfer_calendar_id", sa.Uuid()))
    op.add_column("bots", sa.Column("transfer_seq", sa.BigInteger()))
    op.create_foreign_key("fk_bots_rule_id", "bots", "rules", ["rule_id"], ["id"])
    op.create_index(
        "uq_bots_rule_event",
        "bots",
        ["rule_id", "calendar_event_id"],
        unique=True,
        postgresql_where=sa.text(f"rule_id IS NOT NULL AND {_LIVE}"),
    )
    op.create_index("ix_bots_rule", "bots", ["rule_id"], postgresql_where=sa.text("rule_id IS NOT NULL"))
    op.create_index(
        "ix_bots_transfer", "bots", ["transfer_since"], postgresql_where=sa.text("transfer_since IS NOT NULL")
    )
    op.create_table(
        "bot_claims",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("bot_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_bot_claims_project_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name="fk_bot_claims_bot_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "key", name="pk_bot_claims"),
    )
    op.create_index("ix_bot_claims_bot_id", "bot_claims", ["bot_id"])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("bot_claims")
    for column in _BOT_COLUMNS:
        op.drop_column("bots", column)
    for table in ("rule_evaluations", "rules", "series_overrides"):
        op.drop_table(table)
    op.drop_column("calendar_events", "bot_override")
    op.drop_column("projects", "internal_domains")
