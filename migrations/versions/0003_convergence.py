"""what a calendar's convergence needs to know

Revision: 0003, after 0002

Who asked for a sync, the second look at an empty answer, what audits found, the health that was told, absent events
that wait for a second listing, an OAuth app's incident, and due rows by app.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NO_APP = "'00000000-0000-0000-0000-000000000000'"  # for what a process of the release before connects meanwhile
_NUMBERS = (("asked_seq", sa.BigInteger()), ("pushed_seq", sa.BigInteger()), ("audit_found_count", sa.BigInteger()))


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name, kind in _NUMBERS:
        op.add_column("sync_state", sa.Column(name, kind, nullable=False, server_default=sa.text("0")))
    op.add_column("sync_state", sa.Column("lag_step", sa.SmallInteger(), nullable=False, server_default=sa.text("0")))
    op.add_column(
        "sync_state", sa.Column("health_status", sa.Text(), nullable=False, server_default=sa.text("'healthy'"))
    )
    op.add_column("sync_state", sa.Column("health_changed_at", sa.DateTime(timezone=True)))
    op.add_column("sync_state", sa.Column("oauth_app_id", sa.Uuid(), nullable=False, server_default=sa.text(_NO_APP)))
    op.execute(
        "UPDATE sync_state s SET oauth_app_id = c.oauth_app_id, asked_seq = s.requested_seq"
        " FROM calendars c WHERE c.id = s.calendar_id"
    )
    op.drop_index("ix_sync_state_due", "sync_state")
    ready = ["oauth_app_id", sa.text("greatest(due_at, not_before)")]
    op.create_index("ix_sync_state_asked", "sync_state", ready, postgresql_where=sa.text("asked_seq > synced_seq"))
    op.create_index(
        "ix_sync_state_backstop",
        "sync_state",
        ready,
        postgresql_where=sa.text("requested_seq > synced_seq AND asked_seq <= synced_seq"),
    )
    op.add_column("oauth_apps", sa.Column("failing_since", sa.DateTime(timezone=True)))
    op.add_column("oauth_apps", sa.Column("failing_told_at", sa.DateTime(timezone=True)))
    op.add_column("oauth_apps", sa.Column("failing_code", sa.Text()))
    op.add_column("oauth_apps", sa.Column("failing_detail", sa.Text()))
    op.create_table(
        "absent_events",
        sa.Column("calendar_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["calendar_id"], ["calendars.id"], name="fk_absent_events_calendar_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("calendar_id", "event_id", name="pk_absent_events"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("absent_events")
    for name in ("failing_detail", "failing_code", "failing_told_at", "failing_since"):
        op.drop_column("oauth_apps", name)
    op.drop_index("ix_sync_state_backstop", "sync_state")
    op.drop_index("ix_sync_state_asked", "sync_state")
    op.create_index(
        "ix_sync_state_due", "sync_state", ["due_at"], postgresql_where=sa.text("requested_seq > synced_seq")
    )
    for name in ("oauth_app_id", "health_changed_at", "health_status", "lag_step"):
        op.drop_column("sync_state", name)
    for name, _ in reversed(_NUMBERS):
        op.drop_column("sync_state", name)
