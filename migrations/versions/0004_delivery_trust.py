"""what an operator's webhooks need to know

Revision: 0004, after 0003

Signing schemes and rotation, an endpoint's standing (failures, pauses, rate), lanes in order, digests, replays.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_NOW = sa.text("clock_timestamp()")
_PENDING = sa.text("state = 'pending'")


def _endpoint() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("signature", sa.Text(), nullable=False, server_default=sa.text("'v1'")),
        sa.Column("public_key", sa.Text()),
        sa.Column("headers_sealed", sa.LargeBinary()),
        sa.Column("header_names", sa.ARRAY(sa.Text())),
        sa.Column("retry_seconds", sa.ARRAY(sa.Double())),
        sa.Column("rate_limit", sa.Integer()),
        sa.Column("is_ordered", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("failure_count", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("failing_since", _TIME),
        sa.Column("paused_until", _TIME),
        sa.Column("pause_count", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("next_slot_at", _TIME),
    )


def _delivery() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("lane", sa.Uuid()),
        sa.Column("priority", sa.SmallInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("is_claimed", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("is_digest", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("merged_count", sa.Integer(), nullable=False, server_default=sa.text("0")),
    )


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for column in _endpoint():
        op.add_column("webhook_endpoints", column)
    op.create_table(
        "webhook_secrets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("secret_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("created_at", _TIME, nullable=False, server_default=_NOW),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhook_endpoints.id"], name="fk_webhook_secrets_endpoint_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_secrets"),
    )
    op.create_index("ix_webhook_secrets_endpoint", "webhook_secrets", ["endpoint_id", "created_at"])
    op.add_column("messages", sa.Column("from_seq", sa.BigInteger()))
    op.add_column("messages", sa.Column("to_seq", sa.BigInteger()))
    op.execute("CREATE SEQUENCE deliveries_seq AS bigint")
    # Added without a default first: rows that exist keep none, and the table is not rewritten.
    op.add_column("deliveries", sa.Column("seq", sa.BigInteger()))
    op.execute("ALTER TABLE deliveries ALTER COLUMN seq SET DEFAULT nextval('deliveries_seq')")
    op.execute("ALTER SEQUENCE deliveries_seq OWNED BY deliveries.seq")
    for column in _delivery():
        op.add_column("deliveries", column)
    op.drop_index("ix_deliveries_due", "deliveries")
    op.create_index("ix_deliveries_due", "deliveries", ["priority", "next_attempt_at"], postgresql_where=_PENDING)
    op.create_index(
        "ix_deliveries_lane",
        "deliveries",
        ["endpoint_id", "lane", "seq"],
        postgresql_where=sa.text("state = 'pending' AND lane IS NOT NULL"),
    )
    op.create_index(
        "ix_deliveries_state",
        "deliveries",
        ["project_id", "state", "created_at", "id"],
        postgresql_where=sa.text("state IN ('failed', 'merged')"),
    )
    op.create_index(
        "ix_deliveries_trigger",
        "deliveries",
        ["project_id", "trigger", "created_at", "id"],
        postgresql_where=sa.text("trigger <> 'calendar.events_update'"),
    )
    op.create_index("ix_messages_calendar", "messages", ["calendar_id", "created_at"])
    op.create_table(
        "delivery_gaps",
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("calendar_id", sa.Uuid(), nullable=False),
        sa.Column("from_seq", sa.BigInteger(), nullable=False),
        sa.Column("to_seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhook_endpoints.id"], name="fk_delivery_gaps_endpoint_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "calendar_id", name="pk_delivery_gaps"),
    )
    op.create_table(
        "replays",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("created_at_gte", _TIME, nullable=False),
        sa.Column("created_at_lte", _TIME, nullable=False),
        sa.Column("states", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("triggers", sa.ARRAY(sa.Text())),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("done_count", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("position_at", _TIME),
        sa.Column("position_id", sa.Uuid()),
        sa.Column("next_batch_at", _TIME),
        sa.Column("created_at", _TIME, nullable=False, server_default=_NOW),
        sa.Column("finished_at", _TIME),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_replays_project_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhook_endpoints.id"], name="fk_replays_endpoint_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_replays"),
        sa.CheckConstraint("(next_batch_at IS NULL) = (finished_at IS NOT NULL)", name="ck_replays_due_until_finished"),
    )
    op.create_index(
        "ix_replays_due", "replays", ["next_batch_at"], postgresql_where=sa.text("next_batch_at IS NOT NULL")
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # The release before knows neither merged deliveries nor failing endpoints.
    op.execute("DELETE FROM deliveries WHERE state = 'merged'")
    op.execute("UPDATE webhook_endpoints SET state = 'enabled' WHERE state = 'failing'")
    op.drop_table("replays")
    op.drop_table("delivery_gaps")
    op.drop_index("ix_messages_calendar", "messages")
    op.drop_index("ix_deliveries_trigger", "deliveries")
    op.drop_index("ix_deliveries_state", "deliveries")
    op.drop_index("ix_deliveries_lane", "deliveries")
    op.drop_index("ix_deliveries_due", "deliveries")
    op.create_index("ix_deliveries_due", "deliveries", ["next_attempt_at"], postgresql_where=_PENDING)
    for column in (*_delivery(), sa.Column("seq", sa.BigInteger())):
        op.drop_column("deliveries", column.name)
    op.drop_column("messages", "to_seq")
    op.drop_column("messages", "from_seq")
    op.drop_table("webhook_secrets")
    for column in _endpoint():
        op.drop_column("webhook_endpoints", column.name)
